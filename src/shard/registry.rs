//! The shards of this process, as those see them who serve scrapes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::Part;
use super::machine::{Phase, Shown, is_shown};
use crate::boot_time::BootTime;
use crate::engine::Engine;
use crate::metric::ScrapeView;

/// Labels that a scrape copies while lines wait: less than a millisecond's work.
const LABELS_AT_ONCE: usize = 10_000;
/// Ends of the partition that are kept to tell for how long a shard has been behind.
const ENDS_MAX: usize = 64;

/// Says up to which birth all scrapers were shown all; nothing without one.
pub type ShownToAll = dyn Fn() -> Option<u64> + Send + Sync;

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
        self.shards.lock().push(shard);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Published>> {
        self.shards.lock().clone()
    }

    /// How many partitions the topic of a source has.
    pub fn set_partitions(&self, source: &Arc<str>, count: u64) {
        let mut partitions = self.partitions.lock();
        match partitions.iter_mut().find(|(name, _)| name == source) {
            Some((_, known)) => *known = count,
            None => partitions.push((source.clone(), count)),
        }
    }

    /// How many partitions each topic has, by source.
    pub fn partitions(&self) -> Vec<(Arc<str>, u64)> {
        self.partitions.lock().clone()
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
    /// What it does.
    pub phase: Phase,
    /// When scrapes show it.
    pub shown: Option<Shown>,
    /// The offset of the next record.
    pub next_offset: i64,
    /// When the broker last said where the partition ends.
    pub contact: Option<Instant>,
    /// When what is kept was last known to be all there is.
    pub checkpoint: Option<Instant>,
    /// The births up to this number are kept; all, if none has to be.
    pub births_on_disk: u64,
    /// The births up to this number are shown with their values, whoever goes on with the shard; all, if nobody else does.
    /// No later one was ever shown so.
    pub births_shown: u64,
    /// Bytes of its state, where that is kept in a topic.
    pub state_bytes: Option<u64>,
    /// How long it took to restore it from there.
    pub restore: Option<Duration>,
    /// Ends of the partition that were not reached yet, the oldest first, and when they were seen.
    ends: Vec<(i64, Instant)>,
}

impl Figures {
    /// What it does: an active one whose lease is over is hidden, whether its own thread has noticed or not.
    pub fn phase(&self, now: BootTime) -> Phase {
        match self.phase == Phase::Active && !is_shown(self.shown, now) {
            true => Phase::Hidden,
            false => self.phase,
        }
    }

    /// What is left of its lease; nothing without one.
    pub fn lease(&self, now: BootTime) -> Option<Duration> {
        let (_, until) = self.shown?;
        (until != BootTime::END).then(|| until.since(now))
    }

    /// It is shown from now on, with no end.
    pub fn activate(&mut self) {
        self.phase = Phase::Active;
        self.shown = Some((BootTime::default(), BootTime::END));
    }

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
                phase: Phase::Waiting,
                shown: None,
                next_offset: 0,
                contact: None,
                checkpoint: None,
                births_on_disk: if needs_disk { 0 } else { u64::MAX },
                births_shown: u64::MAX,
                state_bytes: None,
                restore: None,
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
        self.engine.lock().clone()
    }

    /// Other rules are in force.
    pub fn replace_engine(&self, engine: Arc<Engine>) {
        *self.engine.lock() = engine;
    }

    /// How far it is, to look at or to change.
    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock()
    }

    /// Its part of a scrape for somebody who has been shown the births up to `shown`, if it is to be seen now, and up to
    /// which birth all of it was shown then.
    pub fn part(&self, shown: u64, now: fn() -> BootTime) -> (Option<Part>, u64) {
        let view = self.synced();
        // After what may take a while.
        if !is_shown(self.figures().shown, now()) {
            return (None, self.pass_over(&view, shown));
        }
        let (on_disk, kept) = {
            let figures = self.figures();
            (figures.births_on_disk, figures.births_shown)
        };
        // Who sees every value as it is was never shown a 0.
        let shown = match shown {
            u64::MAX => shown,
            _ => shown.min(kept),
        };
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

    /// Up to which birth this scraper was shown all, though it is not shown the shard. That holds up nobody: births that may
    /// never have been shown with their values get a number that is later than all that this scrape shows.
    fn pass_over(&self, view: &ScrapeView, shown: u64) -> u64 {
        let kept = self.figures().births_shown;
        // Others may know these values, so they keep their numbers.
        if shown < kept.min(view.last_own_birth()) {
            return 0;
        }
        if view.last_own_birth() > kept {
            self.engine().table().renumber_births(kept);
        }
        view.last_birth()
    }

    /// What scrapes see, brought up to date.
    pub fn synced(&self) -> MutexGuard<'_, ScrapeView> {
        let engine = self.engine();
        let mut view = self.view.lock();
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

    fn figures() -> Figures {
        Figures {
            phase: Phase::Active,
            shown: None,
            next_offset: 5,
            contact: None,
            checkpoint: None,
            births_on_disk: 0,
            births_shown: u64::MAX,
            state_bytes: None,
            restore: None,
            ends: Vec::new(),
        }
    }

    #[test]
    fn a_shard_is_hidden_once_its_lease_is_over() {
        let at = |seconds| BootTime::after(Duration::from_secs(seconds));
        let mut figures = figures();
        assert_eq!(figures.phase(at(1)), Phase::Hidden);
        figures.shown = Some((at(2), at(5)));
        let phases = [1, 2, 4, 5].map(|now| figures.phase(at(now)));
        use Phase::{Active, Hidden};
        assert_eq!(phases, [Hidden, Active, Active, Hidden]);
        figures.activate();
        assert_eq!(figures.phase(at(u32::MAX.into())), Active);
    }

    #[test]
    fn how_far_behind() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut figures = figures();
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
