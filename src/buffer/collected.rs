//! Bytes put together of what came in pieces: whole content, and WebSocket messages. All of one core
//! are counted together, so that many clients who each send little at a time do not hold more of its
//! memory than they may.

use std::ops::Deref;
use std::sync::Arc;

use crate::counters::Counters;

/// Memory of the first piece, if as much may come: as much as a receive buffer.
const CAPACITY_MIN: usize = 4096;

/// What one core may hold of what has not come whole, and the gauge that says how much it does.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) counters: &'a Arc<Counters>,
    pub(crate) bytes_max: u64,
}

/// The core holds as much as it may.
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Ledger<'_> {
    /// Whether so many bytes more may be held.
    pub(crate) fn has_room_for(self, bytes: u64) -> bool {
        self.counters.bytes_collected.value().saturating_add(bytes) <= self.bytes_max
    }

    /// Whether more is held than may be.
    fn is_overdrawn(self) -> bool {
        !self.has_room_for(0)
    }
}

/// Bytes that are counted from when their memory is taken to when they are dropped or handed on.
#[derive(Debug)]
pub(crate) struct Collected {
    bytes: Vec<u8>,
    counters: Arc<Counters>,
}

impl Collected {
    /// Nothing yet, and no memory.
    pub(crate) fn new(ledger: Ledger<'_>) -> Collected {
        Collected { bytes: Vec::new(), counters: Arc::clone(ledger.counters) }
    }

    /// Adds `piece`, if there is room for the memory that takes: four times of what there was, but never
    /// more than `len_max`, which is all that may come. Twice would copy three times as much, and all at
    /// once would be memory for a few bytes: what an allocator hands out again has been written to.
    pub(crate) fn extend(
        &mut self,
        piece: &[u8],
        len_max: u64,
        ledger: Ledger<'_>,
    ) -> Result<(), NoRoom> {
        let (capacity, len) = (self.bytes.capacity(), self.bytes.len() + piece.len());
        if len > capacity {
            let len_max = usize::try_from(len_max).unwrap_or(usize::MAX);
            let grown = capacity.saturating_mul(4).max(CAPACITY_MIN).min(len_max).max(len);
            if !ledger.has_room_for((grown - capacity) as u64) {
                return Err(NoRoom);
            }
            self.counting(|bytes| bytes.reserve_exact(grown - bytes.len()));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Has `write` append to the bytes, which takes the memory it takes; then there may be no room.
    pub(crate) fn append<T>(
        &mut self,
        ledger: Ledger<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, NoRoom> {
        let written = self.counting(write);
        if ledger.is_overdrawn() { Err(NoRoom) } else { Ok(written) }
    }

    /// The bytes, which are counted no longer.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.counters.bytes_collected.subtract(self.bytes.capacity() as u64);
        std::mem::take(&mut self.bytes)
    }

    /// Has `change` grow the bytes, and counts by how much.
    fn counting<T>(&mut self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.bytes.capacity();
        let changed = change(&mut self.bytes);
        self.counters.bytes_collected.add((self.bytes.capacity() - before) as u64);
        changed
    }
}

impl Deref for Collected {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        self.counters.bytes_collected.subtract(self.bytes.capacity() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_fourfold_and_ends_at_what_may_come() {
        let counters = Arc::default();
        let ledger = Ledger { counters: &counters, bytes_max: u64::MAX };
        let mut collected = Collected::new(ledger);
        let mut capacities = Vec::new();
        for _ in 0..10 {
            collected.extend(&[b'x'; 2000], 20_000, ledger).expect("there is room");
            capacities.push(counters.bytes_collected.value());
        }
        capacities.dedup();
        assert_eq!(capacities, [4096, 16_384, 20_000]);
        assert_eq!(collected.len(), 20_000);
        assert_eq!(collected.into_bytes().capacity(), 20_000);
        assert_eq!(counters.bytes_collected.value(), 0);
    }

    #[test]
    fn what_has_no_room_is_not_taken_and_what_is_dropped_makes_some() {
        let counters = Arc::default();
        let ledger = Ledger { counters: &counters, bytes_max: 10 };
        let (mut one, mut other) = (Collected::new(ledger), Collected::new(ledger));
        one.extend(b"12345678", 8, ledger).expect("there is room");
        other.extend(b"abc", 3, ledger).expect_err("there is none");
        assert_eq!((other.len(), counters.bytes_collected.value()), (0, 8));
        drop(one);
        other.extend(b"abc", 3, ledger).expect("there is room again");
        assert_eq!((&*other, counters.bytes_collected.value()), (&b"abc"[..], 3));
        other.append(ledger, |bytes| bytes.reserve_exact(20)).expect_err("that was too much");
        drop(other);
        assert_eq!(counters.bytes_collected.value(), 0);
    }
}
