//! Shards against a real Apache Kafka: rsyslogd or a producer writes, the exporter reads, is killed and goes on; partitions
//! lose their beginning, are made anew, and lose their leader.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::broker::{Cluster, Secured, check_with_brokers, omkafka, producer, write_to};
use crate::exporter::{Exporter, LONG, Samples, binary};
use crate::panels::Query;
use crate::support::{Child, free_port, prometheus_command, prometheus_query, start_rsyslogd};

/// A line of the appliance with this number.
fn line(appliance: usize, number: usize) -> (String, String) {
    let name = format!("hsm{appliance}");
    // rsyslogd does not take every date for one.
    let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
    let text = format!("Failed password for admin{number} from 192.0.2.1 port 22 ssh2");
    (name.clone(), format!("{now} {name} sshd[7]: {text}"))
}

/// Writes `each` lines of each of so many appliances.
fn write(cluster: &Cluster, appliances: usize, each: usize) {
    let lines: Vec<_> = (0..each)
        .flat_map(|number| (0..appliances).map(move |appliance| line(appliance, number)))
        .collect();
    let records = lines
        .iter()
        .map(|(name, line)| (name.as_str(), line.clone()));
    cluster.write("logs", records);
}

/// The settings of an exporter with its state in `directory`.
fn settings(directory: &Path, cluster: &Cluster, more: &str) -> String {
    settings_for(directory, &cluster.bootstrap(), more)
}

fn settings_for(directory: &Path, brokers: &str, more: &str) -> String {
    let config = directory.join("config.yaml");
    let brokers: Vec<&str> = brokers.split(',').collect();
    let text = format!(
        "sources:\n- name: fleet\n  kafka: {{brokers: {brokers:?}, topic: logs{more}}}\n  appliance: key\n\
         state: {{directory: state, interval: 500ms}}\n"
    );
    std::fs::write(&config, text).expect("it can be written");
    config.display().to_string()
}

fn failures(samples: &Samples) -> f64 {
    samples.sum("sshd_login_failures_total", &[])
}

/// Waits until so many failed logins are counted, and scrapes then.
fn wait_for_failures(exporter: &mut Exporter, expected: usize) -> Samples {
    let port = exporter.port;
    let mut last = 0.0;
    exporter.child.wait_for("count of failed logins", LONG, || {
        let samples = crate::exporter::scrape(port)?;
        let found = failures(&samples);
        assert!(found <= expected as f64, "{found} of {expected}");
        assert!(found >= last, "{found} after {last}");
        last = found;
        (found == expected as f64).then_some(samples)
    })
}

/// rsyslogd, which sends what it receives to the topic, keyed by the host's name.
pub fn rsyslogd(directory: &Path, cluster: &Cluster, port: u16) -> Child {
    assert!(
        omkafka(),
        "rsyslog's omkafka is not installed; tests/install-deps.sh installs it"
    );
    let brokers = cluster.bootstrap();
    let brokers: Vec<&str> = brokers.split(',').collect();
    let here = directory.display();
    let config = directory.join("rsyslog.conf");
    std::fs::write(
        &config,
        format!(
            r#"global(workDirectory="{here}" parser.escapeControlCharactersOnReceive="off")
module(load="imtcp")
module(load="omkafka")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="raw" type="string" string="%rawmsg%")
template(name="host" type="string" string="%hostname%")
action(type="omkafka" broker={brokers:?} topic="logs" template="raw" dynaKey="on" key="host"
       confParam=["enable.idempotence=true", "compression.codec=zstd", "queue.buffering.max.ms=50"]
       topicConfParam=["partitioner=murmur2_random"]
       queue.type="LinkedList" queue.size="100000")
"#
        ),
    )
    .expect("it can be written");
    start_rsyslogd(&config, port)
}

/// Sends lines to rsyslogd over TCP.
fn send(port: u16, appliances: usize, each: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("rsyslogd listens");
    for number in 0..each {
        for appliance in 0..appliances {
            let (_, line) = line(appliance, number);
            writeln!(stream, "<84>{line}").expect("it can be sent");
        }
    }
}

#[test]
fn what_rsyslog_sends_two_replicas_count_once_though_one_is_killed() {
    const APPLIANCES: usize = 20;
    // So many speak up later.
    const NEW: usize = 5;
    let cluster = Cluster::start(1);
    // omkafka gives a record the time of the message's header, by which it might be deleted at once.
    let time = ("message.timestamp.type", "LogAppendTime");
    cluster.make_topic("logs", 5, &[time]);
    let directory = tempfile::tempdir().expect("a directory");
    let syslog = free_port();
    let _rsyslogd = rsyslogd(directory.path(), &cluster, syslog);

    let homes = [0, 1].map(|_| tempfile::tempdir().expect("a directory"));
    let ports = [free_port(), free_port()];
    let start = |at: usize| {
        let config = settings(homes[at].path(), &cluster, "");
        let mut command = binary();
        command.args(["--config.file", &config, &format!("--shard={at}/2")]);
        Exporter::start_on(&mut command, ports[at])
    };
    let mut replicas = [start(0), start(1)];

    // A real Prometheus sees both as one: the series keep their labels wherever they are.
    let prometheus = free_port();
    let config = homes[0].path().join("prometheus.yml");
    let targets = ports.map(|port| format!("127.0.0.1:{port}"));
    std::fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 250ms}}\nscrape_configs:\n- job_name: exporter\n  static_configs: [{{targets: {targets:?}}}]\n  \
             metric_relabel_configs:\n  - {{source_labels: [appliance], regex: (.+), target_label: instance}}\n\
             rule_files: ['{}']\n",
            crate::support::root().join("rules/alerts/*.yaml").display()
        ),
    )
    .expect("it can be written");
    let data = homes[0].path().join("prometheus");
    let mut prometheus_child = Child::start(&mut prometheus_command(&config, &data, prometheus));
    let mut query = |what: &str, expression: &str, is: &dyn Fn(f64) -> bool| {
        prometheus_child.wait_for(what, LONG, || {
            let found = prometheus_query(prometheus, expression)?;
            let value: f64 = found.first()?["value"][1].as_str()?.parse().ok()?;
            is(value).then_some(value)
        })
    };
    // It has looked at both once.
    query("both replicas", "sum(up)", &|value| value == 2.0);
    let all = "sum(sshd_login_failures_total)";
    send(syslog, APPLIANCES, 10);
    query("first lines", all, &|value| {
        value == (APPLIANCES * 10) as f64
    });

    const ALL: usize = APPLIANCES + NEW;
    send(syslog, ALL, 15);
    query("more lines", all, &|value| {
        value == (APPLIANCES * 10 + ALL * 15) as f64
    });
    // One dies with a part of what it has counted on disk, and lines are written while it is away.
    send(syslog, ALL, 5);
    replicas[0].child.signal("KILL");
    send(syslog, ALL, 20);
    replicas[0] = start(0);
    let lines = (APPLIANCES * 10 + ALL * 40) as f64;
    query("all lines", all, &|value| value == lines);

    // Prometheus saw every line, each series from its first on.
    let increase = "sum(max_over_time(sshd_login_failures_total[10m]) - min_over_time(sshd_login_failures_total[10m]))";
    let increase = query("increase", increase, &|_| true);
    assert_eq!(increase, lines);
    let resets = "max(resets(sshd_login_failures_total[10m]))";
    query("no reset", resets, &|value| value == 0.0);

    // Each panel of the dashboard has an answer, but for those about faults and about state topics.
    let faults = [
        "Shards that are wrong",
        "Lost and skipped",
        "Troubles with brokers",
        "Appliances in several partitions",
        "Rest of leases",
        "Changes of owners",
    ];
    let asked = crate::panels::queries().into_iter();
    let asked: Vec<_> = asked
        .filter(|asked| asked.place.starts_with("shards: "))
        .collect();
    assert!(asked.len() > 15);
    let is_about_faults = |place: &str| faults.iter().any(|panel| place.contains(panel));
    for Query { place, expression } in asked {
        prometheus_child.wait_for(&place, LONG, || {
            let found = prometheus_query(prometheus, &expression)?;
            (!found.is_empty() || is_about_faults(&place)).then_some(())
        });
    }

    // In parts it is the same as in one.
    let get = |path: &str| {
        let answer = crate::support::http_get(ports[0], path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        answer
    };
    let groups = get("/sd/shards").json();
    let groups = groups.as_array().expect("a list");
    let parts = groups.iter().map(|group| {
        assert_eq!(group["targets"][0], format!("127.0.0.1:{}", ports[0]));
        let shard = group["labels"]["__param_shard"].as_str();
        get(&format!("/metrics?shard={}", shard.expect("a name"))).text()
    });
    let parts: Vec<String> = parts.collect();
    assert_eq!(parts.len(), 4);
    let own = "appliance_log_exporter_rules_loaded ";
    let with_own = parts.iter().filter(|part| part.contains(own));
    assert_eq!(with_own.count(), 1);
    let parts = parts.iter().map(|part| failures(&Samples::parse(part)));
    assert_eq!(parts.sum::<f64>(), failures(&replicas[0].scrape()));

    // The page and /debug list them.
    let page = get("/").text();
    assert!(
        page.contains("<h2>Shards<small>") && page.contains(">active<"),
        "{page}"
    );
    let debug = get("/debug").text();
    assert!(
        debug.contains("fleet/0") && debug.contains("fleet/4"),
        "{debug}"
    );

    let samples = [replicas[0].scrape(), replicas[1].scrape()];
    for appliance in 0..ALL {
        let count = if appliance < APPLIANCES { 50.0 } else { 40.0 };
        let label = format!("appliance=\"hsm{appliance}\"");
        let of = |samples: &Samples| samples.sum("sshd_login_failures_total", &[&label]);
        let counts = [of(&samples[0]), of(&samples[1])];
        assert!(
            counts == [count, 0.0] || counts == [0.0, count],
            "{label}: {counts:?}"
        );
        let shards = |samples: &Samples| samples.sum("appliance_shard", &[&label]);
        assert_eq!(shards(&samples[0]) + shards(&samples[1]), 1.0, "{label}");
    }
    for (at, samples) in samples.iter().enumerate() {
        let active = samples.sum("appliance_log_exporter_shard_state", &["state=\"active\""]);
        assert_eq!(active, [3.0, 2.0][at]);
        for metric in [
            "shard_lost_records_total",
            "shard_log_replaced_total",
            "shard_records_dropped_total",
        ] {
            assert_eq!(
                samples.sum(&format!("appliance_log_exporter_{metric}"), &[]),
                0.0
            );
        }
    }
}

#[test]
fn what_a_partition_has_lost_is_counted() {
    let cluster = Cluster::start(1);
    cluster.make_topic("logs", 1, &[]);
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path(), &cluster, "");
    let start = || Exporter::start(&["--config.file", &config]);
    let own = |samples: &Samples, metric: &str, more: &str| {
        let series = format!(
            "appliance_log_exporter_shard_{metric}{{source=\"fleet\",partition=\"0\"{more}}}"
        );
        samples.value(&series)
    };
    let stop = |mut exporter: Exporter| {
        exporter.child.signal("TERM");
        exporter.child.wait_for_end(LONG);
    };

    write(&cluster, 2, 50);
    let mut exporter = start();
    wait_for_failures(&mut exporter, 100);
    stop(exporter);

    // Deleted while nobody read: 60 of 100 new records, at offsets 100 to 159.
    write(&cluster, 2, 50);
    cluster.delete_before("logs", 0, 160);
    let mut exporter = start();
    let samples = wait_for_failures(&mut exporter, 140);
    assert_eq!(own(&samples, "lost_records_total", ""), Some(60.0));
    assert_eq!(own(&samples, "log_replaced_total", ""), Some(0.0));
    assert_eq!(own(&samples, "next_offset", ""), Some(200.0));

    // What cannot be used is skipped.
    cluster.write("logs", [("", "x".to_owned()), ("hsm0", String::new())]);
    write(&cluster, 1, 1);
    let samples = wait_for_failures(&mut exporter, 141);
    for (reason, count) in [("no_key", 1.0), ("empty", 1.0), ("no_json", 0.0)] {
        let more = format!(",reason=\"{reason}\"");
        assert_eq!(
            own(&samples, "records_dropped_total", &more),
            Some(count),
            "{reason}"
        );
    }

    // Deleted while it reads, and it is not noticed as long as nothing is lost.
    cluster.delete_before("logs", 0, 203);
    write(&cluster, 1, 9);
    wait_for_failures(&mut exporter, 150);
    stop(exporter);

    // Made anew: what is there is younger, and counts.
    cluster.remove_topic("logs");
    cluster.make_topic("logs", 1, &[]);
    write(&cluster, 1, 30);
    let mut exporter = start();
    let samples = wait_for_failures(&mut exporter, 180);
    assert_eq!(own(&samples, "log_replaced_total", ""), Some(1.0));
    assert_eq!(own(&samples, "next_offset", ""), Some(30.0));
    stop(exporter);

    // Once only.
    let mut exporter = start();
    write(&cluster, 1, 20);
    let samples = wait_for_failures(&mut exporter, 200);
    assert_eq!(own(&samples, "log_replaced_total", ""), Some(0.0));
    assert_eq!(own(&samples, "lost_records_total", ""), Some(0.0));

    // Forgotten in the shard; the topic cannot be changed while it runs.
    let answer =
        crate::support::http_post(exporter.port, "/-/forget?appliance=hsm1", "text/plain", b"");
    assert_eq!(answer.expect("an answer").status, 200);
    wait_for_failures_below(&mut exporter, 200.0);
    let (status, text) = exporter.reload();
    assert_eq!(status, 200, "{text}");
    settings(
        directory.path(),
        &cluster,
        ", read_from: end, format: {json: {message: a}}",
    );
    let (status, text) = exporter.reload();
    assert!(
        status == 500 && text.contains("cannot change while the exporter runs"),
        "{text}"
    );
}

fn wait_for_failures_below(exporter: &mut Exporter, bound: f64) {
    let port = exporter.port;
    exporter.child.wait_for("forgotten appliance", LONG, || {
        let samples = crate::exporter::scrape(port)?;
        (failures(&samples) < bound).then_some(())
    });
}

#[test]
fn json_is_unwrapped_and_the_end_is_where_it_begins_if_asked() {
    let cluster = Cluster::start(1);
    cluster.make_topic("logs", 2, &[]);
    write(&cluster, 4, 25);
    let directory = tempfile::tempdir().expect("a directory");
    let more = ", read_from: end, format: {json: {message: log.original}}";
    let config = settings(directory.path(), &cluster, more);
    let mut exporter = Exporter::start(&["--config.file", &config]);
    let (name, text) = line(1, 1);
    let wrapped = serde_json::json!({"log": {"original": text}}).to_string();
    cluster.write(
        "logs",
        [
            (name.as_str(), text),
            (name.as_str(), wrapped),
            (name.as_str(), "{\"log\": 5}".to_owned()),
        ],
    );
    let samples = wait_for_failures(&mut exporter, 1);
    let port = exporter.port;
    let dropped = exporter.child.wait_for("dropped records", LONG, || {
        let samples = crate::exporter::scrape(port)?;
        let of = |reason: &str| {
            let reason = format!("reason=\"{reason}\"");
            samples.sum(
                "appliance_log_exporter_shard_records_dropped_total",
                &[&reason],
            )
        };
        (of("no_json") + of("no_message") == 2.0).then(|| [of("no_json"), of("no_message")])
    });
    assert_eq!(dropped, [1.0, 1.0]);
    drop(samples);
}

#[test]
fn check_asks_the_brokers() {
    let cluster = Cluster::start(1);
    let directory = tempfile::tempdir().expect("a directory");
    let check = |more: &str| check_with_brokers(&settings(directory.path(), &cluster, more));
    let shows = |text: &str, all: &[&str]| {
        for wanted in all {
            assert!(text.contains(wanted), "no `{wanted}` in {text}");
        }
    };
    let (code, text) = check("");
    assert_eq!(code, Some(1), "{text}");
    shows(
        &text,
        &[
            "config.yaml:3:",
            "the brokers have no such topic: `logs`\n  hint: kafka-topics.sh --bootstrap-server 127.0.0.1:",
            "--create --topic logs --partitions 12",
        ],
    );

    let bad = [
        ("cleanup.policy", "compact"),
        ("retention.ms", "3600000"),
        ("unclean.leader.election.enable", "true"),
    ];
    cluster.make_topic("logs", 4, &bad);
    let lines = (0..200).map(|number| line(number, 0));
    let lines: Vec<_> = lines.collect();
    let records = || lines.iter().map(|(key, line)| (key.as_str(), line.clone()));
    cluster.write_by("consistent_random", "logs", records());
    let (code, text) = check("");
    assert_eq!(code, Some(1), "{text}");
    shows(
        &text,
        &[
            "cleanup.policy=compact deletes lines",
            "kafka-configs.sh --bootstrap-server 127.0.0.1:",
            "--add-config cleanup.policy=delete",
            "warning:",
            "message.timestamp.type=CreateTime",
            "retention.ms=3600000: an outage of more than 60 minutes",
            "unclean.leader.election.enable=true",
            "each record is on one broker only",
            "are in another partition than murmur2 of their key",
            "4 partitions, 1 replicas, on 1 brokers; 200 records, of ",
        ],
    );

    cluster.remove_topic("logs");
    cluster.make_topic("logs", 4, &[("message.timestamp.type", "LogAppendTime")]);
    cluster.write("logs", records());
    let (code, text) = check("");
    assert_eq!(code, Some(0), "{text}");
    shows(
        &text,
        &["200 records, of 80 looked at 0 lie elsewhere", "all right"],
    );
    let (_, text) = check(", format: {json: {message: a}}");
    shows(&text, &["of 80 records 80 cannot be used: no_json"]);
}

#[test]
fn tls_certificates_and_logins_are_as_brokers_want_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let secured = Secured::new(directory.path());
    let cluster = Cluster::start_secured(&secured);
    let time = ("message.timestamp.type", "LogAppendTime");
    cluster.make_topic("logs", 2, &[time]);
    write(&cluster, 4, 25);
    let login = |mechanism: &str, user: &str, password: &str, ca: &str| {
        let sasl =
            format!("{{mechanism: {mechanism}, username: {user}, password_file: {password}}}");
        (
            secured.login,
            format!(", tls: {{ca_file: {ca}}}, sasl: {sasl}"),
        )
    };
    let certificate = |more: &str| {
        let tls = format!(", tls: {{ca_file: ca.pem{more}}}");
        (secured.certificate, tls)
    };
    const GOOD: &str = "2 partitions, 1 replicas, on 1 brokers; 100 records, of ";
    for ((port, more), status, expected) in [
        (login("SCRAM-SHA-512", "ale", "password", "ca.pem"), 0, GOOD),
        (login("SCRAM-SHA-256", "ale", "password", "ca.pem"), 0, GOOD),
        (login("PLAIN", "ale", "password", "ca.pem"), 0, GOOD),
        (
            certificate(", cert_file: ale.pem, key_file: ale.key"),
            0,
            GOOD,
        ),
        (
            login("SCRAM-SHA-512", "ale", "wrong-password", "ca.pem"),
            1,
            "Authentication",
        ),
        (
            login("PLAIN", "ale", "wrong-password", "ca.pem"),
            1,
            "Authentication",
        ),
        (
            login("SCRAM-SHA-512", "ale", "password", "other-ca.pem"),
            1,
            "certificate verify failed",
        ),
        (certificate(""), 1, "no broker answers: "),
        (
            login("PLAIN", "stranger", "password", "ca.pem"),
            1,
            "--add --allow-principal User:stranger --operation Describe --topic logs",
        ),
    ] {
        let config = settings_for(directory.path(), &format!("127.0.0.1:{port}"), &more);
        let (code, text) = check_with_brokers(&config);
        assert_eq!(code, Some(status), "{more}: {text}");
        assert!(text.contains(expected), "{more}: {text}");
    }

    // What is read that way is counted.
    for (port, more) in [
        login("SCRAM-SHA-512", "ale", "password", "ca.pem"),
        certificate(", cert_file: ale.pem, key_file: ale.key"),
    ] {
        let config = settings_for(directory.path(), &format!("127.0.0.1:{port}"), &more);
        let mut exporter = Exporter::start(&["--config.file", &config]);
        let samples = wait_for_failures(&mut exporter, 100);
        // Nor is the end of a partition an error.
        assert_eq!(
            samples.sum("appliance_log_exporter_kafka_errors_total", &[]),
            0.0
        );
    }
}

#[test]
fn a_partition_whose_leader_does_not_answer_holds_up_no_other() {
    let mut cluster = Cluster::start(3);
    // One replica each, so that there is no other leader.
    cluster.make_topic_with(1, "logs", 6, &[]);
    write(&cluster, 30, 1);
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path(), &cluster, "");
    let mut exporter = Exporter::start(&["--config.file", &config]);
    wait_for_failures(&mut exporter, 30);
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);
    let leaders = cluster.leaders("logs");
    let producer = producer(&cluster.bootstrap());
    let led = |broker: i32| {
        let all = leaders.iter().zip(0..);
        all.filter(move |(leader, _)| **leader == broker)
            .map(|(_, partition)| partition)
    };
    // Its port is open, and nothing comes.
    cluster.signal(3, "STOP");
    let port = free_port();
    let mut command = binary();
    command.args(["--config.file", &config]);
    let child = Child::start(command.arg(format!("--web.listen-address=127.0.0.1:{port}")));
    let mut exporter = Exporter { child, port };
    let wait_for_shards = |exporter: &mut Exporter, expected: usize| {
        exporter.wait_for("shards that are shown", || {
            let samples = crate::exporter::scrape(port)?;
            let state = "appliance_log_exporter_shard_state";
            (samples.sum(state, &["state=\"active\""]) == expected as f64).then_some(())
        });
    };
    wait_for_shards(&mut exporter, 6 - led(3).count());
    let mut longest = Duration::ZERO;
    for number in 0..20 {
        let before = failures(&exporter.scrape());
        let (name, line) = line(40, number);
        let partition = led(1).next().expect("one of six");
        write_to(&producer, ("logs", partition), &name, &line);
        let written = std::time::Instant::now();
        exporter.wait_for("count of what was written", || {
            (failures(&crate::exporter::scrape(port)?) > before).then_some(())
        });
        longest = longest.max(written.elapsed());
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("shown {longest:.1?} after they were written, at most");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    cluster.signal(3, "CONT");
    wait_for_shards(&mut exporter, 6);
}

/// Minutes: brokers of three are killed, stay away and come back.
#[test]
#[ignore = "takes minutes; `make kafka` runs it"]
fn brokers_die_and_nothing_is_lost_or_counted_twice() {
    let mut cluster = Cluster::start(3);
    cluster.make_topic("logs", 6, &[]);
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path(), &cluster, "");
    let mut exporter = Exporter::start(&["--config.file", &config]);
    let mut expected = 0;
    for round in 0..6 {
        let broker = 1 + round % 3;
        write(&cluster, 30, 20);
        expected += 600;
        cluster.kill(broker);
        // Whoever led a partition is away, for longer than an election takes.
        write(&cluster, 30, 20);
        expected += 600;
        wait_for_failures(&mut exporter, expected);
        std::thread::sleep(Duration::from_secs(if round == 2 { 60 } else { 5 }));
        write(&cluster, 30, 20);
        expected += 600;
        wait_for_failures(&mut exporter, expected);
        cluster.boot(broker);
        cluster.wait();
    }
    // All of them, for half a minute, and the exporter is killed and started meanwhile.
    (1..=3).for_each(|broker| cluster.kill(broker));
    std::thread::sleep(Duration::from_secs(15));
    exporter.child.signal("KILL");
    let mut command = binary();
    command.args(["--config.file", &config]);
    let port = free_port();
    let child = Child::start(command.arg(format!("--web.listen-address=127.0.0.1:{port}")));
    let mut exporter = Exporter { child, port };
    std::thread::sleep(Duration::from_secs(15));
    (1..=3).for_each(|broker| cluster.boot(broker));
    cluster.wait();
    write(&cluster, 30, 20);
    expected += 600;
    let samples = wait_for_failures(&mut exporter, expected);
    for metric in ["lost_records_total", "log_replaced_total"] {
        let metric = format!("appliance_log_exporter_shard_{metric}");
        assert_eq!(samples.sum(&metric, &[]), 0.0);
    }
}
