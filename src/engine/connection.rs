//! One connection as the engine sees it: its session, what it has with the kernel, and how it ends.
//!
//! ```text
//!   Open ──► Lingering (our FIN is out, theirs is awaited) ──► Ending ──► Closing ──► slot free
//!     ├──────────────────────────────────────────────────────────┘
//!     └──► Detaching ──► Installing ──► Ending
//! ```
//!
//! In Ending everything in flight is stopped; Closing begins when its last completion has come; the
//! slot is free when the close itself has completed.

use crate::buffer::{Batch, Load};
use crate::config::{Millis, NEVER};
use crate::ring::{Handle, Manner, Receipts};
use crate::session::Session;
use crate::tls::Layer;
use crate::upgrade::CloseReason;

pub(super) struct Connection {
    pub(super) session: Session,
    /// What is between the session and the kernel, if it is not in the clear.
    pub(super) layer: Option<Box<Layer>>,
    /// What the session writes in this turn.
    pub(super) batch: Option<Box<Batch>>,
    /// What the kernel holds of it, small: every idle connection pays for its size. While it lingers, with
    /// nothing in flight, the bytes that may still be discarded.
    in_flight_bytes: u32,
    in_flight_leases: u16,
    /// When the peer must have read something, or have ended, at the latest.
    pub(super) peer_deadline: Millis,
    pub(super) handle: Handle,
    pub(super) phase: Phase,
    pub(super) receive: Receive,
    pub(super) sending: Operation,
    /// FIN was asked for, and is still with the kernel.
    pub(super) is_shut: bool,
    pub(super) is_shutting: bool,
    pub(super) lists: Lists,
    /// Not received on because enough waits, or received on one buffer at a time until nothing does.
    pub(super) is_held: bool,
    /// Whether the kernel will say when it is lost.
    pub(super) watch: Operation,
    /// A receive was armed before: arming it again is counted.
    pub(super) has_received: bool,
    /// The kernel was asked who the peer is, and has not said it.
    pub(super) is_identifying: bool,
    pub(super) appetite: Appetite,
    pub(super) gulps: Gulps,
    /// It is not served, and told so at most.
    pub(super) is_refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Lingering,
    Ending { manner: Manner, reason: CloseReason },
    Closing,
    Detaching,
    Installing,
}

/// Lists of the engine that a connection is on, each at most once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lists(u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum List {
    /// Those to settle at the end of the turn.
    Touched = 1,
    /// Those that have more to do without any event.
    Ready = 2,
    /// Those whose receive found no buffer: armed again when there is one.
    Starved = 4,
    /// Those that were accepted, and are received on when it is their turn.
    New = 8,
}

impl Lists {
    pub(super) fn has(self, list: List) -> bool {
        self.0 & list as u8 != 0
    }

    /// Puts it on a list; false if it was there.
    pub(super) fn enter(&mut self, list: List) -> bool {
        let is_new = !self.has(list);
        self.0 |= list as u8;
        is_new
    }

    pub(super) fn leave(&mut self, list: List) {
        self.0 &= !(list as u8);
    }
}

/// How much one connection sends beside others: one that sends more in a turn, while turns are full, is
/// received on one buffer at a time. The kernel may bring some thirty before it looks at the next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Appetite(u8);

impl Appetite {
    /// Buffers in one turn that are more than others have.
    const GREEDY: u8 = 4;

    /// Of one of which is not known how much it has to say.
    pub(super) fn of_stranger(is_crowded: bool) -> Appetite {
        if is_crowded { Appetite(Appetite::GREEDY) } else { Appetite::default() }
    }

    /// So many bytes were received: a large buffer counts for as many of the usual ones as it spares.
    pub(super) fn note(&mut self, bytes: usize, usual: u32) {
        let buffers = bytes.div_ceil(usual as usize).max(1);
        self.0 = self.0.saturating_add(u8::try_from(buffers).unwrap_or(u8::MAX));
    }

    /// It is to be had one buffer at a time where turns are full, whatever it has brought.
    pub(super) fn count_as_greedy(&mut self) {
        self.0 = Appetite::GREEDY;
    }

    /// Ends a turn: whether it is one buffer at a time from here on.
    pub(super) fn is_slowed(&mut self, is_crowded: bool) -> bool {
        let is_slowed = is_crowded && self.0 >= Appetite::GREEDY;
        self.0 = if is_slowed { Appetite::GREEDY } else { 0 };
        is_slowed
    }
}

/// Whether one connection sends much at once: one that has filled two buffers in a row is received on large
/// ones, until it has not filled one of the others for a while.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gulps(u8);

impl Gulps {
    const FIRST: u8 = 1;
    /// Receives that bring little before the small ones are good enough again.
    const LAST: u8 = 16;

    /// So many bytes were received; `usual` is what a buffer of the usual size holds.
    pub(super) fn note(&mut self, bytes: usize, usual: u32) {
        self.0 = match self.0 {
            before if bytes < usual as usize => before.saturating_sub(1),
            0 => Gulps::FIRST,
            _ => Gulps::LAST,
        };
    }

    /// There was no large buffer to be had.
    pub(super) fn forget(&mut self) {
        self.0 = 0;
    }

    pub(super) fn are_large(self) -> bool {
        self.0 > Gulps::FIRST
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    Idle,
    Armed(Receipts),
    /// Asked to end; its last completion has not come.
    Stopping,
}

/// An operation of which there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Idle,
    Armed,
    /// Asked to end; its last completion has not come.
    Stopping,
}

impl Connection {
    pub(super) fn new(handle: Handle, session: Session) -> Connection {
        Connection {
            session,
            layer: None,
            batch: None,
            in_flight_bytes: 0,
            in_flight_leases: 0,
            peer_deadline: NEVER,
            handle,
            phase: Phase::Open,
            receive: Receive::Idle,
            sending: Operation::Idle,
            is_shut: false,
            is_shutting: false,
            lists: Lists::default(),
            is_held: false,
            watch: Operation::Idle,
            has_received: false,
            is_identifying: false,
            appetite: Appetite::default(),
            gulps: Gulps::default(),
            is_refused: false,
        }
    }

    /// What the kernel holds of what the session wrote.
    pub(super) fn in_flight(&self) -> Load {
        Load { bytes: self.in_flight_bytes as usize, leases: self.in_flight_leases }
    }

    /// Notes what the kernel holds. Four gigabytes count for more: any bound is below.
    pub(super) fn set_in_flight(&mut self, load: Load) {
        self.in_flight_bytes = u32::try_from(load.bytes).unwrap_or(u32::MAX);
        self.in_flight_leases = load.leases;
    }

    /// Bytes that may still be discarded while it lingers.
    pub(super) fn linger_bytes_left(&self) -> u32 {
        debug_assert_eq!((self.phase, self.sending), (Phase::Lingering, Operation::Idle));
        self.in_flight_bytes
    }

    /// The same, from here on.
    pub(super) fn set_linger_bytes_left(&mut self, bytes: u32) {
        self.in_flight_bytes = bytes;
    }

    /// Whether something of it is with the kernel.
    pub(super) fn is_in_flight(&self) -> bool {
        self.sending != Operation::Idle
            || self.is_shutting
            || self.is_identifying
            || self.watch != Operation::Idle
            || self.receive != Receive::Idle
    }

    /// When it has to be looked at even if nothing happens.
    pub(super) fn deadline(&self) -> Millis {
        match self.phase {
            Phase::Open => {
                let handshake = self.layer.as_ref().map_or(NEVER, |layer| layer.deadline());
                self.peer_deadline.min(self.session.control().deadline).min(handshake)
            }
            Phase::Lingering | Phase::Detaching => self.peer_deadline,
            Phase::Ending { .. } | Phase::Closing | Phase::Installing => NEVER,
        }
    }

    /// Ends it, unless it is ending already: the first reason stands.
    pub(super) fn end(&mut self, manner: Manner, reason: CloseReason) {
        match &mut self.phase {
            Phase::Ending { manner: before, .. } => {
                if manner == Manner::Reset {
                    *before = Manner::Reset;
                }
            }
            Phase::Closing | Phase::Installing => {}
            Phase::Open | Phase::Lingering | Phase::Detaching => {
                self.phase = Phase::Ending { manner, reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_full_buffers_in_a_row_make_a_connection_one_that_sends_much_at_once() {
        let mut gulps = Gulps::default();
        for (bytes, are_large) in [(4096, false), (4095, false), (4096, false), (4096, true)] {
            gulps.note(bytes, 4096);
            assert_eq!(gulps.are_large(), are_large, "{bytes}");
        }
        gulps.note(30_000, 4096);
        for left in (1..Gulps::LAST).rev() {
            gulps.note(64, 4096);
            assert_eq!(gulps.are_large(), left > Gulps::FIRST, "{left}");
        }
    }

    #[test]
    fn a_connection_is_small() {
        // With its slot's generation, its timer and an echo handler that is 168 bytes; promised are
        // 256.
        assert!(size_of::<Connection>() <= 144, "{} bytes", size_of::<Connection>());
    }
}
