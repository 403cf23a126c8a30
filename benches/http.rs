//! What lies between a head and its answer: targets, the framing of content, the chunked coding, and
//! responses.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::{content, response, target};
use support::timing::time;

fn http(criterion: &mut Criterion) {
    for bodies in [target::bodies(), content::bodies(), response::bodies()] {
        time(criterion, &bodies);
    }
}

criterion_group!(benches, http);
criterion_main!(benches);
