//! What is at a followed path now: the file that was there, another, or none.

use std::io;
use std::ops::Range;
use std::path::Path;

use super::content::{Content, open_fifo};
use super::followed_path::{FollowedPath, TICK_NS};
use super::generation::Generation;
use super::identity::{CHAIN_BYTES, Comparison, FileKey, ReadPosition, modified_ns, now_ns};
use super::opened::{Depth, Opened};
use super::registry::{ArchiveKind, Known};
use super::{Event, LostReason, ReadFrom, Shared, Sink, Trouble, is_absent};

impl FollowedPath {
    /// Some file was rotated away, or truncated, and is not found.
    pub(super) fn has_lost_sight(&self) -> bool {
        let is_lost = |generation: &Generation| !generation.current && !generation.is_open();
        self.generations.iter().any(is_lost) || !self.unreadable.is_empty()
    }

    /// Sees what is at the path now.
    pub(super) fn look(
        &mut self,
        others: &mut [FollowedPath],
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) {
        self.look = false;
        self.compressed.retain(|(file, _)| file.exists());
        self.check_finished = self.finished.is_some();
        if self.info.is_standard_input() {
            if !self.seen {
                self.seen = true;
                shared.pipes = true;
                let content = Content::StandardInput;
                let generation = Generation::new(shared.next_id(), None, content);
                self.generations.push(generation);
            }
            return;
        }
        let metadata = match self.info.path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => {
                self.trouble = None;
                self.retire_current();
                if !self.seen && !std::mem::replace(&mut self.awaited, true) {
                    self.first_sight = Some(Some(now_ns()));
                    self.unresolved = true;
                    self.modified_ns = now_ns().saturating_sub(TICK_NS);
                } else {
                    self.unresolved |= self.has_lost_sight() || self.directories_changed();
                }
                return;
            }
            Err(error) => return self.report(Trouble::of(&error), sink),
        };
        self.unresolved |= !self.unreadable.is_empty();
        if std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()) {
            if !self.current().is_some_and(Generation::is_pipe) {
                match open_fifo(&self.info.path) {
                    Ok(content) => {
                        self.retire_current();
                        self.trouble = None;
                        shared.pipes = true;
                        let generation = Generation::new(shared.next_id(), None, content);
                        self.generations.push(generation);
                    }
                    Err(error) => self.report(Trouble::of(&error), sink),
                }
            }
            return;
        }
        let key = FileKey::of(&metadata);
        if self.alias == Some(key)
            && matches!(shared.registry.get(key), Some(Known::Open(path)) if *path != self.index)
        {
            return;
        }
        self.alias = None;
        if let Some(current) = self.current_mut()
            && current.key == Some(key)
        {
            let modified_ns = modified_ns(&metadata);
            let changed =
                metadata.len() != current.next_offset() || modified_ns != current.looked_ns;
            current.looked_size = metadata.len();
            current.looked_ns = modified_ns;
            current.ready |= changed;
            let is_empty = current.position.is_empty() && metadata.len() == 0;
            let known = current.is_open() || !changed;
            if known {
                // What it said between two looks may be in a copy, and a directory that is listed while names change in it
                // shows some of them twice or not at all.
                let look_beside = is_empty || std::mem::take(&mut self.look_beside);
                self.unresolved |= look_beside && self.directories_changed();
                return;
            }
        }
        if let Some(Known::Done(_, archive)) = shared.registry.get(key)
            && archive.kind == ArchiveKind::Read
            && archive.is_unchanged(metadata.len(), modified_ns(&metadata))
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
                if let Err(error) = self.arrive(opened, others, shared, sink) {
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
    pub(super) fn directories_changed(&mut self) -> bool {
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

    /// The generation of this path that `opened` continues.
    pub(super) fn find(
        &self,
        opened: &Opened,
        beginning: &ReadPosition,
        shared: &mut Shared,
    ) -> io::Result<Option<usize>> {
        let fits = |generation: &Generation| generation.is_in(opened.key, opened.born_ns);
        for (at, generation) in self.generations.iter().enumerate() {
            if fits(generation)
                && (generation.is_open()
                    || opened.compare(&generation.position, Depth::Seam)? == Comparison::Continues)
            {
                return Ok(Some(at));
            }
        }
        let mut found = None;
        for (at, generation) in self.generations.iter().enumerate() {
            if !fits(generation)
                && (!generation.is_open() || generation.is_replaced_by(opened, beginning)?)
                && !generation.position.is_empty()
                && generation.position.may_agree(beginning)
                && opened.compare(&generation.position, Depth::Whole)? == Comparison::Continues
                && !self.has_beside(generation, shared)?
            {
                found = Some(at);
            }
        }
        Ok(found)
    }

    /// The youngest file of the path that is open and all of whose content `opened` has: somebody put a copy in its place
    /// (`mv m m~; cp m~ m`), whether that was read or not. Only where its lines are [not said twice](Shared::is_unique).
    fn copied_from(
        &self,
        opened: &Opened,
        beginning: &ReadPosition,
        shared: &Shared,
    ) -> io::Result<Option<(usize, Opened)>> {
        for (at, generation) in self.generations.iter().enumerate().rev() {
            let is_read = !generation.position.is_empty();
            if !matches!(generation.content, Content::Plain(_))
                || is_read && !generation.position.may_agree(beginning)
            {
                continue;
            }
            let Some(old) = generation.reopened()? else {
                continue;
            };
            if !is_read && !old.beginning()?.may_agree(beginning) {
                continue;
            }
            let end = old.position_at_end()?;
            if !end.is_empty()
                && shared.is_unique(self.info.source, opened, end.offset())
                && opened.compare(end, Depth::Whole)? == Comparison::Continues
            {
                return Ok(Some((at, old)));
            }
        }
        Ok(None)
    }

    /// `opened` says nothing but the beginning of what was at the path before, and that lies beside the path no more.
    fn is_beginning_of_known(
        &self,
        opened: &Opened,
        beginning: &ReadPosition,
        shared: &mut Shared,
    ) -> io::Result<bool> {
        for generation in &self.generations {
            let old = generation.reopened()?;
            let known = match &old {
                Some(old) => old.position_at_end()?,
                None => &generation.position,
            };
            if known.may_agree(beginning)
                && matches!(opened.compare(known, Depth::Whole)?, Comparison::Begins(len) if len > 0)
            {
                return Ok(true);
            }
        }
        for archive in self.archives_like(beginning, shared) {
            if archive.kind == ArchiveKind::Read
                && self
                    .is_in_archive(&archive, opened, beginning, shared)?
                    .is_some()
                && !self.lies_elsewhere(&archive, opened, shared)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The file at the path was empty when it was found, and begins with what another began with: it may be a copy of that,
    /// and is looked at again as a whole.
    pub(super) fn says_what_is_known(
        &mut self,
        at: usize,
        first: &Range<usize>,
        shared: &mut Shared,
    ) -> bool {
        let Some(generation) = self.generations.get(at).filter(|g| g.current) else {
            return false;
        };
        let mut beginning = ReadPosition::default();
        beginning.advance(shared.chunk.buffer.get(first.clone()).unwrap_or_default());
        let finished = self.finished_files(shared);
        let finished = finished.filter(|archive| archive.kind == ArchiveKind::Read);
        let begun = self.generations.iter().filter(|g| !g.current);
        let is_known = begun
            .map(|generation| &generation.position)
            .chain(finished.map(|archive| &archive.position))
            .any(|known| !known.is_empty() && known.may_agree(&beginning));
        if !is_known || generation.is_pipe() {
            return false;
        }
        let key = self.generations.remove(at).key;
        key.iter().for_each(|key| self.close(*key, shared));
        self.look = true;
        true
    }

    /// A new file, or one from elsewhere, is at the path.
    pub(super) fn arrive(
        &mut self,
        opened: Opened,
        others: &mut [FollowedPath],
        shared: &mut Shared,
        sink: &mut impl Sink,
    ) -> io::Result<()> {
        shared.opened += 1;
        // What this may be a copy of, if it is in no other file any more.
        self.split_truncated(shared, sink);
        let key = opened.key;
        let beginning = opened.beginning()?;
        let mut found = self.find(&opened, &beginning, shared)?;
        let mut is_known = false;
        if found.is_none() && !opened.is_compressed() && opened.size > 0 {
            if let Some((at, old)) = self.copied_from(&opened, &beginning, shared)? {
                // Whoever has it open may write to it still.
                self.remember_read(&old, ArchiveKind::Read, shared)?;
                if let Content::Plain(file) = old.content()? {
                    self.keep_open(old.key, file);
                }
                if let Some(generation) = self.generations.get_mut(at)
                    && generation.position.is_empty()
                {
                    generation.discover(&opened, beginning.clone());
                }
                self.unresolved = true;
                found = Some(at);
            } else if self.is_beginning_of_known(&opened, &beginning, shared)? {
                if opened.was_written_within(shared.options.drain_grace)
                    && shared.may_be_dated(self.info.source, &opened)
                {
                    // The copy is being made.
                    self.retire_current();
                    return Ok(());
                }
                is_known = shared.is_unique(self.info.source, &opened, opened.size);
            }
        }
        if let Some(at) = found
            && let Some(generation) = self.generations.get_mut(at)
        {
            if generation.key != Some(key) || !generation.is_open() {
                let old = generation.key.filter(|old| *old != key);
                generation.attach(&opened)?;
                shared.registry.open(key, self.index);
                if let Some(old) = old {
                    self.close(old, shared);
                }
            }
            if self.generations.get(at).is_some_and(|g| !g.current) {
                let generation = self.generations.remove(at);
                // Between what was there before and the file that is there now may be others.
                self.make_current(generation, &opened);
            }
            return Ok(());
        }
        if matches!(shared.registry.get(key), Some(Known::Open(path)) if *path != self.index) {
            self.lose_overwritten(&opened);
            self.retire_current();
            self.alias = Some(key);
            return Ok(());
        }
        // Whatever fails is asked before anything is changed.
        let generation = match self.claim(&opened, &beginning, others, shared)? {
            Some(generation) => generation,
            None => {
                let mut generation = self.first_generation(&opened, beginning, others, shared)?;
                if is_known && generation.next_offset() == 0 {
                    generation.position.clone_from(opened.position_at_end()?);
                    generation.resume_at = None;
                }
                generation
            }
        };
        let event = self.lose_overwritten(&opened);
        let was_seen = std::mem::replace(&mut self.seen, true);
        shared.registry.open(key, self.index);
        self.make_current(generation, &opened);
        if was_seen {
            sink.event(&self.info, event);
        } else {
            self.unsaved = shared.options.durable;
            self.was_saved_empty = self.unsaved && opened.size == 0;
            shared.unsaved |= self.unsaved;
            if !self.awaited {
                self.first_sight = Some(None);
            }
        }
        Ok(())
    }

    /// A generation of a file that no path has lost: known and finished before, or new.
    fn first_generation(
        &mut self,
        opened: &Opened,
        beginning: ReadPosition,
        others: &mut [FollowedPath],
        shared: &mut Shared,
    ) -> io::Result<Generation> {
        let mut generation = Generation::new(shared.next_id(), Some(opened.key), opened.content()?);
        let archive = match shared.registry.get(opened.key) {
            Some(Known::Done(_, archive)) => Some(archive.clone())
                .filter(|archive| !archive.position.is_empty())
                .filter(|archive| archive.is_continued_by(opened, Depth::Seam)),
            _ => None,
        };
        let archive = match archive {
            Some(archive) => Some(archive),
            None => self.claim_archive(opened, &beginning, others, shared)?,
        };
        if let Some(archive) = archive {
            generation.position.clone_from(&archive.position);
            generation.first_time = archive.first_time;
            if let Err(error) = generation.attach(opened) {
                self.keep(archive, shared);
                return Err(error);
            }
            self.reopen(opened, shared);
            return Ok(generation);
        }
        generation.first_time = shared.first_time(self.info.source, opened);
        generation.discover(opened, beginning);
        let from_end = !self.seen && shared.starting && self.read_from == ReadFrom::End;
        if from_end && !opened.is_compressed() {
            generation.position = opened.position_at(opened.end_of_last_line()?, CHAIN_BYTES)?;
            generation.resume_at = None;
        }
        opened.check()?;
        Ok(generation)
    }

    /// The file has another content than a generation that was in its inode: it was truncated, or the inode was given to
    /// another file.
    fn lose_overwritten(&mut self, opened: &Opened) -> Event {
        let fits = |generation: &&mut Generation| generation.key == Some(opened.key);
        let Some(generation) = self.generations.iter_mut().find(fits) else {
            return Event::Rotated;
        };
        let is_same = generation.is_in(opened.key, opened.born_ns);
        generation.lose_file();
        if !is_same {
            return Event::Rotated;
        }
        generation.cut = Some(LostReason::Truncated);
        Event::Truncated
    }

    pub(super) fn make_current(&mut self, mut generation: Generation, opened: &Opened) {
        self.retire_current();
        // Nothing is written to a compressed file; it is finished at its end.
        generation.current = !opened.is_compressed();
        generation.ready = true;
        generation.quiet_since = None;
        generation.cut = None;
        generation.size = generation.size.max(opened.size);
        generation.modified_ns = opened.modified_ns;
        generation.looked_ns = opened.modified_ns;
        generation.looked_size = opened.size;
        generation.target.clone_from(&self.target);
        self.generations.push(generation);
        self.modified_ns = opened.modified_ns;
        self.unresolved = true;
    }

    /// Another path of the same files leads to a file that this path has lost sight of.
    pub(super) fn adopt(&mut self, path: &Path, shared: &mut Shared) {
        let Ok(opened) = Opened::open(path) else {
            return;
        };
        let lost = self
            .generations
            .iter_mut()
            .find(|generation| generation.key == Some(opened.key) && !generation.is_open());
        if let Some(generation) = lost
            && matches!(
                opened.compare(&generation.position, Depth::Seam),
                Ok(Comparison::Continues)
            )
            && generation.attach(&opened).is_ok()
        {
            shared.opened += 1;
        }
    }

    pub(super) fn report(&mut self, trouble: Trouble, sink: &mut impl Sink) {
        if self.trouble != Some(trouble) {
            self.trouble = Some(trouble);
            sink.event(&self.info, Event::Unreadable(trouble));
        }
    }

    pub(super) fn retire_current(&mut self) {
        self.alias = None;
        if let Some(current) = self.current_mut() {
            current.current = false;
            current.ready = true;
        }
    }
}
