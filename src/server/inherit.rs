//! Listening sockets that were there before the server: a service manager made them, or the process that
//! it replaces.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::SocketAddrAny;
use rustix::net::sockopt::socket_acceptconn;

use super::claims::{Claimed, inode_of};
use crate::config::{ListenAddress, Listener};
use crate::ring::{FileIdentity, SharedListener};

/// Sockets that are listened on already. Those of addresses that a server is configured to listen on are
/// its own; the others are closed with this value.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(ListenAddress, Given)>,
    /// All that were given at first, over TCP, whoever has them by now.
    claimed: Claimed,
    /// What the process before has made at paths of Unix sockets.
    made: Vec<FileIdentity>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) socket: OwnedFd,
    /// A service manager made it: its options are those of its unit, and the path of a Unix socket is not
    /// ours to remove.
    pub(super) is_managed: bool,
}

impl Inherited {
    /// These sockets, of another process like this one. Whose the paths of Unix sockets are is not known: they
    /// stay as they are, and where they are.
    ///
    /// # Errors
    /// One of them is no socket that is listened on, or of another family than IP and Unix.
    pub fn of(sockets: impl IntoIterator<Item = OwnedFd>) -> io::Result<Inherited> {
        Inherited::given(sockets.into_iter().map(|socket| Given { socket, is_managed: false }))
    }

    /// These sockets, of a service manager: they stay as they are, and its paths stay where they are.
    ///
    /// # Errors
    /// As of [`Inherited::of`].
    pub fn of_manager(sockets: impl IntoIterator<Item = OwnedFd>) -> io::Result<Inherited> {
        Inherited::given(sockets.into_iter().map(|socket| Given { socket, is_managed: true }))
    }

    pub(super) fn given(sockets: impl IntoIterator<Item = Given>) -> io::Result<Inherited> {
        let named = sockets.into_iter().map(|given| Ok((address_of(&given.socket)?, given)));
        let sockets: Vec<(ListenAddress, Given)> = named.collect::<io::Result<_>>()?;
        let tcp = sockets.iter().filter_map(|(at, given)| match at {
            ListenAddress::Tcp(at) => Some((at.port(), &given.socket)),
            ListenAddress::Unix(_) => None,
        });
        let claimed = tcp.map(|(port, socket)| Ok((port, inode_of(socket)?)));
        let claimed = Claimed::of(claimed.collect::<io::Result<_>>()?);
        Ok(Inherited { sockets, claimed, made: Vec::new() })
    }

    /// The same of a process that has made this at their paths.
    pub(super) fn made(self, made: Vec<FileIdentity>) -> Inherited {
        Inherited { made, ..self }
    }

    /// The socket that listens on a path, which was given.
    pub(super) fn adopt(&self, path: &Path, given: Given) -> SharedListener {
        SharedListener::adopt(path, given.socket, given.is_managed, &self.made)
    }

    /// Where they listen: an address for each socket.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.sockets.iter().map(|(address, _)| address)
    }

    /// What the process that gave them listens on over TCP, even where this one does not want it.
    pub(super) fn claimed(&self) -> Claimed {
        self.claimed.clone()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Those of one address.
    pub(super) fn take(&mut self, address: &ListenAddress) -> Vec<Given> {
        let (taken, left) =
            std::mem::take(&mut self.sockets).into_iter().partition(|(at, _)| at == address);
        self.sockets = left;
        let taken: Vec<(ListenAddress, Given)> = taken;
        taken.into_iter().map(|(_, given)| given).collect()
    }

    /// Lets go of those of other addresses than these. What is left to do about them is in the value.
    pub fn abandon_all_but(&mut self, wanted: &[Listener]) -> Abandoned {
        let is_wanted = |at: &ListenAddress| wanted.iter().any(|listener| listener.address == *at);
        let (kept, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sockets).into_iter().partition(|(at, _)| is_wanted(at));
        self.sockets = kept;
        let shared = left.into_iter().filter_map(|(at, given)| match at {
            ListenAddress::Unix(path) => Some(self.adopt(&path, given)),
            ListenAddress::Tcp(_) => None,
        });
        Abandoned(shared.collect())
    }

    /// The same, still with their address: for another server of this process.
    pub fn split(&mut self, address: &ListenAddress) -> Inherited {
        let sockets = self.take(address).into_iter().map(|given| (address.clone(), given));
        let (sockets, made) = (sockets.collect(), self.made.clone());
        Inherited { sockets, claimed: self.claimed(), made }
    }
}

/// Unix sockets of the process before on which nobody listens once it has ended: their paths go with them,
/// but not before its successor is the one who serves.
#[derive(Debug, Default)]
pub struct Abandoned(Vec<SharedListener>);

impl Abandoned {
    /// Removes their paths, unless they are another's by now.
    pub fn remove(self) {
        // Each goes with its path.
        self.0.iter().for_each(SharedListener::claim);
    }
}

fn address_of(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text);
    if !socket_acceptconn(socket)? {
        return Err(wrong("a socket that was inherited is not listened on"));
    }
    let address: SocketAddrAny = rustix::net::getsockname(socket)?;
    if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
        return Ok(ListenAddress::Tcp(address));
    }
    let unix = rustix::net::SocketAddrUnix::try_from(address)?;
    let path = unix.path_bytes().filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| wrong("a Unix socket that was inherited has no path"))?;
    let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path);
    Ok(ListenAddress::Unix(path.into()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_are_found_by_where_they_listen_and_taken_once() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = ListenAddress::Tcp(tcp.local_addr().expect("it is bound"));
        let again = tcp.try_clone().expect("a descriptor");
        let path = std::env::temp_dir().join(format!("upring-inherit-{}", std::process::id()));
        let unix = UnixListener::bind(&path).expect("it is ours");
        std::fs::remove_file(&path).expect("it is there");
        let sockets = [OwnedFd::from(tcp), again.into(), unix.into()];
        let mut inherited = Inherited::of(sockets).expect("all are listened on");
        assert_eq!(inherited.addresses().filter(|at| **at == address).count(), 2);
        assert!(inherited.take(&"127.0.0.1:1".parse().expect("an address")).is_empty());
        assert_eq!(inherited.take(&address).len(), 2);
        assert!(inherited.take(&address).is_empty() && !inherited.is_empty());
        let unix = inherited.split(&ListenAddress::Unix(path));
        assert!(inherited.is_empty() && unix.addresses().count() == 1);
    }

    #[test]
    fn what_is_no_listening_socket_is_refused() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        assert!(Inherited::of([OwnedFd::from(udp)]).is_err());
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert!(Inherited::of([OwnedFd::from(file)]).is_err());
    }
}
