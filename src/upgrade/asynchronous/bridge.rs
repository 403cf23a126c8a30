//! The callback handler that stands between the engine and an async handler, and the channel they
//! share. Nothing here is ever borrowed across a call into foreign code: wakers only mark tasks as
//! ready.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Closed;
use super::flow::Flow;
use crate::buffer::{Lease, LeaseQueue};
use crate::upgrade::{CloseReason, Connected, Detached, Handler, Io};

/// Leases waiting for the future at which the connection is no longer read, and at which it is read
/// again.
const INBOX_HIGH: usize = 8;
const INBOX_LOW: usize = 4;

/// What both sides see.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) flow: Flow,
    pub(super) inbox: LeaseQueue,
    /// Enough waits in it that no more is delivered.
    is_held: bool,
    /// When what is left is cut, once the server is stopping.
    pub(super) cut_at: Option<Instant>,
    is_ended: bool,
    wants: Wants,
    detached: Option<Detached>,
    drainer: Option<Waker>,
    watcher: Option<Waker>,
}

/// What the future has asked for.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Wants {
    pub(super) end: bool,
    pub(super) no_input: bool,
    pub(super) reset: bool,
    pub(super) detach: bool,
}

impl Channel {
    pub(super) fn want(&mut self, change: impl FnOnce(&mut Wants)) {
        change(&mut self.wants);
        self.flow.wake_connection();
    }

    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease>, Closed>> {
        if let Some(lease) = self.inbox.pop() {
            if self.is_held && self.inbox.len() < INBOX_LOW {
                self.flow.wake_connection();
            }
            return Poll::Ready(Ok(Some(lease)));
        }
        match self.flow.closed() {
            // Finished while input was held back: both directions had ended.
            _ if self.is_ended => Poll::Ready(Ok(None)),
            Some(CloseReason::Finished) => Poll::Ready(Ok(None)),
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None => self.flow.await_receipt(context),
        }
    }

    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match self.flow.closed() {
            // Nothing leaves behind our own end: waiting for it would be for ever.
            None if self.wants.end => Poll::Ready(Err(Closed(CloseReason::Finished))),
            _ => self.flow.poll_room(context),
        }
    }

    /// Ready when the server is stopping, and when it cuts what is left; or when the connection is over.
    pub(super) fn poll_draining(&mut self, context: &mut Context<'_>) -> Poll<Option<Instant>> {
        if self.cut_at.is_some() || self.flow.closed().is_some() {
            return Poll::Ready(self.cut_at);
        }
        self.drainer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when the connection is over.
    pub(super) fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<CloseReason> {
        match self.flow.closed() {
            Some(reason) => Poll::Ready(reason),
            None => {
                self.watcher = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_detached(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Detached, Closed>> {
        match (self.detached.take(), self.flow.closed()) {
            (Some(detached), _) => Poll::Ready(Ok(detached)),
            (None, Some(reason)) => Poll::Ready(Err(Closed(reason))),
            (None, None) => self.flow.await_receipt(context),
        }
    }

    /// The connection is over, unless it was before: the first reason stands.
    fn close(&mut self, reason: CloseReason) {
        self.flow.close(reason);
        self.wake_drainer();
        if let Some(waker) = self.watcher.take() {
            waker.wake();
        }
    }

    fn wake_drainer(&mut self) {
        if let Some(waker) = self.drainer.take() {
            waker.wake();
        }
    }

    /// Carries out what the future has asked for.
    fn settle(&mut self, io: &mut Io<'_>) {
        for payload in self.flow.outgoing.drain(..) {
            io.send(payload);
        }
        if self.flow.settled(io.queued()) {
            io.notify_writable();
        }
        if self.inbox.len() < INBOX_LOW && !self.wants.detach {
            self.is_held = false;
            io.resume();
        }
        let wants = self.wants;
        if wants.reset {
            return io.reset();
        }
        if wants.end {
            io.end();
        }
        if wants.detach {
            io.detach();
        } else if wants.end && wants.no_input {
            io.close();
        }
    }
}

/// The engine's side.
pub(super) struct Bridge {
    channel: Rc<RefCell<Channel>>,
    /// The handler's future, until the connection is switched.
    task: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// From then on.
    connected: Option<Connected>,
}

impl Bridge {
    pub(super) fn new(
        channel: Rc<RefCell<Channel>>,
        task: Pin<Box<dyn Future<Output = ()>>>,
    ) -> Bridge {
        Bridge { channel, task: Some(task), connected: None }
    }
}

impl Handler for Bridge {
    /// The future begins here and not before: a decision that comes too late leaves none behind.
    fn on_open(&mut self, io: &mut Io<'_>) {
        self.channel.borrow_mut().flow.connect(io.waker());
        let Some(task) = self.task.take() else { return };
        self.connected = io.spawn_handler(task);
        if self.connected.is_none() {
            tracing::error!(
                "an async handler needs the hosted mode: mark its protocol needs_runtime()"
            );
            return io.reset();
        }
        self.channel.borrow_mut().settle(io);
    }

    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        let mut channel = self.channel.borrow_mut();
        if channel.wants.no_input {
            return;
        }
        channel.inbox.push(bytes);
        if channel.inbox.len() >= INBOX_HIGH {
            channel.is_held = true;
            io.pause();
        }
        channel.flow.wake_receiver();
    }

    fn on_end(&mut self, _: &mut Io<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.is_ended = true;
        channel.flow.wake_receiver();
    }

    fn on_writable(&mut self, io: &mut Io<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_wake(&mut self, io: &mut Io<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_shortage(&mut self) {
        self.channel.borrow_mut().inbox.set_aside();
    }

    fn on_drain(&mut self, deadline: Duration, _: &mut Io<'_>) {
        let mut channel = self.channel.borrow_mut();
        let now = Instant::now();
        channel.cut_at = Some(now.checked_add(deadline).unwrap_or(now));
        channel.wake_drainer();
    }

    fn on_close(&mut self, reason: CloseReason) {
        self.channel.borrow_mut().close(reason);
    }

    fn on_detached(&mut self, detached: Detached) {
        let mut channel = self.channel.borrow_mut();
        channel.detached = Some(detached);
        channel.flow.wake_receiver();
    }
}

impl Drop for Bridge {
    /// No future is left waiting for a connection that nobody serves any more.
    fn drop(&mut self) {
        // Before the borrow: it holds the other end of the channel.
        drop(self.task.take());
        let mut channel = self.channel.borrow_mut();
        if channel.detached.is_none() {
            channel.close(CloseReason::HandlerPanicked);
        }
    }
}
