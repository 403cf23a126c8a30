//! Leases in the order they were received, for a connection that is not reading right now. The
//! links lie in the pool beside the buffers, so that a queue of any length costs its connection no
//! memory.

use std::collections::VecDeque;

use super::pool::{Lease, Parts, Pool};

/// A first-in first-out queue of leases of one pool. A buffer has one link: where two leases on one buffer
/// come one behind the other, as the records of a TLS connection do, the later one and all behind it wait in
/// a list. Where the buffers are wanted back, all of them are [set aside](LeaseQueue::set_aside): copied
/// into one lease with memory of its own, which stays before all that come later.
#[derive(Debug, Default)]
pub struct LeaseQueue {
    /// The pool of all others, while there are any.
    pool: Option<Pool>,
    front: Parts,
    last: u16,
    count: u16,
    /// None if there are none.
    unlinked: Option<Box<Unlinked>>,
}

/// Leases that no link leads to.
#[derive(Debug, Default)]
struct Unlinked {
    /// Set aside, or put back before another lease on its buffer: before all others.
    first: Option<Lease>,
    /// Behind all others.
    last: VecDeque<Lease>,
}

impl Unlinked {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.last.len()
    }
}

impl LeaseQueue {
    /// Leases in the queue.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.count) + self.unlinked.as_ref().map_or(0, |unlinked| unlinked.len())
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.unlinked.is_none()
    }

    /// Receive buffers it keeps, at most.
    #[inline]
    pub fn held(&self) -> usize {
        self.len() - usize::from(self.aside().is_some())
    }

    /// Whether the oldest lease of a receive buffer is on a large one.
    pub fn begins_large(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.is_large(self.front.buffer))
    }

    /// Bytes that were set aside.
    #[inline]
    pub fn bytes_aside(&self) -> usize {
        self.aside().map_or(0, |lease| lease.len())
    }

    #[inline]
    fn aside(&self) -> Option<&Lease> {
        self.unlinked.as_ref()?.first.as_ref().filter(|lease| !lease.is_shared())
    }

    /// Appends a lease. Another lease on its buffer may be in this queue if it is the last, and in no other
    /// one that has others behind it.
    pub fn push(&mut self, lease: Lease) {
        if self.is_foreign(&lease) {
            return self.push_aside(lease);
        }
        let is_beside = self.count > 0 && lease.buffer() == self.last;
        if is_beside || self.unlinked.as_ref().is_some_and(|of| !of.last.is_empty()) {
            return self.unlinked.get_or_insert_default().last.push_back(lease);
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
        let is_beside = self.count > 0 && lease.buffer() == self.front.buffer;
        debug_assert!(self.first().is_none(), "what goes before all others is taken first");
        if is_beside || self.is_foreign(&lease) {
            self.unlinked.get_or_insert_default().first = Some(lease);
            return;
        }
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
        if self.unlinked.is_some()
            && let Some(lease) = self.pop_unlinked()
        {
            return Some(lease);
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

    #[inline(never)]
    fn pop_unlinked(&mut self) -> Option<Lease> {
        let is_last = self.count == 0;
        let unlinked = self.unlinked.as_mut()?;
        let next = unlinked.first.take();
        let lease = next.or_else(|| if is_last { unlinked.last.pop_front() } else { None })?;
        if unlinked.last.is_empty() {
            self.unlinked = None;
        }
        Some(lease)
    }

    fn first(&self) -> Option<&Lease> {
        self.unlinked.as_ref()?.first.as_ref()
    }

    /// Copies everything into memory of its own and gives the receive buffers back.
    pub fn set_aside(&mut self) {
        if self.held() > 0 {
            let leases: Vec<Lease> = std::iter::from_fn(|| self.pop()).collect();
            self.put_aside(Lease::copied(leases.iter().map(|lease| &**lease)));
        }
    }

    /// Appends a lease that was set aside elsewhere.
    fn push_aside(&mut self, lease: Lease) {
        let mut leases: Vec<Lease> = std::iter::from_fn(|| self.pop()).collect();
        leases.push(lease);
        let aside = match leases.len() {
            1 => leases.remove(0),
            _ => Lease::copied(leases.iter().map(|lease| &**lease)),
        };
        self.put_aside(aside);
    }

    fn put_aside(&mut self, lease: Lease) {
        self.unlinked.get_or_insert_default().first = Some(lease);
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
    fn leases_on_one_buffer_may_come_one_behind_the_other() {
        // Of three buffers, cut into so many leases each; some are taken and put back in between.
        for (cuts, back) in [([1, 1, 1], 0), ([3, 1, 2], 1), ([1, 3, 3], 3), ([2, 2, 2], 5)] {
            let pool = Pool::new(3, 16);
            let mut queue = LeaseQueue::default();
            for (cuts, bytes) in cuts.into_iter().zip([b"aaaa", b"bbbb", b"cccc"]) {
                let mut whole = lease(&pool, bytes);
                (1..cuts).for_each(|_| queue.push(whole.split_to(1)));
                queue.push(whole);
            }
            assert_eq!(queue.len(), cuts.iter().sum::<usize>());
            let mut all = Vec::new();
            for at in 0.. {
                let Some(mut lease) = queue.pop() else { break };
                if at == back && lease.len() > 1 {
                    all.push(lease[0]);
                    lease.advance(1);
                    queue.push_front(lease);
                    queue.set_aside();
                    continue;
                }
                all.extend_from_slice(&lease);
            }
            assert_eq!(all, b"aaaabbbbcccc", "{cuts:?}");
            assert_eq!((pool.vacant(), queue.len(), queue.held()), (3, 0, 0));
        }
    }

    #[test]
    fn a_lease_goes_back_before_another_on_its_buffer() {
        let pool = Pool::new(2, 16);
        let mut queue = LeaseQueue::default();
        let mut whole = lease(&pool, b"onetwo");
        let mut one = whole.split_to(3);
        queue.push(whole);
        queue.push(lease(&pool, b"six"));
        one.advance(1);
        queue.push_front(one);
        let all = std::iter::from_fn(|| queue.pop()).map(|lease| lease.to_vec());
        assert_eq!(all.collect::<Vec<_>>().concat(), b"netwosix");
        assert_eq!(pool.vacant(), 2);
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
