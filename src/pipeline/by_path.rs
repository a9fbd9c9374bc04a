//! Something for each path, for as long as a file of it is being read, and then until there are too many.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Entries by path. Whoever reads a file holds its entry, which stays; of the others, `max` are kept at most, and there are
/// never more than `max` or twice as many as are held.
#[derive(Debug)]
pub(super) struct ByPath<T> {
    entries: HashMap<PathBuf, Arc<Mutex<T>>>,
    max: usize,
    /// At how many entries those that nobody holds are dropped.
    prune_at: usize,
}

impl<T> ByPath<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            max,
            prune_at: max,
        }
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Arc<Mutex<T>>> {
        self.entries.get(path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PathBuf, &Arc<Mutex<T>>)> {
        self.entries.iter()
    }

    /// The entry of a path, this new one if there is none. Takes constant time on average: after all entries were looked at,
    /// as many more must come before that happens again.
    pub(super) fn entry_or(&mut self, path: &Path, new: impl FnOnce() -> T) -> &Arc<Mutex<T>> {
        if self.entries.len() >= self.prune_at && !self.entries.contains_key(path) {
            self.entries.retain(|_, entry| Arc::strong_count(entry) > 1);
            self.prune_at = self.max.max(2 * self.entries.len());
        }
        let entry = self.entries.entry(path.to_owned());
        entry.or_insert_with(|| Arc::new(Mutex::new(new())))
    }
}

impl<T: Default> ByPath<T> {
    pub(super) fn entry(&mut self, path: &Path) -> &Arc<Mutex<T>> {
        self.entry_or(path, T::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at all entries show as changes of the limit, between which as many must be added as there were.
    #[test]
    fn what_is_held_stays_and_is_not_looked_at_for_each_path() {
        const MANY: usize = 5_000;
        let path = |at: usize| PathBuf::from(format!("/logs/{at}"));
        let mut by_path = ByPath::<u32>::new(10);
        let mut held = Vec::new();
        let mut looked_at = 0;
        for at in 0..MANY {
            let (before, len) = (by_path.prune_at, by_path.entries.len());
            held.push(by_path.entry(&path(at)).clone());
            if by_path.prune_at != before {
                looked_at += len;
            }
        }
        assert!(looked_at <= 2 * MANY, "{looked_at} for {MANY}");
        assert_eq!(by_path.entries.len(), MANY);
        // One that is known costs no look, however many there are.
        let before = by_path.prune_at;
        by_path.entry(&path(0));
        assert_eq!(by_path.prune_at, before);
        // Once nobody reads them, they are dropped.
        held.truncate(3);
        for at in 0..3 * MANY {
            by_path.entry(&path(MANY + at));
            assert!(by_path.entries.len() <= 2 * MANY);
        }
        assert!(by_path.entries.len() <= 10, "{}", by_path.entries.len());
        assert!((0..3).all(|at| by_path.get(&path(at)).is_some()));
    }
}
