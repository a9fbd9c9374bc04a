//! A file that was opened to see what it is, and what its content proves.
//!
//! Everything here reads by position or through a decoder of its own, so that several questions may be asked of one
//! descriptor.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::content::{Content, Decoder, Gzip, NONBLOCK, decoder, is_damage};
use super::identity::{
    CHAIN_BYTES, Comparison, FileKey, ReadPosition, SEAM_BYTES, SEAM_BYTES_MAX, born_ns,
    modified_ns,
};
use super::is_absent;
use super::rotated::COMPRESSED;

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
        Ok(Opened {
            key: FileKey::of(&metadata),
            size: metadata.len(),
            modified_ns: modified_ns(&metadata),
            born_ns: born_ns(&metadata),
            file: Arc::new(file),
            failed: Cell::new(None),
            compressed: path.as_os_str().as_bytes().ends_with(COMPRESSED),
        })
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

    fn reader(&self) -> io::Result<Reader<'_>> {
        Ok(match self.compressed {
            true => Reader::Gzip {
                decoder: Box::new(decoder(&self.file)?),
                at: 0,
            },
            false => Reader::plain(&self.file, 0),
        })
    }

    /// What the file's beginning says, up to where nobody has written yet.
    ///
    /// # Errors
    ///
    /// If it cannot be read now.
    pub(super) fn beginning(&self) -> io::Result<ReadPosition> {
        let mut run = Vec::new();
        let reader = self.note(self.reader())?;
        match reader.take(BEGINNING_BYTES).read_to_end(&mut run) {
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
        let compared = self
            .reader()
            .and_then(|reader| compare(reader, position, depth));
        match self.note(compared) {
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

    /// What lies behind `from` in this plain file begins with what was read up to `position`: an archive to which a file
    /// was appended.
    pub(super) fn compare_behind(
        &self,
        from: u64,
        position: &ReadPosition,
    ) -> io::Result<Comparison> {
        let compared = compare(Reader::plain(&self.file, from), position, Depth::Whole);
        self.note(compared)
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

    /// How a file that is not to be read is recognised later: a plain one by its beginning and its end, a compressed one by
    /// its beginning. Bounded: at a first start there may be years of it.
    pub(super) fn position_unread(&self) -> io::Result<ReadPosition> {
        match self.compressed {
            true => self.beginning(),
            false => self.position_at(self.size, BEGINNING_BYTES),
        }
    }

    /// A position at the end of the (uncompressed) content.
    pub(super) fn position_at_end(&self) -> io::Result<ReadPosition> {
        if !self.compressed {
            return self.position_at(self.size, CHAIN_BYTES);
        }
        let mut reader = self.note(self.reader())?;
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
                Err(error) if is_damage(&error) => return Ok(position),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first and the last bytes of the (uncompressed) content, at most [`COMPARED_BYTES`] of each.
    pub(super) fn first_bytes(&self) -> io::Result<Vec<u8>> {
        let mut run = Vec::new();
        let reader = self.note(self.reader())?;
        self.note(reader.take(GLANCE_BYTES).read_to_end(&mut run))?;
        Ok(run)
    }

    /// See [`Opened::first_bytes`]. A compressed file is decoded to its end.
    pub(super) fn last_bytes(&self) -> io::Result<Vec<u8>> {
        let mut reader = self.note(self.reader())?;
        if let Reader::Plain { at, .. } = &mut reader {
            *at = self.size.saturating_sub(COMPARED_BYTES as u64);
        }
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

/// Reads from any offset on, without a position of its own in the file.
enum Reader<'a> {
    Plain {
        file: &'a File,
        origin: u64,
        at: u64,
    },
    Gzip {
        decoder: Box<Decoder>,
        at: u64,
    },
}

impl<'a> Reader<'a> {
    fn plain(file: &'a File, origin: u64) -> Self {
        Reader::Plain {
            file,
            origin,
            at: 0,
        }
    }

    /// Goes on at `to`, which is not behind; `false` if a compressed file ends before.
    fn skip_to(&mut self, to: u64) -> io::Result<bool> {
        match self {
            Reader::Plain { at, .. } => {
                *at = to;
                Ok(true)
            }
            Reader::Gzip { decoder, at } => {
                let len = to - *at;
                *at = to;
                Ok(io::copy(&mut decoder.take(len), &mut io::sink())? == len)
            }
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Reader::Plain { file, origin, at } => {
                let len = file.read_at(buffer, *origin + *at)?;
                *at += len as u64;
                Ok(len)
            }
            Reader::Gzip { decoder, at } => {
                let len = decoder.read(buffer)?;
                *at += len as u64;
                Ok(len)
            }
        }
    }
}

fn compare(
    mut reader: Reader<'_>,
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
        let has = reader.skip_to(at)? && fill(&mut reader, &mut run)? && tail.is_of(&run);
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
        run.clear();
        run_at = base;
        if !reader.skip_to(base)? {
            return Ok(Comparison::Differs);
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

/// `file` begins with all that `other` has; how much that is.
pub(super) fn begins_with(file: &File, other: &Opened) -> io::Result<Option<u64>> {
    let mut other = other.reader()?;
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
