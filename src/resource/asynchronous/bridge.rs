//! The streaming handler that stands between the session and an async answer, and the channel they
//! share. Nothing here is ever borrowed across a call into foreign code: wakers only mark tasks as
//! ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::buffer::{Lease, Load, Payload};
use crate::http::{Fields, Response, Trailers};
use crate::resource::{StreamIo, Streaming};
use crate::upgrade::asynchronous::Closed;
use crate::upgrade::{CloseReason, ConnectionWaker};

/// Pieces waiting for the future at which content is no longer delivered, and at which it is again.
const INBOX_HIGH: usize = 8;
const INBOX_LOW: usize = 4;
/// What is not yet sent when `send` waits: received bytes that are sent on hold their buffers.
const UNSENT_HIGH: Load = Load { bytes: 64 * 1024, leases: 8 };
/// Something is not yet sent.
const ANYTHING: Load = Load { bytes: 1, leases: 1 };

/// What both sides see.
#[derive(Default)]
pub(super) struct Channel {
    inbox: VecDeque<Lease>,
    /// The future has asked for content.
    is_wanted: bool,
    is_complete: bool,
    pub(super) trailers: Trailers,
    closed: Option<CloseReason>,
    start: Option<Start>,
    outgoing: Vec<Payload>,
    finish: Option<Fields>,
    has_given_up: bool,
    /// What was handed over and is not known to have left.
    unsent: Load,
    receiver: Option<Waker>,
    /// Who waits until less than this is unsent.
    sender: Option<(Load, Waker)>,
    connection: Option<ConnectionWaker>,
}

/// How an answer begins.
pub(super) enum Start {
    /// With all of it.
    Whole(Response),
    /// With its head; so many bytes of content follow, if that is known.
    Head(Response, Option<u64>),
}

impl Channel {
    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease>, Closed>> {
        if !std::mem::replace(&mut self.is_wanted, true) {
            self.wake_connection();
        }
        if let Some(lease) = self.inbox.pop_front() {
            if self.inbox.len() + 1 == INBOX_LOW {
                self.wake_connection();
            }
            return Poll::Ready(Ok(Some(lease)));
        }
        match self.closed {
            _ if self.is_complete => Poll::Ready(Ok(None)),
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
            None => self.poll_unsent_below(UNSENT_HIGH, context),
        }
    }

    pub(super) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.poll_unsent_below(ANYTHING, context)
    }

    fn poll_unsent_below(
        &mut self,
        bound: Load,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Closed>> {
        match self.closed {
            _ if self.is_unsent_below(bound) => Poll::Ready(Ok(())),
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None => {
                self.sender = Some((bound, context.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// Begins the answer.
    pub(super) fn start(&mut self, start: Start) {
        self.start = Some(start);
        self.wake_connection();
    }

    pub(super) fn send(&mut self, payload: Payload) {
        self.unsent.bytes += payload.len();
        self.unsent.leases += u16::from(matches!(payload, Payload::Lease(_)));
        self.outgoing.push(payload);
        self.wake_connection();
    }

    pub(super) fn finish(&mut self, trailers: Fields) {
        self.finish = Some(trailers);
        self.wake_connection();
    }

    /// The future ended without an answer, or in the middle of one.
    pub(super) fn give_up(&mut self) {
        self.has_given_up = true;
        self.wake_connection();
    }

    /// Has [`Channel::settle`] called in the core's next turn, if the request is still there.
    fn wake_connection(&self) {
        if let Some(connection) = self.connection.as_ref().filter(|_| self.closed.is_none()) {
            connection.wake();
        }
    }

    fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    /// Wakes who waits for room only if there is enough of it: one that is woken for nothing would
    /// ask again, for ever.
    fn wake_sender(&mut self) {
        if let Some((bound, _)) = &self.sender
            && (self.closed.is_some() || self.is_unsent_below(*bound))
            && let Some((_, waker)) = self.sender.take()
        {
            waker.wake();
        }
    }

    fn is_unsent_below(&self, bound: Load) -> bool {
        self.unsent.bytes < bound.bytes && self.unsent.leases < bound.leases
    }

    /// Carries out what the future has asked for.
    fn settle(&mut self, io: &mut StreamIo<'_>) {
        match self.start.take() {
            Some(Start::Whole(response)) => return io.respond(response),
            Some(Start::Head(response, length)) => io.start(&response, length),
            None => {}
        }
        for payload in self.outgoing.drain(..) {
            io.send(payload);
        }
        if let Some(trailers) = self.finish.take() {
            return io.finish_with(&trailers);
        }
        if self.has_given_up {
            return if io.has_begun() { io.reset() } else { io.finish() };
        }
        self.unsent = io.queued();
        self.wake_sender();
        if self.unsent.bytes > 0 {
            io.notify_writable();
        }
        if self.is_wanted && self.inbox.len() < INBOX_LOW {
            io.resume();
        }
    }

    /// The request is over. What was sent has left, or never will.
    fn close(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
        self.outgoing.clear();
        if reason == CloseReason::Finished {
            self.unsent = Load::default();
        }
        self.wake_receiver();
        self.wake_sender();
    }
}

/// The session's side.
pub(super) struct Bridge {
    channel: Rc<RefCell<Channel>>,
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

impl Streaming for Bridge {
    fn on_open(&mut self, io: &mut StreamIo<'_>) {
        self.channel.borrow_mut().connection = Some(io.waker());
        // Until the future asks for content: it may refuse from the head alone.
        io.pause();
        let Some(task) = self.task.take() else { return };
        if !io.spawn(task) {
            tracing::error!("an async answer needs the hosted mode");
            io.finish();
        }
    }

    fn on_content(&mut self, bytes: Lease, io: &mut StreamIo<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.inbox.push_back(bytes);
        if channel.inbox.len() >= INBOX_HIGH {
            io.pause();
        }
        channel.wake_receiver();
    }

    fn on_content_end(&mut self, trailers: &Trailers, _: &mut StreamIo<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.is_complete = true;
        channel.trailers = trailers.clone();
        channel.wake_receiver();
    }

    fn on_writable(&mut self, io: &mut StreamIo<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_close(&mut self, reason: CloseReason) {
        self.channel.borrow_mut().close(reason);
    }
}

impl Drop for Bridge {
    /// No future is left waiting for a request that nobody serves any more.
    fn drop(&mut self) {
        // Before the borrow: it holds the other end of the channel.
        drop(self.task.take());
        self.channel.borrow_mut().close(CloseReason::HandlerPanicked);
    }
}
