//! Those who do not want to be served: one thread that opens, holds, drips and resets connections as
//! fast as it can, beside the honest traffic of `faults.rs`.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use socket2::{Domain, Protocol, Socket, Type};

use crate::process;

/// Source addresses, from 127.0.0.2 on: one alone has 28 000 ports.
const SOURCES: u64 = 16;
/// Each slow connection sends a byte in this time.
const DRIP: Duration = Duration::from_secs(2);
/// How long the connections of an attack may take to be there.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that ask and never read: many more cost the machine, not the server.
const NON_READERS: usize = 500;
/// What such a connection's socket takes in of the answers.
const UNREAD_BYTES: usize = 2304;
/// Requests each of them sends at once.
const PIPELINED: usize = 2000;
const HEAD: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\nX: ";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Connections whose heads come a byte at a time.
    SlowHeads,
    /// Connections that are opened, used and reset.
    Resets,
    /// Connections that are opened and held, the oldest given up for the next.
    Flood,
    /// The same to a server that may open few files.
    Descriptors,
    /// Connections that send as many requests as they can and read no answer.
    NonReaders,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::SlowHeads => "slow heads",
            Kind::Resets => "resets",
            Kind::Flood => "flood",
            Kind::Descriptors => "descriptors",
            Kind::NonReaders => "non-readers",
        }
    }
}

/// An attack under way.
pub(crate) struct Attack {
    thread: Option<JoinHandle<io::Result<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    is_ready: AtomicBool,
    /// Connections opened, bytes dripped, and times a non-reader sent something.
    acts: AtomicU64,
}

impl Attack {
    /// Begins, and waits until the connections to be held are open.
    pub(crate) fn start(kind: Kind, target: SocketAddr, connections: usize) -> io::Result<Attack> {
        let shared = Arc::<Shared>::default();
        let mut attacker = Attacker {
            target,
            connections,
            opened: 0,
            held: VecDeque::new(),
            shared: shared.clone(),
        };
        let thread = thread::spawn(move || {
            // Not as what it attacks is measured by.
            let _ = process::schedule_as(libc::SCHED_OTHER, 0);
            match kind {
                Kind::SlowHeads => attacker.drip(),
                Kind::Resets => attacker.reset(),
                Kind::Flood | Kind::Descriptors => attacker.flood(),
                Kind::NonReaders => attacker.pipeline(),
            }
        });
        let attack = Attack { thread: Some(thread), shared };
        let begin = Instant::now();
        while !attack.shared.is_ready.load(Ordering::Relaxed) && begin.elapsed() < START_TIMEOUT {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(attack)
    }

    pub(crate) fn acts(&self) -> u64 {
        self.shared.acts.load(Ordering::Relaxed)
    }

    /// Ends it, and closes what it holds.
    pub(crate) fn stop(mut self) -> io::Result<u64> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("an attack does not panic")?;
        Ok(self.acts())
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

struct Attacker {
    target: SocketAddr,
    connections: usize,
    opened: u64,
    held: VecDeque<Socket>,
    shared: Arc<Shared>,
}

impl Attacker {
    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.shared.acts.fetch_add(1, Ordering::Relaxed);
    }

    fn ready(&self) {
        self.shared.is_ready.store(true, Ordering::Relaxed);
    }

    /// A connection that is on its way, and will end with a reset.
    fn open(&mut self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        self.connect(socket)
    }

    /// The same, which takes in next to nothing.
    fn open_deaf(&mut self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_recv_buffer_size(UNREAD_BYTES)?;
        self.connect(socket)
    }

    fn connect(&mut self, socket: Socket) -> io::Result<Socket> {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (self.opened % SOURCES) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.set_nonblocking(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        match socket.connect(&self.target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        self.opened += 1;
        self.count();
        Ok(socket)
    }

    fn drip(&mut self) -> io::Result<()> {
        while !self.is_over() {
            let (begin, count) = (Instant::now(), self.connections);
            for number in 0..count {
                if self.is_over() {
                    return Ok(());
                }
                if number >= self.held.len() {
                    let socket = self.open()?;
                    let _ = socket.send(HEAD);
                    self.held.push_back(socket);
                } else if self.held[number].send(b"x").is_err() {
                    // It was told that it is too slow: another takes its place.
                    self.held[number] = self.open()?;
                    let _ = self.held[number].send(HEAD);
                } else {
                    self.count();
                }
                // Evenly over the time, once all are there.
                if self.held.len() == count && number % 64 == 0 {
                    let due = begin + DRIP.mul_f64(number as f64 / count as f64);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
            self.ready();
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.ready();
        while !self.is_over() {
            let socket = self.open()?;
            // A part of a head, a whole request, or nothing: by turns.
            let _ = match self.opened % 3 {
                0 => socket.send(HEAD),
                1 => socket.send(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n"),
                _ => Ok(0),
            };
        }
        Ok(())
    }

    fn flood(&mut self) -> io::Result<()> {
        while !self.is_over() {
            if self.held.len() == self.connections {
                self.ready();
                self.held.pop_front();
            }
            let socket = self.open()?;
            self.held.push_back(socket);
        }
        Ok(())
    }

    fn pipeline(&mut self) -> io::Result<()> {
        let requests = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".repeat(PIPELINED);
        while self.held.len() < self.connections.min(NON_READERS) {
            let socket = self.open_deaf()?;
            self.held.push_back(socket);
        }
        self.ready();
        // Where in the requests each of them goes on.
        let mut places = vec![0; self.held.len()];
        while !self.is_over() {
            let mut sent = 0;
            for (number, place) in places.iter_mut().enumerate() {
                match self.held[number].send(&requests[*place..]) {
                    Ok(len) => {
                        *place = (*place + len) % requests.len();
                        sent += 1;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // It was reset: another takes its place.
                    Err(_) => (self.held[number], *place) = (self.open_deaf()?, 0),
                }
            }
            self.shared.acts.fetch_add(sent, Ordering::Relaxed);
            if sent == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}
