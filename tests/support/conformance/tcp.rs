//! The runner's target over loopback: blocking sockets of the standard library. It is the edge:
//! here and only here the runner meets a kernel and a clock.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use super::case::Case;
use super::peer::{Collected, Ending, Peer, Target, Wait};

const READ_BYTES: usize = 64 * 1024;

/// How long the client waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two writes in a row, so that each is a segment of its own.
    pub between_writes: Duration,
    /// Silence that proves that nothing else comes. Paid only where no probe can tell.
    pub quiet: Duration,
    /// Silence after which an expected byte is given up. Paid only by failing cases; longer than
    /// any delay of the fixture server.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            between_writes: Duration::from_millis(1),
            quiet: Duration::from_millis(50),
            patience: Duration::from_secs(3),
        }
    }
}

/// A server on a socket address.
pub struct Loopback<'a> {
    address: SocketAddr,
    routed: Box<dyn FnMut() -> Vec<String> + 'a>,
    pub pace: Pace,
}

impl<'a> Loopback<'a> {
    /// `routed` takes the paths that `/log` and `/evil` have recorded since the last call.
    pub fn new(address: SocketAddr, routed: impl FnMut() -> Vec<String> + 'a) -> Self {
        let routed = Box::new(routed);
        Self { address, routed, pace: Pace::default() }
    }
}

impl Target for Loopback<'_> {
    fn name(&self) -> &str {
        "loopback"
    }

    fn supports(&self, _: &Case) -> Result<(), String> {
        Ok(())
    }

    fn connect(&mut self) -> Box<dyn Peer> {
        let stream = TcpStream::connect(self.address).expect("the fixture server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY is there");
        stream.set_write_timeout(Some(self.pace.patience)).expect("patience is not zero");
        Box::new(Client {
            stream,
            pace: self.pace,
            received: Vec::new(),
            ending: Ending::Open,
            just_wrote: false,
            reset_at_write: false,
        })
    }

    fn routed_log(&mut self) -> Vec<String> {
        (self.routed)()
    }
}

struct Client {
    stream: TcpStream,
    pace: Pace,
    received: Vec<u8>,
    ending: Ending,
    /// The last step was a write: the next one has to keep its distance.
    just_wrote: bool,
    /// The kernel reports a reset once: to a write, if that comes first. The read then sees a plain
    /// end.
    reset_at_write: bool,
}

impl Peer for Client {
    fn send(&mut self, bytes: &[u8]) {
        if self.just_wrote {
            sleep(self.pace.between_writes);
        }
        self.just_wrote = true;
        match self.stream.write_all(bytes) {
            Err(fault) if fault.kind() == ErrorKind::ConnectionReset => self.reset_at_write = true,
            _ => {} // a server that closed while we wrote: the reads will tell how
        }
    }

    fn wait_ms(&mut self, ms: u64) {
        sleep(Duration::from_millis(ms));
        self.just_wrote = false;
    }

    fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write); // fails only if the connection is gone
    }

    fn collect(&mut self, wait: &dyn Fn(&[u8]) -> Wait) -> Collected {
        self.just_wrote = false;
        let mut buffer = vec![0; READ_BYTES];
        while self.ending == Ending::Open {
            let patience = match wait(&self.received) {
                Wait::NoLonger => break,
                Wait::ForSilence => self.pace.quiet,
                Wait::ForMore => self.pace.patience,
            };
            self.stream.set_read_timeout(Some(patience)).expect("patience is not zero");
            match self.stream.read(&mut buffer) {
                Ok(0) if self.reset_at_write => self.ending = Ending::Reset,
                Ok(0) => self.ending = Ending::Finished,
                Ok(len) => self.received.extend_from_slice(&buffer[..len]),
                Err(fault) => match fault.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => break,
                    _ => self.ending = Ending::Reset,
                },
            }
        }
        Collected { bytes: self.received.clone(), ending: self.ending }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::spawn;
    use std::time::Instant;

    use super::*;

    /// A client of a server that does `serve` with its first connection.
    fn client(serve: impl FnOnce(TcpStream) + Send + 'static) -> Box<dyn Peer> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        spawn(move || serve(listener.accept().expect("a client").0));
        Loopback::new(address, Vec::new).connect()
    }

    fn read_one(stream: &mut TcpStream) {
        stream.read_exact(&mut [0]).expect("a byte");
    }

    #[test]
    fn tells_a_clean_end_from_a_reset() {
        let mut peer = client(|mut stream| {
            read_one(&mut stream);
            stream.write_all(b"bye").expect("room");
        });
        peer.send(b"x");
        let expected = Collected { bytes: b"bye".into(), ending: Ending::Finished };
        assert_eq!(peer.collect(&|_| Wait::ForMore), expected);

        let mut peer = client(|mut stream| {
            stream.write_all(b"bye").expect("room");
            read_one(&mut stream); // the second byte stays unread, so that the close is a reset
        });
        peer.send(b"xx");
        let expected = Collected { bytes: b"bye".into(), ending: Ending::Reset };
        assert_eq!(peer.collect(&|_| Wait::ForMore), expected);
        peer.send(b"late");
        assert_eq!(peer.collect(&|_| Wait::ForMore), expected);
    }

    #[test]
    fn a_reset_that_a_write_meets_first_is_still_a_reset() {
        let mut peer = client(|mut stream| read_one(&mut stream));
        peer.send(b"xx");
        peer.wait_ms(50);
        peer.send(b"x");
        peer.send(b"x");
        assert_eq!(peer.collect(&|_| Wait::ForMore).ending, Ending::Reset);
    }

    #[test]
    fn stops_reading_as_soon_as_it_may() {
        let mut peer = client(|mut stream| {
            stream.write_all(b"ok").expect("room");
            read_one(&mut stream);
        });
        let start = Instant::now();
        let enough = |bytes: &[u8]| {
            if bytes == b"ok" { Wait::NoLonger } else { Wait::ForMore }
        };
        assert_eq!(peer.collect(&enough), Collected { bytes: b"ok".into(), ending: Ending::Open });
        assert!(start.elapsed() < Pace::default().patience / 2);
        assert_eq!(peer.collect(&|_| Wait::ForSilence).ending, Ending::Open);
        peer.send(b"x");
        assert_eq!(peer.collect(&|_| Wait::ForMore).ending, Ending::Finished);
    }

    #[test]
    fn half_closes_and_still_hears() {
        let mut peer = client(|mut stream| {
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).expect("an end");
            stream.write_all(&heard).expect("room");
        });
        peer.send(b"a");
        peer.send(b"b");
        peer.finish();
        let expected = Collected { bytes: b"ab".into(), ending: Ending::Finished };
        assert_eq!(peer.collect(&|_| Wait::ForMore), expected);
    }
}
