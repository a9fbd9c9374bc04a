//! The real logrotate, in the modes that people use, and the real savelog.

use std::collections::HashSet;
use std::io::Read as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// Rotates `messages` in a directory once, as this mode does it.
fn rotate(directory: &Path, mode: &str) {
    let messages = directory.join("messages");
    if let Some(options) = mode.strip_prefix("savelog") {
        let mut savelog = Command::new("savelog");
        savelog.args(options.split_whitespace());
        let output = savelog.arg(&messages).output();
        let output = output.expect("savelog is a part of debianutils");
        assert!(output.status.success(), "{mode}: {output:?}");
        return;
    }
    let config = directory.join("logrotate.conf");
    let text = format!(
        "{} {{\n rotate 1000\n missingok\n {mode}\n}}\n",
        messages.display()
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let output = Command::new("logrotate")
        // Who limits the size rotates by that.
        .args((!mode.contains("size")).then_some("--force"))
        .arg("--state")
        .args([directory.join("logrotate.state"), config])
        .output()
        .expect("logrotate is installed by tests/install-deps.sh");
    assert!(output.status.success(), "{mode}: {output:?}");
}

const MODES: [&str; 16] = [
    "create",
    "nocreate",
    "copytruncate",
    "create\n compress",
    "create\n compress\n delaycompress",
    "copytruncate\n compress",
    "create\n dateext\n dateformat -%Y%m%d-%s",
    "create\n dateext\n dateformat -%Y%m%d-%s\n compress\n delaycompress",
    "copytruncate\n dateext\n dateformat -%Y%m%d-%s",
    "copytruncate\n compress\n delaycompress",
    "copytruncate\n dateext\n dateformat -%Y%m%d-%s\n compress",
    "create\n maxsize 1",
    "copytruncate\n maxsize 1\n compress",
    "savelog -q -c 20",
    "savelog -q -l -t -c 20",
    "copy\n prerotate\n true\n endscript\n postrotate\n : > $1\n endscript",
];

/// Writes a line that the tail sees before the rotation, and one that it does not.
fn write_round(scene: &mut Scene, round: u32) -> [String; 2] {
    let lines = [format!("{round}, seen"), format!("{round}, not yet seen")];
    scene.write("messages", &format!("{}\n", lines[0]));
    scene.look();
    scene.write("messages", &format!("{}\n", lines[1]));
    lines
}

#[test]
fn logrotate_while_we_look() {
    for mode in MODES {
        for pattern in ["messages", "messages*"] {
            let mut scene = Scene::with(Watcher::Inotify, &[pattern]);
            let mut want = Vec::new();
            for round in 0..5 {
                want.extend(write_round(&mut scene, round));
                rotate(scene.dir.path(), mode);
                if mode.contains("%s") {
                    rename_back_in_time(&scene, round);
                }
                if round % 2 == 0 {
                    scene.look().later(2);
                }
            }
            scene.write("messages", "end\n");
            want.push("end".to_owned());
            scene.look().later(10);
            assert_eq!(scene.lines("messages"), want, "{mode}, {pattern}");
            assert_eq!(
                scene.log.lines.len(),
                1,
                "{mode}, {pattern}: {:?}",
                scene.log.lines
            );
        }
    }
}

/// In another directory, only what is not found beside the log is looked for, so nothing is read twice there: what was read,
/// and what is still open, is exact.
#[test]
fn logrotate_to_another_directory_while_we_look() {
    for mode in ["create", "copytruncate", "create\n compress"] {
        let mut scene = Scene::new();
        fs::create_dir(scene.path("old")).unwrap();
        let mut want = Vec::new();
        for round in 0..5 {
            want.extend(write_round(&mut scene, round));
            rotate(scene.dir.path(), &format!("{mode}\n olddir old"));
            scene.look().later(2);
        }
        assert_eq!(scene.lines("messages"), want, "{mode}");
    }
}

/// What was not read before it went to another directory is found there.
#[test]
fn logrotate_to_another_directory_while_we_are_stopped() {
    for mode in [
        "create",
        "nocreate",
        "copytruncate",
        "create\n compress",
        "copytruncate\n compress",
    ] {
        let mut scene = Scene::new();
        fs::create_dir(scene.path("old")).unwrap();
        fs::create_dir(scene.path("another")).unwrap();
        // The like of a log that is not followed.
        scene.write("another/messages", "1, foreign\n");
        scene.write("another/messages.1", "0, seen\n0, foreign\n");
        let mut want = Vec::new();
        for round in 0..5 {
            want.extend(write_round(&mut scene, round));
            let positions = scene.stop();
            rotate(scene.dir.path(), &format!("{mode}\n olddir old"));
            scene.restart(positions);
            scene.look().later(6);
        }
        assert_eq!(scene.lines("messages"), want, "{mode}");
        let lost = |event: &Event| matches!(event, Lost { .. });
        assert!(
            !scene.events().iter().any(lost),
            "{mode}: {:?}",
            scene.events()
        );
    }
}

#[test]
fn logrotate_while_we_are_stopped() {
    for mode in MODES {
        let mut scene = Scene::new();
        let mut want = vec!["first".to_owned()];
        scene.write("messages", "first\n");
        scene.look();
        for round in 0..4 {
            let positions = scene.stop();
            for generation in 0..3 {
                let line = format!("{round}, {generation}");
                scene.write("messages", &format!("{line}\n"));
                want.push(line);
                rotate(scene.dir.path(), mode);
                if mode.contains("%s") {
                    rename_back_in_time(&scene, round * 3 + generation);
                }
            }
            scene.restart(positions);
            scene.look();
            if round % 2 == 0 {
                scene.later(4);
            }
        }
        scene.write("messages", "end\n");
        want.push("end".to_owned());
        scene.look().later(10);
        assert_eq!(scene.lines("messages"), want, "{mode}");
    }
}

/// Dated names count seconds; so that rotations need not be a second apart, what was just rotated gets an earlier one.
fn rename_back_in_time(scene: &Scene, round: u32) {
    for entry in scene.dir.path().read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some((base, seconds)) = name.trim_end_matches(".gz").rsplit_once('-') else {
            continue;
        };
        if seconds
            .parse::<u64>()
            .is_ok_and(|seconds| seconds > 1_000_000_000)
        {
            let ending = if name.ends_with(".gz") { ".gz" } else { "" };
            scene.rename(&name, &format!("{base}-{}{ending}", 900_000_000 + round));
        }
    }
}

/// Counts numbered lines.
#[derive(Default)]
struct Tally {
    buffers: HashMap<FileId, LineBuffer>,
    /// How often each was delivered.
    times: Vec<u32>,
    /// What is no whole line.
    torn: Vec<String>,
    truncations: usize,
    lost_bytes: u64,
}

fn number(line: &[u8]) -> Option<usize> {
    let number = line
        .strip_prefix(b"line ")?
        .strip_suffix(b" of a busy log")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

impl Sink for Tally {
    fn opened(&mut self, file: FileId, _: &Arc<FileInfo>) {
        self.buffers.insert(file, LineBuffer::new(1000));
    }

    fn bytes(&mut self, file: FileId, bytes: &mut Chunk) {
        let (times, torn) = (&mut self.times, &mut self.torn);
        let buffer = self.buffers.get_mut(&file).unwrap();
        buffer.push(bytes, |line| match number(line.bytes) {
            Some(number) => times[number] += 1,
            None => torn.push(String::from_utf8_lossy(line.bytes).into_owned()),
        });
    }

    fn ended(&mut self, file: FileId, _: End) {
        self.buffers.remove(&file);
    }

    fn event(&mut self, _: &FileInfo, event: Event) {
        match event {
            Truncated => self.truncations += 1,
            Lost { bytes, .. } => self.lost_bytes += bytes,
            _ => {}
        }
    }
}

/// The numbers of the whole lines in all files that are there, compressed or not.
fn numbers_on_disk(directory: &Path) -> HashSet<usize> {
    let mut numbers = HashSet::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("messages") {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if name.ends_with(".gz") {
            let stored = std::mem::take(&mut bytes);
            let mut decoder = flate2::read::MultiGzDecoder::new(&stored[..]);
            decoder.read_to_end(&mut bytes).unwrap();
        }
        numbers.extend(bytes.split(|byte| *byte == b'\n').filter_map(number));
    }
    numbers
}

/// The real logrotate copies and truncates what somebody writes to all the time: no line is counted twice, and each that is
/// in a file in the end is counted. What is lost was written between the copy and the truncation, so it is in no file.
fn copytruncate_under_a_busy_writer(mode: &str, lines_per_second: usize, seconds: usize) {
    let scene = Scene::on_disk(Watcher::Inotify, &["messages"]);
    scene.write("messages", "");
    let total = lines_per_second * seconds;
    let mut tally = Tally {
        times: vec![0; total],
        ..Tally::default()
    };
    let (is_done, rotations) = (AtomicBool::new(false), AtomicUsize::new(0));
    let directory = scene.dir.path().to_owned();
    let mut tail = scene.start(None);
    // What was rotated before it is followed is history.
    while tail.read(Instant::now(), &mut tally).more {}
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut file = append_to(&directory.join("messages"));
            let start = Instant::now();
            let batch = (lines_per_second / 1000).max(1);
            for first in (0..total).step_by(batch) {
                let due = Duration::from_secs_f64(first as f64 / lines_per_second as f64);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
                let text: String = (first..(first + batch).min(total))
                    .map(|number| format!("line {number} of a busy log\n"))
                    .collect();
                file.write_all(text.as_bytes()).unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
        });
        threads.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                rotate(&directory, mode);
                rotations.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        while !is_done.load(Ordering::SeqCst) {
            if !tail.read(Instant::now(), &mut tally).more {
                tail.wait(Duration::from_millis(50));
            }
        }
    });
    let mut now = Instant::now();
    for _ in 0..10 {
        while tail.read(now, &mut tally).more {}
        now += Duration::from_secs(1);
    }
    let on_disk = numbers_on_disk(&directory);
    let counted = tally.times.iter().filter(|times| **times > 0).count();
    let twice = tally.times.iter().filter(|times| **times > 1).count();
    let missed = on_disk.iter().filter(|number| tally.times[**number] == 0);
    let missed = missed.count();
    let what = mode.replace("\n", ",");
    println!(
        "{what}, {lines_per_second} lines/s, {seconds} s: {} rotations, {} truncations counted; {total} lines written, \
         {counted} counted, {twice} twice, {} in no file and not counted, {missed} in a file and not counted, {} torn; \
         {} bytes told as lost",
        rotations.load(Ordering::SeqCst),
        tally.truncations,
        total - counted - missed,
        tally.torn.len(),
        tally.lost_bytes,
    );
    assert_eq!((twice, missed), (0, 0), "{what}");
    assert_eq!(tally.torn, [""; 0], "{what}");
    assert!(tally.truncations > 0, "{what}");
}

fn append_to(path: &Path) -> File {
    File::options().append(true).open(path).unwrap()
}

const BUSY: [(&str, usize); 4] = [
    ("copytruncate", 20_000),
    ("copytruncate", 200_000),
    ("copytruncate\n compress", 200_000),
    ("copytruncate\n compress\n delaycompress", 20_000),
];

#[test]
fn copytruncate_counts_nothing_twice_under_a_busy_writer() {
    for (mode, lines_per_second) in BUSY {
        copytruncate_under_a_busy_writer(mode, lines_per_second, 2);
    }
}

/// `make copytruncate`. Takes two minutes and 0.5 GB in the temporary directory.
#[test]
#[ignore = "two minutes"]
fn copytruncate_for_long() {
    for (mode, lines_per_second) in BUSY {
        copytruncate_under_a_busy_writer(mode, lines_per_second, 30);
    }
}
