//! What a user is told: for each mistake the exact text. What stops a start stops `check` too, with the same words.

use std::path::Path;

use crate::exporter::{Exporter, binary};

struct Case {
    /// What is in the files of the directory, by their names.
    files: &'static [(&'static str, &'static str)],
    /// `DIR` stands for the directory.
    arguments: &'static [&'static str],
    /// What is said, with `DIR` for the directory.
    said: &'static str,
}

const FOLLOW: &str = "--log.file=/nonexistent/x.log";

/// Faults that stop a start, with status 2, and `check`, with status 1.
const STOP_A_START: &[Case] = &[
    Case {
        files: &[("web.yaml", "tls_server_confg: {}\n")],
        arguments: &[FOLLOW, "--web.config.file=DIR/web.yaml"],
        said: "DIR/web.yaml:1:1: unknown key: `tls_server_confg`\n  hint: did you mean `tls_server_config`?\n",
    },
    Case {
        files: &[("web.yaml", "basic_auth_users: {me: secret}\n")],
        arguments: &[FOLLOW, "--web.config.file=DIR/web.yaml"],
        said: "DIR/web.yaml:1:20: the password of this user is not a bcrypt hash: `me`\n  \
               hint: make one with `htpasswd -nBC 10 \"\"`\n",
    },
    Case {
        files: &[],
        arguments: &[FOLLOW, "--web.listen-address=foo", "--web.telemetry-path=/"],
        said: "--web.telemetry-path: must not be / itself, where the status page is: `/`\n  hint: for instance /metrics\n\
               --web.listen-address: must be HOST:PORT, [IPv6]:PORT or :PORT, with a port up to 65535: `foo`\n",
    },
    Case {
        files: &[],
        arguments: &[FOLLOW, "--web.telemetry-path=/debug"],
        said: "--web.telemetry-path: this path has another meaning: `/debug`\n  hint: for instance /metrics\n",
    },
    Case {
        files: &[],
        arguments: &[FOLLOW, "--web.telemetry-path=x"],
        said: "--web.telemetry-path: must start with /: `x`\n  hint: for instance /metrics\n",
    },
    Case {
        files: &[],
        arguments: &["--log.file=/tmp/[a"],
        said: "--log.file: `/tmp/[a`: unclosed character class; missing ']': `/tmp/[a`\n",
    },
    Case {
        files: &[],
        arguments: &["--log.file=/tmp/~/x.log"],
        said: "--log.file: `~` is not expanded in a quoted path: `/tmp/~/x.log`\n  hint: write the directory in full\n",
    },
    Case {
        files: &[],
        arguments: &[FOLLOW, "--state.dir=/proc/foo"],
        said: "error: state directory `/proc/foo`: entity not found\n  hint: choose another directory with --state.dir\n",
    },
    Case {
        files: &[("file", "")],
        arguments: &[FOLLOW, "--state.dir=DIR/file"],
        said: "error: state directory `DIR/file`: not a directory\n  hint: choose another directory with --state.dir\n",
    },
    Case {
        files: &[("c.yaml", "")],
        arguments: &["--config.file=DIR/c.yaml"],
        said: "error: there is nothing to follow\n  \
               hint: name `sources` in the configuration file, or give --log.file GLOB or --syslog.listen ADDRESS\n",
    },
    Case {
        files: &[],
        arguments: &["--config.file=DIR/nope.yaml"],
        said: "DIR/nope.yaml: cannot be read: No such file or directory (os error 2)\n",
    },
    // Of all parts at once: both passes over the settings, the profile, the rules.
    Case {
        files: &[
            (
                "c.yaml",
                "sources:\n  - {name: a, paths: [/x], profile: lunna, read_from: ende}\nlimits: {files: 0}\n",
            ),
            (
                "rules/a.yaml",
                "pack: a\nprograms: {p: []}\nrules:\n  - event: e\n    mtach: x\n",
            ),
            ("rules/b.yaml", "just text\n"),
            ("rules/empty.yaml", "# nothing yet\n"),
        ],
        arguments: &["--config.file=DIR/c.yaml", "--rules.dir=DIR/rules"],
        said: "DIR/c.yaml:2:55: must be beginning or end: `ende`\n  hint: did you mean `end`?\n\
               DIR/c.yaml:3:17: must be a whole number from 1 to 1000000: `0`\n\
               DIR/rules/a.yaml:5:5: unknown key: `mtach`\n  hint: did you mean `match`?\n\
               DIR/rules/b.yaml:1:1: a pack starts with `pack: NAME`: `just text`\n",
    },
    Case {
        files: &[(
            "c.yaml",
            "sources:\n  - {name: a, paths: [/x], profile: lunna}\n",
        )],
        arguments: &["--config.file=DIR/c.yaml"],
        said: "DIR/c.yaml:2:37: no rule pack has this profile: `lunna`\n  hint: did you mean `luna`?\n",
    },
    Case {
        files: &[
            ("rules/new.yaml", "pack: site\n"),
            ("rules/new2.yaml", "pack: site\n"),
        ],
        arguments: &[FOLLOW, "--rules.dir=DIR/rules"],
        said: "DIR/rules/new2.yaml:1:7: DIR/rules/new.yaml is a pack of this name too: `site`\n  \
               hint: give one of them another name, or put the rules into one file\n",
    },
    Case {
        files: &[("rules/new.yaml", "pack: site\nreplaces: ntsl\n")],
        arguments: &[FOLLOW, "--rules.dir=DIR/rules"],
        said: "DIR/rules/new.yaml:2:11: no built-in pack has this name: `ntsl`\n  hint: did you mean `ntls`?\n",
    },
    // A pattern that cannot be read is one fault, whatever would use its captures.
    Case {
        files: &[(
            "rules/a.yaml",
            "pack: a\nprograms: {p: []}\nmetrics:\n  up: {type: gauge, help: x, labels: {who: any}}\nrules:\n\
             \x20 - event: e\n    match: 'by {who:wrd}'\n    metrics: [{set: up, value: '1', labels: [who]}]\n",
        )],
        arguments: &[FOLLOW, "--rules.dir=DIR/rules"],
        said: "DIR/rules/a.yaml:4:3: reserved name: Prometheus uses it: `up`\n\
               DIR/rules/a.yaml:7:12: unknown placeholder type `wrd`: `by {who:wrd}`\n  hint: did you mean `word`?\n",
    },
    Case {
        files: &[(
            "rules/a.yaml",
            "pack: a\nprograms: {p: []}\nmetrics:\n  a_celsius: {type: gauge, help: x, labels: {}}\nrules:\n\
             \x20 - event: e\n    match: 'at {present:int}'\n    metrics: [{set: a_celsius, value: present}]\n",
        )],
        arguments: &[FOLLOW, "--rules.dir=DIR/rules"],
        said: "DIR/rules/a.yaml:8:39: not a number: `present`\n  \
               hint: a captured value is written in braces: '{present}'\n",
    },
    // A series of more would count nowhere.
    Case {
        files: &[(
            "rules/a.yaml",
            "pack: a\nprograms: {p: []}\nmetrics:\n  m_total:\n    type: counter\n    help: x\n    labels: {a: any, \
             b: any, c: any, d: any, e: any, f: any, g: any, h: any, i: any, j: any, k: any, l: any, m: any, n: any, \
             o: any, p: any, q: any}\n",
        )],
        arguments: &[FOLLOW, "--rules.dir=DIR/rules"],
        said: "DIR/rules/a.yaml:7:13: has 17 labels, more than 16: `labels: {a: any, b: any, c: any, d: any, e: any, f: any, g: any, h: any, i: any…`\n",
    },
];

/// What `check` alone says, and its status.
const CHECK: &[(Case, i32)] = &[
    (
        Case {
            files: &[(
                "rules/a.yaml",
                "pack: a\nprograms: {p: []}\nrules:\n  - event: slow\n    match: 'took {_:int} s)'\n    help: x\n\
                 \x20   examples: [{line: 'Feb 29 12:05:01 h p: took 5 ms)'}]\n",
            )],
            arguments: &["check", "DIR/rules/a.yaml"],
            said: "DIR/rules/a.yaml:7:16: no rule matches this example of a/slow: `examples: [{line: 'Feb 29 12:05:01 h p: took 5 ms)'}]`\n  \
                   hint: a/slow wants `s)` at byte 7 of the message, where `ms)` stands\n1 error\n",
        },
        1,
    ),
    (
        Case {
            files: &[
                ("rules/new.yaml", "pack: ntls\n"),
                ("rules/below/deep.yaml", "pack: deep\n"),
                ("rules/other.YAML", ""),
                ("logs/HSM1.log", ""),
                (
                    "c.yaml",
                    "sources:\n  - {name: a, paths: ['DIR/logs/{appliance}.log', '/nonexistent/{appliance}'], appliance: path}\n\
                     \x20 - {name: b, paths: ['DIR/logs/*']}\nappliances: [hsm1]\n",
                ),
            ],
            arguments: &["check", "--config.file=DIR/c.yaml", "--rules.dir=DIR/rules"],
            said: "warning: DIR/c.yaml:4:14: the appliance `HSM1` of DIR/logs/HSM1.log is not in the list `appliances`: `hsm1`\n\
                   warning: DIR/c.yaml:2:C: no file matches now: `/nonexistent/{appliance}`\n\
                   warning: DIR/c.yaml:3:C: matches DIR/logs/HSM1.log, which the source `a` already follows: it is read once, for that one: `DIR/logs/*`\n\
                   warning: DIR/rules/below: packs in a directory below are not read\n  hint: name it too: --rules.dir DIR/rules/below\n\
                   warning: DIR/rules/other.YAML: is not read\n  hint: a pack is called NAME.yaml, in lower case\n\
                   warning: DIR/rules/new.yaml:1:7: replaces the built-in pack of this name and its N rules: `ntls`\n  \
                   hint: if that is meant, add `replaces: ntls`; if not, choose another name\n\
                   source a: 1 file\n  DIR/logs/HSM1.log\nsource b: 1 file\n  DIR/logs/HSM1.log\n\
                   N packs, N rules, N metrics, N examples: all right\n",
        },
        0,
    ),
    (
        Case {
            files: &[
                ("logs/a.log", ""),
                ("logs/a.log.1.xz", ""),
                ("logs/b.log", "PK\x03\x04"),
            ],
            arguments: &["check", "--log.file=DIR/logs/*"],
            said: "warning: --log.file: DIR/logs/a.log.1.xz: compressed (xz), which is not read: use gzip (and 1 more): `DIR/logs/*`\n  \
                   hint: name what is not to be read under `exclude`\n\
                   source log.file: 3 files\n  DIR/logs/a.log\n  DIR/logs/a.log.1.xz\n  DIR/logs/b.log\n\
                   N packs, N rules, N metrics, N examples: all right\n",
        },
        0,
    ),
    (
        Case {
            files: &[("b.log", "7z\u{1b}"), ("a.xz", "")],
            arguments: &["replay", "DIR/b.log", "DIR/a.xz"],
            said: "error: DIR/a.xz: compressed (xz), which is not read: use gzip\n  hint: decompress it into `-`, standard input\n",
        },
        1,
    ),
];

fn run(case: &Case, first: &[&str]) -> (String, String, Option<i32>) {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().display().to_string();
    for (file, text) in case.files {
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a directory");
        std::fs::write(path, text.replace("DIR", &name)).expect("a file");
    }
    let output = binary()
        .args(first)
        .args(case.arguments.iter().map(|word| word.replace("DIR", &name)))
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&name, "DIR");
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code(),
    )
}

#[test]
fn what_stops_a_start_stops_check_with_the_same_words() {
    for case in STOP_A_START {
        let (out, err, code) = run(case, &[]);
        assert_eq!((err.as_str(), code), (case.said, Some(2)), "{out}");
        let (out, err, code) = run(case, &["check"]);
        let count = case.said.lines().filter(|line| !line.starts_with("  hint"));
        let count = match count.count() {
            1 => "1 error\n".to_owned(),
            count => format!("{count} errors\n"),
        };
        // Where nothing is followed, or no file matches, is said besides.
        let errors: String = out
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("warning:") && !line.starts_with("source "))
            .collect();
        assert_eq!(
            (errors, code),
            (format!("{}{count}", case.said), Some(1)),
            "{err}"
        );
    }
}

/// Figures that change with the packs, and columns that change with the directory's name.
fn masked(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        if line.contains(" packs, ") || line.contains("replaces the built-in") {
            let words: Vec<&str> = line.split(' ').collect();
            let masked = words.iter().map(|word| match word.parse::<u64>() {
                Ok(_) => "N",
                Err(_) => word,
            });
            out += &masked.collect::<Vec<_>>().join(" ");
        } else if let Some((before, rest)) = line
            .split_once("c.yaml:2:")
            .or(line.split_once("c.yaml:3:"))
            && line.starts_with("warning")
        {
            let number = &line[before.len()..before.len() + "c.yaml:2:".len()];
            let (_, rest) = rest.split_once(':').unwrap_or(("", rest));
            out += &format!("{before}{number}C:{rest}");
        } else {
            out += line;
        }
    }
    out
}

#[test]
fn what_check_says() {
    for (case, status) in CHECK {
        let (out, err, code) = run(case, &[]);
        let said = masked(&out) + &err;
        assert_eq!((said.as_str(), code), (case.said, Some(*status)));
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_with_the_way_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().display().to_string();
    std::fs::write(directory.path().join("binary.yaml"), b"\xff\xfe").expect("a file");
    for (given, said) in [
        (
            "nope.yaml",
            "nope.yaml: cannot be read: No such file or directory (os error 2)\n  hint: a relative path starts at DIR\n",
        ),
        ("DIR", "DIR: cannot be read: Is a directory (os error 21)\n"),
        ("binary.yaml", "binary.yaml: cannot be read: not UTF-8\n"),
    ] {
        let output = binary()
            .current_dir(&directory)
            .arg(format!("--config.file={}", given.replace("DIR", &name)))
            .output()
            .expect("it runs");
        let err = String::from_utf8_lossy(&output.stderr).replace(&name, "DIR");
        assert_eq!((err.as_str(), output.status.code()), (said, Some(2)));
    }
}

#[test]
fn a_zone_that_nobody_knows_is_said() {
    let output = binary()
        .env("TZ", "Mars/Phobos")
        .args(["check", FOLLOW])
        .output()
        .expect("it runs");
    let out = String::from_utf8_lossy(&output.stdout);
    let warning = "warning: TZ: not a time zone that this machine knows: UTC is used: `Mars/Phobos`\n  hint: a name of the IANA";
    assert!(out.starts_with(warning), "{out}");
    assert_eq!(output.status.code(), Some(0));
    let directory = tempfile::tempdir().expect("a directory");
    let log = format!("--log.file={}/a.log", directory.path().display());
    let mut exporter = Exporter::start_command(binary().env("TZ", "Mars/Phobos").arg(&log));
    exporter
        .child
        .wait_for_output("level=warn msg=\"TZ: not a time zone");
}

/// A snapshot that is none, and a web configuration that breaks while the exporter runs.
#[test]
fn the_log_says_what_happens() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let name = directory.path().display().to_string();
    for (file, text) in [
        ("a.log", "a line\n"),
        ("web.yaml", ""),
        ("state/snapshot", "x"),
    ] {
        std::fs::create_dir_all(path(file).parent().expect("it has one")).expect("a directory");
        std::fs::write(path(file), text).expect("a file");
    }
    let mut exporter = Exporter::start(&[
        &format!("--log.file={name}/a.log"),
        &format!("--state.dir={name}/state"),
        &format!("--web.config.file={name}/web.yaml"),
        "--log.level=debug",
    ]);
    assert_eq!(exporter.reload().0, 200);
    std::fs::write(path("web.yaml"), "tls_server_confg: {}\n").expect("a file");
    let (status, text) = exporter.reload();
    let fault =
        "web.yaml:1:1: unknown key: `tls_server_confg`\n  hint: did you mean `tls_server_config`?";
    assert_eq!((status, text.contains(fault)), (500, true), "{text}");
    let succeeded = "appliance_log_exporter_config_last_reload_successful";
    assert_eq!(exporter.scrape().value(succeeded), Some(0.0));
    let said = exporter.child.output().replace(&name, "DIR");
    for expected in [
        "level=warn msg=\"the snapshot cannot be used and was renamed to snapshot.unusable; counters begin at 0 and files are read again\" err=\"not a snapshot\" path=DIR/state",
        &format!(
            "level=info msg=listening address=127.0.0.1:{} tls=false passwords=false",
            exporter.port
        ),
        "level=info msg=\"following a file\" path=DIR/a.log",
        "level=debug msg=\"checkpoint written\"",
        "level=debug msg=\"settings and rules exchanged\"",
        "level=error msg=\"the reload failed; the former settings and rules stay\" err=\"DIR/web.yaml:1:1: unknown key",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn check_speaks_json() {
    let case = Case {
        files: &[("logs/hsm1.log", "")],
        arguments: &["check", "--log.file=DIR/logs/*.log", "--format=json"],
        said: "",
    };
    let (out, _, code) = run(&case, &[]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(found["errors"], serde_json::json!([]));
    assert_eq!(
        found["sources"],
        serde_json::json!([{"source": "log.file", "patterns": [["DIR/logs/*.log", ["DIR/logs/hsm1.log"]]]}])
    );
    let case = Case {
        files: &[],
        arguments: &["check", "--log.file=/tmp/[a", "--format=json"],
        said: "",
    };
    let (out, _, code) = run(&case, &[]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&found["errors"][0]["file"], code),
        (&"--log.file".into(), Some(1))
    );
}

#[test]
fn coverage_can_fail_and_the_second_rule_is_as_easy_as_the_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(
        path("log"),
        "Feb 29 12:05:01 h quorumd[9]: quorum lost: 2 of 5\n",
    )
    .expect("a file");
    let run = |arguments: &[&str]| {
        let output = binary().args(arguments).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            text(&output.stdout),
            text(&output.stderr),
            output.status.code(),
        )
    };
    let (log, rules) = (path("log"), path("rules"));
    let coverage = |rules: &str| {
        let flag = format!("--rules.dir={rules}");
        run(&["check", &flag, "--coverage", &log, "--fail-under=100"]).2
    };
    let (out, _, code) = run(&[
        "check",
        "--coverage",
        &log,
        "--fail-under=1",
        "--format=json",
    ]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let unrecognised = serde_json::json!([
        {"program": "quorumd", "message": "quorum lost: # of #", "lines": 1}
    ]);
    let expected = serde_json::json!({"lines": 1, "recognised": 0, "unrecognised": unrecognised});
    assert_eq!((found, code), (expected, Some(1)));
    // The directory is made for the first rules, as README does it.
    let suggest = || run(&["suggest", "--rules.dir", &rules, "--write", &log]);
    let (out, err, code) = suggest();
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with(&format!("{rules}/site.yaml: 1 rule added")),
        "{out}"
    );
    assert_eq!(coverage(&rules), Some(0));
    assert_eq!(run(&["check", "--rules.dir", &rules]).2, Some(0));

    let (out, err, code) = suggest();
    assert_eq!((out.as_str(), code), ("", Some(0)));
    assert_eq!(err, "nothing to suggest: 1 of 1 lines recognised\n");

    let another = "Feb 29 12:05:02 h doord[9]: User \"Bob O'Neil\" came\n";
    std::fs::write(&log, another).expect("a file");
    assert_eq!(suggest().2, Some(0));
    let pack = std::fs::read_to_string(format!("{rules}/site.yaml")).expect("the pack");
    assert!(
        pack.contains("quorum lost")
            && pack.contains("- event: user_came\n")
            && pack.contains("'User {_:quoted} came'"),
        "{pack}"
    );
    assert_eq!(coverage(&rules), Some(0));

    let (out, _, _) = run(&["explain", "Feb 29 12:05:02 h food[9]: \u{1b}[2Jhello"]);
    assert!(out.contains("no pack reads the program `food`"), "{out}");
    assert!(
        out.contains("\\u{1b}[2Jhello") && !out.contains('\u{1b}'),
        "{out}"
    );
}
