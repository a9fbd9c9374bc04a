//! The directory that holds the snapshot: owned by one process, and by nobody who plants links.
//!
//! Whoever may write to the directory could put a link, a pipe or a file of their own where the exporter expects its own.
//! So nothing is opened through a link, what is written is always a new file, and files of other users are refused. Files
//! are reached through a handle of the directory; that the directory still has its name, and the lock its own, is checked
//! before every save, so that an operator who removes either does not get two owners of one snapshot.

use std::fmt;
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

use super::{Snapshot, Unusable};

/// How much is written at once, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Held under this name while a process uses the directory.
const LOCK: &str = "lock";
const SNAPSHOT: &str = "snapshot";
/// A snapshot that is being written.
const NEW: &str = "snapshot.new";
/// A snapshot that could not be read.
const UNUSABLE: &str = "snapshot.unusable";

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
    /// A file in it is not the exporter's own: its name, and what is wrong with it.
    Foreign(PathBuf, &'static str, String),
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
            OpenError::Foreign(dir, name, fault) => {
                write!(f, "state directory `{}`: `{name}` {fault}", dir.display())
            }
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
            OpenError::Foreign(dir, name, _) => format!(
                "find out who made it, and remove `{}`; only the exporter should be able to write there",
                dir.join(name).display()
            ),
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
/// It is no directory, or files cannot be made in it, or it cannot be made, or holds files that are not the exporter's.
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
    usable.map_err(|error| OpenError::Io(dir.to_owned(), error))?;
    match existing == absolute {
        true => check_files(dir, &handle(&resolved(dir)?)?),
        false => Ok(()),
    }
}

/// The directory that a path leads to now.
fn resolved(dir: &Path) -> Result<PathBuf, OpenError> {
    dir.canonicalize()
        .map_err(|error| OpenError::Io(dir.to_owned(), error))
}

fn handle(dir: &Path) -> Result<OwnedFd, OpenError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|error| OpenError::Io(dir.to_owned(), error.into()))
}

/// Refuses what is no plain file, and files of others.
fn check_files(dir: &Path, directory: &OwnedFd) -> Result<(), OpenError> {
    let io = |error: rustix::io::Errno| OpenError::Io(dir.to_owned(), error.into());
    let of_directory = rustix::fs::fstat(directory).map_err(io)?;
    // Who owns the directory can do anything in it.
    let owners = [rustix::process::geteuid().as_raw(), 0, of_directory.st_uid];
    for name in [LOCK, SNAPSHOT, NEW, UNUSABLE] {
        let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(io(error)),
        };
        if let Some(fault) = fault(FileType::from_raw_mode(found.st_mode), found.st_uid, owners) {
            return Err(OpenError::Foreign(dir.to_owned(), name, fault));
        }
    }
    Ok(())
}

/// What is wrong with a file of this kind and owner.
fn fault(kind: FileType, owner: u32, owners: [u32; 3]) -> Option<String> {
    match kind {
        FileType::RegularFile if owners.contains(&owner) => None,
        FileType::RegularFile => Some(format!(
            "belongs to the user with the id {owner}; the exporter runs as {}",
            owners[0]
        )),
        FileType::Symlink => Some("is a symbolic link".to_owned()),
        _ => Some("is no regular file".to_owned()),
    }
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

/// Where a snapshot was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the directory as it was found.
    Same,
    /// Directory or lock had been removed or replaced, and were made anew.
    MadeAnew,
}

/// A hook for tests, called after each [`Step`].
type Fault = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

/// A state directory, for this process alone until it is dropped.
pub struct State {
    dir: PathBuf,
    held: Held,
    fault: Option<Fault>,
}

/// A directory that this process has locked. Its path has no link at its end.
struct Held {
    directory: OwnedFd,
    /// Held for its lock, which goes with the process however that ends.
    lock: File,
}

impl Held {
    fn take(dir: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io(dir.to_owned(), error);
        make(dir).map_err(io)?;
        let directory = handle(dir)?;
        check_files(dir, &directory)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&directory, LOCK, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| io(error.into()))?;
        let lock = File::from(lock);
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // Whoever may read the file may lock it; it was 0644 once. It stays so if it is another's.
        let _ = lock.set_permissions(Permissions::from_mode(0o600));
        let held = Self { directory, lock };
        // What was locked may have lost its name meanwhile, and another process may have locked what has it now.
        match held.has_its_names(dir).map_err(io)? {
            true => Ok(held),
            false => Err(OpenError::InUse(dir.to_owned())),
        }
    }

    /// Whether the path still leads to this directory, and the name in it to this lock.
    fn has_its_names(&self, dir: &Path) -> io::Result<bool> {
        let same = |named: rustix::io::Result<Stat>, opened: Stat| match named {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error),
        };
        let directory = rustix::fs::statat(CWD, dir, AtFlags::SYMLINK_NOFOLLOW);
        let lock = rustix::fs::statat(&self.directory, LOCK, AtFlags::SYMLINK_NOFOLLOW);
        Ok(same(directory, rustix::fs::fstat(&self.directory)?)?
            && same(lock, rustix::fs::fstat(&self.lock)?)?)
    }
}

/// Makes the directory, for its owner alone.
fn make(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

impl State {
    /// Takes possession of a state directory; makes it if it is not there.
    ///
    /// # Errors
    ///
    /// If another process has it, if it can be neither made nor locked, or if a link, or a file of somebody else, is
    /// where a file of the exporter is to be.
    pub fn open(dir: impl Into<PathBuf>) -> Result<State, OpenError> {
        let dir = dir.into();
        make(&dir).map_err(|error| OpenError::Io(dir.clone(), error))?;
        // The path of a setting may be a link. One that is put there while the exporter runs is not followed.
        let dir = resolved(&dir)?;
        Ok(State {
            held: Held::take(&dir)?,
            dir,
            fault: None,
        })
    }

    /// Who else could remove or replace what is kept here, if anybody.
    pub fn others(&self) -> Option<String> {
        let found = rustix::fs::fstat(&self.held.directory).ok()?;
        let (owner, mode) = (found.st_uid, Mode::from_raw_mode(found.st_mode));
        let is_sticky = mode.contains(Mode::SVTX);
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            Some(format!("it belongs to the user with the id {owner}"))
        } else if mode.contains(Mode::WOTH) && !is_sticky {
            Some("every user may write to it".to_owned())
        } else {
            None
        }
    }

    /// Reads the snapshot of the last process.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read.
    pub fn load(&self) -> io::Result<Loaded> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.held.directory, SNAPSHOT, flags, Mode::empty());
        let mut file = match opened {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(Loaded::Nothing),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(match Snapshot::decode(&bytes) {
            Ok(snapshot) => Loaded::Snapshot(snapshot),
            Err(unusable) => {
                self.put_aside();
                Loaded::Unusable(unusable)
            }
        })
    }

    /// Renames a snapshot that cannot be used to `snapshot.unusable`. Only a service to the curious: the next save replaces
    /// it anyway.
    pub fn put_aside(&self) {
        let directory = &self.held.directory;
        let _ = rustix::fs::renameat(directory, SNAPSHOT, directory, UNUSABLE);
    }

    /// Replaces the snapshot by `encoded` ([`Snapshot::encode`]). When it returns, the new one is on the disk.
    ///
    /// # Errors
    ///
    /// Whatever the file system says. The former snapshot is still there then, or (if only the last step failed) the new
    /// one is, whole. Also if the directory was removed, and another process has it now: there is no snapshot of this
    /// process then, and that one's stays as it is.
    pub fn save(&mut self, encoded: &[u8]) -> io::Result<Place> {
        let place = match self.held.has_its_names(&self.dir)? {
            true => Place::Same,
            false => {
                self.held = Held::take(&self.dir).map_err(io::Error::other)?;
                Place::MadeAnew
            }
        };
        let result = self.replace(encoded);
        if result.is_err() {
            // A full disk has better use for its space.
            let _ = rustix::fs::unlinkat(&self.held.directory, NEW, AtFlags::empty());
        }
        result.map(|()| place)
    }

    fn replace(&mut self, encoded: &[u8]) -> io::Result<()> {
        // Left behind by a process that died, or planted: it goes, whatever it is, and what it leads to is not touched.
        match rustix::fs::unlinkat(&self.held.directory, NEW, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&self.held.directory, NEW, flags, mode)?);
        self.reached(Step::Created)?;
        for piece in encoded.chunks(WRITE_BYTES) {
            file.write_all(piece)?;
            self.reached(Step::Written)?;
        }
        file.sync_all()?;
        self.reached(Step::Synced)?;
        // Writing takes long enough for the directory to be replaced.
        if !self.held.has_its_names(&self.dir)? {
            return Err(io::Error::other(
                "the state directory was removed or replaced meanwhile",
            ));
        }
        let directory = &self.held.directory;
        rustix::fs::renameat(directory, NEW, directory, SNAPSHOT)?;
        self.reached(Step::Renamed)?;
        rustix::fs::fsync(&self.held.directory)?;
        self.reached(Step::DirectorySynced)
    }

    /// Where the snapshot is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(SNAPSHOT)
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
    use super::super::tests::snapshot;
    use super::*;

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
            state.save(&snapshot.encode().unwrap()).unwrap();
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
            state.save(&old.encode().unwrap()).unwrap();
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
            let result = state.save(&new.encode().unwrap());
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
        let mut encoded = snapshot(&[b"/a"], b"table").encode().unwrap();
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

    const NAMES: [&str; 4] = [LOCK, SNAPSHOT, NEW, UNUSABLE];

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path)
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    }

    #[test]
    fn nothing_is_opened_through_a_link() {
        for name in NAMES {
            let dir = tempfile::tempdir().unwrap();
            let (state, victim) = (dir.path().join("state"), dir.path().join("victim"));
            std::fs::create_dir(&state).unwrap();
            std::fs::write(&victim, "precious").unwrap();
            std::os::unix::fs::symlink(&victim, state.join(name)).unwrap();
            for refused in [check(&state), State::open(&state).map(|_| ())] {
                assert_eq!(
                    refused.unwrap_err().to_string(),
                    format!(
                        "state directory `{}`: `{name}` is a symbolic link",
                        state.display()
                    )
                );
            }
            assert_eq!(std::fs::read(&victim).unwrap(), b"precious", "{name}");
        }
    }

    #[test]
    fn a_link_that_is_planted_later_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("state"), dir.path().join("victim"));
        std::fs::write(&victim, "precious").unwrap();
        let mut state = State::open(&path).unwrap();
        let encoded = snapshot(&[], b"table").encode().unwrap();
        for name in [SNAPSHOT, NEW] {
            let _ = std::fs::remove_file(path.join(name));
            std::os::unix::fs::symlink(&victim, path.join(name)).unwrap();
            assert_eq!(state.save(&encoded).unwrap(), Place::Same);
            assert_eq!(std::fs::read(path.join(SNAPSHOT)).unwrap(), encoded);
            assert_eq!(std::fs::read(&victim).unwrap(), b"precious", "{name}");
        }
        // Nor is one followed when it is read.
        std::fs::remove_file(path.join(SNAPSHOT)).unwrap();
        std::os::unix::fs::symlink(&victim, path.join(SNAPSHOT)).unwrap();
        assert!(state.load().is_err());
    }

    #[test]
    fn a_link_in_the_place_of_the_directory_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let [path, link, elsewhere] =
            ["state", "link", "elsewhere"].map(|name| dir.path().join(name));
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::create_dir(&path).unwrap();
        // The link of a setting is.
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut state = State::open(&link).unwrap();
        let encoded = snapshot(&[], b"table").encode().unwrap();
        assert_eq!(state.save(&encoded).unwrap(), Place::Same);
        assert_eq!(std::fs::read(path.join(SNAPSHOT)).unwrap(), encoded);
        for target in [&elsewhere, &dir.path().join("away")] {
            let away = dir.path().join("away");
            std::fs::rename(&path, &away).unwrap();
            std::os::unix::fs::symlink(target, &path).unwrap();
            assert!(state.save(&encoded).is_err(), "{target:?}");
            assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
            std::fs::remove_file(&path).unwrap();
            std::fs::rename(&away, &path).unwrap();
            assert_eq!(state.save(&encoded).unwrap(), Place::Same);
        }
    }

    #[test]
    fn a_pipe_holds_nobody_up() {
        for name in NAMES {
            let dir = tempfile::tempdir().unwrap();
            rustix::fs::mknodat(
                CWD,
                dir.path().join(name),
                FileType::Fifo,
                Mode::RUSR | Mode::WUSR,
                0,
            )
            .unwrap();
            let refused = State::open(dir.path()).map(|_| ()).unwrap_err();
            assert!(
                refused.to_string().ends_with("is no regular file"),
                "{refused}"
            );
        }
    }

    #[test]
    fn files_of_others_are_refused() {
        let owners = [1000, 0, 1001];
        for (kind, owner, expected) in [
            (FileType::RegularFile, 1000, None),
            (FileType::RegularFile, 0, None),
            (FileType::RegularFile, 1001, None),
            (
                FileType::RegularFile,
                1002,
                Some("belongs to the user with the id 1002; the exporter runs as 1000"),
            ),
            (FileType::Symlink, 1000, Some("is a symbolic link")),
            (FileType::Directory, 1000, Some("is no regular file")),
        ] {
            assert_eq!(fault(kind, owner, owners).as_deref(), expected);
        }
    }

    #[test]
    fn nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        drop(State::open(&path).unwrap());
        // As an earlier version made it.
        std::fs::set_permissions(path.join(LOCK), Permissions::from_mode(0o644)).unwrap();
        let mut state = State::open(&path).unwrap();
        state
            .save(&snapshot(&[], b"table").encode().unwrap())
            .unwrap();
        assert_eq!(mode(&path), 0o700);
        for name in [LOCK, SNAPSHOT] {
            assert_eq!(mode(&path.join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn who_else_may_write_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        for (mode, is_told) in [(0o700, false), (0o777, true), (0o1777, false)] {
            std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(state.others().is_some(), is_told, "{mode:o}");
        }
    }

    /// What an operator may do to a state directory that is in use.
    #[test]
    fn a_directory_that_is_removed_and_made_anew_has_one_owner() {
        let encoded = snapshot(&[], b"table").encode().unwrap();
        type Remove = fn(&Path);
        let removals: [Remove; 3] = [
            |path| std::fs::remove_dir_all(path).unwrap(),
            |path| std::fs::remove_file(path.join(LOCK)).unwrap(),
            |path| std::fs::rename(path, path.with_extension("away")).unwrap(),
        ];
        for remove in removals {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state");
            let mut first = State::open(&path).unwrap();
            first.save(&encoded).unwrap();
            remove(&path);
            // Somebody else came first: the snapshot is theirs.
            let mut second = State::open(&path).unwrap();
            let theirs = snapshot(&[], b"theirs").encode().unwrap();
            second.save(&theirs).unwrap();
            let refused = first.save(&encoded).unwrap_err();
            assert!(
                refused.to_string().ends_with("is used by another process"),
                "{refused}"
            );
            assert_eq!(std::fs::read(path.join(SNAPSHOT)).unwrap(), theirs);
            drop(second);
            // Nobody did, or they are gone.
            assert_eq!(first.save(&encoded).unwrap(), Place::MadeAnew);
            assert_eq!(first.save(&encoded).unwrap(), Place::Same);
            assert!(matches!(State::open(&path), Err(OpenError::InUse(_))));
        }
    }

    #[test]
    fn a_directory_that_is_replaced_while_a_snapshot_is_written_gets_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut state = State::open(&path).unwrap();
        let away = path.clone();
        state.inject(move |step| match step {
            Step::Synced => std::fs::remove_file(away.join(LOCK)),
            _ => Ok(()),
        });
        assert!(
            state
                .save(&snapshot(&[], b"table").encode().unwrap())
                .is_err()
        );
        assert!(!path.join(SNAPSHOT).exists());
    }
}
