//! One followed path over time: the file that is there now, and those that were there before it and are not finished.
//!
//! A restart is nothing special here. A file that a former process was reading is a generation without a descriptor, as is
//! one that was closed to save descriptors and one whose content was truncated away. What a file is, is decided by its
//! content, see [`identity`](super::identity); what lies beside the path is the matter of [`rotation`](super::rotation).

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::compression::is_compressed;
use super::content::{Content, is_damage};
use super::generation::{Generation, Outcome};
use super::identity::{FileKey, modified_ns};
use super::positions::{Position, PositionState};
use super::registry::{Archive, ArchiveKind};
use super::{
    CompressedAs, End, Event, FileId, FileInfo, FileState, LostReason, ReadFrom, Shared, Sink,
    Trouble,
};

/// Rotated files of one path that are kept open for late writers. Beyond, the oldest are finished early.
pub(super) const DRAINING_MAX: usize = 64;

/// The longest that the clock of a file system stands still, in nanoseconds, and more.
pub(super) const TICK_NS: i64 = 100_000_000;

/// A finished file that is kept open.
#[derive(Debug)]
pub(super) struct Finished {
    pub key: FileKey,
    pub file: Arc<File>,
    /// Since when it has no name.
    pub unlinked_since: Option<Instant>,
}

/// What stands in a position for the file of a generation that has none: it was truncated, and its copy is not found yet.
pub(super) const NO_FILE: FileKey = FileKey { dev: 0, ino: 0 };

/// A followed path.
#[derive(Debug)]
pub(super) struct FollowedPath {
    /// Its place in the tail's list.
    pub index: usize,
    pub info: Arc<FileInfo>,
    /// The files, oldest first; the current one, if there is one, is the last.
    pub generations: Vec<Generation>,
    /// Files that need no more reading, in the order in which they were finished; the [registry](super::registry) has
    /// the rest.
    pub archives: VecDeque<FileKey>,
    /// Files that a former process finished and that this one has not met.
    pub unplaced: Vec<Archive>,
    /// Where the path really leads, if it or its directory is a symbolic link.
    pub target: Option<PathBuf>,
    /// The path has to be looked at before anything is read.
    pub look: bool,
    /// What lies beside the path has to be looked at before anything is read.
    pub unresolved: bool,
    /// With the next look, it has to be seen whether some name came or went beside the path.
    pub look_beside: bool,
    /// It stands in the queue.
    pub queued: bool,
    /// What was last reported to be wrong with the path.
    pub trouble: Option<Trouble>,
    /// A file was here before, in this process or an earlier one.
    pub seen: bool,
    /// What lies beside the path was there before it was followed, but for what came since this time.
    pub first_sight: Option<Option<i64>>,
    /// What lies beside the path has to be looked at again once every path was looked at.
    pub pending: bool,
    /// Its first file is not on disk yet; nothing is read before it is.
    pub unsaved: bool,
    /// It was empty when that was done.
    pub was_saved_empty: bool,
    /// The path leads to a file that another path follows.
    pub alias: Option<FileKey>,
    /// Where to begin with a file that was never seen.
    pub read_from: ReadFrom,
    /// The path was looked at while there was nothing: what is rotated from then on came in between.
    pub awaited: bool,
    /// When the directories of the path had last changed when they were last searched, if a later change would show.
    pub searched_ns: Option<Vec<i64>>,
    /// Files that were reported as doubtful.
    pub doubted: VecDeque<FileKey>,
    /// Rotated files that cannot be read now, and their size in bytes.
    pub unreadable: Vec<(PathBuf, u64)>,
    /// Rotated files that are not read since they are compressed in another form than gzip.
    pub compressed: Vec<(PathBuf, CompressedAs)>,
    /// Files beside the path that had another content before, or none: what they say now came after that.
    pub overwritten: Vec<FileKey>,
    /// The files of those that are not accounted for.
    pub rewritten: Vec<Arc<File>>,
    /// Why the directory cannot be listed now.
    pub hidden: Option<Trouble>,
    /// The file that was finished last, which is read on if a late writer adds to it, even if another takes its name.
    pub finished: Option<Finished>,
    /// Whether anything was added to it has to be asked.
    pub check_finished: bool,
    /// Some finished files were forgotten, or were never known by content: what is unknown and was last changed before
    /// the latest current file was is taken for one of them.
    pub by_time: bool,
    /// When the latest current file had been changed, when it was last seen at the path.
    pub modified_ns: i64,
}

impl FollowedPath {
    pub(super) fn new(index: usize, info: Arc<FileInfo>, read_from: ReadFrom) -> FollowedPath {
        FollowedPath {
            index,
            info,
            generations: Vec::new(),
            archives: VecDeque::new(),
            unplaced: Vec::new(),
            target: None,
            look: true,
            unresolved: false,
            look_beside: false,
            queued: false,
            trouble: None,
            seen: false,
            first_sight: None,
            pending: false,
            unsaved: false,
            was_saved_empty: false,
            alias: None,
            read_from,
            awaited: false,
            searched_ns: None,
            doubted: VecDeque::new(),
            unreadable: Vec::new(),
            compressed: Vec::new(),
            overwritten: Vec::new(),
            rewritten: Vec::new(),
            hidden: None,
            finished: None,
            check_finished: false,
            by_time: false,
            modified_ns: i64::MIN,
        }
    }

    /// Takes up what a former process left, oldest file first.
    pub(super) fn restore(&mut self, positions: &[Position], format: u32, shared: &mut Shared) {
        self.seen = true;
        self.by_time = format < 2;
        for position in positions {
            match position.state {
                PositionState::Current | PositionState::Draining => {
                    self.modified_ns = self.modified_ns.max(position.modified_ns);
                    self.target.clone_from(&position.target);
                    let mut generation =
                        Generation::new(shared.next_id(), Some(position.key), Content::Closed);
                    generation.born_ns = position.born_ns;
                    generation.position.clone_from(&position.read);
                    generation.resume_at =
                        Some(position.offset).filter(|at| *at < position.read.offset());
                    generation.size = position.size;
                    generation.modified_ns = position.modified_ns;
                    generation.first_time = position.first_time;
                    generation.target.clone_from(&position.target);
                    generation.current = false;
                    if position.key == NO_FILE {
                        generation.lose_file();
                        generation.cut = Some(LostReason::Truncated);
                    }
                    self.generations.push(generation);
                }
                PositionState::Done | PositionState::Copy | PositionState::History => {
                    shared.registry.finished_before(position.key, self.index);
                    self.unplaced.push(Archive {
                        key: position.key,
                        position: position.read.clone(),
                        size: position.size,
                        modified_ns: position.modified_ns,
                        first_time: position.first_time,
                        kind: match position.state {
                            PositionState::History => ArchiveKind::History,
                            PositionState::Copy => ArchiveKind::Copy,
                            _ => ArchiveKind::Read,
                        },
                    })
                }
            }
        }
    }

    pub(super) fn current(&self) -> Option<&Generation> {
        self.generations
            .last()
            .filter(|generation| generation.current)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Generation> {
        self.generations
            .last_mut()
            .filter(|generation| generation.current)
    }

    /// Some file was rotated away and is not finished.
    pub(super) fn is_draining(&self) -> bool {
        self.generations
            .iter()
            .any(|generation| !generation.current && generation.is_open())
    }

    /// Something may be readable.
    pub(super) fn is_ready(&self) -> bool {
        let is_ready = |generation: &Generation| {
            generation.ready && (generation.is_open() || generation.current)
        };
        self.look || self.unresolved || self.generations.iter().any(is_ready)
    }

    /// Reads one chunk, of the oldest file that has one. Returns its length in bytes, 0 if there is nothing to read.
    pub(super) fn read(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> usize {
        if self.unsaved || self.unresolved {
            return 0;
        }
        if std::mem::take(&mut self.check_finished) {
            self.read_on_finished(shared);
            self.close_finished(now, shared);
        }
        if self.reconsider(shared) || self.says_something_first(shared) {
            return 0;
        }
        let mut at = 0;
        while let Some(generation) = self.generations.get_mut(at) {
            if !generation.ready
                || generation.has_to_be_decided()
                || generation.retry_at.is_some_and(|at| now < at)
            {
                at += 1;
                continue;
            }
            let is_beginning = generation.next_offset() == 0;
            let was_empty = generation.position.is_empty();
            let outcome = generation.read(&mut shared.chunk.buffer);
            generation.retry_at = None;
            if generation.current && matches!(outcome, Outcome::Bytes { .. } | Outcome::Quiet) {
                // What was read before is still there, so it was when the path was looked at.
                generation.modified_ns = generation.modified_ns.max(generation.looked_ns);
                generation.size = generation.size.max(generation.looked_size);
                self.modified_ns = self.modified_ns.max(generation.modified_ns);
            }
            match outcome {
                Outcome::Bytes { range, more } => {
                    let len = range.len();
                    // A copy is finished as soon as its end is seen.
                    generation.ready = more || generation.cut.is_some();
                    generation.quiet_since = None;
                    generation.size = generation.size.max(generation.position.offset());
                    if len == 0 {
                        continue;
                    }
                    if matches!(self.trouble, Some(Trouble::Io(_))) {
                        self.trouble = None;
                    }
                    if is_beginning && self.opens_as_compressed(at, &range, shared)
                        || was_empty && self.says_what_is_known(at, &range, shared)
                    {
                        return 0;
                    }
                    let Some(generation) = self.generations.get_mut(at) else {
                        continue;
                    };
                    let (id, is_new) = (generation.id, !generation.announced);
                    generation.announced = true;
                    if is_new {
                        self.begin(at, is_beginning.then_some(&range), shared);
                        sink.opened(id, &self.info);
                    }
                    let is_late = self.is_late(at);
                    let chunk = &mut shared.chunk;
                    (chunk.range, chunk.is_late) = (range, is_late);
                    sink.bytes(id, chunk);
                    return len;
                }
                Outcome::Quiet => {
                    generation.ready = generation.is_searching();
                    let (open, current) = (generation.is_open(), generation.current);
                    let since = *generation.quiet_since.get_or_insert(now);
                    let grace_over =
                        now.saturating_duration_since(since) >= shared.options.drain_grace;
                    let over = generation.cut.is_some()
                        || grace_over
                        || self.generations.len() - at > DRAINING_MAX;
                    if current && !open {
                        // Closed to save a descriptor, and written since.
                        self.look = true;
                    }
                    if !current && open && over && !self.leads_to_unreadable(at) {
                        self.finish(at, shared, sink);
                    } else {
                        at += 1;
                    }
                }
                Outcome::End => {
                    // It is asked again at the next look.
                    generation.ready = false;
                    match self.leads_to_unreadable(at) {
                        true => at += 1,
                        false => self.finish(at, shared, sink),
                    }
                }
                Outcome::Truncated => {
                    self.split_truncated(shared, sink);
                    self.unresolved = true;
                    return 0;
                }
                Outcome::Failed(error)
                    if matches!(generation.content, Content::Gzip(_)) && is_damage(&error) =>
                {
                    // If the file ends too early, nobody knows what is missing.
                    let bytes = generation.stored_rest().max(1);
                    let reason = LostReason::Damaged;
                    sink.event(&self.info, Event::Lost { bytes, reason });
                    generation.cut = Some(reason);
                    self.finish(at, shared, sink);
                }
                Outcome::Failed(error) => {
                    generation.ready = false;
                    generation.retry_at = Some(now + shared.options.rescan / 2);
                    self.report(Trouble::of(&error), sink);
                    at += 1;
                }
            }
        }
        0
    }

    /// Before the first bytes of a file are handed on: whether it is late. `first` are its first ones, if it was empty when
    /// it was found.
    fn begin(&mut self, at: usize, first: Option<&Range<usize>>, shared: &Shared) {
        if let Some(bytes) = first.and_then(|first| shared.chunk.buffer.get(first.clone()))
            && let Some(generation) = self.generations.get_mut(at)
            && generation.first_time.is_none()
        {
            generation.first_time = shared.first_time_in(self.info.source, bytes);
        }
        let is_late = self.is_behind_what_was_read(at, shared);
        if let Some(generation) = self.generations.get_mut(at) {
            generation.is_late = is_late;
        }
    }

    /// The file was empty when it was opened, and its first bytes are those of a compressed one: it is opened again, as what
    /// it is.
    fn opens_as_compressed(
        &mut self,
        at: usize,
        first: &Range<usize>,
        shared: &mut Shared,
    ) -> bool {
        let is_plain = |g: &Generation| matches!(g.content, Content::Plain(_));
        if !self.generations.get(at).is_some_and(is_plain)
            || !is_compressed(shared.chunk.buffer.get(first.clone()))
        {
            return false;
        }
        let key = self.generations.remove(at).key;
        key.iter().for_each(|key| self.close(*key, shared));
        (self.look, self.unresolved) = (true, true);
        true
    }

    /// The first file of the path was empty when it was put on disk, and says something now: that is put on disk as well
    /// before it is read, so that a file which is gone at the next start is reported.
    fn says_something_first(&mut self, shared: &mut Shared) -> bool {
        if !self.was_saved_empty {
            return false;
        }
        let Some(generation) = self.generations.first_mut() else {
            return false;
        };
        if generation.position.is_empty() {
            let Ok(Some(opened)) = generation.reopened() else {
                return false;
            };
            let Some(beginning) = opened.beginning().ok().filter(|read| !read.is_empty()) else {
                return false;
            };
            generation.size = generation.size.max(opened.size);
            generation.discover(&opened, beginning);
        }
        self.was_saved_empty = false;
        self.unsaved = true;
        shared.unsaved = true;
        true
    }

    /// What lies beside the file where the path led before cannot be read now: once this generation is finished, nothing
    /// leads there any more.
    fn leads_to_unreadable(&self, at: usize) -> bool {
        let target = self.generations.get(at).and_then(|g| g.target.as_ref());
        !self.unreadable.is_empty() && target.is_some() && target != self.target.as_ref()
    }

    /// On truncation, splits the generation in two: the old content (perhaps found in a copy) and the new.
    pub(super) fn split_truncated(&mut self, shared: &mut Shared, sink: &mut impl Sink) {
        let mut at = 0;
        while let Some(old) = self.generations.get_mut(at) {
            at += 1;
            if !old.is_truncated() {
                continue;
            }
            let key = old.key.take();
            let content = std::mem::replace(&mut old.content, Content::Closed);
            old.cut = Some(LostReason::Truncated);
            sink.event(&self.info, Event::Truncated);
            if !old.current {
                // What was written over a rotated file may be a copy.
                self.account_anew(key, content, shared);
                continue;
            }
            old.current = false;
            let mut new = Generation::new(shared.next_id(), key, content);
            new.modified_ns = old.modified_ns;
            new.born_ns = old.born_ns;
            new.target.clone_from(&old.target);
            self.generations.insert(at, new);
            at += 1;
        }
    }

    /// Nothing more is expected of this file.
    pub(super) fn finish(&mut self, at: usize, shared: &mut Shared, sink: &mut impl Sink) {
        let is_late = self.is_late(at);
        let generation = self.generations.remove(at);
        if generation.announced {
            let end = generation.cut.map_or(End::Whole { is_late }, End::Cut);
            sink.ended(generation.id, end);
        }
        if let Some(key) = generation.key {
            if let Content::Plain(file) = &generation.content {
                self.keep_open(key, file.clone());
            }
            let stored = generation.metadata();
            let (size, modified_ns) = stored
                .map_or((generation.size, generation.modified_ns), |m| {
                    (m.len(), modified_ns(&m))
                });
            let archive = Archive {
                key,
                position: generation.position,
                size,
                modified_ns,
                first_time: generation.first_time,
                kind: ArchiveKind::Read,
            };
            self.remember(archive, shared);
        }
    }

    /// What a checkpoint keeps of this path.
    pub(super) fn positions(
        &self,
        shared: &Shared,
        held_bytes: &impl Fn(FileId) -> u64,
        into: &mut Vec<Position>,
    ) {
        for archive in self.unplaced.iter().chain(self.placed(shared)) {
            into.push(Position {
                path: self.info.path.clone(),
                target: None,
                key: archive.key,
                born_ns: None,
                offset: archive.position.offset(),
                read: archive.position.clone(),
                size: archive.size,
                modified_ns: archive.modified_ns,
                first_time: archive.first_time,
                state: match archive.kind {
                    ArchiveKind::History => PositionState::History,
                    ArchiveKind::Copy => PositionState::Copy,
                    ArchiveKind::Read => PositionState::Done,
                },
            });
        }
        for generation in self.generations.iter().filter(|g| !g.is_pipe()) {
            let key = generation.key.unwrap_or(NO_FILE);
            let held = match generation.announced {
                true => held_bytes(generation.id),
                false => 0,
            };
            into.push(Position {
                path: self.info.path.clone(),
                target: generation.target.clone(),
                key,
                born_ns: generation.born_ns,
                offset: generation.next_offset().saturating_sub(held),
                read: generation.position.clone(),
                size: generation.size,
                modified_ns: generation.modified_ns,
                first_time: generation.first_time,
                state: match generation.current {
                    true => PositionState::Current,
                    false => PositionState::Draining,
                },
            });
        }
    }

    /// Bytes that wait to be read, as stored.
    pub(super) fn lag_bytes(&self) -> u64 {
        let unreadable = self.unreadable.iter().map(|(_, size)| *size);
        let waiting = self.generations.iter().map(Generation::lag_bytes);
        waiting.chain(unreadable).sum()
    }

    /// For the status page.
    pub(super) fn state(&self) -> FileState {
        match (self.trouble, self.current(), self.alias) {
            (Some(trouble), ..) => FileState::Unreadable(trouble),
            (None, Some(_), _) => FileState::Following,
            (None, None, Some(_)) => FileState::SameAsAnother,
            (None, None, None) if self.generations.is_empty() => FileState::Absent,
            (None, None, None) => FileState::Draining,
        }
    }
}
