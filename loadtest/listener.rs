//! Who listens at an address. Asked by `measure` of every server and by the generator of the one
//! whose memory it weighs: a port that was free a moment ago may be another's by the time a server
//! is there, SO_REUSEPORT lets two servers of one user share it, each with a part of the
//! connections, and a process that was named may be another than the one that answers.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a socket that listens, as `/proc/PID/net/tcp` has it (proc_net(5)).
const LISTENING: &str = "0A";

/// Why a server is not the one that is meant.
#[derive(Debug)]
pub(crate) enum Problem {
    /// None of its processes listens there.
    Deaf(SocketAddr),
    /// Another does, or does so, too.
    Shared(SocketAddr),
    /// It is another user's: what it has open is not for everybody to see.
    Hidden,
    Kernel(io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Deaf(address) => write!(f, "the process does not listen on {address}"),
            Problem::Shared(address) => {
                write!(f, "another server listens on {address}, too, and has a part of the load")
            }
            Problem::Hidden => {
                write!(
                    f,
                    "the process is another user's, and only that user or root may see where it listens"
                )
            }
            Problem::Kernel(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Problem {}

/// Says if these processes are not the only ones that listen at the address.
pub(crate) fn check(processes: &[u32], address: SocketAddr) -> Result<(), Problem> {
    let owned = sockets_of(processes)?;
    let server = processes.first().copied().unwrap_or_default();
    if address.ip().is_loopback() && !shares_network(server)? {
        return Err(Problem::Deaf(address));
    }
    let mut listening = Vec::new();
    if address.is_ipv4() {
        listening = sockets(&table(server, "tcp")?, address);
    }
    // To an IPv4 address the kernel prefers a socket of IPv4. Where there is one, a wildcard of
    // IPv6 gets nothing, if it takes IPv4 at all (IPV6_V6ONLY, ipv6(7)): the table does not say it.
    if listening.is_empty() {
        listening = sockets(&table(server, "tcp6")?, address);
    }
    match listening.iter().filter(|inode| owned.contains(inode)).count() {
        0 => Err(Problem::Deaf(address)),
        own if own < listening.len() => Err(Problem::Shared(address)),
        _ => Ok(()),
    }
}

/// Whether what this process calls loopback is the same to that one (network_namespaces(7)).
fn shares_network(pid: u32) -> Result<bool, Problem> {
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
    let (own, other) = (network("self"), network(&pid.to_string()));
    Ok(own.map_err(Problem::Kernel)? == other.map_err(Problem::Kernel)?)
}

/// The sockets of the network that a process is in: `tcp`, `tcp6`.
fn table(pid: u32, name: &str) -> Result<String, Problem> {
    match fs::read_to_string(format!("/proc/{pid}/net/{name}")) {
        // Without IPv6.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        table => table.map_err(Problem::Kernel),
    }
}

/// The inodes of all sockets of these processes.
fn sockets_of(processes: &[u32]) -> Result<Vec<String>, Problem> {
    let mut owned = Vec::new();
    for (place, pid) in processes.iter().enumerate() {
        let files = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(Problem::Hidden);
            }
            // A worker may have ended since it was listed.
            Err(_) if place > 0 => continue,
            Err(error) => return Err(Problem::Kernel(error)),
        };
        // A file may be closed between the listing and the reading.
        let names = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        let inode = |name: &str| Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
        owned.extend(names.filter_map(|name| inode(name.to_str()?)));
    }
    Ok(owned)
}

/// The inodes of those that listen at the address, or at any with its port. A socket of IPv6 may
/// listen at an IPv4 address, too: as `::ffff:127.0.0.1`, or at all of both.
fn sockets(table: &str, address: SocketAddr) -> Vec<String> {
    let listens = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [local, state, inode] = [1, 3, 9].map(|place| fields.get(place).copied());
        let local = local.filter(|_| state == Some(LISTENING)).and_then(endpoint)?;
        let is_there = local.port() == address.port()
            && (local.ip().is_unspecified() || local.ip() == address.ip());
        inode.filter(|_| is_there).map(str::to_owned)
    };
    table.lines().filter_map(listens).collect()
}

/// `0100007F:1F90`: an address in words of four bytes, each as this machine has it in memory, and a
/// port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |place: usize| u32::from_str_radix(address.get(place * 8..place * 8 + 8)?, 16).ok();
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].map(u32::to_ne_bytes);
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::process::Command;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_listener_is_its_processes_and_nobody_elses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let (own, stranger) = (std::process::id(), other.id());
        check(&[own], address).unwrap();
        check(&[stranger, own], address).unwrap();
        assert!(matches!(check(&[stranger], address), Err(Problem::Deaf(_))));
        // Who is connected does not listen, and who listens elsewhere does not listen here.
        let client = TcpStream::connect(address).unwrap();
        assert!(matches!(check(&[own], client.local_addr().unwrap()), Err(Problem::Deaf(_))));
        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), address.port()));
        assert!(matches!(check(&[own], elsewhere), Err(Problem::Deaf(_))));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(matches!(check(&[stranger], address), Err(Problem::Kernel(_))));
    }

    #[test]
    fn who_listens_everywhere_listens_here() {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
            eprintln!("SKIPPED, this machine is without IPv6");
            return;
        };
        let port = listener.local_addr().unwrap().port();
        for address in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(address.parse().unwrap(), port);
            check(&[std::process::id()], address).unwrap();
        }
    }

    #[test]
    fn who_listens_everywhere_by_ipv6_alone_does_not_listen_by_ipv4() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(true).unwrap();
        if socket.bind(&everywhere.into()).is_err() {
            eprintln!("SKIPPED, this machine is without IPv6");
            return;
        }
        socket.listen(1).unwrap();
        // It is the standard input of a process that does not read it, and of that one alone.
        let mut sleep = Command::new("sleep");
        let mut other = sleep.arg("60").stdin(OwnedFd::from(socket)).spawn().unwrap();
        drop(sleep);
        let (own, stranger) = (std::process::id(), other.id());
        check(&[own], address).unwrap();
        assert!(matches!(check(&[stranger], address), Err(Problem::Deaf(_))));
        let by_ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
        check(&[stranger], by_ipv6).unwrap();
        assert!(matches!(check(&[own], by_ipv6), Err(Problem::Deaf(_))));
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn who_listens_everywhere_by_ipv4_does_not_listen_by_ipv6() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        check(&[std::process::id()], SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
        let by_ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert!(matches!(check(&[std::process::id()], by_ipv6), Err(Problem::Deaf(_))));
    }

    #[test]
    fn an_address_and_its_port_are_found_in_the_table() {
        const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 71 1 0 100 0 0 10 0\n   \
             1: 0100007F:0050 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 72 1 0 100 0 0 10 0\n   \
             2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 73 1 0 100 0 0 10 0\n   \
             3: 0200007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 74 1 0 100 0 0 10 0\n   \
             4: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 75 1 0 100 0 0 10 0\n";
        let sockets = |address: &str| sockets(TABLE, address.parse().unwrap());
        assert_eq!(sockets("127.0.0.1:80"), ["71", "73", "75"]);
        assert_eq!(sockets("127.0.0.2:80"), ["73", "74", "75"]);
        assert!(sockets("127.0.0.1:8080").is_empty());
        assert_eq!(
            endpoint("0000000000000000FFFF00000100007F:1F90"),
            Some("127.0.0.1:8080".parse().unwrap())
        );
    }
}
