//! Random sequences of everything that happens to a log, checked against a model of what must come out of it.
//!
//! The model knows every line that was ever written, the file it was written to, and whether it may be lost: only
//! where no reader could have it. Every other line must be delivered once, whole, and in order within its file, whenever
//! the tail looks and however often its process is stopped or killed. `TAIL_SEQUENCES=1000000 cargo test --release
//! random_sequences` runs more of them.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

use super::*;
use crate::tail::identity::born_ns;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// The writer finishes the line that it has begun, if any, and writes some more.
    Write(u8),
    /// The writer begins a line.
    WritePart,
    /// `messages` becomes `messages.1`, what was that `messages.2`, and so on. The writer does not notice.
    Rename,
    /// The writer opens `messages` anew and creates it if it is not there.
    Reopen,
    /// `messages` is removed. The writer does not notice.
    Unlink,
    /// `messages` is emptied.
    Truncate,
    /// `messages` is copied to `messages.1`, or compressed to `messages.1.gz`. Whatever was `messages.1` becomes
    /// `messages.2`, and so on. Only a truncation takes `messages` from there, some writes and copies later.
    Copy(bool),
    /// A rotated file that has no writer is copied, compressed or not, to a new `messages.1`.
    CopyRotated(u8, bool),
    /// A file gets another inode, as by a restore, an editor, or a file system that numbers its files anew: `messages` (0)
    /// or a rotated one that has no writer.
    Renumber(u8),
    /// Somebody changes the time of a rotated file: to long ago, or to the future.
    Touch(u8, bool),
    /// The youngest rotated file that is not yet compressed and has no writer is compressed.
    Compress,
    /// The tail looks, some milliseconds later.
    Look,
    /// Seconds pass, in which the tail looks.
    Later(u8),
    /// A checkpoint is taken.
    Checkpoint,
    /// The process is stopped and started again.
    Restart,
    /// The process is killed and started again from the last checkpoint.
    Kill,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..4u8).prop_map(Op::Write),
        2 => Just(Op::WritePart),
        3 => Just(Op::Rename),
        3 => Just(Op::Reopen),
        1 => Just(Op::Unlink),
        2 => Just(Op::Truncate),
        3 => any::<bool>().prop_map(Op::Copy),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(file, compressed)| Op::CopyRotated(file, compressed)),
        1 => (0..3u8).prop_map(Op::Renumber),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(file, future)| Op::Touch(file, future)),
        1 => Just(Op::Compress),
        4 => Just(Op::Look),
        2 => (1..8u8).prop_map(Op::Later),
        2 => Just(Op::Checkpoint),
        1 => Just(Op::Restart),
        2 => Just(Op::Kill),
    ]
}

/// A line that was written: `<id>a<id>b`, or only its first half so far.
#[derive(Debug)]
struct Written {
    /// The file, by the order in which the files were made.
    file: usize,
    /// Its second half and line feed were written too.
    whole: bool,
    /// The file was taken away between the halves: they may count as two lines.
    torn: bool,
    /// Nobody can be asked to have it. (It must not come twice even so.)
    losable: bool,
    /// Nor can anybody know that it was there: its file came and went between two looks.
    unknowable: bool,
}

/// The writer's file.
struct Writer {
    descriptor: File,
    key: FileKey,
    /// Its lines, the unfinished one included.
    lines: Vec<usize>,
    file: usize,
    /// It has no name any more.
    unlinked: bool,
}

struct Model {
    scene: Scene,
    lines: Vec<Written>,
    writer: Writer,
    files: usize,
    /// Number of the oldest rotated file.
    rotated: usize,
    /// Lines in files without a name: whoever starts anew cannot have them.
    unlinked: Vec<usize>,
    /// Some rotated file was compressed.
    compressed: bool,
    /// Lines of `messages` that a copy has which was made to truncate it.
    copied: Option<usize>,
    /// Some file was removed.
    has_unlinked: bool,
    /// Something was copied.
    has_copies: bool,
    /// The process was started and has not looked yet.
    blind: bool,
    /// The time of a line is its number.
    is_dated: bool,
    checkpoint: (Positions, HashMap<PathBuf, Vec<String>>),
}

impl Model {
    fn new(watcher: Watcher, glob: bool, on_disk: bool, is_dated: bool) -> Model {
        let patterns = [if glob { "messages*" } else { "messages" }];
        // Only a file system on a disk gives an inode to the next file at once.
        let mut scene = match on_disk {
            true => Scene::on_disk(watcher, &patterns),
            false => Scene::with(watcher, &patterns),
        };
        scene.specs[0].line_time = is_dated.then(|| {
            LineTime::new(|line| {
                let mut halves = std::str::from_utf8(line).ok()?.split(['a', 'b']);
                halves.next()?.parse().ok()
            })
        });
        let writer = open(&scene, 0);
        let mut model = Model {
            scene,
            lines: Vec::new(),
            writer,
            files: 1,
            rotated: 0,
            unlinked: Vec::new(),
            compressed: false,
            copied: None,
            has_unlinked: false,
            has_copies: false,
            blind: false,
            is_dated,
            checkpoint: Default::default(),
        };
        // What was rotated before a path is first seen is history, which is a matter of its own.
        model.apply(Op::Write(1));
        model.apply(Op::Look);
        model.apply(Op::Checkpoint);
        model
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Write(count) => {
                let mut text = String::new();
                if let Some(id) = self.unfinished() {
                    text += &format!("{id}b\n");
                    self.lines[id].whole = true;
                }
                for _ in 0..count {
                    let id = self.begin_line();
                    self.lines[id].whole = true;
                    text += &format!("{id}a{id}b\n");
                }
                self.write(&text);
            }
            Op::WritePart if self.unfinished().is_none() => {
                let id = self.begin_line();
                self.write(&format!("{id}a"));
            }
            Op::WritePart => {}
            Op::Rename if self.exists() && self.copied.is_none() => {
                self.tear();
                self.shift();
                self.scene.rename("messages", "messages.1");
            }
            Op::Unlink if self.exists() && self.copied.is_none() => {
                self.tear();
                if !self.is_open() {
                    self.lose_all(true);
                    self.forget_truncations();
                }
                self.has_unlinked = true;
                self.scene.remove("messages");
                if self.writes_to_path_key().is_none() {
                    self.unlinked.extend_from_slice(&self.writer.lines);
                    self.writer.unlinked = true;
                }
            }
            Op::Reopen => {
                // What is never finished may yet be delivered as it is.
                self.tear();
                let key = self.path_key();
                if key != Some(self.writer.key) {
                    self.writer = open(&self.scene, self.files);
                    self.files += 1;
                }
            }
            Op::Truncate if self.has_writer() => {
                let begun = self.is_begun();
                match self.copied.take() {
                    // What the copy has is there for whoever comes later.
                    Some(copied) => {
                        for id in self.writer.lines.iter().skip(copied) {
                            self.lines[*id].losable = true;
                            self.lines[*id].unknowable |= !begun;
                        }
                    }
                    None => self.lose_all(!begun),
                }
                self.tear();
                self.scene.truncate("messages");
                self.new_content();
            }
            Op::Copy(compressed) if self.has_writer() && self.may_be_copied() => {
                self.has_copies = true;
                let unfinished = usize::from(self.unfinished().is_some());
                self.copied = Some(self.writer.lines.len() - unfinished);
                if let Some(id) = self.unfinished() {
                    self.lines[id].losable = true;
                }
                self.tear();
                self.shift();
                let text = fs::read(self.scene.path("messages")).unwrap();
                self.save("messages.1", &text, compressed);
            }
            Op::CopyRotated(number, compressed) => {
                // A line alone, and what has no date, may be in two files.
                let name = self.rotated_without_writer(number.into());
                let text = name.map(|name| self.text_of(&name)).unwrap_or_default();
                if self.is_dated && has_two_lines(&text) {
                    self.shift();
                    self.save("messages.1", &text, compressed);
                }
            }
            Op::Renumber(0) if self.has_writer() && self.copied.is_none() => {
                match self.blind {
                    true => self.forget_truncations(),
                    // What is truncated and saved anew between two looks is in two files that nobody has read.
                    false => self.apply(Op::Look),
                }
                self.renumber("messages");
                self.writer.descriptor = append_to(&self.scene);
                self.writer.key = FileKey::of(&self.writer.descriptor.metadata().unwrap());
            }
            Op::Renumber(number) if number > 0 => {
                if let Some(name) = self.rotated_without_writer(number.into()) {
                    // That it was truncated does not show in another inode.
                    self.forget_truncations();
                    self.renumber(&name);
                }
            }
            Op::Touch(number, future) => {
                let name = self.rotated_without_writer(number.into());
                // What is compressed and short is known by its time alone for a copy of a file that is still there.
                if let Some(name) = name.filter(|_| future || !self.has_copies || self.is_dated) {
                    let file = File::options().append(true).open(self.scene.path(&name));
                    let now = std::time::SystemTime::now();
                    let hour = Duration::from_secs(3600);
                    let time = if future { now + hour } else { now - hour };
                    file.unwrap().set_modified(time).unwrap();
                }
            }
            Op::Compress => {
                let names = (1..=self.rotated).map(|number| format!("messages.{number}"));
                let key = |name: &String| {
                    fs::metadata(self.scene.path(name))
                        .ok()
                        .map(|metadata| FileKey::of(&metadata))
                };
                let name = names
                    .into_iter()
                    .find(|name| key(name).is_some_and(|key| key != self.writer.key));
                if let Some(name) = name {
                    self.scene.compress(&name);
                    self.compressed = true;
                    if self.blind {
                        self.forget_truncations();
                    }
                }
            }
            Op::Look => {
                self.blind = false;
                self.scene.now += Duration::from_millis(300);
                self.scene.look();
            }
            Op::Later(seconds) => {
                self.blind = false;
                self.scene.later(seconds.into());
            }
            Op::Checkpoint => {
                self.checkpoint = (self.scene.positions(), self.scene.log.lines.clone())
            }
            Op::Restart => {
                self.apply(Op::Checkpoint);
                self.apply(Op::Kill);
            }
            Op::Kill => {
                for id in std::mem::take(&mut self.unlinked) {
                    self.lines[id].losable = true;
                    // What the checkpoint knows of is told; see `gone_while_stopped_is_told`.
                    self.lines[id].unknowable = true;
                }
                self.blind = true;
                if self.compressed || self.has_unlinked {
                    self.forget_truncations();
                }
                self.scene.log.lines.clone_from(&self.checkpoint.1);
                self.scene.restart(self.checkpoint.0.clone());
            }
            // `messages` is not there, or is not the writer's.
            Op::Rename | Op::Unlink | Op::Truncate | Op::Copy(_) | Op::Renumber(_) => {}
        }
    }

    /// The name of some rotated file that nobody writes to.
    fn rotated_without_writer(&self, number: usize) -> Option<String> {
        let names = (1..=self.rotated)
            .flat_map(|number| ["", ".gz"].map(|ending| format!("messages.{number}{ending}")));
        let mut names = names.filter(|name| {
            fs::metadata(self.scene.path(name)).is_ok_and(|m| FileKey::of(&m) != self.writer.key)
        });
        names.nth(number % self.rotated.max(1))
    }

    /// What a file says, compressed or not.
    fn text_of(&self, name: &str) -> Vec<u8> {
        let stored = fs::read(self.scene.path(name)).unwrap();
        if !name.ends_with(".gz") {
            return stored;
        }
        let mut text = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(&stored[..]);
        std::io::Read::read_to_end(&mut decoder, &mut text).unwrap();
        text
    }

    /// What has no date, and a line alone, may be in two files.
    fn may_be_copied(&self) -> bool {
        match self.is_dated {
            true => has_two_lines(&self.text_of("messages")),
            false => self.copied.is_none(),
        }
    }

    fn save(&mut self, name: &str, text: &[u8], compressed: bool) {
        if !compressed {
            fs::write(self.scene.path(name), text).unwrap();
            return;
        }
        self.compressed = true;
        let target = File::create(self.scene.path(&format!("{name}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap();
    }

    fn renumber(&self, name: &str) {
        let (from, to) = (self.scene.path(name), self.scene.path("restored"));
        fs::copy(&from, &to).unwrap();
        fs::rename(to, from).unwrap();
    }

    fn path_key(&self) -> Option<FileKey> {
        fs::metadata(self.scene.path("messages"))
            .ok()
            .map(|metadata| FileKey::of(&metadata))
    }

    fn writes_to_path_key(&self) -> Option<FileKey> {
        self.path_key().filter(|key| *key == self.writer.key)
    }

    /// `messages` is there. It always is the writer's then: only the writer creates it, when it opens it.
    fn exists(&self) -> bool {
        assert!(self.path_key().is_none() || self.writes_to_path_key().is_some());
        self.path_key().is_some()
    }

    fn has_writer(&self) -> bool {
        self.exists()
    }

    /// The tail holds the writer's file open.
    fn is_open(&self) -> bool {
        let streams = self
            .scene
            .tail
            .iter()
            .flat_map(|tail| &tail.followed)
            .flat_map(|path| &path.generations);
        streams
            .into_iter()
            .any(|stream| stream.key == Some(self.writer.key) && stream.is_open())
    }

    fn begin_line(&mut self) -> usize {
        let id = self.lines.len();
        // A file that was rotated away counts as finished when it is quiet for a while.
        let torn = !self.exists();
        self.lines.push(Written {
            file: self.writer.file,
            whole: false,
            torn,
            losable: false,
            unknowable: false,
        });
        self.writer.lines.push(id);
        id
    }

    fn unfinished(&self) -> Option<usize> {
        self.writer
            .lines
            .last()
            .copied()
            .filter(|id| !self.lines[*id].whole)
    }

    fn write(&mut self, text: &str) {
        self.writer.descriptor.write_all(text.as_bytes()).unwrap();
        if self.writer.unlinked {
            let lines = self.writer.lines.clone();
            if !self.is_open() {
                self.lose_all(true);
            }
            self.unlinked.extend(lines);
        }
    }

    fn tear(&mut self) {
        if let Some(id) = self.unfinished() {
            self.lines[id].torn = true;
        }
    }

    /// The writer's file was read from, in this process and in the one that may be started from the checkpoint.
    fn is_begun(&self) -> bool {
        let key = self.writer.key;
        let born_ns = born_ns(&self.writer.descriptor.metadata().unwrap());
        let streams = self
            .scene
            .tail
            .iter()
            .flat_map(|tail| &tail.followed)
            .flat_map(|path| &path.generations);
        let saved = &self.checkpoint.0.files;
        streams
            .into_iter()
            .any(|stream| stream.key == Some(key) && stream.is_open() && stream.next_offset() > 0)
            && saved.iter().any(|position| {
                (position.key, position.born_ns) == (key, born_ns) && position.offset > 0
            })
    }

    /// What the writer's file says is gone.
    fn lose_all(&mut self, unknowable: bool) {
        for id in &self.writer.lines {
            self.lines[*id].losable = true;
            self.lines[*id].unknowable |= unknowable;
        }
    }

    /// A compressed file that has the content of another may come from that itself: that it was truncated shows to a new
    /// process only if it is still there.
    fn forget_truncations(&mut self) {
        for line in self.lines.iter_mut().filter(|line| line.losable) {
            line.unknowable = true;
        }
    }

    /// The writer's file has been emptied; for the order of lines, what follows is another file.
    fn new_content(&mut self) {
        let unfinished = self.unfinished();
        self.writer.lines.clear();
        self.writer.lines.extend(unfinished);
        self.writer.file = self.files;
        self.files += 1;
    }

    /// Makes room for a new `messages.1`.
    fn shift(&mut self) {
        for number in (1..=self.rotated).rev() {
            for ending in ["", ".gz"] {
                let old = format!("messages.{number}{ending}");
                if self.scene.path(&old).exists() {
                    self.scene
                        .rename(&old, &format!("messages.{}{ending}", number + 1));
                }
            }
        }
        self.rotated += 1;
    }

    /// Lets everything come to rest, and compares.
    fn check(mut self) -> Result<(), TestCaseError> {
        // Late lines in files that were finished already are found at the next rotation.
        self.apply(Op::Later(8));
        if self.copied.is_some() {
            self.apply(Op::Truncate);
            self.apply(Op::Later(8));
        }
        for op in [
            Op::Rename,
            Op::Reopen,
            Op::Write(1),
            Op::Later(8),
            Op::Rename,
            Op::Later(8),
        ] {
            self.apply(op);
        }
        let mut delivered: HashMap<String, u32> = HashMap::new();
        let mut last_of_file: HashMap<usize, usize> = HashMap::new();
        let delivered_lines = self.scene.log.lines.values().flatten();
        for line in delivered_lines {
            *delivered.entry(line.clone()).or_default() += 1;
            let id: usize = line
                .split(['a', 'b'])
                .next()
                .and_then(|id| id.parse().ok())
                .unwrap_or(usize::MAX);
            prop_assert!(id < self.lines.len(), "{line:?} was never written");
            if !line.contains('a') {
                // The second half of a torn line may be in another file than the first.
                continue;
            }
            let last = last_of_file.entry(self.lines[id].file).or_default();
            prop_assert!(*last <= id, "{line:?} came after {last}");
            *last = id;
        }
        let mut take = |text: String| delivered.remove(&text).unwrap_or(0);
        let told = |(_, event): &(_, Event)| matches!(event, Truncated | Lost { .. });
        let told = self.scene.log.events.iter().any(told);
        for (id, line) in self.lines.iter().enumerate() {
            let got = [
                take(format!("{id}a{id}b")),
                take(format!("{id}a")),
                take(format!("{id}b")),
            ];
            let once = match got {
                [1, 0, 0] => line.whole,
                [0, 1, 1] => line.whole && line.torn,
                [0, 1, 0] => !line.whole,
                _ => false,
            };
            let at_most_once = matches!(got, [0 | 1, 0, 0] | [0, 0 | 1, 0 | 1]);
            prop_assert!(
                once || told || line.unknowable,
                "line {id} was lost in silence: {line:?}"
            );
            prop_assert!(
                once || (line.losable && at_most_once),
                "line {id}: whole {}, first half {}, second half {} times: {line:?}; events {:?}",
                got[0],
                got[1],
                got[2],
                self.scene.log.events
            );
        }
        prop_assert!(delivered.is_empty(), "never written: {delivered:?}");
        Ok(())
    }
}

fn has_two_lines(text: &[u8]) -> bool {
    text.iter().filter(|byte| **byte == b'\n').count() > 1
}

fn append_to(scene: &Scene) -> File {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(scene.path("messages"))
        .unwrap()
}

fn open(scene: &Scene, file: usize) -> Writer {
    let descriptor = append_to(scene);
    let key = FileKey::of(&descriptor.metadata().unwrap());
    Writer {
        descriptor,
        key,
        lines: Vec::new(),
        file,
        unlinked: false,
    }
}

fn random_sequences(watcher: Watcher) {
    let count: Option<u32> = std::env::var("TAIL_SEQUENCES")
        .ok()
        .and_then(|count| count.parse().ok());
    let config = Config {
        cases: count.unwrap_or(1500),
        failure_persistence: None,
        max_shrink_iters: 100_000,
        ..Config::default()
    };
    // The long form is at random.
    let mut runner = match count {
        Some(_) => TestRunner::new(config),
        None => {
            let rng = TestRng::deterministic_rng(config.rng_algorithm);
            TestRunner::new_with_rng(config, rng)
        }
    };
    let sequences = (
        any::<(bool, bool, bool)>(),
        proptest::collection::vec(op(), 1..30),
    );
    let result = runner.run(&sequences, |((glob, on_disk, is_dated), ops)| {
        let mut model = Model::new(watcher, glob, on_disk, is_dated);
        ops.into_iter().for_each(|op| model.apply(op));
        model.check()
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn random_sequences_with_inotify() {
    random_sequences(Watcher::Inotify);
}

#[test]
fn random_sequences_with_linemux() {
    random_sequences(Watcher::Linemux);
}

#[test]
fn random_sequences_with_polling() {
    random_sequences(Watcher::Poll);
}

/// Sequences that random ones found, on a file system that gives an inode to the next file at once.
#[test]
fn known_sequences_on_disk() {
    use Op::*;
    let sequences: [(Watcher, &[Op]); 1] = [(
        Watcher::Linemux,
        &[
            Rename,
            Write(3),
            Reopen,
            Write(3),
            Copy(false),
            Look,
            Touch(69, false),
            Copy(false),
            Copy(false),
            WritePart,
            Copy(false),
            Write(3),
            Renumber(1),
            Copy(false),
            Later(2),
            Compress,
            Rename,
            Rename,
            WritePart,
        ],
    )];
    for (watcher, ops) in sequences {
        for glob in [false, true] {
            let mut model = Model::new(watcher, glob, true, false);
            ops.iter().for_each(|op| model.apply(*op));
            model.check().unwrap();
        }
    }
}
