//! When so many connections fail that an operator should hear of it, and not of each.

use crate::config::Millis;

/// Failures in a minute that are usual: clients of old versions, scanners, people who click away.
const USUAL_MAX: u64 = 100;

const MINUTE_MS: Millis = 60_000;

/// Counts what fails on one core, and says at most once a minute that it is much.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// When the minute began that is counted: with a failure, or with what was said last.
    begun: Millis,
    count: u64,
    is_said: bool,
}

impl Alarm {
    /// One more has failed; how many there were, if that is to be said now: as soon as they are more than usual,
    /// and as long as they are, for each minute.
    pub(crate) fn note(&mut self, now: Millis) -> Option<u64> {
        let is_over = now.saturating_sub(self.begun) >= MINUTE_MS;
        let count = self.count;
        if is_over {
            let was_much = self.is_said && count > USUAL_MAX;
            *self = Alarm { begun: now, count: 1, is_said: was_much };
            return was_much.then_some(count);
        }
        self.count += 1;
        if self.is_said || self.count <= USUAL_MAX {
            return None;
        }
        let count = self.count;
        *self = Alarm { begun: now, count: 0, is_said: true };
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When something is said, and what, if one fails every so many milliseconds.
    fn said(every_ms: Millis, until: Millis) -> Vec<(Millis, u64)> {
        let mut alarm = Alarm::default();
        let times = (1_000_000..1_000_000 + until).step_by(every_ms as usize);
        times.filter_map(|now| Some((now - 1_000_000, alarm.note(now)?))).collect()
    }

    #[test]
    fn a_hundred_a_minute_are_usual_and_more_are_said_at_once() {
        assert_eq!(said(600, 600_000), []);
        assert_eq!(said(500, 60_000), [(50_000, 101)]);
    }

    #[test]
    fn a_flood_is_said_once_a_minute_with_its_count() {
        // The hundred and first comes at 100 ms; behind it one a millisecond.
        let expected = [(100, 101), (60_100, 59_999), (120_100, 60_000), (180_100, 60_000)];
        assert_eq!(said(1, 200_000), expected);
    }

    #[test]
    fn a_flood_that_is_over_is_not_said_again() {
        let mut alarm = Alarm::default();
        let flood: Vec<_> = (0..500).filter_map(|at| alarm.note(1_000_000 + at)).collect();
        assert_eq!(flood, [101]);
        // What came behind the word of it, when the next one fails.
        assert_eq!(alarm.note(2_000_000), Some(399));
        assert_eq!(alarm.note(3_000_000), None);
        assert_eq!(alarm.note(3_000_001), None);
    }
}
