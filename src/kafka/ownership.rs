//! Whose a shard is whose state is in a topic: the state machine, the shard's thread, and what is counted.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::client::Logged;
use super::state_reader::Place;
use super::state_topic::{Job, StateThread};
use super::{Settings, Topic};
use crate::shard::Machine;

/// How long it waits until it is kept which record ends it.
const FAILED_MAX: Duration = Duration::from_secs(5);

/// Whose a shard is.
pub(super) struct Ownership {
    pub(super) machine: Machine,
    pub(super) thread: StateThread,
    /// No checkpoint is due before, but for the lease.
    pub(super) checkpoint_at: Instant,
    /// There is a checkpoint, so that it can be kept which record ends the process.
    pub(super) has_checkpoint: bool,
    /// Up to which birth everybody was shown all, as the last checkpoint says that was begun.
    pub(super) shown: u64,
    pub(super) events: Events,
}

/// Handles of what is counted.
pub(super) struct Events {
    pub(super) restored: Counter,
    pub(super) released: Counter,
    pub(super) fenced: Counter,
    pub(super) contended: Counter,
    pub(super) lease_over: Counter,
    pub(super) given_up: Counter,
    pub(super) missing: Counter,
}

impl Ownership {
    /// Of a shard that is wanted; nothing if its state is in no topic.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn new(
        topic: &Topic,
        settings: &Settings,
        partition: i32,
    ) -> io::Result<Option<Self>> {
        let kafka = settings.source.kafka();
        let Some((kafka, state)) = kafka.and_then(|kafka| Some((kafka, kafka.state.as_ref()?)))
        else {
            return Ok(None);
        };
        let thread = StateThread::start(Place {
            source: topic.name.clone(),
            kafka: kafka.clone(),
            state: state.clone(),
            partition,
            own: topic.own.clone(),
            logged: Logged::default(),
            stop: Arc::default(),
            progress: Arc::default(),
        })?;
        let label = partition.to_string();
        let (source, label) = (&*topic.name, label.as_str());
        let metrics = &topic.own.shards;
        const EVENTS: [&str; 6] = [
            "restored",
            "released",
            "fenced",
            "contended",
            "lease_over",
            "given_up",
        ];
        metrics.touch_state(source, label, &EVENTS);
        let event = |event: &str| metrics.events.get([source, label, event]);
        Ok(Some(Self {
            machine: Machine::new(topic.owner.clone(), state.lease),
            thread,
            checkpoint_at: Instant::now(),
            has_checkpoint: false,
            shown: 0,
            events: Events {
                restored: event("restored"),
                released: event("released"),
                fenced: event("fenced"),
                contended: event("contended"),
                lease_over: event("lease_over"),
                given_up: event("given_up"),
                missing: metrics.state_missing.get([source, label]),
            },
        }))
    }

    /// Whether records are counted.
    pub(super) fn is_read(&self) -> bool {
        self.machine.is_owner() && self.has_checkpoint
    }

    /// The process ends because of the record at this offset; the next one shall know. Waits until that is kept, but not for
    /// ever.
    pub(super) fn failed(&self, offset: i64) {
        let (done, finished) = channel();
        self.thread.ask(Job::Failed(offset, done));
        // With brokers that do not answer, it is one attempt that nobody remembers.
        let _ = finished.recv_timeout(FAILED_MAX);
    }
}
