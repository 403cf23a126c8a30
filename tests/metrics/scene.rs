//! One engine on the simulated kernel, its clients, and a resource for every way to be answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use upring::buffer::Lease;
use upring::config::{DrainTimes, Limits};
use upring::counters::{Counters, UpgradeResult};
use upring::engine::{Engine, Turn};
use upring::http::{Request, Response, Status, Trailers};
use upring::metrics::{Format, Metrics};
use upring::protocols::echo::{self, Echo};
use upring::resource::{
    Registry, Reply, Resource, StreamIo, Streaming, from_head, returning, streamed,
};
use upring::ring::sim::{Client, Fault, Faults, SimConfig, Simulation, World};
use upring::ring::{ListenerId, Wait};
use upring::session::Core;
use upring::upgrade::{Decision, Opening, Promise, Protocol};

thread_local! {
    static ANSWERS: RefCell<Vec<Promise<Response>>> = const { RefCell::new(Vec::new()) };
    static DECISIONS: RefCell<Vec<Promise<Decision>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) struct Scene {
    engine: Engine<Simulation>,
    world: World,
    pub(crate) counters: Arc<Counters>,
    client: Option<Client>,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene::within(Limits::default())
    }

    pub(crate) fn within(limits: Limits) -> Scene {
        Scene::made(limits, Faults::none())
    }

    pub(crate) fn with(faults: Faults) -> Scene {
        Scene::made(Limits::default(), faults)
    }

    fn made(limits: Limits, faults: Faults) -> Scene {
        let config = SimConfig { faults, ..SimConfig::default() };
        let (kernel, counters) = (Simulation::new(1, config), Arc::<Counters>::default());
        let core = Core::new(registry(), limits, Arc::clone(&counters), 0);
        let world = kernel.world();
        let engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default());
        Scene { engine, world, counters, client: None }
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counters.each().find(|(at, _)| *at == name).expect("a counter").1
    }

    /// How often a fault has happened.
    pub(crate) fn struck(&self, fault: Fault) -> u64 {
        self.world.injected(fault)
    }

    pub(crate) fn statuses(&self) -> BTreeMap<u16, u64> {
        self.counters.statuses.each().collect()
    }

    /// How often an offer of which protocol had which result, if ever.
    pub(crate) fn upgrades(&self) -> BTreeMap<(String, &'static str), u64> {
        let tokens = self.counters.upgrades.each();
        let counts = tokens.flat_map(|(name, of)| {
            UpgradeResult::ALL.map(|result| ((name.to_owned(), result.name()), of.count(result)))
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// As a scrape would have it.
    pub(crate) fn text(&self) -> String {
        Metrics::of(vec![Arc::clone(&self.counters)]).text(Format::Prometheus)
    }

    fn settle(&mut self) {
        while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
            || !self.world.is_quiet()
        {}
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        for _ in 0..millis {
            self.world.advance(1);
            self.settle();
        }
    }

    pub(crate) fn connect(&mut self) -> Client {
        let client = self.world.connect(ListenerId(0));
        self.client = Some(client.clone());
        self.settle();
        client
    }

    /// Statuses of the final answers that came to the last client.
    pub(crate) fn answers(&self) -> Vec<u16> {
        let client = self.client.as_ref().expect("somebody was there");
        let text = String::from_utf8_lossy(&client.read()).into_owned();
        let lines = text.split("HTTP/1.1 ").skip(1);
        // Where an explanation speaks of HTTP/1.1, no number follows.
        let statuses = lines.filter_map(|line| line.get(..3)?.parse().ok());
        statuses.filter(|status| *status != 100).collect()
    }

    pub(crate) fn say(&mut self, text: &str) {
        let client = self.client.clone().expect("somebody is there");
        client.write(text.as_bytes());
        self.settle();
    }

    pub(crate) fn say_and_wait(&mut self, text: &str, millis: u64) {
        self.say(text);
        self.pass(millis);
    }

    pub(crate) fn finish(&mut self) {
        self.client.as_ref().expect("somebody is there").finish();
        self.settle();
    }

    pub(crate) fn reset(&mut self) {
        self.client.as_ref().expect("somebody is there").reset();
        self.settle();
    }

    pub(crate) fn ask(&mut self, line: &str) {
        self.say(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }

    pub(crate) fn ask_and_wait(&mut self, line: &str, millis: u64) {
        self.ask(line);
        self.pass(millis);
    }

    pub(crate) fn keep_answer(&mut self) {
        let promise = ANSWERS.with_borrow_mut(Vec::pop).expect("an answer was promised");
        promise.keep(Response::new(Status::CREATED));
        self.settle();
    }

    pub(crate) fn ask_and_keep(&mut self) {
        self.ask("GET /later");
        self.keep_answer();
    }

    pub(crate) fn ask_and_break(&mut self) {
        self.ask("GET /later");
        ANSWERS.with_borrow_mut(Vec::clear);
        self.settle();
    }

    pub(crate) fn post(&mut self, path: &str, content: &str) {
        let length = content.len();
        self.say(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{content}"
        ));
    }

    pub(crate) fn post_in_two(&mut self, path: &str, millis: u64) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
        self.say_and_wait(&head, millis);
        self.say("2");
    }

    pub(crate) fn post_in_pieces(&mut self, path: &str, content: &str) {
        let length = content.len();
        self.say(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ));
        content.split("").for_each(|piece| self.say(piece));
    }

    pub(crate) fn post_in_chunks(&mut self, path: &str, chunks: &str) {
        self.say(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ));
    }

    pub(crate) fn post_never(&mut self, path: &str) {
        self.say(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"));
        self.pass(21_000);
    }

    pub(crate) fn offer(&mut self, path: &str, names: &str, behind: &str) {
        self.offer_with(&format!("GET {path}"), names, behind);
    }

    pub(crate) fn offer_with(&mut self, line: &str, names: &str, behind: &str) {
        self.say(&format!(
            "{line} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {names}\r\n\r\n{behind}"
        ));
    }

    pub(crate) fn keep_decision(&mut self) {
        let promise = DECISIONS.with_borrow_mut(Vec::pop).expect("a decision was promised");
        promise.keep(Decision::switch(Echo));
        self.settle();
    }

    pub(crate) fn offer_and_keep(&mut self) {
        self.offer("/slow", "slow", "");
        self.keep_decision();
    }

    pub(crate) fn offer_and_break(&mut self) {
        self.offer("/slow", "slow", "");
        DECISIONS.with_borrow_mut(Vec::clear);
        self.settle();
    }

    pub(crate) fn offer_and_wait(&mut self, millis: u64) {
        self.offer("/slow", "slow", "");
        self.pass(millis);
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    answers(&mut registry);
    contents(&mut registry);
    upgrades(&mut registry);
    registry
}

fn answers(registry: &mut Registry) {
    let written = |_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
        reply.write(Status::ACCEPTED, |answer| answer.body(b"written"));
    };
    let interim = |_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
        reply.write(Status::CONTINUE, |answer| answer.body(b""));
    };
    let miswritten = |_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
        reply.write(Status::OK, |answer| answer.field("X", "a\r\nb").body(b""));
    };
    let later = |_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
        ANSWERS.with_borrow_mut(|answers| answers.push(reply.later()));
    };
    let panics = |_: &Request<'_>, _: &[u8], _: &mut Reply<'_>| panic!("as it is meant to");
    let gone = |_: &Request<'_>, _: &[u8]| Response::new(Status::NOT_FOUND);
    let ok = Response::text(Status::OK, "ok").to_ready();
    registry.insert("/", Resource::new().get(ok));
    registry.insert("/written", Resource::new().get(written));
    registry.insert("/interim", Resource::new().get(interim));
    registry.insert("/miswritten", Resource::new().get(miswritten));
    registry.insert("/later", Resource::new().get(later));
    registry.insert("/panics", Resource::new().get(panics));
    registry.insert("/returned", Resource::new().get(returning(gone)));
}

fn contents(registry: &mut Registry) {
    let whole = |_: &Request<'_>, _: &[u8], reply: &mut Reply<'_>| {
        reply.send(&Response::new(Status::OK));
    };
    let unread = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::new(Status::OK));
    });
    let stream = |how: How| {
        streamed(move |_: &Request<'_>, reply: &mut Reply<'_>| reply.stream(Streams(how)))
    };
    registry.insert("/whole", Resource::new().post(whole));
    registry.insert("/small-whole", Resource::new().post(whole).content_bytes_max(2));
    registry.insert("/unread", Resource::new().post(unread));
    registry.insert("/streamed", Resource::new().post(stream(How::AtOnce)));
    registry.insert("/small", Resource::new().post(stream(How::AtOnce)).content_bytes_max(2));
    registry.insert("/pieces", Resource::new().get(stream(How::InPieces)));
    registry.insert("/unfit", Resource::new().get(stream(How::NotAtAll)));
}

fn upgrades(registry: &mut Registry) {
    let declines = |_: &Opening<'_>| Decision::Answer(Response::new(Status::FORBIDDEN));
    let slow = |opening: &Opening<'_>| {
        let (promise, decision) = opening.later();
        DECISIONS.with_borrow_mut(|decisions| decisions.push(promise));
        decision
    };
    let tunnel = |opening: &Opening<'_>| match opening.request().target() {
        b"no:1" => Decision::Answer(Response::new(Status::FORBIDDEN)),
        _ => Decision::switch(Echo),
    };
    let at = |protocol: Protocol| Resource::new().upgrade(protocol).upgrade_required();
    registry.insert("/echo", at(echo::protocol()));
    registry.insert("/declines", at(Protocol::new("Echo", declines)));
    registry.insert("/guarded", at(Protocol::new("guarded", declines).forbid_early_data()));
    registry.insert("/slow", at(Protocol::new("slow", slow)));
    registry.connect(Protocol::new("tunnel", tunnel));
}

#[derive(Clone, Copy)]
enum How {
    AtOnce,
    InPieces,
    NotAtAll,
}

struct Streams(How);

impl Streaming for Streams {
    fn on_content(&mut self, _: Lease, _: &mut StreamIo<'_>) {}

    fn on_content_end(&mut self, _: &Trailers, io: &mut StreamIo<'_>) {
        match self.0 {
            How::AtOnce => io.respond(Response::new(Status::new(203).expect("a status"))),
            How::InPieces => {
                io.start(&Response::new(Status::PARTIAL_CONTENT), None);
                io.send(&b"one"[..]);
                io.send(&b"two"[..]);
                io.finish();
            }
            How::NotAtAll => io.finish(),
        }
    }
}
