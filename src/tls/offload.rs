//! A thread beside a core, for the part of a handshake that takes longer than anything else: agreeing on a key,
//! and signing. It runs where the core has nothing to do, and gives way to it at once, so that whoever has a
//! connection does not wait for those who want one.
//!
//! ```text
//!   core:  a hello is whole ──► give ─┐                        ┌──► take ──► sent, and on
//!   thread:                           └──► step ──► notify ────┘
//! ```
//!
//! Where others leave it nothing, be it the core or another process, the core [takes back](Offload::take_unbegun)
//! what the thread has not begun, and makes some of those steps itself.

use std::collections::VecDeque;
use std::io;
use std::thread::{self, Thread};

use crossbeam_deque::{Steal, Stealer, Worker};
use rtrb::{Consumer, Producer, RingBuffer};

use super::background::give_way;
use super::handshake::Lent;
use crate::config::{Millis, NEVER};
use crate::ring::affinity;

/// Handshakes that it has at a time: enough that the core is not woken for each of them.
const GIVEN_MAX: usize = 8;

/// So many are told of together, if there are so many.
const TOLD_TOGETHER: usize = 4;

/// It has had no time if one takes so long: a step takes a fortieth.
const LATE_MS: Millis = 10;

/// A core's end of it. The thread ends with it.
pub(crate) struct Offload {
    /// Those that the thread has not begun.
    given: Worker<Lent>,
    taken: Consumer<Lent>,
    /// When those were given that are not back, in their order.
    since: VecDeque<Millis>,
    // Behind `taken`: what it is woken for is that nothing more is taken.
    thread: Wakes,
}

struct Wakes(Thread);

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl Offload {
    /// Starts the thread. It may run on these CPUs, and calls `notify` when there is something to take.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(crate) fn start(
        name: String,
        cpus: Vec<usize>,
        notify: impl Fn() + Send + 'static,
    ) -> io::Result<Offload> {
        let given = Worker::new_fifo();
        let jobs = given.stealer();
        let (done, taken) = RingBuffer::new(GIVEN_MAX);
        let work = move || {
            if let Err(error) = affinity::allow(&cpus).and_then(|()| give_way()) {
                tracing::warn!(
                    target: "upring::tls",
                    "handshakes take time from established connections: the thread that makes them cannot be one that \
                     gives way (sched_setscheduler(2), SCHED_IDLE): {error}"
                );
            }
            run(jobs, done, &notify);
        };
        let thread = thread::Builder::new().name(name).spawn(work)?;
        let since = VecDeque::with_capacity(GIVEN_MAX);
        Ok(Offload { given, taken, since, thread: Wakes(thread.thread().clone()) })
    }

    /// Whether it takes one more.
    pub(crate) fn has_room(&self) -> bool {
        self.since.len() < GIVEN_MAX
    }

    /// Has it make the next step of a handshake, if it [has room](Offload::has_room).
    pub(crate) fn give(&mut self, lent: Lent) {
        debug_assert!(self.has_room(), "more than it has room for");
        self.since.push_back(lent.since);
        self.given.push(lent);
        self.thread.0.unpark();
    }

    /// One whose step was made.
    pub(crate) fn take(&mut self) -> Option<Lent> {
        let lent = self.taken.pop().ok()?;
        self.is_back(&lent);
        Some(lent)
    }

    /// The first whose step was not begun, for the core to make.
    pub(crate) fn take_unbegun(&mut self) -> Option<Lent> {
        let lent = self.given.pop()?;
        self.is_back(&lent);
        Some(lent)
    }

    fn is_back(&mut self, lent: &Lent) {
        if let Some(index) = self.since.iter().position(|since| *since == lent.since) {
            self.since.remove(index);
        }
    }

    /// When it is late with what it has; [`NEVER`] if it has nothing.
    fn late_at(&self) -> Millis {
        self.since.front().map_or(NEVER, |since| since + LATE_MS)
    }

    /// Whether others leave it so little time that handshakes would never end.
    pub(crate) fn is_late(&self, now: Millis) -> bool {
        self.late_at() <= now
    }

    /// When to look at it again, behind a look at this time: once it is late, and then every millisecond for
    /// [what it has not begun](Offload::take_unbegun).
    pub(crate) fn look_at(&self, now: Millis) -> Millis {
        let pause = if self.given.is_empty() { LATE_MS } else { 1 };
        self.late_at().max(now + pause)
    }
}

fn run(jobs: Stealer<Lent>, mut done: Producer<Lent>, notify: &dyn Fn()) {
    let mut untold = 0;
    loop {
        match jobs.steal() {
            Steal::Success(mut lent) => {
                lent.advance();
                // The core has room for all that it gives.
                let _ = done.push(lent);
                untold += 1;
                if untold >= TOLD_TOGETHER || jobs.is_empty() {
                    notify();
                    untold = 0;
                }
            }
            Steal::Retry => {}
            Steal::Empty if done.is_abandoned() => return,
            // Whoever gives something, or ends, unparks behind it.
            Steal::Empty => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_late_by_the_oldest_that_it_has() {
        let mut offload = Offload::start("test".to_owned(), Vec::new(), || {}).expect("a thread");
        assert_eq!((offload.late_at(), offload.is_late(1_000_000)), (NEVER, false));
        offload.since.extend([100, 105]);
        assert!(!offload.is_late(100 + LATE_MS - 1));
        assert!(offload.is_late(100 + LATE_MS));
        offload.since.pop_front();
        assert_eq!(offload.late_at(), 105 + LATE_MS);
    }
}
