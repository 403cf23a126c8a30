//! What the channels of async handlers have in common: what a future has handed over to be sent,
//! how its connection ended, and who waits for either. On one thread, and never borrowed across a
//! call into foreign code: wakers only mark tasks as ready.

use std::task::{Context, Poll, Waker};

use super::Closed;
use crate::buffer::{Load, Payload};
use crate::upgrade::{CloseReason, ConnectionWaker};

/// What is not yet sent when `send` waits: received bytes that are sent on hold their buffers.
const UNSENT_HIGH: Load = Load { bytes: 64 * 1024, leases: 16 };

/// Something is not yet sent.
const ANYTHING: Load = Load { bytes: 1, leases: 1 };

/// What weighs something while it waits to be sent.
pub(crate) trait Weighed {
    /// Bytes, and receive buffers it keeps.
    fn load(&self) -> Load;
}

impl Weighed for Payload {
    fn load(&self) -> Load {
        Load { bytes: self.len(), leases: u16::from(matches!(self, Payload::Lease(_))) }
    }
}

/// The sending half of a channel, and its end.
#[derive(Debug)]
pub(crate) struct Flow<T = Payload> {
    /// Handed over, and not yet taken by the connection.
    pub(crate) outgoing: Vec<T>,
    /// What was handed over and is not known to have left.
    unsent: Load,
    closed: Option<CloseReason>,
    receiver: Option<Waker>,
    /// Who waits until less than this is unsent.
    sender: Option<(Load, Waker)>,
    /// There once the connection knows of the channel.
    connection: Option<ConnectionWaker>,
}

impl<T> Default for Flow<T> {
    fn default() -> Flow<T> {
        Flow {
            outgoing: Vec::new(),
            unsent: Load::default(),
            closed: None,
            receiver: None,
            sender: None,
            connection: None,
        }
    }
}

impl Flow {
    /// Copies into what was not handed over yet, so that many small writes become one piece. Takes
    /// what there is room for, which is something after [`Flow::poll_room`], and says how much.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let bytes = bytes.get(..UNSENT_HIGH.bytes).unwrap_or(bytes);
        if let Some(Payload::Owned(last)) = self.outgoing.last_mut() {
            last.extend_from_slice(bytes);
            self.unsent.bytes += bytes.len();
        } else {
            self.send(Payload::Owned(bytes.to_vec()));
        }
        bytes.len()
    }
}

impl<T: Weighed> Flow<T> {
    /// From here on [`Flow::wake_connection`] has somebody to wake.
    pub(crate) fn connect(&mut self, connection: ConnectionWaker) {
        self.connection = Some(connection);
    }

    /// Has the connection look at the channel in the core's next turn. Before it knows of the channel
    /// there is nobody to wake, and nothing is lost: it looks when it does. Once it is over it may be
    /// another's.
    pub(crate) fn wake_connection(&self) {
        if let Some(connection) = self.connection.as_ref().filter(|_| self.closed.is_none()) {
            connection.wake();
        }
    }

    /// Whether the future waits for the connection now, and hears of its end.
    pub(crate) fn is_awaited(&self) -> bool {
        self.receiver.is_some() || self.sender.is_some()
    }

    /// Why the connection is over, if it is.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Waits for [`Flow::wake_receiver`].
    pub(crate) fn await_receipt<R>(&mut self, context: &mut Context<'_>) -> Poll<R> {
        self.receiver = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    /// Ready when there is room to send something.
    pub(crate) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match self.closed {
            Some(reason) => Poll::Ready(Err(Closed(reason))),
            None => self.poll_unsent_below(UNSENT_HIGH, context),
        }
    }

    /// Ready when everything has left. What has left before the connection was over has left.
    pub(crate) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.poll_unsent_below(ANYTHING, context)
    }

    /// Waits for bytes to leave. Whatever is unsent was either not settled yet, and then the
    /// connection was woken, or settling it has asked to be called when there is room: each leads to
    /// another [`Flow::settled`].
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

    /// Hands something over.
    pub(crate) fn send(&mut self, one: T) {
        let load = one.load();
        self.unsent.bytes += load.bytes;
        self.unsent.leases += load.leases;
        self.outgoing.push(one);
        self.wake_connection();
    }

    /// Everything handed over is the connection's, of which `queued` has not left. Whether something
    /// is left to wait for.
    pub(crate) fn settled(&mut self, queued: Load) -> bool {
        self.unsent = queued;
        self.wake_sender();
        queued.bytes > 0
    }

    /// Everything that was sent has left, or is as good as that.
    pub(crate) fn forget_unsent(&mut self) {
        self.unsent = Load::default();
    }

    /// The connection is over, unless it was before: the first reason stands.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
        self.outgoing.clear();
        self.wake_receiver();
        self.wake_sender();
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
        !self.unsent.reaches(bound)
    }
}
