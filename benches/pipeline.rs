//! What bytes cost until they are in series, whole and for each program apart, and what the number of rules costs:
//! `cargo bench --bench pipeline`.

use std::hint::black_box;
use std::sync::Arc;

use appliance_log_exporter::line::LineBuffer;
use appliance_log_exporter::rules::{self, PackText, Settings};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use examples::{Examples, origin, worker};

#[path = "common/examples.rs"]
mod examples;
#[path = "common/made.rs"]
mod made;

fn lines(criterion: &mut Criterion) {
    let examples = Examples::load();
    let mut group = criterion.benchmark_group("pipeline");
    for (program, lines) in &examples.lines {
        let (mut worker, mut origin) = (worker(&examples.rules), origin());
        let text = lines.join("\n") + "\n";
        let mut buffer = LineBuffer::new(64 << 10);
        group.throughput(Throughput::Elements(lines.len() as u64));
        group.bench_function(program, |bencher| {
            bencher.iter(|| {
                let mut batch = worker.batch(0, None);
                buffer.push(black_box(text.as_bytes()), |line| {
                    batch.line(&mut origin, line.bytes);
                });
            });
        });
    }
    group.finish();
}

/// The rate must not fall much with the number of rules, nor loading take long.
fn many_rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    for rules in [100, 1_000, 10_000] {
        let packs = rules / made::RULES_PER_PACK;
        let load = || {
            let packs = (0..packs).map(|number| PackText {
                file: format!("made{number}.yaml"),
                text: made::pack(number),
            });
            let rules = rules::parse(packs.collect(), Settings::default());
            worker(&Arc::new(rules.expect("made packs are right")))
        };
        group.sample_size(10);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("load {rules}"), |bencher| bencher.iter(load));
        let lines: Vec<String> = (0..10_000).map(|line| made::line(packs, line)).collect();
        let (mut worker, mut origin) = (load(), origin());
        group.throughput(Throughput::Elements(lines.len() as u64));
        group.bench_function(format!("lines with {rules}"), |bencher| {
            bencher.iter(|| {
                let mut batch = worker.batch(0, None);
                for line in &lines {
                    batch.line(&mut origin, black_box(line.as_bytes()));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lines, many_rules);
criterion_main!(benches);
