//! What happens to files, one test per mishap. Each row of `docs/tailing.md` names one of these.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::line::LineBuffer;

mod compressed;
mod crash;
mod errors;
mod kinds;
mod logrotate;
mod meanwhile;
mod model;
mod scripts;
mod watching;

/// Who keeps what the tail hands over.
#[derive(Default)]
pub(super) struct Log {
    buffers: HashMap<FileId, (LineBuffer, PathBuf)>,
    /// Every line, by the path that was followed.
    pub lines: HashMap<PathBuf, Vec<String>>,
    /// Lines that were cut off by a truncation.
    pub cut: Vec<String>,
    /// Every event, with the file name of its path.
    pub events: Vec<(String, Event)>,
    captures: Captures,
}

impl Sink for Log {
    fn opened(&mut self, file: FileId, info: &Arc<FileInfo>) {
        self.captures.clone_from(&info.captures);
        let old = self
            .buffers
            .insert(file, (LineBuffer::new(1000), info.path.clone()));
        assert!(old.is_none(), "{file} opened twice");
    }

    fn bytes(&mut self, file: FileId, bytes: &mut Chunk) {
        assert!(!bytes.is_empty());
        let (buffer, path) = self.buffers.get_mut(&file).expect("opened before");
        let lines = self.lines.entry(path.clone()).or_default();
        buffer.push(bytes, |line| {
            lines.push(String::from_utf8_lossy(line.bytes).into_owned())
        });
    }

    fn ended(&mut self, file: FileId, end: End) {
        let (mut buffer, path) = self.buffers.remove(&file).expect("opened before");
        let lines = match end {
            End::Whole { .. } => self.lines.entry(path).or_default(),
            End::Cut(_) => &mut self.cut,
        };
        buffer.finish(|line| lines.push(String::from_utf8_lossy(line.bytes).into_owned()));
    }

    fn event(&mut self, info: &FileInfo, event: Event) {
        let name = info
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        self.events.push((name.unwrap_or_default(), event));
    }
}

/// A directory in memory, a tail on it, and a clock that only the test moves.
pub(super) struct Scene {
    pub dir: tempfile::TempDir,
    specs: Vec<SourceSpec>,
    pub options: Options,
    pub tail: Option<Tail>,
    pub now: Instant,
    pub log: Log,
}

impl Scene {
    pub fn with(watcher: Watcher, patterns: &[&str]) -> Scene {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Scene::within(dir.unwrap(), watcher, patterns)
    }

    /// On the file system of the temporary directory, which may reuse inodes.
    pub fn on_disk(watcher: Watcher, patterns: &[&str]) -> Scene {
        Scene::within(tempfile::tempdir().unwrap(), watcher, patterns)
    }

    pub fn within(dir: tempfile::TempDir, watcher: Watcher, patterns: &[&str]) -> Scene {
        let absolute = |pattern: &&str| {
            Pattern::parse(&format!("{}/{pattern}", dir.path().display())).unwrap()
        };
        let specs = vec![SourceSpec::new("test", patterns.iter().map(absolute))];
        let options = Options {
            watcher,
            drain_grace: Duration::from_secs(1),
            ..Options::default()
        };
        Scene {
            dir,
            specs,
            options,
            tail: None,
            now: Instant::now(),
            log: Log::default(),
        }
    }

    /// Follows `messages` in a new directory.
    pub fn new() -> Scene {
        Scene::with(Watcher::Inotify, &["messages"])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub fn truncate(&self, name: &str) {
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.path(name))
            .unwrap();
    }

    pub fn compress(&self, name: &str) {
        let modified = fs::metadata(self.path(name)).unwrap().modified().unwrap();
        let target = File::create(self.path(&format!("{name}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::fast());
        encoder
            .write_all(&fs::read(self.path(name)).unwrap())
            .unwrap();
        encoder.finish().unwrap().set_modified(modified).unwrap();
        self.remove(name);
    }

    /// Reads once, by what the watcher says, without the clock moving. Says whether there is more.
    fn read_once(&mut self) -> bool {
        if self.tail.is_none() {
            self.tail = Some(self.start(None));
        }
        let tail = self.tail.as_mut().unwrap();
        tail.read(self.now, &mut self.log).more
    }

    /// Reads all there is, by what the watcher says, without the clock moving.
    pub fn look(&mut self) -> &mut Scene {
        for _ in 0..10_000 {
            if !self.read_once() {
                return self;
            }
        }
        let tail = self.tail.as_ref().unwrap();
        panic!("there is always more to read: {:?}", tail.followed);
    }

    /// Lets time pass, and looks.
    pub fn later(&mut self, seconds: u64) -> &mut Scene {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.look();
        }
        self
    }

    pub fn positions(&self) -> Positions {
        let buffers = &self.log.buffers;
        let positions = self
            .tail
            .as_ref()
            .map(|tail| tail.positions(|file| buffers[&file].0.held_bytes()));
        let positions = positions.unwrap_or_default();
        // What is kept must survive being written down.
        serde_json::from_slice(&serde_json::to_vec(&positions).unwrap()).unwrap()
    }

    /// Ends the process and begins another from these positions. Nothing is read yet.
    pub fn restart(&mut self, positions: Positions) {
        self.log.buffers.clear();
        self.tail = Some(self.start(Some(positions)));
    }

    /// With the watcher that the test is about: other tests on this machine, and linemux threads that are about to end,
    /// may have all inotify instances that a user may have.
    fn start(&self, positions: Option<Positions>) -> Tail {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let tail = Tail::new(self.specs.clone(), self.options, positions.clone()).unwrap();
            let fallback = tail.watching().fallback.clone();
            if fallback.is_none() || watching::is_limited("instances") {
                return tail;
            }
            assert!(Instant::now() < deadline, "{fallback:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stop(&mut self) -> Positions {
        let positions = self.positions();
        self.tail = None;
        positions
    }

    pub fn lines(&self, name: &str) -> Vec<&str> {
        self.log
            .lines
            .get(&self.path(name))
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    fn events(&self) -> Vec<Event> {
        self.log.events.iter().map(|(_, event)| *event).collect()
    }
}

use Event::{Lost, Rotated, Truncated, Unreadable};

#[test]
fn follows_from_the_beginning_and_holds_the_partial_line() {
    let mut scene = Scene::new();
    scene.write("messages", "one\ntwo\nthr");
    scene.look();
    assert_eq!(scene.lines("messages"), ["one", "two"]);
    scene.write("messages", "ee\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["one", "two", "three"]);
    assert_eq!(scene.events(), []);
}

#[test]
fn rename_and_create() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n2\n");
    scene.look();
    scene.write("messages", "3\n");
    scene.rename("messages", "messages.1");
    scene.write("messages", "4\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "3", "4"]);
    assert_eq!(scene.events(), [Rotated]);
}

#[test]
fn rotation_closes_the_partial_line() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n2");
    scene.look();
    scene.rename("messages", "messages.1");
    scene.write("messages", "3\n");
    scene.look().later(3);
    assert_eq!(scene.lines("messages"), ["1", "3", "2"]);
}

#[test]
fn late_writer() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.rename("messages", "messages.1");
    scene.write("messages", "3\n");
    scene.look();
    scene.write("messages.1", "2\n");
    scene.later(1);
    assert_eq!(scene.lines("messages"), ["1", "3", "2"]);
}

#[test]
fn late_writer_after_the_grace_period() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.rename("messages", "messages.1");
    scene.write("messages", "3\n");
    scene.later(15);
    let mut late = OpenOptions::new()
        .append(true)
        .open(scene.path("messages.1"))
        .unwrap();
    late.write_all(b"2\n").unwrap();
    scene.later(15);
    assert_eq!(scene.lines("messages"), ["1", "3", "2"]);
    // Another file takes its name before anybody has looked, and the writer goes on even then.
    late.write_all(b"4\n").unwrap();
    scene.rename("messages", "messages.1");
    scene.write("messages", "5\n");
    scene.look();
    late.write_all(b"6\n").unwrap();
    scene.later(15);
    let mut lines = scene.lines("messages");
    lines.sort();
    assert_eq!(lines, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(scene.events(), [Rotated, Rotated]);
}

/// As above, over a restart: what was finished is met again, and kept open.
#[test]
fn late_writer_in_what_a_former_process_has_finished() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.rename("messages", "messages.1");
    scene.write("messages", "3\n");
    scene.later(15);
    let positions = scene.stop();
    scene.restart(positions);
    scene.look();
    scene.write("messages.1", "2\n");
    scene.rename("messages", "messages.1");
    scene.write("messages", "4\n");
    scene.later(15);
    assert_eq!(scene.lines("messages"), ["1", "3", "2", "4"]);
}

/// The files of a late writer that fall out of use do not keep their space.
#[test]
fn what_is_finished_and_removed_is_let_go() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.rename("messages", "messages.1");
    scene.write("messages", "2\n");
    scene.later(15);
    scene.remove("messages.1");
    scene.later(15);
    let deleted = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let held = deleted
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter(|target| target.starts_with(scene.dir.path()))
        .filter(|target| target.to_string_lossy().ends_with("(deleted)"));
    assert_eq!(held.count(), 0);
}

#[test]
fn unlink_and_recreate() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.write("messages", "2\n");
    scene.remove("messages");
    scene.write("messages", "3\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "3"]);
    assert_eq!(scene.events(), [Rotated]);
}

#[test]
fn copytruncate() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.write("messages", "2\nthr");
    fs::copy(scene.path("messages"), scene.path("messages.1")).unwrap();
    scene.truncate("messages");
    scene.write("messages", "4\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "4"]);
    assert_eq!(scene.log.cut, ["thr"]);
    assert_eq!(scene.events(), [Truncated]);
}

#[test]
fn truncation_without_a_copy_is_told() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n2\n3\n");
    scene.look();
    scene.truncate("messages");
    scene.write("messages", "4\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "3", "4"]);
    assert_eq!(scene.events(), [Truncated]);
}

#[test]
fn truncated_and_regrown_past_the_old_offset() {
    for len in [2, 100, 5000] {
        let mut scene = Scene::new();
        let old: Vec<String> = (0..len).map(|i| format!("old {i}")).collect();
        let new: Vec<String> = (0..2 * len).map(|i| format!("new {i}")).collect();
        scene.write("messages", &(old.join("\n") + "\n"));
        scene.look();
        scene.truncate("messages");
        scene.write("messages", &(new.join("\n") + "\n"));
        scene.look();
        assert_eq!(scene.lines("messages"), [old, new].concat());
        assert_eq!(scene.events(), [Truncated]);
    }
}

#[test]
fn regrown_with_lines_that_differ_only_in_their_stamp() {
    let mut scene = Scene::new();
    let text = "and a long text that is the same in every line of this log, ".repeat(4);
    let lines = |from: u32, to: u32| {
        (from..to)
            .map(|i| format!("{i:08} {text}"))
            .collect::<Vec<_>>()
    };
    scene.write("messages", &(lines(0, 100).join("\n") + "\n"));
    scene.look();
    scene.truncate("messages");
    scene.write("messages", &(lines(100, 300).join("\n") + "\n"));
    scene.look();
    assert_eq!(scene.lines("messages"), lines(0, 300));
}

#[test]
fn a_writer_without_append_leaves_a_hole() {
    let mut scene = Scene::new();
    let mut writer = File::create(scene.path("messages")).unwrap();
    writer.write_all(b"one\ntwo\n").unwrap();
    scene.look();
    scene.truncate("messages");
    writer.write_all(b"three\n").unwrap();
    scene.look();
    assert_eq!(scene.lines("messages"), ["one", "two", "three"]);
}

#[test]
fn inode_reuse() {
    let mut scene = Scene::new();
    scene.write("messages", "a long first line\n");
    scene.look();
    let mut positions = scene.stop();
    scene.remove("messages");
    scene.write("messages", "an entirely different line\n");
    // As if the file system had given the new file the old number.
    let key = FileKey::of(&fs::metadata(scene.path("messages")).unwrap());
    positions
        .files
        .iter_mut()
        .for_each(|position| position.key = key);
    scene.restart(positions);
    scene.look();
    assert_eq!(
        scene.lines("messages"),
        ["a long first line", "an entirely different line"]
    );
}

#[test]
fn symlink_retargeted() {
    let mut scene = Scene::new();
    fs::create_dir(scene.path("a")).unwrap();
    fs::create_dir(scene.path("b")).unwrap();
    scene.write("a/log", "1\n");
    symlink("a/log", scene.path("messages")).unwrap();
    scene.look();
    scene.write("a/log", "2\n");
    scene.look();
    assert_eq!(
        scene.lines("messages"),
        ["1", "2"],
        "written where the link leads"
    );
    scene.write("a/log", "3\n");
    scene.write("b/log", "4\n");
    symlink("b/log", scene.path("new")).unwrap();
    scene.rename("new", "messages");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "3", "4"]);
    let positions = scene.stop();
    scene.write("b/log", "5\n");
    fs::rename(scene.path("b/log"), scene.path("b/log.1")).unwrap();
    scene.write("b/log", "6\n");
    scene.restart(positions);
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn file_not_there_yet() {
    let mut scene = Scene::new();
    scene.look();
    scene.write("messages", "1\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1"]);
    assert_eq!(scene.events(), []);
}

#[test]
fn directory_not_there_yet() {
    let mut scene = Scene::with(Watcher::Inotify, &["a/b/messages", "c/**/*.log"]);
    scene.look();
    for directory in ["a", "a/b", "c", "c/d"] {
        fs::create_dir(scene.path(directory)).unwrap();
        scene.look();
    }
    scene.write("a/b/messages", "1\n");
    scene.write("c/d/x.log", "2\n");
    scene.look();
    assert_eq!(scene.lines("a/b/messages"), ["1"]);
    assert_eq!(scene.lines("c/d/x.log"), ["2"]);
}

#[test]
fn directory_removed_and_recreated() {
    let mut scene = Scene::with(Watcher::Inotify, &["a/messages"]);
    fs::create_dir(scene.path("a")).unwrap();
    scene.write("a/messages", "1\n");
    scene.look();
    fs::remove_dir_all(scene.path("a")).unwrap();
    scene.look();
    fs::create_dir(scene.path("a")).unwrap();
    scene.write("a/messages", "2\n");
    scene.look();
    scene.write("a/messages", "3\n");
    scene.look();
    assert_eq!(scene.lines("a/messages"), ["1", "2", "3"]);
}

#[test]
fn directory_replaced_by_another() {
    let mut scene = Scene::with(Watcher::Inotify, &["a/messages"]);
    fs::create_dir(scene.path("a")).unwrap();
    scene.write("a/messages", "1\n");
    scene.look();
    scene.rename("a", "old");
    fs::create_dir(scene.path("a")).unwrap();
    scene.write("a/messages", "2\n");
    scene.write("old/messages", "late\n");
    scene.look().later(1);
    scene.write("a/messages", "3\n");
    scene.look();
    assert_eq!(scene.lines("a/messages"), ["1", "late", "2", "3"]);
}

#[test]
fn permission_denied_at_first() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    let rights = |mode| {
        fs::set_permissions(scene.path("messages"), fs::Permissions::from_mode(mode)).unwrap()
    };
    rights(0);
    // Root may read everything.
    let readable = File::open(scene.path("messages")).is_ok();
    let want = if readable {
        vec![]
    } else {
        vec![Unreadable(Trouble::PermissionDenied)]
    };
    let path = scene.path("messages");
    scene.look().later(10);
    assert_eq!(scene.events(), want);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    scene.look();
    assert_eq!(scene.lines("messages"), ["1"]);
}

#[test]
fn a_directory_given_as_a_file() {
    let mut scene = Scene::new();
    fs::create_dir(scene.path("messages")).unwrap();
    scene.look().later(20);
    assert_eq!(scene.events(), [Unreadable(Trouble::IsDirectory)]);
    fs::remove_dir(scene.path("messages")).unwrap();
    scene.write("messages", "1\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1"]);
}

/// File names of what cannot be read at present, and of what was told to be unreadable since this was last asked.
fn troubles(scene: &mut Scene) -> [Vec<String>; 2] {
    scene.look().later(20);
    let files = scene.tail.as_ref().unwrap().status();
    let present = files
        .filter(|file| matches!(file.state, FileState::Unreadable(_)))
        .map(|file| file.info.path.file_name().unwrap().display().to_string());
    let told = scene.log.events.drain(..).map(|(name, event)| {
        assert!(matches!(event, Unreadable(_)), "{event:?}");
        name
    });
    [present.collect(), told.collect()]
}

#[test]
fn what_hides_files_is_told() {
    let mut scene = Scene::with(Watcher::Inotify, &["{appliance}/*.log", "*/secure"]);
    let exclude = |name| Pattern::parse(scene.path(name).to_str().unwrap()).unwrap();
    scene.specs[0].exclude = vec![exclude("private"), exclude("old/**")];
    fs::create_dir(scene.path("hsm1")).unwrap();
    scene.write("hsm1/a.log", "1\n");
    // A link to itself leads nowhere, not even for root.
    let hide = |path: PathBuf| symlink(&path, &path).unwrap();
    for name in [
        "hsm2",
        "lost+found",
        "private",
        "old",
        "hsm1/b.log",
        "hsm1/b.txt",
    ] {
        hide(scene.path(name));
    }
    symlink("gone", scene.path("hsm1/c.log")).unwrap();
    assert_eq!(troubles(&mut scene), [["b.log", "hsm2"]; 2]);
    assert_eq!(troubles(&mut scene), [vec!["b.log", "hsm2"], vec![]]);
    // It can be read.
    scene.remove("hsm2");
    fs::create_dir(scene.path("hsm2")).unwrap();
    scene.write("hsm2/secure", "2\n");
    scene.remove("hsm1/b.log");
    assert_eq!(troubles(&mut scene), [[""; 0]; 2]);
    assert_eq!(scene.lines("hsm2/secure"), ["2"]);
    // And again it cannot: that is told anew.
    hide(scene.path("hsm1/b.log"));
    assert_eq!(troubles(&mut scene), [["b.log"]; 2]);
}

#[test]
fn glob_gains_files() {
    let mut scene = Scene::with(Watcher::Inotify, &["{appliance}/*.log"]);
    fs::create_dir(scene.path("hsm1")).unwrap();
    scene.write("hsm1/a.log", "1\n");
    scene.look();
    assert_eq!(
        scene.log.captures,
        [("appliance".into(), "hsm1".to_owned())]
    );
    scene.write("hsm1/b.log", "2\n");
    fs::create_dir(scene.path("hsm2")).unwrap();
    scene.write("hsm2/a.log", "3\n");
    scene.write("hsm2/a.txt", "no\n");
    scene.look();
    assert_eq!(scene.lines("hsm1/b.log"), ["2"]);
    assert_eq!(scene.lines("hsm2/a.log"), ["3"]);
    assert_eq!(
        scene.log.captures,
        [("appliance".into(), "hsm2".to_owned())]
    );
    assert_eq!(scene.log.lines.len(), 3);
}

#[test]
fn hard_links_are_one_file() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log"]);
    scene.write("a.log", "1\n");
    fs::hard_link(scene.path("a.log"), scene.path("b.log")).unwrap();
    scene.look().later(10);
    assert_eq!(scene.lines("a.log"), ["1"]);
    assert_eq!(scene.lines("b.log"), [""; 0]);
    // The first name goes, the file lives on under the second.
    scene.write("a.log", "2\n");
    scene.remove("a.log");
    scene.look().later(10);
    scene.write("b.log", "3\n");
    scene.look().later(10);
    assert_eq!(scene.lines("a.log"), ["1", "2"]);
    assert_eq!(scene.lines("b.log"), ["3"]);
}

#[test]
fn rotated_siblings_are_finished_after_a_restart() {
    for rotated in [
        "messages.1",
        "messages-20260101",
        "messages.old",
        "messages.1.gz",
        "messages-20260101.gz",
    ] {
        let mut scene = Scene::new();
        scene.write("messages", "1\n2\npart");
        scene.look();
        let positions = scene.stop();
        scene.write("messages", "ial\n3\n");
        let plain = rotated.trim_end_matches(".gz");
        scene.rename("messages", plain);
        if plain != rotated {
            scene.compress(plain);
        }
        scene.write("messages", "4\n");
        scene.restart(positions);
        scene.look().later(3);
        assert_eq!(
            scene.lines("messages"),
            ["1", "2", "partial", "3", "4"],
            "{rotated}"
        );
        let positions = scene.stop();
        scene.restart(positions);
        scene.look().later(10);
        assert_eq!(
            scene.lines("messages"),
            ["1", "2", "partial", "3", "4"],
            "{rotated}, read twice"
        );
    }
}

#[test]
fn rotated_many_times_while_stopped() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    let positions = scene.stop();
    for generation in 2..7 {
        for old in (1..6).rev() {
            for ending in ["", ".gz"] {
                if scene.path(&format!("messages.{old}{ending}")).exists() {
                    scene.rename(
                        &format!("messages.{old}{ending}"),
                        &format!("messages.{}{ending}", old + 1),
                    );
                }
            }
        }
        scene.rename("messages", "messages.1");
        if scene.path("messages.2").exists() {
            scene.compress("messages.2");
        }
        scene.write("messages", &format!("{generation}\n"));
    }
    scene.restart(positions);
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn rotated_twice_between_two_looks() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.rename("messages", "messages.1");
    scene.write("messages", "2\n");
    scene.rename("messages.1", "messages.2");
    scene.rename("messages", "messages.1");
    scene.write("messages", "3\n");
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2", "3"]);
    assert_eq!(scene.events().len(), 2);
}

const WATCHERS: [Watcher; 3] = [Watcher::Inotify, Watcher::Linemux, Watcher::Poll];

/// Longer than the clock of a file system stands still.
fn next_tick() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn nocreate_and_gone_between_two_looks() {
    for watcher in WATCHERS {
        let mut scene = Scene::with(watcher, &["messages"]);
        scene.write("messages", "1\n");
        scene.look();
        scene.rename("messages", "messages.1");
        for (line, generation) in [("2\n", 1), ("3\n", 2), ("4\n", 3)] {
            // The path is empty before, is empty after, and no successor ever comes.
            for old in (1..=generation).rev() {
                scene.rename(&format!("messages.{old}"), &format!("messages.{}", old + 1));
            }
            scene.write("messages", line);
            scene.rename("messages", "messages.1");
            scene.later(1);
        }
        assert_eq!(scene.lines("messages"), ["1", "2", "3", "4"], "{watcher:?}");
        assert_eq!(scene.events(), [Rotated; 3], "{watcher:?}");
        scene.later(10);
        let positions = scene.stop();
        scene.restart(positions);
        scene.look().later(10);
        assert_eq!(scene.lines("messages").len(), 4, "{watcher:?}, read twice");
    }
}

#[test]
fn came_and_was_rotated_before_it_was_first_seen() {
    for watcher in WATCHERS {
        let mut scene = Scene::with(watcher, &["messages"]);
        scene.write("messages.1", "history\n");
        scene.look();
        next_tick();
        scene.rename("messages.1", "messages.2");
        scene.write("messages", "1\n");
        scene.rename("messages", "messages.1");
        scene.later(1);
        assert_eq!(scene.lines("messages"), ["1"], "{watcher:?}");
        scene.compress("messages.2");
        scene.write("messages", "2\n");
        scene.later(10);
        assert_eq!(scene.lines("messages"), ["1", "2"], "{watcher:?}");
        assert_eq!(scene.events(), [Rotated], "{watcher:?}");
    }
}

#[test]
fn a_late_writer_in_what_was_rotated_before_we_came() {
    let mut scene = Scene::new();
    scene.write("messages.1", "history\n");
    scene.write("messages", "1\n");
    scene.look();
    next_tick();
    scene.write("messages.1", "late\n");
    scene.rename("messages.1", "messages.2");
    scene.rename("messages", "messages.1");
    scene.write("messages", "2\n");
    scene.look().later(5);
    let mut lines = scene.lines("messages");
    lines.sort_unstable();
    assert_eq!(lines, ["1", "2", "late"]);
}

/// Text of many lines, the same at both ends for more than a head and a seam.
fn alike(middle: &str) -> String {
    let end = "the same line again\n".repeat(100);
    format!("{end}{middle}\n{end}")
}

#[test]
fn a_rotated_file_that_begins_and_ends_like_another_is_read() {
    for middle in [["a", "b", "c"], ["a", "b", "b"]] {
        let mut scene = Scene::new();
        scene.write("messages", &alike(middle[0]));
        scene.look();
        scene.rename("messages", "messages.1");
        // It comes and goes between two looks, once beside its predecessor, once beside its successor.
        scene.write("messages", &alike(middle[1]));
        scene.rename("messages.1", "messages.2");
        scene.rename("messages", "messages.1");
        next_tick();
        scene.write("messages", &alike(middle[2]));
        scene.look().later(5);
        let lines = scene.lines("messages");
        assert_eq!(lines.len(), 3 * 201, "{middle:?}");
        let middles: Vec<_> = lines.iter().filter(|line| line.len() == 1).collect();
        assert_eq!(middles, middle.iter().collect::<Vec<_>>());
        assert_eq!(scene.events(), [Rotated, Rotated], "{middle:?}");
    }
}

#[test]
fn a_rotated_file_that_says_the_same_as_another_is_read() {
    let mut scene = Scene::new();
    scene.write("messages", "started\n");
    scene.look();
    for _ in 0..2 {
        next_tick();
        for old in (1..4).rev() {
            if scene.path(&format!("messages.{old}")).exists() {
                scene.rename(&format!("messages.{old}"), &format!("messages.{}", old + 1));
            }
        }
        scene.rename("messages", "messages.1");
        scene.write("messages", "started\n");
    }
    scene.look().later(5);
    assert_eq!(scene.lines("messages"), ["started"; 3]);
    assert_eq!(scene.events(), [Rotated, Rotated]);
}

#[test]
fn a_rotated_file_that_may_be_what_another_was_compressed_to_is_told() {
    let mut scene = Scene::new();
    scene.write("messages", "started\n");
    scene.look();
    scene.rename("messages", "messages.1");
    scene.look().later(3);
    scene.write("messages", "started\n");
    next_tick();
    scene.remove("messages.1");
    scene.rename("messages", "messages.1");
    scene.compress("messages.1");
    scene.write("messages", "started\n");
    scene.look().later(5);
    assert_eq!(scene.lines("messages"), ["started"; 2]);
    let reason = LostReason::Doubtful;
    let mut events = scene.events();
    events.retain(|event| *event != Rotated);
    assert_eq!(events, [Lost { bytes: 8, reason }]);
}

#[test]
fn a_copy_is_not_read_twice() {
    // By a tool that copies and keeps the time, by one that does not and more than a head, and what remains in doubt.
    for (text, keeps_time, doubtful) in [
        ("short\n".to_owned(), true, false),
        (alike("long"), false, false),
        ("short\n".to_owned(), false, false),
    ] {
        let mut scene = Scene::new();
        scene.write("messages", &text);
        let file = File::options().append(true).open(scene.path("messages"));
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        file.unwrap().set_modified(long_ago).unwrap();
        scene.look();
        fs::copy(scene.path("messages"), scene.path("messages.1")).unwrap();
        if keeps_time {
            let copy = File::options().append(true).open(scene.path("messages.1"));
            copy.unwrap().set_modified(long_ago).unwrap();
        }
        scene.remove("messages");
        scene.write("messages", "2\n");
        scene.look().later(5);
        assert_eq!(scene.lines("messages").len(), text.lines().count() + 1);
        let told = scene.events().contains(&Lost {
            bytes: text.len() as u64,
            reason: LostReason::Doubtful,
        });
        assert_eq!(told, doubtful, "{:?}", scene.events());
        assert!(
            scene.events().len() <= 2,
            "told again: {:?}",
            scene.events()
        );
    }
}

#[test]
fn a_copy_that_is_seen_before_the_truncation() {
    for text in ["short\n".to_owned(), alike("long")] {
        let mut scene = Scene::new();
        scene.write("messages", &text);
        scene.look();
        let positions = scene.stop();
        next_tick();
        scene.write("messages", "2\n");
        fs::copy(scene.path("messages"), scene.path("messages.1")).unwrap();
        scene.restart(positions);
        scene.look();
        scene.truncate("messages");
        scene.write("messages", "3\n");
        scene.look().later(10);
        let lines = scene.lines("messages");
        assert_eq!(lines.len(), text.lines().count() + 2);
        assert!(lines.ends_with(&["2", "3"]), "{lines:?}");
        assert_eq!(scene.events(), [Truncated]);
    }
}

#[test]
fn killed_before_the_first_checkpoint_is_a_first_start() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    next_tick();
    scene.rename("messages", "messages.1");
    scene.write("messages", "2\n");
    scene.look();
    // Nothing was kept: neither positions nor what was counted.
    scene.log = Log::default();
    scene.restart(Positions::default());
    scene.look().later(5);
    assert_eq!(scene.lines("messages"), ["2"]);
}

#[test]
fn what_was_rotated_before_we_came_is_not_read() {
    let mut scene = Scene::new();
    scene.write("messages.1", "old\n");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    File::options()
        .append(true)
        .open(scene.path("messages.1"))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    scene.write("messages", "1\n");
    scene.look();
    scene.rename("messages.1", "messages.2");
    scene.rename("messages", "messages.1");
    scene.compress("messages.2");
    scene.write("messages", "2\n");
    scene.look().later(5);
    assert_eq!(scene.lines("messages"), ["1", "2"]);
}

#[test]
fn a_rotated_name_that_the_glob_means_is_read_once_and_first() {
    let mut scene = Scene::with(Watcher::Inotify, &["messages*"]);
    scene.write("messages.2", "1\n");
    scene.compress("messages.2");
    std::thread::sleep(Duration::from_millis(10));
    scene.write("messages.1", "2\n");
    std::thread::sleep(Duration::from_millis(10));
    scene.write("messages", "3\n");
    scene.look().later(5);
    assert_eq!(scene.lines("messages"), ["1", "2", "3"]);
    scene.rename("messages.2.gz", "messages.3.gz");
    scene.rename("messages.1", "messages.2");
    scene.compress("messages.2");
    scene.rename("messages", "messages.1");
    scene.write("messages", "4\n");
    scene.look().later(20);
    let positions = scene.stop();
    scene.restart(positions);
    scene.look().later(20);
    assert_eq!(scene.lines("messages"), ["1", "2", "3", "4"]);
    assert_eq!(scene.log.lines.len(), 1, "{:?}", scene.log.lines);
}

#[test]
fn files_that_live_shorter_than_the_poll_interval() {
    for watcher in WATCHERS {
        let mut scene = Scene::with(watcher, &["messages"]);
        scene.write("messages", "0\n");
        scene.look();
        for line in 1..50 {
            scene.write("messages", &format!("{line}\n"));
            scene.now += Duration::from_millis(15);
            scene.look();
            scene.remove("messages");
        }
        let want: Vec<String> = (0..50).map(|line| line.to_string()).collect();
        assert_eq!(scene.lines("messages"), want, "{watcher:?}");
        // When nothing comes any more, nobody is in a hurry.
        scene.later(10);
        let tail = scene.tail.as_ref().unwrap();
        assert!(
            tail.busy.is_empty() && tail.next_busy.is_none(),
            "{watcher:?}"
        );
    }
}

#[test]
fn lag_is_what_waits() {
    let mut scene = Scene::new();
    let line = "x".repeat(99) + "\n";
    scene.write("messages.1", &line.repeat(200_000));
    scene.rename("messages.1", "messages");
    let lag = |scene: &Scene| {
        let status: Vec<_> = scene.tail.as_ref().unwrap().status().collect();
        assert_eq!(status.len(), 1);
        (status[0].lag_bytes, status[0].offset)
    };
    // One read takes about 1 MiB.
    scene.read_once();
    let (waiting, offset) = lag(&scene);
    assert_eq!(waiting + offset, 20_000_000);
    assert!((18_000_000..20_000_000).contains(&waiting), "{waiting}");
    // What is rotated waits as well.
    scene.rename("messages", "messages.1");
    scene.write("messages", &line.repeat(10));
    scene.read_once();
    let left = lag(&scene).0;
    assert!(
        (waiting - 2_000_000..waiting).contains(&left),
        "{left} of {waiting}"
    );
    scene.look();
    assert_eq!(lag(&scene), (0, 1000));
    assert_eq!(scene.lines("messages").len(), 200_010);
}

#[test]
fn truncated_while_lines_wait() {
    let mut scene = Scene::new();
    let line = "x".repeat(99) + "\n";
    scene.write("messages", &line.repeat(200_000));
    scene.read_once();
    let status = scene.tail.as_ref().unwrap().status().next().unwrap();
    scene.truncate("messages");
    scene.write("messages", "new\n");
    scene.look();
    let read = (status.offset / 100) as usize;
    assert_eq!(scene.lines("messages").len(), read + 1);
    // All that waited was known of; what of it was a line begun is told by the end of the file.
    let reason = LostReason::Truncated;
    let bytes = status.lag_bytes;
    assert_eq!(scene.events(), [Truncated, Lost { bytes, reason }]);
    assert_eq!(scene.log.cut.concat().len() as u64, status.offset % 100);
}

#[test]
fn gone_while_stopped_is_told() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n2");
    scene.look();
    let positions = scene.stop();
    scene.remove("messages");
    scene.write("messages", "3\n");
    scene.restart(positions);
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "3"]);
    assert_eq!(
        scene.events()[1..],
        [Lost {
            bytes: 1,
            reason: LostReason::Gone
        }]
    );
}

#[test]
fn read_from_the_end() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log"]);
    scene.specs[0].read_from = ReadFrom::End;
    scene.write("a.log", "old\nhal");
    scene.look();
    scene.write("a.log", "f\nnew\n");
    scene.write("b.log", "young\n");
    scene.look();
    assert_eq!(scene.lines("a.log"), ["half", "new"]);
    assert_eq!(scene.lines("b.log"), ["young"]);
}

#[test]
fn fifo() {
    let mut scene = Scene::new();
    let path = scene.path("messages");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    scene.look();
    for text in ["1\n2", "\n3\n"] {
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        scene.tail.as_mut().unwrap().wait(Duration::from_secs(60));
        scene.look();
    }
    assert_eq!(scene.lines("messages"), ["1", "2", "3"]);
}

#[test]
fn more_files_than_descriptors() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log"]);
    scene.options.open_files_max = 10;
    for round in 0..3 {
        for file in 0..100 {
            scene.write(&format!("{file}.log"), &format!("{round}\n"));
        }
        scene.look().later(6);
        let tail = scene.tail.as_ref().unwrap();
        let open = tail
            .followed
            .iter()
            .flat_map(|path| &path.generations)
            .filter(|generation| generation.is_open())
            .count();
        assert!(open <= 12, "{open} files open");
    }
    for file in 0..100 {
        scene.rename(&format!("{file}.log"), &format!("{file}.log.1"));
        scene.write(&format!("{file}.log.1"), "late\n");
        scene.write(&format!("{file}.log"), "new\n");
    }
    scene.look().later(6);
    for file in 0..100 {
        assert_eq!(
            scene.lines(&format!("{file}.log")),
            ["0", "1", "2", "late", "new"],
            "{file}"
        );
    }
}

#[test]
fn more_files_than_are_followed() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log"]);
    scene.options.files_max = 2;
    for name in ["a.log", "b.log", "c.log", "d.log"] {
        scene.write(name, "1\n");
    }
    // All are counted, the first one is told.
    assert_eq!(
        troubles(&mut scene),
        [vec!["c.log", "d.log"], vec!["c.log"]]
    );
    assert_eq!(scene.log.lines.len(), 2);
    // Two that are gone make room.
    scene.remove("a.log");
    scene.remove("b.log");
    scene.later(60);
    assert_eq!(troubles(&mut scene), [[""; 0]; 2]);
    assert_eq!(scene.lines("d.log"), ["1"]);
    scene.write("e.log", "1\n");
    assert_eq!(troubles(&mut scene), [["e.log"]; 2]);
}

/// However many files match, and come and go: a search asks for each file once, and nobody searches for what has no room.
#[test]
fn the_search_for_room_is_linear() {
    use discovery::COUNTS;
    const MANY: usize = 300;
    let mut scene = Scene::with(Watcher::Inotify, &["*.log"]);
    scene.options.files_max = MANY;
    let name = |at: usize| format!("{at:04}.log");
    (0..MANY).for_each(|at| scene.write(&name(at), "1\n"));
    scene.look().later(60);
    assert_eq!(scene.log.lines.len(), MANY);
    (MANY / 2..MANY).for_each(|at| scene.remove(&name(at)));
    scene.later(60);
    COUNTS.set((0, 0));
    // All that make room, and as many again for which there is none.
    (MANY..2 * MANY).for_each(|at| scene.write(&name(at), "1\n"));
    scene.look();
    let (searches, asked) = COUNTS.get();
    assert_eq!(scene.log.lines.len(), MANY + MANY / 2);
    assert!(asked <= searches * MANY, "{asked} in {searches} searches");
    COUNTS.set((0, 0));
    for at in 2 * MANY..2 * MANY + 20 {
        scene.write(&name(at), "1\n");
        scene.look();
    }
    assert_eq!(COUNTS.get(), (0, 0));
    // They are counted nevertheless.
    scene.later(5);
    let status = scene.tail.as_ref().unwrap().status();
    let left_out = status.filter(|file| file.state == FileState::Unreadable(Trouble::TooManyFiles));
    assert_eq!(left_out.count(), MANY / 2 + 20);
}

#[test]
fn quiet_files_cost_no_look_between_two_rescans() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look().later(1);
    let tail = scene.tail.as_mut().unwrap();
    assert_eq!(
        tail.read(scene.now, &mut scene.log),
        Progress {
            bytes: 0,
            more: false
        }
    );
    assert_eq!(tail.queue.len(), 0);
    assert_eq!((tail.next_drain, tail.next_poll), (None, None));
}

/// As with so many files, or so slow a file system, that a look at all of them takes longer than the time between two.
#[test]
fn a_look_at_all_files_that_takes_long_is_finished_before_the_next() {
    for watcher in [Watcher::Inotify, Watcher::Poll] {
        let mut scene = Scene::with(watcher, &["logs/*.log"]);
        fs::create_dir(scene.path("logs")).unwrap();
        scene.look();
        for number in 0..20 {
            scene.write(&format!("logs/{number}.log"), &format!("{number}\n"));
        }
        let tail = scene.tail.as_mut().unwrap();
        tail.look_for = Duration::ZERO;
        (tail.shared.options.rescan, tail.shared.options.poll) =
            (Duration::from_secs(1), Duration::from_secs(1));
        let mut now = scene.now;
        for _ in 0..100 {
            tail.read(now, &mut scene.log);
            now += Duration::from_secs(1);
        }
        assert_eq!(scene.log.lines.len(), 20, "{watcher:?}");
    }
}

/// As where listing a directory takes longer than one call of `read` may.
#[test]
fn a_directory_that_takes_long_is_not_listed_for_each_of_its_files() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log"]);
    for log in 0..200 {
        scene.write(&format!("{log}.log"), &format!("{log}\n"));
        for rotated in 0..10 {
            scene.write(&format!("{log}.log.{rotated}"), "");
        }
    }
    let mut tail = Tail::new(scene.specs.clone(), scene.options, None).unwrap();
    tail.look_for = Duration::ZERO;
    rotated::LISTED.set(0);
    while tail.read(scene.now, &mut scene.log).more {}
    assert_eq!(scene.log.lines.len(), 200);
    let listed = rotated::LISTED.get();
    assert!(listed < 100, "{listed}");
}

#[test]
fn directories_beside_ours_are_nobodys_business() {
    let mut scene = Scene::with(Watcher::Inotify, &["logs/*.log", "a/**/x.log"]);
    fs::create_dir(scene.path("logs")).unwrap();
    scene.write("logs/1.log", "1\n");
    scene.look();
    let searches = |scene: &mut Scene, name: &str| {
        fs::create_dir(scene.path(name)).unwrap();
        let tail = scene.tail.as_mut().unwrap();
        tail.take_hints();
        std::mem::take(&mut tail.search)
    };
    for (name, want) in [
        ("other", false),
        ("log", false),
        ("a", true),
        ("logs/deep", true),
    ] {
        assert_eq!(searches(&mut scene, name), want, "{name}");
    }
}

#[test]
fn a_path_beyond_the_sources_keeps_its_position() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    let positions = scene.stop();
    let specs = std::mem::take(&mut scene.specs);
    scene.restart(positions);
    scene.look();
    let positions = scene.stop();
    scene.specs = specs;
    scene.write("messages", "2\n");
    scene.restart(positions);
    scene.look();
    assert_eq!(scene.lines("messages"), ["1", "2"]);
}

/// `cargo test --release idle_cost -- --ignored --nocapture` prints the figures of docs/tailing.md.
#[test]
#[ignore = "takes 20 s for each number of files"]
fn idle_cost() {
    for count in [100, 1000, 10_000] {
        let mut scene = Scene::with(Watcher::Inotify, &["**/*.log"]);
        for file in 0..count {
            fs::create_dir_all(scene.path(&(file / 100).to_string())).unwrap();
            scene.write(&format!("{}/{file}.log", file / 100), "one line\n");
        }
        scene.look();
        assert_eq!(scene.log.lines.len(), count);
        let on_cpu_ns = || {
            let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            stat.split(' ')
                .next()
                .and_then(|ns| ns.parse::<f64>().ok())
                .unwrap()
        };
        let (start, before) = (Instant::now(), on_cpu_ns());
        let tail = scene.tail.as_mut().unwrap();
        while start.elapsed() < Duration::from_secs(20) {
            tail.wait(Duration::from_secs(1));
            tail.read(Instant::now(), &mut scene.log);
        }
        let share = (on_cpu_ns() - before) / start.elapsed().as_nanos() as f64;
        println!("{count} quiet files: {:.3} % of a core", share * 100.0);
    }
}
