//! One round trip of an echo through the whole engine, on the simulated kernel: what a turn costs
//! beside system calls. The simulation's own work is in it.

#[path = "support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{SWITCH, Simulated, registry};

fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo");
    for len in [64, 1024, 16 * 1024] {
        let bytes = vec![b'x'; len];
        let mut simulated = Simulated::new(registry(), |_| {});
        let client = simulated.connect();
        client.write(SWITCH);
        simulated.settle();
        client.read();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("round-trip", len), |bencher| {
            bencher.iter(|| {
                client.write(&bytes);
                simulated.settle();
                assert_eq!(client.read().len(), len);
            });
        });
    }
}

criterion_group!(benches, echo);
criterion_main!(benches);
