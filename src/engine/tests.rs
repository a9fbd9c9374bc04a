use proptest::prelude::*;

use super::*;
use crate::metric::Saved;
use crate::rules::{self, Settings};
use crate::update::MemoLimits;

const NOW: u32 = 1_771_500_000;

fn shipped() -> Arc<RuleSet> {
    Arc::new(rules::load(&[], Settings::default()).expect("the shipped packs are sound"))
}

fn engine(limits: Limits, listed: &[&str]) -> Arc<Engine> {
    let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
    Arc::new(Engine::new(shipped(), limits, &listed).expect("the shipped packs compile"))
}

fn origin() -> StreamContext {
    StreamContext::new(Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: jiff::Timestamp::from_second(i64::from(NOW)).expect("a time"),
    })
}

/// The sum over the series of a metric that have all these label values.
fn sum(engine: &Engine, metric: &str, values: &[&str]) -> f64 {
    let snapshot = engine.table().snapshot();
    let families = snapshot.families.iter();
    families
        .filter(|(family, _)| &*family.name == metric)
        .flat_map(|(_, series)| series)
        .filter(|series| {
            let mut values = values.iter();
            values.all(|value| series.values.iter().any(|own| **own == **value))
        })
        .map(|series| series.value)
        .sum()
}

fn series(engine: &Engine, appliance: &str) -> usize {
    let saved = engine.table().save();
    let of = saved.series.iter();
    of.filter(|series| *series.values[0] == *appliance).count()
}

fn failed(host: &str) -> String {
    format!("Feb 29 12:05:01 {host} sshd[7]: Failed password for root from 192.0.2.1 port 22 ssh2")
}

fn repeated(host: &str, times: u64) -> String {
    format!("Feb 29 12:05:01 {host} last message repeated {times} times")
}

fn failures(engine: &Engine, host: &str) -> f64 {
    sum(engine, "sshd_login_failures_total", &[host])
}

/// Whether somebody got in after many failures, as read from old logs.
fn got_in_after_failures(lines: &[&str]) -> bool {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let mut origin = origin();
    origin.event_time = EventTime::Record;
    let mut batch = worker.batch(NOW, None);
    for line in lines {
        batch.line(&mut origin, line.as_bytes());
    }
    drop(batch);
    sum(
        &engine,
        "log_event_last_timestamp_seconds",
        &["login_after_failures"],
    ) > 0.0
}

#[test]
fn many_failures_of_one_address_are_a_row_until_a_pause_or_a_success() {
    let fails = |time: &str, times: u32| {
        format!(
            "2026-02-12T{time}Z h1 sshd[1]: message repeated {times} times: [ Failed password for root from 192.0.2.7 port 22 ssh2]"
        )
    };
    let gets_in = |time: &str, host: &str, message: &str| {
        format!("2026-02-12T{time}Z {host} sshd[1]: {message} from 192.0.2.7 port 22 ssh2")
    };
    let password = "Accepted password for root";
    let (six, six_soon, six_late) = (
        fails("10:00:00", 6),
        fails("10:20:00", 6),
        fails("10:31:00", 6),
    );
    let now = gets_in("10:32:00", "h1", password);
    assert!(got_in_after_failures(&[&six, &six_soon, &now]));
    assert!(!got_in_after_failures(&[&six, &six_late, &now]), "a pause");
    let before = gets_in("10:10:00", "h1", password);
    assert!(
        !got_in_after_failures(&[&six, &before, &six_soon, &now]),
        "a success"
    );
    let key = gets_in("10:10:00", "h1", "Accepted publickey for root");
    assert!(
        got_in_after_failures(&[&six, &key, &six_soon, &now]),
        "a key"
    );
    let elsewhere = gets_in("10:32:00", "h2", password);
    assert!(
        !got_in_after_failures(&[&six, &six_soon, &elsewhere]),
        "another appliance"
    );
    // What the appliance's own test writes is none.
    let test = now.replace("Accepted", "***TEST : Accepted");
    assert!(!got_in_after_failures(&[&six, &six_soon, &test]), "a test");
}

#[test]
fn a_repetition_is_of_the_last_line_of_its_appliance() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let (mut origin, mut repeats) = (origin(), Repeats::default());
    let lines = [
        failed("h1"),
        failed("h2"),
        repeated("h1", 5),
        repeated("h2", 3),
        // Nothing is known of this one.
        repeated("h3", 7),
    ];
    let mut batch = worker.batch(NOW, Some(&mut repeats));
    for line in &lines {
        batch.line(&mut origin, line.as_bytes());
    }
    drop(batch);
    assert_eq!(
        (failures(&engine, "h1"), failures(&engine, "h2")),
        (6.0, 4.0)
    );
    assert_eq!(sum(&engine, "log_messages_total", &["h1"]), 6.0);
    assert_eq!(engine.rule_counts().repeats_unattributed, 7);

    // Over a restart, by names; and over a removal of other series, which gives slots another meaning.
    let saved = repeats.save(&engine, "/x", 10);
    let json = serde_json::to_vec(&engine.table().save()).expect("names and numbers");
    let after = self::engine(Limits::default(), &[]);
    after.table().set_now(NOW);
    let restored = after
        .table()
        .restore_from(&json[..])
        .expect("what was saved");
    assert_eq!(restored.dropped, 0);
    let mut repeats = Repeats::default();
    saved
        .iter()
        .for_each(|saved| repeats.restore(&after, saved));
    assert!(after.forget_appliance("h2"));
    let mut worker = Worker::new(after.clone());
    let mut batch = worker.batch(NOW, Some(&mut repeats));
    batch.line(&mut origin, repeated("h1", 4).as_bytes());
    batch.line(&mut origin, repeated("h2", 4).as_bytes());
    drop(batch);
    assert_eq!(
        (failures(&after, "h1"), failures(&after, "h2")),
        (10.0, 0.0)
    );
    assert_eq!(after.rule_counts().repeats_unattributed, 4);
}

#[test]
fn caches_that_are_full_again_and_again_count_the_same() {
    let lines: Vec<Vec<u8>> = ["luna", "kmd", "ktls", "clavister"]
        .into_iter()
        .flat_map(|name| {
            let path = format!("tests/fixtures/catalogue/{name}.log");
            let text = std::fs::read(&path).expect("a fixture");
            let lines = text.split(|byte| *byte == b'\n');
            lines.map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    let replay = |limits: CacheLimits| {
        let engine = engine(Limits::default(), &[]);
        let mut worker = Worker::with_limits(engine.clone(), limits);
        let (mut origin, mut repeats) = (origin(), Repeats::default());
        origin.event_time = EventTime::Record;
        let mut batch = worker.batch(NOW, Some(&mut repeats));
        for _ in 0..2 {
            for line in &lines {
                batch.line(&mut origin, line);
            }
        }
        drop(batch);
        let saved = engine.table().save();
        let hits = engine.rule_counts().hits.clone();
        (format!("{saved:?}"), hits)
    };
    let limits = CacheLimits::default();
    let expected = replay(limits);
    let (memo, with_memo) = (limits.memo, |memo| CacheLimits { memo, ..limits });
    for small in [
        CacheLimits {
            headers: 3,
            ..limits
        },
        CacheLimits { hosts: 1, ..limits },
        with_memo(MemoLimits {
            rows_max: 2,
            ..memo
        }),
        with_memo(MemoLimits {
            key_bytes_max: 40,
            ..memo
        }),
        with_memo(MemoLimits {
            plans_max: 1,
            ..memo
        }),
    ] {
        assert!(replay(small) == expected, "{small:?}");
    }
}

#[test]
fn repetitions_of_lines_that_are_not_known_any_more_are_counted_as_such() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let (mut origin, mut repeats) = (origin(), Repeats::new(2));
    let lines = [
        failed("h1"),
        failed("h2"),
        failed("h3"),
        repeated("h1", 5),
        repeated("h3", 3),
    ];
    let mut batch = worker.batch(NOW, Some(&mut repeats));
    for line in &lines {
        batch.line(&mut origin, line.as_bytes());
    }
    drop(batch);
    let counts = ["h1", "h2", "h3"].map(|host| failures(&engine, host));
    assert_eq!(counts, [1.0, 1.0, 4.0]);
    assert_eq!(engine.rule_counts().repeats_unattributed, 5);
}

#[test]
fn more_repetitions_than_are_plausible_are_counted_as_such() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let (mut origin, mut repeats) = (origin(), Repeats::default());
    let inner = "Failed password for root from 192.0.2.1 port 22 ssh2";
    let summed = format!("Feb 29 12:05:01 h2 sshd[7]: message repeated 10001 times: [ {inner}]");
    let mut batch = worker.batch(NOW, Some(&mut repeats));
    batch.line(&mut origin, failed("h1").as_bytes());
    batch.line(&mut origin, repeated("h1", 4_294_967_295).as_bytes());
    batch.line(&mut origin, summed.as_bytes());
    drop(batch);
    assert_eq!(failures(&engine, "h1"), 10_001.0);
    assert_eq!(failures(&engine, "h2"), 10_000.0);
    let implausible = engine.rule_counts().repeats_implausible;
    assert_eq!(implausible, 4_294_967_295 - 10_000 + 1);
}

/// One sender makes up hosts; each costs what its lines say, and no zeros.
#[test]
fn forged_hosts_cost_no_more_than_their_lines() {
    for hosts in [100, 1_000, 10_000] {
        let engine = engine(Limits::default(), &[]);
        let mut worker = Worker::new(engine.clone());
        let mut origin = origin();
        let mut batch = worker.batch(NOW, None);
        for host in 0..hosts {
            batch.line(&mut origin, format!("a{host} NTLS:").as_bytes());
        }
        drop(batch);
        let all = engine.table().save().series.len();
        assert!(all <= 4 * hosts, "{all} series of {hosts} hosts");
    }
}

#[test]
fn an_appliance_starts_at_zero_if_it_is_trusted_or_has_earned_it() {
    let zeros = |engine: &Engine, name: &str| series(engine, name) > 100;
    let line = |host: &str| format!("Feb 29 12:05:01 {host} NTLS[1]: info : 0 : Terminating.");
    let read = |engine: &Arc<Engine>, origin: &mut StreamContext, now: u32, host: &str| {
        let mut worker = Worker::new(engine.clone());
        worker.batch(now, None).line(origin, line(host).as_bytes());
    };
    // Listed, or named by the path.
    let listed = engine(Limits::default(), &["hsm1"]);
    read(&listed, &mut origin(), NOW, "hsm1");
    assert!(zeros(&listed, "hsm1"));
    let engine = engine(Limits::default(), &[]);
    let mut by_path = origin();
    by_path.appliance = Some("hsm2".into());
    read(&engine, &mut by_path, NOW, "whoever");
    assert!(zeros(&engine, "hsm2"));
    // By lines over time: neither alone.
    for _ in 0..20 {
        read(&engine, &mut origin(), NOW, "many");
    }
    read(&engine, &mut origin(), NOW, "old");
    engine.maintain(NOW + 599);
    assert!(!zeros(&engine, "many"));
    engine.maintain(NOW + 600);
    assert!(zeros(&engine, "many") && !zeros(&engine, "old"));
}

#[test]
fn a_counter_that_never_counted_is_left_out_if_asked() {
    let limits = |are_counters_lazy| Limits {
        are_counters_lazy,
        ..Limits::default()
    };
    let (eager, lazy) = (
        engine(limits(false), &["hsm1"]),
        engine(limits(true), &["hsm1"]),
    );
    let read = |engine: &Arc<Engine>| {
        let mut worker = Worker::new(engine.clone());
        let mut origin = origin();
        let mut batch = worker.batch(NOW, None);
        batch.line(
            &mut origin,
            b"Feb 29 12:05:01 hsm1 NTLS[1]: info : 0 : Terminating.",
        );
        batch.line(&mut origin, failed("hsm1").as_bytes());
    };
    // All that differs are counters at 0, also where they were saved before.
    let shown = |engine: &Engine| {
        let saved = engine.table().save().series.into_iter();
        let is_counter = |name: &str| name.ends_with("_total");
        let counted = saved.filter(|one| one.value != 0.0 || !is_counter(&one.metric));
        let mut all: Vec<_> = counted
            .map(|one| (one.metric, one.values, one.value.to_bits()))
            .collect();
        all.sort();
        all
    };
    [&eager, &lazy].into_iter().for_each(read);
    let counts = (series(&eager, "hsm1"), series(&lazy, "hsm1"));
    assert!(counts.0 > 100 && counts.1 < 20, "{counts:?}");
    assert_eq!(shown(&lazy), shown(&eager));
    assert_eq!(shown(&lazy).len(), lazy.table().save().series.len());
    let restored = engine(limits(true), &["hsm1"]);
    let dropped = restored.table().restore(&eager.table().save());
    assert_eq!((dropped, series(&restored, "hsm1")), (0, counts.1));
    read(&restored);
    read(&eager);
    assert_eq!(shown(&restored), shown(&eager));
}

#[test]
fn over_the_budget_the_least_deserving_go_and_a_known_appliance_keeps_its_series() {
    let limits = Limits {
        series: 4_000,
        ..Limits::default()
    };
    let engine = engine(limits, &[]);
    let mut worker = Worker::new(engine.clone());
    let mut known = origin();
    known.appliance = Some("hsm1".into());
    let mut forged = origin();
    let before = {
        let mut batch = worker.batch(NOW, None);
        batch.line(
            &mut known,
            b"Feb 29 12:05:01 x NTLS[1]: info : 0 : Terminating.",
        );
        drop(batch);
        series(&engine, "hsm1")
    };
    for round in 0..20 {
        let mut batch = worker.batch(NOW + round, None);
        for host in 0..1_000 {
            batch.line(&mut forged, format!("a{round}x{host} NTLS:").as_bytes());
        }
        // It needs more series while others use up the budget.
        let line = format!(
            "Feb 29 12:05:01 x kernel: k7pf0: [HSM] ALM20{:02}: x",
            round
        );
        batch.line(&mut known, line.as_bytes());
        drop(batch);
        let all = engine.table().save().series.len();
        // The overflow's own series may exceed it.
        assert!(all <= 4_000 + 20, "{all}");
        engine.maintain(NOW + round);
    }
    assert!(series(&engine, "hsm1") > before);
    let table = engine.table();
    assert!(table.evictions().map(|(_, count)| count).sum::<u64>() > 0);
    assert!(table.counts().map(|(_, _, refused)| refused).sum::<u64>() > 0);
}

/// Who makes up names can also wait until they have earned their zeros.
#[test]
fn what_forged_names_have_earned_gives_way_to_a_known_appliance() {
    let limits = Limits {
        series: 4_000,
        ..Limits::default()
    };
    let engine = engine(limits, &[]);
    let mut worker = Worker::new(engine.clone());
    let mut forged = origin();
    for round in 0..20 {
        let mut batch = worker.batch(NOW + round, None);
        for host in 0..100 {
            batch.line(&mut forged, format!("a{host} NTLS:").as_bytes());
        }
    }
    engine.maintain(NOW + 700);
    assert!(engine.table().save().series.len() > 2_500);
    let mut known = origin();
    known.appliance = Some("hsm1".into());
    for round in 0..3 {
        let mut batch = worker.batch(NOW + 700 + round, None);
        for host in 0..1_000 {
            batch.line(&mut forged, format!("b{round}x{host} NTLS:").as_bytes());
        }
        batch.line(
            &mut known,
            b"Feb 29 12:05:01 x NTLS[1]: info : 0 : Terminating.",
        );
        batch.line(
            &mut known,
            b"Feb 29 12:05:01 x kernel: k7pf0: [HSM] ALM2007: HSM zeroized",
        );
        drop(batch);
        engine.maintain(NOW + 700 + round);
    }
    let zeroized = ["hsm1", "hsm_zeroized"];
    assert_eq!(sum(&engine, "log_events_total", &zeroized), 3.0);
    assert!(series(&engine, "hsm1") > 250, "{}", series(&engine, "hsm1"));
}

/// One metric is used up, and the budget is not.
#[test]
fn forged_names_do_not_use_up_a_metric() {
    let limits = Limits {
        series_per_metric: 1_000,
        ..Limits::default()
    };
    let engine = engine(limits, &[]);
    let mut worker = Worker::new(engine.clone());
    let mut forged = origin();
    let mut known = origin();
    known.appliance = Some("hsm1".into());
    let mut batch = worker.batch(NOW, None);
    let forge = |batch: &mut Batch<'_>, forged: &mut StreamContext, round: u32| {
        for host in 0..100 {
            for name in 0..20 {
                let line = fan(&format!("F{round}x{name}"), "going low");
                let line = line.replace("hsm1", &format!("a{host}"));
                batch.line(forged, line.as_bytes());
            }
        }
    };
    forge(&mut batch, &mut forged, 0);
    batch.line(&mut known, fan("Fan2A", "going low").as_bytes());
    drop(batch);
    assert_eq!(sum(&engine, "ipmi_sensor_state", &["hsm1", "Fan2A"]), 2.0);
    // Another appliance that a header names has its share once those that say least have gone.
    engine.maintain(NOW);
    let mut batch = worker.batch(NOW, None);
    let line = fan("Fan2A", "going low").replace("hsm1", "honest");
    batch.line(&mut forged, line.as_bytes());
    drop(batch);
    assert_eq!(sum(&engine, "ipmi_sensor_state", &["honest", "Fan2A"]), 2.0);
}

/// Whatever a former process had, the table stays within its budget while it is read.
#[test]
fn a_state_over_the_budget_is_restored_within_it() {
    let big = engine(Limits::default(), &[]);
    let mut worker = Worker::new(big.clone());
    let mut lines = origin();
    let mut batch = worker.batch(NOW, None);
    for host in 0..5_000 {
        batch.line(&mut lines, format!("a{host} NTLS:").as_bytes());
    }
    drop(batch);
    let saved: Saved = big.table().save();
    let json = serde_json::to_vec(&saved).expect("names and numbers");
    let limits = Limits {
        series: 2_000,
        ..Limits::default()
    };
    let small = engine(limits, &[]);
    small.table().set_now(NOW);
    let restored = small.table().restore_from(&json[..]).expect("a table");
    assert!(restored.dropped > 0 && restored.series + restored.dropped == saved.series.len());
    assert!(small.table().save().series.len() <= 2_000 + 20);
}

#[test]
fn appliances_expire_by_the_clock_and_can_be_forgotten() {
    let day = 86_400;
    let read = |engine: &Arc<Engine>, now: u32, host: &str| {
        let mut worker = Worker::new(engine.clone());
        let line = format!("Feb 29 12:05:01 {host} NTLS[1]: info : 0 : Terminating.");
        worker.batch(now, None).line(&mut origin(), line.as_bytes());
    };
    let names = |engine: &Engine| -> Vec<String> {
        engine
            .table()
            .appliances()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let core_ = engine(Limits::default(), &[]);
    read(&core_, NOW, "mistyped");
    read(&core_, NOW + 29 * day, "hsm1");
    core_.maintain(NOW + 30 * day - 1);
    assert_eq!(names(&core_), ["mistyped", "hsm1"]);
    core_.maintain(NOW + 30 * day);
    assert_eq!(
        (names(&core_), series(&core_, "mistyped")),
        (vec!["hsm1".to_owned()], 0)
    );
    // A new one may take its place.
    read(&core_, NOW + 30 * day, "hsm2");
    assert_eq!(sum(&core_, "log_messages_total", &["hsm2"]), 1.0);
    assert!(core_.forget_appliance("hsm1") && !core_.forget_appliance("hsm1"));
    assert!(!core_.forget_appliance("h9"));
    assert_eq!(names(&core_), ["hsm2"]);

    // Those that are listed stay, but if a time is set.
    let listed = engine(Limits::default(), &["hsm1"]);
    read(&listed, NOW, "hsm1");
    listed.maintain(NOW + 400 * day);
    assert!(series(&listed, "hsm1") > 0);
    let limits = Limits {
        appliance_expiry_seconds: Some(day),
        ..Limits::default()
    };
    let listed = engine(limits, &["hsm1"]);
    read(&listed, NOW, "hsm1");
    listed.maintain(NOW + day);
    assert_eq!(series(&listed, "hsm1"), 0);
    read(&listed, NOW + day, "hsm1");
    assert_eq!(sum(&listed, "log_messages_total", &["hsm1"]), 1.0);
}

/// The clock goes a year ahead, and comes back.
#[test]
fn a_clock_that_is_set_ages_nothing_and_leaves_no_time_in_the_future() {
    let year = 365 * 86_400;
    let engine = engine(Limits::default(), &[]);
    let read = |now: u32, host: &str| {
        let mut worker = Worker::new(engine.clone());
        let line = format!("Feb 29 12:05:01 {host} NTLS[1]: info : 0 : Terminating.");
        worker.batch(now, None).line(&mut origin(), line.as_bytes());
    };
    let last = |host: &str| {
        sum(
            &engine,
            "log_last_message_timestamp_seconds",
            &[host, "NTLS"],
        )
    };
    read(NOW, "silent");
    engine.clock_was_set(NOW + year, i64::from(year));
    engine.maintain(NOW + year);
    assert_eq!(last("silent"), f64::from(NOW));
    read(NOW + year, "falls-silent");
    engine.clock_was_set(NOW + 60, -i64::from(year));
    engine.maintain(NOW + 60);
    assert_eq!(last("silent"), f64::from(NOW));
    assert_eq!(last("falls-silent"), f64::from(NOW + 60));
    // They expire as if nothing had happened.
    engine.maintain(NOW + 30 * 86_400 - 1);
    assert_eq!(engine.table().appliances().len(), 2);
    engine.maintain(NOW + 30 * 86_400 + 60);
    assert_eq!(engine.table().appliances().len(), 0);
}

/// A fan that stops, or turns again.
fn fan(name: &str, event: &str) -> String {
    let reading = match event {
        "going low" => "500 <",
        _ => "9800 >",
    };
    format!(
        "Feb 29 12:05:01 hsm1 ipmievd: Fan sensor {name} . Lower Critical {event}  (Reading {reading} Threshold 2000 RPM)"
    )
}

/// Forged sensor names do not hide a fan that fails, in the same batch and in later ones.
#[test]
fn a_flood_of_sensors_does_not_hide_a_real_fault() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let state = |name: &str| sum(&engine, "ipmi_sensor_state", &["hsm1", name]);
    let mut lines = origin();
    lines.appliance = Some("hsm1".into());
    for round in 0..3 {
        let mut batch = worker.batch(NOW + round, None);
        // It is known before, and pushed out by those that come after it.
        batch.line(&mut lines, fan("Fan2A", "going low").as_bytes());
        batch.line(&mut lines, fan("Fan2A", "going high").as_bytes());
        for forged in 0..3_000 {
            let name = format!("x{round}x{forged}");
            batch.line(&mut lines, fan(&name, "going high").as_bytes());
        }
        batch.line(&mut lines, fan("Fan2A", "going low").as_bytes());
        drop(batch);
        assert_eq!(state("Fan2A"), 2.0);
        // Others that are well do not push it out.
        let mut batch = worker.batch(NOW + round, None);
        for forged in 0..3_000 {
            let name = format!("y{round}y{forged}");
            batch.line(&mut lines, fan(&name, "going high").as_bytes());
        }
        drop(batch);
        assert_eq!(state("Fan2A"), 2.0);
        engine.maintain(NOW + round);
        assert_eq!(state("Fan2A"), 2.0);
    }
    assert!(
        engine
            .table()
            .evictions()
            .map(|(_, count)| count)
            .sum::<u64>()
            > 0
    );
}

#[test]
fn the_gauges_of_other_are_the_worst_of_all() {
    let limits = Limits {
        appliances: 1,
        ..Limits::default()
    };
    let engine = engine(limits, &[]);
    let mut worker = Worker::new(engine.clone());
    let mut lines = origin();
    let mut batch = worker.batch(NOW, None);
    for (host, event) in [
        ("hsm1", "going high"),
        ("hsm7", "going low"),
        ("hsm8", "going high"),
    ] {
        let line = fan("Fan2A", event).replace("hsm1", host);
        batch.line(&mut lines, line.as_bytes());
    }
    drop(batch);
    assert_eq!(sum(&engine, "ipmi_sensor_state", &["other", "Fan2A"]), 2.0);
    // Not for ever.
    engine.maintain(NOW + 86_400);
    assert_eq!(sum(&engine, "ipmi_sensor_state", &["other", "Fan2A"]), 0.0);
}

#[test]
fn a_value_that_its_unit_does_not_allow_is_refused_and_counted() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let mut lines = origin();
    let huge = "9".repeat(300);
    let mut batch = worker.batch(NOW, None);
    for amount in ["3", &huge, "2"] {
        let line = format!(
            "Feb 29 12:05:01 hsm1 sshd[7]: PAM {amount} more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1"
        );
        batch.line(&mut lines, line.as_bytes());
    }
    let reading = fan("Fan2A", "going low").replace("500", "-18000000000000000000");
    batch.line(&mut lines, reading.as_bytes());
    drop(batch);
    assert_eq!(
        sum(&engine, "pam_authentication_failures_total", &["hsm1"]),
        5.0
    );
    assert_eq!(sum(&engine, "ipmi_sensor_reading", &["hsm1"]), 0.0);
    let table = engine.table();
    let refused: Vec<_> = table
        .implausible()
        .filter(|(_, count)| *count > 0)
        .collect();
    let refused: Vec<(&str, u64)> = refused
        .iter()
        .map(|(name, count)| (&***name, *count))
        .collect();
    let expected = [
        ("ipmi_sensor_reading", 1),
        ("pam_authentication_failures_total", 1),
    ];
    assert_eq!(refused, expected);
}

/// What the series of an appliance say, but for when.
fn values(engine: &Engine, appliance: &str) -> Vec<String> {
    let saved = engine.table().save();
    let of = saved.series.iter();
    let of = of.filter(|series| *series.values[0] == *appliance);
    let mut values: Vec<String> = of
        .filter(|series| !series.metric.contains("timestamp"))
        .map(|series| format!("{} {:?} {}", series.metric, series.values, series.value))
        .collect();
    values.sort_unstable();
    values
}

/// Parts of lines that mean something, to whoever would speak for another.
fn hostile_line() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("Feb 29 12:05:01 ".to_owned()),
        Just("<134>1 2024-02-29T12:05:01Z ".to_owned()),
        Just("hsm1 ".to_owned()),
        Just("other ".to_owned()),
        Just("- ".to_owned()),
        Just("ipmievd: ".to_owned()),
        Just("[hsm1:ktls.badAuth:notice]: ".to_owned()),
        Just("last message repeated 9 times".to_owned()),
        Just("message repeated 9 times: [ ".to_owned()),
        Just(fan("Fan2A", "going high")),
        Just(fan("Fan2A", "going low")),
        Just(failed("hsm1")),
        "[a-z0-9:\\[\\]<> ]{0,12}",
    ];
    let text = prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat().into_bytes());
    prop_oneof![4 => text, 1 => prop::collection::vec(any::<u8>(), 0..60)]
}

/// Engines compile all rules, which takes longer than the lines.
fn cores() -> &'static [Arc<Engine>; 2] {
    static CORES: std::sync::OnceLock<[Arc<Engine>; 2]> = std::sync::OnceLock::new();
    CORES.get_or_init(|| [(); 2].map(|()| engine(Limits::default(), &[])))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever one appliance sends in its own file, the series of another are as if it had sent nothing.
    #[test]
    fn nobody_speaks_for_another(lines in prop::collection::vec(hostile_line(), 0..30)) {
        let [alone, attacked] = cores();
        for engine in [alone, attacked] {
            let mut worker = Worker::new(engine.clone());
            worker.reset();
            let by_path = |name: &str| {
                let mut origin = origin();
                origin.appliance = Some(name.into());
                origin
            };
            let (mut honest, mut hostile) = (by_path("hsm1"), by_path("evil"));
            let mut repeats = (Repeats::default(), Repeats::default());
            let own = [
                fan("Fan2A", "going low"),
                failed("x"),
                repeated("x", 2),
                fan("Fan3B", "going high"),
            ];
            for (at, own) in own.iter().enumerate() {
                if Arc::ptr_eq(engine, attacked) {
                    let mut batch = worker.batch(NOW, Some(&mut repeats.1));
                    for line in lines.iter().skip(at).step_by(own.len().min(4)) {
                        batch.line(&mut hostile, line);
                    }
                }
                worker
                    .batch(NOW, Some(&mut repeats.0))
                    .line(&mut honest, own.as_bytes());
            }
        }
        prop_assert_eq!(values(alone, "hsm1"), values(attacked, "hsm1"));
        // Nor does it appear under another name.
        let names = attacked.table().appliances();
        prop_assert!(names.iter().all(|name| matches!(&**name, "hsm1" | "evil")), "{names:?}");
    }
}

/// Whether a metric has a series with this label value.
fn has(engine: &Engine, metric: &str, value: &str) -> bool {
    let saved = engine.table().save();
    let mut series = saved.series.iter();
    series
        .any(|series| *series.metric == *metric && series.values.iter().any(|own| **own == *value))
}

#[test]
fn a_line_ends_the_states_of_its_own_appliance_alone() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let mut lines = origin();
    let began = |host: &str| format!("Feb 29 12:05:01 {host} ipmievd: Reading sensors...");
    let mut batch = worker.batch(NOW, None);
    for host in ["hsm1", "hsm2"] {
        let line = fan("Fan2A", "going low").replace("hsm1", host);
        batch.line(&mut lines, line.as_bytes());
    }
    batch.line(&mut lines, began("hsm1").as_bytes());
    drop(batch);
    assert!(!has(&engine, "ipmi_sensor_state", "hsm1"));
    assert_eq!(sum(&engine, "ipmi_sensor_state", &["hsm2", "Fan2A"]), 2.0);
    // It comes back, in this batch and, once slots were given to others, in later ones.
    for round in 0..3 {
        let mut batch = worker.batch(NOW + round, None);
        batch.line(&mut lines, fan("Fan2A", "going low").as_bytes());
        drop(batch);
        assert_eq!(sum(&engine, "ipmi_sensor_state", &["hsm1", "Fan2A"]), 2.0);
        let mut batch = worker.batch(NOW + round, None);
        batch.line(&mut lines, began("hsm1").as_bytes());
        drop(batch);
        assert!(!has(&engine, "ipmi_sensor_state", "hsm1"));
        engine.maintain(NOW + round);
    }
    assert_eq!(sum(&engine, "ipmi_sensor_state", &["hsm2", "Fan2A"]), 2.0);
}

#[test]
fn what_is_read_late_ends_no_younger_state_and_brings_none_back() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let (mut live, mut late) = (origin(), origin());
    late.is_late = true;
    let at = |hour: u32, text: &str| format!("2026-02-19T{hour:02}:00:00+00:00 hsm1 {text}");
    let failed = "smartd[7]: Device: /dev/sda, FAILED SMART self-check. BACK UP DATA NOW!";
    let opened = "smartd[7]: Device: /dev/sda, opened";
    let now = NOW + 3_600;
    live.clock.now = jiff::Timestamp::from_second(i64::from(now)).expect("a time");
    late.clock.now = live.clock.now;
    let mut read = |lines: &mut StreamContext, line: String| {
        worker.batch(now, None).line(lines, line.as_bytes());
        has(&engine, "smart_health_ok", "sda")
    };
    assert!(read(&mut live, at(11, failed)));
    assert!(read(&mut late, at(10, opened)), "an older end");
    assert!(!read(&mut live, at(11, opened)));
    assert!(!read(&mut late, at(10, failed)), "an older state");
    assert!(read(&mut live, at(11, failed)));
}

/// What most lines of a busy HSM say does not lock the table, and still ends the state on whatever thread it is read.
#[test]
fn ntls_is_up_once_a_client_is_served() {
    let engine = engine(Limits::default(), &[]);
    let mut engines = [Worker::new(engine.clone()), Worker::new(engine.clone())];
    let mut lines = origin();
    let ntls = |text: &str| format!("Feb 29 12:05:01 hsm1 NTLS[1]: info : 0 : {text}");
    let served = ntls("NTLS Client \"a\" connected and authenticated : 192.0.2.1/40847");
    let mut read = |at: usize, line: &str| {
        engines[at]
            .batch(NOW, None)
            .line(&mut lines, line.as_bytes());
        sum(&engine, "ntls_up", &["hsm1"])
    };
    assert_eq!(read(0, &served), 0.0);
    assert!(!has(&engine, "ntls_up", "hsm1"), "none is made");
    for round in 0..3 {
        assert_eq!(read(round % 2, &ntls("NTLS terminated")), 0.0);
        assert_eq!(read((round + 1) % 2, &served), 1.0);
        assert_eq!(read(round % 2, &served), 1.0);
    }
}

#[test]
fn a_line_without_a_program_is_of_the_one_that_its_source_is_for() {
    let pack = r"
pack: gateway
profiles: [gateway]
programs: {fwd: []}
formats: [{program: fwd, profile: gateway, key_value: {}, host: device, message_id: {number: id}}]
metrics:
  gateway_drops_total: {type: counter, help: Dropped packets.}
rules:
  - event: packet_dropped
    when: {message_id: '278'}
    match: '{_:rest}'
    metrics: [{inc: gateway_drops_total}]
    help: A packet was dropped.
";
    let text = rules::PackText {
        file: "gateway.yaml".into(),
        text: pack.into(),
    };
    let rules = rules::parse(vec![text], Settings::default()).expect("it is sound");
    let engine = Engine::new(Arc::new(rules), Limits::default(), &[]).expect("it compiles");
    let engine = Arc::new(engine);
    let mut worker = Worker::new(engine.clone());
    let (mut of_gateway, mut other) = (origin(), origin());
    of_gateway.profile = Some("gateway".into());
    let mut batch = worker.batch(NOW, None);
    for line in [
        &b"device=fw1 id=00278 action=drop"[..],
        b"<134>2024-02-29 12:05:01 device=fw1 id=278",
        // A program is a program.
        b"Feb 29 12:05:01 fw1 nginx: id=278",
    ] {
        batch.line(&mut of_gateway, line);
        batch.line(&mut other, line);
    }
    drop(batch);
    assert_eq!(sum(&engine, "gateway_drops_total", &["fw1"]), 2.0);
    assert_eq!(sum(&engine, "gateway_drops_total", &[]), 2.0);
}

/// Whoever tries passwords is known over a restart, a reload, and a removal of series of others.
#[test]
fn many_failures_are_known_after_a_restart_a_reload_and_a_removal() {
    let origin = &mut origin();
    let read = |engine: &Arc<Engine>, lines: &[String], origin: &mut StreamContext| {
        origin.reset();
        let mut worker = Worker::new(engine.clone());
        let mut batch = worker.batch(NOW, None);
        for line in lines {
            batch.line(origin, line.as_bytes());
        }
    };
    let fails = |host: &str| vec![failed(host); 3];
    let before = engine(Limits::default(), &[]);
    read(&before, &fails("h9"), origin);
    read(&before, &fails("hsm1"), origin);
    let json = serde_json::to_vec(&before.save()).expect("names and numbers");

    let restarted = engine(Limits::default(), &[]);
    let restored = restarted.table().restore_from(&json[..]).expect("a table");
    restarted.restore_attempts(&restored.attempts);
    read(&restarted, &fails("hsm1"), origin);

    let reloaded = engine(Limits::default(), &[]);
    reloaded.migrate_from(&restarted);
    read(&reloaded, &fails("hsm1"), origin);

    assert!(reloaded.forget_appliance("h9"));
    let gets_in = |host: &str| {
        format!(
            "Feb 29 12:05:01 {host} sshd[7]: Accepted password for root from 192.0.2.1 port 22 ssh2"
        )
    };
    read(
        &reloaded,
        &[failed("hsm1"), gets_in("hsm1"), gets_in("h2")],
        origin,
    );
    let got_in = |host| {
        sum(
            &reloaded,
            "log_event_last_timestamp_seconds",
            &["login_after_failures", host],
        )
    };
    assert_eq!((got_in("hsm1") > 0.0, got_in("h2")), (true, 0.0));
}

#[test]
fn who_is_silent_after_a_reload_is_not_forgotten() {
    let former = engine(Limits::default(), &[]);
    let mut worker = Worker::new(former.clone());
    let mut batch = worker.batch(NOW, None);
    batch.line(&mut origin(), failed("hsm1").as_bytes());
    drop(batch);
    let next = engine(Limits::default(), &[]);
    next.migrate_from(&former);
    next.maintain(NOW + 60);
    assert_eq!(failures(&next, "hsm1"), 1.0);
    assert_eq!(series(&next, "hsm1"), series(&former, "hsm1"));
}

#[test]
fn a_line_of_a_program_that_no_pack_knows_counts_as_a_message_alone() {
    let engine = engine(Limits::default(), &[]);
    let mut worker = Worker::new(engine.clone());
    let mut batch = worker.batch(NOW, None);
    for _ in 0..2 {
        batch.line(&mut origin(), b"Feb 29 12:05:01 h9 unheard-of[7]: anything");
    }
    drop(batch);
    assert_eq!(sum(&engine, "log_messages_total", &["h9", "other"]), 2.0);
    assert_eq!(series(&engine, "h9"), 2);
}

/// A parameter with escapes, whose value does not stand in the line as it is, and a label that is the line's time.
#[test]
fn values_that_are_made_from_a_line_lead_to_their_series() {
    let directory = tempfile::tempdir().expect("a directory");
    let pack = "pack: doors
programs: {doord: []}
metrics:
  door_openings_total: {type: counter, help: Openings., labels: {at: any}}
  door_opened_seconds: {type: gauge, help: The last one.}
rules:
  - event: opened
    match: 'opened'
    help: A door was opened.
    metrics:
      - inc: door_openings_total
        labels: {at: '{timestamp}'}
      - set: door_opened_seconds
        value: '{timestamp}'
";
    std::fs::write(directory.path().join("doors.yaml"), pack).expect("it can be written");
    let rules = rules::load(&[directory.path().into()], Settings::default()).expect("sound");
    let engine = Engine::new(Arc::new(rules), Limits::default(), &[]).expect("they compile");
    let engine = Arc::new(engine);
    let mut worker = Worker::new(engine.clone());
    let mut batch = worker.batch(NOW, None);
    let escaped = br#"<30>1 2023-08-03T10:18:44Z h1 kmd 1 KMD_VPN_UP_ALARM_USER [junos@2636.1.1.1.2.86 vpn-name="a \"b\]" remote-address="203.0.113.9"]"#;
    for _ in 0..3 {
        batch.line(&mut origin(), escaped);
        batch.line(&mut origin(), b"2026-02-12T10:00:00Z h1 doord: opened");
    }
    drop(batch);
    assert_eq!(sum(&engine, "log_events_total", &["h1", "kmd"]), 3.0);
    let opened = "1770890400";
    assert_eq!(sum(&engine, "door_openings_total", &[opened]), 3.0);
    assert_eq!(
        sum(&engine, "door_opened_seconds", &["h1"]),
        1_770_890_400.0
    );
}
