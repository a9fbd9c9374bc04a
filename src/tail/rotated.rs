//! Names that rotation gives: `messages.1`, `messages-20260101.gz`, `app-20260101.log`, and how old each is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::compression::plain_name;
use super::followed_path::TICK_NS;
use super::identity::{modified_ns, now_ns};
use super::is_absent;

/// Digits of the shortest date: `-260101`.
const DATE_DIGITS: usize = 6;

/// The names that the file `name` may have had before it was rotated, the longest first. Empty for a name that rotation
/// does not give.
///
/// `messages-20260101.gz` was `messages-20260101`, and that was `messages`.
pub(super) fn earlier_names(name: &OsStr) -> Vec<Vec<u8>> {
    let mut earlier = Vec::new();
    let plain = plain_name(name);
    earlier.extend(plain.map(<[u8]>::to_vec));
    let name = plain.unwrap_or(name.as_bytes());
    if let Some(base) = name.strip_suffix(b".old").filter(|base| !base.is_empty()) {
        earlier.push(base.to_vec());
        return earlier;
    }
    // A number or date at the end: `messages.1`, `messages-2026-01-01`; or before an extension: `app-20260101.log`.
    earlier.extend(without_stamp(name).map(<[u8]>::to_vec));
    if let Some(dot) = memchr::memrchr(b'.', name)
        && let Some((stem, extension)) = name.split_at_checked(dot)
        // An address is no extension: `10.0.0.5.1` never was `10.0.0.1`.
        && extension.iter().any(u8::is_ascii_alphabetic)
    {
        earlier.extend(without_stamp(stem).map(|base| [base, extension].concat()));
    }
    earlier
}

/// The names that the file `name` may have had if its extension came with the stamp: by logrotate's `addextension`, or a
/// `compressext` that nobody knows. `messages.1.bak` was `messages`. It may as well be a log of its own.
fn earlier_names_without_extension(name: &OsStr) -> Vec<Vec<u8>> {
    let name = plain_name(name).unwrap_or(name.as_bytes());
    let stem = match memchr::memrchr(b'.', name).and_then(|dot| name.split_at_checked(dot)) {
        Some((stem, extension)) if extension.iter().any(u8::is_ascii_alphabetic) => stem,
        _ => return Vec::new(),
    };
    without_stamp(stem).map(<[u8]>::to_vec).collect()
}

/// `name` without the number or date that rotation put at its end: every way to read it, the longest rest first.
///
/// A dot and a number is a stamp; with other separators it must look like a date, since `hsm-1` and `hsm-2` are more
/// likely two appliances.
fn without_stamp(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_stamp =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'T');
    let stamp = name.len() - name.iter().rev().take_while(|byte| is_stamp(byte)).count();
    (stamp.max(1)..name.len()).rev().filter_map(move |at| {
        let (base, stamp) = name.split_at_checked(at)?;
        let digits = stamp.iter().filter(|byte| byte.is_ascii_digit()).count();
        let rotated = match stamp.first()? {
            b'.' => digits >= DATE_DIGITS || (digits > 0 && digits == stamp.len() - 1),
            b'-' | b'_' => digits >= DATE_DIGITS,
            _ => false,
        };
        rotated.then_some(base)
    })
}

/// What lies in directories, by the name that it may have had before it was rotated. Each directory is listed once for all
/// of its files.
#[derive(Debug, Default)]
pub(super) struct Listings {
    directories: HashMap<PathBuf, io::Result<Listing>>,
    /// How long it took to list them.
    took: Duration,
}

/// Directories in a directory that rotated files are looked for in, at most: beyond, they are none of ours.
const OLD_DIRECTORIES_MAX: usize = 64;

/// A file that may be a rotated form of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    pub path: PathBuf,
    /// It may as well be a log of its own, see [`earlier_names_without_extension`].
    pub may_be_its_own: bool,
    inode: u64,
}

/// What lies in a directory.
#[derive(Debug, Default)]
struct Listing {
    /// Files by the name that each may have had.
    forms: HashMap<Vec<u8>, Vec<Form>>,
    /// When the directory was last changed, if that was so long before it was listed that a later change shows.
    changed_ns: Option<i64>,
    /// Directories in it, [`OLD_DIRECTORIES_MAX`] and one more at most.
    directories: Vec<PathBuf>,
}

impl Listings {
    /// What is asked next is listed anew.
    pub(super) fn clear(&mut self) {
        self.directories.clear();
        self.took = Duration::ZERO;
    }

    /// How long the directories took that were listed since [`Listings::clear`].
    pub(super) fn took(&self) -> Duration {
        self.took
    }

    fn list(&mut self, directory: &Path) {
        let start = Instant::now();
        self.directories
            .insert(directory.to_owned(), list(directory));
        self.took += start.elapsed();
    }

    /// The files beside `path` that may be rotated forms of it, in no order.
    ///
    /// # Errors
    ///
    /// If the directory is there and cannot be listed now.
    pub(super) fn rotated(&mut self, path: &Path) -> io::Result<impl Iterator<Item = &Form>> {
        let forms = match (path.parent(), path.file_name()) {
            (Some(directory), Some(name)) => self.listing(directory)?.forms.get(name.as_bytes()),
            _ => None,
        };
        Ok(forms.into_iter().flatten())
    }

    /// Lists the directory of `path` anew. Says whether the files beside it that may be rotated forms of it are others, or
    /// have other names, than when it was listed before.
    pub(super) fn changed(&mut self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let Some(Ok(before)) = self.directories.get(directory) else {
            return false;
        };
        if before.changed_ns.is_some() && before.changed_ns == settled_ns(directory) {
            return false;
        }
        let forms = |listing: &Listing| {
            let forms = listing.forms.get(name.as_bytes()).cloned();
            let mut forms = forms.unwrap_or_default();
            forms.sort_unstable();
            forms
        };
        let before = forms(before);
        self.list(directory);
        !matches!(self.directories.get(directory), Some(Ok(now)) if forms(now) == before)
    }

    /// Where logrotate's `olddir` may be: what `path` would be called in the directories beside it.
    pub(super) fn old_paths(&mut self, path: &Path) -> Vec<PathBuf> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Vec::new();
        };
        match self.listing(directory) {
            Ok(Listing { directories, .. }) if directories.len() <= OLD_DIRECTORIES_MAX => {
                directories.iter().map(|old| old.join(name)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn listing(&mut self, directory: &Path) -> io::Result<&Listing> {
        if !self.directories.contains_key(directory) {
            self.list(directory);
        }
        match self.directories.get(directory) {
            Some(Ok(listing)) => Ok(listing),
            Some(Err(error)) => Err(match error.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => error.kind().into(),
            }),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// When the directory was last changed, in nanoseconds since 1970, unless that is so short ago that a later change may have
/// the same time.
fn settled_ns(directory: &Path) -> Option<i64> {
    let changed_ns = modified_ns(&directory.metadata().ok()?);
    Some(changed_ns).filter(|changed_ns| changed_ns.saturating_add(TICK_NS) < now_ns())
}

#[cfg(test)]
thread_local! {
    /// How many directories this thread has listed.
    pub(super) static LISTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn list(directory: &Path) -> io::Result<Listing> {
    #[cfg(test)]
    LISTED.set(LISTED.get() + 1);
    let mut listing = Listing {
        changed_ns: settled_ns(directory),
        ..Listing::default()
    };
    let entries = match directory.read_dir() {
        Err(error) if is_absent(&error) => return Ok(listing),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && listing.directories.len() <= OLD_DIRECTORIES_MAX
        {
            listing.directories.push(entry.path());
        }
        let name = entry.file_name();
        for (names, may_be_its_own) in [
            (earlier_names(&name), false),
            (earlier_names_without_extension(&name), true),
        ] {
            for earlier in names {
                listing.forms.entry(earlier).or_default().push(Form {
                    path: entry.path(),
                    may_be_its_own,
                    inode: entry.ino(),
                });
            }
        }
    }
    Ok(listing)
}

/// Orders rotated forms of one name by what the name says, oldest first: higher numbers are older, later dates younger.
/// Only for files that were last written at the same instant.
pub(super) fn age_by_name(path: &Path) -> (std::cmp::Reverse<u64>, Vec<u8>) {
    let name = path.file_name().unwrap_or_default();
    let name = plain_name(name).unwrap_or(name.as_bytes());
    let number = name
        .rsplit(|byte| *byte == b'.')
        .find_map(|part| std::str::from_utf8(part).ok()?.parse::<u64>().ok());
    // A date counts up, a generation number down; no rotation keeps a million generations.
    let generation = number.filter(|number| *number < 1_000_000).unwrap_or(0);
    (std::cmp::Reverse(generation), name.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_names_of() {
        for (name, want) in [
            ("messages", &[][..]),
            ("messages.1", &["messages"]),
            ("messages.12.gz", &["messages.12", "messages"]),
            ("messages-20260101", &["messages"]),
            ("messages-20260101.gz", &["messages-20260101", "messages"]),
            ("messages-2026-01-01", &["messages"]),
            ("messages.20260101", &["messages"]),
            ("messages.20260101.1", &["messages.20260101", "messages"]),
            ("messages.old", &["messages"]),
            ("messages.gz", &["messages"]),
            ("app.log", &[]),
            ("app.log.1", &["app.log"]),
            ("app-20260101.log", &["app.log"]),
            ("app.1.log", &["app.log"]),
            ("app.1.log.gz", &["app.1.log", "app.log"]),
            ("app.log.1.bak", &["app.log.bak"]),
            ("eth0", &[]),
            ("eth0.1", &["eth0"]),
            ("hsm-1", &[]),
            ("10.0.0.5.1", &["10.0.0.5"]),
            ("2026", &[]),
            ("20260101", &[]),
            (".gz", &[]),
            ("messages.1.xz", &["messages.1", "messages"]),
            ("messages-20260101.zst", &["messages-20260101", "messages"]),
            ("app.1.log.bz2", &["app.1.log", "app.log"]),
            (".xz", &[]),
            ("hsm-a.log", &[]),
        ] {
            let got = earlier_names(OsStr::new(name));
            let got: Vec<&str> = got
                .iter()
                .map(|name| std::str::from_utf8(name).unwrap())
                .collect();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn earlier_names_without_extension_of() {
        for (name, want) in [
            ("messages.1", &[][..]),
            ("messages.1.bak", &["messages"]),
            ("messages.1.bak.gz", &["messages"]),
            ("app.log-20260101.gzip", &["app.log"]),
            ("app.1.log", &["app"]),
            ("messages.gz", &[]),
            ("hsm1.example.com", &[]),
            ("10.0.0.5", &[]),
        ] {
            let got = earlier_names_without_extension(OsStr::new(name));
            let want: Vec<&[u8]> = want.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn oldest_first() {
        let mut names = ["m.1", "m.10.gz", "m.2.gz", "m.20260102", "m.20260101"].map(PathBuf::from);
        names.sort_by_key(|path| age_by_name(path));
        assert_eq!(
            names,
            ["m.10.gz", "m.2.gz", "m.1", "m.20260101", "m.20260102"].map(PathBuf::from)
        );
    }
}
