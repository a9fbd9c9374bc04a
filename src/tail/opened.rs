//! A file that was opened to see what it is, and what its content proves.
//!
//! Everything here reads by position or through a decoder of its own, so that several questions may be asked of one
//! descriptor.

use std::cell::{Cell, OnceCell};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::compression::{COMPRESSED, CompressedAs, MAGIC_BYTES, first_bytes, is_gzip};
use super::content::{Content, Decoder, Gzip, NONBLOCK, Positioned, decoder, is_damage};
use super::identity::{
    CHAIN_BYTES, Comparison, FileKey, ReadPosition, SEAM_BYTES, SEAM_BYTES_MAX, born_ns,
    modified_ns, now_ns,
};
use super::is_absent;

/// How much of a file's beginning is known from the moment it is discovered, in bytes.
pub(super) const BEGINNING_BYTES: u64 = 64 * 1024;

/// How much is compared at a time, in bytes.
const COMPARED_BYTES: usize = 64 * 1024;

/// How much is compared where device, inode, size and time all fit, in bytes.
const GLANCE_BYTES: u64 = 4 * 1024;

/// How much of a file is compared with a position: the less, the more else speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Device, inode, size and time fit: the first 4 KiB.
    Glance,
    /// Device and inode fit: the first 64 KiB, and the seam.
    Seam,
    /// Nothing else is known: the first 16 MiB, and the seam.
    Whole,
}

/// A regular file that was opened to see what it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub key: FileKey,
    /// Size as stored, in bytes.
    pub size: u64,
    pub modified_ns: i64,
    /// When the inode was made, in nanoseconds since 1970, where the file system keeps that.
    pub born_ns: Option<i64>,
    file: Arc<File>,
    compressed: bool,
    /// See [`Opened::has_failed`].
    failed: Cell<Option<io::ErrorKind>>,
    /// See [`Opened::position_at_end`].
    at_end: OnceCell<ReadPosition>,
    /// Its end is not the end of a compressed file, as far as that was read.
    ends_early: Cell<bool>,
}

impl Opened {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// As [`File::open`]; a directory is [`io::ErrorKind::IsADirectory`], anything else that is no regular file is
    /// [`io::ErrorKind::InvalidInput`], one that is [compressed](CompressedAs) in a form that is not read
    /// [`io::ErrorKind::Unsupported`].
    pub(super) fn open(path: &Path) -> io::Result<Opened> {
        // Without this flag, a FIFO that took the file's place since it was looked at would block for ever.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(NONBLOCK)
            .open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut first = [0; MAGIC_BYTES];
        let first = first_bytes(&file, &mut first);
        if let Some(form) = CompressedAs::of_opened(path, first) {
            return Err(form.into());
        }
        let is_compressed = path.as_os_str().as_bytes().ends_with(COMPRESSED) || is_gzip(first);
        Ok(Opened::new(Arc::new(file), &metadata, is_compressed))
    }

    /// A file that is open already.
    pub(super) fn new(file: Arc<File>, metadata: &Metadata, compressed: bool) -> Opened {
        Opened {
            key: FileKey::of(metadata),
            size: metadata.len(),
            modified_ns: modified_ns(metadata),
            born_ns: born_ns(metadata),
            file,
            compressed,
            failed: Cell::new(None),
            at_end: OnceCell::new(),
            ends_early: Cell::new(false),
        }
    }

    /// Something that was asked of it could not be read, so that its content was not found to differ, nor to be new. (Damage
    /// is content.)
    pub(super) fn has_failed(&self) -> bool {
        self.failed.get().is_some()
    }

    /// An error if it [has failed](Opened::has_failed).
    pub(super) fn check(&self) -> io::Result<()> {
        self.failed.get().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        let is_damaged = |error: &io::Error| self.compressed && is_damage(error);
        if let Err(error) = &result
            && !is_damaged(error)
        {
            self.failed.set(Some(error.kind()));
        }
        result
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Somebody may be writing it yet.
    pub(super) fn was_written_within(&self, grace: Duration) -> bool {
        let age_ns = u128::try_from(now_ns() - self.modified_ns);
        age_ns.is_ok_and(|age_ns| age_ns < grace.as_nanos())
    }

    fn reader(&self) -> Reader {
        match self.compressed {
            true => Reader::gzip(&self.file),
            false => Reader::plain(&self.file, 0),
        }
    }

    /// What the file's beginning says, up to where nobody has written yet.
    ///
    /// # Errors
    ///
    /// If it cannot be read now.
    pub(super) fn beginning(&self) -> io::Result<ReadPosition> {
        let mut run = Vec::new();
        match self.reader().take(BEGINNING_BYTES).read_to_end(&mut run) {
            // What was decoded before the damage is good.
            Err(error) if !self.compressed || !is_damage(&error) => return self.note(Err(error)),
            _ => {}
        }
        run.truncate(memchr::memchr(0, &run).unwrap_or(run.len()));
        let mut position = ReadPosition::default();
        position.advance(&run);
        Ok(position)
    }

    /// The (uncompressed) content begins with what was read up to `position`. (Of compressed content, all before the
    /// position has to be decoded.) Damage is a difference.
    ///
    /// # Errors
    ///
    /// If the file cannot be read now, which says nothing about its content.
    pub(super) fn compare(&self, position: &ReadPosition, depth: Depth) -> io::Result<Comparison> {
        match self.note(compare(self.reader(), position, depth)) {
            Err(error) if self.compressed && is_damage(&error) => Ok(Comparison::Differs),
            // It can only be a part, where the whole is not compared to its end.
            Ok(Comparison::Continues)
                if !self.compressed
                    && position.format_1().is_none()
                    && self.size < position.offset() =>
            {
                Ok(Comparison::Begins(self.size))
            }
            result => result,
        }
    }

    /// What lies behind `from` in this file begins with what was read up to `position`: an archive to which a file was
    /// appended.
    pub(super) fn compare_behind(
        &self,
        from: u64,
        position: &ReadPosition,
    ) -> io::Result<Comparison> {
        let mut reader = self.reader();
        match self.note(reader.skip(from))? == from {
            true => self.note(compare(reader, position, Depth::Whole)),
            false => Ok(Comparison::Differs),
        }
    }

    /// The first [`BEGINNING_BYTES`] of the content behind `from`.
    ///
    /// # Errors
    ///
    /// If it cannot be read now.
    pub(super) fn bytes_behind(&self, from: u64) -> io::Result<Vec<u8>> {
        let mut reader = self.reader();
        let mut run = Vec::new();
        if self.note(reader.skip(from))? == from {
            self.note(reader.take(BEGINNING_BYTES).read_to_end(&mut run))?;
        }
        Ok(run)
    }

    /// The content, to be read from `offset` on (at most `position.offset`). It was compared with `position` and continues
    /// it.
    pub(super) fn content_at(
        &self,
        position: &ReadPosition,
        offset: u64,
    ) -> io::Result<(Content, ReadPosition)> {
        if !self.compressed {
            let position = match position.format_1() {
                Some(_) => self.position_at(position.offset, CHAIN_BYTES)?,
                None => position.clone(),
            };
            return Ok((Content::Plain(self.file.clone()), position));
        }
        let (gzip, position) = self.note(Gzip::at(&self.file, offset))?;
        Ok((Content::Gzip(Box::new(gzip)), position))
    }

    /// The content from its first byte.
    pub(super) fn content(&self) -> io::Result<Content> {
        Ok(match self.compressed {
            true => Content::Gzip(Box::new(self.note(Gzip::at(&self.file, 0))?.0)),
            false => Content::Plain(self.file.clone()),
        })
    }

    /// The end of the last whole line, in bytes; if it is not near the end, the end.
    pub(super) fn end_of_last_line(&self) -> io::Result<u64> {
        let mut last = vec![0; 256 * 1024];
        let start = self.size.saturating_sub(last.len() as u64);
        let len = self.note(self.file.read_at(&mut last, start))?;
        last.truncate(len);
        Ok(memchr::memrchr(b'\n', &last).map_or(self.size, |at| start + at as u64 + 1))
    }

    /// The position of someone who read this plain file up to `offset`, with a chain over `chain_bytes` of it.
    pub(super) fn position_at(&self, offset: u64, chain_bytes: u64) -> io::Result<ReadPosition> {
        let mut position = ReadPosition::default();
        let mut run = vec![0; COMPARED_BYTES + SEAM_BYTES_MAX];
        while position.offset < offset {
            let start = position.read_from();
            let len = usize::try_from(offset - start).map_or(run.len(), |len| len.min(run.len()));
            let run = run.get_mut(..len).unwrap_or_default();
            self.note(self.file.read_exact_at(run, start))?;
            position.advance_within(run, chain_bytes);
            let last = offset.saturating_sub(SEAM_BYTES as u64);
            if position.offset >= chain_bytes && position.offset < last {
                position.jump(last);
            }
        }
        Ok(position)
    }

    /// The position of someone who read the (uncompressed) content up to `offset`.
    pub(super) fn position_of(&self, offset: u64) -> io::Result<ReadPosition> {
        match self.compressed {
            true => Ok(self.note(Gzip::at(&self.file, offset))?.1),
            false => self.position_at(offset, CHAIN_BYTES),
        }
    }

    /// How a file that is not to be read is recognised later: a plain one by its beginning and its end, a compressed one by
    /// its beginning. Bounded: at a first start there may be years of it.
    pub(super) fn position_unread(&self) -> io::Result<ReadPosition> {
        match self.compressed {
            true => self.beginning(),
            false => self.position_at(self.size, BEGINNING_BYTES),
        }
    }

    /// A position at the end of the (uncompressed) content. Read once, however often this is asked.
    pub(super) fn position_at_end(&self) -> io::Result<&ReadPosition> {
        match self.at_end.get() {
            Some(position) => Ok(position),
            None => Ok(self.at_end.get_or_init({
                let position = self.read_to_end()?;
                || position
            })),
        }
    }

    fn read_to_end(&self) -> io::Result<ReadPosition> {
        if !self.compressed {
            return self.position_at(self.size, CHAIN_BYTES);
        }
        let mut reader = self.reader();
        let mut position = ReadPosition::default();
        let mut run = Vec::new();
        loop {
            let seam = position.seam_bytes();
            run.drain(..run.len().saturating_sub(seam));
            let mut piece = reader.by_ref().take(COMPARED_BYTES as u64);
            match self.note(piece.read_to_end(&mut run)) {
                Ok(0) => return Ok(position),
                Ok(_) => position.advance(&run),
                // What is before the damage is good.
                Err(error) if is_damage(&error) => {
                    let kind = error.kind();
                    self.ends_early.set(kind == io::ErrorKind::UnexpectedEof);
                    return Ok(position);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The end of a compressed file is missing.
    ///
    /// # Errors
    ///
    /// If it cannot be read now.
    pub(super) fn ends_early(&self) -> io::Result<bool> {
        self.position_at_end()?;
        Ok(self.ends_early.get())
    }

    /// The first and the last bytes of the (uncompressed) content, at most [`COMPARED_BYTES`] of each.
    pub(super) fn first_bytes(&self) -> io::Result<Vec<u8>> {
        let mut run = Vec::new();
        self.note(self.reader().take(GLANCE_BYTES).read_to_end(&mut run))?;
        Ok(run)
    }

    /// See [`Opened::first_bytes`]. A compressed file is decoded to its end.
    pub(super) fn last_bytes(&self) -> io::Result<Vec<u8>> {
        let mut reader = match self.compressed {
            true => self.reader(),
            false => Reader::plain(&self.file, self.size.saturating_sub(COMPARED_BYTES as u64)),
        };
        let mut run = Vec::new();
        loop {
            let mut piece = reader.by_ref().take(COMPARED_BYTES as u64);
            if self.note(piece.read_to_end(&mut run))? == 0 {
                return Ok(run);
            }
            run.drain(..run.len().saturating_sub(COMPARED_BYTES));
        }
    }
}

/// The (uncompressed) content of a file, with a position of its own.
pub(super) enum Reader {
    Plain(Positioned),
    Gzip(Box<Decoder>),
}

impl Reader {
    pub(super) fn plain(file: &Arc<File>, at: u64) -> Self {
        let file = file.clone();
        Reader::Plain(Positioned { file, at })
    }

    pub(super) fn gzip(file: &Arc<File>) -> Self {
        Reader::Gzip(Box::new(decoder(file)))
    }

    /// Goes on `len` bytes further, or to the end of a compressed file if that comes before. Returns how far it went.
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        match self {
            Reader::Plain(file) => {
                file.at += len;
                Ok(len)
            }
            Reader::Gzip(decoder) => io::copy(&mut decoder.take(len), &mut io::sink()),
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Reader::Plain(file) => file.read(buffer),
            Reader::Gzip(decoder) => decoder.read(buffer),
        }
    }
}

/// The content begins with what was read up to `position`.
pub(super) fn compare(
    mut reader: Reader,
    position: &ReadPosition,
    depth: Depth,
) -> io::Result<Comparison> {
    if let Some((head, tail)) = position.format_1() {
        let mut run = vec![0; head.len as usize];
        if !fill(&mut reader, &mut run)? || !head.is_of(&run) {
            return Ok(Comparison::Differs);
        }
        let at = position.offset.saturating_sub(tail.len.into());
        // While the head grew, the two were the same bytes.
        if at < head.len.into() {
            return Ok(Comparison::Continues);
        }
        run.resize(tail.len as usize, 0);
        let gap = at - u64::from(head.len);
        let has = reader.skip(gap)? == gap && fill(&mut reader, &mut run)? && tail.is_of(&run);
        return Ok(match has {
            true => Comparison::Continues,
            false => Comparison::Differs,
        });
    }
    let most = match depth {
        Depth::Glance => GLANCE_BYTES,
        Depth::Seam => BEGINNING_BYTES,
        Depth::Whole => CHAIN_BYTES,
    };
    let mut comparing = position.compare(most);
    let base = position.read_from();
    // What was read and not yet used, and the seam as far as it was met.
    let (mut run, mut run_at) = (Vec::new(), 0);
    while !comparing.is_done() {
        let want = if depth == Depth::Whole {
            COMPARED_BYTES as u64
        } else {
            most
        };
        let read = reader.by_ref().take(want).read_to_end(&mut run)?;
        let unused = (comparing.at() - run_at) as usize;
        if comparing
            .push(run.get(unused..).unwrap_or_default())
            .is_none()
        {
            return Ok(Comparison::Differs);
        }
        if read == 0 && !comparing.is_done() {
            return Ok(Comparison::Begins(run_at + run.len() as u64));
        }
        let keep = comparing.at().min(base).max(run_at);
        run.drain(..(keep - run_at) as usize);
        run_at = keep;
    }
    if depth == Depth::Glance && comparing.at() >= GLANCE_BYTES {
        return Ok(Comparison::Continues);
    }
    if base > run_at + run.len() as u64 {
        let read_to = run_at + run.len() as u64;
        run.clear();
        run_at = base;
        let skipped = reader.skip(base - read_to)?;
        if skipped < base - read_to {
            return Ok(Comparison::Begins(read_to + skipped));
        }
    }
    run.drain(..(base - run_at) as usize);
    let missing = position.seam_bytes().saturating_sub(run.len());
    let read = reader.by_ref().take(missing as u64).read_to_end(&mut run)?;
    Ok(if read < missing {
        Comparison::Begins(base + run.len() as u64)
    } else if position.seam_begins(&run) {
        Comparison::Continues
    } else {
        Comparison::Differs
    })
}

/// Fills `run`; `false` if the end comes before.
fn fill(reader: &mut impl Read, run: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(run) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file at this path has what was read up to the position.
///
/// # Errors
///
/// If there is a file and it cannot be read now.
pub(super) fn holds(path: &Path, position: &ReadPosition) -> io::Result<bool> {
    match Opened::open(path).and_then(|opened| opened.compare(position, Depth::Seam)) {
        Ok(comparison) => Ok(comparison == Comparison::Continues),
        // A directory, or a pipe.
        Err(error) if is_absent(&error) || error.raw_os_error().is_none() => Ok(false),
        Err(error) => Err(error),
    }
}
