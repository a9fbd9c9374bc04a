//! Replicas and brokers of a real Apache Kafka die, are stopped and come back, while lines are written, Prometheus scrapes,
//! and the state of shards is in a topic. The long ones are run by `make kafka`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::broker::Cluster;
use crate::exporter::{Exporter, LONG};
use crate::kafka::rsyslogd;
use crate::kafka_state::{LEASE, METRIC, Watcher, assert_nothing_lost, own, prepare, start};
use crate::support::{Child, free_port, prometheus_command, prometheus_query, root};

/// Writes lines until it is stopped, of one appliance more every two seconds: births at any point of a hand-over. Returns how
/// many lines there were.
pub fn writer(bootstrap: String, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let producer = crate::broker::producer(&bootstrap);
        let (mut written, begun) = (0, Instant::now());
        while !stop.load(Ordering::SeqCst) {
            let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
            for number in 0..APPLIANCES + begun.elapsed().as_secs() as usize / 2 {
                let name = format!("hsm{number}");
                let text =
                    format!("Failed password for admin{written} from 192.0.2.1 port 22 ssh2");
                let line = format!("{now} {name} sshd[7]: {text}");
                crate::broker::send(&producer, "logs", &name, &line);
                written += 1;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        crate::broker::flush(&producer);
        written
    })
}

const PARTITIONS: i32 = 6;
const APPLIANCES: usize = 30;
const REPLICAS: usize = 3;

/// Replicas on three brokers, and a Prometheus that scrapes all places where one may be.
struct Fleet {
    cluster: Cluster,
    config: String,
    /// Where replicas are, and where a substitute of each may be.
    ports: [u16; 2 * REPLICAS],
    replicas: Vec<Exporter>,
    prometheus: (Child, u16),
    _directory: tempfile::TempDir,
}

impl Fleet {
    fn start() -> Self {
        let cluster = Cluster::start(3);
        let (directory, config) = prepare(&cluster, PARTITIONS);
        let ports = [(); 2 * REPLICAS].map(|()| free_port());
        let replicas = (0..REPLICAS)
            .map(|at| start(&config, &format!("{at}/{REPLICAS}"), ports[at]))
            .collect();
        let port = free_port();
        let targets = ports.map(|port| format!("127.0.0.1:{port}"));
        let file = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 5s}}\nscrape_configs:\n- job_name: exporter\n  \
             static_configs: [{{targets: {targets:?}}}]\n  metric_relabel_configs:\n  \
             - {{source_labels: [appliance], regex: (.+), target_label: instance}}\nrule_files: ['{}']\n",
            root().join("rules/alerts/*.yaml").display()
        );
        std::fs::write(&file, text).expect("it can be written");
        let data = directory.path().join("prometheus");
        let child = Child::start(&mut prometheus_command(&file, &data, port));
        Self {
            cluster,
            config,
            ports,
            replicas,
            prometheus: (child, port),
            _directory: directory,
        }
    }

    /// Starts a replica again that was killed.
    fn restart(&mut self, at: usize) {
        self.replicas[at].child.wait_for_end(LONG);
        self.replicas[at] = start(&self.config, &format!("{at}/{REPLICAS}"), self.ports[at]);
    }

    fn query(&mut self, what: &str, expression: &str, is: impl Fn(f64) -> bool) -> f64 {
        let (child, port) = (&mut self.prometheus.0, self.prometheus.1);
        child.wait_for(what, LONG, || {
            let found = prometheus_query(port, expression)?;
            let value: f64 = found.first()?["value"][1].as_str()?.parse().ok()?;
            is(value).then_some(value)
        })
    }

    /// Waits until all shards are shown.
    fn wait_until_shown(&mut self) {
        let begun = Instant::now();
        let all = "sum(appliance_log_exporter_shard_state{state=\"active\"})";
        loop {
            let found = prometheus_query(self.prometheus.1, all);
            let value = found.and_then(|found| found.first()?["value"][1].as_str()?.parse().ok());
            if value == Some(PARTITIONS) {
                break;
            }
            if begun.elapsed() > LONG {
                let outputs = self.replicas.iter_mut().map(|one| one.child.output());
                let outputs = outputs.collect::<Vec<_>>().join("\n---\n");
                panic!("{value:?} of {PARTITIONS} shards are shown:\n{outputs}");
            }
            pause(1);
        }
        println!("  all are shown after {:.1?}", begun.elapsed());
    }

    /// Each of the first appliances has faults that last: a fan, its service, a disk, its HSM. Another fan of each fails.
    fn break_appliances(&self) {
        let faults = [
            "ipmievd: Fan sensor Fan3B . Lower Critical going low (Reading 0 < Threshold 2000 RPM)",
            "ipmievd: Fan sensor Fan1A . Lower Critical going low (Reading 0 < Threshold 2000 RPM)",
            "sysstatd: Luna System State Server - OOS Errors: 15,100,60!",
            "smartd[7]: Device: /dev/sda, 8 Currently unreadable (pending) sectors",
            "kernel: k7pf0: [HSM] ALM0008: Hard tamper - enclosure penetration",
        ];
        self.log(&faults);
    }

    /// The other fan of each is mended.
    fn mend_fans(&self) {
        self.log(&["ipmievd: Fan sensor Fan1A . Lower Critical going low (Reading 9000 < Threshold 2000 RPM)"]);
    }

    /// Each of the first appliances logs these.
    fn log(&self, texts: &[&str]) {
        let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
        let names: Vec<String> = (0..APPLIANCES).map(|at| format!("hsm{at}")).collect();
        let lines = names.iter().flat_map(|name| {
            let line = |text: &&str| (name.as_str(), format!("{now} {name} {text}"));
            texts.iter().map(line).collect::<Vec<_>>()
        });
        self.cluster.write("logs", lines);
    }

    /// Faults that last have been alerts all the time, and gauges had no other values than appliances gave them.
    fn check_alerts(&mut self) {
        let port = self.prometheus.1;
        let list = |expression: &str| -> BTreeMap<String, f64> {
            let found = prometheus_query(port, expression).expect("Prometheus answers");
            let of = |one: &serde_json::Value| {
                let value = one["value"][1].as_str()?.parse().ok()?;
                Some((one["metric"]["alertname"].as_str()?.to_owned(), value))
            };
            found.iter().filter_map(of).collect()
        };
        let firing = "ALERTS{alertstate=\"firing\"}";
        let fired = list(&format!(
            "count by (alertname) (max_over_time({firing}[1h]))"
        ));
        println!("alerts that fired: {fired:?}");
        // That one was mended.
        let firing = firing.replace('}', ",name!=\"Fan1A\"}");
        let firing = list(&format!("count by (alertname) ({firing})"));
        println!("alerts at the end: {firing:?}");
        let began = "ALERTS_FOR_STATE{appliance!=\"\",name!=\"Fan1A\"}[1h]";
        let changes = list(&format!("max by (alertname) (changes({began}))"));
        println!("alerts that began anew: {changes:?}");
        for alert in [
            "ApplianceFanFailed",
            "ApplianceOutOfService",
            "ApplianceDiskPendingSectors",
            "ApplianceHsmTampered",
        ] {
            assert_eq!(firing.get(alert), Some(&(APPLIANCES as f64)), "{alert}");
            assert_eq!(changes.get(alert), Some(&0.0), "{alert}");
        }
        let gauges = [
            ("ipmi_sensor_state{name=\"Fan3B\"}", 2.0),
            ("appliance_service_state{state=\"out_of_service\"}", 1.0),
            ("smart_pending_sectors", 8.0),
        ];
        for (series, wanted) in gauges {
            for over in ["min", "max"] {
                let value = format!("{over}({over}_over_time({series}[1h]))");
                self.query(&value, &value, |value| value == wanted);
            }
        }
        let mended = "changes(ipmi_sensor_state{name=\"Fan1A\"}[1h])";
        for over in ["min", "max"] {
            self.query("mended", &format!("{over}({mended})"), |value| value == 1.0);
        }
        // Of us, only what says that targets are away that were started for a while.
        let targets: Vec<String> = (self.ports[..REPLICAS].iter())
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let ours = format!(
            "ALERTS{{alertstate=\"firing\",component=\"exporter\",alertname!=\"ApplianceWatchdog\",instance=~\"{}|\"}}",
            targets.join("|")
        );
        assert_eq!(list(&ours), BTreeMap::new());
    }

    /// Says how busy the machine was, and what Prometheus missed.
    fn explain(&self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("load: {}", load.trim());
        let missed = "sum by (instance) (count_over_time(up[1h]) - sum_over_time(up[1h]))";
        let slow = "quantile_over_time(0.99, scrape_duration_seconds[1h])";
        let births = format!("min_over_time({METRIC}[1h]) > 0");
        for (what, expression) in [
            ("scrapes that failed", missed),
            ("seconds of the slowest in a hundred scrapes", slow),
            ("series that were not seen at 0", &births),
        ] {
            let found = prometheus_query(self.prometheus.1, expression).unwrap_or_default();
            let found = found.iter();
            let found =
                found.map(|one| format!("{} {}", one["metric"]["instance"], one["value"][1]));
            println!("{what}: {}", found.collect::<Vec<_>>().join(", "));
        }
    }

    /// So many lines were written: all of them were shown, once, and to Prometheus.
    fn finish(&mut self, watcher: Watcher, written: usize) {
        let mut replicas: Vec<&mut Exporter> = self.replicas.iter_mut().collect();
        watcher.wait_for(written, &mut replicas);
        println!("{written} lines, {} scrapes", watcher.finish());
        let mut events: BTreeMap<String, f64> = BTreeMap::new();
        for replica in &self.replicas {
            let samples = replica.scrape();
            assert_nothing_lost(&samples);
            for event in ["restored", "fenced", "contended", "lease_over", "given_up"] {
                let label = format!("event=\"{event}\"");
                *events.entry(event.into()).or_default() +=
                    own(&samples, "events_total", &[&label]);
            }
        }
        println!("{events:?}");
        self.explain();
        let all = format!("sum(max_over_time({METRIC}[1h]))");
        self.query("all lines", &all, |value| value == written as f64);
        let seen = format!("sum(max_over_time({METRIC}[1h]) - min_over_time({METRIC}[1h]))");
        self.query("increase", &seen, |value| value == written as f64);
        self.query("no reset", &format!("max(resets({METRIC}[1h]))"), |value| {
            value == 0.0
        });
    }
}

fn pause(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Brokers lead partitions, and coordinate transactions and consumer groups. Each in turn is restarted and away for longer than
/// a lease, one of them for a minute, while rsyslogd writes the lines of a hundred appliances.
#[test]
#[ignore = "takes minutes; `make kafka` runs it"]
fn brokers_come_and_go_while_rsyslog_writes_the_lines_of_a_hundred_appliances() {
    let mut fleet = Fleet::start();
    let watcher = Watcher::start(&fleet.ports);
    fleet.wait_until_shown();
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let mut rsyslogd = rsyslogd(directory.path(), &fleet.cluster, port);
    let stop = Arc::new(AtomicBool::new(false));
    let sending = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
            let mut sent = 0;
            while !stop.load(Ordering::SeqCst) {
                let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
                for appliance in 0..100 {
                    let text = format!("Failed password for a{sent} from 192.0.2.1 port 22 ssh2");
                    let line = format!("<84>{now} hsm{appliance} sshd[7]: {text}");
                    writeln!(stream, "{line}").expect("it can be sent");
                    sent += 1;
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            sent
        }
    });
    for broker in 1..=3 {
        println!("broker {broker} is restarted");
        fleet.cluster.restart(broker);
        fleet.cluster.wait();
        fleet.wait_until_shown();
        pause(3);
    }
    for (broker, seconds) in [(1, 22), (2, 60), (3, 22)] {
        println!("kill -9 of broker {broker}, for {seconds} s");
        fleet.cluster.kill(broker);
        if seconds > 30 {
            // While it is still away.
            pause(seconds / 2);
            fleet.wait_until_shown();
        }
        pause(seconds);
        fleet.cluster.boot(broker);
        fleet.cluster.wait();
        fleet.wait_until_shown();
        pause(3);
    }
    stop.store(true, Ordering::SeqCst);
    let sent = sending.join().expect("it has not panicked");
    rsyslogd.signal("TERM");
    rsyslogd.wait_for_end(LONG);
    // What rsyslogd sends twice or drops is no matter of ours.
    let written = fleet.cluster.written("logs", PARTITIONS);
    println!("{sent} lines sent, {written} written");
    assert!(written > sent / 2, "{written}");
    fleet.finish(watcher, written);
}

/// Ten minutes: replicas and brokers die, are stopped and come back, while lines are written and Prometheus scrapes.
#[test]
#[ignore = "takes ten minutes; `make kafka` runs it"]
fn replicas_and_brokers_die_and_every_line_is_shown_once() {
    let mut fleet = Fleet::start();
    let all_ports = fleet.ports;
    let watcher = Watcher::start(&all_ports);
    fleet.query("all replicas", "sum(up)", |value| value == 3.0);
    fleet.wait_until_shown();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(fleet.cluster.bootstrap(), stop.clone());
    fleet.break_appliances();
    pause(10);

    for at in 0..REPLICAS {
        println!("kill -9 of replica {at}");
        fleet.replicas[at].child.signal("KILL");
        pause(1);
        fleet.restart(at);
        fleet.wait_until_shown();
        pause(3);
    }
    println!("kill -9 of replica 0, again and again, at any point of a checkpoint");
    for round in 0..8 {
        std::thread::sleep(Duration::from_millis(2_300 + 170 * round));
        fleet.replicas[0].child.signal("KILL");
        fleet.restart(0);
    }
    fleet.wait_until_shown();
    fleet.mend_fans();
    for at in 0..REPLICAS {
        println!("replica {at} is stopped for longer than its lease");
        fleet.replicas[at].child.signal("STOP");
        pause(LEASE.as_secs() + 7);
        fleet.replicas[at].child.signal("CONT");
        fleet.wait_until_shown();
    }
    for at in 0..REPLICAS {
        println!("replica {at} is stopped, started elsewhere, resumed, and takes over");
        fleet.replicas[at].child.signal("STOP");
        let share = format!("{at}/{REPLICAS}");
        let mut substitute = start(&fleet.config, &share, fleet.ports[REPLICAS + at]);
        fleet.wait_until_shown();
        fleet.replicas[at].child.signal("CONT");
        pause(5);
        substitute.child.signal("TERM");
        substitute.child.wait_for_end(LONG);
        fleet.wait_until_shown();
    }
    for broker in 1..=3 {
        println!("kill -9 of broker {broker}");
        fleet.cluster.kill(broker);
        pause(20);
        fleet.cluster.boot(broker);
        fleet.cluster.wait();
        fleet.wait_until_shown();
        pause(3);
    }
    println!("all brokers are away for 30 s");
    (1..=3).for_each(|broker| fleet.cluster.kill(broker));
    pause(30);
    let samples = fleet.replicas[0].scrape();
    assert_eq!(samples.sum(METRIC, &[]), 0.0, "a lease has no end");
    (1..=3).for_each(|broker| fleet.cluster.boot(broker));
    fleet.cluster.wait();
    fleet.wait_until_shown();
    pause(10);

    stop.store(true, Ordering::SeqCst);
    let written = writing.join().expect("it has not panicked");
    fleet.finish(watcher, written);
    fleet.check_alerts();
}
