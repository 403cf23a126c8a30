//! Whose the TCP addresses are that a server is to listen on. With SO_REUSEPORT the kernel lets all processes
//! of one user listen beside each other, unnoticed, and each gets some of the clients: so it is asked
//! before anything is bound, and again right before clients are taken.
//!
//! On a port on which nothing was given, whoever listens at all is another. On the others whoever has a socket
//! that was not given is: the process before may listen there at another address.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::ring::{Cause, SetupError, check_free, check_free_now};

/// Starts take turns at coming to listen, by this abstract name (unix(7)): it is of the network namespace, as
/// the ports are.
const TURN: &[u8] = b"upring/listen";

/// Another's turn takes some system calls. Who holds the name for longer is no start: it is gone on without it.
const TURN_ASKS: u32 = 400;
const TURN_PAUSE: Duration = Duration::from_millis(5);

/// Whether this process has waited for its turn in vain: then it is asked once for those of its other servers.
static IS_IN_VAIN: AtomicBool = AtomicBool::new(false);

/// The state of a socket that is listened on (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// The TCP sockets that were given: port and inode of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Claimed(Arc<Vec<(u16, u64)>>);

impl Claimed {
    pub(super) fn of(given: Vec<(u16, u64)>) -> Claimed {
        Claimed(Arc::new(given))
    }

    /// Whether nobody else listens at an address, or on its port at any address that goes with it. IPv4 is
    /// somebody else's business with `only_v6`.
    pub(super) fn check(
        &self,
        address: SocketAddr,
        only_v6: bool,
        listened: &Listened,
    ) -> Result<(), SetupError> {
        match self.has_port(address.port()) {
            true => self.check_others(address, only_v6, listened),
            false => check_free(address, only_v6),
        }
    }

    fn has_port(&self, port: u16) -> bool {
        self.0.iter().any(|(at, _)| *at == port)
    }

    /// The same for whoever has bound sockets there by now, and listens on none of them. Nobody is waited for.
    pub(super) fn recheck(
        &self,
        address: SocketAddr,
        only_v6: bool,
        listened: &Listened,
    ) -> Result<(), SetupError> {
        if self.has_port(address.port()) {
            return self.check_others(address, only_v6, listened);
        }
        match check_free_now(address, only_v6) {
            // Who has become a user that has no right to it can still ask who listens.
            Err(error) if error.cause() == Cause::Privileged => {
                self.check_others(address, only_v6, listened)
            }
            asked => asked,
        }
    }

    fn check_others(
        &self,
        address: SocketAddr,
        only_v6: bool,
        listened: &Listened,
    ) -> Result<(), SetupError> {
        let mut others = listened.all().iter().filter(|(at, inode)| {
            at.port() == address.port() && !self.0.iter().any(|(_, given)| given == inode)
        });
        match others.any(|(at, _)| is_in_the_way(address, only_v6, *at)) {
            true => Err(SetupError::listener("bind", address.into(), &Errno::ADDRINUSE.into())),
            false => Ok(()),
        }
    }
}

/// Whatever is listened on at the moment at which it is first asked for, and not read again: where many
/// connections are it is long.
#[derive(Debug, Default)]
pub(super) struct Listened(OnceCell<Vec<(SocketAddr, u64)>>);

impl Listened {
    fn all(&self) -> &[(SocketAddr, u64)] {
        self.0.get_or_init(|| listeners().collect())
    }
}

/// Whether a listener of another takes clients of this address. One at `[::]` may be for IPv6 alone, which is
/// not seen here: it is in the way of its own family.
fn is_in_the_way(address: SocketAddr, only_v6: bool, other: SocketAddr) -> bool {
    let (own, other) = (address.ip().to_canonical(), other.ip().to_canonical());
    match (own, other) {
        (IpAddr::V6(own), IpAddr::V4(_)) => own.is_unspecified() && !only_v6,
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
        _ => own == other || own.is_unspecified() || other.is_unspecified(),
    }
}

/// Whatever is listened on in this network namespace, with its inode (proc_pid_net(5)). Nothing where that
/// cannot be read.
fn listeners() -> impl Iterator<Item = (SocketAddr, u64)> {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let text = read("/proc/self/net/tcp") + &read("/proc/self/net/tcp6");
    text.lines().filter_map(listener).collect::<Vec<_>>().into_iter()
}

/// One line of such a file, if it is of a listener.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let mut columns = line.split_whitespace();
    let (ip, port) = columns.nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if columns.nth(1)? != LISTEN {
        return None;
    }
    let inode = columns.nth(5)?.parse().ok()?;
    // Words of 32 bits in network order, each printed as a number of this machine.
    let words = ip.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let ip = match (<[u8; 4]>::try_from(&*bytes), <[u8; 16]>::try_from(&*bytes)) {
        (Ok(ip), _) => IpAddr::V4(Ipv4Addr::from(ip)),
        (_, Ok(ip)) => IpAddr::V6(Ipv6Addr::from(ip)),
        _ => return None,
    };
    Some((SocketAddr::new(ip, port), inode))
}

/// The turn of this process at coming to listen, until it is dropped.
pub(super) struct Turn {
    _held: Option<OwnedFd>,
}

impl Turn {
    /// Waits for it, but not for ever: the name is anybody's to take.
    pub(super) fn wait() -> Turn {
        let asks = if IS_IN_VAIN.load(Ordering::Relaxed) { 1 } else { TURN_ASKS };
        for ask in 1..=asks {
            match take_turn() {
                Err(Errno::ADDRINUSE) if ask < asks => thread::sleep(TURN_PAUSE),
                Err(Errno::ADDRINUSE) => {}
                turn => return Turn { _held: turn.ok() },
            }
        }
        if !IS_IN_VAIN.swap(true, Ordering::Relaxed) {
            let name = String::from_utf8_lossy(TURN);
            let waited = TURN_PAUSE * TURN_ASKS;
            tracing::warn!(
                "waited {waited:?} in vain for the abstract socket @{name}, by which starts take turns: a \
                 process that is no start holds it, `ss -lxp` names it; of two servers that start at the same \
                 moment at one address, both may come to listen there"
            );
        }
        Turn { _held: None }
    }
}

fn take_turn() -> rustix::io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(TURN)?)?;
    Ok(socket)
}

/// The inode of a socket, by which /proc names it.
pub(super) fn inode_of(socket: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listening(address: &str) -> (OwnedFd, SocketAddr) {
        let listener = TcpListener::bind(address).expect("loopback is there");
        let at = listener.local_addr().expect("it is bound");
        (listener.into(), at)
    }

    #[test]
    fn what_is_listened_on_is_found_by_address_and_inode() {
        for address in ["127.0.0.1:0", "127.0.0.3:0", "[::1]:0"] {
            if address.starts_with('[') && TcpListener::bind(address).is_err() {
                return eprintln!("SKIPPED: there is no IPv6 here");
            }
            let (socket, at) = listening(address);
            let wanted = (at, inode_of(&socket).expect("it is open"));
            assert!(listeners().any(|found| found == wanted), "{address}");
        }
    }

    #[test]
    fn on_a_port_that_was_given_only_another_s_socket_is_in_the_way() {
        let (given, at) = listening("127.0.0.1:0");
        let claimed = Claimed::of(vec![(at.port(), inode_of(&given).expect("it is open"))]);
        let beside = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), at.port()));
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port()));
        for address in [any, beside] {
            let listened = Listened::default();
            claimed
                .check(address, false, &listened)
                .expect("the process before listens there alone");
        }
        let _other = listening(&beside.to_string());
        for address in [any, beside] {
            let listened = Listened::default();
            let error = claimed.check(address, false, &listened);
            let error = error.expect_err("another listens there");
            assert!(error.to_string().contains("another process listens there"), "{error}");
        }
        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 4), at.port()));
        let listened = Listened::default();
        claimed.check(elsewhere, false, &listened).expect("that one is at another address");
        let error = Claimed::default().check_others(any, false, &listened);
        error.expect_err("nothing was given");
        drop(given);
        let error = Claimed::default().check_others(at, false, &listened);
        error.expect_err("it is not read again");
    }

    #[test]
    fn an_address_is_in_the_way_of_those_whose_clients_it_would_get() {
        for (own, only_v6, other, is_so) in [
            ("127.0.0.1:1", false, "127.0.0.1:1", true),
            ("127.0.0.1:1", false, "127.0.0.2:1", false),
            ("127.0.0.1:1", false, "0.0.0.0:1", true),
            ("[::]:1", false, "127.0.0.1:1", true),
            ("[::]:1", true, "127.0.0.1:1", false),
            ("[::1]:1", false, "0.0.0.0:1", false),
            ("[::1]:1", false, "[::]:1", true),
            ("127.0.0.1:1", false, "[::ffff:127.0.0.1]:1", true),
        ] {
            let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
            assert_eq!(is_in_the_way(at(own), only_v6, at(other)), is_so, "{own} and {other}");
        }
    }

    #[test]
    fn a_turn_is_one_s_alone_until_it_is_over() {
        let turn = Turn::wait();
        assert_eq!(take_turn().expect_err("it is taken"), Errno::ADDRINUSE);
        drop(turn);
        // Another test's server may start meanwhile.
        assert!(Turn::wait()._held.is_some());
    }
}
