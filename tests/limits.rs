//! Every limit of `tuning/README.md`: at its bound there is the answer that the page says, and the
//! counters that it names are raised, which they are not with the default. On the whole engine and the
//! simulated kernel.

#[path = "support/inside_tls.rs"]
mod inside_tls;

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use inside_tls::Authority;
use upring::buffer::Lease;
use upring::config::{DrainTimes, Limits, Listener, ProxyProtocol};
use upring::counters::Counters;
use upring::engine::{Engine, Turn};
use upring::http::{Request, Response, Status, Trailers};
use upring::resource::{Registry, Reply, Resource, StreamIo, Streaming, from_head, streamed};
use upring::ring::sim::{Client, Faults, SimConfig, Simulation, World};
use upring::ring::{ListenerId, Wait};
use upring::session::Core;
use upring::upgrade::{Decision, Handler, Io, Opening, Promise, Protocol};

/// A bound, what is done to reach it, and the status that is answered last.
struct Case {
    limit: &'static str,
    bound: u64,
    play: fn(&mut Scene),
    status: Option<u16>,
    /// Another bound, which is not the default either.
    beside: Option<(&'static str, u64)>,
}

const fn case(limit: &'static str, bound: u64, play: fn(&mut Scene), status: Option<u16>) -> Case {
    Case { limit, bound, play, status, beside: None }
}

const CASES: &[Case] = &[
    case("connections_max", 1, |scene| scene.connect_twice(), Some(503)),
    case("connections_per_client_max", 1, |scene| scene.connect_twice(), Some(429)),
    case("proxy_header_bytes_max", 250, |scene| scene.introduce(240), None),
    case("tls_handshake_timeout_ms", 50, |scene| scene.connect_inside_tls(1, 60), None),
    case("tls_handshakes_max", 1, |scene| scene.connect_inside_tls(2, 0), None),
    case("head_bytes_max", 40, |scene| scene.send(&format!("GET /{:40}", "")), Some(414)),
    case("head_bytes_max", 40, |scene| scene.get("/", &format!("X: {:040}\r\n", 1)), Some(431)),
    case("target_bytes_max", 3, |scene| scene.get("/abc", ""), Some(414)),
    case("fields_max", 2, |scene| scene.get("/", "X: 1\r\nX: 2\r\n"), Some(431)),
    case("content_bytes_max", 4, |scene| scene.post("/whole", "hello"), Some(413)),
    case("content_bytes_max", 4, |scene| scene.post_in_chunks("/whole", HELLO, ""), Some(413)),
    case("collected_bytes_max", 3, |scene| scene.say(HALF, 0), Some(503)),
    case("collected_bytes_max", 4, |scene| scene.post_in_chunks("/whole", HELLO, ""), Some(503)),
    case("streamed_bytes_max", 4, |scene| scene.post("/stream", "hello"), Some(413)),
    case("streamed_bytes_max", 4, |scene| scene.post_in_chunks("/stream", HELLO, ""), Some(413)),
    case("unread_bytes_max", 4, |scene| scene.post("/moved", "hello"), Some(308)),
    case("unread_bytes_max", 4, |scene| scene.post_in_chunks("/moved", HELLO, ""), Some(308)),
    case("chunk_extension_bytes_max", 3, with_extensions, Some(400)),
    case("trailer_bytes_max", 3, |scene| scene.post_in_chunks("/whole", "", "X: y\r\n"), Some(431)),
    case("head_timeout_ms", 50, |scene| scene.say("GET", 60), Some(408)),
    case("idle_timeout_ms", 50, |scene| scene.say("", 60), None),
    case("content_rate_min", 1_000_000, trickle, Some(408)),
    case("content_slack_ms", 50, |scene| scene.say(HALF, 60), Some(408)),
    case("answer_timeout_ms", 50, |scene| scene.get_and_wait("/unanswered", 60), Some(503)),
    case("decision_timeout_ms", 50, |scene| scene.upgrade("/undecided", 60), Some(503)),
    case("requests_per_connection_max", 1, |scene| scene.get("/", ""), Some(200)),
    case("requests_per_turn", 1, |scene| scene.get_twice(), Some(200)),
    case("send_timeout_ms", 50, |scene| scene.get_without_reading(60), None),
    case("linger_timeout_ms", 50, |scene| scene.say("\n", 60), Some(400)),
    case("linger_bytes_max", 50, |scene| scene.go_on_behind_a_fault(60), Some(400)),
    case("outbox_bytes_high", 10, |scene| scene.get_twice(), Some(200)),
    case("outbox_bytes_max", 1000, |scene| scene.upgrade("/flood", 0), None),
    case("leases_max", 1, |scene| scene.say_early(2), None),
    case("aside_bytes_max", 10, |scene| scene.take_all_buffers(200), Some(200)),
    // Where nothing is set aside, or there is no shortage.
    Case {
        beside: Some(("aside_bytes_max", 0)),
        ..case("shortage_timeout_ms", 20, |scene| scene.take_all_buffers(60), Some(200))
    },
];

/// A content of five bytes, in a chunk.
const HELLO: &str = "5\r\nhello\r\n";
/// A request whose content stops half-way.
const HALF: &str = "POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab";

fn with_extensions(scene: &mut Scene) {
    scene.post_in_chunks("/whole", "1;a=b\r\nh\r\n", "");
}

/// Content that is 19 s late and then comes at once for the most part, which buys ten more at the
/// usual rate.
fn trickle(scene: &mut Scene) {
    scene.say("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 2401\r\n\r\n", 19_000);
    scene.say(&"x".repeat(2400), 2000);
}

#[test]
fn at_each_limit_the_counters_of_its_row_are_raised() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/README.md"));
    let page = page.expect("it is there");
    for Case { limit, bound, play, status, beside } in CASES {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{limit}` |")));
        let cell = row.and_then(|row| row.rsplit('|').nth(1)).expect("the page has each limit");
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();

        let mut limits = Limits::default();
        if let Some((name, bound)) = beside {
            limits.set(name, *bound).expect("a limit");
        }
        let mut scene = Scene::within(limits.clone());
        play(&mut scene);
        let raised = named.iter().filter(|name| scene.count(name) > 0).count();
        assert!(raised < named.len(), "{limit}: {named:?} are raised with the default");

        limits.set(limit, *bound).expect("a limit");
        let mut scene = Scene::within(limits);
        play(&mut scene);
        for name in named {
            assert!(scene.count(name) > 0, "{limit}: {name} is not raised");
        }
        assert_eq!(scene.last_status(), *status, "{limit}");
        // Who lingers was refused for one.
        let faults = u64::from(limit.starts_with("linger"));
        assert_eq!(
            scene.count("requests_faulty"),
            faults,
            "{limit}: no limit is a fault of syntax"
        );
    }
}

#[test]
fn no_limit_is_without_a_case() {
    for (name, _) in Limits::default().each() {
        assert!(CASES.iter().any(|case| case.limit == name), "{name}");
    }
}

/// One engine, and what its clients say.
struct Scene {
    engine: Engine<Simulation>,
    world: World,
    counters: Arc<Counters>,
    clients: Vec<Client>,
}

impl Scene {
    fn within(limits: Limits) -> Scene {
        let config = SimConfig {
            faults: Faults::none(),
            buffers: 8,
            buffers_lent: 8,
            ..SimConfig::default()
        };
        let (kernel, counters) = (Simulation::new(1, config), Arc::<Counters>::default());
        let core = Core::new(registry(), limits, Arc::clone(&counters), 0);
        let world = kernel.world();
        let plain = Listener::from(SocketAddr::from(([0, 0, 0, 0], 80)));
        let proxy_from = vec!["0.0.0.0/0".parse().expect("a network")];
        let proxied = Listener { proxy_protocol: ProxyProtocol::V2, proxy_from, ..plain.clone() };
        let engine = Engine::new(kernel, core, 3, Arc::default(), DrainTimes::default())
            .admitting(&[plain.clone(), proxied, plain], false)
            .securing(&[None, None, Some(Authority::usual().acceptor())]);
        Scene { engine, world, counters, clients: Vec::new() }
    }

    fn count(&self, name: &str) -> u64 {
        self.counters.each().find(|(at, _)| *at == name).expect("a counter").1
    }

    /// Of the answer that came last to the last client.
    fn last_status(&self) -> Option<u16> {
        let client = self.clients.last().expect("somebody was there");
        let text = String::from_utf8_lossy(&client.read()).into_owned();
        text.rsplit("HTTP/1.1 ").next().and_then(|line| line.get(..3)?.parse().ok())
    }

    /// Everything that happens now.
    fn settle(&mut self) {
        while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
            || !self.world.is_quiet()
        {}
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis {
            self.world.advance(1);
            self.settle();
        }
    }

    fn connect(&mut self) -> Client {
        let client = self.world.connect(ListenerId(0));
        self.clients.push(client.clone());
        self.settle();
        client
    }

    /// On a listener behind a load balancer, by a header with so many bytes that say nothing.
    fn introduce(&mut self, bytes: u8) {
        let client = self.world.connect(ListenerId(1));
        self.clients.push(client.clone());
        let header = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0";
        client.write_exactly(&[header, &[bytes][..], &vec![0; bytes.into()]].concat());
        self.settle();
    }

    /// So many that never begin their handshake.
    fn connect_inside_tls(&mut self, count: usize, then_pass: u64) {
        for _ in 0..count {
            let client = self.world.connect(ListenerId(2));
            // Who says nothing has no handshake yet.
            client.write(b"\x16");
            self.clients.push(client);
        }
        self.settle();
        self.pass(then_pass);
    }

    fn connect_twice(&mut self) {
        self.connect();
        self.get("/", "");
    }

    /// On the last connection, or on a first one.
    fn say(&mut self, text: &str, then_pass: u64) {
        let client = self.clients.last().cloned().unwrap_or_else(|| self.connect());
        client.write_exactly(text.as_bytes());
        self.settle();
        self.pass(then_pass);
    }

    /// On a connection of its own.
    fn send(&mut self, text: &str) {
        self.connect();
        self.say(text, 0);
    }

    fn go_on_behind_a_fault(&mut self, bytes: usize) {
        self.say("\n", 0);
        self.say(&"x".repeat(bytes), 0);
    }

    fn get(&mut self, target: &str, fields: &str) {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    }

    fn get_twice(&mut self) {
        self.send(&"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2));
    }

    fn get_and_wait(&mut self, target: &str, millis: u64) {
        self.get(target, "");
        self.pass(millis);
    }

    fn get_without_reading(&mut self, millis: u64) {
        self.connect().set_window(0);
        self.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n", millis);
    }

    fn upgrade(&mut self, target: &str, then_pass: u64) {
        self.get(target, "Connection: Upgrade\r\nUpgrade: echo\r\n");
        self.pass(then_pass);
    }

    /// Bytes behind an offer that is not decided, in so many segments.
    fn say_early(&mut self, segments: usize) {
        self.upgrade("/undecided", 0);
        (0..segments).for_each(|_| self.say("early", 0));
    }

    fn take_all_buffers(&mut self, then_pass: u64) {
        for _ in 0..3 {
            self.connect();
            self.upgrade("/undecided", 0);
            (0..8).for_each(|_| self.say("early", 0));
        }
        self.get("/", "");
        self.pass(then_pass);
    }

    fn post(&mut self, target: &str, content: &str) {
        let length = content.len();
        self.send(&format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{content}"
        ));
    }

    fn post_in_chunks(&mut self, target: &str, chunks: &str, trailers: &str) {
        self.send(&format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             {chunks}0\r\n{trailers}\r\n"
        ));
    }
}

fn registry() -> Registry {
    let ok = || Response::text(Status::OK, "ok").to_ready();
    let whole = |_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>| {
        reply.send(&Response::new(Status::OK).with_body(content.to_vec()));
    };
    let stream = streamed(|_: &Request<'_>, reply: &mut Reply<'_>| reply.stream(Swallow));
    let moved = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::new(Status::PERMANENT_REDIRECT));
    });
    let unanswered = |_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
        ANSWERS.with_borrow_mut(|answers| answers.push(reply.later()));
    };
    let mut registry = Registry::default();
    registry.insert("/", Resource::new().get(ok()));
    registry.insert("/whole", Resource::new().post(whole));
    registry.insert("/stream", Resource::new().post(stream));
    registry.insert("/moved", Resource::new().post(moved));
    registry.insert("/unanswered", Resource::new().get(unanswered));
    registry.insert("/undecided", Resource::new().upgrade(Protocol::new("echo", undecided)));
    registry.insert("/flood", Resource::new().upgrade(Protocol::callback("echo", |_| Flood)));
    registry
}

thread_local! {
    static ANSWERS: RefCell<Vec<Promise<Response>>> = const { RefCell::new(Vec::new()) };
    static DECISIONS: RefCell<Vec<Promise<Decision>>> = const { RefCell::new(Vec::new()) };
}

fn undecided(opening: &Opening<'_>) -> Decision {
    let (promise, decision) = opening.later();
    DECISIONS.with_borrow_mut(|decisions| decisions.push(promise));
    decision
}

struct Swallow;

impl Streaming for Swallow {
    fn on_content(&mut self, _: Lease, _: &mut StreamIo<'_>) {}

    fn on_content_end(&mut self, _: &Trailers, io: &mut StreamIo<'_>) {
        io.respond(Response::new(Status::OK));
    }
}

struct Flood;

impl Handler for Flood {
    fn on_open(&mut self, io: &mut Io<'_>) {
        io.send(vec![b'x'; 2000]);
        io.write(b"and more");
    }

    fn on_bytes(&mut self, _: Lease, _: &mut Io<'_>) {}
}
