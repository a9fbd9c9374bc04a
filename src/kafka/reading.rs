//! A shard in the thread that reads it: where it goes on, what it has counted, and whether it has caught up.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use rdkafka::message::BorrowedMessage;
use tracing::error;

use super::client;
use super::ownership::Ownership;
use super::places::{Answer, Asked, Found};
use super::{RETRY, Settings, Topic};
use crate::boot_time::BootTime;
use crate::config::{ReadFrom, Source};
use crate::engine::Engine;
use crate::metric::Limits;
use crate::shard::{Counted, Head, Phase, Place, Published, Record, Shard, Unusable};

/// A shard, and all that belongs to it in the thread that reads it.
pub(super) struct Reading {
    pub(super) shard: Shard,
    pub(super) published: Arc<Published>,
    /// Who owns it, if its state is in a topic.
    pub(super) ownership: Option<Ownership>,
    /// Where it goes on has to be found out first.
    pub(super) needs_place: bool,
    /// The first record that was there when that was found out.
    log_start: i64,
    /// The answer to that is to come.
    is_asked: bool,
    /// It is not asked before.
    ask_at: Instant,
    /// It has caught up once this offset is reached, or the end.
    pub(super) catch_up_to: i64,
    /// When that was the end.
    pub(super) catch_up_since: BootTime,
    pub(super) has_caught_up: bool,
    pub(super) is_new: bool,
    pub(super) dirty: bool,
    pub(super) last_record: Instant,
    metrics: Metrics,
}

/// Handles of what is counted of a shard.
struct Metrics {
    lost_records: Counter,
    log_replaced: Counter,
    records_dropped: [Counter; Unusable::ALL.len()],
}

/// The limits of a shard: its share of what the process may hold. They depend on the settings and on the topic, not on
/// which shards a replica has.
pub(super) fn limits(topic: &Topic, settings: &Settings, partitions: i32) -> Limits {
    let partitions = usize::try_from(partitions).unwrap_or(1);
    let parts = partitions.div_ceil(topic.replica.count as usize) + settings.others;
    Limits {
        series: settings.limits.series / parts,
        bytes: settings.limits.bytes / parts,
        ..settings.limits
    }
}

/// The engine of a shard that has no series yet.
pub(super) fn engine(topic: &Topic, settings: &Settings, partitions: i32) -> Arc<Engine> {
    let limits = limits(topic, settings, partitions);
    Arc::new(settings.engine.shard(limits, &settings.appliances))
}

impl Reading {
    /// A shard of which nothing is known.
    pub(super) fn new(
        topic: &Topic,
        settings: &Settings,
        partition: i32,
        engine: Arc<Engine>,
        ownership: Option<Ownership>,
    ) -> Self {
        let has_checkpoints = topic.directory.is_some() || ownership.is_some();
        let name = topic.name.clone();
        let published = Published::new(name, partition, engine.clone(), has_checkpoints);
        let published = Arc::new(published);
        topic.shards.add(published.clone());
        let label = partition.to_string();
        let labels = [&*topic.name, label.as_str()];
        let metrics = &topic.own.shards;
        metrics.touch(labels[0], labels[1], &Unusable::ALL.map(Unusable::as_str));
        Self {
            shard: empty(topic, settings, partition, engine),
            published,
            ownership,
            needs_place: true,
            log_start: 0,
            is_asked: false,
            ask_at: Instant::now(),
            catch_up_to: i64::MAX,
            catch_up_since: BootTime::default(),
            has_caught_up: false,
            is_new: true,
            dirty: true,
            last_record: Instant::now(),
            metrics: Metrics {
                lost_records: metrics.lost_records.get(labels),
                log_replaced: metrics.log_replaced.get(labels),
                records_dropped: Unusable::ALL.map(|why| {
                    let reason = why.as_str();
                    metrics.records_dropped.get([labels[0], labels[1], reason])
                }),
            },
        }
    }

    pub(super) fn partition(&self) -> i32 {
        self.published.partition
    }

    /// Whether it is ours.
    fn is_owned(&self) -> bool {
        let ownership = self.ownership.as_ref();
        ownership.is_none_or(|ownership| ownership.machine.is_owner())
    }

    /// Where to read from: once more the record that was read last, if it is still there. By it the client knows which leader
    /// it has read from, and so notices if the next one lacks what came after.
    pub(super) fn read_from(&self) -> i64 {
        let head = self.shard.head();
        let last = head.last.filter(|last| last.offset >= self.log_start);
        last.map_or(head.next_offset, |last| last.offset)
    }

    /// Whether its records are counted here: it is ours, and where it goes on is known and kept.
    pub(super) fn is_read(&self) -> bool {
        let ownership = self.ownership.as_ref();
        !self.needs_place && ownership.is_none_or(Ownership::is_read)
    }

    /// Whether nothing more can be expected of it for now.
    pub(super) fn is_ready(&self) -> bool {
        let phase = self.published.figures().phase;
        matches!(phase, Phase::Active | Phase::Hidden | Phase::Contended)
    }

    /// Begins anew, with the state in this engine; `head` says what it is.
    pub(super) fn replace(
        &mut self,
        topic: &Topic,
        settings: &Settings,
        engine: Arc<Engine>,
        head: Option<(Head, &crate::metric::Restored)>,
    ) {
        engine.add_counts(self.shard.engine());
        self.published.replace_engine(engine.clone());
        self.shard = empty(topic, settings, self.partition(), engine);
        self.is_new = head.is_none();
        if let Some((head, restored)) = head {
            self.shard.restore(head, restored);
        }
        self.needs_place = true;
        self.has_caught_up = false;
        self.catch_up_to = i64::MAX;
        self.dirty = true;
        let mut figures = self.published.figures();
        (figures.births_on_disk, figures.births_shown) = (0, 0);
        (figures.checkpoint, figures.state_bytes) = (None, None);
    }

    /// Whether its place is to be asked for now.
    pub(super) fn ask(&mut self) -> Option<Asked> {
        if !self.needs_place || self.is_asked || !self.is_owned() || Instant::now() < self.ask_at {
            return None;
        }
        self.is_asked = true;
        let head = self.shard.head().clone();
        let is_new = self.is_new;
        Some(Asked { head, is_new })
    }

    /// Goes on where that is known now. Returns whether it is.
    pub(super) fn answered(&mut self, source: &Source, (asked, found): Answer) -> bool {
        self.is_asked = false;
        let Some(found) = found else {
            self.ask_at = Instant::now() + RETRY;
            return false;
        };
        // It may have been lost meanwhile, and be ours again.
        let is_same = asked.is_new == self.is_new && asked.head == *self.shard.head();
        if !self.needs_place || !self.is_owned() || !is_same {
            return false;
        }
        self.go_on(source, &found);
        true
    }

    fn go_on(&mut self, source: &Source, found: &Found) {
        let head = self.shard.head();
        let (partition, next_offset) = (head.partition, head.next_offset);
        let (low, high) = (found.low, found.high);
        self.log_start = low;
        if self.is_new {
            let first = match source.read_from {
                ReadFrom::Beginning => low,
                ReadFrom::End => high,
            };
            self.shard.skip_to(first);
            self.is_new = false;
        } else {
            match found.place {
                Place::There => {}
                Place::Deleted(lost) => {
                    self.metrics.lost_records.inc_by(lost);
                    error!(
                        partition,
                        lost,
                        next_offset,
                        log_start = low,
                        "records were deleted before they were read"
                    );
                    self.shard.skip_to(low);
                }
                Place::Replaced => {
                    self.metrics.log_replaced.inc();
                    error!(
                        partition,
                        next_offset,
                        log_start = low,
                        log_end = high,
                        going_on_at = found.younger,
                        "the record that was read last is not there any more: the topic was made anew or its end was cut off"
                    );
                    self.shard.skip_to(found.younger);
                }
            }
            self.dirty = true;
        }
        let next_offset = self.shard.head().next_offset;
        let mut figures = self.published.figures();
        figures.reached(next_offset);
        figures.saw_end(high, Instant::now());
        if !self.has_caught_up {
            figures.phase = Phase::CatchingUp;
            (self.catch_up_to, self.catch_up_since) = (high, found.since);
        }
        drop(figures);
        self.needs_place = false;
        if next_offset >= high && self.read_from() == next_offset {
            self.caught_up(found.since);
        }
    }

    /// All that was there at this time is counted.
    pub(super) fn caught_up(&mut self, since: BootTime) {
        if self.has_caught_up {
            return;
        }
        self.has_caught_up = true;
        self.shard.finish_backfill();
        self.dirty = true;
        match &mut self.ownership {
            Some(ownership) => ownership.machine.caught_up(since),
            None => self.published.figures().activate(),
        }
    }

    pub(super) fn count(
        &mut self,
        topic: &Topic,
        messages: &[BorrowedMessage<'_>],
        now: Timestamp,
    ) {
        let records: Vec<Record<'_>> = messages.iter().map(client::record).collect();
        let next_offset = self.shard.head().next_offset;
        // The last one again.
        if records.iter().all(|record| record.offset < next_offset) {
            if next_offset >= self.catch_up_to {
                self.caught_up(self.catch_up_since);
            }
            return;
        }
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
            self.caught_up(self.catch_up_since);
        }
    }
}

/// A shard without state.
fn empty(topic: &Topic, settings: &Settings, partition: i32, engine: Arc<Engine>) -> Shard {
    let head = Head {
        topic: topic.topic.clone(),
        partition,
        ..Head::default()
    };
    Shard::new(engine, settings.source.clone(), settings.line_bytes, head)
}
