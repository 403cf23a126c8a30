//! One connection's life as a plain value: events in; bytes to an outbox and wishes to a
//! [`Control`] out. No socket, no clock, no system call: the engine calls it for a real connection,
//! tests and fuzzing call it with bytes.
//!
//! ```text
//!   received ──► Exchange (HTTP) ──► 101 ──► Box<dyn Handler> ──► over
//!          │        ▲  └──────────── close ───────────┴────────────────►
//!          └─ Preface, on listeners behind a load balancer
//! ```
//!
//! The switch consumes the exchange: once a handler has the connection, no HTTP state of it exists.

// Nothing a peer sends may end in a panic: what could is refused here, and each exception says why it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod addresses;
mod asked;
mod content;
mod core;
mod exchange;
mod logged;
mod preface;
mod respond;
#[cfg(test)]
pub(crate) mod scene;
mod secure;
mod streamed;
mod switched;
#[cfg(test)]
// In a file of their own: they show what the files do together.
mod tests;
mod times;
mod waiting;

pub use self::addresses::Addresses;
pub use self::core::{Core, Port};

use crate::buffer::{Lease, LeaseQueue};
use crate::config::{Limits, NEVER, ProxyProtocol};
use crate::http::{Form, Persistence, Response};
use crate::resource::{StreamIo, Streaming};
use crate::upgrade::{CloseReason, Control, Detached, moving_cost};
use exchange::Exchange;
use preface::Preface;
use std::os::fd::OwnedFd;
use std::time::Duration;
use switched::Switched;

/// What it costs to deliver a buffer, whatever is in it.
const BUFFER_COST: u32 = 2;

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
    /// Its protocol was told that the server is stopping.
    is_told_of_drain: bool,
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
    /// Its PROXY protocol header comes first.
    Preface(Box<Preface>),
    /// The 101 is written, and this is what is to be answered inside TLS.
    Securing(Lease),
    Switched(Switched),
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
        session.control.deadline = core.now.saturating_add(core.request_timeout_ms());
        session
    }

    /// A connection that was just accepted on the n-th listener, and is to begin with a PROXY protocol
    /// header.
    pub fn preceded(protocol: ProxyProtocol, listener: u16, core: &Core) -> Session {
        let state = State::Preface(Preface::expecting(protocol, listener));
        let mut session = Session { state, ..Session::default() };
        session.control.deadline = core.now.saturating_add(core.limits.head_timeout_ms);
        session
    }

    /// The listener it came by, if a PROXY protocol header is to come yet.
    pub fn expecting(&self) -> Option<u16> {
        match &self.state {
            State::Preface(preface) => preface.expecting_on(),
            _ => None,
        }
    }

    /// The listener it came by, if a PROXY protocol header was to come first, and HTTP has not begun.
    pub(crate) fn preceded_on(&self) -> Option<u16> {
        match &self.state {
            State::Preface(preface) => Some(preface.listener()),
            _ => None,
        }
    }

    /// The connection is not to be served: it is answered before it has asked.
    pub fn refuse(&mut self, response: &Response, port: &mut Port<'_>) {
        let form = Form { head_only: false, persistence: Persistence::Close, advertise: None };
        port.with_text(|text, date| response.write(text, date, form));
        self.control.is_closing = true;
        self.control.deadline = NEVER;
        self.input.clear();
    }

    /// Whether nothing has come of it yet, but for the header that introduces it.
    pub fn is_unused(&self) -> bool {
        match &self.state {
            State::Http(exchange) => exchange.is_unused() && self.input.is_empty(),
            State::Preface(_) => true,
            State::Securing(_) | State::Switched(_) | State::Over => false,
        }
    }

    /// Bytes were received.
    pub fn received(&mut self, bytes: Lease, port: &mut Port<'_>) {
        port.core.spend(moving_cost(bytes.len()));
        self.input.push(bytes);
        // Who has work left over goes on when those are called that have.
        if !self.has_more {
            self.advance(port);
        }
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
            if wants_writable {
                self.with_stream(port, |handler, io| handler.on_writable(io));
            }
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
        self.with_stream(port, |handler, io| handler.on_wake(io));
        self.advance(port);
    }

    /// [`Control::deadline`] has come.
    pub fn deadline_reached(&mut self, port: &mut Port<'_>) {
        self.control.deadline = NEVER;
        match &mut self.state {
            State::Http(exchange) => exchange.timed_out(&mut self.control, port),
            State::Switched(_) => self.with_handler(port, |handler, io| handler.on_deadline(io)),
            State::Preface(_) => {
                port.core.counters.timeouts_heads.raise();
                self.abort();
            }
            State::Securing(_) => self.control.is_closing = true,
            State::Over => {}
        }
        self.advance(port);
    }

    /// The server is stopping.
    pub fn drain(&mut self, within: Duration, port: &mut Port<'_>) {
        match &mut self.state {
            // Its first request may be on its way, and is answered.
            State::Http(exchange) if exchange.is_unused() => {}
            State::Http(exchange) if exchange.is_idle() => self.control.is_closing = true,
            // The rest of its head is on its way.
            State::Http(exchange) if exchange.has_begun() => {
                let latest = port.core.now.saturating_add(port.core.head_timeout_ms());
                self.control.deadline = self.control.deadline.min(latest);
            }
            State::Preface(_) => self.control.is_closing = true,
            State::Http(_) => self.with_stream(port, |handler, io| handler.on_drain(within, io)),
            // Its handshake may be on its way, and what it has asked for is answered.
            State::Securing(_) => {
                let time_ms = port.core.request_timeout_ms();
                self.control.deadline = port.core.now.saturating_add(time_ms);
            }
            State::Over => {}
            State::Switched(_) => self.tell_protocol_of_drain(within, port),
        }
        self.advance(port);
    }

    /// The connection that the engine knows by `key` is over; its handler is told why. No other call follows.
    pub fn close(&mut self, key: u64, reason: CloseReason, core: &mut Core) {
        self.input.clear();
        match std::mem::replace(&mut self.state, State::Over) {
            State::Switched(switched) => switched::close(switched, key, reason, core),
            State::Http(mut exchange) => exchange.abandon(reason, core),
            State::Preface(_) | State::Securing(_) | State::Over => {}
        }
    }

    /// The connection leaves the engine as `socket`.
    pub fn detached(&mut self, key: u64, socket: OwnedFd, core: &mut Core) {
        let unread = std::mem::take(&mut self.input);
        let is_ended = self.input_end != InputEnd::Open;
        if let State::Switched(switched) = std::mem::replace(&mut self.state, State::Over) {
            switched::detach(switched, key, Detached { socket, unread, is_ended }, core);
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

    /// Whether it goes on when something has been sent.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether so much waits unread that the connection should not be received on: a large buffer holds as
    /// much as sixteen others.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.input.len() >= usize::from(limits.leases_max) || self.input.begins_large()
    }

    /// Whether what it has is enough for now: nothing more is opened for it.
    pub(crate) fn is_behind(&self) -> bool {
        let control = &self.control;
        let is_held = control.is_paused || control.is_closing || control.is_detaching;
        let is_over = control.is_reset || matches!(self.state, State::Over);
        is_held || is_over || self.has_more || self.is_blocked || !self.input.is_empty()
    }

    /// Pieces of what was received that wait unread.
    pub fn unread(&self) -> usize {
        self.input.len()
    }

    /// Receive buffers among them.
    pub fn held(&self) -> usize {
        self.input.held()
    }

    /// Bytes among them that were [set aside](Session::set_aside).
    pub fn bytes_aside(&self) -> usize {
        self.input.bytes_aside()
    }

    /// Copies what waits unread out of the receive buffers, which others wait for.
    pub fn set_aside(&mut self) {
        self.input.set_aside();
    }

    /// The core is out of receive buffers: its handler may be able to do without some.
    pub fn relieve(&mut self, port: &mut Port<'_>) {
        self.with_handler(port, |handler, _| handler.on_shortage());
        self.with_stream(port, |handler, _| handler.on_shortage());
    }

    /// Whether enough room is left to receive again.
    pub fn has_room(&self, limits: &Limits) -> bool {
        self.input.bytes_aside() == 0
            && !self.input.begins_large()
            && self.input.len() <= usize::from(limits.leases_max / 2)
    }

    /// Whether the connection was switched to a protocol.
    pub fn is_switched(&self) -> bool {
        matches!(self.state, State::Switched(_))
    }

    /// Calls the streaming handler of the request being answered, if there is one.
    fn with_stream(
        &mut self,
        port: &mut Port<'_>,
        call: impl FnOnce(&mut dyn Streaming, &mut StreamIo<'_>),
    ) {
        if let State::Http(exchange) = &mut self.state {
            exchange.tell(&mut self.control, port, call);
        }
    }

    /// Once: it may have been told when it was switched.
    fn tell_protocol_of_drain(&mut self, within: Duration, port: &mut Port<'_>) {
        if !std::mem::replace(&mut self.is_told_of_drain, true) {
            self.with_handler(port, |handler, io| handler.on_drain(within, io));
        }
    }

    /// Uses what was received, as far as that goes now.
    fn advance(&mut self, port: &mut Port<'_>) {
        self.has_more = false;
        let is_new = !self.is_switched();
        match &mut self.state {
            State::Http(exchange) => {
                let is_ended = self.input_end != InputEnd::Open;
                let progress = exchange.advance(&mut self.input, is_ended, &mut self.control, port);
                match progress {
                    exchange::Progress::Waiting => {}
                    exchange::Progress::Blocked => self.is_blocked = true,
                    exchange::Progress::More => self.has_more = true,
                    exchange::Progress::Switched(switched) => {
                        self.control = Control::default();
                        self.state = State::Switched(switched);
                        self.with_handler(port, |handler, io| handler.on_open(io));
                    }
                    exchange::Progress::Securing(request) => {
                        self.control = Control::default();
                        self.state = State::Securing(request);
                    }
                }
            }
            State::Preface(_) => return self.introduce(port),
            State::Securing(_) | State::Switched(_) | State::Over => {}
        }
        if self.is_switched() {
            self.deliver(port);
            // Switched by a server that is stopping already: nobody else tells it.
            if is_new && port.core.is_draining {
                let left_ms = port.core.cut_at.saturating_sub(port.core.now);
                self.tell_protocol_of_drain(Duration::from_millis(left_ms), port);
            }
        }
        if matches!(self.state, State::Over) || self.control.is_closing || self.control.is_reset {
            self.input.clear();
        }
    }
}
