//! Listening sockets: every core has one of its own on each address, and the kernel spreads
//! connections over them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

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

/// Has a listener accept the connections whose packets arrive on `cpu`, where each core has one on the
/// same address (Linux 6.2). What arrives on a core without a listener goes to any of them.
///
/// # Errors
/// The kernel does not know the option.
pub fn steer(listener: &TcpListener, cpu: usize) -> Result<(), SetupError> {
    let address = listener.local_addr().map_err(|error| SetupError::ring("getsockname", &error))?;
    SockRef::from(listener)
        .set_cpu_affinity(cpu)
        .map_err(|error| SetupError::listener("setsockopt(SO_INCOMING_CPU)", address, &error))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::ring::affinity;
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
    fn connections_are_accepted_by_the_core_that_receives_them() {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut version = release.split('.').map_while(|part| part.parse::<u32>().ok());
        let is_new = (version.next(), version.next()) >= (Some(6), Some(2));
        let cpus = affinity::allowed().expect("the kernel tells");
        if !is_new || cpus.len() < 2 {
            return eprintln!("SKIPPED, this takes Linux 6.2 and two cores: {release}, {cpus:?}");
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = listen(any, 64).expect("loopback is there");
        let address = first.local_addr().expect("it is bound");
        let listeners = [first, listen(address, 64).expect("SO_REUSEPORT is set on both")];
        for (listener, cpu) in listeners.iter().zip(&cpus) {
            steer(listener, *cpu).expect("the option is known");
            listener.set_nonblocking(true).expect("a socket");
        }
        // A packet on loopback is received where it was sent.
        for (listener, cpu) in listeners.iter().zip(cpus) {
            let clients = std::thread::spawn(move || {
                affinity::pin(cpu).expect("it was allowed");
                [(); 16].map(|()| TcpStream::connect(address).expect("it listens"))
            });
            let clients = clients.join().expect("the thread ends well");
            assert_eq!(std::iter::from_fn(|| listener.accept().ok()).count(), clients.len());
        }
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
