//! The async interface: a future on the core's tokio-uring runtime receives messages and sends them.
//! Built on the callback interface alone: an endpoint and the future share one channel, on one
//! thread.
//!
//! ```text
//!   Connection ──► Bridge (an endpoint) ──► channel ──► AsyncSocket::recv().await
//!   Connection ◄── mailbox ◄── waker ◄───── channel ◄── AsyncSocket::send().await
//! ```
//!
//! Whatever a future asks for is carried out in the order in which it asked.

mod channel;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;

use super::endpoint::Close;
use super::frame::CloseCode;
use super::message::Message;
use super::service::Local;
use super::topics::{SubscribeError, WhenSlow};
use channel::{Bridge, Channel, Command, Outcome, event};

/// An endpoint for the future that `run` makes now and that begins when the connection is switched.
pub(super) fn endpoint<Task>(
    local: Rc<Local>,
    subprotocol: Option<usize>,
    run: impl FnOnce(AsyncSocket) -> Task,
) -> impl super::Endpoint
where
    Task: Future<Output = ()> + 'static,
{
    let channel = Rc::<RefCell<Channel>>::default();
    let receiver = MessageReceiver { channel: Rc::clone(&channel) };
    let sender = MessageSender { channel: Rc::clone(&channel), local, subprotocol };
    Bridge::new(channel, Box::pin(run(AsyncSocket { receiver, sender })))
}

/// A connection in the hands of a future. Dropping it closes the connection with 1000, behind what was
/// sent; dropping it in a panic resets it.
///
/// Topics are asked for by awaiting. A wait that is given up once it has begun is carried out all the
/// same, before whatever is asked for next; its outcome is lost.
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

/// The sending half, which has the topics. Dropped, the connection is closed with 1000.
#[derive(Debug)]
pub struct MessageSender {
    channel: Rc<RefCell<Channel>>,
    local: Rc<Local>,
    /// Which of the service's.
    subprotocol: Option<usize>,
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

/// The connection read too slowly for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missed {
    /// The topic.
    pub topic: Box<str>,
    /// Messages that were not sent, since this was last asked for.
    pub count: u64,
}

impl AsyncSocket {
    /// The next message; `None` when the connection was closed in order. A wait that is given up
    /// takes nothing. While 16 messages or 64 KiB are not asked for, the peer is held by TCP's window.
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

    /// Asks the peer for a Pong, behind what was sent. At most 125 bytes of `payload` are sent. Waits
    /// like [`AsyncSocket::send`].
    ///
    /// # Errors
    /// The connection is over, or closing.
    pub async fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.sender.ping(payload).await
    }

    /// Begins the closing handshake behind what was sent: [`AsyncSocket::recv`] says when it is over.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.sender.close(code, reason);
    }

    /// Cuts the connection: the peer sees a reset.
    pub fn reset(self) {
        self.sender.reset();
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Close> {
        self.receiver.closed()
    }

    /// The sub-protocol that was chosen.
    pub fn subprotocol(&self) -> Option<&str> {
        self.sender.subprotocol()
    }

    /// Sends the peer what is published to `topic` from here on. If it reads too slowly it misses the
    /// oldest messages, and [`AsyncSocket::missed`] says how many.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        self.sender.subscribe(topic).await
    }

    /// The same, with what happens to the connection when it reads too slowly. No effect on a topic it
    /// is subscribed to already.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe_with(
        &mut self,
        topic: &str,
        when_slow: WhenSlow,
    ) -> Result<(), SubscribeError> {
        self.sender.subscribe_with(topic, when_slow).await
    }

    /// Sends the peer no more of what is published to `topic`; whether it was sent any. What was missed
    /// of it and not asked for is forgotten.
    pub async fn unsubscribe(&mut self, topic: &str) -> bool {
        self.sender.unsubscribe(topic).await
    }

    /// Publishes a message to all subscribers of `topic` but this connection.
    ///
    /// # Errors
    /// The connection is over: [`Topics::publish`](super::Topics::publish) needs none.
    pub async fn publish(
        &mut self,
        topic: &str,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        self.sender.publish(topic, message).await
    }

    /// Publishes a message to all subscribers of `topic`, this connection among them if it is one.
    ///
    /// # Errors
    /// The connection is over: [`Topics::publish`](super::Topics::publish) needs none.
    pub async fn publish_to_all(
        &mut self,
        topic: &str,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        self.sender.publish_to_all(topic, message).await
    }

    /// Subscribers of `topic` on all cores, now.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.sender.subscribers(topic)
    }

    /// Ready when messages of a topic were missed, with how many since the last time; `None` when the
    /// connection is over. To wait for beside [`AsyncSocket::recv`]; it borrows nothing. One entry a
    /// topic waits for who does not ask.
    pub fn missed(&self) -> impl Future<Output = Option<Missed>> + use<> {
        self.receiver.missed()
    }

    /// Ready when the server is stopping or the connection is over: to wait for beside
    /// [`AsyncSocket::recv`]. Any number of tasks may wait.
    ///
    /// A connection whose future has never waited for it is closed with 1001 when the server stops. One
    /// whose future has, if only once and in vain, is left to it until the server cuts what is open
    /// (`DrainTimes::timeout`): a loop that is elsewhere at that moment finds it ready the next time.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        self.receiver.draining()
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

    /// See [`AsyncSocket::closed`].
    pub fn closed(&self) -> Option<Close> {
        self.channel.borrow().close.clone()
    }

    /// See [`AsyncSocket::missed`].
    pub fn missed(&self) -> impl Future<Output = Option<Missed>> + use<> {
        event(&self.channel, Channel::poll_missed)
    }

    /// See [`AsyncSocket::draining`].
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        event(&self.channel, Channel::poll_draining)
    }
}

impl MessageSender {
    /// See [`AsyncSocket::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let message = message.into();
        if message.len() > self.local.service.limits.queue_bytes_max {
            return Err(SendError::TooLarge);
        }
        self.hand_over(Command::Send(message)).await
    }

    /// See [`AsyncSocket::flush`].
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        let sent = poll_fn(|context| self.channel.borrow_mut().flow.poll_sent(context)).await;
        sent.map_err(|_| SendError::Closed)
    }

    /// See [`AsyncSocket::ping`].
    ///
    /// # Errors
    /// The connection is over, or closing.
    pub async fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.hand_over(Command::Ping(payload.to_vec())).await
    }

    /// See [`AsyncSocket::close`].
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.channel.borrow_mut().ask_to_close(code, reason);
    }

    /// See [`AsyncSocket::reset`].
    pub fn reset(self) {
        self.channel.borrow_mut().want(|wants| wants.reset = true);
    }

    /// See [`AsyncSocket::closed`].
    pub fn closed(&self) -> Option<Close> {
        self.channel.borrow().close.clone()
    }

    /// See [`AsyncSocket::subprotocol`].
    pub fn subprotocol(&self) -> Option<&str> {
        self.local.service.terms.subprotocol(self.subprotocol)
    }

    /// See [`AsyncSocket::subscribe`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        self.subscribe_with(topic, WhenSlow::Skip).await
    }

    /// See [`AsyncSocket::subscribe_with`].
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe_with(
        &mut self,
        topic: &str,
        when_slow: WhenSlow,
    ) -> Result<(), SubscribeError> {
        self.request(Command::Subscribe(topic.into(), when_slow)).await.map(|_| ())
    }

    /// See [`AsyncSocket::unsubscribe`].
    pub async fn unsubscribe(&mut self, topic: &str) -> bool {
        self.request(Command::Unsubscribe(topic.into())).await == Ok(true)
    }

    /// See [`AsyncSocket::publish`].
    ///
    /// # Errors
    /// The connection is over.
    pub async fn publish(
        &mut self,
        topic: &str,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        let published = self.request(Command::Publish(topic.into(), message.into())).await;
        published.map(|_| ()).map_err(|_| SendError::Closed)
    }

    /// See [`AsyncSocket::publish_to_all`].
    ///
    /// # Errors
    /// The connection is over.
    pub async fn publish_to_all(
        &mut self,
        topic: &str,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        let published = self.request(Command::PublishToAll(topic.into(), message.into())).await;
        published.map(|_| ()).map_err(|_| SendError::Closed)
    }

    /// See [`AsyncSocket::subscribers`].
    pub fn subscribers(&self, topic: &str) -> usize {
        self.local.service.topics.subscribers(topic)
    }

    /// See [`AsyncSocket::draining`].
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        event(&self.channel, Channel::poll_draining)
    }

    /// Waits for room, and leaves it to the connection.
    async fn hand_over(&mut self, command: Command) -> Result<(), SendError> {
        poll_fn(|context| self.channel.borrow_mut().poll_room(context)).await?;
        self.channel.borrow_mut().flow.send(command);
        Ok(())
    }

    /// Has the connection do it, and waits for what comes of it.
    async fn request(&mut self, command: Command) -> Outcome {
        self.channel.borrow_mut().request(command);
        poll_fn(|context| self.channel.borrow_mut().poll_outcome(context)).await
    }
}

impl Drop for MessageReceiver {
    fn drop(&mut self) {
        let mut channel = self.channel.borrow_mut();
        channel.forget_input();
        channel.want(|wants| wants.reset |= std::thread::panicking());
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
