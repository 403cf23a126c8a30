//! The async interface: a future on the core's tokio-uring runtime receives messages and sends them.
//! Built on the callback interface alone: an endpoint and the future share one channel, on one
//! thread.
//!
//! ```text
//!   Connection ──► Bridge (an endpoint) ──► channel ──► AsyncSocket::recv().await
//!   Connection ◄── mailbox ◄── waker ◄───── channel ◄── AsyncSocket::send().await
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::endpoint::{Close, ClosedBy, Endpoint};
use super::frame::CloseCode;
use super::message::Message;
use super::socket::Socket;
use super::topics::{SubscribeError, WhenSlow};
use crate::upgrade::CloseReason;
use crate::upgrade::asynchronous::Flow;

/// Messages waiting for the future at which no more are delivered, and at which they are again.
const INBOX_HIGH: usize = 16;
const INBOX_LOW: usize = 4;

/// An endpoint for the future that `run` makes now and that begins when the connection is switched.
pub(super) fn endpoint<Task>(
    bytes_max: usize,
    run: impl FnOnce(AsyncSocket) -> Task,
) -> impl Endpoint
where
    Task: Future<Output = ()> + 'static,
{
    let channel = Rc::<RefCell<Channel>>::default();
    let socket = AsyncSocket {
        receiver: MessageReceiver { channel: Rc::clone(&channel) },
        sender: MessageSender { channel: Rc::clone(&channel), bytes_max },
    };
    Bridge { channel, task: Some(Box::pin(run(socket))) }
}

/// A connection in the hands of a future. Dropping it closes the connection with 1000, behind what was
/// sent; dropping it in a panic resets it.
#[derive(Debug)]
pub struct AsyncSocket {
    receiver: MessageReceiver,
    sender: MessageSender,
}

/// The receiving half. Dropped, messages that still come are discarded.
#[derive(Debug)]
pub struct MessageReceiver {
    channel: Rc<RefCell<Channel>>,
}

/// The sending half. Dropped, the connection is closed with 1000.
#[derive(Debug)]
pub struct MessageSender {
    channel: Rc<RefCell<Channel>>,
    bytes_max: usize,
}

/// The connection was lost, or its client broke a rule: there was no closing handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection is over without a closing handshake: {0:?}")]
pub struct Disconnected(pub Close);

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is over, or closing.
    #[error("the connection is over")]
    Closed,
    /// The message is larger than what may wait to be sent (`queue_bytes_max`).
    #[error("the message is larger than what may wait to be sent")]
    TooLarge,
}

impl AsyncSocket {
    /// The next message; `None` when the connection was closed in order. A wait that is given up
    /// takes nothing.
    ///
    /// # Errors
    /// The connection was lost, or its client broke a rule.
    pub async fn recv(&mut self) -> Result<Option<Message>, Disconnected> {
        self.receiver.recv().await
    }

    /// Sends a message by ownership: one that was received leaves from where it lies. Waits while 64 KiB
    /// or sixteen receive buffers are unsent, then hands it over and returns. A wait that is given up
    /// sends nothing.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// Returns when everything sent has left.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        self.sender.flush().await
    }

    /// Begins the closing handshake behind what was sent: [`AsyncSocket::recv`] says when it is over.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.sender.close(code, reason);
    }

    /// Cuts the connection: the peer sees a reset.
    pub fn reset(self) {
        self.sender.channel.borrow_mut().want(|wants| wants.reset = true);
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Close> {
        self.receiver.channel.borrow().close.clone()
    }

    /// Sends the peer what is published to `topic` from here on.
    ///
    /// # Errors
    /// The connection is subscribed to as many topics as it may be, or there are as many.
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        self.sender.channel.borrow_mut().request(Request::Subscribe(topic.into()));
        poll_fn(|context| self.sender.channel.borrow_mut().poll_outcome(context)).await
    }

    /// Sends the peer no more of what is published to `topic`.
    pub async fn unsubscribe(&mut self, topic: &str) {
        self.sender.channel.borrow_mut().request(Request::Unsubscribe(topic.into()));
        // It has no outcome but that it is done.
        let _ = poll_fn(|context| self.sender.channel.borrow_mut().poll_outcome(context)).await;
    }

    /// Publishes a message to all subscribers of `topic` but this connection.
    pub async fn publish(&mut self, topic: &str, message: impl Into<Message>) {
        let request = Request::Publish(topic.into(), message.into());
        self.sender.channel.borrow_mut().request(request);
        let _ = poll_fn(|context| self.sender.channel.borrow_mut().poll_outcome(context)).await;
    }

    /// Ready when the server is stopping or the connection is over: to wait for beside
    /// [`AsyncSocket::recv`]. A connection whose future does not wait for it is closed with 1001 when
    /// the server stops.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        let channel = Rc::clone(&self.receiver.channel);
        poll_fn(move |context| channel.borrow_mut().poll_draining(context))
    }

    /// Both halves, for two tasks on this core.
    pub fn split(self) -> (MessageReceiver, MessageSender) {
        (self.receiver, self.sender)
    }
}

impl MessageReceiver {
    /// See [`AsyncSocket::recv`].
    ///
    /// # Errors
    /// The connection was lost, or its client broke a rule.
    pub async fn recv(&mut self) -> Result<Option<Message>, Disconnected> {
        poll_fn(|context| self.channel.borrow_mut().poll_recv(context)).await
    }
}

impl MessageSender {
    /// See [`AsyncSocket::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let message = message.into();
        if message.len() > self.bytes_max {
            return Err(SendError::TooLarge);
        }
        poll_fn(|context| self.channel.borrow_mut().poll_room(context)).await?;
        self.channel.borrow_mut().flow.send(message);
        Ok(())
    }

    /// See [`AsyncSocket::flush`].
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        let sent = poll_fn(|context| self.channel.borrow_mut().flow.poll_sent(context)).await;
        sent.map_err(|_| SendError::Closed)
    }

    /// See [`AsyncSocket::close`].
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.channel.borrow_mut().want(|wants| {
            wants.close.get_or_insert((code, reason.into()));
        });
    }
}

impl Drop for MessageReceiver {
    fn drop(&mut self) {
        let mut channel = self.channel.borrow_mut();
        channel.inbox.clear();
        channel.want(|wants| {
            wants.no_input = true;
            wants.reset |= std::thread::panicking();
        });
    }
}

impl Drop for MessageSender {
    fn drop(&mut self) {
        self.close(CloseCode::NORMAL, "");
        if std::thread::panicking() {
            self.channel.borrow_mut().want(|wants| wants.reset = true);
        }
    }
}

/// What both sides see.
#[derive(Debug, Default)]
struct Channel {
    flow: Flow<Message>,
    inbox: VecDeque<Message>,
    /// Enough waits in it that no more is delivered.
    is_held: bool,
    close: Option<Close>,
    wants: Wants,
    request: Option<Request>,
    outcome: Option<Result<(), SubscribeError>>,
    is_draining: bool,
    drainer: Option<Waker>,
    requester: Option<Waker>,
}

/// What the future has asked for.
#[derive(Debug, Default)]
struct Wants {
    close: Option<(CloseCode, Box<str>)>,
    no_input: bool,
    reset: bool,
}

/// What it waits for the outcome of.
#[derive(Debug)]
enum Request {
    Subscribe(Box<str>),
    Unsubscribe(Box<str>),
    Publish(Box<str>, Message),
}

impl Channel {
    fn want(&mut self, change: impl FnOnce(&mut Wants)) {
        change(&mut self.wants);
        self.flow.wake_connection();
    }

    fn request(&mut self, request: Request) {
        self.request = Some(request);
        self.outcome = None;
        self.flow.wake_connection();
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SubscribeError>> {
        match self.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            // Nothing is published to who is gone, and nothing is asked of it.
            None if self.close.is_some() => Poll::Ready(Ok(())),
            None => {
                self.requester = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, Disconnected>> {
        if let Some(message) = self.inbox.pop_front() {
            if self.is_held && self.inbox.len() < INBOX_LOW {
                self.flow.wake_connection();
            }
            return Poll::Ready(Ok(Some(message)));
        }
        match &self.close {
            None => self.flow.await_receipt(context),
            Some(Close { by: ClosedBy::Peer | ClosedBy::Us, .. }) => Poll::Ready(Ok(None)),
            Some(close) => Poll::Ready(Err(Disconnected(close.clone()))),
        }
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        // Nothing leaves behind our own Close.
        if self.wants.close.is_some() {
            return Poll::Ready(Err(SendError::Closed));
        }
        self.flow.poll_room(context).map_err(|_| SendError::Closed)
    }

    fn poll_draining(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_draining || self.close.is_some() {
            return Poll::Ready(());
        }
        self.drainer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Carries out what the future has asked for.
    fn settle(&mut self, socket: &mut Socket<'_>) {
        for message in self.flow.outgoing.drain(..) {
            socket.send_admitted(message);
        }
        if let Some(request) = self.request.take() {
            self.outcome = Some(match request {
                Request::Subscribe(topic) => socket.subscribe_with(&topic, WhenSlow::Skip),
                Request::Unsubscribe(topic) => {
                    socket.unsubscribe(&topic);
                    Ok(())
                }
                Request::Publish(topic, message) => {
                    socket.publish(&topic, message);
                    Ok(())
                }
            });
            wake(&mut self.requester);
        }
        if self.flow.settled(socket.queued()) {
            socket.io.notify_writable();
        }
        if self.inbox.len() < INBOX_LOW {
            self.is_held = false;
            socket.resume();
        }
        if self.wants.reset {
            return socket.reset();
        }
        if let Some((code, reason)) = &self.wants.close {
            socket.close(*code, reason);
        }
    }

    /// The connection is over, unless it was before: the first account of it stands.
    fn close(&mut self, close: Close) {
        if self.close.is_none() {
            self.close = Some(close);
            self.flow.close(CloseReason::Finished);
            wake(&mut self.drainer);
            wake(&mut self.requester);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The connection's side. Nothing here is borrowed across a call into foreign code: wakers only mark
/// tasks as ready.
struct Bridge {
    channel: Rc<RefCell<Channel>>,
    /// The future, until the connection is switched.
    task: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Endpoint for Bridge {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.channel.borrow_mut().flow.connect(socket.waker());
        let Some(task) = self.task.take() else { return };
        if !socket.io.spawn(task) {
            tracing::error!(
                "an async WebSocket handler needs the hosted mode: mark its protocol needs_runtime()"
            );
            return socket.reset();
        }
        self.channel.borrow_mut().settle(socket);
    }

    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        let mut channel = self.channel.borrow_mut();
        if channel.wants.no_input {
            return;
        }
        channel.inbox.push_back(message);
        if channel.inbox.len() >= INBOX_HIGH {
            channel.is_held = true;
            socket.pause();
        }
        channel.flow.wake_receiver();
    }

    fn on_drain(&mut self, socket: &mut Socket<'_>) {
        self.channel.borrow_mut().settle(socket);
    }

    fn on_wake(&mut self, socket: &mut Socket<'_>) {
        self.channel.borrow_mut().settle(socket);
    }

    fn on_shortage(&mut self) {
        let mut channel = self.channel.borrow_mut();
        channel.inbox = channel.inbox.drain(..).map(Message::into_owned).collect();
    }

    fn on_shutdown(&mut self, _: Duration, socket: &mut Socket<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.is_draining = true;
        match channel.drainer.take() {
            Some(waker) => waker.wake(),
            None => socket.close(CloseCode::GOING_AWAY, ""),
        }
    }

    fn on_close(&mut self, close: &Close) {
        self.channel.borrow_mut().close(close.clone());
    }
}

impl Drop for Bridge {
    /// No future is left waiting for a connection that nobody serves any more.
    fn drop(&mut self) {
        // Before the borrow: it holds the other end of the channel.
        drop(self.task.take());
        let by = ClosedBy::Lost(CloseReason::HandlerPanicked);
        self.channel.borrow_mut().close(Close { code: None, reason: Box::default(), by });
    }
}
