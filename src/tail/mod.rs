//! A path looks like one endless file, whatever happens beneath.
//!
//! [`Tail`] follows files by path or glob ([`Pattern`]) through rotation in all its forms and hands over their bytes. It
//! promises that every byte is handed over once and in order as long as it can be read, that what cannot be read is reported
//! ([`Event::Lost`]), and that a process which starts from the [`Positions`] of another goes on exactly where those were
//! taken. `docs/tailing.md` says what is promised in which case, and which test proves it. Lines, and counting what is
//! told, are left to others.
//!
//! # How to use it
//!
//! One plain thread owns the tail and alternates [`Tail::wait`] and [`Tail::read`]. The only blocking call is `wait`;
//! `read` takes the time as an argument. Bytes reach the [`Sink`] under a [`FileId`], which stands for one endless run of
//! bytes: it needs one [`LineBuffer`](crate::line::LineBuffer) from its first bytes to [`Sink::ended`], and no id is ever
//! used again. After a rotation or truncation the path goes on under a new id.
//!
//! ```no_run
//! # use std::time::{Duration, Instant};
//! # use std::collections::HashMap;
//! # use appliance_log_exporter::{line::LineBuffer, tail::*};
//! # struct Lines(HashMap<FileId, LineBuffer>);
//! # impl Sink for Lines {
//! #     fn opened(&mut self, file: FileId, _: &std::sync::Arc<FileInfo>) { self.0.insert(file, LineBuffer::new(65_536)); }
//! #     fn bytes(&mut self, _: FileId, _: &mut Chunk) {}
//! #     fn ended(&mut self, file: FileId, _: End) { self.0.remove(&file); }
//! #     fn event(&mut self, _: &FileInfo, _: Event) {}
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut lines = Lines(HashMap::new());
//! let source = SourceSpec::new("hsm", [Pattern::parse("/var/log/appliances/{appliance}/*.log")?]);
//! let mut tail = Tail::new(vec![source], Options::default(), None)?;
//! loop {
//!     let progress = tail.read(Instant::now(), &mut lines);
//!     if !progress.more {
//!         tail.wait(Duration::from_secs(1));
//!     }
//!     // Between two reads, what was counted and the positions belong together.
//!     let positions = tail.positions(|file| lines.0[&file].held_bytes());
//! }
//! # }
//! ```
//!
//! # How it works
//!
//! Truth comes from `stat` and `read`; a watcher is only a hint where to look first, and everything is looked at again
//! every [`Options::rescan`]. A quiet file costs nothing between two rescans. What a file is, is decided by its content (see
//! `identity`). The files of one path over time are a `FollowedPath`; finding a file again after a restart, after its
//! descriptor was closed to save descriptors, and after copytruncate is one and the same operation there (see `rotation`).

mod archives;
pub(crate) mod compression;
mod content;
mod copies;
mod discovery;
mod event;
mod followed_path;
mod generation;
mod identity;
mod late;
mod look;
mod opened;
mod pattern;
mod positions;
mod registry;
mod rotated;
mod rotation;
mod schedule;
mod sibling;
mod source;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use compression::CompressedAs;
pub use event::{End, Event, LostReason, Sink, Trouble};
pub use identity::{FileKey, Fingerprint, ReadPosition};
pub use pattern::{Captures, Pattern, PatternError};
pub use positions::{Position, PositionState, Positions};
pub use source::{LineTime, ReadFrom, SourceSpec};
pub use watch::{Waker, Watcher};

use followed_path::FollowedPath;
use generation::BUFFER_BYTES;
use opened::Opened;
use registry::Registry;
use rotated::Listings;
use watch::Watch;

/// Descriptors that the rest of the process needs.
const DESCRIPTORS_LEFT: u64 = 256;

/// Files of vanished paths and of paths that no longer match, kept for their return.
const VANISHED_MAX: usize = 10_000;

/// Lines at the beginning or end of a file that are asked for their date.
const DATED_LINES: usize = 16;

/// Nothing is there, as opposed to something that cannot be read.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// How to follow.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The mechanism that wakes us up.
    pub watcher: Watcher,
    /// How often every file is looked at where the watcher alone is not to be relied upon: always for
    /// [`Watcher::Poll`] and [`Watcher::Linemux`], never for [`Watcher::Inotify`]. A few files that change all the time
    /// are looked at every 10 ms then.
    pub poll: Duration,
    /// How often the directories are searched and every file is looked at, whatever the watcher said.
    pub rescan: Duration,
    /// How long a rotated file must be quiet until it counts as finished.
    pub drain_grace: Duration,
    /// Paths that are followed at most; further ones are reported ([`Trouble::TooManyFiles`]).
    pub files_max: usize,
    /// Descriptors that are held at most; beyond, quiet files are closed and opened again when they change.
    pub open_files_max: usize,
    /// Nothing of a path that no checkpoint knows is handed on before [`Tail::saved`] is called.
    pub durable: bool,
}

impl Default for Options {
    /// inotify, 250 ms, 5 s, 30 s, 10,000 paths, and the descriptors that the process may have, less 256.
    fn default() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = limit.map_or(usize::MAX, |limit| {
            // A quarter is left if the limit is tiny.
            let left = limit.saturating_sub(DESCRIPTORS_LEFT).max(limit / 4);
            usize::try_from(left).unwrap_or(usize::MAX)
        });
        Options {
            watcher: Watcher::Inotify,
            poll: Duration::from_millis(250),
            rescan: Duration::from_secs(5),
            drain_grace: Duration::from_secs(30),
            files_max: 10_000,
            open_files_max: descriptors,
            durable: false,
        }
    }
}

/// One run of bytes: one file from its first byte to its last, whatever its names are meanwhile. Never used again for
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a run of bytes comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Index of the source in the list that the tail was made with.
    pub source: usize,
    /// The path that is followed; `-` for standard input. A rotated file has the path that it had.
    pub path: PathBuf,
    /// What the named wildcards of the pattern stand for in the path.
    pub captures: Captures,
}

impl FileInfo {
    /// A file that matches and is not followed.
    fn left_out(source: usize, path: &Path) -> Self {
        FileInfo {
            source,
            path: path.to_owned(),
            captures: Captures::new(),
        }
    }

    fn is_standard_input(&self) -> bool {
        self.path == Path::new("-")
    }
}

/// A run of bytes as it was read. Whoever wants to keep it exchanges it for another, whose capacity the tail then uses.
#[derive(Debug)]
pub struct Chunk {
    /// [`BUFFER_BYTES`] long.
    buffer: Box<[u8]>,
    range: Range<usize>,
    is_late: bool,
}

impl Chunk {
    /// A younger file of the same path was read before: what these lines say may be out of date.
    pub fn is_late(&self) -> bool {
        self.is_late
    }
}

impl Default for Chunk {
    /// An empty one, with the capacity for what the tail reads at a time.
    fn default() -> Self {
        Chunk {
            buffer: vec![0; BUFFER_BYTES].into(),
            range: 0..0,
            is_late: false,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

/// What one [`Tail::read`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub bytes: u64,
    /// There is more to read at once; do not wait.
    pub more: bool,
}

/// How the tail is woken up at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The mechanism that runs.
    pub watcher: Watcher,
    /// Why it is not the one that was asked for.
    pub fallback: Option<Arc<str>>,
    /// How often events were lost since the start. Harmless: everything was looked at instead.
    pub overflows: u64,
}

/// One followed path, for the status page and the lag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Path, source, captures.
    pub info: Arc<FileInfo>,
    /// What is going on.
    pub state: FileState,
    /// How far the current file was read, in bytes.
    pub offset: u64,
    /// Bytes that are not read yet, rotated files of the path included. Compressed files count as stored.
    pub lag_bytes: u64,
}

/// What is going on at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// There is a file, and it is read.
    Following,
    /// There is no file; the one that was there is being finished.
    Draining,
    /// There is no file (yet, or any more), or it is a compressed one that was read to its end.
    Absent,
    /// It is another name of a file that is followed already.
    SameAsAnother,
    /// See [`Event::Unreadable`].
    Unreadable(Trouble),
}

/// What all followed need.
#[derive(Debug)]
struct Shared {
    options: Options,
    sources: Vec<SourceSpec>,
    registry: Registry,
    chunk: Chunk,
    last_id: u64,
    /// Descriptors opened since they were last counted.
    opened: usize,
    /// Not every path was looked at yet: what is found now was there before us, and what is not found may be at another
    /// path.
    starting: bool,
    /// Some path is [unsaved](FollowedPath::unsaved).
    unsaved: bool,
    /// What lies in the directories, while paths are looked at.
    listings: Listings,
    /// Some generation is, or was, a pipe. Otherwise nobody need look for one among thousands of files at every wait.
    pipes: bool,
}

impl Shared {
    fn next_id(&mut self) -> FileId {
        self.last_id += 1;
        FileId(self.last_id)
    }

    fn matches(&self, source: usize, path: &Path) -> bool {
        self.sources
            .get(source)
            .is_some_and(|source| source.matches(path).is_some())
    }

    /// When the first dated line of this file was received.
    fn first_time(&self, source: usize, opened: &Opened) -> Option<i64> {
        self.first_time_in(source, &opened.first_bytes().ok()?)
    }

    /// When the first dated line of what a file begins with was received.
    fn first_time_in(&self, source: usize, bytes: &[u8]) -> Option<i64> {
        let LineTime(time) = self.sources.get(source)?.line_time.as_ref()?;
        let lines = bytes.split(|byte| *byte == b'\n');
        lines.take(DATED_LINES).find_map(|line| time(line))
    }

    /// Its first line is dated, or not whole.
    fn may_be_dated(&self, source: usize, opened: &Opened) -> bool {
        let is_whole = |bytes: &Vec<u8>| bytes.contains(&b'\n');
        opened
            .first_bytes()
            .is_ok_and(|bytes| !is_whole(&bytes) || self.first_time_in(source, &bytes).is_some())
    }

    /// No other file says what the first `len` bytes of this one say: its lines are dated, and not all of them are the same.
    fn is_unique(&self, source: usize, opened: &Opened, len: u64) -> bool {
        let bytes = opened.first_bytes();
        bytes.is_ok_and(|bytes| self.is_unique_in(source, &bytes, len))
    }

    /// The same of `bytes`.
    fn is_unique_in(&self, source: usize, bytes: &[u8], len: u64) -> bool {
        let Some(LineTime(time)) = self
            .sources
            .get(source)
            .and_then(|source| source.line_time.as_ref())
        else {
            return false;
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = bytes.get(..len).unwrap_or(bytes);
        let mut lines = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .take(DATED_LINES);
        let first = lines.next();
        let differs = lines.clone().any(|line| Some(line) != first);
        differs
            && first
                .into_iter()
                .chain(lines)
                .any(|line| time(line).is_some())
    }

    /// When the last dated line of this file was received.
    fn last_time(&self, source: usize, opened: &Opened) -> Option<i64> {
        let LineTime(time) = self.sources.get(source)?.line_time.as_ref()?;
        let bytes = opened.last_bytes().ok()?;
        let lines = bytes.rsplit(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .take(DATED_LINES)
            .find_map(|line| time(line))
    }
}

/// Follows files. See the [module](self).
pub struct Tail {
    shared: Shared,
    followed: Vec<FollowedPath>,
    /// FollowedPaths by the path that they follow.
    paths: HashMap<PathBuf, usize>,
    /// FollowedPaths by the path where their file really lies, if that is another.
    targets: HashMap<PathBuf, usize>,
    /// FollowedPaths that may have something to do, each once ([`FollowedPath::queued`]).
    queue: VecDeque<usize>,
    /// Positions of paths that match no source at present; handed on as they are.
    parked: Vec<Position>,
    watch: Watch,
    watching: Watching,
    waker: Waker,
    wake_receiver: UnixStream,
    /// Hints named new names or directories.
    search: bool,
    /// From which path on the present search has not asked whether it could make way for another.
    vacant_from: usize,
    /// Paths that made way for others in the present search.
    replaced: HashSet<usize>,
    /// What matches and cannot be followed, and what hides what may match, by source: why. At most
    /// [`Options::files_max`].
    left_out: BTreeMap<(usize, PathBuf), Trouble>,
    next_rescan: Option<Instant>,
    next_poll: Option<Instant>,
    /// When a look at all paths began that is not finished.
    round: Option<Instant>,
    /// How long one call looks at paths at most.
    look_for: Duration,
    /// Paths to be looked at every 10 ms, and until when.
    busy: Vec<(usize, Instant)>,
    next_busy: Option<Instant>,
    next_drain: Option<Instant>,
    /// Where the search for a quiet file to close goes on.
    hand: usize,
}

impl Tail {
    /// A tail that has read nothing yet. With `resume`, it goes on where those positions were taken.
    ///
    /// A watcher that cannot be set up is replaced by polling; see [`Tail::watching`].
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    pub fn new(
        sources: Vec<SourceSpec>,
        options: Options,
        resume: Option<Positions>,
    ) -> io::Result<Tail> {
        let (waker, wake_receiver) = Waker::pair()?;
        let (watch, fallback) = match Watch::start(options.watcher, &waker) {
            Ok(watch) => (watch, None),
            Err(error) => (Watch::Poll, Some(error.to_string().into())),
        };
        let watching = Watching {
            watcher: watch.kind(),
            fallback,
            overflows: 0,
        };
        let shared = Shared {
            options,
            sources,
            registry: Registry::default(),
            chunk: Chunk::default(),
            last_id: 0,
            opened: 0,
            starting: true,
            unsaved: false,
            listings: Listings::default(),
            pipes: false,
        };
        let mut tail = Tail {
            shared,
            followed: Vec::new(),
            paths: HashMap::new(),
            targets: HashMap::new(),
            queue: VecDeque::new(),
            parked: Vec::new(),
            watch,
            watching,
            waker,
            wake_receiver,
            search: false,
            vacant_from: 0,
            replaced: HashSet::new(),
            left_out: BTreeMap::new(),
            next_rescan: None,
            next_poll: None,
            round: None,
            look_for: schedule::LOOK_FOR,
            busy: Vec::new(),
            next_busy: None,
            next_drain: None,
            hand: 0,
        };
        tail.restore(resume.unwrap_or_default());
        Ok(tail)
    }

    /// A handle that ends [`Tail::wait`] from another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// How far every file was read, up to the end of its last whole line: `held_bytes` says for an opened file how many
    /// of the bytes that were handed over belong to a line that is not finished. Taken between two reads, it belongs to
    /// what was counted up to then. Costs no system call.
    pub fn positions(&self, held_bytes: impl Fn(FileId) -> u64) -> Positions {
        let mut files = self.parked.clone();
        for path in &self.followed {
            path.positions(&self.shared, &held_bytes, &mut files);
        }
        Positions {
            files,
            ..Positions::default()
        }
    }

    /// Every followed path, and what should be followed and cannot. Costs one system call for each file that is open.
    pub fn status(&self) -> impl Iterator<Item = FileStatus> {
        let left_out = self
            .left_out
            .iter()
            .map(|((source, path), trouble)| FileStatus {
                info: Arc::new(FileInfo::left_out(*source, path)),
                state: FileState::Unreadable(*trouble),
                offset: 0,
                lag_bytes: 0,
            });
        let followed = self.followed.iter().map(|path| FileStatus {
            info: path.info.clone(),
            state: path.state(),
            offset: path.current().map_or(0, |current| current.next_offset()),
            lag_bytes: path.lag_bytes(),
        });
        let compressed = self.followed.iter().flat_map(|path| {
            path.compressed.iter().map(|(file, form)| FileStatus {
                info: Arc::new(FileInfo::left_out(path.info.source, file)),
                state: FileState::Unreadable(Trouble::Compressed(*form)),
                offset: 0,
                lag_bytes: 0,
            })
        });
        followed.chain(compressed).chain(left_out)
    }

    /// How the tail is woken up at present.
    pub fn watching(&self) -> &Watching {
        &self.watching
    }
}
