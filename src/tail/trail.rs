//! One followed path over time: the file that is there now, and those that were there before it and are not finished.
//!
//! A restart is nothing special here. A file that a former process was reading is a stream without a descriptor, as is
//! one that was closed to save descriptors and one whose content was truncated away. [`Trail::settle`] finds such
//! files again under the names that rotation gives, by key or by content, and with them the generations that nobody
//! ever saw at the path.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::identity::{FileKey, HEAD_BYTES, Mark, modified_ns};
use super::positions::{Position, PositionState};
use super::registry::Known;
use super::rotated;
use super::stream::{Body, Opened, Step, Stream, open_fifo};
use super::{
    End, Event, FileId, FileInfo, FileState, LostReason, ReadFrom, Shared, Sink, Trouble, is_absent,
};

/// Finished files that a path remembers. Rotation is by number or date, so that older ones are told by their age.
const DONE_MAX: usize = 64;

/// Rotated files of one path that are kept open for late writers. Beyond, the oldest are finished early.
const DRAINING_MAX: usize = 64;

/// The longest that the clock of a file system stands still, in nanoseconds, and more.
const TICK_NS: i64 = 100_000_000;

/// A followed path.
#[derive(Debug)]
pub(super) struct Trail {
    /// Its place in the tail's list.
    pub index: usize,
    pub info: Arc<FileInfo>,
    /// The files, oldest first; the current one, if there is one, is the last.
    pub streams: Vec<Stream>,
    /// Files that need no more reading, oldest first. At most [`DONE_MAX`].
    done: VecDeque<FileKey>,
    /// Where the path really leads, if it or its directory is a symbolic link.
    pub target: Option<PathBuf>,
    /// The path has to be looked at before anything is read.
    pub look: bool,
    /// It stands in the queue.
    pub queued: bool,
    /// What was last reported to be wrong with the path.
    pub trouble: Option<Trouble>,
    /// A file was here before, in this process or an earlier one.
    pub seen: bool,
    /// When the latest current file had been changed, when it was last seen at the path. What came after it is younger.
    modified_ns: i64,
    /// The path leads to a file that another path follows.
    alias: Option<FileKey>,
    /// Where to begin with a file that was never seen.
    read_from: ReadFrom,
    /// The path was looked at while there was nothing: what is rotated from then on came in between.
    awaited: bool,
    /// When the directories of the path had last changed when they were last searched, if a later change would show.
    searched_ns: Option<Vec<i64>>,
    /// Files that were told to be doubtful. At most [`DONE_MAX`].
    doubted: VecDeque<FileKey>,
}

impl Trail {
    pub(super) fn new(index: usize, info: FileInfo, read_from: ReadFrom) -> Trail {
        Trail {
            index,
            info: Arc::new(info),
            streams: Vec::new(),
            done: VecDeque::new(),
            target: None,
            look: true,
            queued: false,
            trouble: None,
            seen: false,
            modified_ns: i64::MIN,
            alias: None,
            read_from,
            awaited: false,
            searched_ns: None,
            doubted: VecDeque::new(),
        }
    }

    /// Takes up what a former process left, oldest file first.
    pub(super) fn restore(&mut self, positions: &[Position], shared: &mut Shared) {
        for position in positions {
            self.seen = true;
            match position.state {
                PositionState::Current | PositionState::Draining => {
                    self.modified_ns = self.modified_ns.max(position.modified_ns);
                    self.target = position.target.clone();
                    let mut stream =
                        Stream::new(shared.next_id(), Some(position.key), Body::Closed);
                    stream.mark = position.mark();
                    stream.resume_at = Some(position.offset);
                    stream.size = position.size;
                    stream.modified_ns = position.modified_ns;
                    stream.current = false;
                    self.streams.push(stream);
                    shared.registry.open(position.key, self.index);
                }
                PositionState::Done | PositionState::History => {
                    self.keep(
                        position.key,
                        position.mark(),
                        position.size,
                        position.modified_ns,
                        shared,
                    );
                }
            }
        }
    }

    pub(super) fn current(&self) -> Option<&Stream> {
        self.streams.last().filter(|stream| stream.current)
    }

    fn current_mut(&mut self) -> Option<&mut Stream> {
        self.streams.last_mut().filter(|stream| stream.current)
    }

    /// Some file was rotated away and is not finished.
    pub(super) fn is_draining(&self) -> bool {
        self.streams
            .iter()
            .any(|stream| !stream.current && stream.is_open())
    }

    /// Something may be readable.
    pub(super) fn is_ready(&self) -> bool {
        self.look
            || self
                .streams
                .iter()
                .any(|stream| stream.ready && (stream.is_open() || stream.current))
    }

    /// Sees what is at the path now.
    pub(super) fn look(&mut self, shared: &mut Shared, sink: &mut impl Sink) {
        self.look = false;
        if self.info.is_standard_input() {
            if !self.seen {
                self.seen = true;
                shared.pipes = true;
                self.streams
                    .push(Stream::new(shared.next_id(), None, Body::StandardInput));
            }
            return;
        }
        let metadata = match self.info.path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => {
                self.trouble = None;
                self.retire_current();
                if !self.seen && !std::mem::replace(&mut self.awaited, true) {
                    // What is changed from now on is no history. (Nor is what was changed in this tick of the clock.)
                    let youngest_ns = self.first_sight(shared);
                    self.modified_ns = now_ns()
                        .saturating_sub(TICK_NS)
                        .max(youngest_ns.saturating_add(1));
                } else if self.streams.iter().any(|stream| !stream.is_open())
                    || self.directories_changed()
                {
                    self.settle(shared, sink);
                }
                return;
            }
            Err(error) => return self.report(Trouble::of(&error), sink),
        };
        if std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()) {
            if !self.current().is_some_and(Stream::is_pipe) {
                match open_fifo(&self.info.path) {
                    Ok(body) => {
                        self.retire_current();
                        self.trouble = None;
                        shared.pipes = true;
                        self.streams.push(Stream::new(shared.next_id(), None, body));
                    }
                    Err(error) => self.report(Trouble::of(&error), sink),
                }
            }
            return;
        }
        let key = FileKey::of(&metadata);
        if self.alias == Some(key)
            && matches!(shared.registry.get(key), Some(Known::Open(trail)) if *trail != self.index)
        {
            return;
        }
        self.alias = None;
        if let Some(current) = self.current_mut()
            && current.key == Some(key)
        {
            let modified_ns = modified_ns(&metadata);
            let changed = metadata.len() != current.mark.offset || modified_ns != current.looked_ns;
            current.looked_size = metadata.len();
            current.looked_ns = modified_ns;
            current.ready |= changed;
            let known = current.is_open() || !changed;
            if known {
                return;
            }
        }
        if let Some(Known::Done(_, done)) = shared.registry.get(key)
            && done.mark.head.len > 0
            && (done.size, done.modified_ns) == (metadata.len(), modified_ns(&metadata))
        {
            // Read to its end under this or another name.
            self.retire_current();
            return;
        }
        match Opened::open(&self.info.path) {
            Ok(opened) => {
                self.trouble = None;
                let real = self.info.path.canonicalize().ok();
                self.target = real.filter(|real| *real != self.info.path);
                if let Err(error) = self.arrive(opened, shared, sink) {
                    self.report(Trouble::of(&error), sink);
                }
            }
            // It went between the two calls; the next look sees what came.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.look = true,
            Err(error) => self.report(Trouble::of(&error), sink),
        }
    }

    /// Some name came or went beside the path since this was last asked, as far as one can tell: where nothing is at the
    /// path, a file may have come and been rotated between two looks.
    fn directories_changed(&mut self) -> bool {
        let directories = [Some(&self.info.path), self.target.as_ref()].map(|path| path?.parent());
        let changed_ns: Vec<i64> = directories
            .into_iter()
            .flatten()
            .filter_map(|directory| directory.metadata().ok())
            .map(|metadata| modified_ns(&metadata))
            .collect();
        let changed = self.searched_ns.as_ref() != Some(&changed_ns);
        let now_ns = now_ns();
        // The file system's clock ticks: what happens in the same tick leaves the same time.
        let settled = |changed_ns: &i64| changed_ns.saturating_add(TICK_NS) < now_ns;
        self.searched_ns = Some(changed_ns).filter(|changed| changed.iter().all(settled));
        changed
    }

    /// Another path of the same files leads to a file that this trail has lost sight of.
    pub(super) fn adopt(&mut self, path: &Path, shared: &mut Shared) {
        let Ok(opened) = Opened::open(path) else {
            return;
        };
        let lost = self
            .streams
            .iter_mut()
            .find(|stream| stream.key == Some(opened.key) && !stream.is_open());
        if let Some(stream) = lost
            && let Ok(Some(found)) = opened.body_at(&stream.mark, stream.next_offset())
        {
            stream.attach(&opened, found);
            shared.opened += 1;
        }
    }

    fn report(&mut self, trouble: Trouble, sink: &mut impl Sink) {
        if self.trouble != Some(trouble) {
            self.trouble = Some(trouble);
            sink.event(&self.info, Event::Unreadable(trouble));
        }
    }

    fn retire_current(&mut self) {
        self.alias = None;
        if let Some(current) = self.current_mut() {
            current.current = false;
            current.ready = true;
        }
    }

    /// `opened` is at the path and is not the current file as we have it open.
    fn arrive(
        &mut self,
        opened: Opened,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> io::Result<()> {
        shared.opened += 1;
        let key = opened.key;
        let modified_ns = opened.modified_ns;
        let mut truncated = false;
        if let Some(at) = self
            .streams
            .iter()
            .position(|stream| stream.key == Some(key))
            && let Some(stream) = self.streams.get_mut(at)
        {
            let found = match stream.is_open() {
                true => true,
                false => match opened.body_at(&stream.mark, stream.next_offset())? {
                    Some(found) => {
                        stream.attach(&opened, found);
                        true
                    }
                    None => false,
                },
            };
            if found {
                if !stream.current {
                    self.retire_current();
                    let mut stream = self.streams.remove(at);
                    stream.current = true;
                    stream.ready = true;
                    stream.quiet_since = None;
                    self.streams.push(stream);
                    // Between what was there before and the file that is there now may be others.
                    self.settle(shared, sink);
                    self.modified_ns = modified_ns;
                }
                return Ok(());
            }
            // The inode has another content: truncated, or another file.
            stream.key = None;
            stream.cut = Some(LostReason::Truncated);
            stream.current = false;
            truncated = true;
        }
        let known = match shared.registry.get(key) {
            Some(Known::Open(trail)) if *trail != self.index => {
                self.retire_current();
                self.alias = Some(key);
                return Ok(());
            }
            Some(Known::Done(_, done)) => opened
                .body_at(&done.mark, done.mark.offset)?
                .filter(|_| done.mark.head.len > 0),
            _ => None,
        };
        let size = opened.size;
        let compressed = opened.is_compressed();
        self.retire_current();
        let mut stream = Stream::new(shared.next_id(), Some(key), Body::Closed);
        (stream.body, stream.mark) = match known {
            Some(known) => known,
            None if !self.seen
                && self.read_from == ReadFrom::End
                && shared.starting
                && !compressed =>
            {
                let mark = opened.mark_at(opened.end_of_last_line()?)?;
                (opened.body()?, mark)
            }
            None => (opened.body()?, Mark::default()),
        };
        stream.size = size;
        stream.modified_ns = modified_ns;
        stream.looked_ns = modified_ns;
        // Nothing is written to a compressed file; it is finished at its end.
        stream.current = !compressed;
        shared.registry.open(key, self.index);
        self.streams.push(stream);
        if self.seen {
            sink.event(
                &self.info,
                if truncated {
                    Event::Truncated
                } else {
                    Event::Rotated
                },
            );
            self.settle(shared, sink);
        } else {
            self.seen = true;
            if self.awaited {
                self.settle(shared, sink);
            } else {
                self.first_sight(shared);
            }
        }
        self.modified_ns = modified_ns;
        Ok(())
    }

    /// What lies beside a path that was never seen: generations that the source means too are read first, the others
    /// are history. Returns when the youngest of them was last changed.
    fn first_sight(&mut self, shared: &mut Shared) -> i64 {
        let mut siblings: Vec<_> = self
            .sibling_paths()
            .into_iter()
            .filter_map(|path| {
                Some((
                    path.metadata().ok().filter(|metadata| metadata.is_file())?,
                    path,
                ))
            })
            .filter(|(metadata, _)| shared.registry.get(FileKey::of(metadata)).is_none())
            .collect();
        siblings.sort_by_cached_key(|(metadata, path)| {
            (modified_ns(metadata), rotated::age_by_name(path))
        });
        let youngest_ns = siblings
            .last()
            .map_or(i64::MIN, |(metadata, _)| modified_ns(metadata));
        for (metadata, path) in siblings {
            let meant =
                self.read_from == ReadFrom::Beginning && shared.means(self.info.source, &path);
            let opened = meant
                .then(|| Opened::open(&path).ok())
                .flatten()
                .filter(|opened| !twin_exists(opened, &path));
            match opened.map(|opened| (opened.body(), opened)) {
                Some((Ok(body), opened)) => {
                    self.push_old(&opened, body, Mark::default(), shared);
                }
                _ => {
                    let key = FileKey::of(&metadata);
                    self.keep(
                        key,
                        Mark::default(),
                        metadata.len(),
                        modified_ns(&metadata),
                        shared,
                    );
                }
            }
        }
        youngest_ns
    }

    /// Adds a file that was rotated away, behind those that are older: not before any that was begun.
    fn push_old(&mut self, opened: &Opened, body: Body, mark: Mark, shared: &mut Shared) {
        let mut stream = Stream::new(shared.next_id(), Some(opened.key), body);
        stream.current = false;
        stream.size = opened.size;
        stream.mark = mark;
        shared.registry.open(opened.key, self.index);
        shared.opened += 1;
        let younger = |stream: &&Stream| {
            let unread = stream.is_open() && stream.mark.offset == 0;
            stream.current
                || unread
                    && stream
                        .modified_now_ns()
                        .is_some_and(|modified| modified > opened.modified_ns)
        };
        let at = self.streams.len() - self.streams.iter().rev().take_while(younger).count();
        self.streams.insert(at, stream);
    }

    /// Finds the files that were rotated away and are not open, and those that came and went unseen.
    fn settle(&mut self, shared: &mut Shared, sink: &mut impl Sink) {
        self.part_from_truncated(shared, sink);
        let mut unknown = self.unknown_siblings(shared);
        let mut at = 0;
        while let Some(stream) = self.streams.get_mut(at) {
            if stream.is_open() || stream.current {
                at += 1;
                continue;
            }
            let by_key = unknown
                .iter()
                .position(|found| Some(found.key) == stream.key);
            let found = by_key
                .into_iter()
                .chain(0..unknown.len())
                .find_map(|candidate| {
                    let opened = unknown.get(candidate)?;
                    // Nothing that was never read can be told by its content.
                    let comparable = stream.mark.head.len > 0 || Some(opened.key) == stream.key;
                    let body = opened
                        .body_at(&stream.mark, stream.next_offset())
                        .ok()
                        .flatten()
                        .filter(|_| comparable)?;
                    Some((candidate, body))
                });
            match found {
                Some((candidate, body)) => {
                    let opened = unknown.remove(candidate);
                    if let Some(key) = stream.key.filter(|key| *key != opened.key) {
                        shared.registry.forget(key, self.index);
                        // A plain copy is made to truncate the original. (A compressed one may come from a renamed file.)
                        if by_key.is_some() || !opened.is_compressed() {
                            stream.cut = Some(LostReason::Truncated);
                            sink.event(&self.info, Event::Truncated);
                        }
                    }
                    stream.attach(&opened, body);
                    shared.registry.open(opened.key, self.index);
                    shared.opened += 1;
                    at += 1;
                }
                None => {
                    if by_key.is_some() {
                        // The file is there and has another content.
                        stream.key = None;
                        stream.cut = Some(LostReason::Truncated);
                        sink.event(&self.info, Event::Truncated);
                    }
                    // Otherwise the whole directory may be away. It may come back.
                    if stream.key.is_none() || (self.trouble.is_none() && self.info.path.exists()) {
                        self.lose(at, shared, sink);
                    } else {
                        at += 1;
                    }
                }
            }
        }
        for opened in unknown {
            let (key, size, modified_ns) = (opened.key, opened.size, opened.modified_ns);
            let mut doubtful = None;
            let is_copy = self.streams.iter().any(|stream| {
                let Some(len) = stream.contains(&opened) else {
                    return false;
                };
                let is_copy = is_copy(stream, &opened, len);
                if is_copy.is_none() {
                    doubtful = Some(len);
                }
                is_copy == Some(true)
            });
            if is_copy {
                // What it says is read from the original.
                continue;
            }
            if let Some(len) = doubtful {
                self.doubt(&opened, len, sink);
                continue;
            }
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.is_truncated()) {
                // Only now: this may be the copy that was made for it. Its next read leads here again.
                stream.ready = true;
                return;
            }
            if let Some(mark) = self.read_before(&opened, shared, sink) {
                // A late writer went on in it after we had finished, or it was compressed.
                match opened.body_at(&mark, mark.offset) {
                    Ok(Some((body, mark))) => self.push_old(&opened, body, mark, shared),
                    _ => self.keep(key, mark, size, modified_ns, shared),
                }
            } else if modified_ns < self.modified_ns {
                self.keep(key, Mark::default(), size, modified_ns, shared);
            } else if let Some(mark) = history_end(&opened, shared) {
                // A late writer goes on in what was not to be read: that alone is new.
                match opened.body_at(&mark, mark.offset) {
                    Ok(Some((body, mark))) => self.push_old(&opened, body, mark, shared),
                    _ => self.keep(key, Mark::default(), size, modified_ns, shared),
                }
            } else if let Ok(body) = opened.body() {
                sink.event(&self.info, Event::Rotated);
                self.push_old(&opened, body, Mark::default(), shared);
            }
        }
    }

    /// A file with another content than before becomes two streams: one that has lost its file and may find its content
    /// in a copy, and one that begins anew.
    fn part_from_truncated(&mut self, shared: &mut Shared, sink: &mut impl Sink) {
        let mut at = 0;
        while let Some(old) = self.streams.get_mut(at) {
            at += 1;
            if !old.is_truncated() {
                continue;
            }
            let body = std::mem::replace(&mut old.body, Body::Closed);
            let mut new = Stream::new(shared.next_id(), old.key.take(), body);
            new.current = old.current;
            new.modified_ns = old.modified_ns;
            new.skip_nul = true;
            old.current = false;
            old.cut = Some(LostReason::Truncated);
            self.streams.insert(at, new);
            at += 1;
            sink.event(&self.info, Event::Truncated);
        }
    }

    /// Tells once that a file may or may not be a copy of one that was read.
    fn doubt(&mut self, opened: &Opened, bytes: u64, sink: &mut impl Sink) {
        if self.doubted.contains(&opened.key) {
            return;
        }
        self.doubted.push_back(opened.key);
        if self.doubted.len() > DONE_MAX {
            self.doubted.pop_front();
        }
        let reason = LostReason::Doubtful;
        sink.event(&self.info, Event::Lost { bytes, reason });
    }

    /// How far a file that was found under a rotated name was read before: by its key, or by its content if it was
    /// compressed since. (By content alone, a young file that begins like an old short one would be taken for it.)
    fn read_before(
        &mut self,
        opened: &Opened,
        shared: &Shared,
        sink: &mut impl Sink,
    ) -> Option<Mark> {
        let (key, done) = self
            .done
            .iter()
            .find_map(|key| match shared.registry.get(*key) {
                Some(Known::Done(_, done)) if done.mark.head.len > 0 => {
                    ((*key == opened.key || opened.is_compressed()) && opened.continues(&done.mark))
                        .then_some((*key, done))
                }
                _ => None,
            })?;
        if key != opened.key && done.mark.offset < HEAD_BYTES as u64 {
            let is_key = |path: &PathBuf| path.metadata().is_ok_and(|m| FileKey::of(&m) == key);
            if self.sibling_paths().iter().any(is_key) {
                // It is not what was compressed.
                return None;
            }
            if !keeps_time(opened, done.modified_ns) {
                let mark = done.mark;
                self.doubt(opened, mark.offset, sink);
                return Some(mark);
            }
        }
        Some(done.mark)
    }

    /// The files beside the path that may be rotated forms of it, that nobody reads, and that are not known to need no
    /// reading; oldest first.
    fn unknown_siblings(&mut self, shared: &mut Shared) -> Vec<Opened> {
        let mut found = Vec::new();
        for path in self.sibling_paths() {
            let Ok(metadata) = path.metadata() else {
                continue;
            };
            let key = FileKey::of(&metadata);
            let skip = match shared.registry.get(key) {
                Some(Known::Open(trail)) if *trail != self.index => true,
                Some(Known::Open(_)) => self
                    .streams
                    .iter()
                    .any(|stream| stream.key == Some(key) && (stream.is_open() || stream.current)),
                Some(Known::Done(_, done)) => {
                    done.size == metadata.len() && done.modified_ns == modified_ns(&metadata)
                }
                None => false,
            };
            if skip
                || found
                    .iter()
                    .any(|(_, opened): &(PathBuf, Opened)| opened.key == key)
            {
                continue;
            }
            if let Ok(opened) = Opened::open(&path)
                && !twin_exists(&opened, &path)
            {
                found.push((path, opened));
            }
        }
        found.sort_by_cached_key(|(path, opened)| (opened.modified_ns, rotated::age_by_name(path)));
        found.into_iter().map(|(_, opened)| opened).collect()
    }

    fn sibling_paths(&self) -> HashSet<PathBuf> {
        let mut paths: HashSet<PathBuf> = rotated::siblings(&self.info.path).into_iter().collect();
        if let Some(target) = &self.target {
            paths.extend(rotated::siblings(target));
            paths.insert(target.clone());
        }
        paths
    }

    /// Gives up a file that is nowhere to be found.
    fn lose(&mut self, at: usize, shared: &mut Shared, sink: &mut impl Sink) {
        let stream = self.streams.remove(at);
        if let Some(key) = stream.key {
            shared.registry.forget(key, self.index);
        }
        let bytes = stream.size.saturating_sub(stream.next_offset());
        let reason = stream.cut.unwrap_or(LostReason::Gone);
        // A truncation that took nothing we know of is told by its own event.
        if bytes > 0 || stream.cut.is_none() {
            sink.event(&self.info, Event::Lost { bytes, reason });
        }
        if stream.announced {
            sink.ended(stream.id, End::Cut(reason));
        }
    }

    /// Reads one chunk, of the oldest file that has one. Returns its length in bytes, 0 if there is nothing to read.
    pub(super) fn read(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> usize {
        let mut at = 0;
        while let Some(stream) = self.streams.get_mut(at) {
            if !stream.ready {
                at += 1;
                continue;
            }
            let step = stream.read(&mut shared.chunk.buffer);
            if stream.current && matches!(step, Step::Bytes { .. } | Step::Quiet) {
                // What was read before is still there, so it was when the path was looked at.
                stream.modified_ns = stream.modified_ns.max(stream.looked_ns);
                stream.size = stream.size.max(stream.looked_size);
                self.modified_ns = self.modified_ns.max(stream.modified_ns);
            }
            match step {
                Step::Bytes { range, more } => {
                    let len = range.len();
                    // A copy is finished as soon as its end is seen.
                    stream.ready = more || stream.cut.is_some();
                    stream.quiet_since = None;
                    stream.size = stream.size.max(stream.mark.offset);
                    let chunk = &mut shared.chunk;
                    chunk.range = range;
                    if stream.skip_nul {
                        let hole = chunk.iter().take_while(|byte| **byte == 0).count();
                        chunk.range.start += hole;
                        stream.skip_nul = chunk.is_empty();
                    }
                    if !chunk.is_empty() {
                        if !stream.announced {
                            stream.announced = true;
                            sink.opened(stream.id, &self.info);
                        }
                        sink.bytes(stream.id, chunk);
                    }
                    return len;
                }
                Step::Quiet => {
                    stream.ready = false;
                    let open = stream.is_open();
                    let since = *stream.quiet_since.get_or_insert(now);
                    let current = stream.current;
                    let grace_over =
                        now.saturating_duration_since(since) >= shared.options.drain_grace;
                    let over = stream.cut.is_some()
                        || grace_over
                        || self.streams.len() - at > DRAINING_MAX;
                    if current && !open {
                        // Closed to save a descriptor, and written since.
                        self.look = true;
                    }
                    if !current && open && over {
                        self.finish(at, shared, sink);
                    } else {
                        at += 1;
                    }
                }
                Step::End => self.finish(at, shared, sink),
                Step::Truncated => self.settle(shared, sink),
                Step::Failed(error) => {
                    stream.ready = false;
                    if matches!(stream.body, Body::Gzip(_)) {
                        // If the file ends too early, nobody knows what is missing.
                        let bytes = stream.stored_rest().max(1);
                        let reason = LostReason::Damaged;
                        sink.event(&self.info, Event::Lost { bytes, reason });
                        stream.cut = Some(reason);
                        self.finish(at, shared, sink);
                    } else {
                        self.report(Trouble::of(&error), sink);
                        at += 1;
                    }
                }
            }
        }
        0
    }

    /// Nothing more is expected of this file.
    fn finish(&mut self, at: usize, shared: &mut Shared, sink: &mut impl Sink) {
        let stream = self.streams.remove(at);
        if stream.announced {
            sink.ended(stream.id, stream.cut.map_or(End::Whole, End::Cut));
        }
        if let Some(key) = stream.key {
            let stored = match &stream.body {
                Body::Plain(file) => file.metadata().ok(),
                Body::Gzip(decoder) => decoder.get_ref().get_ref().metadata().ok(),
                _ => None,
            };
            let (size, modified) = stored.map_or((stream.size, stream.modified_ns), |m| {
                (m.len(), modified_ns(&m))
            });
            self.keep(key, stream.mark, size, modified, shared);
        }
    }

    fn keep(&mut self, key: FileKey, mark: Mark, size: u64, modified_ns: i64, shared: &mut Shared) {
        shared
            .registry
            .done(key, self.index, mark, size, modified_ns);
        self.done.retain(|known| *known != key);
        self.done.push_back(key);
        while self.done.len() > DONE_MAX {
            if let Some(oldest) = self.done.pop_front() {
                shared.registry.forget(oldest, self.index);
            }
        }
    }

    /// What a checkpoint keeps of this path.
    pub(super) fn positions(
        &self,
        shared: &Shared,
        held_bytes: &impl Fn(FileId) -> u64,
        into: &mut Vec<Position>,
    ) {
        for key in &self.done {
            if let Some(Known::Done(owner, done)) = shared.registry.get(*key)
                && *owner == self.index
            {
                into.push(Position {
                    path: self.info.path.clone(),
                    target: None,
                    key: *key,
                    offset: done.mark.offset,
                    read: done.mark.offset,
                    head: done.mark.head,
                    seam: done.mark.seam,
                    size: done.size,
                    modified_ns: done.modified_ns,
                    state: if done.mark.head.len > 0 {
                        PositionState::Done
                    } else {
                        PositionState::History
                    },
                });
            }
        }
        for stream in &self.streams {
            let Some(key) = stream.key else { continue };
            let held = if stream.announced {
                held_bytes(stream.id)
            } else {
                0
            };
            into.push(Position {
                path: self.info.path.clone(),
                target: self.target.clone(),
                key,
                offset: stream.next_offset().saturating_sub(held),
                read: stream.mark.offset,
                head: stream.mark.head,
                seam: stream.mark.seam,
                size: stream.size,
                modified_ns: stream.modified_ns,
                state: if stream.current {
                    PositionState::Current
                } else {
                    PositionState::Draining
                },
            });
        }
    }

    /// For the status page.
    pub(super) fn state(&self) -> FileState {
        match (self.trouble, self.current(), self.alias) {
            (Some(trouble), ..) => FileState::Unreadable(trouble),
            (None, Some(_), _) => FileState::Following,
            (None, None, Some(_)) => FileState::SameAsAnother,
            (None, None, None) if self.streams.is_empty() => FileState::Absent,
            (None, None, None) => FileState::Draining,
        }
    }
}

/// A compressed file whose uncompressed form is still there is being made, or says the same.
fn twin_exists(opened: &Opened, path: &Path) -> bool {
    opened.is_compressed() && path.with_extension("").exists()
}

/// Whether `opened`, whose `len` bytes all are in the stream's file too, is a copy of that or was compressed from it, or a
/// file of its own that says the same; `None` if nobody can tell.
fn is_copy(stream: &Stream, opened: &Opened, len: u64) -> Option<bool> {
    let metadata = stream.metadata()?;
    if stream.current
        && let Ok(born) = metadata.created()
    {
        // What was rotated before this file came is older than it, and a copy of it younger.
        let other = match opened.is_compressed() {
            // Compressing keeps the time of the last change.
            true => SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(
                opened.modified_ns.try_into().unwrap_or(0),
            )),
            false => opened.born,
        };
        if let Some(other) = other.filter(|other| *other != born) {
            return Some(other > born);
        }
    }
    // No two logs say the same for so long.
    if len >= HEAD_BYTES as u64 {
        return Some(true);
    }
    let same_time = keeps_time(opened, modified_ns(&metadata));
    match (stream.current, opened.is_compressed()) {
        (true, _) => None,
        // What was renamed is not copied, and the original goes when it is compressed.
        (false, _) if metadata.nlink() > 0 && !(opened.is_compressed() && same_time) => Some(false),
        (false, _) if metadata.nlink() == 0 && same_time => Some(true),
        (false, _) => None,
    }
}

/// The mark at the end of what was history when its path was first seen, if the file has grown since.
fn history_end(opened: &Opened, shared: &Shared) -> Option<Mark> {
    let Some(Known::Done(_, done)) = shared.registry.get(opened.key) else {
        return None;
    };
    let grown = done.mark.head.len == 0 && done.size < opened.size && !opened.is_compressed();
    opened.mark_at(done.size).ok().filter(|_| grown)
}

/// The file has the time of the last change of another, as a copy or compressed form is given it. Some tools give it no
/// fraction.
fn keeps_time(opened: &Opened, original_ns: i64) -> bool {
    let whole = original_ns - original_ns.rem_euclid(1_000_000_000);
    opened.modified_ns == original_ns || opened.modified_ns == whole
}

/// The clock that file systems stamp with, in nanoseconds since 1970.
fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos().try_into().unwrap_or(i64::MAX))
}
