//! The reverse proxy over loopback: what backends may answer, over TCP and Unix sockets, what they
//! get, and how connections to them are used again.

#[path = "support/backends.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod backends;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use backends::{Behind, KINDS, Kind, Peer, free_path};
use loopback::{PATIENCE, config, connect, pattern, read_head, read_to_end, start, wait_until};
use socket2::SockRef;
use upring::{
    Backend, Config, Forwarded, HostKind, Proxy, ProxySettings, Resource, Running, Server, Terms,
    Tunnel, TunnelSettings,
};

const MEBIBYTE: usize = 1024 * 1024;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that leaves everything to a backend.
fn front(backend: &Backend, settings: ProxySettings) -> Option<(Running, SocketAddr)> {
    let mut config = config();
    // Clients of the tests are still there when their server stops.
    config.limits.linger_timeout_ms = 50;
    let proxy = Proxy::to(backend.clone()).with(settings).expect("they can be sent");
    let running = start(Server::new(config).route("/*", proxy.resource()))?;
    let address = running.addresses()[0];
    Some((running, address))
}

/// Quick enough for a test that waits for them, and quiet about itself.
fn quiet() -> ProxySettings {
    ProxySettings {
        connect_timeout_ms: 300,
        answer_timeout_ms: 300,
        idle_timeout_ms: 300,
        terms: Terms { forwarded: Forwarded::Off, via: None, ..Terms::default() },
        ..ProxySettings::default()
    }
}

/// Reads a request whole: its head, and its content as it was framed.
fn read_request(peer: &mut Peer) -> Option<(String, Vec<u8>)> {
    let head = peer.read_head();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let content = match length {
        Some(length) => peer.read_bytes(length.parse().expect("a number")),
        None if head.contains("Transfer-Encoding: chunked") => read_chunks(peer),
        None => Vec::new(),
    };
    (!head.is_empty()).then_some((head, content))
}

/// The data of a chunked content; trailers are left out.
fn read_chunks(peer: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let size = read_line(peer);
        let size = usize::from_str_radix(size.trim(), 16).expect("a size in hex");
        if size == 0 {
            while read_line(peer) != "\r\n" {}
            return all;
        }
        let at = all.len();
        all.resize(at + size + 2, 0);
        peer.read_exact(&mut all[at..]).expect("it comes whole");
        assert_eq!(all.split_off(at + size), b"\r\n");
    }
}

fn read_line(peer: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        peer.read_exact(&mut byte).expect("a line has an end");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("it is ASCII")
}

/// A backend that answers every request with this, on as many connections as are made.
fn answering(kind: Kind, answer: impl Into<Vec<u8>>) -> Behind {
    let answer = answer.into();
    Behind::start(kind, move |mut peer, _| {
        while read_request(&mut peer).is_some() {
            peer.write_all(&answer).expect("the server reads");
        }
    })
}

fn ask(client: &mut TcpStream, request: &str) {
    client.write_all(request.as_bytes()).expect("it is open");
}

/// An answer's head and content, read as its framing says.
fn read_answer(client: &mut TcpStream) -> (String, Vec<u8>) {
    let head = read_head(client);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let content = match length {
        Some(length) => {
            let mut content = vec![0; length.parse().expect("a number")];
            client.read_exact(&mut content).expect("it comes whole");
            content
        }
        None if head.contains("Transfer-Encoding: chunked") => read_chunks(client),
        None => Vec::new(),
    };
    (head, content)
}

/// An answer without the fields that this server writes into each.
fn without_own(head: &str) -> String {
    let own = |line: &&str| !line.starts_with("Server: ") && !line.starts_with("Date: ");
    head.split_inclusive("\r\n").filter(own).collect()
}

#[test]
fn answers_are_passed_on_with_one_framing() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (request, answer, head, content) in [
        ("GET / HTTP/1.1", OK.to_owned(), "200 OK\r\nContent-Length: 2\r\n\r\n", "ok"),
        (
            "GET / HTTP/1.1",
            "HTTP/1.1 404 Nope\r\ncontent-type: a/b\r\nX: y\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            "404 Not Found\r\nContent-Type: a/b\r\nContent-Length: 0\r\nX: y\r\n\r\n",
            "",
        ),
        (
            "GET / HTTP/1.1",
            format!("HTTP/1.1 200 OK\r\n{chunked}\r\n2\r\nok\r\n3\r\n, o\r\n1\r\nk\r\n0\r\n\r\n"),
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "ok, ok",
        ),
        (
            "GET / HTTP/1.1",
            "HTTP/1.0 200 OK\r\n\r\nup to the end".to_owned(),
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "up to the end",
        ),
        ("DELETE / HTTP/1.1", "HTTP/1.1 204 x\r\n\r\n".to_owned(), "204 No Content\r\n\r\n", ""),
        (
            "GET / HTTP/1.1",
            "HTTP/1.1 304 x\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n".to_owned(),
            "304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            "",
        ),
        (
            "OPTIONS / HTTP/1.1",
            "HTTP/1.1 200 x\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "200 OK\r\nContent-Length: 0\r\nAllow: GET\r\n\r\n",
            "",
        ),
        (
            "GET / HTTP/1.1",
            format!("HTTP/1.1 103 Hint\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{OK}"),
            "200 OK\r\nContent-Length: 2\r\n\r\n",
            "ok",
        ),
        (
            "GET / HTTP/1.1",
            "HTTP/1.1 299 x\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
             Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            "299 \r\nContent-Length: 0\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
            "",
        ),
    ] {
        for kind in KINDS {
            let behind = Behind::saying(kind, answer.clone());
            let Some((running, address)) = front(&behind.backend, quiet()) else { return };
            let mut client = connect(address);
            ask(&mut client, &format!("{request}\r\nHost: a\r\n\r\n"));
            let (found, body) = read_answer(&mut client);
            assert_eq!(without_own(&found), format!("HTTP/1.1 {head}"), "{answer:?}");
            assert_eq!(String::from_utf8_lossy(&body), content, "{answer:?}");
            // Nothing follows, and the connection is still good.
            ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let (next, _) = read_answer(&mut client);
            assert!(next.starts_with("HTTP/1.1 "), "{next}");
            running.stop().expect("it stops");
        }
    }
}

#[test]
fn an_answer_may_be_cut_anywhere() {
    const SAID: &str = "HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                        2;a=b\r\nok\r\n4\r\n, ok\r\n0\r\nX: y\r\n\r\n";
    let behind = Behind::start(Kind::Tcp, |mut peer, _| {
        for cut in 0.. {
            if read_request(&mut peer).is_none() {
                return;
            }
            let (front, rest) = SAID.as_bytes().split_at(cut % SAID.len());
            for part in [front, rest] {
                peer.write_all(part).expect("the server reads");
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let settings = ProxySettings { answer_timeout_ms: 5000, idle_timeout_ms: 5000, ..quiet() };
    let Some((running, address)) = front(&behind.backend, settings) else { return };
    let mut client = connect(address);
    for cut in 0..SAID.len() {
        ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(read_answer(&mut client).1, b"ok, ok", "cut at {cut}");
    }
    assert_eq!(behind.connections(), 1);
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_waits_for_a_100_has_it_when_the_backend_wants_its_content() {
    // Asked for at once; not at all, and taken all the same; refused from the head alone.
    for (first, is_answer) in [("HTTP/1.1 100 x\r\n\r\n", false), ("", false), (OK, true)] {
        let (tell, told) = channel();
        let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
            let head = peer.read_head();
            peer.write_all(first.as_bytes()).expect("the server reads");
            let content = if is_answer { peer.read_to_end() } else { peer.read_bytes(2) };
            tell.send((head, content)).expect("the test waits");
            let _ = peer.write_all(OK.as_bytes());
        });
        let settings = ProxySettings { answer_timeout_ms: 5000, ..quiet() };
        let Some((running, address)) = front(&behind.backend, settings) else { return };
        let mut client = connect(address);
        let fields = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n";
        ask(&mut client, &format!("POST / HTTP/1.1\r\n{fields}\r\n"));
        if !is_answer {
            assert_eq!(read_head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n", "{first:?}");
            ask(&mut client, "hi");
        }
        assert_eq!(read_answer(&mut client).1, b"ok");
        let (head, content) = told.recv_timeout(PATIENCE).expect("it was asked");
        assert_eq!(head, format!("POST / HTTP/1.1\r\n{fields}\r\n"));
        assert_eq!(content, if is_answer { &b""[..] } else { b"hi" });
        running.stop().expect("it stops");
    }
}

#[test]
fn a_server_that_stops_closes_the_connections_it_keeps() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        read_request(&mut peer);
        peer.write_all(OK.as_bytes()).expect("the server reads");
        tell.send(peer.read_to_end()).expect("the test waits");
    });
    let settings = ProxySettings { idle_connection_timeout_ms: 3_600_000, ..quiet() };
    let Some((running, address)) = front(&behind.backend, settings) else { return };
    let mut client = connect(address);
    ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(read_answer(&mut client).1, b"ok");
    wait_until("it is kept", || running.counter("backend_connections_open") == 1);
    running.stop().expect("it stops");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Vec::new()));
}

#[test]
fn head_is_answered_as_get_without_content() {
    for (answer, head) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "Content-Length: 7"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked"),
    ] {
        let behind = answering(Kind::Tcp, answer);
        let Some((running, address)) = front(&behind.backend, quiet()) else { return };
        let mut client = connect(address);
        for _ in 0..2 {
            ask(&mut client, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
            let found = without_own(&read_head(&mut client));
            assert_eq!(found, format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
        }
        assert_eq!(behind.connections(), 1, "nothing follows the head, so it is used again");
        running.stop().expect("it stops");
    }
}

#[test]
fn an_answer_that_cannot_be_told_from_the_next_is_a_502_and_the_connection_is_dropped() {
    for (answer, counter) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
            "backend_answers_faulty",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            "backend_answers_faulty",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "backend_answers_faulty"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "backend_answers_faulty",
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "backend_answers_faulty",
        ),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "backend_answers_faulty"),
        ("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "backend_answers_faulty"),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "backend_answers_faulty"),
        ("HTTP/1.1 101 x\r\nUpgrade: t\r\n\r\n", "backend_answers_faulty"),
        ("HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n", "backend_answers_faulty"),
        ("220 mail ESMTP\r\n\r\n", "backend_answers_faulty"),
    ] {
        let (tell, told) = channel();
        let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
            peer.read_head();
            peer.write_all(answer.as_bytes()).expect("the server reads");
            tell.send(peer.read_to_end()).expect("the test waits");
        });
        let Some((running, address)) = front(&behind.backend, quiet()) else { return };
        let mut client = connect(address);
        ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, _) = read_answer(&mut client);
        assert!(head.starts_with("HTTP/1.1 502 "), "{answer:?}: {head}");
        assert_eq!(told.recv_timeout(PATIENCE).expect("it is dropped"), b"", "{answer:?}");
        assert_eq!(running.counter(counter), 1, "{answer:?}");
        running.stop().expect("it stops");
    }
}

#[test]
fn a_connection_on_which_more_than_an_answer_came_is_not_used_again() {
    for answer in [
        format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        "HTTP/1.1 204 x\r\nContent-Length: 6\r\n\r\npoison".to_owned(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{OK}"),
    ] {
        let behind = answering(Kind::Tcp, answer.clone());
        let Some((running, address)) = front(&behind.backend, quiet()) else { return };
        let mut client = connect(address);
        for _ in 0..3 {
            ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let (head, content) = read_answer(&mut client);
            assert!(head.starts_with("HTTP/1.1 20"), "{head}");
            assert!(content.is_empty() || content == b"ok", "{answer:?}: {content:?}");
        }
        assert_eq!(behind.connections(), 3, "{answer:?}");
        running.stop().expect("it stops");
    }
}

#[test]
fn a_backend_gets_each_request_with_one_framing_and_its_content_whole() {
    let mebibyte = pattern(MEBIBYTE);
    let chunks = |bytes: &[u8]| -> Vec<u8> {
        let pieces = bytes.chunks(10_007).map(|piece| {
            [format!("{:x};a=b\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
        });
        [pieces.collect::<Vec<_>>().concat(), b"0\r\nX-Sum: 1\r\n\r\n".to_vec()].concat()
    };
    for (fields, sent, content, framing) in [
        ("Content-Length: 5\r\n", b"hello".to_vec(), b"hello".to_vec(), "Content-Length: 5\r\n"),
        ("Content-Length: 0\r\n", Vec::new(), Vec::new(), "Content-Length: 0\r\n"),
        ("", Vec::new(), Vec::new(), ""),
        (
            "Content-Length: 1048576\r\n",
            mebibyte.clone(),
            mebibyte.clone(),
            "Content-Length: 1048576\r\n",
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            chunks(&mebibyte),
            mebibyte.clone(),
            "Transfer-Encoding: chunked\r\n",
        ),
        (
            "Connection: content-length, transfer-encoding\r\nContent-Length: 2\r\n",
            b"ok".to_vec(),
            b"ok".to_vec(),
            "Content-Length: 2\r\n",
        ),
    ] {
        for (kind, method) in KINDS.into_iter().zip(["POST", "PUT"]) {
            let (tell, told) = channel();
            let behind = Behind::start(kind, move |mut peer, _| {
                while let Some(request) = read_request(&mut peer) {
                    tell.send(request).expect("the test waits");
                    peer.write_all(OK.as_bytes()).expect("the server reads");
                }
            });
            let Some((running, address)) = front(&behind.backend, quiet()) else { return };
            let mut client = connect(address);
            for _ in 0..2 {
                let head = format!("{method} /a?b HTTP/1.1\r\nHost: a\r\n{fields}X: y\r\n\r\n");
                client.write_all(&[head.as_bytes(), &sent].concat()).expect("the server reads");
                assert_eq!(read_answer(&mut client).1, b"ok");
                let (head, found) = told.recv_timeout(PATIENCE).expect("it was asked");
                let expected =
                    format!("{method} /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n{framing}\r\n");
                assert_eq!(head, expected);
                assert!(found == content, "{fields:?}: {} bytes came", found.len());
            }
            assert_eq!(behind.connections(), 1);
            running.stop().expect("it stops");
        }
    }
}

#[test]
fn trailers_go_on_in_both_directions() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        peer.read_head();
        tell.send(peer.read_bytes(24)).expect("the test waits");
        let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Back\r\nTransfer-Encoding: chunked\r\n\r\n\
                      2\r\nok\r\n0\r\nX-Back: 2\r\nHost: no\r\n\r\n";
        peer.write_all(answer.as_bytes()).expect("the server reads");
    });
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let mut client = connect(address);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n\
                   2\r\nhi\r\n0\r\nHost: no\r\nX-There: 1\r\n\r\n";
    ask(&mut client, request);
    let came = told.recv_timeout(PATIENCE).expect("it was asked");
    assert_eq!(String::from_utf8_lossy(&came), "2\r\nhi\r\n0\r\nX-There: 1\r\n\r\n");
    let all = String::from_utf8(read_to_end(&mut client)).expect("it is ASCII");
    assert!(all.contains("\r\nTrailer: X-Back\r\n"), "{all}");
    assert!(all.ends_with("\r\n\r\n2\r\nok\r\n0\r\nX-Back: 2\r\n\r\n"), "{all}");
    running.stop().expect("it stops");
}

#[test]
fn a_mebibyte_comes_back_whole_whatever_its_framing() {
    let bytes = pattern(MEBIBYTE);
    let chunks: Vec<u8> = bytes
        .chunks(4099)
        .flat_map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
        .collect();
    let answers = [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n", &bytes[..]].concat(),
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunks[..], b"0\r\n\r\n"]
            .concat(),
        [b"HTTP/1.1 200 OK\r\n\r\n", &bytes[..]].concat(),
    ];
    for answer in answers {
        for kind in KINDS {
            let behind = Behind::saying(kind, answer.clone());
            let Some((running, address)) = front(&behind.backend, quiet()) else { return };
            let mut client = connect(address);
            ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let (head, content) = read_answer(&mut client);
            assert!(content == bytes, "{head}: {} bytes came", content.len());
            // HTTP/1.0 has no chunks: what has no length ends with the connection.
            let mut client = connect(address);
            ask(&mut client, "GET / HTTP/1.0\r\n\r\n");
            let head = read_head(&mut client);
            assert!(!head.contains("chunked"), "{head}");
            assert!(read_to_end(&mut client) == bytes, "{head}");
            running.stop().expect("it stops");
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_over_one_connection() {
    let behind = Behind::start(Kind::Tcp, |mut peer, _| {
        while let Some((head, _)) = read_request(&mut peer) {
            let target = head.split(' ').nth(1).expect("a target");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", target.len());
            peer.write_all((answer + target).as_bytes()).expect("the server reads");
        }
    });
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let mut client = connect(address);
    let requests: String =
        (0..20).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    ask(&mut client, &requests);
    for number in 0..20 {
        assert_eq!(read_answer(&mut client).1, format!("/{number}").as_bytes());
    }
    assert_eq!(behind.connections(), 1);
    assert_eq!(running.counter("backend_connections_reused"), 19);
    running.stop().expect("it stops");
}

#[test]
fn a_kept_connection_that_the_backend_has_closed_is_not_used() {
    for kind in KINDS {
        let behind = Behind::start(kind, |mut peer, _| {
            // Without a word in its answer.
            read_request(&mut peer);
            let _ = peer.write_all(OK.as_bytes());
        });
        let Some((running, address)) = front(&behind.backend, quiet()) else { return };
        let mut client = connect(address);
        for number in 1..=3 {
            ask(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
            assert_eq!(read_answer(&mut client).1, b"ok");
            thread::sleep(Duration::from_millis(30));
            assert_eq!(behind.connections(), number);
        }
        assert_eq!(running.counter("backend_retries"), 0);
        running.stop().expect("it stops");
    }
}

#[test]
fn a_kept_connection_that_dies_under_a_request_costs_only_those_that_cannot_be_repeated() {
    for (request, is_repeated) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", false),
    ] {
        for is_reset in [false, true] {
            let behind = Behind::start(Kind::Tcp, move |mut peer, number| {
                read_request(&mut peer);
                peer.write_all(OK.as_bytes()).expect("the server reads");
                let again = read_request(&mut peer);
                if number == 0 && is_reset {
                    return peer.reset();
                }
                // The first connection dies with its second request in hand.
                if number > 0 && again.is_some() {
                    peer.write_all(OK.as_bytes()).expect("the server reads");
                }
            });
            let Some((running, address)) = front(&behind.backend, quiet()) else { return };
            let mut client = connect(address);
            ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(read_answer(&mut client).1, b"ok");
            ask(&mut client, request);
            let (head, _) = read_answer(&mut client);
            let expected = if is_repeated { "HTTP/1.1 200 " } else { "HTTP/1.1 502 " };
            assert!(head.starts_with(expected), "{request:?}: {head}");
            assert_eq!(running.counter("backend_retries"), u64::from(is_repeated));
            assert_eq!(behind.connections(), if is_repeated { 2 } else { 1 });
            running.stop().expect("it stops");
        }
    }
}

#[test]
fn a_request_is_repeated_once_and_not_for_ever() {
    let behind = Behind::start(Kind::Tcp, |mut peer, number| {
        read_request(&mut peer);
        if number == 0 {
            peer.write_all(OK.as_bytes()).expect("the server reads");
            read_request(&mut peer);
        }
    });
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let mut client = connect(address);
    for expected in ["HTTP/1.1 200 ", "HTTP/1.1 502 "] {
        ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, _) = read_answer(&mut client);
        assert!(head.starts_with(expected), "{head}");
    }
    assert_eq!((behind.connections(), running.counter("backend_retries")), (2, 1));
    running.stop().expect("it stops");
}

#[test]
fn connections_are_kept_as_many_and_as_long_as_may_be() {
    let behind = Behind::start(Kind::Tcp, |mut peer, _| {
        while read_request(&mut peer).is_some() {
            thread::sleep(Duration::from_millis(100));
            peer.write_all(OK.as_bytes()).expect("the server reads");
        }
    });
    let settings = ProxySettings {
        connections_max: 3,
        idle_connections_max: 2,
        idle_connection_timeout_ms: 200,
        ..quiet()
    };
    let Some((running, address)) = front(&behind.backend, settings) else { return };
    let mut clients: Vec<_> = (0..4).map(|_| connect(address)).collect();
    for client in &mut clients {
        ask(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut refused = 0;
    for client in &mut clients {
        let (head, _) = read_answer(client);
        if head.starts_with("HTTP/1.1 503 ") {
            assert!(head.contains("Retry-After: 1\r\n"), "{head}");
            refused += 1;
        }
    }
    assert_eq!((refused, behind.connections()), (1, 3));
    assert_eq!(running.counter("backend_connections_full"), 1);
    wait_until("two are kept", || running.counter("backend_connections_open") == 2);
    wait_until("none is kept for ever", || running.counter("backend_connections_open") == 0);
    running.stop().expect("it stops");
}

#[test]
fn a_backend_that_is_not_there_or_late_is_told_apart() {
    let backend = format!("unix:{}", free_path().display()).parse().expect("a path");
    let Some((running, address)) = front(&backend, quiet()) else { return };
    let mut client = connect(address);
    ask(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let (head, content) = read_answer(&mut client);
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(String::from_utf8_lossy(&content).contains("is it running?"));
    // Its content was read, or thrown away: the connection goes on.
    ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(read_answer(&mut client).0.starts_with("HTTP/1.1 502 "));
    assert_eq!(running.counter("backend_connects_failed"), 2);
    running.stop().expect("it stops");

    let behind = Behind::start(Kind::Tcp, |mut peer, _| drop(peer.read_to_end()));
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let mut client = connect(address);
    // While the client is waited for, the backend is not late.
    ask(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    thread::sleep(Duration::from_millis(700));
    assert_eq!(running.counter("backend_answer_timeouts"), 0);
    let asked = Instant::now();
    ask(&mut client, "b");
    let (head, _) = read_answer(&mut client);
    assert!(head.starts_with("HTTP/1.1 504 ") && asked.elapsed() > Duration::from_millis(250));
    assert_eq!(running.counter("backend_answer_timeouts"), 1);
    running.stop().expect("it stops");
}

#[test]
fn an_answer_that_is_cut_or_falls_silent_cuts_the_clients() {
    for (answer, is_silent) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", true),
    ] {
        let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
            peer.read_head();
            peer.write_all(answer.as_bytes()).expect("the server reads");
            if is_silent {
                peer.read_to_end();
            }
        });
        let Some((running, address)) = front(&behind.backend, quiet()) else { return };
        let mut client = connect(address);
        ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut all = Vec::new();
        let end = client.read_to_end(&mut all).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{answer:?}");
        let counter = match (is_silent, answer.contains("x\r\n")) {
            (false, _) => "backend_answers_cut",
            (true, true) => "backend_answers_faulty",
            (true, false) => "backend_answer_timeouts",
        };
        assert_eq!(running.counter(counter), 1, "{answer:?}");
        running.stop().expect("it stops");
    }
}

#[test]
fn an_answer_may_come_before_the_content_has() {
    // It refuses, and reads no further: what is left of the content goes nowhere.
    let behind = Behind::start(Kind::Tcp, |mut peer, _| {
        peer.read_head();
        let answer = "HTTP/1.1 413 x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!";
        peer.write_all(answer.as_bytes()).expect("the server reads");
        thread::sleep(Duration::from_millis(300));
    });
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let mut client = connect(address);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
    client.write_all(&[head.as_bytes(), &[b'x'; 100_000]].concat()).expect("the server reads");
    let (head, content) = read_answer(&mut client);
    assert!(head.starts_with("HTTP/1.1 413 ") && content == b"no!", "{head}");
    running.stop().expect("it stops");
}

#[test]
fn both_directions_of_one_request_go_at_once() {
    // An echo that never has more than a piece.
    let behind = Behind::start(Kind::Unix, |mut peer, _| {
        peer.read_head();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n";
        peer.write_all(head.as_bytes()).expect("the server reads");
        let mut left = 8 * MEBIBYTE;
        let mut piece = vec![0; 64 * 1024];
        while left > 0 {
            let count = peer.read(&mut piece).expect("it comes");
            peer.write_all(&piece[..count]).expect("the server reads");
            left -= count;
        }
        peer.read_head();
    });
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let bytes = pattern(8 * MEBIBYTE);
    let mut client = connect(address);
    let (mut writer, sent) = (client.try_clone().expect("it is open"), bytes.clone());
    let writing = thread::spawn(move || {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n";
        writer.write_all(head.as_bytes()).expect("it is open");
        writer.write_all(&sent).expect("the server reads");
    });
    let (_, content) = read_answer(&mut client);
    assert!(content == bytes, "{} bytes came back", content.len());
    writing.join().expect("all was sent");
    wait_until("it is kept", || running.counter("backend_connections_open") == 1);
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_does_not_read_holds_the_backend_and_loses_nothing() {
    const TOTAL: usize = 24 * MEBIBYTE;
    let behind = Behind::start(Kind::Tcp, |mut peer, _| {
        peer.read_head();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
        peer.write_all(head.as_bytes()).expect("the server reads");
        peer.write_all(&pattern(TOTAL)).expect("the client is slow, not gone");
    });
    let settings = ProxySettings { idle_timeout_ms: 10_000, ..quiet() };
    let Some((running, address)) = front(&behind.backend, settings) else { return };
    let mut client = connect(address);
    ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut received = 0;
    wait_until("it is held", || {
        let before = std::mem::replace(&mut received, running.counter("backend_bytes_received"));
        thread::sleep(Duration::from_millis(300));
        before == received && before > 0
    });
    assert!((received as usize) < TOTAL, "all of it was taken for a client that reads nothing");
    let waits = received - running.counter("bytes_sent");
    assert!(waits <= 256 * 1024, "{waits} bytes wait in memory");
    assert!(read_answer(&mut client).1 == pattern(TOTAL));
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_is_gone_takes_the_backends_connection_with_it() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        peer.read_head();
        tell.send("asked").expect("the test waits");
        peer.read_to_end();
        tell.send("ended").expect("the test waits");
    });
    let settings = ProxySettings { answer_timeout_ms: 60_000, ..quiet() };
    let Some((running, address)) = front(&behind.backend, settings) else { return };
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let mut client = connect(address);
        ask(&mut client, request);
        assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        drop(client);
        assert_eq!(told.recv_timeout(PATIENCE), Ok("ended"), "{request:?}");
    }
    running.stop().expect("it stops");
}

#[test]
fn content_that_ends_too_early_is_not_whole_for_the_backend_either() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        peer.read_head();
        tell.send(peer.read_to_end()).expect("the test waits");
    });
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let mut client = connect(address);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    ask(&mut client, head);
    client.shutdown(Shutdown::Write).expect("it is open");
    let came = told.recv_timeout(PATIENCE).expect("it ends");
    assert!(b"4\r\nhalf\r\n".starts_with(&came), "no last chunk: {came:?}");
    running.stop().expect("it stops");
}

#[test]
fn the_client_is_named_as_far_as_it_is_known_and_both_messages_say_who_passed_them_on() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        tell.send(peer.read_head()).expect("the test waits");
        let _ = peer.write_all(OK.as_bytes());
    });
    let Some((running, address)) = front(&behind.backend, ProxySettings::default()) else { return };
    let mut client = connect(address);
    ask(&mut client, "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    let head = told.recv_timeout(PATIENCE).expect("it was asked");
    assert!(!head.contains("6.6.6.6"), "{head}");
    assert!(head.contains("\r\nX-Forwarded-Host: shop\r\nX-Forwarded-Proto: http\r\n"), "{head}");
    assert!(head.contains("\r\nVia: 1.1 upring\r\n"), "{head}");
    assert!(read_head(&mut client).contains("\r\nVia: 1.1 upring\r\n"));
    running.stop().expect("it stops");
}

#[test]
fn a_backend_is_told_who_the_client_is_where_that_is_asked_for() {
    for forwarded in [Forwarded::XForwarded, Forwarded::Rfc7239] {
        let (tell, told) = channel();
        let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
            tell.send(peer.read_head()).expect("the test waits");
            let _ = peer.write_all(OK.as_bytes());
        });
        let terms = Terms { forwarded, ..Terms::default() };
        let tunnel = TunnelSettings { terms: terms.clone(), ..TunnelSettings::default() };
        let tunnel = Tunnel::to(behind.backend.clone()).with(tunnel).expect("they can be sent");
        let proxy = ProxySettings { terms, ..ProxySettings::default() };
        let proxy = Proxy::to(behind.backend.clone()).with(proxy).expect("they can be sent");
        let resource = proxy.resource().upgrade(tunnel.protocol("t"));
        // Nothing is said of `identify_clients`.
        let Some(running) = start(Server::new(config()).route("/*", resource)) else { return };
        for fields in ["Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: t\r\n"] {
            let mut client = connect(running.addresses()[0]);
            ask(&mut client, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            let head = told.recv_timeout(PATIENCE).expect("it was asked");
            let expected = match forwarded {
                Forwarded::XForwarded => "\r\nX-Forwarded-For: 127.0.0.1\r\n",
                _ => "\r\nForwarded: for=127.0.0.1;host=\"a\";proto=http\r\n",
            };
            assert!(head.contains(expected), "{head}");
        }
        running.stop().expect("it stops");
    }
}

#[test]
fn a_reload_that_brings_the_first_proxy_has_new_clients_named() {
    let (tell, told) = channel();
    let behind = Behind::start(Kind::Tcp, move |mut peer, _| {
        tell.send(peer.read_head()).expect("the test waits");
        let _ = peer.write_all(OK.as_bytes());
    });
    let Some(running) = start(Server::new(config())) else { return };
    let resource = Proxy::to(behind.backend.clone()).resource();
    let reloaded = running.reloader().reload(Server::new(config()).route("/*", resource));
    reloaded.expect("nothing that is fixed differs");
    wait_until("the core has the routes", || running.counter("renewals") == 1);
    let mut client = connect(running.addresses()[0]);
    ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = told.recv_timeout(PATIENCE).expect("it was asked");
    assert!(head.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"), "{head}");
    running.stop().expect("it stops");
}

#[test]
fn a_request_at_its_last_hop_is_answered_here() {
    let behind = answering(Kind::Tcp, OK);
    let Some((running, address)) = front(&behind.backend, quiet()) else { return };
    let mut client = connect(address);
    ask(&mut client, "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    let allow = "\r\nAllow: GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, PATCH\r\n";
    assert!(head.contains(allow), "{head}");
    // And what is allowed is done.
    let trace = "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nVia: 1.1 b\r\n";
    ask(&mut client, &format!("{trace}Cookie: secret\r\n\r\n"));
    let (head, content) = read_answer(&mut client);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\nContent-Type: message/http\r\n"), "{head}");
    assert_eq!(String::from_utf8_lossy(&content), format!("{trace}\r\n"));
    assert_eq!(behind.connections(), 0);
    running.stop().expect("it stops");
}

#[test]
fn the_native_mode_does_not_start_with_a_proxy() {
    let proxy = Proxy::to("127.0.0.1:9".parse().expect("a backend"));
    let server = Server::new(Config { host: HostKind::Native, ..config() });
    let server = server.route("/", Resource::new().get(proxy));
    let error = server.start().map(|_| ()).expect_err("it has no runtime").to_string();
    assert!(error.contains("Get of /"), "{error}");
}
