//! One file, read once from wherever one stands to its end, whatever its names are meanwhile.
//!
//! Every read of a plain file begins a few bytes before the offset, with the seam: the read itself proves that it goes
//! on where the last one ended. A file that was truncated, or truncated and written anew past the old offset, is found
//! out before a byte of it is taken for a continuation. It costs no call more.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read, Seek};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Instant, SystemTime};

use flate2::read::MultiGzDecoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::LostReason;
use super::identity::{FileKey, HEAD_BYTES, Mark, modified_ns};
use super::rotated::COMPRESSED;

/// How much is handed on at a time at most, in bytes.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// Room for one chunk and what is read again before it.
pub(super) const BUFFER_BYTES: usize = CHUNK_BYTES + HEAD_BYTES;

/// How much of two files is compared at a time, in bytes.
const COMPARED_BYTES: usize = 64 * 1024;

/// One file (or pipe) on its way from its first byte to its last.
#[derive(Debug)]
pub(super) struct Stream {
    /// The name under which the sink knows it.
    pub id: super::FileId,
    /// Device and inode; `None` once its content is gone from them, and only a copy can still have it.
    pub key: Option<FileKey>,
    /// Where its bytes come from.
    pub body: Body,
    /// How far it was read.
    pub mark: Mark,
    /// The size that its content is known to have had, in bytes; never less than what was read.
    pub size: u64,
    /// The time of its last change when it was last seen at its path, with the content that was read from it.
    pub modified_ns: i64,
    /// The time of its last change when the path was last looked at. Nothing is known of its content then.
    pub looked_ns: i64,
    /// Its size then, in bytes.
    pub looked_size: u64,
    /// It is the file at the path; otherwise it was rotated away.
    pub current: bool,
    /// There may be something to read.
    pub ready: bool,
    /// Since when nothing was read from a file that was rotated away.
    pub quiet_since: Option<Instant>,
    /// Where to go on once it is found, if a process before this one began to read it.
    pub resume_at: Option<u64>,
    /// The sink has heard of it.
    pub announced: bool,
    /// Why its end is not the end of its last line: its content was truncated away, or is damaged.
    pub cut: Option<LostReason>,
    /// A writer without `O_APPEND` goes on at its old offset after a truncation, which leaves a hole: NUL bytes before
    /// the first line, which nobody wrote.
    pub skip_nul: bool,
}

/// Where a stream's bytes come from.
#[derive(Debug)]
pub(super) enum Body {
    /// Not open: to be found, or closed to save a descriptor.
    Closed,
    /// A plain file.
    Plain(File),
    /// A compressed file; it is finished when its end is reached.
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    /// A FIFO, and where permitted a writer of our own, so that it never comes to an end.
    Fifo { reader: File, _writer: Option<File> },
    /// Standard input.
    StandardInput,
}

/// What reading brought.
#[derive(Debug)]
pub(super) enum Step {
    /// These bytes of the buffer are the next of the stream. `more`: very likely not the last ones.
    Bytes { range: Range<usize>, more: bool },
    /// Nothing new.
    Quiet,
    /// The end, and nothing can follow.
    End,
    /// The file no longer has what was read from it.
    Truncated,
    /// It cannot be read now.
    Failed(io::Error),
}

impl Stream {
    /// A stream at the beginning of `body`, current and ready.
    pub(super) fn new(id: super::FileId, key: Option<FileKey>, body: Body) -> Stream {
        Stream {
            id,
            key,
            body,
            mark: Mark::default(),
            size: 0,
            modified_ns: i64::MIN,
            looked_ns: i64::MIN,
            looked_size: 0,
            current: true,
            ready: true,
            quiet_since: None,
            resume_at: None,
            announced: false,
            cut: None,
            skip_nul: false,
        }
    }

    /// Goes on from `body`, which was found to have what this stream was read from.
    pub(super) fn attach(&mut self, opened: &Opened, (body, mark): (Body, Mark)) {
        self.key = Some(opened.key);
        self.body = body;
        self.mark = mark;
        self.size = self.size.max(mark.offset);
        self.resume_at = None;
        self.ready = true;
        self.quiet_since = None;
    }

    /// Where to go on: the last line border that is known of, if its bytes have to be read again.
    pub(super) fn next_offset(&self) -> u64 {
        self.resume_at.unwrap_or(self.mark.offset)
    }

    /// Reads the next bytes into `buffer` ([`BUFFER_BYTES`] long). Never blocks on a pipe.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Step {
        let result = match &mut self.body {
            Body::Closed => return Step::Quiet,
            Body::Plain(file) => return read_plain(file, &mut self.mark, buffer),
            Body::Gzip(decoder) => return read_gzip(decoder, &mut self.mark, buffer),
            Body::Fifo { reader, .. } => match reader.read(buffer) {
                // Every writer is gone; another may come.
                Ok(0) => return Step::Quiet,
                result => result,
            },
            Body::StandardInput => match is_readable(rustix::stdio::stdin()) {
                true => match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
                    Ok(0) => return Step::End,
                    result => result.map_err(io::Error::from),
                },
                false => return Step::Quiet,
            },
        };
        match result {
            Ok(len) => {
                self.mark.offset += len as u64;
                Step::Bytes {
                    range: 0..len,
                    more: len == buffer.len(),
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Step::Quiet
            }
            Err(error) => Step::Failed(error),
        }
    }

    /// The file no longer has what was read from it, as far as can be seen without reading on.
    pub(super) fn is_truncated(&self) -> bool {
        let Body::Plain(file) = &self.body else {
            return false;
        };
        let mut seam = [0; HEAD_BYTES];
        let seam = seam.get_mut(..self.mark.seam.len()).unwrap_or_default();
        match file.read_exact_at(seam, self.mark.read_from()) {
            Ok(()) => !self.mark.seam.begins(seam),
            Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        }
    }

    /// When this plain file was last changed, in nanoseconds since 1970.
    pub(super) fn modified_now_ns(&self) -> Option<i64> {
        self.metadata().map(|metadata| modified_ns(&metadata))
    }

    /// What the file system says of this plain file now.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        match &self.body {
            Body::Plain(file) => file.metadata().ok(),
            _ => None,
        }
    }

    /// All of `other` (uncompressed) is in this stream's file too, which is open: it is a copy of it (perhaps in the
    /// making), was compressed from it, or happens to say the same. Its length if so. Files that begin or end differently
    /// cost two short reads, or one if compressed; others are read to their end.
    pub(super) fn contains(&self, other: &Opened) -> Option<u64> {
        let Body::Plain(file) = &self.body else {
            return None;
        };
        let same = || -> io::Result<Option<u64>> {
            if other.compressed {
                return begins_with(file, &mut decoder(&other.body)?);
            }
            let mark = other.mark_at(other.size)?;
            if !has(file, file.metadata()?.len(), &mark)? {
                return Ok(None);
            }
            let from = FileAt {
                file: &other.body,
                at: 0,
            };
            begins_with(file, &mut from.take(other.size))
        };
        same().ok().flatten().filter(|len| *len > 0)
    }

    /// How many bytes of a compressed file, as stored, were not decoded yet.
    pub(super) fn stored_rest(&self) -> u64 {
        let Body::Gzip(decoder) = &self.body else {
            return 0;
        };
        let reader = decoder.get_ref();
        let mut file = reader.get_ref();
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let taken = file.stream_position().unwrap_or(0);
        size.saturating_sub(taken) + reader.buffer().len() as u64
    }

    /// The descriptor to wait on for a pipe.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        match &self.body {
            Body::Fifo {
                reader,
                _writer: Some(_),
            } => Some(reader.as_fd()),
            Body::StandardInput => Some(rustix::stdio::stdin()),
            _ => None,
        }
    }

    pub(super) fn is_pipe(&self) -> bool {
        matches!(self.body, Body::Fifo { .. } | Body::StandardInput)
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.body, Body::Closed)
    }
}

fn read_plain(file: &File, mark: &mut Mark, buffer: &mut [u8]) -> Step {
    let len = match file.read_at(buffer, mark.read_from()) {
        Ok(len) => len,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Step::Quiet,
        Err(error) => return Step::Failed(error),
    };
    let seam = mark.seam.len();
    let Some(run) = buffer.get(..len).filter(|run| mark.seam.begins(run)) else {
        return Step::Truncated;
    };
    if len == seam {
        return Step::Quiet;
    }
    mark.advance(run);
    Step::Bytes {
        range: seam..len,
        more: len == buffer.len(),
    }
}

fn read_gzip(decoder: &mut impl Read, mark: &mut Mark, buffer: &mut [u8]) -> Step {
    // The decoder gives what it has; the buffer is filled, so that the head is whole and the seam as long as can be.
    let mut len = 0;
    while let Some(room) = buffer.get_mut(len..).filter(|room| !room.is_empty()) {
        match decoder.read(room) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What was decoded before the damage is good; the next read meets the damage again.
            Err(_) if len > 0 => break,
            Err(error) => return Step::Failed(error),
        }
    }
    let Some(run) = buffer.get(..len).filter(|run| !run.is_empty()) else {
        return Step::End;
    };
    let mut next = Mark {
        seam: Default::default(),
        ..*mark
    };
    next.advance(run);
    *mark = next;
    Step::Bytes {
        range: 0..len,
        more: true,
    }
}

/// A read would not block: there are bytes, or the end.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A file that was opened to see what it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub key: FileKey,
    /// Size as stored, in bytes.
    pub size: u64,
    pub modified_ns: i64,
    /// When the file itself was made, where the file system keeps that.
    pub born: Option<SystemTime>,
    body: File,
    compressed: bool,
}

impl Opened {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// As [`File::open`]; a directory is [`io::ErrorKind::IsADirectory`], anything else that is no regular file is
    /// [`io::ErrorKind::InvalidInput`].
    pub(super) fn open(path: &Path) -> io::Result<Opened> {
        // Without this flag, a FIFO that took the file's place since it was looked at would block for ever.
        let body = OpenOptions::new()
            .read(true)
            .custom_flags(NONBLOCK)
            .open(path)?;
        let metadata = body.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let compressed = path.as_os_str().as_bytes().ends_with(COMPRESSED);
        Ok(Opened {
            key: FileKey::of(&metadata),
            size: metadata.len(),
            modified_ns: modified_ns(&metadata),
            born: metadata.created().ok(),
            body,
            compressed,
        })
    }

    /// The (uncompressed) content begins with what `mark` was read from. Reads a compressed file up to the mark.
    pub(super) fn continues(&self, mark: &Mark) -> bool {
        self.body_at(mark, mark.offset)
            .is_ok_and(|found| found.is_some())
    }

    /// The body, placed at `offset` (at most `mark.offset`), and the mark there; `None` if this is not what `mark` was
    /// read from.
    pub(super) fn body_at(&self, mark: &Mark, offset: u64) -> io::Result<Option<(Body, Mark)>> {
        let file = self.body.try_clone()?;
        if self.compressed {
            gzip_at(file, mark, offset)
        } else {
            plain_at(file, self.size, mark, offset)
        }
    }

    /// The body from its first byte.
    pub(super) fn body(&self) -> io::Result<Body> {
        if self.compressed {
            Ok(Body::Gzip(Box::new(decoder(&self.body)?)))
        } else {
            Ok(Body::Plain(self.body.try_clone()?))
        }
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// The end of the last whole line, in bytes; if it is not near the end, the end.
    pub(super) fn end_of_last_line(&self) -> io::Result<u64> {
        let mut tail = vec![0; CHUNK_BYTES];
        let start = self.size.saturating_sub(tail.len() as u64);
        let len = self.body.read_at(&mut tail, start)?;
        tail.truncate(len);
        Ok(memchr::memrchr(b'\n', &tail).map_or(self.size, |at| start + at as u64 + 1))
    }

    /// The mark of someone who read this plain file up to `offset`.
    pub(super) fn mark_at(&self, offset: u64) -> io::Result<Mark> {
        mark_at(&self.body, offset)
    }
}

/// `O_NONBLOCK`, which std has no name for.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

fn mark_at(file: &File, offset: u64) -> io::Result<Mark> {
    let mut mark = Mark::default();
    let mut run = [0; HEAD_BYTES];
    let head = usize::try_from(offset)
        .unwrap_or(HEAD_BYTES)
        .min(HEAD_BYTES);
    let head = run.get_mut(..head).unwrap_or_default();
    file.read_exact_at(head, 0)?;
    mark.advance(head);
    if offset > mark.offset {
        // The seam is the only thing that is missing now.
        mark.seam = Default::default();
        mark.offset = offset - HEAD_BYTES as u64;
        file.read_exact_at(&mut run, mark.offset)?;
        mark.advance(&run);
    }
    Ok(mark)
}

fn plain_at(file: File, size: u64, mark: &Mark, offset: u64) -> io::Result<Option<(Body, Mark)>> {
    if !has(&file, size, mark)? {
        return Ok(None);
    }
    let mark = mark_at(&file, offset.min(mark.offset))?;
    Ok(Some((Body::Plain(file), mark)))
}

/// The file of this size has what `mark` was read from.
fn has(file: &File, size: u64, mark: &Mark) -> io::Result<bool> {
    if size < mark.offset {
        return Ok(false);
    }
    let mut run = [0; HEAD_BYTES];
    for (fingerprint, at) in [(mark.head, 0), (mark.seam, mark.read_from())] {
        let run = run.get_mut(..fingerprint.len()).unwrap_or_default();
        match file.read_exact_at(run, at) {
            Ok(()) if fingerprint.begins(run) => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn gzip_at(file: File, mark: &Mark, offset: u64) -> io::Result<Option<(Body, Mark)>> {
    let mut checked = decoder(&file)?;
    let mut run = [0; HEAD_BYTES];
    let head = run.get_mut(..mark.head.len()).unwrap_or_default();
    if !fill(&mut checked, head)? || !mark.head.begins(head) {
        return Ok(None);
    }
    // The seam may overlap the head; then it lies within the head, which was just checked.
    if mark.read_from() >= u64::from(mark.head.len) {
        let between = mark.read_from() - u64::from(mark.head.len);
        let seam = run.get_mut(..mark.seam.len()).unwrap_or_default();
        if !skip(&mut checked, between)? || !fill(&mut checked, seam)? || !mark.seam.begins(seam) {
            return Ok(None);
        }
    }
    let mut decoder = decoder(&file)?;
    let offset = offset.min(mark.offset);
    skip(&mut decoder, offset)?;
    let head = if offset >= u64::from(mark.head.len) {
        mark.head
    } else {
        Default::default()
    };
    Ok(Some((
        Body::Gzip(Box::new(decoder)),
        Mark {
            offset,
            head,
            seam: Default::default(),
        },
    )))
}

/// A decoder at the beginning of a compressed file.
fn decoder(file: &File) -> io::Result<MultiGzDecoder<BufReader<File>>> {
    // The position is shared with every other clone of the descriptor, so it is set each time.
    let mut file = file.try_clone()?;
    io::Seek::rewind(&mut file)?;
    Ok(MultiGzDecoder::new(BufReader::new(file)))
}

/// `file` begins with all that `other` has; how much that is.
fn begins_with(file: &File, other: &mut impl Read) -> io::Result<Option<u64>> {
    let (mut ours, mut theirs) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
    let mut at = 0;
    loop {
        let len = other.read(&mut theirs)?;
        let (Some(ours), Some(theirs)) = (ours.get_mut(..len), theirs.get(..len)) else {
            return Ok(None);
        };
        if len == 0 {
            return Ok(Some(at));
        }
        match file.read_exact_at(ours, at) {
            Ok(()) if *ours == *theirs => at += len as u64,
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Reads a file by position: the descriptor's own is shared with its clones.
struct FileAt<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FileAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Fills `run`; `false` if the end comes before.
fn fill(reader: &mut impl Read, run: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(run) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads `len` bytes and forgets them; `false` if the end comes before.
fn skip(reader: &mut impl Read, len: u64) -> io::Result<bool> {
    Ok(io::copy(&mut reader.take(len), &mut io::sink())? == len)
}

/// Opens a FIFO for reading without waiting for a writer.
pub(super) fn open_fifo(path: &Path) -> io::Result<Body> {
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)?;
    if !reader.metadata()?.file_type().is_fifo() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // While we hold a writer ourselves, the last other writer's going is not an end to be told from.
    let writer = OpenOptions::new()
        .write(true)
        .custom_flags(NONBLOCK)
        .open(path)
        .ok();
    Ok(Body::Fifo {
        reader,
        _writer: writer,
    })
}
