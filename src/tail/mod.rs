//! A path looks like one endless file, whatever happens beneath.
//!
//! [`Tail`] follows files by path or glob ([`Pattern`]) through rotation in all its forms and hands over their bytes. It
//! promises that every byte is handed over once and in order as long as it can be had, that what cannot be had is told
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
//! every [`Options::rescan`]. A quiet file costs nothing between two rescans. Identity is device, inode and content (see
//! `identity`). The files of one path over time are a `trail`; finding a file again after a restart, after its
//! descriptor was closed to save descriptors, and after copytruncate is one and the same operation there.

mod identity;
mod pattern;
mod positions;
mod registry;
mod rotated;
mod stream;
#[cfg(test)]
mod tests;
mod trail;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use identity::{FileKey, Fingerprint};
pub use pattern::{Captures, Pattern, PatternError};
pub use positions::{Position, PositionState, Positions};
pub use watch::{Waker, Watcher};

use pattern::Found;
use registry::{Known, Registry};
use stream::{BUFFER_BYTES, Body, Stream};
use trail::Trail;
use watch::{Hint, Watch};

/// How much one call of [`Tail::read`] reads at most, in bytes, give or take a chunk.
const READ_BYTES: usize = 1024 * 1024;

/// How often rotated files are looked at until they are quiet for long enough.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Where the watcher alone is not to be relied upon: how often files are looked at that had something to read in the last
/// [`BUSY_FOR`]. What is unlinked and made anew more often than a file is looked at is never seen.
const BUSY_POLL: Duration = Duration::from_millis(10);

/// See [`BUSY_POLL`].
const BUSY_FOR: Duration = Duration::from_secs(2);

/// How many files are looked at that often, so that it costs next to nothing.
const BUSY_MAX: usize = 64;

/// After the first event of a burst, how long its followers are waited for.
const COALESCE: Duration = Duration::from_millis(2);

/// Descriptors that the rest of the process needs.
const DESCRIPTORS_LEFT: u64 = 256;

/// Files of vanished paths and of paths that are no longer meant, kept for their return.
const VANISHED_MAX: usize = 10_000;

/// What to follow, under one name.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The source's name, as the settings give it.
    pub name: String,
    /// Files that are meant.
    pub include: Vec<Pattern>,
    /// Of those, files that are not.
    pub exclude: Vec<Pattern>,
    /// Where to begin with a file that was never seen.
    pub read_from: ReadFrom,
}

impl SourceSpec {
    /// A source that reads these files from their beginning.
    pub fn new(name: impl Into<String>, include: impl IntoIterator<Item = Pattern>) -> SourceSpec {
        let include = include.into_iter().collect();
        SourceSpec {
            name: name.into(),
            include,
            exclude: Vec::new(),
            read_from: ReadFrom::Beginning,
        }
    }

    /// The files that one of its patterns matches now, and the appliance that each path names. Files that are not there
    /// yet and what is excluded are left out; standard input is no file.
    pub(crate) fn files_now(&self, include: usize) -> Vec<(std::path::PathBuf, Option<String>)> {
        let mut files = Vec::new();
        let Some(pattern) = self.include.get(include) else {
            return files;
        };
        let mut take = |path: &Path| {
            if let Some(captures) = pattern.matches(path)
                && self.means(path).is_some()
            {
                let appliance = captures
                    .into_iter()
                    .find(|(name, _)| **name == *"appliance");
                files.push((path.to_owned(), appliance.map(|(_, name)| name)));
            }
        };
        match pattern.literal() {
            Some(path) if path.is_file() => take(path),
            Some(_) => {}
            None => pattern.walk(|found| {
                if let pattern::Found::File(path) = found {
                    take(path);
                }
            }),
        }
        files.sort();
        files
    }

    /// What the wildcards stand for if the source means `path`.
    fn means(&self, path: &Path) -> Option<Captures> {
        let captures = self
            .include
            .iter()
            .find_map(|pattern| pattern.matches(path))?;
        let excluded = self
            .exclude
            .iter()
            .any(|pattern| pattern.matches(path).is_some());
        (!excluded).then_some(captures)
    }

    /// Whether nobody misses a path that cannot be seen: it, or everything in it, is excluded, or it is what every ext4
    /// file system keeps for root.
    fn is_not_missed(&self, path: &Path) -> bool {
        let inside = path.join("*");
        let excluded = |path| {
            let mut exclude = self.exclude.iter();
            exclude.any(|pattern| pattern.matches(path).is_some())
        };
        excluded(path) || excluded(&inside) || path.ends_with("lost+found")
    }
}

/// Nothing is there, as opposed to something that cannot be read.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Where to begin with a file that was never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// At its first byte.
    #[default]
    Beginning,
    /// Behind the last whole line, if the file is there when the tail starts; files that appear later are read from
    /// their first byte.
    End,
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
    /// Paths that are followed at most; further ones are told ([`Trouble::TooManyFiles`]).
    pub files_max: usize,
    /// Descriptors that are held at most; beyond, quiet files are closed and opened again when they change.
    pub open_files_max: usize,
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
    /// A file that is meant and not followed.
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

/// A run of bytes as it was read. Whoever wants to keep it exchanges it for another, whose room the tail then uses.
#[derive(Debug)]
pub struct Chunk {
    /// [`BUFFER_BYTES`] long.
    buffer: Box<[u8]>,
    range: Range<usize>,
}

impl Default for Chunk {
    /// An empty one, with room for what the tail reads at a time.
    fn default() -> Self {
        Chunk {
            buffer: vec![0; BUFFER_BYTES].into(),
            range: 0..0,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

/// Who takes what the tail reads. Called from within [`Tail::read`].
pub trait Sink {
    /// The first bytes of a run are about to come.
    fn opened(&mut self, file: FileId, info: &Arc<FileInfo>);
    /// The next bytes of the run, never empty, at most about 256 KiB at a time.
    fn bytes(&mut self, file: FileId, chunk: &mut Chunk);
    /// The run is over; the id comes never again. Only for runs that were opened.
    fn ended(&mut self, file: FileId, end: End);
    /// Something happened at a path.
    fn event(&mut self, info: &FileInfo, event: Event);
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The writer has finished the file: an unfinished line is all there is of it, and counts.
    Whole,
    /// The rest of an unfinished line is lost, for this reason. It must not be taken for a line, since a torn number is a
    /// wrong number.
    Cut(LostReason),
}

/// What happened at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another file took the path, or did so unseen: one event for each file.
    Rotated,
    /// The file lost its content and begins anew. If a copy of the old content is found beside it, that is read to its
    /// end first. What was written between the making of the copy and the truncation is lost, and nobody can tell how
    /// much it was.
    Truncated,
    /// Bytes that were never handed over are lost.
    Lost {
        /// How many at least.
        bytes: u64,
        /// Why.
        reason: LostReason,
    },
    /// The path cannot be read, or hides what may be beneath it. Told once, until that is over or another trouble shows.
    Unreadable(Trouble),
}

/// Why bytes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LostReason {
    /// The file was truncated before it was read to its end, and no copy was found.
    Truncated,
    /// The file was rotated away while no process read it, and is nowhere to be found.
    Gone,
    /// A compressed file is damaged; the bytes are counted as compressed.
    Damaged,
    /// A rotated file says byte for byte what was read from another. It may be a copy of that, which is why it is not
    /// read, or a file of its own, and nobody can tell. They are few: what is longer than the head is unique.
    Doubtful,
}

impl LostReason {
    /// Every reason.
    pub const ALL: [LostReason; 4] = [
        LostReason::Truncated,
        LostReason::Gone,
        LostReason::Damaged,
        LostReason::Doubtful,
    ];

    /// The value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            LostReason::Truncated => "truncated",
            LostReason::Gone => "gone",
            LostReason::Damaged => "damaged",
            LostReason::Doubtful => "doubtful",
        }
    }
}

/// Why a path cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// It is a directory.
    IsDirectory,
    /// It is neither file nor FIFO.
    NotAFile,
    /// The permission is missing.
    PermissionDenied,
    /// The process or the system has no descriptors left.
    TooManyOpenFiles,
    /// [`Options::files_max`] is reached. Told for the first path that is left out only; [`Tail::status`] has them all.
    TooManyFiles,
    /// Anything else.
    Other(io::ErrorKind),
}

impl Trouble {
    fn of(error: &io::Error) -> Trouble {
        use rustix::io::Errno;
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match error.kind() {
            io::ErrorKind::IsADirectory => Trouble::IsDirectory,
            io::ErrorKind::InvalidInput => Trouble::NotAFile,
            io::ErrorKind::PermissionDenied => Trouble::PermissionDenied,
            _ if matches!(errno, Some(Errno::MFILE | Errno::NFILE)) => Trouble::TooManyOpenFiles,
            kind => Trouble::Other(kind),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::IsDirectory => f.write_str("is a directory"),
            Trouble::NotAFile => f.write_str("is neither a file nor a FIFO"),
            Trouble::PermissionDenied => f.write_str("permission denied"),
            Trouble::TooManyOpenFiles => {
                f.write_str("too many open files; raise the limit (LimitNOFILE=)")
            }
            Trouble::TooManyFiles => f.write_str("more files than are followed at most"),
            Trouble::Other(kind) => kind.fmt(f),
        }
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

/// What all trails need.
#[derive(Debug)]
struct Shared {
    options: Options,
    sources: Vec<SourceSpec>,
    registry: Registry,
    chunk: Chunk,
    last_id: u64,
    /// Descriptors opened since they were last counted.
    opened: usize,
    /// No rescan was done yet: what is found now was there before us.
    starting: bool,
    /// Some stream is, or was, a pipe. Otherwise nobody need look for one among thousands of files at every wait.
    pipes: bool,
}

impl Shared {
    fn next_id(&mut self) -> FileId {
        self.last_id += 1;
        FileId(self.last_id)
    }

    fn means(&self, source: usize, path: &Path) -> bool {
        self.sources
            .get(source)
            .is_some_and(|source| source.means(path).is_some())
    }
}

/// Follows files. See the [module](self).
pub struct Tail {
    shared: Shared,
    trails: Vec<Trail>,
    /// Trails by the path that they follow.
    paths: HashMap<PathBuf, usize>,
    /// Trails by the path where their file really lies, if that is another.
    targets: HashMap<PathBuf, usize>,
    /// Trails that may have something to do, each once ([`Trail::queued`]).
    queue: VecDeque<usize>,
    /// Positions of paths that no source means at present; handed on as they are.
    parked: Vec<Position>,
    watch: Watch,
    watching: Watching,
    waker: Waker,
    wake_receiver: UnixStream,
    /// Hints told of new names or directories.
    search: bool,
    /// In the present search, or before the first, no path could make room for another.
    full: bool,
    /// What is meant and cannot be followed, and what hides what may be meant, by source: why. At most
    /// [`Options::files_max`].
    left_out: BTreeMap<(usize, PathBuf), Trouble>,
    next_rescan: Option<Instant>,
    next_poll: Option<Instant>,
    /// Trails to be looked at every [`BUSY_POLL`], and until when.
    busy: Vec<(usize, Instant)>,
    next_busy: Option<Instant>,
    next_drain: Option<Instant>,
    /// Where the search for a quiet file to close goes on.
    hand: usize,
}

impl Tail {
    /// A tail that has read nothing yet. With `resume`, it goes on where those positions were taken.
    ///
    /// A watcher that cannot be had is replaced by polling; see [`Tail::watching`].
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
            pipes: false,
        };
        let mut tail = Tail {
            shared,
            trails: Vec::new(),
            paths: HashMap::new(),
            targets: HashMap::new(),
            queue: VecDeque::new(),
            parked: Vec::new(),
            watch,
            watching,
            waker,
            wake_receiver,
            search: false,
            full: false,
            left_out: BTreeMap::new(),
            next_rescan: None,
            next_poll: None,
            busy: Vec::new(),
            next_busy: None,
            next_drain: None,
            hand: 0,
        };
        tail.restore(resume.unwrap_or_default());
        Ok(tail)
    }

    fn restore(&mut self, positions: Positions) {
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
                .position(|source| source.means(path).is_some());
            match source.and_then(|source| self.follow(path, source)) {
                Some(index) => {
                    if let Some(trail) = self.trails.get_mut(index) {
                        trail.restore(positions, &mut self.shared);
                    }
                }
                None => self.parked.extend_from_slice(positions),
            }
        }
        self.parked.truncate(VANISHED_MAX);
    }

    /// Reads what is there, up to about 1 MiB, file by file in turn, and looks at files whose time has come. `now` must
    /// not go back. Never blocks longer than the file system does.
    pub fn read(&mut self, now: Instant, sink: &mut impl Sink) -> Progress {
        self.take_hints();
        if self.next_rescan.is_none_or(|next| next <= now) {
            self.next_rescan = Some(now + self.shared.options.rescan);
            self.search = true;
            self.mark_all();
        } else if self.watch.kind() != Watcher::Inotify
            && self.next_poll.is_none_or(|next| next <= now)
        {
            self.next_poll = Some(now + self.shared.options.poll);
            self.mark_all();
        }
        if self.next_busy.is_some_and(|next| next <= now) {
            self.mark_busy(now);
        }
        if std::mem::take(&mut self.search) {
            self.search(sink);
        }
        if self.next_drain.is_some_and(|next| next <= now) {
            self.next_drain = None;
            self.mark_draining();
        }
        let mut bytes = 0;
        while bytes < READ_BYTES
            && let Some(index) = self.queue.pop_front()
        {
            bytes += self.serve(index, now, sink);
        }
        self.shared.starting = false;
        Progress {
            bytes: bytes as u64,
            more: !self.queue.is_empty() || self.search,
        }
    }

    /// Looks at one trail if need be and reads one chunk of it. Returns the bytes read.
    fn serve(&mut self, index: usize, now: Instant, sink: &mut impl Sink) -> usize {
        let Some(trail) = self.trails.get_mut(index) else {
            return 0;
        };
        trail.queued = false;
        if trail.look {
            let before = trail.target.take();
            trail.target.clone_from(&before);
            trail.look(&mut self.shared, sink);
            if trail.target != before {
                if let Some(before) = before {
                    self.targets.remove(&before);
                }
                if let Some(target) = &trail.target {
                    self.targets.insert(target.clone(), index);
                    // Its directory has to be watched too.
                    self.search = true;
                }
            }
        }
        let bytes = trail.read(now, &mut self.shared, sink);
        if bytes > 0 && self.watch.kind() != Watcher::Inotify {
            let until = now + BUSY_FOR;
            if let Some((_, known)) = self.busy.iter_mut().find(|(busy, _)| *busy == index) {
                *known = until;
            } else if self.busy.len() < BUSY_MAX {
                self.busy.push((index, until));
            }
            self.next_busy.get_or_insert(now + BUSY_POLL);
        }
        if trail.is_draining() && self.next_drain.is_none() {
            self.next_drain = Some(now + DRAIN_POLL);
        }
        // A path that could not be opened is looked at again when its time comes, not at once.
        if bytes > 0 && trail.is_ready() || trail.look && trail.trouble.is_none() {
            trail.queued = true;
            self.queue.push_back(index);
        }
        if self.shared.opened > (self.shared.options.open_files_max / 8).min(64) {
            self.shared.opened = 0;
            self.close_quiet();
        }
        bytes
    }

    /// Waits until something may have changed, a [`Waker`] is used, or `timeout` is over; shorter if files have to be
    /// looked at before.
    pub fn wait(&mut self, timeout: Duration) {
        if !self.queue.is_empty() || self.search {
            return;
        }
        let next_poll = self
            .next_poll
            .filter(|_| self.watch.kind() != Watcher::Inotify);
        let next = [self.next_rescan, next_poll, self.next_busy, self.next_drain]
            .into_iter()
            .flatten()
            .min();
        let now = Instant::now();
        let timeout = next.map_or(timeout, |next| {
            timeout.min(next.saturating_duration_since(now))
        });
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let watch = self.watch.descriptor();
        let trails: &[Trail] = match self.shared.pipes {
            true => &self.trails,
            false => &[],
        };
        let pipes: Vec<_> = trails
            .iter()
            .flat_map(|trail| &trail.streams)
            .filter_map(Stream::pipe)
            .collect();
        let mut fds = vec![PollFd::new(&self.wake_receiver, PollFlags::IN)];
        fds.extend(watch.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(pipes.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let watch_ready = watch.is_some() && fds.get(1).is_some_and(is_ready);
        let pipes_ready = fds
            .iter()
            .skip(1 + usize::from(watch.is_some()))
            .any(is_ready);
        let woken = fds.first().is_some_and(is_ready);
        if woken {
            let mut signals = [0; 64];
            while io::Read::read(&mut &self.wake_receiver, &mut signals).is_ok_and(|len| len > 0) {}
        }
        if pipes_ready {
            self.mark_pipes();
        }
        if watch_ready && !woken {
            // A writer that writes line by line would wake us up for each.
            std::thread::sleep(COALESCE);
        }
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
        for trail in &self.trails {
            trail.positions(&self.shared, &held_bytes, &mut files);
        }
        Positions { files }
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
        let followed = self.trails.iter().map(|trail| {
            let lag = |stream: &Stream| {
                let size = match &stream.body {
                    Body::Plain(file) => file
                        .metadata()
                        .map_or(stream.size, |metadata| metadata.len()),
                    _ => stream.size,
                };
                size.saturating_sub(stream.next_offset())
            };
            FileStatus {
                info: trail.info.clone(),
                state: trail.state(),
                offset: trail.current().map_or(0, |current| current.mark.offset),
                lag_bytes: trail
                    .streams
                    .iter()
                    .filter(|stream| !stream.is_pipe())
                    .map(lag)
                    .sum(),
            }
        });
        followed.chain(left_out)
    }

    /// How the tail is woken up at present.
    pub fn watching(&self) -> &Watching {
        &self.watching
    }

    fn fall_back(&mut self, error: &io::Error) {
        self.watch = Watch::Poll;
        self.watching.watcher = Watcher::Poll;
        self.watching.fallback = Some(error.to_string().into());
    }

    fn take_hints(&mut self) {
        let mut everything = false;
        let Tail {
            watch,
            trails,
            paths,
            targets,
            queue,
            search,
            shared,
            ..
        } = self;
        let result = watch.hints(|hint| match hint {
            Hint::Everything => everything = true,
            Hint::Directories => *search = true,
            // A directory of files that we follow may have busy neighbours.
            Hint::Directory(path) => {
                let mut patterns = shared.sources.iter().flat_map(|source| &source.include);
                *search |= patterns.any(|pattern| pattern.depends_on(path))
                    || targets.keys().any(|target| target.starts_with(path));
            }
            Hint::Written(path) | Hint::Renamed(path) => {
                let renamed = matches!(hint, Hint::Renamed(_));
                match paths
                    .get(path)
                    .or_else(|| targets.get(path))
                    .and_then(|index| trails.get_mut(*index))
                {
                    Some(trail) => {
                        trail.look |= renamed || trail.current().is_none();
                        if let Some(current) = trail.streams.last_mut() {
                            current.ready = true;
                        }
                        enqueue(trail, queue);
                    }
                    // A rotated name, or a new file that a source means.
                    None => {
                        let meant = || {
                            shared
                                .sources
                                .iter()
                                .any(|source| source.means(path).is_some())
                        };
                        *search |= renamed && path.exists() && meant();
                    }
                }
            }
        });
        if let Err(error) = result {
            self.fall_back(&error);
            everything = true;
        }
        if everything {
            self.watching.overflows += 1;
            self.search = true;
            self.mark_all();
        }
    }

    fn mark_all(&mut self) {
        for trail in &mut self.trails {
            trail.look = true;
            for stream in &mut trail.streams {
                // A look at the path tells nothing of a pipe, nor of what was rotated away.
                stream.ready |= stream.is_pipe() || !stream.current;
            }
            enqueue(trail, &mut self.queue);
        }
    }

    fn mark_busy(&mut self, now: Instant) {
        self.busy.retain(|(_, until)| *until > now);
        self.next_busy = (!self.busy.is_empty()).then_some(now + BUSY_POLL);
        for (index, _) in &self.busy {
            if let Some(trail) = self.trails.get_mut(*index) {
                trail.look = true;
                enqueue(trail, &mut self.queue);
            }
        }
    }

    fn mark_draining(&mut self) {
        for trail in self.trails.iter_mut().filter(|trail| trail.is_draining()) {
            for stream in trail.streams.iter_mut().filter(|stream| !stream.current) {
                stream.ready = true;
            }
            enqueue(trail, &mut self.queue);
        }
    }

    fn mark_pipes(&mut self) {
        for trail in &mut self.trails {
            if let Some(current) = trail.streams.last_mut().filter(|stream| stream.is_pipe()) {
                current.ready = true;
                enqueue(trail, &mut self.queue);
            }
        }
    }

    /// Searches the directories for files that are meant and not yet followed, and watches the directories.
    fn search(&mut self, sink: &mut impl Sink) {
        let mut directories = HashSet::new();
        let mut found = Vec::new();
        let mut left_out = Vec::new();
        for (index, source) in self.shared.sources.iter().enumerate() {
            for pattern in &source.include {
                if let Some(path) = pattern.literal()
                    && source.means(path).is_some()
                {
                    found.push((path.to_owned(), index));
                }
                let paths = &self.paths;
                pattern.walk(|what| match what {
                    Found::File(path) => {
                        if !paths.contains_key(path) && source.means(path).is_some() {
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
        self.full = false;
        for (path, source) in found {
            if let Err(trouble) = self.consider(&path, source) {
                left_out.push(((source, path), trouble));
            }
        }
        left_out.truncate(self.shared.options.files_max);
        self.tell_left_out(left_out.into_iter().collect(), sink);
        let files = self.trails.iter().map(|trail| trail.info.path.as_path());
        match self.watch.watch(&directories, files) {
            Ok(true) => {
                // What came into those directories before they were watched was not told to us.
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
            let told = match trouble {
                Trouble::TooManyFiles => std::mem::replace(&mut full, true),
                _ => before.get(what) == Some(trouble),
            };
            if !told {
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
        if self.paths.contains_key(path) || self.is_rotated_form(path, source) {
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
                    if let Some(owner) = self.trails.get_mut(*owner) {
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
                .and_then(|index| self.trails.get(*index))
            {
                Some(trail) => trail.seen || earlier.exists(),
                None => earlier.is_file() && self.shared.means(source, &earlier),
            }
        })
    }

    /// Makes a trail for `path`. `None` if there are too many.
    fn follow(&mut self, path: &Path, source: usize) -> Option<usize> {
        if let Some(index) = self.paths.get(path) {
            return Some(*index);
        }
        let spec = self.shared.sources.get(source)?;
        let (captures, read_from) = (spec.means(path)?, spec.read_from);
        let index = match self.trails.len() < self.shared.options.files_max {
            true => Some(self.trails.len()),
            false if self.full => None,
            // Paths whose files are gone and finished make room.
            false => self
                .trails
                .iter()
                .position(|trail| trail.streams.is_empty() && !trail.info.path.exists()),
        };
        self.full = index.is_none();
        let index = index?;
        let trail = Trail::new(
            index,
            FileInfo {
                source,
                path: path.to_owned(),
                captures,
            },
            read_from,
        );
        match self.trails.get_mut(index) {
            Some(old) => {
                self.paths.remove(&old.info.path);
                self.targets.retain(|_, owner| *owner != index);
                self.shared.registry.forget_trail(index);
                *old = trail;
            }
            None => self.trails.push(trail),
        }
        self.paths.insert(path.to_owned(), index);
        self.watch.watch_file(path);
        if let Some(trail) = self.trails.get_mut(index) {
            enqueue(trail, &mut self.queue);
        }
        Some(index)
    }

    /// Closes quiet files until there are no more open ones than allowed, least recently written first (roughly: a
    /// clock hand goes round, and spares what has something to read).
    fn close_quiet(&mut self) {
        let open = self
            .trails
            .iter()
            .flat_map(|trail| &trail.streams)
            .filter(|stream| stream.is_open())
            .count();
        let mut excess = open.saturating_sub(self.shared.options.open_files_max);
        for _ in 0..self.trails.len() {
            if excess == 0 {
                break;
            }
            self.hand = (self.hand + 1) % self.trails.len();
            let current = self
                .trails
                .get_mut(self.hand)
                .and_then(|trail| trail.streams.last_mut());
            if let Some(stream) = current
                && stream.current
                && !stream.ready
                && matches!(stream.body, Body::Plain(_))
            {
                stream.body = Body::Closed;
                excess -= 1;
            }
        }
    }
}

fn enqueue(trail: &mut Trail, queue: &mut VecDeque<usize>) {
    if !trail.queued {
        trail.queued = true;
        queue.push_back(trail.index);
    }
}
