//! What a scrape costs: the series of all packs' examples, and 100,000 series, of which the part while ingest waits is told
//! apart. `cargo bench --bench exposition`

use std::hint::black_box;
use std::sync::Arc;

use appliance_log_exporter::exposition::{Format, encode};
use appliance_log_exporter::metric::{Domain, Family, Kind, Limits, MetricId, Mirror, Spec, Table};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use examples::{ALL, Examples, engine, origin};
use prometheus_client::registry::Registry;

#[path = "common/examples.rs"]
mod examples;

const SERIES: usize = 100_000;

/// Both formats, of what one line of every kind leaves behind.
fn formats(criterion: &mut Criterion) {
    let examples = Examples::load();
    let (mut engine, mut origin) = (engine(&examples.rules), origin());
    let mut batch = engine.batch(0, None);
    for line in &examples.lines[ALL] {
        batch.line(&mut origin, line.as_bytes());
    }
    drop(batch);
    let mut mirror = Mirror::default();
    engine.core().table().mirror(&mut mirror, usize::MAX, 0);
    let mut group = criterion.benchmark_group("exposition");
    for (name, format) in [
        ("OpenMetrics", Format::OpenMetrics),
        ("classic text", Format::Classic),
    ] {
        let text = encode(&Registry::default(), mirror.snapshot(), format);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| encode(&Registry::default(), black_box(mirror.snapshot()), format));
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
            // The first step is the longest.
            mirror = Mirror::default();
            table.mirror(&mut mirror, 10_000, 0)
        });
    });
    group.bench_function("later ones, while ingest waits", |bencher| {
        bencher.iter(|| table.mirror(&mut mirror, usize::MAX, 0));
    });
    group.bench_function("the whole", |bencher| {
        bencher.iter(|| {
            table.mirror(&mut mirror, usize::MAX, 0);
            encode(&Registry::default(), mirror.snapshot(), Format::OpenMetrics).len()
        });
    });
    group.finish();
}

criterion_group!(benches, formats, scrape);
criterion_main!(benches);
