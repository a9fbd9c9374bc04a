mod births;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::{Input, Kafka};
use crate::exposition::{Format, encode};
use crate::metric::Limits;
use crate::rules::{self, RuleSet};

/// A fault of our own, that a line makes show: there is no other way to see what becomes of one.
pub(super) fn end_at(message: &[u8]) {
    assert!(!message.ends_with(b"a fault of the exporter"));
}

fn source(appliance: ApplianceFrom) -> Source {
    let mut source = Source::of_flag(Vec::new());
    source.appliance = appliance;
    source.time_zone = jiff::tz::TimeZone::UTC;
    source.input = Input::Kafka(Kafka {
        brokers: vec!["kafka:9092".into()],
        topic: "logs".into(),
        state: None,
        format: RecordFormat::Text,
        tls: None,
        sasl: None,
    });
    source
}

fn built_in() -> Arc<RuleSet> {
    static RULES: std::sync::OnceLock<Arc<RuleSet>> = std::sync::OnceLock::new();
    let load = || Arc::new(rules::load_to_run(&[], rules::Settings::default()).unwrap());
    RULES.get_or_init(load).clone()
}

fn main_engine() -> Engine {
    let limits = Limits {
        appliances: 3,
        ..Limits::default()
    };
    Engine::new(built_in(), limits, &[]).unwrap()
}

fn shard(main: &Engine) -> Shard {
    let limits = Limits {
        appliances: 3,
        ..Limits::default()
    };
    let engine = Arc::new(main.shard(limits, &[]));
    let mut shard = Shard::new(engine, source(ApplianceFrom::Key), 200, Head::default());
    shard.finish_backfill();
    shard
}

const NOW: i64 = 1_700_000_000_000;

fn record<'r>(offset: i64, time_ms: i64, key: &'r str, value: &'r str) -> Record<'r> {
    Record {
        offset,
        time_ms,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
    }
}

fn now() -> Timestamp {
    Timestamp::from_millisecond(NOW).unwrap()
}

/// All series but when notable events became known.
fn shown(shard: &Shard) -> Vec<String> {
    let mut snapshot = shard.engine().table().snapshot();
    snapshot
        .families
        .retain(|(family, _)| &*family.name != "log_event_last_timestamp_seconds");
    let text = String::from_utf8(encode(snapshot, Format::Classic)).unwrap();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_cannot_be_used_is_counted_and_skipped() {
    let mut shard = shard(&main_engine());
    let long = format!("Feb 29 12:05:01 x sshd[7]: {}", "y".repeat(300));
    let records = [
        record(5, NOW - 5000, "hsm1", "Feb 29 12:05:01 x sshd[7]: a"),
        record(6, NOW - 5000, "", "Feb 29 12:05:01 x sshd[7]: a"),
        record(8, NOW - 4000, "hsm1", ""),
        record(9, NOW - 4000, "hsm1", &long),
    ];
    let counted = shard.count(&records, now());
    assert_eq!(
        counted,
        Counted {
            lines: 2,
            bytes: 28 + long.len() as u64,
            too_long: (1, long.len() as u64 - 200),
            dropped: [(Unusable::NoKey, 1), (Unusable::Empty, 1)].into(),
        }
    );
    assert_eq!(shard.head().next_offset, 10);
    assert_eq!(shard.head().last, Some(records[3].identity()));
    // What was counted is not counted again.
    assert_eq!(shard.count(&records[1..], now()), Counted::default());
    assert!(shown(&shard).contains(
        &r#"log_messages_total{appliance="hsm1",program="sshd",severity="unknown"} 2"#.to_owned()
    ));
}

#[test]
fn a_record_that_has_ended_the_process_three_times_is_skipped() {
    let line = "Feb 29 12:05:01 x sshd[7]: a";
    let records = [5, 6, 7].map(|offset| record(offset, NOW - 5000, "hsm1", line));
    for (failures, lines) in [(2, 3), (3, 2)] {
        let mut shard = shard(&main_engine());
        (0..failures).for_each(|_| shard.head.failed_at(6));
        let (head, saved) = shard.save();
        let json = serde_json::to_vec(&(head, saved)).unwrap();
        let (head, saved): (Head, Saved) = serde_json::from_slice(&json).unwrap();
        shard.head = head;
        assert_eq!(saved.series.len(), 0);
        let counted = shard.count(&records[..1], now());
        assert_eq!(counted.lines, 1);
        assert!(shard.head().attempts.is_some());
        let counted = shard.count(&records[1..], now());
        assert_eq!(counted.lines, lines - 1, "{failures}");
        let fatal = counted.dropped.get(&Unusable::Fatal).copied();
        assert_eq!(fatal, (failures == 3).then_some(1));
        assert_eq!(shard.counting(), 7);
        // It is behind us.
        assert_eq!(shard.head().attempts, None);
    }
    // Another record is another matter.
    let mut head = Head::default();
    [6, 6, 7, 7]
        .into_iter()
        .for_each(|offset| head.failed_at(offset));
    assert_eq!(
        (head.given_up(), head.attempts.map(|one| one.count)),
        (None, Some(2))
    );
}

#[test]
fn the_records_time_is_the_clock_but_not_if_it_is_ahead() {
    let mut shard = shard(&main_engine());
    for (offset, time, seconds) in [
        (0, NOW - 7000, NOW / 1000 - 7),
        (1, NOW + 86_400_000, NOW / 1000),
    ] {
        shard.count(
            &[record(offset, time, "a", "Feb 29 12:05:01 x sshd[7]: a")],
            now(),
        );
        let line = format!(
            r#"log_last_message_timestamp_seconds{{appliance="a",program="sshd"}} {seconds}"#
        );
        assert!(shown(&shard).contains(&line), "{:?}", shown(&shard));
    }
}

const LINES: [&str; 6] = [
    "Feb 29 12:05:01 x sshd[7]: Accepted password for admin from 192.0.2.1 port 22 ssh2",
    "Feb 29 12:05:01 x sshd[7]: Server listening on 0.0.0.0 port 22.",
    "Feb 29 12:05:01 x last message repeated 3 times",
    "Feb 29 12:05:01 x smartd[7]: Device: /dev/sda, SMART Failure: FAILURE PREDICTION THRESHOLD EXCEEDED",
    "Feb 29 12:05:01 x kernel: something nobody knows",
    "nothing like a header",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However a log is split into reads, restores by another process and reloads, the same is shown.
    #[test]
    fn any_split_of_a_log_gives_the_same(
        log in prop::collection::vec((0usize..6, 0usize..5, 0i64..200_000), 0..40),
        cuts in prop::collection::vec((0usize..40, 0u8..4), 0..8),
    ) {
        let keys = ["a", "b", "c", "d", "e"];
        let mut time = NOW - 40 * 200_000;
        let records: Vec<Record<'_>> = log.iter().enumerate().map(|(at, (line, key, step))| {
            time += step;
            record(at as i64, time, keys[*key], LINES[*line])
        }).collect();
        // To compile the rules takes longer than all else.
        static ENGINES: std::sync::OnceLock<[Engine; 2]> = std::sync::OnceLock::new();
        let [main, other] = ENGINES.get_or_init(|| [main_engine(), main_engine()]);
        let mut whole = shard(main);
        whole.count(&records, now());

        let mut cuts = cuts;
        cuts.sort();
        let mut parts = shard(main);
        let mut at = 0;
        for (cut, how) in cuts {
            let end = cut.min(records.len());
            parts.count(&records[at.min(end)..end], now());
            at = at.max(end);
            match how {
                0 => {
                    // Killed, and read on by another process.
                    let (head, saved) = parts.save();
                    let json = serde_json::to_vec(&saved).unwrap();
                    let mut next = shard(other);
                    let seconds = head.last.map_or(0, |last| (last.time_ms / 1000) as u32);
                    next.engine().table().set_now(seconds);
                    let restored = next.engine().table().restore_from(&json[..]).unwrap();
                    next.restore(head, &restored);
                    parts = next;
                }
                1 => {
                    // Read on from a state topic, whose records come in any order.
                    let (head, saved) = parts.save();
                    let mut next = shard(other);
                    let seconds = head.last.map_or(0, |last| (last.time_ms / 1000) as u32);
                    next.engine().table().set_now(seconds);
                    let mut restored = Restored::default();
                    for block in split(saved).into_values().rev() {
                        let json = serde_json::to_vec(&block).unwrap();
                        let block: Saved = serde_json::from_slice(&json).unwrap();
                        next.engine().table().restore(&block);
                        restored.repeats.extend(block.repeats);
                        restored.attempts.extend(block.attempts);
                    }
                    next.restore(head, &restored);
                    parts = next;
                }
                2 => {
                    let limits = Limits { appliances: 3, ..Limits::default() };
                    let engine = Arc::new(main.shard(limits, &[]));
                    parts.replace_engine(engine, source(ApplianceFrom::Key));
                }
                _ => {}
            }
        }
        parts.count(&records[at..], now());
        prop_assert_eq!(shown(&parts), shown(&whole));
        prop_assert_eq!(parts.head(), whole.head());
    }
}

#[test]
fn what_a_process_sums_up_over_its_shards_does_not_fall_when_one_begins_anew() {
    let main = main_engine();
    let limits = Limits {
        series_per_metric: 3,
        ..Limits::default()
    };
    let engine = || Arc::new(main.shard(limits, &[]));
    let source = source(ApplianceFrom::Key);
    let mut former = Shard::new(engine(), source, 200, Head::default());
    // One more than there may be.
    let names = ["hsm0", "hsm1", "hsm2", "hsm3"];
    let line = "Nov 14 22:13:20 h sshd[7]: Failed password for root from 192.0.2.1 port 22 ssh2";
    let records: Vec<_> = (0..)
        .zip(names)
        .map(|(offset, name)| record(offset, NOW, name, line))
        .collect();
    former.count(&records, Timestamp::from_millisecond(NOW).unwrap());
    let sums = |engine: &Engine| {
        let hits: u64 = engine.rule_counts().hits.iter().sum();
        let refused: u64 = engine.table().counts().map(|(_, _, refused)| refused).sum();
        (hits, refused)
    };
    let (hits, refused) = sums(former.engine());
    assert!(hits >= 4 && refused > 0, "{hits}, {refused}");
    let anew = engine();
    for times in 1..3 {
        anew.add_counts(former.engine());
        assert_eq!(sums(&anew), (times * hits, times * refused));
    }
    assert_eq!(anew.save().series, Vec::new());
}
