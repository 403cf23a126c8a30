//! A value that is not there yet: the decision or the answer of a handler that has to wait for
//! something first.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::ConnectionWaker;

#[derive(Debug)]
enum Slot<T> {
    Open,
    Kept(T),
    Broken,
}

/// What both ends see.
#[derive(Debug)]
struct Shared<T> {
    slot: RefCell<Slot<T>>,
    /// Waits for the session's end to be dropped.
    watcher: RefCell<Option<Waker>>,
}

/// The handler's end: keep it within the deadline, on the same core. Dropped unkept, the request is
/// answered 503.
#[derive(Debug)]
pub struct Promise<T> {
    shared: Rc<Shared<T>>,
    waker: ConnectionWaker,
}

/// The session's end.
#[derive(Debug)]
pub struct Awaiting<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Promise<T> {
    /// Both ends; `waker` is woken when the promise is kept or dropped.
    pub fn new(waker: ConnectionWaker) -> (Promise<T>, Awaiting<T>) {
        let shared = Shared { slot: RefCell::new(Slot::Open), watcher: RefCell::default() };
        let shared = Rc::new(shared);
        (Promise { shared: Rc::clone(&shared), waker }, Awaiting { shared })
    }

    /// Delivers the value.
    pub fn keep(self, value: T) {
        *self.shared.slot.borrow_mut() = Slot::Kept(value);
    }

    /// Whether nobody waits any longer: the peer has gone, or the deadline has passed.
    pub fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.shared) == 1
    }

    /// Ready when nobody waits any longer: to wait for beside what the promise is about. The latest
    /// one asked for is the one that is woken.
    pub fn abandoned(&self) -> impl Future<Output = ()> + use<'_, T> {
        poll_fn(|context| {
            if self.is_abandoned() {
                return Poll::Ready(());
            }
            *self.shared.watcher.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut slot = self.shared.slot.borrow_mut();
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
        match self.shared.slot.replace(Slot::Open) {
            Slot::Open => None,
            Slot::Kept(value) => Some(Some(value)),
            Slot::Broken => Some(None),
        }
    }
}

impl<T> Drop for Awaiting<T> {
    /// The task that is woken looks later, when this end is gone.
    fn drop(&mut self) {
        if let Some(watcher) = self.shared.watcher.take() {
            watcher.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::Mailbox;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    /// How often it was woken.
    struct Told(AtomicU32);

    impl Wake for Told {
        fn wake(self: Arc<Told>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting() -> (Arc<Told>, Waker) {
        let told = Arc::new(Told(AtomicU32::new(0)));
        (Arc::clone(&told), Waker::from(told))
    }

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
        let mut abandoned = std::pin::pin!(promise.abandoned());
        let (told, waker) = counting();
        let mut context = std::task::Context::from_waker(&waker);
        assert!(abandoned.as_mut().poll(&mut context).is_pending());
        drop(awaiting);
        assert!(promise.is_abandoned() && told.0.load(Ordering::Relaxed) == 1);
        assert!(abandoned.as_mut().poll(&mut context).is_ready());
    }
}
