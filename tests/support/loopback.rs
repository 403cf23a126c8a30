//! Servers on a free port of loopback and clients that speak raw bytes to them. Used by the tests
//! that need a kernel; they skip, loudly, where io_uring is denied.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use upring::ring::Cause;
use upring::{Config, Protocol, Resource, Running, Server, ServerError};

/// Longer than anything here takes, shorter than a person's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One worker on a free port.
pub(crate) fn config() -> Config {
    Config { workers: 1, ..Config::listening(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))) }
}

/// A server that switches `/` to `protocol`, or `None` where io_uring is denied.
pub(crate) fn serve(config: Config, protocol: Protocol) -> Option<Running> {
    serve_resource(config, Resource::new().upgrade(protocol).upgrade_required())
}

/// A server with `resource` at `/`, or `None` where io_uring is denied.
pub(crate) fn serve_resource(config: Config, resource: Resource) -> Option<Running> {
    start(Server::new(config).route("/", resource))
}

/// This server, started, or `None` where io_uring is denied.
pub(crate) fn start(server: Server) -> Option<Running> {
    match server.start() {
        Ok(running) => Some(running),
        Err(ServerError::Setup(error))
            if matches!(error.cause(), Cause::NoSuchCall | Cause::Disabled(_) | Cause::Denied) =>
        {
            eprintln!("SKIPPED: this kernel denies io_uring: {error}");
            None
        }
        Err(error) => panic!("the server does not start: {error}"),
    }
}

/// The head that asks for `protocol` at `target`.
pub(crate) fn request(target: &str, protocol: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    )
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_nodelay(true).expect("a TCP socket");
    client.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
    client.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
    client
}

/// A connection switched to `protocol`; `early` leaves in the same write as the head.
pub(crate) fn upgrade(address: SocketAddr, protocol: &str, early: &[u8]) -> TcpStream {
    let mut client = connect(address);
    client.write_all(&[request("/", protocol).as_bytes(), early].concat()).expect("it is open");
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// One head and not a byte more.
pub(crate) fn read_head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a head has an end");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is ASCII")
}

/// Everything up to the end of the peer's direction.
pub(crate) fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("the peer ends in order");
    bytes
}

/// Bytes of which no two places within 60 KiB look alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at / 251 % 241) as u8).collect()
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came to be: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
