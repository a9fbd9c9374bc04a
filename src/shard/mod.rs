//! A shard: one partition of a log, with a series table of its own over rules that all shards share.
//!
//! What a record does depends on the shard's state and on the record alone: the record's time is the clock, limits are the
//! shard's own, and maintenance is due when that clock enters another minute. So it does not matter where a shard is read,
//! nor where it was interrupted. The one exception is when a notable event became known, which is the time of reading.
//!
//! Nothing here does I/O or reads a clock.

mod blocks;
mod decode;
mod head;
mod machine;
mod merge;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::Timestamp;

use crate::config::{ApplianceFrom, RecordFormat, Source};
use crate::engine::{Engine, EventTime, REPEATS_SAVED_MAX, Repeats, StreamContext, Worker};
use crate::metric::{Restored, Saved};
use crate::record::Clock;
pub use blocks::{Key, fingerprint, split};
pub use decode::{Unusable, message};
pub use head::{Attempts, Blocks, Head, LastRecord, Place, Record};
pub use machine::{Claim, Machine, Owner, Phase, Shown, Task, is_shown};
pub use merge::{Part, merge};
pub use registry::{Figures, Published, Shards, ShownToAll, last_heard};

/// Appliances whose state is kept between records; beyond that all are looked up anew.
const STREAMS_MAX: usize = 20_000;
/// What stands for the path of a shard's lines.
const STREAM: &str = "shard";

/// What became of some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Messages that were counted.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were longer than a line may be, and the bytes that were cut off.
    pub too_long: (u64, u64),
    /// Records that could not be used.
    pub dropped: BTreeMap<Unusable, u64>,
}

/// A partition that is being read.
#[derive(Debug)]
pub struct Shard {
    worker: Worker,
    source: Source,
    line_bytes: usize,
    head: Head,
    /// The record that is being counted.
    counting: i64,
    /// By key; one for all if the key does not name the appliance.
    streams: HashMap<Vec<u8>, StreamContext>,
    repeats: Repeats,
    /// The last minute in which maintenance was done, since 1970.
    minute: u32,
    /// What is read was there before the shard was ever read.
    is_backfilling: bool,
}

impl Shard {
    /// A shard that was never read.
    pub fn new(engine: Arc<Engine>, source: Source, line_bytes: usize, head: Head) -> Self {
        Self {
            repeats: engine.repeats(),
            worker: Worker::new(engine),
            source,
            line_bytes,
            head,
            counting: 0,
            streams: HashMap::new(),
            minute: 0,
            is_backfilling: true,
        }
    }

    /// Goes on from a checkpoint, whose series are in the engine's table already.
    pub fn restore(&mut self, head: Head, restored: &Restored) {
        for saved in &restored.repeats {
            self.repeats.restore(self.worker.engine(), saved);
        }
        self.engine().restore_attempts(&restored.attempts);
        self.minute = head.last.map_or(0, |last| minute(last.time_ms));
        self.head = head;
        self.finish_backfill();
    }

    /// How far it was read.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Goes on at another offset: what lies between is lost, or was never there.
    pub fn skip_to(&mut self, offset: i64) {
        self.head.reached(offset, None);
    }

    /// The record that is being counted, or was last: if that ends the process, this one did.
    pub fn counting(&self) -> i64 {
        self.counting
    }

    /// What it counts into.
    pub fn engine(&self) -> &Arc<Engine> {
        self.worker.engine()
    }

    /// What was there is read: from now on events are dated by when they became known.
    pub fn finish_backfill(&mut self) {
        self.is_backfilling = false;
        self.engine().table().finish_backfill();
    }

    /// What a checkpoint keeps of it.
    pub fn save(&self) -> (Head, Saved) {
        let engine = self.worker.engine();
        let mut saved = engine.save();
        saved.repeats = self.repeats.save(engine, STREAM, REPEATS_SAVED_MAX);
        (self.head.clone(), saved)
    }

    /// Goes on with other rules; returns how many series mean nothing any more.
    pub fn replace_engine(&mut self, engine: Arc<Engine>, source: Source) -> usize {
        let former = self.worker.engine();
        let repeats = self.repeats.save(former, STREAM, REPEATS_SAVED_MAX);
        let dropped = engine.migrate_from(former);
        if !self.is_backfilling {
            engine.table().finish_backfill();
        }
        self.repeats = engine.repeats();
        for saved in &repeats {
            self.repeats.restore(&engine, saved);
        }
        self.streams.clear();
        self.worker = Worker::new(engine);
        self.source = source;
        dropped
    }

    /// Counts records, which are in order. Those before the next offset were counted already. `now` is the present.
    pub fn count(&mut self, records: &[Record<'_>], now: Timestamp) -> Counted {
        let mut counted = Counted::default();
        // A time in the future would let everything else look old.
        let time_ms = |record: &Record<'_>| record.time_ms.clamp(0, now.as_millisecond());
        let second = |record: &Record<'_>| time_ms(record) / 1000;
        let known = records.partition_point(|record| record.offset < self.head.next_offset);
        let records = &records[known..];
        for same in records.chunk_by(|a, b| second(a) == second(b)) {
            let Some(first) = same.first() else { continue };
            let at = time_ms(first);
            self.maintain(u32::try_from(second(first)).unwrap_or(0));
            let clock = Timestamp::from_millisecond(at).unwrap_or(now);
            self.count_second(same, clock, now, &mut counted);
        }
        if let Some(last) = records.last() {
            let next_offset = last.offset.saturating_add(1);
            self.head.reached(next_offset, Some(last.identity()));
        }
        counted
    }

    /// Counts records of the same second.
    fn count_second(
        &mut self,
        records: &[Record<'_>],
        clock: Timestamp,
        now: Timestamp,
        counted: &mut Counted,
    ) {
        let seconds = |time: Timestamp| u32::try_from(time.as_second()).unwrap_or(0);
        let event_time = match self.is_backfilling {
            true => EventTime::Record,
            false => EventTime::At(seconds(now)),
        };
        let Self {
            worker,
            source,
            line_bytes,
            streams,
            repeats,
            head,
            counting,
            ..
        } = self;
        let given_up = head.given_up();
        let format = source.kafka().map(|kafka| &kafka.format);
        let format = format.unwrap_or(&RecordFormat::Text);
        let mut batch = worker.batch(seconds(clock), Some(repeats));
        for record in records {
            *counting = record.offset;
            if given_up == Some(record.offset) {
                *counted.dropped.entry(Unusable::Fatal).or_default() += 1;
                continue;
            }
            let by_key = source.appliance == ApplianceFrom::Key;
            let key = match (by_key, record.key) {
                (false, _) => &b""[..],
                (true, Some(key)) if !key.is_empty() => key,
                (true, _) => {
                    *counted.dropped.entry(Unusable::NoKey).or_default() += 1;
                    continue;
                }
            };
            let message = match decode::message(record, format) {
                Ok(message) => message,
                Err(why) => {
                    *counted.dropped.entry(why).or_default() += 1;
                    continue;
                }
            };
            #[cfg(test)]
            tests::end_at(&message);
            let line = &message[..message.len().min(*line_bytes)];
            if line.len() < message.len() {
                counted.too_long.0 += 1;
                counted.too_long.1 += (message.len() - line.len()) as u64;
            }
            if streams.len() >= STREAMS_MAX && !streams.contains_key(key) {
                streams.clear();
            }
            let stream = streams
                .entry_ref(key)
                .or_insert_with(|| stream(source, key, clock));
            stream.clock.now = clock;
            stream.event_time = event_time;
            batch.line(stream, line);
            counted.lines += 1;
            counted.bytes += message.len() as u64;
        }
    }

    /// Maintenance, once for each minute of the shard's clock, and whenever space is needed. A clock that goes back
    /// changes nothing.
    fn maintain(&mut self, second: u32) {
        let engine = self.worker.engine();
        if second / 60 > self.minute || engine.table().wants_eviction() {
            self.minute = self.minute.max(second / 60);
            engine.maintain(second);
        }
    }

    /// Nothing was written for a while: time goes on nevertheless.
    pub fn idle(&mut self, now: Timestamp) {
        self.maintain(u32::try_from(now.as_second()).unwrap_or(0));
    }
}

fn minute(time_ms: i64) -> u32 {
    u32::try_from(time_ms / 60_000).unwrap_or(0)
}

/// The context of the lines with this key.
fn stream(source: &Source, key: &[u8], now: Timestamp) -> StreamContext {
    let mut stream = StreamContext::new(Clock {
        zone: source.time_zone.clone(),
        now,
    });
    stream.profile.clone_from(&source.profile);
    stream.relays.clone_from(&source.relays);
    stream.appliance = match &source.appliance {
        ApplianceFrom::Key => Some(String::from_utf8_lossy(key).into_owned()),
        ApplianceFrom::Fixed(name) => Some(name.clone()),
        ApplianceFrom::Header | ApplianceFrom::Path => None,
    };
    stream
}

#[cfg(test)]
mod tests;
