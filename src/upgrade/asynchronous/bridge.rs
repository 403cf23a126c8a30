//! The callback handler that stands between the engine and an async handler, and the channel they
//! share. Nothing here is ever borrowed across a call into foreign code: wakers only mark tasks as
//! ready.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Closed;
use crate::buffer::{Lease, LeaseQueue, Payload};
use crate::upgrade::{CloseReason, ConnectionWaker, Detached, Handler, Io};

/// Leases waiting for the future at which the connection is no longer read, and at which it is read
/// again.
const INBOX_HIGH: usize = 8;
const INBOX_LOW: usize = 4;
/// Bytes not yet sent at which `send` waits.
const UNSENT_HIGH: usize = 64 * 1024;

/// What both sides see.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) inbox: LeaseQueue,
    pub(super) is_draining: bool,
    is_ended: bool,
    closed: Option<CloseReason>,
    outgoing: Vec<Payload>,
    /// Bytes handed over and not known to have left.
    unsent: usize,
    wants: Wants,
    detached: Option<Detached>,
    receiver: Option<Waker>,
    /// Who waits until less than so many bytes are unsent.
    sender: Option<(usize, Waker)>,
    drainer: Option<Waker>,
    /// There from the moment the connection is switched.
    connection: Option<ConnectionWaker>,
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
        self.wake_connection();
    }

    /// Has [`Channel::settle`] called in the core's next turn. Before the switch there is nobody to
    /// call: the switch does.
    fn wake_connection(&self) {
        if let Some(connection) = &self.connection {
            connection.wake();
        }
    }

    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease>, Closed>> {
        if let Some(lease) = self.inbox.pop() {
            if self.inbox.len() + 1 == INBOX_LOW {
                self.wake_connection();
            }
            return Poll::Ready(Ok(Some(lease)));
        }
        match self.closed {
            // Finished while input was held back: both directions had ended.
            _ if self.is_ended => Poll::Ready(Ok(None)),
            Some(CloseReason::Finished) => Poll::Ready(Ok(None)),
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None => {
                self.receiver = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match self.closed {
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            // Nothing leaves behind our own end: waiting for it would be for ever.
            None if self.wants.end => Poll::Ready(Err(Closed(CloseReason::Finished))),
            None => self.poll_unsent_below(UNSENT_HIGH, context),
        }
    }

    /// What has left before the connection was over has left.
    pub(super) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.poll_unsent_below(1, context)
    }

    /// Waits for bytes to leave. Whatever is unsent was either not settled yet, and then the
    /// connection was woken, or settling it has asked for `on_writable`: each leads to another
    /// [`Channel::settle`].
    fn poll_unsent_below(
        &mut self,
        bytes: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Closed>> {
        match self.closed {
            _ if self.unsent < bytes => Poll::Ready(Ok(())),
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None => {
                self.sender = Some((bytes, context.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// Ready when the server is stopping, or the connection is over.
    pub(super) fn poll_draining(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_draining || self.closed.is_some() {
            return Poll::Ready(());
        }
        self.drainer = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_detached(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Detached, Closed>> {
        match (self.detached.take(), self.closed) {
            (Some(detached), _) => Poll::Ready(Ok(detached)),
            (None, Some(reason)) => Poll::Ready(Err(Closed(reason))),
            (None, None) => {
                self.receiver = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn send(&mut self, payload: Payload) {
        self.unsent += payload.len();
        self.outgoing.push(payload);
        self.wake_connection();
    }

    /// Copies into what was not handed over yet, so that many small writes become one piece. Takes
    /// what there is room for, which is something after [`Channel::poll_room`], and says how much.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let bytes = &bytes[..bytes.len().min(UNSENT_HIGH)];
        if let Some(Payload::Owned(last)) = self.outgoing.last_mut() {
            last.extend_from_slice(bytes);
            self.unsent += bytes.len();
        } else {
            self.send(Payload::Owned(bytes.to_vec()));
        }
        bytes.len()
    }

    fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    /// Wakes who waits for room only if there is enough of it: one that is woken for nothing would
    /// ask again, for ever.
    fn wake_sender(&mut self) {
        let unsent = self.unsent;
        let is_over = self.closed.is_some();
        if let Some((_, waker)) = self.sender.take_if(|(bytes, _)| is_over || unsent < *bytes) {
            waker.wake();
        }
    }

    /// The connection is over, unless it was before: the first reason stands.
    fn close(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
        self.outgoing.clear();
        self.wake_receiver();
        self.wake_sender();
        self.wake_drainer();
    }

    fn wake_drainer(&mut self) {
        if let Some(waker) = self.drainer.take() {
            waker.wake();
        }
    }

    /// Carries out what the future has asked for.
    fn settle(&mut self, io: &mut Io<'_>) {
        for payload in self.outgoing.drain(..) {
            io.send(payload);
        }
        self.unsent = io.queued().bytes;
        self.wake_sender();
        if self.unsent > 0 {
            io.notify_writable();
        }
        if self.inbox.len() < INBOX_LOW && !self.wants.detach {
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
}

impl Bridge {
    pub(super) fn new(
        channel: Rc<RefCell<Channel>>,
        task: Pin<Box<dyn Future<Output = ()>>>,
    ) -> Bridge {
        Bridge { channel, task: Some(task) }
    }
}

impl Handler for Bridge {
    /// The future begins here and not before: a decision that comes too late leaves none behind.
    fn on_open(&mut self, io: &mut Io<'_>) {
        self.channel.borrow_mut().connection = Some(io.waker());
        let Some(task) = self.task.take() else { return };
        if !io.spawn(task) {
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
            io.pause();
        }
        channel.wake_receiver();
    }

    fn on_end(&mut self, _: &mut Io<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.is_ended = true;
        channel.wake_receiver();
    }

    fn on_writable(&mut self, io: &mut Io<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_wake(&mut self, io: &mut Io<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_drain(&mut self, _: Duration, _: &mut Io<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.is_draining = true;
        channel.wake_drainer();
    }

    fn on_close(&mut self, reason: CloseReason) {
        self.channel.borrow_mut().close(reason);
    }

    fn on_detached(&mut self, detached: Detached) {
        let mut channel = self.channel.borrow_mut();
        channel.detached = Some(detached);
        channel.wake_receiver();
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
