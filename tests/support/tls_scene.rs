//! One engine on the simulated kernel whose listener speaks TLS, and clients of it. A second one is in the clear.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::sync::Arc;

use upring::Limits;
use upring::config::{DrainTimes, Listener};
use upring::counters::Counters;
use upring::engine::{Engine, Turn};
use upring::resource::Registry;
use upring::ring::sim::{Client, SimConfig, Simulation, World};
use upring::ring::{Kernel, ListenerId, Wait};
use upring::session::Core;
use upring::tls::Acceptor;

use crate::inside_tls::{Authority, InsideTls, NAME, versions};

pub(crate) struct Scene {
    pub(crate) engine: Engine<Simulation>,
    pub(crate) world: World,
    pub(crate) counters: Arc<Counters>,
}

impl Scene {
    /// In the clear without an acceptor.
    pub(crate) fn of(
        acceptor: Option<Arc<Acceptor>>,
        registry: Registry,
        limits: Limits,
        (seed, config): (u64, SimConfig),
    ) -> Scene {
        let kernel = Simulation::new(seed, config);
        let (world, counters) = (kernel.world(), Arc::<Counters>::default());
        let core = Core::new(registry, limits, Arc::clone(&counters), 0);
        let engine = Engine::new(kernel, core, 2, Arc::default(), DrainTimes::default())
            .securing(&[acceptor]);
        Scene { engine, world, counters }
    }

    /// The same, and its listener asks this of new connections.
    pub(crate) fn admitting(self, listener: Listener) -> Scene {
        Scene { engine: self.engine.admitting(&[listener], false), ..self }
    }

    pub(crate) fn turn(&mut self) -> Turn {
        self.engine.turn(Wait::No).expect("a simulation goes on")
    }

    pub(crate) fn settle(&mut self) {
        while self.turn() == Turn::Again || !self.world.is_quiet() {}
    }

    /// Carries what both ends have to say back and forth until neither has more.
    pub(crate) fn converse(&mut self, client: &Client, tls: &mut InsideTls) {
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
    pub(crate) fn connect(&mut self) -> (Client, InsideTls) {
        let client = self.world.connect(ListenerId(0));
        let mut tls = InsideTls::new(&Authority::usual().client_config(versions()[0]), NAME);
        self.converse(&client, &mut tls);
        assert!(!tls.connection().is_handshaking());
        (client, tls)
    }

    /// When these have gone, nothing of them is left.
    pub(crate) fn everything_is_given_back(&mut self, clients: &[Client]) {
        clients.iter().for_each(Client::close);
        for _ in 0..100 {
            self.settle();
            self.world.advance(100);
        }
        assert_eq!(
            (self.world.open_handles(), self.world.in_flight(), self.engine.connections()),
            (0, 0, 0)
        );
        assert_eq!(self.counters.tls_handshakes_open.value(), 0);
        let lent = self.world.lent();
        let pool = self.engine.kernel().pool();
        assert_eq!(pool.vacant() + lent, pool.count(), "every buffer is given back");
    }
}

/// The lengths of the records that these bytes are.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        lengths.push(len + 5);
        bytes = &rest[len..];
    }
    lengths
}
