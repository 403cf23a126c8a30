//! Receive buffers under leases, queues of them, and batches on their way out.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::buffer;
use support::timing::time;

fn buffer(criterion: &mut Criterion) {
    time(criterion, &buffer::bodies());
}

criterion_group!(benches, buffer);
criterion_main!(benches);
