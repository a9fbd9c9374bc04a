//! What readers lose when a busy log is rotated ten times a second: this crate's tail over each watcher, linemux's line
//! reader, and mtail if it is installed. `cargo bench --bench rotation [-- SECONDS]`;
//! `ROTATION_CASE='| Rename | MuxedLines |'` runs one case.
//!
//! One thread writes 200,000 numbered lines a second in batches of half a millisecond, each batch in one `write`, and
//! rotates every 100 ms. A reader is told of no line; what it delivers is compared with what was written.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use appliance_log_exporter::line::LineBuffer;
use appliance_log_exporter::tail::{
    Chunk, End, Event, FileId, FileInfo, Options, Pattern, Sink, SourceSpec, Tail, Watcher,
};

const BATCH_LINES: u64 = 100;
const BATCH_EVERY: Duration = Duration::from_micros(500);
const ROTATE_EVERY: Duration = Duration::from_millis(100);
/// How long a late writer goes on in the renamed file.
const LATE: Duration = Duration::from_millis(5);
const KEPT: u32 = 20;
const MTAIL_PORT: u16 = 13_903;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Rename,
    LateWriter,
    Unlink,
    CopyTruncate,
}

#[derive(Clone, Copy, Debug)]
enum Reader {
    Ours(Watcher),
    MuxedLines,
    Mtail,
}

/// What was delivered.
#[derive(Default)]
struct Tally {
    times: Vec<u8>,
    torn: u64,
    /// Lines that nothing can be said of: only their number is known.
    counted: Option<u64>,
    told: String,
}

impl Tally {
    /// The runs of lines that did not come.
    fn gaps(&self, written: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
        let came = |number: u64| {
            self.times
                .get(number as usize)
                .is_some_and(|times| *times > 0)
        };
        let ends = move |from: u64| {
            (from..written)
                .find(|number| came(*number))
                .unwrap_or(written)
        };
        let starts =
            (0..written).filter(move |number| !came(*number) && (*number == 0 || came(number - 1)));
        starts.map(move |start| start..ends(start))
    }

    fn line(&mut self, line: &[u8]) {
        let number = line
            .strip_prefix(b"line ")
            .and_then(|rest| rest.strip_suffix(PADDING.as_bytes()));
        match number.and_then(|number| std::str::from_utf8(number).ok()?.parse::<usize>().ok()) {
            Some(number) => {
                if self.times.len() <= number {
                    self.times.resize(number + 1, 0);
                }
                self.times[number] = self.times[number].saturating_add(1);
            }
            None => self.torn += 1,
        }
    }
}

const PADDING: &str = " 2024 Feb 29 12:05:01 hsm1  local5 info  NTLS [77]: info : 0 : NTLA Client \"192.168.0.100\" Connection instance removed";

fn main() {
    let seconds = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .next()
        .unwrap_or(5);
    let mtail = Command::new("mtail")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let mut readers = vec![
        Reader::Ours(Watcher::Inotify),
        Reader::Ours(Watcher::Linemux),
        Reader::Ours(Watcher::Poll),
        Reader::MuxedLines,
    ];
    if mtail.is_ok_and(|status| status.success()) {
        readers.push(Reader::Mtail);
    }
    let only = std::env::var("ROTATION_CASE").ok();
    if only.is_none() {
        println!("| rotation | reader | written | lost | torn | twice | told |");
        println!("|---|---|---|---|---|---|---|");
    }
    for mode in [
        Mode::Rename,
        Mode::LateWriter,
        Mode::Unlink,
        Mode::CopyTruncate,
    ] {
        for reader in &readers {
            let case = format!("| {mode:?} | {reader:?} |");
            match &only {
                // Each case is a process of its own: linemux may never give its thread back.
                None => run_alone(&case, seconds),
                Some(only) if *only == case => run(mode, *reader, Duration::from_secs(seconds)),
                Some(_) => {}
            }
        }
    }
}

fn run_alone(case: &str, seconds: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg(seconds.to_string())
        .env("ROTATION_CASE", case)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(seconds + 30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            println!("{case} | did not come to an end | | | |");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run(mode: Mode, reader: Reader, duration: Duration) {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap();
    let path = dir.path().join("messages");
    // What is truncated before it was ever read is nobody's to know.
    fs::write(&path, format!("line 0{PADDING}\n")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let (path, stop, begin) = (path.clone(), stop.clone(), begin.clone());
        move || match reader {
            Reader::Ours(watcher) => ours(&path, watcher, &begin, &stop),
            Reader::MuxedLines => muxed_lines(&path, &begin, &stop),
            Reader::Mtail => mtail(&path, &begin, &stop),
        }
    });
    while !begin.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let written = write(&path, mode, duration);
    // Enough for everyone to finish; what is rotated away counts as finished after a second.
    std::thread::sleep(Duration::from_secs(3));
    stop.store(true, Ordering::SeqCst);
    // linemux may wait for an event that does not come.
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"\n")
        .unwrap();
    let tally = thread.join().unwrap();
    for gap in tally
        .gaps(written)
        .filter(|_| std::env::var_os("ROTATION_GAPS").is_some())
    {
        eprintln!("lost {gap:?}");
    }
    let delivered = tally
        .counted
        .unwrap_or_else(|| tally.times.iter().filter(|times| **times > 0).count() as u64);
    let twice = tally.times.iter().filter(|times| **times > 1).count();
    let percent = (written as f64 - delivered as f64) / written as f64 * 100.0;
    let known = |number: u64| {
        if tally.counted.is_some() {
            "?".to_owned()
        } else {
            number.to_string()
        }
    };
    println!(
        "| {mode:?} | {reader:?} | {written} | {} ({percent:.2} %) | {} | {} | {} |",
        written as i64 - delivered as i64,
        known(tally.torn.saturating_sub(1)),
        known(twice as u64),
        tally.told
    );
}

/// Writes and rotates; returns the number of lines.
fn write(path: &Path, mode: Mode, duration: Duration) -> u64 {
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap()
    };
    let mut file = open();
    let start = Instant::now();
    let mut rotate_at = start + ROTATE_EVERY;
    let mut reopen_at = None;
    let mut written = 1;
    let mut batch = Vec::new();
    for number in 0.. {
        let due = start + BATCH_EVERY * number;
        let now = Instant::now();
        if now >= start + duration {
            return written;
        }
        if due > now {
            std::thread::sleep(due - now);
        }
        if reopen_at.is_some_and(|at| at <= Instant::now()) {
            reopen_at = None;
            file = open();
        }
        if rotate_at <= Instant::now() {
            rotate_at += ROTATE_EVERY;
            let rotated = |number| PathBuf::from(format!("{}.{number}", path.display()));
            for number in (1..KEPT).rev() {
                let _ = fs::rename(rotated(number), rotated(number + 1));
            }
            match mode {
                Mode::Rename => {
                    fs::rename(path, rotated(1)).unwrap();
                    file = open();
                }
                Mode::LateWriter => {
                    fs::rename(path, rotated(1)).unwrap();
                    File::create(path).unwrap();
                    reopen_at = Some(Instant::now() + LATE);
                }
                Mode::Unlink => {
                    fs::remove_file(path).unwrap();
                    file = open();
                }
                Mode::CopyTruncate => {
                    // logrotate is another process: the writer goes on meanwhile.
                    let (path, copy) = (path.to_owned(), rotated(1));
                    std::thread::spawn(move || {
                        fs::copy(&path, copy).unwrap();
                        OpenOptions::new()
                            .write(true)
                            .truncate(true)
                            .open(&path)
                            .unwrap();
                    });
                }
            }
        }
        batch.clear();
        for _ in 0..BATCH_LINES {
            writeln!(batch, "line {written}{PADDING}").unwrap();
            written += 1;
        }
        file.write_all(&batch).unwrap();
    }
    written
}

#[derive(Default)]
struct Ours {
    buffers: HashMap<FileId, LineBuffer>,
    tally: Tally,
    truncated: u64,
    lost_bytes: u64,
}

impl Sink for Ours {
    fn opened(&mut self, file: FileId, _: &Arc<FileInfo>) {
        self.buffers.insert(file, LineBuffer::new(65_536));
    }
    fn bytes(&mut self, file: FileId, bytes: &mut Chunk) {
        let tally = &mut self.tally;
        self.buffers
            .get_mut(&file)
            .unwrap()
            .push(bytes, |line| tally.line(line.bytes));
    }
    fn ended(&mut self, file: FileId, end: End) {
        let mut buffer = self.buffers.remove(&file).unwrap();
        if let End::Whole { .. } = end {
            buffer.finish(|line| self.tally.line(line.bytes));
        }
    }
    fn event(&mut self, _: &FileInfo, event: Event) {
        match event {
            Event::Truncated => self.truncated += 1,
            Event::Lost { bytes, .. } => self.lost_bytes += bytes,
            _ => {}
        }
    }
}

fn ours(path: &Path, watcher: Watcher, begin: &AtomicBool, stop: &AtomicBool) -> Tally {
    let source = SourceSpec::new("bench", [Pattern::parse(path.to_str().unwrap()).unwrap()]);
    let options = Options {
        watcher,
        drain_grace: Duration::from_secs(1),
        ..Options::default()
    };
    let mut tail = Tail::new(vec![source], options, None).unwrap();
    let mut ours = Ours::default();
    while tail.read(Instant::now(), &mut ours).more {}
    begin.store(true, Ordering::SeqCst);
    while !stop.load(Ordering::SeqCst) {
        if !tail.read(Instant::now(), &mut ours).more {
            tail.wait(Duration::from_millis(100));
        }
    }
    while tail.read(Instant::now(), &mut ours).more {}
    ours.tally.told = format!(
        "{} truncations, {} bytes lost",
        ours.truncated, ours.lost_bytes
    );
    // The line that ends the run has no number; linemux gets it always.
    ours.tally.torn = ours.tally.torn.max(1);
    ours.tally
}

fn muxed_lines(path: &Path, begin: &AtomicBool, stop: &AtomicBool) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut lines = linemux::MuxedLines::new().unwrap();
        lines.add_file_from_start(path).await.unwrap();
        let mut tally = Tally::default();
        begin.store(true, Ordering::SeqCst);
        while !stop.load(Ordering::SeqCst) {
            match tokio::time::timeout(Duration::from_millis(100), lines.next_line()).await {
                Ok(Ok(Some(line))) => tally.line(line.line().as_bytes()),
                Ok(Ok(None)) => break,
                Ok(Err(_)) | Err(_) => {}
            }
        }
        tally.torn = tally.torn.max(1);
        tally
    })
}

fn mtail(path: &Path, begin: &AtomicBool, stop: &AtomicBool) -> Tally {
    let program = path.with_file_name("lines.mtail");
    fs::write(
        &program,
        "counter whole\n/^line \\d+ .* removed$/ {\n  whole++\n}\n",
    )
    .unwrap();
    let mut child = Command::new("mtail")
        .args([
            "--address",
            "127.0.0.1",
            "--port",
            &MTAIL_PORT.to_string(),
            "--progs",
        ])
        .arg(&program)
        .arg("--logs")
        .arg(path)
        .args(["--poll_interval", "10ms", "--poll_log_interval", "10ms"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while scrape().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "mtail has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    begin.store(true, Ordering::SeqCst);
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let counted = scrape();
    child.kill().unwrap();
    child.wait().unwrap();
    Tally {
        counted: Some(counted.unwrap_or(0)),
        ..Tally::default()
    }
}

/// The counter as mtail exposes it.
fn scrape() -> Option<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", MTAIL_PORT)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = answer.lines().find(|line| line.starts_with("whole{"))?;
    line.rsplit(' ').next()?.parse().ok()
}
