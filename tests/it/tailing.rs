//! What the exporter says of rotations, truncations, losses, lag and checkpoints: one scenario per row of
//! `docs/tailing.md` that loses or counts something, and all of these metrics asserted in each.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::exporter::{Exporter, LONG, Samples, append, binary};
use crate::support::{http_get, root};

/// A directory with a log, a configuration with a state directory, and an exporter on it.
struct Scene {
    directory: tempfile::TempDir,
    exporter: Option<Exporter>,
    /// Lines and bytes written that must have been read by the running exporter.
    lines: u64,
    bytes: u64,
}

impl Scene {
    fn new() -> Self {
        Self::with_checkpoints_every("50ms")
    }

    fn with_checkpoints_every(interval: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(
            directory.path().join("config.yml"),
            format!(
                "sources:\n  - name: luna\n    paths: ['{0}/messages']\n\
                 limits: {{line_bytes: 1024}}\n\
                 tail: {{drain_grace: 1s, rescan: 1s}}\n\
                 state: {{directory: {0}/state, interval: {interval}}}\n",
                directory.path().display()
            ),
        )
        .expect("it can be written");
        Self {
            directory,
            exporter: None,
            lines: 0,
            bytes: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&mut self) -> &mut Exporter {
        let flag = format!("--config.file={}", self.path("config.yml").display());
        let exporter = Exporter::start_command(binary().arg(flag));
        (self.lines, self.bytes) = (0, 0);
        self.exporter.insert(exporter)
    }

    fn exporter(&mut self) -> &mut Exporter {
        self.exporter.as_mut().expect("it was started")
    }

    /// Ends it in good order, so that all it knows is kept.
    fn stop(&mut self) {
        let mut exporter = self.exporter.take().expect("it was started");
        exporter.child.signal("TERM");
        exporter.child.wait_for_end(LONG);
    }

    /// Appends to the log; all of it must be read.
    fn write(&mut self, text: &str) {
        append(&self.path("messages"), text.as_bytes());
        self.lines += text.lines().count() as u64;
        self.bytes += text.len() as u64;
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("it can be renamed");
    }

    fn truncate(&self) {
        fs::write(self.path("messages"), "").expect("it can be written");
    }

    /// Waits until all that was written has been read.
    fn read(&mut self) -> Samples {
        let bytes = self.bytes as f64;
        self.exporter().wait_for_value(&of("bytes_read"), bytes)
    }

    /// Every metric of the tail has these values and nothing else is lost; and the status page says the same.
    fn check(&mut self, rotations: u64, truncations: u64, lost: &[(&str, u64)], dropped: &[&str]) {
        // What is rotated away counts as finished when it was quiet.
        let port = self.exporter().port;
        let (lines, bytes) = (self.lines, self.bytes);
        let sum: u64 = lost.iter().map(|(_, bytes)| bytes).sum();
        let samples = self.exporter().wait_for(
            &format!("{rotations} rotations, {truncations} truncations, {lost:?}"),
            || {
                let samples = crate::exporter::scrape(port)?;
                let is = |name: &str, value: u64| samples.value(&of(name)) == Some(value as f64);
                let all = is("rotations", rotations)
                    && is("truncations", truncations)
                    && samples.value(AGE) < Some(10.0)
                    && samples.value(AGE).is_some()
                    && is("lines_read", lines)
                    && is("bytes_read", bytes)
                    // Taken a moment before the counters.
                    && samples.value(LAG) == Some(0.0)
                    && samples.sum("appliance_log_exporter_lost_bytes_total", &[]) == sum as f64;
                all.then_some(samples)
            },
        );
        for reason in ["truncated", "gone", "damaged", "doubtful", "too_long"] {
            let bytes = lost
                .iter()
                .filter(|(of, _)| *of == reason)
                .map(|(_, bytes)| bytes)
                .sum::<u64>();
            let series = format!(
                r#"appliance_log_exporter_lost_bytes_total{{source="luna",reason="{reason}"}}"#
            );
            assert_eq!(samples.value(&series), Some(bytes as f64), "{series}");
        }
        for reason in ["too_long", "torn"] {
            let series = format!(
                r#"appliance_log_exporter_lines_dropped_total{{source="luna",reason="{reason}"}}"#
            );
            let lines = dropped.iter().filter(|of| **of == reason).count();
            assert_eq!(samples.value(&series), Some(lines as f64), "{series}");
        }

        let page = http_get(port, "/").expect("a page").text();
        let row = page
            .split("<tr>")
            .find(|row| row.contains("/messages</code>"))
            .unwrap_or_else(|| panic!("no row in {page}"));
        let class = if sum > 0 { "n bad" } else { "n" };
        let cells = format!("<td class=\"n\">{rotations}</td><td class=\"{class}\">{sum} B</td>");
        assert!(row.contains(&cells), "no `{cells}` in {row}");
        // Losses are in the log too, with the file's name.
        let child = &mut self.exporter().child;
        match sum > 0 {
            true => drop(child.wait_for_output("lost")),
            false => assert!(!child.output().contains("lost"), "{}", child.output()),
        }
    }
}

const LAG: &str = r#"appliance_log_exporter_source_lag_bytes{source="luna"}"#;
const AGE: &str = "appliance_log_exporter_checkpoint_age_seconds";

/// A counter of the only source.
fn of(name: &str) -> String {
    format!(r#"appliance_log_exporter_{name}_total{{source="luna"}}"#)
}

fn compress(path: &std::path::Path) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(&fs::read(path).expect("a file"))
        .expect("room");
    encoder.finish().expect("room")
}

#[test]
fn rename_and_create() {
    let mut scene = Scene::new();
    scene.write("one\n");
    scene.start();
    scene.lines = 1;
    scene.bytes = 4;
    for _ in 0..3 {
        scene.read();
        scene.write("two\nthree, and no line feed");
        scene.rename("messages", &format!("messages.{}", scene.lines));
        scene.write("four\n");
    }
    scene.check(3, 0, &[], &[]);
}

#[test]
fn copytruncate_within_a_line() {
    let mut scene = Scene::new();
    scene.write("one\n");
    scene.start();
    scene.write("one\n");
    scene.bytes = 8;
    scene.lines = 2;
    scene.read();
    scene.write("two\nthr");
    // The cut line is read, and not used.
    scene.lines -= 1;
    fs::copy(scene.path("messages"), scene.path("messages.1")).expect("a copy");
    scene.truncate();
    scene.write("four\n");
    scene.check(0, 1, &[("truncated", 3)], &["torn"]);
}

#[test]
fn truncated_while_stopped() {
    let mut scene = Scene::new();
    scene.write("one\ntwo, unfinished");
    scene.start();
    scene.stop();
    scene.truncate();
    append(&scene.path("messages"), b"three\n");
    scene.start();
    scene.lines = 1;
    scene.bytes = 6;
    scene.check(0, 1, &[("truncated", 15)], &[]);
}

#[test]
fn gone_while_stopped() {
    let mut scene = Scene::new();
    scene.write("one\ntwo, unfinished");
    scene.start();
    scene.stop();
    // Made before the other goes, so that it does not get its number.
    append(&scene.path("new"), b"three\n");
    scene.rename("new", "messages");
    scene.start();
    scene.lines = 1;
    scene.bytes = 6;
    scene.check(1, 0, &[("gone", 15)], &[]);
}

/// What a scrape has shown does not fall, however long checkpoints take, and though its file is gone.
#[test]
fn what_was_shown_outlives_a_kill() {
    let mut scene = Scene::with_checkpoints_every("1h");
    append(&scene.path("messages"), b"");
    scene.start();
    for port in 1..4 {
        let line = format!(
            "Nov 28 12:00:00 h1 sshd[1]: Accepted password for admin from 192.0.2.1 port {port} ssh2\n"
        );
        append(&scene.path("messages"), line.as_bytes());
    }
    let events = |port| {
        crate::exporter::scrape(port).map(|all| all.sum("log_events_total", &[r#"appliance="h1""#]))
    };
    let port = scene.exporter().port;
    scene.exporter().wait_for("three events", || {
        events(port).filter(|events| *events == 3.0)
    });
    let shown = std::time::SystemTime::now();
    let snapshot = scene.path("state").join("snapshot");
    scene
        .exporter()
        .wait_for("a checkpoint, without another scrape", || {
            let written = fs::metadata(&snapshot).ok()?.modified().ok()?;
            (written > shown).then_some(())
        });
    let mut exporter = scene.exporter.take().expect("it was started");
    exporter.child.signal("KILL");
    exporter.child.wait_for_end(LONG);
    fs::remove_file(scene.path("messages")).expect("it can be removed");
    let port = scene.start().port;
    assert_eq!(events(port), Some(3.0));
    let lost = scene
        .exporter()
        .scrape()
        .sum("appliance_log_exporter_lost_bytes_total", &[]);
    assert_eq!(lost, 0.0);
}

#[test]
fn damaged_when_it_was_compressed() {
    let mut scene = Scene::new();
    scene.write("one\n");
    scene.start();
    scene.stop();
    // Enough that the damage is not in what is decompressed first.
    let noise: String = (0u64..20_000)
        .map(|line| format!("{:x}\n", line.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    append(&scene.path("messages"), noise.as_bytes());
    let mut compressed = compress(&scene.path("messages"));
    let len = compressed.len();
    compressed.truncate(len / 2);
    fs::write(scene.path("messages.1.gz"), compressed).expect("it can be written");
    append(&scene.path("new"), b"two\n");
    scene.rename("new", "messages");
    let exporter = scene.start();
    let port = exporter.port;
    let damaged = r#"appliance_log_exporter_lost_bytes_total{source="luna",reason="damaged"}"#;
    let samples = exporter.wait_for("the damage", || {
        crate::exporter::scrape(port).filter(|samples| samples.value(damaged) > Some(0.0))
    });
    let lines = samples.value(&of("lines_read")).expect("it");
    assert!(lines > 100.0 && lines < 20_000.0, "{lines}");
    assert_eq!(samples.value(&of("rotations")), Some(1.0));
    // The line that the damage cut was lost for the same reason.
    assert_eq!(
        samples.sum("appliance_log_exporter_lost_bytes_total", &[]),
        samples.value(damaged).expect("it")
    );
}

#[test]
fn doubtful() {
    let mut scene = Scene::new();
    scene.write("started\n");
    scene.start();
    scene.lines = 1;
    scene.bytes = 8;
    scene.read();
    // What it may have been compressed to comes when it is gone, with another time.
    let compressed = compress(&scene.path("messages"));
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::write(scene.path("new"), compressed).expect("it can be written");
    let archive = fs::File::options().append(true).open(scene.path("new"));
    archive.expect("it").set_modified(old).expect("a time");
    // Stopped, so that no look falls between the steps: one that finds neither file is another case.
    scene.exporter().child.signal("STOP");
    fs::remove_file(scene.path("messages")).expect("it can be removed");
    scene.rename("new", "messages.1.gz");
    scene.write("two\n");
    scene.exporter().child.signal("CONT");
    scene.check(1, 0, &[("doubtful", 8)], &[]);
}

#[test]
fn too_long() {
    let mut scene = Scene::new();
    scene.write("one\n");
    scene.start();
    scene.lines = 1;
    scene.bytes = 4;
    let long = "x".repeat(1258);
    scene.write(&format!("{long}\ntwo\n"));
    scene.check(0, 0, &[("too_long", 234)], &["too_long"]);
}

#[test]
fn the_age_of_a_checkpoint_that_cannot_be_written_grows() {
    let mut scene = Scene::new();
    scene.write("one\n");
    scene.start();
    let port = scene.exporter().port;
    let until = |scene: &mut Scene, what: &str, is: &dyn Fn(f64) -> bool| {
        // Every line makes a checkpoint necessary.
        let log = scene.path("messages");
        scene.exporter().wait_for(what, || {
            append(&log, b"more\n");
            let samples = crate::exporter::scrape(port)?;
            samples.value(AGE).filter(|age| is(*age)).map(|_| ())
        });
    };
    until(&mut scene, "a checkpoint", &|age| age < 0.5);
    // Not even root can write a file where a directory is.
    let obstacle = scene.path("state/snapshot.new");
    while fs::create_dir(&obstacle).is_err() {
        std::thread::yield_now();
    }
    let since = Instant::now();
    until(&mut scene, "an age of a second and a half", &|age| {
        age > 1.5
    });
    assert!(since.elapsed() > Duration::from_secs(1));
    let said = scene
        .exporter()
        .child
        .wait_for_output("could not be written");
    assert_eq!(said.matches("could not be written").count(), 1, "{said}");
    fs::remove_dir(&obstacle).expect("it can be removed");
    until(&mut scene, "a checkpoint again", &|age| age < 0.5);
    let said = scene.exporter().child.wait_for_output("written again");
    assert_eq!(said.matches("written again").count(), 1, "{said}");
}

#[test]
fn without_a_state_directory_there_is_no_age() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    append(&log, b"one\n");
    let exporter = Exporter::start(&[&format!("--log.file={}", log.display())]);
    let samples = exporter.scrape();
    assert_eq!(samples.value(AGE), None);
}

/// A snapshot as version 0.1 wrote it, which knew a file by its first and its last KiB. Since then the files have got other
/// inodes, and the log goes on.
#[test]
fn a_snapshot_with_positions_of_format_1_is_read_whole() {
    use xxhash_rust::xxh3::Xxh3;

    let mut scene = Scene::new();
    let line = |time: &str| {
        format!("2024 Feb 29 12:{time} hsm1  local5 info  NTLS [77]: info : 0 : a line\n")
    };
    append(
        &scene.path("messages.1"),
        ["05:01", "05:02", "05:03"].map(line).concat().as_bytes(),
    );
    let unfinished = "2024 Feb 29 12:06:03 hsm1  local5 info  NTLS [77]: info : 0 :";
    let current = ["06:01", "06:02"].map(line).concat() + unfinished;
    append(&scene.path("messages"), current.as_bytes());

    // Its files lay elsewhere.
    let stored = fs::read(root().join("tests/fixtures/state/positions-1")).expect("a fixture");
    let (head, body) = stored.split_at(36);
    let len = u64::from_le_bytes(head[12..20].try_into().expect("eight bytes"));
    let (positions, table) = body.split_at(usize::try_from(len).expect("a length"));
    let path = scene.path("messages");
    let positions = String::from_utf8(positions.to_vec())
        .expect("JSON")
        .replace("/tmp/f1/messages", path.to_str().expect("a path"));
    assert!(!positions.contains("\"format\""), "{positions}");
    let mut head = head[..28].to_vec();
    head[12..20].copy_from_slice(&(positions.len() as u64).to_le_bytes());
    let mut hasher = Xxh3::new();
    for part in [&head, positions.as_bytes(), table] {
        hasher.update(part);
    }
    head.extend(hasher.digest().to_le_bytes());
    fs::create_dir(scene.path("state")).expect("a directory");
    fs::write(
        scene.path("state/snapshot"),
        [&head, positions.as_bytes(), table].concat(),
    )
    .expect("it can be written");

    append(&path, b" the rest\n");
    scene.rename("messages", "messages.2");
    append(&path, line("07:01").as_bytes());
    let messages = r#"log_messages_total{appliance="hsm1",program="NTLS",severity="info"}"#;
    scene.start();
    scene.exporter().wait_for_value(messages, 7.0);
    // And what it writes itself is read by the next.
    scene.stop();
    append(&path, line("07:02").as_bytes());
    scene.start();
    scene.exporter().wait_for_value(messages, 8.0);
    let lost = scene
        .exporter()
        .scrape()
        .sum("appliance_log_exporter_lost_bytes_total", &[]);
    assert_eq!(lost, 0.0);
}
