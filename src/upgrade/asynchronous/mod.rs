//! Async handlers: a future on the core's tokio-uring runtime gets the request and an [`Upgraded`], the connection after
//! its 101. Built on the callback interface alone: a [`bridge`] handler and the future share one channel, on one thread.
//!
//! ```text
//!   engine ──► Bridge (callback handler) ──► channel ──► Upgraded::recv().await
//!   engine ◄── mailbox ◄── ConnectionWaker ◄── channel ◄── Upgraded::send().await
//! ```

mod bridge;
mod stream;

pub use stream::UpgradedStream;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{CloseReason, Decision, Opening};
use crate::buffer::{Lease, LeaseQueue, Payload};
use crate::http::OwnedRequest;
use bridge::{Bridge, Channel};

/// Accepts with a future; the registration has made sure that the host can run it.
pub(super) fn open<F, Task>(opening: &Opening<'_>, run: &F) -> Decision
where
    F: Fn(OwnedRequest, Upgraded) -> Task,
    Task: Future<Output = ()> + 'static,
{
    let channel = Rc::new(RefCell::new(Channel::new(opening.waker())));
    let upgraded = Upgraded {
        receiver: Receiver { channel: Rc::clone(&channel) },
        sender: Sender { channel: Rc::clone(&channel) },
    };
    if opening.spawn(run(opening.request().into_owned(), upgraded)) {
        return Decision::switch(Bridge::new(channel));
    }
    let text = "An async handler needs the hosted mode.\n";
    Decision::Answer(crate::http::Response::text(crate::http::Status::INTERNAL_SERVER_ERROR, text))
}

/// A switched connection in the hands of a future. Dropping it closes the connection in order; dropping it in a panic
/// resets it.
#[derive(Debug)]
pub struct Upgraded {
    receiver: Receiver,
    sender: Sender,
}

/// The receiving half. Dropped, what still comes is discarded.
#[derive(Debug)]
pub struct Receiver {
    channel: Rc<RefCell<Channel>>,
}

/// The sending half. Dropped, our direction ends behind what was sent.
#[derive(Debug)]
pub struct Sender {
    channel: Rc<RefCell<Channel>>,
}

/// The connection is over, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is over: {0}")]
pub struct Closed(pub CloseReason);

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, closed)
    }
}

impl Upgraded {
    /// The next bytes, where the kernel wrote them; `None` at the end of input.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn recv(&mut self) -> Result<Option<Lease>, Closed> {
        self.receiver.recv().await
    }

    /// Sends bytes by ownership, uncopied. Returns when they are on their way and there is room for more.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn send(&mut self, payload: impl Into<Payload>) -> Result<(), Closed> {
        self.sender.send(payload).await
    }

    /// Returns when everything sent has left.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn flush(&mut self) -> Result<(), Closed> {
        self.sender.flush().await
    }

    /// Ends our direction behind what was sent; the peer's goes on.
    pub fn end(&mut self) {
        self.sender.channel.borrow_mut().want(|wants| wants.end = true);
    }

    /// Cuts the connection: the peer sees a reset.
    pub fn reset(self) {
        self.sender.channel.borrow_mut().want(|wants| wants.reset = true);
    }

    /// Whether the server is stopping and waits for this handler to end.
    pub fn is_draining(&self) -> bool {
        self.receiver.channel.borrow().is_draining
    }

    /// Both halves, for two tasks on this core.
    pub fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }

    /// As tokio's `AsyncRead` and `AsyncWrite`, so that existing protocol crates run unchanged.
    pub fn into_stream(self) -> UpgradedStream {
        UpgradedStream::new(self)
    }

    /// Takes the connection out of the engine: a real tokio-uring stream, and the bytes received but not read yet.
    ///
    /// # Errors
    /// The connection was lost, or the kernel refused it a descriptor.
    pub async fn into_tokio_uring(self) -> io::Result<(tokio_uring::net::TcpStream, LeaseQueue)> {
        let channel = &self.receiver.channel;
        channel.borrow_mut().want(|wants| wants.detach = true);
        let detached = poll_fn(|context| channel.borrow_mut().poll_detached(context)).await?;
        let mut unread = std::mem::take(&mut channel.borrow_mut().inbox);
        let mut later = detached.unread;
        while let Some(lease) = later.pop() {
            unread.push(lease);
        }
        let socket = std::net::TcpStream::from(detached.socket);
        Ok((tokio_uring::net::TcpStream::from_std(socket), unread))
    }
}

impl Receiver {
    /// See [`Upgraded::recv`].
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn recv(&mut self) -> Result<Option<Lease>, Closed> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease>, Closed>> {
        self.channel.borrow_mut().poll_recv(context)
    }
}

impl Sender {
    /// See [`Upgraded::send`].
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn send(&mut self, payload: impl Into<Payload>) -> Result<(), Closed> {
        poll_fn(|context| self.channel.borrow_mut().poll_room(context)).await?;
        self.channel.borrow_mut().send(payload.into());
        Ok(())
    }

    /// See [`Upgraded::flush`].
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn flush(&mut self) -> Result<(), Closed> {
        poll_fn(|context| self.channel.borrow_mut().poll_sent(context)).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut channel = self.channel.borrow_mut();
        channel.inbox.clear();
        channel.want(|wants| wants.no_input = true);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut channel = self.channel.borrow_mut();
        if std::thread::panicking() {
            channel.want(|wants| wants.reset = true);
        } else {
            channel.want(|wants| wants.end = true);
        }
    }
}
