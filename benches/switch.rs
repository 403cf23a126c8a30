//! The switch: a request with early bytes in 1 to 8 segments, to the 101 and the handler's echo of
//! them, on a session alone and on the whole engine; and a plain request, cut the same way, beside it.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::switch;
use support::timing::time;

fn switch(criterion: &mut Criterion) {
    time(criterion, &switch::bodies());
}

criterion_group!(benches, switch);
criterion_main!(benches);
