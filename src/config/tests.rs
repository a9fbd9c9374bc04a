//! Settings as written, and what they mean or what is wrong with them.

use super::*;

fn check(text: &str) -> Result<Config, String> {
    let mut faults = Vec::new();
    let config = Config::parse("c", text, FilePath::new("/etc/exporter"), &mut faults);
    if faults.is_empty() {
        return Ok(config);
    }
    let faults: Vec<String> = faults.iter().map(Diagnostic::to_string).collect();
    Err(faults.join("\n"))
}

#[test]
fn no_settings_are_the_defaults() {
    for text in ["", "# nothing\n", "sources:\nlimits:\ntail: {}\n"] {
        assert_eq!(check(text), Ok(Config::default()), "{text}");
    }
}

#[test]
fn a_flag_whose_paths_name_the_appliance_asks_nothing_of_the_header() {
    let of = |paths: &[&str]| {
        Source::of_flag(paths.iter().map(|path| (*path).to_owned()).collect()).appliance
    };
    assert_eq!(of(&["/l/{appliance}.log"]), ApplianceFrom::Path);
    assert_eq!(of(&["/l/*.log"]), ApplianceFrom::Header);
    assert_eq!(of(&["/l/{appliance}.log", "/l/x"]), ApplianceFrom::Header);
}

#[test]
fn relays_that_have_no_effect_are_refused() {
    for (relays, fault) in [
        ("relays: r1", "neither `'*'` nor a list"),
        ("relays: ['']", "must not be empty"),
        ("relays: [r1], appliance: hsm1", "has no effect"),
    ] {
        let text = format!("sources: [{{name: a, paths: [/a], {relays}}}]\n");
        let said = check(&text).unwrap_err();
        assert!(said.contains(fault), "{said}");
    }
}

#[test]
fn settings_as_meant() {
    let config = check(
        "sources:\n\
         - {name: luna, paths: ['/var/log/{appliance}/*.log', '/x/{appliance}/**/{a,b}'], exclude: [/x/y], appliance: path,\n\
         \x20  profile: luna, time_zone: Europe/Berlin, read_from: end}\n\
         - {name: gw, paths: ['-'], appliance: gw1}\n\
         - {name: site, paths: [/s], relays: [r1, 192.0.2.7]}\n\
         - {name: lab, paths: [/l], relays: '*'}\n\
         rules: {directories: [mine, /opt/rules]}\n\
         limits: {series_per_metric: 5, line_bytes: 4096}\n\
         appliances: [gw1]\n\
         state: {directory: state, interval: 1m30s}\n\
         labels: {remote_address: true}\n\
         tail: {watcher: poll, poll: 100ms}\n",
    )
    .unwrap();
    assert_eq!(
        config,
        Config {
            sources: vec![
                Source {
                    name: "luna".into(),
                    input: Input::Files {
                        paths: vec![
                            "/var/log/{appliance}/*.log".into(),
                            "/x/{appliance}/**/{a,b}".into()
                        ],
                        exclude: vec!["/x/y".into()],
                    },
                    appliance: ApplianceFrom::Path,
                    relays: vec![],
                    profile: Some("luna".into()),
                    time_zone: TimeZone::get("Europe/Berlin").unwrap(),
                    read_from: ReadFrom::End,
                },
                Source {
                    name: "gw".into(),
                    input: Input::Files {
                        paths: vec!["-".into()],
                        exclude: vec![],
                    },
                    appliance: ApplianceFrom::Fixed("gw1".into()),
                    relays: vec![],
                    profile: None,
                    time_zone: TimeZone::system(),
                    read_from: ReadFrom::Beginning,
                },
                Source {
                    name: "site".into(),
                    relays: vec!["r1".into(), "192.0.2.7".into()],
                    ..Source::of_flag(vec!["/s".into()])
                },
                Source {
                    name: "lab".into(),
                    relays: vec!["*".into()],
                    ..Source::of_flag(vec!["/l".into()])
                },
            ],
            rule_directories: vec!["/etc/exporter/mine".into(), "/opt/rules".into()],
            limits: Limits {
                table: metric::Limits {
                    series_per_metric: 5,
                    ..metric::Limits::default()
                },
                line_bytes: 4096,
                ..Limits::default()
            },
            appliances: vec!["gw1".into()],
            state: State {
                directory: Some("/etc/exporter/state".into()),
                interval: Duration::from_secs(90),
            },
            labels: Labels {
                remote_address: true
            },
            tail: Tail {
                watcher: Watcher::Poll,
                poll: Duration::from_millis(100),
                ..Tail::default()
            },
            replica: Replica::default(),
            written: Written::default(),
        }
    );
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    for (text, expected) in [
        (
            "source: []",
            "c:1:1: unknown key: `source`\n  hint: did you mean `sources`?",
        ),
        (
            "sources: luna",
            "c:1:10: must be a list: `luna`\n  hint: write `sources: ['luna']`",
        ),
        (
            "sources: [{paths: [/x]}]",
            "c:1:11: missing key `name`: `sources: [{paths: [/x]}]`",
        ),
        (
            "sources:\n- name: a\n  paths: [x/y]\n  read_frm: end\n- name: a\n  paths: []\n  read_from: ende\n",
            "c:3:11: not an absolute path: `x/y`\n  hint: write it from the root, as /var/log/…\n\
             c:4:3: unknown key: `read_frm`\n  hint: did you mean `read_from`?\n\
             c:5:9: another source has this name: `a`\n\
             c:6:3: there is no path to follow: `paths`\n\
             c:7:14: must be beginning or end: `ende`\n  hint: did you mean `end`?",
        ),
        (
            "sources:\n- {name: a, paths: [x/y]}\n- {name: a, paths: ['/x/{hsm}', '/x/[']}\n",
            "c:2:21: not an absolute path: `x/y`\n  hint: write it from the root, as /var/log/…\n\
             c:3:10: another source has this name: `a`\n\
             c:3:21: `{hsm}` has no meaning: `/x/{hsm}`\n  \
             hint: the part that names the appliance is written `{appliance}`, alternatives `{a,b}`\n\
             c:3:33: unclosed character class; missing ']': `/x/[`",
        ),
        (
            "sources: [{name: a, paths: [/x]}, {name: b, paths: [/y, /x]}]",
            "c:1:57: the source `a` comes first and follows this path already: `/x`",
        ),
        (
            "sources: [{name: a, paths: [/x], appliance: path}]",
            "c:1:29: `appliance: path` needs a part of the path that names the appliance: `/x`\n  \
             hint: for instance /var/log/appliances/{appliance}/messages",
        ),
        (
            "appliances: [hsm1, '', hsm1]\nsources: [{name: a, paths: [/x], appliance: hms1}]",
            "c:1:20: must not be empty\nc:1:24: this appliance is listed twice: `hsm1`\n\
             c:2:45: not in the list of appliances, so its lines would count under `other`: `hms1`\n  \
             hint: did you mean `hsm1`?",
        ),
        (
            "sources: [{name: a, paths: [/x], time_zone: Europe/Berln}]",
            "c:1:45: not a time zone that this machine knows: `Europe/Berln`\n  hint: did you mean `Europe/Berlin`?",
        ),
        (
            "limits: {appliances: 0, line_bytes: 1e9, files: 3}\nstate: {directry: x}",
            "c:1:22: must be a whole number from 1 to 1000000: `0`\n\
             c:1:37: must be a whole number from 1024 to 16777216: `1e9`\n\
             c:2:9: unknown key: `directry`\n  hint: did you mean `directory`?",
        ),
        (
            "limits: {appliances: 0, files: 1000001}",
            "c:1:22: must be a whole number from 1 to 1000000: `0`\nc:1:32: must be a whole number from 1 to 1000000: `1000001`",
        ),
        (
            "state: {interval: 5}\ntail: {watcher: inotfy, poll: 0s, rescan: 25h, drain_grace: -1s}",
            "c:1:19: must be a duration from 1ms to 24h, such as 250ms, 5s or 1m30s: `5`\n\
             c:2:17: must be inotify or linemux or poll: `inotfy`\n  hint: did you mean `inotify`?\n\
             c:2:31: must be a duration from 1ms to 24h, such as 250ms, 5s or 1m30s: `0s`\n\
             c:2:43: must be a duration from 1ms to 24h, such as 250ms, 5s or 1m30s: `25h`\n\
             c:2:61: must be a duration from 1ms to 24h, such as 250ms, 5s or 1m30s: `-1s`",
        ),
        (
            "sources: [{name: a, paths: /var/log/x.log, read_from: ende}]",
            "c:1:28: must be a list: `/var/log/x.log`\n  hint: write `paths: ['/var/log/x.log']`\n\
             c:1:55: must be beginning or end: `ende`\n  hint: did you mean `end`?",
        ),
        (
            "limits: {line_bytes: 10, appliances: lots, foo: 1}\nrules: {directries: x}",
            "c:1:22: must be a whole number from 1024 to 16777216: `10`\n\
             c:1:38: must be a whole number from 1 to 1000000: `lots`\n\
             c:1:44: unknown key: `foo`\n  hint: known keys: series_per_metric, series_per_metric_and_appliance, \
             appliances, label_bytes, line_bytes, files, threads, series, bytes, appliance_expiry, born\n\
             c:2:9: unknown key: `directries`\n  hint: did you mean `directories`?",
        ),
        (
            "sources: [{name: a}, {name: b, paths: [/x], syslog: {listen: ['udp://:514']}}]",
            "c:1:11: one of `paths`, `syslog` and `kafka` is missing: `sources: [{name: a}, {name: b, paths: [/x], syslog: {listen: ['udp://:514']}}]`\n\
             c:1:45: a source has one of `paths`, `syslog` and `kafka`: `syslog`\n  hint: make two sources of it",
        ),
        (
            "sources:\n- name: a\n  syslog: {listen: ['udp://:514', 'tcp://:514', 'tcp://:0', 'tcp://:0', 'udp://systemd/a']}\n\
             - name: b\n  syslog: {listen: ['udp://127.0.0.1:514', 'udp://127.0.0.1:515', 'udp://127.0.0.2:515', \
             'udp://127.0.0.1:515', 'udp://systemd/a', 'tcp://systemd/a']}\n",
            "c:5:21: `udp://:514` has this port already: `udp://127.0.0.1:514`\n\
             c:5:90: `udp://127.0.0.1:515` has this port already: `udp://127.0.0.1:515`\n\
             c:5:113: `udp://systemd/a` has this port already: `udp://systemd/a`",
        ),
        (
            "sources:\n- name: a\n  syslog: {listen: ['udp:514', 'tls://:6514'], addresses: {192.0.2.1/24: x}, receive_buffer: 8Mb}\n  \
             appliance: [adress]\n  read_from: end\n",
            "c:3:12: tls:// needs a certificate: `listen`\n  hint: tls: {cert_file: …, key_file: …}\n\
             c:3:21: must be udp://, tcp:// or tls:// with HOST:PORT, [IPv6]:PORT, :PORT or systemd/NAME: `udp:514`\n\
             c:3:48: has no effect, since `appliance` does not name `address`: `addresses`\n\
             c:3:60: has bits behind the length of the network: `192.0.2.1/24`\n\
             c:3:94: must be a size from 64KiB to 1GiB, such as 64MiB: `8Mb`\n\
             c:4:15: must be certificate or address or header: `adress`\n  hint: did you mean `address`?\n\
             c:5:3: has no effect without `paths`: `read_from`",
        ),
        (
            "sources:\n- name: a\n  syslog: {listen: ['udp://:514'], addresses: {192.0.2.1: x}, max_connections: 0}\n  \
             appliance: header\n- name: b\n  syslog: {listen: ['udp://:515']}\n  appliance: certificate\n",
            "c:3:36: has no effect, since `appliance` does not name `address`: `addresses`\n\
             c:3:80: must be a whole number from 1 to 100000: `0`\n\
             c:6:3: `appliance: certificate` needs tls.client_ca_file, who signs the certificates of senders: `syslog`\n\
             c:6:12: only senders over tls:// have a certificate: `listen`\n  hint: appliance: [certificate, address]",
        ),
        (
            "sources:\n- name: a\n  kafka: {brokers: [kafka, ':9092'], topic: a/b, format: xml, read_from: endd, \
             tls: {key_file: k}, sasl: {mechanism: SCRAM, username: '', password_file: p}}\n  read_from: end\n  appliance: path\n",
            "c:3:21: must be HOST:PORT: `kafka`\n  hint: for instance kafka-1.example.org:9093\n\
             c:3:28: must be HOST:PORT: `:9092`\n  hint: for instance kafka-1.example.org:9093\n\
             c:3:45: no name of a topic: letters, digits, `.`, `_` and `-`, at most 249: `a/b`\n\
             c:3:58: must be `text`, or `{json: {message: NAME}}` with the name of the field that holds the message: `xml`\n\
             c:4:3: has no effect without `paths`: `read_from`\n  hint: it belongs below `kafka`\n\
             c:5:14: messages from the network have no path: `path`\n  hint: key, header, or the name of the appliance",
        ),
        (
            "sources:\n- name: a\n  kafka: {brokers: ['k:9092'], topic: a, read_from: endd, tls: {key_file: k}, \
             sasl: {mechanism: SCRAM, username: '', password_file: p}}\n  appliance: path\n\
             - name: b\n  kafka: {brokers: ['k:9092'], topic: a, format: {json: {message: a..b}}}\n- {name: c, kafka: {brokers: [], topics: a}}\n",
            "c:3:53: must be beginning or end: `endd`\n  hint: did you mean `end`?\n\
             c:3:65: has no effect without cert_file: `key_file`\n\
             c:3:97: must be SCRAM-SHA-512 or SCRAM-SHA-256 or PLAIN: `SCRAM`\n\
             c:3:114: must not be empty\n\
             c:4:14: messages from the network have no path: `path`\n  hint: key, header, or the name of the appliance\n\
             c:6:67: must be the name of a field, or several with a dot between: `a..b`\n  hint: for instance message, or log.original\n\
             c:7:20: missing key `topic`: `- {name: c, kafka: {brokers: [], topics: a}}`\n\
             c:7:34: unknown key: `topics`\n  hint: did you mean `topic`?",
        ),
        (
            "sources: [{name: a, kafka: {brokers: ['k:9092'], topic: a}}, {name: b, kafka: {brokers: ['k:9092'], topic: a}}]",
            "c:1:108: the source `a` reads this topic already: `a`",
        ),
        (
            "sources:\n- {name: a, kafka: {brokers: ['k:9092'], topic: a, state_topic: a, lease: 5s}}\n\
             - {name: b, kafka: {brokers: ['k:9092'], topic: b, state_topic: s/, lease: 11m}}\n\
             - {name: c, kafka: {brokers: ['k:9092'], topic: c, lease: 45s}}\n\
             - {name: d, kafka: {brokers: ['k:9092'], topic: d, state_topic: d-state}}\n\
             - {name: e, kafka: {brokers: ['k:9092'], topic: e, state_topic: d-state}}\n",
            "c:2:65: must be another topic than that of the lines: `a`\n\
             c:2:75: must be a duration from 15s to 10m, such as 45s: `5s`\n\
             c:3:65: no name of a topic: letters, digits, `.`, `_` and `-`, at most 249: `s/`\n\
             c:3:76: must be a duration from 15s to 10m, such as 45s: `11m`\n\
             c:4:52: has no effect without `state_topic`: `lease`\n\
             c:6:65: the source `d` keeps its state there already: `d-state`",
        ),
        (
            "sources: [{name: log.file, paths: [/x]}]",
            "c:1:18: this is the name of the source that the flag --log.file makes: `log.file`",
        ),
        (
            "appliances: [hsm*, HSM1, hsm1]",
            "c:1:14: the list takes names, not patterns: `hsm*`\n  hint: write each appliance's name\n\
             c:1:26: this appliance is listed twice: `hsm1`",
        ),
        (
            "limits: {born: lazy}",
            "c:1:16: must be at_once or lazily: `lazy`\n  hint: did you mean `lazily`?",
        ),
        (
            "labels: {remote_address: yes}",
            "c:1:26: must be true or false: `yes`",
        ),
        (
            "limits: {files: 1, files: 2}",
            "c:1:20: this key is there twice: `files`",
        ),
    ] {
        match check(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(found) => assert_eq!(found, expected, "{text}"),
        }
    }
}

/// The blocks of the document that are fenced as `fence`.
fn blocks(fence: &str) -> Vec<&'static str> {
    include_str!("../../docs/configuration.md")
        .split("\n```")
        .filter_map(|part| part.strip_prefix(fence)?.strip_prefix('\n'))
        .collect()
}

#[test]
fn the_examples_of_the_document_are_good() {
    let examples = blocks("yaml");
    assert!(examples.len() > 5);
    for example in &examples {
        if let Err(found) = check(example) {
            panic!("{found}\n{example}");
        }
    }
    // The last one shows every default.
    let all = examples.last().unwrap();
    assert_eq!(check(all), Ok(Config::default()));
    for default in ["line_bytes", "drain_grace", "interval", "remote_address"] {
        assert!(all.contains(default));
    }
}

#[test]
fn every_key_is_in_the_document() {
    let document = include_str!("../../docs/configuration.md");
    let mut keys = 0;
    for section in [
        "x_y_z: 1",
        "sources: [{x_y_z: 1}]",
        "sources: [{name: a, syslog: {listen: [], x_y_z: 1}}]",
        "sources: [{name: a, kafka: {brokers: [], topic: a, x_y_z: 1}}]",
        "rules: {x_y_z: 1}",
        "limits: {x_y_z: 1}",
        "state: {x_y_z: 1}",
        "labels: {x_y_z: 1}",
        "tail: {x_y_z: 1}",
    ] {
        let found = check(section).unwrap_err();
        let (_, known) = found.split_once("known keys: ").unwrap_or_default();
        for key in known.lines().next().unwrap_or_default().split(", ") {
            assert!(
                document.contains(&format!("`{key}`")),
                "{section}: `{key}` is missing"
            );
            keys += 1;
        }
    }
    assert!(keys > 20, "{keys}");
}
