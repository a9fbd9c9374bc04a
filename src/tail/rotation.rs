//! What lies beside a followed path: which of it is known, which is a copy, which is old, and which is news.
//!
//! Whenever the path has another file or content than before, every file whose name says that it was rotated from the
//! path is accounted for. In this order, since each step takes away what the next ones could mistake:
//!
//! ```text
//!  generations that lost their file             files beside the path
//!  ───────────────────────────────              ─────────────────────
//!  1. same inode, content continues  ────────►  the file, whatever its name is now
//!  2. content continues              ────────►  restored, compressed, copied before it was truncated: read on there
//!  3.                                           an archive that was finished: nothing, or what a late writer added
//!  4. content begins with the file   ────────►  a copy that is shorter than what was read: nothing to read
//!  5. content behind an archive      ────────►  an archive that grows by appending: read on there
//!  6. nothing fits: lost, told in bytes
//!  7.                                           a copy of a file that is still open
//!  8.                                           what another path lost sight of
//!  9.                                           lines older than all that was read: history
//! 10.                                           news: came and was rotated unseen, read from its first byte
//! ```
//!
//! A generation has one file and a file one generation. So two files that say the same are two generations, as long as
//! both lie there: the inode tells which is which, and only what is nowhere else is looked for by content.
//!
//! Cost: a file is opened once, when its name, inode, size or time is new; the directory is listed once for all of its
//! paths ([`Listings`](super::rotated::Listings)).

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::content::{Depth, Opened};
use super::followed_path::FollowedPath;
use super::generation::{Content, Generation};
use super::identity::{Comparison, FileKey, ReadPosition, SEAM_BYTES, born_ns, modified_ns};
use super::registry::{Archive, ArchiveKind, Known};
use super::rotated;
use super::{End, Event, LostReason, ReadFrom, Shared, Sink, is_absent};

/// Finished files that are remembered although they lie nowhere any more. They may come back.
const GONE_MAX: usize = 64;

/// Files that are remembered in total. Beyond, the oldest of the path that has another one are forgotten, and it goes by
/// time from then on.
const REMEMBERED_MAX: usize = 200_000;

/// The length from which on two files that say the same are a file and its copy, in bytes: no two logs say the same for so
/// long.
const COPY_BYTES: u64 = SEAM_BYTES as u64;

/// A file beside the path that is not accounted for.
#[derive(Debug)]
struct Sibling {
    path: PathBuf,
    opened: Opened,
    beginning: ReadPosition,
    /// It is known as a copy: only what was truncated may be found in it.
    is_copy: bool,
}

impl Archive {
    /// The file has all that was read, and perhaps more.
    pub(super) fn is_continued_by(&self, opened: &Opened, depth: Depth) -> bool {
        matches!(
            opened.compare(&self.position, depth),
            Ok(Comparison::Continues)
        )
    }
}

impl FollowedPath {
    /// Accounts for what lies beside the path. See the [module](self).
    pub(super) fn resolve_rotations(
        &mut self,
        others: &mut [FollowedPath],
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) {
        self.unresolved = false;
        if let Some(since_ns) = self.first_sight.take() {
            self.first_sight(since_ns, others, shared);
            if since_ns.is_none() {
                return;
            }
        }
        self.split_truncated(shared, sink);
        let mut siblings = self.siblings(shared);
        for depth in [Depth::Seam, Depth::Whole] {
            self.find_files(depth, &mut siblings, shared, sink);
            self.find_archives(depth, &mut siblings, shared, sink);
        }
        // Last, since nothing but the inode speaks for what was never read.
        self.find_files(Depth::Glance, &mut siblings, shared, sink);
        self.find_copies(&mut siblings, shared, sink);
        self.lose_what_is_gone(shared, sink);
        for sibling in siblings {
            if !sibling.is_copy && !self.account_for(sibling, others, shared, sink) {
                return;
            }
        }
        self.by_time &= self.archives.len() + self.unplaced.len() >= GONE_MAX;
        self.forget_gone(shared);
    }

    /// What lies beside a path that was never seen: generations that the source means too are read first, the others are
    /// history, unless they came after `since_ns`.
    fn first_sight(
        &mut self,
        since_ns: Option<i64>,
        others: &mut [FollowedPath],
        shared: &mut Shared,
    ) {
        for sibling in self.siblings(shared) {
            let Sibling {
                path,
                opened,
                beginning,
                ..
            } = sibling;
            if let Ok(Some(mut generation)) = self.claim(&opened, &beginning, others, shared) {
                if generation.attach(&opened).is_ok() {
                    shared.registry.open(opened.key, self.index);
                    generation.current = false;
                    self.insert_old(generation, opened.modified_ns);
                }
                continue;
            }
            let is_meant =
                self.read_from == ReadFrom::Beginning && shared.means(self.info.source, &path);
            if is_meant {
                self.read_news(&opened, beginning, shared);
            } else if since_ns
                .is_none_or(|since_ns| opened.born_ns.unwrap_or(opened.modified_ns) <= since_ns)
            {
                self.modified_ns = self.modified_ns.max(opened.modified_ns.saturating_add(1));
                self.remember_unread(&opened, shared);
            }
        }
    }

    /// The files beside the path that may be rotated forms of it, that nobody reads, and that are not known to need no
    /// reading; oldest first.
    fn siblings(&mut self, shared: &mut Shared) -> Vec<Sibling> {
        let seeks_copy = |generation: &Generation| !generation.is_open();
        let seeks_copy = self.generations.iter().any(seeks_copy);
        let mut found: Vec<Sibling> = Vec::new();
        self.unreadable.clear();
        for path in self.sibling_paths(shared) {
            let Ok(metadata) = path.metadata() else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let key = FileKey::of(&metadata);
            let mut is_copy = false;
            let skip = match shared.registry.get(key) {
                Some(Known::Open(owner)) if *owner != self.index => true,
                Some(Known::Open(_)) => self.generations.iter().any(|generation| {
                    generation.key == Some(key) && (generation.is_open() || generation.current)
                }),
                Some(Known::Done(_, archive)) => {
                    let unchanged = archive.is_unchanged(metadata.len(), modified_ns(&metadata));
                    is_copy = unchanged && seeks_copy && archive.kind == ArchiveKind::Copy;
                    unchanged && !is_copy
                }
                None => false,
            };
            if skip || found.iter().any(|sibling| sibling.opened.key == key) {
                continue;
            }
            let opened = Opened::open(&path).and_then(|opened| {
                let beginning = opened.beginning()?;
                Ok((opened, beginning))
            });
            match opened {
                Ok((opened, _)) if twin_exists(&opened, &path) => {}
                Ok((opened, beginning)) => found.push(Sibling {
                    path,
                    opened,
                    beginning,
                    is_copy,
                }),
                Err(error) if is_absent(&error) => {}
                // It is tried again at the next look, and waits until then.
                Err(_) => self.unreadable.push((path, metadata.len())),
            }
        }
        found.sort_by_cached_key(|sibling| {
            let age = rotated::age_by_name(&sibling.path);
            (sibling.opened.modified_ns, age)
        });
        found
    }

    /// Where rotated files of the path may lie: beside it, and beside what it leads or led to.
    fn sibling_paths(&self, shared: &mut Shared) -> HashSet<PathBuf> {
        let led = self
            .generations
            .iter()
            .filter_map(|generation| generation.target.as_ref());
        let targets: HashSet<&PathBuf> = led.chain(&self.target).collect();
        let mut paths: HashSet<PathBuf> = HashSet::new();
        for target in targets {
            paths.extend(shared.listings.rotated(target).iter().cloned());
            paths.insert(target.clone());
        }
        paths.extend(shared.listings.rotated(&self.info.path).iter().cloned());
        paths
    }

    /// The file of this generation is there under another name, so that what says the same is another.
    pub(super) fn lies_beside(&self, generation: &Generation, shared: &mut Shared) -> bool {
        self.sibling_paths(shared).iter().any(|path| {
            path.metadata()
                .is_ok_and(|m| generation.is_in(FileKey::of(&m), born_ns(&m)))
                && holds(path, &generation.position)
        })
    }

    /// Generations that lost their file find it: by inode ([`Depth::Seam`]) or by content alone.
    fn find_files(
        &mut self,
        depth: Depth,
        siblings: &mut Vec<Sibling>,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) {
        for at in 0..self.generations.len() {
            let Some(generation) = self.generations.get_mut(at) else {
                continue;
            };
            let is_open = generation.is_open();
            let is_empty = generation.position.is_empty();
            if generation.current
                || is_open && depth != Depth::Whole
                || is_empty != (depth == Depth::Glance)
            {
                continue;
            }
            let fits = |opened: &Opened| generation.is_in(opened.key, opened.born_ns);
            let found = siblings.iter().position(|sibling| {
                let is_candidate = match depth {
                    Depth::Seam | Depth::Glance => fits(&sibling.opened),
                    Depth::Whole => generation.position.may_agree(&sibling.beginning),
                };
                is_candidate
                    && (!is_open || generation.is_replaced_by(&sibling.opened, &sibling.beginning))
                    && matches!(
                        sibling.opened.compare(&generation.position, depth),
                        Ok(Comparison::Continues)
                    )
            });
            if let Some(found) = found {
                let sibling = siblings.remove(found);
                let opened = sibling.opened;
                let old = generation.key.filter(|key| *key != opened.key);
                if generation.attach(&opened).is_ok() {
                    generation.size = generation.size.max(opened.size);
                    self.reopen(&opened, shared);
                    shared.opened += 1;
                    if let Some(old) = old {
                        self.close(old, shared);
                    }
                }
            } else if depth == Depth::Seam && siblings.iter().any(|sibling| fits(&sibling.opened)) {
                // The file is there and has another content.
                generation.lose_file();
                generation.cut = Some(LostReason::Truncated);
                sink.event(&self.info, Event::Truncated);
            }
        }
    }

    /// Finished files are met again: by inode ([`Depth::Seam`]) or by content. What a late writer added is read.
    fn find_archives(
        &mut self,
        depth: Depth,
        siblings: &mut Vec<Sibling>,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) {
        let mut left = Vec::new();
        let seeks_copy = self.generations.iter().any(|g| !g.is_open());
        for mut sibling in std::mem::take(siblings) {
            // Here, since the file before this may lie in the inode of the archive that this one continues.
            for archive in shared.registry.take_displaced_of(self.index) {
                self.displace(archive, shared);
            }
            let archive = match depth {
                _ if sibling.is_copy => None,
                Depth::Whole => self.archive_by_content(&sibling, shared, sink),
                _ => self.archive_by_key(&sibling.opened, shared),
            };
            let Some(archive) = archive else {
                left.push(sibling);
                continue;
            };
            let opened = &sibling.opened;
            let is_same =
                archive.key == opened.key && archive.is_unchanged(opened.size, opened.modified_ns);
            let is_complete = is_same
                || match opened.is_compressed() {
                    // How much is behind what is known shows when it is read.
                    true => archive.kind == ArchiveKind::History,
                    false => opened.size <= archive.position.offset(),
                }
                || archive.kind == ArchiveKind::Copy && self.is_copy_of_open(&sibling, shared);
            if is_complete {
                sibling.is_copy = seeks_copy && archive.kind == ArchiveKind::Copy;
                let archive = Archive {
                    key: opened.key,
                    size: opened.size,
                    modified_ns: opened.modified_ns,
                    ..archive
                };
                self.remember(archive, shared);
                if sibling.is_copy {
                    left.push(sibling);
                }
            } else if self.find_appended(opened, &archive, shared, sink) {
                // It has grown by what was read.
            } else {
                let mut generation = self.rotated(opened, shared);
                generation.position = archive.position;
                generation.first_time = archive.first_time;
                if generation.attach(opened).is_ok() {
                    self.reopen(opened, shared);
                    self.insert_old(generation, opened.modified_ns);
                }
            }
        }
        *siblings = left;
    }

    fn archive_by_key(&mut self, opened: &Opened, shared: &Shared) -> Option<Archive> {
        if let Some(Known::Done(_, archive)) = shared.registry.get(opened.key)
            && !archive.position.is_empty()
            && archive.is_continued_by(opened, Depth::Seam)
        {
            return Some(archive.clone());
        }
        let at = self.unplaced.iter().position(|archive| {
            let depth = match archive.is_unchanged(opened.size, opened.modified_ns) {
                // What format 1 kept of history is no content.
                true if archive.position.is_empty() => return archive.key == opened.key,
                true => Depth::Glance,
                false => Depth::Seam,
            };
            archive.key == opened.key
                && !archive.position.is_empty()
                && archive.is_continued_by(opened, depth)
        })?;
        let archive = self.unplaced.remove(at);
        match archive.position.is_empty() {
            true => Some(self.unread(opened)),
            false => Some(archive),
        }
    }

    /// A finished file that lies nowhere else.
    fn archive_by_content(
        &mut self,
        sibling: &Sibling,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> Option<Archive> {
        let fits = |archive: &Archive| {
            !archive.position.is_empty()
                && archive.position.may_agree(&sibling.beginning)
                && archive.is_continued_by(&sibling.opened, Depth::Whole)
        };
        let archive = if let Some(at) = self.unplaced.iter().position(fits) {
            self.unplaced.remove(at)
        } else {
            let known = |key: &FileKey| shared.registry.archive(*key, self.index);
            let key = *self
                .archives
                .iter()
                .find(|key| known(key).is_some_and(fits))?;
            let archive = shared.registry.archive(key, self.index)?.clone();
            let lies = |path: &PathBuf| {
                path.metadata().is_ok_and(|m| FileKey::of(&m) == key)
                    && holds(path, &archive.position)
            };
            if self.sibling_paths(shared).iter().any(lies) {
                return None;
            }
            shared.registry.forget(key, self.index);
            self.archives.retain(|known| *known != key);
            archive
        };
        let opened = &sibling.opened;
        if opened.is_compressed()
            && archive.position.offset() < COPY_BYTES
            && !keeps_time(opened, archive.modified_ns)
        {
            self.doubt(opened, archive.position.offset(), sink);
        }
        Some(archive)
    }

    /// Generations that lost their file find a copy that is shorter than what was read.
    fn find_copies(
        &mut self,
        siblings: &mut Vec<Sibling>,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) {
        let mut at = 0;
        while let Some(generation) = self.generations.get(at) {
            if generation.is_open() || generation.current || generation.position.is_empty() {
                at += 1;
                continue;
            }
            let mut len = 0;
            let found = siblings.iter().position(|sibling| {
                if !generation.position.may_agree(&sibling.beginning) {
                    return false;
                }
                match generation.compare(&sibling.opened) {
                    Ok(Comparison::Begins(copied)) => len = copied,
                    _ => return false,
                }
                len > 0
            });
            let Some(sibling) = found.map(|found| siblings.remove(found)) else {
                at += 1;
                continue;
            };
            at += usize::from(!self.take_copy(at, &sibling.opened, len, shared, sink));
        }
    }

    /// `opened` has the first `len` bytes of what is known of a generation that lost its file. Says whether that is
    /// finished with this.
    fn take_copy(
        &mut self,
        at: usize,
        opened: &Opened,
        len: u64,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> bool {
        let position = opened.position_at_end();
        let Some(generation) = self.generations.get_mut(at) else {
            return true;
        };
        if let Ok(position) = &position
            && len > generation.next_offset()
        {
            // Not all of it was handed on.
            let was_cut = generation.cut.is_some();
            let missing = generation.size.saturating_sub(len);
            generation.resume_at = Some(generation.next_offset());
            generation.position.clone_from(position);
            generation.cut = Some(LostReason::Truncated);
            if generation.attach(opened).is_ok() {
                shared.registry.open(opened.key, self.index);
                if !was_cut {
                    sink.event(&self.info, Event::Truncated);
                }
                if missing > 0 {
                    let reason = LostReason::Truncated;
                    let bytes = missing;
                    sink.event(&self.info, Event::Lost { bytes, reason });
                }
                return false;
            }
        }
        if let Some(generation) = self.generations.get_mut(at) {
            // It can only have been truncated, if it is there no more and a copy of it is.
            generation.cut = Some(LostReason::Truncated);
        }
        self.lose(at, shared, sink);
        self.remember_at(opened, position, ArchiveKind::Read, shared);
        true
    }

    /// An archive has grown by what a truncated generation said (`cat m >> m.old; : > m`). Says whether it has.
    fn find_appended(
        &mut self,
        opened: &Opened,
        archive: &Archive,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> bool {
        let from = archive.position.offset();
        let mut is_copy = false;
        let mut at = 0;
        while let Some(generation) = self.generations.get(at) {
            let compared = match generation.position.is_empty() {
                true => Ok(Comparison::Differs),
                false => opened.compare_behind(from, &generation.position),
            };
            let len = match compared {
                Ok(Comparison::Continues) => generation.position.offset(),
                Ok(Comparison::Begins(len)) if len > 0 => len,
                _ => {
                    at += 1;
                    continue;
                }
            };
            is_copy = true;
            let next = generation.next_offset();
            if generation.is_open() {
                // It is being made, or is not yet followed by a truncation.
                at += 1;
                continue;
            }
            if from + next.min(len) < opened.size
                && let Ok(position) = opened.position_at(from + next, super::identity::CHAIN_BYTES)
            {
                // Behind what was read, the archive goes on.
                let mut rest = self.rotated(opened, shared);
                rest.position = position;
                rest.cut = Some(LostReason::Truncated);
                if rest.attach(opened).is_ok() {
                    shared.registry.open(opened.key, self.index);
                    if let Some(generation) = self.generations.get_mut(at) {
                        generation.size = generation.size.min(next);
                    }
                    self.lose(at, shared, sink);
                    self.insert_old(rest, opened.modified_ns);
                    return true;
                }
            }
            self.lose(at, shared, sink);
        }
        if is_copy {
            let position = opened.position_at_end();
            self.remember_at(opened, position, ArchiveKind::Read, shared);
        }
        is_copy
    }

    /// Gives up what is nowhere to be found, unless it may be in what cannot be read, or the whole directory is away.
    fn lose_what_is_gone(&mut self, shared: &mut Shared, sink: &mut impl Sink) {
        if shared.starting || !self.unreadable.is_empty() {
            // Another path may yet find it.
            self.unresolved |=
                shared.starting && self.generations.iter().any(|g| !g.is_open() && !g.current);
            return;
        }
        let is_there = self.trouble.is_none() && self.info.path.exists();
        let mut at = 0;
        while let Some(generation) = self.generations.get(at) {
            let is_lost = !generation.is_open() && !generation.current;
            if is_lost && (generation.key.is_none() || is_there) {
                self.lose(at, shared, sink);
            } else {
                at += 1;
            }
        }
    }

    /// Gives up a file that is nowhere to be found.
    fn lose(&mut self, at: usize, shared: &mut Shared, sink: &mut impl Sink) {
        let generation = self.generations.remove(at);
        if let Some(key) = generation.key {
            self.close(key, shared);
        }
        let bytes = generation.size.saturating_sub(generation.next_offset());
        let reason = generation.cut.unwrap_or(LostReason::Gone);
        if bytes > 0 {
            sink.event(&self.info, Event::Lost { bytes, reason });
        }
        if generation.announced {
            sink.ended(generation.id, End::Cut(reason));
        }
        if let Some(key) = generation.key.filter(|_| !generation.position.is_empty()) {
            // It may come back.
            self.remember_gone(Archive {
                key,
                position: generation.position,
                size: generation.size,
                modified_ns: generation.modified_ns,
                first_time: generation.first_time,
                kind: ArchiveKind::Read,
            });
        }
    }

    /// Decides about a file beside the path that no generation and no archive of the path is found in. Says whether to go
    /// on with the next.
    fn account_for(
        &mut self,
        sibling: Sibling,
        others: &mut [FollowedPath],
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> bool {
        let mut doubtful = None;
        for generation in &self.generations {
            let Some(len) = generation.contains(&sibling.opened, &sibling.beginning) else {
                continue;
            };
            match is_copy(generation, &sibling.opened, len) {
                Some(true) => {
                    // What it says is read from the original.
                    let position = sibling.opened.position_at_end();
                    self.remember_at(&sibling.opened, position, ArchiveKind::Copy, shared);
                    return true;
                }
                Some(false) => {}
                None => doubtful = Some(len),
            }
        }
        let opened = &sibling.opened;
        if let Some(len) = doubtful {
            self.doubt(opened, len, sink);
            return true;
        }
        let truncated = self.generations.iter_mut().find(|g| g.is_truncated());
        if let Some(generation) = truncated {
            // Only now: this may be the copy that was made for it. Its next read leads here again.
            generation.ready = true;
            return false;
        }
        if self.is_copy_of_archive(&sibling, shared) {
            let position = opened.position_at_end();
            self.remember_at(opened, position, ArchiveKind::Read, shared);
        } else if let Ok(Some(mut generation)) =
            self.claim(opened, &sibling.beginning, others, shared)
        {
            if generation.attach(opened).is_ok() {
                generation.current = false;
                shared.registry.open(opened.key, self.index);
                self.insert_old(generation, opened.modified_ns);
            }
        } else if self.by_time && opened.modified_ns < self.modified_ns {
            self.remember_unread(opened, shared);
        } else if self.is_history(opened, shared) {
            sink.event(&self.info, Event::History { bytes: opened.size });
            self.remember_unread(opened, shared);
        } else {
            sink.event(&self.info, Event::Rotated);
            self.read_news(opened, sibling.beginning, shared);
        }
        true
    }

    /// Its lines are older than all that was read of this path, by the dates that the collector wrote.
    fn is_history(&self, opened: &Opened, shared: &Shared) -> bool {
        let archives = self
            .archives
            .iter()
            .filter_map(|key| shared.registry.archive(*key, self.index))
            .filter(|archive| archive.kind == ArchiveKind::Read)
            .map(|archive| archive.first_time);
        let read = self.generations.iter().map(|g| g.first_time);
        let Some(first_read) = read.chain(archives).flatten().min() else {
            return false;
        };
        shared
            .last_time(self.info.source, opened)
            .is_some_and(|last| last < first_read)
    }

    /// All of the file is in one that was finished and lies there too.
    fn is_copy_of_archive(&self, sibling: &Sibling, shared: &Shared) -> bool {
        let opened = &sibling.opened;
        self.archives
            .iter()
            .filter_map(|key| shared.registry.archive(*key, self.index))
            .filter(|archive| archive.position.may_agree(&sibling.beginning))
            .any(
                |archive| match opened.compare(&archive.position, Depth::Whole) {
                    Ok(Comparison::Continues) => {
                        opened.size == archive.position.offset() && opened.size >= COPY_BYTES
                    }
                    Ok(Comparison::Begins(len)) => len >= COPY_BYTES,
                    _ => false,
                },
            )
    }

    /// A copy that has grown is a copy still being made if it is in a file that is open.
    fn is_copy_of_open(&self, sibling: &Sibling, _: &Shared) -> bool {
        self.generations
            .iter()
            .any(|g| g.contains(&sibling.opened, &sibling.beginning).is_some())
    }

    /// A generation that another path lost sight of and whose content this is. Its former place no longer holds it: two
    /// files that say the same at two paths are two.
    pub(super) fn claim(
        &self,
        opened: &Opened,
        beginning: &ReadPosition,
        others: &mut [FollowedPath],
        shared: &mut Shared,
    ) -> io::Result<Option<Generation>> {
        for other in others.iter_mut().filter(|other| other.index != self.index) {
            for at in 0..other.generations.len() {
                let Some(generation) = other.generations.get(at) else {
                    continue;
                };
                if generation.is_open()
                    || generation.position.is_empty()
                    || !generation.position.may_agree(beginning)
                {
                    continue;
                }
                let depth = match generation.key == Some(opened.key) {
                    true => Depth::Seam,
                    false => Depth::Whole,
                };
                if opened.compare(&generation.position, depth)? == Comparison::Continues
                    && !(generation.key != Some(opened.key)
                        && (holds(&other.info.path, &generation.position)
                            || other.lies_beside(generation, shared)))
                {
                    let generation = other.generations.remove(at);
                    if let Some(key) = generation.key {
                        other.close(key, shared);
                    }
                    return Ok(Some(generation));
                }
            }
        }
        Ok(None)
    }

    /// An archive of this path, or of another that does not hold it any more, whose content has come to this path.
    pub(super) fn claim_archive(
        &mut self,
        opened: &Opened,
        beginning: &ReadPosition,
        others: &mut [FollowedPath],
        shared: &mut Shared,
    ) -> io::Result<Option<Archive>> {
        let fits = |archive: &Archive| {
            let depth = match archive.key == opened.key {
                true => Depth::Seam,
                false => Depth::Whole,
            };
            !archive.position.is_empty()
                && archive.position.may_agree(beginning)
                && archive.is_continued_by(opened, depth)
        };
        let lies = |paths: HashSet<PathBuf>, archive: &Archive| {
            paths.iter().any(|path| {
                path.metadata().is_ok_and(|m| {
                    let key = FileKey::of(&m);
                    key != opened.key && key == archive.key
                }) && holds(path, &archive.position)
            })
        };
        if let Some(at) = self.unplaced.iter().position(fits)
            && let Some(archive) = self.unplaced.get(at)
            && !lies(self.sibling_paths(shared), archive)
        {
            return Ok(Some(self.unplaced.remove(at)));
        }
        for other in others.iter_mut().filter(|other| other.index != self.index) {
            if let Some(at) = other.unplaced.iter().position(fits)
                && let Some(archive) = other.unplaced.get(at)
                && archive.kind == ArchiveKind::Read
                && !holds(&other.info.path, &archive.position)
                && !lies(other.sibling_paths(shared), archive)
            {
                return Ok(Some(other.unplaced.remove(at)));
            }
        }
        Ok(None)
    }

    /// A generation of a file that was rotated away.
    fn rotated(&self, opened: &Opened, shared: &mut Shared) -> Generation {
        let mut generation = Generation::new(shared.next_id(), Some(opened.key), Content::Closed);
        generation.current = false;
        generation.size = opened.size;
        generation
    }

    /// Reads a file that was rotated away from its first byte.
    fn read_news(&mut self, opened: &Opened, beginning: ReadPosition, shared: &mut Shared) {
        let mut generation = self.rotated(opened, shared);
        generation.first_time = shared.first_time(self.info.source, opened);
        if let Ok(content) = opened.content() {
            generation.discover(opened, beginning);
            generation.content = content;
            shared.registry.open(opened.key, self.index);
            self.insert_old(generation, opened.modified_ns);
        }
    }

    /// A generation is in this inode no more. (Another may be.)
    pub(super) fn close(&self, key: FileKey, shared: &mut Shared) {
        let is_open = |g: &Generation| g.key == Some(key) && (g.is_open() || g.current);
        if !self.generations.iter().any(is_open)
            && shared.registry.archive(key, self.index).is_none()
        {
            shared.registry.forget(key, self.index);
        }
    }

    /// A file is read that may have been finished before, or lies in an inode in which another was.
    pub(super) fn reopen(&mut self, opened: &Opened, shared: &mut Shared) {
        let key = opened.key;
        let same = shared
            .registry
            .archive(key, self.index)
            .is_some_and(|archive| archive.is_continued_by(opened, Depth::Seam));
        if same {
            self.archives.retain(|known| *known != key);
            shared.registry.forget(key, self.index);
        }
        shared.registry.open(key, self.index);
    }

    /// Adds a file that was rotated away, behind those that are older: not before any that was begun.
    fn insert_old(&mut self, mut generation: Generation, changed_ns: i64) {
        generation.current = false;
        let younger = |generation: &&Generation| {
            let unread = generation.is_open() && generation.next_offset() == 0;
            generation.current
                || unread
                    && generation
                        .modified_now_ns()
                        .is_some_and(|modified| modified > changed_ns)
        };
        let behind = self.generations.iter().rev().take_while(younger).count();
        let at = self.generations.len() - behind;
        self.generations.insert(at, generation);
    }

    /// Tells once that a file may or may not be a copy of one that was read.
    fn doubt(&mut self, opened: &Opened, bytes: u64, sink: &mut impl Sink) {
        if self.doubted.contains(&opened.key) {
            return;
        }
        self.doubted.push_back(opened.key);
        if self.doubted.len() > GONE_MAX {
            self.doubted.pop_front();
        }
        let reason = LostReason::Doubtful;
        sink.event(&self.info, Event::Lost { bytes, reason });
    }

    /// How a file that is not to be read is recognised.
    fn unread(&self, opened: &Opened) -> Archive {
        Archive {
            key: opened.key,
            position: opened.position_unread().unwrap_or_default(),
            size: opened.size,
            modified_ns: opened.modified_ns,
            first_time: None,
            kind: ArchiveKind::History,
        }
    }

    fn remember_unread(&mut self, opened: &Opened, shared: &mut Shared) {
        let archive = self.unread(opened);
        self.remember(archive, shared);
    }

    fn remember_at(
        &mut self,
        opened: &Opened,
        position: io::Result<ReadPosition>,
        kind: ArchiveKind,
        shared: &mut Shared,
    ) {
        let archive = Archive {
            key: opened.key,
            position: position.unwrap_or_default(),
            size: opened.size,
            modified_ns: opened.modified_ns,
            first_time: None,
            kind,
        };
        self.remember(archive, shared);
    }

    /// The file needs no more reading.
    pub(super) fn remember(&mut self, mut archive: Archive, shared: &mut Shared) {
        archive.position.compact();
        let key = archive.key;
        self.archives.retain(|known| *known != key);
        if shared.registry.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.archives.pop_front()
        {
            shared.registry.forget(oldest, self.index);
            self.by_time = true;
        }
        shared.registry.done(archive, self.index);
        self.archives.push_back(key);
    }

    /// Its inode was given to another file. Its content may lie elsewhere.
    pub(super) fn displace(&mut self, archive: Archive, shared: &Shared) {
        if shared.registry.archive(archive.key, self.index).is_none() {
            self.archives.retain(|key| *key != archive.key);
        }
        self.unplaced.push(archive);
    }

    fn remember_gone(&mut self, mut archive: Archive) {
        archive.position.compact();
        self.unplaced.push(archive);
    }

    /// Forgets finished files that lie nowhere any more, but for the latest.
    fn forget_gone(&mut self, shared: &mut Shared) {
        let excess = self.unplaced.len().saturating_sub(GONE_MAX);
        if !shared.starting && self.unreadable.is_empty() {
            self.unplaced.drain(..excess);
        }
        if self.archives.len() <= GONE_MAX {
            return;
        }
        let lying: HashSet<FileKey> = self
            .sibling_paths(shared)
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|metadata| FileKey::of(&metadata))
            .collect();
        let gone = self.archives.iter().filter(|key| !lying.contains(key));
        let mut excess = gone.count().saturating_sub(GONE_MAX);
        let index = self.index;
        self.archives.retain(|key| {
            let forget = excess > 0 && !lying.contains(key);
            if forget {
                excess -= 1;
                shared.registry.forget(*key, index);
            }
            !forget
        });
    }
}

/// The file at this path has what was read up to the position.
fn holds(path: &Path, position: &ReadPosition) -> bool {
    Opened::open(path).is_ok_and(|opened| {
        matches!(
            opened.compare(position, Depth::Seam),
            Ok(Comparison::Continues)
        )
    })
}

/// A compressed file whose uncompressed form is still there is being made, or says the same.
fn twin_exists(opened: &Opened, path: &Path) -> bool {
    opened.is_compressed() && path.with_extension("").exists()
}

/// Whether `opened`, whose `len` bytes all are in the generation's file too, is a copy of that or was compressed from it, or
/// a file of its own that says the same; `None` if nobody can tell.
fn is_copy(generation: &Generation, opened: &Opened, len: u64) -> Option<bool> {
    let metadata = generation.metadata()?;
    if opened.is_compressed() && len >= COPY_BYTES {
        return Some(true);
    }
    if generation.current
        && let Some(born_ns) = born_ns(&metadata)
    {
        // What was rotated before this file came is older than it, and a copy of it younger.
        let other = match opened.is_compressed() {
            // Compressing keeps the time of the last change.
            true => Some(opened.modified_ns),
            false => opened.born_ns,
        };
        if let Some(other) = other.filter(|other| *other != born_ns) {
            return Some(other > born_ns);
        }
    }
    if len >= COPY_BYTES {
        return Some(true);
    }
    let same_time = keeps_time(opened, modified_ns(&metadata));
    match (generation.current, opened.is_compressed()) {
        (true, _) => None,
        // What was renamed is not copied, and the original goes when it is compressed.
        (false, _) if metadata.nlink() > 0 && !(opened.is_compressed() && same_time) => Some(false),
        (false, _) if metadata.nlink() == 0 && same_time => Some(true),
        (false, _) => None,
    }
}

/// The file has the time of the last change of another, as a copy or compressed form is given it. Some tools give it no
/// fraction.
fn keeps_time(opened: &Opened, original_ns: i64) -> bool {
    let whole = original_ns - original_ns.rem_euclid(1_000_000_000);
    opened.modified_ns == original_ns || opened.modified_ns == whole
}
