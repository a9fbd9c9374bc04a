//! The state of a shard in a topic of the brokers: a thread for each shard, which may wait for brokers.
//!
//! A checkpoint is one transaction under an id that belongs to the shard. Whoever initialises that id fences off the one
//! before, whose transactions are aborted, so that a reader finds whole checkpoints of one owner after the other. The
//! records are those of `shard/blocks.rs`; the topic is compacted.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tracing::error;

use super::client::{self, Context};
use super::state_reader::{CALL_MAX, Checkpoint, Fault, Place};
use crate::config::Replica;
use crate::engine::Engine;
use crate::heartbeat::{EndOnPanic, Heartbeat};
use crate::metric::{Restored, Saved};
use crate::shard::{Blocks, Claim, Head, Key, Owner, fingerprint, split};
use crate::state;

/// How long a fence tries with the same producer, which may be what hinders it.
const FENCE_MAX: Duration = Duration::from_secs(60);
/// Threads of a shard that were given up and have not ended. Each has a producer.
const GIVEN_UP_MAX: usize = 2;
/// Bytes of one block when it is not compressed.
const BLOCK_BYTES_MAX: u64 = 16 << 20;

/// What a shard's thread is asked to do.
pub(super) enum Job {
    Fence,
    /// Restores into this one's table, which is empty.
    Restore(Arc<Engine>),
    Commit(Box<(Head, Saved)>),
    /// The record at this offset ends the process; answers when that is committed.
    Failed(i64, Sender<()>),
    Look,
}

/// What came of it.
pub(super) enum Answer {
    Fenced,
    Restored(Box<Found>),
    /// The births up to this number are kept, and the records before this offset, in so many bytes.
    Committed {
        births: u64,
        next_offset: i64,
        bytes: u64,
    },
    Looked(Option<Claim>),
    /// Nothing is known but that it has not worked.
    Failed,
    /// The brokers do not accept us any more.
    Refused,
}

/// What a restore found.
pub(super) struct Found {
    /// Nothing if there was no checkpoint.
    pub(super) head: Option<Head>,
    pub(super) engine: Arc<Engine>,
    pub(super) restored: Restored,
    /// Blocks that are not there, or cannot be read.
    pub(super) missing: u64,
    pub(super) took: Duration,
}

/// The thread of a shard, as the reading thread sees it.
pub(super) struct StateThread {
    place: Place,
    current: Running,
    /// Those whose calls have not returned in time. They end when the calls return.
    given_up: Vec<JoinHandle<()>>,
}

struct Running {
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    /// Nothing is tried again.
    stop: Arc<AtomicBool>,
    /// Calls of a fence or a restore return.
    progress: Arc<Heartbeat>,
    /// It may hang in a call when the process ends, so nobody joins it.
    thread: JoinHandle<()>,
}

impl Running {
    fn start(place: &Place) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let (answer, answers) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Heartbeat::default());
        let place = Place {
            stop: stop.clone(),
            progress: progress.clone(),
            ..place.clone()
        };
        let thread = std::thread::Builder::new()
            .name("kafka-state".into())
            .spawn(move || {
                let _end = EndOnPanic;
                Worker::new(place).work(&queue, &answer);
            })?;
        Ok(Self {
            jobs,
            answers,
            stop,
            progress,
            thread,
        })
    }
}

impl StateThread {
    pub(super) fn start(place: Place) -> std::io::Result<Self> {
        Ok(Self {
            current: Running::start(&place)?,
            place,
            given_up: Vec::new(),
        })
    }

    /// There is one job at a time, and so one answer.
    pub(super) fn ask(&self, job: Job) {
        // The thread ends when this is dropped, or by a panic, which ends the process.
        let _ = self.current.jobs.send(job);
    }

    pub(super) fn answer(&self) -> Option<Answer> {
        self.current.answers.try_recv().ok()
    }

    pub(super) fn answer_within(&self, wait: Duration) -> Option<Answer> {
        self.current.answers.recv_timeout(wait).ok()
    }

    /// For how long no call of a fence or a restore has returned.
    pub(super) fn progress_age(&self) -> Duration {
        self.current.progress.age()
    }

    /// Leaves the thread to itself, whose call to the brokers does not return, and goes on with another one. Returns false if
    /// too many do not return, or a thread cannot be started.
    pub(super) fn give_up(&mut self) -> bool {
        self.given_up.retain(|thread| !thread.is_finished());
        if self.given_up.len() >= GIVEN_UP_MAX {
            let _ = self.place.complain("calls do not return");
            return false;
        }
        let next = match Running::start(&self.place) {
            Ok(next) => next,
            Err(error) => {
                let _ = self.place.complain(&format!("no thread: {error}"));
                return false;
            }
        };
        self.stop();
        let former = std::mem::replace(&mut self.current, next);
        self.given_up.push(former.thread);
        true
    }

    /// Nothing is tried again.
    pub(super) fn stop(&self) {
        self.current.stop.store(true, Ordering::SeqCst);
    }
}

/// A block as it stands in the topic.
struct Kept {
    /// That of its content, if it is known.
    fingerprint: Option<u64>,
    blocks: Blocks,
    bytes: u64,
}

struct Worker {
    place: Place,
    producer: Option<ThreadedProducer<Context>>,
    /// What the last checkpoint consists of.
    kept: HashMap<Key, Kept>,
    head: Option<Head>,
    /// Where the head was seen last.
    head_at: i64,
}

impl Worker {
    fn new(place: Place) -> Self {
        Self {
            place,
            producer: None,
            kept: HashMap::new(),
            head: None,
            head_at: 0,
        }
    }

    fn work(mut self, jobs: &Receiver<Job>, answers: &Sender<Answer>) {
        while let Ok(job) = jobs.recv() {
            let done = match job {
                Job::Fence => self.fence().map(|()| Answer::Fenced),
                Job::Restore(engine) => {
                    let found = self.restore(engine);
                    found.map(|found| Answer::Restored(Box::new(found)))
                }
                Job::Commit(checkpoint) => self.checkpoint(*checkpoint),
                Job::Look => self.place.last_claim(self.head_at).map(|(claim, head_at)| {
                    self.head_at = head_at;
                    Answer::Looked(claim)
                }),
                Job::Failed(offset, done) => {
                    if let Some(mut head) = self.head.clone() {
                        head.failed_at(offset);
                        let _ = self.commit(&head, &[]);
                    }
                    let _ = done.send(());
                    continue;
                }
            };
            let answer = done.unwrap_or_else(|fault| match fault {
                Fault::Failed => Answer::Failed,
                Fault::Refused => {
                    // One that was fenced off is of no use any more.
                    self.producer = None;
                    Answer::Refused
                }
            });
            if answers.send(answer).is_err() {
                return;
            }
        }
    }

    fn trouble(&self, error: &KafkaError, doing: &str) {
        match &self.producer {
            Some(producer) => producer.client().context().trouble(error, doing),
            None => _ = self.place.complain(&format!("{doing}: {error}")),
        }
    }

    /// Fences off whoever wrote before, and whose transactions are open.
    fn fence(&mut self) -> Result<(), Fault> {
        let place = &self.place;
        let id = format!("ale.{}.{}", place.kafka.topic, place.partition);
        let lease_ms = place.state.lease.as_millis();
        let config = client::config(&place.kafka).map(|mut config| {
            config
                .set("transactional.id", id)
                // A commit that takes longer is of no use.
                .set("transaction.timeout.ms", lease_ms.to_string())
                .set("linger.ms", "0");
            config
        });
        let context = Context::new(&place.source, &place.own, place.logged.clone());
        let made = config.and_then(|config| {
            let made = config.create_with_context(context);
            made.map_err(|error| error.to_string())
        });
        self.producer = None;
        let producer: ThreadedProducer<Context> = made.map_err(|error| place.complain(&error))?;
        let producer = self.producer.insert(producer);
        let begun = Instant::now();
        loop {
            let error = match producer.init_transactions(CALL_MAX) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.place.progress.beat();
            // The same call goes on where it was; a new producer would begin anew.
            let has_time = begun.elapsed() < FENCE_MAX;
            if !is_retriable(&error) || !has_time || self.place.is_ending() {
                self.trouble(&error, "becoming the owner of a shard");
                self.producer = None;
                return Err(Fault::Failed);
            }
        }
    }

    /// Writes what has changed, and the head.
    fn checkpoint(&mut self, (mut head, saved): (Head, Saved)) -> Result<Answer, Fault> {
        let births = saved.last_birth;
        let mut records: Vec<(Key, Option<Vec<u8>>)> = Vec::new();
        let mut changed = HashMap::new();
        let blocks = split(saved);
        for (key, block) in &blocks {
            let fingerprint = Some(fingerprint(block));
            if self
                .kept
                .get(key)
                .is_some_and(|kept| kept.fingerprint == fingerprint)
            {
                continue;
            }
            let value = state::pack(block).map_err(|error| {
                error!(err = %error, "values cannot be written");
                Fault::Failed
            })?;
            let mut hashed = Blocks::default();
            hashed.add(&key.encode(), &value);
            let kept = Kept {
                fingerprint,
                blocks: hashed,
                bytes: value.len() as u64,
            };
            changed.insert(key.clone(), kept);
            records.push((key.clone(), Some(value)));
        }
        let gone = self.kept.keys().filter(|key| !blocks.contains_key(key));
        let gone: Vec<Key> = gone.cloned().collect();
        records.extend(gone.iter().map(|key| (key.clone(), None)));
        let unchanged = self
            .kept
            .iter()
            .filter(|(key, _)| blocks.contains_key(key) && !changed.contains_key(key));
        let of_each = unchanged.map(|(_, kept)| kept).chain(changed.values());
        let (mut all, mut bytes) = (Blocks::default(), 0);
        for kept in of_each {
            all.count += 1;
            all.hash = all.hash.wrapping_add(kept.blocks.hash);
            bytes += kept.bytes;
        }
        head.blocks = Some(all);
        self.commit(&head, &records)?;
        gone.iter().for_each(|key| _ = self.kept.remove(key));
        self.kept.extend(changed);
        let next_offset = head.next_offset;
        self.head = Some(head);
        Ok(Answer::Committed {
            births,
            next_offset,
            bytes,
        })
    }

    /// One transaction. What becomes of it is known in the end, or we are refused.
    fn commit(&mut self, head: &Head, records: &[(Key, Option<Vec<u8>>)]) -> Result<(), Fault> {
        let producer = self.producer.as_ref().ok_or(Fault::Refused)?;
        let head = serde_json::to_vec(head).map_err(|_| Fault::Failed)?;
        producer
            .begin_transaction()
            .map_err(|error| self.fault(&error))?;
        let records = records.iter().map(|(key, value)| (key, value.as_deref()));
        for (key, value) in records.chain([(&Key::Head, Some(&head[..]))]) {
            if let Err(error) = self.send(producer, key, value) {
                return Err(self.abort(producer, &error));
            }
        }
        loop {
            match producer.commit_transaction(CALL_MAX) {
                Ok(()) => return Ok(()),
                // Another call in its place would be an error for good.
                Err(error) if is_retriable(&error) && !self.place.is_ending() => {
                    self.trouble(&error, "committing the state of a shard");
                }
                Err(error) => return Err(self.abort(producer, &error)),
            }
        }
    }

    fn send(
        &self,
        producer: &ThreadedProducer<Context>,
        key: &Key,
        value: Option<&[u8]>,
    ) -> Result<(), KafkaError> {
        let key = key.encode();
        let mut record = BaseRecord::to(&self.place.state.topic)
            .partition(self.place.partition)
            .key(&key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, same)) => {
                    let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !is_full || self.place.is_ending() {
                        return Err(error);
                    }
                    record = same;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    /// What an error of the transaction means for the ownership; what is open is aborted.
    fn abort(&self, producer: &ThreadedProducer<Context>, error: &KafkaError) -> Fault {
        let fault = self.fault(error);
        if matches!(fault, Fault::Refused) {
            return fault;
        }
        loop {
            match producer.abort_transaction(CALL_MAX) {
                Ok(()) => return Fault::Failed,
                Err(error) if is_retriable(&error) && !self.place.is_ending() => {}
                // It is not known how it ended.
                Err(_) => return Fault::Refused,
            }
        }
    }

    fn fault(&self, error: &KafkaError) -> Fault {
        self.trouble(error, "committing the state of a shard");
        match error {
            KafkaError::Transaction(error) if error.is_fatal() => Fault::Refused,
            error => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => Fault::Refused,
                _ => Fault::Failed,
            },
        }
    }

    fn restore(&mut self, engine: Arc<Engine>) -> Result<Found, Fault> {
        let begun = Instant::now();
        let Checkpoint {
            mut head,
            records,
            committed,
        } = self.place.last_checkpoint()?;
        let (restored, mut missing) = self.fill(&engine, head.as_ref(), records);
        if let (None, Some(next_offset)) = (&head, committed) {
            // What was counted before must not be counted again.
            let place = &self.place;
            error!(
                source = &*place.source,
                partition = place.partition,
                next_offset,
                "the state topic has lost the state of a shard: its counters begin at 0, at the offset of the consumer group"
            );
            missing += 1;
            head = Some(Head {
                topic: place.kafka.topic.clone(),
                partition: place.partition,
                next_offset,
                ..Head::default()
            });
        }
        self.head.clone_from(&head);
        Ok(Found {
            head,
            engine,
            restored,
            missing,
            took: begun.elapsed(),
        })
    }

    /// Puts the blocks into the table. Returns what else they have, and how many are missing.
    fn fill(
        &mut self,
        engine: &Engine,
        head: Option<&Head>,
        records: HashMap<Vec<u8>, Vec<u8>>,
    ) -> (Restored, u64) {
        self.kept.clear();
        let (mut restored, mut found, mut unusable) = (Restored::default(), Blocks::default(), 0);
        let mut table = engine.table();
        let clock = head
            .and_then(|head| head.last)
            .map_or(0, |last| last.time_ms / 1000);
        table.set_now(u32::try_from(clock).unwrap_or(u32::MAX));
        for (encoded, value) in records {
            let Some(key) = Key::decode(&encoded) else {
                continue;
            };
            let mut blocks = Blocks::default();
            blocks.add(&key.encode(), &value);
            found.count += 1;
            found.hash = found.hash.wrapping_add(blocks.hash);
            let reader = state::unpack(&value).take(BLOCK_BYTES_MAX);
            match serde_json::from_reader::<_, Saved>(reader) {
                Ok(mut saved) if head.is_some() => {
                    // Births of this process have numbers of their own.
                    saved.last_birth = 0;
                    restored.dropped += table.restore(&saved);
                    restored.series += saved.series.len();
                    restored.repeats.extend(saved.repeats);
                    restored.attempts.extend(saved.attempts);
                }
                Ok(_) => {}
                Err(error) => {
                    unusable += 1;
                    error!(err = %error, "a part of the state of a shard cannot be used");
                }
            }
            let kept = Kept {
                fingerprint: None,
                blocks,
                bytes: value.len() as u64,
            };
            self.kept.insert(key, kept);
        }
        table.restart_births(head.map_or(0, |head| head.shown));
        restored.series -= restored.dropped.min(restored.series);
        let expected = head.and_then(|head| head.blocks).unwrap_or_default();
        (restored, found.missing_of(expected).max(unusable))
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_retriable())
}

/// This process. Its place is one that only one process after the other can be in: a share of the partitions on a host that
/// has run since it was started, with the addresses where scrapes are served. Where the system does not say which start that
/// was, it is a place of its own.
pub(super) fn owner(replica: Replica, addresses: &str) -> Owner {
    // The keys of the hasher are random.
    let process = RandomState::new().hash_one(std::process::id());
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.unwrap_or_else(|_| process.to_string());
    let host = rustix::system::uname();
    let (host, boot) = (host.nodename().to_string_lossy(), boot.trim());
    Owner {
        place: format!("{replica} at {addresses} on {host}, started as {boot}").into(),
        process,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Kafka, RecordFormat, StateTopic};
    use crate::own_metrics::OwnMetrics;

    /// Its first call returns after [`CALL_MAX`].
    #[test]
    fn a_fence_without_brokers_says_that_its_calls_return() {
        let lease = Duration::from_secs(15);
        let topic = "logs-state".to_owned();
        let place = Place {
            source: "fleet".into(),
            kafka: Kafka {
                // Nobody may listen there.
                brokers: vec!["127.0.0.1:1".to_owned()],
                topic: "logs".to_owned(),
                state: None,
                format: RecordFormat::Text,
                tls: None,
                sasl: None,
            },
            state: StateTopic { topic, lease },
            partition: 0,
            own: Arc::new(OwnMetrics::new("", "", std::time::SystemTime::now())),
            logged: client::Logged::default(),
            stop: Arc::default(),
            progress: Arc::default(),
        };
        let thread = StateThread::start(place).expect("a thread");
        let begun = Instant::now();
        thread.ask(Job::Fence);
        while thread.progress_age() >= begun.elapsed() {
            assert!(begun.elapsed() < 4 * CALL_MAX, "no call has returned");
            assert!(thread.answer().is_none(), "it fences for a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
        thread.stop();
        let answer = thread.answer_within(4 * CALL_MAX);
        assert!(matches!(answer, Some(Answer::Failed)));
    }
}
