//! What is read after something younger of the same path was: by a late writer, or from a file that could be read only then.

use super::Shared;
use super::followed_path::FollowedPath;
use super::registry::ArchiveKind;

impl FollowedPath {
    /// Some younger file of the path was read before what is read of this generation now.
    pub(super) fn is_late(&self, at: usize) -> bool {
        let mut rest = self.generations.iter().skip(at);
        let is_late = rest.next().is_some_and(|generation| generation.is_late);
        is_late || rest.any(|younger| younger.next_offset() > 0)
    }

    /// Files that were begun or finished before this generation are younger, by their first lines or, without dates, by
    /// their last change.
    pub(super) fn is_behind_what_was_read(&self, at: usize, shared: &Shared) -> bool {
        let Some(generation) = self.generations.get(at).filter(|g| !g.current) else {
            return false;
        };
        let changed_ns = generation
            .modified_now_ns()
            .unwrap_or(generation.modified_ns);
        let is_younger =
            |first_time: Option<i64>, modified_ns| match (first_time, generation.first_time) {
                (Some(theirs), Some(own)) => theirs > own,
                _ => modified_ns > changed_ns,
            };
        let begun = self.generations.iter().take(at);
        let mut finished = self
            .archives
            .iter()
            .filter_map(|key| shared.registry.archive(*key, self.index))
            .chain(&self.unplaced)
            .filter(|archive| archive.kind == ArchiveKind::Read);
        begun
            .filter(|other| other.next_offset() > 0)
            .any(|other| is_younger(other.first_time, other.modified_ns))
            || finished.any(|other| is_younger(other.first_time, other.modified_ns))
    }
}
