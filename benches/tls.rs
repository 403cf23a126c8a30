//! TLS beneath the engine: the processor time of a request, of a message, and of a handshake, the client's part
//! left out. The simulation's own work is in it.

#[path = "support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::tls;
use support::timing::time;

fn tls(criterion: &mut Criterion) {
    time(criterion, &tls::bodies());
}

criterion_group!(benches, tls);
criterion_main!(benches);
