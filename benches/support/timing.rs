//! Bodies as criterion times them: a group for each of theirs, a throughput by what a round is made of.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};

use super::bodies::Body;

/// Long enough for what is measured here, none of which takes milliseconds but once.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASUREMENT: Duration = Duration::from_secs(2);

/// Times each body.
pub fn time(criterion: &mut Criterion, bodies: &[Body]) {
    for bodies in bodies.chunk_by(|one, other| one.group == other.group) {
        let mut group = criterion.benchmark_group(bodies[0].group);
        group.warm_up_time(WARM_UP).measurement_time(MEASUREMENT);
        for body in bodies {
            let elements = Throughput::Elements(body.units);
            group.throughput(body.bytes.map_or(elements, Throughput::Bytes));
            let mut run = None;
            group.bench_function(BenchmarkId::from_parameter(&body.name), |bencher| {
                let run = run.get_or_insert_with(|| body.begin());
                bencher.iter_custom(run);
            });
        }
        group.finish();
    }
}
