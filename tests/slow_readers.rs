//! Peers that read late, slowly or never, against a real kernel: what they are owed still comes,
//! and nobody else pays.

#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use loopback::{config, read_head, request, serve_resource};
use socket2::{Domain, Socket, Type};
use upring::{Config, Handler, HostKind, Io, Lease, Protocol, Resource, Response, Status};

/// A client whose window is small, so that what it does not read stays with the server.
fn connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(8 * 1024).expect("a TCP socket");
    socket.set_tcp_nodelay(true).expect("a TCP socket");
    socket.connect(&address.into()).expect("the server listens");
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a TCP socket");
    client
}

fn upgrade(address: SocketAddr, protocol: &str) -> TcpStream {
    let mut client = connect(address);
    client.write_all(request("/", protocol).as_bytes()).expect("it is open");
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

const ANSWER: usize = 8 * 1024;

/// Answers each byte with a small copy.
struct Pour;

impl Handler for Pour {
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        for _ in 0..bytes.len() {
            io.write(&[b'x'; ANSWER]);
        }
    }
}

/// The core sleeps while the rest of a short send waits for it.
fn a_send_that_came_out_short_goes_on(host: HostKind) {
    let resource = Resource::new().upgrade(Protocol::callback("pour", |_| Pour));
    let Some(server) = serve_resource(Config { host, ..config() }, resource) else { return };
    let address = server.addresses()[0];
    let ask = |client: &mut TcpStream| {
        client.write_all(b"?").expect("it is open");
        thread::sleep(Duration::from_millis(1));
    };
    // How many answers fit into a connection that nobody reads: another connection's bytes keep the
    // core awake.
    let mut other = upgrade(address, "pour");
    let mut unread = upgrade(address, "pour");
    let mut fits = 0;
    loop {
        let before = server.counter("bytes_sent");
        ask(&mut unread);
        for _ in 0..2 {
            ask(&mut other);
            other.read_exact(&mut [0; ANSWER]).expect("it is answered");
        }
        thread::sleep(Duration::from_millis(2));
        if server.counter("bytes_sent") - before < 2 * ANSWER as u64 + 1 {
            break;
        }
        fits += 1;
    }
    drop(unread);
    for count in fits - 2..fits + 6 {
        let mut client = upgrade(address, "pour");
        (0..count).for_each(|_| ask(&mut client));
        let begun = Instant::now();
        let mut all = vec![0; count * ANSWER];
        client.read_exact(&mut all).unwrap_or_else(|error| {
            panic!("{count} answers of which about {fits} fit: {error} after {:?}", begun.elapsed())
        });
    }
    drop(other);
    server.stop().expect("it stops");
}

#[test]
fn a_send_that_came_out_short_goes_on_in_the_native_mode() {
    a_send_that_came_out_short_goes_on(HostKind::Native);
}

#[test]
fn a_send_that_came_out_short_goes_on_in_the_hosted_mode() {
    a_send_that_came_out_short_goes_on(HostKind::Hosted);
}

#[test]
fn a_peer_that_reads_slowly_but_steadily_gets_everything() {
    const BODY: usize = 20 << 20;
    let mut config = config();
    config.limits.send_timeout_ms = 1000;
    config.limits.outbox_bytes_max = 2 * BODY;
    let large = Response::new(Status::OK).with_body(vec![b'x'; BODY]).to_ready();
    let Some(server) = serve_resource(config, Resource::new().get(large)) else { return };
    let mut client = connect(server.addresses()[0]);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    read_head(&mut client);
    let mut piece = vec![0; 64 * 1024];
    let mut read = 0;
    while read < BODY {
        match client.read(&mut piece).expect("a peer that reads is not cut") {
            0 => panic!("ended after {read} bytes"),
            count => read += count,
        }
        // 64 KiB at most in 12 ms: four megabytes a second.
        thread::sleep(Duration::from_millis(read as u64 / (16 * 1024) % 4));
    }
    assert_eq!(server.counter("timeouts_sent"), 0);
    server.stop().expect("it stops");
}
#[test]
fn peers_that_never_read_do_not_take_every_receive_buffer() {
    let mut config = config();
    config.ring.buffers = 256;
    let echo = upring::protocols::echo::protocol();
    let ok = Response::text(Status::OK, "ok").to_ready();
    let Some(server) = serve_resource(config, Resource::new().upgrade(echo).get(ok)) else {
        return;
    };
    let address = server.addresses()[0];
    let mut flood = Vec::new();
    for _ in 0..24 {
        let mut client = upgrade(address, "echo");
        client.set_nonblocking(true).expect("a TCP socket");
        let (mut stuck, bytes) = (0, vec![b'x'; 64 * 1024]);
        while stuck < 20 {
            match client.write(&bytes) {
                Ok(_) => stuck = 0,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    stuck += 1;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        }
        flood.push(client);
    }
    eprintln!("{} buffers held", server.counter("buffers_held"));
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    drop(flood);
    server.stop().expect("it stops");
}
