//! The switch: a request with early bytes, cut into segments, to the 101 and the handler's echo of
//! them.

#[path = "support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use support::{Alone, SWITCH, registry};

fn switch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("switch");
    let bytes = [SWITCH, b"the first bytes of the protocol"].concat();
    for segments in [1, 2, 3, 4, 8] {
        let mut alone = Alone::new(registry());
        group.bench_function(BenchmarkId::new("segments", segments), |bencher| {
            bencher.iter(|| {
                alone.open();
                for segment in bytes.chunks(bytes.len().div_ceil(segments)) {
                    alone.receive(segment);
                }
                alone.send()
            });
        });
    }
}

criterion_group!(benches, switch);
criterion_main!(benches);
