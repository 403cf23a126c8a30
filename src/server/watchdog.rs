//! Notices a core that does not turn: its handler blocks it, or never comes back.
//!
//! ```text
//!   look ──► wake every core ──► ... ──► look: who has not turned since is stuck
//! ```
//!
//! An idle core turns when it is woken, a busy one anyway; what does neither serves nobody. Nothing is asked
//! of a core but the number of its turns.

use std::time::Duration;

use super::{Reach, Running};

/// Looks at the cores of a running server, whenever it is told to. One looks at a server.
#[derive(Debug)]
pub struct Watchdog {
    cores: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    reach: Reach,
    /// Turns it had at the last look.
    turns: u64,
    /// It was woken, and has until the next look to turn.
    is_woken: bool,
    is_stuck: bool,
    stuck_for: Duration,
}

/// What has become of a core since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It did not turn, for so long by now.
    Stuck {
        /// The worker: its thread is `upring-` and this number.
        worker: usize,
        /// How long, at least.
        duration: Duration,
        /// What it is in, if it is in foreign code: `a handler of websocket`, `an HTTP handler`.
        place: Option<String>,
    },
    /// It turns again.
    Recovered {
        /// The worker.
        worker: usize,
        /// How long it was stuck, at least.
        duration: Duration,
    },
}

impl Watchdog {
    /// Of all cores of a server.
    pub(super) fn of(running: &Running) -> Watchdog {
        let watched = |reach: Reach| Watched {
            turns: reach.counters.turns.value(),
            reach,
            is_woken: false,
            is_stuck: false,
            stuck_for: Duration::ZERO,
        };
        Watchdog { cores: running.within_reach().into_iter().map(watched).collect() }
    }

    /// Looks, `elapsed` after the last time, and wakes every core for the next. Whoever was stuck for the
    /// first time is counted in `stalls`.
    pub fn look(&mut self, elapsed: Duration) -> Vec<Finding> {
        let looked = self.cores.iter_mut().enumerate();
        looked.filter_map(|(worker, core)| core.look(worker, elapsed)).collect()
    }

    /// Whether no core was stuck at the last look.
    pub fn is_well(&self) -> bool {
        self.cores.iter().all(|core| !core.is_stuck)
    }
}

impl Watched {
    fn look(&mut self, worker: usize, elapsed: Duration) -> Option<Finding> {
        let turns = self.reach.counters.turns.value();
        let has_turned = std::mem::replace(&mut self.turns, turns) != turns;
        let was_woken = std::mem::replace(&mut self.is_woken, true);
        let was_stuck = self.is_stuck;
        // One that has ended turns no more, and nobody waits for it.
        self.is_stuck = was_woken && !has_turned && !self.reach.remote.has_ended();
        self.reach.control.notify();
        if self.is_stuck {
            self.stuck_for += elapsed;
            if !was_stuck {
                self.reach.counters.stalls.raise();
            }
            let place = self.reach.counters.upgrades.calling();
            return Some(Finding::Stuck { worker, duration: self.stuck_for, place });
        }
        let duration = std::mem::take(&mut self.stuck_for);
        was_stuck.then_some(Finding::Recovered { worker, duration })
    }
}
