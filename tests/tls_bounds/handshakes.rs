//! How many handshakes there may be at once, and how much of a turn they may take of those who are there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::certificates;
use super::inside_tls::{Authority, InsideTls, NAME, versions};
use super::{GET, Scene, registry};
use upring::Limits;
use upring::config::{Identity, Listener, Pem, ProxyProtocol, TlsSettings};
use upring::ring::ListenerId;
use upring::ring::sim::{Client, Faults, SimConfig};
use upring::tls::Acceptor;

const ASKING_FOR_TLS: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.2\r\n\r\n";

const PROXY_HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

impl Scene {
    /// With so many places for handshakes.
    fn with_places(settings: TlsSettings, places: u32) -> Scene {
        let limits = Limits { tls_handshakes_max: places, ..Limits::default() };
        let config = SimConfig { faults: Faults::none(), ..SimConfig::default() };
        let acceptor = Acceptor::new(settings).expect("a certificate");
        Scene::of(Some(Arc::new(acceptor)), registry(), limits, (1, config))
    }

    /// In the clear until a client asks for TLS (RFC 2817).
    fn by_upgrade(places: u32) -> Scene {
        let usual = Authority::usual().settings.clone();
        Scene::with_places(TlsSettings { by_upgrade: true, ..usual }, places)
    }

    /// Behind a load balancer, which says first whose connection it is.
    fn proxied(places: u32) -> Scene {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 443));
        let proxy_from = vec!["127.0.0.0/8".parse().expect("a network")];
        let listener = Listener { proxy_protocol: ProxyProtocol::V1, proxy_from, ..address.into() };
        Scene::with_places(Authority::usual().settings.clone(), places).admitting(listener)
    }

    /// A client that has said this.
    fn connect_saying(&mut self, said: &[u8]) -> Client {
        let client = self.world.connect(ListenerId(0));
        client.write_exactly(said);
        self.settle();
        client
    }
}

/// A hello of the usual client.
fn hello() -> Vec<u8> {
    InsideTls::new(&Authority::usual().client_config(versions()[0]), NAME).output()
}

#[test]
fn who_says_nothing_of_tls_has_no_place_whatever_came_before() {
    const SILENT: u64 = 5;
    for (mut scene, before) in
        [(Scene::proxied(1), PROXY_HEADER), (Scene::by_upgrade(1), ASKING_FOR_TLS)]
    {
        let mut clients: Vec<_> = (0..SILENT).map(|_| scene.connect_saying(before)).collect();
        assert_eq!(scene.counters.tls_handshakes_open.value(), SILENT, "their handshakes wait");
        // Behind a while, too: nobody has a place because its time goes on.
        scene.world.advance(100);
        let config = Authority::usual().client_config(versions()[0]);
        for round in 1..=2 {
            let client = scene.connect_saying(before);
            client.read();
            let mut tls = InsideTls::new(&config, NAME);
            scene.converse(&client, &mut tls);
            assert!(!tls.connection().is_handshaking(), "nobody is before it");
            clients.push(client);
            assert_eq!(scene.counters.tls_handshakes.value(), round);
        }
        assert_eq!(scene.counters.tls_handshakes_over_limit.value(), 0);
        scene.everything_is_given_back(&clients);
    }
}

#[test]
fn who_waits_for_a_place_is_not_received_on() {
    let mut scene = Scene::with_places(Authority::usual().settings.clone(), 1);
    let holder = scene.connect_saying(b"\x16");
    let mut tls = InsideTls::new(&Authority::usual().client_config(versions()[0]), NAME);
    let hello = tls.output();
    let (first, rest) = hello.split_at(100);
    let client = scene.connect_saying(first);
    assert_eq!((client.unread(), scene.counters.tls_handshakes_over_limit.value()), (0, 1));
    for part in rest.chunks(200) {
        client.write_exactly(part);
        scene.settle();
        scene.world.advance(10);
    }
    assert_eq!(client.unread(), rest.len(), "it is the kernel's");
    holder.close();
    scene.converse(&client, &mut tls);
    assert!(!tls.connection().is_handshaking());
    tls.write(GET);
    scene.converse(&client, &mut tls);
    assert!(tls.read().starts_with(b"HTTP/1.1 200 "));
    scene.everything_is_given_back(&[holder, client]);
}

#[test]
fn who_waits_for_a_place_keeps_that_in_the_line_while_there_is_none() {
    // More than are let in of a line in a turn.
    const COUNT: usize = 70;
    let mut scene = Scene::with_places(Authority::usual().settings.clone(), 1);
    let holder = scene.connect_saying(b"\x16");
    let hello = hello();
    let waiting: Vec<_> = (0..COUNT).map(|_| scene.connect_saying(&hello)).collect();
    assert_eq!(scene.counters.tls_handshakes_over_limit.value(), COUNT as u64);
    // However many turns go by, for others.
    let other = scene.world.connect(ListenerId(1));
    for _ in 0..5 {
        other.write(GET);
        scene.settle();
        assert!(other.read().starts_with(b"HTTP/1.1 200 "));
    }
    holder.close();
    for (at, client) in waiting.iter().enumerate() {
        scene.settle();
        let answered = |client: &Client| client.arrived() > 0;
        let next = waiting.iter().skip(at).position(answered);
        assert_eq!(next, Some(0), "the next behind {at} that have had theirs");
        assert_eq!(waiting.iter().filter(|client| answered(client)).count(), at + 1);
        client.reset();
    }
    scene.everything_is_given_back(&[vec![holder, other], waiting].concat());
}

#[test]
fn of_many_certificates_that_are_shown_at_once_one_is_verified_a_turn() {
    const COUNT: usize = 10;
    let authority = certificates::Authority::new();
    let (server, own) = (authority.issue(&[NAME]), authority.issue(&["a client"]));
    let [certificate, key] = [server.chain, server.key].map(Pem::Text);
    let settings = TlsSettings {
        identities: vec![Identity { certificate, key, ocsp: None }],
        client_roots: Some(Pem::Text(authority.root())),
        ..Authority::usual().settings.clone()
    };
    for version in versions() {
        let mut scene = Scene::with_places(settings.clone(), COUNT as u32);
        let config = authority.client_showing(&[version], &own);
        let clients: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut tls = InsideTls::new(&config, NAME);
                let client = scene.connect_saying(&tls.output());
                tls.feed(&client.read());
                (client, tls.output())
            })
            .collect();
        for (client, proof) in &clients {
            client.write(proof);
        }
        let (mut over, mut turns) = (0, 0);
        while over < COUNT as u64 {
            scene.turn();
            turns += 1;
            let before = std::mem::replace(&mut over, scene.counters.tls_handshakes.value());
            assert!(over <= before + 1, "{:?}: {} in a turn", version.version, over - before);
            assert!(turns < 10 * COUNT, "{over} of them after {turns} turns");
        }
        let clients: Vec<_> = clients.into_iter().map(|(client, _)| client).collect();
        scene.everything_is_given_back(&clients);
    }
}

#[test]
fn while_turns_are_full_one_hello_is_answered_a_millisecond() {
    const COUNT: usize = 6;
    let mut scene = Scene::with_places(Authority::usual().settings.clone(), COUNT as u32);
    let strangers: Vec<_> = (0..COUNT).map(|_| scene.world.connect(ListenerId(0))).collect();
    // More requests than there is time for in a turn, of clients in the clear.
    let flood: Vec<_> = (0..80).map(|_| scene.world.connect(ListenerId(1))).collect();
    let said = GET.repeat(16);
    flood.iter().for_each(|client| client.write_exactly(&said));
    let turn = |scene: &mut Scene| {
        let before = scene.counters.requests.value();
        scene.turn();
        for client in flood.iter().filter(|client| !client.read().is_empty()) {
            client.write_exactly(&said);
        }
        scene.counters.requests.value() - before
    };
    (0..20).for_each(|_| _ = turn(&mut scene));
    let hello = hello();
    strangers.iter().for_each(|client| client.write_exactly(&hello));
    let mut begun = 0;
    for _ in 0..2 * COUNT {
        for _ in 0..4 {
            let requests = turn(&mut scene);
            assert!(requests >= 512, "{requests} in a turn that is full");
        }
        let before = begun;
        begun = strangers.iter().filter(|client| client.arrived() > 0).count();
        assert!(begun <= before + 1, "{} in a millisecond", begun - before);
        scene.world.advance(1);
    }
    assert_eq!(begun, COUNT, "they are answered all the same");
    scene.everything_is_given_back(&[flood.clone(), strangers].concat());
}
