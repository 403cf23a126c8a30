//! The provided-buffer rings of one core, one for each size of buffer: receive buffers lent to the
//! kernel, which picks one when bytes have arrived and not before. A ring's memory is ours: rings
//! mapped by the kernel have been a hole (CVE-2024-0582).
//!
//! ```text
//!   pool ── take() ──► entry in the ring ── tail, release store ──► the kernel's ── completion ──► lease
//! ```
//!
//! Only `lent` buffers are with the kernel at a time, so that what circulates stays in a near
//! cache; the number doubles each time a receive found none.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::buffer::{Lease, Pool, Size, Vacant};

/// The buffer group of each size.
pub(super) const fn group(size: Size) -> u16 {
    match size {
        Size::Usual => 0,
        Size::Large => 1,
    }
}

/// What the kernel requires of the ring's address.
const PAGE: usize = 4096;

/// The buffers of one size of a pool that are lent to the kernel, and the ring that says which.
pub(super) struct BufferRing {
    pool: Pool,
    size: Size,
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    tail: u16,
    /// Buffers the kernel holds now, and how many it is to hold.
    held: u16,
    lent: u16,
}

impl BufferRing {
    /// A ring with room for every buffer of `pool` that has this size, lending `lent` of them at first;
    /// not known to a kernel yet.
    pub(super) fn new(pool: Pool, size: Size, lent: u16) -> BufferRing {
        let count = pool.count_of(size);
        assert!(
            count.is_power_of_two() && count <= 1 << 15,
            "a buffer ring has a power of two of entries up to 32 768"
        );
        let layout = Layout::from_size_align(count * size_of::<BufRingEntry>(), PAGE)
            .expect("half a megabyte at most");
        // SAFETY: the layout has a size above zero: the count is a power of two.
        let memory = unsafe { alloc_zeroed(layout) };
        let entries = NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(layout));
        let lent = lent.clamp(1, count as u16);
        BufferRing { pool, size, entries, layout, tail: 0, held: 0, lent }
    }

    /// Makes the ring known to the kernel behind `submitter`.
    ///
    /// # Safety
    /// This value is not dropped before [`unregister`](BufferRing::unregister) has succeeded or
    /// that kernel ring is gone.
    pub(super) unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let count = self.pool.count_of(self.size) as u16;
        let address = self.entries.as_ptr() as u64;
        // SAFETY: the memory has `count` entries, is aligned to a page, and outlives the
        // registration by the caller's promise.
        unsafe { submitter.register_buf_ring_with_flags(address, count, group(self.size), 0) }
    }

    /// Takes the ring back: no receive that looks for a buffer after this finds one.
    pub(super) fn unregister(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        submitter.unregister_buf_ring(group(self.size))
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Buffers that could be received into.
    pub(super) fn receivable(&self) -> usize {
        self.pool.vacant_of(self.size) + usize::from(self.held)
    }

    /// Lends vacant buffers until the kernel holds as many as it is to hold.
    pub(super) fn refill(&mut self) {
        if self.held >= self.lent {
            return;
        }
        let before = self.tail;
        while self.held < self.lent
            && let Some(vacant) = self.pool.take_of(self.size)
        {
            self.publish(vacant);
        }
        if self.tail != before {
            // Release: the kernel sees whole entries once it sees this tail.
            self.shared_tail().store(self.tail, Ordering::Release);
        }
    }

    /// Doubles what is lent, as far as there are buffers.
    pub(super) fn starved(&mut self) {
        self.lent = self.lent.saturating_mul(2).min(self.pool.count_of(self.size) as u16);
    }

    /// The lease on `len` bytes that the kernel says it wrote to `buffer`.
    ///
    /// # Safety
    /// A completion that this ring's kernel flagged with this buffer is being taken; none is taken
    /// twice.
    pub(super) unsafe fn received(&mut self, buffer: u16, len: u32) -> Lease {
        self.held -= 1;
        // SAFETY: every buffer in the ring came from `into_raw`; by the caller's promise it is
        // given back now.
        unsafe { self.pool.received(buffer, len) }
    }

    /// Takes back a buffer that the kernel picked and did not write to.
    ///
    /// # Safety
    /// As for [`received`](BufferRing::received).
    pub(super) unsafe fn reclaim(&mut self, buffer: u16) -> Vacant {
        self.held -= 1;
        // SAFETY: as in `received`.
        unsafe { self.pool.reclaim(buffer) }
    }

    fn publish(&mut self, vacant: Vacant) {
        let mask = self.pool.count_of(self.size) - 1;
        let bytes = self.pool.bytes_of(self.size);
        let (address, buffer) = vacant.into_raw();
        // SAFETY: the index is below the number of entries, a power of two. The kernel only reads
        // entries, and none from the tail on; the tail, which lies in the unused half of the first
        // entry, is not written here.
        let entry = unsafe { &mut *self.entries.as_ptr().add(usize::from(self.tail) & mask) };
        entry.set_addr(address as u64);
        entry.set_len(bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.held += 1;
    }

    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the first entry is initialised (zeroed), its tail field is aligned, lives as long
        // as `self`, and is only accessed through this atomic on our side.
        unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; whoever registered it promised that no
        // kernel knows it now.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_no_more_than_it_is_to_lend_and_doubles_that_when_starved() {
        let pool = Pool::new(8, 64);
        let mut buffers = BufferRing::new(pool.clone(), Size::Usual, 2);
        for (lent, vacant) in [(2, 6), (4, 4), (8, 0), (8, 0)] {
            buffers.refill();
            assert_eq!((usize::from(buffers.held), pool.vacant()), (lent, vacant));
            assert_eq!(usize::from(buffers.shared_tail().load(Ordering::Relaxed)), lent);
            buffers.starved();
        }
    }

    #[test]
    fn a_buffer_taken_back_is_lent_again_at_the_next_refill() {
        let pool = Pool::new(2, 64);
        let mut buffers = BufferRing::new(pool.clone(), Size::Usual, 2);
        buffers.refill();
        // SAFETY: buffer 0 was published, and no kernel knows this ring: the test stands for it.
        drop(unsafe { buffers.reclaim(0) });
        assert_eq!((pool.vacant(), buffers.held), (1, 1));
        buffers.refill();
        assert_eq!((pool.vacant(), buffers.held, buffers.tail), (0, 2, 3));
    }
}
