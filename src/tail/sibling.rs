//! The files beside a followed path that rotation may have made of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::followed_path::FollowedPath;
use super::generation::Generation;
use super::identity::{FileKey, ReadPosition, SEAM_BYTES, born_ns, modified_ns};
use super::opened::{Opened, holds};
use super::registry::{ArchiveKind, Known};
use super::{Shared, is_absent, rotated};

/// The length from which on two files that say the same are a file and its copy, in bytes: no two logs say the same for so
/// long.
pub(super) const COPY_BYTES: u64 = SEAM_BYTES as u64;

/// A file beside the path that is not accounted for.
#[derive(Debug)]
pub(super) struct Sibling {
    pub path: PathBuf,
    pub opened: Opened,
    pub beginning: ReadPosition,
    /// It is known as a copy: only what was truncated may be found in it.
    pub is_copy: bool,
}

impl FollowedPath {
    /// The files beside the path that may be rotated forms of it, that nobody reads, and that are not known to need no
    /// reading; oldest first.
    pub(super) fn siblings(&mut self, shared: &mut Shared) -> Vec<Sibling> {
        let seeks_copy = |generation: &Generation| !generation.is_open();
        let seeks_copy = self.generations.iter().any(seeks_copy);
        let mut found: Vec<Sibling> = Vec::new();
        self.unreadable.clear();
        for path in self.sibling_paths(shared) {
            let Ok(metadata) = path.metadata() else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let key = FileKey::of(&metadata);
            let mut is_copy = false;
            let skip = match shared.registry.get(key) {
                Some(Known::Open(owner)) if *owner != self.index => true,
                Some(Known::Open(_)) => self.generations.iter().any(|generation| {
                    generation.key == Some(key) && (generation.is_open() || generation.current)
                }),
                Some(Known::Done(_, archive)) => {
                    let unchanged = archive.is_unchanged(metadata.len(), modified_ns(&metadata));
                    is_copy = unchanged && seeks_copy && archive.kind == ArchiveKind::Copy;
                    unchanged && !is_copy
                }
                None => false,
            };
            if skip || found.iter().any(|sibling| sibling.opened.key == key) {
                continue;
            }
            let opened = Opened::open(&path).and_then(|opened| {
                let beginning = opened.beginning()?;
                Ok((opened, beginning))
            });
            match opened {
                Ok((opened, _)) if twin_exists(&opened, &path) => {}
                Ok((opened, beginning)) => found.push(Sibling {
                    path,
                    opened,
                    beginning,
                    is_copy,
                }),
                Err(error) if is_absent(&error) => {}
                // It is tried again at the next look, and waits until then.
                Err(_) => self.unreadable.push((path, metadata.len())),
            }
        }
        found.sort_by_cached_key(|sibling| {
            let age = rotated::age_by_name(&sibling.path);
            (sibling.opened.modified_ns, age)
        });
        found
    }

    /// Where rotated files of the path may lie: beside it, and beside what it leads or led to.
    pub(super) fn sibling_paths(&self, shared: &mut Shared) -> HashSet<PathBuf> {
        let led = self
            .generations
            .iter()
            .filter_map(|generation| generation.target.as_ref());
        let targets: HashSet<&PathBuf> = led.chain(&self.target).collect();
        let mut paths: HashSet<PathBuf> = HashSet::new();
        for target in targets {
            paths.extend(shared.listings.rotated(target).iter().cloned());
            paths.insert(target.clone());
        }
        paths.extend(shared.listings.rotated(&self.info.path).iter().cloned());
        paths
    }

    /// The file of this generation is there under another name, so that what says the same is another.
    pub(super) fn lies_beside(&self, generation: &Generation, shared: &mut Shared) -> bool {
        self.sibling_paths(shared).iter().any(|path| {
            path.metadata()
                .is_ok_and(|m| generation.is_in(FileKey::of(&m), born_ns(&m)))
                && holds(path, &generation.position)
        })
    }
}

/// The file has the time of the last change of another, as a copy or compressed form is given it. Some tools give it no
/// fraction.
pub(super) fn keeps_time(opened: &Opened, original_ns: i64) -> bool {
    let whole = original_ns - original_ns.rem_euclid(1_000_000_000);
    opened.modified_ns == original_ns || opened.modified_ns == whole
}

/// A compressed file whose uncompressed form is still there is being made, or says the same.
fn twin_exists(opened: &Opened, path: &Path) -> bool {
    opened.is_compressed() && path.with_extension("").exists()
}
