//! What is allocated: nothing for a request on the fast path, whatever is registered and however
//! its bytes are cut; at most a handler's own state for a switch. Counted by this binary's
//! allocator on the thread that serves, after a warm-up; what a simulated kernel allocates for
//! itself is not the engine's.

#![allow(unsafe_code, reason = "an allocator that counts is unsafe by its interface")]

#[path = "../benches/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use support::inside_tls::{Authority, NAME, versions};
use support::{Alone, PLAINTEXT, SWITCH, Simulated, WARM, ready, registry, with_unused_protocols};
use upring::access::{Recorder, feeds};
use upring::buffer::Lease;
use upring::config::{AccessFormat, AccessLog, Config, HostKind, Listener};
use upring::http::{Ready, Request, Status};
use upring::protocols::echo;
use upring::resource::{Redirect, Registry, Reply, Resource};
use upring::server::{Server, ServerError};
use upring::upgrade::{Handler, Io, Protocol};
use upring::websocket::{Endpoint, Message, Socket, WebSocket};

const DYNAMIC: &[u8] = b"GET /dynamic HTTP/1.1\r\nHost: a\r\n\r\n";
const MISSING: &[u8] = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, with an account for each thread.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
    static IS_PAUSED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if !IS_PAUSED.get() {
        ALLOCATED.set(ALLOCATED.get() + 1);
    }
}

// SAFETY: every call is passed on to the system's allocator as it is; counting touches two cells of
// the thread that need neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`; the memory came from `System`.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `System`, by one of the calls above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What this thread allocates while `run` runs.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATED.get();
    run();
    ALLOCATED.get() - before
}

/// Not a session's, an engine's or a client's: the simulated kernel's own.
fn in_kernel(is_inside: bool) {
    IS_PAUSED.set(is_inside);
}

/// A handler with something to remember.
struct Remembering(u64);

impl Handler for Remembering {
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        self.0 += bytes.len() as u64;
        io.send(bytes);
    }
}

fn with_remembering() -> Registry {
    let mut registry = registry();
    let protocol = Protocol::callback("echo", |_| Remembering(0));
    registry.insert("/echo", Resource::new().upgrade(protocol));
    registry
}

/// `count` of a request, one behind the other.
fn pipelined(request: &[u8], count: usize) -> Vec<u8> {
    request.repeat(count)
}

#[test]
fn a_session_allocates_nothing_for_a_request() {
    for (pipeline, segments) in [(1, 1), (1, 2), (16, 1), (64, 1), (64, 2)] {
        let bytes = pipelined(PLAINTEXT, pipeline);
        // Two segments: cut inside the last head, so that it has to be assembled.
        let cut = if segments == 2 { bytes.len() - 20 } else { bytes.len() };
        let mut alone = Alone::new(registry());
        let mut round = || {
            alone.receive(&bytes[..cut]);
            if segments == 2 {
                alone.receive(&bytes[cut..]);
            }
            assert!(alone.send() >= pipeline * 100, "every request has its answer");
        };
        (0..WARM).for_each(|_| round());
        let allocated = allocations(|| (0..WARM).for_each(|_| round()));
        assert_eq!(allocated, 0, "{pipeline} requests in {segments} segments, {WARM} times");
    }
}

#[test]
fn an_answer_made_for_its_request_pays_for_itself_alone() {
    for (request, allowed) in [(DYNAMIC, 1), (MISSING, 0)] {
        let mut alone = Alone::new(registry());
        let mut round = || {
            alone.receive(request);
            assert!(alone.send() > 100);
        };
        (0..WARM).for_each(|_| round());
        let allocated = allocations(|| (0..WARM).for_each(|_| round()));
        // The handler makes its content; the server adds nothing.
        assert_eq!(allocated, allowed * WARM as u64, "{}", String::from_utf8_lossy(request));
    }
}

#[test]
fn a_handler_that_writes_its_answer_in_place_allocates_nothing() {
    let mut registry = Registry::default();
    registry.insert("/notes/{name}", Resource::new().get(in_place).post(in_place));
    let redirect = Redirect::new(Status::FOUND, "https://{host}{target}").expect("a location");
    registry.insert("/*", Resource::new().get(redirect));
    for request in [
        "GET /notes/first?x=y HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /notes/second HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nsome content",
        "POST /notes/third HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "GET /elsewhere?x HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ] {
        for pipeline in [1, 16] {
            let bytes = pipelined(request.as_bytes(), pipeline);
            let mut alone = Alone::new(registry.clone());
            let mut round = || {
                alone.receive(&bytes);
                assert!(alone.send() > pipeline * 100);
            };
            (0..WARM).for_each(|_| round());
            let allocated = allocations(|| (0..WARM).for_each(|_| round()));
            assert_eq!(allocated, 0, "{pipeline} of {request:?}, {WARM} times");
        }
    }
}

/// All that a handler usually looks at, and an answer of all kinds of pieces.
fn in_place(request: &Request<'_>, content: &[u8], reply: &mut Reply<'_>) {
    let name = request.parameter("name").unwrap_or_default();
    reply.write(Status::OK, |answer| {
        let answer = answer.field("X-Name", name).field_display("X-Bytes", content.len());
        answer.body_with(|out| {
            out.extend_from_slice(name);
            out.extend_from_slice(content);
        })
    });
}

#[test]
fn an_engine_allocates_nothing_for_a_request() {
    for (pipeline, connections) in [(1, 1), (16, 1), (64, 1), (1, 512), (16, 64)] {
        let bytes = pipelined(PLAINTEXT, pipeline);
        for cut in [bytes.len(), bytes.len() - 20] {
            let mut simulated = Simulated::new(registry(), in_kernel);
            let clients: Vec<_> = (0..connections).map(|_| simulated.connect()).collect();
            let round = |simulated: &mut Simulated| {
                clients.iter().for_each(|client| client.write_exactly(&bytes[..cut]));
                let mut allocated = allocations(|| simulated.settle());
                clients.iter().for_each(|client| client.write_exactly(&bytes[cut..]));
                allocated += allocations(|| simulated.settle());
                assert!(clients.iter().all(|client| client.read().len() >= pipeline * 100));
                allocated
            };
            for _ in 0..3 {
                round(&mut simulated);
            }
            let allocated: u64 = (0..10).map(|_| round(&mut simulated)).sum();
            assert_eq!(allocated, 0, "{connections} connections, {pipeline} each, cut at {cut}");
        }
    }
}

#[test]
fn an_access_log_allocates_nothing_for_a_request() {
    for format in [AccessFormat::Common, AccessFormat::Combined, AccessFormat::Json] {
        let log = AccessLog { format, ..AccessLog::default() };
        let (mut writer, feeds) = feeds(&log, 1);
        let mut simulated = Simulated::new(registry(), in_kernel);
        let recorder = feeds.into_iter().next().map(|feed| Box::new(Recorder::new(feed)));
        simulated.engine.core().access = recorder;
        let clients: Vec<_> = (0..64).map(|_| simulated.connect()).collect();
        let bytes = pipelined(PLAINTEXT, 16);
        let mut lines = Vec::with_capacity(1 << 20);
        let mut round = || {
            clients.iter().for_each(|client| client.write_exactly(&bytes));
            let allocated = allocations(|| simulated.settle());
            clients.iter().for_each(|client| drop(client.read()));
            lines.clear();
            writer.drain_into(&mut lines);
            assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 64 * 16);
            allocated
        };
        (0..3).for_each(|_| _ = round());
        let allocated: u64 = (0..10).map(|_| round()).sum();
        assert_eq!(allocated, 0, "{format:?}");
    }
}

#[test]
fn a_request_costs_the_same_whatever_is_registered() {
    for protocols in [0, 20] {
        let mut registry = Registry::default();
        let resource = Resource::new().get(ready("Hello, World!"));
        registry.insert("/plaintext", with_unused_protocols(resource, protocols));
        let mut alone = Alone::new(registry);
        let mut round = || {
            alone.receive(PLAINTEXT);
            alone.send();
        };
        (0..WARM).for_each(|_| round());
        let allocated = allocations(|| (0..WARM).for_each(|_| round()));
        assert_eq!(allocated, 0, "U-115, {protocols} protocols registered");
    }
}

#[test]
fn a_switch_allocates_its_handlers_state_and_nothing_else() {
    for (registry, allowed) in [(registry as fn() -> Registry, 0), (with_remembering, 1)] {
        let bytes = [SWITCH, b"early"].concat();
        for cut in [bytes.len(), bytes.len() - 8, 20] {
            let mut alone = Alone::new(registry());
            let mut round = || {
                alone.open();
                alone.receive(&bytes[..cut]);
                alone.receive(&bytes[cut..]);
                assert!(alone.send() > b"early".len() + 60);
            };
            (0..WARM).for_each(|_| round());
            let allocated = allocations(|| (0..WARM).for_each(|_| round()));
            assert_eq!(allocated, allowed * WARM as u64, "a session, cut at {cut}");
        }
    }
}

/// A masked frame with 64 bytes of text.
fn websocket_message() -> Vec<u8> {
    [&[0x81, 0x80 | 64, 0, 0, 0, 0][..], &[b'm'; 64]].concat()
}

const WEBSOCKET: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Sends every message back.
struct Messages;

impl Endpoint for Messages {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.send(message);
    }
}

/// Says every message to everybody.
struct Member;

impl Endpoint for Member {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.subscribe("all").expect("one topic");
    }

    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.publish_to_all("all", message);
    }
}

fn with_websocket() -> Registry {
    let mut registry = registry();
    let messages = WebSocket::new().endpoint(|_| Messages);
    registry.insert("/ws", Resource::new().upgrade(messages));
    let members = WebSocket::new().endpoint(|_| Member);
    registry.insert("/all", Resource::new().upgrade(members));
    registry
}

#[test]
fn a_websocket_message_that_came_whole_is_echoed_without_an_allocation() {
    for count in [1, 40] {
        let mut simulated = Simulated::new(with_websocket(), in_kernel);
        let client = simulated.connect();
        client.write(WEBSOCKET);
        simulated.settle();
        client.read();
        let bytes = websocket_message().repeat(count);
        let mut round = || {
            in_kernel(true);
            client.write_exactly(&bytes);
            in_kernel(false);
            simulated.settle();
            in_kernel(true);
            assert_eq!(client.read().len(), 66 * count);
            in_kernel(false);
        };
        (0..WARM).for_each(|_| round());
        assert_eq!(allocations(|| (0..100).for_each(|_| round())), 0, "{count} messages");
    }
}

#[test]
fn what_is_published_costs_the_same_allocations_however_many_are_subscribed() {
    let cost = |subscribers: usize| {
        let mut simulated = Simulated::new(with_websocket(), in_kernel);
        let clients: Vec<_> = (0..subscribers).map(|_| simulated.connect()).collect();
        let handshake = String::from_utf8_lossy(WEBSOCKET).replace("/ws", "/all");
        for client in &clients {
            client.write(handshake.as_bytes());
        }
        simulated.settle();
        clients.iter().for_each(|client| drop(client.read()));
        let mut round = || {
            in_kernel(true);
            clients[0].write_exactly(&websocket_message());
            in_kernel(false);
            simulated.settle();
            in_kernel(true);
            clients.iter().for_each(|client| assert_eq!(client.read().len(), 66));
            in_kernel(false);
        };
        (0..WARM).for_each(|_| round());
        allocations(|| (0..100).for_each(|_| round())) / 100
    };
    let (few, many) = (cost(2), cost(200));
    assert_eq!(few, many, "for 2 and for 200 subscribers");
    assert!(few <= 8, "{few}");
}

#[test]
fn an_engine_adds_nothing_to_a_switch() {
    for (registry, allowed) in [(registry as fn() -> Registry, 0), (with_remembering, 1)] {
        let bytes = [SWITCH, b"early"].concat();
        let mut simulated = Simulated::new(registry(), in_kernel);
        let round = |simulated: &mut Simulated| {
            let client = simulated.world.connect(upring::ring::ListenerId(0));
            client.write(&bytes);
            let mut allocated = allocations(|| simulated.settle());
            assert!(client.read().ends_with(b"\r\n\r\nearly"));
            client.finish();
            allocated += allocations(|| simulated.settle());
            assert!(!client.is_open(), "an echo ends with its peer");
            allocated
        };
        for _ in 0..WARM {
            round(&mut simulated);
        }
        let allocated: u64 = (0..WARM).map(|_| round(&mut simulated)).sum();
        assert_eq!(allocated, allowed * WARM as u64, "from accept to close");
    }
}

/// What the serving thread has allocated, as it says itself.
static NOTED: AtomicU64 = AtomicU64::new(0);

fn note(_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
    NOTED.store(ALLOCATED.get(), Ordering::Relaxed);
    static READY: LazyLock<Ready> = LazyLock::new(|| ready("noted"));
    reply.ready(&READY);
}

/// What one serving thread allocates while `run` runs against its server, which had `warm` before.
fn served(host: HostKind, warm: impl Fn(SocketAddr), run: impl Fn(SocketAddr)) -> Option<u64> {
    served_at(Place::InTheClear, host, warm, run)
}

/// Where a server is asked: each is a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    InTheClear,
    InsideTls,
}

fn served_at(
    place: Place,
    host: HostKind,
    warm: impl Fn(SocketAddr),
    run: impl Fn(SocketAddr),
) -> Option<u64> {
    let clear = Listener::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    let inside = Listener { tls: Some(Authority::usual().settings.clone()), ..clear.clone() };
    let config = Config { listen: vec![clear, inside], workers: 1, host, ..Config::default() };
    let server = Server::new(config)
        .route("/plaintext", Resource::new().get(ready("Hello, World!")))
        .route("/note", Resource::new().get(note))
        .route("/echo", Resource::new().upgrade(echo::protocol()));
    let running = match server.start() {
        Ok(running) => running,
        Err(ServerError::Setup(error)) if error.is_denied() => {
            eprintln!("SKIPPED, io_uring is denied here: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let (clear, address) = (running.addresses()[0], running.addresses()[place as usize]);
    let noted = || {
        let mut stream = TcpStream::connect(clear).expect("the server listens");
        answered(&mut stream, b"GET /note HTTP/1.1\r\nHost: a\r\n\r\n");
        NOTED.load(Ordering::Relaxed)
    };
    warm(address);
    noted();
    let before = noted();
    let idle = noted() - before;
    run(address);
    let after = noted();
    running.stop().expect("it served to the end");
    // Asking allocates, too: as much as it did when nothing happened between two questions.
    Some(after - before - 2 * idle)
}

/// One request and its answer, whose content has no line end behind an empty line.
fn answered(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).expect("the server reads");
    let (mut answer, mut len) = ([0; 512], 0);
    while !answer[..len].windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let read = stream.read(&mut answer[len..]).expect("the server answers");
        assert!(read > 0, "the server answers before it closes");
        len += read;
    }
}

/// `rounds` rounds in which each of `connections` has sent its request before the first reads its
/// answer.
fn rounds(address: SocketAddr, connections: usize, rounds: usize) {
    let mut streams: Vec<TcpStream> = (0..connections)
        .map(|_| TcpStream::connect(address).expect("the server listens"))
        .collect();
    let mut answer = [0; 4096];
    for _ in 0..rounds {
        streams.iter_mut().for_each(|stream| stream.write_all(PLAINTEXT).expect("it reads"));
        for stream in &mut streams {
            assert!(stream.read(&mut answer).expect("it answers") > 100);
        }
    }
}

#[test]
fn a_core_allocates_nothing_for_requests_over_loopback() {
    for host in [HostKind::Native, HostKind::Hosted] {
        for connections in [1, 64, 512] {
            let allocated = served(
                host,
                |address| rounds(address, connections, 50),
                |address| rounds(address, connections, 200),
            );
            let Some(allocated) = allocated else { return };
            let requests = connections * 200;
            println!(
                "{host:?}: {allocated} allocations for {requests} requests of {connections} connections"
            );
            // How many answers leave in one turn is chance here. When it is more than ever in the
            // warm-up each of those makes its batch, pieces, text and place among the sends: once
            // for a connection, never for a request.
            assert!(allocated <= 4 * connections as u64, "{host:?}, {connections} connections");
        }
    }
}

/// Connections whose handshakes are over, and which have asked something.
fn inside_tls(address: SocketAddr, count: usize) -> Vec<StreamOwned<ClientConnection, TcpStream>> {
    let config = Authority::usual().client_config(versions()[0]);
    let connect = |_| {
        let name = ServerName::try_from(NAME).expect("a name");
        let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let stream = TcpStream::connect(address).expect("the server listens");
        StreamOwned::new(client, stream)
    };
    (0..count).map(connect).collect()
}

#[test]
fn a_core_allocates_nothing_for_requests_inside_tls() {
    const CONNECTIONS: usize = 16;
    for host in [HostKind::Native, HostKind::Hosted] {
        let streams = RefCell::new(Vec::new());
        let rounds = |rounds: usize| {
            let mut answer = [0; 4096];
            for _ in 0..rounds {
                let mut streams = streams.borrow_mut();
                streams.iter_mut().for_each(|stream: &mut StreamOwned<_, _>| {
                    stream.write_all(PLAINTEXT).expect("it reads");
                    stream.flush().expect("it reads");
                });
                for stream in streams.iter_mut() {
                    assert!(stream.read(&mut answer).expect("it answers") > 100);
                }
            }
        };
        let allocated = served_at(
            Place::InsideTls,
            host,
            |address| {
                streams.replace(inside_tls(address, CONNECTIONS));
                rounds(50);
            },
            |_| rounds(500),
        );
        let Some(allocated) = allocated else { return };
        println!("{host:?}: {allocated} allocations for {} requests", CONNECTIONS * 500);
        // As in the clear, for a turn with more answers than there ever were in one.
        assert!(allocated <= 4 * CONNECTIONS as u64, "{host:?}");
    }
}

#[test]
fn a_core_allocates_nothing_for_an_echo_over_loopback() {
    let switch = |address: SocketAddr| {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(address).expect("the server listens");
            answered(&mut stream, SWITCH);
            for _ in 0..10 {
                stream.write_all(b"ping").expect("it reads");
                stream.read_exact(&mut [0; 4]).expect("it echoes");
            }
        }
    };
    for host in [HostKind::Native, HostKind::Hosted] {
        let Some(allocated) = served(host, switch, switch) else { return };
        println!("{host:?}: {allocated} allocations for 100 switches and 1000 echoes");
        assert_eq!(allocated, 0, "{host:?}");
    }
}
