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

use crate::conformance::{Case, Collected, Ending, Peer, Segments, Target, Wait};
use crate::fixture::{Routed, Setting, Tasks};

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
        }
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
        let mut connection = Connection {
            client: world.connect(ListenerId(0)),
            engine: Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default()),
            world,
            counters,
            tasks,
            received: Vec::new(),
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
    client: Client,
    counters: Arc<Counters>,
    tasks: Tasks,
    received: Vec<u8>,
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
            self.received.extend_from_slice(&news);
            let has_mail = !self.engine.core().mailbox.is_empty();
            if turn != Turn::Again && news.is_empty() && !has_mail && self.world.is_quiet() {
                return;
            }
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
        match self.writes_exactly {
            true => self.client.write_exactly(bytes),
            false => self.client.write(bytes),
        }
        self.settle();
    }

    fn wait_ms(&mut self, ms: u64) {
        let end = self.world.now() + ms;
        while self.pass(end) {}
        self.settle();
    }

    fn finish(&mut self) {
        self.client.finish();
        self.settle();
    }

    fn collect(&mut self, wait: &dyn Fn(&[u8]) -> Wait) -> Collected {
        let start = self.world.now();
        self.settle();
        while self.ending() == Ending::Open
            && self.pass(start + super::millis(wait(&self.received)))
        {}
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
