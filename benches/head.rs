//! Reading a head: both readers, which note every fact the server acts on, beside httparse, which one
//! of them is built on.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::{Body, head};
use support::counted::repeated;
use support::timing::time;

fn heads(criterion: &mut Criterion) {
    time(criterion, &head::bodies());
    let plain = support::HEADS.iter().map(|(name, head)| {
        Body::new("head", format!("httparse/{name}"), || {
            |rounds| repeated(rounds, || is_head(black_box(head)))
        })
        .bytes(head.len())
    });
    time(criterion, &plain.collect::<Vec<_>>());
}

fn is_head(bytes: &[u8]) -> bool {
    let mut slots = [const { MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    request.parse_with_uninit_headers(bytes, &mut slots).is_ok()
}

criterion_group!(benches, heads);
criterion_main!(benches);
