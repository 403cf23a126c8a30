//! What an engine promises of a whole core, shown on the simulated kernel: nothing leaks, nothing
//! hangs.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::buffer::Lease;
use crate::config::{DrainTimes, Limits, REFUSING_MAX};
use crate::counters::Counters;
use crate::resource::{Registry, Resource};
use crate::ring::sim::{Client, Ending, Faults, SimConfig, Simulation, World};
use crate::upgrade::{Decision, Handler, Io, Opening, Promise, Protocol};

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Scene {
    engine: Engine<Simulation>,
    world: World,
    counters: Arc<Counters>,
}

impl Scene {
    fn new(protocol: Protocol, config: SimConfig) -> Scene {
        Scene::within(Limits::default(), protocol, config)
    }

    fn within(limits: Limits, protocol: Protocol, config: SimConfig) -> Scene {
        let (kernel, counters) = (Simulation::new(1, config), Arc::<Counters>::default());
        let mut registry = Registry::default();
        registry.insert("/", Resource::new().upgrade(protocol));
        let core = Core::new(registry, limits, Arc::clone(&counters), 0);
        let world = kernel.world();
        let engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default());
        Scene { engine, world, counters }
    }

    fn connect(&mut self) -> Client {
        let client = self.world.connect(ListenerId(0));
        self.settle();
        client
    }

    /// Everything that happens now.
    fn settle(&mut self) {
        while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
            || !self.world.is_quiet()
        {}
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.engine.turn(Wait::No).expect("a simulation goes on");
        }
    }

    fn pass(&mut self, millis: Millis) {
        self.world.advance(millis);
        self.settle();
    }

    fn assert_nothing_is_held(&mut self) {
        let counters = &self.counters;
        let gauges = [
            counters.connections_open.value(),
            counters.upgrades_open.value(),
            counters.upgrades_deciding.value(),
        ];
        assert_eq!(gauges, [0; 3], "connections open, upgrades open, deciding");
        assert_eq!((self.world.open_handles(), self.world.in_flight()), (0, 0));
        let pool = self.engine.kernel().pool().clone();
        assert_eq!(pool.vacant() + self.world.lent(), pool.count(), "buffers");
    }
}

fn without_faults() -> SimConfig {
    SimConfig { faults: Faults::none(), ..SimConfig::default() }
}

fn holding() -> Protocol {
    Protocol::callback("echo", |_| Holding::default())
}

fn status(client: &Client) -> String {
    String::from_utf8(client.read()).expect("text").chars().skip(9).take(3).collect()
}

#[test]
fn over_its_connections_a_core_says_503_to_some_and_closes_the_rest() {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let mut scene = Scene::within(limits, holding(), without_faults());
    let served = [scene.connect(), scene.connect()];
    let told: Vec<Client> = (0..REFUSING_MAX).map(|_| scene.connect()).collect();
    for client in &told {
        // Whatever it asks, before or after, it is the answer.
        client.write(UPGRADE);
        scene.settle();
        let answer = String::from_utf8(client.read()).expect("text");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    let untold = scene.connect();
    assert_eq!((untold.read(), untold.ending()), (Vec::new(), Some(Ending::Finished)));
    let counters = &scene.counters;
    assert_eq!(counters.connections_refused.value(), u64::from(REFUSING_MAX) + 1);
    assert_eq!(counters.requests.value(), 0, "no request was read");
    served[0].write(UPGRADE);
    scene.settle();
    assert_eq!(status(&served[0]), "101", "who is served is served on");
    served[1].close();
    told.iter().for_each(Client::close);
    scene.settle();
    let next = scene.connect();
    next.write(UPGRADE);
    scene.settle();
    assert_eq!(status(&next), "101", "there is room again");
    served[0].close();
    next.close();
    scene.pass(2000);
    scene.assert_nothing_is_held();
}

#[test]
fn a_client_has_as_many_connections_as_it_may_and_leaves_room_to_others() {
    let limits = Limits { connections_per_client_max: 2, ..Limits::default() };
    let mut scene = Scene::within(limits, holding(), without_faults());
    let connect = |scene: &mut Scene, address: &str| {
        let client = scene.world.connect_from(ListenerId(0), address.parse().expect("an address"));
        client.write(UPGRADE);
        scene.settle();
        let status = status(&client);
        (client, status)
    };
    let mut clients = Vec::new();
    for (address, expected) in [
        ("192.0.2.1", "101"),
        ("192.0.2.1", "101"),
        ("192.0.2.1", "429"),
        ("192.0.2.2", "101"),
        ("2001:db8::1", "101"),
        ("2001:db8::2", "101"),
        ("2001:db8::3", "429"),
        ("2001:db8:0:1::3", "101"),
    ] {
        let (client, status) = connect(&mut scene, address);
        assert_eq!(status, expected, "{address}");
        clients.push(client);
    }
    assert_eq!(scene.counters.clients_over_limit.value(), 2);
    clients[0].close();
    scene.settle();
    clients.push(connect(&mut scene, "192.0.2.1").0);
    assert_eq!(scene.counters.clients_over_limit.value(), 2, "one that left makes room");
    clients.iter().for_each(Client::close);
    scene.pass(2000);
    scene.assert_nothing_is_held();
    assert_eq!(scene.counters.clients_unknown.value(), 0);
}

thread_local! {
    static PROMISES: RefCell<Vec<Promise<Decision>>> = const { RefCell::new(Vec::new()) };
}

fn undecided() -> Protocol {
    Protocol::new("echo", |opening: &Opening<'_>| {
        let (promise, decision) = opening.later();
        PROMISES.with_borrow_mut(|promises| promises.push(promise));
        decision
    })
}

// U-36.
#[test]
fn ten_thousand_resets_while_the_handler_decides_leave_nothing_behind() {
    let mut scene = Scene::new(undecided(), without_faults());
    for round in 0..10_000 {
        let client = scene.connect();
        client.write(UPGRADE);
        // Every other one has early bytes, which wait in a receive buffer.
        client.write(if round % 2 == 0 { b"" } else { b"early" });
        scene.settle();
        assert_eq!(scene.counters.upgrades_deciding.value(), 1, "round {round}");
        scene.pass(50);
        client.reset();
        scene.settle();
        let promise = PROMISES.take().pop().expect("the handler was asked");
        assert!(promise.is_abandoned(), "round {round}: the handler can see that nobody waits");
        promise.keep(Decision::switch(Holding::default()));
        scene.settle();
    }
    assert_eq!(scene.counters.upgrades_switched.value(), 0);
    assert_eq!(scene.counters.connections_accepted.value(), 10_000);
    assert_eq!(scene.counters.completions_stale.value(), 0);
    scene.assert_nothing_is_held();
}

/// Keeps what it receives until it is woken by time.
#[derive(Default)]
struct Holding {
    held: Vec<Lease>,
}

impl Handler for Holding {
    fn on_open(&mut self, io: &mut Io<'_>) {
        io.set_deadline(Duration::from_secs(1));
    }

    fn on_bytes(&mut self, bytes: Lease, _: &mut Io<'_>) {
        self.held.push(bytes);
    }

    fn on_deadline(&mut self, io: &mut Io<'_>) {
        for lease in self.held.drain(..) {
            io.send(lease);
        }
    }
}

/// 100 connections have a thousand requests each on their way; one comes with a single one.
#[test]
fn who_has_just_come_waits_for_few_of_those_that_pipeline() {
    let mut scene = Scene::new(holding(), without_faults());
    let greedy: Vec<Client> = (0..100).map(|_| scene.connect()).collect();
    greedy.iter().for_each(|client| client.write(&PLAIN.repeat(1000)));
    // What comes first is everybody's.
    scene.turns(20);
    let late = scene.world.connect(ListenerId(0));
    late.write(PLAIN);
    let before = scene.counters.requests.value();
    let mut answered = 0;
    while late.read().is_empty() {
        let begin = scene.counters.requests.value();
        scene.turns(1);
        let count = scene.counters.requests.value() - begin;
        answered += count;
        assert!(count <= 1024, "{count} in one turn");
        // Nobody reads slowly.
        greedy.iter().for_each(|client| drop(client.read()));
    }
    // Ten turns: it is accepted, let in, and heard between them.
    assert!(answered < 5120, "{answered} others were answered before it");
    assert!(before + answered < 90_000, "there was as much left over as was meant");
    while scene.counters.requests.value() < 100_001 {
        scene.turns(1);
        greedy.iter().for_each(|client| drop(client.read()));
    }
    greedy.iter().chain([&late]).for_each(Client::close);
    scene.pass(2000);
    scene.assert_nothing_is_held();
}

#[test]
fn a_receive_that_finds_no_buffer_has_more_of_them_lent() {
    let config = SimConfig { buffers_lent: 1, ..without_faults() };
    let mut scene = Scene::new(Protocol::callback("echo", |_| Holding::default()), config);
    let clients: Vec<Client> = (0..8).map(|_| scene.connect()).collect();
    assert_eq!(scene.world.lent(), 1);
    for client in &clients {
        client.write(UPGRADE);
    }
    scene.settle();
    assert!(clients.iter().all(|client| client.arrived() > 0), "everyone was answered");
    assert!(scene.counters.receives_starved.value() > 0);
    scene.settle();
    assert!(scene.world.lent() > 1, "{} lent", scene.world.lent());
}

/// Sizes of what it was given, in digits.
fn measuring() -> Protocol {
    struct Measuring;
    impl Handler for Measuring {
        fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
            io.write(format!("{} ", bytes.len()).as_bytes());
        }
    }
    Protocol::callback("echo", |_| Measuring)
}

#[test]
fn who_sends_much_at_once_is_received_on_large_buffers_until_it_sends_little() {
    let config = SimConfig { large_buffers: 4, large_bytes: 8192, ..without_faults() };
    let mut scene = Scene::new(measuring(), config);
    let client = scene.connect();
    client.write(UPGRADE);
    scene.settle();
    client.read();
    client.write_exactly(&[0; 4000]);
    scene.settle();
    let sizes = String::from_utf8(client.read()).expect("digits");
    assert!(sizes.starts_with("1024 1024 "), "{sizes}");
    client.write_exactly(&[0; 4000]);
    scene.settle();
    assert_eq!(client.read(), b"4000 ", "whole, as it came");
    for _ in 0..20 {
        client.write_exactly(b"a");
        scene.settle();
    }
    assert_eq!(client.read(), b"1 ".repeat(20));
    client.write_exactly(&[0; 1500]);
    scene.settle();
    assert_eq!(client.read(), b"1024 476 ");
    client.reset();
    scene.settle();
    scene.assert_nothing_is_held();
}

#[test]
fn who_finds_no_large_buffer_is_received_on_the_others() {
    let config = SimConfig { large_buffers: 1, large_bytes: 8192, ..without_faults() };
    let mut scene = Scene::new(holding(), config);
    let clients: Vec<Client> = (0..3).map(|_| scene.connect()).collect();
    for client in &clients {
        client.write(UPGRADE);
        client.write_exactly(&[0; 3000]);
    }
    scene.settle();
    // All wait for a large one, and the first to come keeps it.
    for client in &clients {
        client.write_exactly(&[0; 3000]);
    }
    scene.settle();
    assert!(clients.iter().all(|client| client.unread() == 0), "everything is received");
    assert_eq!(scene.engine.kernel().receivable(Size::Large), 0);
    assert_eq!(scene.counters.receives_starved.value(), 0, "nobody waits");
    scene.pass(2000);
    for client in &clients {
        assert_eq!(client.read().iter().filter(|byte| **byte == 0).count(), 6000);
    }
    clients.iter().for_each(Client::reset);
    scene.settle();
    scene.assert_nothing_is_held();
}

#[test]
fn a_starved_receive_goes_on_when_buffers_come_back() {
    // As many buffers lent as there are: none is ever vacant but while it is on its way from a
    // handler to the kernel. They are too few to keep any from handlers.
    let config = SimConfig { buffers: 2, buffers_lent: 2, ..without_faults() };
    let mut scene = Scene::new(Protocol::callback("echo", |_| Holding::default()), config);
    let client = scene.connect();
    client.write(UPGRADE);
    scene.settle();
    let head = client.read().len();
    assert!(head > 0, "switched");
    for piece in [b"a", b"b", b"c"] {
        client.write_exactly(piece);
        scene.settle();
    }
    assert_eq!(client.unread(), 1, "two buffers are held, and a byte waits for one");
    scene.pass(1000);
    assert_eq!(client.read(), b"ab");
    assert_eq!(client.unread(), 0, "the receive has gone on");
    client.reset();
    scene.settle();
    scene.assert_nothing_is_held();
}

#[test]
fn whatever_handlers_keep_the_last_buffers_are_not_theirs() {
    let config = SimConfig { buffers: 16, buffers_lent: 4, ..without_faults() };
    let mut scene = Scene::new(Protocol::callback("echo", |_| Holding::default()), config);
    let client = scene.connect();
    client.write(UPGRADE);
    scene.settle();
    client.read();
    for _ in 0..100 {
        client.write_exactly(b"a");
        scene.settle();
    }
    assert_eq!(client.unread(), 0, "it keeps a hundred pieces, and is received on");
    assert_eq!(scene.counters.receives_starved.value(), 0);
    assert!(scene.counters.bytes_set_aside.value() > 80, "in memory of their own");
    scene.pass(1000);
    assert_eq!(client.read(), b"a".repeat(100));
    client.reset();
    scene.settle();
    scene.assert_nothing_is_held();
}

/// Thousands connect at once, and each has as much to ask as a connection is given a turn for.
#[test]
fn who_is_there_waits_for_few_of_those_that_connect() {
    let mut scene = Scene::new(holding(), without_faults());
    let honest = scene.connect();
    honest.write(PLAIN);
    scene.settle();
    assert!(!honest.read().is_empty());
    let flood: Vec<Client> = (0..1000).map(|_| scene.world.connect(ListenerId(0))).collect();
    flood.iter().for_each(|client| client.write(&PLAIN.repeat(64)));
    scene.turns(20);
    let mut waits: Vec<u64> = (0..20)
        .map(|_| {
            let before = scene.counters.requests.value();
            honest.write(PLAIN);
            while honest.read().is_empty() {
                scene.turns(1);
                flood.iter().for_each(|client| drop(client.read()));
            }
            scene.counters.requests.value() - before
        })
        .collect();
    waits.sort_unstable();
    // A turn is at most 1024 requests. Now and then one has time left, and lets many in.
    assert!(waits[17] < 5 * 1024 && waits[19] < 16 * 1024, "others were before it: {waits:?}");
    flood.iter().chain([&honest]).for_each(Client::reset);
    scene.pass(2000);
    scene.assert_nothing_is_held();
}

/// What becomes of a core whose buffers are all held by those who do not go on: `connect` makes one
/// more of them, and says what it has sent.
fn assert_others_go_on(mut scene: Scene, hold: impl Fn(&mut Scene) -> Client) {
    let holding: Vec<Client> = (0..8).map(|_| hold(&mut scene)).collect();
    for round in 0..50 {
        let honest = scene.connect();
        honest.write(UPGRADE);
        scene.settle();
        assert_eq!(status(&honest), "101", "round {round}: answered in the same instant");
        honest.close();
        scene.settle();
    }
    let counters = &scene.counters;
    assert!(counters.bytes_set_aside.value() > 0, "they held every buffer");
    assert_eq!(counters.connections_cut.value(), 0);
    assert!(holding.iter().all(|client| client.ending().is_none()), "and nobody was hurt");
    holding.iter().for_each(Client::reset);
    scene.settle();
    scene.assert_nothing_is_held();
}

fn few_buffers() -> SimConfig {
    SimConfig { buffers: 16, buffers_lent: 16, ..without_faults() }
}

#[test]
fn who_pipelines_and_does_not_read_keeps_no_buffer_from_others() {
    let limits = Limits { outbox_bytes_high: 100, leases_max: 4, ..Limits::default() };
    let scene =
        Scene::within(limits, Protocol::callback("echo", |_| Holding::default()), few_buffers());
    assert_others_go_on(scene, |scene| {
        let client = scene.connect();
        client.set_window(0);
        (0..6).for_each(|_| client.write_exactly(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"));
        scene.settle();
        client
    });
}

#[test]
fn who_has_an_echo_and_does_not_read_keeps_no_buffer_from_others() {
    let limits = Limits { leases_max: 4, ..Limits::default() };
    let scene = Scene::within(limits, crate::protocols::echo::protocol(), few_buffers());
    assert_others_go_on(scene, |scene| {
        let client = scene.connect();
        client.write(UPGRADE);
        scene.settle();
        client.set_window(0);
        (0..10).for_each(|_| client.write_exactly(b"back to me"));
        scene.settle();
        client
    });
}

#[test]
fn what_was_set_aside_is_delivered_in_its_place() {
    let limits = Limits { leases_max: 4, ..Limits::default() };
    let mut scene = Scene::within(limits, Protocol::callback("echo", |_| Pausing), few_buffers());
    let clients: Vec<Client> = (0..8).map(|_| scene.connect()).collect();
    for client in &clients {
        client.write(UPGRADE);
    }
    scene.settle();
    clients.iter().for_each(|client| drop(client.read()));
    for at in 0..20 {
        clients.iter().for_each(|client| client.write_exactly(format!("{at},").as_bytes()));
        scene.settle();
    }
    assert!(scene.counters.bytes_set_aside.value() > 0);
    scene.pass(1000);
    let expected: String = (0..20).map(|at| format!("{at},")).collect();
    for client in &clients {
        assert_eq!(String::from_utf8(client.read()).as_deref(), Ok(expected.as_str()));
    }
    clients.iter().for_each(Client::reset);
    scene.settle();
    scene.assert_nothing_is_held();
}

/// An echo that begins to read after a second.
struct Pausing;

impl Handler for Pausing {
    fn on_open(&mut self, io: &mut Io<'_>) {
        io.pause();
        io.set_deadline(Duration::from_secs(1));
    }

    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        io.send(bytes);
    }

    fn on_deadline(&mut self, io: &mut Io<'_>) {
        io.resume();
    }
}

#[test]
fn over_its_bound_nothing_more_is_set_aside_and_the_greediest_is_cut() {
    let limits =
        Limits { outbox_bytes_high: 100, aside_bytes_max: 0, leases_max: 4, ..Limits::default() };
    let mut scene = Scene::within(limits, holding(), few_buffers());
    let greedy: Vec<Client> = (0..8).map(|_| scene.connect()).collect();
    for client in &greedy {
        client.set_window(0);
        (0..6).for_each(|_| client.write_exactly(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    scene.settle();
    let honest = scene.connect();
    honest.write(UPGRADE);
    scene.settle();
    assert_eq!(honest.arrived(), 0, "there is no buffer");
    // Each time the core has been short for a while one is cut.
    (0..100).for_each(|_| scene.pass(10));
    assert_eq!(status(&honest), "101");
    assert!(scene.counters.connections_cut.value() > 0);
    assert_eq!(scene.counters.bytes_set_aside.value(), 0);
}

#[test]
fn who_is_lost_while_nothing_is_received_of_it_is_noticed() {
    let limits = Limits { leases_max: 4, ..Limits::default() };
    let mut scene =
        Scene::within(limits, Protocol::callback("echo", |_| Pausing), without_faults());
    for is_full in [false, true] {
        let client = scene.connect();
        client.write(UPGRADE);
        scene.settle();
        if is_full {
            (0..10).for_each(|_| client.write_exactly(b"x"));
        } else {
            client.finish();
        }
        scene.settle();
        assert_eq!(scene.counters.connections_open.value(), 1);
        client.reset();
        scene.settle();
        assert_eq!(scene.counters.connections_open.value(), 0, "{is_full}");
    }
    scene.assert_nothing_is_held();
}

#[test]
fn a_listener_that_only_fails_is_asked_again_after_a_pause_whatever_its_error() {
    // Of every four errors one is ECONNABORTED, which nothing has run out for.
    let faults = Faults { accept_errors: 1.0, ..Faults::none() };
    let config = SimConfig { faults, ..SimConfig::default() };
    let mut scene = Scene::new(Protocol::callback("echo", |_| Holding::default()), config);
    let _client = scene.connect();
    (0..100).for_each(|_| scene.pass(10));
    let (errors, pauses) = (&scene.counters.accept_errors, &scene.counters.accept_pauses);
    assert!(errors.value() > 5, "{} errors", errors.value());
    assert!(pauses.value() + 1 >= errors.value(), "{} of {}", pauses.value(), errors.value());
}
