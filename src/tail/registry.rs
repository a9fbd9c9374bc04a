//! Every file that is being read or was finished, by device and inode, so that none is read twice under two names.

use std::collections::HashMap;

use super::identity::{FileKey, Mark};

/// What is known of a file.
#[derive(Debug)]
pub(super) enum Known {
    /// The trail of this index reads it.
    Open(usize),
    /// The trail of this index has read it.
    Done(usize, Done),
}

/// A file that needs no further reading, unless it has grown.
#[derive(Clone, Debug)]
pub(super) struct Done {
    /// How far it was read. Its head is empty for a file that was never read, nor is to be.
    pub mark: Mark,
    /// Size as stored (compressed, if it is) when it was finished, in bytes.
    pub size: u64,
    /// When it was last changed then.
    pub modified_ns: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    files: HashMap<FileKey, Known>,
}

impl Registry {
    pub(super) fn get(&self, key: FileKey) -> Option<&Known> {
        self.files.get(&key)
    }

    pub(super) fn open(&mut self, key: FileKey, trail: usize) {
        self.files.insert(key, Known::Open(trail));
    }

    pub(super) fn done(
        &mut self,
        key: FileKey,
        trail: usize,
        mark: Mark,
        size: u64,
        modified_ns: i64,
    ) {
        self.files.insert(
            key,
            Known::Done(
                trail,
                Done {
                    mark,
                    size,
                    modified_ns,
                },
            ),
        );
    }

    /// Forgets the file if this trail is the one that knows it.
    pub(super) fn forget(&mut self, key: FileKey, trail: usize) {
        if let Some(Known::Open(owner) | Known::Done(owner, _)) = self.files.get(&key)
            && *owner == trail
        {
            self.files.remove(&key);
        }
    }

    pub(super) fn forget_trail(&mut self, trail: usize) {
        self.files.retain(|_, known| !matches!(known, Known::Open(owner) | Known::Done(owner, _) if *owner == trail));
    }
}
