//! The exporter as an operator meets it: what it says when it is started wrongly, how it reloads and stops, that bad
//! input stops nothing, and that a kill at any moment costs no line and counts none twice.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::exporter::{
    DOORS, Exporter, LONG, Samples, Scraper, accepted_by_promtool, append, binary, scrape,
};
use crate::support::{Child, free_port, http_get, program, root, succeeds, wait_for};

fn handshake_failure(appliance: &str) -> String {
    format!(
        "2024 Feb 29 12:05:01 {appliance}  local5 info  NTLS[77]: info : 0xc0000711 : Fail to establish a secure \
         channel with client : 192.0.2.7/40847 : RC_SSL_FAILED_HANDSHAKE\n"
    )
}

fn handshake_failures(appliance: &str) -> String {
    format!(
        r#"ntls_handshake_failures_total{{appliance="{appliance}",reason="ssl_failed_handshake"}}"#
    )
}

/// Runs the binary to its end.
fn run(arguments: &[&str]) -> Output {
    let mut child = binary()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // What is refused is refused at once; a server that came up instead must not hang the test.
    let deadline = Instant::now() + LONG;
    while child.try_wait().expect("its state").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{arguments:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("its output")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_flags_and_settings_end_with_2_and_one_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("it can be written");
        path.display().to_string()
    };
    let unknown_key = write("unknown.yml", "sources: []\nsoruces: []\n");
    let wrong_value = write("value.yml", "limits: {appliances: many}\n");
    let bad_rules = directory.path().join("rules");
    std::fs::create_dir(&bad_rules).expect("a directory");
    std::fs::write(
        bad_rules.join("bad.yaml"),
        "pack: bad\nprograms: {bad: []}\nrules:\n  - event: x\n    mtach: y\n",
    )
    .expect("it can be written");
    let bad_rules = bad_rules.display().to_string();

    let log = "--log.file=/nonexistent/log";
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["there is nothing to follow", "--log.file"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["nonsense"], &["nonsense"]),
        (&[log, "--log.level=loud"], &["loud", "debug"]),
        (&[log, "--tail.watcher=cat"], &["cat", "inotify"]),
        (&["--log.file=/var/log/[a"], &["/var/log/[a", "]"]),
        (&[log, "--web.listen-address=nonsense"], &["`nonsense`"]),
        (&[log, "--web.listen-address=:100000"], &["`:100000`"]),
        (
            &[log, "--web.telemetry-path=metrics"],
            &["--web.telemetry-path", "`metrics`"],
        ),
        (
            &["--config.file=/nonexistent.yml"],
            &["/nonexistent.yml", "No such file"],
        ),
        (
            &["--config.file", &unknown_key],
            &["unknown.yml:2:1", "soruces", "sources"],
        ),
        (
            &["--config.file", &wrong_value],
            &["value.yml:1:22", "many"],
        ),
        (
            &[log, "--rules.dir", &bad_rules],
            &["bad.yaml:5:5", "mtach", "match"],
        ),
        (
            &[log, "--web.config.file=/nonexistent.yml"],
            &["/nonexistent.yml"],
        ),
    ];
    for (arguments, expected) in table {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for part in *expected {
            assert!(said.contains(part), "{arguments:?}: no `{part}` in\n{said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_ends_with_1_and_one_message() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for command in [&["--log.file=/nonexistent/log"][..], &["demo"]] {
        let flag = format!("--web.listen-address={address}");
        let output = run(&[command, &[&flag]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.matches("error").count(), 1, "{said}");
        assert!(
            said.contains(&address) && said.contains("already in use"),
            "{said}"
        );
    }
}

#[test]
fn files_are_found_by_glob_and_read_from_the_beginning_and_sigterm_ends_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let deep = directory.path().join("site/hsm1");
    std::fs::create_dir_all(&deep).expect("a directory");
    append(
        &deep.join("lunalog"),
        handshake_failure("hsm1").repeat(3).as_bytes(),
    );
    let glob = format!("--log.file={}/**/lunalog", directory.path().display());
    let mut exporter = Exporter::start(&[&glob]);
    // All that was there is in the first scrape.
    assert_eq!(
        exporter.scrape().value(&handshake_failures("hsm1")),
        Some(3.0)
    );

    // A directory that comes later belongs to the glob too, as does half a line when its other half comes.
    let later = directory.path().join("site/hsm2");
    std::fs::create_dir_all(&later).expect("a directory");
    let line = handshake_failure("hsm2");
    let (first, second) = line.split_at(60);
    append(&later.join("lunalog"), first.as_bytes());
    append(&deep.join("lunalog"), handshake_failure("hsm1").as_bytes());
    exporter.wait_for_value(&handshake_failures("hsm1"), 4.0);
    append(&later.join("lunalog"), second.as_bytes());
    exporter.wait_for_value(&handshake_failures("hsm2"), 1.0);

    exporter.child.signal("TERM");
    let asked = Instant::now();
    let status = exporter.child.wait_for_end(LONG);
    assert_eq!(status.code(), Some(0), "{}", exporter.child.output());
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

/// A pack that counts one message under a name that the test chooses.
fn site_pack(event: &str) -> String {
    format!(
        "pack: site\nprograms: {{sited: []}}\nrules:\n  - event: {event}\n    match: 'door {{_:rest}}'\n    \
         help: A door.\n    examples:\n      - line: 'Feb 29 12:05:01 hsm1 sited: door open'\n        samples: []\n"
    )
}

#[test]
fn a_negative_amount_is_refused_and_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    let rules = directory.path().join("rules");
    std::fs::create_dir(&rules).expect("a directory");
    let pack = "pack: site
programs: {sited: []}
metrics:
  site_sent_bytes_total: {type: counter, help: Bytes sent., labels: {}}
rules:
  - event: sent
    match: 'sent {amount:int} bytes'
    metrics:
      - {add: site_sent_bytes_total, value: '{amount}'}
    help: Bytes were sent.
    examples:
      - line: 'Feb 29 12:05:01 hsm1 sited: sent 5 bytes'
        samples: ['site_sent_bytes_total{appliance=\"hsm1\"} 5']
";
    std::fs::write(rules.join("site.yaml"), pack).expect("it can be written");
    for amount in ["5", "-3", "2"] {
        let line = format!("Feb 29 12:05:01 hsm1 sited: sent {amount} bytes\n");
        append(&log, line.as_bytes());
    }
    let mut exporter = Exporter::start(&[
        &format!("--log.file={}", log.display()),
        &format!("--rules.dir={}", rules.display()),
    ]);
    let samples = exporter.wait_for_value(r#"site_sent_bytes_total{appliance="hsm1"}"#, 7.0);
    let refused = |samples: &Samples, rule| {
        let series = format!(r#"appliance_log_exporter_negative_amounts_total{{rule="{rule}"}}"#);
        samples.value(&series)
    };
    assert_eq!(refused(&samples, "site/sent"), Some(1.0));
    // The rules that add amounts are there from the start, the shipped ones too.
    let all: Vec<f64> = samples
        .iter()
        .filter(|(series, _)| series.contains("_negative_amounts_total"))
        .map(|(_, value)| value)
        .collect();
    assert!(all.len() > 1 && all.iter().sum::<f64>() == 1.0, "{all:?}");
    // A reload keeps it.
    assert_eq!(exporter.reload().0, 200);
    assert_eq!(refused(&exporter.scrape(), "site/sent"), Some(1.0));
}

#[test]
fn every_scraper_sees_zero_first_also_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let flags = [
        format!("--log.file={}", path("messages").display()),
        format!("--state.dir={}", path("state").display()),
    ];
    let start = || Exporter::start_command(binary().args(&flags));
    let messages = |appliance: &str| {
        format!(r#"log_messages_total{{appliance="{appliance}",program="NTLS",severity="info"}}"#)
    };
    // What a first start finds is no news.
    append(&path("messages"), handshake_failure("old").as_bytes());
    let mut exporter = start();
    let [mut fast, mut slow] = [(); 2].map(|()| Scraper::connect(exporter.port));
    for scraper in [&mut fast, &mut slow] {
        assert_eq!(scraper.scrape().value(&messages("old")), Some(1.0));
    }
    append(
        &path("messages"),
        handshake_failure("new").repeat(5).as_bytes(),
    );
    // Somebody with curl sees what is, and takes nothing away from others.
    exporter.wait_for_value(&messages("new"), 5.0);
    assert_eq!(fast.scrape().value(&messages("new")), Some(0.0));
    // Once that is on disk.
    exporter.wait_for("the value", || {
        let value = fast.scrape().value(&messages("new"));
        value.filter(|value| *value > 0.0)
    });
    assert_eq!(slow.scrape().value(&messages("new")), Some(0.0));

    // What happens while it is down is news, and so is what nobody has been shown.
    append(&path("messages"), handshake_failure("late").as_bytes());
    exporter.wait_for_value(&messages("late"), 1.0);
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);
    append(&path("messages"), handshake_failure("down").as_bytes());
    let mut exporter = start();
    let mut fast = Scraper::connect(exporter.port);
    let samples = fast.scrape();
    for (appliance, value) in [("old", 1.0), ("new", 5.0), ("late", 0.0), ("down", 0.0)] {
        assert_eq!(
            samples.value(&messages(appliance)),
            Some(value),
            "{appliance}"
        );
    }
    exporter.wait_for("the values", || {
        let samples = fast.scrape();
        (samples.value(&messages("late")) == Some(1.0)
            && samples.value(&messages("down")) == Some(1.0))
        .then_some(())
    });
    // Killed at once: nothing falls.
    exporter.child.signal("KILL");
    exporter.child.wait_for_end(LONG);
    let exporter = start();
    let samples = Scraper::connect(exporter.port).scrape();
    for appliance in ["late", "down"] {
        assert_eq!(
            samples.value(&messages(appliance)),
            Some(1.0),
            "{appliance}"
        );
    }
}

#[test]
fn service_discovery_names_nobody_that_a_line_made_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let config = path("exporter.yml");
    let settings = format!(
        "sources:\n  - {{name: own, paths: ['{0}/own.log'], appliance: hsm1}}\n  - {{name: all, paths: ['{0}/all.log']}}\n",
        directory.path().display()
    );
    std::fs::write(&config, settings).expect("it can be written");
    for (log, appliance) in [("own.log", "evil1"), ("all.log", "evil2")] {
        append(&path(log), handshake_failure(appliance).as_bytes());
    }
    let flags = [
        format!("--config.file={}", config.display()),
        format!("--state.dir={}", path("state").display()),
    ];
    // Over a restart, too.
    for _ in 0..2 {
        let mut exporter = Exporter::start_command(binary().args(&flags));
        exporter.wait_for_value(&handshake_failures("evil2"), 1.0);
        let answer = http_get(exporter.port, "/sd").expect("an answer");
        let groups = answer.json();
        assert_eq!(groups.as_array().map(Vec::len), Some(1), "{groups}");
        assert_eq!(groups[0]["targets"], serde_json::json!(["hsm1"]));
        let labels = &groups[0]["labels"];
        assert!(
            labels["__meta_appliance_last_message_timestamp_seconds"].is_string(),
            "{labels}"
        );
        exporter.child.signal("TERM");
        exporter.child.wait_for_end(LONG);
    }
}

#[test]
fn standard_error_stops_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    append(&log, handshake_failure("hsm1").as_bytes());
    let full = std::fs::File::options().write(true).open("/dev/full");
    let (unread, pipe) = std::io::pipe().expect("a pipe");
    let (gone, broken) = std::io::pipe().expect("a pipe");
    drop(gone);
    let outputs = [
        ("a full disk", Stdio::from(full.expect("/dev/full"))),
        ("a reader that is gone", Stdio::from(broken)),
        ("a pipe that nobody reads", Stdio::from(pipe)),
    ];
    for (what, output) in outputs {
        let port = free_port();
        let mut process = binary()
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--log.file={}", log.display()))
            .args(["--web.enable-lifecycle", "--log.level=debug"])
            .stdin(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("it starts");
        let metric = "appliance_log_exporter_stderr_lines_dropped_total";
        // Each connection that is reset is a line at this level; a pipe takes 64 KiB.
        wait_for(&format!("lost lines with {what}"), LONG, || {
            for _ in 0..200 {
                let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
                std::io::Write::write_all(&mut stream, b"nonsense\r\n\r\n").ok()?;
            }
            scrape(port)?.value(metric).filter(|lost| *lost > 0.0)
        });
        let samples = scrape(port).expect("an answer");
        assert!(
            samples.value(&handshake_failures("hsm1")) >= Some(1.0),
            "{what}"
        );
        succeeds(Command::new(program("kill")).args(["-s", "TERM", &process.id().to_string()]));
        let status = wait_for(&format!("an end with {what}"), LONG, || {
            process.try_wait().expect("its state")
        });
        assert_eq!(status.code(), Some(0), "{what}");
    }
    drop(unread);
}

#[test]
fn nobody_who_does_not_read_grows_memory_or_keeps_prometheus_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    let rules = directory.path().join("rules");
    std::fs::create_dir(&rules).expect("a directory");
    std::fs::write(rules.join("site.yaml"), DOORS).expect("it can be written");
    // 7 MiB a scrape.
    let mut lines = String::new();
    for appliance in 0..20 {
        for door in 0..1500 {
            let name = format!("{door:0>230}");
            lines.push_str(&format!(
                "Feb 29 12:05:01 hsm{appliance} sited: door {name}\n"
            ));
        }
    }
    append(&log, lines.as_bytes());
    let mut exporter = Exporter::start(&[
        &format!("--log.file={}", log.display()),
        &format!("--rules.dir={}", rules.display()),
    ]);
    let pid = exporter.child.pid();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.expect("its memory") / 1024
    };
    let body = exporter.exposition().len() as u64 >> 20;
    assert!(body >= 6, "{body} MiB");
    let before = resident();
    let mut stuck = Vec::new();
    for _ in 0..64 {
        let mut scraper = Scraper::connect(exporter.port);
        scraper.ask();
        stuck.push(scraper);
    }
    let (port, begun) = (exporter.port, Instant::now());
    exporter.wait_for("an answer", || scrape(port));
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    // 32 MiB of bodies and one more, what makes them, and what the allocator keeps; it was one for each.
    let after = resident();
    assert!(
        after < before + 10 * body,
        "{before} to {after} MiB, {body} MiB a scrape"
    );
}

/// A line about the erasure of an HSM, from long ago.
const ZEROIZED: &str =
    "2024 Feb 29 12:05:01 hsm1  kern info  kernel: k7pf0: [HSM] ALM2007: HSM zeroized\n";
const ZEROIZED_AT: &str =
    r#"log_event_last_timestamp_seconds{appliance="hsm1",program="kernel",event="hsm_zeroized"}"#;

/// 29 February 2024 in any time zone.
fn is_long_ago(seconds: f64) -> bool {
    (1_709_208_301.0 - seconds).abs() < 86_400.0
}

#[test]
fn a_notable_event_is_dated_by_when_it_became_known_and_a_backlog_by_its_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let flags = [
        format!("--log.file={}", path("messages").display()),
        format!("--state.dir={}", path("state").display()),
    ];
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.expect("a clock after 1970").as_secs() as f64
    };
    append(&path("messages"), ZEROIZED.as_bytes());
    // Read for the first time, without state: by its own time.
    let mut exporter = Exporter::start_command(binary().args(&flags));
    let first = exporter.scrape().value(ZEROIZED_AT).expect("a series");
    assert!(is_long_ago(first), "{first}");
    // The same line, written now.
    let before = now();
    append(&path("messages"), ZEROIZED.as_bytes());
    let port = exporter.port;
    exporter.wait_for("the event", || {
        scrape(port)?.value(ZEROIZED_AT).filter(|at| *at >= before)
    });
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);
    // Written while the exporter was away: known when it is read. Test events have a series of their own.
    append(&path("messages"), ZEROIZED.as_bytes());
    append(
        &path("messages"),
        ZEROIZED.replace("k7pf0", "***TEST: k7pf0").as_bytes(),
    );
    let before = now();
    let exporter = Exporter::start_command(binary().args(&flags));
    let samples = exporter.scrape();
    let known = samples.value(ZEROIZED_AT).expect("a series");
    assert!(known >= before && known <= now(), "{known} {before}");
    let test = ZEROIZED_AT.replace('}', r#",test="true"}"#);
    let known = samples.value(&test).expect("a series");
    assert!(known >= before && known <= now(), "{known} {before}");
    // Only what is notable, and only what has happened.
    assert_eq!(
        samples
            .iter()
            .filter(|(series, _)| series.starts_with("log_event_last"))
            .count(),
        2
    );
    accepted_by_promtool(&exporter.exposition());
}

#[test]
fn a_replay_dates_events_by_their_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    append(&log, ZEROIZED.as_bytes());
    let output = run(&["replay", &log.display().to_string()]);
    let at = Samples::parse(&text(&output.stdout)).value(ZEROIZED_AT);
    assert!(at.is_some_and(is_long_ago), "{at:?}");
}

#[test]
fn listed_appliances_are_expected() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("config.yaml");
    let log = directory.path().join("messages");
    let write = |appliances: &str| {
        let text = format!(
            "appliances: {appliances}\nsources: [{{name: all, paths: ['{0}']}}, {{name: gw, paths: ['{0}.gw'], appliance: gw1}}]\n",
            log.display()
        );
        std::fs::write(&config, text).expect("it can be written");
    };
    let expected = |exporter: &Exporter| -> Vec<String> {
        let samples = exporter.scrape();
        let of = samples
            .iter()
            .filter(|(series, value)| series.starts_with("appliance_expected") && *value == 1.0);
        of.map(|(series, _)| series.to_owned()).collect()
    };
    write("[hsm1, hsm2, gw1]");
    append(&log, handshake_failure("hsm1").as_bytes());
    let mut exporter = Exporter::start(&[&format!("--config.file={}", config.display())]);
    let names = |names: &[&str]| -> Vec<String> {
        let of = names.iter();
        of.map(|name| format!(r#"appliance_expected{{appliance="{name}"}}"#))
            .collect()
    };
    assert_eq!(expected(&exporter), names(&["gw1", "hsm1", "hsm2"]));
    // One that is taken from the list is no longer expected; one that a source names is.
    write("[]");
    assert_eq!(exporter.reload().0, 200);
    assert_eq!(expected(&exporter), names(&["gw1"]));
}

#[test]
fn a_change_of_settings_or_rules_is_loaded_by_itself_if_that_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("rules")).expect("a directory");
    let config = |more: &str| {
        let text = format!(
            "sources: [{{name: site, paths: ['{}']}}]\nrules: {{directories: [rules]}}\n{more}",
            path("*.log").display()
        );
        std::fs::write(path("config.yaml"), text).expect("it can be written");
    };
    config("");
    append(&path("a.log"), b"");
    let mut exporter = Exporter::start(&[
        &format!("--config.file={}", path("config.yaml").display()),
        "--config.enable-auto-reload",
        "--config.auto-reload-interval=1s",
    ]);
    let doors = |event: &str| {
        format!(r#"log_events_total{{appliance="hsm1",program="sited",event="{event}"}}"#)
    };
    let door = || append(&path("a.log"), b"Feb 29 12:05:01 hsm1 sited: door open\n");
    let successful = "appliance_log_exporter_config_last_reload_successful";

    // A new pack.
    let loaded = |samples: &Samples| samples.value("appliance_log_exporter_rules_loaded");
    let before = loaded(&exporter.scrape());
    std::fs::write(path("rules/site.yaml"), site_pack("door_before")).expect("it can be written");
    exporter.wait_for_value(
        "appliance_log_exporter_rules_loaded",
        before.map_or(0.0, |n| n + 1.0),
    );
    door();
    exporter.wait_for_value(&doors("door_before"), 1.0);

    // A wrong one changes nothing and is reported; its cure is found as well.
    std::fs::write(path("rules/site.yaml"), "pack: site\nrules: nonsense\n")
        .expect("it can be written");
    exporter.wait_for_value(successful, 0.0);
    door();
    exporter.wait_for_value(&doors("door_before"), 2.0);
    std::fs::write(path("rules/site.yaml"), site_pack("door_after")).expect("it can be written");
    exporter.wait_for_value(successful, 1.0);
    door();
    exporter.wait_for_value(&doors("door_after"), 1.0);

    // The configuration, which the exporter shows as it is in force.
    config("appliances: [hsm1, hsm2]\n");
    exporter.wait_for_value(r#"appliance_expected{appliance="hsm2"}"#, 1.0);
    let shown = http_get(exporter.port, "/-/config")
        .expect("an answer")
        .text();
    assert!(shown.contains("appliances: [hsm1, hsm2]"), "{shown}");
    let shown = http_get(exporter.port, "/debug").expect("an answer").text();
    for line in [
        "  reader\n",
        "process_resident_memory_bytes ",
        "  log_events_total\n",
    ] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
    let page = http_get(exporter.port, "/").expect("an answer").text();
    assert!(
        page.contains("<td>hsm2</td><td></td><td></td><td class=\"n\">never</td>"),
        "{page}"
    );
}

#[test]
fn a_reload_keeps_values_and_a_failed_one_the_rules() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    let rules = directory.path().join("rules");
    std::fs::create_dir(&rules).expect("a directory");
    let pack = rules.join("site.yaml");
    std::fs::write(&pack, site_pack("door_before")).expect("it can be written");
    let door = || append(&log, b"Feb 29 12:05:01 hsm1 sited: door open\n");
    let doors = |event: &str| {
        format!(r#"log_events_total{{appliance="hsm1",program="sited",event="{event}"}}"#)
    };
    append(&log, handshake_failure("hsm1").repeat(2).as_bytes());
    door();

    let mut exporter = Exporter::start(&[
        &format!("--log.file={}", log.display()),
        &format!("--rules.dir={}", rules.display()),
    ]);
    exporter.wait_for_value(&doors("door_before"), 1.0);

    // By HTTP.
    std::fs::write(&pack, site_pack("door_after")).expect("it can be written");
    assert_eq!(exporter.reload(), (200, "reloaded\n".to_owned()));
    door();
    append(&log, handshake_failure("hsm1").as_bytes());
    exporter.wait_for_value(&handshake_failures("hsm1"), 3.0);
    let samples = exporter.wait_for_value(&doors("door_after"), 1.0);
    assert_eq!(
        samples.value("appliance_log_exporter_config_last_reload_successful"),
        Some(1.0)
    );
    let reloaded = samples
        .value("appliance_log_exporter_config_last_reload_success_timestamp_seconds")
        .expect("the time of the reload");

    // A failure is told to whoever asked, and in the metrics; what was in force stays.
    std::fs::write(
        &pack,
        "pack: site\nprograms: {sited: []}\nrules: nonsense\n",
    )
    .expect("it can be written");
    let (status, said) = exporter.reload();
    assert_eq!(status, 500);
    assert!(said.contains("site.yaml:3:"), "{said}");
    door();
    let samples = exporter.wait_for_value(&doors("door_after"), 2.0);
    assert_eq!(
        samples.value("appliance_log_exporter_config_last_reload_successful"),
        Some(0.0)
    );
    assert_eq!(
        samples.value("appliance_log_exporter_config_last_reload_success_timestamp_seconds"),
        Some(reloaded)
    );
    assert_eq!(samples.value(&handshake_failures("hsm1")), Some(3.0));

    // By signal.
    std::fs::write(&pack, site_pack("door_at_last")).expect("it can be written");
    exporter.child.signal("HUP");
    exporter.wait_for_value("appliance_log_exporter_config_last_reload_successful", 1.0);
    door();
    let samples = exporter.wait_for_value(&doors("door_at_last"), 1.0);
    assert_eq!(samples.value(&handshake_failures("hsm1")), Some(3.0));
}

#[test]
fn a_repetition_is_attributed_over_a_restart_and_a_rotation() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let flags = [
        format!("--log.file={}", path("messages").display()),
        format!("--state.dir={}", path("state").display()),
    ];
    let failed = |host: &str| {
        format!(
            "Feb 29 12:05:01 {host} sshd[7]: Failed password for root from 192.0.2.1 port 22 ssh2\n"
        )
    };
    let repeated = |host: &str| format!("Feb 29 12:05:01 {host} last message repeated 5 times\n");
    let failures = |samples: &Samples, host: &str| {
        samples.sum(
            "sshd_login_failures_total",
            &[&format!(r#"appliance="{host}""#)],
        )
    };
    let log = |text: String| append(&path("messages"), text.as_bytes());
    log(failed("h1") + &failed("h2"));
    let mut exporter = Exporter::start_command(binary().args(&flags));
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);
    log(repeated("h1"));
    let mut exporter = Exporter::start_command(binary().args(&flags));
    assert_eq!(failures(&exporter.scrape(), "h1"), 6.0);
    std::fs::rename(path("messages"), path("messages.1")).expect("a rotation");
    log(repeated("h2") + &repeated("h3"));
    let port = exporter.port;
    let samples = exporter.wait_for("the repetition", || {
        let dropped = r#"appliance_log_exporter_repeats_dropped_total{reason="unattributed"}"#;
        scrape(port).filter(|samples| samples.value(dropped) == Some(5.0))
    });
    assert_eq!(failures(&samples, "h2"), 6.0);
}

#[test]
fn explain_takes_a_long_line_for_one_as_replay_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    let long = "x".repeat(70_000);
    append(
        &log,
        format!("Feb 29 12:05:01 hsm1 sshd[7]: {long}\nlast\r\n").as_bytes(),
    );
    // More than a pipe holds.
    let mut explain = binary();
    explain.args(["explain", "--format=json"]).arg(&log);
    let output = explain.output().expect("it runs");
    let explained = text(&output.stdout);
    assert_eq!(explained.lines().count(), 2, "{}", explained.len());
    let last: serde_json::Value =
        serde_json::from_str(explained.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(last["record"]["message"], "last");
}

#[test]
fn explain_and_replay_read_lines_as_a_source_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let pack = "pack: gateway\nabout: A gateway.\nprofiles: [gateway]\nprograms: {gw: []}\n\
        formats:\n  - {program: gw, profile: gateway}\n\
        rules:\n  - {event: link_down, match: 'link {_:word} down', program: gw, help: A link is down., \
        examples: [{line: 'Feb 29 12:05:01 gw1 gw: link 1 down'}]}\n";
    let config = format!(
        "sources:\n  - {{name: gateways, paths: ['{0}/{{appliance}}.log'], appliance: path, profile: gateway}}\n\
        rules:\n  directories: ['{0}/rules']\n",
        directory.path().display()
    );
    std::fs::create_dir(path("rules")).expect("a directory");
    std::fs::write(path("rules/gateway.yaml"), pack).expect("it can be written");
    std::fs::write(path("exporter.yml"), config).expect("it can be written");
    let line = "Feb 28 12:05:01 192.0.2.1 link 7 down";
    append(&path("gw7.log"), format!("{line}\n").as_bytes());
    let config = format!("--config.file={}", path("exporter.yml").display());
    let log = path("gw7.log").display().to_string();

    let rule_of = |args: &[&str]| {
        let output = run(&[&["explain", "--format=json", &config], args].concat());
        let explained: serde_json::Value = serde_json::from_str(&text(&output.stdout))
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", text(&output.stderr)));
        let appliance = explained["record"]["appliance"].clone();
        (explained["rule"].clone(), appliance)
    };
    assert_eq!(
        rule_of(&[line]),
        (serde_json::Value::Null, "192.0.2.1".into())
    );
    let rule = "gateway/link_down";
    assert_eq!(rule_of(&["--source=gateways", line]).0, rule);
    assert_eq!(
        rule_of(&["--source=gateways", &log]),
        (rule.into(), "gw7".into())
    );

    let output = run(&["replay", &config, "--source=gateways", &log]);
    let shown = text(&output.stdout);
    let expected = r#"log_events_total{appliance="gw7",program="gw",event="link_down"} 1"#;
    assert!(shown.contains(expected), "{shown}");

    let output = run(&["explain", &config, "--source=gatewys", line]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("gateways"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_new_wording_is_shown_whatever_came_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    let mut lines = "Feb 29 12:05:01 hsm1 NTLS[7]: took 5 ms for nothing\n".repeat(1_100);
    for word in ["one", "two", "three", "four", "five"] {
        lines += &format!("Feb 29 12:05:01 hsm1 NTLS[7]: a wording like {word}\n");
    }
    // Of a program that no pack knows, too.
    lines += "Feb 29 12:05:01 fw1 fortid[7]: a vendor that is new\n";
    append(&log, lines.as_bytes());
    let exporter = Exporter::start(&[&format!("--log.file={}", log.display())]);
    let page = http_get(exporter.port, "/").expect("the page").text();
    for expected in ["like one", "like five", "a vendor that is new", "took # ms"] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[test]
fn a_reload_shows_its_limits_and_refuses_another_state_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let write = |appliances: u32, state: &str| {
        let text = format!(
            "sources: [{{name: all, paths: ['{}']}}]\nlimits: {{appliances: {appliances}}}\nstate: {{directory: '{}'}}\n",
            path("messages").display(),
            path(state).display(),
        );
        std::fs::write(path("config.yaml"), text).expect("it can be written");
    };
    let lines: String = (0..7)
        .map(|host| handshake_failure(&format!("h{host}")))
        .collect();
    append(&path("messages"), lines.as_bytes());
    write(5, "state");
    let config = format!("--config.file={}", path("config.yaml").display());
    let mut exporter = Exporter::start(&[&config]);
    let port = exporter.port;
    let page = || http_get(port, "/").expect("the page").text();
    assert!(page().contains("at most 5"), "{}", page());
    write(8, "state");
    assert_eq!(exporter.reload().0, 200);
    assert!(page().contains("at most 8"), "{}", page());
    write(9, "elsewhere");
    let (status, said) = exporter.reload();
    assert_eq!(status, 500);
    assert!(said.contains("state.directory"), "{said}");
    assert!(page().contains("at most 8"), "{}", page());
}

#[test]
fn an_appliance_is_forgotten_by_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    append(
        &log,
        (handshake_failure("hsm1") + &handshake_failure("hsm 7")).as_bytes(),
    );
    append(&log, handshake_failure("mistyped").as_bytes());
    let forget = |exporter: &mut Exporter, name: &str| {
        let url = format!("http://127.0.0.1:{}/", exporter.port);
        // One a second is answered.
        exporter.wait_for("an answer", || {
            let output = run(&["forget", "--url", &url, name]);
            (!text(&output.stderr).contains("429")).then_some(output)
        })
    };
    let follow = format!("--log.file={}", log.display());
    let mut exporter = Exporter::start(&[&follow]);
    let has = |exporter: &Exporter, name: &str| {
        let samples = exporter.scrape();
        samples.sum("log_messages_total", &[&format!(r#"appliance="{name}""#)]) > 0.0
    };
    assert!(has(&exporter, "mistyped"));
    let output = forget(&mut exporter, "mistyped");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!has(&exporter, "mistyped") && has(&exporter, "hsm1"));
    let output = forget(&mut exporter, "mistyped");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("404"),
        "{}",
        text(&output.stderr)
    );
    let output = run(&["forget", "--url", "https://localhost", "hsm1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("curl"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn bad_input_is_counted_and_stops_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    // A long line, between two good ones.
    append(&path("long.log"), handshake_failure("long").as_bytes());
    append(&path("long.log"), &vec![b'x'; 10 << 20]);
    append(
        &path("long.log"),
        format!("\n{}", handshake_failure("long")).as_bytes(),
    );
    // Bytes that are no text, within lines and between them.
    append(&path("bytes.log"), b"\0\0\0\n\xff\xfe\xc3\x28\n");
    append(&path("bytes.log"), handshake_failure("bytes").as_bytes());
    append(
        &path("bytes.log"),
        b"2024 Feb 29 12:05:01 bytes  local5 info  NTLS[77]: info : 0 : \0\xff\xfe is no message\n",
    );
    append(&path("bytes.log"), handshake_failure("bytes").as_bytes());
    // Noise: a linear congruential generator's high bytes.
    let mut state = 7u64;
    let noise: Vec<u8> = (0..1 << 20)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    append(&path("noise.log"), &noise);
    append(
        &path("noise.log"),
        format!("\n{}", handshake_failure("noise")).as_bytes(),
    );
    std::fs::create_dir(path("directory.log")).expect("a directory");
    append(&path("secret.log"), handshake_failure("secret").as_bytes());
    let permit = |mode| {
        std::fs::set_permissions(path("secret.log"), std::fs::Permissions::from_mode(mode))
            .expect("its mode");
    };
    permit(0o000);

    let flags: Vec<String> = ["long", "bytes", "noise", "directory", "secret"]
        .iter()
        .map(|name| format!("--log.file={}", path(&format!("{name}.log")).display()))
        .collect();
    let mut exporter = Exporter::start_command(unprivileged(directory.path()).args(&flags));
    let source = r#"{source="log.file"}"#;
    let unreadable = format!("appliance_log_exporter_unreadable_files{source}");
    exporter.wait_for_value(&handshake_failures("long"), 2.0);
    exporter.wait_for_value(&handshake_failures("bytes"), 2.0);
    exporter.wait_for_value(&handshake_failures("noise"), 1.0);
    let samples = exporter.wait_for_value(&unreadable, 2.0);
    assert_eq!(
        samples.value(
            r#"appliance_log_exporter_lines_dropped_total{source="log.file",reason="too_long"}"#
        ),
        Some(1.0)
    );
    assert_eq!(
        samples.value(
            r#"appliance_log_exporter_lost_bytes_total{source="log.file",reason="too_long"}"#
        ),
        Some((10 << 20) as f64 - 65_536.0)
    );
    assert_eq!(
        samples.sum("log_unmatched_messages_total", &[r#"appliance="bytes""#]),
        1.0
    );
    assert_eq!(
        http_get(exporter.port, "/").map(|answer| answer.status),
        Some(200)
    );
    // Well-formed, whatever the lines held.
    accepted_by_promtool(&exporter.exposition());

    // What was missing a permission is read once it has it.
    permit(0o644);
    exporter.wait_for_value(&handshake_failures("secret"), 1.0);
    exporter.wait_for_value(&unreadable, 1.0);
}

/// In the log once, on the page, and in the metric.
#[test]
fn a_file_that_is_compressed_in_another_form_than_gzip_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    append(&path("hsm1.log"), handshake_failure("hsm1").as_bytes());
    // What `xz` and `zstd` begin a file with; the second is called like a log.
    append(&path("hsm1.log.2.xz"), b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46");
    append(
        &path("hsm2.log"),
        b"\x28\xb5\x2f\xfd\x04\x58\x11\0\0\x31\x0a",
    );
    let flag = format!("--log.file={}", path("*").display());
    let mut exporter = Exporter::start(&[&flag]);
    exporter.wait_for_value(&handshake_failures("hsm1"), 1.0);
    let unreadable = r#"appliance_log_exporter_unreadable_files{source="log.file"}"#;
    exporter.wait_for_value(unreadable, 2.0);
    let port = exporter.port;
    for (name, form) in [("hsm1.log.2.xz", "xz"), ("hsm2.log", "zstd")] {
        let shown = format!(
            "{}</code><br><span class=\"bad\">compressed ({form}), which is not read: use gzip",
            path(name).display()
        );
        exporter.wait_for("it on the page", || {
            http_get(port, "/")?.text().contains(&shown).then_some(())
        });
        let told = format!("path={} ", path(name).display());
        let said = exporter.child.wait_for_output(&told);
        let lines = said.lines().filter(|line| line.contains("level=warn"));
        let count = lines.filter(|line| line.contains(&told)).count();
        assert_eq!(count, 1, "{said}");
    }
}

#[test]
fn a_directory_that_may_not_be_entered_is_told_until_it_may() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let permit = |mode| {
        std::fs::set_permissions(path("hsm2"), std::fs::Permissions::from_mode(mode))
            .expect("its mode");
    };
    for name in ["hsm1", "hsm2"] {
        std::fs::create_dir(path(name)).expect("a directory");
        append(
            &path(name).join("messages"),
            handshake_failure(name).as_bytes(),
        );
    }
    permit(0o000);
    let flag = format!("--log.file={}", path("*/messages").display());
    let mut exporter = Exporter::start_command(unprivileged(directory.path()).arg(flag));
    let port = exporter.port;
    let shown = |path: &Path| {
        let page = http_get(port, "/")?.text();
        let trouble = format!(
            "{}</code><br><span class=\"bad\">permission denied",
            path.display()
        );
        page.contains(&trouble).then_some(())
    };
    let unreadable = r#"appliance_log_exporter_unreadable_files{source="log.file"}"#;
    exporter.wait_for_value(&handshake_failures("hsm1"), 1.0);
    exporter.wait_for_value(unreadable, 1.0);
    exporter.wait_for("hsm2 on the page", || shown(&path("hsm2")));
    // Its names may be read, and no more.
    permit(0o444);
    exporter.wait_for("its file on the page", || shown(&path("hsm2/messages")));
    assert_eq!(exporter.scrape().value(unreadable), Some(1.0));
    permit(0o755);
    exporter.wait_for_value(&handshake_failures("hsm2"), 1.0);
    assert_eq!(exporter.scrape().value(unreadable), Some(0.0));
    for hidden in ["hsm2", "hsm2/messages"] {
        let told = format!("path={} ", path(hidden).display());
        let said = exporter.child.wait_for_output(&told);
        let lines = said.lines().filter(|line| line.contains("level=warn"));
        assert_eq!(
            lines.filter(|line| line.contains(&told)).count(),
            1,
            "{said}"
        );
    }
}

/// The exporter without root's right to read everything, in a directory that it may enter.
fn unprivileged(directory: &Path) -> Command {
    let root = succeeds(Command::new(program("id")).arg("-u")).out.trim() == "0";
    if !root {
        return binary();
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    // The build may lie where nobody else may look.
    let copy = directory.join("exporter");
    std::fs::copy(env!("CARGO_BIN_EXE_appliance_log_exporter"), &copy).expect("a copy");
    let mut command = Command::new(program("setpriv"));
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(copy);
    command
}

fn catalogue() -> Vec<String> {
    ["luna", "kmd", "clavister", "ktls"]
        .map(|name| {
            root()
                .join(format!("tests/fixtures/catalogue/{name}.log"))
                .display()
                .to_string()
        })
        .to_vec()
}

#[test]
fn the_documented_lines_give_sound_metrics_as_promtool_sees_them() {
    let files = catalogue();
    let mut arguments = vec!["replay"];
    arguments.extend(files.iter().map(String::as_str));
    let output = succeeds(binary().args(&arguments)).out;
    accepted_by_promtool(&output);
    let samples = Samples::parse(&output);
    for (series, value) in samples.iter() {
        assert!(value.is_finite(), "{series} {value}");
        let counts = series
            .split('{')
            .next()
            .is_some_and(|name| name.ends_with("_total"));
        assert!(
            !counts || (value >= 0.0 && value.fract() == 0.0),
            "{series} {value}"
        );
    }
    for metric in [
        "ipmi_sensor_reading",
        "smart_attribute_value",
        "ntls_handshake_failures_total",
        "ipsec_drops_total",
        "ktls_bad_auth_total",
    ] {
        assert!(samples.sum(metric, &[]) > 0.0, "{metric}");
    }
    // Every line is recognised: so the metrics say as well.
    assert_eq!(samples.sum("log_unmatched_messages_total", &[]), 0.0);
    let lines: usize = files
        .iter()
        .map(|file| {
            std::fs::read_to_string(file)
                .expect("a fixture")
                .lines()
                .count()
        })
        .sum();
    assert!(samples.sum("log_messages_total", &[]) >= lines as f64);

    // The same lines, followed instead of replayed.
    let flags: Vec<String> = files
        .iter()
        .map(|file| format!("--log.file={file}"))
        .collect();
    let exporter = Exporter::start_command(binary().args(&flags));
    let followed = exporter.scrape();
    for (series, value) in samples.iter() {
        // Two are of the clock: when the last message came, and when an event became known.
        let is_of_the_clock = series.starts_with("log_last_message_timestamp_seconds")
            || series.starts_with("log_event_last_timestamp_seconds");
        if !is_of_the_clock {
            assert_eq!(followed.value(series), Some(value), "{series}");
        }
    }
    accepted_by_promtool(&exporter.exposition());
}

#[test]
fn explain_as_json_has_the_documented_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    append(&log, handshake_failure("hsm1").as_bytes());
    append(
        &log,
        b"2024 Feb 29 12:05:01 hsm1  local5 info  NTLS[77]: info : 0 : Never heard of this\n",
    );
    append(&log, b"2024 Feb 29 12:05:01 hsm1  local4 notice  ipmievd: ***TEST : Fan sensor Fan3B . Lower Critical going low (Reading 0 < Threshold 2000 RPM)\n");
    let said = succeeds(binary().args(["explain", "--format", "json"]).arg(&log));
    let told: Vec<serde_json::Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert_eq!(told.len(), 3);
    for one in &told {
        for key in [
            "appliance",
            "program",
            "severity",
            "timestamp",
            "message",
            "test",
        ] {
            assert!(one["record"].get(key).is_some(), "no record.{key} in {one}");
        }
        for key in ["rule", "event", "updates"] {
            assert!(one.get(key).is_some(), "no {key} in {one}");
        }
    }
    let [failure, unknown, test] = [&told[0], &told[1], &told[2]];
    assert_eq!(failure["record"]["appliance"], "hsm1");
    assert_eq!(failure["record"]["program"], "NTLS");
    assert_eq!(failure["record"]["severity"], "info");
    assert_eq!(failure["record"]["test"], false);
    assert!(
        failure["rule"]
            .as_str()
            .is_some_and(|rule| rule.starts_with("ntls/")),
        "{failure}"
    );
    let expected = serde_json::json!({
        "metric": "ntls_handshake_failures_total",
        "labels": {"appliance": "hsm1", "reason": "ssl_failed_handshake"},
        "op": "inc",
        "value": 1,
    });
    let updates = failure["updates"].as_array().expect("a list");
    assert!(
        updates
            .iter()
            .any(|update| update["metric"] == expected["metric"]
                && update["labels"] == expected["labels"]
                && update["op"] == expected["op"]
                && update["value"].as_f64() == Some(1.0)),
        "{failure}"
    );
    assert!(unknown["rule"].is_null() && unknown["event"].is_null());
    assert_eq!(unknown["updates"], serde_json::json!([]));
    assert_eq!(test["record"]["test"], true);
    for update in test["updates"].as_array().expect("a list") {
        assert_eq!(update["labels"]["test"], "true", "{test}");
    }
}

#[test]
fn the_demo_shows_the_four_metrics_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let ways = [&[][..], &["--over=udp"], &["--over=tcp"], &["--over=tls"]];
    let demos = ways.map(|flags| {
        let mut command = binary();
        command
            .arg("demo")
            .args(flags)
            .env("TMPDIR", directory.path());
        Exporter::start_command(&mut command)
    });
    for (mut demo, flags) in demos.into_iter().zip(ways) {
        let port = demo.port;
        let samples = demo.wait_for("the four metrics", || {
            let samples = scrape(port)?;
            let there = |metric: &str| samples.iter().any(|(series, _)| series.starts_with(metric));
            let all = there("ipmi_sensor_reading{")
                && there("smart_attribute_value{")
                && there("ntls_handshake_failures_total{")
                && samples.sum("ipsec_drops_total", &[r#"id="278""#]) > 0.0;
            all.then_some(samples)
        });
        // Whatever they come by, all lines are recognised, and each device has its name.
        assert_eq!(samples.sum("log_unmatched_messages_total", &[]), 0.0);
        for (series, _) in samples.iter() {
            let known = ["hsm1", "hsm2", "srx1", "cos1", "ontap1"];
            let is_known = known.iter().any(|name| series.contains(name));
            assert!(
                is_known || !series.starts_with("log_messages_total"),
                "{flags:?}: {series}"
            );
        }
        let said = demo.child.output();
        let page = format!("http://localhost:{port}/");
        assert!(said.contains(&page), "{said}");
        if let [over] = flags {
            let transport = over.trim_start_matches("--over=");
            let address = format!("127.0.0.2 and up to {transport}://127.0.0.1:");
            assert!(said.contains(&address), "{said}");
        }
        demo.child.signal("INT");
        let status = demo.child.wait_for_end(LONG);
        assert_eq!(status.code(), Some(0), "{}", demo.child.output());
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("it").count(), 0);
}

/// Renames as logrotate does, without a limit: `log.1` becomes `log.2`, and `log` becomes `log.1`.
fn rotate(log: &Path) {
    let numbered = |number: usize| match number {
        0 => log.to_owned(),
        _ => Path::new(&format!("{}.{number}", log.display())).to_owned(),
    };
    let newest_free = (1..)
        .find(|number| !numbered(*number).exists())
        .expect("a number");
    for number in (1..=newest_free).rev() {
        std::fs::rename(numbered(number - 1), numbered(number)).expect("it can be renamed");
    }
}

/// Kills of one run; more with `KILLS=1000 cargo test kill`.
const KILLS: usize = 50;

#[test]
fn a_kill_at_any_moment_loses_no_line_and_counts_none_twice() {
    let kills = std::env::var("KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(KILLS);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let config = path("config.yml");
    std::fs::write(
        &config,
        format!(
            "sources:\n  - name: luna\n    paths: ['{0}/*.log']\nstate:\n  directory: {0}/state\n  interval: 20ms\n",
            directory.path().display()
        ),
    )
    .expect("it can be written");
    let flag = format!("--config.file={}", config.display());

    // A clock's low digits are random enough, and are printed when something fails.
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .subsec_nanos() as u64;
    let mut state = seed;
    let mut below = move |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    // No two lines are the same: a short file that says what another does may be a copy of it, and is not read then.
    let mut serial = 0;
    let mut lines = move |appliance: &str, count: u64| -> String {
        let more = serial..serial + count;
        serial += count;
        more.map(|port| handshake_failure(appliance).replace("/40847", &format!("/{port}")))
            .collect()
    };
    let (steady, rotating) = (path("steady.log"), path("rotating.log"));
    // Without any checkpoint there is no past: what was rotated before the first one is not looked for.
    append(&steady, lines("steady", 1).as_bytes());
    append(&rotating, lines("rotating0", 1).as_bytes());
    let mut steady_lines = 1;
    // Lines of each file that had the name.
    let mut generations = vec![1];
    let mut exporter = Exporter::start(&[&flag]);
    exporter.wait_for_value(&handshake_failures("rotating0"), 1.0);
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);

    for _ in 0..kills {
        let mut exporter = Child::start(binary().args([&flag, "--web.listen-address=127.0.0.1:0"]));
        if below(2) == 0 {
            wait_for("readiness", LONG, || {
                exporter.output().contains("ready").then_some(())
            });
        }
        // From before it is ready until after several checkpoints, while lines come and a file is rotated.
        let end = Instant::now() + Duration::from_millis(below(400));
        let rotate_at = below(8);
        let mut step = 0;
        while Instant::now() < end {
            let count = 1 + below(20);
            append(&steady, lines("steady", count).as_bytes());
            steady_lines += count;
            if step == rotate_at {
                rotate(&rotating);
                generations.push(0);
            }
            let count = 1 + below(20);
            let name = format!("rotating{}", generations.len() - 1);
            append(&rotating, lines(&name, count).as_bytes());
            *generations.last_mut().expect("one") += count;
            step += 1;
            std::thread::sleep(Duration::from_millis(below(30)));
        }
        exporter.signal("KILL");
        let status = exporter.wait_for_end(LONG);
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended by itself:\n{}",
            exporter.output()
        );
    }

    let mut exporter = Exporter::start(&[&flag]);
    let last = format!("rotating{}", generations.len() - 1);
    let expected: Vec<(String, u64)> = generations
        .iter()
        .enumerate()
        .map(|(generation, lines)| (format!("rotating{generation}"), *lines))
        .chain([("steady".to_owned(), steady_lines)])
        .collect();
    // The newest file is read last.
    for name in ["steady", &last] {
        let (_, lines) = expected
            .iter()
            .find(|(of, _)| of == name)
            .expect("it is there");
        let port = exporter.port;
        exporter.wait_for(&format!("{lines} lines of {name}, seed {seed}"), || {
            scrape(port)?
                .value(&handshake_failures(name))
                .filter(|count| *count >= *lines as f64)
        });
    }
    // A counter that came after the start is shown at 0 first.
    let port = exporter.port;
    let metrics = ["ntls_handshake_failures_total", "log_messages_total"];
    let count =
        |samples: &Samples, metric, of| samples.sum(metric, &[&format!("appliance=\"{of}\"")]);
    let samples = exporter.wait_for(&format!("a count for each file, seed {seed}"), || {
        let every = |samples: &Samples| {
            let mut all = metrics
                .iter()
                .flat_map(|metric| expected.iter().map(move |(of, _)| (metric, of)));
            all.all(|(metric, of)| count(samples, metric, of) > 0.0)
        };
        scrape(port).filter(every)
    });
    for metric in metrics {
        let wrong: Vec<String> = expected
            .iter()
            .map(|(of, lines)| (of, *lines as f64, count(&samples, metric, of)))
            .filter(|(_, lines, counted)| lines != counted)
            .map(|(of, lines, counted)| format!("{of}: {lines} lines, {counted} counted"))
            .collect();
        assert!(
            wrong.is_empty(),
            "seed {seed}: {wrong:?}\n{}",
            exporter.child.output()
        );
    }
}

#[test]
fn the_page_says_of_each_appliance_what_it_is_and_what_it_logged_last() {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().display();
    std::fs::write(
        directory.path().join("hsm1.log"),
        "2024 Feb 29 12:05:01 hsm1  kern info  kernel: k7pf0: [HSM] ALM2006: HSM decommissioned by FW\n\
         2024 Feb 29 12:06:01 hsm1  local5 info  NTLS[77]: info : 0 : hello\n\
         2024 Feb 29 12:07:01 hsm1  local5 info  quorumd[78]: quorum lost: 2 of 5\n\
         2024 Feb 29 12:08:01 hsm1  some text\n",
    )
    .expect("a log");
    let exporter = Exporter::start(&[&format!("--log.file={name}/{{appliance}}.log")]);
    exporter.scrape();
    let page = http_get(exporter.port, "/").expect("an answer").text();
    let row = page.lines().find(|line| line.starts_with("<tr><td>hsm1"));
    let row = row.unwrap_or_else(|| panic!("{page}"));
    assert!(
        row.starts_with("<tr><td>hsm1</td><td>luna</td><td>kernel/hsm_decommissioned, ")
            && row.ends_with("<td class=\"n\">4</td><td class=\"n\">1</td></tr>"),
        "{row}"
    );
    // What no rule knows is shown, also of programs that no pack reads, and of none.
    for shown in [
        "no pack reads the program",
        "suggest FILE",
        "<td>NTLS</td><td>hsm1</td><td class=\"m\"><code>hello</code>",
        "<td>quorumd</td><td>hsm1</td><td class=\"m\"><code>quorum lost: # of #</code>",
        "<code>some text</code>",
    ] {
        assert!(page.contains(shown), "{shown}\n{page}");
    }
}
