//! Bytes of requests to bytes of answers, through a session without an engine or a kernel.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::session;
use support::timing::time;

fn session(criterion: &mut Criterion) {
    time(criterion, &session::bodies());
}

criterion_group!(benches, session);
criterion_main!(benches);
