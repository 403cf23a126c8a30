//! Finding the end of a head: `scan::head_end` over heads as clients send them.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::scan;
use support::timing::time;

fn scan(criterion: &mut Criterion) {
    time(criterion, &scan::bodies());
}

criterion_group!(benches, scan);
criterion_main!(benches);
