//! The channel between a connection and its future, on one thread, and the endpoint that is the
//! connection's side of it. Nothing here is borrowed across a call into foreign code: wakers only
//! mark tasks as ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::{Disconnected, Missed, SendError};
use crate::buffer::Load;
use crate::protocols::websocket::endpoint::{Close, ClosedBy, Endpoint};
use crate::protocols::websocket::frame::CloseCode;
use crate::protocols::websocket::message::Message;
use crate::protocols::websocket::socket::Socket;
use crate::protocols::websocket::topics::{SubscribeError, WhenSlow};
use crate::upgrade::asynchronous::{Flow, Weighed};
use crate::upgrade::{CloseReason, Connected};

/// Messages waiting for the future at which no more are delivered, and at which they are again.
const INBOX_HIGH: usize = 16;
const INBOX_LOW: usize = 4;
/// Bytes of them at which no more are delivered: what a handler that does not receive may cost is
/// this and one message.
const INBOX_BYTES_HIGH: usize = 64 * 1024;

/// What both sides see.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// What the future has asked for, in order.
    pub(super) flow: Flow<Command>,
    inbox: VecDeque<Message>,
    inbox_bytes: usize,
    /// Enough waits in it that no more is delivered.
    is_held: bool,
    pub(super) close: Option<Close>,
    wants: Wants,
    /// Our Close is out or was asked for: nothing that is sent now leaves.
    is_closing: bool,
    /// Of the last command that has one.
    outcome: Option<Outcome>,
    requester: Option<Waker>,
    missed: VecDeque<Missed>,
    is_draining: bool,
    /// The future has waited for the server to stop, and closes by itself.
    minds_draining: bool,
    /// Who waits for an event.
    waiting: Slab<Waker>,
}

/// Whether there was something to unsubscribe from, and why there is nothing to subscribe to.
pub(super) type Outcome = Result<bool, SubscribeError>;

/// What the future wants of the connection as a whole.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) no_input: bool,
    pub(super) reset: bool,
}

/// One thing the connection is to do. All but the first three have an outcome.
#[derive(Debug)]
pub(super) enum Command {
    Send(Message),
    Ping(Vec<u8>),
    Close(CloseCode, Box<str>),
    Subscribe(Box<str>, WhenSlow),
    Unsubscribe(Box<str>),
    Publish(Box<str>, Message),
    PublishToAll(Box<str>, Message),
}

impl Weighed for Command {
    fn load(&self) -> Load {
        match self {
            Command::Send(message)
            | Command::Publish(_, message)
            | Command::PublishToAll(_, message) => message.load(),
            Command::Ping(payload) => Load { bytes: payload.len(), leases: 0 },
            Command::Close(..) | Command::Subscribe(..) | Command::Unsubscribe(_) => {
                Load::default()
            }
        }
    }
}

/// Waits until `look` finds what happened. It looks whenever something has.
pub(super) fn event<T, F>(
    channel: &Rc<RefCell<Channel>>,
    look: F,
) -> impl Future<Output = T> + use<T, F>
where
    F: Fn(&mut Channel) -> Poll<T>,
{
    let mut seat = Seat { channel: Rc::clone(channel), number: None };
    poll_fn(move |context| {
        let found = look(&mut seat.channel.borrow_mut());
        if found.is_pending() {
            seat.wait(context);
        }
        found
    })
}

/// A place among those who wait for an event; left when it is dropped.
struct Seat {
    channel: Rc<RefCell<Channel>>,
    number: Option<usize>,
}

impl Seat {
    fn wait(&mut self, context: &Context<'_>) {
        let waiting = &mut self.channel.borrow_mut().waiting;
        match self.number.and_then(|number| waiting.get_mut(number)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.number = Some(waiting.insert(context.waker().clone())),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.channel.borrow_mut().waiting.try_remove(number);
        }
    }
}

/// The future's calls.
impl Channel {
    pub(super) fn want(&mut self, change: impl FnOnce(&mut Wants)) {
        change(&mut self.wants);
        self.flow.wake_connection();
    }

    /// Asks for the closing handshake, unless it was asked for.
    pub(super) fn ask_to_close(&mut self, code: CloseCode, reason: &str) {
        if !self.is_closing && self.close.is_none() {
            self.is_closing = true;
            self.flow.send(Command::Close(code, reason.into()));
        }
    }

    /// Asks for something whose outcome is waited for. Who waits is always who asked last: the outcome of
    /// a command whose asker has given up is nobody's.
    pub(super) fn request(&mut self, command: Command) {
        self.outcome = None;
        if self.close.is_none() {
            self.flow.send(command);
        }
    }

    pub(super) fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        match self.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None if self.close.is_some() => Poll::Ready(Err(SubscribeError::Closed)),
            None => {
                self.requester = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, Disconnected>> {
        if let Some(message) = self.inbox.pop_front() {
            self.inbox_bytes -= message.len();
            if self.is_held && self.has_room() {
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

    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        // Nothing leaves behind our own Close.
        if self.is_closing {
            return Poll::Ready(Err(SendError::Closed));
        }
        self.flow.poll_room(context).map_err(|_| SendError::Closed)
    }

    pub(super) fn poll_missed(&mut self) -> Poll<Option<Missed>> {
        match self.missed.pop_front() {
            None if self.close.is_none() => Poll::Pending,
            missed => Poll::Ready(missed),
        }
    }

    pub(super) fn poll_draining(&mut self) -> Poll<()> {
        self.minds_draining = true;
        if self.is_draining || self.close.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(super) fn forget_input(&mut self) {
        self.inbox.clear();
        self.inbox_bytes = 0;
        self.want(|wants| wants.no_input = true);
    }
}

/// The connection's calls.
impl Channel {
    fn has_room(&self) -> bool {
        self.inbox.len() < INBOX_LOW && self.inbox_bytes < INBOX_BYTES_HIGH
    }

    fn is_full(&self) -> bool {
        self.inbox.len() >= INBOX_HIGH || self.inbox_bytes >= INBOX_BYTES_HIGH
    }

    /// Carries out what the future has asked for.
    fn settle(&mut self, socket: &mut Socket<'_>) {
        for command in self.flow.outgoing.drain(..) {
            if let Some(outcome) = carry_out(command, &mut self.missed, socket) {
                self.outcome = Some(outcome);
            }
        }
        wake(&mut self.requester);
        if self.flow.settled(socket.queued()) {
            socket.io.notify_writable();
        }
        if self.has_room() {
            self.is_held = false;
            socket.resume();
        }
        // Or it was closed by others, for its time or its speed.
        self.is_closing |= socket.is_closing();
        if self.wants.reset {
            socket.reset();
        }
    }

    /// The connection is over, unless it was before: the first account of it stands.
    fn close(&mut self, close: Close) {
        if self.close.is_none() {
            self.close = Some(close);
            self.flow.close(CloseReason::Finished);
            wake(&mut self.requester);
            self.wake_waiting();
        }
    }

    fn wake_waiting(&self) {
        self.waiting.iter().for_each(|(_, waker)| waker.wake_by_ref());
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn carry_out(
    command: Command,
    missed: &mut VecDeque<Missed>,
    socket: &mut Socket<'_>,
) -> Option<Outcome> {
    match command {
        Command::Send(message) => {
            socket.send_admitted(message);
            return None;
        }
        Command::Ping(payload) => {
            socket.ping(&payload);
            return None;
        }
        Command::Close(code, reason) => {
            socket.close(code, &reason);
            return None;
        }
        Command::Subscribe(topic, when_slow) => {
            return Some(socket.subscribe_with(&topic, when_slow).map(|()| true));
        }
        Command::Unsubscribe(topic) => {
            missed.retain(|missed| missed.topic != topic);
            return Some(Ok(socket.unsubscribe(&topic)));
        }
        Command::Publish(topic, message) => socket.publish(&topic, message),
        Command::PublishToAll(topic, message) => socket.publish_to_all(&topic, message),
    }
    Some(Ok(true))
}

/// The connection's side.
pub(super) struct Bridge {
    channel: Rc<RefCell<Channel>>,
    /// The future, until the connection is switched.
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

impl Endpoint for Bridge {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.channel.borrow_mut().flow.connect(socket.waker());
        let Some(task) = self.task.take() else { return };
        self.connected = socket.io.spawn_handler(task);
        if self.connected.is_none() {
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
        channel.inbox_bytes += message.len();
        channel.inbox.push_back(message);
        if channel.is_full() {
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

    /// What was missed adds up until the future asks: one entry a topic.
    fn on_missed(&mut self, topic: &str, count: u64, _: &mut Socket<'_>) {
        let mut channel = self.channel.borrow_mut();
        match channel.missed.iter_mut().find(|missed| *missed.topic == *topic) {
            Some(missed) => missed.count += count,
            None => channel.missed.push_back(Missed { topic: topic.into(), count }),
        }
        channel.wake_waiting();
    }

    fn on_shortage(&mut self) {
        let mut channel = self.channel.borrow_mut();
        channel.inbox = channel.inbox.drain(..).map(Message::into_owned).collect();
    }

    fn on_shutdown(&mut self, _: Duration, socket: &mut Socket<'_>) {
        let mut channel = self.channel.borrow_mut();
        channel.is_draining = true;
        if channel.minds_draining {
            return channel.wake_waiting();
        }
        socket.close(CloseCode::GOING_AWAY, "");
        channel.is_closing = true;
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
