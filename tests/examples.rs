//! Each example is run as a stranger would run it, and used by a real client over loopback.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/folder.rs"]
mod folder;
#[path = "support/loopback.rs"]
#[allow(dead_code)] // Shared with tests that use more of it.
mod loopback;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use loopback::{PATIENCE, config, connect, pattern, read_head, read_to_end, request, serve};
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use upring::{Protocol, Resource, Server};

/// A running example; killed when the test is over.
struct Example {
    child: Child,
    address: SocketAddr,
}

impl Example {
    /// Starts `examples/NAME` on a free port, or returns `None` where io_uring is denied.
    fn start(name: &str) -> Option<Example> {
        Example::start_with(name, &[])
    }

    /// The same with other arguments behind the address.
    fn start_with(name: &str, arguments: &[&str]) -> Option<Example> {
        serve(config(), upring::protocols::echo::protocol())?.stop().expect("it stops");
        let mut child = Command::new(binary(name))
            .arg("127.0.0.1:0")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; `cargo build --examples` builds it, as a plain `cargo test` does"));
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it says where it listens");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(';').next());
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{name} says {line:?}"));
        // What else it says is to be read, or it could not go on.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Some(Example { child, address })
    }

    fn upgrade(&self, target: &str, protocol: &str, early: &[u8]) -> std::net::TcpStream {
        let mut client = connect(self.address);
        let head = request(target, protocol);
        client.write_all(&[head.as_bytes(), early].concat()).expect("it is open");
        let head = read_head(&mut client);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo builds examples with the tests: target/PROFILE/deps/THIS and target/PROFILE/examples/NAME.
fn binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test has a path");
    let profile = this.ancestors().nth(2).expect("it lies in target/PROFILE/deps");
    profile.join("examples").join(name)
}

#[test]
fn front_passes_on_what_is_asked_and_what_is_switched() {
    let echo = Protocol::callback("websocket", |_| upring::protocols::echo::Echo);
    let page = upring::returning(|request: &upring::Request<'_>, _: &[u8]| {
        String::from_utf8_lossy(request.target()).into_owned()
    });
    let behind = Resource::new().get(page).upgrade(echo);
    let Some(behind) = loopback::start(Server::new(config()).route("/*", behind)) else { return };
    let place = behind.addresses()[0].to_string();
    let Some(example) = Example::start_with("front", &[&place]) else { return };
    let mut client = connect(example.address);
    for (target, content) in [("/a?b", "/a?b"), ("/healthz", "ok\n"), ("/c", "/c")] {
        let asked = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(asked.as_bytes()).expect("it is open");
        assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
        let mut found = vec![0; content.len()];
        client.read_exact(&mut found).expect("it comes whole");
        assert_eq!(found, content.as_bytes());
    }
    let mut client = example.upgrade("/socket", "websocket", b"early");
    client.write_all(b", late").expect("it is open");
    client.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(read_to_end(&mut client), b"early, late");
    drop(example);
    behind.stop().expect("it stops");
}

#[test]
fn custom_protocol_adds_up_lines_however_they_are_cut() {
    let Some(example) = Example::start("custom_protocol") else { return };
    let lines = b"1\n22\r\n-3\nx\n2147483647\n9999999999\nbye\n7\n";
    let answers =
        "1\n23\n20\nthat is no number\n2147483667\nthat is no number\n2147483667 in all, bye\n";
    for cut in 0..=lines.len() {
        let mut client = example.upgrade("/tally", "tally", &lines[..cut]);
        client.write_all(&lines[cut..]).expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(String::from_utf8_lossy(&read_to_end(&mut client)), answers, "cut at {cut}");
    }
    let mut client = example.upgrade("/tally", "tally", &[b'1'; 500]);
    assert_eq!(read_to_end(&mut client), b"that line is too long\n");
}

#[test]
fn custom_protocol_asks_others_to_upgrade() {
    let Some(example) = Example::start("custom_protocol") else { return };
    let mut client = connect(example.address);
    client.write_all(b"GET /tally HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 426 ") && head.contains("Upgrade: tally\r\n"), "{head}");
}

#[test]
fn http_handlers_keep_notes_count_uploads_and_tick() {
    let Some(example) = Example::start("http_handlers") else { return };
    for (request, status, end) in [
        ("GET /hello HTTP/1.1\r\nHost: there\r\n", 200, "hello from there\n"),
        ("GET /notes/a%20b HTTP/1.1\r\nHost: a\r\n", 404, "There is no such note.\n"),
        ("PUT /notes/a%20b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", 422, "It is empty.\n"),
        ("PUT /notes/a%20b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nnote", 201, "\r\n\r\n"),
        ("PUT /notes/a%20b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nnew", 204, "\r\n\r\n"),
        ("GET /notes/%61%20b HTTP/1.1\r\nHost: a\r\n", 200, "\r\n\r\nnew"),
        ("PUT /notes/c HTTP/1.1\r\nHost: a\r\nContent-Length: 4097\r\n", 413, "takes.\n"),
        ("DELETE /notes/a%20b HTTP/1.1\r\nHost: a\r\n", 204, "\r\n\r\n"),
        ("GET /notes/a%20b HTTP/1.1\r\nHost: a\r\n", 404, "There is no such note.\n"),
        ("POST /notes/x HTTP/1.1\r\nHost: a\r\n", 405, "method.\n"),
        (
            "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\nb\n",
            200,
            "4 bytes, 2 lines\n",
        ),
        ("GET /note/a%20b HTTP/1.1\r\nHost: a\r\n", 302, "see Location.\n"),
        ("GET /ticks HTTP/1.1\r\nHost: a\r\n", 200, "2\r\n5\n\r\n0\r\n\r\n"),
    ] {
        let mut client = connect(example.address);
        let (line, rest) = request.split_once("\r\n").expect("a request line");
        let separator = if rest.contains("\r\n\r\n") { "" } else { "\r\n" };
        let input = format!("{line}\r\nConnection: close\r\n{rest}{separator}");
        client.write_all(input.as_bytes()).expect("it is open");
        let answer = String::from_utf8(read_to_end(&mut client)).expect("the answers are text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.ends_with(end), "{request}: {answer}");
    }
}

#[test]
fn async_protocol_keeps_what_it_is_sent() {
    let Some(example) = Example::start("async_protocol") else { return };
    let bytes = pattern(200_000);
    let mut client = example.upgrade("/record", "record", &bytes[..500]);
    let mut said = BufReader::new(client.try_clone().expect("descriptors are left"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says where it records");
    let path = PathBuf::from(line.trim_end().strip_prefix("recording to ").expect("a path"));
    client.write_all(&bytes[500..]).expect("it is open");
    client.shutdown(Shutdown::Write).expect("it is open");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("it ends in order");
    assert_eq!(rest, "200000 bytes are safe\n");
    assert!(std::fs::read(&path).expect("it was recorded") == bytes);
    std::fs::remove_file(path).expect("it is ours");
}

/// Runs a client.
fn run(client: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let timed = async { tokio::time::timeout(2 * PATIENCE, client).await };
    runtime.expect("a runtime").block_on(timed).expect("it does not wait in vain");
}

async fn websocket(example: &Example, target: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream = TcpStream::connect(example.address).await.expect("it listens");
    let url = format!("ws://{}{target}", example.address);
    Ok(tokio_tungstenite::client_async(url, stream).await?.0)
}

async fn say(socket: &mut WebSocketStream<TcpStream>, text: &str) {
    socket.send(Message::text(text)).await.expect("it is open");
}

/// The next message, which is text; `close CODE REASON` if there is a Close instead.
async fn hear(socket: &mut WebSocketStream<TcpStream>) -> String {
    match socket.next().await.expect("a message or a Close").expect("it is not lost") {
        Message::Text(text) => text.as_str().to_owned(),
        Message::Close(Some(close)) => {
            format!("close {} {}", u16::from(close.code), close.reason.as_str())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn websocket_chat_carries_what_is_said_to_everybody_in_the_room() {
    let Some(example) = Example::start("websocket_chat") else { return };
    run(async {
        for target in ["/rooms/kitchen", "/rooms/kitchen?name=", "/rooms/kitchen?name=a%00b"] {
            match websocket(&example, target).await {
                Err(Error::Http(answer)) => assert_eq!(answer.status(), 400, "{target}"),
                other => panic!("{target}: {other:?}"),
            }
        }
        let mut ada = websocket(&example, "/rooms/kitchen?name=ada").await.expect("it switches");
        assert_eq!(hear(&mut ada).await, "welcome, ada; 0 others are here");
        let mut bob = websocket(&example, "/rooms/kitchen?name=bob").await.expect("it switches");
        assert_eq!(hear(&mut bob).await, "welcome, bob; 1 others are here");
        assert_eq!(hear(&mut ada).await, "bob comes in");
        let mut eve = websocket(&example, "/rooms/cellar?name=eve").await.expect("it switches");
        assert_eq!(hear(&mut eve).await, "welcome, eve; 0 others are here");
        say(&mut eve, "is anybody here?").await;
        assert_eq!(hear(&mut eve).await, "eve: is anybody here?");
        for (from, said) in [(&mut ada, "ada: hello"), (&mut bob, "bob: good morning")] {
            say(from, said.split_once(' ').expect("a name and a text").1).await;
        }
        for hearer in [&mut ada, &mut bob] {
            let mut heard = [hear(hearer).await, hear(hearer).await];
            // They may be on different cores, and then there is no order between them.
            heard.sort();
            assert_eq!(heard, ["ada: hello", "bob: good morning"]);
        }
        say(&mut bob, "/leave").await;
        assert_eq!(hear(&mut bob).await, "close 1000 come again");
        // The other half of the closing handshake.
        assert!(bob.next().await.is_none());
        assert_eq!(hear(&mut ada).await, "bob leaves");
        eve.send(Message::binary(b"bytes".to_vec())).await.expect("it is open");
        assert_eq!(hear(&mut eve).await, "close 1003 this is a chat: text, please");
        say(&mut ada, &"a".repeat(1001)).await;
        assert_eq!(hear(&mut ada).await, "close 1009 ");
    });
}

#[test]
fn websocket_async_counts_down_and_says_why_it_closes() {
    let Some(mut example) = Example::start("websocket_async") else { return };
    run(async {
        let mut socket = websocket(&example, "/").await.expect("it switches");
        assert_eq!(hear(&mut socket).await, "counting down from 10; say another number");
        say(&mut socket, "nonsense").await;
        say(&mut socket, "2").await;
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|last: &String| last.starts_with("close")) {
            heard.push(hear(&mut socket).await);
        }
        assert!(heard.contains(&"that is no number up to 255".to_owned()), "{heard:?}");
        assert!(heard.ends_with(&["2", "1", "close 1000 lift-off"].map(String::from)), "{heard:?}");

        let mut socket = websocket(&example, "/").await.expect("it switches");
        assert_eq!(hear(&mut socket).await, "counting down from 10; say another number");
        say(&mut socket, "100").await;
        while hear(&mut socket).await != "100" {}
        let pid = example.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.expect("kill is everywhere").success());
        let mut last = hear(&mut socket).await;
        while last.parse::<u8>().is_ok() {
            last = hear(&mut socket).await;
        }
        assert!(last.ends_with(" were left"), "{last}");
        assert_eq!(hear(&mut socket).await, "close 1012 the server stops");
        assert!(socket.next().await.is_none());
    });
    assert!(example.child.wait().expect("it is ours").success());
}

#[test]
fn tls_has_handlers_under_it_and_says_what_was_agreed_on() {
    let folder = folder::Folder::new("example-tls");
    let authority = certificates::Authority::new();
    let roots = certificates::root_file(&folder.0, &authority);
    authority.issue(&["a.example"]).write(&folder.0, "own");
    let (chain, key) = (folder.0.join("own.pem"), folder.0.join("own.key"));
    let files = [&chain, &key, &roots].map(|path| certificates::shown(path));
    let Some(example) = Example::start_with("tls", &files) else { return };
    let address = example.address.to_string();
    let client = authority.issue(&["a client"]);
    let Some(unasking) = Example::start_with("tls", &files[..2]) else { return };
    let unasking = unasking.address.to_string();
    for (version, spoken) in [(&TLS13, "Tls13"), (&TLS12, "Tls12")] {
        let known = authority.client_showing(&[version], &client);
        let unknown = authority.client(&[version]);
        let of_known = format!("{} bytes of DER", client.der.len());
        // Where certificates are asked for there are no tickets.
        for (address, config, shown, again) in [
            (&address, known, &*of_known, "Full"),
            (&address, unknown.clone(), "none", "Full"),
            (&unasking, unknown, "none", "Resumed"),
        ] {
            for kind in ["Full", again] {
                let mut stream = certificates::connect(address, "A.example", &config).expect("TLS");
                let said = certificates::ask(&mut stream, "/").expect("it answers");
                let is_resumed = kind == "Resumed";
                let told = format!("{spoken} {shown} {again}");
                assert_eq!(
                    format!("{:?}", stream.conn.handshake_kind()),
                    format!("Some({kind})"),
                    "{told}"
                );
                let expected = format!(
                    "200 version: {spoken}\nserver name: a.example\nresumed: {is_resumed}\n\
                     client certificate: {shown}\n"
                );
                assert_eq!(said, expected);
            }
        }
    }
    // The echo, from the first bytes on.
    let mut stream = certificates::connect(&address, "a.example", &authority.client(&[&TLS13]));
    let stream = stream.as_mut().expect("TLS");
    stream
        .write_all(&[request("/echo", "echo").as_bytes(), b"early"].concat())
        .expect("it is open");
    assert!(certificates::head(stream).expect("it answers").starts_with("HTTP/1.1 101 "));
    stream.write_all(b", late").expect("it is open");
    let mut back = [0; 11];
    stream.read_exact(&mut back).expect("it comes back");
    assert_eq!(&back, b"early, late");
}

#[test]
fn existing_crate_speaks_with_tungstenite() {
    let Some(example) = Example::start("existing_crate") else { return };
    run(async {
        // The client checks Sec-WebSocket-Accept.
        let mut socket = websocket(&example, "/").await.expect("it switches");
        for len in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            let text = "a".repeat(len);
            for message in [Message::text(text), Message::binary(pattern(len))] {
                socket.send(message.clone()).await.expect("it is open");
                let back = socket.next().await.expect("it is open").expect("a frame");
                assert!(back == message, "a message of {len} bytes comes back");
            }
        }
        socket.send(Message::Ping(b"are you there"[..].into())).await.expect("it is open");
        let pong = socket.next().await.expect("it is open").expect("a frame");
        assert_eq!(pong, Message::Pong(b"are you there"[..].into()));
        socket.close(None).await.expect("it is open");
        while let Some(message) = socket.next().await {
            assert!(message.expect("it closes in order").is_close());
        }
    });
}

#[test]
fn existing_crate_refuses_other_versions_and_keys() {
    let Some(example) = Example::start("existing_crate") else { return };
    let ask = |fields: &str| {
        let mut client = connect(example.address);
        let head = request("/", "websocket").replace("\r\n\r\n", &format!("\r\n{fields}\r\n"));
        client.write_all(head.as_bytes()).expect("it is open");
        read_head(&mut client)
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = ask(&format!("{key}Sec-WebSocket-Version: 13\r\n"));
    // The example of RFC 6455 §1.3.
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    for fields in [key.to_owned(), format!("{key}Sec-WebSocket-Version: 8\r\n")] {
        let head = ask(&fields);
        assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
        assert!(head.contains("Sec-WebSocket-Version: 13\r\n"), "{head}");
        assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
    }
    for key in ["", "Sec-WebSocket-Key: short\r\n"] {
        let head = ask(&format!("{key}Sec-WebSocket-Version: 13\r\n"));
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
}

#[test]
fn existing_crate_speaks_with_pythons_websockets() {
    let import = Command::new("python3").args(["-c", "import websockets.sync.client"]).output();
    if !import.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: python3 cannot import websockets (pip install websockets)");
        return;
    }
    let Some(example) = Example::start("existing_crate") else { return };
    let script = "import sys\nfrom websockets.sync.client import connect\n\
        with connect(sys.argv[1]) as socket:\n\
        \x20   for message in ['', 'text', b'\\x00\\xff', 'x' * 70000, b'y' * 500000]:\n\
        \x20       socket.send(message)\n\
        \x20       assert socket.recv(timeout=10) == message\n\
        \x20   assert socket.ping().wait(10)\n\
        print('closed', socket.close_code)\n";
    let url = format!("ws://{}/", example.address);
    let output = Command::new("python3").args(["-c", script, &url]).output().expect("it was there");
    assert!(
        output.status.success() && output.stdout == b"closed 1000\n",
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
