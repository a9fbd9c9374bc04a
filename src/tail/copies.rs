//! Copies: of a file that was truncated, of one that is open, and archives made by appending.

use std::io;
use std::os::unix::fs::MetadataExt;

use super::content::{Content, is_damage};
use super::followed_path::FollowedPath;
use super::generation::Generation;
use super::identity::{Comparison, FileKey, ReadPosition, born_ns, modified_ns};
use super::opened::{Depth, Opened, compare};
use super::registry::{Archive, ArchiveKind, GONE_MAX, Known};
use super::sibling::{COPY_BYTES, Sibling, keeps_time};
use super::{Event, LostReason, Shared, Sink};

/// Whether what a file beside the path says was counted already, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it is in another file that was read, or in that of the generation at this place, which is open.
    Copy(Option<usize>),
    /// So many bytes, all that it has, are, and nobody can tell whether it is a copy or says the same by chance.
    Doubtful(u64),
    /// It says the same as another, by chance.
    Same,
    /// It says something else.
    Other,
}

/// Whether `opened`, whose `len` bytes all are in the generation's file too, is a copy of that or was compressed from it, or
/// a file of its own that says the same; `None` if nobody can tell. `is_overwritten`: it had another content before.
fn is_copy(
    generation: &Generation,
    opened: &Opened,
    len: u64,
    is_overwritten: bool,
) -> Option<bool> {
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
        if let Some(other) = other.filter(|other| *other != born_ns || is_overwritten) {
            // The inode of what was written over an older file says nothing.
            return Some(other > born_ns || is_overwritten && opened.modified_ns >= born_ns);
        }
    }
    // What was truncated is in copies only.
    if len >= COPY_BYTES || generation.cut == Some(LostReason::Truncated) {
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

impl Generation {
    /// All of `other` (uncompressed) is in this generation's file too, which is open: it is a copy of it (perhaps in the
    /// making), was compressed from it, or happens to say the same. Its length if so. `beginning` is what `other` begins
    /// with: most files differ there.
    pub(super) fn contains(
        &self,
        other: &Opened,
        beginning: &ReadPosition,
    ) -> io::Result<Option<u64>> {
        let Some(reader) = self.reader() else {
            return Ok(None);
        };
        if !self.position.may_agree(beginning) {
            return Ok(None);
        }
        let end = other.position_at_end()?;
        match compare(reader, end, Depth::Whole) {
            Ok(Comparison::Continues) => Ok(Some(end.offset()).filter(|len| *len > 0)),
            Err(error) if matches!(self.content, Content::Plain(_)) || !is_damage(&error) => {
                Err(error)
            }
            _ => Ok(None),
        }
    }

    /// The file is open and has no name any more, and `opened` may have all of it: somebody saved it anew. (What is only
    /// compressed from it is a copy: a late writer may go on in this one.)
    pub(super) fn is_replaced_by(
        &self,
        opened: &Opened,
        beginning: &ReadPosition,
    ) -> io::Result<bool> {
        let Some(metadata) = self.metadata().filter(|m| m.nlink() == 0) else {
            return Ok(false);
        };
        Ok(match (&self.content, opened.is_compressed()) {
            (Content::Plain(_), false) => metadata.len() <= opened.size,
            (Content::Plain(_), true) => {
                metadata.len() <= self.position.offset()
                    && self.contains(opened, beginning)?.is_none()
            }
            _ => false,
        })
    }

    /// How many of the bytes that were read from this generation `other` has, if it has nothing else; and whether it
    /// goes on behind them.
    pub(super) fn compare(&self, other: &Opened) -> io::Result<Comparison> {
        match self.position.is_empty() {
            true => Ok(Comparison::Differs),
            false => other.compare(&self.position, Depth::Whole),
        }
    }

    /// How many of the bytes that were read from this generation `other` has behind `from`, if it begins with them there.
    fn appended_to(&self, other: &Opened, from: u64) -> io::Result<Option<u64>> {
        if self.position.is_empty() {
            return Ok(None);
        }
        Ok(match other.compare_behind(from, &self.position)? {
            Comparison::Continues => Some(self.position.offset()),
            Comparison::Begins(len) if len > 0 => Some(len),
            Comparison::Begins(_) | Comparison::Differs => None,
        })
    }
}

impl FollowedPath {
    /// Whether all that a file beside the path says is in a file that is read, or in one that was finished. Lines with a
    /// date are [not said twice](Shared::is_unique); otherwise it is a matter of length, inodes and times.
    ///
    /// # Errors
    ///
    /// If that cannot be determined now.
    pub(super) fn verdict(
        &self,
        opened: &Opened,
        beginning: &ReadPosition,
        shared: &mut Shared,
    ) -> io::Result<Verdict> {
        let is_overwritten = self.is_overwritten(opened, shared);
        let mut verdict = Verdict::Other;
        for (at, generation) in self.generations.iter().enumerate() {
            let Some(len) = generation.contains(opened, beginning)? else {
                continue;
            };
            match is_copy(generation, opened, len, is_overwritten) {
                _ if shared.is_unique(self.info.source, opened, len) => {
                    return Ok(Verdict::Copy(Some(at)));
                }
                Some(true) => return Ok(Verdict::Copy(Some(at))),
                Some(false) if verdict == Verdict::Other => verdict = Verdict::Same,
                Some(false) => {}
                None => verdict = Verdict::Doubtful(len),
            }
        }
        for archive in self.archives_like(beginning, shared) {
            let contained = self.is_in_archive(&archive, opened, beginning, shared)?;
            let Some((len, is_proven)) = contained else {
                continue;
            };
            let is_unique = shared.is_unique(self.info.source, opened, len);
            match len >= COPY_BYTES {
                _ if is_unique => return Ok(Verdict::Copy(None)),
                true if is_proven => return Ok(Verdict::Copy(None)),
                true => verdict = Verdict::Doubtful(len),
                false if verdict == Verdict::Other => verdict = Verdict::Same,
                false => {}
            }
        }
        Ok(verdict)
    }

    /// The file has what is known of a generation: it may be a copy that was made since the path was looked at.
    ///
    /// # Errors
    ///
    /// If that cannot be determined now.
    pub(super) fn may_be_copied_to(&self, sibling: &Sibling) -> io::Result<bool> {
        for generation in &self.generations {
            if generation.position.may_agree(&sibling.beginning)
                && generation.compare(&sibling.opened)? == Comparison::Continues
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A copy has all that the file of the generation at `at` said then, which may be truncated before that is read: it is
    /// known from now on, so that it is looked for in the copy.
    ///
    /// # Errors
    ///
    /// If the copy cannot be read now.
    pub(super) fn discover_copied(&mut self, at: Option<usize>, copy: &Opened) -> io::Result<()> {
        if let Some(generation) = at.and_then(|at| self.generations.get_mut(at))
            && matches!(generation.content, Content::Plain(_))
        {
            let end = copy.position_at_end()?;
            if end.offset() > generation.position.offset() {
                generation.resume_at = Some(generation.next_offset());
                generation.position.clone_from(end);
                generation.size = generation.size.max(end.offset());
            }
        }
        Ok(())
    }

    /// Rotated files that were empty say something now: they are accounted for by that. Says whether there is one.
    pub(super) fn reconsider(&mut self, shared: &mut Shared) -> bool {
        let say_something = self
            .generations
            .extract_if(.., |g| g.has_to_be_decided())
            .collect::<Vec<_>>();
        let found = !say_something.is_empty();
        for generation in say_something {
            self.account_anew(generation.key, generation.content, shared);
        }
        self.unresolved |= found;
        found
    }

    /// What the file of a generation says now is accounted for as what lies beside the path, whatever its name is.
    pub(super) fn account_anew(
        &mut self,
        key: Option<FileKey>,
        content: Content,
        shared: &mut Shared,
    ) {
        if let Some(key) = key {
            self.overwritten.push(key);
            self.close(key, shared);
        }
        if let Content::Plain(file) = content {
            self.rewritten.push(file);
        }
    }

    /// The file had another content before.
    pub(super) fn is_overwritten(&self, opened: &Opened, shared: &Shared) -> bool {
        let is_it = |key: &FileKey| *key == opened.key;
        self.overwritten.iter().any(is_it)
            || self.unplaced.iter().any(|archive| is_it(&archive.key))
            || matches!(shared.registry.get(opened.key), Some(Known::Done(..)))
    }

    /// Generations that lost their file find a copy that is shorter than what was read.
    pub(super) fn find_copies(
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
            match self.take_copy(at, &sibling.opened, len, shared, sink) {
                Ok(is_finished) => at += usize::from(!is_finished),
                Err(_) => {
                    self.postpone(&sibling);
                    at += 1;
                }
            }
        }
    }

    /// `opened` has the first `len` bytes of what is known of a generation that lost its file. Says whether that is
    /// finished with this.
    pub(super) fn take_copy(
        &mut self,
        at: usize,
        opened: &Opened,
        len: u64,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> io::Result<bool> {
        let Some(generation) = self.generations.get_mut(at) else {
            return Ok(true);
        };
        if len > generation.next_offset() {
            // Not all of it was handed on.
            let position = opened.position_at_end()?.clone();
            let resume_at = Some(generation.next_offset());
            let before = std::mem::replace(&mut generation.position, position);
            let resume_before = std::mem::replace(&mut generation.resume_at, resume_at);
            if let Err(error) = generation.attach(opened) {
                (generation.position, generation.resume_at) = (before, resume_before);
                return Err(error);
            }
            let was_cut = generation.cut.replace(LostReason::Truncated).is_some();
            let missing = generation.size.saturating_sub(len);
            shared.registry.open(opened.key, self.index);
            if !was_cut {
                sink.event(&self.info, Event::Truncated);
            }
            if missing > 0 {
                let reason = LostReason::Truncated;
                let bytes = missing;
                sink.event(&self.info, Event::Lost { bytes, reason });
            }
            return Ok(false);
        }
        // Somebody may be writing the rest of it.
        let kind = match opened.was_written_within(shared.options.drain_grace) {
            true => ArchiveKind::Copy,
            false => ArchiveKind::Read,
        };
        self.remember_read(opened, kind, shared)?;
        if let Some(generation) = self.generations.get_mut(at) {
            // It can only have been truncated, if it is there no more and a copy of it is.
            generation.cut = Some(LostReason::Truncated);
        }
        self.lose(at, shared, sink);
        Ok(true)
    }

    /// An archive has grown by what a truncated generation said (`cat m >> m.old; : > m`). Says whether it has. As long as
    /// that is not truncated, the archive is known as before: it may be in the making.
    pub(super) fn find_appended(
        &mut self,
        opened: &Opened,
        archive: &Archive,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> io::Result<bool> {
        let from = archive.position.offset();
        let (mut is_copy, mut is_in_the_making) = (false, false);
        let mut at = 0;
        while let Some(generation) = self.generations.get(at) {
            let Some(len) = generation.appended_to(opened, from)? else {
                at += 1;
                continue;
            };
            let next = generation.next_offset();
            if generation.is_open() {
                is_in_the_making = true;
                at += 1;
                continue;
            }
            is_copy = true;
            let end = match opened.is_compressed() {
                true => opened.position_at_end()?.offset(),
                false => opened.size,
            };
            if from + next.min(len) < end {
                // Behind what was read, the archive goes on.
                let position = opened.position_at_end()?.clone();
                let mut rest = self.rotated(opened, shared);
                rest.position = position;
                rest.resume_at = Some(from + next);
                rest.cut = Some(LostReason::Truncated);
                rest.attach(opened)?;
                shared.registry.open(opened.key, self.index);
                if let Some(generation) = self.generations.get_mut(at) {
                    generation.size = generation.size.min(next);
                }
                self.lose(at, shared, sink);
                self.insert_old(rest, opened.modified_ns);
                return Ok(true);
            }
            self.lose(at, shared, sink);
        }
        if is_copy {
            self.remember_read(opened, ArchiveKind::Read, shared)?;
        } else if is_in_the_making {
            self.keep(archive.clone(), shared);
        }
        Ok(is_copy || is_in_the_making)
    }

    /// What a file has behind `from` was read from another: that is appended to it.
    pub(super) fn is_appended(&self, opened: &Opened, from: u64) -> bool {
        let mut generations = self.generations.iter();
        generations.any(|generation| matches!(generation.appended_to(opened, from), Ok(Some(_))))
    }

    /// Where a file goes on behind the longest of those that are read or were read, and which generation reads that: it is a
    /// later copy of what that is a copy of. Only where its lines are [not said twice](Shared::is_unique) or the other was truncated, since two files may
    /// begin with the same header.
    ///
    /// # Errors
    ///
    /// If that cannot be determined now.
    pub(super) fn known_beginning(
        &self,
        opened: &Opened,
        beginning: &ReadPosition,
        shared: &Shared,
    ) -> io::Result<Option<(ReadPosition, Option<usize>)>> {
        let mut longest: Option<(ReadPosition, Option<usize>)> = None;
        let mut consider = |end: &ReadPosition, at: Option<usize>| -> io::Result<()> {
            let is_longer = end.offset() > longest.as_ref().map_or(0, |(end, _)| end.offset());
            let generation = at.and_then(|at| self.generations.get(at));
            let was_truncated = generation.is_some_and(|g| g.cut == Some(LostReason::Truncated));
            if is_longer
                && end.may_agree(beginning)
                && (was_truncated || shared.is_unique(self.info.source, opened, end.offset()))
                && opened.compare(end, Depth::Whole)? == Comparison::Continues
            {
                longest = Some((end.clone(), at));
            }
            Ok(())
        };
        for (at, generation) in self.generations.iter().enumerate() {
            if !generation.current
                && generation.position.may_agree(beginning)
                && let Some(file) = generation.reopened()?
            {
                consider(file.position_at_end()?, Some(at))?;
            }
        }
        for archive in self.finished_files(shared) {
            consider(&archive.position, None)?;
        }
        let Some((first, at)) = longest else {
            return Ok(None);
        };
        let end = self.end_of_known(opened, &first, shared)?;
        let at = at.filter(|_| end.offset() == first.offset());
        Ok(Some((end, at)))
    }

    /// Where a file goes on behind what was read, if it was joined of several others (`cat m.2 m.1 > m-DATE`). The first
    /// of them ends at `first`.
    ///
    /// # Errors
    ///
    /// If that cannot be determined now.
    pub(super) fn end_of_known(
        &self,
        opened: &Opened,
        first: &ReadPosition,
        shared: &Shared,
    ) -> io::Result<ReadPosition> {
        let mut read = Vec::new();
        for generation in &self.generations {
            if let Some(file) = generation.reopened()? {
                read.push(file.position_at_end()?.clone());
            }
        }
        let finished = self.finished_files(shared);
        let finished = finished.filter(|archive| archive.kind != ArchiveKind::History);
        read.extend(finished.map(|archive| archive.position.clone()));
        let mut end = first.offset();
        loop {
            let bytes = opened.bytes_behind(end)?;
            let mut beginning = ReadPosition::default();
            beginning.advance(&bytes);
            let mut longest = 0;
            for position in &read {
                let len = position.offset();
                if len <= longest
                    || !position.may_agree(&beginning)
                    || !shared.is_unique_in(self.info.source, &bytes, len)
                {
                    continue;
                }
                match opened.compare_behind(end, position)? {
                    Comparison::Continues => longest = len,
                    Comparison::Begins(len) if len > 0 => {
                        return opened.position_at_end().cloned();
                    }
                    Comparison::Begins(_) | Comparison::Differs => {}
                }
            }
            if longest == 0 {
                return match end == first.offset() {
                    true => Ok(first.clone()),
                    false => opened.position_of(end),
                };
            }
            end += longest;
        }
    }

    /// A generation goes on in a later copy of what it is a copy of: an unfinished line at its end may be whole there.
    pub(super) fn move_to(
        &mut self,
        at: usize,
        opened: &Opened,
        shared: &mut Shared,
    ) -> io::Result<()> {
        let Some(generation) = self.generations.get_mut(at) else {
            return Ok(());
        };
        let former = generation.reopened()?;
        generation.attach(opened)?;
        generation.size = generation.size.max(opened.size);
        shared.registry.open(opened.key, self.index);
        match former {
            Some(former) => self.remember_read(&former, ArchiveKind::Copy, shared),
            None => Ok(()),
        }
    }

    /// A copy that has grown has what was read from a generation that lost its file.
    pub(super) fn is_copy_of_lost(&self, sibling: &Sibling) -> bool {
        let lost = self
            .generations
            .iter()
            .filter(|g| !g.is_open() && !g.current);
        lost.filter(|g| g.position.may_agree(&sibling.beginning))
            .any(|generation| match generation.compare(&sibling.opened) {
                Ok(Comparison::Begins(len)) => len > 0,
                Ok(Comparison::Continues) => true,
                _ => false,
            })
    }

    /// Tells once that a file may or may not be a copy of one that was read.
    pub(super) fn doubt(&mut self, opened: &Opened, bytes: u64, sink: &mut impl Sink) {
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
}
