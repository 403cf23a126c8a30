//! One simulated TCP connection as Linux keeps it: what travels each way, how either end ends it,
//! and which operations of the engine hold it. Neither time nor chance lives here; `state` decides
//! when and how much.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::super::{Errno, Handle, Manner, Receipts, Token};
use super::client::Ending;
use crate::buffer::Batch;

pub(super) struct Connection {
    /// The client's.
    pub(super) address: SocketAddr,
    /// Written by the client, not received by the server yet.
    inbound: VecDeque<Segment>,
    inbound_bytes: usize,
    /// What the client has done to its direction; the server learns it behind the inbound bytes.
    pub(super) peer: Peer,
    /// The client reads no more: what is sent to it is answered with a reset.
    client_is_gone: bool,
    /// Sent by the server, not read by the client yet.
    pub(super) arrived: Vec<u8>,
    pub(super) window_bytes: usize,
    /// What the client has seen of the server's end.
    pub(super) ending: Option<Ending>,

    pub(super) handle: Option<Handle>,
    /// The engine's name for the connection, from its first operation to the completion of its
    /// close.
    pub(super) token: Option<Token>,
    pub(super) receiving: Receiving,
    pub(super) sending: Sending,
    pub(super) watching: Watching,
    /// In flight: a shutdown, an install, a question for the peer, a close.
    pub(super) shutting: bool,
    pub(super) installing: bool,
    pub(super) identifying: bool,
    pub(super) closing: Option<Manner>,
    /// Done: our direction is shut, an ordinary descriptor shares the connection, the server's end
    /// is gone.
    pub(super) shut: bool,
    pub(super) installed: bool,
    pub(super) closed: bool,
}

struct Segment {
    bytes: Vec<u8>,
    taken: usize,
    /// Written by `write_exactly`: neither cut nor joined with its neighbours.
    exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Open,
    Finished,
    /// The error is told once, to whichever operation meets it first.
    Reset {
        error: Option<Errno>,
    },
}

/// An operation is in flight until the engine has taken its final completion: before that it cannot
/// know.
pub(super) enum Receiving {
    Idle,
    /// `due`: a step of it is scheduled. Never two, so that bytes keep their order.
    Armed {
        receipts: Receipts,
        stopping: bool,
        due: bool,
    },
    Posted,
}

pub(super) enum Watching {
    Idle,
    /// `is_told`: the engine knows that it is lost, and has still to stop it.
    Armed {
        is_told: bool,
        stopping: bool,
        due: bool,
    },
    Posted,
}

pub(super) enum Sending {
    Idle,
    Active(Outgoing),
    Posted,
}

pub(super) struct Outgoing {
    pub(super) batch: Box<Batch>,
    pub(super) done: usize,
    pub(super) stopping: bool,
    pub(super) due: bool,
}

impl Connection {
    pub(super) fn new(window_bytes: usize, address: SocketAddr) -> Connection {
        Connection {
            address,
            inbound: VecDeque::new(),
            inbound_bytes: 0,
            peer: Peer::Open,
            client_is_gone: false,
            arrived: Vec::new(),
            window_bytes,
            ending: None,
            handle: None,
            token: None,
            receiving: Receiving::Idle,
            sending: Sending::Idle,
            watching: Watching::Idle,
            shutting: false,
            installing: false,
            identifying: false,
            closing: None,
            shut: false,
            installed: false,
            closed: false,
        }
    }

    /// What of this connection is in flight, for the message of a broken rule.
    pub(super) fn in_flight(&self) -> Option<&'static str> {
        if !matches!(self.receiving, Receiving::Idle) {
            Some("a receive")
        } else if !matches!(self.sending, Sending::Idle) {
            Some("a send")
        } else if !matches!(self.watching, Watching::Idle) {
            Some("a watch")
        } else if self.shutting {
            Some("a shutdown")
        } else if self.installing {
            Some("an install")
        } else if self.identifying {
            Some("an identification")
        } else {
            None
        }
    }

    /// Bytes written by the client that the server has not received.
    pub(super) fn unread(&self) -> usize {
        self.inbound_bytes
    }

    /// Whether a receive has something to say now.
    pub(super) fn is_readable(&self) -> bool {
        self.inbound_bytes > 0 || self.peer != Peer::Open
    }

    /// Whether a watch has something to say: an error, or both directions are over.
    pub(super) fn is_lost(&self) -> bool {
        match self.peer {
            Peer::Open => false,
            Peer::Finished => self.shut,
            Peer::Reset { .. } => true,
        }
    }

    /// Bytes the client would take now.
    pub(super) fn room(&self) -> usize {
        self.window_bytes.saturating_sub(self.arrived.len())
    }

    /// Puts bytes behind those written before.
    pub(super) fn write(&mut self, bytes: &[u8], exact: bool) {
        if bytes.is_empty() || matches!(self.peer, Peer::Reset { .. }) {
            return;
        }
        assert!(self.peer == Peer::Open, "a client that has finished writes no more");
        if self.closed {
            // The server's end is gone: its host answers bytes with a reset, unless someone holds
            // the installed descriptor.
            if !self.installed {
                self.reset_the_client();
            }
            return;
        }
        self.inbound_bytes += bytes.len();
        match self.inbound.back_mut() {
            Some(last) if !last.exact && !exact => last.bytes.extend_from_slice(bytes),
            _ => self.inbound.push_back(Segment { bytes: bytes.to_vec(), taken: 0, exact }),
        }
    }

    /// The bytes that one receive may bring, and whether they must not be cut.
    pub(super) fn next_inbound(&self) -> (&[u8], bool) {
        self.inbound
            .front()
            .map_or((&[], true), |segment| (&segment.bytes[segment.taken..], segment.exact))
    }

    /// Gives up the first `count` of [`next_inbound`](Connection::next_inbound).
    pub(super) fn take_inbound(&mut self, count: usize) {
        let segment = self.inbound.front_mut().expect("bytes are taken only when some wait");
        segment.taken += count;
        self.inbound_bytes -= count;
        if segment.taken == segment.bytes.len() {
            self.inbound.pop_front();
        }
    }

    pub(super) fn lose_inbound(&mut self) {
        self.inbound.clear();
        self.inbound_bytes = 0;
    }

    /// What a receive reports behind the last byte, or `None` while the peer may still write.
    pub(super) fn take_end(&mut self) -> Option<Result<(), Errno>> {
        match &mut self.peer {
            Peer::Open => None,
            Peer::Finished => Some(Ok(())),
            Peer::Reset { error } => Some(error.take().map_or(Ok(()), Err)),
        }
    }

    /// The error a send meets, if the connection cannot carry bytes any more.
    pub(super) fn take_send_error(&mut self) -> Option<Errno> {
        match &mut self.peer {
            Peer::Reset { error } => Some(error.take().unwrap_or(Errno::PIPE)),
            _ if self.shut => Some(Errno::PIPE),
            _ => None,
        }
    }

    /// Moves `count` bytes of the send in flight to the client.
    pub(super) fn carry(&mut self, count: usize) {
        let Sending::Active(send) = &mut self.sending else {
            unreachable!("only a send in flight carries bytes")
        };
        if self.client_is_gone {
            send.done += count;
            if count > 0 {
                self.reset_the_server();
            }
            return;
        }
        let (mut skip, mut left) = (send.done, count);
        for slice in send.batch.slices() {
            let from = skip.min(slice.len());
            let take = left.min(slice.len() - from);
            self.arrived.extend_from_slice(&slice[from..from + take]);
            (skip, left) = (skip - from, left - take);
            if left == 0 {
                break;
            }
        }
        debug_assert_eq!(left, 0, "no more is carried than the batch holds");
        send.done += count;
    }

    pub(super) fn finish_by_client(&mut self) {
        if self.peer == Peer::Open {
            self.peer = Peer::Finished;
        }
    }

    /// The client's process ends: FIN, or a reset if it leaves bytes unread.
    pub(super) fn close_by_client(&mut self) {
        self.client_is_gone = true;
        if self.arrived.is_empty() {
            self.finish_by_client();
        } else {
            self.reset_the_server();
        }
        self.arrived.clear();
    }

    /// A reset arrives at the server. Bytes that arrived before it can still be received.
    pub(super) fn reset_the_server(&mut self) {
        self.peer = match self.peer {
            Peer::Open => Peer::Reset { error: Some(Errno::CONNRESET) },
            // Behind a FIN, Linux still reports an end of input to receives and EPIPE to sends.
            Peer::Finished => Peer::Reset { error: None },
            reset @ Peer::Reset { .. } => reset,
        };
    }

    /// A reset arrives at the client: what it has not read is lost, as RFC 9112 §9.6 warns.
    pub(super) fn reset_the_client(&mut self) {
        if !matches!(self.peer, Peer::Reset { .. }) {
            self.ending = Some(Ending::Reset);
            self.arrived = Vec::new();
        }
    }

    /// Our FIN arrives at the client.
    pub(super) fn shut(&mut self) {
        self.shut = true;
        if !matches!(self.peer, Peer::Reset { .. }) {
            self.ending = self.ending.or(Some(Ending::Finished));
        }
    }

    /// The server's end goes. An installed descriptor keeps the connection as it is.
    pub(super) fn close_by_server(&mut self, manner: Manner) {
        if !self.installed {
            // Linux resets instead of finishing when received bytes were not read.
            if manner == Manner::Reset || self.inbound_bytes > 0 {
                self.reset_the_client()
            } else {
                self.shut()
            }
        }
        self.closed = true;
        (self.inbound, self.inbound_bytes) = (VecDeque::new(), 0);
    }
}
