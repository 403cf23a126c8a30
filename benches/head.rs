//! Reading a head: `read_head`, which notes every fact the server acts on, beside httparse, which
//! it is built on.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use upring::http::{Head, HeadLimits, read_head, read_whole_head};

fn head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let limits = HeadLimits::default();
    for (name, head) in support::HEADS {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_with_input(BenchmarkId::new("upring", name), head, |bencher, head| {
            let mut fields = Vec::new();
            bencher.iter(|| read_head(black_box(head), &mut fields, &limits).is_ok());
        });
        group.bench_with_input(BenchmarkId::new("one pass", name), head, |bencher, head| {
            let mut fields = Vec::new();
            let mut read = Head::EMPTY;
            bencher.iter(|| read_whole_head(black_box(head), &mut read, &mut fields, &limits));
        });
        group.bench_with_input(BenchmarkId::new("httparse", name), head, |bencher, head| {
            bencher.iter(|| {
                let mut slots = [const { MaybeUninit::uninit() }; 100];
                let mut request = httparse::Request::new(&mut []);
                request.parse_with_uninit_headers(black_box(head), &mut slots).is_ok()
            });
        });
    }
}

criterion_group!(benches, head);
criterion_main!(benches);
