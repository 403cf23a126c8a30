//! Listeners with TLS and something before it: a PROXY protocol header, a Unix socket. Over real sockets, on
//! both hosts and both tiers of descriptors; skipped, loudly, where io_uring is denied.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/folder.rs"]
mod folder;
#[path = "support/inside_tls.rs"]
mod inside_tls;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use certificates::{ask, head, inside};
use folder::Folder;
use inside_tls::{Authority, InsideTls, NAME, versions};
use loopback::{PATIENCE, connect, start, wait_until};
use upring::config::{DrainTimes, ListenAddress, Listener, ProxyProtocol};
use upring::http::{Request, Response, Status};
use upring::protocols::echo;
use upring::resource::{Reply, Resource, from_head};
use upring::{Config, HostKind, Server};

/// Every combination of what turns a core and what its handles are.
const WAYS: [(HostKind, bool); 4] = [
    (HostKind::Hosted, false),
    (HostKind::Hosted, true),
    (HostKind::Native, false),
    (HostKind::Native, true),
];

/// Who asks is told who asks and whom they asked for; `/` also switches to an echo.
fn server(listener: Listener, way: (HostKind, bool)) -> Server {
    draining(listener, way, DrainTimes::within(Duration::from_secs(1)))
}

/// The same that takes its time to stop.
fn draining(listener: Listener, (host, is_plain): (HostKind, bool), drain: DrainTimes) -> Server {
    let mut config = Config { listen: vec![listener], workers: 1, host, ..Config::default() };
    config.ring.without.direct_descriptors = is_plain;
    config.drain = drain;
    let who = from_head(|request: &Request<'_>, reply: &mut Reply<'_>| {
        let client = request.client().map_or("nobody".to_owned(), |at| at.to_string());
        let name = request.secured().and_then(|secured| secured.server_name.as_deref());
        let text = format!("{client} for {}", name.unwrap_or("nothing"));
        reply.send(&Response::text(Status::OK, text));
    });
    Server::new(config).route("/", Resource::new().get(who).upgrade(echo::protocol()))
}

fn proxied(proxy_protocol: ProxyProtocol) -> Listener {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let proxy_from = vec!["127.0.0.0/8".parse().expect("a network")];
    let tls = Some(Authority::usual().settings.clone());
    Listener { proxy_protocol, proxy_from, tls, ..address.into() }
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";

/// Version 2 of it: PROXY over TCP and IPv4, 12 bytes.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\0\x50";

/// Reads until the server has said this inside, or the handshake is over if it is empty; and how many bytes
/// were sent for it.
fn hear(stream: &mut TcpStream, tls: &mut InsideTls, end: &str) -> (String, usize) {
    let (mut heard, mut bytes, mut sent) = (Vec::new(), [0; 4096], 0);
    loop {
        heard.extend(tls.read());
        let text = String::from_utf8_lossy(&heard).into_owned();
        if text.contains(end) && !tls.connection().is_handshaking() {
            return (text, sent);
        }
        let count = stream.read(&mut bytes).expect("it answers");
        assert!(count > 0, "it ends behind {text:?}, {:?}", tls.fault());
        tls.feed(&bytes[..count]);
        let said = tls.output();
        stream.write_all(&said).expect("it is open");
        sent += said.len();
    }
}

#[test]
fn a_client_behind_a_load_balancer_is_known_inside_tls_wherever_its_header_is_cut() {
    let config = Authority::usual().client_config(versions()[0]);
    for way in WAYS {
        for (header, version) in [(LINE, ProxyProtocol::V1), (BINARY, ProxyProtocol::V2)] {
            let Some(running) = start(server(proxied(version), way)) else { return };
            let mut sent = 0;
            // In the header, behind it, and in the first record.
            for cut in 0..=header.len() + 10 {
                let mut client = connect(running.addresses()[0]);
                let mut tls = InsideTls::new(&config, NAME);
                let all = [header, &tls.output()].concat();
                client.write_all(&all[..cut]).expect("it is open");
                thread::sleep(Duration::from_millis(1));
                client.write_all(&all[cut..]).expect("it is open");
                sent += all.len() + hear(&mut client, &mut tls, "").1;
                tls.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                let request = tls.output();
                client.write_all(&request).expect("it is open");
                let (answer, more) = hear(&mut client, &mut tls, "for localhost");
                sent += request.len() + more;
                let expected = "\r\n\r\n192.0.2.1:56324 for localhost";
                assert!(answer.ends_with(expected), "{way:?}, {version:?}, {cut}: {answer}");
            }
            let faults = ["proxy_headers_faulty", "tls_faults", "tls_plain_http"];
            assert_eq!(faults.map(|name| running.counter(name)), [0; 3], "{way:?}");
            wait_until("all is received", || running.counter("bytes_received") >= sent as u64);
            assert_eq!(running.counter("bytes_received"), sent as u64, "each byte counts once");
            running.stop().expect("it stops in order");
        }
    }
}

#[test]
fn tls_without_the_header_that_is_to_come_first_is_reset() {
    let config = Authority::usual().client_config(versions()[0]);
    for way in WAYS {
        let Some(running) = start(server(proxied(ProxyProtocol::Any), way)) else { return };
        let mut client = connect(running.addresses()[0]);
        client.write_all(&InsideTls::new(&config, NAME).output()).expect("it is open");
        let error = client.read(&mut [0]).expect_err("it is reset").kind();
        assert_eq!(error, std::io::ErrorKind::ConnectionReset, "{way:?}");
        wait_until("it is counted", || running.counter("proxy_headers_faulty") == 1);
        assert_eq!(running.counter("tls_faults"), 0);
        running.stop().expect("it stops in order");
    }
}

#[test]
fn a_request_behind_a_header_that_is_no_tls_is_answered_in_the_clear() {
    for way in WAYS {
        let Some(running) = start(server(proxied(ProxyProtocol::V1), way)) else { return };
        let mut client = connect(running.addresses()[0]);
        let all = [LINE, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        client.write_all(&all).expect("it is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it ends in order");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{way:?}: {answer}");
        assert_eq!(running.counter("tls_plain_http"), 1);
        running.stop().expect("it stops in order");
    }
}

#[test]
fn a_unix_socket_is_inside_tls_too() {
    let folder = Folder::new("tls-unix");
    let authority = Authority::usual();
    for way in WAYS {
        for version in versions() {
            let path = folder.socket();
            let tls = Some(authority.settings.clone());
            let listener = Listener { tls, ..ListenAddress::Unix(path.clone()).into() };
            let Some(running) = start(server(listener, way)) else { return };
            let stream = UnixStream::connect(&path).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let config = authority.client_config(version);
            let mut client = inside(stream, NAME, &config).expect("the handshake");
            assert_eq!(ask(&mut client, "/").expect("it answers"), "200 nobody for localhost");
            // The first of the new protocol in the record of the request.
            let offer =
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly";
            client.write_all(offer.as_bytes()).expect("it is open");
            let answer = head(&mut client).expect("it answers");
            assert!(answer.starts_with("HTTP/1.1 101 "), "{way:?}: {answer}");
            client.write_all(b", late").expect("it is open");
            client.conn.send_close_notify();
            client.flush().expect("it is open");
            let mut rest = String::new();
            client.read_to_string(&mut rest).expect("it ends in order, with a close_notify");
            assert_eq!(rest, "early, late", "{way:?}");
            assert_eq!(running.counter("tls_truncated"), 0);
            running.stop().expect("it stops in order");
        }
    }
}

/// As one who is silent inside TLS from the beginning, which has the time that a first request has.
#[test]
fn a_client_that_asked_for_tls_and_says_nothing_more_keeps_no_server_from_stopping() {
    for way in [WAYS[0], WAYS[3]] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut settings = Authority::usual().settings.clone();
        settings.by_upgrade = true;
        let listener = Listener { tls: Some(settings), ..address.into() };
        let times = DrainTimes { timeout: Duration::from_secs(30), window: Duration::ZERO };
        let Some(running) = start(draining(listener, way, times)) else { return };
        let mut silent = connect(running.addresses()[0]);
        silent
            .write_all(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.2\r\n\r\n",
            )
            .expect("it is open");
        assert!(head(&mut silent).expect("it answers").starts_with("HTTP/1.1 101 "));
        let (tell, told) = channel();
        thread::spawn(move || tell.send(running.stop()));
        assert_eq!(silent.read(&mut [0; 16]).expect("an orderly end"), 0, "{way:?}");
        drop(silent);
        told.recv_timeout(PATIENCE).expect("it is not waited for").expect("it stops");
    }
}
