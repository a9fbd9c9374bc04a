//! Which paths are followed.

#[cfg(test)]
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::followed_path::FollowedPath;
use super::identity::FileKey;
use super::pattern::Found;
use super::registry::Known;
use super::schedule::enqueue;
use super::{
    CompressedAs, Event, FileInfo, Positions, Sink, Tail, Trouble, VANISHED_MAX, is_absent, rotated,
};

#[cfg(test)]
thread_local! {
    /// How often this thread searched, and asked whether a file is there to make way.
    pub(super) static COUNTS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Whether the file of a path that could make way is there.
fn exists(path: &Path) -> bool {
    #[cfg(test)]
    COUNTS.set((COUNTS.get().0, COUNTS.get().1 + 1));
    path.exists()
}

impl Tail {
    pub(super) fn restore(&mut self, positions: Positions) {
        let format = positions.format;
        let mut files = positions.files;
        // A stable sort: the files of one path keep their order.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for positions in files.chunk_by(|a, b| a.path == b.path) {
            let Some(path) = positions.first().map(|position| position.path.as_path()) else {
                continue;
            };
            let source = self
                .shared
                .sources
                .iter()
                .position(|source| source.matches(path).is_some());
            match source.and_then(|source| self.follow(path, source)) {
                Some(index) => {
                    if let Some(path) = self.followed.get_mut(index) {
                        path.restore(positions, format, &mut self.shared);
                    }
                }
                None => self.parked.extend_from_slice(positions),
            }
        }
        self.parked.truncate(VANISHED_MAX);
        self.forget_replaced();
    }

    /// What is known of paths that made way for others, all of them at once: there may be thousands.
    fn forget_replaced(&mut self) {
        let replaced = std::mem::take(&mut self.replaced);
        if !replaced.is_empty() {
            self.targets.retain(|_, owner| !replaced.contains(owner));
            self.shared.registry.forget_paths(&replaced);
        }
    }

    /// There are as many paths as are followed at most, and the last search has found none that could make way.
    pub(super) fn is_full(&self) -> bool {
        self.followed.len() >= self.shared.options.files_max
            && self.vacant_from >= self.followed.len()
    }

    /// A path whose file is gone and finished, which makes way for another. A search asks for each once.
    fn vacant(&mut self) -> Option<usize> {
        let is_vacant =
            |path: &FollowedPath| path.generations.is_empty() && !exists(&path.info.path);
        let mut rest = self.followed.iter().enumerate().skip(self.vacant_from);
        let found = rest.find(|(_, path)| is_vacant(path)).map(|(at, _)| at);
        self.vacant_from = found.map_or(self.followed.len(), |at| at + 1);
        found
    }

    /// Searches the directories for files that match and are not yet followed, and watches the directories.
    pub(super) fn search(&mut self, sink: &mut impl Sink) {
        #[cfg(test)]
        COUNTS.set((COUNTS.get().0 + 1, COUNTS.get().1));
        let mut directories = HashSet::new();
        let mut found = Vec::new();
        let mut left_out = Vec::new();
        for (index, source) in self.shared.sources.iter().enumerate() {
            for pattern in &source.include {
                if let Some(path) = pattern.literal()
                    && source.matches(path).is_some()
                {
                    found.push((path.to_owned(), index));
                }
                let paths = &self.paths;
                pattern.walk(|what| match what {
                    Found::File(path) => {
                        if !paths.contains_key(path) && source.matches(path).is_some() {
                            found.push((path.to_owned(), index));
                        }
                    }
                    Found::Directory(directory) => {
                        if !directories.contains(directory) {
                            directories.insert(directory.to_owned());
                        }
                    }
                    Found::Unreadable(path, error) => {
                        if !paths.contains_key(path) && !source.is_not_missed(path) {
                            left_out.push(((index, path.to_owned()), Trouble::of(error)));
                        }
                    }
                });
            }
        }
        for target in self.targets.keys() {
            directories.extend(target.parent().map(Path::to_owned));
        }
        // A path is shorter than its rotated forms, so that it is followed before they are met.
        found.sort_by(|(a, _), (b, _)| (a.as_os_str().len(), a).cmp(&(b.as_os_str().len(), b)));
        self.vacant_from = 0;
        for (path, source) in found {
            if let Err(trouble) = self.consider(&path, source) {
                left_out.push(((source, path), trouble));
            }
        }
        self.forget_replaced();
        left_out.truncate(self.shared.options.files_max);
        self.tell_left_out(left_out.into_iter().collect(), sink);
        let files = self.followed.iter().map(|path| path.info.path.as_path());
        match self.watch.watch(&directories, files) {
            Ok(true) => {
                // What came into those directories before they were watched raised no hint.
                self.search = true;
                self.mark_all();
            }
            Ok(false) => {}
            Err(error) => self.fall_back(&error),
        }
    }

    /// Takes note of what this search has left out, and tells what is new of it.
    fn tell_left_out(
        &mut self,
        left_out: BTreeMap<(usize, PathBuf), Trouble>,
        sink: &mut impl Sink,
    ) {
        let before = std::mem::replace(&mut self.left_out, left_out);
        let mut full = before
            .values()
            .any(|trouble| *trouble == Trouble::TooManyFiles);
        for (what, trouble) in &self.left_out {
            let is_known = match trouble {
                Trouble::TooManyFiles => std::mem::replace(&mut full, true),
                _ => before.get(what) == Some(trouble),
            };
            if !is_known {
                let info = FileInfo::left_out(what.0, &what.1);
                sink.event(&info, Event::Unreadable(*trouble));
            }
        }
    }

    /// Follows `path`, unless it is another name of something that is followed.
    ///
    /// # Errors
    ///
    /// Why it cannot be followed.
    fn consider(&mut self, path: &Path, source: usize) -> Result<(), Trouble> {
        if self.paths.contains_key(path) {
            return Ok(());
        }
        if CompressedAs::of_name(path).is_some()
            && path.is_file()
            && let Some(form) = CompressedAs::of_file(path)
        {
            return Err(Trouble::Compressed(form));
        }
        if self.is_rotated_form(path, source) {
            return Ok(());
        }
        let literal = self.shared.sources.get(source).is_some_and(|source| {
            source
                .include
                .iter()
                .any(|pattern| pattern.literal() == Some(path))
        });
        match path.metadata() {
            Ok(metadata) => {
                use std::os::unix::fs::FileTypeExt;
                let kind = metadata.file_type();
                if !literal && !kind.is_file() && !kind.is_fifo() {
                    return Ok(());
                }
                if let Some(Known::Open(owner)) = self.shared.registry.get(FileKey::of(&metadata)) {
                    // A second name of a file, or the new name of one that was rotated in an unusual way.
                    if let Some(owner) = self.followed.get_mut(*owner) {
                        owner.adopt(path, &mut self.shared);
                        enqueue(owner, &mut self.queue);
                    }
                    if !literal {
                        return Ok(());
                    }
                }
            }
            Err(error) if is_absent(&error) && !literal => return Ok(()),
            // Its directory may be listed and not entered.
            Err(error) if !literal => return Err(Trouble::of(&error)),
            Err(_) => {}
        }
        match self.follow(path, source) {
            Some(_) => Ok(()),
            None => Err(Trouble::TooManyFiles),
        }
    }

    /// `path` is what rotation made of a path that is followed or about to be.
    fn is_rotated_form(&self, path: &Path, source: usize) -> bool {
        let Some(name) = path.file_name() else {
            return false;
        };
        rotated::earlier_names(name).into_iter().any(|earlier| {
            let earlier = path.with_file_name(
                <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&earlier),
            );
            match self
                .paths
                .get(&earlier)
                .and_then(|index| self.followed.get(*index))
            {
                Some(path) => path.seen || earlier.exists(),
                None => earlier.is_file() && self.shared.matches(source, &earlier),
            }
        })
    }

    /// Follows `path` from now on. `None` if there are too many.
    fn follow(&mut self, path: &Path, source: usize) -> Option<usize> {
        if let Some(index) = self.paths.get(path) {
            return Some(*index);
        }
        let spec = self.shared.sources.get(source)?;
        let (captures, read_from) = (spec.matches(path)?, spec.read_from);
        let index = match self.followed.len() < self.shared.options.files_max {
            true => Some(self.followed.len()),
            false => self.vacant(),
        }?;
        let info = FileInfo {
            source,
            path: path.to_owned(),
            captures,
        };
        let followed = FollowedPath::new(index, Arc::new(info), read_from);
        match self.followed.get_mut(index) {
            Some(old) => {
                self.paths.remove(&old.info.path);
                self.replaced.insert(index);
                *old = followed;
            }
            None => self.followed.push(followed),
        }
        self.paths.insert(path.to_owned(), index);
        self.watch.watch_file(path);
        if let Some(followed) = self.followed.get_mut(index) {
            enqueue(followed, &mut self.queue);
        }
        Some(index)
    }
}
