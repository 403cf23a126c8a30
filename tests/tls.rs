//! TLS between engine and session, on the simulated kernel: wherever its records are cut, whatever the peer
//! does, a session sees what was said inside, and nothing else.

#[path = "tls/by_upgrade.rs"]
mod by_upgrade;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/inside_tls.rs"]
mod inside_tls;
#[path = "support/tls_scene.rs"]
mod tls_scene;

use std::cell::RefCell;
use std::sync::Arc;

use rustls::{AlertDescription, ClientConfig, Error, HandshakeKind};

use inside_tls::{Authority, InsideTls, NAME, versions};
use tls_scene::{Scene, records};
use upring::config::{ClientCertificate, Identity, Pem, TlsSettings};
use upring::resource::{Registry, from_head};
use upring::ring::sim::{Client, Ending, Faults, SimConfig};
use upring::ring::{Kernel, ListenerId};
use upring::tls::Acceptor;
use upring::{
    CloseReason, Handler, Io, Lease, Limits, Protocol, Reply, Request, Resource, Response, Status,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

impl Scene {
    fn new(seed: u64, faults: Faults) -> Scene {
        Scene::securing(Authority::usual().acceptor(), seed, faults)
    }

    fn securing(acceptor: Arc<Acceptor>, seed: u64, faults: Faults) -> Scene {
        Scene::listening(Some(acceptor), seed, faults)
    }

    fn listening(acceptor: Option<Arc<Acceptor>>, seed: u64, faults: Faults) -> Scene {
        let config = SimConfig { faults, ..SimConfig::default() };
        Scene::of(acceptor, registry(), Limits::default(), (seed, config))
    }

    fn quiet() -> Scene {
        Scene::new(1, Faults::none())
    }

    /// A client that was switched to the raw protocol.
    fn switch(&mut self) -> (Client, InsideTls) {
        let (client, mut tls) = self.connect();
        tls.write(b"GET /raw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n");
        self.converse(&client, &mut tls);
        assert!(tls.read().starts_with(b"HTTP/1.1 101 "));
        (client, tls)
    }
}

thread_local! {
    /// Where what the handler was given lay.
    static HANDED: RefCell<Vec<usize>> = RefCell::default();
    /// How the handler's connections have ended.
    static SEEN: RefCell<Vec<&'static str>> = RefCell::default();
}

/// Says what it hears, and asks to leave if it is told to.
struct Raw;

impl Handler for Raw {
    fn on_bytes(&mut self, bytes: Lease, io: &mut Io<'_>) {
        HANDED.with_borrow_mut(|handed| handed.push(bytes.as_ptr() as usize));
        if &*bytes == b"detach" {
            return io.detach();
        }
        io.send(bytes);
    }

    fn on_end(&mut self, io: &mut Io<'_>) {
        SEEN.with_borrow_mut(|seen| seen.push("ended"));
        io.write(b"still here");
    }

    fn on_close(&mut self, reason: CloseReason) {
        SEEN.with_borrow_mut(|seen| seen.push(reason.as_str()));
    }
}

const LONG_BYTES: usize = 300_000;

fn registry() -> Registry {
    let ok = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::text(Status::OK, "ok"));
    });
    let mut registry = Registry::default();
    let long = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::text(Status::OK, "long".repeat(LONG_BYTES / 4)));
    });
    registry.insert("/", Resource::new().get(ok));
    registry.insert("/long", Resource::new().get(long));
    let private = from_head(|request: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::text(Status::OK, request.scheme()));
    });
    let raw = Protocol::callback("raw", |_| Raw);
    let who = from_head(|request: &Request<'_>, reply: &mut Reply<'_>| {
        let secured = request.secured().expect("it is inside TLS");
        let (name, is_resumed) = (&secured.server_name, secured.is_resumed);
        let text = format!("{name:?} {is_resumed} {:?}", secured.client_certificates);
        reply.send(&Response::text(Status::OK, text));
    });
    registry.insert("/who", Resource::new().get(who));
    registry.insert("/private", Resource::new().get(private).upgrade(raw).tls_required());
    registry.insert("/raw", Resource::new().upgrade(Protocol::callback("raw", |_| Raw)));
    registry
}

fn ok_count(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).matches("HTTP/1.1 200 OK").count()
}

/// What a client that asks three times, behind its handshake, gets if what it sends is cut once, at this byte;
/// and how much it has sent.
fn answers_if_cut_at(
    cut: usize,
    config: &Arc<rustls::ClientConfig>,
) -> Result<(usize, usize), rustls::Error> {
    let mut scene = Scene::quiet();
    let client = scene.world.connect(ListenerId(0));
    let mut tls = InsideTls::new(config, NAME);
    let (mut sent, mut has_asked) = (0, false);
    loop {
        if !tls.connection().is_handshaking() && !std::mem::replace(&mut has_asked, true) {
            tls.write(GET);
            tls.write(&[GET, GET].concat());
        }
        let output = tls.output();
        if output.is_empty() && has_asked {
            break;
        }
        let (before, behind) = output.split_at(cut.saturating_sub(sent).min(output.len()));
        for part in [before, behind] {
            if !part.is_empty() {
                client.write_exactly(part);
            }
            scene.settle();
        }
        sent += output.len();
        tls.feed(&client.read());
    }
    match tls.fault() {
        Some(fault) => Err(fault.clone()),
        None => Ok((ok_count(&tls.read()), sent)),
    }
}

#[test]
fn records_may_be_cut_anywhere() {
    for version in versions() {
        let config = Authority::usual().client_config(version);
        let mut cut = 0;
        loop {
            let answers = answers_if_cut_at(cut, &config);
            let sent = answers.as_ref().map_or(0, |(_, sent)| *sent);
            assert_eq!(answers, Ok((3, sent)), "{:?}, cut at {cut}", version.version);
            cut += 1;
            if cut > sent {
                break;
            }
        }
        assert!(cut > 500, "a hello and all else, {cut} bytes");
    }
}

#[test]
fn a_cipher_is_chosen_that_is_cheap_for_both() {
    use rustls::crypto::aws_lc_rs::{cipher_suite as suites, default_provider};
    let [aes_128, aes_256, chacha] = [
        [suites::TLS13_AES_128_GCM_SHA256, suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
        [suites::TLS13_AES_256_GCM_SHA384, suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384],
        [
            suites::TLS13_CHACHA20_POLY1305_SHA256,
            suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
    ];
    for (at, version) in versions().into_iter().enumerate() {
        for (asked, expected) in [
            (&[aes_256, chacha, aes_128][..], aes_128),
            (&[aes_256, chacha], aes_256),
            (&[chacha, aes_128], chacha),
            (&[chacha], chacha),
        ] {
            let mut provider = default_provider();
            provider.cipher_suites = asked.iter().map(|suites| suites[at]).collect();
            let config = Authority::usual().client_config_of(provider, version);
            let mut scene = Scene::quiet();
            let client = scene.world.connect(ListenerId(0));
            let mut tls = InsideTls::new(&config, NAME);
            scene.converse(&client, &mut tls);
            let chosen = tls.connection().negotiated_cipher_suite();
            assert_eq!(chosen, Some(expected[at]), "of {asked:?}");
            scene.everything_is_given_back(&[client]);
        }
    }
}

#[test]
fn what_is_recorded_today_is_not_read_by_a_quantum_computer_later() {
    let (_, mut tls) = Scene::quiet().connect();
    let group = tls.connection().negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));
}

#[test]
fn what_a_record_carries_is_handed_over_where_it_was_received() {
    let mut scene = Scene::quiet();
    let (client, mut tls) = scene.switch();
    let before = scene.counters.bytes_assembled.value();
    tls.write(b"one");
    tls.write(b"two");
    scene.converse(&client, &mut tls);
    assert_eq!(tls.read(), b"onetwo");
    let handed = HANDED.take();
    assert_eq!(handed.len(), 2, "each record is handed over by itself");
    let pool = scene.engine.kernel().pool();
    assert!(handed.iter().all(|address| pool.contains(*address as *const u8)));
    // Of one receive: the second behind the first, its header and tag between them.
    assert!((handed[0] + 4..handed[0] + 64).contains(&handed[1]), "{handed:?}");
    assert_eq!(scene.counters.bytes_assembled.value(), before, "nothing was copied");
}

#[test]
fn an_end_inside_is_no_truncation_and_a_truncation_no_end() {
    for (is_said, expected) in
        [(true, "ended"), (false, "the peer ended the connection without ending TLS")]
    {
        let mut scene = Scene::quiet();
        let (client, mut tls) = scene.switch();
        if is_said {
            tls.finish();
        }
        scene.converse(&client, &mut tls);
        client.finish();
        scene.settle();
        assert_eq!(SEEN.take(), [expected]);
        assert_eq!(scene.counters.tls_truncated.value(), u64::from(!is_said));
        if is_said {
            // Our direction goes on.
            scene.converse(&client, &mut tls);
            assert_eq!((tls.read(), client.ending()), (b"still here".to_vec(), None));
        }
    }
}

#[test]
fn a_request_that_has_come_whole_is_answered_before_a_truncation_counts() {
    let mut scene = Scene::quiet();
    let (client, mut tls) = scene.connect();
    tls.write(GET);
    client.write(&tls.output());
    client.finish();
    scene.settle();
    tls.feed(&client.read());
    assert_eq!(ok_count(&tls.read()), 1);
    assert!(tls.has_closed());
}

#[test]
fn either_end_may_change_its_keys() {
    let mut scene = Scene::quiet();
    let (client, mut tls) = scene.connect();
    for _ in 0..40 {
        tls.connection().refresh_traffic_keys().expect("it is TLS 1.3");
        tls.write(GET);
        scene.converse(&client, &mut tls);
        assert_eq!((ok_count(&tls.read()), tls.fault()), (1, None));
    }
    // Without anything said in between it is nothing but work.
    for _ in 0..40 {
        tls.connection().refresh_traffic_keys().expect("it is TLS 1.3");
    }
    scene.converse(&client, &mut tls);
    assert_eq!(tls.fault(), Some(&Error::AlertReceived(AlertDescription::UnexpectedMessage)));
}

#[test]
fn what_was_changed_on_its_way_is_told_by_an_alert_and_ends_the_connection() {
    let mut scene = Scene::quiet();
    let (client, mut tls) = scene.switch();
    tls.write(b"to be changed");
    let mut output = tls.output();
    output[9] ^= 1;
    client.write(&output);
    scene.converse(&client, &mut tls);
    assert_eq!(tls.fault(), Some(&Error::AlertReceived(AlertDescription::BadRecordMac)));
    assert_eq!(
        (SEEN.take(), client.ending()),
        (vec!["TLS could not go on"], Some(Ending::Finished))
    );
    assert_eq!(scene.counters.tls_faults.value(), 1);
    scene.everything_is_given_back(&[client]);
}

#[test]
fn what_is_no_handshake_is_answered_by_an_alert() {
    // RFC 8446 §5.1: a type there is not, a version there is not, a record that is too long, a hello of nothing.
    for (said, alert) in [
        (&b"\x00\x01\x02\x03\x04\x05"[..], AlertDescription::UnexpectedMessage),
        (b"\x16\x02\x00\x00\x01\x01", AlertDescription::ProtocolVersion),
        (b"\x16\x03\x01\xff\xff\x01", AlertDescription::RecordOverflow),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", AlertDescription::DecodeError),
    ] {
        let mut scene = Scene::quiet();
        let client = scene.world.connect(ListenerId(0));
        client.write(said);
        scene.settle();
        assert_eq!(client.read(), [21, 3, 3, 0, 2, 2, alert.into()], "{said:?}");
        assert_eq!(scene.counters.tls_faults.value(), 1, "{said:?}");
        assert_eq!(client.ending(), Some(Ending::Finished));
        scene.everything_is_given_back(&[client]);
    }
}

/// Its refusal is in the middle of what it has sent: a Finished follows in the same record.
#[test]
fn a_client_without_the_certificate_that_it_must_have_is_told_so_by_an_alert() {
    let settings = Authority::usual().settings.clone();
    let client_roots = Some(settings.identities[0].certificate.clone());
    let acceptor = Acceptor::new(TlsSettings { client_roots, ..settings }).expect("a certificate");
    let acceptor = Arc::new(acceptor);
    for version in versions() {
        let mut scene = Scene::securing(Arc::clone(&acceptor), 1, Faults::none());
        let client = scene.world.connect(ListenerId(0));
        let mut tls = InsideTls::new(&Authority::usual().client_config(version), NAME);
        scene.converse(&client, &mut tls);
        let told = Error::AlertReceived(AlertDescription::CertificateRequired);
        assert_eq!(tls.fault(), Some(&told), "{:?}", version.version);
        assert_eq!(scene.counters.tls_faults.value(), 1);
        scene.everything_is_given_back(&[client]);
    }
}

// Found by fuzzing: rustls has no alert for it, and panicked when asked for one.
#[test]
fn an_alert_in_the_middle_of_a_handshake_message_ends_its_own_connection() {
    let mut scene = Scene::quiet();
    let client = scene.world.connect(ListenerId(0));
    client.write(b"\x16\x03\x01\0\x05\x01\0\x10\0\0\x15\x03\x01\0\x02\x01\0");
    scene.settle();
    assert_eq!((client.ending(), scene.counters.tls_faults.value()), (Some(Ending::Finished), 1));
    scene.everything_is_given_back(&[client]);
}

#[test]
fn a_request_without_tls_is_told_so_in_the_clear() {
    let mut scene = Scene::quiet();
    let client = scene.world.connect(ListenerId(0));
    client.write(GET);
    scene.settle();
    let answer = String::from_utf8(client.read()).expect("text");
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("This port speaks TLS"),
        "{answer}"
    );
    assert_eq!(scene.counters.tls_plain_http.value(), 1);
    scene.everything_is_given_back(&[client]);
}

#[test]
fn a_handshake_has_its_time() {
    let mut scene = Scene::quiet();
    let mut tls = InsideTls::new(&Authority::usual().client_config(versions()[0]), NAME);
    let (silent, half) = (scene.world.connect(ListenerId(0)), scene.world.connect(ListenerId(0)));
    half.write(&tls.output()[..100]);
    scene.settle();
    assert_eq!(scene.counters.tls_handshakes_open.value(), 2);
    scene.world.advance(Limits::default().tls_handshake_timeout_ms - 1);
    scene.settle();
    assert_eq!((silent.ending(), half.ending()), (None, None));
    scene.world.advance(20);
    scene.settle();
    let counters = &scene.counters;
    assert_eq!(
        (counters.timeouts_handshakes.value(), counters.tls_handshakes_open.value()),
        (2, 0)
    );
    assert!(silent.ending().is_some() && half.ending().is_some());
    scene.everything_is_given_back(&[silent, half]);
}

#[test]
fn behind_its_handshake_a_connection_has_the_time_that_it_would_have_in_the_clear() {
    let mut scene = Scene::quiet();
    let timeout_ms = Limits::default().tls_handshake_timeout_ms;
    let (silent, mut silent_tls) = scene.switch();
    let (asking, mut asking_tls) = scene.connect();
    // A minute and more, in which the one says nothing and the other asks now and then.
    for _ in 0..7 {
        scene.world.advance(timeout_ms);
        asking_tls.write(GET);
        scene.converse(&asking, &mut asking_tls);
        assert_eq!((ok_count(&asking_tls.read()), asking.ending()), (1, None));
    }
    silent_tls.write(b"still here");
    scene.converse(&silent, &mut silent_tls);
    assert_eq!((silent_tls.read(), silent.ending()), (b"still here".to_vec(), None));
    assert_eq!(scene.counters.timeouts_handshakes.value(), 0);
    scene.everything_is_given_back(&[silent, asking]);
}

#[test]
fn an_answer_that_is_the_last_is_said_whole_before_its_end_is() {
    for version in versions() {
        let mut scene = Scene::quiet();
        let client = scene.world.connect(ListenerId(0));
        let mut tls = InsideTls::new(&Authority::usual().client_config(version), NAME);
        tls.write(b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        // Sealed in several parts, and each of them a send.
        scene.converse(&client, &mut tls);
        let answer = tls.read();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        assert_eq!(answer.len() - (head + 4), LONG_BYTES, "{:?}", version.version);
        assert_eq!((tls.has_closed(), tls.fault()), (true, None), "and the end is said");
        assert_eq!(client.ending(), Some(Ending::Finished));
        scene.everything_is_given_back(&[client]);
    }
}

#[test]
fn records_are_short_at_first_and_long_later_and_short_again_after_a_pause() {
    let mut scene = Scene::quiet();
    let (client, mut tls) = scene.connect();
    let mut lengths = |scene: &mut Scene, pause| {
        scene.world.advance(pause);
        tls.write(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write(&tls.output());
        let mut sent = Vec::new();
        while {
            scene.settle();
            let before = sent.len();
            sent.extend(client.read());
            before < sent.len()
        } {}
        tls.feed(&sent);
        assert_eq!(tls.read().len() / 1000, LONG_BYTES / 1000);
        records(&sent)
    };
    let first = lengths(&mut scene, 0);
    assert!(first[..40].iter().all(|len| *len < 1450), "{first:?}");
    assert!(first[50..55].iter().all(|len| *len > 16_384), "{first:?}");
    let warm = lengths(&mut scene, 10);
    assert!(warm[..10].iter().all(|len| *len > 16_384), "{warm:?}");
    let cold = lengths(&mut scene, 1001);
    assert_eq!(first.len(), cold.len());
}

#[test]
fn a_protocol_cannot_have_a_connection_inside_tls_as_a_descriptor() {
    let mut scene = Scene::quiet();
    let (client, mut tls) = scene.switch();
    tls.write(b"detach");
    scene.converse(&client, &mut tls);
    assert_eq!(SEEN.take(), ["it is inside TLS, and was asked for as a descriptor"]);
    assert_eq!(client.ending(), Some(Ending::Reset));
}

#[test]
fn whatever_the_kernel_does_what_is_said_inside_is_heard_once_and_in_order() {
    for seed in 0..200 {
        let mut scene = Scene::new(seed, Faults { peer_reset: 0.0, ..Faults::default() });
        let version = versions()[seed as usize % 2];
        let config = Authority::usual().client_config(version);
        let mut clients: Vec<_> = (0..3)
            .map(|_| (scene.world.connect(ListenerId(0)), InsideTls::new(&config, NAME)))
            .collect();
        let mut said = vec![
            b"GET /raw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n".to_vec(),
        ];
        said.extend((0..30).map(|at| vec![at; 1 + usize::from(at) * usize::from(at) * 20]));
        for (at, words) in said.iter().enumerate() {
            for (client, tls) in &mut clients {
                tls.write(words);
                if at % 3 == 0 {
                    scene.converse(client, tls);
                }
            }
        }
        for _ in 0..300 {
            scene.world.advance(10);
            clients.iter_mut().for_each(|(client, tls)| scene.converse(client, tls));
        }
        let expected = said[1..].concat();
        for (client, tls) in &mut clients {
            let heard = tls.read();
            assert!(
                heard.ends_with(&expected),
                "seed {seed}: {} bytes, {:?}",
                heard.len(),
                tls.fault()
            );
            assert_eq!(heard.windows(4).filter(|four| four == b"101 ").count(), 1, "seed {seed}");
            client.reset();
        }
        SEEN.take();
        HANDED.take();
        let clients: Vec<_> = clients.into_iter().map(|(client, _)| client).collect();
        scene.everything_is_given_back(&clients);
    }
}

/// The settings of a server with these certificates.
fn showing(issued: &[&certificates::Issued]) -> TlsSettings {
    let pem = |text: &String| Pem::Text(text.clone());
    let identities = issued.iter().map(|one| Identity {
        certificate: pem(&one.chain),
        key: pem(&one.key),
        ocsp: None,
    });
    TlsSettings { identities: identities.collect(), ..Authority::usual().settings.clone() }
}

/// What a handler is told of a client that asks for this name, and the client.
fn told_of(scene: &mut Scene, name: &str, config: &Arc<ClientConfig>) -> (String, InsideTls) {
    let client = scene.world.connect(ListenerId(0));
    let mut tls = InsideTls::new(config, name);
    scene.converse(&client, &mut tls);
    tls.write(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n");
    scene.converse(&client, &mut tls);
    let answer = String::from_utf8(tls.read()).expect("text");
    let (_, told) = answer.split_once("\r\n\r\n").expect("an answer");
    (told.to_owned(), tls)
}

#[test]
fn a_handler_is_told_whose_certificate_was_shown_and_whether_a_ticket_was() {
    let authority = certificates::Authority::new();
    let (server, own) = (authority.issue(&[NAME]), authority.issue(&["a client"]));
    let usual = showing(&[&server]);
    // Where certificates are asked for there are no tickets.
    let asking = TlsSettings {
        client_roots: Some(Pem::Text(authority.root())),
        client_certificate: ClientCertificate::Optional,
        ..usual.clone()
    };
    let [usual, asking] =
        [usual, asking].map(|of| Arc::new(Acceptor::new(of).expect("a certificate")));
    for version in versions() {
        let proving = authority.client_showing(&[version], &own);
        for (acceptor, config, shown, again) in [
            (&usual, authority.client(&[version]), vec![], HandshakeKind::Resumed),
            (&asking, authority.client(&[version]), vec![], HandshakeKind::Full),
            (&asking, proving, vec![own.der.to_vec()], HandshakeKind::Full),
        ] {
            let mut scene = Scene::securing(Arc::clone(acceptor), 1, Faults::none());
            for kind in [HandshakeKind::Full, again, again] {
                let (told, mut tls) = told_of(&mut scene, NAME, &config);
                assert_eq!(tls.connection().handshake_kind(), Some(kind));
                let is_resumed = kind == HandshakeKind::Resumed;
                assert_eq!(told, format!("Some({NAME:?}) {is_resumed} {shown:?}"));
            }
        }
    }
}

#[test]
fn a_name_is_asked_for_in_any_case_and_told_in_lower_case() {
    let authority = certificates::Authority::new();
    let issued = [&["a.example"][..], &["b.example"], &["*.c.example"]];
    let issued = issued.map(|names| authority.issue(names));
    let acceptor = Acceptor::new(showing(&issued.each_ref())).expect("certificates");
    let acceptor = Arc::new(acceptor);
    for version in versions() {
        let mut scene = Scene::securing(Arc::clone(&acceptor), 1, Faults::none());
        for (name, at) in [("B.EXAMPLE", 1), ("b.Example", 1), ("X.C.example", 2)] {
            // Without tickets each is a handshake in which a certificate is shown.
            let config = authority.client(&[version]);
            let hello = InsideTls::new(&config, name).output();
            assert!(hello.windows(name.len()).any(|part| part == name.as_bytes()), "as it is");
            let (told, mut tls) = told_of(&mut scene, name, &config);
            let shown = tls.connection().peer_certificates().expect("one is shown");
            assert!(shown[0] == issued[at].der, "{name}");
            assert_eq!(told, format!("Some({:?}) false []", name.to_ascii_lowercase()));
        }
    }
}

#[test]
fn a_ticket_allows_nothing_to_be_said_before_its_handshake_is_over() {
    let mut config = ClientConfig::clone(&Authority::usual().client_config(versions()[0]));
    config.enable_early_data = true;
    let (config, mut scene) = (Arc::new(config), Scene::quiet());
    told_of(&mut scene, NAME, &config);
    for _ in 0..2 {
        // RFC 8446 §4.2.10: what could be sent at once could be sent again by anybody.
        assert!(InsideTls::new(&config, NAME).connection().early_data().is_none());
        let (_, mut tls) = told_of(&mut scene, NAME, &config);
        assert_eq!(tls.connection().handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(!tls.connection().is_early_data_accepted());
    }
}
