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

fn core(rules: &Arc<RuleSet>) -> Arc<Core> {
    let core = Core::new(rules.clone(), crate::metric::Limits::default(), &[]);
    Arc::new(core.expect("the shipped packs compile"))
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
fn expected(rules: &Arc<RuleSet>, texts: &[(&str, u64)], now: Timestamp) -> Vec<String> {
    let mut engine = Engine::new(core(rules));
    engine.set_now(0);
    for (at, (text, len)) in texts.iter().enumerate() {
        let mut origin = Origin::new(Clock {
            zone: jiff::tz::TimeZone::UTC,
            now,
        });
        origin.appliance = Some(format!("device-{at}"));
        let mut lines = LineBuffer::new(1 << 16);
        lines.push(&text.as_bytes()[..*len as usize], |line| {
            engine.line(&mut origin, line.bytes);
        });
    }
    numbers(&engine.table())
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
        let pattern = directory.path().join("{appliance}.log").display().to_string();
        let mut source = Source::of_flag(vec![pattern.clone()]);
        source.appliance = ApplianceFrom::Path;
        source.time_zone = jiff::tz::TimeZone::UTC;
        let spec = SourceSpec::new("devices", [Pattern::parse(&pattern).unwrap()]);
        let mut tail = Tail::new(vec![spec], tail::Options { watcher: tail::Watcher::Poll, ..Default::default() }, None).unwrap();
        let core = core(&rules);
        let own = Arc::new(OwnMetrics::new("", "", SystemTime::now()));
        let limits = Limits { line_bytes: 1 << 16, threads };
        let mut pipeline = Pipeline::new(core.clone(), own, vec![source], limits);
        let now = Timestamp::from_second(1_771_500_000).unwrap();
        pipeline.set_now(now);
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
                    pipeline.settle();
                    let positions = tail.positions(|file| pipeline.held_bytes(file));
                    let offset = |at: usize| {
                        let path = path(at);
                        positions.files.iter().find(|file| file.path == path).map_or(0, |file| file.offset)
                    };
                    let read: Vec<(&str, u64)> = texts.iter().enumerate().map(|(at, text)| (text.as_str(), offset(at))).collect();
                    let (seen, expected) = (numbers(&core.table()), expected(&rules, &read, now));
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
