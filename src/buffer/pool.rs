//! The receive buffers of one core, and the lease: ownership of received bytes in one of them.
//!
//! ```text
//!              take()             publish (ring)             completion
//!   vacant ──────────► Vacant ───────────────► the kernel's ───────────► Lease(s) ──► vacant
//! ```
//!
//! A buffer is in exactly one of these places. A lease can be split; the buffer is vacant again
//! when the last lease on it is dropped. Vacant buffers are kept as a stack, so that warm memory is
//! used first. Most are a page; some are large, for who sends much at once, and numbered behind the
//! others.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

const PAGE: usize = 4096;

/// Which of a pool's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Those that nearly everything is received into.
    Usual,
    /// Those for who fills several of the others at once.
    Large,
}

/// A core's receive buffers. Cloning shares them; they live until the last lease is gone.
#[derive(Clone)]
pub struct Pool {
    memory: Rc<Memory>,
}

struct Memory {
    base: NonNull<u8>,
    layout: Layout,
    usual: Shelf,
    large: Shelf,
    /// Leases on each buffer.
    holders: Box<[Cell<u32>]>,
    /// What follows each buffer in a [`LeaseQueue`](super::LeaseQueue).
    links: Box<[Cell<Parts>]>,
}

/// The buffers of one size: those numbered from `first` on, from `offset` on.
struct Shelf {
    first: u16,
    count: u16,
    bytes: u32,
    offset: usize,
    vacant: RefCell<Vec<u16>>,
}

impl Shelf {
    fn new(first: u16, offset: usize, count: u16, bytes: u32) -> Shelf {
        let vacant = (0..count).rev().map(|index| first + index).collect();
        Shelf { first, count, bytes, offset, vacant: RefCell::new(vacant) }
    }

    /// Where the next shelf begins.
    fn end(&self) -> usize {
        self.offset + usize::from(self.count) * self.bytes as usize
    }
}

/// A lease without its owner, as a queue links it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    pub(super) buffer: u16,
    start: u32,
    len: u32,
}

impl Pool {
    /// `count` buffers of `buffer_bytes` each. The memory is not touched before it is used.
    pub fn new(count: u16, buffer_bytes: u32) -> Pool {
        Pool::with_large(count, buffer_bytes, 0, 0)
    }

    /// The same, and `large` buffers of `large_bytes` each.
    pub fn with_large(count: u16, buffer_bytes: u32, large: u16, large_bytes: u32) -> Pool {
        assert!(count > 0 && buffer_bytes > 0, "a pool holds at least one byte");
        assert!(u32::from(count) + u32::from(large) <= 1 << 16, "a buffer's number has 16 bits");
        let usual = Shelf::new(0, 0, count, buffer_bytes);
        let large = Shelf::new(count, usual.end(), large, large_bytes);
        let buffers = usize::from(usual.count) + usize::from(large.count);
        let layout =
            Layout::from_size_align(large.end(), PAGE).expect("a pool fits the address space");
        // SAFETY: the layout has a size above zero, asserted above.
        let base =
            NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        Pool {
            memory: Rc::new(Memory {
                base,
                layout,
                usual,
                large,
                holders: (0..buffers).map(|_| Cell::new(0)).collect(),
                links: (0..buffers).map(|_| Cell::new(Parts::default())).collect(),
            }),
        }
    }

    /// A buffer of the usual size that nobody holds, the most recently used one first.
    pub fn take(&self) -> Option<Vacant> {
        self.take_of(Size::Usual)
    }

    /// The same of either size.
    pub fn take_of(&self, size: Size) -> Option<Vacant> {
        let buffer = self.memory.shelf(size).vacant.borrow_mut().pop()?;
        debug_assert_eq!(
            self.memory.holders[usize::from(buffer)].get(),
            0,
            "a vacant buffer has no holder"
        );
        Some(Vacant { pool: self.clone(), buffer })
    }

    /// Buffers of the usual size that nobody holds.
    pub fn vacant(&self) -> usize {
        self.vacant_of(Size::Usual)
    }

    /// Buffers of a size that nobody holds.
    pub fn vacant_of(&self, size: Size) -> usize {
        self.memory.shelf(size).vacant.borrow().len()
    }

    /// Buffers of the usual size in all.
    pub fn count(&self) -> usize {
        self.count_of(Size::Usual)
    }

    /// Buffers of a size in all.
    pub fn count_of(&self, size: Size) -> usize {
        usize::from(self.memory.shelf(size).count)
    }

    /// Bytes of one buffer of the usual size.
    pub fn buffer_bytes(&self) -> u32 {
        self.bytes_of(Size::Usual)
    }

    /// Bytes of one buffer of a size.
    pub fn bytes_of(&self, size: Size) -> u32 {
        self.memory.shelf(size).bytes
    }

    /// Whether the buffer of this number is large.
    pub(crate) fn is_large(&self, buffer: u16) -> bool {
        self.memory.usual.count <= buffer
    }

    /// Whether `address` lies inside this pool's memory.
    pub fn contains(&self, address: *const u8) -> bool {
        let base = self.memory.base.as_ptr() as usize;
        (base..base + self.memory.layout.size()).contains(&(address as usize))
    }

    /// The lease on the first `len` bytes of a buffer that was handed to the kernel.
    ///
    /// # Safety
    /// The buffer came from [`Vacant::into_raw`], the kernel has given it back since, and it has
    /// written its first `len` bytes.
    pub unsafe fn received(&self, buffer: u16, len: u32) -> Lease {
        // SAFETY: the caller's promise covers both.
        let vacant = unsafe { self.reclaim(buffer) };
        debug_assert!(
            len <= self.memory.shelf_of(buffer).bytes,
            "the kernel wrote more than a buffer holds"
        );
        vacant.lease(len)
    }

    /// The buffer that was handed to the kernel and came back without bytes.
    ///
    /// # Safety
    /// The buffer came from [`Vacant::into_raw`] and the kernel has given it back since.
    pub unsafe fn reclaim(&self, buffer: u16) -> Vacant {
        debug_assert_eq!(
            self.memory.holders[usize::from(buffer)].get(),
            0,
            "a buffer has one owner"
        );
        Vacant { pool: self.clone(), buffer }
    }

    pub(super) fn link(&self, buffer: u16, next: Parts) {
        self.memory.links[usize::from(buffer)].set(next);
    }

    pub(super) fn linked(&self, buffer: u16) -> Parts {
        self.memory.links[usize::from(buffer)].get()
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        let shelf = self.memory.shelf_of(buffer);
        let offset = shelf.offset + usize::from(buffer - shelf.first) * shelf.bytes as usize;
        debug_assert!(offset < self.memory.layout.size());
        // SAFETY: every buffer number in circulation is below the count of both sizes, so the offset
        // is inside the memory.
        unsafe { self.memory.base.as_ptr().add(offset) }
    }

    fn put_back(&self, buffer: u16) {
        // The stack was made with room for every buffer: this never allocates.
        self.memory.shelf_of(buffer).vacant.borrow_mut().push(buffer);
    }
}

impl Memory {
    fn shelf(&self, size: Size) -> &Shelf {
        match size {
            Size::Usual => &self.usual,
            Size::Large => &self.large,
        }
    }

    /// The shelf that a buffer is from.
    fn shelf_of(&self, buffer: u16) -> &Shelf {
        if buffer < self.usual.count { &self.usual } else { &self.large }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `Pool::new` with this very layout, and this is its only owner.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} of {} vacant)", self.vacant(), self.count())
    }
}

/// A buffer in nobody's use: ready to be given to the kernel. Dropping it puts it back.
#[derive(Debug)]
pub struct Vacant {
    pool: Pool,
    buffer: u16,
}

impl Vacant {
    /// Where the kernel is to write, and the number it will name in its completion. The buffer is
    /// the kernel's from here on; [`Pool::received`] or [`Pool::reclaim`] takes it back.
    pub fn into_raw(self) -> (*mut u8, u16) {
        let (pool, buffer) = self.into_parts();
        (pool.address(buffer), buffer)
    }

    /// Copies `bytes` into the buffer, as a kernel would, and leases them. For kernels that are
    /// simulated.
    pub fn fill(self, bytes: &[u8]) -> Lease {
        let room = self.pool.memory.shelf_of(self.buffer).bytes;
        assert!(bytes.len() <= room as usize, "a receive fits its buffer");
        // SAFETY: the buffer has room for `bytes` (asserted), is ours alone, and cannot overlap a
        // slice that exists outside it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.pool.address(self.buffer),
                bytes.len(),
            )
        };
        self.lease(u32::try_from(bytes.len()).expect("checked against buffer_bytes"))
    }

    fn lease(self, len: u32) -> Lease {
        let (pool, buffer) = self.into_parts();
        pool.memory.holders[usize::from(buffer)].set(1);
        Lease { pool, buffer, start: 0, len }
    }

    /// Ends this value without putting the buffer back.
    fn into_parts(self) -> (Pool, u16) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never used again, so its pool is moved out exactly once.
        (unsafe { std::ptr::read(&this.pool) }, this.buffer)
    }
}

impl Drop for Vacant {
    fn drop(&mut self) {
        self.pool.put_back(self.buffer);
    }
}

/// Ownership of received bytes, where the kernel wrote them. It can be shortened, split and written
/// to (payloads are unmasked in place); when it is dropped the bytes' buffer can be received into
/// again.
pub struct Lease {
    pool: Pool,
    buffer: u16,
    start: u32,
    len: u32,
}

impl Lease {
    /// Leaves out the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        let count = self.checked(count);
        self.start += count;
        self.len -= count;
    }

    /// Leaves out all but the first `len` bytes; no effect if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Takes the first `count` bytes as a lease of their own; both are leases on the same buffer.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub fn split_to(&mut self, count: usize) -> Lease {
        let front = self.checked(count);
        let holders = &self.pool.memory.holders[usize::from(self.buffer)];
        // Leases of no bytes could be any number.
        holders.set(holders.get().checked_add(1).expect("fewer leases than four thousand million"));
        let lease =
            Lease { pool: self.pool.clone(), buffer: self.buffer, start: self.start, len: front };
        self.advance(count);
        lease
    }

    /// A lease on a copy of these bytes, one behind the other, in memory of its own.
    ///
    /// # Panics
    /// If they are more than four gigabytes.
    pub(crate) fn copied<'a>(pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Lease {
        let bytes: usize = pieces.clone().map(<[u8]>::len).sum();
        let len = u32::try_from(bytes).expect("what one connection has unread is far less");
        let pool = Pool::new(1, len.max(1));
        let Some(vacant) = pool.take() else { unreachable!("it was just made") };
        let mut lease = vacant.lease(len);
        let mut at = 0;
        for piece in pieces {
            // SAFETY: the buffer has room for all pieces, summed above; it is ours alone, and nothing
            // else points into it.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    piece.as_ptr(),
                    lease.pool.address(lease.buffer).add(at),
                    piece.len(),
                );
            }
            at += piece.len();
        }
        lease.truncate(at);
        lease
    }

    /// A lease on no bytes yet, with room for so many in memory of its own.
    pub(crate) fn with_room(bytes: usize) -> Lease {
        let room = u32::try_from(bytes).expect("what one connection has unread is far less");
        let Some(vacant) = Pool::new(1, room.max(1)).take() else {
            unreachable!("it was just made")
        };
        vacant.lease(0)
    }

    /// Appends a copy of `bytes` to a lease [with room](Lease::with_room); room that is wanting is made
    /// fourfold, but not beyond `bytes_expected` if that is enough.
    ///
    /// # Panics
    /// If others have leases on the same buffer.
    pub(crate) fn append(&mut self, bytes: &[u8], bytes_expected: usize) {
        let holders = self.pool.memory.holders[usize::from(self.buffer)].get();
        assert!(holders == 1 && !self.is_shared(), "it is written to by its only owner");
        let wanted = self.len() + bytes.len();
        let room = self.pool.memory.shelf_of(self.buffer).bytes as usize;
        if self.start as usize + wanted > room {
            let mut roomier = Lease::with_room((4 * wanted).min(bytes_expected.max(wanted)));
            roomier.append(self, 0);
            *self = roomier;
        }
        let end = self.start as usize + self.len();
        // SAFETY: there is room for `bytes` behind the end (made above); the buffer is this lease's alone
        // (asserted), so that nothing else points into it.
        unsafe {
            let end = self.pool.address(self.buffer).add(end);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
        }
        self.len = u32::try_from(wanted).expect("what one connection has unread is far less");
    }

    /// Which buffer of its pool it is on.
    pub(super) fn buffer(&self) -> u16 {
        self.buffer
    }

    /// Whether it is on a buffer of the same pool as `other`.
    pub(super) fn is_beside(&self, pool: &Pool) -> bool {
        Rc::ptr_eq(&self.pool.memory, &pool.memory)
    }

    /// Whether it is on a buffer of a pool that has more: not on a [copy](Lease::copied).
    pub(crate) fn is_shared(&self) -> bool {
        self.pool.count() > 1
    }

    /// Whether it is on a buffer that is large: a few of them are no loss to those who receive into
    /// others.
    pub(crate) fn is_large(&self) -> bool {
        self.pool.is_large(self.buffer)
    }

    /// The pool whose buffer this is.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Gives up ownership without dropping: the parts stand for the lease until it is rebuilt of
    /// them.
    pub(super) fn into_parts(self) -> (Pool, Parts) {
        let this = std::mem::ManuallyDrop::new(self);
        let parts = Parts { buffer: this.buffer, start: this.start, len: this.len };
        // SAFETY: `this` is never used again, so its pool is moved out exactly once.
        (unsafe { std::ptr::read(&this.pool) }, parts)
    }

    /// Rebuilds a lease of the parts that [`Lease::into_parts`] gave, once.
    pub(super) fn from_parts(pool: Pool, parts: Parts) -> Lease {
        Lease { pool, buffer: parts.buffer, start: parts.start, len: parts.len }
    }

    fn checked(&self, count: usize) -> u32 {
        match u32::try_from(count) {
            Ok(count) if count <= self.len => count,
            _ => panic!("{count} bytes of a lease of {}", self.len),
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel (or `fill`) wrote these bytes and holds the buffer no more; start and
        // len only ever shrink from what it wrote; leases split off cover other bytes, so none is
        // written meanwhile.
        unsafe {
            std::slice::from_raw_parts(
                self.pool.address(self.buffer).add(self.start as usize),
                self.len as usize,
            )
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes this lease, the only one on these bytes,
        // exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.pool.address(self.buffer).add(self.start as usize),
                self.len as usize,
            )
        }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let holders = &self.pool.memory.holders[usize::from(self.buffer)];
        debug_assert!(holders.get() > 0, "a lease is a holder");
        holders.set(holders.get() - 1);
        if holders.get() == 0 {
            self.pool.put_back(self.buffer);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes of buffer {})", self.len, self.buffer)
    }
}

// SAFETY: the bytes lie in the pool's memory, which does not move and lives as long as the lease.
unsafe impl tokio_uring::buf::IoBuf for Lease {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_vacant_again_when_its_last_lease_is_dropped() {
        let pool = Pool::new(2, 64);
        let mut whole = pool.take().expect("two are vacant").fill(b"head|rest");
        let head = whole.split_to(5);
        assert_eq!((&*head, &*whole, pool.vacant()), (&b"head|"[..], &b"rest"[..], 1));
        drop(head);
        assert_eq!(pool.vacant(), 1);
        drop(whole);
        assert_eq!(pool.vacant(), 2);
    }

    #[test]
    fn buffers_of_either_size_are_apart_and_go_back_to_their_own() {
        let pool = Pool::with_large(2, 16, 2, 64);
        let small = pool.take().expect("two are vacant").fill(&[1; 16]);
        let large =
            [3, 2].map(|byte| pool.take_of(Size::Large).expect("two are vacant").fill(&[byte; 64]));
        assert!(pool.take_of(Size::Large).is_none() && pool.vacant() == 1);
        assert!(!small.is_large() && large.iter().all(|lease| lease.is_large()));
        assert!(large.iter().all(|lease| pool.contains(lease.as_ptr())));
        assert_eq!((&*small, &*large[0], &*large[1]), (&[1; 16][..], &[3; 64][..], &[2; 64][..]));
        drop((small, large));
        assert_eq!((pool.vacant(), pool.vacant_of(Size::Large)), (2, 2));
    }

    #[test]
    fn splitting_moves_no_byte() {
        let pool = Pool::new(1, 64);
        let mut lease = pool.take().expect("one is vacant").fill(b"0123456789");
        let written = lease.as_ptr() as usize;
        let front = lease.split_to(3);
        lease.advance(2);
        assert_eq!((front.as_ptr() as usize, lease.as_ptr() as usize), (written, written + 5));
        assert!(pool.contains(lease.as_ptr()));
    }

    #[test]
    fn the_memory_outlives_the_pool_while_a_lease_is_held() {
        let pool = Pool::new(1, 16);
        let lease = pool.take().expect("one is vacant").fill(b"still here");
        drop(pool);
        assert_eq!(&*lease, b"still here");
    }

    #[test]
    fn a_buffer_given_to_the_kernel_comes_back_as_a_lease_on_the_same_bytes() {
        let pool = Pool::new(1, 16);
        let (address, buffer) = pool.take().expect("one is vacant").into_raw();
        assert_eq!(pool.vacant(), 0);
        // SAFETY: the address is the start of a 16-byte buffer that this test now owns as the
        // kernel would.
        unsafe { address.copy_from(b"abc".as_ptr(), 3) };
        // SAFETY: it came from `into_raw`, and three bytes were written.
        let lease = unsafe { pool.received(buffer, 3) };
        assert_eq!((&*lease, lease.as_ptr()), (&b"abc"[..], address.cast_const()));
        drop(lease);
        assert_eq!(pool.vacant(), 1);
    }

    #[test]
    #[should_panic(expected = "4 bytes of a lease of 3")]
    fn a_lease_cannot_be_advanced_past_its_end() {
        Pool::new(1, 16).take().expect("one is vacant").fill(b"abc").advance(4);
    }
}
