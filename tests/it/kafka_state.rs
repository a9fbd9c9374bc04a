//! Shards whose state is in a topic, against a real Apache Kafka: replicas are killed, stopped and started elsewhere, and
//! somebody scrapes all of them all the time.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::broker::{Cluster, check_with_brokers};
use crate::exporter::{Exporter, LONG, Samples, Scraper, binary};
use crate::support::{Child, free_port};

pub const METRIC: &str = "sshd_login_failures_total";
/// The shortest that there is.
pub const LEASE: Duration = Duration::from_secs(15);

/// One line of each of so many appliances.
pub fn write(cluster: &Cluster, appliances: usize, each: usize) {
    let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
    let names: Vec<String> = (0..appliances)
        .map(|number| format!("hsm{number}"))
        .collect();
    let lines = (0..each).flat_map(|number| {
        names.iter().map({
            let now = &now;
            move |name| {
                let text = format!("Failed password for admin{number} from 192.0.2.1 port 22 ssh2");
                (name.as_str(), format!("{now} {name} sshd[7]: {text}"))
            }
        })
    });
    cluster.write("logs", lines);
}

/// Makes a topic for lines and one for the state of its shards, and a configuration that reads them, which lies in the
/// directory.
pub fn prepare(cluster: &Cluster, partitions: i32) -> (tempfile::TempDir, String) {
    let time = ("message.timestamp.type", "LogAppendTime");
    cluster.make_topic("logs", partitions, &[time]);
    // Compacted as soon as can be.
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "10000"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    cluster.make_topic("logs-state", partitions, &compacted);
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path(), cluster);
    (directory, config)
}

pub fn settings(directory: &Path, cluster: &Cluster) -> String {
    settings_with(directory, &cluster.bootstrap())
}

pub fn settings_with(directory: &Path, brokers: &str) -> String {
    let config = directory.join("config.yaml");
    let brokers: Vec<&str> = brokers.split(',').collect();
    let text = format!(
        "sources:\n- name: fleet\n  kafka: {{brokers: {brokers:?}, topic: logs, state_topic: logs-state, lease: 15s}}\n  \
         appliance: key\nstate: {{interval: 1s}}\n"
    );
    std::fs::write(&config, text).expect("it can be written");
    config.display().to_string()
}

pub fn start(config: &str, share: &str, port: u16) -> Exporter {
    let mut command = binary();
    command.args(["--config.file", config, &format!("--shard={share}")]);
    Exporter::start_on(&mut command, port)
}

/// What one scrape showed, and when it was asked for and answered.
struct Seen {
    at: SocketAddr,
    begun: Instant,
    ended: Instant,
    counts: BTreeMap<String, f64>,
}

/// Scrapes replicas, each by a thread of its own.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    threads: Vec<JoinHandle<()>>,
}

/// One scrape; none if there is no answer within a second, or no more than what somebody might have waited for longer.
fn scrape(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 200").then(|| body.to_owned())
}

impl Watcher {
    pub fn start(ports: &[u16]) -> Self {
        let addresses = ports.iter().map(|port| (Ipv4Addr::LOCALHOST, *port).into());
        Self::start_at(addresses)
    }

    /// Scrapes at these addresses.
    pub fn start_at(addresses: impl Iterator<Item = SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let threads = addresses.map(|at| {
            let (stop, seen) = (stop.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    if let Some(text) = scrape(at) {
                        let samples = Samples::parse(&text);
                        let counts = samples.iter().filter_map(|(series, value)| {
                            let labels = series.strip_prefix(METRIC)?;
                            Some((labels.to_owned(), value))
                        });
                        let one = Seen {
                            at,
                            begun,
                            ended: Instant::now(),
                            counts: counts.collect(),
                        };
                        let mut seen = seen.lock().expect("nobody has panicked");
                        seen.push(one);
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            seen,
        }
    }

    /// The last count of each series that anybody showed, added up.
    fn sum(&self) -> f64 {
        let seen = self.seen.lock().expect("nobody has panicked");
        let mut last = BTreeMap::new();
        for one in &*seen {
            last.extend(
                one.counts
                    .iter()
                    .map(|(labels, count)| (labels.clone(), *count)),
            );
        }
        last.values().sum()
    }

    /// Waits until all that was written was shown.
    pub fn wait_for(&self, expected: usize, exporters: &mut [&mut Exporter]) {
        let mut children: Vec<&mut Child> =
            exporters.iter_mut().map(|one| &mut one.child).collect();
        self.wait_for_all(expected, &mut children);
    }

    /// The same, with what these have said if that does not come.
    pub fn wait_for_all(&self, expected: usize, children: &mut [&mut Child]) {
        let until = Instant::now() + LONG;
        while self.sum() != expected as f64 {
            if Instant::now() > until {
                let outputs: Vec<String> = children.iter_mut().map(|one| one.output()).collect();
                panic!(
                    "{} of {expected} are shown:\n{}",
                    self.sum(),
                    outputs.join("\n---\n")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// No series was shown by two at the same time, and none ever fell. Returns how many scrapes were made.
    pub fn finish(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("it has not panicked");
        }
        let mut seen = self.seen.lock().expect("nobody has panicked");
        seen.sort_by_key(|one| one.ended);
        let mut last: BTreeMap<&str, f64> = BTreeMap::new();
        let mut before: Vec<&Seen> = Vec::new();
        for one in &*seen {
            // A scrape takes a second at most.
            before.retain(|other| other.ended + Duration::from_secs(2) > one.ended);
            for (labels, count) in &one.counts {
                let last = last.entry(labels).or_insert(0.0);
                assert!(*count >= *last, "{labels} fell from {last} to {count}");
                *last = *count;
                let twice = before.iter().find(|other| {
                    other.at != one.at
                        && other.ended >= one.begun
                        && other.counts.contains_key(labels)
                });
                assert!(twice.is_none(), "two show {labels}");
            }
            before.push(one);
        }
        seen.len()
    }
}

pub fn own(samples: &Samples, metric: &str, labels: &[&str]) -> f64 {
    samples.sum(&format!("appliance_log_exporter_shard_{metric}"), labels)
}

/// Neither records nor state were missed.
pub fn assert_nothing_lost(samples: &Samples) {
    for metric in [
        "lost_records_total",
        "log_replaced_total",
        "state_missing_total",
    ] {
        assert_eq!(own(samples, metric, &[]), 0.0, "{metric}");
    }
}

#[test]
fn a_replica_goes_on_from_the_topic_and_never_do_two_show_a_shard() {
    let cluster = Cluster::start(1);
    let (_directory, config) = prepare(&cluster, 2);
    let ports = [free_port(), free_port()];
    write(&cluster, 6, 10);
    let mut one = start(&config, "0/1", ports[0]);
    let watcher = Watcher::start(&ports);
    watcher.wait_for(60, &mut [&mut one]);
    write(&cluster, 6, 10);
    watcher.wait_for(120, &mut [&mut one]);

    // What is in the topic of lines is gone, so that nobody can count it again. Killed, and started in the same place: it
    // has no lease to wait for.
    one.wait_for("checkpoint", || {
        let samples = crate::exporter::scrape(ports[0])?;
        (own(&samples, "checkpoint_age_seconds", &[]) < 1.0).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    for partition in 0..2 {
        let samples = one.scrape();
        let partition_label = format!("partition=\"{partition}\"");
        let next = own(&samples, "next_offset", &[&partition_label]);
        cluster.delete_before("logs", partition, next as i64);
    }
    one.child.signal("KILL");
    write(&cluster, 7, 10);
    let begun = Instant::now();
    one = start(&config, "0/1", ports[0]);
    watcher.wait_for(190, &mut [&mut one]);
    println!("shown {:.1?} after a kill", begun.elapsed());
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    let samples = one.scrape();
    assert_eq!(own(&samples, "lost_records_total", &[]), 0.0);
    assert_eq!(own(&samples, "state_missing_total", &[]), 0.0);
    assert_eq!(own(&samples, "events_total", &["restored"]), 2.0);

    // It ends in order, and another one begins elsewhere at once.
    one.child.signal("TERM");
    one.child.wait_for_end(LONG);
    write(&cluster, 7, 10);
    let begun = Instant::now();
    let mut other = start(&config, "0/1", ports[1]);
    watcher.wait_for(260, &mut [&mut other]);
    println!(
        "shown elsewhere {:.1?} after an end in order",
        begun.elapsed()
    );
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());

    // It is stopped in the midst, and another one takes over, which has to wait for its lease. Then it goes on.
    other.child.signal("STOP");
    write(&cluster, 7, 10);
    let begun = Instant::now();
    one = start(&config, "0/1", ports[0]);
    watcher.wait_for(330, &mut [&mut one]);
    println!("shown elsewhere {:.1?} after a stop", begun.elapsed());
    assert!(begun.elapsed() > LEASE, "{:?}", begun.elapsed());
    other.child.signal("CONT");
    write(&cluster, 7, 10);
    watcher.wait_for(400, &mut [&mut one, &mut other]);
    let contended = other.wait_for("contended shards", || {
        let samples = crate::exporter::scrape(ports[1])?;
        let contended = own(&samples, "state", &["state=\"contended\""]);
        (contended == 2.0).then_some(samples)
    });
    assert_eq!(own(&contended, "events_total", &["event=\"fenced\""]), 2.0);
    assert_eq!(contended.sum(METRIC, &[]), 0.0);

    // The owner dies; the one that looks on takes over by itself.
    one.child.signal("KILL");
    write(&cluster, 7, 10);
    let begun = Instant::now();
    watcher.wait_for(470, &mut [&mut other]);
    println!(
        "shown by the one that looked on {:.1?} after a kill",
        begun.elapsed()
    );
    println!("{} scrapes", watcher.finish());
}

/// A former owner of one of two partitions does not answer, so that its lease has to be waited for; the other one is shown.
#[test]
fn a_hidden_shard_holds_up_no_new_counter_of_another_one() {
    let cluster = Cluster::start(1);
    let (_directory, config) = prepare(&cluster, 2);
    let text = std::fs::read_to_string(&config).expect("a file");
    std::fs::write(&config, text.replace("lease: 15s", "lease: 40s")).expect("it can be written");
    let ports = [free_port(), free_port()];
    write(&cluster, 6, 1);
    let mut former = start(&config, "0/2", ports[0]);
    former.wait_for("checkpoint", || {
        let samples = crate::exporter::scrape(ports[0])?;
        (own(&samples, "checkpoint_age_seconds", &[]) < 1.0).then_some(())
    });
    former.child.signal("STOP");
    let mut exporter = start(&config, "0/1", ports[1]);
    let shards = |samples: &Samples| {
        ["active", "hidden"].map(|state| own(samples, "state", &[&format!("state=\"{state}\"")]))
    };
    let mut scraper = Scraper::connect(ports[1]);
    exporter.wait_for("a shard that is shown and one that is hidden", || {
        (shards(&scraper.scrape()) == [1.0, 1.0]).then_some(())
    });
    // New appliances in both.
    write(&cluster, 16, 1);
    let new: Vec<String> = (6..16)
        .map(|number| format!("appliance=\"hsm{number}\""))
        .collect();
    let mut seen: BTreeMap<&str, f64> = BTreeMap::new();
    let mut scrape = || {
        let samples = scraper.scrape();
        for appliance in &new {
            if samples
                .iter()
                .any(|(series, _)| series.starts_with(METRIC) && series.contains(appliance))
            {
                let value = samples.sum(METRIC, &[appliance]);
                let before = seen.insert(appliance, value);
                assert!(
                    before.is_some() || value == 0.0,
                    "{appliance} begins at {value}"
                );
                assert!(
                    before.unwrap_or(0.0) <= value,
                    "{appliance} falls to {value}"
                );
            }
        }
        (
            shards(&samples),
            seen.len() as f64,
            seen.values().sum::<f64>(),
        )
    };
    exporter.wait_for("counts of one shard", || {
        let (shards, known, sum) = scrape();
        assert_eq!(shards, [1.0, 1.0], "{known} are known, {sum} are counted");
        (known > 0.0 && sum == known).then_some(())
    });
    exporter.wait_for("counts of both", || {
        let (shards, known, sum) = scrape();
        (shards == [2.0, 0.0] && (known, sum) == (10.0, 10.0)).then_some(())
    });
}

#[test]
fn lines_and_a_state_topic_that_are_lost_are_noticed_and_nothing_is_counted_again() {
    let cluster = Cluster::start(1);
    let (_directory, config) = prepare(&cluster, 1);
    let port = free_port();
    write(&cluster, 6, 10);
    let mut exporter = start(&config, "0/1", port);
    let count = |exporter: &mut Exporter, expected: f64| {
        exporter.wait_for("count of lines", || {
            let samples = crate::exporter::scrape(port)?;
            (samples.sum(METRIC, &[]) == expected).then_some(samples)
        })
    };
    count(&mut exporter, 60.0);
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);

    // Lines that were deleted while nobody read.
    write(&cluster, 6, 10);
    cluster.delete_before("logs", 0, 90);
    exporter = start(&config, "0/1", port);
    let samples = count(&mut exporter, 90.0);
    assert_eq!(own(&samples, "lost_records_total", &[]), 30.0);
    assert_eq!(own(&samples, "state_missing_total", &[]), 0.0);
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);

    // The state topic is made anew.
    cluster.remove_topic("logs-state");
    cluster.make_topic("logs-state", 1, &[("cleanup.policy", "compact")]);
    write(&cluster, 5, 10);
    exporter = start(&config, "0/1", port);
    let samples = count(&mut exporter, 50.0);
    assert_eq!(own(&samples, "state_missing_total", &[]), 1.0);
    assert_eq!(own(&samples, "lost_records_total", &[]), 0.0);
    assert_eq!(own(&samples, "next_offset", &[]), 170.0);
}

#[test]
fn a_restore_goes_on_from_what_a_compaction_has_left() {
    let cluster = Cluster::start(1);
    let (_directory, config) = prepare(&cluster, 1);
    let port = free_port();
    let mut exporter = start(&config, "0/1", port);
    let watcher = Watcher::start(&[port]);
    // Checkpoints, until segments with former ones were compacted.
    let begun = Instant::now();
    let mut written = 0;
    let (kept, ever) = loop {
        write(&cluster, 6, 2);
        written += 12;
        watcher.wait_for(written, &mut [&mut exporter]);
        let (kept, ever) = cluster.kept("logs-state", 0);
        if ever > 60 && 2 * kept < ever {
            break (kept, ever);
        }
        assert!(begun.elapsed() < LONG, "{kept} of {ever} records are kept");
        std::thread::sleep(Duration::from_secs(1));
    };
    println!("{kept} of {ever} records are kept");
    exporter.child.signal("KILL");
    write(&cluster, 6, 2);
    exporter = start(&config, "0/1", port);
    watcher.wait_for(written + 12, &mut [&mut exporter]);
    let samples = exporter.scrape();
    assert_eq!(own(&samples, "state_missing_total", &[]), 0.0);
    assert_eq!(own(&samples, "lost_records_total", &[]), 0.0);
    println!("{} scrapes", watcher.finish());
}

#[test]
fn half_a_checkpoint_is_none() {
    let cluster = Cluster::start(1);
    let (_directory, config) = prepare(&cluster, 1);
    let port = free_port();
    write(&cluster, 6, 10);
    let mut exporter = start(&config, "0/1", port);
    let watcher = Watcher::start(&[port]);
    watcher.wait_for(60, &mut [&mut exporter]);
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);

    // As of a process that was killed before it could commit: blocks that are gone, and the end of the partition as the place
    // to go on.
    let head = r#"{"topic":"logs","partition":0,"next_offset":120}"#.as_bytes();
    let records = [("1/a/hsm0", &b"nothing"[..]), ("1/head", head)];
    let topic = ("logs-state", 0);
    crate::broker::leave_transaction_open(&cluster.bootstrap(), "ale.logs.0", topic, &records);
    write(&cluster, 6, 10);
    exporter = start(&config, "0/1", port);
    watcher.wait_for(120, &mut [&mut exporter]);
    let samples = exporter.scrape();
    assert_eq!(own(&samples, "state_missing_total", &[]), 0.0);
    assert_eq!(own(&samples, "events_total", &["restored"]), 1.0);
    println!("{} scrapes", watcher.finish());
}

/// The broker that has the state of a shard stands still: the shard's transaction times out at its coordinator, and what the
/// shard asks for is not answered.
#[test]
fn a_shard_begins_anew_whose_transaction_times_out() {
    let mut cluster = Cluster::start(3);
    let time = ("message.timestamp.type", "LogAppendTime");
    cluster.make_topic("logs", 3, &[time]);
    // Each broker has the state of one shard, which nobody else has.
    cluster.make_topic_with(1, "logs-state", 3, &[("cleanup.policy", "compact")]);
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path(), &cluster);
    let port = free_port();
    write(&cluster, 12, 10);
    let mut exporter = start(&config, "0/1", port);
    let watcher = Watcher::start(&[port]);
    watcher.wait_for(120, &mut [&mut exporter]);

    // Of lines that its process has read, whoever goes on with them.
    let hits = |samples: &Samples| samples.sum("appliance_log_exporter_rule_hits_total", &[]);
    let before = hits(&exporter.scrape());
    assert!(before >= 120.0, "{before}");

    cluster.signal(2, "STOP");
    let begun = Instant::now();
    // The coordinator says so, or nobody does.
    let events = ["given_up", "fenced"].map(|event| format!("event=\"{event}\""));
    let begins_anew = exporter.wait_for("a shard that begins anew", || {
        let samples = crate::exporter::scrape(port)?;
        let counts = (events.iter()).map(|event| (own(&samples, "events_total", &[event]), event));
        let found: Vec<_> = counts.filter(|(count, _)| *count > 0.0).collect();
        (!found.is_empty()).then_some(samples)
    });
    println!("after {:.1?}", begun.elapsed());
    assert!(hits(&begins_anew) >= before);
    // The others go on, with other leaders and coordinators.
    exporter.wait_for("the other shards", || {
        let samples = crate::exporter::scrape(port)?;
        (own(&samples, "state", &["state=\"active\""]) == 2.0).then_some(())
    });
    cluster.signal(2, "CONT");
    let begun = Instant::now();
    // A restore waits for an open transaction for a minute at most, and the broker has to be one again first.
    exporter.child.wait_for("all shards", 3 * LONG, || {
        let samples = crate::exporter::scrape(port)?;
        (own(&samples, "state", &["state=\"active\""]) == 3.0).then_some(())
    });
    println!("shown again {:.1?} after that", begun.elapsed());
    write(&cluster, 12, 10);
    watcher.wait_for(240, &mut [&mut exporter]);
    let samples = exporter.scrape();
    assert_eq!(own(&samples, "lost_records_total", &[]), 0.0);
    assert_eq!(own(&samples, "state_missing_total", &[]), 0.0);
    println!("{} scrapes", watcher.finish());
}

#[test]
fn check_asks_for_the_state_topic() {
    let cluster = Cluster::start(1);
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path(), &cluster);
    let check = |status: i32, wanted: &[&str]| {
        let (code, text) = check_with_brokers(&config);
        assert_eq!(code, Some(status), "{text}");
        for wanted in wanted {
            assert!(text.contains(wanted), "no `{wanted}` in {text}");
        }
    };
    cluster.make_topic("logs", 4, &[("message.timestamp.type", "LogAppendTime")]);
    check(
        1,
        &[
            "config.yaml:3:",
            "the brokers have no such topic: `logs-state`\n  hint: kafka-topics.sh --bootstrap-server 127.0.0.1:",
            "--create --topic logs-state --partitions 4 --replication-factor 1 --config cleanup.policy=compact",
        ],
    );
    cluster.make_topic("logs-state", 3, &[]);
    check(
        1,
        &[
            "has 3 partitions, and the topic of the lines 4",
            "--alter --topic logs-state --partitions 4",
            "cleanup.policy is not compact",
            "--entity-name logs-state --add-config cleanup.policy=compact",
        ],
    );
    cluster.remove_topic("logs-state");
    cluster.make_topic("logs-state", 4, &[("cleanup.policy", "compact")]);
    check(0, &["all right"]);
}
