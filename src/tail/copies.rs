//! Copies: of a file that was truncated, of one that is open, and archives made by appending.

use std::io;
use std::os::unix::fs::MetadataExt;

use super::followed_path::FollowedPath;
use super::generation::Generation;
use super::identity::{CHAIN_BYTES, Comparison, FileKey, born_ns, modified_ns};
use super::opened::Opened;
use super::registry::{Archive, ArchiveKind, GONE_MAX, Known};
use super::sibling::{COPY_BYTES, Sibling, keeps_time};
use super::{Event, LostReason, Shared, Sink, is_absent};

/// Whether `opened`, whose `len` bytes all are in the generation's file too, is a copy of that or was compressed from it, or
/// a file of its own that says the same; `None` if nobody can tell. `is_overwritten`: it had another content before.
pub(super) fn is_copy(
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
        if let Some(other) = other.filter(|other| *other != born_ns) {
            // The inode of what was written over an older file says nothing.
            return Some(other > born_ns || is_overwritten && opened.modified_ns >= born_ns);
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

impl FollowedPath {
    /// Rotated files that were empty say something now: they are accounted for by that. Says whether there is one.
    pub(super) fn reconsider(&mut self, shared: &mut Shared) -> bool {
        let mut found = false;
        let mut at = 0;
        while let Some(generation) = self.generations.get(at) {
            let is_beside = match generation.has_to_be_decided() {
                true => self.is_beside(generation, shared),
                false => Ok(false),
            };
            match (is_beside, self.generations.get_mut(at)) {
                (Ok(true), _) => {
                    let generation = self.generations.remove(at);
                    if let Some(key) = generation.key {
                        self.overwritten.push(key);
                        self.close(key, shared);
                    }
                    found = true;
                    continue;
                }
                // Nobody but this descriptor has it.
                (Ok(false), Some(generation)) if generation.has_to_be_decided() => {
                    generation.undecided = false;
                }
                _ => {}
            }
            at += 1;
        }
        self.unresolved |= found;
        found
    }

    /// The inode of the generation has a name beside the path.
    ///
    /// # Errors
    ///
    /// If that cannot be told now.
    pub(super) fn is_beside(
        &self,
        generation: &Generation,
        shared: &mut Shared,
    ) -> io::Result<bool> {
        for path in self.sibling_paths(shared)? {
            match path.metadata() {
                Ok(m) if generation.is_in(FileKey::of(&m), born_ns(&m)) => return Ok(true),
                Err(error) if !is_absent(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(false)
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
            let position = opened.position_at_end()?;
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
        self.remember_read(opened, ArchiveKind::Read, shared)?;
        if let Some(generation) = self.generations.get_mut(at) {
            // It can only have been truncated, if it is there no more and a copy of it is.
            generation.cut = Some(LostReason::Truncated);
        }
        self.lose(at, shared, sink);
        Ok(true)
    }

    /// An archive has grown by what a truncated generation said (`cat m >> m.old; : > m`). Says whether it has.
    pub(super) fn find_appended(
        &mut self,
        opened: &Opened,
        archive: &Archive,
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> io::Result<bool> {
        let from = archive.position.offset();
        let mut is_copy = false;
        let mut at = 0;
        while let Some(generation) = self.generations.get(at) {
            let compared = match generation.position.is_empty() {
                true => Comparison::Differs,
                false => opened.compare_behind(from, &generation.position)?,
            };
            let len = match compared {
                Comparison::Continues => generation.position.offset(),
                Comparison::Begins(len) if len > 0 => len,
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
            if from + next.min(len) < opened.size {
                // Behind what was read, the archive goes on.
                let position = opened.position_at(from + next, CHAIN_BYTES)?;
                let mut rest = self.rotated(opened, shared);
                rest.position = position;
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
        }
        Ok(is_copy)
    }

    /// A copy that has grown is a copy still being made if it is in a file that is open.
    pub(super) fn is_copy_of_open(&self, sibling: &Sibling) -> io::Result<bool> {
        for generation in &self.generations {
            if generation
                .contains(&sibling.opened, &sibling.beginning)?
                .is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
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
