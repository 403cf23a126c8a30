//! One world, from its seed to its end: the plan, the turns, and the account.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use upring::buffer::Lease;
use upring::config::{DrainTimes, Limits, Listener, ProxyProtocol};
use upring::counters::Counters;
use upring::engine::{Engine, Remote, Turn};
use upring::http::{Method, Request, Response, Status, Trailers};
use upring::resource::{Registry, Reply, Resource, StreamIo, Streaming, streamed};
use upring::ring::sim::{Fault, Faults, Random, SimConfig, Simulation, World};
use upring::ring::{Kernel, Wait};
use upring::session::Core;
use upring::upgrade::{Decision, Opening, Protocol};

use super::actor::{Actor, Circumstances, Outcome};
use super::player::{Kind, Player};
use super::script::{PROTOCOL, Script, patterned};
use super::stage::{self, Account, Kept, Verdict};
use super::watched::Watched;

/// Turns a world may last: about ten times what the longest one needs.
const TURNS_MAX: u64 = 60_000;
/// Turns that may follow each other without time passing, a byte moving or a client acting.
const CALM_TURNS_MAX: u32 = 60;

/// What is left of a world that was lived through.
pub(crate) struct Lived {
    pub(crate) injected: Vec<(Fault, u64)>,
    pub(crate) counters: Vec<(&'static str, u64)>,
    pub(crate) account: Account,
    pub(crate) outcomes: Vec<&'static str>,
    pub(crate) turns: u64,
}

struct Stager {
    engine: Engine<Watched>,
    world: World,
    counters: Arc<Counters>,
    remote: Arc<Remote>,
    random: Random,
    actors: Vec<Actor>,
    circumstances: Circumstances,
    drains_at: Option<u64>,
    turn: u64,
    calm: u32,
    before: (u64, u64, u64),
}

/// Lives through the world of a seed; panics at the first thing that is wrong.
pub(crate) fn live(seed: u64, is_traced: bool) -> Lived {
    stage::begin(!seed);
    let mut stager = Stager::new(seed, is_traced);
    stager.play();
    stager.wind_down();
    stager.account()
}

impl Stager {
    fn new(seed: u64, is_traced: bool) -> Stager {
        let mut random = Random::new(seed);
        let limits = limits(&mut random);
        let kernel = Simulation::new(random.number(), config(&mut random));
        let (counters, remote) = (Arc::<Counters>::default(), Arc::<Remote>::default());
        let core =
            Core::new(registry(), limits.clone(), Arc::clone(&counters), kernel.unix_seconds());
        let timeout_min_ms = [
            limits.head_timeout_ms,
            limits.content_slack_ms,
            limits.idle_timeout_ms,
            limits.decision_timeout_ms,
            limits.send_timeout_ms,
        ];
        let clients = 1 + random.below(8);
        let actors = (1..=clients)
            .map(|client| Actor::new(Script::new(client, &limits, &mut random), &mut random))
            .collect();
        let timeout = Duration::from_millis(random.below(100) * random.below(30));
        let window = Duration::from_millis(random.below(40) * random.below(20));
        Stager {
            world: kernel.world(),
            engine: Engine::new(
                Watched::new(kernel, limits, is_traced),
                core,
                2,
                Arc::clone(&remote),
                DrainTimes { timeout, window },
            )
            .admitting(&listeners(), random.chance(0.3)),
            counters,
            remote,
            drains_at: random.chance(0.15).then(|| random.below(60)),
            random,
            actors,
            circumstances: Circumstances {
                timeout_min_ms: timeout_min_ms.into_iter().min().expect("there are five"),
                is_hasty: timeout_min_ms.iter().any(|timeout| *timeout < 1000),
                has_starved: false,
                drained_at: None,
            },
            turn: 0,
            calm: 0,
            before: (0, 0, 0),
        }
    }

    /// Turns until every client is over.
    fn play(&mut self) {
        while !self.actors.iter().all(Actor::is_over) {
            let turn = self.turn(Wait::No);
            let did = self.act(0.7) || (turn == Turn::Idle && self.act(1.0));
            if did {
                self.calm = 0;
            } else if turn == Turn::Idle && !stage::is_waiting() {
                // Up to the next event and no further: a client may have something to read then.
                let Some(at) = self.world.next_event_at() else {
                    panic!("nothing will ever happen, and not all are served: {}", self.describe())
                };
                self.world.advance(at.saturating_sub(self.world.now()));
            }
            if self.random.chance(0.3) {
                self.world.advance(self.random.below(3));
            }
        }
    }

    /// Turns until nothing is left.
    fn wind_down(&mut self) {
        let end = self.turn + 10_000;
        loop {
            let turn = self.turn(Wait::ForOne);
            let soon = self.world.next_event_at().is_some_and(|at| at < self.world.now() + 500);
            let is_left = self.engine.connections() > 0 || self.world.in_flight() > 0;
            if turn != Turn::Again && !is_left && !soon && !stage::is_waiting() {
                break;
            }
            assert!(
                turn == Turn::Again
                    || !is_left
                    || stage::is_waiting()
                    || self.world.next_event_at().is_some(),
                "{} connections are stuck, {} operations in flight: {}",
                self.engine.connections(),
                self.world.in_flight(),
                self.describe()
            );
            assert!(self.turn < end, "the world does not come to rest");
        }
    }

    fn turn(&mut self, wait: Wait) -> Turn {
        self.turn += 1;
        assert!(self.turn < TURNS_MAX, "the world does not come to an end: {}", self.describe());
        if self.drains_at == Some(self.turn) {
            self.remote.stop();
            self.world.control();
            self.circumstances.drained_at = Some(self.world.now());
        }
        let turn = self.engine.turn(wait).expect("a simulation always enters");
        self.engine.kernel().check_leases();
        self.actors.iter_mut().for_each(Actor::look);
        let has_kept = stage::turn();
        let account = stage::account();
        assert!(account.violations.is_empty(), "{}", account.violations.join("; "));
        self.check_calm(has_kept);
        // Whoever was woken waits in the mailbox.
        if has_kept { Turn::Again } else { turn }
    }

    /// Promise 7: never a spin.
    fn check_calm(&mut self, has_kept: bool) {
        let now = (
            self.world.now(),
            self.counters.bytes_received.value() + self.counters.bytes_sent.value(),
            // A connection that has used its share of a turn has done something in it.
            self.counters.connections_accepted.value() + self.counters.turns_used_up.value(),
        );
        let is_calm = !has_kept && !stage::is_waiting() && now == self.before;
        self.calm = if is_calm { self.calm + 1 } else { 0 };
        self.before = now;
        assert!(self.calm < CALM_TURNS_MAX, "it spins: {}", self.describe());
    }

    fn act(&mut self, chance: f64) -> bool {
        let Stager { actors, random, world, turn, .. } = self;
        let mut did = false;
        for actor in actors {
            if random.chance(chance) {
                did |= actor.act(*turn, world, random);
            }
        }
        did
    }

    fn account(mut self) -> Lived {
        self.circumstances.has_starved = self.counters.receives_starved.value() > 0;
        assert_eq!((self.world.open_handles(), self.world.in_flight()), (0, 0));
        let pool = self.engine.kernel().pool().clone();
        assert_eq!(pool.vacant() + self.world.lent(), pool.count(), "a buffer is lost");
        let account = stage::account();
        assert_eq!(
            account.opened, account.over,
            "handlers that were opened, and that were told their end"
        );
        let counters = &self.counters;
        for (name, gauge) in [
            ("connections_open", &counters.connections_open),
            ("upgrades_open", &counters.upgrades_open),
            ("upgrades_deciding", &counters.upgrades_deciding),
            ("completions_stale", &counters.completions_stale),
            ("proxy_headers_faulty", &counters.proxy_headers_faulty),
            ("proxy_sources_refused", &counters.proxy_sources_refused),
        ] {
            assert_eq!(gauge.value(), 0, "{name}");
        }
        assert!(
            counters.bytes_received.value() < 1 << 40
                && counters.upgrades_switched.value() == account.opened
        );
        let outcomes: Vec<Outcome> = self.actors.iter().map(|actor| self.outcome(actor)).collect();
        let unlucky: Vec<&Actor> =
            self.actors.iter().filter(|actor| self.outcome(actor) == Outcome::Unlucky).collect();
        let bad_luck = self.world.injected(Fault::PeerReset)
            + self.world.injected(Fault::TableFull)
            + counters.connections_refused.value()
            + counters.connections_cut.value();
        assert!(
            unlucky.len() as u64 <= bad_luck,
            "not served, with {bad_luck} pieces of bad luck: {}",
            unlucky.into_iter().map(Actor::describe).collect::<Vec<_>>().join("\n")
        );
        Lived {
            injected: Fault::ALL.map(|fault| (fault, self.world.injected(fault))).to_vec(),
            counters: counters.each().collect(),
            account,
            outcomes: outcomes.into_iter().map(Outcome::name).collect(),
            turns: self.turn,
        }
    }

    fn outcome(&self, actor: &Actor) -> Outcome {
        let outcome = actor.judge(&self.circumstances);
        outcome.unwrap_or_else(|wrong| panic!("{wrong}\n{}", actor.describe()))
    }

    fn describe(&self) -> String {
        let counters: Vec<_> = self.counters.each().filter(|(_, value)| *value > 0).collect();
        let actors: Vec<_> = self.actors.iter().map(Actor::describe).collect();
        format!("{:?} at turn {}\n{counters:?}\n{}", self.world, self.turn, actors.join("\n"))
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Whole => "whole",
            Outcome::Cut => "cut",
            Outcome::Late => "late",
            Outcome::Drained => "drained",
            Outcome::Rude => "rude",
            Outcome::Unlucky => "unlucky",
        }
    }
}

fn one<T: Copy, const N: usize>(of: [T; N], random: &mut Random) -> T {
    of[random.index(N)]
}

/// One as any, and one behind a load balancer.
fn listeners() -> [Listener; 2] {
    let plain = Listener::from(SocketAddr::from(([0, 0, 0, 0], 80)));
    let proxy_from = vec!["192.0.2.0/24".parse().expect("a network")];
    let proxied = Listener { proxy_protocol: ProxyProtocol::Any, proxy_from, ..plain.clone() };
    [plain, proxied]
}

fn limits(random: &mut Random) -> Limits {
    // Most worlds are patient, so that nothing excuses a missing byte; some give up early.
    let millis = if random.chance(0.2) { 30 } else { 10_000 };
    let mut timeout = |factor: u64| millis * factor + random.below(millis);
    Limits {
        head_timeout_ms: timeout(1),
        content_slack_ms: timeout(3),
        answer_timeout_ms: timeout(3),
        idle_timeout_ms: timeout(6),
        decision_timeout_ms: timeout(1),
        send_timeout_ms: timeout(3),
        linger_timeout_ms: timeout(1) / 5,
        connections_max: one([2, 5, 100, 100], random),
        connections_per_client_max: one([0, 0, 1, 2], random),
        head_bytes_max: one([400, 2000, 8000], random),
        fields_max: one([20, 100], random),
        linger_bytes_max: one([100, 5000, 256 * 1024], random),
        requests_per_turn: one([1, 3, 64], random),
        outbox_bytes_high: one([1, 300, 5000, 64 * 1024], random),
        outbox_bytes_max: 2 << 20,
        leases_max: one([1, 2, 4, 16], random),
        aside_bytes_max: one([0, 1000, 1 << 20], random),
        // Worlds with two buffers are always short of them.
        shortage_timeout_ms: one([100, u64::MAX, u64::MAX], random),
        ..Limits::default()
    }
}

fn config(random: &mut Random) -> SimConfig {
    let harm = one([0.0, 0.3, 1.0, 1.0, 2.0], random);
    let usual = Faults::default();
    let buffer_bytes = one([32, 300, 1024], random);
    SimConfig {
        buffers: one([2, 4, 16, 128], random),
        buffer_bytes,
        large_buffers: one([0, 1, 4], random),
        large_bytes: buffer_bytes * one([2, 8], random),
        buffers_lent: one([1, 2, 16], random),
        descriptors_max: one([2, 6, 1024, 1024, 1024], random),
        faults: Faults {
            partial_receive: usual.partial_receive * harm,
            partial_send: usual.partial_send * harm,
            send_waits: usual.send_waits * harm,
            accept_ends: usual.accept_ends * harm,
            receive_ends: usual.receive_ends * harm,
            no_buffers: usual.no_buffers * harm,
            peer_reset: one([0.0, 0.0, usual.peer_reset], random) * harm,
            canceled: usual.canceled * harm,
            accept_errors: usual.accept_errors * harm,
            delayed: usual.delayed * harm,
            delay_ms_max: usual.delay_ms_max,
        },
        ..SimConfig::default()
    }
}

/// `/now/SIZE/ID`, `/later/SIZE/ID`, `/never`, `/panic`, `/content`, `/stream/SIZE`,
/// `/up/HOW/KIND/COUNT/ID`.
fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.insert(
        "/now/*",
        Resource::new().get(|request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
            reply.send(&whole(request));
        }),
    );
    registry.insert(
        "/later/*",
        Resource::new().get(|request: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
            stage::keep(Kept::Answer(reply.later(), Some(whole(request))));
        }),
    );
    registry.insert(
        "/never/*",
        Resource::new().get(|_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
            stage::keep(Kept::Answer(reply.later(), None));
        }),
    );
    registry.insert(
        "/panic/*",
        Resource::new().get(|_: &Request<'_>, _: &[u8], _: &mut Reply<'_>| {
            // As a panic, without its message.
            std::panic::resume_unwind(Box::new("as scripted"));
        }),
    );
    registry.insert(
        "/content",
        Resource::new().on(
            Method::Post,
            |_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>| {
                reply.send(&Response::new(Status::OK).with_body(content.to_vec()));
            },
        ),
    );
    let streams = streamed(|request: &Request<'_>, reply: &mut Reply<'_>| {
        let length = numbers(request)[0] as u64;
        reply.stream(Streams { length });
    });
    registry.insert("/stream/*", Resource::new().post(streams));
    registry.insert("/up/*", Resource::new().upgrade(Protocol::new(PROTOCOL, decide)));
    registry
}

/// Sends content on as it comes, sometimes after a pause.
struct Streams {
    length: u64,
}

impl Streams {
    fn pause(&self, io: &mut StreamIo<'_>) {
        io.pause();
        io.waker().wake();
        stage::note(|account| account.stream_wakes += 1);
    }
}

impl Streaming for Streams {
    fn on_open(&mut self, io: &mut StreamIo<'_>) {
        if self.length.is_multiple_of(3) {
            self.pause(io);
        }
    }

    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        io.resume();
    }

    fn on_content(&mut self, bytes: Lease, io: &mut StreamIo<'_>) {
        if !io.has_begun() {
            io.start(&Response::new(Status::OK), Some(self.length));
        }
        io.send(bytes);
        if self.length.is_multiple_of(5) {
            self.pause(io);
        }
    }

    fn on_content_end(&mut self, _: &Trailers, io: &mut StreamIo<'_>) {
        if !io.has_begun() {
            io.start(&Response::new(Status::OK), Some(self.length));
        }
        io.finish();
    }
}

/// The numbers in a path.
fn numbers(request: &Request<'_>) -> Vec<usize> {
    let path = std::str::from_utf8(request.path()).expect("scripts ask in ASCII");
    path.split('/').filter_map(|part| part.parse().ok()).collect()
}

fn whole(request: &Request<'_>) -> Response {
    let [size, id] = numbers(request)[..] else { panic!("a script asks for a size and an id") };
    Response::new(Status::OK).with_body(patterned(id as u64, size))
}

fn decide(opening: &Opening<'_>) -> Decision {
    let [kind, count, id] = numbers(opening.request())[..] else {
        panic!("a script asks for a player")
    };
    let player = Player::new(Kind::ALL[kind], count, id as u64);
    let how =
        opening.request().path().split(|byte| *byte == b'/').nth(2).expect("a path of five parts");
    let verdict = match how {
        b"now" => return Decision::switch(player),
        b"decline" => return stage::decline(),
        b"decline-later" => Verdict::Decline,
        b"never" => Verdict::Break,
        _ => Verdict::Switch(player),
    };
    let (promise, decision) = opening.later();
    stage::keep(Kept::Decide(promise, verdict));
    decision
}
