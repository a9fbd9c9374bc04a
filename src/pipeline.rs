//! Bytes become counts: the tail's bytes go through line buffers into the engine, and what went wrong is counted.
//!
//! One thread owns a [`Pipeline`] and hands it to [`Tail::read`](crate::tail::Tail::read) as the sink. The engine is
//! shared with those who scrape; it is locked for one piece of a file at a time, at most 256 KiB, which takes well under
//! a millisecond.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tracing::{info, warn};

use crate::config::{ApplianceFrom, Source};
use crate::engine::{Engine, Origin};
use crate::line::{Line, LineBuffer};
use crate::own_metrics::OwnMetrics;
use crate::record::Clock;
use crate::tail::{End, Event, FileId, FileInfo, Sink};

/// Appliances remembered for one file, to be shown.
const APPLIANCES_SHOWN_MAX: usize = 8;

/// Paths whose counts are remembered to be shown; names with dates in them would grow without end.
const PATHS_MAX: usize = 20_000;

/// An engine that one thread feeds and others look at.
#[derive(Debug)]
pub struct SharedEngine {
    engine: Mutex<Engine>,
    /// Threads that wait to look. The feeding thread lets them go first: a mutex alone would let it take the lock again
    /// and again before they wake up.
    waiting: AtomicUsize,
}

impl SharedEngine {
    /// Shares an engine.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine: Mutex::new(engine),
            waiting: AtomicUsize::new(0),
        }
    }

    /// For everyone but the feeding thread.
    pub fn look(&self) -> MutexGuard<'_, Engine> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // No panic leaves an engine half changed in a way that matters: numbers may miss one line.
        let guard = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        guard
    }

    /// For the feeding thread.
    fn feed(&self) -> MutexGuard<'_, Engine> {
        while self.waiting.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a path over all files that it had.
#[derive(Clone, Debug, Default)]
pub struct PathCounts {
    /// Lines read.
    pub lines: u64,
    /// Files that made room for a successor.
    pub rotations: u64,
    /// Bytes known to be lost.
    pub lost_bytes: u64,
    /// Some of the appliances that its lines are about.
    pub appliances: BTreeSet<String>,
}

/// The sink of the tail.
#[derive(Debug)]
pub struct Pipeline {
    engine: Arc<SharedEngine>,
    own: Arc<OwnMetrics>,
    sources: Vec<Source>,
    line_bytes_max: usize,
    files: HashMap<FileId, Open>,
    paths: HashMap<PathBuf, PathCounts>,
    now: Timestamp,
    /// Something was counted since the last checkpoint.
    dirty: bool,
}

/// A run of bytes that is being read.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    source: String,
    lines: LineBuffer,
    origin: Origin,
    lines_read: Counter,
    bytes_read: Counter,
    too_long: Counter,
    too_long_bytes: Counter,
    too_long_told: bool,
}

impl Pipeline {
    /// A pipeline for these sources, in the order in which the tail knows them.
    pub fn new(
        engine: Arc<SharedEngine>,
        own: Arc<OwnMetrics>,
        sources: Vec<Source>,
        line_bytes_max: usize,
    ) -> Self {
        Self {
            engine,
            own,
            sources,
            line_bytes_max,
            files: HashMap::new(),
            paths: HashMap::new(),
            now: Timestamp::UNIX_EPOCH,
            dirty: false,
        }
    }

    /// Sets the time of receipt for what is read next.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
        let seconds = u32::try_from(now.as_second()).unwrap_or(0);
        self.engine.feed().set_now(seconds);
    }

    /// How many bytes of a file belong to a line that is not finished.
    pub fn held_bytes(&self, file: FileId) -> u64 {
        self.files
            .get(&file)
            .map_or(0, |open| open.lines.held_bytes())
    }

    /// What is known of each path.
    pub fn paths(&self) -> &HashMap<PathBuf, PathCounts> {
        &self.paths
    }

    /// Whether something was counted since this was last asked.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    fn source_name(&self, index: usize) -> &str {
        self.sources.get(index).map_or("", |source| &source.name)
    }
}

impl Sink for Pipeline {
    fn opened(&mut self, file: FileId, info: &Arc<FileInfo>) {
        let Some(source) = self.sources.get(info.source) else {
            return;
        };
        let captured = info
            .captures
            .iter()
            .find(|(name, _)| &**name == "appliance")
            .map(|(_, value)| value.clone());
        let mut origin = Origin::new(Clock {
            zone: source.time_zone.clone(),
            now: self.now,
        });
        origin.profile = source.profile.clone();
        match &source.appliance {
            ApplianceFrom::Header => origin.fallback = captured,
            ApplianceFrom::Path => origin.appliance = captured,
            ApplianceFrom::Fixed(name) => origin.appliance = Some(name.clone()),
        }
        let name = source.name.as_str();
        let open = Open {
            path: info.path.clone(),
            source: source.name.clone(),
            lines: LineBuffer::new(self.line_bytes_max),
            origin,
            lines_read: self.own.lines_read.get([name]),
            bytes_read: self.own.bytes_read.get([name]),
            too_long: self.own.lines_dropped.get([name, "too_long"]),
            too_long_bytes: self.own.lost_bytes.get([name, "too_long"]),
            too_long_told: false,
        };
        if self.paths.len() >= PATHS_MAX {
            self.paths.clear();
        }
        info!(path = %info.path.display(), source = name, "following a file");
        self.files.insert(file, open);
    }

    fn bytes(&mut self, file: FileId, bytes: &[u8]) {
        let Some(open) = self.files.get_mut(&file) else {
            return;
        };
        let mut engine = self.engine.feed();
        open.origin.clock.now = self.now;
        let (mut count, mut skipped) = (0, 0);
        let (origin, too_long, too_long_bytes) =
            (&mut open.origin, &open.too_long, &open.too_long_bytes);
        open.lines.push(bytes, |line| {
            count += 1;
            skipped += line.skipped_bytes;
            feed(&mut engine, origin, line, too_long, too_long_bytes);
        });
        let seen = open
            .origin
            .last_appliance()
            .map(|id| engine.table.appliance_name(id).to_owned());
        drop(engine);
        open.bytes_read.inc_by(bytes.len() as u64);
        open.lines_read.inc_by(count);
        let counts = self.paths.entry(open.path.clone()).or_default();
        counts.lines += count;
        counts.lost_bytes += skipped;
        if skipped > 0 && !std::mem::replace(&mut open.too_long_told, true) {
            warn!(path = %open.path.display(), limit = self.line_bytes_max, "bytes were lost: a line is too long; further ones of this file are only counted");
        }
        if let Some(seen) = seen
            && counts.appliances.len() < APPLIANCES_SHOWN_MAX
        {
            counts.appliances.insert(seen);
        }
        self.dirty = true;
    }

    fn ended(&mut self, file: FileId, end: End) {
        let Some(mut open) = self.files.remove(&file) else {
            return;
        };
        self.dirty = true;
        match end {
            End::Whole => {
                let mut engine = self.engine.feed();
                let (origin, too_long, too_long_bytes) =
                    (&mut open.origin, &open.too_long, &open.too_long_bytes);
                let lines_read = &open.lines_read;
                let counts = self.paths.entry(open.path.clone()).or_default();
                open.lines.finish(|line| {
                    lines_read.inc();
                    counts.lines += 1;
                    counts.lost_bytes += line.skipped_bytes;
                    feed(&mut engine, origin, line, too_long, too_long_bytes);
                });
            }
            End::Cut(reason) => {
                let held = open.lines.held_bytes();
                if held > 0 {
                    let source = open.source.as_str();
                    self.own
                        .lost_bytes
                        .get([source, reason.as_str()])
                        .inc_by(held);
                    self.own.lines_dropped.get([source, "torn"]).inc();
                    self.paths.entry(open.path.clone()).or_default().lost_bytes += held;
                    warn!(path = %open.path.display(), bytes = held, reason = reason.as_str(), "an unfinished line was lost with its file");
                }
            }
        }
    }

    fn event(&mut self, info: &FileInfo, event: Event) {
        let source = self.source_name(info.source).to_owned();
        let path = info.path.display();
        let counts = self.paths.entry(info.path.clone()).or_default();
        self.dirty = true;
        match event {
            Event::Rotated => {
                counts.rotations += 1;
                self.own.rotations.get([&source]).inc();
                info!(%path, source, "the file was rotated");
            }
            Event::Truncated => {
                self.own.truncations.get([&source]).inc();
                info!(%path, source, "the file was truncated");
            }
            Event::Lost { bytes, reason } => {
                counts.lost_bytes += bytes;
                let reason = reason.as_str();
                self.own.lost_bytes.get([&source, reason]).inc_by(bytes);
                warn!(%path, source, bytes, reason, "bytes were lost");
            }
            Event::Unreadable(trouble) => {
                warn!(%path, source, %trouble, "the file cannot be read");
            }
        }
    }
}

/// One line. A line over the limit is matched by its beginning, and what is left out is counted.
#[inline]
fn feed(
    engine: &mut Engine,
    origin: &mut Origin,
    line: Line<'_>,
    too_long: &Counter,
    too_long_bytes: &Counter,
) {
    if line.skipped_bytes > 0 {
        too_long.inc();
        too_long_bytes.inc_by(line.skipped_bytes);
    }
    engine.line(origin, line.bytes);
}
