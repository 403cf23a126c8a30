//! The load generator against upring, of which it finds nothing wrong, and against servers that lie,
//! of each of which it says what is wrong.

#[path = "support/serving.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod serving;

#[path = "load/secured.rs"]
mod secured;

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use serving::Serving;
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};

const HOSTS: [&str; 2] = ["hosted", "native"];
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn load(arguments: &str, target: SocketAddr) -> Output {
    Command::new(env!("CARGO_BIN_EXE_upring-load"))
        .args(arguments.split_whitespace())
        .args(["--target", &target.to_string(), "--json"])
        .output()
        .expect("the binary is built with its tests")
}

/// The same, told as people read it.
fn text(arguments: &str, target: SocketAddr) -> Output {
    Command::new(env!("CARGO_BIN_EXE_upring-load"))
        .args(arguments.split_whitespace())
        .args(["--target", &target.to_string()])
        .output()
        .expect("the binary is built with its tests")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {output:?}");
    })
}

#[test]
fn of_upring_every_answer_is_right() {
    for host in HOSTS {
        let Some(server) = Serving::start(&["--workers", "1", "--host", host]) else { return };
        for arguments in [
            "http --requests 2000",
            "http --requests 2000 --depth 16 --content Hello,World! --path /plaintext",
            "http --requests 2000 --depth 3 --requests-per-connection 7",
            "http --requests 300 --requests-per-connection 1 --threads 2 --connections 9",
            "http --requests 640 --lock-step --pause-us 50",
            "http --seconds 0.5 --rate 2000 --depth 2",
            "http --seconds 0.5 --rate 4000 --depth 4 --requests-per-connection 3 --connections 4",
            "switch --requests 1000",
            "switch --requests 500 --late",
            "switch --requests 500 --bytes 0",
            "switch --requests 500 --token websocket",
            "switch --seconds 0.5 --rate 1000 --token websocket --late --bytes 70000",
            "echo --requests 2000 --bytes 100000 --connections 8",
            "echo --requests 2000 --token websocket --bytes 300 --depth 5",
            "echo --requests 1000 --rate 4000 --depth 4",
        ] {
            // What is served there has a blank in it, which words of arguments have not.
            let arguments = arguments.replace(" --content Hello,World!", "");
            let output = load(&arguments, server.address());
            let report = report(&output);
            assert_eq!(report["errors"], 0, "{host}, {arguments}: {report}");
            assert!(output.status.success(), "{host}, {arguments}");
            if let Some((_, count)) = arguments.split_once("--requests ")
                && let Ok(count) = count.split(' ').next().unwrap_or_default().parse::<u64>()
                && !arguments.contains("--rate")
            {
                assert_eq!(report["requests"], count, "{host}, {arguments}: {report}");
            }
        }
    }
}

#[test]
fn a_rate_is_held_and_what_was_late_counts_from_when_it_was_due() {
    let Some(server) = Serving::start(&["--workers", "1"]) else { return };
    let output = load("http --rate 500 --seconds 1", server.address());
    assert_eq!(report(&output)["requests"], 500);

    // A server that sleeps 300 ms once: in a closed loop one answer would be slow; at a rate of one a
    // millisecond every request that was due meanwhile is.
    let target = serve_each(|mut stream| {
        let mut count = 0;
        while read_head(&mut stream) {
            count += 1;
            if count == 100 {
                thread::sleep(std::time::Duration::from_millis(300));
            }
            stream.write_all(ANSWER).unwrap_or_default();
        }
    });
    let output = load("http --rate 1000 --seconds 1 --connections 1", target);
    let report = report(&output);
    assert_eq!((report["requests"].as_u64(), report["errors"].as_u64()), (Some(1000), Some(0)));
    let p90 = report["p90_us"].as_f64().unwrap_or_default();
    assert!(
        p90 > 100_000.0,
        "a tenth of them were due in the first two thirds of the pause: {p90}"
    );
}

#[test]
fn what_is_wrong_is_said_counted_and_in_the_status() {
    type Lie = fn(&mut TcpStream);
    let lies: [(&str, Lie, &str); 16] = [
        (
            "http",
            |stream| answer(stream, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
            "the status is 500",
        ),
        ("http --content ha", |stream| answer(stream, ANSWER), "the content differs"),
        (
            "http",
            |stream| answer(stream, &ANSWER[..ANSWER.len() - 1]),
            "the server closed the connection",
        ),
        (
            "http",
            |stream| answer(stream, &[ANSWER, b"!"].concat()),
            "bytes came that nobody asked for",
        ),
        (
            "http",
            |stream| answer(stream, b"HTTP/1.1 200 OK\r\n\r\nhi"),
            "Content-Length is missing",
        ),
        ("http", |stream| answer(stream, b"ICY 200 OK\r\n\r\n"), "the head is malformed"),
        ("http", |stream| answer(stream, b""), "the server closed the connection"),
        ("echo", |stream| answer(stream, ANSWER), "the status is 200"),
        (
            "echo",
            |stream| {
                answer(stream, b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
            },
            "does not name the protocol",
        ),
        (
            "echo --token websocket",
            |stream| {
                answer(
                    stream,
                    b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                )
            },
            "Sec-WebSocket-Accept",
        ),
        (
            "echo",
            |stream| {
                let twice = b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: echo\r\nUpgrade: other\r\n\r\n";
                answer(stream, twice);
            },
            "or not it alone",
        ),
        (
            // The answer to the key of RFC 6455 §1.3, which is nobody's.
            "echo --token websocket",
            |stream| {
                let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
                let fields = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{accept}");
                answer(stream, format!("HTTP/1.1 101 \r\n{fields}\r\n\r\n").as_bytes());
            },
            "Sec-WebSocket-Accept is missing, differs",
        ),
        (
            "echo --token websocket",
            |stream| {
                let switch = head(stream).and_then(|head| switch(&head)).unwrap_or_default();
                let fields = &switch[..switch.len() - 2];
                let twice = [fields, b"Sec-WebSocket-Accept: other\r\n\r\n"].concat();
                stream.write_all(&twice).unwrap_or_default();
                let _ = stream.read_to_end(&mut Vec::new());
            },
            "or is there twice",
        ),
        (
            "switch",
            |stream| echo(stream, 64, |bytes| bytes.truncate(63)),
            "the server closed the connection",
        ),
        ("switch", |stream| echo(stream, 64, |bytes| bytes[5] ^= 1), "byte 5 of the echo differs"),
        (
            "switch",
            |stream| echo(stream, 64, |bytes| bytes.push(0)),
            "bytes came that nobody asked for",
        ),
    ];
    for (arguments, lie, wrong) in lies {
        let target = serve_each(move |mut stream| lie(&mut stream));
        let arguments = format!("{arguments} --requests 20 --connections 2 --errors-max 5");
        let output = load(&arguments, target);
        let report = report(&output);
        assert!(report["errors"].as_u64() >= Some(1), "{arguments}: {report}");
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(wrong), "{arguments}, {wrong}: {said}");
    }
}

/// The classic of buffers that are used again: each gets what the other said, which is the
/// connection that came so many later.
#[test]
fn an_echo_that_belongs_to_another_connection_is_found_out() {
    for (arguments, connections, apart) in [
        ("echo --lock-step", 2, 1),
        ("switch", 2, 1),
        ("switch --late", 2, 1),
        ("switch --token websocket", 2, 1),
        // What each says is made of seventeen pieces, and of bytes that repeat after 251.
        ("echo --lock-step", 18, 17),
        ("echo --lock-step --token websocket", 18, 17),
        ("echo --lock-step --bytes 8 --token websocket", 18, 17),
        ("echo --lock-step --bytes 4000 --token websocket", 18, 17),
        ("echo --lock-step", 252, 251),
        // Each thread has connections of its own.
        ("echo --lock-step --threads 2", 2, 1),
        ("echo --lock-step --threads 2 --token websocket", 2, 1),
    ] {
        assert_crossing_is_found(arguments, connections, apart, 0);
    }
    // Crossed with itself, nothing is wrong.
    let output = load("echo --lock-step --requests 18 --connections 18", cross(18, 0, 64, 0));
    assert!(output.status.success(), "{output:?}");
}

/// A buffer that is used again behind its first bytes: each message begins as it has to.
#[test]
fn the_tail_of_an_echo_that_belongs_to_another_connection_is_found_out() {
    for protocol in ["", " --token websocket"] {
        for bytes in [1024, 4096] {
            let arguments = format!("echo --lock-step --bytes {bytes}{protocol}");
            assert_crossing_is_found(&arguments, 18, 17, 8);
        }
    }
}

/// That both are found whose messages are crossed behind their first `from` bytes.
fn assert_crossing_is_found(arguments: &str, connections: usize, apart: usize, from: usize) {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let bytes = words.iter().position(|word| *word == "--bytes");
    let bytes = bytes.map_or(64, |place| words[place + 1].parse().expect("a number"));
    let target = cross(connections, apart, bytes, from);
    let count = format!("--requests {connections} --connections {connections} --limit 20");
    let output = load(&format!("{arguments} {count}"), target);
    assert_eq!(output.status.code(), Some(1), "{arguments}, {apart}: {output:?}");
    assert!(said(&output).contains("of the echo differs"), "{arguments}: {output:?}");
    assert_eq!(report(&output)["errors"], 2, "{arguments}, {apart}: {output:?}");
}

/// A server that has the first of so many connections get what another one said, and that one what
/// the first did: of messages of so many bytes all that is behind the first `from`.
fn cross(connections: usize, apart: usize, bytes: usize, from: usize) -> SocketAddr {
    // All of them come at once: with the standard library's backlog of 128 some would be reset.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there is a socket");
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any_port.into()).expect("loopback is there");
    socket.listen(1024).expect("it is bound");
    let listener = TcpListener::from(socket);
    let target = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut streams: Vec<(TcpStream, bool)> = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok).take(connections) {
            let head = head(&mut stream).unwrap_or_default();
            stream.write_all(&switch(&head).unwrap_or_default()).unwrap_or_default();
            streams.push((stream, head.contains("Sec-WebSocket-Key")));
        }
        let mut echoes: Vec<[Vec<u8>; 2]> = Vec::new();
        for (stream, is_framed) in &mut streams {
            let (mut head, payload) = if *is_framed {
                let (first, payload) = frame(stream).unwrap_or_default();
                (header(first, payload.len()), payload)
            } else {
                let mut payload = vec![0; bytes];
                stream.read_exact(&mut payload).unwrap_or_default();
                (Vec::new(), payload)
            };
            let (front, tail) = payload.split_at(from.min(payload.len()));
            head.extend_from_slice(front);
            echoes.push([head, tail.to_vec()]);
        }
        let [_, first] = &mut echoes[0];
        let first = std::mem::take(first);
        let other = std::mem::replace(&mut echoes[apart][1], first);
        if apart > 0 {
            echoes[0][1] = other;
        }
        for ((stream, _), echo) in streams.iter_mut().zip(echoes) {
            stream.write_all(&echo.concat()).unwrap_or_default();
        }
        for (mut stream, _) in streams {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    target
}

#[test]
fn each_connection_has_a_key_of_its_own() {
    // It keeps the key and waits for as many as there are.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let target = listener.local_addr().expect("it is bound");
    let server = thread::spawn(move || {
        let mut keys = HashSet::new();
        for mut stream in listener.incoming().map_while(Result::ok).take(80) {
            let head = head(&mut stream).unwrap_or_default();
            keys.extend(key(&head).map(str::to_owned));
            stream.write_all(&switch(&head).unwrap_or_default()).unwrap_or_default();
            thread::spawn(move || {
                while let Some((first, payload)) = frame(&mut stream) {
                    let echo = [&header(first, payload.len())[..], &payload].concat();
                    stream.write_all(&echo).unwrap_or_default();
                    if first == 0x88 {
                        return;
                    }
                }
            });
        }
        keys.len()
    });
    // Two runs, the first with two threads.
    for arguments in ["--threads 2", ""] {
        let requests = "--requests 40 --connections 40";
        let output = load(&format!("switch --token websocket {arguments} {requests}"), target);
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(server.join().expect("it has no fault"), 80);
}

#[test]
fn what_was_asked_for_behind_a_last_answer_is_asked_for_again() {
    // It closes behind every fifth answer, and says so.
    let target = serve_each(|mut stream| {
        for count in 1..=5 {
            let close = if count == 5 { "Connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: 2\r\n\r\nhi");
            if !read_head(&mut stream) || stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        stream.shutdown(Shutdown::Write).unwrap_or_default();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for arguments in [
        "http --requests 100 --depth 8 --connections 3",
        "http --requests 100 --depth 8 --connections 3 --rate 2000",
    ] {
        let output = load(arguments, target);
        let report = report(&output);
        assert_eq!((&report["requests"], &report["errors"]), (&100.into(), &0.into()), "{report}");
        assert!(output.status.success(), "{arguments}");
    }
}

#[test]
fn what_was_due_and_never_sent_is_an_error_and_in_the_latencies() {
    // Ten answers, and then silence.
    let target = serve_each(|mut stream| {
        for _ in 0..10 {
            read_head(&mut stream);
            stream.write_all(ANSWER).unwrap_or_default();
        }
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let output = load("http --rate 1000 --seconds 0.4 --connections 1 --limit 0.8", target);
    let report = report(&output);
    assert_eq!((&report["requests"], &report["errors"]), (&10.into(), &390.into()), "{report}");
    let p50 = report["p50_us"].as_f64().unwrap_or_default();
    assert!(p50 > 400_000.0, "the middle one of them was due 0.6 s before the limit: {p50}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no connection was free for it") && said.contains("389 times"), "{said}");
}

#[test]
fn a_rate_is_told_as_it_was_asked_for() {
    let target = serve_each(|mut stream| {
        while read_head(&mut stream) {
            stream.write_all(ANSWER).unwrap_or_default();
        }
    });
    let report = report(&load("http --rate 5 --seconds 0.5", target));
    assert_eq!(report["requests"], 3);
    let rate = report["rate"].as_f64().unwrap_or_default();
    assert!(
        (4.9..=6.1).contains(&rate),
        "three in half a second, or in the 0.6 s they are for: {rate}"
    );
}

/// RFC 9112 §7.1, RFC 9110 §15.2, RFC 6455 §5.4 and §5.5: what a server may send besides the answer.
#[test]
fn a_server_that_deals_in_pings_chunks_fragments_and_hints_is_right() {
    const EARLY: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let target = serve_each(|mut stream| {
        while let Some(head) = head(&mut stream) {
            stream.write_all(EARLY).unwrap_or_default();
            if let Some(switch) = switch(&head) {
                stream.write_all(&switch).unwrap_or_default();
                break;
            }
            let chunked =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
            stream.write_all(chunked).unwrap_or_default();
            if head.contains("Connection: close") {
                return;
            }
        }
        while let Some((first, payload)) = frame(&mut stream) {
            if first == 0x88 {
                // Another code than the client's, or none.
                let closed: &[u8] =
                    if payload[1] % 2 == 0 { b"\x88\x02\x03\xe9" } else { b"\x88\0" };
                return stream.write_all(closed).unwrap_or_default();
            }
            // No echo before the pong is there.
            stream.write_all(b"\x89\x02hi").unwrap_or_default();
            if frame(&mut stream) == Some((0x8a, b"hi".to_vec())) {
                let (one, other) = payload.split_at(4);
                let pieces = [b"\x8a\x01?\x02\x04", one, b"\x8a\0\x80\x06", other];
                stream.write_all(&pieces.concat()).unwrap_or_default();
            }
        }
    });
    for arguments in [
        "echo --token websocket --bytes 10 --requests 20 --connections 2",
        "switch --token websocket --bytes 10 --requests 20 --connections 2",
        "http --requests 20 --connections 2",
        "http --requests 20 --connections 2 --requests-per-connection 1",
    ] {
        let output = load(arguments, target);
        let found = (report(&output)["requests"].as_u64(), output.status.code());
        assert_eq!(found, (Some(20), Some(0)), "{arguments}: {output:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_or_is_not_there_is_an_error_within_the_limit() {
    let target = serve_each(|mut stream| drop(stream.read(&mut [0; 4096])));
    // It took the request and went away only when its thread ended; one that stays does not answer.
    let silent = serve_each(|stream| {
        let _ = (&stream).read(&mut [0; 4096]);
        let _ = (&stream).read_to_end(&mut Vec::new());
    });
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    for (target, wrong) in [
        (target, "the server closed the connection"),
        (silent, "not whole at the time limit"),
        (gone.expect("loopback is there"), "Connection refused"),
    ] {
        let arguments = "http --requests 4 --connections 2 --limit 1 --errors-max 3";
        let output = load(arguments, target);
        assert_eq!(output.status.code(), Some(1), "{wrong}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
}

#[test]
fn another_machine_is_only_tried_if_it_is_said_to_be_ones_own() {
    let target = SocketAddr::from(([192, 0, 2, 1], 80));
    let output = load("http --seconds 0.1", target);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--remote"));
    for arguments in
        ["http --connections 0", "echo --bytes 0", "http --rate 0", "http --seconds -1"]
    {
        let output = load(arguments, SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
    }
}

#[test]
fn idle_connections_are_held_and_weighed() {
    // So few connections are weighed coarsely; `idle_memory.rs` has the limit.
    for (token, most) in [("echo", 512), ("websocket", 512)] {
        let Some(server) = Serving::start(&["--workers", "1"]) else { return };
        let pid = server.pid();
        let arguments = format!(
            "idle --pid {pid} --token {token} --connections 3000 --warm-up 500 --seconds 0.2"
        );
        let output = load(&arguments, server.address());
        let report = report(&output);
        assert!(output.status.success(), "{report}");
        assert!(report["anon_after"].as_u64() > Some(1 << 20), "{report}");
        assert!(report["mean"].as_u64() <= Some(most), "{report}");
    }
    // One that hangs up on those it holds is found out.
    let target = serve_each(|mut stream| echo(&mut stream, 16, |_| {}));
    let output = load("idle --connections 3 --warm-up 0 --seconds 0.5", target);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn in_a_storm_the_honest_are_served() {
    for host in HOSTS {
        let Some(server) = Serving::start(&["--workers", "1", "--host", host]) else { return };
        let output = load("storm --connections 80 --seconds 1.5", server.address());
        let report = report(&output);
        assert!(output.status.success(), "{host}: {report}");
        for client in ["slow-heads", "slow-readers", "resets", "half-closes", "honest"] {
            assert!(report["clients"][client]["begun"].as_u64() >= Some(8), "{client}: {report}");
        }
        assert!(report["clients"]["half-closes"]["answered"].as_u64() >= Some(8), "{report}");
    }
    // A server that answers nobody who has sent FIN.
    let target = serve_each(|mut stream| {
        if read_head(&mut stream) && stream.read(&mut [0]).is_ok_and(|read| read > 0) {
            stream.write_all(ANSWER).unwrap_or_default();
        }
    });
    let output = load("storm --kind half-closes --connections 4 --seconds 0.5", target);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn an_answer_to_a_head_that_has_not_ended_is_wrong_and_a_refusal_is_not() {
    let slow_heads = |target| load("storm --kind slow-heads --connections 4 --seconds 0.6", target);
    // The answer at once, whatever is asked.
    let output = slow_heads(serve_each(|mut stream| {
        stream.write_all(ANSWER).unwrap_or_default();
        let _ = stream.read_to_end(&mut Vec::new());
    }));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("the answer came before the request had ended"), "{output:?}");
    // The honest are answered, the others refused after a byte.
    let output = slow_heads(serve_each(|mut stream| {
        let mut bytes = [0; 512];
        if stream.read(&mut bytes).is_ok_and(|read| read > 20) {
            return stream.write_all(ANSWER).unwrap_or_default();
        }
        let refusal = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(refusal).unwrap_or_default();
        let _ = stream.read_to_end(&mut Vec::new());
    }));
    assert!(output.status.success(), "{output:?}");
    assert!(report(&output)["clients"]["slow-heads"]["refused"].as_u64() >= Some(4), "{output:?}");
}

/// Calls `serve` with each connection, in a thread of its own.
fn serve_each(serve: impl Fn(TcpStream) + Send + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads to the end of a head; what is behind it waits.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

fn read_head(stream: &mut TcpStream) -> bool {
    head(stream).is_some()
}

fn key(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
}

/// The 101 to a request to switch.
fn switch(head: &str) -> Option<Vec<u8>> {
    if !head.contains("\r\nUpgrade: ") {
        return None;
    }
    let Some(key) = key(head) else { return Some(SWITCH.to_vec()) };
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = STANDARD.encode(digest);
    let fields =
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}");
    Some(format!("HTTP/1.1 101 \r\n{fields}\r\n\r\n").into_bytes())
}

/// The head of a server's frame of less than 64 KiB.
fn header(first: u8, bytes: usize) -> Vec<u8> {
    match bytes {
        0..=125 => vec![first, bytes as u8],
        _ => [&[first, 126][..], &(bytes as u16).to_be_bytes()].concat(),
    }
}

/// A client's frame of less than 64 KiB: its first byte, and its payload.
fn frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut bytes = usize::from(head[1] & 0x7f);
    if bytes == 126 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        bytes = u16::from_be_bytes(length).into();
    }
    let mut rest = vec![0; 4 + bytes];
    stream.read_exact(&mut rest).ok()?;
    let (key, payload) = rest.split_at(4);
    let unmasked = payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    Some((head[0], unmasked.collect()))
}

/// One answer, and the end.
fn answer(stream: &mut TcpStream, bytes: &[u8]) {
    if read_head(stream) {
        stream.write_all(bytes).unwrap_or_default();
        stream.shutdown(Shutdown::Write).unwrap_or_default();
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// A switch, and of so many bytes that come the echo, as `change` has it.
fn echo(stream: &mut TcpStream, count: usize, change: fn(&mut Vec<u8>)) {
    if read_head(stream) {
        stream.write_all(SWITCH).unwrap_or_default();
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).unwrap_or_default();
        change(&mut bytes);
        stream.write_all(&bytes).unwrap_or_default();
        stream.shutdown(Shutdown::Write).unwrap_or_default();
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// Every answer, and right.
fn answer_all(mut stream: TcpStream) {
    while read_head(&mut stream) {
        stream.write_all(ANSWER).unwrap_or_default();
    }
}

/// Takes everything and says nothing.
fn say_nothing(mut stream: TcpStream) {
    stream.read_to_end(&mut Vec::new()).unwrap_or_default();
}

/// A target that nobody listens at.
fn nobody() -> SocketAddr {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    gone.expect("loopback is there")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn command(arguments: &str, target: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upring-load"));
    command.args(arguments.split_whitespace()).args(["--target", &target.to_string(), "--json"]);
    command
}

#[test]
fn what_nobody_can_mean_is_wrong_usage() {
    let target = SocketAddr::from(([127, 0, 0, 1], 1));
    for arguments in [
        "http --requests 0",
        "http --seconds 0",
        "http --seconds 1e19",
        "http --seconds nan",
        "http --requests-per-connection 0",
        "http --errors-max 0",
        "http --rate 1e-11",
        "http --depth 100000000000",
        "http --connections 4294967296",
        "http --connections 2000 --depth 65536",
        "http --lock-step --pause-us 10000000000",
        "http --limit 0",
        "http --path plaintext",
        "echo --bytes 18446744073709551615 --threads 2 --connections 2",
        "echo --bytes 16000000 --depth 16",
        "echo --token websocket --bytes 1000000000000",
        "echo --token a/b/c",
        "switch --bytes 1000000000000",
        "idle --warm-up 4294967296",
        "idle --seconds 1e19",
        "storm --seconds 0",
        "storm --seconds 1e19",
        "storm --kind half-handshakes",
        "storm --rate 10",
        "http --tls-resume",
        "http --tls-version 1.3",
        "http --tls --tls-version 1.1",
        "http --tls --tls-name .",
    ] {
        let output = load(arguments, target);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
    }
    for arguments in [
        ["http", "--path", "/a b"],
        ["http", "--path", "/a\r\nX: y"],
        ["echo", "--token", "a\r\nb"],
    ] {
        let output = command("", target).args(arguments).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn held_connections_that_are_not_checked_by_the_limit_are_errors() {
    // The first message comes back, and no other.
    let target = serve_each(|mut stream| {
        if read_head(&mut stream) {
            let mut message = [0; 16];
            stream.write_all(SWITCH).unwrap_or_default();
            stream.read_exact(&mut message).unwrap_or_default();
            stream.write_all(&message).unwrap_or_default();
            say_nothing(stream);
        }
    });
    for arguments in ["idle --seconds 9 --limit 0.4", "idle --seconds 0 --limit 0.4"] {
        let output = load(&format!("{arguments} --connections 6 --warm-up 0"), target);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {output:?}");
        assert_eq!(report(&output)["errors"], 6, "{arguments}: {output:?}");
    }
}

#[test]
fn a_run_without_an_answer_is_no_success() {
    let target = serve_each(answer_all);
    let output = load("http --lock-step --pause-us 60000000 --seconds 0.1", target);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("nothing was answered"), "{output:?}");
}

#[test]
fn a_run_of_requests_alone_ends_when_nothing_is_answered_any_more() {
    let target = serve_each(say_nothing);
    for mode in ["http", "echo", "switch"] {
        let output = load(&format!("{mode} --requests 9 --stall 0.2 --connections 3"), target);
        assert_eq!(output.status.code(), Some(1), "{mode}: {output:?}");
        assert!(said(&output).contains("nothing was answered for too long"), "{mode}: {output:?}");
        assert_eq!(report(&output)["errors"], 3, "{mode}: {output:?}");
    }
    // One that is slow is waited for.
    let target = serve_each(|mut stream| {
        while read_head(&mut stream) {
            thread::sleep(Duration::from_millis(60));
            stream.write_all(ANSWER).unwrap_or_default();
        }
    });
    let output = load("http --requests 10 --stall 0.5 --connections 1", target);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_was_under_way_when_there_were_too_many_errors_is_none() {
    let target = serve_each(|mut stream| {
        while read_head(&mut stream) {
            stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").unwrap_or_default();
        }
    });
    let output = load("http --requests 500 --connections 64 --errors-max 5 --limit 4", target);
    let faults = &report(&output)["faults"];
    assert_eq!(faults[0]["fault"], "the status is 500", "{output:?}");
    assert_eq!(faults.as_array().map(Vec::len), Some(1), "{output:?}");
}

#[test]
fn a_storm_says_what_became_of_its_connections_and_tries_no_harder_for_it() {
    let output = load("storm --connections 40 --seconds 0.3", nobody());
    let refused = report(&output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(refused["faults"].to_string().contains("Connection refused"), "{refused}");
    // Each tries it ten times a second.
    let errors = refused["errors"].as_u64();
    assert!((48..=4 * 48).contains(&errors.unwrap_or_default()), "{refused}");

    // What is closed before all of it was read is reset.
    let target = serve_each(|mut stream| drop(stream.read(&mut [0])));
    let output = load("storm --kind half-closes --connections 4 --seconds 0.2", target);
    assert!(said(&output).contains("Connection reset by peer"), "{output:?}");
    assert!(!said(&output).contains("the server closed the connection"), "{output:?}");
}

#[test]
fn slow_clients_of_a_short_storm_are_done_in_time() {
    let target = serve_each(answer_all);
    for kind in ["slow-heads", "slow-readers"] {
        let output = load(&format!("storm --kind {kind} --connections 8 --seconds 0.8"), target);
        let report = report(&output);
        assert!(output.status.success(), "{report}");
        assert!(report["clients"][kind]["answered"].as_u64() >= Some(4), "{report}");
    }
}

#[test]
fn a_limit_ends_whatever_is_under_way() {
    let target = serve_each(|mut stream| {
        while let Some(head) = head(&mut stream) {
            if head.contains("/endless") {
                return dribble(&mut stream);
            }
            stream.write_all(ANSWER).unwrap_or_default();
        }
    });
    for arguments in [
        "http --lock-step --pause-us 60000000 --requests 200 --limit 0.3",
        "http --rate 0.001 --requests 2 --limit 0.3",
        "storm --seconds 9 --limit 0.3 --kind slow-heads --connections 4",
        "http --requests 2 --limit 0.3 --connections 2 --path /endless",
    ] {
        let begun = Instant::now();
        let output = load(arguments, target);
        assert!(begun.elapsed() < Duration::from_secs(4), "{arguments}: {:?}", begun.elapsed());
        assert_eq!(output.status.code(), Some(1), "{arguments}: {output:?}");
        assert!(said(&output).contains("time limit"), "{arguments}: {output:?}");
    }
}

/// Chunks of a byte, without end and as fast as they are read.
fn dribble(stream: &mut TcpStream) {
    let chunks = b"1\r\nx\r\n".repeat(2000);
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_or_default();
    while stream.write_all(&chunks).is_ok() {}
}

#[test]
fn a_reader_that_is_gone_changes_nothing_and_a_full_disk_is_told() {
    let target = serve_each(answer_all);
    for arguments in ["http --requests 20", "storm --kind slow-heads --seconds 0.1"] {
        let mut child = command(arguments, target)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{arguments}");

        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = command(arguments, target).stdout(full).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1), "{arguments}: {output:?}");
        assert!(said(&output).contains("error: standard output: No space left"), "{output:?}");
    }
}

#[test]
fn what_a_signal_ends_is_reported_and_a_second_one_ends_it_at_once() {
    // Tells when the second request of a connection has come: one was answered.
    fn serve(tell: Sender<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            while read_head(&mut stream) {
                stream.write_all(ANSWER).unwrap_or_default();
                tell.send(()).unwrap_or_default();
            }
        });
        address
    }
    fn interrupted(signals: &[Signal]) -> Output {
        let (tell, news) = channel();
        let child = command("http --seconds 20 --connections 1", serve(tell))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        for _ in 0..2 {
            news.recv_timeout(Duration::from_secs(9)).expect("it asks");
        }
        for signal in signals {
            kill_process(Pid::from_child(&child), *signal).expect("it runs");
        }
        child.wait_with_output().expect("it ends")
    }
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let output = interrupted(&[signal]);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let report = report(&output);
        assert!(report["requests"].as_u64() >= Some(1), "{report}");
        assert_eq!((&report["errors"], &report["interrupted"]), (&0.into(), &true.into()));
    }
    let output = interrupted(&[Signal::INT, Signal::TERM]);
    assert!(output.status.signal().is_some() && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn storms_and_held_connections_are_reported_when_a_signal_comes() {
    for arguments in ["storm --connections 4 --seconds 20", "idle --connections 1 --seconds 20"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let target = listener.local_addr().expect("it is bound");
        let child = command(arguments, target)
            .args(["--warm-up", "0"].iter().filter(|_| arguments.starts_with("idle")))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (mut stream, _) = listener.accept().expect("it connects");
        if arguments.starts_with("idle") && read_head(&mut stream) {
            let mut message = [0; 16];
            stream.write_all(SWITCH).unwrap_or_default();
            stream.read_exact(&mut message).unwrap_or_default();
            stream.write_all(&message).unwrap_or_default();
        }
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{arguments}: {output:?}");
        let report = report(&output);
        assert_eq!((&report["errors"], &report["interrupted"]), (&0.into(), &true.into()));
    }
}

#[test]
fn the_time_nobody_says_the_word_is_none_of_the_run() {
    let target = serve_each(answer_all);
    let mut child = command("http --requests 20 --connections 2 --limit 0.6 --wait", target)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("it was asked for");
    thread::sleep(Duration::from_millis(800));
    input.write_all(b"go\n").expect("it waits");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.starts_with("ready\n") && told.contains("\"requests\":20"), "{told}");
}

#[test]
fn what_a_run_needs_of_the_machine_is_looked_at_first() {
    // No process has this number: the kernel counts to four millions.
    let output = load("idle --pid 4000000000 --warm-up 1", nobody());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("process 4000000000: No such file"), "{output:?}");

    // This process listens, and not there.
    let own = format!("idle --pid {} --warm-up 1", std::process::id());
    let output = load(&own, nobody());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("the process does not listen on 127.0.0.1:"), "{output:?}");

    let output = Command::new("sh")
        .args(["-c", "ulimit -n 100; exec \"$0\" storm --connections 200 --seconds 0.2"])
        .arg(env!("CARGO_BIN_EXE_upring-load"))
        .output()
        .expect("there is a shell");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("this process may open 100"), "{output:?}");
}
