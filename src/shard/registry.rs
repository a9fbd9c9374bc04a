//! The shards of this process, as those see them who serve scrapes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use hashbrown::HashMap;

use super::Part;
use crate::engine::Engine;
use crate::metric::{ScrapeView, lock};

/// Labels that a scrape copies while lines wait: less than a millisecond's work.
const LABELS_AT_ONCE: usize = 10_000;
/// Ends of the partition that are kept to tell for how long a shard has been behind.
const ENDS_MAX: usize = 64;

/// All shards of a process.
#[derive(Debug, Default)]
pub struct Shards {
    shards: Mutex<Vec<Arc<Published>>>,
    /// By source: how many partitions its topic has.
    partitions: Mutex<Vec<(Arc<str>, u64)>>,
    /// Sources that have not caught up for the first time.
    waiting: AtomicUsize,
}

impl Shards {
    /// So many sources are to catch up.
    pub fn wait_for(&self, sources: usize) {
        self.waiting.store(sources, Ordering::SeqCst);
    }

    /// A source has caught up for the first time, or will not be waited for.
    pub fn caught_up(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether all have.
    pub fn are_ready(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Adds a shard.
    pub fn add(&self, shard: Arc<Published>) {
        lock(&self.shards).push(shard);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Published>> {
        lock(&self.shards).clone()
    }

    /// How many partitions the topic of a source has.
    pub fn set_partitions(&self, source: &Arc<str>, count: u64) {
        let mut partitions = lock(&self.partitions);
        match partitions.iter_mut().find(|(name, _)| name == source) {
            Some((_, known)) => *known = count,
            None => partitions.push((source.clone(), count)),
        }
    }

    /// How many partitions each topic has, by source.
    pub fn partitions(&self) -> Vec<(Arc<str>, u64)> {
        lock(&self.partitions).clone()
    }
}

/// One shard, for all threads.
#[derive(Debug)]
pub struct Published {
    /// The source that reads it.
    pub source: Arc<str>,
    /// The partition.
    pub partition: i32,
    engine: Mutex<Arc<Engine>>,
    /// What scrapes see; locked before the table.
    view: Mutex<ScrapeView>,
    figures: Mutex<Figures>,
}

/// How far a shard is.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Its state.
    pub state: State,
    /// The offset of the next record.
    pub next_offset: i64,
    /// When the broker last said where the partition ends.
    pub contact: Option<Instant>,
    /// When what is on disk was last known to be all there is.
    pub checkpoint: Option<Instant>,
    /// The births up to this number are on disk; all, if none has to be.
    pub births_on_disk: u64,
    /// Ends of the partition that were not reached yet, the oldest first, and when they were seen.
    ends: Vec<(i64, Instant)>,
}

/// What a shard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for the brokers.
    Waiting,
    /// It reads what was written while nobody read. Scrapes do not show it.
    CatchingUp,
    /// It is in scrapes.
    Active,
}

impl State {
    /// All of them.
    pub const ALL: [State; 3] = [State::Waiting, State::CatchingUp, State::Active];

    /// As in the label `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::CatchingUp => "catching_up",
            State::Active => "active",
        }
    }
}

impl Figures {
    /// The partition ends before this offset.
    pub fn saw_end(&mut self, end: i64, now: Instant) {
        self.contact = Some(now);
        self.reached(self.next_offset);
        let is_news = self.ends.last().is_none_or(|(last, _)| *last != end);
        if end > self.next_offset && is_news {
            // The first says for how long the shard has been behind, the last how far.
            if self.ends.len() >= ENDS_MAX {
                self.ends.pop();
            }
            self.ends.push((end, now));
        }
    }

    /// All records before this offset are counted.
    pub fn reached(&mut self, next_offset: i64) {
        self.next_offset = next_offset;
        self.ends.retain(|(end, _)| *end > next_offset);
    }

    /// Records that wait, as far as is known.
    pub fn lag_records(&self) -> u64 {
        let end = self.ends.last().map_or(0, |(end, _)| *end);
        u64::try_from(end.saturating_sub(self.next_offset)).unwrap_or(0)
    }

    /// For how long a record has been known to wait.
    pub fn lag_seconds(&self, now: Instant) -> f64 {
        let since = self.ends.first().map(|(_, at)| now.duration_since(*at));
        since.map_or(0.0, |since| since.as_secs_f64())
    }
}

impl Published {
    /// A shard that waits. `needs_disk` says that it has checkpoints.
    pub fn new(source: Arc<str>, partition: i32, engine: Arc<Engine>, needs_disk: bool) -> Self {
        Self {
            source,
            partition,
            engine: Mutex::new(engine),
            view: Mutex::default(),
            figures: Mutex::new(Figures {
                state: State::Waiting,
                next_offset: 0,
                contact: None,
                checkpoint: None,
                births_on_disk: if needs_disk { 0 } else { u64::MAX },
                ends: Vec::new(),
            }),
        }
    }

    /// Its name: source and partition.
    pub fn name(&self) -> String {
        format!("{}/{}", self.source, self.partition)
    }

    /// What it counts into.
    pub fn engine(&self) -> Arc<Engine> {
        lock(&self.engine).clone()
    }

    /// Other rules are in force.
    pub fn replace_engine(&self, engine: Arc<Engine>) {
        *lock(&self.engine) = engine;
    }

    /// How far it is, to look at or to change.
    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        lock(&self.figures)
    }

    /// Its part of a scrape for somebody who has been shown the births up to `shown`, if it is to be seen, and up to which
    /// birth all of it was shown then.
    pub fn part(&self, shown: u64) -> (Option<Part>, u64) {
        let is_active = self.figures().state == State::Active;
        let view = self.synced();
        if !is_active {
            return (
                None,
                if view.last_own_birth() > 0 {
                    0
                } else {
                    u64::MAX
                },
            );
        }
        let on_disk = self.figures().births_on_disk;
        // What would be born anew after a kill was not shown.
        let birth = match view.last_own_birth() > on_disk {
            true => view.last_birth().min(on_disk),
            false => view.last_birth(),
        };
        let part = Part {
            snapshot: view.snapshot(shown),
            last_heard: last_heard(&view),
        };
        (Some(part), birth)
    }

    /// What scrapes see, brought up to date.
    pub fn synced(&self) -> MutexGuard<'_, ScrapeView> {
        let engine = self.engine();
        let mut view = lock(&self.view);
        while !engine.table().sync_view(&mut view, LABELS_AT_ONCE) {}
        view
    }
}

/// When each appliance was last heard of, by any of its programs, in seconds since 1970.
pub fn last_heard(view: &ScrapeView) -> HashMap<Arc<str>, f64> {
    let mut last: HashMap<Arc<str>, f64> = HashMap::new();
    for (labels, at) in view.series_of("log_last_message_timestamp_seconds") {
        if let Some(appliance) = labels.first() {
            let known = last.entry(appliance.clone()).or_insert(at);
            *known = known.max(at);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn how_far_behind() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut figures = Figures {
            state: State::Active,
            next_offset: 5,
            contact: None,
            checkpoint: None,
            births_on_disk: 0,
            ends: Vec::new(),
        };
        let lag = |figures: &Figures, now| (figures.lag_records(), figures.lag_seconds(at(now)));
        figures.saw_end(5, at(0));
        assert_eq!(lag(&figures, 1), (0, 0.0));
        figures.saw_end(9, at(10));
        figures.saw_end(12, at(20));
        figures.saw_end(12, at(30));
        assert_eq!(lag(&figures, 30), (7, 20.0));
        figures.reached(9);
        assert_eq!(lag(&figures, 30), (3, 10.0));
        figures.reached(12);
        assert_eq!(lag(&figures, 30), (0, 0.0));
        // However long it lasts.
        for n in 0..1000 {
            figures.saw_end(13 + n, at(40 + n as u64));
        }
        assert_eq!(lag(&figures, 1050), (1000, 1010.0));
        assert_eq!(figures.ends.len(), ENDS_MAX);
        assert_eq!(figures.contact, Some(at(1039)));
    }
}
