//! What a [`Handle`] is on this ring: a place in the ring's own table of files (Linux 6.8 for all
//! that we do with them), or an ordinary file descriptor. The submissions that differ between the
//! two are made here.

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use super::{Handle, Receipts, buffers};

/// Linger zero: a close sends RST instead of FIN. The kernel reads it while it submits.
static LINGER_ZERO: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

/// `IORING_RECVSEND_POLL_FIRST` of the kernel's interface.
const RECVSEND_POLL_FIRST: u16 = 1;

/// What poll says of a lost connection: an error, or that both directions are over.
pub(super) const LOST: u32 = (libc::POLLERR | libc::POLLHUP) as u32;

/// Which kind of descriptor the handles of a ring are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Places in the ring's own table of files.
    Direct,
    /// Ordinary file descriptors.
    Plain,
}

impl Tier {
    /// The handle where a submission names its file; [`aim`](Tier::aim) says which kind it is.
    pub(super) fn file(handle: Handle) -> types::Fd {
        types::Fd(handle.0.cast_signed())
    }

    /// Makes the file of a submission one of this tier.
    pub(super) fn aim(self, entry: Entry) -> Entry {
        match self {
            Tier::Direct => entry.flags(Flags::FIXED_FILE),
            Tier::Plain => entry,
        }
    }

    pub(super) fn accept_many(self, listener: types::Fd) -> Entry {
        match self {
            // A place in the table has no close-on-exec flag, and the kernel refuses to be asked
            // for it.
            Tier::Direct => opcode::AcceptMulti::new(listener).allocate_file_index(true).build(),
            Tier::Plain => opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build(),
        }
    }

    pub(super) fn accept_one(self, listener: types::Fd) -> Entry {
        let (nowhere, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
        let accept = opcode::Accept::new(listener, nowhere, no_len);
        match self {
            Tier::Direct => accept.file_index(Some(types::DestinationSlot::auto_target())).build(),
            Tier::Plain => accept.flags(libc::SOCK_CLOEXEC).build(),
        }
    }

    pub(super) fn receive(self, handle: Handle, receipts: Receipts) -> Entry {
        let (file, group) = (Tier::file(handle), buffers::group(receipts.size()));
        // As many bytes as the buffer that is taken holds.
        let receive = opcode::Recv::new(file, std::ptr::null_mut(), 0).buf_group(group);
        let entry = match receipts {
            Receipts::Many => opcode::RecvMulti::new(file, group).build(),
            Receipts::One => receive.build().flags(Flags::BUFFER_SELECT),
            // What had come was taken by the last one: looking before waiting would be in vain.
            Receipts::Large => {
                receive.ioprio(RECVSEND_POLL_FIRST).build().flags(Flags::BUFFER_SELECT)
            }
        };
        self.aim(entry)
    }

    /// Completes with [`LOST`] when the connection is. Multishot: one that was told of something else
    /// goes on.
    pub(super) fn watch(self, handle: Handle) -> Entry {
        self.aim(opcode::PollAdd::new(Tier::file(handle), LOST).multi(true).build())
    }

    pub(super) fn shutdown(self, handle: Handle) -> Entry {
        self.aim(opcode::Shutdown::new(Tier::file(handle), libc::SHUT_WR).build())
    }

    pub(super) fn close(self, handle: Handle) -> Entry {
        match self {
            Tier::Direct => opcode::Close::new(types::Fixed(handle.0)).build(),
            Tier::Plain => opcode::Close::new(Tier::file(handle)).build(),
        }
    }
}

/// Sets linger zero on a direct descriptor (Linux 6.7).
pub(super) fn linger_zero(handle: Handle) -> Entry {
    let value = (&raw const LINGER_ZERO).cast();
    let (level, name, bytes) = (libc::SOL_SOCKET, libc::SO_LINGER, size_of::<libc::linger>());
    opcode::SetSockOpt::new(
        types::Fixed(handle.0),
        level.cast_unsigned(),
        name.cast_unsigned(),
        value,
        bytes as u32,
    )
    .build()
}

/// Sets up asking a direct descriptor for the address of its peer (`SO_PEERNAME`, Linux 6.7): as
/// setting an option, but for the command, which `Ring::identify` turns around.
pub(super) fn peer_name(handle: Handle, name: &mut [u8]) -> Entry {
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERNAME);
    opcode::SetSockOpt::new(
        types::Fixed(handle.0),
        level.cast_unsigned(),
        option.cast_unsigned(),
        name.as_mut_ptr().cast::<libc::c_void>().cast_const(),
        name.len() as u32,
    )
    .build()
}

/// Gives a direct descriptor an ordinary one beside it (Linux 6.8), closed on exec.
pub(super) fn install(handle: Handle) -> Entry {
    opcode::FixedFdInstall::new(types::Fixed(handle.0), 0).build()
}
