//! Listeners over real sockets, on both hosts and both tiers of descriptors: Unix sockets, PROXY protocol
//! headers, IPv6 for both families. Skipped, loudly, where io_uring is denied.

#[path = "support/folder.rs"]
mod folder;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod loopback;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use folder::Folder;
use loopback::{PATIENCE, connect, start, wait_until};
use upring::config::{DrainTimes, ListenAddress, Listener, ProxyProtocol};
use upring::http::{Request, Response, Status};
use upring::protocols::echo;
use upring::resource::{Reply, Resource, StreamIo, Streaming, asynchronous, from_head, streamed};
use upring::{Config, HostKind, Limits, Server, ServerError};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Every combination of what turns a core and what its handles are.
const WAYS: [(HostKind, bool); 4] = [
    (HostKind::Hosted, false),
    (HostKind::Hosted, true),
    (HostKind::Native, false),
    (HostKind::Native, true),
];

fn config(listener: Listener, (host, is_plain): (HostKind, bool)) -> Config {
    let mut config = Config { listen: vec![listener], workers: 1, host, ..Config::default() };
    config.ring.without.direct_descriptors = is_plain;
    config.drain = DrainTimes::within(Duration::from_secs(1));
    config
}

/// Whoever asks is told who asks; `/` also switches to an echo, `/broken` breaks off in its answer.
fn server(config: Config) -> Server {
    let who = from_head(|request: &Request<'_>, reply: &mut Reply<'_>| {
        let client = request.client().map_or("nobody".to_owned(), |at| at.to_string());
        reply.send(&Response::text(Status::OK, client));
    });
    let broken = streamed(|_: &Request<'_>, reply: &mut Reply<'_>| reply.stream(Broken));
    Server::new(config)
        .route("/", Resource::new().get(who).upgrade(echo::protocol()))
        .route("/broken", Resource::new().get(broken))
}

/// Breaks off in its answer when half of it has left.
struct Broken;

impl Streaming for Broken {
    fn on_open(&mut self, io: &mut StreamIo<'_>) {
        io.start(&Response::new(Status::OK), None);
        io.send(b"half of it".to_vec());
        io.notify_writable();
    }

    fn on_writable(&mut self, io: &mut StreamIo<'_>) {
        io.reset();
    }
}

fn unix(path: &Path) -> Listener {
    ListenAddress::from(path).into()
}

fn connect_unix(path: &Path) -> UnixStream {
    let client = UnixStream::connect(path).expect("the server listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client
}

/// What is answered up to the end of the connection.
fn ask(mut client: impl Read + Write, what: &[u8]) -> String {
    client.write_all(what).expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the server ends in order");
    answer
}

#[test]
fn a_unix_socket_is_served_as_any_other_connection_is() {
    let folder = Folder::new("listeners-served");
    for way in WAYS {
        let path = folder.socket();
        let Some(running) = start(server(config(unix(&path), way))) else { return };
        assert_eq!(running.addresses(), []);
        assert_eq!(running.listening(), [ListenAddress::Unix(path.clone())]);
        let answer = ask(connect_unix(&path), GET);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("nobody"), "{answer}");
        // The switch, with early bytes, more later, and the end of either direction.
        let mut client = connect_unix(&path);
        let request = loopback::request("/", "echo");
        client.write_all(&[request.as_bytes(), b"early"].concat()).expect("it is open");
        client.write_all(&[b'x'; 300_000]).expect("it is read");
        client.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the server ends in order");
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{way:?}");
        assert!(answer.ends_with(&[&b"early"[..], &[b'x'; 300_000]].concat()), "{way:?}");
        // RFC 9112 §9.6: what is said behind our last answer does not cost it.
        let answer = ask(connect_unix(&path), &[&GET[..GET.len() - 2], b"\r\nmore"].concat());
        assert!(answer.ends_with("nobody"), "{answer}");
        wait_until("all are gone", || running.counter("connections_open") == 0);
        assert_eq!(running.counter("clients_unknown"), 0);
        running.stop().expect("it stops in order");
        assert!(!path.exists(), "its path is gone with it");
    }
}

/// A Unix socket knows no reset of a peer that has read everything (unix(7)): to see that an answer is
/// broken off, its framing has to say so.
#[test]
fn a_broken_answer_on_a_unix_socket_ends_without_the_end_of_its_chunks() {
    let folder = Folder::new("listeners-broken");
    for way in WAYS {
        let path = folder.socket();
        let Some(running) = start(server(config(unix(&path), way))) else { return };
        let answer = ask(connect_unix(&path), b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.contains("chunked") && answer.contains("half of it"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
        wait_until("it is closed", || running.counter("connections_open") == 0);
        running.stop().expect("it stops in order");
    }
}

#[test]
fn all_workers_accept_what_comes_on_a_unix_socket() {
    let folder = Folder::new("listeners-workers");
    for host in [HostKind::Hosted, HostKind::Native] {
        let path = folder.socket();
        let config = Config { workers: 2, ..config(unix(&path), (host, false)) };
        let Some(running) = start(server(config)) else { return };
        // Both are up, and a burst would be accepted by whoever is awake.
        thread::sleep(Duration::from_millis(100));
        let answers = (0..200).map(|_| ask(connect_unix(&path), GET));
        assert!(answers.into_iter().all(|answer| answer.ends_with("nobody")));
        let by_core = running.counter_by_core("connections_accepted");
        assert!(by_core.iter().all(|count| *count >= 40), "{host:?}: {by_core:?}");
        running.stop().expect("it stops in order");
        assert!(!path.exists());
    }
}

#[test]
fn while_a_server_drains_nobody_gets_to_its_unix_socket_at_whatever_path() {
    for way in WAYS {
        let folder = Folder::new("drain");
        let (path, other) = (folder.0.join("socket"), folder.0.join("link"));
        let mut config = Config { workers: 2, ..config(unix(&path), way) };
        config.drain = DrainTimes { timeout: PATIENCE, window: PATIENCE };
        let Some(running) = start(server(config)) else { return };
        // The same socket: whether it is still listened on can be asked where its path is gone.
        std::fs::hard_link(&path, &other).expect("a link");
        // It has not asked yet, and keeps its core from ending.
        let mut client = connect_unix(&path);
        wait_until("accepted", || running.counter("connections_open") == 1);
        running.stopper().stop();
        assert!(!path.exists(), "{way:?}: a drain begins with the path");
        wait_until("refused", || UnixStream::connect(&other).is_err());
        client.write_all(GET).expect("its core drains");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{way:?}: {answer}");
        running.stop().expect("it drains");
    }
}

#[test]
fn a_second_server_does_not_take_the_socket_of_the_first() {
    let folder = Folder::new("listeners-second");
    let path = folder.socket();
    let way = (HostKind::Native, false);
    let Some(running) = start(server(config(unix(&path), way))) else { return };
    match server(config(unix(&path), way)).start() {
        Err(ServerError::Setup(error)) => {
            let text = error.to_string();
            assert!(text.contains("unix:") && text.contains("ss -lxp"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(ask(connect_unix(&path), GET).starts_with("HTTP/1.1 200 "));
    running.stop().expect("it stops in order");
    assert!(!path.exists());
}

/// 127.0.0.1 behind which a load balancer is.
fn proxied(proxy_protocol: ProxyProtocol, from: &str) -> Listener {
    let proxy_from = vec![from.parse().expect("a network")];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Listener { proxy_protocol, proxy_from, ..address.into() }
}

/// A header of version 2 with the checksum of all of it, as HAProxy's `send-proxy-v2` with
/// `proxy-v2-options crc32c` makes it.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\0\x50\
    \x03\0\x04\x98\x88\xaa\x6b";

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";

#[test]
fn a_client_behind_a_load_balancer_is_known_wherever_its_header_is_cut() {
    for way in WAYS {
        let listener = proxied(ProxyProtocol::Any, "127.0.0.0/8");
        let Some(running) = start(server(config(listener, way))) else { return };
        let address = running.addresses()[0];
        for header in [LINE, BINARY] {
            let all = [header, GET].concat();
            for cut in (0..=header.len() + 5).step_by(3) {
                let mut client = connect(address);
                client.write_all(&all[..cut]).expect("it is open");
                thread::sleep(Duration::from_millis(2));
                let answer = ask(client, &all[cut..]);
                assert!(answer.ends_with("192.0.2.1:56324"), "{way:?}, {cut}: {answer}");
            }
        }
        assert_eq!(running.counter("proxy_headers_faulty"), 0);
        assert_eq!(running.counter("clients_unknown"), 0);
        running.stop().expect("it stops in order");
    }
}

#[test]
fn what_is_no_header_or_comes_from_elsewhere_is_reset_without_an_answer() {
    for way in WAYS {
        for (from, what, counter) in [
            ("127.0.0.0/8", GET, "proxy_headers_faulty"),
            ("127.0.0.0/8", BINARY, "proxy_headers_faulty"),
            ("10.0.0.0/8", LINE, "proxy_sources_refused"),
        ] {
            let listener = proxied(ProxyProtocol::V1, from);
            let Some(running) = start(server(config(listener, way))) else { return };
            let mut client = connect(running.addresses()[0]);
            let mut answer = Vec::new();
            // The reset is told once: to whichever meets it first.
            let written = client.write_all(what);
            let outcome = written.and_then(|()| client.read_to_end(&mut answer));
            let error = outcome.expect_err("it is reset").kind();
            assert_eq!(error, std::io::ErrorKind::ConnectionReset, "{way:?} {from}");
            assert_eq!(answer, b"");
            wait_until(counter, || running.counter(counter) == 1);
            wait_until("it is closed", || running.counter("connections_open") == 0);
            running.stop().expect("it stops in order");
        }
    }
}

#[test]
fn a_load_balancer_on_a_unix_socket_needs_no_address_to_be_believed() {
    let folder = Folder::new("listeners-balancer");
    for way in WAYS {
        let path = folder.socket();
        let listener = Listener { proxy_protocol: ProxyProtocol::Any, ..unix(&path) };
        let limits = Limits { connections_per_client_max: 1, ..Limits::default() };
        let config = Config { limits, ..config(listener, way) };
        let Some(running) = start(server(config)) else { return };
        let mut first = connect_unix(&path);
        first.write_all(LINE).expect("it is open");
        wait_until("it is known", || running.counter("bytes_received") == LINE.len() as u64);
        let answer = ask(connect_unix(&path), &[LINE, GET].concat());
        assert!(answer.starts_with("HTTP/1.1 429 "), "{way:?}: {answer}");
        let answer = ask(first, GET);
        assert!(answer.ends_with("192.0.2.1:56324"), "{way:?}: {answer}");
        running.stop().expect("it stops in order");
    }
}

/// Async handlers get the client with the copy of their request.
#[test]
fn clients_are_known_over_both_families_if_that_is_wanted() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    if std::net::TcpListener::bind(any).is_err() {
        return eprintln!("SKIPPED: there is no IPv6 here");
    }
    for way in WAYS {
        let config = Config { identify_clients: true, ..config(any.into(), way) };
        let mut server = server(config);
        if way.0 == HostKind::Hosted {
            let who = asynchronous(async |request: upring::OwnedRequest, _: upring::Content| {
                let client = request.view().client().expect("it is asked for");
                Response::text(Status::OK, client.to_string())
            });
            server = server.route("/later", Resource::new().get(who));
        }
        let Some(running) = start(server) else { return };
        let port = running.addresses()[0].port();
        for ip in [Ipv4Addr::LOCALHOST.into(), std::net::IpAddr::from(Ipv6Addr::LOCALHOST)] {
            for target in ["/", "/later"] {
                if way.0 == HostKind::Native && target == "/later" {
                    continue;
                }
                let client = TcpStream::connect((ip, port)).expect("it listens");
                client.set_read_timeout(Some(PATIENCE)).expect("a socket");
                let own = client.local_addr().expect("it is connected").to_string();
                let get = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                let answer = ask(client, get.as_bytes());
                assert!(answer.ends_with(&own), "{way:?} {target}: {answer} for {own}");
            }
        }
        running.stop().expect("it stops in order");
    }
}

#[test]
fn with_every_option_set_long_answers_come_whole() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for way in WAYS {
        let listener = Listener {
            backlog: 16,
            defer_accept_s: 5,
            notsent_lowat_bytes: 16 * 1024,
            user_timeout_ms: 10_000,
            ..address.into()
        };
        let long = Response::new(Status::OK).with_body(vec![b'x'; 8 << 20]).to_ready();
        let server = server(config(listener, way)).route("/long", Resource::new().get(long));
        let Some(running) = start(server) else { return };
        let client = connect(running.addresses()[0]);
        let get = b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = ask(client, get);
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(body.len() == 8 << 20 && body.bytes().all(|byte| byte == b'x'), "{way:?}");
        running.stop().expect("it stops in order");
    }
}

#[test]
fn a_listener_that_makes_no_sense_is_named() {
    let listener = proxied(ProxyProtocol::Any, "10.0.0.0/8");
    let nowhere = Listener { proxy_from: Vec::new(), ..listener };
    match server(config(nowhere, (HostKind::Native, false))).start() {
        Err(error @ ServerError::Listener { .. }) => {
            let text = error.to_string();
            assert!(text.contains("127.0.0.1:0") && text.contains("proxy_from"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

const UPRING: &str = env!("CARGO_BIN_EXE_upring");

fn spawn(path: &Path) -> Child {
    let listen = ListenAddress::from(path).to_string();
    let mut upring = Command::new(UPRING);
    upring.args(["--workers", "2", "--listen", &listen]).stdout(Stdio::piped());
    upring.stderr(Stdio::null()).spawn().expect("it is built")
}

/// Waits until it says what to try; false if it cannot start, as where io_uring is denied.
fn is_serving(server: &mut Child) -> bool {
    let output = server.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    lines.any(|line| line.contains("curl --unix-socket"))
}

#[test]
fn the_binary_listens_on_a_path_that_a_killed_one_has_left_and_removes_it_at_the_end() {
    let folder = Folder::new("listeners-binary");
    let path = folder.socket();
    let mut killed = spawn(&path);
    if !is_serving(&mut killed) {
        return eprintln!("SKIPPED, the server cannot start here");
    }
    killed.kill().expect("it runs");
    killed.wait().expect("it was killed");
    assert!(path.exists(), "nobody was there to remove it");
    let mut server = spawn(&path);
    assert!(is_serving(&mut server), "what the killed one left is in nobody's way");
    let get = b"GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(ask(connect_unix(&path), get).starts_with("HTTP/1.1 200 "));
    let id = server.id().to_string();
    let sent = Command::new("kill").args(["-s", "TERM", &id]).status().expect("kill is there");
    assert!(sent.success());
    assert!(server.wait().expect("it was told to").success());
    assert!(!path.exists());
}
