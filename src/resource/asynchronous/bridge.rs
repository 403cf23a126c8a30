//! The streaming handler that stands between the session and an async answer, and the channel they
//! share. Nothing here is ever borrowed across a call into foreign code: wakers only mark tasks as
//! ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::buffer::Lease;
use crate::http::{Fields, Response, Trailers};
use crate::resource::{StreamIo, Streaming};
use crate::upgrade::CloseReason;
use crate::upgrade::asynchronous::{Closed, Flow};

/// Pieces waiting for the future at which content is no longer delivered, and at which it is again.
const INBOX_HIGH: usize = 8;
const INBOX_LOW: usize = 4;

/// What both sides see.
#[derive(Default)]
pub(super) struct Channel {
    pub(super) flow: Flow,
    inbox: VecDeque<Lease>,
    /// Enough waits in it that no more is delivered.
    is_held: bool,
    /// The future has asked for content.
    is_wanted: bool,
    is_complete: bool,
    pub(super) trailers: Trailers,
    start: Option<Start>,
    finish: Option<Fields>,
    has_given_up: bool,
    /// The future, to be dropped when nobody waits for its answer any more.
    task: Option<Waker>,
    /// It waited for the connection when that ended: it has an error to deal with.
    is_told: bool,
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
            self.flow.wake_connection();
        }
        if let Some(lease) = self.inbox.pop_front() {
            if self.is_held && self.inbox.len() < INBOX_LOW {
                self.flow.wake_connection();
            }
            return Poll::Ready(Ok(Some(lease)));
        }
        match self.flow.closed() {
            _ if self.is_complete => Poll::Ready(Ok(None)),
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None => self.flow.await_receipt(context),
        }
    }

    /// Begins the answer.
    pub(super) fn start(&mut self, start: Start) {
        self.start = Some(start);
        self.flow.wake_connection();
    }

    pub(super) fn finish(&mut self, trailers: Fields) {
        self.finish = Some(trailers);
        self.flow.wake_connection();
    }

    /// The future ended without an answer, or in the middle of one.
    pub(super) fn give_up(&mut self) {
        self.has_given_up = true;
        self.flow.wake_connection();
    }

    /// Carries out what the future has asked for.
    fn settle(&mut self, io: &mut StreamIo<'_>) {
        match self.start.take() {
            Some(Start::Whole(response)) => return io.respond(response),
            Some(Start::Head(response, length)) => io.start(&response, length),
            None => {}
        }
        for payload in self.flow.outgoing.drain(..) {
            io.send(payload);
        }
        if let Some(trailers) = self.finish.take() {
            return io.finish_with(&trailers);
        }
        if self.has_given_up {
            return if io.has_begun() { io.reset() } else { io.finish() };
        }
        if self.flow.settled(io.queued()) {
            io.notify_writable();
        }
        if self.is_wanted && self.inbox.len() < INBOX_LOW {
            self.is_held = false;
            io.resume();
        }
    }

    /// The request is over. What was sent has left, or never will.
    fn close(&mut self, reason: CloseReason) {
        if reason == CloseReason::Finished {
            self.flow.forget_unsent();
        }
        self.is_told |= self.flow.is_awaited();
        self.flow.close(reason);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Whether nobody waits for the answer any more, and the future is not about to learn it.
    fn is_abandoned(&self) -> bool {
        let is_lost = self.flow.closed().is_some_and(|reason| reason != CloseReason::Finished);
        is_lost && !self.is_told
    }
}

/// The future of an answer. One that waits for its client when that is gone, or was answered without it,
/// gets an error. One that waits for something else waits in vain, and is dropped.
struct Task {
    channel: Rc<RefCell<Channel>>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.channel.borrow().is_abandoned() {
            return Poll::Ready(());
        }
        let poll = self.future.as_mut().poll(context);
        if poll.is_pending() {
            let mut channel = self.channel.borrow_mut();
            match &mut channel.task {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            // It may have been closed while it was polled.
            if channel.is_abandoned() {
                return Poll::Ready(());
            }
        }
        poll
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
        self.channel.borrow_mut().flow.connect(io.waker());
        // Until the future asks for content: it may refuse from the head alone.
        io.pause();
        let Some(future) = self.task.take() else { return };
        if !io.spawn(Task { channel: Rc::clone(&self.channel), future }) {
            tracing::error!("an async answer needs the hosted mode");
            io.finish();
        }
    }

    fn on_content(&mut self, bytes: Lease, io: &mut StreamIo<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.inbox.push_back(bytes);
        if channel.inbox.len() >= INBOX_HIGH {
            channel.is_held = true;
            io.pause();
        }
        channel.flow.wake_receiver();
    }

    fn on_content_end(&mut self, trailers: &Trailers, _: &mut StreamIo<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.is_complete = true;
        channel.trailers = trailers.clone();
        channel.flow.wake_receiver();
    }

    fn on_writable(&mut self, io: &mut StreamIo<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        self.channel.borrow_mut().settle(io);
    }

    fn on_shortage(&mut self) {
        let mut channel = self.channel.borrow_mut();
        if !channel.inbox.is_empty() {
            let copied = Lease::copied(channel.inbox.iter().map(|lease| &**lease));
            channel.inbox = VecDeque::from([copied]);
        }
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
