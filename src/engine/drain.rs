//! How a core ends: it accepts nothing more, tells its connections little by little that it will end, and
//! cuts at its hard deadline what is left.
//!
//! ```text
//!   begin ──► accepts stopped ──► listeners let go ─────────────────┐
//!     └─────► connections told, spread over the window ──► all gone ─┴──► Turn::Stopped
//!                                          └─ hard deadline: cut ──┘
//! ```
//!
//! Clients that are told at once come back at once, and to one server: spread, they do not. A
//! connection that was accepted and has not asked yet is not told: its request is on its way.

use std::collections::VecDeque;
use std::time::Duration;

use super::Engine;
use super::connection::Phase;
use crate::config::{DrainTimes, Millis, NEVER};
use crate::ring::{Accepts, Kernel, ListenerId, Manner, Token};
use crate::upgrade::CloseReason;

/// Connections told in a millisecond at least, however long the window is: few of them do not wait.
const TOLD_PER_MS_MIN: u64 = 1;

/// What is still to be told, and when.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) times: DrainTimes,
    waiting: VecDeque<Token>,
    /// How many were to be told.
    count: u64,
    begun_at: Millis,
    window_ms: Millis,
    /// The hard deadline; [`NEVER`] once it is over.
    cut_at: Millis,
}

impl Drain {
    pub(super) fn of(times: DrainTimes) -> Drain {
        let (waiting, cut_at) = (VecDeque::new(), NEVER);
        Drain { times, waiting, count: 0, begun_at: 0, window_ms: 0, cut_at }
    }

    /// How many of all are to have been told by `now`.
    fn due(&self, now: Millis) -> u64 {
        let passed = now.saturating_sub(self.begun_at);
        let spread = match self.window_ms {
            0 => self.count,
            window => self.count.saturating_mul(passed) / window,
        };
        let least = passed.saturating_mul(TOLD_PER_MS_MIN);
        spread.max(least).saturating_add(1).min(self.count)
    }

    /// Begins one, of these.
    fn begin(times: DrainTimes, waiting: VecDeque<Token>, now: Millis) -> Drain {
        let DrainTimes { timeout, window } = times;
        let millis = |time: Duration| Millis::try_from(time.as_millis()).unwrap_or(NEVER / 2);
        Drain {
            times,
            count: waiting.len() as u64,
            waiting,
            begun_at: now,
            // Whoever is told last has time to end, too.
            window_ms: millis(window.min(timeout / 2)),
            cut_at: now.saturating_add(millis(timeout)),
        }
    }

    /// When there is something to be done next.
    pub(super) fn next_at(&self) -> Millis {
        match self.waiting.is_empty() {
            true => self.cut_at,
            false => self.begun_at.saturating_add(self.next_passed()).min(self.cut_at),
        }
    }

    /// Milliseconds after the beginning at which one more is due.
    fn next_passed(&self) -> Millis {
        let told = self.count - self.waiting.len() as u64;
        match self.window_ms {
            0 => 0,
            window => told.saturating_mul(window).div_ceil(self.count).min(told),
        }
    }
}

impl<K: Kernel> Engine<K> {
    pub(super) fn begin_drain(&mut self) {
        self.drain = Drain::begin(self.drain.times, self.all().into(), self.core.now);
        let cut_at = self.drain.cut_at;
        self.stop_at = Some(cut_at);
        (self.core.is_draining, self.core.cut_at) = (true, cut_at);
        self.core.mailbox.wait_for_work();
        for (index, listener) in (0..).zip(&mut self.listeners) {
            listener.is_open = false;
            if listener.is_armed {
                self.kernel.stop_accept(ListenerId(index));
            }
        }
    }

    /// Tells those whose turn it is, and cuts all that are left when the time is over.
    pub(super) fn drain_on(&mut self) {
        let Some(stop_at) = self.stop_at else { return };
        let now = self.core.now;
        self.close_listeners();
        let left = self.drain.count - self.drain.due(now);
        let within = Duration::from_millis(stop_at.saturating_sub(now));
        while self.drain.waiting.len() as u64 > left {
            let Some(token) = self.drain.waiting.pop_front() else { break };
            // One that has gone meanwhile needs no word.
            if self.connections.of(token).is_some() {
                self.with(token, |connection, core, key| {
                    if connection.phase == Phase::Open {
                        connection.call(core, key, |session, port| session.drain(within, port));
                    }
                });
            }
        }
        if self.drain.cut_at <= now {
            // Once: a time that is past would have every turn followed by another.
            self.drain.cut_at = NEVER;
            self.drain.waiting.clear();
            self.cut_all();
        }
    }

    /// Whether nothing is left of it: no connection, none that could still come, and no handler that has
    /// something to do behind its connection's end, or no time for that.
    pub(super) fn has_ended(&self) -> bool {
        self.connections.len() == 0
            && self.listeners.iter().all(|listener| listener.is_closed)
            && (self.core.mailbox.at_work() == 0 || self.drain.cut_at == NEVER)
    }

    /// Lets go of each listener that accepts nothing any more and on which nobody waits: the kernel gives
    /// what comes to others that listen there, or refuses it.
    ///
    /// Whoever waits there is let in first. Another process may accept on the same socket, but the kernel
    /// has woken one of us for a connection, and that was this core if its accept was stopped between
    /// being woken and accepting: nobody else hears of it.
    fn close_listeners(&mut self) {
        let (now, is_late) = (self.core.now, self.drain.cut_at == NEVER);
        for (index, listener) in (0..).zip(&mut self.listeners) {
            if listener.is_armed || listener.is_closed {
                continue;
            }
            let id = ListenerId(index);
            if self.kernel.has_waiting(id) && !is_late {
                if listener.retry_at > now {
                    continue;
                }
                listener.is_armed = true;
                self.kernel.accept(id, Accepts::Few);
                self.kernel.stop_accept(id);
            } else {
                listener.is_closed = true;
                self.kernel.close_listener(id);
            }
        }
    }

    fn cut_all(&mut self) {
        let all = self.all();
        let alone = self.core.mailbox.alone();
        if !all.is_empty() {
            tracing::warn!("{} connections were left at the end of the drain, and cut", all.len());
        }
        if alone > 0 {
            tracing::warn!(
                "{alone} handlers still worked at the end of the drain though their connections had ended, and \
                 were cut"
            );
            self.core.counters.drain_cuts.add(alone as u64);
        }
        for token in all {
            self.core.counters.drain_cuts.raise();
            self.with(token, |connection, _, _| {
                connection.end(Manner::Reset, CloseReason::Drained)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(count: u64, window_ms: Millis) -> Drain {
        let window = Duration::from_millis(window_ms);
        within(Duration::MAX, window, count)
    }

    fn within(timeout: Duration, window: Duration, count: u64) -> Drain {
        let token = |slot| Token { slot, generation: 0 };
        let waiting = (0..u32::try_from(count).expect("few")).map(token).collect();
        Drain::begin(DrainTimes { timeout, window }, waiting, 100)
    }

    #[test]
    fn whoever_is_told_last_has_half_of_the_time() {
        let second = Duration::from_secs(1);
        let drain = within(second, second, 3000);
        assert_eq!((drain.due(100), drain.due(600), drain.cut_at), (1, 3000, 1100));
    }

    #[test]
    fn many_are_spread_over_the_window_and_few_do_not_wait_for_it() {
        for (count, window, at, due) in [
            (5000, 1000, 100, 1),
            (5000, 1000, 101, 6),
            (5000, 1000, 600, 2501),
            (5000, 1000, 1100, 5000),
            (5000, 0, 100, 5000),
            (3, 10_000, 100, 1),
            (3, 10_000, 101, 2),
            (3, 10_000, 102, 3),
            (0, 1000, 100, 0),
        ] {
            assert_eq!(drain(count, window).due(at), due, "{count} in {window} at {at}");
        }
    }

    #[test]
    fn the_next_time_is_that_at_which_one_more_is_due() {
        for (count, window) in [(1, 10), (3, 1000), (7, 1000), (5000, 1000), (999, 1000)] {
            let mut drain = drain(count, window);
            let mut turns = 0;
            while !drain.waiting.is_empty() {
                let now = drain.next_at();
                let left = usize::try_from(drain.count - drain.due(now)).expect("few");
                assert!(left < drain.waiting.len(), "{count} in {window}: nothing is due at {now}");
                drain.waiting.truncate(left);
                turns += 1;
            }
            assert!(turns <= window + 1, "{count} in {window}: {turns} turns");
        }
    }
}
