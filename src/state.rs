//! What survives the process: one snapshot file, written whole or not at all.
//!
//! A snapshot holds how far every source was read and the series table of the same instant, so that a process which starts
//! from it counts every line once. It is replaced atomically (temporary file, fsync, rename, fsync of the directory):
//! whenever the process or the machine dies, what is found is the snapshot before or the one after. A damaged file is
//! recognised by its checksum and never half used. One process at a time may use a state directory.
//!
//! Nothing here is fatal after [`State::open`]: a full or read-only disk makes [`State::save`] fail, the last good
//! snapshot stays, and the caller counts, tells and goes on.
//!
//! The file is a header (a magic number, version, the length of each part, the xxh3 of everything else) and two parts. The
//! positions are JSON: it needs no schema to be read by a version that knows more or fewer fields, or by an operator
//! (`tail -c +37 snapshot | head -c …`). The table is bytes that only `metric` understands.

mod directory;

use std::fmt;
use std::io::{self, BufReader, BufWriter, Read};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use xxhash_rust::xxh3::Xxh3;

pub(crate) use directory::check;
pub use directory::{Loaded, OpenError, Place, State, Step};

use crate::metric::Saved;
use crate::source::Positions;
#[cfg(feature = "kafka")]
pub(crate) use crate::syslog::directory_name;

/// The first bytes of a snapshot file.
const MAGIC: [u8; 8] = *b"applogex";

/// The version of the header and of the meaning of the parts.
const VERSION: u32 = 1;

/// Magic, version, two lengths, checksum.
const HEADER_BYTES: usize = 8 + 4 + 8 + 8 + 8;

/// Everything that the next process needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// How far every source was read.
    pub positions: Positions,
    /// The series table, as [`pack`] writes it.
    pub table: Vec<u8>,
}

impl Snapshot {
    /// The snapshot as it is stored. Takes time in proportion to its size; best not done while lines wait.
    ///
    /// # Errors
    /// A position has no form in JSON.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let positions = serde_json::to_vec(&self.positions)?;
        let mut file = Vec::with_capacity(HEADER_BYTES + positions.len() + self.table.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&(positions.len() as u64).to_le_bytes());
        file.extend_from_slice(&(self.table.len() as u64).to_le_bytes());
        let checksum = checksum(&file, &[&positions, &self.table]);
        file.extend_from_slice(&checksum.to_le_bytes());
        file.extend_from_slice(&positions);
        file.extend_from_slice(&self.table);
        Ok(file)
    }

    /// Reads what [`Snapshot::encode`] wrote. Never fails in another way than by saying so, whatever the bytes are, and
    /// allocates no more than their length.
    ///
    /// # Errors
    ///
    /// If it is no snapshot, is damaged, or comes from a version that this one does not understand.
    pub fn decode(file: &[u8]) -> Result<Snapshot, Unusable> {
        let (header, body) = file
            .split_at_checked(HEADER_BYTES)
            .ok_or(Unusable::NoSnapshot)?;
        let (head, stored) = header
            .split_at_checked(HEADER_BYTES - 8)
            .ok_or(Unusable::NoSnapshot)?;
        let rest = head.strip_prefix(&MAGIC).ok_or(Unusable::NoSnapshot)?;
        let (version, lengths) = rest.split_first_chunk().ok_or(Unusable::NoSnapshot)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(Unusable::Version(version));
        }
        let (positions_len, lengths) = lengths.split_first_chunk().ok_or(Unusable::NoSnapshot)?;
        let (table_len, _) = lengths.split_first_chunk().ok_or(Unusable::NoSnapshot)?;
        let length = |bytes: &[u8; 8]| {
            usize::try_from(u64::from_le_bytes(*bytes)).map_err(|_| Unusable::Damaged)
        };
        let (positions, table) = body
            .split_at_checked(length(positions_len)?)
            .ok_or(Unusable::Damaged)?;
        if table.len() != length(table_len)?
            || stored != checksum(head, &[positions, table]).to_le_bytes()
        {
            return Err(Unusable::Damaged);
        }
        let positions = serde_json::from_slice(positions)
            .map_err(|error| Unusable::Positions(error.to_string()))?;
        Ok(Snapshot {
            positions,
            table: table.to_vec(),
        })
    }
}

/// The table as it is stored: JSON, so that it can be read by other versions and by an operator, and compressed on the
/// way, since names repeat in every series and the whole would be larger than the table itself.
///
/// # Errors
/// A value has no form in JSON.
pub(crate) fn pack(saved: &Saved) -> io::Result<Vec<u8>> {
    let compressed = GzEncoder::new(Vec::new(), Compression::fast());
    let mut buffered = BufWriter::with_capacity(64 << 10, compressed);
    serde_json::to_writer(&mut buffered, saved)?;
    buffered
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .finish()
}

/// The JSON of a table. It is to be read series by series: the whole would take more memory than the table that it becomes.
pub(crate) fn unpack(table: &[u8]) -> impl Read {
    BufReader::with_capacity(64 << 10, GzDecoder::new(table))
}

fn checksum(head: &[u8], parts: &[&[u8]]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(head);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.digest()
}

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The file is something else.
    NoSnapshot,
    /// It was written by a version with another format.
    Version(u32),
    /// Length or checksum are wrong.
    Damaged,
    /// The positions are whole, but mean nothing to this version.
    Positions(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::NoSnapshot => f.write_str("not a snapshot"),
            Unusable::Version(version) => write!(
                f,
                "snapshot of format {version}, this version reads {VERSION}"
            ),
            Unusable::Damaged => f.write_str("snapshot is damaged: length or checksum is wrong"),
            Unusable::Positions(error) => {
                write!(f, "positions of the snapshot cannot be read: {error}")
            }
        }
    }
}

impl std::error::Error for Unusable {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::{self, FileKey, Position, PositionState, ReadPosition};
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    /// A snapshot with a position for each of these paths.
    pub(super) fn snapshot(paths: &[&[u8]], table: &[u8]) -> Snapshot {
        let position = |path: &&[u8]| Position {
            path: std::ffi::OsString::from_vec(path.to_vec()).into(),
            target: Some("/target".into()),
            key: FileKey {
                dev: u64::MAX,
                ino: 2,
            },
            born_ns: None,
            offset: 10,
            read: ReadPosition::default(),
            size: 20,
            modified_ns: -1,
            first_time: Some(-1),
            state: PositionState::Draining,
        };
        Snapshot {
            positions: Positions {
                files: tail::Positions {
                    files: paths.iter().map(position).collect(),
                    ..tail::Positions::default()
                },
                streams: [("syslog:wire".to_owned(), 3.into())].into(),
            },
            table: table.to_vec(),
        }
    }

    #[test]
    fn another_version_is_told() {
        let mut encoded = Snapshot::default().encode().unwrap();
        encoded[8] = 9;
        assert_eq!(
            Snapshot::decode(&encoded).unwrap_err().to_string(),
            "snapshot of format 9, this version reads 1"
        );
    }

    #[test]
    fn every_bit_counts() {
        let encoded = snapshot(&[b"/a"], b"table").encode().unwrap();
        for at in 0..encoded.len() * 8 {
            let mut flipped = encoded.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(Snapshot::decode(&flipped).is_err(), "bit {at}");
        }
        for len in 0..encoded.len() {
            assert!(Snapshot::decode(&encoded[..len]).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic: bool) {
            let mut file = if magic { [&MAGIC[..], &VERSION.to_le_bytes()].concat() } else { Vec::new() };
            file.extend(bytes);
            prop_assert!(Snapshot::decode(&file).is_err());
        }
    }
}
