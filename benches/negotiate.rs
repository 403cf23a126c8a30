//! Choosing a protocol: the offer of a request read, and held against what is registered.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::negotiate;
use support::timing::time;

fn negotiate(criterion: &mut Criterion) {
    time(criterion, &negotiate::bodies());
}

criterion_group!(benches, negotiate);
criterion_main!(benches);
