//! A record that makes the exporter end by a fault of its own, against a real Apache Kafka. No line is known that does so;
//! that of this test does it in the exporter as unit tests are compiled, whose executable is run here as the exporter.

use std::process::Command;

use crate::broker::Cluster;
use crate::exporter::{LONG, scrape};
use crate::kafka_state::{METRIC, own, prepare};
use crate::support::{Child, free_port, root, succeeds};

/// The executable of the unit tests, which cargo has built before, or builds now.
fn unit_tests() -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "test",
            "--locked",
            "--features",
            "kafka",
            "--lib",
            "--no-run",
        ])
        .arg("--message-format=json")
        .current_dir(root());
    let built = succeeds(&mut cargo).out;
    let mut built = built.lines().filter_map(|line| {
        let built: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(built["executable"].as_str()?.to_owned())
    });
    built.next_back().expect("an executable")
}

#[test]
#[ignore = "builds the unit tests; `make kafka` runs it"]
fn a_record_that_ends_the_exporter_three_times_is_skipped_and_counted() {
    let executable = unit_tests();
    let cluster = Cluster::start(1);
    let (directory, with_topic) = prepare(&cluster, 1);
    let with_directory = directory.path().join("directory.yaml");
    let text = std::fs::read_to_string(&with_topic).expect("a file");
    let text = text.replace(", state_topic: logs-state, lease: 15s", "");
    let text = text.replace("state: {", "state: {directory: state, ");
    std::fs::write(&with_directory, text).expect("it can be written");
    let line = |text: &str| ("hsm1", format!("Feb 29 12:05:01 hsm1 sshd[7]: {text}"));
    let login = "Failed password for root from 192.0.2.1 port 22 ssh2";
    let records = [login, login, "a fault of the exporter", login];
    cluster.write("logs", records.map(line));
    for config in [with_topic, with_directory.display().to_string()] {
        let port = free_port();
        let start = || {
            let listen = format!("--web.listen-address=127.0.0.1:{port}");
            let mut command = Command::new(&executable);
            command
                .args([
                    "--exact",
                    "cli::tests::exporter",
                    "--ignored",
                    "--nocapture",
                ])
                .env("ARGUMENTS", ["--config.file", &config, &listen].join("\n"));
            Child::start(&mut command)
        };
        for _ in 0..3 {
            let mut child = start();
            let status = child.wait_for_end(LONG);
            assert!(!status.success(), "{}", child.output());
            let said = child.output();
            assert!(said.contains("a thread has panicked; ending"), "{said}");
        }
        // What came before it and after it is counted, once.
        let mut child = start();
        let samples = child.wait_for("count of all others", LONG, || {
            scrape(port).filter(|samples| samples.sum(METRIC, &[]) == 3.0)
        });
        let dropped = |reason| own(&samples, "records_dropped_total", &[reason]);
        assert_eq!(dropped("reason=\"fatal\""), 1.0);
        assert_eq!(dropped(""), 1.0);
        assert_eq!(own(&samples, "next_offset", &[]), 4.0);
        assert_eq!(own(&samples, "lost_records_total", &[]), 0.0);
        child.wait_for("checkpoint", LONG, || {
            let samples = scrape(port)?;
            (own(&samples, "checkpoint_age_seconds", &[]) < 1.0).then_some(())
        });
        child.signal("TERM");
        child.wait_for_end(LONG);
        // That is kept, too.
        let mut child = start();
        let samples = child.wait_for("count of all others", LONG, || {
            scrape(port).filter(|samples| samples.sum(METRIC, &[]) == 3.0)
        });
        assert_eq!(own(&samples, "records_dropped_total", &[]), 0.0);
        assert_eq!(own(&samples, "next_offset", &[]), 4.0);
    }
}
