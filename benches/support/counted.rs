//! The frame around what is measured: so many rounds of a body, how long they took, and the two
//! functions in which an account of instructions begins and is left out. Bodies call it; it knows
//! neither criterion nor valgrind.
//!
//! ```text
//!   prepare ──► counted ──► the server ──► Watched::inside ──► the simulated kernel
//!               └── in the account ──┘     └───────── out of it again ─────────┘
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Values that are prepared at a time: few enough to stay in the nearest cache, and enough that
/// looking at the clock costs each of them nothing.
pub const PREPARED: u64 = 64;

/// Runs `work`. The account of instructions covers what happens in here and nothing else.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
}

/// So many rounds, timed and counted.
pub fn repeated<T>(rounds: u64, mut round: impl FnMut() -> T) -> Duration {
    timed(|| {
        counted(&mut || {
            for _ in 0..rounds {
                black_box(round());
            }
        });
    })
}

/// So many rounds of `work`, timed and counted, each on a value of its own that was prepared outside
/// of both.
pub fn prepared<I, T>(
    rounds: u64,
    mut prepare: impl FnMut() -> I,
    mut work: impl FnMut(I) -> T,
) -> Duration {
    by_the_few(rounds, |count| {
        let mut values: Vec<I> = (0..count).map(|_| prepare()).collect();
        timed(|| {
            counted(&mut || {
                for value in values.drain(..) {
                    black_box(work(value));
                }
            });
        })
    })
}

/// So many rounds, a few at a time; together they took so long.
pub fn by_the_few(rounds: u64, mut run: impl FnMut(u64) -> Duration) -> Duration {
    let whole = (0..rounds / PREPARED).map(|_| PREPARED);
    whole.chain([rounds % PREPARED]).map(&mut run).sum()
}

/// How long `work` takes. Engines are measured in here: they count their own turns.
pub fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}
