//! Sources of Apache Kafka: each partition of a topic is a shard.
//!
//! A source has a thread that reads ([`reader`]), one that asks where partitions end ([`watch`]) and one that asks where
//! to go on ([`places`]), and one that writes
//! checkpoints into a directory ([`writer`]), or one for each shard that keeps its state in a topic ([`state_topic`]).
//! Partitions are divided by number among replicas; no consumer group is used, and offsets are kept with the series that
//! they belong to. `docs/scaling.md` says what that promises.

mod check;
mod check_state;
mod client;
mod murmur2;
mod ownership;
mod owning;
mod places;
mod reader;
mod reading;
mod report;
mod state_reader;
mod state_topic;
mod watch;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing::error;

pub(crate) use check::{TopicFound, check};

use crate::config::{Config, Replica, Source};
use crate::engine::Engine;
use crate::heartbeat::Heartbeat;
use crate::metric::Limits;
use crate::own_metrics::OwnMetrics;
use crate::shard::{Owner, Shards, ShownToAll};

/// How long brokers that do not answer are left alone.
const RETRY: Duration = Duration::from_secs(2);

/// What a reload may change.
#[derive(Clone, Debug)]
struct Settings {
    source: Source,
    engine: Arc<Engine>,
    appliances: Vec<String>,
    /// Those of the process.
    limits: Limits,
    /// How many tables share them with the shards of this source.
    others: usize,
    line_bytes: usize,
    interval: Duration,
}

/// What other threads ask of a source's thread.
enum Command {
    /// Goes on with these.
    Replace(Box<Settings>),
    /// Forgets an appliance, and says whether it was known.
    Forget(String, SyncSender<bool>),
}

/// A source, as its threads and others see it.
struct Topic {
    name: Arc<str>,
    topic: String,
    replica: Replica,
    /// This process.
    owner: Owner,
    /// Up to which birth all scrapers were shown all; nothing without one.
    shown: Arc<ShownToAll>,
    directory: Option<PathBuf>,
    shards: Arc<Shards>,
    own: Arc<OwnMetrics>,
    counters: SourceCounters,
    heartbeat: Heartbeat,
    stop: AtomicBool,
    commands: Mutex<Vec<Command>>,
}

/// What is counted by source.
struct SourceCounters {
    lines_read: Counter,
    bytes_read: Counter,
    too_long: Counter,
    too_long_bytes: Counter,
}

/// The threads of all sources of Kafka.
pub(crate) struct Topics {
    topics: Vec<Arc<Topic>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Topic {
    /// Waits, and returns false if the process ends meanwhile.
    fn sleep(&self, time: Duration) -> bool {
        // Whoever stops it unparks it.
        if !self.stop.load(Ordering::SeqCst) {
            std::thread::park_timeout(time);
        }
        self.heartbeat.beat();
        !self.stop.load(Ordering::SeqCst)
    }
}

fn settings(config: &Config, source: &Source, engine: &Arc<Engine>) -> Settings {
    let others = config.sources.iter();
    let others = others.filter(|other| other.name != source.name && other.kafka().is_some());
    let has_lines = config.sources.iter().any(|source| source.kafka().is_none());
    Settings {
        source: source.clone(),
        engine: engine.clone(),
        appliances: config.appliances.clone(),
        limits: config.limits.table,
        others: others.count() + usize::from(has_lines),
        line_bytes: config.limits.line_bytes,
        interval: config.state.interval,
    }
}

/// What a reload cannot change: the topics, their brokers, and how they are divided.
pub(crate) fn fixed(config: &Config) -> Vec<(&str, &crate::config::Kafka)> {
    let sources = config.sources.iter();
    sources
        .filter_map(|source| Some((source.name.as_str(), source.kafka()?)))
        .collect()
}

/// Begins to read the topics of all sources that have one. `addresses` are those where scrapes are served, `shown` says up to
/// which birth all scrapers were shown all.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(
    config: &Config,
    engine: &Arc<Engine>,
    own: &Arc<OwnMetrics>,
    shards: &Arc<Shards>,
    addresses: &str,
    shown: &Arc<ShownToAll>,
) -> io::Result<Topics> {
    let mut topics = Topics {
        topics: Vec::new(),
        threads: Mutex::default(),
    };
    shards.wait_for(fixed(config).len());
    let owner = state_topic::owner(config.replica, addresses);
    for source in &config.sources {
        let Some(kafka) = source.kafka() else {
            continue;
        };
        let name = source.name.as_str();
        let topic = Arc::new(Topic {
            name: name.into(),
            topic: kafka.topic.clone(),
            replica: config.replica,
            owner: owner.clone(),
            shown: shown.clone(),
            directory: config.state.directory.clone(),
            shards: shards.clone(),
            own: own.clone(),
            counters: SourceCounters {
                lines_read: own.lines_read.get([name]),
                bytes_read: own.bytes_read.get([name]),
                too_long: own.lines_dropped.get([name, "too_long"]),
                too_long_bytes: own.lost_bytes.get([name, "too_long"]),
            },
            heartbeat: Heartbeat::default(),
            stop: AtomicBool::new(false),
            commands: Mutex::default(),
        });
        let settings = settings(config, source, engine);
        let thread = {
            let topic = topic.clone();
            std::thread::Builder::new()
                .name("kafka".into())
                .spawn(move || reader::read(&topic, settings))?
        };
        topics.topics.push(topic);
        topics.threads.lock().push(thread);
    }
    Ok(topics)
}

impl Topics {
    /// Goes on with other rules and settings. [`fixed`] ones must be the same.
    pub(crate) fn replace(&self, config: &Config, engine: &Arc<Engine>) {
        for topic in &self.topics {
            let mut sources = config.sources.iter();
            let Some(source) = sources.find(|source| *source.name == *topic.name) else {
                continue;
            };
            let settings = settings(config, source, engine);
            topic
                .commands
                .lock()
                .push(Command::Replace(Box::new(settings)));
        }
    }

    /// Forgets an appliance; each source says on `done` whether it knew it. Returns how many will.
    pub(crate) fn forget(&self, appliance: &str, done: &SyncSender<bool>) -> usize {
        for topic in &self.topics {
            let command = Command::Forget(appliance.to_owned(), done.clone());
            topic.commands.lock().push(command);
        }
        self.topics.len()
    }

    /// For how long the thread that has made no progress for longest has made none.
    pub(crate) fn heartbeat_age(&self) -> Duration {
        let ages = self.topics.iter().map(|topic| topic.heartbeat.age());
        ages.max().unwrap_or_default()
    }

    /// Stops to read, and returns once the last checkpoints are on disk.
    pub(crate) fn stop(&self) {
        for topic in &self.topics {
            topic.stop.store(true, Ordering::SeqCst);
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            thread.thread().unpark();
            if thread.join().is_err() {
                error!("a thread that reads a topic has panicked");
            }
        }
    }
}
