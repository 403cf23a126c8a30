//! The switch to TLS on a connection in the clear (RFC 2817), and what is to be had inside TLS only.

use std::sync::Arc;

use super::inside_tls::{Authority, InsideTls, NAME, versions};
use super::{GET, Scene, ok_count, registry};
use upring::Limits;
use upring::config::TlsSettings;
use upring::ring::ListenerId;
use upring::ring::sim::{Ending, Faults, SimConfig};
use upring::tls::Acceptor;

impl Scene {
    /// In the clear until a client asks for TLS.
    fn by_upgrade(seed: u64, faults: Faults) -> Scene {
        Scene::securing(acceptor(), seed, faults)
    }

    fn in_the_clear() -> Scene {
        Scene::listening(None, 1, Faults::none())
    }
}

/// Of a listener whose connections are in the clear until a client asks for TLS.
fn acceptor() -> Arc<Acceptor> {
    let settings = TlsSettings { by_upgrade: true, ..Authority::usual().settings.clone() };
    Arc::new(Acceptor::new(settings).expect("a certificate"))
}

/// A request that asks for TLS.
fn asking_for_tls(start: &str, version: &str) -> Vec<u8> {
    format!("{start} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {version}\r\n\r\n")
        .into()
}

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n\r\n";

#[test]
fn u_89_and_u_90_a_switch_to_tls_answers_its_request_inside_tls_wherever_it_is_cut() {
    for (start, answered) in
        [("GET /", "HTTP/1.1 200 OK"), ("OPTIONS *", "HTTP/1.1 204 No Content")]
    {
        // With the hello behind the request at once, or only when the 101 has come; whatever happens.
        for seed in 0..100 {
            let mut scene =
                Scene::by_upgrade(seed, Faults { peer_reset: 0.0, ..Faults::default() });
            let client = scene.world.connect(ListenerId(0));
            let config = Authority::usual().client_config(versions()[seed as usize % 2]);
            let mut tls = InsideTls::new(&config, NAME);
            let is_early = seed % 3 == 0;
            let mut said = asking_for_tls(start, "TLS/1.2");
            if is_early {
                said.extend(tls.output());
            }
            client.write(&said);
            let mut clear = Vec::new();
            while clear.len() < SWITCHED.len() {
                scene.settle();
                scene.world.advance(1);
                clear.extend(client.read());
            }
            let inside = clear.split_off(SWITCHED.len());
            assert_eq!(String::from_utf8_lossy(&clear), SWITCHED, "seed {seed}");
            tls.feed(&inside);
            for _ in 0..100 {
                scene.converse(&client, &mut tls);
                scene.world.advance(10);
            }
            let answer = String::from_utf8(tls.read()).expect("text");
            assert!(answer.starts_with(answered), "seed {seed}: {answer} {:?}", tls.fault());
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "seed {seed}");
            // On it goes, and a second switch is none (U-91).
            tls.write(&asking_for_tls("GET /", "TLS/1.2"));
            for _ in 0..100 {
                scene.converse(&client, &mut tls);
                scene.world.advance(10);
            }
            assert_eq!(ok_count(&tls.read()), 1, "seed {seed}");
            assert_eq!(scene.counters.tls_upgrades.value(), 1);
            client.reset();
            scene.everything_is_given_back(&[]);
        }
    }
}

#[test]
fn u_89_and_u_91_what_lies_behind_the_request_is_a_hello_or_the_end() {
    for behind in [&asking_for_tls("GET /long", "x")[..], b"garbage", b"\r\n", GET] {
        let mut scene = Scene::by_upgrade(1, Faults::none());
        let client = scene.world.connect(ListenerId(0));
        client.write(&[&asking_for_tls("GET /", "TLS/1.2")[..], behind].concat());
        scene.settle();
        let said = client.read();
        let alert = said.strip_prefix(SWITCHED.as_bytes()).expect("the switch");
        assert_eq!(alert, [21, 3, 3, 0, 2, 2, 10], "unexpected_message, and nothing in the clear");
        assert_eq!(client.ending(), Some(Ending::Finished));
        assert_eq!(scene.counters.requests.value(), 1, "nothing else was read as a request");
        scene.everything_is_given_back(&[client]);
    }
}

#[test]
fn who_has_ended_before_the_switch_is_not_waited_for() {
    // The request waits for the next turn, and the end comes in this one.
    let limits = Limits { requests_per_turn: 1, ..Limits::default() };
    let config = SimConfig { faults: Faults::none(), ..SimConfig::default() };
    let mut scene = Scene::of(Some(acceptor()), registry(), limits, (1, config));
    let client = scene.world.connect(ListenerId(0));
    client.write_exactly(&[GET, &asking_for_tls("GET /", "TLS/1.2")].concat());
    client.finish();
    scene.settle();
    let heard = String::from_utf8(client.read()).expect("text");
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n") && heard.contains(SWITCHED), "{heard}");
    // No time has passed: no hello comes behind an end.
    assert_eq!(client.ending(), Some(Ending::Finished));
    assert_eq!(scene.engine.connections(), 0, "nor anything else that would be waited for");
    let counters = &scene.counters;
    assert_eq!((counters.tls_faults.value(), counters.timeouts_handshakes.value()), (1, 0));
    scene.everything_is_given_back(&[client]);
}

#[test]
fn u_92_without_being_asked_for_it_is_off() {
    for version in ["TLS/1.0", "TLS/1.2", "tls/1.3, foo"] {
        // Neither inside TLS, nor in the clear where it is not set.
        let mut scene = Scene::quiet();
        let (client, mut tls) = scene.connect();
        tls.write(&asking_for_tls("GET /", version));
        scene.converse(&client, &mut tls);
        let answer = String::from_utf8(tls.read()).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("Upgrade"), "{answer}");
        assert_eq!(scene.counters.tls_upgrades.value(), 0);
    }
}

#[test]
fn what_is_no_switch_to_tls_is_answered_in_the_clear() {
    for said in [
        GET.to_vec(),
        asking_for_tls("GET /", "TLS"),
        asking_for_tls("GET /", "TLS/2.0"),
        asking_for_tls("GET /", "TLS/1.22"),
        asking_for_tls("GET /", "TLS/1."),
        asking_for_tls("GET /", "foo"),
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: TLS/1.2\r\n\r\n".to_vec(),
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade, keep-alive\r\nUpgrade: TLS/1.2\r\n\r\n".to_vec(),
        // U-26: with content it would have to be read first, and need not be switched.
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.2\r\nContent-Length: 2\r\n\r\nhi"
            .to_vec(),
    ] {
        let mut scene = Scene::by_upgrade(1, Faults::none());
        let client = scene.world.connect(ListenerId(0));
        client.write(&said);
        scene.settle();
        let text = String::from_utf8_lossy(&said);
        assert_eq!(ok_count(&client.read()), 1, "{text}");
        client.write(GET);
        scene.settle();
        assert_eq!(ok_count(&client.read()), 1, "{text}: the connection goes on");
        scene.everything_is_given_back(&[client]);
    }
}

/// What is to be had inside TLS only, asked for in these ways.
const PRIVATE: [&str; 3] = [
    "GET /private HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /private HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    "GET /private HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n",
];

#[test]
fn u_90_what_needs_tls_says_in_the_clear_how_to_get_there() {
    for said in PRIVATE {
        let mut scene = Scene::by_upgrade(1, Faults::none());
        let client = scene.world.connect(ListenerId(0));
        client.write(said.as_bytes());
        client.write(GET);
        scene.settle();
        let heard = String::from_utf8(client.read()).expect("text");
        let (first, second) = heard.split_once("to TLS, by Upgrade: TLS/1.2.\n").expect("a text");
        assert!(first.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{said}: {heard}");
        for field in ["Connection: Upgrade\r\n", "Upgrade: TLS/1.2, HTTP/1.1\r\n"] {
            assert!(first.contains(field), "{said}: {heard}");
        }
        assert_eq!(ok_count(second.as_bytes()), 1, "{said}: the connection goes on");
        scene.everything_is_given_back(&[client]);
    }
    // U-45: a client that cannot switch is not left to try.
    let mut scene = Scene::by_upgrade(1, Faults::none());
    let client = scene.world.connect(ListenerId(0));
    client.write(b"GET /private HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    scene.settle();
    assert!(client.read().starts_with(b"HTTP/1.1 426 "));
    assert_eq!(client.ending(), Some(Ending::Finished));
    scene.everything_is_given_back(&[client]);
}

#[test]
fn what_needs_tls_is_answered_inside_it_and_nowhere_else() {
    let mut scene = Scene::quiet();
    let (client, mut tls) = scene.connect();
    tls.write(PRIVATE[0].as_bytes());
    scene.converse(&client, &mut tls);
    assert!(tls.read().ends_with(b"https"));
    tls.write(PRIVATE[2].as_bytes());
    scene.converse(&client, &mut tls);
    assert!(tls.read().starts_with(b"HTTP/1.1 101 "));
    scene.everything_is_given_back(&[client]);
    // Of a listener that has no TLS. U-92: it is not named.
    for said in PRIVATE {
        let mut scene = Scene::in_the_clear();
        let client = scene.world.connect(ListenerId(0));
        client.write(said.as_bytes());
        scene.settle();
        let heard = String::from_utf8(client.read()).expect("text");
        assert!(heard.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{said}: {heard}");
        assert!(!heard.contains("Upgrade"), "{said}: {heard}");
        assert_eq!(scene.counters.requests_misdirected.value(), 1);
        scene.everything_is_given_back(&[client]);
    }
}
