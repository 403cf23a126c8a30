//! What a kernel says: the completion of one operation, with everything that operation owned.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::buffer::{Batch, Lease};

/// A connection of one core: its slot, and which of the slot's tenants is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Index into the core's connections.
    pub slot: u32,
    /// Raised each time the slot is given to another connection; 24 bits.
    pub generation: u32,
}

impl Token {
    /// Generations wrap at 24 bits: what `user_data` has room for beside slot and kind.
    pub const GENERATION_MASK: u32 = 0x00ff_ffff;
}

/// The kernel's name for an open connection: a direct descriptor or an ordinary one, the same for a
/// whole ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

/// A listener of one core, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// No buffer was there to receive into.
    pub const NOBUFS: Errno = Errno(libc::ENOBUFS);
    /// It would have to wait, and was told not to.
    pub const AGAIN: Errno = Errno(libc::EAGAIN);
    /// The operation was stopped.
    pub const CANCELED: Errno = Errno(libc::ECANCELED);
    /// The peer reset the connection.
    pub const CONNRESET: Errno = Errno(libc::ECONNRESET);
    /// Our direction is shut, or the peer's end is gone.
    pub const PIPE: Errno = Errno(libc::EPIPE);

    /// Whether descriptors or memory have run out.
    pub fn is_exhaustion(self) -> bool {
        matches!(self.0, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.0))
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

/// One completion.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted, or accepting failed. Without `more` it has to be armed again.
    Accepted {
        /// On which listener.
        listener: ListenerId,
        /// The connection.
        result: Result<Handle, Errno>,
        /// Whether the multishot goes on.
        more: bool,
    },
    /// Bytes were received; none at the end of input. Without `more` the receive is over.
    Received {
        /// The connection.
        connection: Token,
        /// The bytes, or `None` when the peer has ended its direction.
        result: Result<Option<Lease>, Errno>,
        /// Whether the multishot goes on.
        more: bool,
    },
    /// A send is over.
    Sent {
        /// The connection.
        connection: Token,
        /// Bytes that left; fewer than the batch holds is no error.
        result: Result<usize, Errno>,
        /// What was sent, given back.
        batch: Box<Batch>,
    },
    /// [`Kernel::shutdown`](super::Kernel::shutdown) is done, whether it succeeded or found the
    /// peer gone.
    ShutDown {
        /// The connection.
        connection: Token,
    },
    /// A connection is closed.
    Closed {
        /// The connection.
        connection: Token,
    },
    /// A connection has an ordinary descriptor.
    Installed {
        /// The connection.
        connection: Token,
        /// The descriptor, independent of the connection's handle.
        result: Result<OwnedFd, Errno>,
    },
    /// [`Kernel::identify`](super::Kernel::identify) is done.
    Identified {
        /// The connection.
        connection: Token,
        /// The address of its peer; an error if it is gone.
        result: Result<SocketAddr, Errno>,
    },
    /// A watched connection is lost, or the watch is over.
    Watched {
        /// The connection.
        connection: Token,
        /// Whether it is lost.
        is_lost: bool,
        /// Whether the watch goes on.
        more: bool,
    },
    /// The time given to [`Kernel::wake_at`](super::Kernel::wake_at) has come.
    Tick,
    /// Another thread has something to say: its message lies in the server's control word.
    Control,
}
