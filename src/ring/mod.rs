//! The kernel column: everything that talks to the kernel, behind one seam.
//!
//! [`Kernel`] is what the engine needs of a kernel. [`Ring`] is the real one, on io_uring;
//! [`sim::Simulation`] is a seeded, deterministic one for tests and fuzzing. An operation takes
//! what the kernel needs by ownership and the [`Completion`] gives it back: nobody else can touch
//! it in between.

pub mod affinity;
// Memory shared with the kernel: entries of the buffer ring are written through raw pointers.
#[allow(unsafe_code)]
mod buffers;
mod clock;
mod completion;
mod control;
pub mod doctor;
mod error;
// A message header is made of zeroes; the addresses of slices are handed to the kernel.
#[allow(unsafe_code)]
mod inflight;
// An option that none of the crates has.
#[allow(unsafe_code)]
mod listen;
#[cfg(test)]
mod loopback;
mod peers;
// Submits operations on a scratch ring.
#[allow(unsafe_code)]
mod probe;
mod restrict;
pub mod setup;
mod shared;
pub mod sim;
mod tier;
// Submits operations, whose memory it owns, and takes descriptors and buffers back from the kernel.
#[allow(unsafe_code)]
mod uring;
mod user_data;

pub use completion::{Completion, Errno, Handle, ListenerId, Token};
pub use control::Control;
pub use error::{Cause, SetupError};
pub use listen::{
    adapt, bind, check_free, check_free_now, duplicate, listen, local_address, steer,
    take_connections,
};
pub use probe::Features;
pub use shared::{FileIdentity, SharedListener};
pub use tier::Tier;
pub use uring::{Ring, RingCounters};

use std::io;

use crate::buffer::{Batch, Pool, Size};
use crate::counters::Time;

pub use crate::config::{Millis, NEVER};

/// Whether [`Kernel::enter`] may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Submit, collect what is there, return.
    No,
    /// Submit, then sleep until at least one completion is there, sends that were
    /// [relaxed](Kernel::relax) aside.
    ForOne,
}

/// How often a receive receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// Until it is stopped. The kernel may deliver some thirty buffers before it hears of that.
    Many,
    /// Once, one buffer.
    One,
    /// Once, one large buffer: as much as has come, up to its size.
    Large,
}

impl Receipts {
    /// The size of the buffers that are received into.
    pub fn size(self) -> Size {
        match self {
            Receipts::Many | Receipts::One => Size::Usual,
            Receipts::Large => Size::Large,
        }
    }
}

/// How many connections an accept accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// All that come, until it is stopped.
    Many,
    /// At most [`FEW`], and then no more.
    Few,
}

/// Connections of an accept that is for few: as many as a turn that is full can be asked for besides.
pub const FEW: u8 = 8;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `close(2)`: what was sent arrives, then FIN.
    Close,
    /// Linger zero, then `close(2)`: the peer sees a reset it can tell from a clean end.
    Reset,
}

/// What an engine asks of a kernel. Each call names the connection by its [`Token`]; completions
/// carry the token back, so that one of an older generation can be told.
///
/// Every operation gives exactly one final completion: for the multishot ones
/// ([`accept`](Kernel::accept), [`receive`](Kernel::receive)) it is the one whose `more` is false.
/// Stopping an operation does not complete it: its final completion still follows.
pub trait Kernel {
    /// The core's monotonic clock.
    fn now(&self) -> Millis;
    /// The same clock, as fine as it is.
    fn time(&self) -> Time {
        Time::of(self.now())
    }
    /// Seconds since the Unix epoch.
    fn unix_seconds(&self) -> u64;
    /// The same in milliseconds.
    fn unix_millis(&self) -> u64 {
        self.unix_seconds() * 1000
    }
    /// The core's receive buffers.
    fn pool(&self) -> &Pool;
    /// Buffers of a size that could be received into: the vacant ones, and those lent that nothing
    /// was received into.
    fn receivable(&self, size: Size) -> usize;

    /// Accepts connections on a listener until `more` is false.
    fn accept(&mut self, listener: ListenerId, accepts: Accepts);
    /// Asks that an accept ends soon.
    fn stop_accept(&mut self, listener: ListenerId);
    /// Whether a connection waits to be accepted.
    fn has_waiting(&mut self, listener: ListenerId) -> bool;
    /// Lets go of a listener. Only while no accept of it is in flight; nothing is accepted on it again.
    fn close_listener(&mut self, listener: ListenerId);
    /// Receives on a connection until `more` is false.
    fn receive(&mut self, connection: Token, handle: Handle, receipts: Receipts);
    /// Asks that a receive ends soon.
    fn stop_receive(&mut self, connection: Token);
    /// Completes with [`Completion::Watched`] once the connection is lost, even while nothing is received
    /// on it, and until `more` is false.
    fn watch(&mut self, connection: Token, handle: Handle);
    /// Asks that a watch ends soon.
    fn stop_watch(&mut self, connection: Token);
    /// Sends a batch, wholly if it can; the completion says how much left and gives the batch back.
    /// One at a time for each connection: two may overtake each other. A send that has to wait for
    /// its peer keeps no receive buffer.
    fn send(&mut self, connection: Token, handle: Handle, batch: Box<Batch>);
    /// The completion of the send just asked for changes nothing: a sleep need not end for it. It
    /// comes with the next one that does, or soon. A kernel is free to ignore this.
    fn relax(&mut self) {}
    /// Asks that the send in flight ends soon.
    fn stop_send(&mut self, connection: Token);
    /// Ends our direction: FIN behind everything sent. Only while no send is in flight.
    fn shutdown(&mut self, connection: Token, handle: Handle);
    /// Closes a connection. Only when nothing of it is in flight; the handle is void from here on.
    fn close(&mut self, connection: Token, handle: Handle, manner: Manner);
    /// Turns a connection into an ordinary file descriptor. The connection's handle stays valid
    /// until closed.
    fn install(&mut self, connection: Token, handle: Handle);
    /// Asks who the peer of a connection is, which was accepted on `listener`.
    fn identify(&mut self, connection: Token, handle: Handle, listener: ListenerId);
    /// Completes with [`Completion::Tick`] at `when`, or earlier if asked for an earlier time
    /// before.
    fn wake_at(&mut self, when: Millis);

    /// Lends vacant buffers to receives again, submits everything asked for, collects completions.
    ///
    /// # Errors
    /// The kernel refused to go on; the message names call, errno and likely cause.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;
    /// The next completion collected.
    fn complete(&mut self) -> Option<Completion>;
    /// Whether something was asked for since the last [`enter`](Kernel::enter), or completions wait
    /// to be taken.
    fn has_work(&mut self) -> bool;
    /// Notes that a receive found no buffer of this size: more are lent from now on, if there are
    /// more.
    fn starved(&mut self, size: Size);
}
