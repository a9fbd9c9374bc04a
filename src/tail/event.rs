//! What the tail reports: bytes, and what happened to the files.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::{Chunk, CompressedAs, FileId, FileInfo};

/// Who takes what the tail reads. Called from within [`Tail::read`](super::Tail::read).
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
    Whole {
        /// See [`Chunk::is_late`](super::Chunk::is_late).
        is_late: bool,
    },
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
    /// A rotated file was put beside the path whose lines are older than all that was read of it. It is not read.
    History {
        /// Its size as stored.
        bytes: u64,
    },
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
    /// It is compressed, in a form that is not read.
    Compressed(CompressedAs),
    /// The process or the system has no descriptors left.
    TooManyOpenFiles,
    /// [`Options::files_max`](super::Options::files_max) is reached. Told for the first path that is left out only; [`Tail::status`](super::Tail::status) has them all.
    TooManyFiles,
    /// The system says so, by number (errno).
    Io(i32),
    /// Anything else.
    Other(io::ErrorKind),
}

impl Trouble {
    pub(super) fn of(error: &io::Error) -> Trouble {
        use rustix::io::Errno;
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        if let Some(form) = CompressedAs::of_error(error) {
            return Trouble::Compressed(form);
        }
        match error.kind() {
            io::ErrorKind::IsADirectory => Trouble::IsDirectory,
            io::ErrorKind::InvalidInput => Trouble::NotAFile,
            io::ErrorKind::PermissionDenied => Trouble::PermissionDenied,
            _ if matches!(errno, Some(Errno::MFILE | Errno::NFILE)) => Trouble::TooManyOpenFiles,
            kind => error
                .raw_os_error()
                .map_or(Trouble::Other(kind), Trouble::Io),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::IsDirectory => f.write_str("is a directory"),
            Trouble::NotAFile => f.write_str("is neither a file nor a FIFO"),
            Trouble::PermissionDenied => f.write_str("permission denied"),
            Trouble::Compressed(form) => form.fmt(f),
            Trouble::TooManyOpenFiles => {
                f.write_str("too many open files; raise the limit (LimitNOFILE=)")
            }
            Trouble::TooManyFiles => f.write_str("more files than are followed at most"),
            Trouble::Io(errno) => {
                let name = errno_name(*errno).map(|name| format!("{name}: "));
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "{}{error}", name.unwrap_or_default())
            }
            Trouble::Other(kind) => kind.fmt(f),
        }
    }
}

/// What the manuals call the errors that reading a file meets.
fn errno_name(errno: i32) -> Option<&'static str> {
    use rustix::io::Errno;
    Some(match Errno::from_raw_os_error(errno) {
        Errno::IO => "EIO",
        Errno::NXIO => "ENXIO",
        Errno::LOOP => "ELOOP",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NOMEM => "ENOMEM",
        Errno::NODEV => "ENODEV",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::STALE => "ESTALE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::NOTCONN => "ENOTCONN",
        Errno::HOSTDOWN => "EHOSTDOWN",
        Errno::BADMSG => "EBADMSG",

        _ => return None,
    })
}
