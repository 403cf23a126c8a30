//! How anything on a core that is not the engine gets a connection's attention: its key goes into
//! the core's mailbox, and the host, if it sleeps, is woken. Nothing here crosses a thread but a
//! [`CoreWaker`], by which what a protocol keeps on a core learns that another core has left
//! something for it.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crate::counters::Counters;

/// Runs a future on this core: the hosted mode's `tokio_uring::spawn`.
pub type Spawn = Rc<dyn Fn(Pin<Box<dyn Future<Output = ()>>>)>;

/// A core's mailbox: connections whose handler wants to be called, and what protocols keep on the
/// core for all of their connections.
#[derive(Default)]
pub struct Mailbox {
    posted: RefCell<VecDeque<Rc<Post>>>,
    host: RefCell<Option<Waker>>,
    core: OnceCell<CoreWaker>,
    counters: OnceCell<Arc<Counters>>,
    residents: RefCell<Vec<Resident>>,
    visited: RefCell<Vec<Rc<dyn Visited>>>,
    at_work: Cell<usize>,
    /// Those of them whose connection the engine knows no more.
    alone: Cell<usize>,
    is_waiting_for_work: Cell<bool>,
    is_work_over: Cell<bool>,
}

/// Something kept on a core.
struct Resident {
    /// The address of something that lives as long.
    key: usize,
    kept: Rc<dyn Any>,
    /// It is of something registered, and may be forgotten when another registration takes over.
    is_of_registration: bool,
}

/// Reaches one core from any thread: see [`Visited`].
#[derive(Clone)]
pub struct CoreWaker(Arc<dyn Fn() + Send + Sync>);

impl CoreWaker {
    /// One that reaches its core by calling `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> CoreWaker {
        CoreWaker(Arc::new(wake))
    }

    /// Has the core look around in its next turn.
    pub fn wake(&self) {
        (self.0)();
    }
}

/// What a protocol keeps on a core, and another core may leave something for.
pub trait Visited {
    /// A [`CoreWaker`] of this core was woken, for this or for another.
    fn look(&self);
}

#[derive(Debug)]
struct Post {
    key: u64,
    is_posted: Cell<bool>,
}

impl Mailbox {
    /// A waker for the connection that the engine knows by `key`.
    pub fn waker(self: &Rc<Mailbox>, key: u64) -> ConnectionWaker {
        ConnectionWaker {
            mailbox: Rc::clone(self),
            post: Rc::new(Post { key, is_posted: Cell::new(false) }),
        }
    }

    /// Whether nobody wants attention.
    pub fn is_empty(&self) -> bool {
        self.posted.borrow().is_empty()
    }

    /// Connections that want attention.
    pub fn len(&self) -> usize {
        self.posted.borrow().len()
    }

    /// Takes one connection that wants attention. A wake that comes later posts it anew.
    pub fn take(&self) -> Option<u64> {
        let post = self.posted.borrow_mut().pop_front()?;
        post.is_posted.set(false);
        Some(post.key)
    }

    /// Async handlers that have not ended, whether their connections have or not.
    pub(crate) fn at_work(&self) -> usize {
        self.at_work.get()
    }

    /// Those of them whose connections have ended before them, or were taken out of the engine.
    pub(crate) fn alone(&self) -> usize {
        self.alone.get()
    }

    /// Has the end of the last of them wake the host.
    pub(crate) fn wait_for_work(&self) {
        self.is_waiting_for_work.set(true);
    }

    /// Whether the last of them has ended since the last call.
    pub(crate) fn is_work_over(&self) -> bool {
        self.is_work_over.take()
    }

    /// Has the next wake wake the host, too.
    pub fn set_host(&self, waker: &Waker) {
        match &mut *self.host.borrow_mut() {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// How other threads reach this core. Said once, before it serves.
    pub fn set_core(&self, core: CoreWaker) {
        let first = self.core.set(core);
        debug_assert!(first.is_ok(), "a core has one way to be reached");
    }

    /// How other threads reach this core, if they can.
    pub(crate) fn core(&self) -> Option<&CoreWaker> {
        self.core.get()
    }

    /// Where what is done on this core beside its connections is counted. Said once, before it serves.
    pub(crate) fn set_counters(&self, counters: Arc<Counters>) {
        let first = self.counters.set(counters);
        debug_assert!(first.is_ok(), "a core has one set of counters");
    }

    /// This core's counters. What runs on the core may raise them.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        self.counters.get_or_init(Arc::default)
    }

    /// What is kept on this core under `key`, the address of something that lives as long: made at
    /// the first call.
    pub(crate) fn resident<T: 'static>(&self, key: usize, make: impl FnOnce() -> T) -> Rc<T> {
        self.find_or_make(key, false, make)
    }

    /// The same for what a registration keeps: forgotten once another has taken over and nobody uses it.
    pub(crate) fn resident_of_registration<T: 'static>(
        &self,
        key: usize,
        make: impl FnOnce() -> T,
    ) -> Rc<T> {
        self.find_or_make(key, true, make)
    }

    fn find_or_make<T: 'static>(
        &self,
        key: usize,
        is_of_registration: bool,
        make: impl FnOnce() -> T,
    ) -> Rc<T> {
        let find = || {
            let residents = self.residents.borrow();
            let mut own = residents.iter().filter(|resident| resident.key == key);
            own.find_map(|resident| Rc::clone(&resident.kept).downcast().ok())
        };
        find().unwrap_or_else(|| {
            // Not borrowed meanwhile: making it may ask for others.
            let made = Rc::new(make());
            let kept = Rc::clone(&made) as Rc<dyn Any>;
            self.residents.borrow_mut().push(Resident { key, kept, is_of_registration });
            made
        })
    }

    /// Another registration takes over: what only the one before has used is dropped.
    pub(crate) fn forget_unused(&self) {
        let is_used = |resident: &Resident| {
            !resident.is_of_registration || Rc::strong_count(&resident.kept) > 1
        };
        let residents = std::mem::take(&mut *self.residents.borrow_mut());
        // Not borrowed while they are dropped: what they keep may ask for others.
        let (kept, unused): (Vec<_>, Vec<_>) = residents.into_iter().partition(is_used);
        drop(unused);
        self.residents.borrow_mut().splice(0..0, kept);
    }

    /// Has `visited` called whenever this core was woken by another thread.
    pub(crate) fn call_when_reached(&self, visited: Rc<dyn Visited>) {
        self.visited.borrow_mut().push(visited);
    }

    /// Another thread has woken this core.
    pub fn reached(&self) {
        let count = self.visited.borrow().len();
        for index in 0..count {
            let visited = self.visited.borrow().get(index).cloned();
            if let Some(visited) = visited {
                visited.look();
            }
        }
    }

    /// Posts each waker at most once, whatever clones it has: the mailbox is bounded by the wakers
    /// there are.
    fn post(&self, post: &Rc<Post>) {
        if !post.is_posted.replace(true) {
            self.posted.borrow_mut().push_back(Rc::clone(post));
            self.wake_host();
        }
    }

    fn wake_host(&self) {
        if let Some(host) = &*self.host.borrow() {
            host.wake_by_ref();
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("posted", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for CoreWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreWaker").finish_non_exhaustive()
    }
}

/// Calls a connection's handler (its `on_wake`) in the next turn of its core.
#[derive(Debug, Clone)]
pub struct ConnectionWaker {
    mailbox: Rc<Mailbox>,
    post: Rc<Post>,
}

impl ConnectionWaker {
    /// Asks for the call. No effect when the connection is gone.
    pub fn wake(&self) {
        self.mailbox.post(&self.post);
    }
}

/// An async handler is at work while this is there: a core that stops waits for it, up to the end of the drain.
#[derive(Debug)]
pub(super) struct AtWork(Rc<Work>);

/// Its connection is there.
#[derive(Debug)]
pub(crate) struct Connected(Rc<Work>);

#[derive(Debug)]
struct Work {
    mailbox: Rc<Mailbox>,
    is_over: Cell<bool>,
    is_alone: Cell<bool>,
}

impl Mailbox {
    /// Of a handler that begins, and of its connection.
    pub(super) fn begin_work(self: &Rc<Mailbox>) -> (AtWork, Connected) {
        let mailbox = Rc::clone(self);
        mailbox.at_work.set(mailbox.at_work.get() + 1);
        let work = Work { mailbox, is_over: Cell::new(false), is_alone: Cell::new(false) };
        let work = Rc::new(work);
        (AtWork(Rc::clone(&work)), Connected(work))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let Work { mailbox, is_over, is_alone } = &*self.0;
        is_over.set(true);
        if is_alone.get() {
            mailbox.alone.set(mailbox.alone.get() - 1);
        }
        let count = mailbox.at_work.get() - 1;
        mailbox.at_work.set(count);
        if count == 0 && mailbox.is_waiting_for_work.get() {
            mailbox.is_work_over.set(true);
            mailbox.wake_host();
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let Work { mailbox, is_over, is_alone } = &*self.0;
        if !is_over.get() {
            is_alone.set(true);
            mailbox.alone.set(mailbox.alone.get() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registration_keeps_goes_with_it_unless_somebody_uses_it() {
        let mailbox = Mailbox::default();
        let core = Rc::downgrade(&mailbox.resident(1, || 1));
        let unused = Rc::downgrade(&mailbox.resident_of_registration(2, || 2));
        let used = mailbox.resident_of_registration(3, || 3);
        mailbox.forget_unused();
        assert!(core.upgrade().is_some() && unused.upgrade().is_none());
        assert!(Rc::ptr_eq(&used, &mailbox.resident_of_registration(3, || 4)));
        drop(used);
        mailbox.forget_unused();
        assert_eq!(*mailbox.resident_of_registration(3, || 5), 5);
    }
}
