//! Content and answers piece by piece over loopback, with async handlers and real clients: memory
//! stays bounded, failures are seen on both sides, and the connection goes on where it may.

#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use loopback::{
    PATIENCE, config, connect, pattern, read_head, read_to_end, serve_resource, wait_until,
};
use upring::{
    Config, Content, ContentError, Fields, Limits, OwnedRequest, Reply, Request, Resource,
    Responder, Response, Running, Status, ToResponse, asynchronous, streaming,
};

/// What the handlers of one server have noted.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.0.lock().expect("nobody panics while noting").push(note.into());
    }

    fn has(&self, note: &str) -> bool {
        self.0.lock().expect("nobody panics while noting").iter().any(|at| at.contains(note))
    }
}

/// Answers with the content as it comes, and its trailers behind it; notes how it ended.
fn echo(notes: Notes) -> impl upring::Answer {
    streaming(move |request: OwnedRequest, mut content: Content, responder: Responder| {
        let notes = notes.clone();
        async move {
            let length = request.view().field("X-Length").map(|value| {
                std::str::from_utf8(value).expect("digits").parse().expect("a number")
            });
            // Asked for before the answer begins, so that a client who waits for the 100 gets it.
            let mut next = content.recv().await;
            let mut answer = responder.start(Response::new(Status::OK), length);
            loop {
                match next {
                    Ok(Some(bytes)) => {
                        if let Err(error) = answer.send(bytes).await {
                            return notes.add(format!("send: {error}"));
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return notes.add(format!("recv: {error}")),
                }
                next = content.recv().await;
            }
            let mut trailers = Fields::new();
            for (name, value) in content.trailers().iter() {
                trailers.push(name, value).expect("it was received as a field");
            }
            answer.finish_with(trailers);
            notes.add("finished");
        }
    })
}

enum Refused {
    Content(ContentError),
    Empty,
}

impl From<ContentError> for Refused {
    fn from(error: ContentError) -> Refused {
        Refused::Content(error)
    }
}

impl ToResponse for Refused {
    fn to_response(self) -> Response {
        match self {
            Refused::Content(error) => error.to_response(),
            Refused::Empty => Response::text(Status::UNPROCESSABLE_CONTENT, "nothing in it\n"),
        }
    }
}

fn collecting() -> impl upring::Answer {
    asynchronous(async |_: OwnedRequest, mut content: Content| {
        match content.collect(100).await?.len() {
            0 => Err(Refused::Empty),
            bytes => Ok(format!("{bytes} bytes\n")),
        }
    })
}

fn request(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// The content of an answer in chunks, read off the connection, and its trailer section.
fn read_chunks(client: &mut TcpStream, mut take: impl FnMut(&[u8])) -> String {
    loop {
        let size = usize::from_str_radix(&read_line(client), 16).expect("a chunk has a size");
        if size == 0 {
            let mut trailers = String::new();
            loop {
                match read_line(client) {
                    end if end.is_empty() => return trailers,
                    line => trailers += &line,
                }
            }
        }
        let mut chunk = vec![0; size];
        client.read_exact(&mut chunk).expect("a chunk is whole");
        take(&chunk);
        assert_eq!(read_line(client), "");
    }
}

fn read_line(client: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a line has an end");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("it is ASCII").trim_end().to_owned()
}

fn idle(running: &Running) {
    wait_until("nobody is connected", || running.counter("connections_open") == 0);
    wait_until("no buffer is held", || {
        // The gauge is of the last turn, and a future may have kept its lease beyond that: another
        // client is another turn.
        drop(connect(running.addresses()[0]));
        running.counter("buffers_held") == 0
    });
}

#[test]
fn sixty_four_megabytes_stream_both_ways_through_a_few_buffers() {
    const PIECES: usize = 256;
    let notes = Notes::default();
    let Some(running) = serve_resource(config(), Resource::new().post(echo(notes.clone()))) else {
        return;
    };
    let piece = pattern(256 * 1024);
    for fields in ["Transfer-Encoding: chunked\r\n", "Content-Length: 67108864\r\n"] {
        let mut client = connect(running.addresses()[0]);
        client.write_all(request(fields).as_bytes()).expect("it is open");
        let mut writer = client.try_clone().expect("descriptors are left");
        let sent = piece.clone();
        let is_chunked = fields.starts_with('T');
        let writing = thread::spawn(move || {
            for _ in 0..PIECES {
                if is_chunked {
                    writer.write_all(b"40000\r\n").expect("it is open");
                }
                writer.write_all(&sent).expect("it is open");
                if is_chunked {
                    writer.write_all(b"\r\n").expect("it is open");
                }
            }
            if is_chunked {
                writer.write_all(b"0\r\nX-Sum: 7\r\n\r\n").expect("it is open");
            }
        });
        assert!(read_head(&mut client).contains("\r\nTransfer-Encoding: chunked\r\n"));
        let (mut received, mut held_max) = (0, 0);
        let trailers = read_chunks(&mut client, |chunk| {
            for (at, byte) in chunk.iter().enumerate() {
                assert!(*byte == piece[(received + at) % piece.len()], "byte {}", received + at);
            }
            received += chunk.len();
            held_max = held_max.max(running.counter("buffers_held"));
        });
        writing.join().expect("it writes all");
        assert_eq!(
            (received, trailers.as_str()),
            (PIECES * piece.len(), if is_chunked { "X-Sum: 7" } else { "" })
        );
        // Sixteen unread; what the kernel delivers in one go, 32, and twice more while it is being
        // stopped; eight each in the handler's inbox and on their way out.
        assert!(held_max <= 128, "{held_max} of 2048 buffers held at once");
        // The connection goes on.
        client
            .write_all((request("Content-Length: 2\r\nX-Length: 2\r\n") + "ok").as_bytes())
            .expect("it is open");
        let head = read_head(&mut client);
        assert!(head.contains("\r\nContent-Length: 2\r\n"), "{head}");
        let mut content = [0; 2];
        client.read_exact(&mut content).expect("it is all there");
        assert_eq!(&content, b"ok");
    }
    idle(&running);
    running.stop().expect("it stops");
}

#[test]
fn a_client_that_does_not_read_holds_back_its_own_content_and_nobody_else() {
    let notes = Notes::default();
    let Some(running) = serve_resource(config(), Resource::new().post(echo(notes.clone()))) else {
        return;
    };
    let address = running.addresses()[0];
    let written = Arc::new(AtomicU64::new(0));
    let stalled: Vec<_> = (0..8)
        .map(|_| {
            let mut client = connect(address);
            client
                .write_all(request("Content-Length: 100000000\r\n").as_bytes())
                .expect("it is open");
            let written = Arc::clone(&written);
            let mut writer = client.try_clone().expect("descriptors are left");
            thread::spawn(move || {
                let piece = pattern(64 * 1024);
                while writer.write_all(&piece).is_ok() {
                    written.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
            });
            client
        })
        .collect();
    let mut before = u64::MAX;
    wait_until("they are held", || {
        thread::sleep(Duration::from_millis(100));
        let now = written.load(Ordering::Relaxed);
        std::mem::replace(&mut before, now) == now && now > 0
    });
    // Half a megabyte each, by the bound above: the others are not held up.
    assert!(running.counter("buffers_held") <= 8 * 128, "{}", running.counter("buffers_held"));
    for _ in 0..100 {
        let mut honest = connect(address);
        let input = request("Content-Length: 5\r\nX-Length: 5\r\nConnection: close\r\n") + "hello";
        honest.write_all(input.as_bytes()).expect("it is open");
        assert!(read_to_end(&mut honest).ends_with(b"\r\n\r\nhello"));
    }
    for client in &stalled {
        client.shutdown(std::net::Shutdown::Both).expect("it is open");
    }
    drop(stalled);
    idle(&running);
    wait_until("each handler has learnt it", || notes.has("recv: ") || notes.has("send: "));
    running.stop().expect("it stops");
}

#[test]
fn a_handler_learns_that_its_client_has_gone_and_a_client_that_the_answer_is_not_whole() {
    let notes = Notes::default();
    let Some(running) = serve_resource(config(), Resource::new().post(echo(notes.clone()))) else {
        return;
    };
    let mut client = connect(running.addresses()[0]);
    client.write_all((request("Content-Length: 9\r\n") + "half").as_bytes()).expect("it is open");
    read_head(&mut client);
    client.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut rest = Vec::new();
    assert!(client.read_to_end(&mut rest).is_err(), "a reset, not an end: {rest:?}");
    wait_until("the handler has learnt it", || {
        notes.has("the connection is over: the content ended")
    });
    idle(&running);
    assert_eq!(running.counter("answers_broken"), 1);
    running.stop().expect("it stops");
}

#[test]
fn what_a_future_returns_is_the_answer_and_what_it_leaves_out_is_a_500() {
    let Some(running) = serve_resource(config(), Resource::new().post(collecting())) else {
        return;
    };
    let mut client = connect(running.addresses()[0]);
    for (input, expected) in [
        (request("Content-Length: 5\r\n") + "hello", "HTTP/1.1 200 "),
        (request("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 200 "),
        (request(""), "HTTP/1.1 422 "),
        (request("Content-Length: 101\r\n") + &"x".repeat(101), "HTTP/1.1 413 "),
        (request("Content-Length: 100\r\n") + &"x".repeat(100), "HTTP/1.1 200 "),
    ] {
        client.write_all(input.as_bytes()).expect("it is open");
        let head = read_head(&mut client);
        assert!(head.starts_with(expected), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut content = vec![0; length.expect("a length").parse().expect("a number")];
        client.read_exact(&mut content).expect("it is whole");
    }
    drop(client);
    idle(&running);
    running.stop().expect("it stops");

    let forgetful = streaming(async |request: OwnedRequest, _: Content, responder: Responder| {
        assert_ne!(request.view().query(), Some(&b"panic"[..]), "as the query asked");
        if request.view().query() == Some(b"begin") {
            drop(responder.start(Response::new(Status::OK), None));
        }
    });
    let Some(running) = serve_resource(config(), Resource::new().get(forgetful)) else { return };
    for (target, status) in [("/", 500), ("/?panic", 500), ("/?begin", 200)] {
        let mut client = connect(running.addresses()[0]);
        let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(input.as_bytes()).expect("it is open");
        let mut bytes = Vec::new();
        let ended = client.read_to_end(&mut bytes);
        let is_cut = ended.is_err() || !bytes.ends_with(b"failed.\n");
        assert_eq!(is_cut, status == 200, "{target}: {}", bytes.escape_ascii());
    }
    idle(&running);
    running.stop().expect("it stops");
}

#[test]
fn a_chunk_of_more_than_there_may_be_is_refused_at_its_size_line() {
    let whole = |_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
        reply.send(&Response::new(Status::OK));
    };
    for resource in [Resource::new().post(collecting()), Resource::new().post(whole)] {
        let Some(running) = serve_resource(config(), resource.content_bytes_max(9)) else { return };
        for chunks in ["FFFFFFFFFFFFFFFF\r\n", "a\r\n", "a\r\n1234", "4\r\n1234\r\n6;x\r\n1"] {
            let mut client = connect(running.addresses()[0]);
            let input = request("Transfer-Encoding: chunked\r\n") + chunks;
            client.write_all(input.as_bytes()).expect("it is open");
            let head = read_head(&mut client);
            assert!(head.starts_with("HTTP/1.1 413 "), "{chunks:?}: {head}");
        }
        assert_eq!(running.counter("contents_too_large"), 4);
        running.stop().expect("it stops");
    }
}

#[test]
fn what_a_client_needs_before_the_content_is_not_sent_behind_it() {
    let forgetful = streaming(async |_: OwnedRequest, _: Content, responder: Responder| {
        let (mut fields, mut trailers) = (Fields::new(), Fields::new());
        fields.announce(&["X-Sum", "ETag"]).expect("they may be trailers");
        let answer = responder.start(Response::new(Status::OK).with_fields(&fields), None);
        for name in ["X-Sum", "Content-Type", "set-cookie", "ETag", "Location"] {
            trailers.push(name, "7").expect("a field");
        }
        answer.finish_with(trailers);
    });
    let Some(running) = serve_resource(config(), Resource::new().post(forgetful)) else { return };
    let mut client = connect(running.addresses()[0]);
    client.write_all(request("").as_bytes()).expect("it is open");
    assert!(read_head(&mut client).contains("\r\nTrailer: X-Sum, ETag\r\n"));
    assert_eq!(read_chunks(&mut client, |_| {}), "X-Sum: 7ETag: 7");
    running.stop().expect("it stops");
}

#[test]
fn real_clients_stream_both_ways() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return eprintln!("SKIPPED: curl is not installed");
    }
    let limits = Limits { content_slack_ms: 10_000, ..Limits::default() };
    let config = upring::Config { limits, ..config() };
    let Some(running) = serve_resource(config, Resource::new().post(echo(Notes::default()))) else {
        return;
    };
    let url = format!("http://{}/", running.addresses()[0]);
    let content = pattern(3_000_000);
    let chunked: &[&str] = &["-H", "Transfer-Encoding: chunked"];
    let expecting: &[&str] = &["-H", "Expect: 100-continue"];
    for options in [&[][..], chunked, expecting, &["--http1.0", "-H", "Expect:"]] {
        let mut curl = Command::new("curl")
            .args(["-sS", "--max-time", "20", "--data-binary", "@-"])
            .args(options)
            .arg(&url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was there a moment ago");
        let mut input = curl.stdin.take().expect("it is piped");
        let sent = content.clone();
        let writing = thread::spawn(move || input.write_all(&sent));
        let output = curl.wait_with_output().expect("it ends");
        writing.join().expect("no panic").expect("it reads all");
        assert!(output.status.success() && output.stdout == content, "{options:?}");
    }
    idle(&running);
    running.stop().expect("it stops");
}

/// Says when it is dropped.
struct Dropped(std::sync::mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn a_future_nobody_waits_for_is_dropped_where_it_waits() {
    for answer_timeout_ms in [60_000, 100] {
        let (tell, told) = std::sync::mpsc::channel();
        let never = asynchronous(move |_: OwnedRequest, _: Content| {
            let dropped = Dropped(tell.clone());
            async move {
                std::future::pending::<()>().await;
                drop(dropped);
                "it never is"
            }
        });
        let config =
            Config { limits: Limits { answer_timeout_ms, ..Limits::default() }, ..config() };
        let Some(running) = serve_resource(config, Resource::new().get(never)) else { return };
        let mut client = connect(running.addresses()[0]);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
        if answer_timeout_ms > 1000 {
            wait_until("the handler runs", || running.counter("bytes_received") > 0);
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
            drop(client);
        } else {
            assert!(read_head(&mut client).starts_with("HTTP/1.1 503 "), "answered without it");
        }
        told.recv_timeout(PATIENCE).expect("it is dropped");
        running.stop().expect("it stops");
    }
}

#[test]
fn an_answer_may_be_larger_than_what_may_wait_to_be_sent() {
    const BYTES: usize = 6 << 20;
    let limits = Limits { outbox_bytes_max: 1 << 20, ..Limits::default() };
    let body = || pattern(BYTES);
    let ready = Response::new(Status::OK).with_body(body()).to_ready();
    let pieces = streaming(async |_: OwnedRequest, _: Content, responder: Responder| {
        let mut answer = responder.start(Response::new(Status::OK), Some(BYTES as u64));
        answer.send(pattern(BYTES)).await.expect("the client reads");
        answer.finish();
    });
    let later = asynchronous(async |_: OwnedRequest, _: Content| pattern(BYTES));
    let whole = upring::returning(|_: &Request<'_>, _: &[u8]| pattern(BYTES));
    let server = upring::Server::new(Config { limits, ..config() })
        .route("/ready", Resource::new().get(ready))
        .route("/pieces", Resource::new().get(pieces))
        .route("/later", Resource::new().get(later))
        .route("/whole", Resource::new().get(whole));
    let Some(running) = loopback::start(server) else { return };
    for path in ["/ready", "/pieces", "/later", "/whole"] {
        let mut client = connect(running.addresses()[0]);
        // Twice, so that one waits behind the other.
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(2);
        client.write_all(request.as_bytes()).expect("it is open");
        for _ in 0..2 {
            let head = read_head(&mut client);
            assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
            let mut content = vec![0; BYTES];
            client.read_exact(&mut content).expect("all of it comes");
            assert!(content == body(), "{path}");
        }
    }
    assert_eq!(running.counter("outbox_overflows"), 0);
    running.stop().expect("it stops");
}

#[test]
fn uploads_that_are_read_late_all_arrive_though_they_fill_every_buffer() {
    const CLIENTS: usize = 120;
    const BYTES: usize = 100_000;
    let (go_on, wait) = tokio::sync::watch::channel(false);
    let late = asynchronous(move |_: OwnedRequest, mut content: Content| {
        let mut wait = wait.clone();
        async move {
            let mut bytes = content.recv().await?.map_or(0, |piece| piece.len());
            wait.wait_for(|goes_on| *goes_on).await.expect("the test goes on");
            while let Some(piece) = content.recv().await? {
                bytes += piece.len();
            }
            Ok::<_, upring::Closed>(format!("{bytes}"))
        }
    });
    let mut config = config();
    config.ring.buffers = 256;
    let Some(running) = serve_resource(config, Resource::new().post(late)) else { return };
    let address = running.addresses()[0];
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let mut client = connect(address);
                let head = format!(
                    "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {BYTES}\r\n\r\n"
                );
                client.write_all(&[head.as_bytes(), &pattern(BYTES)].concat()).expect("it is read");
                String::from_utf8(read_to_end(&mut client)).expect("ASCII")
            })
        })
        .collect();
    wait_until("buffers are wanted back", || running.counter("bytes_set_aside") > 0);
    // Whoever comes meanwhile is served.
    let mut honest = connect(address);
    honest.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    assert!(read_head(&mut honest).starts_with("HTTP/1.1 405 "));
    go_on.send(true).expect("the handlers wait");
    for client in clients {
        let answer = client.join().expect("its answer came");
        assert!(answer.ends_with(&BYTES.to_string()), "{answer}");
    }
    assert_eq!(running.counter("connections_cut"), 0);
    running.stop().expect("it stops");
}
