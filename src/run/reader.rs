//! The thread that reads: it polls the sources, and does between two polls what needs everything to be counted:
//! maintenance, checkpoints, and what other threads ask of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use tracing::{info, warn};

use super::backlog::Backlog;
use super::checkpoint::{Checkpoint, Writer};
use super::publish::{Figures, Rates};
use super::sources::Sources;
use super::watchdog::Clock;
use super::{Shared, WAIT_MAX, pipeline_limits, unix_seconds};
use crate::config::Config;
use crate::heartbeat::EndOnPanic;
use crate::metric::SavedRepeat;
use crate::pipeline::Pipeline;

/// How often series are evicted at most.
const EVICT_EVERY: Duration = Duration::from_secs(1);
/// For how long at most a scrape has shown what is in no checkpoint: if we are killed then, and the file is gone at the next
/// start, counters fall.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// How often stale series are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// What the reading thread must know of the process before it.
pub(super) struct FirstRead {
    /// There is none, so that whatever is found is old.
    pub(super) is_first_start: bool,
    /// What its last lines counted.
    pub(super) repeats: Vec<SavedRepeat>,
}

/// What the reading thread owns.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) sources: Sources,
    pub(super) pipeline: Pipeline,
    pub(super) config: Config,
    pub(super) backlog: Backlog,
    /// Something has changed since the last checkpoint.
    pub(super) dirty: bool,
    checkpoint_at: Instant,
    expire_at: Instant,
    evict_at: Instant,
    clock: Clock,
    rates: Rates,
}

/// Reads until the process stops.
pub(super) fn read(mut reader: Reader, writer: Option<Writer>) {
    let _end = EndOnPanic;
    let last = loop {
        let now = Instant::now();
        reader.shared.heartbeat.beat();
        let more = reader.poll(now);
        reader.maintain(now);
        reader.forget();
        let next = reader.shared.next.lock().take();
        if let Some(next) = next {
            reader = match reader.reload(next) {
                Some(reader) => reader,
                // There is nothing to read from, and the positions of the last checkpoint stand.
                None => break None,
            };
        }
        let stopping = reader.shared.stop.load(Ordering::SeqCst);
        if stopping {
            reader.sources.stop(&mut reader.pipeline);
        }
        if stopping {
            break Some(reader.take_checkpoint());
        }
        if let Some(writer) = &writer {
            reader.checkpoint(now, writer);
        }
        if reader.shared.asked.swap(false, Ordering::SeqCst) {
            reader.publish();
            reader.checkpoint_at = reader.checkpoint_at.min(now + SHOWN_FOR);
        }
        if !more {
            reader.sources.files.wait(WAIT_MAX);
        }
    };
    if let Some(writer) = writer {
        writer.finish(last);
    }
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        sources: Sources,
        config: Config,
        first: FirstRead,
    ) -> Self {
        let mut pipeline = Pipeline::new(
            shared.engine(),
            shared.own.clone(),
            config.sources.clone(),
            pipeline_limits(config.limits),
        );
        pipeline.restore_repeats(&shared.engine(), &first.repeats);
        if first.is_first_start {
            pipeline.begin_backfill(|_| true);
        }
        pipeline.set_heartbeat(shared.heartbeat.clone());
        let now = Instant::now();
        Reader {
            shared,
            sources,
            pipeline,
            config,
            backlog: Backlog::default(),
            dirty: false,
            // The first one is taken at once: from then on a rotation while we are stopped is noticed.
            checkpoint_at: now,
            expire_at: now + EXPIRE_EVERY,
            evict_at: now,
            clock: Clock::default(),
            rates: Rates::default(),
        }
    }

    /// Reads once from each source. Returns whether there is more.
    fn poll(&mut self, now: Instant) -> bool {
        if let Some(seconds) = self.clock.was_set() {
            warn!(seconds, "the clock was set; ages are counted on");
            self.pipeline.drain();
            let now = unix_seconds(SystemTime::now()) as u32;
            self.shared.engine().clock_was_set(now, seconds);
        }
        self.pipeline.set_now(Timestamp::now());
        let progress = self.sources.read(now, &mut self.pipeline);
        if !progress.more {
            self.pipeline.drain();
        }
        let (sources, backlog) = (&self.sources, &mut self.backlog);
        let is_held_back = sources.files.has_unsaved();
        let read = backlog.read(now, progress, is_held_back, || sources.lag_bytes());
        if let Some(bytes) = read {
            self.pipeline.finish_backfill();
            if !self.shared.ready.load(Ordering::Relaxed) {
                self.shared.engine().table().finish_backfill();
                self.shared.ready.store(true, Ordering::SeqCst);
                info!(bytes, "caught up; ready");
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
        }
        progress.more
    }

    /// What is done from time to time; everything that was read must be counted.
    fn maintain(&mut self, now: Instant) {
        let expires = now >= self.expire_at;
        if expires {
            self.expire_at = now + EXPIRE_EVERY;
        } else if now >= self.evict_at && self.shared.engine().table().wants_eviction() {
            self.evict_at = now + EVICT_EVERY;
        } else {
            return;
        }
        self.pipeline.drain();
        let now = unix_seconds(SystemTime::now()) as u32;
        let engine = self.shared.engine();
        if expires {
            // What was ahead when the state was saved, or was set back by less than is noticed. Not at the start: a clock
            // that is behind is often set soon after.
            engine.clock_was_set(now, 0);
        }
        engine.maintain(now);
    }

    /// Forgets the appliances that somebody asks to forget.
    fn forget(&mut self) {
        let wanted = std::mem::take(&mut *self.shared.forget.lock());
        if wanted.is_empty() {
            return;
        }
        self.pipeline.drain();
        for (name, done) in wanted {
            let known = self.shared.engine().forget_appliance(&name);
            if known {
                info!(appliance = name, "the appliance was forgotten");
            }
            // Nobody waits any more if the request was given up.
            let _ = done.send(known);
        }
    }

    /// Has a checkpoint written, if it is time. Files that were found for the first time are read after it.
    fn checkpoint(&mut self, now: Instant, writer: &Writer) {
        self.dirty |= self.pipeline.take_dirty() | self.shared.scrapers.take_changed();
        let found = self.sources.files.has_unsaved();
        if found || now >= self.checkpoint_at {
            self.checkpoint_at = now + self.config.state.interval;
            let is_queued = match (found, self.dirty) {
                (true, _) => writer.queue_and_wait(self.take_checkpoint()),
                (false, true) => writer.queue(self.take_checkpoint()),
                (false, false) => {
                    writer.unchanged();
                    true
                }
            };
            self.dirty = !is_queued;
        }
        if found {
            self.sources.files.saved();
        }
    }

    fn take_checkpoint(&mut self) -> Checkpoint {
        self.pipeline.drain();
        let (positions, on_disk) = self.sources.positions(&self.pipeline);
        let shown = self.shared.scrapers.save();
        let mut saved = self.shared.engine().save();
        saved.repeats = self.pipeline.save_repeats();
        saved.shown = shown;
        Checkpoint {
            positions,
            on_disk,
            saved,
        }
    }

    /// Hands over fresh figures.
    fn publish(&mut self) {
        let figures = (self.rates).figures(&self.sources, &self.pipeline, &self.config);
        let mut known = self.shared.figures.lock();
        let number = known.number + 1;
        *known = Figures { number, ..figures };
        self.shared.fresh.notify_all();
    }
}
