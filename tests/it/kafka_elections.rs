//! Unclean elections: a broker that lagged leads a partition, and records are lost that were acknowledged.

use std::path::Path;

use crate::broker::Cluster;
use crate::exporter::{Exporter, LONG, Samples, binary};
use crate::kafka_state::{METRIC, Watcher, assert_nothing_lost, own, settings, start, write};
use crate::support::free_port;

/// Brokers of which the second one lags, and leads when the first one is gone.
struct Lagging {
    cluster: Cluster,
    /// Partitions that lose their end.
    cut: Vec<(&'static str, i32)>,
}

const UNCLEAN: [(&str, &str); 2] = [
    ("unclean.leader.election.enable", "true"),
    ("min.insync.replicas", "1"),
];
const ON_TWO: &[i32] = &[1, 2];
/// The third one leads them, and goes on.
const SAFE: &[i32] = &[3, 2];

impl Lagging {
    fn wait_for_leader(&self, leader: i32, in_sync: usize) {
        let cut = self.cut.iter();
        cut.for_each(|partition| self.cluster.wait_for_leader(*partition, leader, in_sync));
    }

    /// The second broker does not get what follows.
    fn lag(&mut self) {
        self.wait_for_leader(1, 2);
        self.cluster.signal(2, "STOP");
        self.wait_for_leader(1, 1);
    }

    /// It leads, without that.
    fn elect(&mut self) {
        let ends = |lagging: &Self| {
            let ends = lagging.cut.iter().map(|(topic, partition)| {
                let (end, _) = lagging.cluster.ends(topic, *partition);
                end
            });
            ends.collect::<Vec<_>>()
        };
        let before = ends(self);
        self.cluster.kill(1);
        self.cluster.signal(2, "CONT");
        self.wait_for_leader(2, 1);
        let after = ends(self);
        println!("{:?} ended at {before:?}, and at {after:?}", self.cut);
        let mut both = before.iter().zip(&after);
        assert!(both.all(|(before, after)| after < before));
    }
}

fn of(samples: &Samples, metric: &str, shard: i32) -> f64 {
    own(samples, metric, &[&format!("partition=\"{shard}\"")])
}

/// Of one shard the log loses its end, of another one its state does, while their owner goes on. Then it is killed.
#[test]
fn what_unclean_elections_lose_is_noticed_and_counters_do_not_fall() {
    let cluster = Cluster::start_frugal();
    let [enable, enough] = UNCLEAN;
    let time = ("message.timestamp.type", "LogAppendTime");
    cluster.make_topic_on("logs", &[ON_TWO, SAFE], &[enable, enough, time]);
    let compact = ("cleanup.policy", "compact");
    cluster.make_topic_on("logs-state", &[SAFE, ON_TWO], &[enable, enough, compact]);
    let mut lagging = Lagging {
        cluster,
        cut: vec![("logs", 0), ("logs-state", 1)],
    };
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path(), &lagging.cluster);
    let port = free_port();
    let mut exporter = start(&config, "0/1", port);
    let watcher = Watcher::start(&[port]);
    let count = |lagging: &Lagging, appliances: usize, all: usize, exporter: &mut Exporter| {
        write(&lagging.cluster, appliances, 10);
        watcher.wait_for(all, &mut [exporter]);
        (0..2).for_each(|shard| lagging.cluster.wait_for_checkpoint("logs", shard));
    };
    count(&lagging, 12, 120, &mut exporter);
    lagging.lag();
    count(&lagging, 12, 240, &mut exporter);
    // What is known of the other half is not written again.
    count(&lagging, 6, 300, &mut exporter);
    lagging.elect();
    count(&lagging, 6, 360, &mut exporter);
    let samples = exporter.scrape();
    assert_eq!(of(&samples, "log_replaced_total", 0), 1.0);
    assert_eq!(of(&samples, "log_replaced_total", 1), 0.0);
    assert_eq!(own(&samples, "lost_records_total", &[]), 0.0);
    exporter.child.signal("KILL");
    exporter.child.wait_for_end(LONG);
    exporter = start(&config, "0/1", port);
    count(&lagging, 12, 480, &mut exporter);
    assert_nothing_lost(&exporter.scrape());
    println!("{} scrapes", watcher.finish());
}

/// An exporter whose state is in a directory.
fn start_alone(directory: &Path, cluster: &Cluster) -> Exporter {
    let config = directory.join("config.yaml");
    let brokers = cluster.bootstrap();
    let brokers: Vec<&str> = brokers.split(',').collect();
    let text = format!(
        "sources:\n- name: fleet\n  kafka: {{brokers: {brokers:?}, topic: logs}}\n  appliance: key\n\
         state: {{directory: state, interval: 500ms}}\n"
    );
    std::fs::write(&config, text).expect("it can be written");
    Exporter::start_on(binary().arg("--config.file").arg(config), free_port())
}

/// The log loses its end, and is longer than before when its readers look again: one that has read records since it was
/// started, and one that has not.
#[test]
fn a_log_that_was_cut_off_and_has_grown_again_is_noticed() {
    let cluster = Cluster::start_frugal();
    let [enable, enough] = UNCLEAN;
    let time = ("message.timestamp.type", "LogAppendTime");
    cluster.make_topic_on("logs", &[ON_TWO], &[enable, enough, time]);
    let mut lagging = Lagging {
        cluster,
        cut: vec![("logs", 0)],
    };
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let start =
        |lagging: &Lagging, at: usize| start_alone(directories[at].path(), &lagging.cluster);
    let mut exporters = [0, 1].map(|at| start(&lagging, at));
    let wait = |exporters: &mut [Exporter], expected: usize| {
        for one in exporters {
            let port = one.port;
            one.wait_for("count of lines", || {
                let samples = crate::exporter::scrape(port)?;
                let count = samples.sum(METRIC, &[]);
                assert!(count <= expected as f64, "{count} of {expected}");
                (count == expected as f64).then_some(())
            });
        }
    };
    write(&lagging.cluster, 6, 10);
    wait(&mut exporters, 60);
    lagging.lag();
    write(&lagging.cluster, 6, 10);
    wait(&mut exporters, 120);
    exporters[1].child.signal("TERM");
    exporters[1].child.wait_for_end(LONG);
    exporters[1] = start(&lagging, 1);
    let port = exporters[1].port;
    exporters[1].wait_for("place in the log", || {
        let samples = crate::exporter::scrape(port)?;
        (own(&samples, "state", &["state=\"active\""]) == 1.0).then_some(())
    });

    for one in &exporters {
        one.child.signal("STOP");
    }
    lagging.elect();
    write(&lagging.cluster, 6, 20);
    let (end, _) = lagging.cluster.ends("logs", 0);
    assert!(end > 120, "{end}");
    for one in &exporters {
        one.child.signal("CONT");
    }
    // What was lost had been counted.
    wait(&mut exporters, 240);
    for one in &exporters {
        let samples = one.scrape();
        assert_eq!(own(&samples, "log_replaced_total", &[]), 1.0);
        assert_eq!(own(&samples, "lost_records_total", &[]), 0.0);
    }
}
