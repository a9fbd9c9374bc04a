//! What a scrape costs: the series of all packs' examples, and 100,000 series, of which the part while ingest waits is told
//! apart. `cargo bench --bench exposition`

use std::hint::black_box;
use std::sync::Arc;

use appliance_log_exporter::exposition::{Format, encode};
use appliance_log_exporter::metric::{
    Family, Kind, LabelValues, Limits, MetricDesc, MetricId, ScrapeView, Table,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use examples::{ALL, Examples, origin, worker};

#[path = "common/examples.rs"]
mod examples;

const SERIES: usize = 100_000;

/// All formats, of what one line of every kind leaves behind.
fn formats(criterion: &mut Criterion) {
    let examples = Examples::load();
    let (mut worker, mut origin) = (worker(&examples.rules), origin());
    let mut batch = worker.batch(0, None);
    for line in &examples.lines[ALL] {
        batch.line(&mut origin, line.as_bytes());
    }
    drop(batch);
    let mut view = ScrapeView::default();
    worker.engine().table().sync_view(&mut view, usize::MAX);
    let mut group = criterion.benchmark_group("exposition");
    for (name, format) in [
        ("OpenMetrics", Format::OpenMetrics),
        ("classic text", Format::Classic),
        ("protobuf", Format::Protobuf),
    ] {
        let text = encode(view.snapshot(u64::MAX), format);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| encode(black_box(view.snapshot(u64::MAX)), format));
        });
    }
    group.finish();
}

fn scrape(criterion: &mut Criterion) {
    let spec = MetricDesc {
        family: Arc::new(Family {
            name: "drops_total".into(),
            help: "Drops.".into(),
            kind: Kind::Counter,
            labels: ["appliance", "reason"].map(Arc::from).into(),
        }),
        domains: vec![LabelValues::Any(Vec::new())],
        expire_seconds: None,
    };
    let mut table = Table::new(vec![spec], Limits::default(), &[]);
    for number in 0..SERIES {
        let appliance = table.appliance(&format!("appliance-{}", number / 100));
        let reason = format!("reason-{}", number % 100);
        let slot = table.series(MetricId(0), appliance, false, &[&reason]);
        table.add(slot, number as f64);
    }
    let mut view = ScrapeView::default();
    let mut group = criterion.benchmark_group("scrape of 100,000 series");
    group.bench_function("first, while ingest waits", |bencher| {
        bencher.iter(|| {
            // The first step is the longest.
            view = ScrapeView::default();
            table.sync_view(&mut view, 10_000)
        });
    });
    group.bench_function("later ones, while ingest waits", |bencher| {
        bencher.iter(|| table.sync_view(&mut view, usize::MAX));
    });
    group.bench_function("the whole", |bencher| {
        bencher.iter(|| {
            table.sync_view(&mut view, usize::MAX);
            encode(view.snapshot(u64::MAX), Format::OpenMetrics).len()
        });
    });
    group.finish();
}

criterion_group!(benches, formats, scrape);
criterion_main!(benches);
