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

/// It has no time if one takes so long: a step takes a fortieth.
const LATE_MS: Millis = 10;

/// How long it is given nothing then.
const LATE_PAUSE_MS: Millis = 200;

/// A core's end of it. The thread ends with it.
pub(crate) struct Offload {
    /// Those that the thread has not begun.
    given: Worker<Lent>,
    taken: Consumer<Lent>,
    /// When those were given that are not back, in their order.
    since: VecDeque<Millis>,
    /// Until then it is given nothing.
    spared_until: Millis,
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
        Ok(Offload { given, taken, since, spared_until: 0, thread: Wakes(thread.thread().clone()) })
    }

    /// Whether it takes one more: it has few, and time for them.
    pub(crate) fn has_room(&self, now: Millis) -> bool {
        self.since.len() < GIVEN_MAX && !self.has_no_time(now)
    }

    /// Has it make the next step of a handshake, if it [has room](Offload::has_room).
    pub(crate) fn give(&mut self, lent: Lent) {
        debug_assert!(self.since.len() < GIVEN_MAX, "more than it has room for");
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

    /// The first whose step was not begun, for the core to make if [there is no time](Offload::has_no_time).
    pub(crate) fn take_unbegun(&mut self, now: Millis) -> Option<Lent> {
        let lent = self.given.pop()?;
        self.spared_until = now + LATE_PAUSE_MS;
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
    pub(crate) fn has_no_time(&self, now: Millis) -> bool {
        self.late_at() <= now || now < self.spared_until
    }

    /// When to look at it again, behind a look at this time: once it is late, and then every millisecond for
    /// [what it has not begun](Offload::take_unbegun), and those that `are_due` and were not given.
    pub(crate) fn look_at(&self, now: Millis, are_due: bool) -> Millis {
        match self.has_no_time(now) {
            true if are_due || !self.given.is_empty() => now + 1,
            true => now + LATE_MS,
            false => self.late_at(),
        }
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
        assert_eq!((offload.late_at(), offload.has_no_time(1_000_000)), (NEVER, false));
        offload.since.extend([100, 105]);
        let late = 100 + LATE_MS;
        assert!(!offload.has_no_time(late - 1) && offload.has_room(late - 1));
        assert_eq!(offload.look_at(late - 1, true), late);
        assert!(offload.has_no_time(late) && !offload.has_room(late));
        assert_eq!(
            (offload.look_at(late, true), offload.look_at(late, false)),
            (late + 1, late + LATE_MS)
        );
        offload.since.pop_front();
        assert_eq!(offload.late_at(), 105 + LATE_MS);
        offload.since.clear();
        offload.spared_until = late + LATE_PAUSE_MS;
        assert!(offload.has_no_time(late) && !offload.has_no_time(late + LATE_PAUSE_MS));
    }
}
