//! What is counted and logged of TLS, on the simulated kernel: a known mix, and the exact sums of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;
use upring::access::{Recorder, Writer, feeds};
use upring::config::{AccessFormat, AccessLog, DrainTimes, Limits, Pem, TlsSettings};
use upring::counters::Counters;
use upring::engine::{Engine, Turn};
use upring::http::{Response, Status};
use upring::metrics::{Format, Metrics};
use upring::protocols::echo;
use upring::resource::{Registry, Resource};
use upring::ring::sim::{Client, Faults, SimConfig, Simulation, World};
use upring::ring::{ListenerId, Wait};
use upring::session::Core;
use upring::tls::Acceptor;

use crate::inside_tls::{Authority, InsideTls, NAME, versions};

/// One core that speaks TLS.
struct Secure {
    engine: Engine<Simulation>,
    world: World,
    counters: Arc<Counters>,
    log: Writer,
}

/// A client of it, and what has gone over its wire.
struct Wired {
    client: Client,
    tls: InsideTls,
    sent: u64,
    received: u64,
}

impl Secure {
    fn new(acceptor: Arc<Acceptor>) -> Secure {
        let kernel =
            Simulation::new(1, SimConfig { faults: Faults::none(), ..SimConfig::default() });
        let (world, counters) = (kernel.world(), Arc::<Counters>::default());
        let mut registry = Registry::default();
        registry.insert("/", Resource::new().get(Response::text(Status::OK, "ok").to_ready()));
        registry.insert("/echo", Resource::new().upgrade(echo::protocol()));
        let mut core = Core::new(registry, Limits::default(), Arc::clone(&counters), 0);
        let (log, feeds) =
            feeds(&AccessLog { format: AccessFormat::Json, ..AccessLog::default() }, 1);
        core.access = feeds.into_iter().next().map(|feed| Box::new(Recorder::new(feed)));
        let engine = Engine::new(kernel, core, 1, Arc::default(), DrainTimes::default())
            .securing(&[Some(acceptor)]);
        Secure { engine, world, counters, log }
    }

    fn usual() -> Secure {
        Secure::new(Authority::usual().acceptor())
    }

    fn settle(&mut self) {
        while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
            || !self.world.is_quiet()
        {}
    }

    /// A client that has said nothing yet.
    fn meet(&mut self, config: &Arc<ClientConfig>) -> Wired {
        let client = self.world.connect(ListenerId(0));
        Wired { client, tls: InsideTls::new(config, NAME), sent: 0, received: 0 }
    }

    /// Carries what both ends have to say; each flight takes so long.
    fn converse_slowly(&mut self, wired: &mut Wired, millis: u64) {
        loop {
            let output = wired.tls.output();
            self.world.advance(if output.is_empty() { 0 } else { millis });
            if !output.is_empty() {
                wired.client.write(&output);
            }
            self.settle();
            let news = wired.client.read();
            wired.tls.feed(&news);
            wired.sent += output.len() as u64;
            wired.received += news.len() as u64;
            if output.is_empty() && news.is_empty() {
                return;
            }
        }
    }

    fn converse(&mut self, wired: &mut Wired) {
        self.converse_slowly(wired, 0);
    }

    fn connect(&mut self, config: &Arc<ClientConfig>) -> Wired {
        let mut wired = self.meet(config);
        self.converse(&mut wired);
        wired
    }

    /// Says something that is no TLS.
    fn blurt(&mut self, bytes: &[u8]) -> Client {
        let client = self.world.connect(ListenerId(0));
        client.write(bytes);
        self.settle();
        client
    }

    /// When these have gone.
    fn leave(&mut self, clients: impl IntoIterator<Item = Client>) {
        clients.into_iter().for_each(|client| client.close());
        for _ in 0..100 {
            self.settle();
            self.world.advance(100);
        }
        assert_eq!(self.engine.connections(), 0);
    }

    fn samples(&self) -> BTreeMap<String, u64> {
        samples(&Metrics::of(vec![Arc::clone(&self.counters)]))
    }

    /// Lines of the access log.
    fn lines(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        self.log.drain_into(&mut bytes);
        let text = String::from_utf8(bytes).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// All of TLS that a scrape shows and is not zero.
fn samples(metrics: &Metrics) -> BTreeMap<String, u64> {
    let text = metrics.text(Format::Prometheus);
    let samples = text.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("upring_tls_")?.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    samples.filter(|(name, value)| *value > 0 && !name.contains("_bucket")).collect()
}

fn expected(samples: &[(&str, u64)]) -> BTreeMap<String, u64> {
    samples.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

/// A whole handshake that is resumed by a ticket of the one before it; the first is a full one.
fn return_often(secure: &mut Secure, config: &Arc<ClientConfig>, times: usize) -> Vec<Wired> {
    (0..times).map(|_| secure.connect(config)).collect()
}

#[test]
fn handshakes_are_counted_by_version_and_kind_and_connections_while_they_are_open() {
    let mut secure = Secure::usual();
    let [new, old] = versions().map(|version| Authority::usual().client_config(version));
    let mut all = return_often(&mut secure, &new, 4);
    all.extend(return_often(&mut secure, &old, 2));
    // A client of its own, who knows no ticket.
    all.push(secure.connect(&Authority::usual().client_config(versions()[0])));
    let half = secure.meet(&new);
    secure.settle();
    let handshakes = [
        ("handshakes_total{version=\"1.2\",kind=\"full\"}", 1),
        ("handshakes_total{version=\"1.2\",kind=\"resumed\"}", 1),
        ("handshakes_total{version=\"1.3\",kind=\"full\"}", 2),
        ("handshakes_total{version=\"1.3\",kind=\"resumed\"}", 3),
        ("handshake_seconds_count", 7),
    ];
    let open = [("connections_open", 7), ("handshakes_open", 1)];
    assert_eq!(secure.samples(), expected(&[&handshakes[..], &open].concat()));
    assert_eq!(secure.counters.tls_handshakes.value(), 7);
    secure.leave(all.into_iter().chain([half]).map(|wired| wired.client));
    let faults = [("faults_total", 1), ("truncated_total", 7)];
    // Who left in the middle of its handshake; and none of the others has said that it would.
    assert_eq!(secure.samples(), expected(&[&handshakes[..], &faults].concat()));
}

#[test]
fn alerts_are_counted_by_their_name_and_by_who_sent_them() {
    let mut secure = Secure::usual();
    let config = Authority::usual().client_config(versions()[0]);
    let mut clients = Vec::new();
    for said in [&b"\x00\x01\x02\x03\x04\x05"[..], b"\x16\x02\x00\x00\x01\x01", b"\xff", b"\x80"] {
        clients.push(secure.blurt(said));
    }
    // A hello of nothing.
    clients.push(secure.blurt(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"));
    for _ in 0..3 {
        let mut wired = secure.connect(&config);
        wired.tls.write(b"to be changed");
        let mut output = wired.tls.output();
        output[7] ^= 1;
        wired.client.write(&output);
        secure.settle();
        clients.push(wired.client);
    }
    // Who trusts another of the same name, whose signature it is not.
    let stranger = Authority::of(&["another.example"]).client_config(versions()[0]);
    clients.extend((0..2).map(|_| secure.connect(&stranger).client));
    let counted = secure.samples();
    let alerts: BTreeMap<_, _> =
        counted.iter().filter(|(name, _)| name.starts_with("alerts")).collect();
    let total = |alert, by| format!("alerts_total{{alert=\"{alert}\",by=\"{by}\"}}");
    let expected = [
        (total("unexpected_message", "us"), 3),
        (total("protocol_version", "us"), 1),
        (total("decode_error", "us"), 1),
        (total("bad_record_mac", "us"), 3),
        (total("decrypt_error", "peer"), 2),
    ];
    assert_eq!(alerts, expected.iter().map(|(name, count)| (name, count)).collect());
    assert_eq!(secure.counters.tls_faults.value(), 10);
    secure.leave(clients);
}

#[test]
fn the_time_of_a_handshake_is_that_to_the_last_word_of_its_client() {
    let mut secure = Secure::usual();
    for (version, count) in versions().into_iter().zip(1..) {
        let config = Authority::usual().client_config(version);
        let mut wired = secure.meet(&config);
        secure.settle();
        secure.converse_slowly(&mut wired, 30);
        let times = &secure.counters.tls.handshake_times;
        // Two flights of the client each.
        assert_eq!((times.count(), times.sum()), (count, count * 60_000_000));
    }
    // 60 ms are in the bucket up to 64.
    assert_eq!(secure.counters.tls.handshake_times.counts().nth(6), Some(2));
}

#[test]
fn cores_are_added_up() {
    let mut cores = [Secure::usual(), Secure::usual()];
    for core in &mut cores {
        let config = Authority::usual().client_config(versions()[0]);
        drop(return_often(core, &config, 2));
        drop(core.blurt(b"\xff"));
    }
    let counters = cores.iter().map(|core| Arc::clone(&core.counters)).collect();
    let expected = expected(&[
        ("alerts_total{alert=\"unexpected_message\",by=\"us\"}", 2),
        ("connections_open", 4),
        ("faults_total", 2),
        ("handshake_seconds_count", 4),
        ("handshakes_total{version=\"1.3\",kind=\"full\"}", 2),
        ("handshakes_total{version=\"1.3\",kind=\"resumed\"}", 2),
    ]);
    assert_eq!(samples(&Metrics::of(counters)), expected);
}

#[test]
fn bytes_are_those_of_the_wire() {
    let mut secure = Secure::usual();
    let config = Authority::usual().client_config(versions()[0]);
    let mut wired = secure.connect(&config);
    for _ in 0..3 {
        wired.tls.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        secure.converse(&mut wired);
    }
    assert!(wired.tls.read().ends_with(b"ok"));
    let counted = (secure.counters.bytes_received.value(), secure.counters.bytes_sent.value());
    assert_eq!(counted, (wired.sent, wired.received));
}

#[test]
fn a_line_of_the_log_says_by_what_tls_its_request_came_and_bytes_as_its_protocol_saw_them() {
    for (version, number) in versions().into_iter().zip(["1.3", "1.2"]) {
        let mut secure = Secure::usual();
        let mut wired = secure.connect(&Authority::usual().client_config(version));
        wired.tls.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        secure.converse(&mut wired);
        let answer = wired.tls.read().len();
        wired.tls.write(
            b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly",
        );
        secure.converse(&mut wired);
        let switching = wired.tls.read().len() - b"early".len();
        for len in [1, 1000, 30_000] {
            wired.tls.write(&vec![b'x'; len]);
            secure.converse(&mut wired);
            assert_eq!(wired.tls.read().len(), len);
        }
        wired.tls.finish();
        secure.converse(&mut wired);
        secure.leave([wired.client]);
        let lines = secure.lines();
        let [get, switch, end] = &lines[..] else { panic!("{lines:?}") };
        for line in [get, switch] {
            assert_eq!((&line["tls"], &line["server_name"]), (&number.into(), &NAME.into()));
        }
        assert_eq!(get["bytes_sent"], answer);
        assert_eq!(switch["bytes_sent"], switching);
        assert_eq!((&end["bytes_received"], &end["bytes_sent"]), (&31_006.into(), &31_006.into()));
    }
}

#[test]
fn a_faulty_request_and_one_without_a_name_are_logged_too() {
    let mut secure = Secure::usual();
    let mut config = (*Authority::usual().client_config(versions()[0])).clone();
    config.enable_sni = false;
    let mut wired = secure.connect(&Arc::new(config));
    wired.tls.write(b"GET /\x01 HTTP/1.1\r\n\r\n");
    secure.converse(&mut wired);
    let lines = secure.lines();
    assert_eq!((&lines[0]["status"], &lines[0]["tls"]), (&400.into(), &"1.3".into()));
    assert_eq!(lines[0].get("server_name"), Some(&Value::Null));
}

#[test]
fn the_end_of_a_certificate_is_shown_and_that_of_another_after_a_reload() {
    let folder = std::env::temp_dir().join(format!("upring-expiry-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of ours");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    let write = |year| {
        let mut parameters =
            rcgen::CertificateParams::new(vec!["expiry.example".to_owned()]).expect("a name");
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let pair = rcgen::KeyPair::generate().expect("a key");
        let made = parameters.self_signed(&pair).expect("a certificate");
        std::fs::write(&certificate, made.pem()).expect("it is ours");
        std::fs::write(&key, pair.serialize_pem()).expect("it is ours");
    };
    write(2040);
    let (certificate_pem, key_pem) = (Pem::File(certificate.clone()), Pem::File(key.clone()));
    let acceptor = Acceptor::new(TlsSettings::of(certificate_pem, key_pem)).expect("a certificate");
    let (acceptor, metrics) = (Arc::new(acceptor), Metrics::of(Vec::new()));
    metrics.show_certificates(vec![Arc::clone(&acceptor)]);
    let name = "certificate_not_after_seconds{name=\"expiry.example\"}";
    // date -u -d 2040-01-01 +%s, and of 2041.
    assert_eq!(samples(&metrics), expected(&[(name, 2_208_988_800)]));
    write(2041);
    acceptor.renew(acceptor.read_anew().expect("another certificate"));
    assert_eq!(samples(&metrics), expected(&[(name, 2_240_611_200)]));
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
