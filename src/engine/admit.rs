//! New connections: who is let in, and what the others are told.
//!
//! ```text
//!   accepted ──► room on this core? ──► room for this client? ──► served
//!                      └─ 503 ─────────────────┴─ 429 ──► lingering, a few at a time; the rest is closed
//! ```

use std::net::IpAddr;

use super::connection::{Appetite, Phase};
use super::{Connection, Engine};
use crate::config::REFUSING_MAX;
use crate::http::{Response, Status};
use crate::ring::{Errno, Handle, Kernel, ListenerId, Manner, Token};
use crate::session::Session;
use crate::upgrade::CloseReason;

/// New connections that are received on from one turn on: what waits is served long before a client
/// could tell.
const LET_IN_PER_TURN: usize = 64;

/// The same when turns are full: about ten thousand a second.
const LET_IN_WHEN_CROWDED: usize = 8;

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The core has as many as it may.
    CoreFull,
    /// Its client has.
    ClientFull,
}

impl Refusal {
    /// RFC 9110 §15.6.4 and RFC 6585 §4, before any request was read: whatever it asks, this is the
    /// answer.
    fn response(self) -> Response {
        let (status, text) = match self {
            Refusal::CoreFull => {
                (Status::SERVICE_UNAVAILABLE, "The server has no room for another connection.\n")
            }
            Refusal::ClientFull => {
                (Status::TOO_MANY_REQUESTS, "Too many connections from this address.\n")
            }
        };
        Response::text(status, text).with_field("Retry-After", "1").expect("a field of ours")
    }
}

impl<K: Kernel> Engine<K> {
    pub(super) fn open(&mut self, handle: Handle, listener: ListenerId) {
        self.core.counters.connections_accepted.raise();
        self.core.counters.connections_open.raise();
        let served = self.connections.len() - self.refusing as usize;
        let is_full = served >= self.core.limits.connections_max as usize;
        let token = self.connections.insert(Connection::new(handle, Session::open(&self.core)));
        self.timers.grow(self.connections.bound());
        if is_full {
            self.refuse(token, Refusal::CoreFull);
        } else {
            if self.core.limits.connections_per_client_max > 0
                && let Some(connection) = self.connections.of(token)
            {
                connection.is_identifying = true;
                self.kernel.identify(token, handle, listener);
            }
            if let Some(connection) = self.connections.of(token) {
                connection.is_in_line = true;
                self.line.push_back(token);
            }
            self.touch(token);
        }
    }

    /// Begins to receive on new connections: on a few in a turn, and fewer while turns are full, or a
    /// flood of connections would have everybody wait for what each of them asks first.
    pub(super) fn let_in(&mut self) {
        let count = if self.core.is_crowded { LET_IN_WHEN_CROWDED } else { LET_IN_PER_TURN };
        for _ in 0..count {
            let Some(token) = self.line.pop_front() else { break };
            if let Some(connection) = self.connections.of(token) {
                connection.is_in_line = false;
                connection.appetite = Appetite::of_stranger(self.core.is_crowded);
                self.touch(token);
            }
        }
    }

    /// The kernel has said who the peer is.
    pub(super) fn identified(&mut self, token: Token, result: Result<IpAddr, Errno>) {
        let max = self.core.limits.connections_per_client_max;
        self.with(token, |connection, _, _| connection.is_identifying = false);
        let is_open =
            self.connections.of(token).is_some_and(|connection| connection.phase == Phase::Open);
        match result {
            Ok(address) if is_open && !self.clients.admit(token.slot, address, max) => {
                self.refuse(token, Refusal::ClientFull);
            }
            Ok(_) => {}
            // A peer that has gone meanwhile has no name any more.
            Err(_) => self.core.counters.clients_unknown.raise(),
        }
    }

    fn refuse(&mut self, token: Token, why: Refusal) {
        self.core.counters.connections_refused.raise();
        if why == Refusal::ClientFull {
            self.core.counters.clients_over_limit.raise();
        }
        let is_told = self.refusing < REFUSING_MAX;
        self.refusing += 1;
        self.with(token, |connection, core, key| {
            connection.is_refused = true;
            if is_told && connection.session.is_unused() {
                connection.call(core, key, |session, port| session.refuse(&why.response(), port));
            } else {
                connection.end(Manner::Close, CloseReason::Finished);
            }
        });
    }
}
