//! New connections: who is let in, and what the others are told.
//!
//! ```text
//!   accepted ──► room on this core? ──► from a load balancer? ──► its header ──► room for this client? ──► served
//!                      │ 503                   │ reset               │ reset               │ 429
//!                      ▼                       ▼                     ▼                     ▼
//!                 lingering, a few at a time; the rest is closed                           as with 503
//! ```
//!
//! The two in the middle are for listeners whose connections begin with a PROXY protocol header.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connection::{Appetite, List, Phase};
use super::{Connection, Engine, key, token};
use crate::config::{Listener, REFUSING_MAX};
use crate::http::{Response, Status};
use crate::ring::{Errno, Handle, Kernel, ListenerId, Manner, Token};
use crate::session::Session;
use crate::tls::Acceptor;
use crate::upgrade::CloseReason;

/// New connections that are received on from one turn on: what waits is served long before a client
/// could tell.
const LET_IN_PER_TURN: usize = 64;

/// The same when turns are full: about ten thousand a second.
const LET_IN_WHEN_CROWDED: usize = 8;

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The core has as many as it may.
    CoreFull,
    /// Its client has.
    ClientFull,
}

impl Refusal {
    /// RFC 9110 §15.6.4 and RFC 6585 §4, before any request was read: whatever it asks, this is the
    /// answer.
    fn response(self) -> Response {
        let (status, text) = match self {
            Refusal::CoreFull => {
                (Status::SERVICE_UNAVAILABLE, "The server has no room for another connection.\n")
            }
            Refusal::ClientFull => {
                (Status::TOO_MANY_REQUESTS, "Too many connections from this address.\n")
            }
        };
        Response::text(status, text).with_field("Retry-After", "1").expect("a field of ours")
    }
}

/// What is asked of new connections, by listener.
#[derive(Debug, Default)]
pub(super) struct Admission {
    listeners: Vec<Listener>,
    /// Of each, whether other cores accept on the same socket. Unix sockets are shared in any case.
    is_shared: Vec<bool>,
    /// Handlers want to know whose all of them are.
    is_identifying: bool,
    /// Of each, whether its connections are inside TLS.
    acceptors: Vec<Option<Arc<Acceptor>>>,
}

impl Admission {
    /// The rules of a listener; `None` if it is one like any other.
    fn of(&self, listener: ListenerId) -> Option<&Listener> {
        self.listeners.get(usize::from(listener.0))
    }

    /// The TLS side of a listener, if it has one.
    fn acceptor(&self, listener: ListenerId) -> Option<Arc<Acceptor>> {
        self.acceptors.get(usize::from(listener.0)).cloned().flatten()
    }

    /// Whether other cores accept on the same socket. The kernel gives a connection to whoever has waited
    /// longest, and one that accepts all that come never leaves the head of that line: each has to stand
    /// in it anew.
    pub(super) fn is_shared(&self, listener: ListenerId) -> bool {
        let is_said = self.is_shared.get(usize::from(listener.0));
        is_said.copied().unwrap_or_default() || self.of(listener).is_some_and(Listener::is_unix)
    }
}

impl<K: Kernel> Engine<K> {
    /// The same core with what these listeners, in their order, ask of new connections, and with every
    /// client's address known if `is_identifying`. Without it all are as `Listener::from(address)`.
    #[must_use]
    pub fn admitting(mut self, listeners: &[Listener], is_identifying: bool) -> Engine<K> {
        self.admission =
            Admission { listeners: listeners.into(), is_identifying, ..self.admission };
        self
    }

    /// The same core, which accepts on sockets of others where it is said of a listener.
    #[must_use]
    pub fn sharing(mut self, is_shared: &[bool]) -> Engine<K> {
        self.admission.is_shared = is_shared.into();
        self
    }

    /// The same core, which speaks TLS where it is said of a listener.
    #[must_use]
    pub fn securing(mut self, acceptors: &[Option<Arc<Acceptor>>]) -> Engine<K> {
        self.admission.acceptors = acceptors.into();
        self
    }

    pub(super) fn open(&mut self, handle: Handle, listener: ListenerId) {
        self.core.counters.connections_accepted.raise();
        self.core.counters.connections_open.raise();
        let served = self.connections.len() - self.refusing as usize;
        let is_full = served >= self.core.limits.connections_max as usize;
        let rules = self.admission.of(listener).filter(|rules| rules.is_proxied());
        let session = match rules {
            None => Session::open(&self.core),
            Some(rules) => Session::preceded(rules.proxy_protocol, listener.0, &self.core),
        };
        let token = self.connections.insert(Connection::new(handle, session));
        self.timers.grow(self.connections.bound());
        if is_full {
            self.refuse(token, Refusal::CoreFull);
        } else {
            let is_asked_for = self.is_asked_for(listener);
            let acceptor = self.admission.acceptor(listener);
            if let Some(connection) = self.connections.of(token) {
                // Behind a header that comes first.
                if connection.session.expecting().is_none()
                    && let Some(acceptor) = acceptor
                {
                    match acceptor.settings().by_upgrade {
                        true => connection.offer_tls(acceptor),
                        false => connection.secure(&acceptor, &self.core),
                    }
                }
                connection.lists.enter(List::New);
                self.line.push_back(token);
                if is_asked_for {
                    connection.is_identifying = true;
                    self.kernel.identify(token, handle, listener);
                }
            }
            self.touch(token);
        }
    }

    /// Whether the kernel is asked who connects to a listener. It knows no addresses of who connects to a
    /// Unix socket.
    fn is_asked_for(&self, listener: ListenerId) -> bool {
        let rules = self.admission.of(listener);
        let is_wanted = self.core.limits.connections_per_client_max > 0
            || self.admission.is_identifying
            || self.core.registry.names_clients()
            || rules.is_some_and(Listener::is_proxied);
        is_wanted && !rules.is_some_and(Listener::is_unix)
    }

    /// Begins to receive on new connections: on a few in a turn, and fewer while turns are full, or a
    /// flood of connections would have everybody wait for what each of them asks first.
    #[inline]
    pub(super) fn let_in(&mut self) {
        if !(self.line.is_empty() && self.line_inside.is_empty()) {
            self.let_some_in();
        }
    }

    #[inline(never)]
    fn let_some_in(&mut self) {
        let count = if self.core.is_crowded { LET_IN_WHEN_CROWDED } else { LET_IN_PER_TURN };
        for _ in 0..count {
            let Some(token) = self.line.pop_front() else { break };
            if let Some(connection) = self.connections.of(token) {
                connection.lists.leave(List::New);
                connection.appetite = Appetite::of_stranger(self.core.is_crowded);
                self.touch(token);
            }
        }
        // Each takes the room that it waited for.
        for _ in 0..count {
            if !self.core.has_room_for_handshake() {
                break;
            }
            let Some(token) = self.line_inside.pop_front() else { break };
            if let Some(connection) = self.connections.of(token) {
                connection.lists.leave(List::New);
                self.attend(token, Session::go_on);
            }
        }
    }

    /// The kernel has said who the peer is.
    pub(super) fn identified(&mut self, token: Token, result: Result<SocketAddr, Errno>) {
        self.with(token, |connection, _, _| connection.is_identifying = false);
        if result.is_err() {
            // A peer that has gone meanwhile has no name any more.
            self.core.counters.clients_unknown.raise();
        }
        let Some(connection) = self.connections.of(token) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        let expecting = connection.session.expecting();
        if let Ok(address) = result {
            self.core.addresses.note(key(token), address);
        }
        let Some(listener) = expecting else {
            self.count(token);
            return;
        };
        let rules = self.admission.of(ListenerId(listener));
        let is_taken = |peer: SocketAddr| rules.is_some_and(|at| at.takes_headers_from(peer.ip()));
        if !result.is_ok_and(is_taken) {
            // What it has sent is not even looked at: it could be anything, and of anybody.
            self.core.counters.proxy_sources_refused.add(u64::from(result.is_ok()));
            self.with(token, |connection, _, _| {
                connection.end(Manner::Reset, CloseReason::Finished);
            });
        }
    }

    /// Lets those in whose headers have come in this turn.
    #[cold]
    pub(super) fn admit_introduced(&mut self) {
        while let Some(introduced) = self.core.introduced.pop() {
            let token = token(introduced);
            let phase = self.connections.of(token).map(|connection| connection.phase);
            if phase == Some(Phase::Open) && self.count(token) && !self.secure_introduced(token) {
                self.attend(token, Session::admitted);
            }
        }
    }

    /// Begins TLS behind a header, if the listener speaks it: what lies behind the header is its first.
    fn secure_introduced(&mut self, token: Token) -> bool {
        let Some(connection) = self.connections.of(token) else { return false };
        let listener = connection.session.preceded_on().map(ListenerId);
        let Some(acceptor) = listener.and_then(|listener| self.admission.acceptor(listener)) else {
            return false;
        };
        if acceptor.settings().by_upgrade {
            connection.offer_tls(acceptor);
            return false;
        }
        self.with(token, |connection, core, key| {
            connection.secure_introduced(&acceptor, core, key);
        });
        true
    }

    /// Counts a connection as its client's, if that is known and there is a limit to them; false if it is
    /// one too many, and refused.
    fn count(&mut self, token: Token) -> bool {
        let max = self.core.limits.connections_per_client_max;
        let Some(client) = self.core.addresses.of(key(token)).filter(|_| max > 0) else {
            return true;
        };
        let is_admitted = self.clients.admit(token.slot, client.ip(), max);
        if !is_admitted {
            self.refuse(token, Refusal::ClientFull);
        }
        is_admitted
    }

    fn refuse(&mut self, token: Token, why: Refusal) {
        self.core.counters.connections_refused.raise();
        match why {
            Refusal::CoreFull => self.core.counters.connections_over_limit.raise(),
            Refusal::ClientFull => self.core.counters.clients_over_limit.raise(),
        }
        let is_told = self.refusing < REFUSING_MAX;
        self.refusing += 1;
        self.with(token, |connection, core, key| {
            connection.is_refused = true;
            // No handshake is made only to refuse.
            let is_clear = !connection.is_inside();
            if is_told && is_clear && connection.session.is_unused() {
                connection.call(core, key, |session, port| session.refuse(&why.response(), port));
            } else {
                connection.end(Manner::Close, CloseReason::Finished);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{DrainTimes, Limits, ListenAddress, ProxyProtocol};
    use crate::counters::Counters;
    use crate::engine::Turn;
    use crate::http::Request;
    use crate::resource::{Registry, Reply, Resource, from_head};
    use crate::ring::Wait;
    use crate::ring::sim::{CLIENT_PORT, Client, Ending, Faults, SimConfig, Simulation, World};
    use crate::session::Core;

    struct Scene {
        engine: Engine<Simulation>,
        world: World,
        counters: Arc<Counters>,
    }

    const PLAIN: ListenerId = ListenerId(0);
    const PROXIED: ListenerId = ListenerId(1);
    const UNIX: ListenerId = ListenerId(2);

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    impl Scene {
        /// Whoever asks is told who asks. Headers are taken from 192.0.2.0/24, and on a Unix socket.
        fn new(limits: Limits, is_identifying: bool, faults: Faults, seed: u64) -> Scene {
            let kernel = Simulation::new(seed, SimConfig { faults, ..SimConfig::default() });
            let who = from_head(|request: &Request<'_>, reply: &mut Reply<'_>| {
                let client = request.client().map_or("nobody".to_owned(), |at| at.to_string());
                reply.send(&Response::text(Status::OK, client));
            });
            let mut registry = Registry::default();
            registry.insert("/", Resource::new().get(who));
            let counters = Arc::<Counters>::default();
            let core = Core::new(registry, limits, Arc::clone(&counters), 0);
            let plain = Listener::from(SocketAddr::from(([0, 0, 0, 0], 80)));
            let proxy_protocol = ProxyProtocol::Any;
            let proxy_from = vec!["192.0.2.0/24".parse().expect("a network")];
            let proxied = Listener { proxy_protocol, proxy_from, ..plain.clone() };
            let unix = ListenAddress::Unix("/run/upring.sock".into());
            let unix = Listener { proxy_protocol, ..unix.into() };
            let world = kernel.world();
            let engine = Engine::new(kernel, core, 3, Arc::default(), DrainTimes::default())
                .admitting(&[plain, proxied, unix], is_identifying);
            Scene { engine, world, counters }
        }

        fn plain() -> Scene {
            Scene::new(Limits::default(), false, Faults::none(), 1)
        }

        fn settle(&mut self) {
            while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
                || !self.world.is_quiet()
            {}
        }

        /// Connects from an address, and says something.
        fn say(&mut self, listener: ListenerId, from: &str, what: &[&[u8]]) -> Client {
            let client = self.world.connect_from(listener, from.parse().expect("an address"));
            client.write(&what.concat());
            self.settle();
            client
        }

        fn line(client: &str) -> Vec<u8> {
            let family = if client.contains(':') { "TCP6" } else { "TCP4" };
            format!("PROXY {family} {client} {client} 1234 80\r\n").into_bytes()
        }
    }

    fn answer(client: &Client) -> String {
        let text = String::from_utf8(client.read()).expect("text");
        let status = text.get(9..12).unwrap_or("none");
        format!("{status} {}", text.split("\r\n\r\n").nth(1).unwrap_or_default())
    }

    #[test]
    fn a_client_is_whom_the_load_balancer_names_and_unknown_where_nobody_asks() {
        let mut scene = Scene::plain();
        let line = Scene::line("2001:db8::7");
        let client = scene.say(PROXIED, "192.0.2.9", &[&line, GET, GET]);
        let said = String::from_utf8(client.read()).expect("text");
        assert_eq!(said.matches("[2001:db8::7]:1234").count(), 2, "{said}");
        let client = scene.say(UNIX, "0.0.0.0", &[&line, GET]);
        assert_eq!(answer(&client), "200 [2001:db8::7]:1234");
        let client = scene.say(UNIX, "0.0.0.0", &[b"PROXY UNKNOWN\r\n", GET]);
        assert_eq!(answer(&client), "200 nobody");
        // A header that names nobody leaves the load balancer as the client.
        let client = scene.say(PROXIED, "192.0.2.9", &[b"PROXY UNKNOWN\r\n", GET]);
        assert_eq!(answer(&client), format!("200 192.0.2.9:{CLIENT_PORT}"));
        let client = scene.say(PLAIN, "198.51.100.1", &[GET]);
        assert_eq!(
            answer(&client),
            "200 nobody",
            "of whoever had its slot before, nothing is left"
        );
    }

    #[test]
    fn clients_of_ordinary_listeners_are_known_if_that_is_wanted() {
        let mut scene = Scene::new(Limits::default(), true, Faults::none(), 1);
        for (from, known) in [
            ("198.51.100.1", "198.51.100.1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("::1", "[::1]"),
        ] {
            let client = scene.say(PLAIN, from, &[GET]);
            assert_eq!(answer(&client), format!("200 {known}:{CLIENT_PORT}"));
        }
    }

    #[test]
    fn a_connection_from_elsewhere_is_reset_and_nothing_of_it_is_read() {
        let mut scene = Scene::plain();
        for what in [&Scene::line("2001:db8::7")[..], GET, b""] {
            let client = scene.say(PROXIED, "198.51.100.1", &[what]);
            assert_eq!((client.read(), client.ending()), (Vec::new(), Some(Ending::Reset)));
        }
        let counters = &scene.counters;
        assert_eq!(counters.proxy_sources_refused.value(), 3);
        assert_eq!((counters.bytes_received.value(), counters.connections_open.value()), (0, 0));
    }

    #[test]
    fn a_connection_that_brings_no_header_is_reset() {
        let mut scene = Scene::plain();
        for (listener, from) in [(PROXIED, "192.0.2.9"), (UNIX, "0.0.0.0")] {
            let client = scene.say(listener, from, &[GET]);
            assert_eq!((client.read(), client.ending()), (Vec::new(), Some(Ending::Reset)));
        }
        assert_eq!(scene.counters.proxy_headers_faulty.value(), 2);
        assert_eq!(scene.counters.connections_open.value(), 0);
    }

    #[test]
    fn connections_are_counted_by_the_client_that_the_header_names() {
        let limits = Limits { connections_per_client_max: 1, ..Limits::default() };
        let mut scene = Scene::new(limits, false, Faults::none(), 1);
        let mut clients = Vec::new();
        for (listener, from, named, expected) in [
            (PROXIED, "192.0.2.9", "198.51.100.1", "200"),
            (PROXIED, "192.0.2.9", "198.51.100.2", "200"),
            (PROXIED, "192.0.2.8", "198.51.100.1", "429"),
            (UNIX, "0.0.0.0", "198.51.100.1", "429"),
            (UNIX, "0.0.0.0", "198.51.100.3", "200"),
            (PLAIN, "198.51.100.3", "", "429"),
            (PLAIN, "198.51.100.4", "", "200"),
        ] {
            let line = if named.is_empty() { Vec::new() } else { Scene::line(named) };
            let client = scene.world.connect_from(listener, from.parse().expect("an address"));
            client.write_exactly(&[&line, GET].concat());
            scene.settle();
            assert_eq!(&answer(&client)[..3], expected, "{from} {named}");
            clients.push(client);
        }
        assert_eq!(scene.counters.clients_over_limit.value(), 3);
        clients.iter().for_each(Client::close);
        scene.settle();
        let client = scene.say(UNIX, "0.0.0.0", &[&Scene::line("198.51.100.1"), GET]);
        assert_eq!(&answer(&client)[..3], "200", "who has left makes room");
    }

    #[test]
    fn whatever_the_kernel_does_a_header_is_read_once_and_nothing_is_left() {
        let limits = Limits { connections_per_client_max: 3, ..Limits::default() };
        let (mut answered, mut refused) = (0, 0);
        for seed in 0..300 {
            let mut scene = Scene::new(limits.clone(), true, Faults::default(), seed);
            let line = Scene::line("203.0.113.1");
            let clients: Vec<Client> = (0..4)
                .map(|at| scene.world.connect_from(PROXIED, [192, 0, 2, at].into()))
                .chain([scene.world.connect_from(PROXIED, [198, 51, 100, 1].into())])
                .collect();
            for piece in [&line[..11], &line[11..], &GET[..9], &GET[9..]] {
                clients.iter().for_each(|client| client.write(piece));
                scene.settle();
                scene.world.advance(20);
            }
            clients.iter().for_each(Client::finish);
            for _ in 0..400 {
                scene.world.advance(10);
                scene.settle();
            }
            for client in &clients {
                match &*answer(client) {
                    "200 203.0.113.1:1234" => answered += 1,
                    "none " => refused += 1,
                    other => assert!(other.starts_with("429 "), "seed {seed}: {other}"),
                }
            }
            let counters = &scene.counters;
            assert_eq!(counters.connections_open.value(), 0, "seed {seed}");
            assert_eq!(counters.completions_stale.value(), 0, "seed {seed}");
            assert_eq!(
                (scene.world.open_handles(), scene.world.in_flight()),
                (0, 0),
                "seed {seed}"
            );
        }
        assert!(answered > 500 && refused >= 300, "{answered} {refused}");
    }
}
