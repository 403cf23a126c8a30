//! How long requests are in the server, without a reading of the clock for each: one at the beginning
//! of a turn, and one at its end if something was answered in it.
//!
//! ```text
//!   turn begins ──► heads become whole ──► answers are written ──► turn ends
//!        └────────────── the time of every request answered in it ─────┘
//! ```
//!
//! A request that has to wait keeps the time of the turn in which its head became whole.

use crate::config::NEVER;
use crate::counters::{Latencies, Nanos};

/// Answers of one turn to requests of earlier ones that are timed to its end. Those beyond are timed
/// to its beginning.
const EARLIER_MAX: usize = 1024;

/// When what was answered in this turn had come.
pub(super) struct Times {
    /// When this turn began.
    began: Nanos,
    /// When the turn began in which the request that is looked at came, [`NEVER`] if it is this one.
    since: Nanos,
    /// Answers of this turn whose time is counted at its end.
    answered: u64,
    /// When those came of them that did not come in it.
    earlier: Vec<Nanos>,
}

impl Times {
    pub(super) fn new() -> Times {
        Times { began: 0, since: NEVER, answered: 0, earlier: Vec::with_capacity(EARLIER_MAX) }
    }

    /// A turn begins.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.began = now;
    }

    /// When this turn began.
    pub(super) fn began(&self) -> Nanos {
        self.began
    }

    /// When the request came that is looked at.
    pub(super) fn since(&self) -> Nanos {
        self.since.min(self.began)
    }

    /// A request that came in the turn that began at `since` is looked at, and no new one.
    pub(super) fn look_at(&mut self, since: Nanos) {
        self.since = since;
    }

    /// New ones are again.
    pub(super) fn look_at_new(&mut self) {
        self.since = NEVER;
    }

    /// The request that is looked at is answered.
    pub(super) fn note_answer(&mut self, latencies: &Latencies) {
        self.answered += 1;
        if self.since != NEVER {
            self.note_earlier(latencies);
        }
    }

    #[cold]
    fn note_earlier(&mut self, latencies: &Latencies) {
        if self.earlier.len() < EARLIER_MAX {
            self.earlier.push(self.since);
        } else {
            self.answered -= 1;
            latencies.note(self.began.saturating_sub(self.since), 1);
        }
    }

    /// Whether anything was answered since the last call of [`end`](Times::end).
    pub(super) fn has_answers(&self) -> bool {
        self.answered > 0
    }

    /// The turn ends: what was answered in it is counted.
    pub(super) fn end(&mut self, now: Nanos, latencies: &Latencies) {
        let answered = std::mem::take(&mut self.answered);
        if !self.earlier.is_empty() {
            return self.end_earlier(now, answered, latencies);
        }
        latencies.note(now.saturating_sub(self.began), answered);
    }

    #[cold]
    fn end_earlier(&mut self, now: Nanos, answered: u64, latencies: &Latencies) {
        let here = answered.saturating_sub(self.earlier.len() as u64);
        if here > 0 {
            latencies.note(now.saturating_sub(self.began), here);
        }
        for since in self.earlier.drain(..) {
            latencies.note(now.saturating_sub(since), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_timed_from_the_turn_it_came_in_to_the_end_of_that_it_is_answered_in() {
        let (mut times, latencies) = (Times::new(), Latencies::default());
        times.begin(10_000);
        let waits = times.began();
        times.note_answer(&latencies);
        times.note_answer(&latencies);
        times.end(11_000, &latencies);
        times.begin(50_000);
        assert!(!times.has_answers());
        times.look_at(waits);
        times.note_answer(&latencies);
        times.look_at_new();
        times.note_answer(&latencies);
        times.end(52_000, &latencies);
        assert_eq!((latencies.count(), latencies.sum()), (4, 1_000 + 1_000 + 42_000 + 2_000));
    }

    #[test]
    fn what_has_no_room_is_timed_to_the_beginning_of_the_turn() {
        let (mut times, latencies) = (Times::new(), Latencies::default());
        times.begin(5_000);
        times.look_at(1_000);
        (0..=EARLIER_MAX).for_each(|_| times.note_answer(&latencies));
        assert_eq!((latencies.count(), latencies.sum()), (1, 4_000));
        times.end(6_000, &latencies);
        assert_eq!(latencies.count(), EARLIER_MAX as u64 + 1);
    }
}
