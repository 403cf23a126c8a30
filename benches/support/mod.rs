//! What benches and tests of costs share: heads as clients send them, a session without an engine,
//! and an engine without a kernel. Nothing here measures.

#![allow(dead_code, reason = "each bench and test that includes this tree uses a part of it")]
#![allow(unreachable_pub, reason = "what is public here is public to whoever includes this tree")]

pub mod bodies;
pub mod counted;
#[path = "../../tests/support/inside_tls.rs"]
pub mod inside_tls;
pub mod table;
pub mod timing;
pub mod watched;
pub mod websocket;

use std::sync::Arc;

use counted::counted;
use upring::access::{Recorder, Writer, feeds};
use upring::buffer::{Batch, Load, Pool};
use upring::config::{AccessFormat, AccessLog, DrainTimes, Limits};
use upring::counters::Counters;
use upring::engine::{Engine, Remote, Turn};
use upring::http::{Ready, Request, Response, Status};
use upring::protocols::echo;
use upring::resource::{Registry, Reply, Resource};
use upring::ring::sim::{Client, Faults, SimConfig, Simulation, World};
use upring::ring::{Kernel, ListenerId, Wait};
use upring::session::{Core, Port, Session};
use upring::tls::Acceptor;
use upring::upgrade::Protocol;
use watched::Watched;

/// Heads by the name of who sends them.
pub const HEADS: [(&str, &[u8]); 16] = [
    ("browser", include_bytes!("../corpus/browser.http")),
    ("browser-chromium", include_bytes!("../corpus/browser-chromium.http")),
    ("browser-image", include_bytes!("../corpus/browser-image.http")),
    ("browser-post", include_bytes!("../corpus/browser-post.http")),
    ("curl", include_bytes!("../corpus/curl.http")),
    ("curl-h2c", include_bytes!("../corpus/curl-h2c.http")),
    ("curl-upload", include_bytes!("../corpus/curl-upload.http")),
    ("gateway", include_bytes!("../corpus/gateway.http")),
    ("gateway-cdn", include_bytes!("../corpus/gateway-cdn.http")),
    ("gateway-mesh", include_bytes!("../corpus/gateway-mesh.http")),
    ("plaintext", PLAINTEXT),
    ("probe", include_bytes!("../corpus/probe.http")),
    ("smallest", include_bytes!("../corpus/smallest.http")),
    ("websocket", WEBSOCKET),
    ("websocket-node", include_bytes!("../corpus/websocket-node.http")),
    ("websocket-python", include_bytes!("../corpus/websocket-python.http")),
];

/// The request of the well-known plaintext benchmark.
pub const PLAINTEXT: &[u8] = include_bytes!("../corpus/plaintext.http");

/// A browser's opening handshake of RFC 6455.
pub const WEBSOCKET: &[u8] = include_bytes!("../corpus/websocket.http");

/// A request to switch to `echo`, as short as it can be.
pub const SWITCH: &[u8] =
    b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// A head by its name.
pub fn head_named(name: &str) -> &'static [u8] {
    HEADS.iter().find(|(known, _)| *known == name).expect("it is in the corpus").1
}

/// Bytes cut into so many segments of equal length, as far as that goes.
pub fn cut(bytes: &[u8], segments: usize) -> Vec<Vec<u8>> {
    let place = |segment: usize| bytes.len() * segment / segments;
    (0..segments).map(|segment| bytes[place(segment)..place(segment + 1)].to_vec()).collect()
}

/// Enough requests to have seen every allocation that is made once.
pub const WARM: usize = 200;

/// A ready-made answer, one made for each request, and `echo`.
pub fn registry() -> Registry {
    let text = |body: &'static str| Response::text(Status::OK, body).to_ready();
    let mut registry = Registry::default();
    registry.insert("/", Resource::new().get(text("ok\n")));
    registry.insert("/plaintext", Resource::new().get(text("Hello, World!")));
    registry.insert("/dynamic", Resource::new().get(dynamic));
    registry.insert("/echo", Resource::new().upgrade(echo::protocol()));
    registry
}

fn dynamic(request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>) {
    let path = String::from_utf8_lossy(request.path()).into_owned();
    reply.send(&Response::text(Status::OK, path));
}

/// `resource` with protocols that nobody offers.
pub fn with_unused_protocols(mut resource: Resource, count: usize) -> Resource {
    for number in 0..count {
        resource =
            resource.upgrade(Protocol::callback(&format!("unused-{number}"), |_| echo::Echo));
    }
    resource
}

/// A core that serves `registry`, with default limits but for one: criterion's rounds are more
/// requests than a connection may have.
pub fn core(registry: Registry) -> Core {
    let limits = Limits { requests_per_connection_max: u32::MAX, ..Limits::default() };
    Core::new(registry, limits, Arc::new(Counters::default()), 784_111_777)
}

/// A session without an engine: what it wrote has left as soon as the caller says so.
pub struct Alone {
    pub pool: Pool,
    pub core: Core,
    pub session: Session,
    pub batch: Option<Box<Batch>>,
    /// The other end of its access log, if it has one.
    log: Option<Writer>,
    /// What came out there of the last turn.
    pub lines: Vec<u8>,
}

impl Alone {
    pub fn new(registry: Registry) -> Alone {
        let core = core(registry);
        let session = Session::open(&core);
        Alone {
            pool: Pool::new(64, 16 * 1024),
            core,
            session,
            batch: None,
            log: None,
            lines: Vec::new(),
        }
    }

    /// Answers have lines from here on.
    pub fn log(&mut self, format: AccessFormat) {
        let log = AccessLog { format, ..AccessLog::default() };
        let (writer, feeds) = feeds(&log, 1);
        self.core.access = feeds.into_iter().next().map(|feed| Box::new(Recorder::new(feed)));
        self.log = Some(writer);
    }

    /// The turn ends: its lines go into the queue, and are taken out of it.
    pub fn end_turn(&mut self) {
        if let Some(writer) = &mut self.log {
            self.core.hand_over_log();
            self.lines.clear();
            writer.drain_into(&mut self.lines);
        }
    }

    /// The next connection; the one before is over.
    pub fn open(&mut self) {
        self.session = Session::open(&self.core);
    }

    /// A segment arrives.
    pub fn receive(&mut self, bytes: &[u8]) {
        let lease = self.pool.take().expect("a buffer is vacant").fill(bytes);
        self.core.begin_turn(self.core.now);
        let mut port = Port {
            core: &mut self.core,
            batch: &mut self.batch,
            in_flight: Load::default(),
            key: 0,
            secured: None,
            is_securable: false,
        };
        self.session.received(lease, &mut port);
    }

    /// Everything written leaves, and what is written then; how many bytes that were.
    pub fn send(&mut self) -> usize {
        self.send_to(|_| {})
    }

    /// The same, for who wants to see them.
    pub fn sent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.send_to(|batch| batch.slices().for_each(|slice| bytes.extend_from_slice(slice)));
        bytes
    }

    fn send_to(&mut self, mut look: impl FnMut(&Batch)) -> usize {
        let mut sent = 0;
        while let Some(batch) = self.batch.take() {
            look(&batch);
            sent += batch.len();
            self.core.recycle(batch);
            self.is_sent();
        }
        sent
    }

    fn is_sent(&mut self) {
        let mut port = Port {
            core: &mut self.core,
            batch: &mut self.batch,
            in_flight: Load::default(),
            key: 0,
            secured: None,
            is_securable: false,
        };
        self.session.sent(&mut port);
    }
}

/// An engine on a kernel that is simulated, in which nothing goes wrong.
pub struct Simulated {
    pub engine: Engine<Watched<Simulation>>,
    pub world: World,
}

impl Simulated {
    /// An engine that tells `watch` when it goes into its kernel, and when it comes back.
    pub fn new(registry: Registry, watch: fn(bool)) -> Simulated {
        let config = SimConfig {
            buffers: 2048,
            buffer_bytes: 4096,
            buffers_lent: 1024,
            descriptors_max: 16 * 1024,
            window_bytes: 1 << 20,
            faults: Faults::none(),
            ..SimConfig::default()
        };
        let kernel = Simulation::new(1, config);
        let world = kernel.world();
        let engine = engine(Watched::new(kernel, watch), core(registry));
        Simulated { engine, world }
    }

    /// The same, and its connections are inside TLS.
    pub fn inside_tls(self, acceptor: Arc<Acceptor>) -> Simulated {
        Simulated { engine: self.engine.securing(&[Some(acceptor)]), ..self }
    }

    /// A connection, accepted.
    pub fn connect(&mut self) -> Client {
        let client = self.world.connect(ListenerId(0));
        self.settle_aside();
        client
    }

    /// What a client says, each segment in a turn of its own.
    pub fn hear(&mut self, client: &Client, segments: &[Vec<u8>]) {
        for segment in segments {
            client.write_exactly(segment);
            self.settle();
        }
    }

    /// Turns until nothing is left to do.
    pub fn settle(&mut self) {
        counted(&mut || self.turn());
    }

    /// The same, as part of what is prepared: it is in no account of instructions.
    pub fn settle_aside(&mut self) {
        self.engine.kernel().is_aside = true;
        self.turn();
        self.engine.kernel().is_aside = false;
    }

    fn turn(&mut self) {
        while self.engine.turn(Wait::No).expect("a simulated kernel goes on") == Turn::Again {}
    }
}

/// Engines, one after the other, for connections that come and go: a simulated kernel remembers
/// each that it ever had.
pub struct Engines {
    registry: fn() -> Registry,
    simulated: Simulated,
    connections: u64,
}

impl Engines {
    const CONNECTIONS_MAX: u64 = 4096;

    pub fn new(registry: fn() -> Registry) -> Engines {
        Engines { registry, simulated: Simulated::new(registry(), |_| {}), connections: 0 }
    }

    /// One that has so many more.
    pub fn one_for(&mut self, connections: u64) -> &mut Simulated {
        self.connections += connections;
        if self.connections > Engines::CONNECTIONS_MAX {
            *self = Engines { connections, ..Engines::new(self.registry) };
        }
        &mut self.simulated
    }
}

/// An engine with one listener.
pub fn engine<K: Kernel>(kernel: K, core: Core) -> Engine<K> {
    Engine::new(kernel, core, 1, Arc::new(Remote::default()), DrainTimes::default())
}

/// A ready-made answer for tests that route on their own.
pub fn ready(body: &'static str) -> Ready {
    Response::text(Status::OK, body).to_ready()
}
