//! One connection of the generator: it opens, sends a round, receives until the round is answered.
//! It never decides when to send; `load.rs` does.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::expect::{Expectation, Fault, Pattern, Protocol};
use crate::message::{self, Messages};
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
    /// Messages sent on a WebSocket connection, all of which come back.
    WebSocket(Messages),
}

impl Work {
    /// The protocol that connections switch to.
    fn protocol(&self) -> Protocol {
        match self {
            Work::WebSocket(_) => Protocol::WebSocket,
            _ => Protocol::Echo,
        }
    }

    /// Whether a connection switches once and then has its rounds.
    pub(crate) fn switches_first(&self) -> bool {
        matches!(self, Work::Echo { .. } | Work::WebSocket(_))
    }
}

/// What all connections share.
pub(crate) struct Script {
    pub(crate) target: SocketAddr,
    pub(crate) work: Work,
    /// What is sent on a switched connection, and what has to come back.
    sent: Pattern,
    echoed: Pattern,
    /// A request to switch; in `Work::Switch`, with the early bytes.
    opening: Vec<u8>,
}

impl Script {
    pub(crate) fn new(target: SocketAddr, work: Work) -> Script {
        let (sent, echoed) = match &work {
            Work::Plaintext { .. } => (Pattern::new(0), Pattern::new(0)),
            Work::Echo { round_bytes: bytes } | Work::Switch { early_bytes: bytes } => {
                (Pattern::new(*bytes), Pattern::new(*bytes))
            }
            Work::WebSocket(messages) => (messages.sent(), messages.echoed()),
        };
        let token = work.protocol().token();
        let (path, fields) = match work.protocol() {
            Protocol::Echo => ("/echo", ""),
            Protocol::WebSocket => ("/ws", message::HANDSHAKE_FIELDS),
        };
        let mut opening = format!(
            "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n{fields}\r\n"
        )
        .into_bytes();
        if let Work::Switch { early_bytes } = work {
            opening.extend_from_slice(sent.slice(0, early_bytes));
        }
        Script { target, work, sent, echoed, opening }
    }

    fn content(&self) -> &[u8] {
        match &self.work {
            Work::Plaintext { content, .. } => content,
            Work::Echo { .. } | Work::Switch { .. } | Work::WebSocket(_) => &[],
        }
    }
}

/// The bytes of the round under way: where they are, and how many have left.
struct Outgoing {
    opening: bool,
    sent: usize,
    /// Where in what is sent they begin, and where the next round's do.
    at: u64,
    next_at: u64,
}

pub(crate) struct Client {
    stream: TcpStream,
    expectation: Expectation,
    outgoing: Outgoing,
    started: Instant,
}

impl Client {
    /// Connects from `source`. Loopback connects before the call returns, or the server's queue is
    /// full.
    pub(crate) fn connect(source: Ipv4Addr, target: SocketAddr) -> io::Result<Client> {
        let started = Instant::now();
        let socket =
            Socket::new(Domain::for_address(target), Type::STREAM, Some(socket2::Protocol::TCP))?;
        if target.is_ipv4() {
            source::bind_address(&socket, source)?;
        }
        socket.connect_timeout(&target.into(), CONNECT_TIMEOUT)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Client {
            stream: socket.into(),
            expectation: Expectation::default(),
            outgoing: Outgoing { opening: false, sent: 0, at: 0, next_at: 0 },
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
        self.expectation.expect_switch(script.work.protocol());
        if let Work::Switch { early_bytes } = script.work {
            self.expectation.expect_echo(early_bytes);
        }
        self.outgoing = Outgoing { opening: true, sent: 0, at: 0, next_at: 0 };
        self.send(script)
    }

    /// Sends one round on an open connection.
    pub(crate) fn send_round(&mut self, script: &Script, now: Instant) -> Result<(), Fault> {
        self.started = now;
        let sent_bytes = match &script.work {
            Work::Plaintext { depth, .. } => {
                self.expectation.expect_answers(*depth);
                0
            }
            Work::Echo { round_bytes } => {
                self.expectation.expect_echo(*round_bytes);
                *round_bytes
            }
            Work::WebSocket(messages) => {
                self.expectation.expect_echo(messages.echoed_bytes);
                messages.sent_bytes
            }
            Work::Switch { .. } => unreachable!("a switch is an opening, never a round"),
        };
        let at = self.outgoing.next_at;
        self.outgoing = Outgoing { opening: false, sent: 0, at, next_at: at + sent_bytes as u64 };
        self.send(script)
    }

    /// Sends what is left of the round, as far as the socket takes it.
    pub(crate) fn send(&mut self, script: &Script) -> Result<(), Fault> {
        let outgoing = &mut self.outgoing;
        let bytes = match &script.work {
            _ if outgoing.opening => &script.opening,
            Work::Plaintext { requests, .. } => requests.as_slice(),
            _ => script.sent.slice(outgoing.at, (outgoing.next_at - outgoing.at) as usize),
        };
        while outgoing.sent < bytes.len() {
            match self.stream.write(&bytes[outgoing.sent..]) {
                Ok(sent) => outgoing.sent += sent,
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
            self.expectation.receive(bytes, script.content(), &script.echoed)?;
            // Falling short means that nothing is left; what comes later is a new edge.
            if received < scratch.len() {
                return Ok(());
            }
        }
    }
}
