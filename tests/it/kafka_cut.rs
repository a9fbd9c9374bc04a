//! Replicas that are cut off from the brokers, or from Prometheus, or that somebody else stands in for meanwhile. Each runs in a
//! network namespace of its own, with a link to the brokers and one to Prometheus. `make kafka` runs it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::broker::Cluster;
use crate::exporter::LONG;
use crate::kafka_chaos::writer;
use crate::kafka_state::{LEASE, METRIC, Watcher, prepare};
use crate::support::{
    Child, free_port, program, prometheus_command, prometheus_query, succeeds, wait_for,
};

const REPLICAS: usize = 3;
const PARTITIONS: i32 = 6;
/// Where the brokers are.
const BROKERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PORT: u16 = 10067;
/// Says that this process is in its namespace.
const INSIDE: &str = "KAFKA_CUT_INSIDE";

fn ip(arguments: &str) {
    succeeds(Command::new(program("ip")).args(arguments.split(' ')));
}

/// A network namespace with two links.
struct Room {
    number: usize,
    /// Keeps the namespace.
    keeper: Child,
}

impl Room {
    fn new(number: usize) -> Self {
        let keeper =
            Child::start(Command::new(program("unshare")).args(["--net", "sleep", "10000"]));
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = keeper.pid().to_string();
        wait_for("a namespace", LONG, || {
            let is_other = of(&pid).is_some_and(|net| Some(net) != of("self"));
            is_other.then_some(())
        });
        let room = Self { number, keeper };
        for (link, net) in [("brokers", 1), ("scrapes", 2)] {
            let (here, there) = (4 * number + 1, 4 * number + 2);
            ip(&format!(
                "link add {link}{number} type veth peer name {link} netns {pid}"
            ));
            ip(&format!(
                "address add 198.18.{net}.{here}/30 dev {link}{number}"
            ));
            ip(&format!("link set {link}{number} up"));
            room.inside(&format!(
                "ip address add 198.18.{net}.{there}/30 dev {link}"
            ));
            room.inside(&format!("ip link set {link} up"));
        }
        room.inside("ip link set lo up");
        let gateway = 4 * number + 1;
        room.inside(&format!("ip route add {BROKERS} via 198.18.1.{gateway}"));
        room
    }

    fn enter(&self) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.arg(format!("--net=/proc/{}/ns/net", self.keeper.pid()));
        command
    }

    fn inside(&self, arguments: &str) {
        succeeds(self.enter().args(arguments.split(' ')));
    }

    fn address(&self) -> SocketAddr {
        let last = u8::try_from(4 * self.number + 2).expect("a few");
        (Ipv4Addr::new(198, 18, 2, last), PORT).into()
    }

    /// An exporter that has this share of the partitions.
    fn start(&self, config: &str, share: usize) -> Child {
        Child::start(
            self.enter()
                .arg(env!("CARGO_BIN_EXE_appliance_log_exporter"))
                .args(["--config.file", config])
                .arg(format!("--shard={share}/{REPLICAS}"))
                .arg(format!("--web.listen-address={}", self.address())),
        )
    }

    /// Takes a link down, or up again.
    fn set(&self, link: &str, state: &str) {
        ip(&format!("link set {link}{} {state}", self.number));
    }
}

/// Prometheus, which scrapes all rooms.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(directory: &Path, rooms: &[Room]) -> Self {
        let targets: Vec<String> = rooms
            .iter()
            .map(|room| room.address().to_string())
            .collect();
        let file = directory.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n- job_name: exporter\n  \
             static_configs: [{{targets: {targets:?}}}]\n  metric_relabel_configs:\n  \
             - {{source_labels: [appliance], regex: (.+), target_label: instance}}\n"
        );
        std::fs::write(&file, text).expect("it can be written");
        let port = free_port();
        let mut command = prometheus_command(&file, &directory.join("prometheus"), port);
        let child = Child::start(&mut command);
        Self { child, port }
    }

    fn wait(&mut self, expression: &str, wanted: f64) {
        let port = self.port;
        let what = format!("{expression} = {wanted}");
        self.child.wait_for(&what, LONG, || {
            let found = prometheus_query(port, expression)?;
            let value: f64 = found.first()?["value"][1].as_str()?.parse().ok()?;
            (value == wanted).then_some(())
        });
    }

    /// Waits until so many shards are shown, and so many replicas answer.
    fn wait_until_shown(&mut self, shards: i32, replicas: usize) {
        let active = "sum(appliance_log_exporter_shard_state{state=\"active\"})";
        self.wait("sum(up)", replicas as f64);
        self.wait(active, f64::from(shards));
    }
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[test]
#[ignore = "takes minutes; `make kafka` runs it"]
fn kafka_replicas_are_cut_off_and_every_line_is_shown_once() {
    if std::env::var_os(INSIDE).is_none() {
        let name = "kafka_cut::kafka_replicas_are_cut_off_and_every_line_is_shown_once";
        let status = Command::new(program("unshare"))
            .args(["--user", "--map-root-user", "--net"])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture", name])
            .env(INSIDE, "1")
            .status();
        assert!(status.expect("it starts").success());
        return;
    }
    ip("link set lo up");
    ip(&format!("address add {BROKERS}/32 dev lo"));
    let cluster = Cluster::start_at(BROKERS, 3);
    let (directory, config) = prepare(&cluster, PARTITIONS);
    // The last one is for a substitute.
    let rooms: Vec<Room> = (0..=REPLICAS).map(Room::new).collect();
    let mut replicas: Vec<Child> = (0..REPLICAS)
        .map(|at| rooms[at].start(&config, at))
        .collect();
    let watcher = Watcher::start_at(rooms.iter().map(Room::address));
    let mut prometheus = Prometheus::start(directory.path(), &rooms);
    prometheus.wait_until_shown(PARTITIONS, REPLICAS);
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(cluster.bootstrap(), stop.clone());
    pause(Duration::from_secs(5));

    for room in &rooms[..REPLICAS] {
        println!("replica {} is cut off from the brokers", room.number);
        room.set("brokers", "down");
        // It answers, and shows nothing.
        prometheus.wait_until_shown(PARTITIONS - 2, REPLICAS);
        pause(LEASE / 2);
        room.set("brokers", "up");
        prometheus.wait_until_shown(PARTITIONS, REPLICAS);
    }
    for room in &rooms[..REPLICAS] {
        println!("replica {} is cut off from Prometheus", room.number);
        room.set("scrapes", "down");
        prometheus.wait("sum(up)", (REPLICAS - 1) as f64);
        pause(LEASE + LEASE / 2);
        room.set("scrapes", "up");
        prometheus.wait_until_shown(PARTITIONS, REPLICAS);
    }
    println!("replica 0 is cut off from the brokers, and another one is started in its place");
    rooms[0].set("brokers", "down");
    let mut substitute = rooms[REPLICAS].start(&config, 0);
    prometheus.wait_until_shown(PARTITIONS, REPLICAS + 1);
    rooms[0].set("brokers", "up");
    let contended = "sum(appliance_log_exporter_shard_state{state=\"contended\"})";
    prometheus.wait(contended, 2.0);
    substitute.signal("TERM");
    substitute.wait_for_end(LONG);
    prometheus.wait_until_shown(PARTITIONS, REPLICAS);

    stop.store(true, Ordering::SeqCst);
    let written = writing.join().expect("it has not panicked");
    let mut children: Vec<&mut Child> = replicas.iter_mut().collect();
    watcher.wait_for_all(written, &mut children);
    println!("{written} lines, {} scrapes", watcher.finish());
    let all = format!("sum(max_over_time({METRIC}[1h]))");
    prometheus.wait(&all, written as f64);
    let seen = format!("sum(max_over_time({METRIC}[1h]) - min_over_time({METRIC}[1h]))");
    prometheus.wait(&seen, written as f64);
    prometheus.wait(&format!("max(resets({METRIC}[1h]))"), 0.0);
}
