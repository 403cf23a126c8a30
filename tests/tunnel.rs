//! Tunnels over loopback: what backends may do before and after their 101, over TCP and Unix
//! sockets, and what the client is owed.

#[path = "support/backends.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod backends;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;
#[path = "tunnel/stopping.rs"]
mod stopping;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use backends::{Behind, KINDS, Kind, Peer, free_path};
use loopback::{
    PATIENCE, config, connect, pattern, read_head, read_to_end, request, serve, upgrade, wait_until,
};
use socket2::{Domain, SockRef, Socket, Type};
use upring::{
    Backend, Config, Forwarded, HostKind, Protocol, Resource, Running, Server, Terms, Tunnel,
    TunnelSettings,
};

const MEBIBYTE: usize = 1024 * 1024;

const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: t\r\n\r\n";

fn tunnel(backend: &Backend, settings: TunnelSettings) -> Protocol {
    Tunnel::to(backend.clone()).with(settings).expect("they can be sent").protocol("t")
}

/// A server whose `/` is switched to a backend.
fn front(backend: &Backend, settings: TunnelSettings) -> Option<(Running, SocketAddr)> {
    let mut config = config();
    // Clients of the tests are still there when their server stops.
    config.limits.linger_timeout_ms = 50;
    let running = serve(config, tunnel(backend, settings))?;
    let address = running.addresses()[0];
    Some((running, address))
}

/// Quick enough for a test that waits for them.
fn impatient() -> TunnelSettings {
    TunnelSettings {
        connect_timeout_ms: 200,
        answer_timeout_ms: 200,
        terms: Terms { forwarded: Forwarded::Off, via: None, ..Terms::default() },
        ..TunnelSettings::default()
    }
}

/// A backend that switches, and then does this.
fn switching(kind: Kind, then: impl Fn(Peer) + Send + Sync + 'static) -> Behind {
    Behind::start(kind, move |mut peer, _| {
        peer.set_patience();
        peer.read_head();
        peer.write_all(SWITCHING).expect("the server reads");
        then(peer);
    })
}

fn echo(mut peer: Peer) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match peer.read(&mut bytes) {
            Ok(0) | Err(_) => return peer.end(),
            Ok(count) if peer.write_all(&bytes[..count]).is_err() => return,
            Ok(_) => {}
        }
    }
}

/// What a client is answered, head and content, on a connection that stays open.
fn answered(address: SocketAddr) -> (String, String) {
    let mut client = connect(address);
    client.write_all(request("/", "t").as_bytes()).expect("it is open");
    let head = read_head(&mut client);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut content = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    client.read_exact(&mut content).expect("it comes whole");
    assert!(!head.contains("Connection: close"), "{head}");
    (head, String::from_utf8_lossy(&content).into_owned())
}

fn assert_comes_back(client: &mut TcpStream, bytes: &[u8], case: &str) {
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap_or_else(|error| panic!("{case}: {error}"));
    let wrong = (0..bytes.len()).find(|at| back[*at] != bytes[*at]);
    assert_eq!(wrong, None, "{case}: the byte there is not the one that was sent");
}

#[test]
fn what_a_backend_says_instead_of_its_101_is_passed_on_or_a_502() {
    let head = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
    let large = "x".repeat(64 * 1024 + 1);
    let declined = "tunnels_declined";
    let faulty = "backend_answers_faulty";
    for (answer, status, says, counter) in [
        ("HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok".into(), 200, "ok", declined),
        (
            "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno,\r\n3\r\nno!\r\n0\r\n\r\n"
                .into(),
            403,
            "no,no!",
            declined,
        ),
        ("HTTP/1.0 401 Who\r\nWWW-Authenticate: Basic\r\n\r\nwho".into(), 401, "who", declined),
        ("HTTP/1.1 204 None\r\n\r\n".into(), 204, "", declined),
        ("HTTP/1.1 302 There\r\nLocation: /x\r\n\r\n".into(), 302, "", declined),
        ("HTTP/1.1 426 Up\r\nUpgrade: t/2\r\nContent-Length: 0\r\n\r\n".into(), 426, "", declined),
        (head("Upgrade: other\r\n"), 502, "another protocol", faulty),
        (head("Connection: Upgrade\r\n"), 502, "another protocol", faulty),
        (head("Upgrade: t, other\r\n"), 502, "another protocol", faulty),
        (head("Upgrade: t/1\r\n"), 502, "another protocol", faulty),
        (head("Upgrade: tt\r\n"), 502, "another protocol", faulty),
        ("HTTP/1.0 101 x\r\nUpgrade: t\r\n\r\n".into(), 502, "another protocol", faulty),
        ("SSH-2.0-x\r\n\r\n".into(), 502, "no HTTP/1.1", faulty),
        ("HTTP/1.1 101 x\nUpgrade: t\n\n".into(), 502, "without CR", faulty),
        ("HTTP/1.1 101 x\r\nUpgrade: t\r\n".into(), 502, "no end", faulty),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok".into(),
            502,
            "cannot be told",
            faulty,
        ),
        ("HTTP/1.1 103 Hint\r\n\r\n".repeat(17), 502, "interim", faulty),
        (
            format!("HTTP/1.1 101 x\r\nA: {}\r\n\r\n", "x".repeat(32 * 1024)),
            502,
            "32768 bytes or 100 fields",
            "backend_heads_too_large",
        ),
        (head(&"A: b\r\n".repeat(101)), 502, "100 fields", "backend_heads_too_large"),
        (
            format!("HTTP/1.1 200 OK\r\n\r\n{large}"),
            502,
            "more content",
            "backend_heads_too_large",
        ),
        (String::new(), 502, "closed the connection", "backend_answers_cut"),
        (
            "HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno".into(),
            502,
            "before it was whole",
            "backend_answers_cut",
        ),
    ] {
        for kind in KINDS {
            let behind = Behind::saying(kind, answer.clone());
            let Some((running, address)) = front(&behind.backend, TunnelSettings::default()) else {
                return;
            };
            let case = answer.get(..60).unwrap_or(&answer);
            let (head, content) = answered(address);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case:?}: {head}");
            assert!(content.contains(says), "{case:?}: {content}");
            assert_eq!(running.counter(counter), 1, "{case:?}");
            assert_eq!(running.counter("upgrades_switched"), 0);
            for kept in ["X-A: 1", "WWW-Authenticate: Basic", "Location: /x"] {
                assert_eq!(head.contains(kept), answer.contains(kept), "{case:?}: {head}");
            }
            wait_until("closed", || running.counter("backend_connections_open") == 0);
            running.stop().expect("it stops");
        }
    }
}

#[test]
fn interim_answers_before_the_101_are_taken() {
    let answer =
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hint\r\nLink: </a>\r\n\r\n", SWITCHING];
    let behind = Behind::saying(Kind::Tcp, answer.concat());
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    let mut client = upgrade(address, "t", b"");
    assert_eq!(read_to_end(&mut client), b"");
    running.stop().expect("it stops");
}

#[test]
fn an_answer_may_be_cut_anywhere() {
    let said = [SWITCHING, b"first words"].concat();
    let (answer, count) = (said.clone(), said.len());
    let behind = Behind::start(Kind::Tcp, move |mut peer, number| {
        peer.read_head();
        let (front, rest) = answer.split_at(number % answer.len());
        for part in [front, rest] {
            peer.write_all(part).expect("the server reads");
            thread::sleep(Duration::from_millis(1));
        }
    });
    let settings = TunnelSettings { answer_timeout_ms: 5000, ..impatient() };
    let Some((running, address)) = front(&behind.backend, settings) else { return };
    for cut in 0..count {
        let mut client = upgrade(address, "t", b"");
        assert_eq!(read_to_end(&mut client), b"first words", "cut at {cut}");
    }
    running.stop().expect("it stops");
}

#[test]
fn each_address_of_a_name_is_tried() {
    // A name for ::1 and 127.0.0.1, mostly; the backend has the latter alone.
    let behind = switching(Kind::Tcp, echo);
    let place = behind.backend.to_string().replace("127.0.0.1", "localhost");
    let Some((running, address)) = front(&place.parse().expect("a backend"), impatient()) else {
        return;
    };
    let mut client = upgrade(address, "t", b"x");
    assert_comes_back(&mut client, b"x", "echo");
    running.stop().expect("it stops");
}

#[test]
fn a_backend_that_is_not_there_is_a_502_with_its_likely_cause() {
    let nothing = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound").to_string()
    };
    let path = format!("unix:{}", free_path().display());
    for place in [nothing, path] {
        let backend = place.parse().expect("a backend");
        let Some((running, address)) = front(&backend, impatient()) else { return };
        let (head, content) = answered(address);
        assert!(
            head.starts_with("HTTP/1.1 502 ") && content.contains("is it running?"),
            "{content}"
        );
        assert!(!content.contains(place.trim_start_matches("unix:")), "{content}");
        assert_eq!(running.counter("backend_connects_failed"), 1);
        running.stop().expect("it stops");
    }
}

#[test]
fn a_backend_that_takes_no_connection_in_time_is_a_504() {
    // Its queue is full: further SYNs are dropped.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port is free");
    socket.listen(0).expect("it is bound");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("an address");
    let waiting: Vec<_> =
        (0..4).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(50))).collect();
    let backend = address.to_string().parse().expect("a backend");
    let Some((running, front)) = front(&backend, impatient()) else { return };
    let (head, content) = answered(front);
    assert!(head.starts_with("HTTP/1.1 504 ") && content.contains("in time"), "{head}{content}");
    assert_eq!(running.counter("backend_connect_timeouts"), 1);
    drop(waiting);
    running.stop().expect("it stops");
}

#[test]
fn a_backend_that_does_not_answer_in_time_is_a_504() {
    for kind in KINDS {
        let behind = Behind::start(kind, |mut peer, _| drop(peer.read_to_end()));
        let Some((running, address)) = front(&behind.backend, impatient()) else { return };
        let (head, content) = answered(address);
        assert!(head.starts_with("HTTP/1.1 504 ") && content.contains("answer in time"), "{head}");
        assert_eq!(running.counter("backend_answer_timeouts"), 1);
        running.stop().expect("it stops");
    }
}

#[test]
fn a_backend_that_resets_instead_of_answering_is_a_502() {
    let behind = Behind::start(Kind::Tcp, |mut peer, _| {
        peer.read_head();
        peer.reset();
    });
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    let (head, content) = answered(address);
    assert!(head.starts_with("HTTP/1.1 502 ") && content.contains("lost"), "{head}{content}");
    assert_eq!(running.counter("backend_answers_cut"), 1);
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_is_gone_takes_its_connection_to_the_backend_with_it() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        peer.read_head();
        tell.send("asked").expect("the test waits");
        peer.read_to_end();
        tell.send("ended").expect("the test waits");
    });
    let settings = TunnelSettings { answer_timeout_ms: 60_000, ..TunnelSettings::default() };
    let Some((running, address)) = front(&behind.backend, settings) else { return };
    let mut client = connect(address);
    client.write_all(request("/", "t").as_bytes()).expect("it is open");
    assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(client);
    assert_eq!(told.recv_timeout(PATIENCE), Ok("ended"));
    wait_until("counted", || running.counter("backend_answers_unwanted") == 1);
    running.stop().expect("it stops");
}

#[test]
fn the_request_is_replayed_and_the_101_of_the_backend_is_the_clients() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        tell.send(peer.read_head()).expect("the test waits");
        let head = "HTTP/1.1 101 Sure\r\nUPGRADE: WebSocket\r\nConnection: upgrade, x-own\r\n\
                    X-Own: 1\r\nSec-WebSocket-Accept: yes=\r\nSec-WebSocket-Protocol: chat\r\n\
                    Sec-WebSocket-Extensions: permessage-deflate\r\nServer: behind\r\n\
                    Set-Cookie: a=b\r\n\r\n";
        peer.write_all(head.as_bytes()).expect("the server reads");
    });
    let terms = Terms {
        forwarded: Forwarded::Rfc7239,
        host: Some("app:1".to_owned()),
        via: Some("edge".to_owned()),
        ..Terms::default()
    };
    let settings = TunnelSettings { terms, ..TunnelSettings::default() };
    let tunnel = Tunnel::to(behind.backend.clone()).with(settings).expect("they can be sent");
    let Some(running) = serve(config(), tunnel.protocol("websocket")) else { return };
    let mut client = connect(running.addresses()[0]);
    let asked = "GET /?a=%20 HTTP/1.1\r\nHost: a\r\nUpgrade: x, WebSocket\r\n\
                 Connection: Upgrade, X-Hop\r\nX-Hop: 1\r\nSec-WebSocket-Key: k=\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
                 Forwarded: for=6.6.6.6\r\n\r\n";
    client.write_all(asked.as_bytes()).expect("it is open");
    assert_eq!(
        told.recv_timeout(PATIENCE).expect("it was asked"),
        "GET /?a=%20 HTTP/1.1\r\nHost: app:1\r\nSec-WebSocket-Key: k=\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
         Forwarded: for=127.0.0.1;host=\"a\";proto=http\r\nVia: 1.1 edge\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    assert_eq!(
        read_head(&mut client),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: yes=\r\nSec-WebSocket-Protocol: chat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\nSet-Cookie: a=b\r\n\r\n"
    );
    running.stop().expect("it stops");
}

#[test]
fn versions_methods_and_content_that_are_taken_are_replayed() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Unix, move |mut peer, _| {
        let head = peer.read_head();
        let content = peer.read_bytes(5);
        tell.send((head, content)).expect("the test waits");
        let answer = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: T/2\r\n\r\n";
        peer.write_all(answer.as_bytes()).expect("the server reads");
    });
    let protocol = tunnel(&behind.backend, impatient())
        .any_version()
        .methods(&[upring::Method::Post])
        .content_bytes_max(10);
    let Some(running) = serve(config(), protocol) else { return };
    let mut client = connect(running.addresses()[0]);
    let asked = "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: t/2\r\nConnection: Upgrade\r\n\
                 Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    client.write_all(asked.as_bytes()).expect("it is open");
    let (head, content) = told.recv_timeout(PATIENCE).expect("it was asked");
    assert_eq!(
        head,
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: t/2\r\n\
         Content-Length: 5\r\n\r\n"
    );
    assert_eq!(content, b"hello");
    assert!(read_head(&mut client).contains("Upgrade: t/2\r\n"));
    running.stop().expect("it stops");
}

#[test]
fn bytes_sent_early_by_either_side_come_first_and_in_order() {
    for kind in KINDS {
        let (tell, told) = channel();
        let behind = Behind::start(kind, move |mut peer, _| {
            peer.set_patience();
            peer.read_head();
            let early = [SWITCHING, b"backend, "].concat();
            peer.write_all(&early).expect("the server reads");
            tell.send(peer.read_bytes(12)).expect("the test waits");
            peer.write_all(b"behind").expect("the server reads");
        });
        let Some((running, address)) = front(&behind.backend, impatient()) else { return };
        let mut client = upgrade(address, "t", b"client, ");
        client.write_all(b"late").expect("it is open");
        assert_eq!(told.recv_timeout(PATIENCE).expect("they come"), b"client, late");
        assert_eq!(read_to_end(&mut client), b"backend, behind");
        running.stop().expect("it stops");
    }
}

#[test]
fn a_mebibyte_in_odd_sizes_comes_back() {
    for kind in KINDS {
        let behind = switching(kind, echo);
        let Some((running, address)) = front(&behind.backend, impatient()) else { return };
        let bytes = pattern(MEBIBYTE);
        let mut client = upgrade(address, "t", &bytes[..77]);
        let (mut writer, rest) = (client.try_clone().expect("it is open"), bytes[77..].to_vec());
        thread::spawn(move || {
            let mut rest = &rest[..];
            for size in [1, 3, 4095, 4097, 17, 10_007, 65_537, 2].into_iter().cycle() {
                let (piece, left) = rest.split_at(size.min(rest.len()));
                writer.write_all(piece).expect("the server reads");
                rest = left;
                if rest.is_empty() {
                    return;
                }
            }
        });
        assert_comes_back(&mut client, &bytes, "echo");
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_to_end(&mut client), b"");
        wait_until("it is over", || running.counter("tunnels_open") == 0);
        assert_eq!(running.counter("backend_connections_open"), 0);
        assert_eq!(running.counter("tunnels_reset"), 0);
        running.stop().expect("it stops");
    }
}

#[test]
fn an_end_goes_on_as_an_end_and_the_other_direction_goes_on() {
    for kind in KINDS {
        let behind = switching(kind, |mut peer| {
            let all = peer.read_to_end();
            peer.write_all(format!("{} bytes", all.len()).as_bytes()).expect("it is open");
        });
        let Some((running, address)) = front(&behind.backend, impatient()) else { return };
        let mut client = upgrade(address, "t", b"12345");
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_to_end(&mut client), b"5 bytes", "the client ends first");
        running.stop().expect("it stops");

        let (tell, told) = channel();
        let behind = switching(kind, move |mut peer| {
            peer.write_all(b"all I have").expect("it is open");
            peer.end();
            tell.send(peer.read_to_end()).expect("the test waits");
        });
        let Some((running, address)) = front(&behind.backend, impatient()) else { return };
        let mut client = upgrade(address, "t", b"");
        assert_eq!(read_to_end(&mut client), b"all I have", "the backend ends first");
        client.write_all(b"still here").expect("its direction is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(told.recv_timeout(PATIENCE).expect("it ends"), b"still here");
        wait_until("it is over", || running.counter("tunnels_open") == 0);
        assert_eq!(running.counter("tunnels_reset"), 0);
        running.stop().expect("it stops");
    }
}

#[test]
fn a_reset_goes_on_as_a_reset() {
    let (tell, told) = channel();
    let behind = switching(Kind::Tcp, move |mut peer| {
        tell.send(peer.read(&mut [0])).expect("the test waits");
    });
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    let client = upgrade(address, "t", b"");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(client);
    let end = told.recv_timeout(PATIENCE).expect("the backend hears of it");
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    wait_until("counted", || running.counter("tunnels_reset") == 1);
    running.stop().expect("it stops");

    let behind = switching(Kind::Tcp, |mut peer| {
        peer.read_bytes(1);
        peer.reset();
    });
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    let mut client = upgrade(address, "t", b"x");
    let end = client.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    wait_until("counted", || running.counter("tunnels_reset") == 1);
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_resets_after_its_end_takes_a_silent_backend_with_it() {
    let (tell, told) = channel();
    let behind = switching(Kind::Tcp, move |mut peer| {
        peer.read_to_end();
        tell.send(()).expect("the test waits");
        // What it says goes nowhere: sooner or later it hears of that.
        while peer.write_all(b"?").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        tell.send(()).expect("the test waits");
    });
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    let client = upgrade(address, "t", b"");
    client.shutdown(Shutdown::Write).expect("it is open");
    told.recv_timeout(PATIENCE).expect("the end goes on");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(client);
    told.recv_timeout(PATIENCE).expect("the reset goes on");
    running.stop().expect("it stops");
}

/// What a counter has come to when it has stopped rising.
fn settled(count: impl Fn() -> u64) -> u64 {
    let (mut last, mut since) = (count(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        thread::sleep(Duration::from_millis(10));
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

#[test]
fn a_client_that_does_not_read_holds_the_backend_and_loses_nothing() {
    const TOTAL: usize = 24 * MEBIBYTE;
    for kind in KINDS {
        let behind = switching(kind, |mut peer| {
            peer.write_all(&pattern(TOTAL)).expect("the client is slow, not gone");
        });
        let Some((running, address)) = front(&behind.backend, impatient()) else { return };
        let mut client = upgrade(address, "t", b"");
        let received = settled(|| running.counter("backend_bytes_received"));
        let sent = running.counter("bytes_sent");
        assert!((received as usize) < TOTAL, "all of it was taken for a client that reads nothing");
        let waits = received - sent;
        assert!(waits <= 256 * 1024, "{waits} bytes wait in memory");
        assert_comes_back(&mut client, &pattern(TOTAL), "behind a pause");
        assert_eq!(read_to_end(&mut client), b"");
        running.stop().expect("it stops");
    }
}

#[test]
fn a_backend_that_does_not_read_holds_the_client_and_loses_nothing() {
    const TOTAL: usize = 24 * MEBIBYTE;
    for kind in KINDS {
        let (go_on, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let (tell, told) = channel();
        let behind = switching(kind, move |mut peer| {
            let waited = wait.lock().map(|wait| wait.recv_timeout(PATIENCE));
            waited.expect("one connection").expect("the test says when");
            tell.send(peer.read_to_end() == pattern(TOTAL)).expect("the test waits");
        });
        let Some((running, address)) = front(&behind.backend, impatient()) else { return };
        let client = upgrade(address, "t", b"");
        let mut writer = client.try_clone().expect("it is open");
        thread::spawn(move || {
            writer.write_all(&pattern(TOTAL)).expect("the backend is slow, not gone");
            writer.shutdown(Shutdown::Write).expect("it is open");
        });
        let received = settled(|| running.counter("bytes_received"));
        let sent = running.counter("backend_bytes_sent");
        assert!(
            (received as usize) < TOTAL,
            "all of it was taken for a backend that reads nothing"
        );
        let waits = received - sent;
        // Eight leases wait for the tunnel, sixteen for the handler, and what the kernel had in
        // hand.
        assert!(waits <= 6 * MEBIBYTE as u64, "{waits} bytes wait in memory");
        go_on.send(()).expect("it waits");
        assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "what came is what was sent");
        drop(client);
        running.stop().expect("it stops");
    }
}

#[test]
fn silence_ends_a_tunnel_and_sooner_when_one_side_has_ended() {
    for (idle_timeout_ms, half_closed_timeout_ms, ends) in [(150, 60_000, false), (0, 150, true)] {
        let behind = switching(Kind::Tcp, |mut peer| {
            let mut bytes = [0; 16];
            while matches!(peer.read(&mut bytes), Ok(1..)) {
                peer.write_all(b"y").expect("it is open");
            }
            thread::sleep(PATIENCE);
        });
        let settings = TunnelSettings { idle_timeout_ms, half_closed_timeout_ms, ..impatient() };
        let Some((running, address)) = front(&behind.backend, settings) else { return };
        let mut client = upgrade(address, "t", b"");
        // As long as something is said, it goes on.
        for _ in 0..6 {
            thread::sleep(Duration::from_millis(50));
            client.write_all(b"x").expect("it is open");
            client.read_exact(&mut [0]).expect("it is answered");
        }
        if ends {
            client.shutdown(Shutdown::Write).expect("it is open");
        }
        let silent = Instant::now();
        assert_eq!(read_to_end(&mut client), b"");
        let lasted = silent.elapsed();
        assert!(
            lasted > Duration::from_millis(100) && lasted < Duration::from_secs(5),
            "{lasted:?}"
        );
        wait_until("counted", || running.counter("tunnels_idle_timeouts") == 1);
        drop(client);
        running.stop().expect("it stops");
    }
}

#[test]
fn many_tunnels_live_at_once_and_idle_ones_hold_no_buffer() {
    let behind = switching(Kind::Unix, echo);
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    let mut clients: Vec<_> = (0..100).map(|_| upgrade(address, "t", b"")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(format!("{number:03}").as_bytes()).expect("it is open");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_comes_back(client, format!("{number:03}").as_bytes(), "one of many");
    }
    assert_eq!(running.counter("tunnels_open"), 100);
    wait_until("no buffer is held", || running.counter("buffers_held") == 0);
    drop(clients);
    wait_until("they are over", || running.counter("tunnels_open") == 0);
    running.stop().expect("it stops");
}

#[test]
fn the_native_mode_does_not_start_with_a_tunnel() {
    let tunnel = Tunnel::to("127.0.0.1:9".parse().expect("a backend")).protocol("t");
    let resource = Resource::new().upgrade(tunnel);
    let server = Server::new(Config { host: HostKind::Native, ..config() }).route("/", resource);
    let error = server.start().map(|_| ()).expect_err("it has no runtime").to_string();
    assert!(error.contains("the protocol t"), "{error}");
}

/// Connections that the backend has seen, however they ended.
#[test]
fn each_tunnel_has_a_connection_of_its_own() {
    let seen = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&seen);
    let behind = switching(Kind::Tcp, move |peer| {
        counted.fetch_add(1, Ordering::SeqCst);
        echo(peer);
    });
    let Some((running, address)) = front(&behind.backend, impatient()) else { return };
    for _ in 0..3 {
        let mut client = upgrade(address, "t", b"a");
        assert_comes_back(&mut client, b"a", "echo");
    }
    assert_eq!((seen.load(Ordering::SeqCst), behind.connections()), (3, 3));
    running.stop().expect("it stops");
}
