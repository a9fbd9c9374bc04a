//! What makes a file the same file: device, inode, and what it says.
//!
//! Neither a path nor an inode is enough. A path changes hands at every rotation, an inode is given to the next file
//! when its last name is gone, and a truncated file keeps both. So a position in a file is held together by two
//! fingerprints of bytes that were read before: the head (the first bytes of the file) and the seam (the last bytes
//! before the position). Both are taken from what was read, so that they cost no further reading.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// How much of a file's beginning the head covers at most, in bytes.
pub(super) const HEAD_BYTES: usize = 1024;

/// How much the seam covers once the head is complete, in bytes. Some lines: the end of one line alone is often the same
/// text for months, and lines of one length end at the same places.
const SEAM_BYTES: usize = 1024;

/// A file on this machine for as long as it has a name or is held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileKey {
    /// Number of the device.
    pub dev: u64,
    /// Number of the inode on that device.
    pub ino: u64,
}

impl FileKey {
    pub(super) fn of(metadata: &Metadata) -> FileKey {
        FileKey {
            dev: metadata.dev(),
            ino: metadata.ino(),
        }
    }
}

/// When a file was last written, in nanoseconds since 1970.
pub(super) fn modified_ns(metadata: &Metadata) -> i64 {
    metadata
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(metadata.mtime_nsec())
}

/// The xxh3 of a run of bytes, and how long the run was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Length of the run in bytes; 0 if nothing is known.
    pub len: u32,
    /// The xxh3 (64 bits) of the run; 0 if the run is empty.
    pub hash: u64,
}

impl Fingerprint {
    pub(super) fn of(bytes: &[u8]) -> Fingerprint {
        match u32::try_from(bytes.len()) {
            Ok(len) if len > 0 => Fingerprint {
                len,
                hash: xxh3_64(bytes),
            },
            _ => Fingerprint::default(),
        }
    }

    pub(super) fn len(self) -> usize {
        self.len as usize
    }

    /// `bytes` begins with the run that was fingerprinted.
    pub(super) fn begins(self, bytes: &[u8]) -> bool {
        bytes
            .get(..self.len())
            .is_some_and(|run| Fingerprint::of(run) == self)
    }
}

/// How far a file was read, and by what one can tell that it still is that file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes read from the beginning of the (uncompressed) file.
    pub offset: u64,
    /// The first bytes of the file. As long as `offset`, until that is more than [`HEAD_BYTES`]. (Shorter only for a
    /// compressed file that was resumed inside its head.)
    pub head: Fingerprint,
    /// The last bytes before `offset`: all of them while the head grows, so that one read checks and extends the head.
    pub seam: Fingerprint,
}

impl Mark {
    /// Where the next read has to begin so that it covers the seam.
    pub(super) fn read_from(&self) -> u64 {
        self.offset.saturating_sub(u64::from(self.seam.len))
    }

    /// Moves on past `run`, which begins at [`Mark::read_from`] and begins with the seam.
    pub(super) fn advance(&mut self, run: &[u8]) {
        let start = self.read_from();
        self.offset = start + run.len() as u64;
        if start == 0 {
            self.head = Fingerprint::of(run.get(..HEAD_BYTES).unwrap_or(run));
        }
        self.seam = if self.offset <= HEAD_BYTES as u64 && start == 0 {
            self.head
        } else {
            Fingerprint::of(
                run.get(run.len().saturating_sub(SEAM_BYTES)..)
                    .unwrap_or(run),
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reading in any steps gives the mark that reading at once gives.
    #[test]
    fn marks_do_not_depend_on_the_steps() {
        let text: Vec<u8> = (0..5000u32).map(|i| ((i * 7919) >> 3) as u8).collect();
        for end in [0, 1, 63, 64, 65, 1023, 1024, 1025, 1100, 5000] {
            let mut whole = Mark::default();
            whole.advance(&text[..end]);
            for step in [1, 50, 64, 1000, 1024, 4096] {
                let mut mark = Mark::default();
                while (mark.offset as usize) < end {
                    let start = mark.read_from() as usize;
                    let stop = (mark.offset as usize + step).min(end);
                    assert!(
                        mark.seam.begins(&text[start..stop]),
                        "end {end}, step {step}"
                    );
                    mark.advance(&text[start..stop]);
                }
                assert_eq!(
                    (mark.offset, mark.head),
                    (whole.offset, whole.head),
                    "end {end}, step {step}"
                );
                assert!(
                    mark.seam.begins(&text[mark.read_from() as usize..end]),
                    "end {end}, step {step}"
                );
            }
        }
    }
}
