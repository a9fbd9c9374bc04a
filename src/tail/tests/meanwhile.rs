//! What others do to the files while the tail is at work on them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::kinds::{Act, act, check_lines};
use super::*;

/// What the tail reports.
enum Report {
    Event(Event),
    Ended,
}

/// Does something whenever the tail has reported something, before it goes on.
struct Meanwhile<'a, F>(&'a mut Log, F);

impl<F: FnMut(Report)> Sink for Meanwhile<'_, F> {
    fn opened(&mut self, file: FileId, info: &Arc<FileInfo>) {
        self.0.opened(file, info);
    }

    fn bytes(&mut self, file: FileId, bytes: &mut Chunk) {
        self.0.bytes(file, bytes);
    }

    fn ended(&mut self, file: FileId, end: End) {
        self.0.ended(file, end);
        self.1(Report::Ended);
    }

    fn event(&mut self, info: &FileInfo, event: Event) {
        self.0.event(info, event);
        self.1(Report::Event(event));
    }
}

/// A file that was truncated and not read since leaves nothing by which it shows that it is copied and truncated again.
#[test]
fn copied_and_truncated_before_anything_was_read_of_it() {
    for lines in [1, 3, 200] {
        let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
        let mut next = 0;
        act(&mut scene, &mut next, Act::Write("m", 45));
        scene.look();
        act(&mut scene, &mut next, Act::CopyTruncate("m", "m.1"));
        scene.look();
        for one in [
            Act::Write("m", lines),
            Act::Rename("m.1", "m.2"),
            Act::CopyTruncate("m", "m.1"),
            Act::Write("m", 2),
        ] {
            act(&mut scene, &mut next, one);
        }
        scene.look().later(6);
        check_lines(&scene, next, &format!("{lines} lines"));
    }
}

/// A copy in the making was compared with the file that it is made of, which is truncated before it is read.
#[test]
fn truncated_between_the_look_at_its_copy_and_the_read() {
    for (copied, lines) in [(1, 60), (59, 60), (60, 60), (2_000, 30_000)] {
        let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
        let mut next = 0;
        act(&mut scene, &mut next, Act::Write("m", 45));
        scene.look();
        act(&mut scene, &mut next, Act::CopyTruncate("m", "m.1"));
        act(&mut scene, &mut next, Act::Write("m", 1));
        let path = |name| scene.dir.path().join(name);
        let text = |lines: std::ops::Range<u32>| -> String {
            lines.map(|n| format!("line {n} of a log\n")).collect()
        };
        let write = |name, text: &str| {
            let mut file = append(&path(name));
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut events = 0;
        let first = next;
        let mut sink = Meanwhile(&mut scene.log, |report| {
            let Report::Event(event) = report else {
                return;
            };
            events += 1;
            match (events, event) {
                // The content of the file was found to be another. Now its directory is listed.
                (1, Truncated) => {
                    fs::rename(path("m.1"), path("m.2")).unwrap();
                    fs::write(path("m.1"), text(first - 1..first - 1 + copied)).unwrap();
                    write("m", &text(first..first - 1 + lines));
                    // Looked at after the copy.
                    std::thread::sleep(Duration::from_millis(20));
                    fs::write(path("m.0"), text(first - 1 + lines..first + lines)).unwrap();
                }
                (2, Rotated) => {
                    fs::copy(path("m"), path("m.1")).unwrap();
                    File::create(path("m")).unwrap();
                    write("m", &text(first + lines..first + lines + 2));
                }
                _ => {}
            }
        });
        let tail = scene.tail.as_mut().unwrap();
        for _ in 0..10 {
            while tail.read(scene.now, &mut sink).more {}
            scene.now += Duration::from_secs(1);
        }
        check_lines(
            &scene,
            first + lines + 2,
            &format!("{copied} lines of {lines} copied"),
        );
    }
}

/// What lies beside a file that was never seen is history, but for what is made of that file between the look at the path
/// and the listing of its directory.
#[test]
fn copied_while_it_is_found() {
    for lines in [1, 60] {
        for is_truncated in [true, false] {
            let mut scene = Scene::on_disk(Watcher::Inotify, &["m", "z"]);
            let mut next = 0;
            act(&mut scene, &mut next, Act::Write("m", lines));
            scene.write("m.2", "line 0 of another time\n");
            next_tick();
            let (log, copy) = (scene.path("m"), scene.path("m.1"));
            // A file that cannot be opened is reported when its path is looked at, before directories are listed.
            fs::create_dir(scene.path("z")).unwrap();
            let mut tail = scene.start(None);
            let mut reports = 0;
            let mut sink = Meanwhile(&mut scene.log, |_| {
                reports += 1;
                if reports == 1 {
                    fs::copy(&log, &copy).unwrap();
                    if is_truncated {
                        File::create(&log).unwrap();
                    }
                }
            });
            while tail.read(scene.now, &mut sink).more {}
            scene.tail = Some(tail);
            assert!(reports > 0);
            act(&mut scene, &mut next, Act::Write("m", 2));
            scene.look().later(6);
            check_lines(&scene, next, &format!("{lines}, {is_truncated}"));
        }
    }
}

/// A file that is empty when it is met is copied to before it is looked at again.
#[test]
fn copied_to_while_another_file_is_finished() {
    let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
    let mut next = 0;
    act(&mut scene, &mut next, Act::Write("m", 3));
    scene.look();
    act(&mut scene, &mut next, Act::Rename("m", "m.2"));
    act(&mut scene, &mut next, Act::Write("m", 60));
    scene.write("m.1", "");
    scene.look();
    let (log, copy) = (scene.path("m"), scene.path("m.1"));
    let mut copies = 0;
    let mut sink = Meanwhile(&mut scene.log, |report| {
        if matches!(report, Report::Ended) && copies == 0 {
            copies += 1;
            append(&copy).write_all(&fs::read(&log).unwrap()).unwrap();
        }
    });
    let tail = scene.tail.as_mut().unwrap();
    for _ in 0..3 {
        scene.now += Duration::from_secs(1);
        while tail.read(scene.now, &mut sink).more {}
    }
    assert_eq!(copies, 1);
    act(&mut scene, &mut next, Act::Empty("m"));
    act(&mut scene, &mut next, Act::Write("m", 1));
    scene.look().later(6);
    check_lines(&scene, next, "");
}

fn append(path: &Path) -> File {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
}

/// Names change while directories are listed and between that and the opening of the files, as when a reader that gets
/// little of the processor meets the rotation of a busy log.
#[test]
fn rotated_while_the_directory_is_looked_at() {
    for round in 0..150 {
        let mut scene = Scene::on_disk(Watcher::Inotify, &["m"]);
        let mut next = 0;
        act(&mut scene, &mut next, Act::Write("m", 1));
        scene.look();
        let log = scene.path("m");
        let mut tail = scene.tail.take().unwrap();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let path = |number: u32| log.with_extension(number.to_string());
                let mut file = append(&log);
                for rotation in 0..30 {
                    for number in (1..=rotation).rev() {
                        fs::rename(path(number), path(number + 1)).unwrap();
                    }
                    fs::copy(&log, path(1)).unwrap();
                    file.set_len(0).unwrap();
                    for _ in 0..1 + round % 3 * 40 {
                        writeln!(file, "line {next} of a log").unwrap();
                        next += 1;
                    }
                }
                is_done.store(true, Ordering::SeqCst);
            });
            while !is_done.load(Ordering::SeqCst) {
                tail.read(scene.now, &mut scene.log);
                // Now and then, it gets to read only when much has happened.
                std::thread::sleep(Duration::from_micros(300 * (round % 5)));
            }
        });
        scene.tail = Some(tail);
        scene.look().later(12);
        check_lines(&scene, next, &format!("round {round}"));
    }
}
