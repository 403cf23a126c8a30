//! Who begins when. Called by `rounds.rs`.

use std::time::Duration;

use crate::clients::Patience;
use crate::options::Run;

/// Closer than this, waiting is done by looking: the ring sleeps in whole milliseconds.
const LOOK_NS: u64 = 2_000_000;
/// A longer pause is looked up from in between: the time may be over.
pub(crate) const SLICE: Duration = Duration::from_millis(50);
const WAIT: Patience = Patience::For(Duration::from_millis(500));

/// When requests are begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// One each so many nanoseconds, the first after `first_ns`.
    Open { first_ns: f64, interval_ns: f64 },
    /// All connections at once, when none is owed anything.
    LockStep { pause: Duration },
}

impl Pace {
    /// That of the `number`-th of `threads` threads, which take turns.
    pub(crate) fn of(run: &Run, number: u16, threads: u16) -> Pace {
        match run.rate {
            Some(rate) => {
                let every_ns = 1e9 / rate;
                Pace::Open {
                    first_ns: every_ns * f64::from(number),
                    interval_ns: every_ns * f64::from(threads),
                }
            }
            None if run.lock_step => Pace::LockStep { pause: Duration::from_micros(run.pause_us) },
            None => Pace::Closed,
        }
    }

    /// Nanoseconds after the beginning at which the `count`-th is due; `None` if that depends on
    /// answers.
    pub(crate) fn due_ns(self, count: u64) -> Option<u64> {
        match self {
            // Multiplied, not added up: the rate is right however long the run.
            Pace::Open { first_ns, interval_ns } => {
                Some((first_ns + interval_ns * count as f64) as u64)
            }
            Pace::Closed | Pace::LockStep { .. } => None,
        }
    }

    /// How many are due so many nanoseconds after the beginning.
    pub(crate) fn due_by(self, elapsed_ns: u64) -> u64 {
        match self {
            Pace::Open { first_ns, interval_ns } if elapsed_ns as f64 >= first_ns => {
                ((elapsed_ns as f64 - first_ns) / interval_ns) as u64 + 1
            }
            _ => 0,
        }
    }
}

/// How long to wait for events when the next is due in so many nanoseconds, or when an answer
/// comes.
pub(crate) fn patience(next_ns: Option<u64>) -> Patience {
    match next_ns {
        Some(..LOOK_NS) => Patience::None,
        Some(next_ns) => Patience::For(Duration::from_nanos(next_ns - LOOK_NS)),
        None => WAIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_rate_in_turns() {
        let every_ns = |rate: f64| 1e9 / rate;
        let pace = |number: u16| Pace::Open {
            first_ns: every_ns(1000.0) * f64::from(number),
            interval_ns: every_ns(1000.0) * 2.0,
        };
        let due: Vec<_> =
            (0..3).map(|count| (pace(0).due_ns(count), pace(1).due_ns(count))).collect();
        assert_eq!(due[0], (Some(0), Some(1_000_000)));
        assert_eq!(due[2], (Some(4_000_000), Some(5_000_000)));
    }

    #[test]
    fn a_rate_stays_right_for_an_hour() {
        let pace = Pace::Open { first_ns: 0.0, interval_ns: 1e9 / 30_000.0 };
        assert_eq!(pace.due_ns(30_000 * 3600), Some(3_600_000_000_000));
    }

    #[test]
    fn what_is_never_due_is_not_due_at_once() {
        let pace = Pace::Open { first_ns: 0.0, interval_ns: 1e20 };
        assert_eq!((pace.due_ns(0), pace.due_ns(1)), (Some(0), Some(u64::MAX)));
    }

    #[test]
    fn what_is_due_soon_is_looked_for() {
        assert!(matches!(patience(Some(1_000_000)), Patience::None));
        assert!(
            matches!(patience(Some(12_000_000)), Patience::For(time) if time.as_millis() == 10)
        );
    }
}
