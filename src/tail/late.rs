//! What is read after something younger of the same path was: by a late writer, or from a file that could be read only then.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::content::Content;
use super::followed_path::{Finished, FollowedPath};
use super::generation::Generation;
use super::identity::{FileKey, born_ns, modified_ns};
use super::opened::Opened;
use super::registry::ArchiveKind;

impl FollowedPath {
    /// Keeps a finished file open in case that a late writer adds to it.
    pub(super) fn keep_open(&mut self, key: FileKey, file: Arc<File>) {
        self.finished = Some(Finished {
            key,
            file,
            unlinked_since: None,
        });
        // What was added to it until now is met at the next look.
        self.check_finished = true;
    }

    /// Reads on in the file that was finished last if anything was added to it.
    pub(super) fn read_on_finished(&mut self, shared: &mut Shared) {
        let Some(finished) = self.finished.take() else {
            return;
        };
        let (Some(archive), Ok(metadata)) = (
            shared.registry.archive(finished.key, self.index),
            finished.file.metadata(),
        ) else {
            return;
        };
        if archive.kind != ArchiveKind::Read {
            // It was written anew, and accounted for as what lies beside the path.
            self.unresolved = true;
            return;
        }
        if metadata.len() <= archive.position.offset() {
            self.finished = Some(finished);
            return;
        }
        let opened = Opened::new(finished.file.clone(), &metadata, false);
        if metadata.nlink() > 0 && self.is_appended(&opened, archive.position.offset()) {
            // No late writer: it is accounted for as what lies beside the path.
            self.unresolved = true;
            self.finished = Some(finished);
            return;
        }
        let (position, first_time) = (archive.position.clone(), archive.first_time);
        let content = Content::Plain(finished.file);
        let mut generation = Generation::new(shared.next_id(), Some(finished.key), content);
        generation.undecided = position.is_empty();
        generation.position = position;
        generation.first_time = first_time;
        generation.born_ns = born_ns(&metadata);
        generation.size = metadata.len();
        if generation.is_truncated() {
            // It was written anew: it is accounted for as what lies beside the path.
            self.unresolved = true;
            return;
        }
        self.archives.retain(|known| *known != finished.key);
        shared.registry.forget(finished.key, self.index);
        shared.registry.open(finished.key, self.index);
        self.insert_old(generation, modified_ns(&metadata));
    }

    /// Closes the file that was finished last once it has had no name for as long as any file that was rotated away is kept
    /// open: its space is wanted.
    pub(super) fn close_finished(&mut self, now: Instant, shared: &Shared) {
        let Some(finished) = &mut self.finished else {
            return;
        };
        if finished.file.metadata().is_ok_and(|m| m.nlink() > 0) {
            finished.unlinked_since = None;
            return;
        }
        let since = *finished.unlinked_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= shared.options.drain_grace {
            self.finished = None;
        }
    }

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
        let finished = self.finished_files(shared);
        let mut finished = finished.filter(|archive| archive.kind == ArchiveKind::Read);
        begun
            .filter(|other| other.next_offset() > 0)
            .any(|other| is_younger(other.first_time, other.modified_ns))
            || finished.any(|other| is_younger(other.first_time, other.modified_ns))
    }
}
