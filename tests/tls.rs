//! TLS between engine and session, on the simulated kernel: wherever its records are cut, whatever the peer
//! does, a session sees what was said inside, and nothing else.

#[path = "support/inside_tls.rs"]
mod inside_tls;

use std::sync::Arc;

use inside_tls::{Authority, InsideTls, NAME, versions};
use upring::config::DrainTimes;
use upring::counters::Counters;
use upring::engine::{Engine, Turn};
use upring::resource::{Registry, from_head};
use upring::ring::sim::{Client, Ending, Faults, SimConfig, Simulation, World};
use upring::ring::{ListenerId, Wait};
use upring::session::Core;
use upring::{Limits, Reply, Request, Resource, Response, Status};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Scene {
    engine: Engine<Simulation>,
    world: World,
    counters: Arc<Counters>,
}

impl Scene {
    fn new(seed: u64, faults: Faults) -> Scene {
        let kernel = Simulation::new(seed, SimConfig { faults, ..SimConfig::default() });
        let (world, counters) = (kernel.world(), Arc::<Counters>::default());
        let core = Core::new(registry(), Limits::default(), Arc::clone(&counters), 0);
        let engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default())
            .securing(&[Some(Authority::usual().acceptor())]);
        Scene { engine, world, counters }
    }

    fn quiet() -> Scene {
        Scene::new(1, Faults::none())
    }

    fn settle(&mut self) {
        while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
            || !self.world.is_quiet()
        {}
    }

    /// Carries what both ends have to say back and forth until neither has more.
    fn converse(&mut self, client: &Client, tls: &mut InsideTls) {
        loop {
            let output = tls.output();
            if !output.is_empty() {
                client.write(&output);
            }
            self.settle();
            let news = client.read();
            tls.feed(&news);
            if output.is_empty() && news.is_empty() {
                return;
            }
        }
    }

    /// A client whose handshake is over.
    fn connect(&mut self) -> (Client, InsideTls) {
        let client = self.world.connect(ListenerId(0));
        let mut tls = InsideTls::new(&Authority::usual().client_config(versions()[0]), NAME);
        self.converse(&client, &mut tls);
        assert!(!tls.connection().is_handshaking());
        (client, tls)
    }
}

fn registry() -> Registry {
    let ok = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::text(Status::OK, "ok"));
    });
    let mut registry = Registry::default();
    registry.insert("/", Resource::new().get(ok));
    registry
}

fn ok_count(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).matches("HTTP/1.1 200 OK").count()
}

#[test]
fn records_may_be_cut_anywhere() {
    for version in versions() {
        let config = Authority::usual().client_config(version);
        // What a client sends, cut once: first in its hello, then behind it.
        for cut in 0..900 {
            let mut scene = Scene::quiet();
            let client = scene.world.connect(ListenerId(0));
            let mut tls = InsideTls::new(&config, NAME);
            let mut sent = 0;
            for _ in 0..10 {
                let output = tls.output();
                let at = cut.max(sent).min(sent + output.len()) - sent;
                for part in [&output[..at], &output[at..]] {
                    if !part.is_empty() {
                        client.write_exactly(part);
                    }
                    scene.settle();
                }
                sent += output.len();
                tls.feed(&client.read());
                if !tls.connection().is_handshaking() && sent < 10_000 {
                    tls.write(GET);
                    tls.write(&[GET, GET].concat());
                    sent = sent.max(10_000 - cut);
                    let output = tls.output();
                    let at = cut.min(output.len());
                    for part in [&output[..at], &output[at..]] {
                        if !part.is_empty() {
                            client.write_exactly(part);
                        }
                        scene.settle();
                    }
                    sent = 20_000;
                    tls.feed(&client.read());
                }
            }
            let answers = ok_count(&tls.read());
            assert_eq!((answers, tls.fault()), (3, None), "{:?}, cut at {cut}", version.version);
        }
    }
}
