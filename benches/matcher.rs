//! How long it takes to find the rule of a record and its captures: `cargo bench --bench matcher`.

use std::hint::black_box;

use appliance_log_exporter::matcher::{Limits, Matcher};
use appliance_log_exporter::record::{Record, frames, parse};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use examples::Examples;

#[path = "common/examples.rs"]
mod examples;

fn matches(criterion: &mut Criterion) {
    let examples = Examples::load();
    let compile =
        || Matcher::compile(&examples.rules, Limits::default()).expect("the packs compile");
    let matcher = compile();
    let mut group = criterion.benchmark_group("matcher");
    for (program, lines) in &examples.lines {
        let records: Vec<Record<'_>> = (lines.iter())
            .flat_map(|line| frames(line.as_bytes()))
            .map(|frame| parse(frame, &examples.programs))
            .collect();
        let mut scratch = matcher.scratch();
        group.throughput(Throughput::Elements(records.len() as u64));
        group.bench_function(program, |bencher| {
            bencher.iter(|| {
                for record in &records {
                    // As the engine asks when a rule does not say `continue`.
                    matcher.find(black_box(record), &mut scratch, |found| {
                        black_box(found.rule);
                        false
                    });
                }
            });
        });
    }
    group.sample_size(10);
    group.throughput(Throughput::Elements(1));
    // What each program's first message then adds is no part of it.
    group.bench_function("compile all packs", |bencher| bencher.iter(compile));
    group.finish();
}

criterion_group!(benches, matches);
criterion_main!(benches);
