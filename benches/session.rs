//! Bytes of requests to bytes of answers, through a session with its core and buffers, without an
//! engine or a kernel.

#[path = "support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{Alone, PLAINTEXT, registry};

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    for pipelined in [1, 16] {
        let bytes = PLAINTEXT.repeat(pipelined);
        let mut alone = Alone::new(registry());
        group.throughput(Throughput::Elements(pipelined as u64));
        group.bench_function(BenchmarkId::new("plaintext", pipelined), |bencher| {
            bencher.iter(|| {
                alone.receive(&bytes);
                alone.send()
            });
        });
    }
}

criterion_group!(benches, session);
criterion_main!(benches);
