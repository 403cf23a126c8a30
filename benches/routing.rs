//! Finding the resource of a request: by host, exact path, parameters and prefix.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::routing;
use support::timing::time;

fn routing(criterion: &mut Criterion) {
    time(criterion, &routing::bodies());
}

criterion_group!(benches, routing);
criterion_main!(benches);
