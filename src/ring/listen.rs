//! Listening sockets: every core has one of its own on each address, and the kernel spreads
//! connections over them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::error::SetupError;

/// Listens on `address`, beside every other core that does.
///
/// Accepted sockets inherit `TCP_NODELAY`. The listener stays blocking: io_uring waits by itself,
/// and on a non-blocking socket it would report EAGAIN instead.
///
/// # Errors
/// The address is taken, not of this host, or needs a privilege.
pub fn listen(address: SocketAddr, backlog: i32) -> Result<TcpListener, SetupError> {
    let failed = |call| move |error: io::Error| SetupError::listener(call, address, &error);
    // Close-on-exec is set by `Socket::new`.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(failed("socket"))?;
    socket.set_reuse_address(true).map_err(failed("setsockopt(SO_REUSEADDR)"))?;
    socket.set_reuse_port(true).map_err(failed("setsockopt(SO_REUSEPORT)"))?;
    socket.set_tcp_nodelay(true).map_err(failed("setsockopt(TCP_NODELAY)"))?;
    // Inherited, too: a peer that vanished without a word is found out after two minutes.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive).map_err(failed("setsockopt(SO_KEEPALIVE)"))?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 too, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false).map_err(failed("setsockopt(IPV6_V6ONLY)"))?;
    }
    socket.bind(&address.into()).map_err(failed("bind"))?;
    socket.listen(backlog).map_err(failed("listen"))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::ring::error::Cause;

    #[test]
    fn two_cores_listen_on_one_address_and_what_they_accept_sends_without_delay() {
        let first =
            listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 8).expect("loopback is there");
        let address = first.local_addr().expect("it is bound");
        let second = listen(address, 8).expect("SO_REUSEPORT is set on both");
        drop(second);
        let _client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = first.accept().expect("a client is there");
        assert!(accepted.nodelay().expect("a TCP socket"));
        assert!(socket2::SockRef::from(&accepted).keepalive().expect("a TCP socket"));
    }

    #[test]
    fn a_taken_address_and_one_of_another_host_are_told_apart() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
        let address = taken.local_addr().expect("it is bound");
        assert_eq!(listen(address, 8).expect_err("it is taken").cause(), Cause::AddressInUse);
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
        assert_eq!(
            listen(elsewhere, 8).expect_err("it is not ours").cause(),
            Cause::AddressNotHere
        );
    }
}
