//! The smallest engine that keeps every rule of the seam: it sends back what it receives and ends
//! when its client does. Run through thousands of worlds it shows that the simulation neither loses
//! nor turns bytes around.

use super::*;
use crate::ring::Millis;

/// Bytes waiting to be sent back at which a connection is no longer read.
const WAITING_BYTES_HIGH: usize = 1500;

struct Echo {
    kernel: Simulation,
    connections: Vec<Connection>,
    /// When to accept again; `None` while an accept is armed.
    accept_at: Option<Millis>,
    trace: Option<Vec<String>>,
}

struct Connection {
    token: Token,
    handle: Handle,
    /// To be sent back.
    waiting: Box<Batch>,
    /// When to receive again; `None` while a receive is in flight.
    receive_at: Option<Millis>,
    sending: bool,
    stopping: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Echoing,
    /// The client has ended; the rest goes back to it.
    Ending,
    ShuttingDown,
    Done,
    Broken,
    Closed,
}

impl Echo {
    fn turn(&mut self, wait: Wait) {
        if self.accept_at.is_some_and(|at| at <= self.kernel.now()) {
            self.accept_at = None;
            self.kernel.accept(LISTENER, Accepts::Many);
        }
        self.kernel.enter(wait).expect("a simulation always enters");
        while let Some(completion) = self.kernel.complete() {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{} {completion:?}", self.kernel.now()));
            }
            self.on(completion);
        }
        let wake =
            self.connections.iter_mut().filter_map(|connection| connection.go_on(&mut self.kernel));
        let wake = wake.chain(self.accept_at).min();
        self.kernel.wake_at(wake.unwrap_or(NEVER));
    }

    fn on(&mut self, completion: Completion) {
        let now = self.kernel.now();
        match completion {
            Completion::Accepted { result, more, .. } => {
                if !more {
                    self.accept_at =
                        Some(if result.is_err_and(Errno::is_exhaustion) { now + 10 } else { now });
                }
                self.connections.extend(
                    result.ok().map(|handle| Connection::new(self.connections.len(), handle)),
                );
            }
            Completion::Received { connection, result, more } => {
                if matches!(result, Err(Errno::NOBUFS)) {
                    self.kernel.starved(Size::Usual);
                }
                self.connections[connection.slot as usize].on_received(now, result, more);
            }
            Completion::Sent { connection, result, batch } => {
                self.connections[connection.slot as usize].on_sent(result, batch);
            }
            Completion::ShutDown { connection } => {
                self.connections[connection.slot as usize].stage = Stage::Done
            }
            Completion::Closed { .. } | Completion::Tick | Completion::Control => {}
            Completion::Installed { .. } => unreachable!("an echo installs nothing"),
            Completion::Identified { .. } => unreachable!("an echo asks for nobody"),
            Completion::Watched { .. } => unreachable!("an echo watches nobody"),
        }
    }
}

impl Connection {
    fn new(slot: usize, handle: Handle) -> Connection {
        let token = Token { slot: u32::try_from(slot).expect("few connections"), generation: 7 };
        Connection {
            token,
            handle,
            waiting: Box::default(),
            receive_at: Some(0),
            sending: false,
            stopping: false,
            stage: Stage::Echoing,
        }
    }

    fn on_received(&mut self, now: Millis, result: Result<Option<Lease>, Errno>, more: bool) {
        if !more {
            (self.receive_at, self.stopping) = (Some(now), false);
        }
        match result {
            Ok(Some(lease)) => self.waiting.push(lease.into()),
            Ok(None) if self.stage == Stage::Echoing => self.stage = Stage::Ending,
            Err(Errno::NOBUFS) => self.receive_at = Some(now + 1),
            Err(Errno::CONNRESET) => self.stage = Stage::Broken,
            Ok(None) | Err(Errno::CANCELED) => {}
            Err(errno) => panic!("a receive said {errno:?}"),
        }
    }

    fn on_sent(&mut self, result: Result<usize, Errno>, mut batch: Box<Batch>) {
        self.sending = false;
        match result {
            Ok(count) => batch.advance(count),
            Err(_) => self.stage = Stage::Broken,
        }
        // What was received meanwhile goes behind what is left.
        for rest in std::mem::take(&mut *self.waiting).slices() {
            batch.push(rest.to_vec().into());
        }
        self.waiting = batch;
    }

    /// Asks for what is due; returns when to ask again.
    fn go_on(&mut self, kernel: &mut Simulation) -> Option<Millis> {
        match self.stage {
            Stage::Closed | Stage::ShuttingDown => return None,
            Stage::Broken | Stage::Done => {
                self.finish(kernel);
                return None;
            }
            Stage::Echoing | Stage::Ending => {}
        }
        if !self.sending && !self.waiting.is_empty() {
            self.sending = true;
            kernel.send(self.token, self.handle, std::mem::take(&mut self.waiting));
        } else if !self.sending && self.stage == Stage::Ending {
            self.stage = Stage::ShuttingDown;
            kernel.shutdown(self.token, self.handle);
            return None;
        }
        self.go_on_receiving(kernel)
    }

    fn go_on_receiving(&mut self, kernel: &mut Simulation) -> Option<Millis> {
        let is_full = self.waiting.len() >= WAITING_BYTES_HIGH;
        match self.receive_at {
            None if is_full && !self.stopping => {
                self.stopping = true;
                kernel.stop_receive(self.token);
            }
            Some(at) if !is_full && self.stage == Stage::Echoing && at <= kernel.now() => {
                self.receive_at = None;
                kernel.receive(self.token, self.handle, Receipts::Many);
            }
            Some(at) if at > kernel.now() => return Some(at),
            _ => {}
        }
        None
    }

    fn finish(&mut self, kernel: &mut Simulation) {
        if self.receive_at.is_none() {
            kernel.stop_receive(self.token);
        }
        if self.sending {
            kernel.stop_send(self.token);
        }
        if self.receive_at.is_some() && !self.sending {
            let manner = if self.stage == Stage::Done { Manner::Close } else { Manner::Reset };
            kernel.close(self.token, self.handle, manner);
            self.stage = Stage::Closed;
            *self.waiting = Default::default();
        }
    }
}

/// A client's script: it writes its bytes in pieces, reads what comes back in pieces, and ends.
struct Script {
    client: Client,
    bytes: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    finished: bool,
}

impl Script {
    fn new(world: &World, random: &mut Random) -> Script {
        let client = world.connect(LISTENER);
        client.set_window(1 + random.index(4000));
        let bytes_max = if random.chance(0.2) { 12_000 } else { 600 };
        let bytes = (0..1 + random.index(bytes_max)).map(|_| random.number() as u8).collect();
        Script { client, bytes, written: 0, read: Vec::new(), finished: false }
    }

    fn act(&mut self, random: &mut Random) {
        let rest = &self.bytes[self.written..];
        let (now, _) = rest.split_at(random.index(rest.len() + 1).max(rest.len().min(100)));
        self.written += now.len();
        if random.chance(0.5) {
            self.client.write(now);
        } else {
            self.client.write_exactly(now);
        }
        let bytes_max = if random.chance(0.5) { usize::MAX } else { random.index(1000) };
        self.read.extend(self.client.read_slowly(bytes_max));
        if self.written == self.bytes.len() && !self.finished && random.chance(0.3) {
            self.finished = true;
            self.client.finish();
        }
    }

    fn is_over(&self) -> bool {
        let is_done = self.written == self.bytes.len() && self.client.arrived() == 0;
        is_done && self.client.ending().is_some() && !self.client.is_open()
    }
}

/// What is left of a world that was lived through.
struct Lived {
    world: World,
    trace: Vec<String>,
    /// Clients, of four, that got everything back.
    whole: usize,
}

fn live(seed: u64, is_traced: bool) -> Lived {
    let config =
        SimConfig { buffers: 16, buffers_lent: 2, descriptors_max: 3, ..SimConfig::default() };
    let kernel = Simulation::new(seed, config);
    let (world, pool) = (kernel.world(), kernel.pool().clone());
    let mut echo = Echo {
        kernel,
        connections: Vec::new(),
        accept_at: Some(0),
        trace: is_traced.then(Vec::new),
    };
    let mut random = Random::new(!seed);
    let mut scripts: Vec<Script> = (0..4).map(|_| Script::new(&world, &mut random)).collect();
    for turn in 0.. {
        assert!(turn < 20_000, "seed {seed}: the world does not come to an end");
        echo.turn(if random.chance(0.2) { Wait::ForOne } else { Wait::No });
        let script = random.index(scripts.len());
        scripts[script].act(&mut random);
        world.advance(random.below(2));
        if scripts.iter().all(Script::is_over) && world.in_flight() == 0 {
            break;
        }
    }
    let mut whole = 0;
    for script in &scripts {
        let is_whole = script.client.ending() == Some(Ending::Finished);
        let expected = if is_whole { script.bytes.len() } else { script.read.len() };
        assert!(
            script.read == script.bytes[..expected],
            "seed {seed}: bytes were lost, repeated or reordered"
        );
        whole += usize::from(is_whole);
    }
    assert_eq!((world.open_handles(), world.in_flight()), (0, 0), "seed {seed}");
    assert_eq!(pool.vacant() + world.lent(), pool.count(), "seed {seed}");
    Lived { world, trace: echo.trace.unwrap_or_default(), whole }
}

#[test]
fn every_byte_comes_back_once_and_in_order_and_every_fault_happens() {
    let (mut injected, mut whole) = ([0; Fault::ALL.len()], 0);
    for seed in 0..2000 {
        let lived = live(seed, false);
        whole += lived.whole;
        for (count, fault) in injected.iter_mut().zip(Fault::ALL) {
            *count += lived.world.injected(fault);
        }
    }
    // The others met a full table or a reset.
    assert!(whole > 6000, "{whole} of 8000 clients got everything back");
    for (count, fault) in injected.iter().zip(Fault::ALL) {
        assert!(*count >= 20, "{fault:?} happened {count} times in 2000 worlds");
    }
}

#[test]
fn the_same_seed_is_the_same_world_and_another_is_not() {
    for seed in 0..20 {
        let (first, again, other) = (live(seed, true), live(seed, true), live(seed + 1000, true));
        assert_eq!(first.trace, again.trace);
        assert_ne!(first.trace, other.trace);
    }
}

#[test]
fn the_order_across_connections_is_seeded() {
    let order = |seed| {
        let mut kernel = Simulation::new(seed, without_faults());
        let world = kernel.world();
        let clients = [0; 5].map(|_| world.connect(LISTENER));
        kernel.accept(LISTENER, Accepts::Many);
        for (slot, completion) in (0..).zip(completions(&mut kernel)) {
            let Completion::Accepted { result: Ok(handle), .. } = completion else {
                panic!("{completion:?}")
            };
            kernel.receive(Token { slot, generation: 1 }, handle, Receipts::Many);
        }
        clients.iter().for_each(|client| client.write(b"all at once"));
        let received =
            completions(&mut kernel).into_iter().filter_map(|completion| match completion {
                Completion::Received { connection, .. } => Some(connection.slot),
                _ => None,
            });
        received.collect::<Vec<_>>()
    };
    let orders: std::collections::BTreeSet<_> = (0..200).map(order).collect();
    assert!(orders.len() > 60, "{} of 120 orders in 200 worlds", orders.len());
    assert!(orders.iter().all(|order| order.len() == 5));
}

#[test]
fn faults_are_counted_where_they_are_listed() {
    for (position, fault) in Fault::ALL.into_iter().enumerate() {
        assert_eq!(fault as usize, position);
    }
}
