//! A value that is not there yet: the decision or the answer of a handler that has to wait for
//! something first.

use std::cell::RefCell;
use std::rc::Rc;

use super::ConnectionWaker;

#[derive(Debug)]
enum Slot<T> {
    Open,
    Kept(T),
    Broken,
}

/// The handler's end: keep it within the deadline, on the same core. Dropped unkept, the request is
/// answered 503.
#[derive(Debug)]
pub struct Promise<T> {
    slot: Rc<RefCell<Slot<T>>>,
    waker: ConnectionWaker,
}

/// The session's end.
#[derive(Debug)]
pub struct Awaiting<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Promise<T> {
    /// Both ends; `waker` is woken when the promise is kept or dropped.
    pub fn new(waker: ConnectionWaker) -> (Promise<T>, Awaiting<T>) {
        let slot = Rc::new(RefCell::new(Slot::Open));
        (Promise { slot: Rc::clone(&slot), waker }, Awaiting { slot })
    }

    /// Delivers the value.
    pub fn keep(self, value: T) {
        *self.slot.borrow_mut() = Slot::Kept(value);
    }

    /// Whether nobody waits any longer: the peer has gone, or the deadline has passed.
    pub fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.slot) == 1
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.borrow_mut();
        if matches!(*slot, Slot::Open) {
            *slot = Slot::Broken;
        }
        drop(slot);
        self.waker.wake();
    }
}

impl<T> Awaiting<T> {
    /// The value, `Some(None)` if it will never come, `None` if it has not come yet.
    pub fn take(&self) -> Option<Option<T>> {
        match self.slot.replace(Slot::Open) {
            Slot::Open => None,
            Slot::Kept(value) => Some(Some(value)),
            Slot::Broken => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::Mailbox;

    #[test]
    fn a_kept_promise_delivers_and_a_dropped_one_says_so_and_both_wake() {
        let mailbox = Rc::new(Mailbox::default());
        for kept in [Some(7), None] {
            let (promise, awaiting) = Promise::new(mailbox.waker(3));
            assert!(awaiting.take().is_none() && mailbox.is_empty());
            if let Some(value) = kept {
                promise.keep(value);
            } else {
                drop(promise);
            }
            assert_eq!((awaiting.take(), mailbox.take()), (Some(kept), Some(3)));
        }
    }

    #[test]
    fn a_promise_nobody_awaits_is_abandoned() {
        let (promise, awaiting) = Promise::<u8>::new(Rc::new(Mailbox::default()).waker(1));
        assert!(!promise.is_abandoned());
        drop(awaiting);
        assert!(promise.is_abandoned());
    }
}
