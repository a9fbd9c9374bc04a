//! What a replica with ten shards of 417 appliances takes: figures of docs/scaling.md, printed. `make shards` runs it, with a
//! release build and the lines that `benches/goals/mixes.rs` writes.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::Cluster;
use crate::exporter::{Samples, binary};
use crate::support::{Child, free_port, http_get};

const SHARDS: i32 = 10;
/// A debug build on a busy machine is slow.
const LONG: Duration = Duration::from_secs(900);

/// The key of each line is its host's name, which stands behind the date.
fn lines(file: &Path) -> impl Iterator<Item = (String, String)> {
    let file = std::fs::File::open(file).expect("lines: see the Makefile");
    let lines = BufReader::new(file).lines().map(|line| line.expect("text"));
    lines.map(|line| {
        let named = line.split(' ').find(|word| word.starts_with("appliance-"));
        let name = named.expect("a name").to_owned();
        (name, line)
    })
}

/// A figure of `/proc/PID/status`, in MiB.
fn memory(child: &Child, figure: &str) -> u64 {
    status(child, figure) >> 10
}

/// The same as it stands there: KiB, if it is memory.
fn status(child: &Child, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
}

/// Processor time that a process has used, in seconds.
fn processor_time(port: u16) -> f64 {
    let answer = http_get(port, "/metrics?shard=rest").expect("an answer");
    let samples = Samples::parse(&answer.text());
    samples.value("process_cpu_seconds_total").expect("a value")
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let sizes = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => bytes_below(&path),
            false => path.metadata().map_or(0, |file| file.len()),
        }
    });
    sizes.sum()
}

#[test]
#[ignore = "takes minutes and a gigabyte; `make shards` runs it"]
fn what_a_large_replica_takes() {
    let file = std::env::var_os("FLEET").expect("FLEET names a file with lines");
    let cluster = Cluster::start(1);
    let records: Vec<_> = lines(Path::new(&file)).collect();
    let written = records.len();
    for (born, keeps_in_topic) in [
        ("at_once", false),
        ("lazily", false),
        ("at_once", true),
        ("lazily", true),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("config.yaml");
        let place = if keeps_in_topic { "topic" } else { "directory" };
        // Each reads a topic of its own: where the one before has committed an offset, the next begins.
        let topic = format!("logs-{born}-{place}");
        let time = ("message.timestamp.type", "LogAppendTime");
        cluster.make_topic(&topic, SHARDS, &[time]);
        for some in records.chunks(50_000) {
            let some = some.iter().map(|(key, line)| (key.as_str(), line.clone()));
            cluster.write(&topic, some);
        }
        let state_topic = format!("state-{born}");
        let more = match keeps_in_topic {
            true => {
                cluster.make_topic(&state_topic, SHARDS, &[("cleanup.policy", "compact")]);
                format!(", state_topic: {state_topic}")
            }
            false => String::new(),
        };
        std::fs::write(
            &config,
            format!(
                "sources:\n- name: fleet\n  kafka: {{brokers: ['{}'], topic: {topic}{more}}}\n  appliance: key\n\
                 state: {{directory: state, interval: 10s}}\n\
                 limits: {{series: 3000000, bytes: 3000000000, born: {born}}}\n",
                cluster.bootstrap()
            ),
        )
        .expect("it can be written");
        // In the same place, so that it need not wait for a lease.
        let port = free_port();
        let start = || {
            let mut command = binary();
            command.arg("--config.file").arg(&config);
            let begun = Instant::now();
            let mut child =
                Child::start(command.arg(format!("--web.listen-address=127.0.0.1:{port}")));
            child.wait_for("readiness", LONG, || {
                http_get(port, "/-/ready").filter(|answer| answer.status == 200)
            });
            (child, begun.elapsed())
        };
        let (mut child, took) = start();
        let cpu = processor_time(port);
        println!(
            "born {born}, state in a {place}: {written} lines read in {took:.1?}, {cpu:.1} s of processor time"
        );
        // A checkpoint of each shard is on disk.
        let state = directory.path().join("state");
        child.wait_for("checkpoints", LONG, || {
            let text = http_get(port, "/debug")?.text();
            let page = http_get(port, "/")?.text();
            (text.contains("fleet/9") && !page.contains(">never<")).then_some(())
        });
        std::thread::sleep(Duration::from_secs(25));
        let rss = memory(&child, "VmRSS:");
        let before = processor_time(port);
        let begun = Instant::now();
        let text = http_get(port, "/metrics").expect("an answer").text();
        let took = begun.elapsed();
        let cpu = processor_time(port) - before;
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series > written, "the lines were not read");
        println!(
            "  {series} samples, {} MiB of text in {took:.2?} ({cpu:.2} s of processor time); resident {rss} MiB before the first scrape, {} after, at most {}; {} threads",
            text.len() >> 20,
            memory(&child, "VmRSS:"),
            memory(&child, "VmHWM:"),
            status(&child, "Threads:")
        );
        let begun = Instant::now();
        let part = http_get(port, "/metrics?shard=fleet/0").expect("an answer");
        println!(
            "  one shard: {} KiB of text in {:.2?}",
            part.text().len() >> 10,
            begun.elapsed()
        );
        let of_shards = |port: u16, metric: &str| {
            let text = http_get(port, "/metrics?shard=rest")
                .expect("an answer")
                .text();
            let metric = format!("appliance_log_exporter_shard_{metric}");
            let samples = Samples::parse(&text);
            let values = samples
                .iter()
                .filter(|(series, _)| series.starts_with(&metric));
            values.map(|(_, value)| value).collect::<Vec<_>>()
        };
        let bytes = match keeps_in_topic {
            true => of_shards(port, "state_bytes").iter().sum::<f64>() as u64,
            false => bytes_below(&state),
        };
        println!("  state of {SHARDS} shards: {} KiB", bytes >> 10);
        child.signal("KILL");
        drop(child);
        let (child, took) = start();
        println!(
            "  after kill -9: ready in {took:.2?}, {:.2} s of processor time, resident {} MiB",
            processor_time(port),
            memory(&child, "VmRSS:")
        );
        if keeps_in_topic {
            let restores = of_shards(port, "restore_seconds");
            let longest = restores.iter().copied().fold(0.0, f64::max);
            println!(
                "  {} shards restored, the slowest in {longest:.2} s",
                restores.len()
            );
        }
    }
}

/// What shards take that have hardly a line, with their state in a topic of three brokers.
#[test]
#[ignore = "takes minutes; `make shards` runs it"]
fn what_shards_take_that_are_empty() {
    let cluster = Cluster::start(3);
    for shards in [1, 10, 40] {
        let (lines, state) = (format!("logs{shards}"), format!("state{shards}"));
        cluster.make_topic(
            &lines,
            shards,
            &[("message.timestamp.type", "LogAppendTime")],
        );
        cluster.make_topic(&state, shards, &[("cleanup.policy", "compact")]);
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("config.yaml");
        let brokers = cluster.bootstrap();
        let brokers: Vec<&str> = brokers.split(',').collect();
        std::fs::write(
            &config,
            format!(
                "sources:\n- name: fleet\n  kafka: {{brokers: {brokers:?}, topic: {lines}, state_topic: {state}}}\n  \
                 appliance: key\n"
            ),
        )
        .expect("it can be written");
        let port = free_port();
        let mut command = binary();
        command.arg("--config.file").arg(&config);
        let begun = Instant::now();
        let mut child = Child::start(command.arg(format!("--web.listen-address=127.0.0.1:{port}")));
        child.wait_for("shown shards", LONG, || {
            let samples = crate::exporter::scrape(port)?;
            let active = "appliance_log_exporter_shard_state";
            let active = samples.sum(active, &["state=\"active\""]);
            (active == f64::from(shards)).then_some(())
        });
        let took = begun.elapsed();
        // Some checkpoints.
        std::thread::sleep(Duration::from_secs(40));
        println!(
            "{shards} empty shards, shown after {took:.1?}: {} threads, resident {} MiB, {:.2} s of processor time",
            status(&child, "Threads:"),
            memory(&child, "VmRSS:"),
            processor_time(port)
        );
    }
}
