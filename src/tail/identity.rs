//! What makes a file the same file: what it says.
//!
//! A path changes hands at every rotation, an inode is given to the next file when its last name is gone, a device is
//! renumbered at a reboot, and a restored file has a new inode and an old time. So a file is recognised by its content.
//! Device and inode ([`FileKey`]) only say where to look first.
//!
//! A [`ReadPosition`] proves what was read up to an offset. It holds
//!
//! * a chain: the file is cut into pieces, and the hash of each piece is seeded with the hash of all pieces before it. The
//!   chain covers the first [`CHAIN_BYTES`]; after that it stands still.
//! * checkpoints: the chain's low 32 bits at 16 offsets in each power of two (0, 1, … 16, 17, … 32, 34, … 64, 68 …).
//!   They tell how far a *shorter* file agrees, which is how a copy is recognised whose original has gone on.
//! * the seam: a hash of the last bytes (1 KiB to 2 KiB) before the offset. Every read begins there and so proves that it
//!   goes on where the last one ended.
//!
//! ```text
//!   0    16   32      64            128                        base        offset
//!   ├┴┴┴┴┴┴┴┴┴┴┴─┴─┴─┴┴───┴───┴───┴──┴─────── … ───────────────┼───────────┤
//!   └ checkpoints, ever wider ─────────────  … ─ chain at base ┘└── seam ──┘
//! ```
//!
//! All of it is taken from bytes that were read anyway. A position takes at most 1.4 KB, and 0.2 KB once its file is
//! finished and only each power of two is kept.
//!
//! # Odds and cost
//!
//! Where device and inode fit, the first 64 KiB and the seam are compared: two short reads. Where they do not, the first
//! 16 MiB and the seam are. Two files are taken for one only if those bytes agree or if 64-bit hashes collide: 2^-64 for
//! each comparison. For a copy that is shorter than what was read, up to a sixteenth of it lies behind the last
//! checkpoint and is not compared; where the other is finished, up to half, so the archive itself is asked if it is there.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// How much of a file's beginning the chain covers, in bytes.
pub(super) const CHAIN_BYTES: u64 = 16 * 1024 * 1024;

/// The least that the seam covers, in bytes, if that much was read. Some lines: the end of one line alone is often the
/// same text for months, and lines of one length end at the same places.
pub(super) const SEAM_BYTES: usize = 1024;

/// The most that the seam covers, in bytes.
pub(super) const SEAM_BYTES_MAX: usize = SEAM_BYTES + PIECE_BYTES;

/// The longest piece of the chain, in bytes.
const PIECE_BYTES: usize = 1024;

/// Checkpoints in each power of two.
const CHECKPOINTS: u64 = 16;

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

/// When an inode was made, in nanoseconds since 1970, where the file system keeps that. Tells an inode from the next one
/// with its number.
pub(super) fn born_ns(metadata: &Metadata) -> Option<i64> {
    let born = metadata.created().ok()?;
    let since = born.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// The clock that file systems stamp with, in nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos().try_into().unwrap_or(i64::MAX))
}

/// The xxh3 of a run of bytes, and how long the run was. Position format 1 knew a file by two of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Length of the run in bytes; 0 if nothing is known.
    pub len: u32,
    /// The xxh3 (64 bits) of the run; 0 if the run is empty.
    pub hash: u64,
}

impl Fingerprint {
    /// `bytes` is the run that was fingerprinted.
    pub(super) fn is_of(self, bytes: &[u8]) -> bool {
        self.len as usize == bytes.len() && (bytes.is_empty() || xxh3_64(bytes) == self.hash)
    }
}

/// How far a file was read, and what was read. See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPosition {
    /// Bytes read from the beginning of the (uncompressed) file.
    #[serde(rename = "read")]
    pub(super) offset: u64,
    /// Where the seam begins.
    #[serde(default)]
    base: u64,
    /// How far the chain goes: to `base`, until that is beyond what the chain covers.
    #[serde(default)]
    chain_at: u64,
    /// The chain there.
    #[serde(default)]
    chain: u64,
    /// The xxh3 of what lies between `base` and `offset`.
    #[serde(default, rename = "last")]
    seam: u64,
    #[serde(default, with = "base64_numbers")]
    checkpoints: Vec<u32>,
    /// Only the checkpoints at powers of two are kept.
    #[serde(default)]
    compact: bool,
    /// Position format 1: the first bytes and the last bytes. Replaced when the file is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<Fingerprint>,
    #[serde(default, rename = "seam", skip_serializing_if = "Option::is_none")]
    tail: Option<Fingerprint>,
}

/// What comparing a file with a [`ReadPosition`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It has everything that was read, and perhaps more.
    Continues,
    /// It ends before, after so many bytes, and agrees up to the last checkpoint in them.
    Begins(u64),
    /// It says something else.
    Differs,
}

fn power_of_two_below(offset: u64) -> u64 {
    offset.checked_ilog2().map_or(0, |log| 1 << log)
}

/// Length of the piece of the chain that begins at `at`, in bytes.
fn piece_bytes(at: u64) -> usize {
    let step = (power_of_two_below(at) / CHECKPOINTS).clamp(1, PIECE_BYTES as u64);
    step as usize
}

/// The first checkpoint behind `at`.
fn checkpoint_after(at: u64, compact: bool) -> u64 {
    let power = power_of_two_below(at);
    if compact {
        return (power * 2).max(1);
    }
    let step = (power / CHECKPOINTS).max(1);
    (at / step + 1) * step
}

/// Folds bytes into a chain, and stops at checkpoints.
#[derive(Debug)]
struct Chain {
    at: u64,
    hash: u64,
    next_checkpoint: u64,
    compact: bool,
}

impl Chain {
    fn new(at: u64, hash: u64, compact: bool) -> Chain {
        let next_checkpoint = checkpoint_after(at, compact);
        Chain {
            at,
            hash,
            next_checkpoint,
            compact,
        }
    }

    /// Takes the next piece from `bytes`, which begin at `at`, if it is whole and begins before `end`. Returns its length.
    fn fold(&mut self, bytes: &[u8], end: u64) -> Option<usize> {
        let len = piece_bytes(self.at);
        let piece = bytes.get(..len).filter(|_| self.at < end)?;
        self.hash = xxh3_64_with_seed(piece, self.hash);
        self.at += len as u64;
        Some(len)
    }

    /// The chain has come to a checkpoint: its value.
    fn checkpoint(&mut self) -> Option<u32> {
        (self.at == self.next_checkpoint).then(|| {
            self.next_checkpoint = checkpoint_after(self.at, self.compact);
            self.hash as u32
        })
    }
}

impl ReadPosition {
    /// Position format 1.
    #[cfg(test)]
    pub(super) fn of_format_1(offset: u64, head: Fingerprint, tail: Fingerprint) -> ReadPosition {
        ReadPosition {
            offset,
            head: Some(head),
            tail: Some(tail),
            ..ReadPosition::default()
        }
    }

    /// The two fingerprints of position format 1, if that is all there is.
    pub(super) fn format_1(&self) -> Option<(Fingerprint, Fingerprint)> {
        self.head.zip(self.tail)
    }

    /// Bytes so far, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the next read has to begin so that it covers the seam.
    pub(super) fn read_from(&self) -> u64 {
        self.base
    }

    pub(super) fn seam_bytes(&self) -> usize {
        (self.offset - self.base.min(self.offset)) as usize
    }

    /// `bytes`, which were read from [`ReadPosition::read_from`] on, begin with the seam.
    pub(super) fn seam_begins(&self, bytes: &[u8]) -> bool {
        bytes
            .get(..self.seam_bytes())
            .is_some_and(|seam| xxh3_64(seam) == self.seam || seam.is_empty())
    }

    /// Nothing can be concluded from it.
    pub(super) fn is_empty(&self) -> bool {
        self.offset == 0
    }

    /// Moves on past `run`, which begins at [`ReadPosition::read_from`] and begins with the seam.
    pub(super) fn advance(&mut self, run: &[u8]) {
        self.advance_within(run, CHAIN_BYTES);
    }

    /// As [`ReadPosition::advance`], with a chain that covers `chain_bytes` only.
    pub(super) fn advance_within(&mut self, run: &[u8], chain_bytes: u64) {
        let start = self.base;
        self.offset = start + run.len() as u64;
        let seam_at = self.offset.saturating_sub(SEAM_BYTES as u64).max(start);
        if self.chain_at == start {
            let mut covered = self.covered();
            let mut chain = Chain::new(start, self.chain, self.compact);
            let mut rest = run;
            while let Some(len) = chain.fold(rest, chain_bytes) {
                rest = rest.get(len..).unwrap_or_default();
                if let Some(value) = chain.checkpoint().filter(|_| chain.at > covered) {
                    covered = chain.at;
                    self.checkpoints.push(value);
                }
                if chain.at <= seam_at {
                    (self.base, self.chain_at, self.chain) = (chain.at, chain.at, chain.hash);
                }
            }
            if self.chain_at >= chain_bytes {
                self.base = seam_at.max(self.base);
            }
        } else {
            self.base = seam_at;
        }
        let seam = run.get((self.base - start) as usize..).unwrap_or_default();
        self.seam = xxh3_64(seam);
    }

    /// Places the seam at `base`, beyond what the chain covers or not, for who knows what lies between.
    pub(super) fn jump(&mut self, base: u64) {
        (self.base, self.offset) = (base, base);
    }

    /// The offset of the last checkpoint.
    fn covered(&self) -> u64 {
        let next = |at, _: &u32| checkpoint_after(at, self.compact);
        self.checkpoints.iter().fold(0, next)
    }

    /// Keeps what recognises the whole, and forgets what recognises its beginnings.
    pub(super) fn compact(&mut self) {
        if std::mem::replace(&mut self.compact, true) {
            return;
        }
        let mut at = 0;
        self.checkpoints.retain(|_| {
            at = checkpoint_after(at, false);
            at.is_power_of_two()
        });
        self.checkpoints.shrink_to_fit();
    }

    /// One is the beginning of the other, as far as the last checkpoint that both have says. Cheap, and the first thing
    /// to ask.
    pub(super) fn may_agree(&self, other: &ReadPosition) -> bool {
        if self.format_1().is_some() || other.format_1().is_some() {
            return true;
        }
        let at = |position: &ReadPosition, power: usize| {
            // The dense list has 16 checkpoints up to 16, and 16 more for each power of two.
            let index = match (position.compact, power) {
                (true, _) => power,
                (false, 0..=4) => (1 << power) - 1,
                (false, _) => 16 * (power - 3) - 1,
            };
            position.checkpoints.get(index).copied()
        };
        let powers = (0..=24).rev();
        let mut both = powers.filter_map(|power| at(self, power).zip(at(other, power)));
        both.next().is_none_or(|(ours, theirs)| ours == theirs)
    }

    /// Begins to compare a file with this, from its first byte.
    pub(super) fn compare(&self, most: u64) -> Comparing<'_> {
        Comparing {
            position: self,
            chain: Chain::new(0, 0, self.compact),
            checkpoints: self.checkpoints.iter(),
            end: most.min(self.covered().max(self.chain_at)),
        }
    }
}

/// A file on its way to be compared with the chain of a [`ReadPosition`].
#[derive(Debug)]
pub(super) struct Comparing<'a> {
    position: &'a ReadPosition,
    chain: Chain,
    checkpoints: std::slice::Iter<'a, u32>,
    end: u64,
}

impl Comparing<'_> {
    /// How far it has come, in bytes.
    pub(super) fn at(&self) -> u64 {
        self.chain.at
    }

    /// As much was compared as was asked for.
    pub(super) fn is_done(&self) -> bool {
        self.chain.at >= self.end
    }

    /// Compares the next bytes, which begin at [`Comparing::at`]. Returns how many of them were used, `None` if they
    /// differ. What is not used has to be given again, with more behind it.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let position = self.position;
        let mut used = 0;
        while let Some(len) = self
            .chain
            .fold(bytes.get(used..).unwrap_or_default(), self.end)
        {
            used += len;
            if let Some(value) = self.chain.checkpoint()
                && self.checkpoints.next().is_some_and(|known| *known != value)
            {
                return None;
            }
            if self.chain.at == position.chain_at && self.chain.hash != position.chain {
                return None;
            }
        }
        Some(used)
    }
}

/// Numbers as one text: there are hundreds for each file.
mod base64_numbers {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        numbers: &[u32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let (numbers, rest) = bytes.as_chunks();
        match rest.is_empty() {
            true => Ok(numbers.iter().map(|n| u32::from_le_bytes(*n)).collect()),
            false => Err(D::Error::custom("not a whole number of checkpoints")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: u32) -> Vec<u8> {
        (0..len)
            .map(|i| (i.wrapping_mul(7919) >> 3) as u8)
            .collect()
    }

    fn read(bytes: &[u8], step: usize) -> ReadPosition {
        let mut position = ReadPosition::default();
        while (position.offset as usize) < bytes.len() {
            let start = position.read_from() as usize;
            let stop = (position.offset as usize + step).min(bytes.len());
            assert!(position.seam_begins(&bytes[start..stop]), "step {step}");
            position.advance(&bytes[start..stop]);
        }
        position
    }

    fn agrees(position: &ReadPosition, bytes: &[u8], step: usize) -> Option<u64> {
        let mut comparing = position.compare(u64::MAX);
        let mut have = 0;
        while !comparing.is_done() {
            let at = comparing.at() as usize;
            have = (have + step).min(bytes.len());
            let used = comparing.push(&bytes[at..have])?;
            if used == 0 && have == bytes.len() {
                break;
            }
        }
        Some(comparing.at())
    }

    /// Reading in any steps gives the position that reading at once gives.
    #[test]
    fn positions_do_not_depend_on_the_steps() {
        let text = text(70_000);
        for end in [
            0, 1, 15, 16, 17, 63, 64, 65, 1023, 1024, 1025, 5000, 20_000, 70_000,
        ] {
            let whole = read(&text[..end], usize::MAX / 2);
            for step in [1, 50, 64, 1000, 1024, 4096] {
                assert_eq!(read(&text[..end], step), whole, "end {end}, step {step}");
            }
            assert!(whole.seam_bytes() <= SEAM_BYTES_MAX);
            assert!(whole.seam_bytes() >= end.min(SEAM_BYTES));
        }
    }

    #[test]
    fn what_agrees_and_what_differs() {
        let text = text(70_000);
        for end in [1, 2, 17, 100, 1500, 20_000, 70_000] {
            let mut position = read(&text[..end], 4096);
            for compact in [false, true] {
                if compact {
                    position.compact();
                }
                for step in [1, 1000, 1 << 20] {
                    assert!(agrees(&position, &text, step) >= Some(position.chain_at));
                }
                for short in (1..end).step_by(97) {
                    assert!(agrees(&position, &text[..short], 512).is_some());
                }
                for at in (0..position.chain_at as usize).step_by(311) {
                    let mut other = text.clone();
                    other[at] ^= 1;
                    assert_eq!(agrees(&position, &other, 512), None, "{end}, {at}");
                }
            }
            let other = read(&text, 512);
            assert!(position.may_agree(&other) && other.may_agree(&position));
            let mut different = text.clone();
            different[0] ^= 1;
            assert!(!position.may_agree(&read(&different, 512)), "{end}");
        }
    }

    #[test]
    fn format_1_is_read() {
        let stored = r#"{"read": 4, "head": {"len": 4, "hash": 1}, "seam": {"len": 4, "hash": 1}}"#;
        let position: ReadPosition = serde_json::from_str(stored).unwrap();
        let fingerprint = Fingerprint { len: 4, hash: 1 };
        let want = ReadPosition::of_format_1(4, fingerprint, fingerprint);
        assert_eq!(position, want);
        assert!(position.format_1().is_some() && !position.is_empty());
    }

    #[test]
    fn checkpoints_are_where_their_index_says() {
        for compact in [false, true] {
            let mut position = read(&text(1 << 20), 4096);
            if compact {
                position.compact();
            }
            assert_eq!(position.covered(), 1 << 20);
        }
        assert_eq!(read(&text(1 << 20), 4096).checkpoints.len(), 16 * 17);
    }
}
