//! Files that need no more reading: what they are recognised by, and for how long.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;

use super::content::Content;
use super::copies::Verdict;
use super::followed_path::FollowedPath;
use super::identity::{Comparison, FileKey, ReadPosition};
use super::opened::{Depth, Opened, holds};
use super::registry::{Archive, ArchiveKind, GONE_MAX, Known};
use super::sibling::{COPY_BYTES, Sibling, keeps_time};
use super::{Shared, Sink, is_absent};

impl Archive {
    /// The file has all that was read, and perhaps more.
    pub(super) fn is_continued_by(&self, opened: &Opened, depth: Depth) -> bool {
        matches!(
            opened.compare(&self.position, depth),
            Ok(Comparison::Continues)
        )
    }

    /// All of the file is in what was read, as far as the last checkpoint in it. Its length if so.
    fn contains(&self, opened: &Opened, beginning: &ReadPosition) -> io::Result<Option<u64>> {
        if self.position.is_empty() || !self.position.may_agree(beginning) {
            return Ok(None);
        }
        let len = match opened.compare(&self.position, Depth::Whole)? {
            Comparison::Begins(len) => len,
            Comparison::Continues => opened.position_at_end()?.offset(),
            Comparison::Differs => 0,
        };
        Ok(Some(len).filter(|len| (1..=self.position.offset()).contains(len)))
    }
}

/// Files that are remembered in total. Beyond, the oldest of the path that has another one are forgotten, and it goes by
/// time from then on.
const REMEMBERED_MAX: usize = 200_000;

impl FollowedPath {
    /// Finished files are met again: by inode ([`Depth::Seam`]) or by content. What a late writer added is read.
    pub(super) fn find_archives(
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
                _ if sibling.is_copy => Ok(None),
                Depth::Whole => self.archive_by_content(&sibling, shared, sink),
                _ => self.archive_by_key(&sibling.opened, shared),
            };
            let archive = match archive {
                Ok(Some(archive)) => archive,
                Ok(None) => {
                    left.push(sibling);
                    continue;
                }
                Err(_) => {
                    self.postpone(&sibling);
                    continue;
                }
            };
            let opened = &sibling.opened;
            let is_same =
                archive.key == opened.key && archive.is_unchanged(opened.size, opened.modified_ns);
            let has_no_more = is_same
                || match opened.is_compressed() {
                    // How much is behind what is known shows when it is read.
                    true => archive.kind == ArchiveKind::History,
                    false => opened.size <= archive.position.offset(),
                };
            let known = archive.position.offset();
            // It may lie in the inode in which the finished one was.
            let may_be_copy = !has_no_more
                && (archive.kind == ArchiveKind::Copy
                    || archive.kind == ArchiveKind::Read
                        && shared.is_unique(self.info.source, opened, known));
            let mut position = archive.position.clone();
            if may_be_copy
                && self.is_copy_now(&sibling, archive.kind, shared)
                && let Ok(end) = opened.position_at_end()
            {
                position.clone_from(end);
            }
            let is_complete = has_no_more || position != archive.position;
            if is_complete {
                sibling.is_copy = seeks_copy && archive.kind == ArchiveKind::Copy;
                if archive.kind == ArchiveKind::Read
                    && let Ok(Content::Plain(file)) = opened.content()
                {
                    // The youngest comes last.
                    self.keep_open(opened.key, file);
                }
                let archive = Archive {
                    key: opened.key,
                    position,
                    size: opened.size,
                    modified_ns: opened.modified_ns,
                    ..archive
                };
                self.remember(archive, shared);
                if sibling.is_copy {
                    left.push(sibling);
                }
            } else if may_be_copy && self.is_copy_of_lost(&sibling) {
                // It has the whole of what was truncated meanwhile.
                self.keep(archive, shared);
                left.push(sibling);
            } else if opened.has_failed() {
                // It is known, and how it goes on is not known now.
                self.postpone(&sibling);
                self.keep(archive, shared);
            } else {
                match self.find_appended(opened, &archive, shared, sink) {
                    // It has grown by what was read.
                    Ok(true) => {}
                    Ok(false) => self.read_on(&sibling, archive, shared),
                    Err(_) => {
                        self.postpone(&sibling);
                        self.keep(archive, shared);
                    }
                }
            }
        }
        *siblings = left;
    }

    /// A file that has a finished one and more is a copy: of what the log went on as when it was saved anew, or, if it was
    /// one in the making, of what that was copied from.
    fn is_copy_now(&mut self, sibling: &Sibling, known: ArchiveKind, shared: &mut Shared) -> bool {
        let Sibling {
            opened, beginning, ..
        } = sibling;
        match self.verdict(opened, beginning, shared) {
            Ok(Verdict::Copy(of)) => self.discover_copied(of, opened).is_ok(),
            Ok(Verdict::Other) | Err(_) => false,
            Ok(Verdict::Same | Verdict::Doubtful(_)) => known == ArchiveKind::Copy,
        }
    }

    /// Reads what was added to a finished file.
    pub(super) fn read_on(&mut self, sibling: &Sibling, archive: Archive, shared: &mut Shared) {
        let opened = &sibling.opened;
        let mut generation = self.rotated(opened, shared);
        generation.position.clone_from(&archive.position);
        generation.first_time = archive.first_time;
        let attached = self
            .end_of_what_was_read(sibling, &archive, shared)
            .and_then(|end| {
                generation.position = end;
                generation.attach(opened)
            });
        match attached {
            Ok(()) => {
                self.reopen(opened, shared);
                self.insert_old(generation, opened.modified_ns);
            }
            Err(_) => {
                self.postpone(sibling);
                self.keep(archive, shared);
            }
        }
    }

    /// Where a file goes on that has all of an archive, and perhaps all of a longer one that it is a copy of, or of others
    /// that it was joined of.
    fn end_of_what_was_read(
        &self,
        sibling: &Sibling,
        archive: &Archive,
        shared: &Shared,
    ) -> io::Result<ReadPosition> {
        let Sibling {
            opened, beginning, ..
        } = sibling;
        match self.known_beginning(opened, beginning, shared)? {
            Some((end, None)) if end.offset() > archive.position.offset() => Ok(end),
            _ => self.end_of_known(opened, &archive.position, shared),
        }
    }

    /// A finished file that was met and could not be read: it is known as before.
    pub(super) fn keep(&mut self, archive: Archive, shared: &Shared) {
        if shared.registry.archive(archive.key, self.index).is_none() {
            self.unplaced.push(archive);
        }
    }

    fn archive_by_key(&mut self, opened: &Opened, shared: &Shared) -> io::Result<Option<Archive>> {
        if let Some(Known::Done(_, archive)) = shared.registry.get(opened.key)
            && !archive.position.is_empty()
            && archive.is_continued_by(opened, Depth::Seam)
        {
            return Ok(Some(archive.clone()));
        }
        let Some(at) = self.unplaced.iter().position(|archive| {
            let depth = match archive.is_unchanged(opened.size, opened.modified_ns) {
                // What format 1 kept of history is no content.
                true if archive.position.is_empty() => return archive.key == opened.key,
                true => Depth::Glance,
                false => Depth::Seam,
            };
            archive.key == opened.key
                && !archive.position.is_empty()
                && archive.is_continued_by(opened, depth)
        }) else {
            return Ok(None);
        };
        let is_content = |archive: &Archive| !archive.position.is_empty();
        let content = match self.unplaced.get(at).is_some_and(is_content) {
            true => None,
            false => Some(self.unread(opened)?),
        };
        let archive = self.unplaced.remove(at);
        Ok(Some(content.unwrap_or(archive)))
    }

    /// A finished file that lies nowhere else.
    pub(super) fn archive_by_content(
        &mut self,
        sibling: &Sibling,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> io::Result<Option<Archive>> {
        let fits = |archive: &Archive| {
            !archive.position.is_empty()
                && archive.position.may_agree(&sibling.beginning)
                && archive.is_continued_by(&sibling.opened, Depth::Whole)
        };
        // The longest: it may be joined of others.
        let unplaced = self.unplaced.iter().enumerate();
        let unplaced = unplaced.filter(|(_, archive)| fits(archive));
        let mut longest = unplaced
            .max_by_key(|(_, archive)| archive.position.offset())
            .map(|(at, archive)| (Some(at), archive.clone()));
        let placed = self.placed(shared).filter(|archive| fits(archive));
        let placed: Vec<Archive> = placed.cloned().collect();
        for archive in placed {
            let is_longer = longest
                .as_ref()
                .is_none_or(|(_, longest)| archive.position.offset() > longest.position.offset());
            let is_there = |metadata: &Metadata| FileKey::of(metadata) == archive.key;
            if is_longer && !self.lies_beside(&archive.position, is_there, shared)? {
                longest = Some((None, archive));
            }
        }
        let archive = match longest {
            Some((Some(at), _)) => self.unplaced.remove(at),
            Some((None, archive)) => {
                shared.registry.forget(archive.key, self.index);
                self.archives.retain(|known| *known != archive.key);
                archive
            }
            None => return Ok(None),
        };
        let opened = &sibling.opened;
        if opened.is_compressed()
            && archive.position.offset() < COPY_BYTES
            && !shared.is_unique(self.info.source, opened, archive.position.offset())
            && !keeps_time(opened, archive.modified_ns)
        {
            self.doubt(opened, archive.position.offset(), sink);
        }
        Ok(Some(archive))
    }

    /// What was finished, and lies there or nowhere.
    pub(super) fn finished_files<'a>(
        &'a self,
        shared: &'a Shared,
    ) -> impl Iterator<Item = &'a Archive> {
        self.placed(shared).chain(&self.unplaced)
    }

    /// What was finished, and was met where it lies.
    pub(super) fn placed<'a>(&'a self, shared: &'a Shared) -> impl Iterator<Item = &'a Archive> {
        let keys = self.archives.iter();
        keys.filter_map(|key| shared.registry.archive(*key, self.index))
    }

    /// Finished files that may begin like this one.
    pub(super) fn archives_like(&self, beginning: &ReadPosition, shared: &Shared) -> Vec<Archive> {
        let finished = self.finished_files(shared);
        let alike = finished.filter(|archive| archive.position.may_agree(beginning));
        alike.cloned().collect()
    }

    /// All of the file is in a finished one: its length if so, and whether that is proven. What a finished file is known by
    /// may tell half of it only; the rest is asked of a file that says the same, if one lies beside the path.
    ///
    /// # Errors
    ///
    /// If that cannot be determined now.
    pub(super) fn is_in_archive(
        &self,
        archive: &Archive,
        opened: &Opened,
        beginning: &ReadPosition,
        shared: &mut Shared,
    ) -> io::Result<Option<(u64, bool)>> {
        let Some(len) = archive.contains(opened, beginning)? else {
            return Ok(None);
        };
        if len == archive.position.offset() {
            return Ok(Some((len, true)));
        }
        for path in self.sibling_paths(shared)? {
            let says_the_same = |metadata: Metadata| {
                let key = FileKey::of(&metadata);
                let known = shared.registry.archive(key, self.index);
                key != opened.key && known.is_some_and(|known| known.position == archive.position)
            };
            if !path.metadata().is_ok_and(says_the_same) {
                continue;
            }
            let original = match Opened::open(&path) {
                Err(error) if is_absent(&error) => continue,
                original => original?,
            };
            if original.compare(&archive.position, Depth::Seam)? == Comparison::Continues {
                let end = opened.position_at_end()?;
                let is_in = original.compare(end, Depth::Whole)? == Comparison::Continues;
                return Ok(is_in.then_some((len, true)));
            }
        }
        Ok(Some((len, false)))
    }

    /// An archive of this path, or of another that does not hold it any more, whose content has come to this path: of
    /// several, the longest.
    pub(super) fn claim_archive(
        &mut self,
        opened: &Opened,
        beginning: &ReadPosition,
        others: &mut [FollowedPath],
        shared: &mut Shared,
    ) -> io::Result<Option<Archive>> {
        if opened.size == 0 {
            return Ok(None);
        }
        // What lost its inode in this look is among them.
        for (owner, archive) in shared.registry.take_displaced() {
            match others.get_mut(owner) {
                _ if owner == self.index => self.displace(archive, shared),
                Some(other) => other.displace(archive, shared),
                None => {}
            }
        }
        let may_fit = |archive: &&Archive| {
            !archive.position.is_empty() && archive.position.may_agree(beginning)
        };
        // A short log may well begin like one that was removed.
        let is_long = |archive: &&Archive| archive.position.offset() >= COPY_BYTES;
        let own = self.placed(shared).filter(is_long).chain(&self.unplaced);
        let own = own.filter(may_fit).map(|archive| (None, archive.clone()));
        let mut found: Vec<_> = own.collect();
        for (index, other) in others.iter().enumerate() {
            // If its log went away, that is perhaps here.
            let is_away = other.generations.is_empty();
            let placed = other.placed(shared).filter(|_| is_away).filter(is_long);
            let read = other.unplaced.iter().chain(placed);
            let read = read.filter(|archive| archive.kind == ArchiveKind::Read);
            let read = read.filter(may_fit);
            found.extend(read.map(|archive| (Some(index), archive.clone())));
        }
        found.sort_by_key(|(_, archive)| std::cmp::Reverse(archive.position.offset()));
        for (owner, archive) in found {
            let depth = match archive.key == opened.key {
                true => Depth::Seam,
                false => Depth::Whole,
            };
            let owner = owner.and_then(|index| others.get_mut(index));
            if !archive.is_continued_by(opened, depth)
                || owner.as_ref().map_or(Ok(false), |other| {
                    holds(&other.info.path, &archive.position)
                })?
            {
                continue;
            }
            let owner = match owner {
                Some(other) => other,
                None => &mut *self,
            };
            if owner.lies_elsewhere(&archive, opened, shared)? {
                continue;
            }
            let is_it =
                |known: &Archive| known.key == archive.key && known.position == archive.position;
            owner.unplaced.retain(|known| !is_it(known));
            if shared
                .registry
                .archive(archive.key, owner.index)
                .is_some_and(is_it)
            {
                owner.archives.retain(|known| *known != archive.key);
                shared.registry.forget(archive.key, owner.index);
            }
            return Ok(Some(archive));
        }
        Ok(None)
    }

    /// An archive that another path has finished in a former process: both lead to the same directory.
    pub(super) fn archive_of_another(
        &self,
        opened: &Opened,
        others: &mut [FollowedPath],
        shared: &Shared,
    ) -> Option<Archive> {
        let owner = shared.registry.former_path(opened.key);
        let other = others.get_mut(owner.filter(|owner| *owner != self.index)?)?;
        let at = other.unplaced.iter().position(|archive| {
            archive.key == opened.key
                && !archive.position.is_empty()
                && archive.is_continued_by(opened, Depth::Seam)
        })?;
        Some(other.unplaced.remove(at))
    }

    /// The finished file lies beside the path, and is not the one that was opened.
    pub(super) fn lies_elsewhere(
        &self,
        archive: &Archive,
        opened: &Opened,
        shared: &mut Shared,
    ) -> io::Result<bool> {
        let is_there = |metadata: &Metadata| {
            let key = FileKey::of(metadata);
            key != opened.key && key == archive.key
        };
        self.lies_beside(&archive.position, is_there, shared)
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

    /// How a file that is not to be read is recognised.
    fn unread(&self, opened: &Opened) -> io::Result<Archive> {
        Ok(Archive {
            key: opened.key,
            position: opened.position_unread()?,
            size: opened.size,
            modified_ns: opened.modified_ns,
            first_time: None,
            kind: ArchiveKind::History,
        })
    }

    pub(super) fn remember_unread(
        &mut self,
        opened: &Opened,
        shared: &mut Shared,
    ) -> io::Result<()> {
        let archive = self.unread(opened)?;
        self.remember(archive, shared);
        Ok(())
    }

    pub(super) fn remember_read(
        &mut self,
        opened: &Opened,
        kind: ArchiveKind,
        shared: &mut Shared,
    ) -> io::Result<()> {
        let archive = Archive {
            key: opened.key,
            position: opened.position_at_end()?.clone(),
            size: opened.size,
            modified_ns: opened.modified_ns,
            first_time: shared.first_time(self.info.source, opened),
            kind,
        };
        self.remember(archive, shared);
        Ok(())
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

    pub(super) fn remember_gone(&mut self, mut archive: Archive) {
        archive.position.compact();
        self.unplaced.push(archive);
    }

    /// Forgets finished files that lie nowhere any more, but for the latest.
    pub(super) fn forget_gone(&mut self, shared: &mut Shared) {
        let excess = self.unplaced.len().saturating_sub(GONE_MAX);
        if !shared.starting && self.unreadable.is_empty() {
            self.unplaced.drain(..excess);
        }
        if self.archives.len() <= GONE_MAX {
            return;
        }
        let Ok(paths) = self.sibling_paths(shared) else {
            return;
        };
        let lying: HashSet<FileKey> = paths
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
