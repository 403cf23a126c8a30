//! A connection inside TLS whose peer, or whoever is between, does as the input says: what reaches the
//! protocol is the beginning of what the peer has sealed, in its order, and nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use upring::buffer::Lease;
use upring::config::{DrainTimes, Limits};
use upring::counters::Counters;
use upring::engine::{Engine, Turn};
use upring::resource::{Registry, Resource};
use upring::ring::sim::{Client, Faults, SimConfig, Simulation, World};
use upring::ring::{Kernel, ListenerId, Wait};
use upring::session::Core;
use upring::tls::Acceptor;
use upring::upgrade::{Handler, Io, Protocol};

use super::inside_tls::{Authority, InsideTls, NAME, versions};

/// Steps of a script, so that the work stays bounded. In a row a peer may change its keys 32 times.
const STEPS_MAX: usize = 30;

const SWITCH: &[u8] =
    b"GET /raw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n";

thread_local! {
    /// What the protocol was given.
    static HEARD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Listens, and says nothing.
struct Raw;

impl Handler for Raw {
    fn on_bytes(&mut self, bytes: Lease, _: &mut Io<'_>) {
        HEARD.with_borrow_mut(|heard| heard.extend_from_slice(&bytes));
    }

    fn on_end(&mut self, io: &mut Io<'_>) {
        io.end();
    }
}

/// The first byte says the version, and whether the rest is sent as it is in the place of a handshake, or is
/// what is done to the records of a handshake and of what follows, or of what follows a whole handshake.
pub(crate) fn tls(bytes: &[u8]) {
    let Some((first, script)) = bytes.split_first() else { return };
    let version = usize::from(first & 1);
    HEARD.take();
    match (first >> 1) % 3 {
        0 => blurted(script, usize::from(first >> 3)),
        1 => tampered(script, version, false),
        _ => tampered(script, version, true),
    }
}

/// What is no handshake leads to no request, in pieces of any length.
fn blurted(bytes: &[u8], piece_max: usize) {
    let mut stage = Stage::open();
    let client = stage.world.connect(ListenerId(0));
    let piece_max = if piece_max == 0 { usize::MAX } else { piece_max };
    for piece in bytes.chunks(piece_max.max(bytes.len() / 200)) {
        client.write_exactly(piece);
        stage.settle();
    }
    client.finish();
    stage.settle();
    let counters = &stage.counters;
    assert_eq!((counters.requests.value(), counters.tls_handshakes.value()), (0, 0));
    let ended = counters.tls_faults.value() + counters.tls_plain_http.value();
    assert_eq!(ended, 1, "it is told so, one way or the other");
    stage.close(&client);
}

/// Has the script done to what a peer says.
fn tampered(script: &[u8], version: usize, is_behind: bool) {
    let mut stage = Stage::open();
    let mut peer = Peer::new(&mut stage, version);
    if is_behind {
        peer.pass_all(&mut stage);
        assert_eq!(stage.counters.upgrades_switched.value(), 1, "nobody was in its way");
    }
    let mut script = Script(script.iter());
    for _ in 0..STEPS_MAX {
        if peer.is_over || !script.step(&mut peer, &mut stage) {
            break;
        }
    }
    if !peer.is_over {
        peer.pass_all(&mut stage);
    }
    let heard = HEARD.take();
    assert!(peer.said.starts_with(&heard), "it heard {}", heard.escape_ascii());
    if !peer.is_tampered && peer.is_all_passed() {
        assert_eq!((heard.len(), peer.tls.fault()), (peer.said.len(), None));
    }
    stage.close(&peer.client);
}

struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn number(&mut self) -> usize {
        self.0.next().map_or(0, |byte| usize::from(*byte))
    }

    /// Does the next thing; false if there is none.
    fn step(&mut self, peer: &mut Peer, stage: &mut Stage) -> bool {
        let Some(what) = self.0.next() else { return false };
        match what % 13 {
            0 => peer.say(self.number()),
            1 => peer.say(self.number() * self.number()),
            2 => peer.pass(stage),
            3 => peer.tamper(stage, |records| drop(records.pop_front())),
            4 => peer.tamper(stage, |records| records.swap(0, records.len() - 1)),
            5 => peer.tamper(stage, |records| records.push_front(records[0].clone())),
            6 => {
                let (at, bit) = (self.number() * 256 + self.number(), self.number() % 8);
                peer.tamper(stage, |records| {
                    let at = at % records[0].len();
                    records[0][at] ^= 1 << bit;
                });
            }
            7 => {
                let len = self.number() * 256 + self.number();
                peer.tamper(stage, |records| {
                    let len = len % records[0].len();
                    records[0].truncate(len);
                });
            }
            8 => {
                let len = self.number();
                let forged = self.0.by_ref().take(len).copied().collect();
                peer.tamper(stage, |records| records.push_front(forged));
            }
            9 => peer.piece_max = self.number().checked_sub(1).unwrap_or(usize::MAX).max(1),
            10 => {
                // TLS 1.2 has no such thing, and a handshake that goes on no use for it.
                let _ = peer.tls.connection().refresh_traffic_keys();
            }
            11 => peer.end_inside(),
            _ => peer.cut(stage),
        }
        true
    }
}

/// The peer, and whoever is between it and the server.
struct Peer {
    client: Client,
    tls: InsideTls,
    /// What it has to say to the protocol.
    said: Vec<u8>,
    /// Records that were not passed on.
    records: VecDeque<Vec<u8>>,
    piece_max: usize,
    has_ended: bool,
    /// The connection beneath was ended.
    is_over: bool,
    is_tampered: bool,
}

impl Peer {
    fn new(stage: &mut Stage, version: usize) -> Peer {
        let client = stage.world.connect(ListenerId(0));
        let mut tls = InsideTls::new(&configs()[version], NAME);
        tls.write(SWITCH);
        Peer {
            client,
            tls,
            said: Vec::new(),
            records: VecDeque::new(),
            piece_max: usize::MAX,
            has_ended: false,
            is_over: false,
            is_tampered: false,
        }
    }

    fn say(&mut self, len: usize) {
        if !self.has_ended && self.tls.fault().is_none() {
            let start = self.said.len();
            let words: Vec<u8> = (start..start + len).map(|at| (at % 251) as u8).collect();
            self.tls.write(&words);
            self.said.extend(words);
        }
    }

    fn end_inside(&mut self) {
        self.has_ended = true;
        // In the middle of a handshake it gives up, and is told that this is none.
        self.is_tampered |= self.tls.connection().is_handshaking();
        self.tls.finish();
    }

    /// Makes records of what it has to say.
    fn collect(&mut self) {
        let output = self.tls.output();
        let mut rest = &output[..];
        while let Some((header, _)) = rest.split_first_chunk::<5>() {
            let len = 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
            let (record, behind) = rest.split_at(len);
            self.records.push_back(record.to_vec());
            rest = behind;
        }
    }

    /// Passes one record on, in pieces, and brings back what the server says.
    fn pass(&mut self, stage: &mut Stage) {
        self.collect();
        let Some(record) = self.records.pop_front() else { return };
        for piece in record.chunks(self.piece_max.max(record.len() / 50 + 1)) {
            self.client.write_exactly(piece);
            stage.settle();
        }
        self.hear();
    }

    /// What the server says. Who has said that it ends hears of no fault any more: rustls cannot say so.
    fn hear(&mut self) {
        let news = self.client.read();
        if !(self.has_ended && self.is_tampered) {
            self.tls.feed(&news);
        }
    }

    fn pass_all(&mut self, stage: &mut Stage) {
        stage.settle();
        self.hear();
        loop {
            self.collect();
            if self.records.is_empty() {
                return;
            }
            self.pass(stage);
        }
    }

    /// Does something to the records that are to be passed on, if there is one, and passes the first.
    fn tamper(&mut self, stage: &mut Stage, how: impl FnOnce(&mut VecDeque<Vec<u8>>)) {
        self.collect();
        if !self.records.is_empty() {
            let before = self.records.clone();
            how(&mut self.records);
            self.is_tampered |= before != self.records;
            self.pass(stage);
        }
    }

    fn cut(&mut self, stage: &mut Stage) {
        self.collect();
        self.is_over = true;
        self.client.finish();
        stage.settle();
    }

    fn is_all_passed(&mut self) -> bool {
        self.collect();
        self.records.is_empty() && !self.tls.connection().is_handshaking()
    }
}

/// Made once: each has a certificate of its own, or the memory of its tickets.
fn acceptor() -> Arc<Acceptor> {
    static ACCEPTOR: OnceLock<Arc<Acceptor>> = OnceLock::new();
    Arc::clone(ACCEPTOR.get_or_init(|| Authority::usual().acceptor()))
}

fn configs() -> &'static [Arc<ClientConfig>; 2] {
    static CONFIGS: OnceLock<[Arc<ClientConfig>; 2]> = OnceLock::new();
    CONFIGS.get_or_init(|| versions().map(|version| Authority::usual().client_config(version)))
}

struct Stage {
    engine: Engine<Simulation>,
    world: World,
    counters: Arc<Counters>,
}

impl Stage {
    fn open() -> Stage {
        let config = SimConfig { faults: Faults::none(), ..SimConfig::default() };
        let (kernel, counters) = (Simulation::new(1, config), Arc::<Counters>::default());
        let mut registry = Registry::default();
        registry.insert("/raw", Resource::new().upgrade(Protocol::callback("raw", |_| Raw)));
        let core = Core::new(registry, Limits::default(), Arc::clone(&counters), 0);
        let world = kernel.world();
        let engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default())
            .securing(&[Some(acceptor())]);
        Stage { engine, world, counters }
    }

    fn settle(&mut self) {
        while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
            || !self.world.is_quiet()
        {}
    }

    /// The client goes, and nothing is left of it.
    fn close(mut self, client: &Client) {
        client.close();
        for _ in 0..100 {
            self.settle();
            self.world.advance(100);
        }
        let left = (self.world.open_handles(), self.world.in_flight(), self.engine.connections());
        assert_eq!(left, (0, 0, 0));
        let counters = &self.counters;
        let gauges = [
            &counters.tls_handshakes_open,
            &counters.tls_connections_open,
            &counters.upgrades_open,
            &counters.handler_panics,
        ];
        assert_eq!(gauges.map(|gauge| gauge.value()), [0; 4]);
        let lent = self.world.lent();
        let pool = self.engine.kernel().pool();
        assert_eq!(pool.vacant() + lent, pool.count(), "every buffer comes back");
    }
}
