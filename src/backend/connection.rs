//! One connection to a backend.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::address::Place;
use super::{Backend, BackendError, Late};
use crate::buffer::{Spare, Spares};
use crate::counters::Counters;

/// A connection. Dropped, it is closed; both directions can be used at the same time.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection {
    /// Connects: to the first of the backend's addresses that takes the connection, all of them
    /// within `timeout_ms`.
    ///
    /// # Errors
    /// None took it, or not in time.
    pub(crate) async fn open(
        backend: &Backend,
        timeout_ms: u64,
        counters: &Arc<Counters>,
    ) -> Result<Connection, BackendError> {
        let socket = match backend.place() {
            Place::Tcp(addresses) => Socket::Tcp(connect_tcp(addresses, timeout_ms).await?),
            Place::Unix(path) => {
                let socket = within(timeout_ms, Late::Connect, UnixStream::connect(path)).await?;
                Socket::Unix(socket.map_err(BackendError::Connect)?)
            }
        };
        counters.backend_connections_made.raise();
        counters.backend_connections_open.raise();
        Ok(Connection { socket, counters: Arc::clone(counters) })
    }

    /// Sends all of `bytes`, from where they are.
    ///
    /// # Errors
    /// The connection was lost.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_all(&mut [IoSlice::new(bytes)]).await
    }

    /// Sends all of `slices` one behind the other, in one segment if they fit.
    ///
    /// # Errors
    /// The connection was lost.
    pub(crate) async fn send_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // What is empty is left out at once: a send of nothing would say that nothing was taken.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.try_send(slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends what has come to `into`, as far as it has room, or waits for it; 0 at the end of the
    /// backend's direction. A wait that is given up takes nothing.
    ///
    /// # Errors
    /// The connection was lost.
    pub(crate) async fn receive(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            match self.try_receive(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable().await?,
                other => return other,
            }
        }
    }

    /// What has come, in a buffer that is taken when something has: empty at the end of the
    /// backend's direction.
    ///
    /// # Errors
    /// The connection was lost.
    pub(crate) async fn receive_spare(&self, spares: &Spares) -> io::Result<Spare> {
        loop {
            self.readable().await?;
            let mut spare = spares.take();
            match self.try_receive(&mut spare) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(spare),
            }
        }
    }

    /// Ends our direction; the backend's goes on.
    pub(crate) fn end(&self) {
        // A failure is a backend that is gone: whoever reads next is told.
        let _ = match &self.socket {
            Socket::Tcp(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Unix(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
        };
    }

    /// Cuts the connection: over TCP the backend sees a reset. A Unix socket has none, and shows an
    /// end.
    pub(crate) fn reset(self) {
        if let Socket::Tcp(socket) = &self.socket {
            // Then it is an ordinary close: the backend is gone already.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Whether it waits for a request: it is open, and nothing has come that nobody asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        // The socket does not block: what has not come is an error.
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match &self.socket {
            Socket::Tcp(socket) => SockRef::from(socket).peek(&mut byte),
            Socket::Unix(socket) => SockRef::from(socket).peek(&mut byte),
        };
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    async fn readable(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => socket.readable().await,
            Socket::Unix(socket) => socket.readable().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => socket.writable().await,
            Socket::Unix(socket) => socket.writable().await,
        }
    }

    fn try_receive(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        let count = match &self.socket {
            Socket::Tcp(socket) => socket.try_read_buf(into),
            Socket::Unix(socket) => socket.try_read_buf(into),
        }?;
        self.counters.backend_bytes_received.add(count as u64);
        Ok(count)
    }

    fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = match &self.socket {
            Socket::Tcp(socket) => socket.try_write_vectored(slices),
            Socket::Unix(socket) => socket.try_write_vectored(slices),
        }?;
        self.counters.backend_bytes_sent.add(count as u64);
        Ok(count)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counters.backend_connections_open.lower();
    }
}

/// The first that takes the connection, or the error of the last. Each has its share of the time,
/// or one that is silent would be the only one that is tried.
async fn connect_tcp(addresses: &[SocketAddr], timeout_ms: u64) -> Result<TcpStream, BackendError> {
    let share_ms = timeout_ms / (addresses.len().max(1) as u64);
    let mut last = BackendError::Connect(ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        match within(share_ms, Late::Connect, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                // What is written is whole pieces already. A failure costs time, and nothing else.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Ok(Err(error)) => last = BackendError::Connect(error),
            Err(late) => last = late,
        }
    }
    Err(last)
}

/// What comes within so many milliseconds.
pub(super) async fn within<F: Future>(
    timeout_ms: u64,
    late: Late,
    future: F,
) -> Result<F::Output, BackendError> {
    timeout(Duration::from_millis(timeout_ms), future).await.map_err(|_| late.into())
}
