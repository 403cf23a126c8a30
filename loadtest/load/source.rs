//! A connecting socket, and which loopback address it comes from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Begins to connect to `target`. Loopback has connected when this returns, or the server's queue is
/// full; what is sent until then waits. The `number`-th connection comes from one of `sources`
/// addresses, if the target is on IPv4's loopback: each of them has 28 000 ports.
pub(crate) fn connect(
    target: SocketAddr,
    number: usize,
    sources: u8,
    unread_bytes: Option<usize>,
) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    if sources > 1 && is_loopback_v4(target) {
        let source = Ipv4Addr::new(127, 0, 0, 1 + (number % usize::from(sources)) as u8);
        bind_address(&socket, source)?;
    }
    if let Some(bytes) = unread_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    // The ring waits for a socket that blocks, and gives one that does not back with EAGAIN.
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

fn is_loopback_v4(target: SocketAddr) -> bool {
    matches!(target.ip(), IpAddr::V4(address) if address.is_loopback())
}

/// Binds to an address and leaves the port to be chosen at connect. Chosen at bind, it would have
/// to be free of every connection that is still in TIME_WAIT, and a generator that connects all the
/// time would run out of ports.
fn bind_address(socket: &Socket, source: Ipv4Addr) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the length of the call, and `on` is an int of the size
    // given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind(&SocketAddr::from((source, 0)).into())
}
