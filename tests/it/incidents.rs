//! Incidents as data: what appliances log and when, what is stopped and started meanwhile, and who is told what.
//!
//! Each file of `tests/fixtures/incidents/` is played through the real exporter, Prometheus and Alertmanager with what is
//! shipped. A minute of an incident is a second here: windows and holds of the rules are scaled by the mixin's
//! `timeFactor`, Alertmanager's intervals likewise, and scrape and evaluation come each second. `make long-incidents` plays them
//! slower, up to real time: INCIDENT_MINUTE is how many seconds a minute has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::alertmanager::start_alertmanager;
use crate::alerts::alerts;
use crate::paging::{changed, rules_with};
use crate::support::{
    Child, Webhook, free_port, http_get, http_post, program, prometheus_command, prometheus_query,
    root, succeeds, wait_for,
};

/// The seconds that a minute of an incident has, one try after the other: what INCIDENT_MINUTE says, or 1 and then 5. At one
/// second a minute, a program that waits for the processor for two seconds is a program that is away for two minutes, and an
/// alert that says so is right. What is wrong with the rules, or with the exporter, is wrong at five seconds, too.
fn minutes() -> Vec<u64> {
    let wanted = std::env::var("INCIDENT_MINUTE").ok();
    let tries = wanted.map_or(vec![1, 5], |text| vec![text.parse().expect("seconds")]);
    assert!(tries.iter().all(|seconds| (1..=60).contains(seconds)));
    tries
}

/// How long a program may take to start, and a notification to arrive, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Play {
    /// What it is about.
    #[allow(dead_code, reason = "for the reader")]
    about: String,
    /// How many exporters receive everything.
    #[serde(default = "one")]
    collectors: usize,
    /// The label `site` of each of them, if they are at different ones.
    #[serde(default)]
    sites: Vec<String>,
    /// Thresholds of the mixin.
    #[serde(default)]
    thresholds: BTreeMap<String, f64>,
    lines: Vec<Lines>,
    /// What is sent over TCP; every exporter listens then.
    #[serde(default)]
    sent: Vec<Sent>,
    #[serde(default)]
    programs: Vec<Action>,
    /// Everything that is told; what is not here must not be told.
    told: Vec<Told>,
    /// How long it lasts after its last line.
    minutes_after: u64,
}

/// Lines of one appliance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    of: String,
    at: u64,
    /// Said again so many times, each a minute later.
    #[serde(default)]
    again: u64,
    /// The collectors that receive them, by number; all if none is named.
    #[serde(default)]
    only: Vec<usize>,
    /// By how many seconds the appliance's clock is ahead.
    #[serde(default)]
    ahead: i64,
    /// Each line so often at once.
    #[serde(default = "one")]
    burst: usize,
    say: Vec<String>,
}

/// A connection to each exporter that sends this and closes in order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    at: u64,
    /// So many times more, each a minute later.
    #[serde(default)]
    again: u64,
    bytes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    at: u64,
    #[serde(rename = "do")]
    what: What,
    /// An exporter's number.
    #[serde(default)]
    exporter: usize,
    /// An appliance.
    #[serde(default)]
    of: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum What {
    KillExporter,
    StartExporter,
    ReloadExporter,
    /// Removes the state directory of an exporter that was killed.
    LoseState,
    /// The exporter forgets an appliance.
    Forget,
    /// logrotate copies an exporter's log and truncates it.
    CopyAndTruncate,
    /// Somebody removes an exporter's log; the next line goes to a new one.
    RemoveLog,
    StopPrometheus,
    /// A stop, too, where it still runs.
    RestartPrometheus,
    ReloadPrometheus,
    RestartAlertmanager,
    /// Half an hour in which nobody is told of an appliance.
    Silence,
}

/// Notifications about one alert of one appliance; of none where it is about an exporter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    #[serde(default)]
    of: String,
    /// The alert's label `site`, or none.
    #[serde(default)]
    site: String,
    alert: String,
    /// Not before this minute.
    from: u64,
    /// How often it is told to fire.
    #[serde(default = "one")]
    times: usize,
    /// Whether its end must be told, or must not.
    ends: Option<bool>,
}

fn one() -> usize {
    1
}

fn plays() -> Vec<(String, Play)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("tests/fixtures/incidents"))
        .expect("incidents")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let text = std::fs::read_to_string(&path).expect("it can be read");
            let play =
                serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, play)
        })
        .collect()
}

/// These need the brokers of a Kafka, which no incident has: `rules/alerts/tests/shards_test.yaml` plays them alone.
const OF_SHARDS: [&str; 7] = [
    "ApplianceInTwoPartitions",
    "ApplianceShardDeaf",
    "ApplianceShardLogReplaced",
    "ApplianceShardLostRecords",
    "ApplianceShardOwnedTwice",
    "ApplianceShardStateMissing",
    "ApplianceShardUnowned",
];

#[test]
fn every_alert_that_wakes_somebody_has_an_incident() {
    let played: BTreeSet<String> = plays()
        .into_iter()
        .flat_map(|(_, play)| play.told)
        .map(|told| told.alert)
        .collect();
    for (name, rule) in alerts() {
        if rule.labels["severity"] == "critical" {
            let is_played = played.contains(&name);
            let is_of_shards = OF_SHARDS.contains(&name.as_str());
            assert_ne!(is_played, is_of_shards, "{name} is in no incident");
        }
    }
}

#[test]
fn what_each_appliance_does_tells_what_it_should_and_nothing_else() {
    play("each_alert");
}

#[test]
fn what_happened_while_the_exporter_was_away_is_told_once() {
    play("away");
}

#[test]
fn two_collectors_are_one_voice() {
    play("two_collectors");
}

#[test]
fn an_appliance_is_told_of_with_its_site() {
    play("sites");
}

#[test]
fn what_nobody_had_thought_of_tells_what_it_should() {
    play("invented");
}

#[test]
fn a_site_that_falls_silent_is_one_page() {
    play("quiet_site");
}

#[test]
fn who_stops_in_the_middle_of_a_message_is_told_of() {
    play("receiving");
}

#[test]
fn people_at_work_neither_end_nor_repeat_what_is_told() {
    play("people");
}

#[test]
fn programs_and_logs_that_come_and_go_neither_end_nor_repeat_what_is_told() {
    play("programs");
}

#[test]
fn a_hand_over_neither_ends_nor_repeats_what_is_told() {
    play("handover");
}

#[test]
fn a_state_that_is_lost_is_read_again() {
    play("state_lost");
}

#[test]
fn a_healthy_day_tells_nothing() {
    play("healthy");
}

fn play(name: &str) {
    let (_, play) = plays()
        .into_iter()
        .find(|(known, _)| known == name)
        .unwrap_or_else(|| panic!("no incident {name}"));
    let mut faults = Vec::new();
    for minute in minutes() {
        faults = faults_of(name, &play, minute);
        if faults.is_empty() {
            return;
        }
        eprintln!("{name}, {minute} s a minute:\n{}", faults.join("\n"));
    }
    panic!("{name}:\n{}", faults.join("\n"));
}

/// Plays an incident whose minutes have so many seconds, and says what was told wrongly.
fn faults_of(name: &str, play: &Play, minute: u64) -> Vec<String> {
    let mut stage = Stage::set(play, minute);
    let start = Instant::now();
    let moment = |at: u64| start + Duration::from_secs(at * minute);
    enum Step<'a> {
        Say(&'a Lines),
        Send(&'a Sent),
        Do(&'a Action),
    }
    let mut steps: Vec<(u64, Step)> = Vec::new();
    for lines in &play.lines {
        for round in 0..=lines.again {
            steps.push((lines.at + round, Step::Say(lines)));
        }
    }
    for sent in &play.sent {
        for round in 0..=sent.again {
            steps.push((sent.at + round, Step::Send(sent)));
        }
    }
    steps.extend(
        play.programs
            .iter()
            .map(|action| (action.at, Step::Do(action))),
    );
    steps.sort_by_key(|(at, _)| *at);
    let end = steps.last().map_or(0, |(at, _)| *at) + play.minutes_after;
    for (at, step) in steps {
        wait_until(moment(at));
        match step {
            Step::Say(lines) => stage.say(lines),
            Step::Send(sent) => stage.send(sent),
            Step::Do(action) => stage.act(action),
        }
    }
    wait_until(moment(end));

    // What must be told is waited for; what must not be is looked for then.
    let all = |told: &Told| {
        let (fires, ends) = stage.told(told);
        fires.len() >= told.times && (told.ends != Some(true) || !ends.is_empty())
    };
    let deadline = Instant::now() + PATIENCE;
    while !play.told.iter().all(all) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut faults = Vec::new();
    for told in &play.told {
        let (fires, ends) = stage.told(told);
        let minutes: Vec<u64> = fires
            .iter()
            .map(|at| at.duration_since(start).as_secs() / minute)
            .collect();
        let over: Vec<u64> = ends
            .iter()
            .map(|at| at.duration_since(start).as_secs() / minute)
            .collect();
        eprintln!(
            "{name}: {} {} {}: expected from minute {}, fired in {minutes:?}, ended in {over:?}",
            told.site, told.of, told.alert, told.from
        );
        let early = minutes.first().is_some_and(|first| *first < told.from);
        let ended = told.ends.is_none_or(|wanted| wanted != ends.is_empty());
        if fires.len() != told.times || !ended || early {
            faults.push(format!(
                "{} {} {}: fired in minutes {minutes:?}, wanted {} from {} on; ended {} times, wanted an end: {:?}",
                told.site, told.of, told.alert, told.times, told.from, over.len(), told.ends
            ));
        }
    }
    for (site, of, alert) in stage.everything_told() {
        if !play
            .told
            .iter()
            .any(|told| told.site == site && told.of == of && told.alert == alert)
        {
            faults.push(format!("{site} {of} {alert}: nobody should be told"));
        }
    }
    faults
}

fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// The programs at work.
struct Stage {
    /// The seconds of a minute.
    minute: u64,
    logs: Vec<File>,
    exporters: Vec<Option<Child>>,
    ports: Vec<u16>,
    /// Where the exporters listen for syslog, if anything is sent.
    syslog_ports: Vec<u16>,
    prometheus: Option<Child>,
    prometheus_port: u16,
    alertmanager: Option<Child>,
    alertmanager_port: u16,
    webhook: Webhook,
    /// Dropped after the programs that write to it.
    directory: tempfile::TempDir,
}

impl Stage {
    fn set(play: &Play, minute: u64) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let webhook = Webhook::start();
        let [alertmanager_port, prometheus_port] = [free_port(), free_port()];
        let ports: Vec<u16> = (0..play.collectors).map(|_| free_port()).collect();
        let syslog_ports = match play.sent.is_empty() {
            true => Vec::new(),
            false => (0..play.collectors).map(|_| free_port()).collect(),
        };
        let path = |name: &str| directory.path().join(name);

        std::fs::write(path("alertmanager.yml"), notifying(webhook.port, minute))
            .expect("it can be written");
        std::fs::copy(
            root().join("deploy/alertmanager/appliance.tmpl"),
            path("appliance.tmpl"),
        )
        .expect("a copy");
        let thresholds: String = play
            .thresholds
            .iter()
            .map(|(name, value)| match name.ends_with("_seconds") {
                // A second of an incident that has a minute in each second.
                true => format!("{name}: {}, ", value * minute as f64),
                false => format!("{name}: {value}, "),
            })
            .collect();
        let settings = format!("timeFactor: {minute}/60, thresholds+: {{ {thresholds} }}");
        // Four times a minute, as shipped, but never more often than each second.
        let interval = minute.div_ceil(4);
        std::fs::write(path("rules.yml"), rules_with(&settings)).expect("it can be written");
        let targets: Vec<String> = ports
            .iter()
            .map(|port| format!("'127.0.0.1:{port}'"))
            .collect();
        let static_configs = match play.sites.as_slice() {
            [] => format!("- targets: [{}]", targets.join(", ")),
            sites => (targets.iter().zip(sites))
                .map(|(target, site)| {
                    format!("- {{targets: [{target}], labels: {{site: {site}}}}}")
                })
                .collect::<Vec<_>>()
                .join("\n      "),
        };
        let config = changed(
            "deploy/prometheus/prometheus.yml",
            &[
                (
                    "scrape_interval: 15s",
                    &format!("scrape_interval: {interval}s"),
                ),
                (
                    "evaluation_interval: 15s",
                    &format!("evaluation_interval: {interval}s"),
                ),
                (
                    "/etc/prometheus/appliance/*.yaml",
                    &path("rules.yml").display().to_string(),
                ),
                ("localhost:9093", &format!("127.0.0.1:{alertmanager_port}")),
                ("- targets: ['localhost:10067']", &static_configs),
            ],
        );
        std::fs::write(path("prometheus.yml"), config).expect("it can be written");
        let logs = (0..play.collectors)
            .map(|number| open_log(&path(&format!("messages{number}"))))
            .collect();
        let mut stage = Stage {
            minute,
            logs,
            exporters: (0..play.collectors).map(|_| None).collect(),
            ports,
            syslog_ports,
            prometheus: None,
            prometheus_port,
            alertmanager: None,
            alertmanager_port,
            webhook,
            directory,
        };
        stage.start_alertmanager();
        for number in 0..play.collectors {
            stage.start_exporter(number);
        }
        stage.start_prometheus();
        wait_for("the Watchdog", PATIENCE, || {
            let up = prometheus_query(prometheus_port, "appliance:exporter:up == 1")?;
            let beats = stage
                .webhook
                .posts()
                .iter()
                .any(|post| post.path == "/deadman");
            (up.len() == play.collectors && beats).then_some(())
        });
        stage
    }

    fn start_exporter(&mut self, number: usize) {
        let path = |name: &str| self.directory.path().join(format!("{name}{number}"));
        let port = self.ports[number];
        let listen = self.syslog_ports.get(number);
        let mut child = Child::start(
            Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
                .args(listen.map(|port| format!("--syslog.listen=tcp://127.0.0.1:{port}")))
                .arg(format!("--log.file={}", path("messages").display()))
                .arg(format!("--state.dir={}", path("state").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--web.enable-lifecycle"),
        );
        child.wait_for("readiness", PATIENCE, || {
            http_get(port, "/-/ready").filter(|answer| answer.status == 200)
        });
        self.exporters[number] = Some(child);
    }

    fn start_alertmanager(&mut self) {
        let path = |name: &str| self.directory.path().join(name);
        self.alertmanager = Some(start_alertmanager(
            &path("alertmanager.yml"),
            &path("alertmanager"),
            self.alertmanager_port,
        ));
    }

    fn start_prometheus(&mut self) {
        let path = |name: &str| self.directory.path().join(name);
        let port = self.prometheus_port;
        self.prometheus = Some(Child::start(
            prometheus_command(&path("prometheus.yml"), &path("prometheus"), port)
                // An alert that is not sent again ends four times this after it was sent, as after four minutes when nothing is
                // scaled.
                .arg(format!(
                    "--rules.alert.resend-delay={}s",
                    self.minute.max(15)
                ))
                // Its ten minutes are ten minutes of the incident.
                .arg(format!(
                    "--rules.alert.for-grace-period={}s",
                    10 * self.minute
                )),
        ));
    }

    fn say(&mut self, lines: &Lines) {
        let ahead = jiff::SignedDuration::from_secs(lines.ahead);
        let now = jiff::Timestamp::now() + ahead;
        let now = now.strftime("%Y %b %e %H:%M:%S");
        for (number, log) in self.logs.iter_mut().enumerate() {
            if !lines.only.is_empty() && !lines.only.contains(&number) {
                continue;
            }
            for _ in 0..lines.burst {
                for line in &lines.say {
                    writeln!(log, "{now} {}  {line}", lines.of).expect("it can be written");
                }
            }
        }
    }

    fn send(&self, sent: &Sent) {
        for port in &self.syslog_ports {
            let mut sender = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).expect("it listens");
            sender.write_all(sent.bytes.as_bytes()).expect("sent");
        }
    }

    fn act(&mut self, action: &Action) {
        let number = action.exporter;
        let path = |name: &str| self.directory.path().join(format!("{name}{number}"));
        match action.what {
            What::KillExporter => self.exporters[number] = None,
            What::StartExporter => self.start_exporter(number),
            What::ReloadExporter => {
                let answer = http_post(self.ports[number], "/-/reload", "text/plain", b"");
                assert!(answer.is_some_and(|answer| answer.status == 200));
            }
            What::LoseState => std::fs::remove_dir_all(path("state")).expect("it is removed"),
            What::Forget => {
                let url = format!("http://127.0.0.1:{}", self.ports[number]);
                succeeds(
                    Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
                        .args(["forget", "--url", &url, &action.of]),
                );
            }
            What::CopyAndTruncate => {
                let config = path("logrotate");
                let log = path("messages");
                let text = format!("{} {{\nrotate 2\ncopytruncate\n}}\n", log.display());
                std::fs::write(&config, text).expect("it can be written");
                succeeds(
                    Command::new(program("logrotate"))
                        .args(["--force", "--state"])
                        .args([path("logrotate-state"), config]),
                );
            }
            What::RemoveLog => {
                std::fs::remove_file(path("messages")).expect("it is removed");
                self.logs[number] = open_log(&path("messages"));
            }
            What::StopPrometheus => self.prometheus = None,
            What::RestartPrometheus => {
                self.prometheus = None;
                self.start_prometheus();
            }
            What::ReloadPrometheus => {
                let prometheus = self.prometheus.as_ref().expect("it runs");
                prometheus.signal("HUP");
            }
            What::RestartAlertmanager => {
                // In order, so that it keeps what it has notified of.
                let mut alertmanager = self.alertmanager.take().expect("it runs");
                alertmanager.signal("TERM");
                alertmanager.wait_for_end(PATIENCE);
                self.start_alertmanager();
            }
            What::Silence => {
                let url = format!("http://127.0.0.1:{}", self.alertmanager_port);
                succeeds(
                    Command::new(program("amtool"))
                        .args(["silence", "add", "--author=test", "--comment=work"])
                        .arg(format!("--alertmanager.url={url}"))
                        .arg(format!("--duration={}s", 30 * self.minute))
                        .arg(format!("appliance={}", action.of)),
                );
            }
        }
    }

    /// When this was told to fire, and when it was told to be over.
    fn told(&self, told: &Told) -> (Vec<Instant>, Vec<Instant>) {
        let mut at = (Vec::new(), Vec::new());
        for post in self.webhook.posts() {
            let group = &post.body["groupLabels"];
            let label = |name: &str| group[name].as_str().unwrap_or_default();
            let is_it = label("alertname") == told.alert
                && label("appliance") == told.of
                && label("site") == told.site;
            if !is_it {
                continue;
            }
            match post.body["status"] == "firing" {
                true => at.0.push(post.at),
                false => at.1.push(post.at),
            }
        }
        at
    }

    /// What was told at all, by site, appliance and alert.
    fn everything_told(&self) -> BTreeSet<(String, String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        self.webhook
            .posts()
            .into_iter()
            .map(|post| post.body["groupLabels"].clone())
            .map(|group| {
                let label = |name| text(&group[name]);
                (label("site"), label("appliance"), label("alertname"))
            })
            .filter(|(.., alert)| alert != "ApplianceWatchdog")
            .collect()
    }
}

/// Opens a log as a collector does.
fn open_log(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options.open(path).expect("a log file")
}

/// The shipped configuration of Alertmanager with its intervals scaled, every receiver a webhook.
fn notifying(port: u16, minute: u64) -> String {
    let path = root().join("deploy/alertmanager/alertmanager.yml");
    let text = std::fs::read_to_string(path).expect("it can be read");
    let mut config: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    for receiver in config["receivers"].as_sequence_mut().expect("receivers") {
        let name = receiver["name"].as_str().expect("a name").to_owned();
        if name == "appliance-tickets" {
            let url = format!("http://127.0.0.1:{port}/tickets");
            *receiver = serde_yaml::from_str(&format!(
                "{{name: {name}, webhook_configs: [{{url: '{url}'}}]}}"
            ))
            .expect("YAML");
        }
    }
    let text = serde_yaml::to_string(&config).expect("YAML");
    let scaled = |line: &str| -> Option<String> {
        let (key, value) = line.split_once(": ")?;
        let waits = ["group_wait", "group_interval", "repeat_interval"];
        if !waits.contains(&key.trim_start_matches([' ', '-'])) {
            return None;
        }
        let unit = value.chars().last()?;
        let number: u64 = value.trim_end_matches(unit).parse().ok()?;
        let seconds = number * BTreeMap::from([('s', 1), ('m', 60), ('h', 3600)]).get(&unit)?;
        // Nothing is told again within an incident.
        let repeats = key.ends_with("repeat_interval") && unit != 's';
        Some(match repeats {
            true => format!("{key}: 24h"),
            false => format!("{key}: {}ms", (seconds * 1000 * minute / 60).max(1)),
        })
    };
    text.lines()
        .map(|line| scaled(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect::<String>()
        .replace("http://localhost:9095", &format!("http://127.0.0.1:{port}"))
}
