//! Finding the end of a head: `scan::head_end` over heads as clients send them.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use upring::scan::head_end;

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for (name, head) in support::HEADS {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), head, |bencher, head| {
            bencher.iter(|| head_end(black_box(head), 0));
        });
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);
