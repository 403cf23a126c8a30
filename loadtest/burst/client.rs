//! One connection of the generator: it opens, sends a round, receives until the round is answered.
//! It never decides when to send; `load.rs` does.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::expect::{Expectation, Fault, Pattern};
use crate::source;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What one round of one connection is.
pub(crate) enum Work {
    /// Pipelined requests, each answered with the content.
    Plaintext { requests: Vec<u8>, content: Vec<u8>, depth: usize },
    /// Bytes sent on a switched connection, all of which come back.
    Echo { round_bytes: usize },
    /// A connection of its own, with bytes in the same segment as the request to switch.
    Switch { early_bytes: usize },
}

/// What all connections share.
pub(crate) struct Script {
    pub(crate) target: SocketAddr,
    pub(crate) work: Work,
    pub(crate) pattern: Pattern,
    /// A request to switch; in `Work::Switch`, with the early bytes.
    pub(crate) opening: Vec<u8>,
}

impl Script {
    pub(crate) fn new(target: SocketAddr, work: Work) -> Script {
        let echo_bytes = match work {
            Work::Plaintext { .. } => 0,
            Work::Echo { round_bytes } => round_bytes,
            Work::Switch { early_bytes } => early_bytes,
        };
        let pattern = Pattern::new(echo_bytes);
        let mut opening = format!(
            "GET /echo HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        .into_bytes();
        if let Work::Switch { early_bytes } = work {
            opening.extend_from_slice(pattern.slice(0, early_bytes));
        }
        Script { target, work, pattern, opening }
    }

    fn content(&self) -> &[u8] {
        match &self.work {
            Work::Plaintext { content, .. } => content,
            Work::Echo { .. } | Work::Switch { .. } => &[],
        }
    }
}

/// The bytes of the round under way: where they are, and how many have left.
struct Outgoing {
    opening: bool,
    sent: usize,
}

pub(crate) struct Client {
    stream: TcpStream,
    expectation: Expectation,
    outgoing: Outgoing,
    /// Where in the pattern this round's bytes begin.
    round_at: u64,
    started: Instant,
}

impl Client {
    /// Connects from `source`. Loopback connects before the call returns, or the server's queue is
    /// full.
    pub(crate) fn connect(source: Ipv4Addr, target: SocketAddr) -> io::Result<Client> {
        let started = Instant::now();
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        if target.is_ipv4() {
            source::bind_address(&socket, source)?;
        }
        socket.connect_timeout(&target.into(), CONNECT_TIMEOUT)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Client {
            stream: socket.into(),
            expectation: Expectation::default(),
            outgoing: Outgoing { opening: false, sent: 0 },
            round_at: 0,
            started,
        })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When the round under way began; in `Work::Switch` that is before connecting.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Whether nothing is owed any more.
    pub(crate) fn is_answered(&self) -> bool {
        self.expectation.is_met()
    }

    /// Asks to switch.
    pub(crate) fn send_opening(&mut self, script: &Script) -> Result<(), Fault> {
        self.expectation.expect_switch();
        if let Work::Switch { early_bytes } = script.work {
            self.expectation.expect_echo(early_bytes);
        }
        self.outgoing = Outgoing { opening: true, sent: 0 };
        self.send(script)
    }

    /// Sends one round on an open connection.
    pub(crate) fn send_round(&mut self, script: &Script, now: Instant) -> Result<(), Fault> {
        self.started = now;
        match script.work {
            Work::Plaintext { depth, .. } => self.expectation.expect_answers(depth),
            Work::Echo { round_bytes } => {
                self.round_at = self.expectation.echoed();
                self.expectation.expect_echo(round_bytes);
            }
            Work::Switch { .. } => unreachable!("a switch is an opening, never a round"),
        }
        self.outgoing = Outgoing { opening: false, sent: 0 };
        self.send(script)
    }

    /// Sends what is left of the round, as far as the socket takes it.
    pub(crate) fn send(&mut self, script: &Script) -> Result<(), Fault> {
        let bytes = match &script.work {
            _ if self.outgoing.opening => &script.opening,
            Work::Plaintext { requests, .. } => requests.as_slice(),
            Work::Echo { round_bytes } => script.pattern.slice(self.round_at, *round_bytes),
            Work::Switch { .. } => &[],
        };
        while self.outgoing.sent < bytes.len() {
            match self.stream.write(&bytes[self.outgoing.sent..]) {
                Ok(sent) => self.outgoing.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Fault::Socket(error)),
            }
        }
        Ok(())
    }

    /// Receives and compares all that has come.
    pub(crate) fn receive(&mut self, script: &Script, scratch: &mut [u8]) -> Result<(), Fault> {
        loop {
            let received = match self.stream.read(scratch) {
                Ok(0) => return Err(Fault::Closed),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Fault::Socket(error)),
            };
            let bytes = &scratch[..received];
            self.expectation.receive(bytes, script.content(), &script.pattern)?;
            // Falling short means that nothing is left; what comes later is a new edge.
            if received < scratch.len() {
                return Ok(());
            }
        }
    }
}
