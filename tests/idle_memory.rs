//! Promise 4: an idle connection owns no buffer, and next to no memory. Fifteen thousand idle
//! connections against the binary, echo and WebSocket, each host with one worker; what its resident
//! memory grows by is divided among them.

#[path = "support/serving.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod serving;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource as Limit, Rlimit, getrlimit, setrlimit};
use serving::Serving;
use socket2::{Domain, Socket, Type};
use upring::config::{AccessLog, Config};
use upring::protocols::echo;
use upring::resource::Resource;
use upring::server::{Server, ServerError};

const CONNECTIONS: usize = 15_000;
const WARM: usize = 2000;
/// What the promise allows, and what is aimed for is less.
const BYTES_MAX: u64 = 256;

/// A protocol to switch to, and one message there and back.
struct Protocol {
    name: &'static str,
    request: &'static str,
    sent: &'static [u8],
    answered: &'static [u8],
}

const ECHO: Protocol = Protocol {
    name: "echo",
    request: "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
    sent: b"x",
    answered: b"x",
};

const WEBSOCKET: Protocol = Protocol {
    name: "websocket",
    request: "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    sent: b"\x81\x85\0\0\0\0hello",
    answered: b"\x81\x05hello",
};

/// Resident memory that is no file's.
fn resident_bytes(server: &Serving) -> u64 {
    let path = format!("/proc/{}/status", server.pid());
    let status = fs::read_to_string(path).expect("the server runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse::<u64>().ok()).expect("Linux says it in kB") * 1024
}

/// The same once it has not changed for a while: connections end a moment after their peer.
fn settled_bytes(server: &Serving) -> u64 {
    let mut bytes = resident_bytes(server);
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = resident_bytes(server);
        if now == bytes {
            return now;
        }
        bytes = now;
    }
}

/// `count` switched connections that have had one message echoed, from several addresses: ports of one
/// would run short.
fn upgraded(server: SocketAddr, protocol: &Protocol, count: usize) -> Vec<TcpStream> {
    let connect = |index: usize| {
        let from = Ipv4Addr::new(127, 0, 0, 2 + (index / 500) as u8);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("all of 127/8 is ours");
        // Closed with a reset: ten thousand ports in TIME_WAIT would slow down whoever looks for a
        // free one.
        socket.set_linger(Some(Duration::ZERO)).expect("it is a TCP socket");
        socket.connect(&server.into()).expect("the server listens");
        let mut stream = TcpStream::from(socket);
        stream.write_all(protocol.request.as_bytes()).expect("the server reads");
        read_up_to(&mut stream, b"\r\n\r\n");
        stream.write_all(protocol.sent).expect("the server reads");
        read_up_to(&mut stream, protocol.answered);
        stream
    };
    (0..count).map(connect).collect()
}

/// Has every byte of the queue between the core and the log's writer used once: it is the core's memory,
/// not its connections'.
fn fill_the_queue(server: SocketAddr) {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    let line_bytes_min = 80;
    let requests = AccessLog::default().queue_bytes_max / line_bytes_min;
    let mut answers = vec![0; 64 * 1024];
    for _ in 0..requests / 64 {
        let asked = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".repeat(64);
        stream.write_all(&asked).expect("the server reads");
        let mut seen = Vec::new();
        while memchr::memmem::find_iter(&seen, b"Hello, World!").count() < 64 {
            let read = stream.read(&mut answers).expect("the server answers");
            seen.extend_from_slice(&answers[..read]);
        }
    }
}

fn read_up_to(stream: &mut TcpStream, end: &[u8]) {
    let (mut answer, mut len) = ([0; 512], 0);
    while !answer[..len].ends_with(end) {
        let read = stream.read(&mut answer[len..]).expect("the server answers");
        assert!(read > 0, "an echo does not end before its peer");
        len += read;
    }
}

/// Descriptors for this process, and for the table of the server, which inherits the limit.
fn has_descriptors() -> bool {
    let limit = getrlimit(Limit::Nofile);
    let wanted = CONNECTIONS as u64 + 1000;
    let is_enough = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    if is_enough {
        setrlimit(Limit::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("it may rise");
    } else {
        eprintln!("SKIPPED, {wanted} descriptors are needed: raise the hard limit (ulimit -Hn)");
    }
    is_enough
}

#[test]
fn an_idle_upgraded_connection_costs_at_most_256_bytes() {
    if !has_descriptors() {
        return;
    }
    // With a limit to them, clients are known by their addresses, and counted.
    let known = ["--limit", "connections_per_client_max=100000"];
    // With an access log clients are known, too, and what their connections exchange is counted.
    let logged = ["--access-log", "/dev/null"];
    let cases = [
        ("native", ECHO, &[][..]),
        ("hosted", ECHO, &[]),
        ("native", ECHO, &known),
        ("native", ECHO, &logged),
        ("native", WEBSOCKET, &[]),
        ("hosted", WEBSOCKET, &[]),
    ];
    for (host, protocol, more) in cases {
        let arguments = [&["--workers", "1", "--host", host], more].concat();
        let Some(serving) = Serving::start(&arguments) else { return };
        drop(upgraded(serving.address(), &protocol, WARM));
        if more == logged {
            fill_the_queue(serving.address());
        }
        let before = settled_bytes(&serving);
        let connections = upgraded(serving.address(), &protocol, CONNECTIONS);
        let host = format!("{host}, {}, {more:?}", protocol.name);
        let growth = settled_bytes(&serving).saturating_sub(before);
        // Those of the warm-up had to be paid for, too.
        let (all, new) = (CONNECTIONS as u64, (CONNECTIONS - WARM) as u64);
        println!(
            "{host}: {growth} bytes more for {all} idle connections: {} each, {} for each beyond the warm-up",
            growth / all,
            growth / new
        );
        assert!(growth / new <= BYTES_MAX, "{host}: {} bytes each", growth / new);
        drop(connections);
    }
}

/// Inside TLS it keeps its keys, of both directions and those that further ones are made of: 2.9 KB, half of
/// them aws-lc's. What a handshake took is given back.
#[test]
fn inside_tls_an_idle_connection_keeps_its_keys_and_no_more() {
    const CONNECTIONS: &str = "3000";
    const KEYS_BYTES_MAX: u64 = 3500;
    for host in ["native", "hosted"] {
        let arguments = ["--workers", "1", "--host", host, "--tls-self-signed"];
        let Some(serving) = Serving::start(&arguments) else { return };
        let output = Command::new(env!("CARGO_BIN_EXE_upring-load"))
            .args(["idle", "--tls", "--json", "--warm-up", "1000", "--connections", CONNECTIONS])
            .args(["--limit", "120"])
            .args(["--target", &serving.address().to_string()])
            .args(["--pid", &serving.pid().to_string()])
            .output()
            .expect("it is built with its tests");
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{report} {}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let slope = report["slope"].as_u64().expect("bytes of each of the second half");
        println!("{host}: {slope} bytes for each of {CONNECTIONS} idle connections inside TLS");
        assert!(slope <= KEYS_BYTES_MAX, "{host}: {slope} bytes each");
    }
}

#[test]
fn idle_connections_hold_no_receive_buffer() {
    let config =
        Config { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..Config::default() };
    let resource = Resource::new().upgrade(echo::protocol());
    let running = match Server::new(config).route("/echo", resource).start() {
        Ok(running) => running,
        Err(ServerError::Setup(error)) if error.is_denied() => {
            return eprintln!("SKIPPED, io_uring is denied here: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    let connections = upgraded(running.addresses()[0], &ECHO, 500);
    assert_eq!(running.counter("upgrades_open"), 500);
    let deadline = Instant::now() + Duration::from_secs(5);
    while running.counter("buffers_held") > 0 {
        assert!(Instant::now() < deadline, "a buffer is given back when its bytes have left");
        thread::sleep(Duration::from_millis(1));
    }
    drop(connections);
    running.stop().expect("it served to the end");
}
