//! Who wakes the tail up. Only hints: what is true is asked from the files themselves.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Paths that the linemux thread may be ahead of us. Beyond, everything is looked at.
const LINEMUX_HINTS_MAX: usize = 4096;

/// Which mechanism wakes the tail up when a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watcher {
    /// Linux inotify on the directories of the files. Where there is none, as [`Watcher::Linemux`].
    Inotify,
    /// linemux's `MuxedEvents` on the files, beside a look at every file each poll interval, since it goes blind after
    /// some rotations.
    Linemux,
    /// A look at every file each poll interval.
    Poll,
}

/// Something may have changed.
pub(super) enum Hint<'a> {
    /// The file at this path has new bytes.
    Written(&'a Path),
    /// The name came, went, or changed its rights.
    Renamed(&'a Path),
    /// The directory at this path came, went, or changed its rights.
    Directory(&'a Path),
    /// Some directory did.
    Directories,
    /// Events were lost.
    Everything,
}

/// Wakes a thread that is in [`Tail::wait`](super::Tail::wait). Cheap to clone; works from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<UnixStream>);

impl Waker {
    /// Makes the present or the next wait return at once.
    pub fn wake(&self) {
        // If the pipe is full, the wait returns anyway.
        let _ = io::Write::write(&mut &*self.0, &[1]);
    }

    pub(super) fn pair() -> io::Result<(Waker, UnixStream)> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok((Waker(Arc::new(sender)), receiver))
    }
}

/// The running mechanism.
pub(super) enum Watch {
    #[cfg(target_os = "linux")]
    Inotify(inotify_directories::Directories),
    Linemux(Linemux),
    Poll,
}

impl Watch {
    pub(super) fn start(watcher: Watcher, waker: &Waker) -> io::Result<Watch> {
        match watcher {
            #[cfg(target_os = "linux")]
            Watcher::Inotify => Ok(Watch::Inotify(inotify_directories::Directories::new()?)),
            #[cfg(not(target_os = "linux"))]
            Watcher::Inotify => Ok(Watch::Linemux(Linemux::start(waker.clone())?)),
            Watcher::Linemux => Ok(Watch::Linemux(Linemux::start(waker.clone())?)),
            Watcher::Poll => Ok(Watch::Poll),
        }
    }

    pub(super) fn kind(&self) -> Watcher {
        match self {
            #[cfg(target_os = "linux")]
            Watch::Inotify(_) => Watcher::Inotify,
            Watch::Linemux(_) => Watcher::Linemux,
            Watch::Poll => Watcher::Poll,
        }
    }

    /// Hands over what was noticed since the last call. Never blocks.
    pub(super) fn hints(&mut self, each: impl FnMut(Hint<'_>)) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Watch::Inotify(directories) => directories.hints(each),
            Watch::Linemux(linemux) => linemux.hints(each),
            Watch::Poll => Ok(()),
        }
    }

    /// Watches these directories or files (whichever the mechanism watches) from now on and no others. Says whether
    /// a directory was not watched before: what happened in it until now was not noticed.
    ///
    /// # Errors
    ///
    /// If the mechanism has reached a limit of the system.
    pub(super) fn watch<'a>(
        &mut self,
        directories: &HashSet<PathBuf>,
        files: impl Iterator<Item = &'a Path>,
    ) -> io::Result<bool> {
        match self {
            #[cfg(target_os = "linux")]
            Watch::Inotify(watched) => watched.watch(directories),
            Watch::Linemux(linemux) => {
                linemux.watch(files);
                Ok(false)
            }
            Watch::Poll => Ok(false),
        }
    }

    /// Watches one more file, if the mechanism watches files.
    pub(super) fn watch_file(&mut self, path: &Path) {
        if let Watch::Linemux(linemux) = self {
            linemux.watch(std::iter::once(path));
        }
    }

    /// What becomes readable when there are hints.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            #[cfg(target_os = "linux")]
            Watch::Inotify(directories) => Some(directories.inotify.as_fd()),
            _ => None,
        }
    }
}

#[cfg(target_os = "linux")]
mod inotify_directories {
    use super::*;
    use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

    /// Watched directories. A rename or a new file shows in its directory, where a watch on the file itself would go
    /// with the old file.
    pub(in super::super) struct Directories {
        pub(super) inotify: Inotify,
        /// More than one path if a directory is reached in several ways.
        paths: HashMap<WatchDescriptor, Vec<PathBuf>>,
        buffer: Vec<u8>,
    }

    impl Directories {
        pub(super) fn new() -> io::Result<Directories> {
            Ok(Directories {
                inotify: Inotify::init()?,
                paths: HashMap::new(),
                buffer: vec![0; 64 * 1024],
            })
        }

        pub(super) fn watch(&mut self, directories: &HashSet<PathBuf>) -> io::Result<bool> {
            let mask = WatchMask::MODIFY
                | WatchMask::CREATE
                | WatchMask::DELETE
                | WatchMask::MOVED_FROM
                | WatchMask::MOVED_TO
                | WatchMask::ATTRIB
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF
                | WatchMask::ONLYDIR;
            let mut paths: HashMap<WatchDescriptor, Vec<PathBuf>> = HashMap::new();
            for directory in directories {
                // A directory that is watched already keeps its watch: the kernel goes by inode. So this also finds
                // out that a path has come to mean another directory.
                match self.inotify.watches().add(directory, mask) {
                    Ok(watch) => paths.entry(watch).or_default().push(directory.clone()),
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
                    // Gone since it was listed, or not permitted: the periodic look does without.
                    Err(_) => {}
                }
            }
            for stale in self.paths.keys().filter(|watch| !paths.contains_key(watch)) {
                // It fails if the directory is gone, and the watch with it.
                let _ = self.inotify.watches().remove(stale.clone());
            }
            let known = |watch, paths: &[PathBuf]| {
                self.paths
                    .get(watch)
                    .is_some_and(|known| paths.iter().all(|path| known.contains(path)))
            };
            let new = paths.iter().any(|(watch, paths)| !known(watch, paths));
            self.paths = paths;
            Ok(new)
        }

        pub(super) fn hints(&mut self, mut each: impl FnMut(Hint<'_>)) -> io::Result<()> {
            let mut path = PathBuf::new();
            loop {
                let events = match self.inotify.read_events(&mut self.buffer) {
                    Ok(events) => events,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                for event in events {
                    if event.mask.contains(EventMask::Q_OVERFLOW) {
                        each(Hint::Everything);
                    }
                    if event.mask.contains(EventMask::IGNORED) {
                        self.paths.remove(&event.wd);
                    }
                    let Some(name) = event.name.filter(|name| !name.as_bytes().is_empty()) else {
                        // About a directory itself. A change of its rights may open files to us.
                        each(Hint::Directories);
                        continue;
                    };
                    for directory in self.paths.get(&event.wd).into_iter().flatten() {
                        path.clear();
                        path.push(directory);
                        path.push(name);
                        each(if event.mask.contains(EventMask::ISDIR) {
                            Hint::Directory(&path)
                        } else if event.mask.contains(EventMask::MODIFY) {
                            Hint::Written(&path)
                        } else {
                            Hint::Renamed(&path)
                        });
                    }
                }
            }
        }
    }
}

/// linemux's event layer in a thread of its own, since it is asynchronous.
pub(super) struct Linemux {
    commands: tokio::sync::mpsc::UnboundedSender<PathBuf>,
    watched: HashSet<PathBuf>,
    noticed: Arc<Mutex<Noticed>>,
}

#[derive(Default)]
struct Noticed {
    paths: HashSet<PathBuf>,
    /// linemux said that it lost events, or there were more than we keep.
    overflowed: bool,
    /// The thread has ended.
    ended: Option<io::Error>,
}

impl Linemux {
    fn start(waker: Waker) -> io::Result<Linemux> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        // Our own list bounds what is sent: a path is sent once.
        let (commands, receiver) = tokio::sync::mpsc::unbounded_channel();
        let noticed = Arc::new(Mutex::new(Noticed::default()));
        let shared = noticed.clone();
        std::thread::Builder::new()
            .name("linemux".to_owned())
            .spawn(move || {
                let result = runtime.block_on(forward(receiver, &shared, &waker));
                shared.lock().ended = result.err();
                waker.wake();
            })?;
        Ok(Linemux {
            commands,
            watched: HashSet::new(),
            noticed,
        })
    }

    fn watch<'a>(&mut self, files: impl Iterator<Item = &'a Path>) {
        for file in files {
            if !self.watched.contains(file) {
                self.watched.insert(file.to_owned());
                // If the thread has ended, the next call for hints says so.
                let _ = self.commands.send(file.to_owned());
            }
        }
    }

    fn hints(&mut self, mut each: impl FnMut(Hint<'_>)) -> io::Result<()> {
        let noticed = std::mem::take(&mut *self.noticed.lock());
        if let Some(error) = noticed.ended {
            return Err(error);
        }
        if noticed.overflowed {
            each(Hint::Everything);
        }
        for path in &noticed.paths {
            each(Hint::Renamed(path));
        }
        Ok(())
    }
}

async fn forward(
    mut commands: tokio::sync::mpsc::UnboundedReceiver<PathBuf>,
    noticed: &Mutex<Noticed>,
    waker: &Waker,
) -> io::Result<()> {
    let mut events = linemux::MuxedEvents::new()?;
    // Without a file, and when its last directory has gone, it says `None` again and again.
    let mut watching = false;
    loop {
        let event = tokio::select! {
            path = commands.recv() => match path {
                Some(path) => {
                    // It refuses paths whose directory does not exist. Those are found by the periodic look.
                    watching |= events.add_file(path).await.is_ok();
                    continue;
                }
                None => return Ok(()),
            },
            event = events.next_event(), if watching => event,
        };
        let mut noticed = noticed.lock();
        match event? {
            Some(event) if event.paths.is_empty() => noticed.overflowed = true,
            Some(event) if noticed.paths.len() < LINEMUX_HINTS_MAX => {
                noticed.paths.extend(event.paths)
            }
            Some(_) => noticed.overflowed = true,
            None => watching = false,
        }
        waker.wake();
    }
}
