//! Every file that is being read or was finished, by device and inode, as far as this process has looked into it. So none
//! is opened again and again, and none is read under two names.

use std::collections::{HashMap, HashSet};

use super::identity::{FileKey, ReadPosition};

/// Finished files that are remembered although they lie nowhere any more. They may come back.
pub(super) const GONE_MAX: usize = 64;

/// What is known of a file.
#[derive(Debug)]
pub(super) enum Known {
    /// The followed path of this index reads it.
    Open(usize),
    /// The followed path of this index has finished it.
    Done(usize, Archive),
}

/// A file that needs no further reading, unless it has grown.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    /// Where it was last seen.
    pub key: FileKey,
    /// How far it is known.
    pub position: ReadPosition,
    /// Size as stored (compressed, if it is) when it was finished, in bytes.
    pub size: u64,
    /// When it was last changed then.
    pub modified_ns: i64,
    /// When its first line was received, in seconds since 1970.
    pub first_time: Option<i64>,
    /// How it came to need no reading.
    pub kind: ArchiveKind,
}

/// How a file came to need no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveKind {
    /// It was read to its end.
    Read,
    /// It is a copy of what was read. It may have more, if what it was copied from is truncated before it was read.
    Copy,
    /// It was there before its path was followed, or its lines are older than what was read.
    History,
}

impl Archive {
    /// It is as it was when it was finished, as far as can be seen without reading it.
    pub(super) fn is_unchanged(&self, size: u64, modified_ns: i64) -> bool {
        (self.size, self.modified_ns) == (size, modified_ns)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    files: HashMap<FileKey, Known>,
    /// Finished files whose inode was given to another: they lie there no more, but their content may.
    displaced: Vec<(usize, Archive)>,
    /// Which path finished a file in a former process, while not every path was looked at. It may lie beside another that
    /// leads to the same directory.
    former: HashMap<FileKey, usize>,
}

impl Registry {
    pub(super) fn get(&self, key: FileKey) -> Option<&Known> {
        self.files.get(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The finished file with this key, if this path finished it.
    pub(super) fn archive(&self, key: FileKey, path: usize) -> Option<&Archive> {
        match self.files.get(&key) {
            Some(Known::Done(owner, archive)) if *owner == path => Some(archive),
            _ => None,
        }
    }

    pub(super) fn open(&mut self, key: FileKey, path: usize) {
        self.insert(key, Known::Open(path));
    }

    pub(super) fn done(&mut self, archive: Archive, path: usize) {
        self.insert(archive.key, Known::Done(path, archive));
    }

    fn insert(&mut self, key: FileKey, known: Known) {
        let position = match &known {
            Known::Open(_) => None,
            Known::Done(_, archive) => Some(archive.position.clone()),
        };
        if let Some(Known::Done(owner, archive)) = self.files.insert(key, known)
            && position.is_none_or(|position| position != archive.position)
        {
            self.displaced.push((owner, archive));
        }
    }

    pub(super) fn finished_before(&mut self, key: FileKey, path: usize) {
        self.former.insert(key, path);
    }

    /// The path that finished the file in a former process, as far as its inode says.
    pub(super) fn former_path(&self, key: FileKey) -> Option<usize> {
        self.former.get(&key).copied()
    }

    /// Every path has met what it had finished.
    pub(super) fn all_are_met(&mut self) {
        self.former = HashMap::new();
    }

    /// Finished files that lost their inode since this was last asked, with the path that finished each.
    pub(super) fn take_displaced(&mut self) -> Vec<(usize, Archive)> {
        std::mem::take(&mut self.displaced)
    }

    /// The same, of one path.
    pub(super) fn take_displaced_of(&mut self, path: usize) -> Vec<Archive> {
        let of = |(owner, _): &mut (usize, Archive)| *owner == path;
        let displaced = self.displaced.extract_if(.., of);
        displaced.map(|(_, archive)| archive).collect()
    }

    /// Forgets the file if this path is the one that knows it.
    pub(super) fn forget(&mut self, key: FileKey, path: usize) {
        if let Some(Known::Open(owner) | Known::Done(owner, _)) = self.files.get(&key)
            && *owner == path
        {
            self.files.remove(&key);
        }
    }

    pub(super) fn forget_paths(&mut self, paths: &HashSet<usize>) {
        self.files.retain(|_, known| {
            let (Known::Open(owner) | Known::Done(owner, _)) = known;
            !paths.contains(owner)
        });
    }
}
