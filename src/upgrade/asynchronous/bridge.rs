//! The callback handler that stands between the engine and an async handler, and the channel they share. Nothing here
//! is ever borrowed across a call into foreign code: wakers only mark tasks as ready.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Closed;
use crate::buffer::{Lease, LeaseQueue, Payload};
use crate::upgrade::{CloseReason, ConnectionWaker, Detached, Handler, Io};

/// Leases waiting for the future at which the connection is no longer read, and at which it is read again.
const INBOX_HIGH: usize = 8;
const INBOX_LOW: usize = 4;
/// Bytes not yet sent at which `send` waits.
const UNSENT_HIGH: usize = 64 * 1024;

/// What both sides see.
#[derive(Debug)]
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
    sender: Option<Waker>,
    connection: ConnectionWaker,
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
    pub(super) fn new(connection: ConnectionWaker) -> Channel {
        Channel {
            inbox: LeaseQueue::default(),
            is_draining: false,
            is_ended: false,
            closed: None,
            outgoing: Vec::new(),
            unsent: 0,
            wants: Wants::default(),
            detached: None,
            receiver: None,
            sender: None,
            connection,
        }
    }

    pub(super) fn want(&mut self, change: impl FnOnce(&mut Wants)) {
        change(&mut self.wants);
        self.connection.wake();
    }

    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease>, Closed>> {
        if let Some(lease) = self.inbox.pop() {
            if self.inbox.len() + 1 == INBOX_LOW {
                self.connection.wake();
            }
            return Poll::Ready(Ok(Some(lease)));
        }
        match self.closed {
            _ if self.is_ended => Poll::Ready(Ok(None)),
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None => {
                self.receiver = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.poll_unsent_below(UNSENT_HIGH, context)
    }

    pub(super) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.poll_unsent_below(1, context)
    }

    fn poll_unsent_below(
        &mut self,
        bytes: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Closed>> {
        match self.closed {
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None if self.unsent < bytes => Poll::Ready(Ok(())),
            None => {
                self.sender = Some(context.waker().clone());
                self.connection.wake();
                Poll::Pending
            }
        }
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
        self.connection.wake();
    }

    /// Copies into what was not handed over yet, so that many small writes become one piece.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if let Some(Payload::Owned(last)) = self.outgoing.last_mut() {
            last.extend_from_slice(bytes);
            self.unsent += bytes.len();
        } else {
            self.send(Payload::Owned(bytes.to_vec()));
        }
    }

    fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    fn wake_sender(&mut self) {
        if let Some(waker) = self.sender.take() {
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
            io.reset();
        } else if wants.detach {
            io.detach();
        } else if wants.end && wants.no_input {
            io.close();
        } else if wants.end {
            io.end();
        }
    }
}

/// The engine's side.
pub(super) struct Bridge {
    channel: Rc<RefCell<Channel>>,
}

impl Bridge {
    pub(super) fn new(channel: Rc<RefCell<Channel>>) -> Bridge {
        Bridge { channel }
    }
}

impl Handler for Bridge {
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
        channel.wake_receiver();
    }

    fn on_close(&mut self, reason: CloseReason) {
        let mut channel = self.channel.borrow_mut();
        channel.closed = Some(reason);
        channel.wake_receiver();
        channel.wake_sender();
    }

    fn on_detached(&mut self, detached: Detached) {
        let mut channel = self.channel.borrow_mut();
        channel.detached = Some(detached);
        channel.wake_receiver();
    }
}
