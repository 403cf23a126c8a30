//! Listening sockets. Over TCP every core has one of its own on each address, and the kernel spreads
//! connections over them; what a Unix socket takes is in `shared.rs`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::error::SetupError;
use super::shared::{PROBE_PAUSE, PROBES};
use crate::config::{ListenAddress, Listener};

/// Listens on `address`: [`bind`], and connections are taken from here on.
///
/// # Errors
/// As of [`bind`].
pub fn listen(address: SocketAddr, listener: &Listener) -> Result<OwnedFd, SetupError> {
    let socket = bind(address, listener)?;
    take_connections(&socket, &address.into(), listener.backlog)?;
    Ok(socket)
}

/// A socket for `address`, beside every other core that has one, with the options of `listener`, whose own
/// address is not looked at: a port the kernel has chosen for the first core is that of all. It takes no
/// connection before [`take_connections`].
///
/// Accepted sockets inherit `TCP_NODELAY`, keep-alive and the options that are about what is sent. The
/// listener stays blocking: io_uring waits by itself, and on a non-blocking socket it would report EAGAIN
/// instead.
///
/// # Errors
/// The address is taken, not of this host, or needs a privilege; or the kernel refuses an option.
pub fn bind(address: SocketAddr, listener: &Listener) -> Result<OwnedFd, SetupError> {
    let at = ListenAddress::Tcp(address);
    let failed = |call| {
        let at = at.clone();
        move |error: io::Error| SetupError::listener(call, at, &error)
    };
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
        socket.set_only_v6(listener.only_v6).map_err(failed("setsockopt(IPV6_V6ONLY)"))?;
    }
    // What is not asked for is the kernel's own already.
    set_options(&SockRef::from(&socket), listener, |asked| asked > 0, failed)?;
    socket.bind(&address.into()).map_err(failed("bind"))?;
    Ok(socket.into())
}

/// Has the kernel take connections on a socket that is bound, so many of which may wait; one that does so
/// already gets this bound.
///
/// # Errors
/// Another socket took the address meanwhile.
pub fn take_connections(
    socket: &OwnedFd,
    address: &ListenAddress,
    backlog: i32,
) -> Result<(), SetupError> {
    rustix::net::listen(socket, backlog)
        .map_err(|error| SetupError::listener("listen", address.clone(), &error.into()))
}

/// Gives a TCP socket that another process made the options of `listener`, as far as they can still be
/// changed: connections that are accepted from here on have them.
///
/// # Errors
/// The kernel refuses an option.
pub fn adapt(socket: &OwnedFd, listener: &Listener) -> Result<(), SetupError> {
    let failed = |call| {
        let at = listener.address.clone();
        move |error: io::Error| SetupError::listener(call, at, &error)
    };
    let socket = SockRef::from(socket);
    set_options(&socket, listener, |_| true, failed)?;
    if socket.only_v6().is_ok_and(|only_v6| only_v6 != listener.only_v6) {
        let address = &listener.address;
        tracing::warn!(
            "{address}: only_v6 stays what it was: a socket keeps it; it takes a restart"
        );
    }
    Ok(())
}

/// Sets those options whose value is to be set: 0 is the kernel's own.
fn set_options<F>(
    socket: &SockRef<'_>,
    listener: &Listener,
    is_to_be_set: impl Fn(u32) -> bool,
    failed: impl Fn(&'static str) -> F,
) -> Result<(), SetupError>
where
    F: FnOnce(io::Error) -> SetupError,
{
    let Listener { defer_accept_s, notsent_lowat_bytes, user_timeout_ms, .. } = *listener;
    if is_to_be_set(defer_accept_s) {
        set_defer_accept(socket, defer_accept_s).map_err(failed("setsockopt(TCP_DEFER_ACCEPT)"))?;
    }
    if is_to_be_set(notsent_lowat_bytes) {
        socket
            .set_tcp_notsent_lowat(notsent_lowat_bytes)
            .map_err(failed("setsockopt(TCP_NOTSENT_LOWAT)"))?;
    }
    if is_to_be_set(user_timeout_ms) {
        let timeout = Duration::from_millis(user_timeout_ms.into());
        socket
            .set_tcp_user_timeout(Some(timeout))
            .map_err(failed("setsockopt(TCP_USER_TIMEOUT)"))?;
    }
    Ok(())
}

/// tcp(7); none of the crates has it.
fn set_defer_accept(socket: &SockRef<'_>, seconds: u32) -> io::Result<()> {
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    let bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads as many bytes as an i32 has, and `seconds` is one that outlives the call.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const seconds).cast(), bytes)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where a TCP listener listens: its port, too, if the kernel chose it.
///
/// # Errors
/// It is no TCP listener.
pub fn local_address(listener: impl AsFd) -> Result<SocketAddr, SetupError> {
    let address = rustix::net::getsockname(listener).and_then(SocketAddr::try_from);
    address.map_err(|error| SetupError::ring("getsockname", &error.into()))
}

/// Another descriptor of what listens on `address`.
///
/// # Errors
/// Descriptors have run out.
pub fn duplicate(listener: &OwnedFd, address: &ListenAddress) -> Result<OwnedFd, SetupError> {
    listener
        .try_clone()
        .map_err(|error| SetupError::listener("fcntl(F_DUPFD_CLOEXEC)", address.clone(), &error))
}

/// Finds out whether anybody listens on `address`, or on its port at any address: [`bind`] would share it
/// with whoever of the same user does, and each would get some of the connections. Connections that are
/// left of a server which listens no more are no hindrance, and nothing is listened on here. IPv4 is
/// somebody else's business with `only_v6`.
///
/// # Errors
/// The address is taken, not of this host, or needs a privilege.
pub fn check_free(address: SocketAddr, only_v6: bool) -> Result<(), SetupError> {
    for _ in 1..PROBES {
        match try_bind(address, only_v6) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(PROBE_PAUSE),
            _ => break,
        }
    }
    check_free_now(address, only_v6)
}

/// The same as it is at this moment: [`check_free`] gives a process that has just ended a while.
///
/// # Errors
/// As of [`check_free`].
pub fn check_free_now(address: SocketAddr, only_v6: bool) -> Result<(), SetupError> {
    try_bind(address, only_v6).map_err(|error| SetupError::listener("bind", address.into(), &error))
}

/// Binds a socket that shares its port with no other that is listened on (socket(7), SO_REUSEADDR).
fn try_bind(address: SocketAddr, only_v6: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&address.into())
}

/// Has a listener accept the connections whose packets arrive on `cpu`, where each core has one on the
/// same address (Linux 6.2). What arrives on a core without a listener goes to any of them.
///
/// # Errors
/// The kernel does not know the option.
pub fn steer(listener: &OwnedFd, cpu: usize) -> Result<(), SetupError> {
    let address = local_address(listener)?;
    SockRef::from(listener).set_cpu_affinity(cpu).map_err(|error| {
        SetupError::listener("setsockopt(SO_INCOMING_CPU)", address.into(), &error)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use super::*;
    use crate::ring::affinity;
    use crate::ring::error::Cause;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// A listener of these options on loopback, and its address.
    fn listening(listener: &Listener, at: SocketAddr) -> (TcpListener, SocketAddr) {
        let socket = listen(at, listener).expect("loopback is there");
        let address = local_address(&socket).expect("it is bound");
        (socket.into(), address)
    }

    #[test]
    fn two_cores_listen_on_one_address_and_what_they_accept_sends_without_delay() {
        let (first, address) = listening(&ANY_PORT.into(), ANY_PORT);
        let second = listen(address, &ANY_PORT.into()).expect("SO_REUSEPORT is set on both");
        drop(second);
        let _client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = first.accept().expect("a client is there");
        let error = check_free(address, false).expect_err("it is shared");
        assert_eq!(error.cause(), Cause::AddressInUse);
        assert!(accepted.nodelay().expect("a TCP socket"));
        assert!(socket2::SockRef::from(&accepted).keepalive().expect("a TCP socket"));
    }

    #[test]
    fn what_is_accepted_has_the_options_that_were_asked_for() {
        let options =
            Listener { notsent_lowat_bytes: 16_384, user_timeout_ms: 7000, ..ANY_PORT.into() };
        for (options, lowat, timeout) in
            [(options, 16_384, Some(Duration::from_millis(7000))), (ANY_PORT.into(), 0, None)]
        {
            let (listener, address) = listening(&options, ANY_PORT);
            let _client = TcpStream::connect(address).expect("it listens");
            let (accepted, _) = listener.accept().expect("a client is there");
            let accepted = SockRef::from(&accepted);
            assert_eq!(accepted.tcp_notsent_lowat().expect("a TCP socket"), lowat);
            assert_eq!(accepted.tcp_user_timeout().expect("a TCP socket"), timeout);
        }
    }

    #[test]
    fn a_socket_of_another_process_gets_the_options_that_are_asked_for_now() {
        let options =
            Listener { notsent_lowat_bytes: 16_384, user_timeout_ms: 7000, ..ANY_PORT.into() };
        let accepted = |listener: &TcpListener, address| {
            let client = TcpStream::connect(address).expect("it listens");
            let (accepted, _) = listener.accept().expect("a client is there");
            drop(client);
            let accepted = SockRef::from(&accepted);
            (accepted.tcp_notsent_lowat().unwrap(), accepted.tcp_user_timeout().unwrap())
        };
        for (before, after) in [(ANY_PORT.into(), options.clone()), (options, ANY_PORT.into())] {
            let (listener, address) = listening(&before, ANY_PORT);
            let socket = OwnedFd::from(listener);
            adapt(&socket, &after).expect("it can be changed");
            let timeout = Duration::from_millis(after.user_timeout_ms.into());
            let timeout = (!timeout.is_zero()).then_some(timeout);
            let got = accepted(&socket.into(), address);
            assert_eq!(got, (after.notsent_lowat_bytes, timeout));
        }
    }

    #[test]
    fn what_is_bound_takes_connections_when_it_is_told_to() {
        let socket = bind(ANY_PORT, &ANY_PORT.into()).expect("loopback is there");
        let address = local_address(&socket).expect("it is bound");
        assert!(TcpStream::connect(address).is_err(), "not yet");
        check_free(address, false).expect("nobody listens there");
        take_connections(&socket, &address.into(), 1).expect("it is bound");
        TcpStream::connect(address).expect("it listens");
    }

    /// A restart: the server before has let go of its address, and still serves whom it let in.
    #[test]
    fn connections_that_are_left_of_a_server_before_do_not_take_its_address() {
        let (listener, address) = listening(&ANY_PORT.into(), ANY_PORT);
        let client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client is there");
        drop(listener);
        check_free(address, false).expect("one is open, and nobody listens");
        // Whoever closes first is left in TIME-WAIT.
        drop(accepted);
        drop(client);
        check_free(address, false).expect("one is waiting for its end");
    }

    #[test]
    fn a_deferred_connection_is_accepted_when_its_client_has_spoken() {
        let options = Listener { defer_accept_s: 30, ..ANY_PORT.into() };
        let (listener, address) = listening(&options, ANY_PORT);
        listener.set_nonblocking(true).expect("a socket");
        let mut client = TcpStream::connect(address).expect("it listens");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(listener.accept().expect_err("not yet").kind(), io::ErrorKind::WouldBlock);
        io::Write::write_all(&mut client, b"GET").expect("it is connected");
        let is_accepted = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(2));
            listener.accept().is_ok()
        });
        assert!(is_accepted);
    }

    #[test]
    fn any_address_of_ipv6_serves_ipv4_unless_it_is_not_to() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        if listen(any, &any.into()).is_err() {
            return eprintln!("SKIPPED: there is no IPv6 here");
        }
        let (_ipv4, taken) = listening(&ANY_PORT.into(), ANY_PORT);
        let beside = SocketAddr::from((Ipv6Addr::UNSPECIFIED, taken.port()));
        assert!(check_free(beside, true).is_ok() && check_free(beside, false).is_err());
        for only_v6 in [false, true] {
            let (_listener, address) = listening(&Listener { only_v6, ..any.into() }, any);
            let ipv4 = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port()));
            assert_eq!(ipv4.is_ok(), !only_v6);
            TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).expect("it is IPv6");
        }
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
        let first = listen(ANY_PORT, &ANY_PORT.into()).expect("loopback is there");
        let address = local_address(&first).expect("it is bound");
        let second = listen(address, &ANY_PORT.into()).expect("SO_REUSEPORT is set on both");
        let mut listeners = Vec::new();
        for (listener, cpu) in [first, second].into_iter().zip(&cpus) {
            steer(&listener, *cpu).expect("the option is known");
            let listener = TcpListener::from(listener);
            listener.set_nonblocking(true).expect("a socket");
            listeners.push(listener);
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
        let listen = |address: SocketAddr| listen(address, &address.into());
        assert_eq!(listen(address).expect_err("it is taken").cause(), Cause::AddressInUse);
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
        assert_eq!(listen(elsewhere).expect_err("it is not ours").cause(), Cause::AddressNotHere);
    }
}
