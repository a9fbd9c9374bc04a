//! What is fuzzed, as plain functions of bytes: the fuzzer calls them with its inventions, `tests/it/fuzz.rs` with the
//! corpora that it left behind.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock, Mutex};

use appliance_log_exporter::engine::{Engine, Repeats, StreamContext, Worker};
use appliance_log_exporter::line::LineBuffer;
use appliance_log_exporter::matcher::{Limits as MatcherLimits, Matcher, Scratch};
use appliance_log_exporter::metric::{Limits, Saved};
use appliance_log_exporter::record::{Clock, Programs, Record, frames, parse};
use appliance_log_exporter::rules::{self, PackText, Settings, Template};
use appliance_log_exporter::state::{Snapshot, Unusable};
use appliance_log_exporter::syslog::framing::{self, Frame, Framer};
use appliance_log_exporter::tail::Positions;
use xxhash_rust::xxh3::xxh3_64;

fn clock() -> Clock {
    Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: jiff::Timestamp::from_second(1_771_500_000).expect("a time in 2026"),
    }
}

/// Bytes cut into lines: the same whether they come at once or in pieces, whose lengths the first bytes tell.
pub fn line(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else {
        return;
    };
    let collect = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut buffer = LineBuffer::new(64);
        let mut lines = Vec::new();
        for piece in pieces {
            buffer.push(piece, |line| {
                lines.push((line.bytes.to_vec(), line.skipped_bytes))
            });
            assert!(buffer.held_bytes() <= data.len() as u64);
        }
        buffer.finish(|line| lines.push((line.bytes.to_vec(), line.skipped_bytes)));
        lines
    };
    let whole = collect(&mut std::iter::once(data).filter(|data| !data.is_empty()));
    let pieces = collect(&mut data.chunks(usize::from(size % 32) + 1));
    assert_eq!(whole, pieces);
    assert!(
        whole
            .iter()
            .all(|(line, _)| line.len() <= 64 && !line.contains(&b'\n'))
    );
}

/// A stream cut into frames: the same whether it comes at once or in segments, whose lengths the first bytes tell.
pub fn frame(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else {
        return;
    };
    let in_order = size >= 128;
    let collect = |segments: &mut dyn Iterator<Item = &[u8]>| {
        let mut framer = Framer::new(64);
        let mut frames = Vec::new();
        let mut each = |frame: Frame<'_>| {
            assert!(!frame.bytes.is_empty() && frame.bytes.len() <= 64);
            frames.push((frame.bytes.to_vec(), frame.framing, frame.cut_bytes));
        };
        for segment in segments {
            framer.push(segment, &mut each);
        }
        let rest = framer.finish(in_order, &mut each);
        (frames, rest)
    };
    let whole = collect(&mut std::iter::once(data));
    let pieces = collect(&mut data.chunks(usize::from(size % 32) + 1));
    assert_eq!(whole, pieces);
    framing::datagram(data, 64, |frame| assert!(!frame.bytes.is_empty()));
}

/// A header is read whatever is in it, and nothing is made up: every field lies within the line.
pub fn record(data: &[u8]) {
    static PROGRAMS: LazyLock<Programs> = LazyLock::new(|| {
        Programs::new(
            [
                "NTLS", "sshd", "kernel", "kmd", "ems", "EFW", "IPSEC", "smartd",
            ]
            .map(|name| (name.to_owned(), Vec::new())),
        )
    });
    for frame in frames(data) {
        let record = parse(frame, &PROGRAMS);
        // Some programs and tags are the exporter's own words.
        for field in [
            record.message,
            record.stamp,
            record.structured,
            record.code,
            record.app_severity,
        ] {
            let (outer, inner) = (data.as_ptr_range(), field.as_ptr_range());
            assert!(field.is_empty() || (outer.start <= inner.start && inner.end <= outer.end));
        }
        let _ = record.timestamp(&clock());
    }
}

/// A pack, sound or not, is read or refused, and what is read can run.
pub fn pack(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = Template::parse(text);
    let packs = vec![PackText {
        file: "fuzz.yaml".to_owned(),
        text: text.to_owned(),
    }];
    match rules::parse(packs, Settings::default()) {
        Ok(rules) => {
            if let Ok(engine) = Engine::new(Arc::new(rules), Limits::default(), &[]) {
                let mut worker = Worker::new(Arc::new(engine));
                worker
                    .batch(0, None)
                    .line(&mut StreamContext::new(clock()), data);
            }
        }
        Err(faults) => {
            for fault in faults {
                // Beyond the hundredth, only how many there are is said.
                let is_sum = fault.line == 0 && fault.message.ends_with(" more errors");
                assert!(is_sum || fault.line >= 1 && fault.column >= 1, "{fault}");
            }
        }
    }
}

/// A snapshot is used whole or not at all. So that the fuzzer need not guess a checksum, the bytes are also taken for the
/// positions of a sound snapshot, and for its values.
pub fn snapshot(data: &[u8]) {
    let mut sealed = b"applogex\x01\0\0\0".to_vec();
    sealed.extend_from_slice(&(data.len() as u64).to_le_bytes());
    sealed.extend_from_slice(&0u64.to_le_bytes());
    let checksum = xxh3_64(&[&sealed, data].concat());
    sealed.extend_from_slice(&checksum.to_le_bytes());
    sealed.extend_from_slice(data);
    for file in [data, &sealed] {
        match Snapshot::decode(file) {
            Ok(mut snapshot) => {
                let again =
                    Snapshot::decode(&snapshot.encode().expect("positions have a form in JSON"));
                // Positions of an earlier format are written in the present one.
                snapshot.positions.files.format = Positions::default().format;
                assert_eq!(again.ok(), Some(snapshot));
            }
            Err(unusable) => assert!(
                file == data || matches!(unusable, Unusable::Positions(_)),
                "{unusable}"
            ),
        }
    }
    if let Ok(saved) = serde_json::from_slice::<Saved>(data) {
        let mut worker = shipped()
            .lock()
            .expect("the fuzzer stops at the first panic");
        worker.reset();
        worker.engine().table().restore(&saved);
        // What was taken over is what is saved next, in a form that can be read again, and no more.
        let first = worker.engine().table().save();
        let json = serde_json::to_vec(&first).expect("names and numbers");
        let read: Saved = serde_json::from_slice(&json).expect("what was just written");
        worker.reset();
        assert_eq!(worker.engine().table().restore(&read), 0);
        assert_eq!(sorted(&worker.engine().table().save()), sorted(&first));
    }
}

fn sorted(saved: &Saved) -> Vec<String> {
    let mut series: Vec<String> = saved
        .series
        .iter()
        .map(|series| format!("{series:?}"))
        .collect();
    series.sort_unstable();
    series
}

fn shipped() -> &'static Mutex<Worker> {
    static ENGINE: LazyLock<Mutex<Worker>> = LazyLock::new(|| {
        let rules = rules::load(&[], Settings::default()).expect("the shipped packs are sound");
        let engine = Engine::new(Arc::new(rules), Limits::default(), &[])
            .expect("the shipped packs compile");
        Mutex::new(Worker::new(Arc::new(engine)))
    });
    &ENGINE
}

/// Lines go through all shipped packs; each is counted once.
pub fn lines(data: &[u8]) {
    let mut worker = shipped()
        .lock()
        .expect("the fuzzer stops at the first panic");
    worker.reset();
    let mut origin = StreamContext::new(clock());
    let mut repeats = Repeats::default();
    let mut expected = 0.0;
    for line in data.split(|byte| *byte == b'\n') {
        let mut repeated = 0;
        worker.batch(0, Some(&mut repeats)).line_with(
            &mut origin,
            line,
            |_, _| {},
            |outcome| {
                repeated = outcome.record.repeat_last;
                if repeated == 0 {
                    expected += f64::from(outcome.record.repeat);
                }
            },
        );
        if repeated > 0 {
            // What is repeated counts again only if it was about the same device.
            return;
        }
    }
    let snapshot = worker.engine().table().snapshot();
    let mut messages = 0.0;
    for (family, series) in &snapshot.families {
        for series in series {
            assert!(series.value.is_finite());
            if &*family.name == "log_messages_total" {
                messages += series.value;
            }
        }
    }
    assert_eq!(messages, expected);
}

/// A message of a known program costs no more than twenty times what an ordinary one costs, byte by byte. The first byte
/// chooses the program.
pub fn cost(data: &[u8]) {
    static MATCHER: LazyLock<(rules::RuleSet, Programs, Matcher)> = LazyLock::new(|| {
        let rules = rules::load(&[], Settings::default()).expect("the packs are in order");
        let names = |program: &rules::Program| (program.name.clone(), program.aliases.clone());
        let programs = Programs::new(rules.programs.iter().map(names))
            .with_formats(rules.formats.iter().cloned());
        let matcher =
            Matcher::compile(&rules, MatcherLimits::default()).expect("the packs compile");
        (rules, programs, matcher)
    });
    let (rules, programs, matcher) = &*MATCHER;
    let Some((&program, message)) = data.split_first() else {
        return;
    };
    let program = &rules.programs[usize::from(program) % rules.programs.len()].name;
    let hostile = of_program(programs, program, message);
    thread_local! {
        static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let scratch = scratch.get_or_insert_with(|| matcher.scratch());
        matcher.find(&hostile, scratch, |_| true);
        #[cfg(fuzzing)]
        {
            // 1,500 for the rest of a line; an ordinary one costs some 25 instructions for each byte.
            let per_byte = (scratch.take_cost() + 1500) / message.len().max(100);
            if per_byte > 20 * 25 {
                // The estimate is a high one.
                ask_the_clock(per_byte, &hostile, matcher, programs, scratch);
            }
            // The fuzzer looks for inputs that run through this more often.
            for _ in 0..per_byte {
                std::hint::black_box(());
            }
        }
    });
}

fn of_program<'t>(programs: &Programs, program: &'t str, message: &'t [u8]) -> Record<'t> {
    Record {
        program: program.as_bytes(),
        program_id: programs.lookup(program.as_bytes()),
        message,
        repeat: 1,
        ..Record::default()
    }
}

/// Panics if the message takes more than twenty times the time of ordinary ones, byte by byte, and prints the worst.
#[cfg(fuzzing)]
fn ask_the_clock(
    estimate: usize,
    hostile: &Record<'_>,
    matcher: &Matcher,
    programs: &Programs,
    scratch: &mut Scratch,
) {
    static WORST: Mutex<f64> = Mutex::new(0.0);
    let mut nanoseconds = |record: &Record<'_>| {
        let begun = std::time::Instant::now();
        for _ in 0..100 {
            matcher.find(record, scratch, |_| true);
        }
        begun.elapsed().as_secs_f64() * 1e7 / record.message.len().max(100) as f64
    };
    let ordinary = [
        (
            "sshd",
            "Failed password for root from 192.0.2.7 port 22 ssh2",
        ),
        (
            "NTLS",
            "info : 0 : TLS handshake failed for client 192.0.2.1/45678",
        ),
        (
            "smartd",
            "Device: /dev/sda [SAT], 8 Currently unreadable (pending) sectors",
        ),
    ]
    .map(|(program, message)| nanoseconds(&of_program(programs, program, message.as_bytes())));
    let ordinary = ordinary.iter().sum::<f64>() / ordinary.len() as f64;
    // What other processes take of the processor is not the message's cost.
    let dear = (0..5)
        .map(|_| nanoseconds(hostile))
        .fold(f64::MAX, f64::min);
    let ratio = dear / ordinary;
    let mut worst = WORST.lock().expect("the fuzzer stops at the first panic");
    if ratio > *worst {
        *worst = ratio;
        eprintln!(
            "{dear:.1} ns for each byte, {ratio:.1} times an ordinary one's; estimate {estimate}"
        );
    }
    assert!(ratio <= 20.0, "{ratio:.1} times an ordinary one's");
}
