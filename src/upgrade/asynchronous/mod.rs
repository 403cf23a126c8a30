//! Async handlers: a future on the core's tokio-uring runtime gets the request and an [`Upgraded`],
//! the connection after its 101. Built on the callback interface alone: a bridge of a handler and
//! the future share one channel, on one thread.
//!
//! ```text
//!   engine ──► Bridge (callback handler) ──► channel ──► Upgraded::recv().await
//!   engine ◄── mailbox ◄── ConnectionWaker ◄── channel ◄── Upgraded::send().await
//! ```

mod bridge;
mod flow;
mod stream;

pub(crate) use flow::{Flow, Weighed};
pub use stream::UpgradedStream;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{CloseReason, Handler};
use crate::buffer::{Lease, LeaseQueue, Payload};
use bridge::{Bridge, Channel};

/// A handler that is a future: `run` makes it now, it begins when the connection is switched, and
/// never if it is not.
pub(super) fn handler<Task>(run: impl FnOnce(Upgraded) -> Task) -> impl Handler
where
    Task: Future<Output = ()> + 'static,
{
    let channel = Rc::<RefCell<Channel>>::default();
    let upgraded = Upgraded {
        receiver: Receiver { channel: Rc::clone(&channel) },
        sender: Sender { channel: Rc::clone(&channel) },
    };
    Bridge::new(channel, Box::pin(run(upgraded)))
}

/// A switched connection in the hands of a future. Dropping it closes the connection in order;
/// dropping it in a panic resets it.
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
    /// The next bytes, where the kernel wrote them; `None` at the end of input. A wait that is
    /// given up takes nothing.
    ///
    /// Leases are the core's receive buffers, lent: one that is kept is missing to every connection
    /// of the core.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn recv(&mut self) -> Result<Option<Lease>, Closed> {
        self.receiver.recv().await
    }

    /// Sends bytes by ownership, uncopied. Waits while 64 KiB or sixteen leases are unsent, then hands them over and
    /// returns. A wait that is given up sends nothing.
    ///
    /// One piece larger than the limit `outbox_bytes_max` costs the connection.
    ///
    /// # Errors
    /// The connection was lost, or our direction has ended.
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
        self.receiver.channel.borrow().cut_at.is_some()
    }

    /// Ready when the server is stopping or the connection is over: to wait for beside
    /// [`Upgraded::recv`]. The latest one asked for is the one that is woken.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        let channel = Rc::clone(&self.receiver.channel);
        poll_fn(move |context| channel.borrow_mut().poll_draining(context).map(|_| ()))
    }

    /// The same, and when what is left is cut; `None` when the connection is over.
    pub(crate) fn cut_at(&self) -> impl Future<Output = Option<Instant>> + use<> {
        let channel = Rc::clone(&self.receiver.channel);
        poll_fn(move |context| channel.borrow_mut().poll_draining(context))
    }

    /// Ready when the connection is over, and why: to wait for while neither half is used. The latest
    /// one asked for is the one that is woken.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + use<> {
        let channel = Rc::clone(&self.receiver.channel);
        poll_fn(move |context| channel.borrow_mut().poll_closed(context))
    }

    /// Both halves, for two tasks on this core.
    pub fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }

    /// As tokio's `AsyncRead` and `AsyncWrite`, so that existing protocol crates run unchanged.
    pub fn into_stream(self) -> UpgradedStream {
        UpgradedStream::new(self)
    }

    /// Takes the connection out of the engine, once everything sent has left: a real tokio-uring
    /// stream, and the bytes received but not read yet, which come before all that the stream will
    /// read.
    ///
    /// The server no longer knows the connection: it does not wait for it when it stops, and no
    /// limit of time holds it.
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

    /// How often [`Receiver::recv`] gives bytes without waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.channel.borrow().inbox.len()
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
        self.channel.borrow_mut().flow.send(payload.into());
        Ok(())
    }

    /// See [`Upgraded::flush`].
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn flush(&mut self) -> Result<(), Closed> {
        poll_fn(|context| self.channel.borrow_mut().flow.poll_sent(context)).await
    }

    /// See [`Upgraded::end`].
    pub fn end(&mut self) {
        self.channel.borrow_mut().want(|wants| wants.end = true);
    }

    /// See [`Upgraded::reset`].
    pub fn reset(self) {
        self.channel.borrow_mut().want(|wants| wants.reset = true);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut channel = self.channel.borrow_mut();
        channel.inbox.clear();
        channel.want(|wants| {
            wants.no_input = true;
            wants.reset |= std::thread::panicking();
        });
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut channel = self.channel.borrow_mut();
        channel.want(|wants| {
            wants.end = true;
            wants.reset |= std::thread::panicking();
        });
    }
}
