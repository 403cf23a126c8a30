//! Files over HTTP, through a session: system calls on cached files, and what is around them.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::files;
use support::timing::time;

fn files(criterion: &mut Criterion) {
    time(criterion, &files::bodies());
}

criterion_group!(benches, files);
criterion_main!(benches);
