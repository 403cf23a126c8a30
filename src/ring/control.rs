//! How another thread gets a core's attention: an eventfd that the core's ring polls. What there is
//! to say lies in memory they share; this only wakes.
//!
//! A host that sleeps on the ring's wake descriptor is woken there as well. The kernel would do it,
//! but it may not signal one eventfd from inside the write to another: it puts that off to an RCU
//! callback, 10 to 30 ms later, and on Linux 6.18 does so only for the first time in the life of a
//! ring; later signals of this kind are lost.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one core with a [`Completion::Control`](super::Completion::Control). Cloning shares it; it
/// may outlive the ring.
#[derive(Debug, Clone)]
pub struct Control(Arc<Descriptors>);

#[derive(Debug)]
struct Descriptors {
    polled: OwnedFd,
    wake: OnceLock<Arc<OwnedFd>>,
}

impl Control {
    pub(super) fn new() -> io::Result<Control> {
        Ok(Control(Arc::new(Descriptors { polled: new_eventfd()?, wake: OnceLock::new() })))
    }

    /// Wakes the core. Several calls before it looks are one.
    pub fn notify(&self) {
        add_one(&self.0.polled);
        // Second: a host that is woken by it finds the ring's work already there.
        if let Some(wake) = self.0.wake.get() {
            add_one(wake);
        }
    }

    /// Wakes a host that sleeps on `wake` too.
    pub(super) fn also_wake(&self, wake: Arc<OwnedFd>) {
        let first = self.0.wake.set(wake);
        debug_assert!(first.is_ok(), "a ring has one wake descriptor");
    }

    /// Forgets the calls so far.
    pub(super) fn reset(&self) {
        // It fails only when there were none.
        let _ = rustix::io::read(&self.0.polled, &mut [0u8; 8]);
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.polled.as_raw_fd()
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.polled.as_fd()
    }
}

/// An eventfd that neither blocks nor survives an exec.
pub(super) fn new_eventfd() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

fn add_one(descriptor: &OwnedFd) {
    // It fails only when the count is full, and then there is a reason to wake already.
    let _ = rustix::io::write(descriptor, &1u64.to_ne_bytes());
}
