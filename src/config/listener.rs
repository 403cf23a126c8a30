//! A listening socket as an operator asks for it: where, and with which options of the kernel. Plain
//! data; `ring::listen` makes a socket of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;

use super::TlsSettings;

/// Bytes of the path of a Unix socket: `sun_path` is 108 with the zero behind it (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Where to listen. As text: `127.0.0.1:80`, `[::]:80` or `unix:/run/upring.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An address and port; every worker has a `SO_REUSEPORT` listener of its own on it. Port 0 is one
    /// that the kernel chooses.
    Tcp(SocketAddr),
    /// The path of a Unix socket, which all workers share.
    Unix(PathBuf),
}

/// Why a text says no [`ListenAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenAddressError {
    /// It is of neither form.
    #[error("{0:?} is neither an address with a port (127.0.0.1:80, [::]:80) nor unix:PATH")]
    Unknown(String),
    /// The path is empty, or has a zero byte.
    #[error("{0:?} names no path behind unix:")]
    PathFaulty(String),
    /// The kernel has no room for the path.
    #[error("{0:?} is too long: the path of a Unix socket has at most {UNIX_PATH_BYTES_MAX} bytes")]
    PathTooLong(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<ListenAddress, ListenAddressError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.is_empty() || path.contains('\0') => {
                Err(ListenAddressError::PathFaulty(text.to_owned()))
            }
            Some(path) if path.len() > UNIX_PATH_BYTES_MAX => {
                Err(ListenAddressError::PathTooLong(path.into()))
            }
            Some(path) => Ok(ListenAddress::Unix(path.into())),
            None => match text.parse() {
                Ok(address) => Ok(ListenAddress::Tcp(address)),
                Err(_) => Err(ListenAddressError::Unknown(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> ListenAddress {
        ListenAddress::Tcp(address)
    }
}

impl From<&Path> for ListenAddress {
    fn from(path: &Path) -> ListenAddress {
        ListenAddress::Unix(path.into())
    }
}

/// Whether a connection begins with a header that says whose it is: the PROXY protocol, as load
/// balancers speak it (HAProxy's doc/proxy-protocol.txt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProxyProtocol {
    /// There is none.
    #[default]
    Off,
    /// A line of text must come first.
    V1,
    /// A binary header must come first.
    V2,
    /// One of the two must come first. That none comes is not guessed at (§2).
    Any,
}

/// Where to listen, and how. Every option but the address has a default, so that
/// `Listener::from(address)` is enough for most.
///
/// ```
/// use upring::config::{ListenAddress, Listener, ProxyProtocol};
///
/// let address: ListenAddress = "[::]:8080".parse()?;
/// let behind_a_balancer = Listener {
///     proxy_protocol: ProxyProtocol::Any,
///     proxy_from: vec!["10.0.0.0/8".parse()?],
///     ..Listener::from(address)
/// };
/// assert_eq!(behind_a_balancer.fault(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    /// Connections that may wait to be accepted, of each worker; the kernel caps it at
    /// `net.core.somaxconn` (listen(2)). Default 4096, its default since Linux 5.4: a burst waits, and
    /// is not refused.
    pub backlog: i32,
    /// TCP: seconds for which a connection is not accepted until its client has sent something
    /// (`TCP_DEFER_ACCEPT`, tcp(7)); 0 for at once. Default 0: clients that connect beforehand would
    /// not be seen, nor be counted by any limit.
    pub defer_accept_s: u32,
    /// TCP: bytes the kernel takes to be sent before it says that there is no room
    /// (`TCP_NOTSENT_LOWAT`); 0 for as many as its send buffer holds. Default 0: with less, more of what
    /// waits for slow readers is in our own memory, where it is bounded by `outbox_bytes_max`.
    pub notsent_lowat_bytes: u32,
    /// TCP: milliseconds that what was sent may stay unacknowledged before the kernel gives a connection
    /// up (`TCP_USER_TIMEOUT`, tcp(7)); 0 for the kernel's own, some 15 minutes. Default 0:
    /// `send_timeout_ms` ends those that we are waiting for.
    pub user_timeout_ms: u32,
    /// IPv6: does not serve IPv4 as well (`IPV6_V6ONLY`, ipv6(7)). Default false, whatever
    /// `net.ipv6.bindv6only` says: `[::]:80` serves both.
    pub only_v6: bool,
    /// Unix: who may connect, as the permissions of a file (unix(7): connecting takes write
    /// permission). Default 0o660: owner and group.
    pub mode: u32,
    /// Whether each connection must begin with a PROXY protocol header. Default off.
    pub proxy_protocol: ProxyProtocol,
    /// TCP: from where such headers are taken; a connection from elsewhere is closed at once. Whoever may
    /// send them can claim any address, so that nobody may by default. Of a Unix socket, `mode` says who.
    pub proxy_from: Vec<IpNet>,
    /// Connections are inside TLS. Default none: they are in the clear.
    pub tls: Option<TlsSettings>,
}

/// Why a [`Listener`] makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenerFault {
    /// Its headers are taken from nowhere: no connection could ever be served.
    #[error(
        "PROXY protocol headers are to come first, and proxy_from does not say from where: name the \
         networks of the load balancers, or 0.0.0.0/0 and ::/0 if nobody else can reach it"
    )]
    ProxyFromNowhere,
    /// The mode has other bits than permissions.
    #[error("mode is not one of a file's permissions, 0 to 0o777")]
    ModeFaulty,
    /// The backlog is none.
    #[error("backlog is to be 1 or more")]
    BacklogFaulty,
    /// An option is more than the kernel takes.
    #[error("{0} is more than the kernel takes, 2147483647")]
    TooLarge(&'static str),
}

impl Listener {
    /// Whether a connection from this address may begin with a header.
    pub fn takes_headers_from(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxy_from.iter().any(|network| network.contains(&peer))
    }

    /// Whether each connection must begin with a header.
    pub fn is_proxied(&self) -> bool {
        self.proxy_protocol != ProxyProtocol::Off
    }

    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.address, ListenAddress::Unix(_))
    }

    /// What is wrong with it, if something is.
    pub fn fault(&self) -> Option<ListenerFault> {
        let kernel_max = i32::MAX.unsigned_abs();
        let numbers = [
            ("defer_accept_s", self.defer_accept_s),
            ("notsent_lowat_bytes", self.notsent_lowat_bytes),
            ("user_timeout_ms", self.user_timeout_ms),
        ];
        if self.is_proxied() && !self.is_unix() && self.proxy_from.is_empty() {
            return Some(ListenerFault::ProxyFromNowhere);
        }
        if self.mode > 0o777 {
            return Some(ListenerFault::ModeFaulty);
        }
        if self.backlog < 1 {
            return Some(ListenerFault::BacklogFaulty);
        }
        let large = numbers.into_iter().find(|(_, number)| *number > kernel_max);
        large.map(|(name, _)| ListenerFault::TooLarge(name))
    }
}

impl From<ListenAddress> for Listener {
    fn from(address: ListenAddress) -> Listener {
        Listener {
            address,
            backlog: 4096,
            defer_accept_s: 0,
            notsent_lowat_bytes: 0,
            user_timeout_ms: 0,
            only_v6: false,
            mode: 0o660,
            proxy_protocol: ProxyProtocol::Off,
            proxy_from: Vec::new(),
            tls: None,
        }
    }
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Listener {
        Listener::from(ListenAddress::Tcp(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["127.0.0.1:80", "[::]:80", "[2001:db8::1]:8080", "unix:/run/upring.sock"] {
            assert_eq!(text.parse::<ListenAddress>().expect(text).to_string(), text);
        }
        let longest = format!("unix:/{}", "a".repeat(UNIX_PATH_BYTES_MAX - 1));
        assert!(longest.parse::<ListenAddress>().is_ok());
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be_one() {
        let parse = |text: &str| text.parse::<ListenAddress>().expect_err(text).to_string();
        for text in ["", "80", "localhost:80", "127.0.0.1", "::1:80", "/run/upring.sock"] {
            assert!(parse(text).contains("[::]:80"), "{text}");
        }
        assert!(parse("unix:").contains("no path"));
        assert!(parse("unix:/a\0b").contains("no path"));
        assert!(parse(&format!("unix:/{}", "a".repeat(UNIX_PATH_BYTES_MAX))).contains("107"));
    }

    #[test]
    fn headers_are_taken_from_the_networks_that_are_named_alone() {
        let tcp = Listener::from(SocketAddr::from(([0, 0, 0, 0], 80)));
        let nowhere = Listener { proxy_protocol: ProxyProtocol::Any, ..tcp };
        assert_eq!(nowhere.fault(), Some(ListenerFault::ProxyFromNowhere));
        let networks = ["192.0.2.0/24", "2001:db8::/32"];
        let proxy_from = networks.map(|network| network.parse().expect("a network")).into();
        let listener = Listener { proxy_from, ..nowhere };
        assert_eq!(listener.fault(), None);
        for (peer, is_taken) in [
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.3.7", false),
            ("2001:db8:7::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(listener.takes_headers_from(peer.parse().expect("an address")), is_taken);
        }
    }

    #[test]
    fn options_that_the_kernel_would_not_take_are_named() {
        let tcp = Listener::from(SocketAddr::from(([0, 0, 0, 0], 80)));
        let unix = Listener::from(ListenAddress::from(Path::new("/run/upring.sock")));
        let proxied = Listener { proxy_protocol: ProxyProtocol::V2, ..unix.clone() };
        assert_eq!(proxied.fault(), None, "the permissions say who may send headers");
        let mode = Listener { mode: 0o1777, ..unix };
        assert_eq!(mode.fault(), Some(ListenerFault::ModeFaulty));
        let backlog = Listener { backlog: 0, ..tcp.clone() };
        assert_eq!(backlog.fault(), Some(ListenerFault::BacklogFaulty));
        let user_timeout_ms = 1 << 31;
        let large = Listener { user_timeout_ms, ..tcp };
        assert_eq!(large.fault(), Some(ListenerFault::TooLarge("user_timeout_ms")));
    }
}
