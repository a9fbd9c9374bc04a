//! What survives the process: one snapshot file, written whole or not at all.
//!
//! A snapshot holds how far every file was read and the series table of the same instant, so that a process which starts
//! from it counts every line once. It is replaced atomically (temporary file, fsync, rename, fsync of the directory):
//! whenever the process or the machine dies, what is found is the snapshot before or the one after. A damaged file is
//! recognised by its checksum and never half used. One process at a time may use a state directory.
//!
//! Nothing here is fatal after [`State::open`]: a full or read-only disk makes [`State::save`] fail, the last good
//! snapshot stays, and the caller counts, tells and goes on.
//!
//! The file is a header (a magic number, version, the length of each part, the xxh3 of everything else) and two parts. The
//! positions are JSON: it needs no schema to be read by a version that knows more or fewer fields, or by an operator
//! (`tail -c +37 snapshot | head -c …`). The table is bytes that only the metric room understands.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::tail::Positions;

/// The first bytes of a snapshot file.
const MAGIC: [u8; 8] = *b"applogex";

/// The version of the header and of the meaning of the parts.
const VERSION: u32 = 1;

/// Magic, version, two lengths, checksum.
const HEADER_BYTES: usize = 8 + 4 + 8 + 8 + 8;

/// How much is written at once, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Everything that the next process needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// How far every file was read.
    pub positions: Positions,
    /// The series table, as the metric room writes it.
    pub table: Vec<u8>,
}

impl Snapshot {
    /// The snapshot as it is stored. Takes time in proportion to its size; best not done while lines wait.
    pub fn encode(&self) -> Vec<u8> {
        // Positions are structs, numbers and strings; there is nothing in them that JSON could refuse.
        let positions = serde_json::to_vec(&self.positions).unwrap_or_default();
        let mut file = Vec::with_capacity(HEADER_BYTES + positions.len() + self.table.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&(positions.len() as u64).to_le_bytes());
        file.extend_from_slice(&(self.table.len() as u64).to_le_bytes());
        let checksum = checksum(&file, &[&positions, &self.table]);
        file.extend_from_slice(&checksum.to_le_bytes());
        file.extend_from_slice(&positions);
        file.extend_from_slice(&self.table);
        file
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

/// What a state directory held.
#[derive(Debug)]
pub enum Loaded {
    /// Nothing: the first start.
    Nothing,
    /// A whole snapshot.
    Snapshot(Snapshot),
    /// A file that cannot be used. It was put aside as `snapshot.unusable`, for whoever wants to know why; the process
    /// starts as if there were none.
    Unusable(Unusable),
}

/// Why a state directory cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses it.
    InUse(PathBuf),
    /// It cannot be made or locked.
    Io(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse(dir) => write!(
                f,
                "state directory `{}` is used by another process",
                dir.display()
            ),
            OpenError::Io(dir, error) => write!(f, "state directory `{}`: {error}", dir.display()),
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            OpenError::InUse(_) => "give each exporter a directory of its own".into(),
            OpenError::Io(dir, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                format!(
                    "the exporter runs as the user with the id {user}; `chown {user} {}` gives it the directory",
                    dir.display(),
                    user = rustix::process::geteuid().as_raw(),
                )
            }
            OpenError::Io(..) => "choose another directory with --state.dir".into(),
        }
    }
}

/// Whether [`State::open`] could make or use this directory, without making or locking it.
///
/// # Errors
/// It is no directory, or files cannot be made in it, or it cannot be made.
pub(crate) fn check(dir: &Path) -> Result<(), OpenError> {
    use rustix::fs::{Access, access};
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let existing = absolute.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    let usable = match existing.is_dir() {
        true => access(existing, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from),
        false => Err(io::Error::from(io::ErrorKind::NotADirectory)),
    };
    // Where a kernel keeps its own files, root may write and yet make none.
    let usable = usable.and_then(|()| {
        let is_kernels = existing.starts_with("/proc") || existing.starts_with("/sys");
        match is_kernels {
            true => Err(io::Error::from(io::ErrorKind::NotFound)),
            false => Ok(()),
        }
    });
    usable.map_err(|error| OpenError::Io(dir.to_owned(), error))
}

/// A step of [`State::save`], after which a machine may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The temporary file is there, and empty.
    Created,
    /// A piece of it was written.
    Written,
    /// It is on the disk.
    Synced,
    /// It has taken the name of the snapshot.
    Renamed,
    /// The name is on the disk.
    DirectorySynced,
}

/// A hook for tests, called after each [`Step`].
type Fault = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

/// A state directory, for this process alone until it is dropped.
pub struct State {
    dir: PathBuf,
    /// Held for its lock, which goes with the process however that ends.
    _lock: File,
    fault: Option<Fault>,
}

impl State {
    /// Takes possession of a state directory; makes it if it is not there.
    ///
    /// # Errors
    ///
    /// If another process has it, or if it can be neither made nor locked.
    pub fn open(dir: impl Into<PathBuf>) -> Result<State, OpenError> {
        let dir = dir.into();
        let lock = std::fs::create_dir_all(&dir).and_then(|()| {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join("lock"))
        });
        match lock.map(|lock| (lock.try_lock(), lock)) {
            Ok((Ok(()), lock)) => Ok(State {
                dir,
                _lock: lock,
                fault: None,
            }),
            Ok((Err(TryLockError::WouldBlock), _)) => Err(OpenError::InUse(dir)),
            Ok((Err(TryLockError::Error(error)), _)) | Err(error) => Err(OpenError::Io(dir, error)),
        }
    }

    /// Reads the snapshot of the last process.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read.
    pub fn load(&self) -> io::Result<Loaded> {
        let path = self.path();
        let file = match std::fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(error) => return Err(error),
        };
        Ok(match Snapshot::decode(&file) {
            Ok(snapshot) => Loaded::Snapshot(snapshot),
            Err(unusable) => {
                // Only a service to the curious: the next save replaces the file anyway.
                let _ = std::fs::rename(&path, self.dir.join("snapshot.unusable"));
                Loaded::Unusable(unusable)
            }
        })
    }

    /// Replaces the snapshot by `encoded` ([`Snapshot::encode`]). When it returns, the new one is on the disk.
    ///
    /// # Errors
    ///
    /// Whatever the file system says. The former snapshot is still there then, or (if only the last step failed) the new
    /// one is, whole.
    pub fn save(&mut self, encoded: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join("snapshot.new");
        let result = self.replace(&temporary, encoded);
        if result.is_err() {
            // On a full disk, its room is better given back.
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    fn replace(&mut self, temporary: &Path, encoded: &[u8]) -> io::Result<()> {
        let mut file = File::create(temporary)?;
        self.reached(Step::Created)?;
        for piece in encoded.chunks(WRITE_BYTES) {
            file.write_all(piece)?;
            self.reached(Step::Written)?;
        }
        file.sync_all()?;
        self.reached(Step::Synced)?;
        std::fs::rename(temporary, self.path())?;
        self.reached(Step::Renamed)?;
        File::open(&self.dir)?.sync_all()?;
        self.reached(Step::DirectorySynced)
    }

    /// Where the snapshot is.
    pub fn path(&self) -> PathBuf {
        self.dir.join("snapshot")
    }

    /// For tests: `fault` is called after every step of every save; its error is the step's, and it may end the process.
    #[doc(hidden)]
    pub fn inject(&mut self, fault: impl FnMut(Step) -> io::Result<()> + Send + 'static) {
        self.fault = Some(Box::new(fault));
    }

    fn reached(&mut self, step: Step) -> io::Result<()> {
        self.fault.as_mut().map_or(Ok(()), |fault| fault(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::{FileKey, Position, PositionState, ReadPosition};
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    fn snapshot(paths: &[&[u8]], table: &[u8]) -> Snapshot {
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
                files: paths.iter().map(position).collect(),
                ..Positions::default()
            },
            table: table.to_vec(),
        }
    }

    fn loaded(state: &State) -> Snapshot {
        match state.load().unwrap() {
            Loaded::Snapshot(snapshot) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path().join("made/here")).unwrap();
        assert!(matches!(state.load().unwrap(), Loaded::Nothing));
        for table in [&b""[..], b"table", &[0; 1_000_000]] {
            let snapshot = snapshot(&[b"/var/log/messages", b"/not/\xff/utf8"], table);
            state.save(&snapshot.encode()).unwrap();
            assert_eq!(loaded(&state), snapshot);
        }
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let refused = State::open(dir.path()).map(|_| ()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "state directory `{}` is used by another process",
                dir.path().display()
            )
        );
        drop(state);
        assert!(State::open(dir.path()).is_ok());
    }

    #[test]
    fn a_failure_at_any_step_leaves_a_whole_snapshot() {
        let old = snapshot(&[b"/old"], &[1; 600_000]);
        let new = snapshot(&[b"/new"], &[2; 600_000]);
        for failing in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let mut state = State::open(dir.path()).unwrap();
            state.save(&old.encode()).unwrap();
            let mut left = failing;
            let (sender, receiver) = std::sync::mpsc::channel();
            state.inject(move |step| {
                sender.send(step).unwrap();
                if left == 0 {
                    return Err(io::Error::from(io::ErrorKind::StorageFull));
                }
                left -= 1;
                Ok(())
            });
            let result = state.save(&new.encode());
            let reached: Vec<Step> = receiver.try_iter().collect();
            let renamed = reached.contains(&Step::Renamed);
            assert_eq!(
                loaded(&state),
                if renamed { new.clone() } else { old.clone() },
                "{reached:?}"
            );
            assert!(!dir.path().join("snapshot.new").exists(), "{reached:?}");
            if result.is_ok() {
                assert!(failing >= 7, "only {failing} steps: {reached:?}");
                return;
            }
        }
    }

    #[test]
    fn a_damaged_snapshot_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        let mut encoded = snapshot(&[b"/a"], b"table").encode();
        *encoded.last_mut().unwrap() ^= 1;
        state.save(&encoded).unwrap();
        assert!(matches!(
            state.load().unwrap(),
            Loaded::Unusable(Unusable::Damaged)
        ));
        assert!(matches!(state.load().unwrap(), Loaded::Nothing));
        assert_eq!(
            std::fs::read(dir.path().join("snapshot.unusable")).unwrap(),
            encoded
        );
    }

    #[test]
    fn another_version_is_told() {
        let mut encoded = Snapshot::default().encode();
        encoded[8] = 9;
        assert_eq!(
            Snapshot::decode(&encoded).unwrap_err().to_string(),
            "snapshot of format 9, this version reads 1"
        );
    }

    #[test]
    fn every_bit_counts() {
        let encoded = snapshot(&[b"/a"], b"table").encode();
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
