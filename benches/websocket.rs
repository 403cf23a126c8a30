//! WebSocket: unmasking, beside what a copy and a plain loop take, frames read out of a receive buffer,
//! and messages through the whole engine on the simulated kernel, whose own work is in the figure.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use support::bodies::{Body, websocket};
use support::counted::repeated;
use support::timing::time;
use support::websocket::KEY;

fn messages(criterion: &mut Criterion) {
    time(criterion, &websocket::bodies());
    for len in [16, 64, 256, 1024, 4096, 16 * 1024, 64 * 1024] {
        time(criterion, &[plain_loop(len), copy(len)]);
    }
}

/// As RFC 6455 §5.3 writes it.
fn plain_loop(len: usize) -> Body {
    Body::new("websocket/unmask", format!("plain loop/{len}"), move || {
        let mut payload = vec![b'x'; len];
        move |rounds| {
            repeated(rounds, || {
                let key = black_box(KEY);
                for (at, byte) in black_box(&mut payload).iter_mut().enumerate() {
                    *byte ^= key[at % 4];
                }
            })
        }
    })
    .bytes(len)
}

fn copy(len: usize) -> Body {
    Body::new("websocket/unmask", format!("memcpy/{len}"), move || {
        let (payload, mut copy) = (vec![b'x'; len], vec![0; len]);
        move |rounds| repeated(rounds, || black_box(&mut copy).copy_from_slice(black_box(&payload)))
    })
    .bytes(len)
}

criterion_group!(benches, messages);
criterion_main!(benches);
