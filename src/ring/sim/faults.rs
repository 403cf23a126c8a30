//! How a simulated world is made, and what may go wrong in it.

use super::super::Errno;

/// Sizes of a simulated kernel, and what goes wrong in it.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Receive buffers of the pool. Default 64.
    pub buffers: u16,
    /// Bytes of one receive buffer. Default 1024: small, so that cuts are cheap to reach.
    pub buffer_bytes: u32,
    /// Receive buffers lent to receives at first; doubled by `starved`. Default 16.
    pub buffers_lent: u16,
    /// Large receive buffers, all of them lent. Default 4.
    pub large_buffers: u16,
    /// Bytes of one of these. Default 4096.
    pub large_bytes: u32,
    /// Open connections the descriptor table holds. A client accepted above it is dropped and the
    /// accept ends with `ENFILE`, as with direct descriptors. Default 1024.
    pub descriptors_max: usize,
    /// Bytes a client takes without reading them, unless it sets a window of its own. Default 64
    /// KiB.
    pub window_bytes: usize,
    /// What `install` fails with; `None` gives a descriptor of `/dev/null`. Default `None`.
    pub install_errno: Option<Errno>,
    /// What goes wrong. Default [`Faults::default`].
    pub faults: Faults,
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig {
            buffers: 64,
            buffer_bytes: 1024,
            buffers_lent: 16,
            large_buffers: 4,
            large_bytes: 4096,
            descriptors_max: 1024,
            window_bytes: 64 * 1024,
            install_errno: None,
            faults: Faults::default(),
        }
    }
}

/// How probable each fault is, from 0 to 1, each time it could happen. At 1 some of them stop all
/// progress.
#[derive(Debug, Clone)]
pub struct Faults {
    /// A receive brings fewer bytes than wait.
    pub partial_receive: f64,
    /// A send takes fewer bytes than the peer has room for, or ends rather than waits for room.
    pub partial_send: f64,
    /// A send waits although the peer has room.
    pub send_waits: f64,
    /// A multishot accept brings a connection and ends.
    pub accept_ends: f64,
    /// A multishot receive brings bytes and ends.
    pub receive_ends: f64,
    /// A receive ends with `ENOBUFS` although buffers are lent. (Without buffers it always does.)
    pub no_buffers: f64,
    /// The peer resets; what it wrote and was not received yet is lost half of the time.
    pub peer_reset: f64,
    /// An accept or a receive ends with `ECANCELED` though nobody asked.
    pub canceled: f64,
    /// An accept ends with `EMFILE`, `ENFILE`, `ENOMEM` or `ECONNABORTED`; no client is lost by it.
    pub accept_errors: f64,
    /// A completion is held back: a turn, or up to `delay_ms_max`.
    pub delayed: f64,
    /// Milliseconds a completion is held back at most.
    pub delay_ms_max: u64,
}

impl Faults {
    /// Nothing goes wrong: sends and receives are whole, at once. Only the order across connections
    /// is seeded.
    pub fn none() -> Faults {
        Faults {
            partial_receive: 0.0,
            partial_send: 0.0,
            send_waits: 0.0,
            accept_ends: 0.0,
            receive_ends: 0.0,
            no_buffers: 0.0,
            peer_reset: 0.0,
            canceled: 0.0,
            accept_errors: 0.0,
            delayed: 0.0,
            delay_ms_max: 0,
        }
    }

    pub(super) fn probability(&self, fault: Fault) -> f64 {
        match fault {
            Fault::PartialReceive => self.partial_receive,
            Fault::PartialSend => self.partial_send,
            Fault::SendWaits => self.send_waits,
            Fault::AcceptEnds => self.accept_ends,
            Fault::ReceiveEnds => self.receive_ends,
            Fault::NoBuffersSpurious => self.no_buffers,
            Fault::PeerReset => self.peer_reset,
            Fault::AcceptCanceled | Fault::ReceiveCanceled => self.canceled,
            Fault::Delayed => self.delayed,
            // These follow from the state of the world, or from `accept_errors` as a whole.
            Fault::AcceptEmfile
            | Fault::AcceptEnfile
            | Fault::AcceptEnomem
            | Fault::AcceptAborted => 0.0,
            Fault::NoBuffers | Fault::WindowFull | Fault::TableFull => 0.0,
        }
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            partial_receive: 0.4,
            partial_send: 0.3,
            send_waits: 0.2,
            accept_ends: 0.2,
            receive_ends: 0.1,
            no_buffers: 0.03,
            peer_reset: 0.002,
            canceled: 0.02,
            accept_errors: 0.1,
            delayed: 0.2,
            delay_ms_max: 20,
        }
    }
}

/// What was done to the server: chosen by chance, or, for the last three, because the world was in
/// that state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A receive brought fewer bytes than waited.
    PartialReceive,
    /// A send took fewer bytes than it was given.
    PartialSend,
    /// A send waited although the peer had room.
    SendWaits,
    /// A multishot accept ended with a connection.
    AcceptEnds,
    /// A multishot receive ended with bytes.
    ReceiveEnds,
    /// A receive found no buffer although some were lent.
    NoBuffersSpurious,
    /// The peer reset without the test asking for it.
    PeerReset,
    /// An accept was cancelled though nobody asked.
    AcceptCanceled,
    /// A receive was cancelled though nobody asked.
    ReceiveCanceled,
    /// An accept failed with `EMFILE`.
    AcceptEmfile,
    /// An accept failed with `ENFILE`.
    AcceptEnfile,
    /// An accept failed with `ENOMEM`.
    AcceptEnomem,
    /// An accept failed with `ECONNABORTED`.
    AcceptAborted,
    /// A completion was held back.
    Delayed,
    /// A receive found no buffer because none was lent.
    NoBuffers,
    /// A send met a client that had no room.
    WindowFull,
    /// An accept met a full descriptor table.
    TableFull,
}

impl Fault {
    /// Every fault, so that a test can show that each has happened.
    pub const ALL: [Fault; 17] = [
        Fault::PartialReceive,
        Fault::PartialSend,
        Fault::SendWaits,
        Fault::AcceptEnds,
        Fault::ReceiveEnds,
        Fault::NoBuffersSpurious,
        Fault::PeerReset,
        Fault::AcceptCanceled,
        Fault::ReceiveCanceled,
        Fault::AcceptEmfile,
        Fault::AcceptEnfile,
        Fault::AcceptEnomem,
        Fault::AcceptAborted,
        Fault::Delayed,
        Fault::NoBuffers,
        Fault::WindowFull,
        Fault::TableFull,
    ];
}
