//! A kernel that is watched: it notes where received bytes lie and where the bytes of each send
//! lie, and says when it is entered and left, so that what it does itself can be told from what the
//! engine does.

use std::io;

use upring::buffer::{Batch, Pool, Size};
use upring::config::Millis;
use upring::counters::Time;
use upring::ring::{
    Accepts, Completion, Handle, Kernel, ListenerId, Manner, Receipts, Token, Wait,
};

/// Where bytes lie: address and length.
pub type Place = (usize, usize);

/// A kernel and what was seen of it.
pub struct Watched<K> {
    pub kernel: K,
    /// What each receive wrote, in order, once it is to be noted.
    pub received: Vec<Place>,
    /// The slices of each send, in order.
    pub sent: Vec<Place>,
    pub is_noting: bool,
    /// Nothing is to be accounted for: nothing is left out either.
    pub is_aside: bool,
    /// Called with true before the kernel is entered, with false when it is left.
    watch: fn(bool),
}

impl<K> Watched<K> {
    pub fn new(kernel: K, watch: fn(bool)) -> Watched<K> {
        Watched {
            kernel,
            received: Vec::new(),
            sent: Vec::new(),
            is_noting: false,
            is_aside: false,
            watch,
        }
    }

    /// Notes what comes from here on, and forgets what came before.
    pub fn note(&mut self) {
        self.received.clear();
        self.sent.clear();
        self.is_noting = true;
    }

    fn inside<T>(&mut self, call: impl FnOnce(&mut Watched<K>) -> T) -> T {
        if self.is_aside { self.watched(call) } else { self.uncounted(call) }
    }

    /// In a function of its own, which an account of instructions leaves out: it ends where this
    /// begins, and begins anew where this ends.
    #[inline(never)]
    fn uncounted<T>(&mut self, call: impl FnOnce(&mut Watched<K>) -> T) -> T {
        self.watched(call)
    }

    fn watched<T>(&mut self, call: impl FnOnce(&mut Watched<K>) -> T) -> T {
        (self.watch)(true);
        let result = call(self);
        (self.watch)(false);
        result
    }
}

impl<K: Kernel> Kernel for Watched<K> {
    fn now(&self) -> Millis {
        self.kernel.now()
    }

    fn time(&self) -> Time {
        self.kernel.time()
    }

    fn unix_seconds(&self) -> u64 {
        self.kernel.unix_seconds()
    }

    fn pool(&self) -> &Pool {
        self.kernel.pool()
    }

    fn accept(&mut self, listener: ListenerId, accepts: Accepts) {
        self.inside(|this| this.kernel.accept(listener, accepts));
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        self.inside(|this| this.kernel.stop_accept(listener));
    }

    fn has_waiting(&mut self, listener: ListenerId) -> bool {
        self.inside(|this| this.kernel.has_waiting(listener))
    }

    fn close_listener(&mut self, listener: ListenerId) {
        self.inside(|this| this.kernel.close_listener(listener));
    }

    fn receive(&mut self, connection: Token, handle: Handle, receipts: Receipts) {
        self.inside(|this| this.kernel.receive(connection, handle, receipts));
    }

    fn stop_receive(&mut self, connection: Token) {
        self.inside(|this| this.kernel.stop_receive(connection));
    }

    fn watch(&mut self, connection: Token, handle: Handle) {
        self.inside(|this| this.kernel.watch(connection, handle));
    }

    fn stop_watch(&mut self, connection: Token) {
        self.inside(|this| this.kernel.stop_watch(connection));
    }

    fn send(&mut self, connection: Token, handle: Handle, batch: Box<Batch>) {
        self.inside(|this| {
            if this.is_noting {
                this.sent.extend(batch.slices().map(place));
            }
            this.kernel.send(connection, handle, batch);
        });
    }

    fn stop_send(&mut self, connection: Token) {
        self.inside(|this| this.kernel.stop_send(connection));
    }

    fn shutdown(&mut self, connection: Token, handle: Handle) {
        self.inside(|this| this.kernel.shutdown(connection, handle));
    }

    fn close(&mut self, connection: Token, handle: Handle, manner: Manner) {
        self.inside(|this| this.kernel.close(connection, handle, manner));
    }

    fn install(&mut self, connection: Token, handle: Handle) {
        self.inside(|this| this.kernel.install(connection, handle));
    }

    fn identify(&mut self, connection: Token, handle: Handle, listener: ListenerId) {
        self.inside(|this| this.kernel.identify(connection, handle, listener));
    }

    fn wake_at(&mut self, when: Millis) {
        self.inside(|this| this.kernel.wake_at(when));
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.inside(|this| this.kernel.enter(wait))
    }

    fn complete(&mut self) -> Option<Completion> {
        self.inside(|this| {
            let completion = this.kernel.complete();
            if let Some(Completion::Received { result: Ok(Some(bytes)), .. }) = &completion
                && this.is_noting
            {
                this.received.push(place(bytes));
            }
            completion
        })
    }

    fn has_work(&mut self) -> bool {
        self.inside(|this| this.kernel.has_work())
    }

    fn receivable(&self, size: Size) -> usize {
        self.kernel.receivable(size)
    }

    fn starved(&mut self, size: Size) {
        self.inside(|this| this.kernel.starved(size));
    }
}

/// Where a slice lies.
pub fn place(bytes: &[u8]) -> Place {
    (bytes.as_ptr() as usize, bytes.len())
}
