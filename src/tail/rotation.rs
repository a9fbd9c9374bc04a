//! What lies beside a followed path: which of it is known, which is a copy, which is old, and which is news.
//!
//! Rotation renames a log, or copies and truncates it, and may compress it, while we look or while we are stopped. The
//! names, inodes and times that are left say little about what was read already. Content says it: whenever the path has
//! another file or content than before, every file whose name says that it was rotated from the path is opened and compared
//! with what was read. In this order, since each step takes away what the next ones could mistake:
//!
//! ```text
//!  generations that lost their file             files beside the path
//!  ───────────────────────────────              ─────────────────────
//!  1. same inode, content continues  ────────►  the file, whatever its name is now
//!  2. content continues              ────────►  restored, compressed, copied before it was truncated: read on there, in
//!                                               the longest of several copies
//!  3.                                           an archive that was finished: nothing, or what a late writer added
//!  4. content begins with the file   ────────►  a copy that is shorter than what was read: nothing to read
//!  5. content behind an archive      ────────►  an archive that grows by appending: read on there
//!  6. nothing fits: lost, and its bytes are counted
//!  7. all of it is in a file that is read, or was finished: a copy, whatever it is compressed with and whichever was met
//!     first
//!  8. it has all of such a file and more: read on behind that
//!  9.                                           what another path lost sight of
//! 10.                                           lines older than all that was read: history
//! 11.                                           news: came and was rotated unseen, read from its first byte
//! ```
//!
//! A generation has one file and a file one generation. Where two files say the same, the inode tells which of them is the
//! one that was read, and only what is nowhere else is looked for by content; the other is a copy, unless the same may have
//! been said twice.
//!
//! A copy may be seen while it is made. As long as the file is empty, it is not decided what it is
//! ([`Generation::undecided`]); as soon as it says something, that is compared with the files that are open, which the copy
//! must be in. A file that is written over a rotated one is treated like that too (`cp m m.1; : > m`).
//!
//! A copy may also be complete before anything was read of the file that it is made of, which is truncated next. So what is
//! found in a copy is known of that file from then on, and is looked for in the copy when it is gone.
//!
//! Others rename files while a directory is listed, so that a listing shows some twice or not at all. Before anything is
//! given up as lost, the directory is listed until two listings agree; and what lies beside a path is looked at again after
//! each search if its directory has changed since. A name that leads to another file than when it was listed is left to the
//! next listing.
//!
//! What cannot be opened, compared or listed now is none of these. It waits, shows as unread, and is tried again at every
//! look; until then nothing of the path is given up as lost.
//!
//! # Cost
//!
//! A file is opened when its inode, size or time is new, and its first 64 KiB are read. What those and the known positions
//! leave open takes 16 MiB and the seam for each candidate; a compressed file is decompressed up to the seam. The directory
//! is listed once for all of its paths ([`Listings`](super::rotated::Listings)). Nothing of this happens while a log only
//! grows.
//!
//! # Odds
//!
//! Two files are taken for one if the compared bytes agree, or with a chance of 2^-64 for each comparison of hashes; see
//! [`identity`](super::identity). Two generations of equal text, of which only one is left, are one. Of a copy that is
//! shorter than what was read, up to a sixteenth of its end is not compared.
//!
//! # Limits
//!
//! * Below [`COPY_BYTES`](super::sibling::COPY_BYTES), equal text is no proof of a copy if it has no dates or one line only
//!   ([`Shared::is_unique`](super::Shared::is_unique)): a truncation, inodes and times decide, and where they cannot, it is
//!   not read and reported as doubtful.
//! * At most [`SIBLINGS_MAX`] files are open at a time, so that thousands of archives need no more descriptors.
//! * The last [`GONE_MAX`] finished files that lie nowhere are remembered, others for as long as they lie there, and
//!   200,000 of all paths together.
//! * In directories beside the path (`olddir`), only what is not found here is looked for: the rest of what was read. Files
//!   that came while the exporter was stopped, and went there or farther, are not found.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::content::Content;
use super::copies::Verdict;
use super::followed_path::{DRAINING_MAX, FollowedPath, NO_FILE};
use super::generation::Generation;
use super::identity::{Comparison, FileKey, ReadPosition, born_ns, now_ns};
use super::opened::{Depth, Opened, holds};
use super::registry::{Archive, ArchiveKind, GONE_MAX};
use super::sibling::{SIBLINGS_MAX, Sibling};
use super::{End, Event, FileInfo, LostReason, ReadFrom, Shared, Sink, Trouble};

/// How often the directory is listed at most until rotation has left it alone for the time of a listing.
const LISTINGS_MAX: usize = 16;

impl FollowedPath {
    /// Accounts for what lies beside the path. See the [module](self).
    pub(super) fn resolve_rotations(
        &mut self,
        others: &mut [FollowedPath],
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) {
        self.unreadable.clear();
        // Before a compressed form of it is met.
        self.read_on_finished(shared);
        self.reconsider(shared);
        self.unresolved = false;
        let hidden = self.hidden.take();
        let mut before = HashSet::new();
        if let Some(since_ns) = self.first_sight.take() {
            let decided = self.first_sight(since_ns, &mut before, others, shared);
            if !self.unreadable.is_empty() {
                // It is history as well, once it can be read.
                self.unreadable.iter_mut().for_each(|(_, size)| *size = 0);
                self.first_sight = Some(Some(since_ns.unwrap_or_else(now_ns)));
            }
            if decided {
                return self.report_hidden(hidden, sink);
            }
        }
        self.split_truncated(shared, sink);
        let mut listings_left = LISTINGS_MAX;
        let compressed = self.compressed.len();
        let mut is_gone = false;
        loop {
            let mut siblings = self.siblings(&mut before, shared);
            let mut is_last = siblings.len() < SIBLINGS_MAX;
            for depth in [Depth::Seam, Depth::Whole] {
                self.find_files(depth, &mut siblings, shared, sink);
                self.find_archives(depth, &mut siblings, shared, sink);
            }
            // Last, since nothing but the inode speaks for what was never read.
            self.find_files(Depth::Glance, &mut siblings, shared, sink);
            self.find_copies(&mut siblings, shared, sink);
            // What could not be compared may be any of those.
            siblings.retain(|sibling| !sibling.is_elsewhere);
            let failed = siblings.extract_if(.., |sibling| sibling.opened.has_failed());
            failed.for_each(|sibling| self.postpone(&sibling));
            if is_last && self.generations.iter().any(Generation::is_lost) {
                listings_left -= 1;
                is_last = listings_left == 0 || !self.names_changed(shared);
            }
            if is_last {
                is_gone = self.lose_what_is_gone(shared, sink);
            }
            for sibling in siblings.iter().filter(|sibling| !sibling.is_copy) {
                match self.account_for(sibling, others, shared, sink) {
                    Ok(true) => {}
                    Ok(false) => return self.report_hidden(hidden, sink),
                    Err(_) => self.postpone(sibling),
                }
            }
            if is_last {
                break;
            }
        }
        if !is_gone && !self.generations.iter().any(Generation::is_lost) {
            self.keep_compressed_that_match(compressed, shared);
        }
        self.by_time &= self.archives.len() + self.unplaced.len() >= GONE_MAX;
        self.forget_gone(shared);
        if self.unreadable.is_empty() {
            self.overwritten.clear();
        }
        self.report_hidden(hidden, sink);
    }

    /// Reports once that the directory hides what lies beside the path.
    fn report_hidden(&self, before: Option<Trouble>, sink: &mut impl Sink) {
        if let Some(trouble) = self.hidden.filter(|hidden| before != Some(*hidden)) {
            let directory = self.info.path.parent().unwrap_or(&self.info.path);
            let info = FileInfo::left_out(self.info.source, directory);
            sink.event(&info, Event::Unreadable(trouble));
        }
    }

    /// What lies beside a path that was never seen: generations that match the source too are read first, the others are
    /// history, unless they came after `since_ns`. What was decided about, or cannot be read now, is added to `before`. Says
    /// whether that is all.
    fn first_sight(
        &mut self,
        since_ns: Option<i64>,
        before: &mut HashSet<FileKey>,
        others: &mut [FollowedPath],
        shared: &mut Shared,
    ) -> bool {
        let mut left = HashSet::new();
        loop {
            let siblings = self.siblings(before, shared);
            let is_last = siblings.len() < SIBLINGS_MAX;
            for sibling in siblings {
                match self.first_sight_of(&sibling, since_ns, others, shared) {
                    Ok(true) => {}
                    Ok(false) => {
                        left.insert(sibling.opened.key);
                    }
                    Err(_) => self.postpone(&sibling),
                }
            }
            if is_last {
                before.retain(|key| !left.contains(key));
                return since_ns.is_none() && left.is_empty();
            }
        }
    }

    /// Says whether this decides about the file.
    fn first_sight_of(
        &mut self,
        sibling: &Sibling,
        since_ns: Option<i64>,
        others: &mut [FollowedPath],
        shared: &mut Shared,
    ) -> io::Result<bool> {
        let opened = &sibling.opened;
        let is_matched = self.read_from == ReadFrom::Beginning
            && shared.matches(self.info.source, &sibling.path);
        let is_before = |since_ns| opened.born_ns.unwrap_or(opened.modified_ns) <= since_ns;
        if self.may_be_copied_to(sibling)? {
            return Ok(false);
        } else if let Some(generation) = self.claim(opened, &sibling.beginning, others, shared)? {
            shared.registry.open(opened.key, self.index);
            self.insert_old(generation, opened.modified_ns);
        } else if is_matched {
            self.read_news(opened, &sibling.beginning, shared)?;
        } else if since_ns.is_none_or(is_before) {
            self.modified_ns = self.modified_ns.max(opened.modified_ns.saturating_add(1));
            self.remember_unread(opened, shared)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Generations that lost their file find it: by inode ([`Depth::Seam`]) or by content alone.
    pub(super) fn find_files(
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
            let continues = |sibling: &Sibling| {
                let is_candidate = match depth {
                    Depth::Seam | Depth::Glance => fits(&sibling.opened),
                    Depth::Whole => generation.position.may_agree(&sibling.beginning),
                };
                let replaces = || generation.is_replaced_by(&sibling.opened, &sibling.beginning);
                is_candidate
                    && matches!(
                        sibling.opened.compare(&generation.position, depth),
                        Ok(Comparison::Continues)
                    )
                    && (!is_open || replaces().unwrap_or_default())
            };
            let mut found = None;
            for (at, sibling) in siblings.iter().enumerate() {
                // Of several copies, the last has all that the others have.
                let goes_on = |best: usize| {
                    let best = siblings.get(best)?;
                    let end = best.opened.position_at_end().ok()?;
                    Some(sibling.has_more_than(end))
                };
                if continues(sibling) && found.is_none_or(|best| goes_on(best).unwrap_or_default())
                {
                    found = Some(at);
                }
            }
            if let Some(found) = found {
                let sibling = siblings.remove(found);
                let opened = &sibling.opened;
                let old = generation.key.filter(|key| *key != opened.key);
                match generation.attach(opened) {
                    Ok(()) => {
                        generation.size = generation.size.max(opened.size);
                        self.reopen(opened, shared);
                        shared.opened += 1;
                        if let Some(old) = old {
                            self.close(old, shared);
                        }
                    }
                    Err(_) => self.postpone(&sibling),
                }
            } else if depth == Depth::Seam
                && siblings
                    .iter()
                    .any(|s| fits(&s.opened) && !s.opened.has_failed())
            {
                // The file is there and has another content.
                generation.lose_file();
                generation.cut = Some(LostReason::Truncated);
                sink.event(&self.info, Event::Truncated);
            }
        }
    }

    /// Gives up what is nowhere to be found, unless it may be in what cannot be read, or the whole file system is away. Says
    /// whether there is any.
    pub(super) fn lose_what_is_gone(&mut self, shared: &mut Shared, sink: &mut impl Sink) -> bool {
        let is_full = self.generations.len() > DRAINING_MAX;
        if shared.starting || !self.unreadable.is_empty() && !is_full {
            // Another path may yet find it.
            self.unresolved |= shared.starting && self.generations.iter().any(Generation::is_lost);
            return false;
        }
        let path = self.target.as_ref().unwrap_or(&self.info.path);
        let directory = path
            .parent()
            .and_then(|directory| directory.metadata().ok());
        let is_there = self.trouble.is_none() && self.info.path.exists();
        let is_mounted = |key: FileKey| directory.as_ref().is_some_and(|d| d.dev() == key.dev);
        let mut at = 0;
        let before = self.generations.len();
        while let Some(generation) = self.generations.get(at) {
            if generation.is_lost() && (is_there || generation.key.is_none_or(is_mounted)) {
                self.lose(at, shared, sink);
            } else {
                at += 1;
            }
        }
        self.generations.len() < before
    }

    /// Gives up a file that is nowhere to be found.
    pub(super) fn lose(&mut self, at: usize, shared: &mut Shared, sink: &mut impl Sink) {
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
        if !generation.position.is_empty() {
            // It may come back, or a copy of it that could not be read.
            self.remember_gone(Archive {
                key: generation.key.unwrap_or(NO_FILE),
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
        sibling: &Sibling,
        others: &mut [FollowedPath],
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> io::Result<bool> {
        let opened = &sibling.opened;
        match self.verdict(opened, &sibling.beginning, shared)? {
            Verdict::Copy(of) => {
                self.discover_copied(of, opened)?;
                self.remember_read(opened, ArchiveKind::Copy, shared)?;
                return Ok(true);
            }
            Verdict::Doubtful(len) => {
                self.doubt(opened, len, sink);
                return Ok(true);
            }
            Verdict::Same | Verdict::Other => {}
        }
        let truncated = self.generations.iter_mut().find(|g| g.is_truncated());
        if let Some(generation) = truncated {
            // Only now: this may be the copy that was made for it. Its next read leads here again.
            generation.ready = true;
            return Ok(false);
        }
        if let Some(archive) = self.archive_of_another(opened, others, shared) {
            match archive.is_unchanged(opened.size, opened.modified_ns) {
                true => self.remember(archive, shared),
                false => self.read_on(sibling, archive, shared),
            }
            return Ok(true);
        }
        let known = self.known_beginning(opened, &sibling.beginning, shared)?;
        let is_history = known.is_none() && self.is_history(opened, shared);
        opened.check()?;
        if let Some((_, Some(at))) = known {
            self.move_to(at, opened, shared)?;
        } else if let Some((position, None)) = known {
            let mut generation = self.rotated(opened, shared);
            generation.position = position;
            generation.first_time = shared.first_time(self.info.source, opened);
            generation.attach(opened)?;
            self.reopen(opened, shared);
            self.insert_old(generation, opened.modified_ns);
        } else if let Some(generation) = self.claim(opened, &sibling.beginning, others, shared)? {
            shared.registry.open(opened.key, self.index);
            self.insert_old(generation, opened.modified_ns);
        } else if self.by_time && opened.modified_ns < self.modified_ns {
            self.remember_unread(opened, shared)?;
        } else if is_history {
            self.remember_unread(opened, shared)?;
            sink.event(&self.info, Event::History { bytes: opened.size });
        } else {
            let is_undecided = self.read_news(opened, &sibling.beginning, shared)?;
            if !is_undecided {
                sink.event(&self.info, Event::Rotated);
            }
        }
        Ok(true)
    }

    /// Its lines are older than all that was read of this path, by the dates that the collector wrote.
    pub(super) fn is_history(&self, opened: &Opened, shared: &Shared) -> bool {
        let archives = self.finished_files(shared);
        let archives = archives
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
                let is_in = generation.key == Some(opened.key);
                let depth = match is_in {
                    true => Depth::Seam,
                    false => Depth::Whole,
                };
                if opened.compare(&generation.position, depth)? != Comparison::Continues
                    || !is_in
                        && (holds(&other.info.path, &generation.position)?
                            || other.has_beside(generation, shared)?)
                {
                    continue;
                }
                let Some(generation) = other.generations.get_mut(at) else {
                    continue;
                };
                let key = generation.key;
                generation.attach(opened)?;
                let generation = other.generations.remove(at);
                if let Some(key) = key {
                    other.close(key, shared);
                }
                return Ok(Some(generation));
            }
        }
        Ok(None)
    }

    /// The file of this generation is there under another name, so that what says the same is another.
    pub(super) fn has_beside(
        &self,
        generation: &Generation,
        shared: &mut Shared,
    ) -> io::Result<bool> {
        let is_in = |m: &Metadata| generation.is_in(FileKey::of(m), born_ns(m));
        self.lies_beside(&generation.position, is_in, shared)
    }

    /// A generation of a file that was rotated away.
    pub(super) fn rotated(&self, opened: &Opened, shared: &mut Shared) -> Generation {
        let mut generation = Generation::new(shared.next_id(), Some(opened.key), Content::Closed);
        generation.current = false;
        generation.size = opened.size;
        generation
    }

    /// Reads a file that was rotated away from its first byte. Says whether it is empty, so that it is not decided what it
    /// is.
    fn read_news(
        &mut self,
        opened: &Opened,
        beginning: &ReadPosition,
        shared: &mut Shared,
    ) -> io::Result<bool> {
        let mut generation = self.rotated(opened, shared);
        generation.content = opened.content()?;
        generation.first_time = shared.first_time(self.info.source, opened);
        generation.discover(opened, beginning.clone());
        generation.undecided = opened.size == 0 && !opened.is_compressed();
        let is_undecided = generation.undecided;
        shared.registry.open(opened.key, self.index);
        self.insert_old(generation, opened.modified_ns);
        Ok(is_undecided)
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

    /// Adds a file that was rotated away, behind those that are older: not before any that was begun.
    pub(super) fn insert_old(&mut self, mut generation: Generation, changed_ns: i64) {
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
}
