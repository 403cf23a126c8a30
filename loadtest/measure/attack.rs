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
/// Connections that say much: many more cost the machine, not the server.
const TALKERS: usize = 500;
/// The same of those whose every byte is work for a server.
const FEW_TALKERS: usize = 50;
/// What the socket of one that does not read takes in of the answers.
const UNREAD_BYTES: usize = 2304;
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
    /// Connections that ask for the file `/large`, do not read it, and are reset for the next.
    Files,
    /// Connections that send a content but for its last bytes.
    Contents,
    /// WebSockets that send messages of four thousand empty fragments.
    Fragments,
    /// WebSockets that send empty messages and read the echoes.
    Messages,
    /// WebSockets that send pings.
    Pings,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::SlowHeads => "slow heads",
            Kind::Resets => "resets",
            Kind::Flood => "flood",
            Kind::Descriptors => "descriptors",
            Kind::NonReaders => "non-readers",
            Kind::Files => "unread files",
            Kind::Contents => "contents",
            Kind::Fragments => "fragments",
            Kind::Messages => "messages",
            Kind::Pings => "pings",
        }
    }

    /// What each connection says, if that is what the attack is about.
    fn speech(self) -> Option<Speech> {
        let http = |begin: &[u8]| Speech { begin: begin.to_vec(), ..Speech::default() };
        let websocket = |then: Vec<u8>| Speech {
            begin: WEBSOCKET.to_vec(),
            then,
            is_read: true,
            talkers: FEW_TALKERS,
        };
        match self {
            Kind::NonReaders => {
                Some(Speech { then: PLAIN.repeat(2000), talkers: TALKERS, ..http(b"") })
            }
            Kind::Contents => {
                const HEAD: &[u8] =
                    b"POST /content HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n";
                let content = [HEAD, &vec![b'x'; 1024 * 1024 - 16]].concat();
                Some(Speech { talkers: TALKERS, ..http(&content) })
            }
            Kind::Fragments => {
                let fragments = frame(0x00).repeat(4000);
                Some(websocket([&frame(0x02)[..], &fragments, &frame(0x80)].concat()))
            }
            Kind::Messages => Some(websocket(frame(0x82).repeat(4000))),
            Kind::Pings => Some(websocket(frame(0x89).repeat(4000))),
            Kind::SlowHeads | Kind::Resets | Kind::Flood | Kind::Descriptors | Kind::Files => None,
        }
    }
}

const PLAIN: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
const WEBSOCKET: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An empty frame of a client.
fn frame(first: u8) -> [u8; 6] {
    [first, 0x80, 1, 2, 3, 4]
}

/// What a connection sends: something once, and something over and over.
#[derive(Default)]
struct Speech {
    begin: Vec<u8>,
    then: Vec<u8>,
    is_read: bool,
    talkers: usize,
}

impl Speech {
    /// What comes behind `place` bytes, up to where it begins anew.
    fn from(&self, place: usize) -> &[u8] {
        match self.begin.get(place..) {
            Some(rest) if !rest.is_empty() => rest,
            _ if self.then.is_empty() => &[],
            _ => &self.then[(place - self.begin.len()) % self.then.len()..],
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
                Kind::Files => attacker.ask_for_files(),
                talk => attacker.talk(&talk.speech().expect("it says something")),
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
                1 => socket.send(PLAIN),
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

    fn ask_for_files(&mut self) -> io::Result<()> {
        self.ready();
        while !self.is_over() {
            if self.held.len() == self.connections.min(TALKERS) {
                self.held.clear();
            }
            let socket = self.open_deaf()?;
            let _ = socket.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            self.held.push_back(socket);
        }
        Ok(())
    }

    fn talk(&mut self, speech: &Speech) -> io::Result<()> {
        let open = |this: &mut Attacker| match speech.is_read {
            true => this.open(),
            false => this.open_deaf(),
        };
        while self.held.len() < self.connections.min(speech.talkers) {
            let socket = open(self)?;
            self.held.push_back(socket);
        }
        self.ready();
        let mut places = vec![0; self.held.len()];
        let mut heard = [std::mem::MaybeUninit::uninit(); 16 * 1024];
        while !self.is_over() {
            let mut sent = 0;
            for (number, place) in places.iter_mut().enumerate() {
                let mut is_lost = false;
                let bytes = speech.from(*place);
                match self.held[number].send(bytes) {
                    Ok(len) => {
                        *place += len;
                        sent += u64::from(len > 0);
                    }
                    Err(error) => is_lost = error.kind() != io::ErrorKind::WouldBlock,
                }
                if speech.is_read {
                    is_lost |= matches!(self.held[number].recv(&mut heard), Ok(0));
                }
                if is_lost {
                    // It was closed: another takes its place.
                    (self.held[number], *place) = (open(self)?, 0);
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
