//! Leases in the order they were received, for a connection that is not reading right now. The
//! links lie in the pool beside the buffers, so that a queue of any length costs its connection no
//! memory.

use super::pool::{Lease, Parts, Pool};

/// A first-in first-out queue of leases, one per buffer of one pool. Where the buffers are wanted back,
/// all of them are [set aside](LeaseQueue::set_aside): copied into one lease with memory of its own,
/// which stays before all that come later.
#[derive(Debug, Default)]
pub struct LeaseQueue {
    /// The pool of all others, while there are any.
    pool: Option<Pool>,
    front: Parts,
    last: u16,
    count: u16,
    /// Set aside, or the rest of that: before all others.
    aside: Option<Box<Lease>>,
}

impl LeaseQueue {
    /// Leases in the queue.
    pub fn len(&self) -> usize {
        self.held() + usize::from(self.aside.is_some())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.aside.is_none()
    }

    /// Receive buffers it keeps.
    pub fn held(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the oldest lease of a receive buffer is on a large one.
    pub fn begins_large(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.is_large(self.front.buffer))
    }

    /// Bytes that were set aside.
    pub fn bytes_aside(&self) -> usize {
        self.aside.as_ref().map_or(0, |lease| lease.len())
    }

    /// Appends a lease. No other lease on its buffer may be in a queue.
    pub fn push(&mut self, lease: Lease) {
        if self.is_foreign(&lease) {
            return self.push_aside(lease);
        }
        let (pool, parts) = lease.into_parts();
        match &self.pool {
            None => (self.pool, self.front) = (Some(pool), parts),
            Some(pool) => pool.link(self.last, parts),
        }
        self.last = parts.buffer;
        self.count += 1;
    }

    /// Puts a lease before all others: the rest of one that was taken and not used up.
    #[inline(always)]
    pub fn push_front(&mut self, lease: Lease) {
        if self.is_foreign(&lease) {
            self.aside = Some(Box::new(lease));
            return;
        }
        debug_assert!(self.aside.is_none(), "what was set aside is taken first");
        let (pool, parts) = lease.into_parts();
        match self.count {
            0 => self.last = parts.buffer,
            _ => pool.link(parts.buffer, self.front),
        }
        (self.pool, self.front) = (Some(pool), parts);
        self.count += 1;
    }

    /// Takes the oldest lease.
    #[inline]
    pub fn pop(&mut self) -> Option<Lease> {
        if let Some(lease) = self.aside.take() {
            return Some(*lease);
        }
        let pool = self.pool.take()?;
        let front = self.front;
        self.count -= 1;
        if self.count > 0 {
            self.front = pool.linked(front.buffer);
            self.pool = Some(pool.clone());
        }
        Some(Lease::from_parts(pool, front))
    }

    /// Copies everything into memory of its own and gives the receive buffers back.
    pub fn set_aside(&mut self) {
        if self.count > 0 {
            let leases: Vec<Lease> = std::iter::from_fn(|| self.pop()).collect();
            let copied = Lease::copied(leases.iter().map(|lease| &**lease));
            self.aside = Some(Box::new(copied));
        }
    }

    /// Appends a lease that was set aside elsewhere.
    fn push_aside(&mut self, lease: Lease) {
        let mut leases: Vec<Lease> = std::iter::from_fn(|| self.pop()).collect();
        leases.push(lease);
        self.aside = match leases.len() {
            1 => leases.pop().map(Box::new),
            _ => Some(Box::new(Lease::copied(leases.iter().map(|lease| &**lease)))),
        };
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    /// Whether a lease is not one of a pool that many share.
    fn is_foreign(&self, lease: &Lease) -> bool {
        match &self.pool {
            Some(pool) => !lease.is_beside(pool),
            None => !lease.is_shared(),
        }
    }
}

impl Drop for LeaseQueue {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;

    fn lease(pool: &Pool, bytes: &[u8]) -> Lease {
        pool.take().expect("a buffer is vacant").fill(bytes)
    }

    #[test]
    fn leases_come_out_in_the_order_they_went_in() {
        let pool = Pool::new(4, 16);
        let mut queue = LeaseQueue::default();
        for bytes in [b"one", b"two", b"six"] {
            queue.push(lease(&pool, bytes));
        }
        let mut first = queue.pop().expect("three were pushed");
        first.advance(1);
        queue.push_front(first);
        queue.push(lease(&pool, b"ten"));
        let mut all = Vec::new();
        while let Some(lease) = queue.pop() {
            all.extend_from_slice(&lease);
        }
        assert_eq!(all, b"netwosixten");
        assert_eq!((pool.vacant(), queue.len()), (4, 0));
    }

    #[test]
    fn a_dropped_queue_gives_every_buffer_back() {
        let pool = Pool::new(3, 16);
        let mut queue = LeaseQueue::default();
        queue.push(lease(&pool, b"a"));
        queue.push(lease(&pool, b"b"));
        queue.push_front(lease(&pool, b"c"));
        assert_eq!(pool.vacant(), 0);
        drop(queue);
        assert_eq!(pool.vacant(), 3);
    }

    #[test]
    fn what_is_set_aside_keeps_its_place_and_no_buffer() {
        let pool = Pool::new(4, 16);
        let mut queue = LeaseQueue::default();
        queue.push(lease(&pool, b"one"));
        queue.push(lease(&pool, b"two"));
        queue.set_aside();
        assert_eq!((pool.vacant(), queue.len(), queue.held(), queue.bytes_aside()), (4, 1, 0, 6));
        queue.push(lease(&pool, b"three"));
        let mut front = queue.pop().expect("something was set aside");
        assert_eq!(&*front, b"onetwo");
        front.advance(2);
        queue.push_front(front);
        assert_eq!((queue.len(), queue.held()), (2, 1));
        // Once more, with the rest of what was set aside before.
        queue.set_aside();
        assert_eq!((pool.vacant(), queue.bytes_aside()), (4, 9));
        let aside = queue.pop().expect("all was set aside");
        assert_eq!(&*aside, b"etwothree");
        assert!(queue.is_empty());
        // Into another queue, behind what is there.
        queue.push(lease(&pool, b"four"));
        queue.push(aside);
        assert_eq!(queue.pop().as_deref(), Some(&b"fouretwothree"[..]));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_queue_costs_a_connection_at_most_thirty_two_bytes() {
        assert!(size_of::<LeaseQueue>() <= 32);
    }
}
