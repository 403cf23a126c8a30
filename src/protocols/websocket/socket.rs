//! An endpoint's grip on its connection during one call, and how messages become frames.

use std::future::Future;
use std::time::Duration;

use super::connection::{Link, Phase};
use super::frame::{CONTROL_PAYLOAD_MAX, CloseCode, Opcode, ServerHeader};
use super::message::{Body, Message};
use super::topics::{SubscribeError, WhenSlow};
use crate::buffer::Load;
use crate::config::NEVER;
use crate::upgrade::{ConnectionWaker, Io};

/// Received payloads of so few bytes are copied if something else leaves with them: one slice more
/// for the kernel costs more than that.
const COPIED_RECEIVED_MAX: usize = 256;
/// The same for payloads from elsewhere.
const COPIED_MAX: usize = 512;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It leaves at the end of this turn, with whatever else is written in it.
    AtOnce,
    /// It waits for what was written in earlier turns: the peer reads slowly. When there is room
    /// again, [`on_drain`](super::Endpoint::on_drain) is called.
    Queued,
    /// It was not sent: too much waits already (`queue_bytes_max`). When there is room again,
    /// [`on_drain`](super::Endpoint::on_drain) is called.
    OverLimit,
    /// It was not sent: the connection is closing.
    Closed,
}

impl Sent {
    /// Whether it leaves, now or later.
    pub fn is_sent(self) -> bool {
        matches!(self, Sent::AtOnce | Sent::Queued)
    }
}

/// One connection, while its endpoint is called. Everything sent during one turn leaves in one system
/// call.
pub struct Socket<'a> {
    pub(super) io: Io<'a>,
    pub(super) link: &'a mut Link,
}

impl Socket<'_> {
    /// Sends a message by ownership: one that was received leaves from where it lies.
    pub fn send(&mut self, message: impl Into<Message>) -> Sent {
        let message = message.into();
        let admitted = self.admit();
        if admitted.is_sent() {
            self.send_admitted(message);
        }
        admitted
    }

    /// Sends a message whoever bounds what waits.
    pub(super) fn send_admitted(&mut self, message: Message) {
        // RFC 6455 §5.5.1: nothing behind our Close.
        if self.link.phase != Phase::Open {
            return;
        }
        let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
        self.count_sent();
        match self.link.deflate(message.as_bytes(), &mut self.io) {
            Some(deflated) => write(&mut self.io, opcode, true, Body::owned(deflated)),
            None => write(&mut self.io, opcode, false, message.into_body()),
        }
    }

    /// Sends a copy of `text`.
    pub fn send_text(&mut self, text: &str) -> Sent {
        self.send_copy(Opcode::Text, text.as_bytes())
    }

    /// Sends a copy of `bytes`.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Sent {
        self.send_copy(Opcode::Binary, bytes)
    }

    /// Asks the peer for a Pong. At most 125 bytes of `payload` are sent.
    pub fn ping(&mut self, payload: &[u8]) -> Sent {
        let payload = payload.get(..CONTROL_PAYLOAD_MAX).unwrap_or(payload);
        let admitted = self.admit();
        if admitted.is_sent() {
            write_copy(&mut self.io, Opcode::Ping, false, payload);
        }
        admitted
    }

    /// Begins the closing handshake: behind what was sent, a Close with `code` and as much of
    /// `reason` as fits. Nothing can be sent behind it, and no message is received any more. The
    /// peer has `close_timeout` to answer.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.link.close(code, reason, &mut self.io);
    }

    /// Cuts the connection without a Close: the peer sees a reset, and what waits is lost.
    pub fn reset(&mut self) {
        self.io.reset();
    }

    /// Whether the closing handshake has begun.
    pub fn is_closing(&self) -> bool {
        self.link.phase != Phase::Open
    }

    /// What waits to be sent.
    pub fn queued(&self) -> Load {
        self.io.queued()
    }

    /// Delivers no messages for now. The peer is held by TCP's window once a few buffers are full.
    pub fn pause(&mut self) {
        self.io.pause();
    }

    /// Delivers messages again.
    pub fn resume(&mut self) {
        self.io.resume();
    }

    /// Calls [`on_deadline`](super::Endpoint::on_deadline) after `duration`, replacing the time set
    /// before. Resolution: a millisecond.
    pub fn set_deadline(&mut self, duration: Duration) {
        if self.link.phase == Phase::Open {
            self.link.endpoint_deadline = self.io.now.saturating_add(super::millis(duration));
            self.io.set_deadline_by(self.link.endpoint_deadline);
        }
    }

    /// No deadline any more.
    pub fn clear_deadline(&mut self) {
        if self.link.phase == Phase::Open {
            self.link.endpoint_deadline = NEVER;
        }
    }

    /// Receives what is published to `topic` from here on. A subscriber that reads too slowly misses
    /// the oldest messages and is [told](super::Endpoint::on_missed) how many.
    ///
    /// # Errors
    /// The connection is closing, or is subscribed to as many topics as it may be, or there are as many.
    pub fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        self.subscribe_with(topic, WhenSlow::Skip)
    }

    /// The same, with what happens to it when it reads too slowly. No effect on a topic it is
    /// subscribed to already.
    ///
    /// # Errors
    /// The connection is closing, or is subscribed to as many topics as it may be, or there are as many.
    pub fn subscribe_with(
        &mut self,
        topic: &str,
        when_slow: WhenSlow,
    ) -> Result<(), SubscribeError> {
        self.link.subscribe(topic, when_slow, &mut self.io)
    }

    /// Receives what is published to `topic` no more; whether it did.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.link.unsubscribe(topic)
    }

    /// Publishes a message to all subscribers of `topic` but this connection. It is framed once and
    /// leaves for the subscribers of this core in this turn.
    pub fn publish(&mut self, topic: &str, message: impl Into<Message>) {
        self.link.publish(topic, message.into(), Some(self.io.key), self.io.mailbox);
    }

    /// Publishes a message to all subscribers of `topic`, this connection among them if it is one.
    pub fn publish_to_all(&mut self, topic: &str, message: impl Into<Message>) {
        self.link.publish(topic, message.into(), None, self.io.mailbox);
    }

    /// Subscribers of `topic` on all cores, now.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.link.topics().subscribers(topic)
    }

    /// Wakes this connection's endpoint from elsewhere on this core.
    pub fn waker(&self) -> ConnectionWaker {
        self.io.waker()
    }

    /// Runs a future on this core. `false` in the native mode, which has no runtime to run it.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> bool {
        self.io.spawn(future)
    }

    fn send_copy(&mut self, opcode: Opcode, bytes: &[u8]) -> Sent {
        let admitted = self.admit();
        if !admitted.is_sent() {
            return admitted;
        }
        self.count_sent();
        match self.link.deflate(bytes, &mut self.io) {
            Some(deflated) => write(&mut self.io, opcode, true, Body::owned(deflated)),
            None => write_copy(&mut self.io, opcode, false, bytes),
        }
        admitted
    }

    fn count_sent(&self) {
        self.io.counters.websocket_messages_sent.raise();
    }

    /// Whether a message may be sent now.
    fn admit(&mut self) -> Sent {
        if self.link.phase != Phase::Open {
            return Sent::Closed;
        }
        if self.io.queued().bytes >= self.link.limits().queue_bytes_max {
            self.io.counters.websocket_messages_refused.raise();
            self.io.notify_writable();
            return Sent::OverLimit;
        }
        if self.io.outbox.in_flight().bytes > 0 {
            self.io.notify_writable();
            return Sent::Queued;
        }
        Sent::AtOnce
    }
}

/// Writes a frame by ownership.
#[inline]
pub(super) fn write(io: &mut Io<'_>, opcode: Opcode, is_compressed: bool, body: Body) {
    let len = body.as_bytes().len();
    match body {
        // RFC 6455 §5.2: our header is four bytes shorter than the client's, and fits before the
        // payload where that was.
        Body::Received { mut frame, header_size }
            if len > COPIED_RECEIVED_MAX || io.outbox.is_unwritten() =>
        {
            let header = ServerHeader::new(opcode, is_compressed, len);
            let start = header_size.saturating_sub(header.as_bytes().len());
            frame.advance(start);
            for (at, byte) in frame.iter_mut().zip(header.as_bytes()) {
                *at = *byte;
            }
            io.send(frame);
        }
        Body::Elsewhere(bytes) if len > COPIED_MAX => {
            let header = ServerHeader::new(opcode, is_compressed, len);
            io.write(header.as_bytes());
            io.send(bytes);
        }
        body => write_copy(io, opcode, is_compressed, body.as_bytes()),
    }
}

/// Writes a frame with a copy of `payload`.
pub(super) fn write_copy(io: &mut Io<'_>, opcode: Opcode, is_compressed: bool, payload: &[u8]) {
    let header = ServerHeader::new(opcode, is_compressed, payload.len());
    io.encode(|text| {
        text.extend_from_slice(header.as_bytes());
        text.extend_from_slice(payload);
    });
}
