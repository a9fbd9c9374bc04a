//! How long it takes to cut bytes into lines: `cargo bench --bench line`.

use std::hint::black_box;

use appliance_log_exporter::line::LineBuffer;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "common/examples.rs"]
mod examples;

fn lines(criterion: &mut Criterion) {
    let text = examples::Examples::load().text();
    let mut group = criterion.benchmark_group("line");
    group.throughput(Throughput::Bytes(text.len() as u64));
    // The second is what a slow writer gives: most pieces end in the middle of a line.
    for (name, piece) in [("read at once", text.len()), ("pieces of 100 bytes", 100)] {
        let mut buffer = LineBuffer::new(64 << 10);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for piece in text.as_bytes().chunks(piece) {
                    buffer.push(black_box(piece), |line| {
                        black_box(line.bytes);
                    });
                }
            });
        });
    }
    let endless = vec![b'x'; text.len()];
    let mut buffer = LineBuffer::new(64 << 10);
    group.bench_function("a line that is too long", |bencher| {
        bencher.iter(|| {
            buffer.push(black_box(&endless), |line| {
                black_box(line.bytes);
            });
        });
    });
    group.finish();
}

criterion_group!(benches, lines);
criterion_main!(benches);
