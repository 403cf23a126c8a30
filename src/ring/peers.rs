//! Who the peer of a connection is. The ring asks the kernel, for connections whose core limits how
//! many of them a client may have.
//!
//! A place in the ring's own table of files is asked by an operation, whose answer the kernel writes
//! into [`Names`]; an ordinary descriptor by a system call.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;

use super::{Errno, ListenerId, Token};

/// linux/io_uring.h; the crate has its sibling for setting.
pub(super) const SOCKET_URING_OP_GETSOCKOPT: u32 = 2;

/// Neither IPv4 nor IPv6.
const STRANGE: Errno = Errno(libc::EAFNOSUPPORT);

/// A `sockaddr_in` or a `sockaddr_in6`.
type Name = [u8; size_of::<libc::sockaddr_in6>()];

/// Room for the names that are asked for; written by the kernel.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_slot: HashMap<u32, Box<Name>>,
    /// By listener, whether its peers' names are IPv6 ones.
    is_ipv6: Vec<bool>,
}

impl Names {
    /// No names yet, of peers of these listeners.
    pub(super) fn of(listeners: &[TcpListener]) -> Names {
        let is_ipv6 = |listener: &TcpListener| listener.local_addr().is_ok_and(|at| at.is_ipv6());
        Names { by_slot: HashMap::new(), is_ipv6: listeners.iter().map(is_ipv6).collect() }
    }

    /// Room for the name of a connection of `listener`, exactly as long as it will be: asked for
    /// more bytes, the kernel gives none.
    pub(super) fn room(&mut self, connection: Token, listener: ListenerId) -> &mut [u8] {
        let name = self.by_slot.entry(connection.slot).or_default();
        match self.is_ipv6.get(usize::from(listener.0)) {
            Some(true) => &mut name[..],
            _ => &mut name[..size_of::<libc::sockaddr_in>()],
        }
    }

    /// The address in a name that was written.
    pub(super) fn take(&mut self, connection: Token) -> Result<IpAddr, Errno> {
        let name = self.by_slot.remove(&connection.slot).ok_or(STRANGE)?;
        let ([family_low, family_high, _, _], rest) = name.split_first_chunk().ok_or(STRANGE)?;
        // Behind family and port; in IPv6 the flow comes first.
        match i32::from(u16::from_ne_bytes([*family_low, *family_high])) {
            libc::AF_INET => rest.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
            libc::AF_INET6 => rest[4..].first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
            _ => None,
        }
        .ok_or(STRANGE)
    }
}

/// The address of the peer of an ordinary descriptor.
pub(super) fn address_of(socket: BorrowedFd<'_>) -> Result<IpAddr, Errno> {
    let peer = rustix::net::getpeername(socket).map_err(|error| Errno(error.raw_os_error()))?;
    let peer = peer.ok_or(STRANGE)?;
    SocketAddr::try_from(peer).map(|address| address.ip()).map_err(|_| STRANGE)
}
