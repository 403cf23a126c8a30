//! The whole engine on the simulated kernel: what a turn costs beside system calls. The simulation's
//! own work is in it.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::engine;
use support::timing::time;

fn engine(criterion: &mut Criterion) {
    time(criterion, &engine::bodies());
}

criterion_group!(benches, engine);
criterion_main!(benches);
