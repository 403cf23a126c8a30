//! What an application makes of a connection: the callback interface.

use std::time::Duration;

use super::frame::{CloseCode, Fault};
use super::message::Message;
use super::socket::Socket;
use crate::upgrade::CloseReason;

/// The server's end of one connection: a plain value, made when the connection is switched. Every
/// method is called on the connection's own core, and none may block it.
///
/// A panic closes this connection with a reset, and no other.
pub trait Endpoint: 'static {
    /// The 101 is written; what is sent here leaves with it.
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A whole message. [`Socket::send`] it back and it leaves from where it was received.
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>);

    /// There is room again, after a message was [queued](super::Sent::Queued) or
    /// [over the limit](super::Sent::OverLimit).
    fn on_drain(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// The time given to [`Socket::set_deadline`] has come.
    fn on_deadline(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A [`ConnectionWaker`](crate::ConnectionWaker) of this connection was woken, or something was
    /// published to a topic of it: look before you act.
    fn on_wake(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// The connection read too slowly, and `count` messages of `topic` were not sent to it.
    fn on_missed(&mut self, topic: &str, count: u64, socket: &mut Socket<'_>) {
        let _ = (topic, count, socket);
    }

    /// The core is out of receive buffers: messages that the endpoint keeps may lie in some, which are
    /// missing to others: it should keep [`Message::into_owned`] instead.
    fn on_shortage(&mut self) {}

    /// The server is stopping and will cut the connection after `deadline`. Without a method of its
    /// own, an endpoint closes with 1001.
    fn on_shutdown(&mut self, deadline: Duration, socket: &mut Socket<'_>) {
        let _ = deadline;
        socket.close(CloseCode::GOING_AWAY, "");
    }

    /// The connection is over; nothing more is called. It is called for every end but a panic of this
    /// endpoint, which is dropped.
    fn on_close(&mut self, close: &Close) {
        let _ = close;
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// What the peer's Close said, or ours if the peer is at fault. `None` if no Close came, or one
    /// that said nothing.
    pub code: Option<CloseCode>,
    /// The peer's reason, for people.
    pub reason: Box<str>,
    /// Who ended it.
    pub by: ClosedBy,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClosedBy {
    /// The peer began the closing handshake.
    Peer,
    /// We did: by [`Socket::close`], or over a limit of time. With a code, the peer has answered.
    Us,
    /// The peer broke a rule.
    Fault(Fault),
    /// There was no closing handshake: the connection ended, or was cut.
    Lost(CloseReason),
}
