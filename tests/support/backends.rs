//! Backends on loopback that do what a test tells them: over TCP or a Unix socket, a thread for
//! each connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use upring::Backend;

use crate::loopback::PATIENCE;

/// How a backend is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Unix,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Tcp, Kind::Unix];

/// A backend that serves until the test ends.
pub(crate) struct Behind {
    pub(crate) backend: Backend,
    connections: Arc<AtomicUsize>,
    path: Option<PathBuf>,
}

/// The backend's end of one connection.
pub(crate) enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Behind {
    /// Calls `serve` with each connection and its number, from 0 on.
    pub(crate) fn start(kind: Kind, serve: impl Fn(Peer, usize) + Send + Sync + 'static) -> Behind {
        let connections = Arc::<AtomicUsize>::default();
        let (counted, serve) = (Arc::clone(&connections), Arc::new(serve));
        let start = move |peer: Peer| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(peer, number));
        };
        match kind {
            Kind::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
                let address = listener.local_addr().expect("it is bound").to_string();
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        stream.set_nodelay(true).expect("a TCP socket");
                        start(Peer::Tcp(stream));
                    }
                });
                let backend = address.parse().expect("an address with a port");
                Behind { backend, connections, path: None }
            }
            Kind::Unix => {
                let path = free_path();
                let listener = UnixListener::bind(&path).expect("the path is free");
                thread::spawn(move || {
                    listener.incoming().flatten().for_each(|at| start(at.into()))
                });
                let backend = format!("unix:{}", path.display()).parse().expect("a path");
                Behind { backend, connections, path: Some(path) }
            }
        }
    }

    /// One that reads a request's head and then says `bytes`, and ends.
    pub(crate) fn saying(kind: Kind, bytes: impl Into<Vec<u8>>) -> Behind {
        let bytes = bytes.into();
        Behind::start(kind, move |mut peer, _| {
            peer.read_head();
            let _ = peer.write_all(&bytes);
            peer.end();
            peer.read_to_end();
        })
    }

    /// Connections that were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A path for a socket that nothing is at.
pub(crate) fn free_path() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    std::env::temp_dir().join(format!("upring-behind-{}-{number}.sock", std::process::id()))
}

impl From<UnixStream> for Peer {
    fn from(stream: UnixStream) -> Peer {
        Peer::Unix(stream)
    }
}

impl Peer {
    /// A request's head, and not a byte more; empty at the end of input.
    pub(crate) fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(self.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("a head is ASCII")
    }

    /// So many bytes.
    pub(crate) fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes).expect("they come");
        bytes
    }

    /// Everything up to the end of the other direction, or to a reset.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = Read::read_to_end(self, &mut bytes);
        bytes
    }

    /// Ends our direction.
    pub(crate) fn end(&self) {
        let _ = match self {
            Peer::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Peer::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Closes with a reset. A Unix socket shows one to who has sent what was not read.
    pub(crate) fn reset(self) {
        if let Peer::Tcp(stream) = &self {
            let linger = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            linger.expect("a TCP socket");
        }
    }

    /// Gives up on a read or write after a while.
    pub(crate) fn set_patience(&self) {
        match self {
            Peer::Tcp(stream) => stream.set_read_timeout(Some(PATIENCE)),
            Peer::Unix(stream) => stream.set_read_timeout(Some(PATIENCE)),
        }
        .expect("a socket");
    }
}

impl Read for Peer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Tcp(stream) => stream.read(into),
            Peer::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Tcp(stream) => stream.write(bytes),
            Peer::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
