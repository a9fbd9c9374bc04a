//! What a line costs from bytes to series, and what a scrape costs: `cargo bench --bench engine`.
//!
//! Lines are the packs' own examples, for each program apart and all together, so that no single mix is tuned for.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use appliance_log_exporter::engine::{Engine, Origin};
use appliance_log_exporter::exposition::{Format, encode};
use appliance_log_exporter::line::LineBuffer;
use appliance_log_exporter::metric::{Domain, Family, Kind, Limits, MetricId, Mirror, Spec, Table};
use appliance_log_exporter::record::{Clock, parse};
use appliance_log_exporter::rules::{self, Example, PackText, RuleSet, Settings};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prometheus_client::registry::Registry;

const SERIES: usize = 100_000;

fn engine(rules: &Arc<RuleSet>) -> Engine {
    Engine::new(rules.clone(), Limits::default(), &[]).expect("the packs compile")
}

fn origin() -> Origin {
    Origin::new(Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: jiff::Timestamp::UNIX_EPOCH,
    })
}

/// The lines of all examples, by program; repeated marks and all.
fn examples(rules: &Arc<RuleSet>) -> BTreeMap<String, Vec<String>> {
    let engine = engine(rules);
    let mut by_program: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for example in rules.rules.iter().flat_map(|rule| &rule.examples) {
        let Example::Lines { lines, .. } = example else {
            continue;
        };
        for line in lines {
            let record = parse(line.as_bytes(), engine.programs());
            let program = record.program_id.map(|id| engine.programs().name(id));
            let program = program.unwrap_or("other").to_owned();
            by_program.entry(program).or_default().push(line.clone());
        }
    }
    let all = by_program.values().flatten().cloned().collect();
    by_program.insert("all programs".to_owned(), all);
    by_program
}

fn lines(criterion: &mut Criterion) {
    let rules = Arc::new(rules::load(&[], Settings::default()).expect("the packs are in order"));
    let mut group = criterion.benchmark_group("engine");
    for (program, lines) in examples(&rules) {
        // Small ones say little.
        if lines.len() < 20 {
            continue;
        }
        let (mut engine, mut origin) = (engine(&rules), origin());
        group.throughput(Throughput::Elements(lines.len() as u64));
        group.bench_function(&program, |bencher| {
            bencher.iter(|| {
                for line in &lines {
                    engine.line(&mut origin, black_box(line.as_bytes()));
                }
            });
        });
        if program == "all programs" {
            let text = lines.join("\n");
            let mut buffer = LineBuffer::new(16 << 10);
            group.bench_function("cutting lines alone", |bencher| {
                bencher.iter(|| {
                    buffer.push(black_box(text.as_bytes()), |line| {
                        black_box(line.bytes);
                    });
                });
            });
        }
    }
    group.finish();
}

/// The rules of a made program: as many as a typical pack has, beginnings shared as messages of one program share them.
const RULES_PER_PACK: usize = 45;

/// What rule `rule` matches, with these in its holes.
fn message(rule: usize, name: &str, count: &str) -> String {
    let verb = ["Started", "Stopped", "Failed to open", "Lost", "Found"][rule % 5];
    let noun = ["session", "link", "volume"][rule / 5 % 3];
    let why = ["timed out", "was refused", "is in state 4"][rule / 15];
    format!("{verb} {noun} {name} of unit {count}: it {why}")
}

fn pack(number: usize) -> PackText {
    let mut text = format!(
        "pack: made{number}\nabout: Made for a benchmark\nprofiles: [made]\nprograms:\n  prog{number}: []\nrules:\n"
    );
    for rule in 0..RULES_PER_PACK {
        let template = message(rule, "{name:word}", "{_:int}");
        let line = message(rule, "sda", "17");
        text += &format!(
            "  - event: event_{rule}\n    match: '{template}'\n    help: Made.\n    examples: [{{line: 'Feb 29 12:05:01 host prog{number}: {line}'}}]\n"
        );
    }
    PackText {
        file: format!("made{number}.yaml"),
        text,
    }
}

/// The rate must not fall much with the number of rules, nor loading take long.
fn many_rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    for rules in [100, 1_000, 10_000] {
        let count = rules / RULES_PER_PACK;
        let packs = || (0..count).map(pack).collect::<Vec<_>>();
        let load = || {
            let rules = rules::parse(packs(), Settings::default()).expect("made packs are right");
            engine(&Arc::new(rules))
        };
        group.sample_size(10);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("load {rules}"), |bencher| bencher.iter(load));
        let lines: Vec<String> = (0..10_000)
            .map(|line| {
                let (program, rule) = (line * 7919 % count, line * 31 % RULES_PER_PACK);
                let message = message(rule, "sda", "17");
                format!("Feb 29 12:05:01 host prog{program}[{line}]: {message}")
            })
            .collect();
        let (mut engine, mut origin) = (load(), origin());
        group.throughput(Throughput::Elements(lines.len() as u64));
        group.bench_function(format!("lines with {rules}"), |bencher| {
            bencher.iter(|| {
                for line in &lines {
                    engine.line(&mut origin, black_box(line.as_bytes()));
                }
            });
        });
    }
    group.finish();
}

fn scrape(criterion: &mut Criterion) {
    let spec = Spec {
        family: Arc::new(Family {
            name: "drops_total".into(),
            help: "Drops.".into(),
            kind: Kind::Counter,
            labels: ["appliance", "reason"].map(Arc::from).into(),
        }),
        domains: vec![Domain::Any(Vec::new())],
        expire_seconds: None,
    };
    let mut table = Table::new(vec![spec], Limits::default(), &[]);
    for number in 0..SERIES {
        let appliance = table.appliance(&format!("appliance-{}", number / 100));
        let reason = format!("reason-{}", number % 100);
        let slot = table.series(MetricId(0), appliance, false, &[&reason]);
        table.add(slot, number as f64);
    }
    let mut mirror = Mirror::default();
    let mut group = criterion.benchmark_group("scrape of 100,000 series");
    group.bench_function("first, while ingest waits", |bencher| {
        bencher.iter(|| {
            mirror = Mirror::default();
            table.mirror(&mut mirror);
        });
    });
    group.bench_function("later ones, while ingest waits", |bencher| {
        bencher.iter(|| table.mirror(&mut mirror));
    });
    group.bench_function("the whole", |bencher| {
        bencher.iter(|| {
            table.mirror(&mut mirror);
            encode(&Registry::default(), mirror.snapshot(), Format::OpenMetrics).len()
        });
    });
    group.finish();
}

criterion_group!(benches, lines, many_rules, scrape);
criterion_main!(benches);
