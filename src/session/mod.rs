//! One connection's life as a plain value: events in; bytes to an outbox and wishes to a [`Control`] out. No socket, no
//! clock, no system call: the engine calls it for a real connection, tests and fuzzing call it with bytes.
//!
//! ```text
//!   received ──► Exchange (HTTP) ──► 101 ──► Box<dyn Handler> ──► over
//!                   └──────────── close ───────────┴────────────────►
//! ```
//!
//! The switch consumes the exchange: once a handler has the connection, no HTTP state of it exists.

mod core;
mod exchange;
mod respond;
mod switched;
mod waiting;

pub use self::core::{Core, Port};

use crate::buffer::{Lease, LeaseQueue};
use crate::config::Limits;
use crate::upgrade::{CloseReason, Control, Detached, Handler};
use exchange::Exchange;
use std::os::fd::OwnedFd;

/// One connection.
#[derive(Default)]
pub struct Session {
    state: State,
    /// Received and not yet used.
    input: LeaseQueue,
    control: Control,
    input_end: InputEnd,
    /// Work is left that needs no further event: the rest of a long pipeline.
    has_more: bool,
    /// Progress stopped because too much waits to be sent.
    is_blocked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum InputEnd {
    #[default]
    Open,
    /// The peer has ended its direction; bytes received before may still wait.
    Seen,
    /// The handler was told.
    Told,
}

enum State {
    Http(Exchange),
    Switched(Box<dyn Handler>),
    Over,
}

impl Default for State {
    fn default() -> State {
        State::Http(Exchange::default())
    }
}

impl Session {
    /// A connection that was just accepted.
    pub fn open(core: &Core) -> Session {
        let mut session = Session::default();
        session.control.deadline = core.now + core.limits.idle_timeout_ms;
        session
    }

    /// Bytes were received.
    pub fn received(&mut self, bytes: Lease, port: &mut Port<'_>) {
        port.core.counters.bytes_received.add(bytes.len() as u64);
        self.input.push(bytes);
        self.advance(port);
    }

    /// The peer ended its direction.
    pub fn ended(&mut self, port: &mut Port<'_>) {
        self.input_end = InputEnd::Seen;
        self.advance(port);
    }

    /// Everything that was to be sent has been, or enough of it.
    pub fn sent(&mut self, port: &mut Port<'_>) {
        let wants_writable = std::mem::take(&mut self.control.wants_writable);
        if std::mem::take(&mut self.is_blocked) || wants_writable {
            self.with_handler(port, |handler, io| handler.on_writable(io));
            self.advance(port);
        }
    }

    /// Work was [left](Session::has_more).
    pub fn go_on(&mut self, port: &mut Port<'_>) {
        self.advance(port);
    }

    /// A promise or the handler of this connection asked for attention.
    pub fn woken(&mut self, port: &mut Port<'_>) {
        self.with_handler(port, |handler, io| handler.on_wake(io));
        self.advance(port);
    }

    /// [`Control::deadline`] has come.
    pub fn deadline_reached(&mut self, port: &mut Port<'_>) {
        self.control.deadline = crate::config::NEVER;
        match &mut self.state {
            State::Http(exchange) => exchange.timed_out(&mut self.control, port),
            State::Switched(_) => self.with_handler(port, |handler, io| handler.on_deadline(io)),
            State::Over => {}
        }
        self.advance(port);
    }

    /// The server is stopping.
    pub fn drain(&mut self, within: std::time::Duration, port: &mut Port<'_>) {
        match &mut self.state {
            State::Http(exchange) if exchange.is_idle() => self.control.is_closing = true,
            State::Http(_) | State::Over => {}
            State::Switched(_) => {
                self.with_handler(port, |handler, io| handler.on_drain(within, io));
            }
        }
        self.advance(port);
    }

    /// The connection is over; its handler is told why. No other call follows.
    pub fn close(&mut self, reason: CloseReason, core: &mut Core) {
        self.input.clear();
        match std::mem::replace(&mut self.state, State::Over) {
            State::Switched(handler) => switched::close(handler, reason, core),
            State::Http(mut exchange) => exchange.abandon(core),
            State::Over => {}
        }
    }

    /// The connection leaves the engine as `socket`.
    pub fn detached(&mut self, socket: OwnedFd, core: &mut Core) {
        let unread = std::mem::take(&mut self.input);
        let is_ended = self.input_end != InputEnd::Open;
        if let State::Switched(handler) = std::mem::replace(&mut self.state, State::Over) {
            switched::detach(handler, Detached { socket, unread, is_ended }, core);
        }
    }

    /// What the connection wants.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Whether both directions have ended: nothing is left but to close.
    pub fn is_finished(&self) -> bool {
        self.control.is_ended && self.input_end != InputEnd::Open && self.input.is_empty()
    }

    /// Whether the peer has ended its direction.
    pub fn is_input_ended(&self) -> bool {
        self.input_end != InputEnd::Open
    }

    /// Whether to [`go_on`](Session::go_on) although nothing new has come.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether so much waits unread that the connection should not be received on.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.input.len() >= usize::from(limits.leases_max)
    }

    /// Whether enough room is left to receive again.
    pub fn has_room(&self, limits: &Limits) -> bool {
        self.input.len() <= usize::from(limits.leases_max / 2)
    }

    /// Whether the connection was switched to a protocol.
    pub fn is_switched(&self) -> bool {
        matches!(self.state, State::Switched(_))
    }

    /// Uses what was received, as far as that goes now.
    fn advance(&mut self, port: &mut Port<'_>) {
        self.has_more = false;
        if let State::Http(exchange) = &mut self.state {
            let is_ended = self.input_end != InputEnd::Open;
            let progress = exchange.advance(&mut self.input, is_ended, &mut self.control, port);
            match progress {
                exchange::Progress::Waiting => {}
                exchange::Progress::Blocked => self.is_blocked = true,
                exchange::Progress::More => self.has_more = true,
                exchange::Progress::Switched(handler) => {
                    self.control = Control::default();
                    self.state = State::Switched(handler);
                    self.with_handler(port, |handler, io| handler.on_open(io));
                }
            }
        }
        if self.is_switched() {
            self.deliver(port);
        }
        if matches!(self.state, State::Over) || self.control.is_closing || self.control.is_reset {
            self.input.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Batch, Load, Pool};
    use crate::config::NEVER;
    use crate::upgrade::Registry;

    /// A session that has received `bytes` while so many others wait to be sent.
    fn received(bytes: &[u8], in_flight: usize) -> (Session, String) {
        let limits = Limits { head_bytes_max: 64, outbox_bytes_high: 10, ..Limits::default() };
        let mut core = Core::new(Registry::default(), limits, Default::default(), 0);
        let mut session = Session::open(&core);
        let mut batch: Option<Box<Batch>> = None;
        let lease = Pool::new(1, 4096).take().expect("it is vacant").fill(bytes);
        let in_flight = Load { bytes: in_flight, leases: 0 };
        let mut port = Port { core: &mut core, batch: &mut batch, in_flight, key: 1 };
        session.received(lease, &mut port);
        let sent = batch.iter().flat_map(|batch| batch.slices()).flatten().copied().collect();
        (session, String::from_utf8(sent).expect("answers are ASCII here"))
    }

    #[test]
    fn no_clock_of_the_client_runs_while_its_requests_wait_for_the_outbox() {
        let (session, sent) = received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 10);
        assert_eq!((session.control().deadline, sent.as_str()), (NEVER, ""));
        let (session, _) = received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0);
        assert_ne!(session.control().deadline, NEVER, "at rest the idle clock runs");
    }

    #[test]
    fn behind_a_last_answer_no_clock_runs_that_would_write_another() {
        let (session, sent) = received(&[b'a'; 100], 0);
        assert!(sent.starts_with("HTTP/1.1 414 "), "{sent}");
        assert!(session.control().is_closing);
        assert_eq!(session.control().deadline, NEVER);
    }
}
