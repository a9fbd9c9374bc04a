//! Whatever threads count, and whenever: the numbers are those of one thread that reads file after file.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Instant, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::metric::{Saved, Table};
use crate::rules::{self, Example, RuleSet, Settings};
use crate::tail::{self, Pattern, SourceSpec, Tail};

const FILES: usize = 5;

fn shipped() -> Arc<RuleSet> {
    Arc::new(rules::load(&[], Settings::default()).expect("the shipped packs are sound"))
}

fn engine(rules: &Arc<RuleSet>) -> Arc<Engine> {
    let engine = Engine::new(rules.clone(), crate::metric::Limits::default(), &[]);
    Arc::new(engine.expect("the shipped packs compile"))
}

/// All examples of the packs, in an order of its own for each `start`.
fn examples(rules: &RuleSet, start: usize) -> String {
    let lines: Vec<&str> = rules
        .rules
        .iter()
        .flat_map(|rule| &rule.examples)
        .filter_map(|example| match example {
            Example::Lines { lines, .. } => Some(lines),
            Example::Not { .. } => None,
        })
        .flatten()
        .map(String::as_str)
        .collect();
    let start = start % lines.len();
    let (before, from) = lines.split_at(start);
    from.iter()
        .chain(before)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// What does not depend on slots or on the time.
fn numbers(table: &Table) -> Vec<String> {
    let Saved { series, .. } = table.save();
    let mut numbers: Vec<String> = series
        .iter()
        .filter(|series| !series.metric.contains("timestamp"))
        .map(|series| format!("{} {:?} {}", series.metric, series.values, series.value))
        .collect();
    numbers.sort_unstable();
    numbers
}

/// What one engine makes of the beginnings of these texts, each about a device of its own.
fn expected(rules: &Arc<RuleSet>, texts: &[(&str, u64)]) -> Vec<String> {
    let mut worker = Worker::new(engine(rules));
    for (at, (text, len)) in texts.iter().enumerate() {
        let mut origin = StreamContext::new(Clock {
            zone: jiff::tz::TimeZone::UTC,
            now: NOW,
        });
        origin.appliance = Some(format!("device-{at}"));
        let mut lines = LineBuffer::new(1 << 16);
        let mut repeats = Repeats::default();
        let mut batch = worker.batch(0, Some(&mut repeats));
        lines.push(&text.as_bytes()[..*len as usize], |line| {
            batch.line(&mut origin, line.bytes);
        });
    }
    numbers(&worker.engine().table())
}

const NOW: Timestamp = Timestamp::constant(1_771_500_000, 0);

/// A rule of several programs, a header with several severities: whatever is looked up only once must be the same the
/// next time.
#[test]
fn caches_of_a_worker_change_nothing() {
    let rules = shipped();
    let examples = examples(&rules, 0);
    let read = |caches: bool| {
        let mut worker = Worker::new(engine(&rules));
        let mut repeats = Repeats::default();
        let mut origin = StreamContext::new(Clock {
            zone: jiff::tz::TimeZone::UTC,
            now: NOW,
        });
        origin.fallback = Some("device".to_owned());
        for line in examples.lines().chain(examples.lines()) {
            let mut batch = worker.batch(0, Some(&mut repeats));
            batch.line(&mut origin, line.as_bytes());
            drop(batch);
            if !caches {
                worker.invalidate();
            }
        }
        numbers(&worker.engine().table())
    };
    assert_eq!(read(true), read(false));
}

/// A scrape may come before the worker has flushed what it counted.
#[test]
fn a_new_appliance_was_never_heard_of_in_1970() {
    let mut worker = Worker::new(engine(&shipped()));
    let engine = worker.engine().clone();
    let mut origin = StreamContext::new(Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: NOW,
    });
    let mut batch = worker.batch(1_771_500_000, None);
    for text in ["Connection closed by 192.0.2.1", "*** TEST : x"] {
        let line = format!("Feb 29 12:05:01 hsm1 sshd[7]: {text}");
        batch.line(&mut origin, line.as_bytes());
    }
    let saved = engine.table().save();
    let is_last = |metric: &str| metric == "log_last_message_timestamp_seconds";
    let heard: Vec<f64> = saved
        .series
        .iter()
        .filter(|series| is_last(&series.metric))
        .map(|series| series.value)
        .collect();
    assert!(!heard.is_empty());
    assert!(heard.iter().all(|at| *at == 1_771_500_000.0), "{heard:?}");
}

/// What follows the files of a directory, each about the device that it is called after.
fn following(directory: &Path, engine: Arc<Engine>, threads: usize) -> (Tail, Pipeline) {
    going_on(directory, engine, threads, None)
}

/// The same, from where another one stood.
fn going_on(
    directory: &Path,
    engine: Arc<Engine>,
    threads: usize,
    positions: Option<tail::Positions>,
) -> (Tail, Pipeline) {
    let pattern = directory.join("{appliance}.log").display().to_string();
    let mut source = Source::of_flag(vec![pattern.clone()]);
    source.appliance = ApplianceFrom::Path;
    source.time_zone = jiff::tz::TimeZone::UTC;
    let mut spec = SourceSpec::new("devices", [Pattern::parse(&pattern).unwrap()]);
    let clock = Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: NOW,
    };
    spec.line_time = Some(tail::LineTime::new(move |line| {
        crate::record::outer_timestamp(line, &clock).map(|at| at.as_second())
    }));
    let options = tail::Options {
        watcher: tail::Watcher::Poll,
        ..Default::default()
    };
    let own = Arc::new(OwnMetrics::new("", "", SystemTime::now()));
    let limits = Limits {
        line_bytes: 1 << 16,
        threads,
    };
    let mut pipeline = Pipeline::new(engine, own, vec![source], limits);
    pipeline.set_now(NOW);
    (Tail::new(vec![spec], options, positions).unwrap(), pipeline)
}

#[derive(Clone, Debug)]
enum Step {
    /// So many bytes are appended to a file.
    Append(usize, usize),
    Read,
    /// Positions and numbers are taken, and compared.
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..FILES, prop_oneof![1usize..5_000, 100_000usize..400_000]).prop_map(|(file, len)| Step::Append(file, len)),
        2 => Just(Step::Read),
        1 => Just(Step::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn threads_count_as_one_does(steps in proptest::collection::vec(step(), 1..16), threads in 1usize..5) {
        let rules = shipped();
        let texts: Vec<String> = (0..FILES).map(|at| examples(&rules, at * 211).repeat(40)).collect();
        let directory = tempfile::tempdir().unwrap();
        let path = |at: usize| directory.path().join(format!("device-{at}.log"));
        let (mut tail, mut pipeline) = following(directory.path(), engine(&rules), threads);
        let engine = pipeline.worker.engine().clone();
        let mut written = [0; FILES];
        let mut clock = Instant::now();
        for step in steps.into_iter().chain([Step::Checkpoint]) {
            match step {
                Step::Append(at, len) => {
                    let rest = &texts[at][written[at]..];
                    let len = len.min(rest.len());
                    let mut file = OpenOptions::new().create(true).append(true).open(path(at)).unwrap();
                    file.write_all(&rest.as_bytes()[..len]).unwrap();
                    written[at] += len;
                }
                Step::Read => {
                    // Late enough for every file to be looked at.
                    clock += std::time::Duration::from_secs(10);
                    tail.read(clock, &mut pipeline);
                }
                Step::Checkpoint => {
                    pipeline.drain();
                    let positions = tail.positions(|file| pipeline.held_bytes(file));
                    let offset = |at: usize| {
                        let path = path(at);
                        positions.files.iter().find(|file| file.path == path).map_or(0, |file| file.offset)
                    };
                    let read: Vec<(&str, u64)> = texts.iter().enumerate().map(|(at, text)| (text.as_str(), offset(at))).collect();
                    let (seen, expected) = (numbers(&engine.table()), expected(&rules, &read));
                    let only = |ours: &[String], theirs: &[String]| -> Vec<String> {
                        ours.iter().filter(|one| theirs.binary_search(one).is_err()).cloned().collect()
                    };
                    // What differs, since all of it fills a screen.
                    prop_assert_eq!(only(&seen, &expected), only(&expected, &seen));
                }
            }
        }
    }
}

#[test]
fn a_line_that_the_end_of_its_file_completes_knows_what_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hsm.log");
    let line = "2012 Feb 29 12:00:00 hsm  syslog warn  crontab: DISK FULL: WARNING! First log threshold reached 75%. Please clean up";
    // The second has no line feed.
    std::fs::write(&path, format!("{line}\n{line}")).unwrap();
    let (mut tail, mut pipeline) = following(directory.path(), engine(&shipped()), 1);
    let engine = pipeline.worker.engine().clone();
    let shown = |name: &str| {
        let all = numbers(&engine.table());
        all.into_iter().find(|series| series.starts_with(name))
    };
    let mut clock = Instant::now();
    tail.read(clock, &mut pipeline);
    let used = shown("appliance_log_disk_used_ratio");
    assert!(used.is_some());
    pipeline.set_now(NOW + jiff::SignedDuration::from_hours(72));
    engine
        .table()
        .set_now(u32::try_from(pipeline.now.as_second()).unwrap());
    assert!(engine.table().expire() > 0);
    assert_eq!(shown("appliance_log_disk_used_ratio"), None);
    std::fs::rename(&path, directory.path().join("hsm.log.1")).unwrap();
    std::fs::write(&path, "").unwrap();
    for _ in 0..20 {
        clock += std::time::Duration::from_secs(10);
        tail.read(clock, &mut pipeline);
    }
    assert_eq!(pipeline.path(&path).lines, 2);
    assert_eq!(shown("appliance_log_disk_used_ratio"), used);
}

/// An exporter on the log of `hsm1`, and what happens to its files.
struct Hsm1 {
    directory: tempfile::TempDir,
    rules: Arc<RuleSet>,
    tail: Tail,
    pipeline: Pipeline,
    clock: Instant,
}

/// A line of the fan and its speed, written at this time of the day of [`NOW`], which is 11:20.
fn fan(time: &str, rpm: u32) -> String {
    format!(
        "2026 Feb 19 {time} hsm1 local4 notice ipmievd: Fan sensor Fan3B . Lower Critical going low (Reading {rpm} < Threshold 2000 RPM)\n"
    )
}

impl Hsm1 {
    fn new() -> Self {
        let (directory, rules) = (tempfile::tempdir().unwrap(), shipped());
        let (tail, pipeline) = following(directory.path(), engine(&rules), 1);
        Self {
            directory,
            rules,
            tail,
            pipeline,
            clock: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn append(&mut self, name: &str, text: &str) -> &mut Self {
        let path = self.path(name);
        let mut file = OpenOptions::new().create(true).append(true).open(path);
        file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        self
    }

    fn rename(&mut self, from: &str, to: &str) -> &mut Self {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
        self
    }

    fn read(&mut self) -> &mut Self {
        for _ in 0..6 {
            self.clock += std::time::Duration::from_secs(6);
            self.tail.read(self.clock, &mut self.pipeline);
        }
        self
    }

    fn restart(&mut self) -> &mut Self {
        let positions = self.tail.positions(|file| self.pipeline.held_bytes(file));
        let engine = engine(&self.rules);
        engine.table().set_now(NOW.as_second() as u32);
        engine
            .table()
            .restore(&self.pipeline.worker.engine().table().save());
        (self.tail, self.pipeline) = going_on(self.directory.path(), engine, 1, Some(positions));
        self
    }

    /// The state of the fan (0 nominal, 2 critical), and how often it failed and recovered.
    fn fan(&self) -> (f64, f64) {
        let saved = self.pipeline.worker.engine().table().save();
        let sum = |metric: &str| {
            let of = saved.series.iter().filter(|s| &*s.metric == metric);
            of.map(|series| series.value).sum()
        };
        (sum("ipmi_sensor_state"), sum("ipmi_sensor_events_total"))
    }
}

#[test]
fn what_is_read_late_counts_and_sets_no_gauge_back() {
    for (then, now, state) in [(0, 15_900, 0.0), (15_900, 0, 2.0)] {
        for restarts in [false, true] {
            let mut hsm1 = Hsm1::new();
            hsm1.append("hsm1.log", &fan("11:10:00", now)).read();
            assert_eq!(hsm1.fan(), (state, 1.0));
            if restarts {
                hsm1.restart();
            }
            // A rotated file that could not be read before its successor was.
            let older = fan("11:00:00", now) + &fan("11:05:00", then) + &fan("11:11:00", now);
            let older = older + &fan("11:12:00", then);
            hsm1.append("hsm1.log.2", &older)
                .rename("hsm1.log", "hsm1.log.1")
                .append("hsm1.log", "")
                .read();
            assert_eq!(hsm1.fan(), (state, 5.0), "{then}, restarted: {restarts}");
            // A late writer, whose last line has no line feed.
            let late = fan("11:15:00", then) + fan("11:16:00", then).trim_end();
            hsm1.append("hsm1.log", &fan("11:13:00", now))
                .rename("hsm1.log", "hsm1.log.0")
                .append("hsm1.log", &fan("11:17:00", now));
            hsm1.clock += std::time::Duration::from_secs(6);
            hsm1.tail.read(hsm1.clock, &mut hsm1.pipeline);
            hsm1.append("hsm1.log.0", &late).read().read();
            assert_eq!(hsm1.fan(), (state, 9.0), "{then}, restarted: {restarts}");
            // And a live line always does.
            hsm1.append("hsm1.log", &fan("11:01:00", then)).read();
            assert_eq!(hsm1.fan(), (2.0 - state, 10.0));
        }
    }
}

#[test]
fn what_is_read_in_order_sets_gauges_in_order() {
    let mut hsm1 = Hsm1::new();
    hsm1.append("hsm1.log", &fan("11:00:00", 0)).read();
    hsm1.append("hsm1.log", &fan("11:01:00", 15_900))
        .rename("hsm1.log", "hsm1.log.1")
        .append("hsm1.log", "")
        .read();
    assert_eq!(hsm1.fan(), (0.0, 2.0));
    // Rotated twice while we are stopped.
    hsm1.append("hsm1.log", &fan("11:02:00", 0)).read();
    hsm1.restart()
        .append("hsm1.log", &fan("11:03:00", 15_900))
        .rename("hsm1.log.1", "hsm1.log.3")
        .rename("hsm1.log", "hsm1.log.2")
        .append("hsm1.log.1", &fan("11:04:00", 0))
        .append("hsm1.log", "")
        .read();
    assert_eq!(hsm1.fan(), (2.0, 5.0));
    hsm1.restart()
        .append("hsm1.log", &fan("11:05:00", 15_900))
        .read();
    assert_eq!(hsm1.fan(), (0.0, 6.0));
}

#[test]
fn a_late_line_sets_a_gauge_that_nothing_has_set_since() {
    let mut hsm1 = Hsm1::new();
    let sel = "2026 Feb 19 11:10:00 hsm1 local4 warning ipmievd: SEL buffer is 85% full, please consider clearing the SEL buffer\n";
    hsm1.append("hsm1.log", sel).read();
    // The last of its lines stays.
    let older = fan("11:00:00", 0) + &fan("11:05:00", 15_900) + &fan("11:11:00", 0);
    hsm1.append("hsm1.log.2", &older)
        .rename("hsm1.log", "hsm1.log.1")
        .append("hsm1.log", "")
        .read();
    assert_eq!(hsm1.fan(), (2.0, 3.0));
    // A late writer's line is the youngest.
    hsm1.append("hsm1.log", &fan("11:19:00", 15_900))
        .read()
        .rename("hsm1.log", "hsm1.log.0")
        .append("hsm1.log", &fan("11:20:00", 15_900));
    hsm1.clock += std::time::Duration::from_secs(6);
    hsm1.tail.read(hsm1.clock, &mut hsm1.pipeline);
    assert_eq!(hsm1.fan(), (0.0, 5.0));
    hsm1.pipeline
        .set_now(NOW + jiff::SignedDuration::from_mins(5));
    hsm1.append("hsm1.log.0", &fan("11:24:00", 0)).read();
    assert_eq!(hsm1.fan(), (2.0, 6.0));
}
