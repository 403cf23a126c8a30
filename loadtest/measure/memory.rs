//! Bytes of user memory per idle switched connection. Called by `main.rs`.
//!
//! Two figures, because each can flatter. The *mean* counts from a server that has once held 2000
//! connections, so that start-up and the first use of its buffers are not charged to anyone, but
//! connections that go where those had been are free. The *slope* compares half of the connections
//! with all of them, and knows nothing of either. The larger of the two is held against the limit.
//!
//! Servers run without transparent huge pages, unless `--huge-pages` is given: see `pages.rs`.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use socket2::{Domain, Protocol, Socket, Type};

use crate::record::Table;
use crate::target::{Policy, Server};
use crate::{Finding, Target, pages};

const WARM_UP_CONNECTIONS: usize = 2000;
/// Source addresses, 127.0.0.1 to 127.0.0.8: one alone has ports for 28 000 connections, and fewer
/// while others close.
const SOURCES: usize = 8;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory is settled when it stays the same for this long.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_TRIES: usize = 20;

#[derive(Args)]
pub(crate) struct Options {
    /// A server: NAME=COMMAND, or NAME@ADDR:PORT,PID of one that runs.
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
    /// Connections held open; both this tool and the server need as many files.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// The most bytes a connection may take.
    #[arg(long)]
    limit: Option<u64>,
    /// What a connection is switched to.
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    mode: Mode,
    /// Leave transparent huge pages as the machine has them.
    #[arg(long)]
    huge_pages: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// `echo`, at /echo.
    Echo,
    /// `websocket`, at /ws.
    Websocket,
}

impl Mode {
    /// The path, what is asked for there, and what it needs besides.
    fn opening(self) -> (&'static str, &'static str, &'static str) {
        let handshake =
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        match self {
            Mode::Echo => ("/echo", "echo", ""),
            Mode::Websocket => ("/ws", "websocket", handshake),
        }
    }

    /// A message, and as what it comes back: a WebSocket's is text, masked by zeros.
    fn message(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Mode::Echo => (b"a small message", b"a small message"),
            Mode::Websocket => (b"\x81\x8f\0\0\0\0a small message", b"\x81\x0fa small message"),
        }
    }
}

pub(crate) fn measure(options: &Options) -> Result<Finding, Box<dyn Error>> {
    if !options.huge_pages {
        pages::keep_to_small_pages()?;
    }
    let mut finding = Finding::new(Table::new(&[
        "target",
        "connections",
        "rss_before",
        "rss_after",
        "anon_before",
        "anon_half",
        "anon_after",
        "mean",
        "slope",
    ]));
    for target in &options.targets {
        let held = hold(target, options.connections, options.mode)?;
        finding.table.push(&[
            target.name.as_str().into(),
            options.connections.into(),
            held.before.rss_bytes.into(),
            held.after.rss_bytes.into(),
            held.before.anon_bytes.into(),
            held.half.anon_bytes.into(),
            held.after.anon_bytes.into(),
            held.mean().into(),
            held.slope().into(),
        ]);
        let bytes = held.mean().max(held.slope());
        if let Some(limit) = options.limit.filter(|&limit| bytes > limit) {
            finding
                .failures
                .push(format!("{}: {bytes} bytes per connection, limit {limit}", target.name));
        }
    }
    Ok(finding)
}

struct Held {
    connections: u64,
    before: Memory,
    half: Memory,
    after: Memory,
}

impl Held {
    fn mean(&self) -> u64 {
        self.after.anon_bytes.saturating_sub(self.before.anon_bytes) / self.connections
    }

    fn slope(&self) -> u64 {
        self.after.anon_bytes.saturating_sub(self.half.anon_bytes)
            / (self.connections - self.connections / 2)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Memory {
    /// All resident pages, the program's own text included.
    rss_bytes: u64,
    /// Pages of the heap, stacks and whatever else the process wrote to.
    anon_bytes: u64,
}

fn hold(target: &Target, connections: usize, mode: Mode) -> Result<Held, Box<dyn Error>> {
    let server = Server::start(target, Policy::Usual)?;
    drop(open(server.address, mode, 0..WARM_UP_CONNECTIONS)?);
    let before = settled(&server)?;
    let _first = open(server.address, mode, 0..connections / 2)?;
    let half = settled(&server)?;
    let _second = open(server.address, mode, connections / 2..connections)?;
    let after = settled(&server)?;
    Ok(Held { connections: connections as u64, before, half, after })
}

/// Connections that have switched, have echoed one message, and are idle.
fn open(
    target: SocketAddr,
    mode: Mode,
    numbers: std::ops::Range<usize>,
) -> io::Result<Vec<TcpStream>> {
    numbers.map(|number| open_one(target, mode, number)).collect()
}

fn open_one(target: SocketAddr, mode: Mode, number: usize) -> io::Result<TcpStream> {
    let source = Ipv4Addr::new(127, 0, 0, 1 + (number % SOURCES) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&target.into(), ANSWER_TIMEOUT)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut stream = TcpStream::from(socket);

    let (path, token, fields) = mode.opening();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n{fields}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    if !answer.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&answer)));
    }

    let (message, expected) = mode.message();
    stream.write_all(message)?;
    let mut echoed = vec![0; expected.len()];
    stream.read_exact(&mut echoed)?;
    if echoed == expected { Ok(stream) } else { Err(io::Error::other("the echo differs")) }
}

fn settled(server: &Server) -> io::Result<Memory> {
    let mut last = memory(server)?;
    for _ in 0..SETTLE_TRIES {
        thread::sleep(SETTLE);
        let now = memory(server)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

fn memory(server: &Server) -> io::Result<Memory> {
    Ok(Memory {
        rss_bytes: server.status_bytes("VmRSS")?,
        anon_bytes: server.status_bytes("RssAnon")?,
    })
}
