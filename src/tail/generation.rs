//! One generation of a log: one file, read once from wherever one stands to its end, whatever its names are meanwhile.
//!
//! Every read of a plain file begins with the seam: the read itself proves that it goes on where the last one ended. A
//! file that was truncated, or truncated and written anew past the old offset, is found out before a byte of it is taken
//! for a continuation. It costs no call more.
//!
//! NUL bytes are what a file system shows where nobody has written: in a hole that a writer without `O_APPEND` leaves
//! behind a truncation, in a file that was made larger in advance, over NFS until the data follows the size. At the end of
//! a file they are not read until something follows them; at the beginning of a line they are skipped.

use std::fs::Metadata;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::LostReason;
use super::content::{Content, Gzip, is_damage, last_bytes};
use super::identity::{Comparison, FileKey, ReadPosition, SEAM_BYTES, SEAM_BYTES_MAX, modified_ns};
use super::opened::{Depth, Opened, Reader, compare};

/// How much is handed on at a time at most, in bytes.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// Room for one chunk and what is read again before it.
pub(super) const BUFFER_BYTES: usize = CHUNK_BYTES + SEAM_BYTES_MAX;

/// How many NUL bytes that are no hole are searched at a time for what follows them.
const NUL_BYTES: u64 = 64 * 1024 * 1024;

/// One file (or pipe) on its way from its first byte to its last.
#[derive(Debug)]
pub(super) struct Generation {
    /// The name under which the sink knows it.
    pub id: super::FileId,
    /// Device and inode where it was last seen; `None` once its content is gone from them, and only a copy can still have
    /// it. A hint, unless it is open.
    pub key: Option<FileKey>,
    /// When that inode was made, in nanoseconds since 1970, where that is known.
    pub born_ns: Option<i64>,
    /// Where its bytes come from.
    pub content: Content,
    /// How far it is known.
    pub position: ReadPosition,
    /// Where to go on, if that is before the position: it was discovered and not read yet, or a former process read it
    /// and held an unfinished line.
    pub resume_at: Option<u64>,
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
    /// Reading failed: it is tried again then.
    pub retry_at: Option<Instant>,
    /// The sink has heard of it.
    pub announced: bool,
    /// When its first bytes were handed over, a younger file of the path had been read.
    pub is_late: bool,
    /// Why its end is not the end of its last line: its content was truncated away, or is damaged.
    pub cut: Option<LostReason>,
    /// Where its path led when it was the file there, if that was a symbolic link.
    pub target: Option<PathBuf>,
    /// When its first line was received, in seconds since 1970, if its lines are dated.
    pub first_time: Option<i64>,
    /// It was empty when it was found beside the path. It is decided what it is, a copy perhaps, when it says something.
    pub undecided: bool,
    /// The next byte is the first of a line.
    at_line_start: bool,
    /// NUL bytes at the end of the file that are not read.
    pub nul_bytes: u64,
    /// How far they were searched for what follows them.
    nul_searched: u64,
}

/// What reading brought.
#[derive(Debug)]
pub(super) enum Outcome {
    /// These bytes of the buffer are the next ones (none, if what was read is a hole). `more`: very likely not the last.
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

impl Generation {
    /// A generation at the beginning of `content`, current and ready.
    pub(super) fn new(id: super::FileId, key: Option<FileKey>, content: Content) -> Generation {
        Generation {
            id,
            key,
            born_ns: None,
            content,
            position: ReadPosition::default(),
            size: 0,
            modified_ns: i64::MIN,
            looked_ns: i64::MIN,
            looked_size: 0,
            current: true,
            ready: true,
            quiet_since: None,
            retry_at: None,
            resume_at: None,
            announced: false,
            is_late: false,
            cut: None,
            target: None,
            first_time: None,
            undecided: false,
            at_line_start: true,
            nul_bytes: 0,
            nul_searched: 0,
        }
    }

    /// Goes on from `opened`, which was found to continue this generation.
    pub(super) fn attach(&mut self, opened: &Opened) -> io::Result<()> {
        let (content, position) = opened.content_at(&self.position, self.next_offset())?;
        (self.content, self.position) = (content, position);
        let behind = |at: &u64| *at < self.position.offset;
        self.resume_at = self.resume_at.filter(behind);
        self.key = Some(opened.key);
        self.born_ns = opened.born_ns;
        self.size = self.size.max(self.position.offset);
        self.ready = true;
        self.quiet_since = None;
        Ok(())
    }

    /// Takes note of what a new file says, before anything of it is handed on: so it is recognised if it is renamed
    /// before it is read. (Nothing goes back in a compressed file.)
    pub(super) fn discover(&mut self, opened: &Opened, beginning: ReadPosition) {
        self.born_ns = opened.born_ns;
        if !opened.is_compressed() && !beginning.is_empty() {
            self.position = beginning;
            self.resume_at = Some(0);
        }
    }

    /// Its content is in no file that is known.
    pub(super) fn is_lost(&self) -> bool {
        !self.current && !self.is_open()
    }

    /// It was empty, and says something now.
    pub(super) fn has_to_be_decided(&self) -> bool {
        self.undecided && self.metadata().is_some_and(|metadata| metadata.len() > 0)
    }

    /// It is the inode in which this was last seen, by number and by the time when it was made.
    pub(super) fn is_in(&self, key: FileKey, born_ns: Option<i64>) -> bool {
        let is_other = self.born_ns.zip(born_ns).is_some_and(|(a, b)| a != b);
        self.key == Some(key) && !is_other
    }

    /// Its file has another content.
    pub(super) fn lose_file(&mut self) {
        self.key = None;
        self.content = Content::Closed;
        self.current = false;
    }

    /// Where to go on: the last line border that is known of, if its bytes have to be read again.
    pub(super) fn next_offset(&self) -> u64 {
        self.resume_at.unwrap_or(self.position.offset)
    }

    /// Reads the next bytes into `buffer` ([`BUFFER_BYTES`] long). Never blocks on a pipe.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Outcome {
        let mut outcome = self.read_any(buffer);
        if let Outcome::Bytes { range, .. } = &mut outcome
            && let Some(bytes) = buffer.get(range.clone())
            && !bytes.is_empty()
        {
            if self.at_line_start {
                range.start += bytes.iter().take_while(|byte| **byte == 0).count();
            }
            self.at_line_start = range.start == range.end || bytes.last() == Some(&b'\n');
        }
        outcome
    }

    fn read_any(&mut self, buffer: &mut [u8]) -> Outcome {
        let result = match &mut self.content {
            // It may say something now, which is decided about first.
            _ if self.undecided => return Outcome::Quiet,
            Content::Closed => return Outcome::Quiet,
            Content::Plain(_) => {
                let read = match self.resume_at {
                    Some(at) => self.read_again(at, buffer),
                    None => self.read_plain(buffer),
                };
                return read.unwrap_or_else(|error| match error.kind() {
                    io::ErrorKind::Interrupted => Outcome::Quiet,
                    _ => Outcome::Failed(error),
                });
            }
            Content::Gzip(gzip) => return read_gzip(gzip, &mut self.position, buffer),
            Content::Fifo { reader, .. } => match reader.read(buffer) {
                // Every writer is gone; another may come.
                Ok(0) => return Outcome::Quiet,
                result => result,
            },
            Content::StandardInput => match is_readable(rustix::stdio::stdin()) {
                true => match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
                    Ok(0) => return Outcome::End,
                    result => result.map_err(io::Error::from),
                },
                false => return Outcome::Quiet,
            },
        };
        match result {
            Ok(len) => {
                self.position.offset += len as u64;
                Outcome::Bytes {
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
                Outcome::Quiet
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Hands on what is known already and was not handed on by this process.
    fn read_again(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<Outcome> {
        let Content::Plain(file) = &self.content else {
            return Ok(Outcome::Quiet);
        };
        let len = usize::try_from(self.position.offset - at).unwrap_or(buffer.len());
        let Some(run) = buffer.get_mut(..len.min(CHUNK_BYTES)) else {
            return Ok(Outcome::Quiet);
        };
        let len = file.read_at(run, at)?;
        // If the seam is still there now, so was all before it.
        if len == 0 || self.is_truncated() {
            return Ok(Outcome::Truncated);
        }
        let next = at + len as u64;
        self.resume_at = Some(next).filter(|next| *next < self.position.offset);
        Ok(Outcome::Bytes {
            range: 0..len,
            more: true,
        })
    }

    fn read_plain(&mut self, buffer: &mut [u8]) -> io::Result<Outcome> {
        let Content::Plain(file) = &self.content else {
            return Ok(Outcome::Quiet);
        };
        let space = buffer.len();
        let mut len = file.read_at(buffer, self.position.read_from())?;
        let seam = self.position.seam_bytes();
        // A read may be short before what cannot be read, which is no end.
        while len < seam
            && let Some(rest) = buffer.get_mut(len..)
        {
            match file.read_at(rest, self.position.read_from() + len as u64)? {
                0 => break,
                more => len += more,
            }
        }
        let Some(run) = buffer
            .get(..len)
            .filter(|run| self.position.seam_begins(run))
        else {
            return Ok(Outcome::Truncated);
        };
        self.nul_bytes = 0;
        if len == seam {
            return Ok(Outcome::Quiet);
        }
        if self.begins_anew() {
            return Ok(Outcome::Truncated);
        }
        let new = run.get(seam..).unwrap_or_default();
        let mut end = len;
        let mut more = len == space;
        if memchr::memchr(0, new).is_some() {
            end -= new.iter().rev().take_while(|byte| **byte == 0).count();
            if end == seam {
                return self.skip_hole();
            }
            // Nothing more is known to lie behind these NUL bytes, unless the buffer is full.
            self.nul_bytes = (len - end) as u64;
            let lines = run.get(seam..end).unwrap_or_default();
            // What follows a hole begins the next chunk.
            let leading = lines.iter().take_while(|byte| **byte == 0).count();
            let behind = lines.get(leading..).unwrap_or_default();
            if let Some(at) = memchr::memmem::find(behind, b"\n\0") {
                end = seam + leading + at + 1;
                more = true;
            }
        }
        self.position.advance(run.get(..end).unwrap_or_default());
        Ok(Outcome::Bytes {
            range: seam..end,
            more,
        })
    }

    /// Behind the position are NUL bytes as far as was read. Goes on where something follows them, if anything does.
    fn skip_hole(&mut self) -> io::Result<Outcome> {
        let Content::Plain(file) = &self.content else {
            return Ok(Outcome::Quiet);
        };
        let (offset, size) = (self.position.offset, file.metadata()?.len());
        self.nul_bytes = size.saturating_sub(offset);
        let mut at = offset.max(self.nul_searched).min(size);
        let stop = at.saturating_add(NUL_BYTES);
        let mut run = vec![0; CHUNK_BYTES];
        let mut searched = at;
        while searched < stop {
            // A file system that does not know holes says that all is data.
            at = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => size,
                Err(_) => at,
            };
            let len = file.read_at(&mut run, at)?;
            if len == 0 {
                break;
            }
            let read = run.get(..len).unwrap_or_default();
            if let Some(nul) = read.iter().position(|byte| *byte != 0) {
                let next = at + nul as u64;
                let base = next.saturating_sub(SEAM_BYTES as u64).max(offset);
                let mut seam = vec![0; (next - base) as usize];
                file.read_exact_at(&mut seam, base)?;
                self.position.jump(base);
                self.position.advance(&seam);
                self.nul_searched = 0;
                self.nul_bytes = 0;
                return Ok(Outcome::Bytes {
                    range: 0..0,
                    more: true,
                });
            }
            at += len as u64;
            searched += len as u64;
        }
        // What was searched may be written to yet; the next bytes are always looked at first.
        self.nul_searched = if at < size { at } else { 0 };
        Ok(Outcome::Quiet)
    }

    /// The end of the NUL bytes behind the position is not found yet.
    pub(super) fn is_searching(&self) -> bool {
        self.nul_searched > 0
    }

    /// The file no longer has what was read from it, as far as can be seen without reading on.
    pub(super) fn is_truncated(&self) -> bool {
        let Content::Plain(file) = &self.content else {
            return false;
        };
        let mut seam = [0; SEAM_BYTES_MAX];
        let seam = seam
            .get_mut(..self.position.seam_bytes())
            .unwrap_or_default();
        match file.read_exact_at(seam, self.position.read_from()) {
            Ok(()) => !self.position.seam_begins(seam) || self.begins_anew(),
            Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        }
    }

    /// The file begins with something else than what was read. Long lines may end alike, so that one that was truncated and
    /// filled again has the seam where it was.
    fn begins_anew(&self) -> bool {
        let Content::Plain(file) = &self.content else {
            return false;
        };
        let beginning = compare(Reader::plain(file, 0), &self.position, Depth::Glance);
        matches!(beginning, Ok(Comparison::Differs))
    }

    /// When this plain file was last changed, in nanoseconds since 1970.
    pub(super) fn modified_now_ns(&self) -> Option<i64> {
        self.metadata().map(|metadata| modified_ns(&metadata))
    }

    /// What the file system says of this file now, if it is open.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        match &self.content {
            Content::Plain(file) => file.metadata().ok(),
            Content::Gzip(gzip) => gzip.file().metadata().ok(),
            _ => None,
        }
    }

    /// The (uncompressed) content from its first byte, if it is open.
    pub(super) fn reader(&self) -> Option<Reader> {
        match &self.content {
            Content::Plain(file) => Some(Reader::plain(file, 0)),
            Content::Gzip(gzip) => Some(Reader::gzip(gzip.file())),
            _ => None,
        }
    }

    /// The file, if it is open, to see what it says.
    ///
    /// # Errors
    ///
    /// If that cannot be determined now.
    pub(super) fn reopened(&self) -> io::Result<Option<Opened>> {
        let (file, is_compressed) = match &self.content {
            Content::Plain(file) => (file, false),
            Content::Gzip(gzip) => (gzip.file(), true),
            _ => return Ok(None),
        };
        let metadata = file.metadata()?;
        Ok(Some(Opened::new(file.clone(), &metadata, is_compressed)))
    }

    /// Bytes that wait to be read, as stored.
    pub(super) fn lag_bytes(&self) -> u64 {
        if self.is_pipe() {
            return 0;
        }
        match &self.content {
            Content::Gzip(_) => self.stored_rest(),
            Content::Plain(file) => {
                let size = file.metadata().map_or(self.size, |m| m.len());
                size.saturating_sub(self.next_offset())
                    .saturating_sub(self.nul_bytes)
            }
            _ => self.size.saturating_sub(self.next_offset()),
        }
    }

    /// How many bytes of a compressed file, as stored, were not decoded yet.
    pub(super) fn stored_rest(&self) -> u64 {
        let Content::Gzip(gzip) = &self.content else {
            return 0;
        };
        let reader = gzip.decoder.get_ref();
        let size = gzip.file().metadata().map_or(0, |metadata| metadata.len());
        size.saturating_sub(reader.get_ref().at) + reader.buffer().len() as u64
    }

    /// The descriptor to wait on for a pipe.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        match &self.content {
            Content::Fifo {
                reader,
                _writer: Some(_),
            } => Some(reader.as_fd()),
            Content::StandardInput => Some(rustix::stdio::stdin()),
            _ => None,
        }
    }

    pub(super) fn is_pipe(&self) -> bool {
        matches!(self.content, Content::Fifo { .. } | Content::StandardInput)
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.content, Content::Closed)
    }
}

fn read_gzip(gzip: &mut Gzip, position: &mut ReadPosition, buffer: &mut [u8]) -> Outcome {
    if gzip.has_failed {
        match Gzip::at(gzip.file(), position.offset()) {
            Ok((again, _)) => *gzip = again,
            Err(error) => return Outcome::Failed(error),
        }
    }
    let Gzip {
        decoder,
        seam,
        has_failed,
    } = gzip;
    let start = seam.len();
    if let Some(space) = buffer.get_mut(..start) {
        space.copy_from_slice(seam);
    }
    // The decoder gives what it has; the buffer is filled, so that there are few pieces.
    let mut len = start;
    while let Some(space) = buffer.get_mut(len..).filter(|space| !space.is_empty()) {
        match decoder.read(space) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What was decoded before the damage is good; the next read meets the damage again.
            Err(error) if len > start => {
                *has_failed = !is_damage(&error);
                break;
            }
            Err(error) => {
                *has_failed = !is_damage(&error);
                return Outcome::Failed(error);
            }
        }
    }
    let Some(run) = buffer.get(..len).filter(|run| run.len() > start) else {
        return Outcome::End;
    };
    position.advance(run);
    seam.clear();
    seam.extend_from_slice(last_bytes(run, position.seam_bytes()));
    Outcome::Bytes {
        range: start..len,
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
