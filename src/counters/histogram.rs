//! Times, counted by how long they were: a fixed array of counters for each, written by one core.
//!
//! The bounds double from one bucket to the next, so that finding the bucket is counting zeroes.

use super::Counter;

/// Nanoseconds, of a length or on a core's monotonic clock.
pub type Nanos = u64;

/// Nanoseconds in a millisecond.
pub const NANOS_PER_MILLI: Nanos = 1_000_000;

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: Nanos = 1_000_000_000;

/// A moment of a core's monotonic clock, as its timers and as its measures have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Whole milliseconds.
    pub millis: u64,
    /// Nanoseconds: for five centuries.
    pub nanos: Nanos,
}

impl Time {
    /// One of a clock that is no finer than milliseconds.
    pub fn of(millis: u64) -> Time {
        Time { millis, nanos: millis.wrapping_mul(NANOS_PER_MILLI) }
    }
}

/// Bounds of a histogram; what is above the last one is in a bucket of its own.
const BOUNDS: usize = 27;

/// From a microsecond to 67 seconds.
pub type Latencies = Histogram<1_000>;

/// From a millisecond to 18 hours.
pub type Lifetimes = Histogram<NANOS_PER_MILLI>;

/// How many of the times counted were how long. `FIRST` is the bound of the first bucket in
/// nanoseconds, each further one is twice that of the one before, and a time that is a bound is
/// below it.
#[derive(Debug)]
pub struct Histogram<const FIRST: Nanos> {
    buckets: [Counter; BOUNDS + 1],
    sum: Counter,
}

impl<const FIRST: Nanos> Default for Histogram<FIRST> {
    fn default() -> Self {
        Histogram { buckets: [const { Counter::new() }; BOUNDS + 1], sum: Counter::new() }
    }
}

impl<const FIRST: Nanos> Histogram<FIRST> {
    /// Counts `count` that took `nanos` each. Only the core that owns it may call this.
    pub fn note(&self, nanos: Nanos, count: u64) {
        let units = nanos.saturating_sub(1) / FIRST;
        let index = (u64::BITS - units.leading_zeros()) as usize;
        if let Some(bucket) = self.buckets.get(index.min(BOUNDS)) {
            bucket.add(count);
        }
        self.sum.add(nanos.wrapping_mul(count));
    }

    /// The bounds in nanoseconds, in ascending order.
    pub fn bounds() -> impl Iterator<Item = Nanos> {
        (0..BOUNDS).map(|index| FIRST << index)
    }

    /// How many are in each bucket; the last one has no bound.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::value)
    }

    /// The sum of all times, in nanoseconds.
    pub fn sum(&self) -> Nanos {
        self.sum.value()
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index of the bucket that a time is counted in.
    fn bucket(nanos: Nanos) -> usize {
        let latencies = Latencies::default();
        latencies.note(nanos, 1);
        latencies.counts().position(|count| count == 1).unwrap()
    }

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let bounds: Vec<Nanos> = Latencies::bounds().collect();
        assert_eq!((bounds[0], bounds[26]), (1_000, 67_108_864_000));
        for (index, bound) in bounds.into_iter().enumerate() {
            for (nanos, expected) in [(bound - 1, index), (bound, index), (bound + 1, index + 1)] {
                assert_eq!(bucket(nanos), expected, "{nanos} ns");
            }
        }
        assert_eq!((bucket(0), bucket(Nanos::MAX)), (0, 27));
    }

    #[test]
    fn many_of_one_length_are_counted_at_once() {
        let lifetimes = Lifetimes::default();
        lifetimes.note(3 * NANOS_PER_MILLI, 5);
        lifetimes.note(0, 1);
        assert_eq!((lifetimes.count(), lifetimes.sum()), (6, 15 * NANOS_PER_MILLI));
        assert_eq!(lifetimes.counts().nth(2), Some(5), "above 2 ms, up to 4");
    }
}
