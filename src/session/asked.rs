//! A protocol that was asked to decide and has not: what is counted of that.

use super::Core;
use crate::counters::{Nanos, TokenSlot, UpgradeResult};

/// Who was asked, and when.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    token: TokenSlot,
    since: Nanos,
}

impl Asked {
    /// A protocol has been asked in this turn, and its decision is not there.
    pub(super) fn now(token: TokenSlot, core: &Core) -> Asked {
        core.counters.upgrades_deciding.raise();
        core.counters.upgrades.of(token).deciding.raise();
        Asked { token, since: core.times.began() }
    }

    /// Its decision is there.
    pub(super) fn decided(self, core: &Core) {
        self.abandoned(core);
        let took = core.times.began().saturating_sub(self.since);
        core.counters.decision_times.note(took, 1);
    }

    /// It did not come in time, or never will.
    pub(super) fn timed_out(self, core: &Core) {
        self.decided(core);
        core.count_upgrade(self.token, UpgradeResult::Timeout);
    }

    /// Nobody waits for it any more.
    pub(super) fn abandoned(self, core: &Core) {
        core.counters.upgrades_deciding.lower();
        core.counters.upgrades.of(self.token).deciding.lower();
    }
}
