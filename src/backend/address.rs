//! Where a backend is: a TCP address, or the path of a Unix socket. Read and resolved once, when
//! the server is configured.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Bytes of the path of a Unix socket (unix(7): `sun_path`, with a zero behind it).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// How long the resolver may take for one name: two tries of one name server (resolv.conf(5)).
const RESOLVE_PATIENCE: Duration = Duration::from_secs(10);

/// A server behind this one.
///
/// ```
/// use upring::Backend;
///
/// let tcp: Backend = "127.0.0.1:9000".parse()?;
/// let unix: Backend = "unix:/run/app.sock".parse()?;
/// assert_eq!(unix.to_string(), "unix:/run/app.sock");
/// assert!("127.0.0.1".parse::<Backend>().is_err());
/// # Ok::<(), upring::BackendAddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    text: Box<str>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// What the name stood for, in the order in which they are tried.
    Tcp(Box<[SocketAddr]>),
    Unix(PathBuf),
}

/// Why a text names no backend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendAddressError {
    /// It is the URL of something.
    #[error(
        "{0:?} is a URL: a backend is `host:port` or `unix:/path`, and is spoken to in plain HTTP"
    )]
    Url(String),
    /// There is no port behind a name or an address.
    #[error("{0:?} has no port: a backend is `host:port` or `unix:/path`")]
    NoPort(String),
    /// The name stands for nothing.
    #[error("{text:?} cannot be resolved: {error}")]
    Unresolved {
        /// What was to be resolved.
        text: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// The path of a Unix socket does not begin at the root.
    #[error("{0:?} is no absolute path of a Unix socket: say `unix:/path`")]
    PathRelative(String),
    /// The path of a Unix socket is longer than the kernel takes.
    #[error("the path of a Unix socket has at most 107 bytes: {0:?} is longer")]
    PathTooLong(String),
}

impl Backend {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

impl FromStr for Backend {
    type Err = BackendAddressError;

    fn from_str(text: &str) -> Result<Backend, BackendAddressError> {
        let place = match text.strip_prefix("unix:") {
            Some(path) => unix(path)?,
            None => tcp(text)?,
        };
        Ok(Backend { text: text.into(), place })
    }
}

fn unix(path: &str) -> Result<Place, BackendAddressError> {
    if !Path::new(path).is_absolute() || path.contains('\0') {
        return Err(BackendAddressError::PathRelative(path.to_owned()));
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(BackendAddressError::PathTooLong(path.to_owned()));
    }
    Ok(Place::Unix(path.into()))
}

fn tcp(text: &str) -> Result<Place, BackendAddressError> {
    if text.contains("//") {
        return Err(BackendAddressError::Url(text.to_owned()));
    }
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) {
        return Err(BackendAddressError::NoPort(text.to_owned()));
    }
    let unresolved = |error| BackendAddressError::Unresolved { text: text.to_owned(), error };
    let addresses = match text.parse::<SocketAddr>() {
        Ok(address) => Box::from([address]),
        Err(_) => resolve(text.to_owned()).map_err(unresolved)?,
    };
    if addresses.is_empty() {
        return Err(unresolved(io::Error::other("it stands for no address")));
    }
    Ok(Place::Tcp(addresses))
}

/// Asks what a name stands for. The C library's resolver has no bound of its own that holds for all of
/// nsswitch.conf(5): it is asked on a thread, which is left to itself if it takes too long.
fn resolve(text: String) -> io::Result<Box<[SocketAddr]>> {
    let (tell, told) = mpsc::channel();
    let ask = move || {
        // Nobody may wait any more.
        let _ = tell.send(text.to_socket_addrs());
    };
    thread::Builder::new().name("resolver".to_owned()).spawn(ask)?;
    match told.recv_timeout(RESOLVE_PATIENCE) {
        Ok(addresses) => Ok(addresses?.collect()),
        Err(_) => {
            let seconds = RESOLVE_PATIENCE.as_secs();
            let text = format!("no answer within {seconds} s; `getent ahosts` asks the same");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_name_and_a_path_are_backends() {
        for (text, expected) in [
            ("127.0.0.1:9000", Some("127.0.0.1:9000")),
            ("[::1]:80", Some("[::1]:80")),
            ("unix:/run/app.sock", None),
        ] {
            let backend: Backend = text.parse().unwrap();
            assert_eq!(backend.to_string(), text);
            match (backend.place(), expected) {
                (Place::Tcp(addresses), Some(expected)) => {
                    assert_eq!(**addresses, [expected.parse().unwrap()]);
                }
                (Place::Unix(path), None) => assert_eq!(path, Path::new("/run/app.sock")),
                (place, _) => panic!("{place:?}"),
            }
        }
        let named: Backend = "localhost:80".parse().unwrap();
        let Place::Tcp(addresses) = named.place() else { panic!("a TCP address") };
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn what_names_no_backend_is_told_why() {
        let long = format!("unix:/{}", "a".repeat(107));
        for (text, why) in [
            ("", "has no port"),
            ("127.0.0.1", "has no port"),
            ("127.0.0.1:0", "has no port"),
            ("127.0.0.1:http", "has no port"),
            ("127.0.0.1:65536", "has no port"),
            ("http://127.0.0.1:80", "is a URL"),
            ("no such name:80", "cannot be resolved"),
            ("unix:app.sock", "no absolute path"),
            ("unix:", "no absolute path"),
            (&long, "at most 107 bytes"),
        ] {
            let error = text.parse::<Backend>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
