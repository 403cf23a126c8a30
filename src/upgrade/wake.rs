//! How anything on a core that is not the engine gets a connection's attention: its key goes into
//! the core's mailbox, and the host, if it sleeps, is woken. Nothing here crosses a thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;

/// Runs a future on this core: the hosted mode's `tokio_uring::spawn`.
pub type Spawn = Rc<dyn Fn(Pin<Box<dyn Future<Output = ()>>>)>;

/// A core's mailbox: connections whose handler wants to be called.
#[derive(Debug, Default)]
pub struct Mailbox {
    posted: RefCell<VecDeque<Rc<Post>>>,
    host: RefCell<Option<Waker>>,
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

    /// Has the next wake wake the host, too.
    pub fn set_host(&self, waker: &Waker) {
        match &mut *self.host.borrow_mut() {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Posts each waker at most once, whatever clones it has: the mailbox is bounded by the wakers
    /// there are.
    fn post(&self, post: &Rc<Post>) {
        if !post.is_posted.replace(true) {
            self.posted.borrow_mut().push_back(Rc::clone(post));
            if let Some(host) = &*self.host.borrow() {
                host.wake_by_ref();
            }
        }
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
