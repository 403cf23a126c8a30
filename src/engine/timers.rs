//! When each slot wants to be looked at: a hierarchical timing wheel over slot numbers, one time a
//! slot, resolution one millisecond. Setting and clearing are constant-time and allocate only as
//! slots are added.
//!
//! ```text
//!   level 0: 64 x 1 ms    level 1: 64 x 64 ms    level 2: 64 x 4 s    level 3: 64 x 4 min    level 4: 64 x 5 h
//! ```
//!
//! A time lies in the level of the highest digit (base 64) in which it differs from now; when now
//! reaches that digit, it falls to a lower level. The engine sets times lazily: a time that moves
//! later is left where it is and set again when it comes up.

use crate::config::{Millis, NEVER};

const LEVELS: usize = 5;
const SLOTS: usize = 64;
const BITS: u32 = 6;
const NONE: u32 = u32::MAX;
const PAGE: usize = 256;
/// As far ahead as the wheel goes; later times are looked at again then.
const HORIZON: Millis = 1 << (BITS * LEVELS as u32);

#[derive(Debug)]
pub(super) struct Timers {
    now: Millis,
    heads: [[u32; SLOTS]; LEVELS],
    /// A bit for each list that is not empty.
    occupied: [u64; LEVELS],
    /// In pages that never move: a list that is moved each time it grows leaves its old memory
    /// behind.
    pages: Vec<Box<[Entry; PAGE]>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    when: Millis,
    next: u32,
    /// The entry before; of the first one its list, marked by [`FIRST`]; or [`UNLINKED`].
    previous: u32,
}

const FIRST: u32 = 1 << 31;
const UNLINKED: u32 = u32::MAX;

impl Timers {
    pub(super) fn new(now: Millis) -> Timers {
        Timers { now, heads: [[NONE; SLOTS]; LEVELS], occupied: [0; LEVELS], pages: Vec::new() }
    }

    /// Makes room for slots below `bound`.
    pub(super) fn grow(&mut self, bound: u32) {
        let entry = Entry { when: NEVER, next: NONE, previous: UNLINKED };
        while self.pages.len() * PAGE < bound as usize {
            self.pages.push(Box::new([entry; PAGE]));
        }
    }

    /// When a slot comes up, or [`NEVER`].
    pub(super) fn when(&self, slot: u32) -> Millis {
        self.entry(slot).when
    }

    /// Has a slot come up at `when`; a time that is past comes up next.
    pub(super) fn set(&mut self, slot: u32, when: Millis) {
        self.unlink(slot);
        self.entry_mut(slot).when = when;
        if when != NEVER {
            self.link(slot);
        }
    }

    /// Moves to `now` and takes one slot that has come up.
    pub(super) fn pop(&mut self, now: Millis) -> Option<u32> {
        loop {
            if let Some(slot) = self.take_due() {
                return Some(slot);
            }
            let next = self.next();
            if next > now {
                self.now = self.now.max(now);
                return None;
            }
            self.now = next;
            self.cascade();
        }
    }

    /// A time at or before which the first slot comes up, [`NEVER`] if none will.
    pub(super) fn next(&self) -> Millis {
        for level in 0..LEVELS {
            let shift = BITS * u32::try_from(level).expect("few levels");
            let digit = (self.now >> shift) & (SLOTS as u64 - 1);
            // Lists behind the current digit hold what comes up in this turn of the level; at level
            // 0 also the current one.
            let ahead = if level == 0 {
                self.occupied[0] & (u64::MAX << digit)
            } else {
                self.occupied[level] & above(digit)
            };
            if ahead != 0 {
                let list = u64::from(ahead.trailing_zeros());
                let base = (self.now >> shift) & !(SLOTS as u64 - 1);
                return ((base + list) << shift).max(self.now);
            }
        }
        // Behind the top level's current digit lies what comes up after its last one: its next
        // round.
        let shift = BITS * u32::try_from(LEVELS - 1).expect("few levels");
        match self.occupied[LEVELS - 1] {
            0 => NEVER,
            lists => {
                (((self.now >> shift) | (SLOTS as u64 - 1)) + 1 + u64::from(lists.trailing_zeros()))
                    << shift
            }
        }
    }

    fn entry(&self, slot: u32) -> &Entry {
        &self.pages[slot as usize / PAGE][slot as usize % PAGE]
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.pages[slot as usize / PAGE][slot as usize % PAGE]
    }

    fn take_due(&mut self) -> Option<u32> {
        let digit = usize::try_from(self.now & (SLOTS as u64 - 1)).expect("a digit is small");
        let slot = self.heads[0][digit];
        if slot == NONE {
            return None;
        }
        self.unlink(slot);
        self.entry_mut(slot).when = NEVER;
        Some(slot)
    }

    /// Lets the lists that `now` has just reached fall to lower levels.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let shift = BITS * u32::try_from(level).expect("few levels");
            let digit = usize::try_from((self.now >> shift) & (SLOTS as u64 - 1))
                .expect("a digit is small");
            if self.now & ((1 << shift) - 1) != 0 {
                continue;
            }
            let mut slot = self.heads[level][digit];
            self.heads[level][digit] = NONE;
            self.occupied[level] &= !(1 << digit);
            while slot != NONE {
                let next = self.entry(slot).next;
                self.link(slot);
                slot = next;
            }
        }
    }

    fn link(&mut self, slot: u32) {
        let when = self.entry(slot).when.clamp(self.now, self.now + HORIZON / 2);
        let differs = (when ^ self.now) | 1;
        let level = ((63 - differs.leading_zeros()) / BITS)
            .min(u32::try_from(LEVELS - 1).expect("few levels"));
        let digit = usize::try_from((when >> (BITS * level)) & (SLOTS as u64 - 1))
            .expect("a digit is small");
        let level = level as usize;
        let head = self.heads[level][digit];
        if head != NONE {
            self.entry_mut(head).previous = slot;
        }
        let entry = self.entry_mut(slot);
        entry.next = head;
        entry.previous = FIRST | u32::try_from(level * SLOTS + digit).expect("few lists");
        self.heads[level][digit] = slot;
        self.occupied[level] |= 1 << digit;
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { next, previous, .. } = *self.entry(slot);
        if previous == UNLINKED {
            return;
        }
        if next != NONE {
            self.entry_mut(next).previous = previous;
        }
        if previous & FIRST == 0 {
            self.entry_mut(previous).next = next;
        } else {
            let list = (previous & !FIRST) as usize;
            let (level, digit) = (list / SLOTS, list % SLOTS);
            self.heads[level][digit] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << digit);
            }
        }
        self.entry_mut(slot).previous = UNLINKED;
    }
}

/// The bits above `digit`.
fn above(digit: u64) -> u64 {
    u64::MAX.checked_shl(u32::try_from(digit).expect("a digit is small") + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut Timers, now: Millis) -> Vec<u32> {
        let mut due: Vec<u32> = std::iter::from_fn(|| timers.pop(now)).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn every_time_comes_up_in_its_millisecond_and_not_before() {
        // A round of the wheel is 2^30 ms, twelve days.
        for start in [0, 63, 64, 4095, 262_143, 1_000_003, HORIZON - 1, 7 * HORIZON - 5000] {
            let delays = [
                0, 1, 2, 62, 63, 64, 65, 100, 4095, 4096, 4097, 60_000, 262_144, 300_000,
                20_000_000,
            ];
            let mut timers = Timers::new(start);
            timers.grow(64);
            for (slot, delay) in (0..).zip(delays) {
                timers.set(slot, start + delay);
            }
            for (slot, delay) in (0..).zip(delays) {
                if delay > 0 {
                    assert_eq!(
                        due(&mut timers, start + delay - 1),
                        [0; 0],
                        "{delay} ms after {start}"
                    );
                }
                assert_eq!(due(&mut timers, start + delay), [slot], "{delay} ms after {start}");
            }
            assert_eq!(timers.next(), NEVER);
        }
    }

    #[test]
    fn next_is_never_later_than_the_first_time() {
        let mut timers = Timers::new(5);
        timers.grow(64);
        let mut state = 0x9e37_79b9_u64;
        for round in 0..20_000_u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let slot = u32::try_from(state >> 58).expect("six bits");
            match state % 3 {
                0 => timers.set(slot, NEVER),
                _ => timers.set(slot, timers.now + (state >> 20) % 9000),
            }
            let first = (0..64).map(|slot| timers.when(slot)).min().expect("64 slots");
            assert!(timers.next() <= first, "round {round}");
            let now = timers.now + (state >> 40) % 40;
            let expected: Vec<u32> = (0..64).filter(|slot| timers.when(*slot) <= now).collect();
            assert_eq!(due(&mut timers, now), expected, "round {round}");
        }
    }

    #[test]
    fn a_slot_has_one_time() {
        let mut timers = Timers::new(0);
        timers.grow(4);
        timers.set(1, 10);
        timers.set(1, 500);
        timers.set(2, 700);
        timers.set(2, NEVER);
        assert_eq!(due(&mut timers, 499), [0; 0]);
        assert_eq!(due(&mut timers, 5000), [1]);
    }
}
