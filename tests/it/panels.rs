//! Every query of every dashboard, asked of a real Prometheus that scrapes the real exporter while it follows the
//! vendors' documented lines. A query that Prometheus refuses fails, and so does an empty answer that nobody explains.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    Child, free_port, http_get, percent_encoded, program, prometheus_command, prometheus_query,
    root, succeeds,
};

/// How long the whole dialogue may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Panels that may be empty here, and why. One that is not empty after all fails too.
const EMPTY: &[(&str, &str)] = &[
    (
        "exporter: Series refused or given up: A",
        "no limit is reached by so few appliances",
    ),
    (
        "exporter: Series refused or given up: B",
        "no budget is reached by so few appliances",
    ),
    ("exporter: Each exporter: I", "the exporters serve no TLS"),
    (
        "exporter: Not received: A",
        "the kernel drops no datagram of so few",
    ),
    (
        "exporter: Not received: C",
        "nobody names another appliance",
    ),
    ("exporter: Not received: D", "no connection is refused"),
];

/// What the vendors' documents have no line for, or only as a trap test, or undo in their next lines, in two rounds: the
/// second undoes some of the first.
const FIELD_LINES: [&[&str]; 2] = [
    &[
        "2026 Nov 20 12:05:01 hsm1 local4 notice ipmievd: Temperature sensor CPU1 Temp . Upper Non-recoverable going high Asserted (Reading 96 > Threshold 95 degrees C)",
        "2026 Nov 20 12:05:01 hsm1 local4 notice ipmievd: Temperature sensor CPU1 Temp . Upper Critical going high Asserted (Reading 88 > Threshold 85 degrees C)",
        "2026 Nov 20 12:05:01 hsm1 local4 notice ipmievd: Temperature sensor CPU1 Temp . Upper Non-critical going high Asserted (Reading 76 > Threshold 75 degrees C)",
        "2026 Nov 20 12:05:01 hsm1 local4 notice ipmievd: Voltage sensor VBAT . Lower Non-critical going low Asserted (Reading 2.90 < Threshold 2.95 Volts)",
        "2026 Nov 20 12:05:01 hsm1 daemon info smartd[1]: Device: /dev/sda [SAT], SMART Usage Attribute: 194 Temperature_Celsius changed from 181 [Raw 33 (Min/Max 18/48)] to 176 [Raw 34 (Min/Max 18/48)]",
        "2026 Nov 20 12:05:01 hsm1 local4 notice ipmievd: Fan sensor Fan3B . Lower Non-recoverable going low (Reading 500 < Threshold 1000 RPM)",
        "2026 Nov 20 12:05:01 hsm1 daemon crit smartd[1]: Device: /dev/sda, Failed SMART usage Attribute: 185 Head Stability.",
        "2026 Nov 20 12:05:01 hsm1 daemon crit smartd[1]: Device: /dev/sda, 8 Currently unreadable (pending) sectors",
        "2026 Nov 20 12:05:01 hsm1 daemon crit smartd[1]: Device: /dev/sda, 3 Offline uncorrectable sectors",
        "2026 Nov 20 12:05:01 hsm1 daemon crit smartd[1]: Device: /dev/nvme0, Critical Warning (0x04): Reliability",
        "2026 Nov 20 12:05:01 hsm1 daemon crit smartd[1]: Device: /dev/nvme0, NVMe error count increased from 943413 to 943415 (2 new, 0 ignored, 0 unknown)",
        "2026 Nov 20 12:05:01 hsm1 daemon info smartd[1]: Device: /dev/nvme0, SMART/Health value: Available Spare changed from 100 to 99",
        "2026 Nov 20 12:05:01 hsm1 daemon info smartd[1]: Device: /dev/nvme0, SMART/Health value: Percentage Used changed from 1 to 2",
        "2026 Nov 20 12:05:01 hsm1 daemon info smartd[1]: Device: /dev/nvme0, SMART/Health value: Media and Data Integrity Errors changed from 0 to 1",
        "2026 Nov 20 12:05:01 hsm1  local5 info  NTLS [1234]: info : 0 : NTLS terminated",
        "2026 Nov 20 12:05:01 hsm1 kern info kernel: k7pf0: [HSM] ALM0014: Low Battery",
        "2026 Nov 20 12:05:01 hsm1 kern crit kernel: EXT4-fs (sda1): Remounting filesystem read-only",
        "2026 Nov 20 12:05:01 hsm1 authpriv info sshd[1]: Failed password for invalid user oracle from 203.0.113.9 port 4711 ssh2",
        "Nov 20 12:05:01  srx1 kmd[1]: IKE negotiation failed with error: Timed out. IKE Version: 1, VPN: office Gateway: gw, Local: 192.0.2.1/500, Remote: 198.51.100.2/500, VR-ID: 0, Role: Initiator",
        "Nov 20 12:05:01  srx1 kmd[1]: KMD_VPN_DOWN_ALARM_USER: VPN office from 198.51.100.2 is down. Local-ip: 192.0.2.1, gateway name: gw, vpn name: office, tunnel-id: 131073, local tunnel-if: st0.0",
    ],
    &[
        "2026 Nov 20 12:06:01 hsm1 daemon crit smartd[1]: Device: /dev/nvme0, NVMe error count increased from 943415 to 943416 (1 new, 0 ignored, 0 unknown)",
        "2026 Nov 20 12:06:01 hsm1 kern info kernel: k7pf0: [HSM] ALM0014: Low Battery",
        "2026 Nov 20 12:06:01 hsm1 kern crit kernel: EXT4-fs (sda1): Remounting filesystem read-only",
        "2026 Nov 20 12:06:01 hsm1 authpriv info sshd[1]: Failed password for invalid user oracle from 203.0.113.9 port 4712 ssh2",
        "Nov 20 12:06:01  srx1 kmd[1]: IKE negotiation failed with error: Timed out. IKE Version: 1, VPN: office Gateway: gw, Local: 192.0.2.1/500, Remote: 198.51.100.2/500, VR-ID: 0, Role: Initiator",
        "Nov 20 12:06:01  srx1 kmd[1]: KMD_VPN_UP_ALARM_USER: VPN office from 198.51.100.2 is up. Local-ip: 192.0.2.1, gateway name: gw, vpn name: office, tunnel-id: 131073, local tunnel-if: st0.0",
    ],
];

/// A line longer than the exporter takes.
const LONG_LINE_BYTES: usize = 100_000;

/// What a dashboard asks.
pub struct Query {
    /// Dashboard, panel and letter.
    pub place: String,
    /// With everything chosen.
    pub expression: String,
}

/// All that dashboards ask.
pub fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(root().join("grafana/dashboards")).expect("dashboards") {
        let path = entry.expect("an entry").path();
        let dashboard: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("JSON");
        let name = path.file_stem().expect("a name").to_string_lossy();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let panels = list(&dashboard["panels"]);
        let closed = panels.iter().flat_map(|row| list(&row["panels"]));
        for panel in panels.iter().cloned().chain(closed) {
            for target in list(&panel["targets"]) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
                queries.push(Query {
                    place: format!(
                        "{name}: {}: {}",
                        text(&panel["title"]),
                        text(&target["refId"])
                    ),
                    expression: as_grafana_asks(&text(&target["expr"])),
                });
            }
        }
        for variable in list(&dashboard["templating"]["list"]) {
            let Some(query) = variable["query"]
                .as_str()
                .and_then(|query| query.strip_prefix("label_values("))
            else {
                continue;
            };
            let (selector, label) = query
                .trim_end_matches(')')
                .rsplit_once(", ")
                .expect("a selector and a label");
            queries.push(Query {
                place: format!("{name}: variable {label}"),
                expression: as_grafana_asks(&format!("count by ({label}) ({selector}) > 0")),
            });
        }
    }
    queries
}

/// The expression with everything chosen, over a minute.
fn as_grafana_asks(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "1m")
        .replace("$__interval_ms", "60000")
        .replace("$__range_s", "60")
        .replace("$__range", "1m")
        .replace("$job", ".+")
        .replace("$appliance", ".+")
        .replace("$instance", ".+")
}

/// Appends to a log.
fn write(log: &Path, text: &[u8]) {
    std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .and_then(|mut log| log.write_all(text))
        .expect("written");
}

/// One round of what a collector's files go through: the documented lines, those from the field, a rotation, a file
/// that is cut, a line that is too long; and what comes over the network: a line, and one that is too long.
fn live(logs: &Path, syslog: u16, round: usize) {
    let mut sender = TcpStream::connect((Ipv4Addr::LOCALHOST, syslog)).expect("a connection");
    let long = "x".repeat(LONG_LINE_BYTES);
    writeln!(
        sender,
        "<13>Nov 20 12:05:01 localhost anybody: hello\n<13>{long}"
    )
    .expect("sent");

    for fixture in ["luna.log", "kmd.log", "clavister.log", "ktls.log"] {
        let lines = root().join("tests/fixtures/catalogue").join(fixture);
        write(
            &logs.join(fixture),
            &std::fs::read(lines).expect("the fixture"),
        );
    }
    let field = logs.join("field.log");
    write(&field, FIELD_LINES[round].join("\n").as_bytes());
    write(&field, b"\n");

    let long = logs.join("long.log");
    write(&long, &vec![b'x'; LONG_LINE_BYTES]);
    write(&long, b"\n");

    if round == 1 {
        std::fs::rename(logs.join("ktls.log"), logs.join("ktls.log.1")).expect("rotated");
        write(&logs.join("ktls.log"), b"");
        std::fs::write(logs.join("cut.log"), b"").expect("cut");
    } else {
        write(&logs.join("cut.log"), b"a line before the cut\n");
    }
}

#[test]
fn every_panel_has_an_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let logs = directory.path().join("logs");
    std::fs::create_dir(&logs).expect("a directory");

    let (port, syslog) = (free_port(), free_port());
    let mut exporter = Child::start(
        Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
            .arg(format!("--log.file={}/*.log", logs.display()))
            .arg(format!("--syslog.listen=tcp://127.0.0.1:{syslog}"))
            .arg(format!("--syslog.listen=udp://127.0.0.1:{syslog}"))
            .arg(format!(
                "--state.dir={}",
                directory.path().join("state").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    );
    let metrics = |port| http_get(port, "/metrics").filter(|answer| answer.status == 200);
    exporter.wait_for("metrics", Duration::from_secs(20), || metrics(port));

    // The demo is a fleet of its own, and a second exporter.
    let demo_port = free_port();
    let mut demo = Child::start(
        Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
            .arg("demo")
            .arg(format!("--web.listen-address=127.0.0.1:{demo_port}")),
    );
    demo.wait_for("metrics", Duration::from_secs(20), || metrics(demo_port));

    let prometheus_port = free_port();
    let config = directory.path().join("prometheus.yml");
    let rules = root().join("rules/alerts/*.yaml");
    std::fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n\
             - job_name: appliance_logs\n  \
               static_configs: [{{targets: ['127.0.0.1:{port}', '127.0.0.1:{demo_port}']}}]\n",
            rules.display()
        ),
    )
    .expect("a configuration");
    let mut prometheus = Child::start(
        Command::new(program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{prometheus_port}")),
    );
    let ask = |expression: &str| prometheus_query(prometheus_port, expression);
    let scraped = |least: usize| {
        move || {
            ask(&format!(
                "min(count_over_time(appliance_log_exporter_rules_loaded[1m])) >= {least}"
            ))
            .filter(|answer| !answer.is_empty())
        }
    };

    // Twice, so that something happens between two scrapes for certain.
    prometheus.wait_for("scrapes", Duration::from_secs(30), scraped(2));
    for round in 0..2 {
        live(&logs, syslog, round);
        prometheus.wait_for(
            "further scrapes",
            Duration::from_secs(30),
            scraped(4 * (round + 1) + 2),
        );
    }

    // Those about shards are asked in a test that has some.
    let mut waiting: BTreeMap<String, String> = queries()
        .into_iter()
        .filter(|query| !query.place.starts_with("shards: "))
        .map(|query| (query.place, query.expression))
        .collect();
    assert!(waiting.len() > 100);
    let all = waiting.clone();
    let deadline = Instant::now() + LIMIT;
    while !waiting.is_empty() && Instant::now() < deadline {
        waiting.retain(|place, expression| {
            ask(expression)
                .unwrap_or_else(|| panic!("{place}: Prometheus refuses {expression}"))
                .is_empty()
        });
        if waiting.keys().all(|place| explained(place)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let unexplained: Vec<String> = waiting
        .iter()
        .filter(|(place, _)| !explained(place))
        .map(|(place, expression)| format!("{place}: {expression}"))
        .collect();
    assert!(
        unexplained.is_empty(),
        "no data for\n{}",
        unexplained.join("\n")
    );
    for (place, reason) in EMPTY {
        assert!(all.contains_key(*place), "{place} is no panel ({reason})");
        assert!(
            waiting.contains_key(*place),
            "{place} has data after all ({reason})"
        );
    }
}

fn explained(place: &str) -> bool {
    EMPTY.iter().any(|(empty, _)| *empty == place)
}

/// The bars of an hour add up to what happened in that hour, in one burst or one by one, however many collectors counted it and
/// however many appliances logged it.
#[test]
fn bars_add_up_to_what_happened() {
    let of_panel = "access: ssh failures by method: A";
    let text = std::fs::read_to_string(root().join("grafana/dashboards/access.json"));
    let dashboard: Value = serde_json::from_str(&text.expect("a file")).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let rows = list(&dashboard["panels"]);
    let panels = rows.iter().flat_map(|row| list(&row["panels"]));
    let bars = panels
        .chain(rows.iter().cloned())
        .find(|panel| panel["title"] == "ssh failures by method")
        .and_then(|panel| list(&panel["targets"]).first().cloned())
        .unwrap_or_else(|| panic!("no {of_panel}"));
    let bars = bars["expr"].as_str().expect("an expression");
    // As Grafana asks with a scrape interval of 15 s and a step of a minute. No sample is just at the edge of a window.
    let bars = as_grafana_asks(&bars.replace("[$__rate_interval]", "[75s] offset 7s"));
    let collectors = |appliance: &str, values: &str| -> String {
        let of = |collector| {
            format!(
                "      - {{series: 'sshd_login_failures_total{{appliance=\"{appliance}\",collector=\"{collector}\",instance=\"{appliance}\",job=\"j\",method=\"password\"}}', values: '{values}'}}\n"
            )
        };
        ["c1", "c2"].map(of).concat()
    };
    let test = format!(
        "rule_files: []\nevaluation_interval: 1m\ntests:\n  - interval: 15s\n    input_series:\n{}{}    promql_expr_test:\n      \
         - {{expr: 'round(sum_over_time(({bars})[1h:1m]))', eval_time: 1h, exp_samples: [{{labels: '{{method=\"password\"}}', value: 180}}]}}\n",
        // 150 of them, one in each scrape; 7 and 23 at once.
        collectors("hsm1", "3x20 3+1x150 153x80"),
        collectors("hsm2", "3x40 10x20 33x200"),
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), test).expect("it can be written");
    succeeds(
        Command::new(program("promtool"))
            .args(["test", "rules"])
            .arg(file.path()),
    );
}

/// How many appliances the landing page is opened with, for how long they have been recorded, and how often, in seconds.
const FLEET: u64 = 300;
const RECORDED: u64 = 6 * 3600;
const STEP: u64 = 15;

/// What the landing page asks about, of so many appliances, as the recording rules and a scrape leave it: what it asks over
/// time with each sample, the rest with those of the last minutes.
fn fleet(end: u64) -> String {
    let series = |name: &str, each: &[&str], last: u64, value: &dyn Fn(u64, u64) -> u64| {
        let mut text = format!("# TYPE {name} gauge\n");
        for number in 0..FLEET {
            for labels in each {
                for at in (end - last..=end).step_by(STEP as usize) {
                    let value = value(number, at);
                    text += &format!(
                        "{name}{{appliance=\"a{number}\",site=\"s{}\"{labels}}} {value} {at}\n",
                        number % 3
                    );
                }
            }
        }
        text
    };
    let recent = 300;
    let per_device: Vec<String> = (0..10).map(|name| format!(",vpn=\"v{name}\"")).collect();
    let per_device: Vec<&str> = per_device.iter().map(String::as_str).collect();
    let events: Vec<String> = (0..20)
        .map(|event| format!(",job=\"appliance_logs\",program=\"p\",event=\"e{event}\""))
        .collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let states = [
        ",state=\"in_service\"",
        ",state=\"in_service_trouble\"",
        ",state=\"out_of_service\"",
        ",state=\"off_line\"",
    ];
    let firing = ",alertname=\"ApplianceFanFailed\",alertstate=\"firing\",severity=\"warning\",name=\"Fan1B\",component=\"fan\"";
    let since =
        ",alertname=\"ApplianceFanFailed\",severity=\"warning\",name=\"Fan1B\",component=\"fan\"";
    [
        // Every tenth appliance comes and goes.
        series("appliance:worst:max", &[""], RECORDED, &|number, at| {
            u64::from(number % 10 == 0 && at % 3600 < 900) * 2
        }),
        series(
            "appliance:last_message_timestamp_seconds:max",
            &[""],
            RECORDED,
            &|_, at| at - 7,
        ),
        series(
            "appliance:alert:since_timestamp_seconds",
            &[since],
            recent,
            &|_, _| end - 900,
        ),
        series("ALERTS", &[firing], recent, &|_, _| 1),
        series(
            "appliance:service_state:latest",
            &states,
            recent,
            &|number, _| number % 2,
        ),
        series("appliance:ntls_down:latest", &[""], recent, &|_, _| 0),
        series(
            "appliance:ipsec_vpn_down:latest",
            &per_device,
            recent,
            &|number, _| number % 2,
        ),
        series(
            "ntls_certificate_expiry_timestamp_seconds",
            &[",job=\"appliance_logs\""],
            recent,
            &|_, _| end + 86_400,
        ),
        series(
            "appliance_expected",
            &[",job=\"appliance_logs\""],
            recent,
            &|_, _| 1,
        ),
        series(
            "log_event_last_timestamp_seconds",
            &events,
            recent,
            &|number, _| end - number,
        ),
        "# EOF\n".to_owned(),
    ]
    .concat()
}

/// The page that everybody has open: all its panels together cost Prometheus less than a second of a processor.
#[test]
fn the_landing_page_costs_less_than_a_second_for_three_hundred_appliances() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let now = jiff::Timestamp::now().as_second() as u64;
    let end = now - now % STEP;
    std::fs::write(path("fleet.om"), fleet(end)).expect("it can be written");
    succeeds(
        Command::new(program("promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
            .args([path("fleet.om"), path("data")]),
    );
    std::fs::write(path("prometheus.yml"), "").expect("a configuration");
    let port = free_port();
    let mut prometheus = Child::start(&mut prometheus_command(
        &path("prometheus.yml"),
        &path("data"),
        port,
    ));
    prometheus.wait_for("readiness", LIMIT, || {
        http_get(port, "/-/ready").filter(|answer| answer.status == 200)
    });

    let text = std::fs::read_to_string(root().join("grafana/dashboards/fleet.json"));
    let dashboard: Value = serde_json::from_str(&text.expect("a file")).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let before = prometheus.cpu_seconds();
    let mut answers = 0;
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let asked = target["expr"].as_str().expect("an expression");
            let asked = asked
                .replace("$__range", "6h")
                .replace("$__rate_interval", "1m");
            let asked = percent_encoded(&as_grafana_asks(&asked));
            let place = match target["range"] == true {
                true => format!(
                    "query_range?query={asked}&start={}&end={end}&step={STEP}",
                    end - RECORDED
                ),
                false => format!("query?query={asked}&time={end}"),
            };
            let answer = http_get(port, &format!("/api/v1/{place}")).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            answers += list(&answer.json()["data"]["result"]).len();
        }
    }
    let cost = prometheus.cpu_seconds() - before;
    eprintln!("the landing page, {FLEET} appliances: {cost:.2} s of a processor, {answers} series");
    assert!(answers > FLEET as usize, "{answers}");
    assert!(cost < 1.0, "{cost:.2} s");
}
