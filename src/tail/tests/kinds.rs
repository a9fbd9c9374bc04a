//! What a file is, is decided by its content. Each of these lost or doubled lines in some peer, or in a former version.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// One thing that is done to the files while nobody reads them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Appends lines, numbered on.
    Write(&'static str, u32),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    /// The file gets another inode, as by `rsync -a`, an editor, or a restore.
    Renumber(&'static str),
    /// `cp FILE COPY; : > FILE`
    CopyTruncate(&'static str, &'static str),
    /// `cp FILE COPY`
    Copy(&'static str, &'static str),
    /// `gzip -c FILE > COPY`
    CompressTo(&'static str, &'static str),
    /// `zcat FILE > COPY`
    ExtractTo(&'static str, &'static str),
    /// `: > FILE`
    Empty(&'static str),
    /// `cat FILE >> ARCHIVE; : > FILE`
    AppendTruncate(&'static str, &'static str),
    /// `gzip -c FILE >> ARCHIVE; : > FILE`
    AppendCompressed(&'static str, &'static str),
    /// `cat FIRST SECOND > FILE`
    Join(&'static str, &'static str, &'static str),
    Compress(&'static str),
    /// The time of the file's last change, in hours from now.
    Touch(&'static str, i64),
    /// The link leads to another file.
    Link(&'static str, &'static str),
    /// The tail looks for so many seconds; once, if that is 0.
    Later(u64),
}

use Act::*;

/// What it is called, what is followed, what happens before the first look, and what after it.
pub(super) type Case = (
    &'static str,
    &'static [&'static str],
    &'static [Act],
    &'static [Act],
);

pub(super) fn act(scene: &mut Scene, next: &mut u32, act: Act) {
    match act {
        Write(name, lines) => {
            fs::create_dir_all(scene.path(name).parent().unwrap()).unwrap();
            for _ in 0..lines {
                scene.write(name, &format!("line {next} of a log\n"));
                *next += 1;
            }
        }
        Rename(from, to) => scene.rename(from, to),
        Remove(name) => scene.remove(name),
        Renumber(name) => {
            let (file, copy) = (scene.path(name), scene.path("restored"));
            fs::copy(&file, &copy).unwrap();
            fs::rename(copy, file).unwrap();
        }
        CopyTruncate(name, copy) => {
            fs::copy(scene.path(name), scene.path(copy)).unwrap();
            scene.truncate(name);
        }
        Copy(name, copy) => {
            fs::copy(scene.path(name), scene.path(copy)).unwrap();
        }
        CompressTo(name, copy) => {
            let target = File::create(scene.path(copy)).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &fs::read(scene.path(name)).unwrap()).unwrap();
            encoder.finish().unwrap();
        }
        ExtractTo(name, copy) => {
            let mut decoder = flate2::read::GzDecoder::new(File::open(scene.path(name)).unwrap());
            let mut target = File::create(scene.path(copy)).unwrap();
            std::io::copy(&mut decoder, &mut target).unwrap();
        }
        Empty(name) => scene.truncate(name),
        AppendTruncate(name, archive) => {
            scene.write(archive, &fs::read_to_string(scene.path(name)).unwrap());
            scene.truncate(name);
        }
        AppendCompressed(name, archive) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder
                .write_all(&fs::read(scene.path(name)).unwrap())
                .unwrap();
            let member = encoder.finish().unwrap();
            let archive = scene.path(archive);
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(archive)
                .unwrap();
            file.write_all(&member).unwrap();
            scene.truncate(name);
        }
        Join(first, second, file) => {
            let parts = [first, second].map(|part| fs::read(scene.path(part)).unwrap());
            fs::write(scene.path(file), parts.concat()).unwrap();
        }
        Compress(name) => scene.compress(name),
        Touch(name, hours) => {
            let now = std::time::SystemTime::now();
            let by = Duration::from_secs(3600 * hours.unsigned_abs());
            let time = if hours < 0 { now - by } else { now + by };
            let file = File::options().append(true).open(scene.path(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        Link(target, name) => {
            let new = format!("{name}.new");
            fs::create_dir_all(scene.path(name).parent().unwrap()).unwrap();
            symlink(target, scene.path(&new)).unwrap();
            scene.rename(&new, name);
        }
        Later(seconds) => {
            scene.look().later(seconds);
        }
    }
}

/// The number of a line is its date.
pub(super) fn line_time() -> LineTime {
    LineTime::new(|line| {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        words.nth(1)?.parse().ok()
    })
}

/// Does `before`, looks, and does `after`, during which the tail is stopped if it `restarts`. Returns how many lines were
/// written.
pub(super) fn play(scene: &mut Scene, before: &[Act], after: &[Act], restarts: bool) -> u32 {
    let mut next = 0;
    for one in before {
        act(scene, &mut next, *one);
    }
    scene.look();
    let positions = scene.positions();
    if restarts {
        scene.tail = None;
    }
    for one in after {
        // Nobody looks while it is stopped.
        if !restarts || !matches!(one, Later(_)) {
            act(scene, &mut next, *one);
        }
    }
    if restarts {
        scene.restart(positions);
    }
    next
}

/// Does `before`, looks, stops, does `stopped`, starts again, and expects each line once.
fn check(name: &str, patterns: &[&str], before: &[Act], stopped: &[Act], is_dated: bool) {
    for restarts in [true, false] {
        let mut scene = Scene::on_disk(Watcher::Inotify, patterns);
        scene.specs[0].line_time = is_dated.then(line_time);
        let next = play(&mut scene, before, stopped, restarts);
        scene.look().later(40);
        check_lines(
            &scene,
            next,
            &format!("{name}, restarts {restarts}, dated {is_dated}"),
        );
    }
}

/// Each line was counted once, nothing is said to be lost, and nothing waits to be read.
pub(super) fn check_lines(scene: &Scene, next: u32, name: &str) {
    let mut lines: Vec<String> = scene.log.lines.values().flatten().cloned().collect();
    let number = |line: &String| line.split(' ').nth(1)?.parse::<u32>().ok();
    lines.sort_by_key(|line| number(line).unwrap_or(u32::MAX));
    let want: Vec<String> = (0..next).map(|n| format!("line {n} of a log")).collect();
    let differs = lines
        .iter()
        .zip(&want)
        .position(|(line, want)| line != want);
    assert!(
        lines == want,
        "{name}: {} of {} lines, the first that differs is {differs:?} ({:?}), cut off {:?}: {:?}",
        lines.len(),
        want.len(),
        differs.and_then(|at| lines.get(at)),
        scene.log.cut,
        scene.log.events
    );
    let lost = |event: &Event| matches!(event, Lost { .. });
    assert!(
        !scene.events().iter().any(lost),
        "{name}: {:?}",
        scene.log.events
    );
    let lag: u64 = scene
        .tail
        .as_ref()
        .unwrap()
        .status()
        .map(|f| f.lag_bytes)
        .sum();
    assert_eq!(lag, 0, "{name}");
}

const TWO: &[Act] = &[Write("a.log", 5), Write("b.log", 7)];
const ONE: &[Act] = &[Write("m", 50)];
pub(super) const CASES: &[Case] = &[
    (
        "two logs change names",
        &["*.log"],
        TWO,
        &[
            Rename("a.log", "x"),
            Rename("b.log", "a.log"),
            Rename("x", "b.log"),
            Write("a.log", 2),
            Write("b.log", 2),
        ],
    ),
    (
        "two logs are made anew and get each other's inode",
        &["*.log"],
        TWO,
        &[
            Remove("a.log"),
            Remove("b.log"),
            Write("b.log", 9),
            Write("a.log", 9),
        ],
    ),
    ("a new inode", &["m"], ONE, &[Renumber("m"), Write("m", 3)]),
    (
        "new inodes again and again",
        &["m"],
        ONE,
        &[
            Renumber("m"),
            Write("m", 1),
            Renumber("m"),
            Write("m", 1),
            Renumber("m"),
        ],
    ),
    (
        "a new name that the glob means and rotation does not give",
        &["*.log"],
        &[Write("app.log", 20)],
        &[
            Write("app.log", 4),
            Rename("app.log", "app-prev.log"),
            Write("app.log", 10),
        ],
    ),
    (
        "a chain of such names",
        &["app-*"],
        &[Write("app-0", 20), Write("app-1", 9)],
        &[
            Rename("app-1", "app-2"),
            Rename("app-0", "app-1"),
            Write("app-0", 3),
        ],
    ),
    (
        "a link that is switched",
        &["m"],
        &[Write("1.txt", 19), Link("1.txt", "m")],
        &[Write("1.txt", 3), Write("2.txt", 2), Link("2.txt", "m")],
    ),
    (
        "a link to a directory that is switched",
        &["current/app.log"],
        &[Write("v1/app.log", 19), Link("v1", "current")],
        &[
            Write("v1/app.log", 8),
            Write("v2/app.log", 4),
            Link("v2", "current"),
        ],
    ),
    (
        "a link to a directory that is switched to and fro",
        &["current/app.log"],
        &[
            Write("v1/app.log", 9),
            Link("v1", "current"),
            Later(0),
            Write("v1/app.log", 8),
            Write("v2/app.log", 4),
            Link("v2", "current"),
            Later(6),
        ],
        &[
            Write("v2/app.log", 3),
            Write("v1/app.log", 1),
            Link("v1", "current"),
            Write("v1/app.log", 2),
        ],
    ),
    (
        "a link that is switched to and fro",
        &["m"],
        &[
            Write("1.txt", 9),
            Link("1.txt", "m"),
            Later(0),
            Write("1.txt", 3),
            Write("2.txt", 4),
            Link("2.txt", "m"),
        ],
        &[
            Write("2.txt", 3),
            Write("1.txt", 1),
            Link("1.txt", "m"),
            Write("1.txt", 2),
        ],
    ),
    (
        "Kubernetes: two links, a rotation, a compression, and the pod starts anew",
        &["containers/*.log"],
        &[
            Write("runtime/abc.log", 20),
            Link("../../runtime/abc.log", "pods/p/0.log"),
            Link("../pods/p/0.log", "containers/p.log"),
        ],
        &[
            Write("runtime/abc.log", 5),
            Rename("runtime/abc.log", "runtime/abc.log.20260101-000000"),
            Write("runtime/abc.log", 7),
            Compress("runtime/abc.log.20260101-000000"),
            Write("runtime/def.log", 3),
            Link("../../runtime/def.log", "pods/p/1.log"),
            Link("../pods/p/1.log", "containers/p.log"),
            Write("runtime/def.log", 4),
        ],
    ),
    (
        "savelog: moved and made anew, the one before compressed, several times",
        &["m"],
        ONE,
        &[
            Rename("m", "m.0"),
            Write("m", 5),
            Compress("m.0"),
            Rename("m.0.gz", "m.1.gz"),
            Write("m", 2),
            Rename("m", "m.0"),
            Write("m", 6),
        ],
    ),
    (
        "dated copies, the older compressed, between two looks",
        &["m"],
        ONE,
        &[
            Write("m", 4),
            CopyTruncate("m", "m-20260101"),
            Write("m", 60),
            CopyTruncate("m", "m-20260102"),
            Compress("m-20260101"),
            Write("m", 9),
            CopyTruncate("m", "m-20260103"),
            Write("m", 1),
        ],
    ),
    (
        "copied and truncated over the same name, read in between",
        &["m"],
        &[
            Write("m", 50),
            Later(0),
            CopyTruncate("m", "m.1"),
            Write("m", 20),
        ],
        &[Write("m", 4), CopyTruncate("m", "m.1"), Write("m", 2)],
    ),
    (
        "renamed once, and then copied over that name in place",
        &["m"],
        &[Write("m", 50), Later(0), Rename("m", "m.1"), Write("m", 20)],
        &[Write("m", 4), CopyTruncate("m", "m.1"), Write("m", 2)],
    ),
    (
        "a clock that was set back",
        &["m"],
        ONE,
        &[
            Rename("m", "m.2"),
            Write("m.1", 5),
            Touch("m.2", -2),
            Touch("m.1", -1),
            Write("m", 2),
        ],
    ),
    (
        "a time in the future",
        &["m"],
        &[Write("m", 50), Touch("m", 5)],
        &[Rename("m", "m.2"), Write("m.1", 5), Write("m", 2)],
    ),
    (
        "an archive made by appending",
        &["m"],
        ONE,
        &[AppendTruncate("m", "m.old"), Write("m", 3)],
    ),
    (
        "an archive made by appending three times",
        &["m"],
        ONE,
        &[
            AppendTruncate("m", "m.old"),
            Write("m", 30),
            Later(6),
            AppendTruncate("m", "m.old"),
            Write("m", 40),
            Later(6),
            Write("m", 50),
            AppendTruncate("m", "m.old"),
            Later(6),
            Write("m", 3),
        ],
    ),
    (
        "an archive made by appending compressed members",
        &["m"],
        ONE,
        &[
            AppendCompressed("m", "m.1.gz"),
            Write("m", 30),
            Later(6),
            AppendCompressed("m", "m.1.gz"),
            Write("m", 40),
            Later(6),
            Write("m", 50),
            AppendCompressed("m", "m.1.gz"),
            Later(6),
            Write("m", 3),
        ],
    ),
    (
        "a directory that has two names",
        &["[ab]/m"],
        &[
            Write("real/m", 90),
            Link("real", "b"),
            Later(6),
            Rename("real/m", "real/m.3"),
            Write("real/m", 80),
            Later(6),
            Rename("real/m", "real/m.2"),
            Remove("b"),
            Link("real", "a"),
            Later(6),
            Write("real/m", 70),
            Later(6),
            Link("real", "b"),
            Later(6),
        ],
        &[Rename("real/m", "real/m.1"), Write("real/m", 2)],
    ),
    (
        "an extension behind the number",
        &["m"],
        ONE,
        &[
            Write("m", 4),
            Rename("m", "m.2.bak"),
            Write("m", 30),
            CopyTruncate("m", "m.1.bak"),
            Compress("m.2.bak"),
            Write("m", 2),
        ],
    ),
    (
        "compressed under a name that nobody knows",
        &["m"],
        ONE,
        &[
            Write("m", 4),
            CompressTo("m", "m.2.gzip"),
            Empty("m"),
            Write("m", 40),
            CompressTo("m", "m.1.Z"),
            Empty("m"),
            Write("m", 2),
        ],
    ),
    (
        "lines between the copy and the truncation are in neither",
        &["m"],
        ONE,
        &[Write("m", 9), CopyTruncate("m", "m.1"), Write("m", 3)],
    ),
    (
        "copied and truncated, and compressed",
        &["m"],
        ONE,
        &[CopyTruncate("m", "m.1"), Compress("m.1"), Write("m", 3)],
    ),
    (
        "copied and truncated three times",
        &["m"],
        ONE,
        &[
            CopyTruncate("m", "m.3"),
            Write("m", 30),
            CopyTruncate("m", "m.2"),
            Write("m", 40),
            CopyTruncate("m", "m.1"),
            Write("m", 1),
        ],
    ),
];

/// Finished, compressed, and met again at a start.
const FINISHED: &[Act] = &[
    Write("m", 100),
    Later(0),
    Rename("m", "m.1"),
    Write("m", 9),
    Later(3),
    Compress("m.1"),
    Later(2),
];
const LONG: &[Act] = &[Write("m", 100)];
const SHORT: &[Act] = &[Write("m", 5)];
/// What is copied more than once, compressed or not, before a truncation or later. Of what is short, lines have dates.
pub(super) const COPIES: &[Case] = &[
    (
        "compressed twice and truncated",
        &["m"],
        LONG,
        &[
            Write("m", 30),
            CompressTo("m", "m.2.gz"),
            CompressTo("m", "m.1.gz"),
            Empty("m"),
            Write("m", 2),
        ],
    ),
    (
        "compressed, copied and truncated",
        &["m"],
        LONG,
        &[
            CompressTo("m", "m.1.gz"),
            Copy("m", "m.2"),
            Empty("m"),
            Write("m", 2),
        ],
    ),
    (
        "copied, compressed and truncated",
        &["m"],
        LONG,
        &[
            Copy("m", "m.old"),
            CompressTo("m", "m.1.gz"),
            Empty("m"),
            Write("m", 2),
        ],
    ),
    (
        "copied, the copy compressed and renamed, and truncated",
        &["m"],
        LONG,
        &[
            Write("m", 30),
            Copy("m", "m.1"),
            CompressTo("m.1", "m.1.gz"),
            Rename("m.1", "m.old"),
            Empty("m"),
            Write("m", 2),
        ],
    ),
    (
        "copied with a look after each step",
        &["m"],
        LONG,
        &[
            CompressTo("m", "m.2.gz"),
            Later(1),
            Copy("m", "m.1"),
            Later(1),
            Empty("m"),
            Later(1),
            CompressTo("m.1", "m.3.gz"),
            Later(40),
            Copy("m.3.gz", "m.4.gz"),
        ],
    ),
    (
        "copied again when it has grown, and truncated",
        &["m"],
        LONG,
        &[
            Write("m", 30),
            CompressTo("m", "m.3.gz"),
            Write("m", 30),
            Copy("m", "m.2"),
            Write("m", 30),
            CompressTo("m", "m.1.gz"),
            Empty("m"),
            Write("m", 2),
        ],
    ),
    (
        "came, was compressed and truncated between two looks at an empty file",
        &["m"],
        &[Write("m", 100), Later(0), Empty("m"), Later(1)],
        &[Write("m", 80), CompressTo("m", "m.1.gz"), Empty("m")],
    ),
    (
        "what was finished is copied compressed",
        &["m"],
        FINISHED,
        &[Copy("m.1.gz", "m-20260101.gz"), Write("m", 2)],
    ),
    (
        "what was finished is extracted beside it",
        &["m"],
        FINISHED,
        &[ExtractTo("m.1.gz", "m.3")],
    ),
    (
        "what was finished is extracted and copied, and the file that was compressed is removed",
        &["m"],
        FINISHED,
        &[
            ExtractTo("m.1.gz", "m.3"),
            Copy("m.1.gz", "m.4.gz"),
            Remove("m.1.gz"),
        ],
    ),
];
/// Two rotations, each finished before the next.
const TWO_ARCHIVES: &[Act] = &[
    Write("m", 40),
    Later(6),
    Rename("m", "m.2"),
    Write("m", 30),
    Later(6),
    Rename("m", "m.1"),
    Write("m", 5),
    Later(6),
];
pub(super) const SHORT_COPIES: &[Case] = &[
    (
        "a copy is put back to the path while others lie there",
        &["m"],
        &[
            Write("m", 2),
            Later(0),
            Copy("m", "m.old"),
            CompressTo("m", "m.2.gz"),
            Later(1),
            CompressTo("m", "m.1.gz"),
            Empty("m"),
            Write("m", 12),
            Copy("m.old", "m.3"),
            Write("m", 2),
            Rename("m", "m-20261128"),
            Rename("m.old", "m"),
            Touch("m.1.gz", -72),
            Later(9),
        ],
        &[],
    ),
    (
        "few lines, copied twice and truncated",
        &["m"],
        SHORT,
        &[
            Write("m", 2),
            Copy("m", "m.1"),
            Copy("m", "m.2"),
            Empty("m"),
            Write("m", 2),
        ],
    ),
    (
        "few lines, renamed, and copied",
        &["m"],
        SHORT,
        &[
            Rename("m", "m.1"),
            Copy("m.1", "m-20260101"),
            CompressTo("m.1", "m-20260102.gz"),
            Write("m", 2),
        ],
    ),
    (
        "few lines, compressed at another time",
        &["m"],
        SHORT,
        &[
            Rename("m", "m.1"),
            Write("m", 1),
            Later(3),
            Compress("m.1"),
            Touch("m.1.gz", -3),
        ],
    ),
    (
        "a copy takes the place of the log",
        &["m"],
        ONE,
        &[
            Rename("m", "m.orig"),
            Copy("m.orig", "m"),
            Later(6),
            Write("m", 3),
        ],
    ),
    (
        "a copy takes the place of the log before all of it is read",
        &["m"],
        ONE,
        &[
            Write("m", 5),
            Rename("m", "elsewhere"),
            Copy("elsewhere", "m"),
            Write("m", 2),
            Later(6),
            Remove("elsewhere"),
            Write("m", 3),
        ],
    ),
    (
        "copied to a name that is followed, too, and renamed, again and again",
        &["m*"],
        &[
            Write("remote", 90),
            Copy("remote", "m.new"),
            Later(0),
            Rename("m.new", "m"),
            Later(0),
            Write("remote", 60),
            Copy("remote", "m.new"),
            Later(0),
            Rename("m.new", "m"),
            Later(0),
            Write("remote", 60),
            Copy("remote", "m.new"),
            Later(0),
            Rename("m.new", "m"),
            Later(6),
        ],
        &[],
    ),
    (
        "two archives are joined",
        &["m"],
        TWO_ARCHIVES,
        &[
            Join("m.2", "m.1", "m-20261129"),
            Later(6),
            Compress("m-20261129"),
            Later(6),
            Write("m", 3),
        ],
    ),
    (
        "archives and the log are joined before the last is finished",
        &["m"],
        &[
            Write("m", 40),
            Later(6),
            Rename("m", "m.2"),
            Write("m", 30),
            Later(0),
            Rename("m", "m.1"),
            Write("m", 5),
            Later(0),
        ],
        &[
            Join("m.2", "m.1", "m.3"),
            Join("m.3", "m", "m-20261129"),
            Later(0),
            Write("m", 3),
            Later(6),
            Compress("m-20261129"),
            Later(6),
        ],
    ),
    (
        "two archives are joined, and removed at once",
        &["m"],
        TWO_ARCHIVES,
        &[
            Join("m.2", "m.1", "m-20261129"),
            Remove("m.1"),
            Remove("m.2"),
            Later(6),
            Compress("m-20261129"),
            Later(6),
            Write("m", 3),
        ],
    ),
    (
        "two archives are joined, and removed when the whole is compressed",
        &["m"],
        TWO_ARCHIVES,
        &[
            Write("m", 3),
            Join("m.2", "m.1", "m-20261129"),
            Later(6),
            Remove("m.1"),
            Compress("m-20261129"),
            Remove("m.2"),
            Later(6),
        ],
    ),
    (
        "few lines, copied, and copied again when they are more",
        &["m"],
        SHORT,
        &[
            Copy("m", "m.3"),
            Write("m", 1),
            Copy("m", "m.2"),
            Later(1),
            Write("m", 1),
            Copy("m", "m.1"),
            Empty("m"),
            Later(1),
            Copy("m.1", "m.4"),
        ],
    ),
];

#[test]
fn each_line_once() {
    for (name, patterns, before, stopped) in CASES.iter().chain(COPIES) {
        check(name, patterns, before, stopped, false);
    }
}

/// As above, and what is too short to be told by its length.
#[test]
fn each_dated_line_once() {
    for (name, patterns, before, stopped) in CASES.iter().chain(COPIES).chain(SHORT_COPIES) {
        check(name, patterns, before, stopped, true);
    }
}

/// Lines that are written and read between the making of a copy and the truncation.
#[test]
fn lines_between_the_copy_and_the_truncation_are_counted_once() {
    // The last is longer than what is compared with certainty.
    for len in [0, 1, 3, 100, 5_000, 200_000, 1_200_000] {
        for gap in [1, 2, 50, 10_000] {
            if len > 1_000_000 && gap != 50 {
                continue;
            }
            for stopped in [false, true] {
                let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
                let lines = |from: u32, to: u32| {
                    (from..to)
                        .map(|n| format!("line {n} of a log\n"))
                        .collect::<String>()
                };
                scene.write("m", &lines(0, len));
                scene.look();
                fs::copy(scene.path("m"), scene.path("m.1")).unwrap();
                scene.write("m", &lines(len, len + gap));
                scene.look();
                let positions = scene.positions();
                if stopped {
                    scene.tail = None;
                }
                scene.truncate("m");
                scene.write("m", "end\n");
                if stopped {
                    scene.restart(positions);
                }
                scene.look().later(5);
                let want = (len + gap + 1) as usize;
                assert_eq!(
                    scene.lines("m").len(),
                    want,
                    "{len}, {gap}, stopped {stopped}"
                );
            }
        }
    }
}

/// Everything that can happen around a copy and a truncation: at each place nothing, a look, or a look and a checkpoint,
/// and a kill at one of them.
#[test]
fn killed_around_the_copy_and_the_truncation() {
    const STEPS: [Act; 5] = [
        Write("m", 3),
        Copy("m", "m.1"),
        Write("m", 2),
        Empty("m"),
        Write("m", 4),
    ];
    for seen in 0..3u32.pow(5) {
        for kill in 0..STEPS.len() {
            let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
            let mut next = 0;
            act(&mut scene, &mut next, Write("m", 80));
            scene.look();
            let mut checkpoint = (scene.positions(), scene.log.lines.clone());
            let mut digits = seen;
            for (at, step) in STEPS.iter().enumerate() {
                act(&mut scene, &mut next, *step);
                if digits % 3 > 0 {
                    scene.look();
                }
                if digits % 3 > 1 {
                    checkpoint = (scene.positions(), scene.log.lines.clone());
                }
                digits /= 3;
                if at == kill {
                    scene.log.lines.clone_from(&checkpoint.1);
                    scene.restart(checkpoint.0.clone());
                }
            }
            scene.look().later(5);
            let mut times = vec![0; next as usize];
            for line in scene.log.lines.values().flatten() {
                times[line.split(' ').nth(1).unwrap().parse::<usize>().unwrap()] += 1;
            }
            // What is written between the copy and the truncation is nowhere afterwards.
            let wrong = (0..).zip(&times).filter(|(line, times)| match line {
                83..85 => **times > 1,
                _ => **times != 1,
            });
            let wrong: Vec<_> = wrong.collect();
            let events = scene.events();
            assert!(
                wrong.is_empty(),
                "seen {seen}, kill {kill}: {wrong:?}, {events:?}"
            );
        }
    }
}

/// A copy takes time: looks see it empty, in pieces, and whole. It goes to a name that is free, to that of a former copy,
/// or into a file that was renamed there (so that its inode is older than that of the file at the path).
#[test]
fn a_copy_is_seen_while_it_is_made() {
    for former in [
        None,
        Some("copied"),
        Some("renamed"),
        Some("renamed and finished"),
    ] {
        for lines in [3, 40, 5_000] {
            for unread in [false, true] {
                let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
                let mut next = 0;
                act(&mut scene, &mut next, Write("m", 45));
                scene.look();
                match former {
                    Some("copied") => act(&mut scene, &mut next, CopyTruncate("m", "m.1")),
                    Some(_) => act(&mut scene, &mut next, Rename("m", "m.1")),
                    None => {}
                }
                next_tick();
                act(&mut scene, &mut next, Write("m", lines));
                scene.look();
                if former == Some("renamed and finished") {
                    scene.later(3);
                }
                if unread {
                    act(&mut scene, &mut next, Write("m", 2));
                }
                let text = fs::read(scene.path("m")).unwrap();
                let mut copy = File::create(scene.path("m.1")).unwrap();
                let mut at = 0;
                for part in [0, 1, 10, 60, 1500, text.len()] {
                    let part = part.clamp(at, text.len());
                    std::io::Write::write_all(&mut copy, &text[at..part]).unwrap();
                    at = part;
                    if part < text.len() || !unread {
                        scene.look().later(2);
                    }
                }
                act(&mut scene, &mut next, Empty("m"));
                act(&mut scene, &mut next, Write("m", 4));
                scene.look().later(5);
                let name = format!("{former:?}, {lines} lines, unread {unread}");
                check_lines(&scene, next, &name);
            }
        }
    }
}

/// The first of two copies that nobody has seen cuts a line which the second has whole.
#[test]
fn a_line_that_a_copy_cuts_is_whole_in_a_later_one() {
    for lines in [1, 2, 100] {
        for (later_first, looks) in [(false, false), (true, false), (false, true)] {
            let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
            scene.specs[0].line_time = Some(line_time());
            let mut next = 0;
            act(&mut scene, &mut next, Write("m", 45));
            scene.look();
            act(&mut scene, &mut next, Empty("m"));
            act(&mut scene, &mut next, Write("m", lines + 1));
            scene.write("m", &format!("line {next} of"));
            act(&mut scene, &mut next, Copy("m", "m.2"));
            scene.write("m", " a log\n");
            next += 1;
            act(&mut scene, &mut next, Write("m", 3));
            act(&mut scene, &mut next, Copy("m", "m.1"));
            if later_first {
                act(&mut scene, &mut next, Touch("m.1", -3));
            }
            if looks {
                scene.remove("m.1");
                scene.look();
                act(&mut scene, &mut next, Copy("m", "m.1"));
            }
            act(&mut scene, &mut next, Empty("m"));
            act(&mut scene, &mut next, Write("m", 1));
            scene.look().later(5);
            let name = format!("{lines} lines, {later_first}, {looks}");
            check_lines(&scene, next, &name);
        }
    }
}

#[test]
fn copies_that_begin_with_the_same_kib_are_not_mixed_up() {
    let head = "the same in each generation\n".repeat(50);
    let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
    scene.write("m", &format!("{head}1\n"));
    scene.look();
    let positions = scene.stop();
    for (copy, line) in [("m.2", "2"), ("m.1", "3")] {
        fs::copy(scene.path("m"), scene.path(copy)).unwrap();
        scene.truncate("m");
        scene.write("m", &format!("{head}{line}\n"));
    }
    scene.restart(positions);
    scene.look().later(5);
    let lines = scene.lines("m");
    let own: Vec<&&str> = lines.iter().filter(|line| line.len() == 1).collect();
    assert_eq!(own, [&"1", &"2", &"3"]);
    assert_eq!(lines.len(), 3 * 51);
}

/// What was finished comes back to its path, while its former place is given to another file or to none.
#[test]
fn a_rotated_file_that_is_restored_to_its_path_is_read_on() {
    for reuse in [true, false] {
        let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
        let mut next = 0;
        act(&mut scene, &mut next, Write("m", 90));
        scene.look();
        act(&mut scene, &mut next, Rename("m", "m.1"));
        act(&mut scene, &mut next, Write("m", 2));
        scene.look().later(5);
        fs::copy(scene.path("m.1"), scene.path("restored")).unwrap();
        act(&mut scene, &mut next, Rename("m", "m.2"));
        scene.remove("m.1");
        if reuse {
            act(&mut scene, &mut next, Write("m.1", 7));
        }
        act(&mut scene, &mut next, Rename("restored", "m"));
        act(&mut scene, &mut next, Write("m", 3));
        scene.look().later(40);
        check_lines(&scene, next, &format!("reuse {reuse}"));
    }
}

#[test]
fn many_archives_are_all_remembered() {
    let mut scene = Scene::new();
    scene.write("messages", "0\n");
    scene.look();
    for number in 1..=150 {
        scene.rename("messages", &format!("messages.{}", 1000 - number));
        scene.write("messages", &format!("{number}\n"));
        scene.look().later(2);
    }
    let positions = scene.stop();
    scene.rename("messages", "messages.500");
    scene.write("messages", "end\n");
    scene.restart(positions);
    scene.look().later(5);
    assert_eq!(scene.lines("messages").len(), 152);
}

#[test]
fn what_is_discovered_is_recognised_before_it_is_read() {
    let mut scene = Scene::new();
    scene.options.durable = true;
    scene.write("messages", "1\n");
    scene.look();
    assert!(scene.tail.as_ref().unwrap().has_unsaved());
    assert_eq!(scene.lines("messages"), [""; 0]);
    let positions = scene.stop();
    scene.rename("messages", "messages.1");
    scene.write("messages", "2\n");
    scene.restart(positions);
    scene.look().later(2);
    assert_eq!(scene.lines("messages"), ["1", "2"]);
}

/// What is found empty is put on disk again before its first line counts, so that it is reported if it is gone.
#[test]
fn what_is_found_empty_is_reported_if_it_is_gone() {
    let mut scene = Scene::new();
    scene.options.durable = true;
    scene.write("messages", "");
    scene.look();
    scene.tail.as_mut().unwrap().saved();
    scene.write("messages", "1\n");
    scene.look();
    assert!(scene.tail.as_ref().unwrap().has_unsaved());
    assert_eq!(scene.lines("messages"), [""; 0]);
    let positions = scene.positions();
    scene.tail.as_mut().unwrap().saved();
    scene.look();
    assert_eq!(scene.lines("messages"), ["1"]);
    scene.remove("messages");
    scene.restart(positions);
    scene.look().later(2);
    let reason = LostReason::Gone;
    assert_eq!(scene.events(), [Lost { bytes: 2, reason }]);
}

/// Nothing of it is read before its end is there, nor told to be damaged.
#[test]
fn a_compressed_file_in_the_making_waits() {
    let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
    scene.options.drain_grace = Duration::from_secs(60);
    let mut next = 0;
    act(&mut scene, &mut next, Write("m", 5));
    scene.look();
    let positions = scene.stop();
    act(&mut scene, &mut next, Write("m", 300));
    act(&mut scene, &mut next, CompressTo("m", "whole.gz"));
    let whole = fs::read(scene.path("whole.gz")).unwrap();
    scene.remove("m");
    act(&mut scene, &mut next, Write("m", 1));
    scene.restart(positions);
    for len in [0, 5, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(scene.path("m.1.gz"), &whole[..len]).unwrap();
        scene.look().later(12);
        assert_eq!(scene.lines("m").len(), 6, "{len} bytes");
    }
    fs::write(scene.path("m.1.gz"), &whole).unwrap();
    scene.look().later(12);
    check_lines(&scene, next, "compressed");
}

#[test]
fn nul_bytes_are_not_lines() {
    // Made larger in advance, or written behind the size that a server tells.
    let mut scene = Scene::new();
    let file = File::create(scene.path("messages")).unwrap();
    file.set_len(1 << 20).unwrap();
    scene.look();
    use std::os::unix::fs::FileExt;
    let mut at = 0;
    for number in 0..20 {
        let line = format!("line {number}\n");
        file.write_all_at(line.as_bytes(), at).unwrap();
        at += line.len() as u64;
        scene.look().later(6);
    }
    let want: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
    assert_eq!(scene.lines("messages"), want);
    assert_eq!(
        scene
            .tail
            .as_ref()
            .unwrap()
            .status()
            .next()
            .unwrap()
            .lag_bytes,
        0
    );
    // A hole of many GiB is not read.
    file.write_all_at(b"behind a hole\n", 20 << 30).unwrap();
    scene.look().later(6);
    assert_eq!(scene.lines("messages").last(), Some(&"behind a hole"));
    assert_eq!(scene.events(), []);
}

#[test]
fn an_old_archive_beside_the_log_is_no_news() {
    let mut scene = Scene::with(Watcher::Inotify, &["messages"]);
    scene.specs[0].line_time = Some(LineTime::new(|line| {
        std::str::from_utf8(line)
            .ok()?
            .split(' ')
            .next()?
            .parse()
            .ok()
    }));
    scene.write("messages", "1000 a\n");
    scene.look();
    scene.write("messages.7", "10 old\n20 old\n");
    scene.compress("messages.7");
    scene.write("messages.2", "1005 unseen\n");
    scene.rename("messages", "messages.1");
    scene.write("messages", "1010 b\n");
    scene.look().later(5);
    assert_eq!(scene.lines("messages"), ["1000 a", "1005 unseen", "1010 b"]);
    let old = |event: &Event| matches!(event, Event::History { .. });
    assert_eq!(scene.events().into_iter().filter(old).count(), 1);
}

/// The ends of long lines that differ in their numbers only are the same bytes at the same places.
#[test]
fn truncated_and_filled_with_lines_that_end_alike() {
    for is_copied in [false, true] {
        for lines in [4, 40] {
            let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
            let line = |n: u32| format!("line {n:>2} {}\n", "x".repeat(1550));
            let text = |from: u32, to: u32| (from..to).map(line).collect::<String>();
            scene.write("m", &text(0, 3));
            scene.look();
            if is_copied {
                fs::copy(scene.path("m"), scene.path("m.1")).unwrap();
            }
            scene.truncate("m");
            scene.write("m", &text(3, 3 + lines));
            scene.look().later(6);
            let counted = scene.lines("m");
            let numbers = counted.iter().map(|line| &line[..7]).collect::<Vec<_>>();
            let expected = (0..3 + lines)
                .map(|n| format!("line {n:>2}"))
                .collect::<Vec<_>>();
            assert_eq!(numbers, expected, "{is_copied}, {lines}");
        }
    }
}

/// A copy is made of a copy, or comes from another file system, after the log was truncated.
#[test]
fn a_copy_that_is_made_after_the_truncation_is_read_once() {
    for unread in [0, 7] {
        for lines in [60, 3_000] {
            let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
            scene.specs[0].line_time = Some(line_time());
            scene.options.drain_grace = Duration::from_secs(60);
            let mut next = 0;
            act(&mut scene, &mut next, Write("m", lines));
            scene.look().later(1);
            act(&mut scene, &mut next, Write("m", unread));
            let text = fs::read(scene.path("m")).unwrap();
            act(&mut scene, &mut next, Empty("m"));
            act(&mut scene, &mut next, Write("m", 3));
            let mut copy = File::create(scene.path("m.1")).unwrap();
            let mut at = 0;
            for part in [0, 1, 30, 500, 700, text.len() - 60, text.len()] {
                copy.write_all(&text[at..part]).unwrap();
                at = part;
                scene.look().later(6);
            }
            scene.look().later(90);
            check_lines(&scene, next, &format!("{lines} lines, {unread} unread"));
        }
    }
}

/// A log is moved away, and comes back as a copy: at once or later, whole or seen in the making, with its directory or alone.
#[test]
fn a_copy_that_comes_back_is_the_log_that_went() {
    for (with_directory, away) in [(false, 0), (false, 2), (false, 60), (true, 2), (true, 60)] {
        for parts in [&[][..], &[0], &[0, 30, 600], &[1500]] {
            let mut scene = Scene::on_disk(Watcher::Inotify, &["logs/m"]);
            scene.specs[0].line_time = Some(line_time());
            let mut next = 0;
            act(&mut scene, &mut next, Write("logs/m", 90));
            scene.look().later(6);
            let kept = match with_directory {
                true => {
                    scene.rename("logs", "gone");
                    "gone/m"
                }
                false => {
                    scene.rename("logs/m", "gone");
                    "gone"
                }
            };
            scene.look().later(away);
            fs::create_dir_all(scene.path("logs")).unwrap();
            let text = fs::read(scene.path(kept)).unwrap();
            let mut copy = File::create(scene.path("logs/m")).unwrap();
            let mut at = 0;
            for part in parts.iter().copied().chain([text.len()]) {
                copy.write_all(&text[at..part]).unwrap();
                at = part;
                scene.look().later(1);
            }
            scene.look().later(6);
            act(&mut scene, &mut next, Write("logs/m", 3));
            scene.look().later(6);
            let name = format!("directory {with_directory}, after {away} s, {parts:?}");
            check_lines(&scene, next, &name);
        }
    }
}

/// A log goes to another file system, and comes back in another directory.
#[test]
fn a_copy_in_another_directory_is_the_log_that_went() {
    for away in [0, 60] {
        let mut scene = Scene::on_disk(Watcher::Inotify, &["*/m"]);
        let mut next = 0;
        act(&mut scene, &mut next, Write("a/m", 90));
        act(&mut scene, &mut next, Write("b/other", 1));
        next = 90;
        scene.look().later(6);
        scene.rename("a/m", "gone");
        scene.look().later(away);
        fs::copy(scene.path("gone"), scene.path("b/new")).unwrap();
        scene.remove("gone");
        scene.rename("b/new", "b/m");
        scene.look().later(40);
        act(&mut scene, &mut next, Write("b/m", 3));
        scene.look().later(6);
        check_lines(&scene, next, &format!("after {away} s"));
    }
}

/// A copy takes the place of the log, and who had the log open goes on writing to it.
#[test]
fn a_late_writer_behind_a_copy_in_the_place_of_the_log() {
    for name in ["m.1", "elsewhere"] {
        let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
        scene.specs[0].line_time = Some(line_time());
        let mut next = 0;
        let acts = [
            Write("m", 50),
            Later(1),
            Rename("m", name),
            Copy(name, "m"),
            Later(2),
            Write(name, 2),
            Later(6),
            Write("m", 3),
            Later(6),
        ];
        for one in acts {
            act(&mut scene, &mut next, one);
        }
        check_lines(&scene, next, name);
    }
}

/// Gives random numbers, each below the one that it is asked with.
pub(super) fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |most| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    }
}

/// A random script of [`files_with_the_same_banner_are_told_apart`].
fn script(seed: u64) -> String {
    let mut below = numbers(seed);
    let mut script = String::from("-5-");
    let mut runs = true;
    for _ in 0..12 {
        match below(if runs { 8 } else { 6 }) {
            0 => script.push('1'),
            1 => script.push('5'),
            2 | 3 => script.push('r'),
            4 if !runs => {
                script.push_str("S-");
                runs = true;
            }
            4 | 5 => script.push('-'),
            stop => {
                script.push(if stop == 6 { 'K' } else { 'T' });
                runs = false;
            }
        }
    }
    if !runs {
        script.push('S');
    }
    script
}

/// As many as `TAIL_SEQUENCES` says.
pub(super) fn number_of_scripts() -> u64 {
    let number = std::env::var("TAIL_SEQUENCES").ok();
    number.and_then(|number| number.parse().ok()).unwrap_or(100)
}

/// Every file begins with the same text of more than 1 KiB. What follows it counts once.
#[test]
fn files_with_the_same_banner_are_told_apart() {
    let banner = "the same in each generation\n".repeat(50);
    // A number writes so many lines; `r` rotates; `K` and `T` stop, `S` starts; `-` looks.
    let known = ["-5--5-Kr-S--T5rrS-", "-5-r-5-T5rr5S-", "r5-Kr5S-r-T5rS-"];
    let scripts = known
        .map(str::to_owned)
        .into_iter()
        .chain((0..number_of_scripts()).map(script));
    for script in scripts {
        for is_compressed in [true, false] {
            let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
            let (mut next, mut rotated) = (0, 50);
            scene.write("m", &banner);
            scene.look();
            let mut positions = None;
            for step in script.chars() {
                match step {
                    '-' if scene.tail.is_some() => drop(scene.look().later(1)),
                    'r' => {
                        rotated -= 1;
                        let name = format!("m.{rotated}");
                        scene.rename("m", &name);
                        scene.write("m", &banner);
                        if is_compressed {
                            scene.compress(&name);
                        }
                    }
                    'K' | 'T' => positions = Some(scene.stop()),
                    'S' => scene.restart(positions.take().unwrap()),
                    '0'..='9' => act(&mut scene, &mut next, Write("m", step as u32 - 48)),
                    _ => {}
                }
            }
            scene.look().later(40);
            let lines = scene.log.lines.values().flatten();
            let mut counted: Vec<u32> = lines
                .filter_map(|line| line.strip_prefix("line ")?.split(' ').next()?.parse().ok())
                .collect();
            counted.sort_unstable();
            let want: Vec<u32> = (0..next).collect();
            let events = &scene.log.events;
            assert_eq!(
                counted, want,
                "{script}, compressed {is_compressed}: {events:?}"
            );
        }
    }
}
