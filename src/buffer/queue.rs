//! Leases in the order they were received, for a connection that is not reading right now. The
//! links lie in the pool beside the buffers, so that a queue of any length costs its connection no
//! memory.

use super::pool::{Lease, Parts, Pool};

/// A first-in first-out queue of leases, one per buffer.
#[derive(Debug, Default)]
pub struct LeaseQueue {
    /// The pool of all of them, while there are any.
    pool: Option<Pool>,
    front: Parts,
    last: u16,
    count: u16,
}

impl LeaseQueue {
    /// Leases in the queue.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends a lease. No other lease on its buffer may be in a queue.
    pub fn push(&mut self, lease: Lease) {
        let (pool, parts) = lease.into_parts();
        match &self.pool {
            None => (self.pool, self.front) = (Some(pool), parts),
            Some(pool) => pool.link(self.last, parts),
        }
        self.last = parts.buffer;
        self.count += 1;
    }

    /// Puts a lease before all others: the rest of one that was taken and not used up.
    pub fn push_front(&mut self, lease: Lease) {
        let (pool, parts) = lease.into_parts();
        match self.count {
            0 => self.last = parts.buffer,
            _ => pool.link(parts.buffer, self.front),
        }
        (self.pool, self.front) = (Some(pool), parts);
        self.count += 1;
    }

    /// Takes the oldest lease.
    pub fn pop(&mut self) -> Option<Lease> {
        let pool = self.pool.take()?;
        let front = self.front;
        self.count -= 1;
        if self.count > 0 {
            self.front = pool.linked(front.buffer);
            self.pool = Some(pool.clone());
        }
        Some(Lease::from_parts(pool, front))
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        while self.pop().is_some() {}
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
    fn a_queue_costs_a_connection_at_most_twenty_four_bytes() {
        assert!(size_of::<LeaseQueue>() <= 24);
    }
}
