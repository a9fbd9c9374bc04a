//! Real servers scrape one exporter, each at its own interval and in its own format, and `increase()` sees every first
//! event on each of them. `make births` runs it: it takes some seven minutes, and Prometheus 3.16.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::exporter::{DOORS, Exporter, LONG, append, binary};
use crate::support::{Child, free_port, http_get, program, prometheus_query, root, succeeds};

/// Births before the exporter is stopped, while it is down, and after that.
const BIRTHS: [u32; 3] = [16, 8, 8];
/// The longest interval that is used, and a bit.
const SLOWEST: Duration = Duration::from_secs(75);

/// A server, and what is said of its births.
struct Server {
    name: &'static str,
    child: Child,
    port: u16,
}

impl Server {
    /// `settings` is the scrape configuration but for its targets, and what stands beside it.
    fn start(
        binary: &Path,
        directory: &Path,
        (name, settings, flags): (&'static str, &str, &[&str]),
        exporter: u16,
    ) -> Self {
        let port = free_port();
        let directory = directory.join(name.replace(' ', "-"));
        std::fs::create_dir(&directory).expect("a directory");
        let config = directory.join("prometheus.yml");
        let text = format!(
            "{settings}\nscrape_configs:\n- job_name: '{name}'\n  static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]\n"
        );
        std::fs::write(&config, text).expect("it can be written");
        let storage = match flags.contains(&"--agent") {
            true => "agent",
            false => "tsdb",
        };
        let child = Child::start(
            Command::new(binary)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.{storage}.path={}",
                    directory.join("data").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(flags),
        );
        let mut server = Self { name, child, port };
        server.child.wait_for("readiness", LONG, || {
            http_get(port, "/-/ready").filter(|answer| answer.status == 200)
        });
        server
    }
}

fn birth(log: &Path, number: u32) {
    let line = format!("Feb 29 12:05:01 hsm1 sited: door {number}\n");
    append(
        log,
        line.repeat(if number.is_multiple_of(2) { 1 } else { 5 })
            .as_bytes(),
    );
}

#[test]
#[ignore = "takes minutes, and a Prometheus that is built first: make births"]
fn every_server_sees_every_first_event() {
    let install = succeeds(&mut Command::new(
        root().join("tests/install-prometheus3.sh"),
    ));
    let new = PathBuf::from(install.out.trim()).join("prometheus");
    let old = program("prometheus");
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("rules")).expect("a directory");
    std::fs::write(path("rules/site.yaml"), DOORS).expect("it can be written");
    let log = path("messages");
    let port = free_port();
    let flags = [
        format!("--log.file={}", log.display()),
        format!("--rules.dir={}", path("rules").display()),
        format!("--state.dir={}", path("state").display()),
    ];
    let start = || Exporter::start_on(binary().args(&flags), port);
    let mut exporter = start();

    let [fast, slow] =
        ["15s", "60s"].map(|interval| format!("global: {{scrape_interval: {interval}}}"));
    let protobuf = |settings: &str| settings.replace('}', ", scrape_protocols: [PrometheusProto]}");
    let zeros = "--enable-feature=created-timestamp-zero-ingestion";
    let mut servers: Vec<Server> = [
        (&old, ("2.42 15s", fast.clone(), &[][..])),
        (
            &old,
            (
                "2.42 15s protobuf",
                fast.clone(),
                &["--enable-feature=native-histograms"][..],
            ),
        ),
        (&old, ("2.42 60s", slow.clone(), &[][..])),
        (
            &new,
            (
                "3.16 15s",
                fast.clone(),
                &["--web.enable-remote-write-receiver"][..],
            ),
        ),
        (
            &new,
            (
                "3.16 60s zstd",
                slow.clone(),
                &["--enable-feature=zstd-scrape"][..],
            ),
        ),
        (&new, ("3.16 15s protobuf", protobuf(&fast), &[][..])),
        (
            &new,
            ("3.16 60s start timestamps", protobuf(&slow), &[zeros][..]),
        ),
    ]
    .into_iter()
    .map(|(binary, (name, settings, flags))| {
        Server::start(binary, directory.path(), (name, &settings, flags), port)
    })
    .collect();
    // What the agent sees goes to the server that takes it, with a job of its own.
    let receiver = servers[3].port;
    let to = format!("{fast}\nremote_write: [{{url: 'http://127.0.0.1:{receiver}/api/v1/write'}}]");
    let _agent = Server::start(&new, directory.path(), ("agent", &to, &["--agent"]), port);
    // Each has scraped before the first birth.
    for server in &mut servers {
        let query = format!("up{{job='{}'}} == 1", server.name);
        let at = server.port;
        server.child.wait_for("a scrape", SLOWEST, || {
            prometheus_query(at, &query).filter(|found| found.len() == 1)
        });
    }

    let pause = |seconds: f32| std::thread::sleep(Duration::from_secs_f32(seconds));
    let begun = Instant::now();
    let mut number = 0;
    let mut next = || {
        number += 1;
        birth(&log, number);
    };
    for _ in 0..BIRTHS[0] {
        next();
        pause(7.3);
    }
    // All are on one host and look alike to another process: each must have been shown what was born before.
    pause(SLOWEST.as_secs_f32());
    exporter.child.signal("TERM");
    exporter.child.wait_for_end(LONG);
    for _ in 0..BIRTHS[1] {
        next();
    }
    pause(5.0);
    let exporter = start();
    for _ in 0..BIRTHS[2] {
        next();
        pause(7.3);
    }
    // Two scrapes of the slowest.
    pause(SLOWEST.as_secs_f32() * 2.0);

    let births: u32 = BIRTHS.iter().sum();
    let window = format!("[{}s]", begun.elapsed().as_secs() + 120);
    let mut missed = Vec::new();
    let jobs = servers.iter().map(|server| (server.name, server.port));
    for (job, at) in jobs.chain([("agent", receiver)]) {
        let count = |query: &str| {
            let found = prometheus_query(at, query).unwrap_or_default();
            let value = found
                .first()
                .and_then(|one| one["value"][1].as_str()?.parse().ok());
            value.unwrap_or(0)
        };
        let series = format!("site_doors_total{{job='{job}'}}{window}");
        let seen: u32 = count(&format!("count(increase({series}) > 0)"));
        let fallen: u32 = count(&format!("count(resets({series}) > 0)"));
        println!("{job}: {seen} of {births} first events seen, {fallen} series fell");
        if seen != births || fallen > 0 {
            missed.push(job);
        }
    }
    assert!(missed.is_empty(), "{missed:?}\n{}", exporter.child.output());
}
