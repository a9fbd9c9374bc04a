//! The thread that reads the shards of one source.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use tracing::{error, info, warn};

use super::client::{self, Client};
use super::watch::watch;
use super::writer::{self, Place as Saved, Writer};
use super::{Command, Settings, Topic};
use crate::config::{ReadFrom, Source};
use crate::engine::Engine;
use crate::heartbeat::EndOnPanic;
use crate::metric::{Limits, lock};
use crate::shard::{Counted, Head, Place, Published, Record, Shard, State, Unusable};
use crate::state::{self, Loaded};

/// How long a read waits for records.
const WAIT: Duration = Duration::from_millis(100);
/// How long brokers that do not answer are left alone.
const RETRY: Duration = Duration::from_secs(2);
/// A process counts as ready after this time also if a shard has not caught up.
const READY_AFTER: Duration = Duration::from_secs(300);
/// A partition without a record for so long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// Why reading stops.
#[derive(Debug)]
enum Stop {
    /// The process ends.
    Asked,
    /// Brokers do not answer as they should.
    Trouble(KafkaError),
}

impl From<KafkaError> for Stop {
    fn from(error: KafkaError) -> Self {
        Stop::Trouble(error)
    }
}

/// A shard, and all that belongs to it in this thread.
struct Reading {
    shard: Shard,
    published: Arc<Published>,
    /// It has caught up once this offset is reached, or the end.
    catch_up_to: i64,
    is_new: bool,
    dirty: bool,
    last_record: Instant,
    metrics: Metrics,
}

/// Handles of what is counted of a shard.
struct Metrics {
    lost_records: Counter,
    log_replaced: Counter,
    records_dropped: [Counter; Unusable::ALL.len()],
}

/// Reads until the process ends.
pub(super) fn read(topic: &Topic, settings: Settings) {
    let _end = EndOnPanic;
    let Some((client, partitions)) = connect(topic, &settings) else {
        return;
    };
    let Some((mut shards, places)) = open(topic, &settings, partitions) else {
        return;
    };
    let writer = match places.is_empty() {
        true => None,
        false => match Writer::start(places) {
            Ok(writer) => Some(writer),
            Err(error) => {
                error!(err = %error, "checkpoints of shards cannot be written: no thread");
                None
            }
        },
    };
    let published: Vec<_> = shards.iter().map(|one| one.published.clone()).collect();
    let stop_watch = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let name = topic.name.clone();
        let (client, stop) = (&client, &stop_watch);
        let watching = std::thread::Builder::new()
            .name("kafka-watch".into())
            .spawn_scoped(scope, move || {
                let _end = EndOnPanic;
                watch(client, &name, &topic.shards, &published, partitions, stop);
            });
        if let Err(error) = &watching {
            error!(err = %error, "nobody asks where partitions end: no thread");
        }
        run(topic, settings, client, &mut shards, writer);
        stop.store(true, Ordering::SeqCst);
        if let Ok(watching) = watching {
            watching.thread().unpark();
        }
    });
}

/// A client whose brokers know the topic, and how many partitions that has. None if the process ends meanwhile.
fn connect(topic: &Topic, settings: &Settings) -> Option<(Client, i32)> {
    let kafka = settings.source.kafka()?;
    loop {
        topic.heartbeat.beat();
        match Client::new(&topic.name, kafka, &topic.own) {
            Ok(client) => loop {
                topic.heartbeat.beat();
                match client.partitions() {
                    Ok(partitions) => {
                        let count = u64::try_from(partitions).unwrap_or(0);
                        topic.shards.set_partitions(&topic.name, count);
                        return Some((client, partitions));
                    }
                    Err(error) => client.trouble(&error, "asking for the topic"),
                }
                if !topic.sleep(RETRY) {
                    return None;
                }
            },
            Err(error) => {
                error!(source = &*topic.name, err = %error, "the topic cannot be read; trying again");
            }
        }
        if !topic.sleep(RETRY) {
            return None;
        }
    }
}

/// The limits of a shard: its share of what the process may hold. They depend on the settings and on the topic, not on
/// which shards a replica has.
fn limits(topic: &Topic, settings: &Settings, partitions: i32) -> Limits {
    let partitions = usize::try_from(partitions).unwrap_or(1);
    let parts = partitions.div_ceil(topic.replica.count as usize) + settings.others;
    Limits {
        series: settings.limits.series / parts,
        bytes: settings.limits.bytes / parts,
        ..settings.limits
    }
}

/// The shards of this replica, with what former processes left. None if the process ends meanwhile.
fn open(topic: &Topic, settings: &Settings, partitions: i32) -> Option<(Vec<Reading>, Vec<Saved>)> {
    let (mut shards, mut places) = (Vec::new(), Vec::new());
    let limits = limits(topic, settings, partitions);
    let own = (0..partitions).filter(|partition| topic.replica.has(*partition));
    for partition in own {
        let engine = Arc::new(settings.engine.shard(limits, &settings.appliances));
        let published = Arc::new(Published::new(
            topic.name.clone(),
            partition,
            engine.clone(),
            topic.directory.is_some(),
        ));
        topic.shards.add(published.clone());
        let head = Head {
            topic: topic.topic.clone(),
            partition,
            ..Head::default()
        };
        let mut shard = Shard::new(engine, settings.source.clone(), settings.line_bytes, head);
        let mut is_new = true;
        if let Some(directory) = &topic.directory {
            let state = loop {
                topic.heartbeat.beat();
                match writer::open(directory, &topic.name, partition) {
                    Ok(state) => break state,
                    Err(error) => {
                        error!(partition, err = %error, "the state of a shard cannot be opened; trying again");
                    }
                }
                if !topic.sleep(RETRY) {
                    return None;
                }
            };
            is_new = !restore(&mut shard, &state);
            places.push(Saved {
                state,
                shard: published.clone(),
            });
        }
        let label = partition.to_string();
        let labels = [&*topic.name, label.as_str()];
        let metrics = &topic.own.shards;
        metrics.touch(labels[0], labels[1], &Unusable::ALL.map(Unusable::as_str));
        shards.push(Reading {
            shard,
            published,
            catch_up_to: i64::MAX,
            is_new,
            dirty: is_new,
            last_record: Instant::now(),
            metrics: Metrics {
                lost_records: metrics.lost_records.get(labels),
                log_replaced: metrics.log_replaced.get(labels),
                records_dropped: Unusable::ALL.map(|why| {
                    metrics
                        .records_dropped
                        .get([labels[0], labels[1], why.as_str()])
                }),
            },
        });
    }
    info!(
        source = &*topic.name,
        topic = topic.topic,
        partitions,
        shards = shards.len(),
        series_per_shard = limits.series,
        "reading a topic"
    );
    Some((shards, places))
}

/// Goes on from what a former process left; false if there is nothing.
fn restore(shard: &mut Shard, state: &state::State) -> bool {
    let path = state.path();
    let snapshot = match state.load() {
        Ok(Loaded::Nothing) => return false,
        Ok(Loaded::Snapshot(snapshot)) => snapshot,
        Ok(Loaded::Unusable(why)) => {
            warn!(err = %why, path = %path.display(), "the state of a shard cannot be used: its counters begin at 0");
            return false;
        }
        Err(error) => {
            warn!(err = %error, path = %path.display(), "the state of a shard cannot be read: its counters begin at 0");
            return false;
        }
    };
    let own = shard.head();
    let is_same = |head: &Head| head.topic == own.topic && head.partition == own.partition;
    let head = snapshot.positions.get::<Head>(writer::POSITION);
    let Some(head) = head.ok().flatten().filter(is_same) else {
        state.put_aside();
        warn!(path = %path.display(), "the state is that of another topic: the shard's counters begin at 0");
        return false;
    };
    let engine = shard.engine().clone();
    let clock = head.last.map_or(0, |last| last.time_ms / 1000);
    let mut table = engine.table();
    table.set_now(u32::try_from(clock).unwrap_or(u32::MAX));
    let restored = table.restore_from(state::unpack(&snapshot.table));
    match restored {
        Ok(restored) => {
            drop(table);
            info!(
                partition = head.partition,
                next_offset = head.next_offset,
                series = restored.series,
                dropped = restored.dropped,
                "a shard was restored"
            );
            shard.restore(head, &restored);
            true
        }
        Err(error) => {
            state.put_aside();
            warn!(err = %error, path = %path.display(), "the values of a shard cannot be used: its counters begin at 0");
            table.clear();
            false
        }
    }
}

/// Reads, and begins anew at the places that are known whenever brokers do not answer as they should.
fn run(
    topic: &Topic,
    mut settings: Settings,
    client: &Client,
    shards: &mut [Reading],
    writer: Option<Writer>,
) {
    let started = Instant::now();
    let mut is_waited_for = true;
    let mut checkpoint_at = Instant::now();
    loop {
        let stop = seat(topic, &settings.source, client, shards).and_then(|()| {
            // There is a place to go on from before the first record is counted.
            checkpoint(shards, writer.as_ref(), true);
            loop {
                topic.heartbeat.beat();
                commands(topic, &mut settings, shards);
                if topic.stop.load(Ordering::SeqCst) {
                    return Err(Stop::Asked);
                }
                turn(topic, client, shards, writer.as_ref())?;
                let is_ready = || shards.iter().all(|one| one.state() == State::Active);
                if is_waited_for && (started.elapsed() >= READY_AFTER || is_ready()) {
                    is_waited_for = false;
                    topic.shards.caught_up();
                    info!(source = &*topic.name, "caught up");
                }
                let now = Instant::now();
                if now >= checkpoint_at {
                    checkpoint_at = now + settings.interval;
                    checkpoint(shards, writer.as_ref(), false);
                }
            }
        });
        match stop {
            Ok(()) | Err(Stop::Asked) => break,
            Err(Stop::Trouble(error)) => {
                client.trouble(&error, "finding the place to go on");
                checkpoint(shards, writer.as_ref(), false);
                if is_waited_for && started.elapsed() >= READY_AFTER {
                    is_waited_for = false;
                    topic.shards.caught_up();
                }
                commands(topic, &mut settings, shards);
                if !topic.sleep(RETRY) {
                    break;
                }
            }
        }
    }
    checkpoint(shards, writer.as_ref(), true);
    if let Some(writer) = writer {
        writer.finish();
    }
}

/// Finds out where each shard goes on, and assigns its partition from there.
fn seat(
    topic: &Topic,
    source: &Source,
    client: &Client,
    shards: &mut [Reading],
) -> Result<(), Stop> {
    for one in shards.iter_mut() {
        topic.heartbeat.beat();
        if topic.stop.load(Ordering::SeqCst) {
            return Err(Stop::Asked);
        }
        one.find_place(source, client)?;
    }
    let places = shards.iter().map(|one| {
        let head = one.shard.head();
        (head.partition, head.next_offset)
    });
    Ok(client.assign(places)?)
}

/// Reads what is there, for at most [`WAIT`], and counts it.
fn turn(
    topic: &Topic,
    client: &Client,
    shards: &mut [Reading],
    writer: Option<&Writer>,
) -> Result<(), Stop> {
    let batch = client.poll(WAIT);
    let now = Timestamp::now();
    for of_partition in batch
        .records
        .chunk_by(|a, b| a.partition() == b.partition())
    {
        topic.heartbeat.beat();
        let first = of_partition.first();
        let Some(at) = first.and_then(|first| find(shards, first.partition())) else {
            continue;
        };
        let Some(one) = shards.get_mut(at) else {
            continue;
        };
        let counting = AssertUnwindSafe(|| one.count(topic, of_partition, now));
        if let Err(panic) = catch_unwind(counting) {
            // The process ends, whatever this was. A record that does it again and again is given up by the next ones.
            if let Some(writer) = writer {
                writer.failed(at, one.shard.counting());
            }
            resume_unwind(panic);
        }
    }
    for partition in &batch.ended {
        if let Some(at) = find(shards, *partition) {
            shards[at].caught_up();
        }
    }
    for one in shards.iter_mut() {
        if one.last_record.elapsed() >= IDLE_AFTER {
            one.last_record = Instant::now();
            one.shard.idle(now);
        }
    }
    match batch.is_misplaced || batch.is_fatal {
        true => Err(Stop::Trouble(KafkaError::MessageConsumption(
            rdkafka::error::RDKafkaErrorCode::OffsetOutOfRange,
        ))),
        false => Ok(()),
    }
}

/// Where the shard of a partition is.
fn find(shards: &[Reading], partition: i32) -> Option<usize> {
    let at = shards.binary_search_by_key(&partition, |one| one.shard.head().partition);
    at.ok()
}

/// Does what other threads ask for.
fn commands(topic: &Topic, settings: &mut Settings, shards: &mut [Reading]) {
    let wanted = std::mem::take(&mut *lock(&topic.commands));
    for command in wanted {
        match command {
            Command::Replace(new, partitions) => {
                let limits = limits(topic, &new, partitions);
                for one in shards.iter_mut() {
                    let engine: Arc<Engine> = Arc::new(new.engine.shard(limits, &new.appliances));
                    one.shard.replace_engine(engine.clone(), new.source.clone());
                    one.published.replace_engine(engine);
                    one.dirty = true;
                }
                *settings = *new;
            }
            Command::Forget(name, done) => {
                let mut is_known = false;
                for one in shards.iter_mut() {
                    let known = one.shard.engine().forget_appliance(&name);
                    one.dirty |= known;
                    is_known |= known;
                }
                // Nobody waits any more if the request was given up.
                let _ = done.send(is_known);
            }
        }
    }
}

/// Has the shards saved that have changed.
fn checkpoint(shards: &mut [Reading], writer: Option<&Writer>, wait: bool) {
    let Some(writer) = writer else { return };
    for (at, one) in shards.iter_mut().enumerate() {
        if one.dirty {
            one.dirty = !writer.write(at, one.shard.save(), wait);
        } else {
            let mut figures = one.published.figures();
            if figures.checkpoint.is_some() && figures.births_on_disk != u64::MAX {
                figures.checkpoint = Some(Instant::now());
            }
        }
    }
}

impl Reading {
    fn state(&self) -> State {
        self.published.figures().state
    }

    /// Compares what the shard knows with what the partition has, and decides where to go on.
    fn find_place(&mut self, source: &Source, client: &Client) -> Result<(), KafkaError> {
        let head = self.shard.head();
        let partition = head.partition;
        let (low, high) = client.ends(partition)?;
        if self.is_new {
            let first = match source.read_from {
                ReadFrom::Beginning => low,
                ReadFrom::End => high,
            };
            self.shard.skip_to(first);
            self.is_new = false;
        } else {
            let there = head.last.filter(|last| (low..high).contains(&last.offset));
            let found = match there {
                Some(last) => client.look_at(partition, last.offset)?,
                None => None,
            };
            let head = self.shard.head();
            match head.place(low, high, found) {
                Place::There => {}
                Place::Deleted(lost) => {
                    self.metrics.lost_records.inc_by(lost);
                    error!(
                        partition,
                        lost,
                        next_offset = head.next_offset,
                        log_start = low,
                        "records were deleted before they were read"
                    );
                    self.shard.skip_to(low);
                }
                Place::Replaced => {
                    let younger = head.last.map(|last| last.time_ms.saturating_add(1));
                    let younger = match younger {
                        Some(time_ms) => client.first_since(partition, time_ms)?.unwrap_or(high),
                        None => low,
                    };
                    self.metrics.log_replaced.inc();
                    error!(
                        partition,
                        next_offset = head.next_offset,
                        log_start = low,
                        log_end = high,
                        going_on_at = younger,
                        "the record that was read last is not there any more: the topic was made anew or its end was cut off"
                    );
                    self.shard.skip_to(younger);
                }
            }
            self.dirty = true;
        }
        let next_offset = self.shard.head().next_offset;
        let mut figures = self.published.figures();
        figures.reached(next_offset);
        figures.saw_end(high, Instant::now());
        if figures.state != State::Active {
            figures.state = State::CatchingUp;
            self.catch_up_to = high;
        }
        drop(figures);
        if next_offset >= high {
            self.caught_up();
        }
        Ok(())
    }

    /// All that was there at the start, or is there now, is counted.
    fn caught_up(&mut self) {
        if self.state() != State::Active {
            self.shard.finish_backfill();
            self.published.figures().state = State::Active;
            self.dirty = true;
        }
    }

    fn count(&mut self, topic: &Topic, messages: &[BorrowedMessage<'_>], now: Timestamp) {
        let records: Vec<Record<'_>> = messages.iter().map(client::record).collect();
        let Counted {
            lines,
            bytes,
            too_long: (cut, cut_bytes),
            dropped,
        } = self.shard.count(&records, now);
        let counters = &topic.counters;
        counters.lines_read.inc_by(lines);
        counters.bytes_read.inc_by(bytes);
        counters.too_long.inc_by(cut);
        counters.too_long_bytes.inc_by(cut_bytes);
        for (why, counter) in Unusable::ALL.iter().zip(&self.metrics.records_dropped) {
            counter.inc_by(dropped.get(why).copied().unwrap_or(0));
        }
        self.dirty = true;
        self.last_record = Instant::now();
        let next_offset = self.shard.head().next_offset;
        self.published.figures().reached(next_offset);
        if next_offset >= self.catch_up_to {
            self.caught_up();
        }
    }
}
