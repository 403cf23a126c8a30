//! The listening side the two opponents share: one `SO_REUSEPORT` listener a worker, and the clock
//! they render dates by. It never waits.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// As many connections as the kernel queues by default; more are cut to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listener of this worker's own; the kernel spreads connections over all listeners of the
/// address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Seconds since 1970 by the coarse clock: read without a system call or the time stamp counter,
/// and never more than a tick late.
pub(crate) fn unix_second() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec behind a valid pointer; `now` is one.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    debug_assert_eq!(outcome, 0, "CLOCK_REALTIME_COARSE exists since Linux 2.6.32");
    now.tv_sec.cast_unsigned()
}
