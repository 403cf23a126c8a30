//! A kernel that watches the engine: it passes every call on to the simulated one, checks the
//! bounds no connection may cross, and prints both sides when a seed is replayed.

use std::collections::BTreeMap;
use std::io;

use upring::buffer::{Batch, Pool, Size};
use upring::config::{Limits, Millis};
use upring::ring::sim::Simulation;
use upring::ring::{
    Accepts, Completion, Handle, Kernel, ListenerId, Manner, Receipts, Token, Wait,
};

pub(super) struct Watched {
    inner: Simulation,
    limits: Limits,
    is_traced: bool,
    /// Leases delivered to each connection that its bound does not cover: those of this turn, and
    /// those that came although it had asked to stop.
    surplus: BTreeMap<Token, Surplus>,
}

#[derive(Default)]
struct Surplus {
    leases: usize,
    /// Stopped, or over: what it has delivered stays until it is armed again.
    is_over: bool,
}

impl Watched {
    pub(super) fn new(inner: Simulation, limits: Limits, is_traced: bool) -> Watched {
        Watched { inner, limits, is_traced, surplus: BTreeMap::new() }
    }

    /// Promise 7: what waits unread is bounded, and what waits unsent; the kernel may have
    /// delivered some before it heard.
    pub(super) fn check_leases(&self) {
        let of_each = 2 * usize::from(self.limits.leases_max);
        let allowed: usize = self.surplus.values().map(|surplus| of_each + surplus.leases).sum();
        let held = self.inner.pool().count() - self.inner.receivable(Size::Usual);
        assert!(held <= allowed, "{held} leases are held, and {allowed} are allowed");
    }

    fn trace(&self, text: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>7}  {}", self.inner.now(), text());
        }
    }

    fn note(&mut self, completion: &Completion) {
        match completion {
            Completion::Received { connection, result, more } => {
                let surplus = self.surplus.entry(*connection).or_default();
                surplus.leases += usize::from(matches!(result, Ok(Some(_))));
                surplus.is_over |= !more;
            }
            Completion::Closed { connection } => {
                self.surplus.remove(connection);
            }
            _ => {}
        }
    }
}

impl Kernel for Watched {
    fn now(&self) -> Millis {
        self.inner.now()
    }

    fn unix_seconds(&self) -> u64 {
        self.inner.unix_seconds()
    }

    fn pool(&self) -> &Pool {
        self.inner.pool()
    }

    fn accept(&mut self, listener: ListenerId, accepts: Accepts) {
        self.trace(|| format!("accept {listener:?} {accepts:?}"));
        self.inner.accept(listener, accepts);
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        self.trace(|| format!("stop accept {listener:?}"));
        self.inner.stop_accept(listener);
    }

    fn has_waiting(&mut self, listener: ListenerId) -> bool {
        self.inner.has_waiting(listener)
    }

    fn close_listener(&mut self, listener: ListenerId) {
        self.trace(|| format!("let go of {listener:?}"));
        self.inner.close_listener(listener);
    }

    fn receive(&mut self, connection: Token, handle: Handle, receipts: Receipts) {
        self.trace(|| format!("receive {connection:?} {receipts:?}"));
        self.surplus.entry(connection).or_default().is_over = false;
        self.inner.receive(connection, handle, receipts);
    }

    fn stop_receive(&mut self, connection: Token) {
        self.trace(|| format!("stop_receive {connection:?}"));
        self.surplus.entry(connection).or_default().is_over = true;
        self.inner.stop_receive(connection);
    }

    fn watch(&mut self, connection: Token, handle: Handle) {
        self.trace(|| format!("watch {connection:?}"));
        self.inner.watch(connection, handle);
    }

    fn stop_watch(&mut self, connection: Token) {
        self.trace(|| format!("stop_watch {connection:?}"));
        self.inner.stop_watch(connection);
    }

    fn send(&mut self, connection: Token, handle: Handle, batch: Box<Batch>) {
        self.trace(|| format!("send {connection:?} {:?}", batch.load()));
        assert!(!batch.is_empty(), "nothing is sent");
        assert!(batch.load().leases <= self.limits.leases_max, "{:?}", batch.load());
        assert!(batch.len() <= self.limits.outbox_bytes_max, "{:?}", batch.load());
        self.inner.send(connection, handle, batch);
    }

    fn stop_send(&mut self, connection: Token) {
        self.trace(|| format!("stop_send {connection:?}"));
        self.inner.stop_send(connection);
    }

    fn shutdown(&mut self, connection: Token, handle: Handle) {
        self.trace(|| format!("shutdown {connection:?}"));
        self.inner.shutdown(connection, handle);
    }

    fn close(&mut self, connection: Token, handle: Handle, manner: Manner) {
        self.trace(|| format!("close {connection:?} {manner:?}"));
        self.inner.close(connection, handle, manner);
    }

    fn install(&mut self, connection: Token, handle: Handle) {
        self.trace(|| format!("install {connection:?}"));
        self.inner.install(connection, handle);
    }

    fn identify(&mut self, connection: Token, handle: Handle, listener: ListenerId) {
        self.trace(|| format!("identify {connection:?}"));
        self.inner.identify(connection, handle, listener);
    }

    fn wake_at(&mut self, when: Millis) {
        self.inner.wake_at(when);
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let over = self.surplus.values_mut().filter(|surplus| !surplus.is_over);
        over.for_each(|surplus| surplus.leases = 0);
        self.inner.enter(wait)
    }

    fn complete(&mut self) -> Option<Completion> {
        let completion = self.inner.complete()?;
        self.trace(|| {
            let text = format!("          {completion:?}");
            text.chars().take(200).collect()
        });
        self.note(&completion);
        Some(completion)
    }

    fn has_work(&mut self) -> bool {
        self.inner.has_work()
    }

    fn receivable(&self, size: Size) -> usize {
        self.inner.receivable(size)
    }

    fn starved(&mut self, size: Size) {
        self.inner.starved(size);
    }
}
