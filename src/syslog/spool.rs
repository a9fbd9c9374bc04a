//! What was received and not yet counted, on disk: segment files, appended to by one thread and read once by the reading
//! thread.
//!
//! An entry that [`Spool::append`] took survives the death of the process, but not that of the machine: nothing is synced.
//! The reader's [`Position`] is part of a checkpoint; segments before the one of the last checkpoint on disk are removed.
//! Each process begins a new segment, so what a killed one left half written stands at the end of a segment and is left
//! out: no sender had been promised anything.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memrchr;
use parking_lot::Mutex;
use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};

use super::repeated::Repeated;

/// Bytes of a segment, unless the spool is small.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Segments of a small spool.
const SEGMENTS_MIN: u64 = 8;
/// Bytes that are read at once; more for an entry that is longer.
const READ_BYTES: usize = 256 << 10;

/// How far a spool was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Position {
    /// The number of the segment.
    segment: u64,
    /// The byte in it at which the next entry begins.
    offset: u64,
}

impl From<Position> for Value {
    fn from(position: Position) -> Self {
        Value::from_iter([("segment", position.segment), ("offset", position.offset)])
    }
}

/// There is no space for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The segments of one source.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    bytes_max: u64,
    /// Locked while entries are written; whoever reads does not wait for it.
    writer: Mutex<Writer>,
    segments: Mutex<Segments>,
}

#[derive(Debug, Default)]
struct Writer {
    /// The segment of this process, once there was something to write.
    open: Option<(u64, File, u64)>,
    /// It was logged that it cannot be written. On a full disk that changes with every checkpoint.
    failed: bool,
    failures: Repeated,
}

#[derive(Debug)]
struct Segments {
    /// By number, the bytes of whole entries in each.
    bytes: BTreeMap<u64, u64>,
    total: u64,
    next: u64,
    /// What is before it is counted, and on disk as such.
    committed: Position,
    removal_failed: bool,
}

fn path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:016}.log"))
}

/// What is received may be confidential.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

impl Spool {
    /// Opens or makes the spool in this directory. Segments before `position`, which are counted, are removed.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub(super) fn open(directory: PathBuf, bytes_max: u64, position: Position) -> io::Result<Self> {
        make(&directory)?;
        let mut bytes = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                bytes.insert(number, entry.metadata()?.len());
            }
        }
        let last = bytes.last_key_value().map_or(0, |(number, _)| *number);
        let spool = Spool {
            directory,
            bytes_max,
            writer: Mutex::default(),
            segments: Mutex::new(Segments {
                total: bytes.values().sum(),
                bytes,
                next: last.max(position.segment) + 1,
                committed: position,
                removal_failed: false,
            }),
        };
        spool.committed(position);
        Ok(spool)
    }

    /// Appends whole entries.
    ///
    /// # Errors
    /// The spool is as large as it may be, or the disk refuses.
    pub(super) fn append(&self, entries: &[u8]) -> Result<(), Full> {
        // What is larger than the whole spool has to get through some day.
        let is_full = || {
            let total = self.bytes();
            total > 0 && total + entries.len() as u64 > self.bytes_max
        };
        if is_full() {
            self.remove_last(&mut self.writer.lock());
            if is_full() {
                return Err(Full);
            }
        }
        self.append_beyond_limit(entries)
    }

    /// As [`Spool::append`], however large the spool is.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn append_beyond_limit(&self, entries: &[u8]) -> Result<(), Full> {
        let mut writer = self.writer.lock();
        let written = match self.write(&mut writer, entries) {
            Err(_) if self.remove_last(&mut writer) => self.write(&mut writer, entries),
            written => written,
        };
        match written {
            Ok((segment, end)) => {
                let mut segments = self.segments.lock();
                segments.bytes.insert(segment, end);
                segments.total += entries.len() as u64;
                if std::mem::take(&mut writer.failed) {
                    info!(directory = %self.directory.display(), "the spool can be written again");
                }
                Ok(())
            }
            Err(error) => {
                if !writer.failed && writer.failures.is_due() {
                    writer.failed = true;
                    warn!(directory = %self.directory.display(), err = %error, "the spool cannot be written; senders wait, datagrams are dropped");
                }
                Err(Full)
            }
        }
    }

    /// Returns the segment and its length.
    fn write(&self, writer: &mut Writer, entries: &[u8]) -> io::Result<(u64, u64)> {
        let segment_bytes = SEGMENT_BYTES.min(self.bytes_max / SEGMENTS_MIN);
        if let Some((.., length)) = &writer.open
            && length + entries.len() as u64 > segment_bytes
        {
            writer.open = None;
        }
        let (number, file, length) = match &mut writer.open {
            Some(open) => open,
            none => {
                let number = self.segments.lock().next;
                let create = || {
                    OpenOptions::new()
                        .create_new(true)
                        .append(true)
                        .mode(0o600)
                        .open(path(&self.directory, number))
                };
                let file = create().or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => make(&self.directory).and_then(|()| create()),
                    _ => Err(error),
                })?;
                self.segments.lock().next += 1;
                none.insert((number, file, 0))
            }
        };
        if let Err(error) = file.write_all(entries) {
            // Half of it is none of it.
            if file.set_len(*length).is_err() {
                writer.open = None;
            }
            return Err(error);
        }
        *length += entries.len() as u64;
        Ok((*number, *length))
    }

    /// Everything before this position is counted, and on disk as such.
    pub(super) fn committed(&self, position: Position) {
        let counted: Vec<u64> = {
            let mut segments = self.segments.lock();
            segments.committed = position;
            let counted = segments.bytes.range(..position.segment);
            counted.map(|(number, _)| *number).collect()
        };
        for number in counted {
            if !self.remove(number) {
                return;
            }
        }
    }

    /// There is no space: the segment that was read last goes, too, if all of it is counted. Returns whether it did.
    fn remove_last(&self, writer: &mut Writer) -> bool {
        let (Position { segment, offset }, length) = {
            let segments = self.segments.lock();
            let committed = segments.committed;
            (committed, segments.bytes.get(&committed.segment).copied())
        };
        if length != Some(offset) {
            return false;
        }
        writer.open.take_if(|(number, ..)| *number == segment);
        self.remove(segment)
    }

    /// Returns whether the segment is gone.
    fn remove(&self, number: u64) -> bool {
        let path = path(&self.directory, number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                if !std::mem::replace(&mut self.segments.lock().removal_failed, true) {
                    warn!(path = %path.display(), err = %error, "a segment of the spool cannot be removed");
                }
                return false;
            }
            _ => {}
        }
        let mut segments = self.segments.lock();
        segments.removal_failed = false;
        let bytes = segments.bytes.remove(&number).unwrap_or(0);
        segments.total = segments.total.saturating_sub(bytes);
        true
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.lock().total
    }
}

/// Reads a spool from a position on.
#[derive(Debug)]
pub(super) struct SpoolReader {
    spool: Arc<Spool>,
    position: Position,
    file: Option<File>,
    buffer: Vec<u8>,
    /// Bytes that were no entry, or are gone.
    pub(super) lost_bytes: u64,
}

impl SpoolReader {
    pub(super) fn new(spool: Arc<Spool>, position: Position) -> Self {
        SpoolReader {
            spool,
            position,
            file: None,
            buffer: vec![0; READ_BYTES],
            lost_bytes: 0,
        }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Bytes that wait to be read.
    pub(super) fn lag_bytes(&self) -> u64 {
        let Position { segment, offset } = self.position;
        let segments = self.spool.segments.lock();
        let waiting = segments.bytes.range(segment..).map(|(number, bytes)| {
            let read = if *number == segment { offset } else { 0 };
            bytes.saturating_sub(read)
        });
        waiting.sum()
    }

    /// Hands over the next entries, whole lines; nothing if none wait.
    pub(super) fn read(&mut self) -> Option<&[u8]> {
        if self.buffer.len() > READ_BYTES {
            self.buffer = vec![0; READ_BYTES];
        }
        loop {
            let Position { segment, offset } = self.position;
            let (end, is_removed, next) = {
                let segments = self.spool.segments.lock();
                let after = (Bound::Excluded(segment), Bound::Unbounded);
                let next = segments.bytes.range(after).next();
                let end = segments.bytes.get(&segment).copied();
                let next = next.map(|(number, _)| *number);
                (end.unwrap_or(0), end.is_none(), next)
            };
            if offset >= end {
                if is_removed {
                    // Its space is free once nobody has it open.
                    self.file = None;
                }
                self.position = Position {
                    segment: next?,
                    offset: 0,
                };
                self.file = None;
                continue;
            }
            let left = end - offset;
            let wanted = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.fill(wanted);
            match read {
                Ok(count) => {
                    let is_end = count as u64 == left;
                    let buffer = &self.buffer[..count];
                    match memrchr(b'\n', buffer) {
                        Some(at) => {
                            self.position.offset += at as u64 + 1;
                            return self.buffer.get(..=at);
                        }
                        // Torn at the end of what a killed process wrote.
                        None if is_end => self.give_up(left),
                        // A long entry. A segment is the limit: entries do not cross its end.
                        None if count == self.buffer.len() => {
                            self.buffer.resize(2 * count, 0);
                        }
                        // The file is shorter than what was written to it.
                        None => self.give_up(left),
                    }
                }
                Err(error) => {
                    let path = path(&self.spool.directory, segment);
                    warn!(path = %path.display(), err = %error, "a segment of the spool cannot be read");
                    self.give_up(left);
                }
            }
        }
    }

    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let path = path(&self.spool.directory, self.position.segment);
                let flags = OFlags::NOFOLLOW.bits() as i32;
                let file = OpenOptions::new()
                    .read(true)
                    .custom_flags(flags)
                    .open(path)?;
                self.file.insert(file)
            }
        };
        let mut count = 0;
        while count < wanted {
            let at = self.position.offset + count as u64;
            match file.read_at(&mut self.buffer[count..wanted], at) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn give_up(&mut self, bytes: u64) {
        self.lost_bytes += bytes;
        self.position.offset += bytes;
        self.file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path, bytes_max: u64, position: Position) -> (Arc<Spool>, SpoolReader) {
        let spool = Spool::open(directory.to_owned(), bytes_max, position).unwrap();
        let spool = Arc::new(spool);
        (spool.clone(), SpoolReader::new(spool, position))
    }

    fn read(reader: &mut SpoolReader) -> String {
        let mut all = Vec::new();
        while let Some(entries) = reader.read() {
            all.extend_from_slice(entries);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn what_was_not_read_is_read_by_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, mut reader) = open(directory.path(), 1 << 20, Position::default());
        assert_eq!(read(&mut reader), "");
        spool.append(b"a\nb\n").unwrap();
        assert_eq!(reader.lag_bytes(), 4);
        assert_eq!(read(&mut reader), "a\nb\n");
        let position = reader.position();
        spool.append(b"c\n").unwrap();
        assert_eq!(
            (read(&mut reader), reader.lag_bytes()),
            ("c\n".to_owned(), 0)
        );
        drop((spool, reader));
        // The checkpoint was taken before `c`.
        let (spool, mut reader) = open(directory.path(), 1 << 20, position);
        spool.append(b"d\n").unwrap();
        assert_eq!(reader.lag_bytes(), 4);
        assert_eq!(read(&mut reader), "c\nd\n");
    }

    #[test]
    fn what_a_killed_process_left_half_written_is_no_entry() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path(directory.path(), 7), "whole\nhal").unwrap();
        let (spool, mut reader) = open(directory.path(), 1 << 20, Position::default());
        spool.append(b"next\n").unwrap();
        assert_eq!(read(&mut reader), "whole\nnext\n");
        assert_eq!((reader.lost_bytes, reader.lag_bytes()), (3, 0));
    }

    #[test]
    fn a_missing_or_short_segment_is_lost_and_the_next_is_not() {
        let directory = tempfile::tempdir().unwrap();
        for (number, text) in [(1, "a\n"), (2, "b\nbb\n"), (3, "c\n")] {
            fs::write(path(directory.path(), number), text).unwrap();
        }
        let (_spool, mut reader) = open(directory.path(), 1 << 20, Position::default());
        fs::remove_file(path(directory.path(), 1)).unwrap();
        fs::write(path(directory.path(), 2), "b\n").unwrap();
        assert_eq!(read(&mut reader), "b\nc\n");
        assert_eq!(reader.lost_bytes, 5);
    }

    #[test]
    fn segments_go_when_their_end_is_on_disk_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, mut reader) = open(directory.path(), 800, Position::default());
        let entry = [&[b'x'; 49][..], b"\n"].concat();
        let mut taken = 0;
        while spool.append(&entry).is_ok() {
            taken += 1;
        }
        assert_eq!((taken, spool.bytes()), (16, 800));
        let position = reader.position();
        spool.committed(position);
        assert_eq!(spool.bytes(), 800, "nothing is counted yet");
        assert_eq!(read(&mut reader).len(), 800);
        assert_eq!(spool.append(&entry), Err(Full));
        spool.committed(reader.position());
        assert_eq!(spool.bytes(), 100, "it is counted, and no space is wanted");
        spool.append(&entry).unwrap();
        assert_eq!(read(&mut reader), String::from_utf8(entry.clone()).unwrap());
        spool.committed(reader.position());
        assert_eq!(spool.bytes(), 50, "no space is wanted");
        let files = || fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files(), 1);
        // Space is wanted after the last checkpoint, and there will be no other one.
        let long = [&[b'x'; 759][..], b"\n"].concat();
        spool.append(&long).unwrap();
        assert_eq!((spool.bytes(), files()), (760, 1));
        assert_eq!(read(&mut reader).len(), 760);
    }

    /// A file that somebody has open still takes its space on the disk.
    #[test]
    fn the_last_segment_is_closed_when_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, mut reader) = open(directory.path(), 800, Position::default());
        spool.append(b"a\n").unwrap();
        assert_eq!(read(&mut reader), "a\n");
        spool.committed(reader.position());
        assert!(spool.remove_last(&mut spool.writer.lock()));
        assert_eq!(read(&mut reader), "");
        assert!(reader.file.is_none());
        spool.append(b"b\n").unwrap();
        assert_eq!(read(&mut reader), "b\n");
        assert_eq!(reader.lost_bytes, 0);
    }

    #[test]
    fn what_is_larger_than_the_spool_gets_through() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, mut reader) = open(directory.path(), 800, Position::default());
        let entry = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..3 {
            spool.append(&entry).unwrap();
            assert_eq!(spool.append(b"a\n"), Err(Full));
            assert_eq!(reader.lag_bytes(), 1_000);
            assert_eq!(read(&mut reader).len(), 1_000);
            spool.committed(reader.position());
            spool.append(b"a\n").unwrap();
            assert_eq!(reader.lag_bytes(), 2);
            assert_eq!(spool.append(&entry), Err(Full));
            assert_eq!(read(&mut reader), "a\n");
            spool.committed(reader.position());
        }
    }

    #[test]
    fn an_entry_may_be_longer_than_what_is_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, mut reader) = open(directory.path(), 64 << 20, Position::default());
        let long = [vec![b'x'; 5 * READ_BYTES], b"\n".to_vec()].concat();
        for entries in [b"a\n", &long[..], b"b\n"] {
            spool.append(entries).unwrap();
        }
        assert_eq!(read(&mut reader).len(), 2 + long.len() + 2);
        assert_eq!((reader.lost_bytes, reader.lag_bytes()), (0, 0));
        spool.append(b"c\n").unwrap();
        assert_eq!(read(&mut reader), "c\n");
        assert_eq!(reader.buffer.len(), READ_BYTES);
    }
}
