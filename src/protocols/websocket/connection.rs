//! One switched connection: what the engine tells it becomes what its endpoint is told, and the
//! connection's own duties are done: Pongs, the closing handshake, pings, times.
//!
//! ```text
//!   Open ──► Closing (our Close is out, theirs is awaited) ──► Closed ──► FIN, by the engine
//!     └───────── their Close, a fault, the end of input ─────────┘
//! ```

use std::rc::Rc;
use std::time::Duration;

use super::deflate::Deflate;
use super::endpoint::{Close, ClosedBy, Endpoint};
use super::frame::{CONTROL_PAYLOAD_MAX, CloseCode, Fault, Opcode};
use super::message::Message;
use super::reader::{Incoming, Reader};
use super::service::Local;
use super::settings::WebSocketLimits;
use super::socket::{Socket, write, write_copy};
use super::topics::{LocalTopics, SubscribeError, Subscriptions, WhenSlow};
use crate::buffer::Lease;
use crate::config::{Millis, NEVER};
use crate::upgrade::{CloseReason, Handler, Io, Mailbox};

/// A connection's times are kept in ticks of 128 ms: half the memory, and exact enough for what is
/// measured in seconds.
const TICK_BITS: u32 = 7;

/// Everything of a connection but its endpoint. Every idle connection pays for its size.
#[derive(Debug)]
pub(super) struct Link {
    local: Rc<Local>,
    reader: Reader,
    deflate: Option<Box<Deflate>>,
    subscriptions: Option<Box<Subscriptions>>,
    /// When the endpoint wants to be called; once it is closing, when it is closed.
    pub(super) endpoint_deadline: Millis,
    opened: Tick,
    heard: Tick,
    /// The second in which control frames are counted, and how many there were.
    control_second: Tick,
    control_frames: u16,
    pub(super) phase: Phase,
    /// The peer was pinged, and nothing has come since.
    is_pinged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Our Close is out.
    Closing,
    /// Both are, or the connection is lost: nothing more is said, and the endpoint was told.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tick(u32);

impl Tick {
    fn at(now: Millis) -> Tick {
        Tick((now >> TICK_BITS) as u32)
    }

    /// Milliseconds from this tick to `now`.
    fn until(self, now: Millis) -> Millis {
        u64::from(Tick::at(now).0.wrapping_sub(self.0)) << TICK_BITS
    }
}

/// The handler of a switched connection.
pub(super) struct Connection<E> {
    link: Link,
    endpoint: E,
}

impl<E: Endpoint> Connection<E> {
    pub(super) fn new(local: Rc<Local>, deflate: Option<Box<Deflate>>, endpoint: E) -> Self {
        let link = Link {
            local,
            reader: Reader::default(),
            deflate,
            subscriptions: None,
            endpoint_deadline: NEVER,
            opened: Tick(0),
            heard: Tick(0),
            control_second: Tick(0),
            control_frames: 0,
            phase: Phase::Open,
            is_pinged: false,
        };
        Connection { link, endpoint }
    }

    /// Calls the endpoint.
    fn call(&mut self, io: &mut Io<'_>, call: impl FnOnce(&mut E, &mut Socket<'_>)) {
        call(&mut self.endpoint, &mut Socket { io: io.reborrow(), link: &mut self.link });
    }

    /// Takes one thing that the peer said.
    fn take(&mut self, incoming: Incoming, io: &mut Io<'_>) -> Result<(), Fault> {
        match incoming {
            Incoming::Message(message) => {
                io.counters.websocket_messages_received.raise();
                if self.link.phase == Phase::Open {
                    self.call(io, |endpoint, socket| endpoint.on_message(message, socket));
                }
            }
            Incoming::Fragments => {}
            Incoming::Ping(payload) => {
                self.link.count_control(io)?;
                // RFC 6455 §5.5.2: unless a Close was received; behind our own it would be nothing.
                if self.link.phase == Phase::Open {
                    write(io, Opcode::Pong, false, payload);
                }
            }
            Incoming::Pong => self.link.count_control(io)?,
            Incoming::Close(said) => self.closed_by_peer(said, io),
        }
        Ok(())
    }

    /// RFC 6455 §5.5.1: its code is said once, by us if we have not closed; then we close the
    /// connection first (§7.1.1).
    fn closed_by_peer(&mut self, said: Option<(CloseCode, Box<str>)>, io: &mut Io<'_>) {
        let by = match self.link.phase {
            Phase::Open => ClosedBy::Peer,
            _ => ClosedBy::Us,
        };
        let (code, reason) = said.map_or((None, Box::default()), |(code, said)| (Some(code), said));
        if by == ClosedBy::Peer {
            write_close(io, code, "");
        }
        self.finish(Close { code, reason, by }, io);
    }

    /// Closes for a fault of the peer.
    fn fail(&mut self, fault: Fault, io: &mut Io<'_>) {
        tracing::debug!("a WebSocket connection is closed with {}: {fault}", fault.code());
        match fault.code() {
            CloseCode::INVALID_DATA => &io.counters.websocket_closed_invalid_data,
            CloseCode::POLICY => &io.counters.websocket_closed_policy,
            CloseCode::TOO_LARGE => &io.counters.websocket_closed_too_large,
            CloseCode::TRY_AGAIN_LATER => &io.counters.collected_overflows,
            _ => &io.counters.websocket_closed_protocol_error,
        }
        .raise();
        // RFC 6455 §7.1.7: a Close if none is out.
        if self.link.phase == Phase::Open {
            write_close(io, Some(fault.code()), "");
        }
        let by = ClosedBy::Fault(fault);
        self.finish(Close { code: Some(fault.code()), reason: Box::default(), by }, io);
    }

    /// Ends the connection behind what is written.
    fn finish(&mut self, close: Close, io: &mut Io<'_>) {
        io.close();
        self.tell(close);
    }

    /// Tells the endpoint once that its connection is over.
    fn tell(&mut self, close: Close) {
        if self.link.phase != Phase::Closed {
            self.link.phase = Phase::Closed;
            self.link.reader = Reader::default();
            self.link.subscriptions = None;
            self.endpoint.on_close(&close);
        }
    }

    fn lost(&mut self, reason: CloseReason) {
        let by = ClosedBy::Lost(reason);
        self.tell(Close { code: None, reason: Box::default(), by });
    }

    /// Sends what was published, and says what was missed.
    fn deliver_topics(&mut self, io: &mut Io<'_>) {
        let Some(mut subscriptions) = self.link.subscriptions.take() else { return };
        let is_shareable = self.link.deflate.as_ref().is_some_and(|at| at.is_shareable());
        let compressors = is_shareable.then_some(&self.link.local.compressors);
        let slow = subscriptions.deliver(io, compressors);
        self.link.subscriptions = Some(subscriptions);
        for lag in slow {
            match lag.when_slow {
                WhenSlow::Skip => self.call(io, |endpoint, socket| {
                    endpoint.on_missed(&lag.topic, lag.missed, socket);
                }),
                WhenSlow::Close => {
                    self.link.close(CloseCode::TRY_AGAIN_LATER, "too slow", io);
                }
            }
        }
    }

    /// What is due now.
    fn look_at_the_clock(&mut self, io: &mut Io<'_>) {
        let now = io.now;
        if io.is_paused() || io.is_full() {
            // The silence is ours: who does not listen cannot know whether the peer speaks.
            self.link.hear(now);
        }
        let due = self.link.due(now);
        match due {
            Some(Due::Closed) => {
                io.counters.websocket_close_timeouts.raise();
                let close = Close { code: None, reason: Box::default(), by: ClosedBy::Us };
                self.finish(close, io);
            }
            Some(Due::Lifetime) => {
                io.counters.websocket_lifetimes.raise();
                self.link.close(CloseCode::GOING_AWAY, "", io);
            }
            Some(Due::Idle) => {
                io.counters.websocket_idle_timeouts.raise();
                self.link.close(CloseCode::INTERNAL_ERROR, "ping timeout", io);
            }
            Some(Due::Ping) => {
                self.link.is_pinged = true;
                write_copy(io, Opcode::Ping, false, b"");
            }
            None => {}
        }
        if self.link.phase == Phase::Open && self.link.endpoint_deadline <= now {
            self.link.endpoint_deadline = NEVER;
            self.call(io, |endpoint, socket| endpoint.on_deadline(socket));
        }
        self.link.arm(io);
    }
}

impl<E: Endpoint> Handler for Connection<E> {
    fn on_open(&mut self, io: &mut Io<'_>) {
        (self.link.opened, self.link.heard) = (Tick::at(io.now), Tick::at(io.now));
        self.link.arm(io);
        self.call(io, |endpoint, socket| endpoint.on_open(socket));
    }

    fn on_bytes(&mut self, mut bytes: Lease, io: &mut Io<'_>) {
        if self.link.hear(io.now) {
            self.link.arm(io);
        }
        while self.link.phase != Phase::Closed {
            let Link { reader, deflate, local, .. } = &mut self.link;
            let inflater = deflate.as_mut().map(|deflate| &mut deflate.inflater);
            let before = bytes.len();
            let taken = match reader.next(&mut bytes, &local.bounds, inflater, io.ledger()) {
                Ok(None) => return,
                Ok(Some(incoming)) => {
                    let is_inflated = self.link.deflate.is_some();
                    io.spend(cost(&incoming, before - bytes.len(), is_inflated));
                    self.take(incoming, io)
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = taken {
                return self.fail(fault, io);
            }
            if bytes.is_empty() {
                return;
            }
            if io.is_paused() || io.is_full() {
                return io.put_back(bytes);
            }
            if io.has_used_share() {
                return io.put_back_for_now(bytes);
            }
        }
    }

    /// RFC 6455 §7.1.5: an end without a Close is abnormal.
    fn on_end(&mut self, io: &mut Io<'_>) {
        io.close();
        self.lost(CloseReason::Finished);
    }

    fn on_writable(&mut self, io: &mut Io<'_>) {
        if self.link.phase == Phase::Open {
            self.deliver_topics(io);
            self.call(io, |endpoint, socket| endpoint.on_drain(socket));
        }
    }

    fn on_deadline(&mut self, io: &mut Io<'_>) {
        self.look_at_the_clock(io);
    }

    fn on_wake(&mut self, io: &mut Io<'_>) {
        self.deliver_topics(io);
        if self.link.phase != Phase::Closed {
            self.call(io, |endpoint, socket| endpoint.on_wake(socket));
        }
    }

    fn on_shortage(&mut self) {
        self.endpoint.on_shortage();
    }

    fn on_drain(&mut self, deadline: Duration, io: &mut Io<'_>) {
        if self.link.phase == Phase::Open {
            self.call(io, |endpoint, socket| endpoint.on_shutdown(deadline, socket));
        }
    }

    fn on_close(&mut self, reason: CloseReason) {
        self.lost(reason);
    }
}

/// What it costs to take what `len` bytes said, in tenths of a microsecond: as a rule of thumb.
fn cost(incoming: &Incoming, len: usize, is_inflated: bool) -> u32 {
    let cost = match incoming {
        Incoming::Fragments => 16,
        Incoming::Message(message) if !message.is_received() && is_inflated => {
            100 + message.len() / 32
        }
        // Put together, and as likely as not sent back.
        Incoming::Message(message) if !message.is_received() => 2 + message.len() / 256,
        _ => 2 + len / 1024,
    };
    cost as u32
}

/// What has to be done at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The peer's Close did not come.
    Closed,
    Lifetime,
    Idle,
    Ping,
}

impl Link {
    /// The peer lives; whether it had been pinged.
    fn hear(&mut self, now: Millis) -> bool {
        self.heard = Tick::at(now);
        std::mem::take(&mut self.is_pinged)
    }

    pub(super) fn limits(&self) -> &WebSocketLimits {
        &self.local.service.limits
    }

    pub(super) fn topics(&self) -> &super::topics::Topics {
        &self.local.service.topics
    }

    /// Deflates a message, if that was agreed and is worth it.
    pub(super) fn deflate(&mut self, message: &[u8], io: &mut Io<'_>) -> Option<Vec<u8>> {
        let deflate = self.deflate.as_mut()?;
        let compression = self.local.service.terms.compression.as_ref()?;
        if message.len() < compression.bytes_min {
            return None;
        }
        io.spend(compression.cost(message.len()));
        deflate.deflate(message, &mut self.local.compressors.borrow_mut(), compression.level)
    }

    /// Begins the closing handshake.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str, io: &mut Io<'_>) {
        if self.phase != Phase::Open {
            return;
        }
        write_close(io, Some(code), reason);
        self.phase = Phase::Closing;
        self.subscriptions = None;
        self.endpoint_deadline = io.now.saturating_add(super::millis(self.limits().close_timeout));
        io.set_deadline_by(self.endpoint_deadline);
        // What still comes is read, up to the peer's Close.
        io.resume();
    }

    pub(super) fn subscribe(
        &mut self,
        topic: &str,
        when_slow: WhenSlow,
        io: &mut Io<'_>,
    ) -> Result<(), SubscribeError> {
        // RFC 6455 §5.5.1: nothing is sent behind our Close.
        if self.phase != Phase::Open {
            return Err(SubscribeError::Closed);
        }
        let topics = LocalTopics::of(self.topics(), io.mailbox);
        let topics_max = usize::from(self.limits().topics_max);
        let subscriptions = self.subscriptions.get_or_insert_default();
        subscriptions.add(&topics, topic, when_slow, topics_max, io)
    }

    pub(super) fn unsubscribe(&mut self, topic: &str) -> bool {
        self.subscriptions.as_mut().is_some_and(|subscriptions| subscriptions.remove(topic))
    }

    pub(super) fn publish(
        &self,
        topic: &str,
        message: Message,
        except: Option<u64>,
        mailbox: &Rc<Mailbox>,
    ) {
        let level = self.local.service.terms.compression.as_ref();
        LocalTopics::of(self.topics(), mailbox).publish(topic, &message, except, level);
    }

    /// Counts a control frame against what a second may have.
    fn count_control(&mut self, io: &Io<'_>) -> Result<(), Fault> {
        if self.control_second.until(io.now) >= 1000 {
            (self.control_second, self.control_frames) = (Tick::at(io.now), 0);
        }
        self.control_frames = self.control_frames.saturating_add(1);
        let is_fine = self.control_frames <= self.limits().control_frames_per_second_max;
        if is_fine { Ok(()) } else { Err(Fault::TooManyControlFrames) }
    }

    fn due(&self, now: Millis) -> Option<Due> {
        match self.phase {
            Phase::Closed => None,
            Phase::Closing => (self.endpoint_deadline <= now).then_some(Due::Closed),
            Phase::Open => {
                let silence = self.heard.until(now);
                let is_over = |limit: Duration, time: Millis| {
                    !limit.is_zero() && time >= super::millis(limit)
                };
                let limits = self.limits();
                if is_over(limits.lifetime_max, self.opened.until(now)) {
                    Some(Due::Lifetime)
                } else if is_over(limits.idle_timeout, silence) {
                    Some(Due::Idle)
                } else if !self.is_pinged && is_over(limits.ping_after, silence) {
                    Some(Due::Ping)
                } else {
                    None
                }
            }
        }
    }

    /// Asks to be called when the next thing is due. Bytes that come meanwhile put most of it off:
    /// the call then finds nothing to do and asks again.
    fn arm(&self, io: &mut Io<'_>) {
        if self.phase == Phase::Open {
            let now = io.now;
            let left = |limit: Duration, passed: Millis| match limit.is_zero() {
                true => NEVER,
                // A tick more, for what was cut off where it began.
                false => {
                    let left = super::millis(limit).saturating_sub(passed).max(1 << TICK_BITS);
                    now.saturating_add(left)
                }
            };
            let (limits, silence) = (self.limits(), self.heard.until(now));
            let ping_at = if self.is_pinged { NEVER } else { left(limits.ping_after, silence) };
            io.set_deadline_by(ping_at);
            io.set_deadline_by(left(limits.idle_timeout, silence));
            io.set_deadline_by(left(limits.lifetime_max, self.opened.until(now)));
        }
        if self.phase != Phase::Closed {
            io.set_deadline_by(self.endpoint_deadline);
        }
    }
}

/// A Close, with as much of the reason as fits a control frame.
fn write_close(io: &mut Io<'_>, code: Option<CloseCode>, reason: &str) {
    let Some(code) = code else { return write_copy(io, Opcode::Close, false, b"") };
    let reason = reason.split_at(reason.floor_char_boundary(CONTROL_PAYLOAD_MAX - 2)).0;
    let payload = [&code.number().to_be_bytes(), reason.as_bytes()].concat();
    write_copy(io, Opcode::Close, false, &payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // A slot, a timer and this are 229 bytes; promised are 256.
        assert!(size_of::<Link>() <= 64, "{} bytes", size_of::<Link>());
    }

    #[test]
    fn ticks_outlive_their_own_width() {
        let near_the_end = (u64::from(u32::MAX) << TICK_BITS) - 1000;
        let tick = Tick::at(near_the_end);
        let later = tick.until(near_the_end + 5000);
        assert!((4872..=5128).contains(&later), "{later}");
    }
}
