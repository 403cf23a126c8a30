//! A core's monotonic clock: milliseconds since its ring was made, and the absolute time the
//! kernel's timer takes.

use std::time::{Duration, SystemTime};

use io_uring::types::Timespec;
use rustix::time::{ClockId, clock_gettime};

use super::Millis;
use crate::counters::{NANOS_PER_SECOND, Nanos, Time};

/// Milliseconds since a moment of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Duration,
}

impl Clock {
    /// A clock that reads zero now.
    pub(super) fn start() -> Clock {
        Clock { origin: monotonic() }
    }

    pub(super) fn now(self) -> Millis {
        self.time().millis
    }

    /// The same, and in nanoseconds.
    pub(super) fn time(self) -> Time {
        let since = monotonic().saturating_sub(self.origin);
        let millis = since.as_secs() * 1000 + Millis::from(since.subsec_millis());
        let nanos = since.as_secs() * NANOS_PER_SECOND + Nanos::from(since.subsec_nanos());
        Time { millis, nanos }
    }

    /// What `CLOCK_MONOTONIC` shows at `when`: never before this clock shows it.
    pub(super) fn absolute(self, when: Millis) -> Timespec {
        Timespec::from(self.origin + Duration::from_millis(when))
    }

    pub(super) fn unix_seconds() -> u64 {
        since_epoch().as_secs()
    }

    pub(super) fn unix_millis() -> u64 {
        u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}
