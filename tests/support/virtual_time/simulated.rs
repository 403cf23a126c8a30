//! The whole engine on the simulated kernel. Each conversation is a world of its own, its chance
//! drawn from the seed of the target: playing the same rows with the same seed replays a failure.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use upring::config::{DrainTimes, NEVER};
use upring::counters::Counters;
use upring::engine::{Engine, Turn};
use upring::ring::sim::{self, Client, Fault, Faults, Random, SimConfig, Simulation, World};
use upring::ring::{ListenerId, Wait as Sleep};
use upring::session::Core;
use upring::tls::Acceptor;

use crate::conformance::{Case, Collected, Ending, Peer, Segments, Target, Wait};
use crate::fixture::{IN_THE_CLEAR, Routed, Setting, Tasks};
use crate::inside_tls::{Authority, InsideTls, NAME};

/// So few that some receives find none.
const BUFFERS_LENT: u16 = 4;

/// Everything that may go wrong without costing a connection.
pub fn harmless_faults() -> Faults {
    Faults { peer_reset: 0.0, ..Faults::default() }
}

/// Engines in worlds with these faults.
pub struct Simulated {
    name: String,
    seeds: Random,
    config: SimConfig,
    routed: Routed,
    setting: Setting,
    writes_exactly: bool,
    happened: Happened,
    /// Everything is said inside TLS.
    tls: Option<Tls>,
}

/// What both ends need to speak TLS.
struct Tls {
    acceptor: Arc<Acceptor>,
    client: Arc<rustls::ClientConfig>,
}

/// Faults that have happened in some world.
type Happened = Rc<RefCell<Vec<Fault>>>;

impl Simulated {
    pub fn new(seed: u64, faults: Faults) -> Simulated {
        Simulated {
            name: format!("the engine, simulated, seed {seed}"),
            seeds: Random::new(seed),
            config: SimConfig { faults, buffers_lent: BUFFERS_LENT, ..SimConfig::default() },
            routed: Routed::default(),
            setting: Setting::default(),
            writes_exactly: false,
            happened: Happened::default(),
            tls: None,
        }
    }

    /// The same, with every conversation inside TLS of this version.
    pub fn inside(mut self, version: &'static rustls::SupportedProtocolVersion) -> Simulated {
        let authority = Authority::usual();
        let (acceptor, client) = (authority.acceptor(), authority.client_config(version));
        self.name = format!("{}, inside {:?}", self.name, version.version);
        self.tls = Some(Tls { acceptor, client });
        self
    }

    /// Faults that no world has met.
    pub fn never_happened(&self) -> Vec<Fault> {
        let happened = self.happened.borrow();
        Fault::ALL.into_iter().filter(|fault| !happened.contains(fault)).collect()
    }
}

impl Target for Simulated {
    fn name(&self) -> &str {
        &self.name
    }

    fn supports(&self, case: &Case) -> Result<(), String> {
        if self.tls.is_some() && case.needs.as_deref() == Some(IN_THE_CLEAR) {
            return Err("it is about connections in the clear".into());
        }
        super::setting_for(case).map(|_| ())
    }

    fn prepare(&mut self, case: &Case) {
        self.setting = super::setting_for(case).expect("the case is supported");
        self.writes_exactly = case.segments == Segments::Together;
    }

    fn connect(&mut self) -> Box<dyn Peer> {
        let seed = self.seeds.number();
        let kernel = Simulation::new(seed, self.config.clone());
        let (world, counters, tasks) = (kernel.world(), Arc::default(), Tasks::default());
        let (registry, limits) = (self.setting.registry(&self.routed), self.setting.limits());
        let mut core = Core::new(registry, limits, Arc::clone(&counters), 0);
        core.spawn = Some(tasks.spawn());
        tasks.run(world.now());
        let engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default());
        let acceptor = self.tls.as_ref().map(|tls| Arc::clone(&tls.acceptor));
        let mut connection = Connection {
            client: world.connect(ListenerId(0)),
            engine: engine.securing(&[acceptor]),
            tls: self.tls.as_ref().map(|tls| InsideTls::new(&tls.client, NAME)),
            world,
            counters,
            tasks,
            received: Vec::new(),
            wants_finish: false,
            has_finished: false,
            writes_exactly: self.writes_exactly,
            happened: Rc::clone(&self.happened),
            resets_at_last: seed.is_multiple_of(2),
        };
        connection.settle();
        Box::new(connection)
    }

    fn routed_log(&mut self) -> Vec<String> {
        self.routed.take()
    }
}

struct Connection {
    engine: Engine<Simulation>,
    world: World,
    tls: Option<InsideTls>,
    client: Client,
    counters: Arc<Counters>,
    tasks: Tasks,
    received: Vec<u8>,
    wants_finish: bool,
    has_finished: bool,
    writes_exactly: bool,
    happened: Happened,
    /// How the client lets go: by a reset, or by closing.
    resets_at_last: bool,
}

impl Connection {
    /// Everything that happens now.
    fn settle(&mut self) {
        loop {
            let turn = self.engine.turn(Sleep::No).expect("a simulated kernel always goes on");
            self.tasks.run(self.world.now());
            let news = self.client.read();
            match &mut self.tls {
                None => self.received.extend_from_slice(&news),
                Some(tls) => {
                    tls.feed(&news);
                    self.received.extend_from_slice(&tls.read());
                }
            }
            self.speak();
            let has_mail = !self.engine.core().mailbox.is_empty();
            if turn != Turn::Again && news.is_empty() && !has_mail && self.world.is_quiet() {
                return;
            }
        }
    }

    /// Sends what TLS has to be sent.
    fn speak(&mut self) {
        if let Some(tls) = &mut self.tls {
            let mut output = tls.output();
            let mut is_last = false;
            if self.wants_finish && !tls.connection().is_handshaking() {
                // Nothing is said inside before its beginning, and that includes the end.
                tls.finish();
                output.extend_from_slice(&tls.output());
                is_last = true;
            }
            if !output.is_empty() && !self.has_finished {
                self.write(&output);
            }
            if is_last && !std::mem::replace(&mut self.has_finished, true) {
                self.client.finish();
            }
        }
    }

    fn write(&self, bytes: &[u8]) {
        match self.writes_exactly {
            true => self.client.write_exactly(bytes),
            false => self.client.write(bytes),
        }
    }

    /// Lets time pass up to what happens next, or to `end`; false if that has come.
    fn pass(&mut self, end: u64) -> bool {
        self.settle();
        let now = self.world.now();
        let next = self.world.next_event_at().unwrap_or(NEVER);
        let next = next.min(self.tasks.next_at().unwrap_or(NEVER)).min(end);
        self.world.advance(next.saturating_sub(now));
        now < end
    }

    fn ending(&self) -> Ending {
        match self.client.ending() {
            None => Ending::Open,
            Some(sim::Ending::Finished) => Ending::Finished,
            Some(sim::Ending::Reset) => Ending::Reset,
        }
    }
}

impl Peer for Connection {
    fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.write(bytes),
            Some(tls) => {
                tls.write(bytes);
                self.speak();
            }
        }
        self.settle();
    }

    fn wait_ms(&mut self, ms: u64) {
        let end = self.world.now() + ms;
        while self.pass(end) {}
        self.settle();
    }

    fn finish(&mut self) {
        match &mut self.tls {
            None => self.client.finish(),
            Some(_) => self.wants_finish = true,
        }
        self.speak();
        self.settle();
    }

    fn collect(&mut self, wait: &dyn Fn(&[u8]) -> Wait) -> Collected {
        let start = self.world.now();
        self.settle();
        while self.ending() == Ending::Open
            && self.pass(start + super::millis(wait(&self.received)))
        {}
        if let Some(tls) = &self.tls
            && self.ending() == Ending::Finished
        {
            assert!(tls.has_closed(), "an end is said inside TLS, too: {:?}", tls.fault());
        }
        Collected { bytes: self.received.clone(), ending: self.ending() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        match self.resets_at_last {
            true => self.client.reset(),
            false => self.client.close(),
        }
        let end = self.world.now() + super::AFTERMATH_MS;
        while self.client.is_open() && self.pass(end) {}
        self.settle();
        super::assert_all_closed(&self.counters, "the engine, simulated");
        let mut happened = self.happened.borrow_mut();
        for fault in Fault::ALL {
            if self.world.injected(fault) > 0 && !happened.contains(&fault) {
                happened.push(fault);
            }
        }
        let held = (self.world.open_handles(), self.world.in_flight(), self.engine.connections());
        assert_eq!(held, (0, 0, 0), "descriptors, operations in flight, connections");
        assert_eq!(self.counters.completions_stale.value(), 0, "no slot is reused too early");
        let lent = self.world.lent();
        let pool = upring::ring::Kernel::pool(self.engine.kernel());
        assert_eq!(pool.vacant() + lent, pool.count(), "every buffer is given back");
    }
}
