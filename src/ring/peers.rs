//! Who the peer of a TCP connection is. The ring asks the kernel, for connections of which somebody wants
//! to know.
//!
//! A place in the ring's own table of files is asked by an operation, whose answer the kernel writes
//! into [`Names`]; an ordinary descriptor by a system call.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{BorrowedFd, OwnedFd};

use super::listen::local_address;
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
    pub(super) fn of(listeners: &[OwnedFd]) -> Names {
        let is_ipv6 = |listener: &OwnedFd| local_address(listener).is_ok_and(|at| at.is_ipv6());
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
    pub(super) fn take(&mut self, connection: Token) -> Result<SocketAddr, Errno> {
        let name = self.by_slot.remove(&connection.slot).ok_or(STRANGE)?;
        read(&name).ok_or(STRANGE)
    }
}

/// Family, port and address; in IPv6 the flow comes between the two, and the scope behind them.
fn read(name: &Name) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddr::from((address, port)))
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk()?;
            let (address, scope) = rest.split_first_chunk::<16>()?;
            let (flow, scope) =
                (u32::from_be_bytes(*flow), u32::from_ne_bytes(*scope.first_chunk()?));
            Some(SocketAddrV6::new(Ipv6Addr::from(*address), port, flow, scope).into())
        }
        _ => None,
    }
}

/// The address of the peer of an ordinary descriptor.
pub(super) fn address_of(socket: BorrowedFd<'_>) -> Result<SocketAddr, Errno> {
    let peer = rustix::net::getpeername(socket).map_err(|error| Errno(error.raw_os_error()))?;
    let peer = peer.ok_or(STRANGE)?;
    SocketAddr::try_from(peer).map_err(|_| STRANGE)
}
