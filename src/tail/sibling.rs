//! The files beside a followed path that rotation may have made of it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::compression::{CompressedAs, plain_name};
use super::followed_path::FollowedPath;
use super::generation::Generation;
use super::identity::{Comparison, FileKey, ReadPosition, SEAM_BYTES, modified_ns};
use super::opened::{Depth, Opened, holds};
use super::registry::{ArchiveKind, Known};
use super::rotated::Form;
use super::{Event, FileInfo, Shared, Sink, Trouble, is_absent, rotated};

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
    /// It lies in another directory (`olddir`): only what is not found here may be found in it.
    pub is_elsewhere: bool,
}

impl Sibling {
    /// It goes on behind what ends at this position.
    pub(super) fn has_more_than(&self, end: &ReadPosition) -> bool {
        let opened = &self.opened;
        end.may_agree(&self.beginning)
            && matches!(opened.compare(end, Depth::Whole), Ok(Comparison::Continues))
            && matches!(opened.position_at_end(), Ok(own) if own.offset() > end.offset())
    }
}

/// How many are open at a time: there may be more than descriptors.
pub(super) const SIBLINGS_MAX: usize = 128;

/// A file beside the path that was not opened yet.
struct Candidate {
    path: PathBuf,
    key: FileKey,
    size: u64,
    modified_ns: i64,
    is_copy: bool,
    is_elsewhere: bool,
}

impl FollowedPath {
    /// The next files beside the path that may be rotated forms of it, that nobody reads, and that are not known to need no
    /// reading; oldest first, at most [`SIBLINGS_MAX`], and none that is in `before`. What cannot be read now waits in
    /// `unreadable`.
    pub(super) fn siblings(
        &mut self,
        before: &mut HashSet<FileKey>,
        shared: &mut Shared,
    ) -> Vec<Sibling> {
        let paths = match self.sibling_paths(shared) {
            Ok(paths) => paths,
            Err(error) => {
                self.hidden = Some(Trouble::of(&error));
                self.unreadable.push((self.info.path.clone(), 0));
                return Vec::new();
            }
        };
        let here = paths.into_iter().map(|path| (path, false));
        let elsewhere = self.old_paths(shared).into_iter().map(|path| (path, true));
        let mut candidates: Vec<Candidate> = Vec::new();
        for (path, is_elsewhere) in here.chain(elsewhere) {
            match self.candidate(path, shared) {
                Ok(Some(candidate)) if !before.contains(&candidate.key) => {
                    candidates.push(Candidate {
                        is_elsewhere,
                        ..candidate
                    });
                }
                Err(path) if !is_elsewhere => self.unreadable.push((path, 0)),
                _ => {}
            }
        }
        candidates.sort_by_cached_key(|candidate| {
            let age = rotated::age_by_name(&candidate.path);
            (candidate.modified_ns, age)
        });
        let mut found = self.rewritten(before);
        for Candidate {
            path,
            key,
            size,
            is_copy,
            is_elsewhere,
            ..
        } in candidates
        {
            if found.len() >= SIBLINGS_MAX {
                break;
            }
            if !before.insert(key) {
                continue;
            }
            let opened = Opened::open(&path).and_then(|opened| {
                let beginning = opened.beginning()?;
                Ok((opened, beginning))
            });
            match opened {
                // Renamed meanwhile: it is met under the name that it has now when the directory is listed anew.
                Ok((opened, _)) if opened.key != key => _ = before.remove(&key),
                Ok((opened, _)) if twin_exists(&opened, &path) => {}
                Ok((opened, _)) if is_being_compressed(&opened, shared.options.drain_grace) => {
                    self.unreadable.push((path, size));
                }
                Ok((opened, beginning)) => found.push(Sibling {
                    path,
                    opened,
                    beginning,
                    is_copy,
                    is_elsewhere,
                }),
                Err(error) if let Some(form) = CompressedAs::of_error(&error) => {
                    self.leave_compressed(path, form, shared);
                }
                Err(error) if is_absent(&error) => _ = before.remove(&key),
                Err(_) if is_elsewhere => {}
                Err(_) => self.unreadable.push((path, size)),
            }
        }
        found
    }

    /// A file beside the path is compressed in a form that is not read. It is missed if it matches the source, or if it may
    /// be what is not found; otherwise it was read before, or is history.
    fn leave_compressed(&mut self, file: PathBuf, form: CompressedAs, shared: &Shared) {
        let is_missed = match shared.matches(self.info.source, &file) {
            // The search for files that match has left it out by its name.
            true => CompressedAs::of_name(&file).is_none(),
            false => self.generations.iter().any(Generation::is_lost),
        };
        let is_listed = self.compressed.iter().any(|(listed, _)| *listed == file);
        if is_missed && !is_listed && self.compressed.len() < SIBLINGS_MAX {
            self.compressed.push((file, form));
        }
    }

    /// All of the path was found: of the compressed files beside it, but for the `first` ones, only those are missed that
    /// match the source.
    pub(super) fn keep_compressed_that_match(&mut self, first: usize, shared: &Shared) {
        let mut at = 0;
        let source = self.info.source;
        self.compressed.retain(|(file, _)| {
            at += 1;
            at <= first || shared.matches(source, file)
        });
    }

    /// Reports the files that [are left](Self::leave_compressed), but for the first ones.
    pub(super) fn report_compressed(&self, known: usize, sink: &mut impl Sink) {
        for (file, form) in self.compressed.iter().skip(known) {
            let info = FileInfo::left_out(self.info.source, file);
            sink.event(&info, Event::Unreadable(Trouble::Compressed(*form)));
        }
    }

    /// Files that are open and were written anew since they were accounted for.
    fn rewritten(&mut self, before: &mut HashSet<FileKey>) -> Vec<Sibling> {
        let mut found = Vec::new();
        for file in std::mem::take(&mut self.rewritten) {
            let opened = file.metadata().and_then(|metadata| {
                let opened = Opened::new(file.clone(), &metadata, false);
                let beginning = opened.beginning()?;
                Ok((opened, beginning))
            });
            match opened {
                Ok((opened, beginning)) if before.insert(opened.key) => found.push(Sibling {
                    path: self.info.path.clone(),
                    opened,
                    beginning,
                    is_copy: false,
                    is_elsewhere: false,
                }),
                Ok(_) => {}
                Err(_) => {
                    self.unreadable.push((self.info.path.clone(), 0));
                    self.rewritten.push(file);
                }
            }
        }
        found
    }

    /// A file beside the path, if it has to be looked into; the path, if nobody can tell now.
    fn candidate(&self, path: PathBuf, shared: &Shared) -> Result<Option<Candidate>, PathBuf> {
        let metadata = match path.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            // A link that leads nowhere is none of ours.
            Err(error)
                if !is_absent(&error) && Errno::from_io_error(&error) != Some(Errno::LOOP) =>
            {
                return Err(path);
            }
            _ => return Ok(None),
        };
        let (key, size, modified_ns) = (
            FileKey::of(&metadata),
            metadata.len(),
            modified_ns(&metadata),
        );
        let mut is_copy = false;
        let skip = match shared.registry.get(key) {
            Some(Known::Open(owner)) if *owner != self.index => true,
            Some(Known::Open(_)) => self.generations.iter().any(|generation| {
                generation.key == Some(key) && (generation.is_open() || generation.current)
            }),
            Some(Known::Done(_, archive)) => {
                let unchanged = archive.is_unchanged(size, modified_ns);
                let seeks_copy = self.generations.iter().any(|g| !g.is_open());
                is_copy = unchanged && seeks_copy && archive.kind == ArchiveKind::Copy;
                unchanged && !is_copy
            }
            None => false,
        };
        Ok((!skip).then_some(Candidate {
            path,
            key,
            size,
            modified_ns,
            is_copy,
            is_elsewhere: false,
        }))
    }

    /// Rotated forms of the path in directories beside it, if something is not found: logrotate's `olddir`. A directory in
    /// which the path has its like is another log's.
    fn old_paths(&self, shared: &mut Shared) -> Vec<PathBuf> {
        if !self.generations.iter().any(Generation::is_lost) {
            return Vec::new();
        }
        let path = self.target.as_ref().unwrap_or(&self.info.path);
        let mut found = Vec::new();
        for old in shared.listings.old_paths(path) {
            if !old.exists() && !shared.matches(self.info.source, &old) {
                found.extend(self.rotated_forms(&old, shared).unwrap_or_default());
            }
        }
        found
    }

    /// This file cannot be read now. It is tried again at the next look, and waits until then.
    pub(super) fn postpone(&mut self, sibling: &Sibling) {
        self.unreadable
            .push((sibling.path.clone(), sibling.opened.size));
    }

    /// Names of rotated files came or went since the directories were listed, or while they were: a file that is renamed
    /// meanwhile may be in no listing. They are listed anew then.
    pub(super) fn names_changed(&self, shared: &mut Shared) -> bool {
        let mut bases = self.targets();
        bases.insert(&self.info.path);
        let changed = bases
            .into_iter()
            .filter(|base| shared.listings.changed(base));
        changed.count() > 0
    }

    /// Where the path leads or led, if that is elsewhere.
    fn targets(&self) -> HashSet<&PathBuf> {
        let led = self.generations.iter().filter_map(|g| g.target.as_ref());
        led.chain(&self.target).collect()
    }

    /// Where rotated files of the path may lie: beside it, and beside what it leads or led to.
    ///
    /// # Errors
    ///
    /// If a directory cannot be listed now.
    pub(super) fn sibling_paths(&self, shared: &mut Shared) -> io::Result<HashSet<PathBuf>> {
        let targets = self.targets();
        let mut paths: HashSet<PathBuf> = HashSet::new();
        for target in targets {
            paths.extend(self.rotated_forms(target, shared)?);
            paths.insert(target.clone());
        }
        paths.extend(self.rotated_forms(&self.info.path, shared)?);
        Ok(paths)
    }

    /// What may be rotated forms of `path`, but for logs that are followed by a name that may be their own.
    fn rotated_forms(&self, path: &Path, shared: &mut Shared) -> io::Result<Vec<PathBuf>> {
        let forms: Vec<Form> = shared.listings.rotated(path)?.cloned().collect();
        let forms = forms
            .into_iter()
            .filter(|form| !form.may_be_its_own || !shared.matches(self.info.source, &form.path));
        Ok(forms.map(|form| form.path).collect())
    }

    /// A file beside the path that `fits` has what was read up to the position.
    ///
    /// # Errors
    ///
    /// If that cannot be determined now.
    pub(super) fn lies_beside(
        &self,
        position: &ReadPosition,
        fits: impl Fn(&Metadata) -> bool,
        shared: &mut Shared,
    ) -> io::Result<bool> {
        for path in self.sibling_paths(shared)? {
            match path.metadata() {
                Ok(metadata) if fits(&metadata) && holds(&path, position)? => return Ok(true),
                Err(error) if !is_absent(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The file has the time of the last change of another, as a copy or compressed form is given it. Some tools give it no
/// fraction.
pub(super) fn keeps_time(opened: &Opened, original_ns: i64) -> bool {
    let whole = original_ns - original_ns.rem_euclid(1_000_000_000);
    opened.modified_ns == original_ns || opened.modified_ns == whole
}

/// The end of a compressed file is missing, and was missing for no longer than a rotated file must be quiet.
fn is_being_compressed(opened: &Opened, grace: Duration) -> bool {
    opened.is_compressed()
        && opened.was_written_within(grace)
        && opened.ends_early().unwrap_or_default()
}

/// A compressed file whose uncompressed form is still there is being made, or says the same.
fn twin_exists(opened: &Opened, path: &Path) -> bool {
    let plain = path.file_name().and_then(plain_name);
    let is_there = |plain| path.with_file_name(OsStr::from_bytes(plain)).exists();
    opened.is_compressed() && plain.is_some_and(is_there)
}
