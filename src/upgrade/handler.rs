//! The callback handler: a plain value that is told what happens on its connection and writes into
//! an outbox.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Connected, ConnectionWaker, Mailbox, Spawn};
use crate::buffer::{Lease, LeaseQueue, Ledger, Load, Outbox, Payload};
use crate::config::{Limits, Millis, NEVER};
use crate::counters::Counters;

/// A protocol on a switched connection. Every method is called on the connection's own core, and
/// none may block it.
///
/// A panic closes this connection with a reset, and no other.
pub trait Handler: 'static {
    /// The 101 is in the outbox; what is written here leaves in the same send.
    fn on_open(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// Bytes of the peer, in order, where the kernel wrote them.
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>);

    /// The peer has ended its direction; ours stays open until [`Io::end`] or [`Io::close`].
    fn on_end(&mut self, io: &mut Io<'_>) {
        io.close();
    }

    /// The outbox was full, or [`Io::notify_writable`] was asked for, and there is room.
    fn on_writable(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// The time given to [`Io::set_deadline`] has come.
    fn on_deadline(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// A [`ConnectionWaker`] of this connection was woken, or a [`Promise`](super::Promise) for its
    /// opening was kept. A waker of an earlier request on the connection wakes it, too: look before
    /// you act.
    fn on_wake(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// The core is out of receive buffers: whatever leases the handler keeps are missing to others, and
    /// it should copy what it needs of them and let them go.
    fn on_shortage(&mut self) {}

    /// The server is stopping and will close the connection after `deadline`. Called once, behind the first
    /// bytes if it was stopping already when the connection was switched.
    fn on_drain(&mut self, deadline: Duration, io: &mut Io<'_>) {
        let _ = deadline;
        io.close();
    }

    /// The connection is over; nothing more is called.
    fn on_close(&mut self, reason: CloseReason) {
        let _ = reason;
    }

    /// What [`Io::detach`] asked for: the connection as an ordinary descriptor. Called instead of
    /// `on_close`.
    fn on_detached(&mut self, detached: Detached) {
        drop(detached);
    }
}

/// A connection that has left its engine.
#[derive(Debug)]
pub struct Detached {
    /// The connection; everything written before is sent.
    pub socket: OwnedFd,
    /// Bytes received and not yet read, in order.
    pub unread: LeaseQueue,
    /// Whether the peer had ended its direction: nothing follows the unread bytes.
    pub is_ended: bool,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both sides ended, or the handler closed.
    Finished,
    /// A handler asked for a reset.
    HandlerReset,
    /// A handler panicked.
    HandlerPanicked,
    /// The peer reset the connection, or the network lost it.
    PeerReset,
    /// The peer did not read what was sent in time.
    SendTimeout,
    /// More waited to be sent than may.
    OutboxFull,
    /// It held receive buffers unread or unsent for which others had waited too long.
    BuffersHeld,
    /// The server stopped.
    Drained,
    /// The kernel refused the descriptor that a detached connection needs.
    NoDescriptor,
    /// The content of the request ended before it was whole.
    ContentIncomplete,
    /// The content of the request was not in the chunked coding it announced.
    ContentFaulty,
    /// The content of the request was larger than the resource takes.
    ContentTooLarge,
    /// The content of the request came too slowly.
    ContentTooSlow,
    /// The answer to the request did not begin in time.
    AnswerTimeout,
    /// TLS: the handshake was not over in time.
    HandshakeTimeout,
    /// TLS: it could not go on, for what the peer sent or said.
    TlsFault,
    /// TLS: the peer ended the connection beneath, and did not say that this was its end (RFC 8446 §6.1): some
    /// of what it had to say may be missing.
    Truncated,
    /// The handler asked for the connection as a descriptor, and it is inside TLS.
    InsideTls,
}

impl CloseReason {
    /// The same in words.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Finished => "finished",
            CloseReason::HandlerReset => "reset by its handler",
            CloseReason::HandlerPanicked => "its handler panicked",
            CloseReason::PeerReset => "reset by the peer",
            CloseReason::SendTimeout => "the peer did not read",
            CloseReason::OutboxFull => "more waited to be sent than may",
            CloseReason::BuffersHeld => "it held buffers that others waited for",
            CloseReason::Drained => "the server stopped",
            CloseReason::NoDescriptor => "no descriptor to detach it as",
            CloseReason::ContentIncomplete => "the content ended before it was whole",
            CloseReason::ContentFaulty => "the content was not in the chunked coding",
            CloseReason::ContentTooLarge => "the content was larger than the resource takes",
            CloseReason::ContentTooSlow => "the content came too slowly",
            CloseReason::AnswerTimeout => "the answer did not begin in time",
            CloseReason::HandshakeTimeout => "the TLS handshake was not over in time",
            CloseReason::TlsFault => "TLS could not go on",
            CloseReason::Truncated => "the peer ended the connection without ending TLS",
            CloseReason::InsideTls => "it is inside TLS, and was asked for as a descriptor",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a handler, or the HTTP side before it, wants of its connection.
#[derive(Debug)]
pub struct Control {
    /// When to be called again, in any case.
    pub deadline: Millis,
    /// Bytes are not to be delivered for now.
    pub is_paused: bool,
    /// The handler is to be told when something has left and there is room.
    pub wants_writable: bool,
    /// Our direction ends behind what is written.
    pub is_ended: bool,
    /// The connection closes behind what is written.
    pub is_closing: bool,
    /// The connection is cut now.
    pub is_reset: bool,
    /// The connection leaves the engine behind what is written.
    pub is_detaching: bool,
    /// The request being answered is the last one this connection may have.
    pub is_last_request: bool,
}

impl Default for Control {
    fn default() -> Control {
        Control {
            deadline: NEVER,
            is_paused: false,
            wants_writable: false,
            is_ended: false,
            is_closing: false,
            is_reset: false,
            is_detaching: false,
            is_last_request: false,
        }
    }
}

/// What it costs to receive `bytes`, or to find and send them, in tenths of a microsecond: as a rule of thumb.
pub(crate) fn moving_cost(bytes: usize) -> u32 {
    (bytes / 256) as u32
}

/// A handler's grip on its connection during one call.
pub struct Io<'a> {
    pub(crate) outbox: Outbox<'a>,
    pub(crate) control: &'a mut Control,
    /// What of the delivered bytes is to be delivered once more.
    pub(crate) rest: &'a mut Option<Lease>,
    pub(crate) limits: &'a Limits,
    pub(crate) counters: &'a Arc<Counters>,
    pub(crate) mailbox: &'a Rc<Mailbox>,
    pub(crate) spawn: Option<&'a Spawn>,
    pub(crate) key: u64,
    pub(crate) now: Millis,
    /// What was spent in this turn, and where this call's share of it ends.
    pub(crate) spent: &'a mut u32,
    pub(crate) share_end: u32,
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("outbox", &self.outbox).field("control", &self.control).finish()
    }
}

impl Io<'_> {
    /// Sends bytes without copying them: a lease that was received, static, owned or shared bytes.
    pub fn send(&mut self, payload: impl Into<Payload>) {
        if !self.control.is_ended {
            self.outbox.push(payload);
        }
    }

    /// Sends a copy of `bytes`; everything written in one turn leaves in one send.
    pub fn write(&mut self, bytes: &[u8]) {
        self.encode(|text| text.extend_from_slice(bytes));
    }

    /// Sends what `write` appends: for encoders.
    pub fn encode(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.control.is_ended {
            self.outbox.append(write);
        }
    }

    /// What waits to be sent.
    pub fn queued(&self) -> Load {
        self.outbox.queued()
    }

    /// Whether so much waits to be sent that the engine delivers no bytes before some of it has left.
    pub fn is_full(&self) -> bool {
        let Limits { outbox_bytes_high, leases_max, .. } = *self.limits;
        self.queued().reaches(Load { bytes: outbox_bytes_high, leases: leases_max })
    }

    /// Gives back the end of the bytes that [`Handler::on_bytes`] was called with: it is delivered once
    /// more when delivery goes on. That is when some of what waits has left, if the outbox [is
    /// full](Io::is_full); otherwise delivery is [paused](Io::pause) until [`Io::resume`].
    pub fn put_back(&mut self, bytes: Lease) {
        if !self.is_full() {
            self.pause();
        }
        self.put_back_for_now(bytes);
    }

    /// The same, delivered once more in another turn.
    pub(crate) fn put_back_for_now(&mut self, bytes: Lease) {
        *self.rest = Some(bytes);
    }

    /// Whether delivery is paused.
    pub fn is_paused(&self) -> bool {
        self.control.is_paused
    }

    /// What all connections may hold of messages that have not come whole.
    pub(crate) fn ledger(&self) -> Ledger<'_> {
        Ledger { counters: self.counters, bytes_max: self.limits.collected_bytes_max }
    }

    /// The same grip, for a call within this one.
    pub fn reborrow(&mut self) -> Io<'_> {
        Io {
            outbox: self.outbox.reborrow(),
            control: self.control,
            rest: self.rest,
            limits: self.limits,
            counters: self.counters,
            mailbox: self.mailbox,
            spawn: self.spawn,
            key: self.key,
            now: self.now,
            spent: self.spent,
            share_end: self.share_end,
        }
    }

    /// Notes work of so many tenths of a microsecond, as a rule of thumb: one that is delivered bytes
    /// which may cost more than to look at them.
    pub(crate) fn spend(&mut self, cost: u32) {
        *self.spent = self.spent.saturating_add(cost);
    }

    /// Whether the connection has had its share of this turn: what is left of its bytes had better be
    /// [put back](Io::put_back).
    pub(crate) fn has_used_share(&self) -> bool {
        *self.spent >= self.share_end
    }

    /// Ends our direction behind what is written; the peer's goes on. When both have ended, the
    /// connection closes. What is written after this is dropped: it would have to follow our FIN.
    pub fn end(&mut self) {
        self.control.is_ended = true;
    }

    /// Closes the connection in order: what is written is sent, then FIN; what still comes is
    /// discarded.
    pub fn close(&mut self) {
        self.control.is_closing = true;
    }

    /// Cuts the connection now: the peer sees a reset, and what waits to be sent is lost.
    pub fn reset(&mut self) {
        self.control.is_reset = true;
    }

    /// Takes the connection out of the engine once everything written is sent: see
    /// [`Handler::on_detached`].
    pub fn detach(&mut self) {
        self.control.is_detaching = true;
    }

    /// Stops the delivery of bytes. The peer is held by TCP's window once a few buffers are full.
    pub fn pause(&mut self) {
        self.control.is_paused = true;
    }

    /// Delivers bytes again.
    pub fn resume(&mut self) {
        self.control.is_paused = false;
    }

    /// Calls [`Handler::on_writable`] once, when some of what waits has left and there is room for
    /// more.
    pub fn notify_writable(&mut self) {
        self.control.wants_writable = true;
    }

    /// Calls [`Handler::on_deadline`] after `duration`, replacing the time set before. Resolution:
    /// a millisecond.
    pub fn set_deadline(&mut self, duration: Duration) {
        let millis = Millis::try_from(duration.as_millis()).unwrap_or(NEVER);
        self.control.deadline = self.now.saturating_add(millis);
    }

    /// Calls [`Handler::on_deadline`] at `when` at the latest.
    pub(crate) fn set_deadline_by(&mut self, when: Millis) {
        self.control.deadline = self.control.deadline.min(when);
    }

    /// No deadline any more.
    pub fn clear_deadline(&mut self) {
        self.control.deadline = NEVER;
    }

    /// Wakes this connection's handler from elsewhere on this core.
    pub fn waker(&self) -> ConnectionWaker {
        self.mailbox.waker(self.key)
    }

    /// Runs a future on this core. `false` in the native mode, which has no runtime to run it. A server
    /// that stops does not wait for it.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> bool {
        let Some(spawn) = self.spawn else { return false };
        spawn(Box::pin(future));
        true
    }

    /// Runs the future of an async handler, for which a server that stops waits; what says that its connection is
    /// there. `None` in the native mode.
    pub(crate) fn spawn_handler(
        &self,
        handler: impl Future<Output = ()> + 'static,
    ) -> Option<Connected> {
        let (at_work, connected) = self.mailbox.begin_work();
        let spawned = self.spawn(async move {
            handler.await;
            drop(at_work);
        });
        spawned.then_some(connected)
    }
}
