//! Owned bytes: leases on receive buffers, queues of them, and batches on their way out. That
//! buffers are filled by copying is the kernel's part, played here.

use std::time::Duration;

use upring::buffer::{Batch, Lease, LeaseQueue, Load, Outbox, Pool};

use super::Body;
use crate::support::counted::{prepared, repeated};

const BUFFERS: u16 = 64;
const QUEUED: u64 = 16;
const TEXT: &[u8] = &[b't'; 160];
const RECEIVED: &[u8] = &[b'r'; 64];

pub fn bodies() -> Vec<Body> {
    vec![
        Body::new("buffer", "lease", || {
            let pool = pool();
            move |rounds| repeated(rounds, || lease(&pool).len())
        }),
        Body::new("buffer", "lease, split", || {
            let pool = pool();
            move |rounds| {
                repeated(rounds, || {
                    let mut rest = lease(&pool);
                    let front = rest.split_to(RECEIVED.len() / 2);
                    assert_eq!(front.len(), rest.len());
                })
            }
        }),
        Body::new("buffer", "queue of 16", queued).units(QUEUED),
        Body::new("outbox", "text", || sent(1, |_, outbox| outbox.write(TEXT))),
        Body::new("outbox", "16 texts", || {
            sent(1, |_, outbox| (0..16).for_each(|_| outbox.write(TEXT)))
        }),
        Body::new("outbox", "lease", || sent(1, |pool, outbox| outbox.push(lease(pool)))),
        Body::new("outbox", "16 texts and leases", || {
            sent(1, |pool, outbox| {
                for _ in 0..16 {
                    outbox.write(TEXT);
                    outbox.push(lease(pool));
                }
            })
        }),
        Body::new("outbox", "16 texts and leases, in 10 sends", || {
            sent(10, |pool, outbox| {
                for _ in 0..16 {
                    outbox.write(TEXT);
                    outbox.push(lease(pool));
                }
            })
        }),
        Body::new("outbox", "buffers given back", given_back),
    ]
}

fn pool() -> Pool {
    Pool::new(BUFFERS, 4096)
}

fn lease(pool: &Pool) -> Lease {
    pool.take().expect("a buffer is vacant").fill(RECEIVED)
}

fn queued() -> impl FnMut(u64) -> Duration {
    let (pool, mut queue) = (pool(), LeaseQueue::default());
    let mut round = move || {
        (0..QUEUED).for_each(|_| queue.push(lease(&pool)));
        let mut bytes = 0;
        while let Some(lease) = queue.pop() {
            bytes += lease.len();
        }
        bytes
    };
    assert_eq!(round(), RECEIVED.len() * QUEUED as usize);
    move |rounds| repeated(rounds, &mut round)
}

/// Written into an outbox, looked at for its slices and gone in so many sends.
fn sent(
    sends: usize,
    write: impl Fn(&Pool, &mut Outbox<'_>) + 'static,
) -> impl FnMut(u64) -> Duration {
    let (pool, mut spare) = (pool(), Vec::new());
    let mut round = move || {
        let mut batch = None;
        write(&pool, &mut Outbox::new(&mut batch, &mut spare, Load::default(), 64 * 1024));
        let mut batch: Box<Batch> = batch.expect("something was written");
        let piece = batch.len().div_ceil(sends);
        let mut slices = 0;
        while !batch.is_empty() {
            slices += batch.slices().filter(|slice| !slice.is_empty()).count();
            batch.advance(piece.min(batch.len()));
        }
        batch.clear();
        spare.push(batch);
        (slices, pool.vacant())
    };
    let (slices, vacant) = round();
    assert!(slices >= sends && vacant == usize::from(BUFFERS));
    move |rounds| repeated(rounds, &mut round)
}

/// What a batch of leases costs when its peer does not read and others need the buffers.
fn given_back() -> impl FnMut(u64) -> Duration {
    let pool = Pool::new(1024, 4096);
    move |rounds| {
        let waiting = || {
            let mut batch = Batch::default();
            (0..16).for_each(|_| batch.push(lease(&pool).into()));
            batch
        };
        prepared(rounds, waiting, |mut batch| {
            batch.give_buffers_back();
            assert_eq!(batch.load().leases, 0);
        })
    }
}
