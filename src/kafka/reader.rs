//! The thread that reads the shards of one source.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tracing::{error, info, warn};

use super::client::Client;
use super::ownership::Ownership;
use super::owning;
use super::places::Places;
use super::reading::{self, Reading, engine};
use super::watch::watch;
use super::writer::{self, Place as Saved, Writer};
use super::{Command, RETRY, Settings, Topic};
use crate::boot_time::BootTime;
use crate::config::Source;
use crate::heartbeat::EndOnPanic;
use crate::shard::{Head, Shard};
use crate::state::{self, Loaded};

/// How long a read waits for records.
const WAIT: Duration = Duration::from_millis(100);
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
        // The scope would wait for its threads, which do not know of a panic.
        let _end = EndOnPanic;
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
        // Without this thread nothing can be read.
        let places = loop {
            let ((places, finder), kafka) = (Places::pair(), settings.source.kafka().cloned());
            let finding = std::thread::Builder::new()
                .name("kafka-places".into())
                .spawn_scoped(scope, move || {
                    if let Some(kafka) = kafka {
                        finder.work(topic, client, &kafka, stop);
                    }
                });
            match finding {
                Ok(_) => break Some(places),
                Err(error) => {
                    error!(err = %error, "nobody asks where to go on: no thread; trying again");
                }
            }
            if !topic.sleep(RETRY) {
                break None;
            }
        };
        if let Some(mut places) = places {
            let clients = (client, &mut places);
            run(topic, settings, clients, (&mut shards, partitions), writer);
        }
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

/// The shards of this replica, with what former processes left on disk. None if the process ends meanwhile.
fn open(topic: &Topic, settings: &Settings, partitions: i32) -> Option<(Vec<Reading>, Vec<Saved>)> {
    let (mut shards, mut places) = (Vec::new(), Vec::new());
    let own = (0..partitions).filter(|partition| topic.replica.has(*partition));
    for partition in own {
        let engine = engine(topic, settings, partitions);
        let ownership = loop {
            match Ownership::new(topic, settings, partition) {
                Ok(ownership) => break ownership,
                Err(error) => {
                    error!(partition, err = %error, "the state of a shard cannot be kept: no thread; trying again");
                }
            }
            if !topic.sleep(RETRY) {
                return None;
            }
        };
        let in_directory = topic.directory.as_ref().filter(|_| ownership.is_none());
        let mut one = Reading::new(topic, settings, partition, engine, ownership);
        if let Some(directory) = in_directory {
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
            one.is_new = !restore(&mut one.shard, &state);
            one.dirty = one.is_new;
            places.push(Saved {
                state,
                shard: one.published.clone(),
            });
        }
        shards.push(one);
    }
    info!(
        source = &*topic.name,
        topic = topic.topic,
        partitions,
        shards = shards.len(),
        series_per_shard = reading::limits(topic, settings, partitions).series,
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
    (client, places): (&Client, &mut Places),
    (shards, partitions): (&mut [Reading], i32),
    writer: Option<Writer>,
) {
    let mut waiting = Some(Instant::now());
    loop {
        let stop = read_on(
            topic,
            &mut settings,
            (client, places),
            (shards, partitions),
            writer.as_ref(),
            &mut waiting,
        );
        let Err(Stop::Trouble(error)) = stop else {
            break;
        };
        client.trouble(&error, "reading a topic");
        shards.iter_mut().for_each(|one| one.needs_place = true);
        checkpoint(shards, writer.as_ref(), false);
        catch_up(topic, shards, &mut waiting);
        if !topic.sleep(RETRY) {
            break;
        }
    }
    checkpoint(shards, writer.as_ref(), true);
    if let Some(writer) = writer {
        writer.finish();
    }
    owning::release(topic, client, shards);
}

/// Reads until something is wrong, or the process ends.
fn read_on(
    topic: &Topic,
    settings: &mut Settings,
    (client, places): (&Client, &mut Places),
    (shards, partitions): (&mut [Reading], i32),
    writer: Option<&Writer>,
    waiting: &mut Option<Instant>,
) -> Result<Infallible, Stop> {
    let mut checkpoint_at = Instant::now();
    let mut is_assigned = false;
    loop {
        topic.heartbeat.beat();
        commands(topic, settings, shards, partitions);
        if topic.stop.load(Ordering::SeqCst) {
            return Err(Stop::Asked);
        }
        for one in shards.iter_mut() {
            let engine = || engine(topic, settings, partitions);
            is_assigned &= !one.own((topic, client), settings, &engine);
        }
        if find_places(&settings.source, places, shards) {
            is_assigned = false;
            // There is a place to go on from before the first record is counted.
            checkpoint(shards, writer, true);
        }
        if !is_assigned {
            assign(client, shards)?;
            is_assigned = true;
        }
        turn(topic, client, shards, writer)?;
        catch_up(topic, shards, waiting);
        let now = Instant::now();
        if now >= checkpoint_at {
            checkpoint_at = now + settings.interval;
            checkpoint(shards, writer, false);
        }
    }
}

/// Says so once all shards have caught up, or have not for too long.
fn catch_up(topic: &Topic, shards: &[Reading], waiting: &mut Option<Instant>) {
    let Some(since) = *waiting else { return };
    if since.elapsed() >= READY_AFTER || shards.iter().all(Reading::is_ready) {
        *waiting = None;
        topic.shards.caught_up();
        info!(source = &*topic.name, "caught up");
    }
}

/// Has it asked where shards go on, and takes what was answered. Returns whether that is known of one more.
fn find_places(source: &Source, places: &mut Places, shards: &mut [Reading]) -> bool {
    let mut has_found = false;
    for answer in places.answers() {
        if let Some(at) = find(shards, answer.0.head.partition) {
            has_found |= shards[at].answered(source, answer);
        }
    }
    for asked in shards.iter_mut().filter_map(Reading::ask) {
        places.ask(asked);
    }
    has_found
}

/// Assigns the partitions of those shards whose place is known.
fn assign(client: &Client, shards: &[Reading]) -> Result<(), KafkaError> {
    let known = shards.iter().filter(|one| one.is_read());
    client.assign(known.map(|one| (one.partition(), one.read_from())))
}

/// Reads what is there, for at most [`WAIT`], and counts it.
fn turn(
    topic: &Topic,
    client: &Client,
    shards: &mut [Reading],
    writer: Option<&Writer>,
) -> Result<(), Stop> {
    let begun = BootTime::now();
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
        // What comes of one whose place is not known comes again.
        let one = shards.get_mut(at).filter(|one| one.is_read());
        let Some(one) = one else {
            continue;
        };
        let counting = AssertUnwindSafe(|| one.count(topic, of_partition, now));
        if let Err(panic) = catch_unwind(counting) {
            // The process ends, whatever this was. A record that does it again and again is given up by the next ones.
            let offset = one.shard.counting();
            match (&one.ownership, writer) {
                (Some(ownership), _) => ownership.failed(offset),
                (None, Some(writer)) => writer.failed(at, offset),
                (None, None) => {}
            }
            resume_unwind(panic);
        }
    }
    for partition in &batch.ended {
        if let Some(at) = find(shards, *partition) {
            let one = &mut shards[at];
            if one.is_read() {
                one.caught_up(begun);
            }
        }
    }
    for one in shards.iter_mut() {
        if one.is_read() && one.last_record.elapsed() >= IDLE_AFTER {
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
    let at = shards.binary_search_by_key(&partition, Reading::partition);
    at.ok()
}

/// Does what other threads ask for.
fn commands(topic: &Topic, settings: &mut Settings, shards: &mut [Reading], partitions: i32) {
    let wanted = std::mem::take(&mut *topic.commands.lock());
    for command in wanted {
        match command {
            Command::Replace(new) => {
                for one in shards.iter_mut() {
                    let engine = engine(topic, &new, partitions);
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
        // What has no place yet cannot be gone on from.
        if one.dirty && !one.is_new {
            one.dirty = !writer.write(at, one.shard.save(), wait);
        } else {
            let mut figures = one.published.figures();
            if figures.checkpoint.is_some() && figures.births_on_disk != u64::MAX {
                figures.checkpoint = Some(Instant::now());
            }
        }
    }
}
