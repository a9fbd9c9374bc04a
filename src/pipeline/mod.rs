//! Bytes become counts: the tail's bytes go through line buffers into an engine, messages of other sources straight, and
//! what went wrong is counted.
//!
//! One thread owns a [`Pipeline`] and hands it to all sources as their sink. It counts what it
//! reads itself, as long as one file at a time has much to read; if several have, [`workers`] help. What they have taken
//! on is done when [`Pipeline::drain`] returns.

mod by_path;
mod received;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing::{info, warn};

use crate::config::{ApplianceFrom, Source};
use crate::engine::{Batch, Engine, EventTime, REPEATS_SAVED_MAX, Repeats, StreamContext, Worker};
use crate::heartbeat::Heartbeat;
use crate::line::{Line, LineBuffer};
use crate::metric::SavedRepeat;
use crate::own_metrics::OwnMetrics;
use crate::record::Clock;
use crate::source::{self, Message, Stream};
use crate::tail::{Chunk, End, Event, FileId, FileInfo, Sink};
use by_path::ByPath;
use received::Received;
use workers::Workers;

/// Appliances kept for one file, to be shown.
const APPLIANCES_SHOWN_MAX: usize = 8;

/// Paths whose counts are kept to be shown; names with dates in them would grow without end.
const PATHS_MAX: usize = 20_000;

/// Bytes at once that tell a file with much to read from one that is read as it is written.
const MUCH_BYTES: usize = 64 << 10;

/// What is known of a path over all files that it had.
#[derive(Clone, Debug, Default)]
pub struct PathCounts {
    /// Lines read.
    pub lines: u64,
    /// Files that a successor replaced.
    pub rotations: u64,
    /// Bytes known to be lost.
    pub lost_bytes: u64,
    /// Some of the appliances that its lines are about.
    pub appliances: BTreeSet<String>,
    /// Who sent them, if they came over the network: how many.
    pub senders: usize,
}

/// The sink of the tail.
#[derive(Debug)]
pub struct Pipeline {
    worker: Worker,
    workers: Workers,
    own: Arc<OwnMetrics>,
    sources: Vec<Source>,
    /// By source: what is read of it was there before it was ever followed.
    backfilling: Vec<bool>,
    limits: Limits,
    heartbeat: Arc<Heartbeat>,
    files: HashMap<FileId, Arc<Open>>,
    paths: ByPath<PathCounts>,
    /// What the last lines of each path counted, over its rotations.
    repeats: ByPath<Repeats>,
    now: Timestamp,
    /// Streams of messages, by key.
    received: HashMap<String, Received>,
    /// The last file that had much to read.
    busy: Option<FileId>,
    /// Something was counted since the last checkpoint.
    dirty: bool,
}

/// How much a pipeline may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest line, bytes.
    pub line_bytes: usize,
    /// Threads that count, the reading one among them.
    pub threads: usize,
}

/// A run of bytes that is being read. Whoever counts a piece of it holds its lock.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    source: String,
    counts: Arc<Mutex<PathCounts>>,
    lines_read: Counter,
    bytes_read: Counter,
    too_long: Counter,
    too_long_bytes: Counter,
    repeats: Arc<Mutex<Repeats>>,
    text: Mutex<Text>,
}

/// What a run of bytes leads on from one piece to the next.
#[derive(Debug)]
struct Text {
    lines: LineBuffer,
    origin: StreamContext,
    too_long_told: bool,
}

impl Open {
    /// Counts the next bytes of the run; without any, the run is over, and an unfinished line counts as one.
    fn count(&self, worker: &mut Worker, now: Timestamp, is_late: bool, bytes: Option<&[u8]>) {
        let mut text = self.text.lock();
        let Text {
            lines,
            origin,
            too_long_told,
        } = &mut *text;
        origin.clock.now = now;
        origin.is_late = is_late;
        let mut repeats = self.repeats.lock();
        let seconds = u32::try_from(now.as_second()).unwrap_or(0);
        let mut batch = worker.batch(seconds, Some(&mut repeats));
        let (mut count, mut skipped) = (0, 0);
        let each = |line: Line<'_>| {
            count += 1;
            skipped += line.skipped_bytes;
            self.line(&mut batch, origin, line);
        };
        match bytes {
            Some(bytes) => {
                lines.push(bytes, each);
                self.bytes_read.inc_by(bytes.len() as u64);
            }
            None => lines.finish(each),
        }
        drop(batch);
        self.lines_read.inc_by(count);
        let mut counts = self.counts.lock();
        counts.lines += count;
        counts.lost_bytes += skipped;
        if skipped > 0 && !std::mem::replace(too_long_told, true) {
            warn!(path = %self.path.display(), limit = lines.max_line_bytes(), "bytes were lost: a line is too long; further ones of this file are only counted");
        }
        if counts.appliances.len() < APPLIANCES_SHOWN_MAX
            && let Some(appliance) = origin.last_appliance()
        {
            let table = worker.engine().table();
            let name = table.appliance_name(appliance);
            if !counts.appliances.contains(name) {
                counts.appliances.insert(name.to_owned());
            }
        }
    }

    /// One line. A line over the limit is matched by its beginning, and what is left out is counted.
    #[inline]
    fn line(&self, batch: &mut Batch<'_>, origin: &mut StreamContext, line: Line<'_>) {
        if line.skipped_bytes > 0 {
            self.too_long.inc();
            self.too_long_bytes.inc_by(line.skipped_bytes);
        }
        batch.line(origin, line.bytes);
    }
}

impl Pipeline {
    /// A pipeline for these sources, in the order in which the tail knows them.
    pub fn new(
        engine: Arc<Engine>,
        own: Arc<OwnMetrics>,
        sources: Vec<Source>,
        limits: Limits,
    ) -> Self {
        Self {
            workers: Workers::new(engine.clone(), limits.threads),
            worker: Worker::new(engine),
            own,
            backfilling: vec![false; sources.len()],
            sources,
            heartbeat: Arc::default(),
            limits,
            files: HashMap::new(),
            paths: ByPath::new(PATHS_MAX),
            repeats: ByPath::new(PATHS_MAX),
            received: HashMap::new(),
            now: Timestamp::UNIX_EPOCH,
            busy: None,
            dirty: false,
        }
    }

    /// What the last lines counted, for a checkpoint; everything that was read must be counted.
    pub fn save_repeats(&self) -> Vec<SavedRepeat> {
        let engine = self.worker.engine();
        let mut saved = Vec::new();
        for (path, repeats) in self.repeats.iter() {
            // A name that is not UTF-8 cannot be found again.
            if let Some(path) = path.to_str() {
                saved.extend(
                    repeats
                        .lock()
                        .save(engine, path, REPEATS_SAVED_MAX - saved.len()),
                );
            }
        }
        saved
    }

    /// Takes over what a former pipeline saved. The table must have been restored before.
    pub fn restore_repeats(&mut self, engine: &Engine, saved: &[SavedRepeat]) {
        for saved in saved {
            let path = Path::new(&saved.path);
            let repeats = self.repeats.entry_or(path, || engine.repeats());
            repeats.lock().restore(engine, saved);
        }
    }

    /// What the last lines of a path counted.
    fn repeats_of(&mut self, path: &Path) -> Arc<Mutex<Repeats>> {
        let engine = self.worker.engine();
        self.repeats.entry_or(path, || engine.repeats()).clone()
    }

    /// Goes on with other rules.
    pub fn replace_engine(&mut self, engine: Arc<Engine>) {
        self.drain();
        let repeats = self.save_repeats();
        for open in self.files.values() {
            open.text.lock().origin.reset();
        }
        for (_, repeats) in self.repeats.iter() {
            *repeats.lock() = engine.repeats();
        }
        self.received.values_mut().for_each(Received::reset);
        self.restore_repeats(&engine, &repeats);
        self.workers = Workers::new(engine.clone(), self.limits.threads);
        self.worker = Worker::new(engine);
    }

    /// Beats whenever a piece of a file is counted or handed to a worker.
    pub(crate) fn set_heartbeat(&mut self, heartbeat: Arc<Heartbeat>) {
        self.heartbeat = heartbeat;
    }

    /// Dates the notable events of these sources by their lines until [`Self::finish_backfill`]: they are followed for the
    /// first time, and what happened long ago must not look like news.
    pub fn begin_backfill(&mut self, is_new: impl Fn(&Source) -> bool) {
        self.backfilling = self.sources.iter().map(is_new).collect();
    }

    /// What was there is read: from now on events are dated by their arrival.
    pub fn finish_backfill(&mut self) {
        self.drain();
        self.backfilling.fill(false);
        for open in self.files.values() {
            open.text.lock().origin.event_time = EventTime::Arrival;
        }
    }

    /// Sets the time of receipt for what is read next.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Waits until all that was read is counted: from then on until the next bytes, positions and numbers belong
    /// together.
    pub fn drain(&mut self) {
        self.workers.drain(&mut self.worker);
        self.busy = None;
    }

    /// How many bytes of a file belong to a line that is not finished, once all is settled.
    pub fn held_bytes(&self, file: FileId) -> u64 {
        self.files
            .get(&file)
            .map_or(0, |open| open.text.lock().lines.held_bytes())
    }

    /// What is known of a path.
    pub fn path(&self, path: &Path) -> PathCounts {
        self.paths
            .get(path)
            .map_or_else(PathCounts::default, |counts| counts.lock().clone())
    }

    /// Whether something was counted since this was last asked.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    fn source_name(&self, index: usize) -> &str {
        self.sources.get(index).map_or("", |source| &source.name)
    }
}

impl source::Sink for Pipeline {
    fn messages(&mut self, stream: &Stream, messages: &mut dyn Iterator<Item = Message<'_>>) {
        let mut sources = self.sources.iter();
        let Some(source) = sources.find(|source| *source.name == *stream.source) else {
            return;
        };
        self.dirty = true;
        self.heartbeat.beat();
        let clock = Clock {
            zone: source.time_zone.clone(),
            now: self.now,
        };
        if let Some(received) = self.received.get_mut(&stream.key) {
            return received.count(&mut self.worker, source, &clock, messages);
        }
        let source = source.clone();
        let path = Path::new(&stream.key);
        let (counts, repeats) = (self.paths.entry(path).clone(), self.repeats_of(path));
        let mut received = Received::new(&source, self.own.clone(), counts, repeats);
        received.count(&mut self.worker, &source, &clock, messages);
        self.received.insert(stream.key.clone(), received);
    }
}

impl Sink for Pipeline {
    fn opened(&mut self, file: FileId, info: &Arc<FileInfo>) {
        let counts = self.paths.entry(&info.path).clone();
        let Some(source) = self.sources.get(info.source) else {
            return;
        };
        let captured = info
            .captures
            .iter()
            .find(|(name, _)| &**name == "appliance")
            .map(|(_, value)| value.clone());
        let mut origin = StreamContext::new(Clock {
            zone: source.time_zone.clone(),
            now: self.now,
        });
        if self.backfilling.get(info.source) == Some(&true) {
            origin.event_time = EventTime::Record;
        }
        origin.profile = source.profile.clone();
        origin.relays = source.relays.clone();
        match &source.appliance {
            ApplianceFrom::Header => origin.fallback = captured,
            ApplianceFrom::Path => origin.appliance = captured,
            // Files have no records.
            ApplianceFrom::Key => {}
            ApplianceFrom::Fixed(name) => origin.appliance = Some(name.clone()),
        }
        let (source, name) = (source.name.clone(), source.name.as_str().to_owned());
        let name = name.as_str();
        let open = Open {
            repeats: self.repeats_of(&info.path),
            path: info.path.clone(),
            source,
            lines_read: self.own.lines_read.get([name]),
            bytes_read: self.own.bytes_read.get([name]),
            too_long: self.own.lines_dropped.get([name, "too_long"]),
            too_long_bytes: self.own.lost_bytes.get([name, "too_long"]),
            text: Mutex::new(Text {
                lines: LineBuffer::new(self.limits.line_bytes),
                origin,
                too_long_told: false,
            }),
            counts,
        };
        info!(path = %info.path.display(), source = name, "following a file");
        self.files.insert(file, Arc::new(open));
    }

    fn bytes(&mut self, file: FileId, chunk: &mut Chunk) {
        let Some(open) = self.files.get(&file) else {
            return;
        };
        self.dirty = true;
        self.heartbeat.beat();
        let several_are_busy = chunk.len() >= MUCH_BYTES
            && self.busy.replace(file).is_some_and(|last| last != file)
            && self.workers.are_allowed();
        if several_are_busy || self.workers.is_active() {
            self.workers.submit(open, self.now, chunk, &mut self.worker);
        } else {
            open.count(&mut self.worker, self.now, chunk.is_late(), Some(chunk));
        }
    }

    fn ended(&mut self, file: FileId, end: End) {
        self.drain();
        let Some(open) = self.files.remove(&file) else {
            return;
        };
        self.dirty = true;
        match end {
            End::Whole { is_late } => open.count(&mut self.worker, self.now, is_late, None),
            End::Cut(reason) => {
                let held = open.text.lock().lines.held_bytes();
                if held > 0 {
                    let source = open.source.as_str();
                    self.own
                        .lost_bytes
                        .get([source, reason.as_str()])
                        .inc_by(held);
                    self.own.lines_dropped.get([source, "torn"]).inc();
                    open.counts.lock().lost_bytes += held;
                    warn!(path = %open.path.display(), bytes = held, reason = reason.as_str(), "an unfinished line was lost with its file");
                }
            }
        }
    }

    fn event(&mut self, info: &FileInfo, event: Event) {
        let source = self.source_name(info.source).to_owned();
        let path = info.path.display();
        let counts = self.paths.entry(&info.path).clone();
        let mut counts = counts.lock();
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
            Event::History { bytes } => {
                self.own.old_archives.get([&source]).inc();
                info!(%path, source, bytes, "a rotated file beside it is older than all that was read; it is not read");
            }
            Event::Unreadable(trouble) => {
                warn!(%path, source, err = %trouble, "the file cannot be read");
            }
        }
    }
}
