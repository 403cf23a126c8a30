//! The same in TLS: of upring nothing is wrong, and of servers that break off, lie or show what is not
//! theirs it is said. Their end of TLS is rustls', in a thread for each connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, sign::any_supported_type};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::serving::Serving;
use super::{ANSWER, HOSTS, SWITCH, load, report, said, serve_each};

type Stream = StreamOwned<ServerConnection, TcpStream>;
type Serve = fn(&mut Stream);

/// Shows a certificate whose key it need not have.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usual,
    /// Signs by another key than that of the certificate.
    Impostor,
    /// Gives tickets, and takes none of those it gave.
    Forgetful,
}

fn config(kind: Kind) -> Arc<ServerConfig> {
    let made = || rcgen::generate_simple_self_signed(vec!["somebody.test".to_owned()]);
    let (own, other) = (made().expect("a name"), made().expect("a name"));
    let signer = if kind == Kind::Impostor { &other } else { &own };
    let key = PrivatePkcs8KeyDer::from(signer.signing_key.serialize_der());
    let key = any_supported_type(&PrivateKeyDer::from(key)).expect("a key of P-256");
    let shown = Shown(Arc::new(CertifiedKey::new(vec![own.cert.der().clone()], key)));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("both")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.ticketer = Ticketer::new().expect("there is randomness");
    Arc::new(config)
}

/// Calls `serve` with each connection, its handshake still to be done.
fn serve_in_tls(kind: Kind, serve: Serve) -> SocketAddr {
    let usual = config(kind);
    // A function is what a thread of each connection is given; what it needs is made once for all.
    let usual: &'static Arc<ServerConfig> = Box::leak(Box::new(usual));
    serve_each(move |stream| {
        let config = if kind == Kind::Forgetful { config(kind) } else { Arc::clone(usual) };
        let connection = ServerConnection::new(config).expect("it can be begun");
        serve(&mut StreamOwned::new(connection, stream));
    })
}

/// Reads to the end of a head. Nobody says more before it is answered.
fn read_head(stream: &mut Stream) -> bool {
    let mut head = Vec::new();
    let mut bytes = [0; 512];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => head.extend_from_slice(&bytes[..count]),
            _ => return false,
        }
    }
    true
}

/// Says that this is all, and waits for the client to go.
fn close(stream: &mut Stream) {
    stream.conn.send_close_notify();
    stream.flush().unwrap_or_default();
    while matches!(stream.read(&mut [0; 512]), Ok(1..)) {}
}

/// A switch, and of what comes the echo, as `change` has it.
fn echo(stream: &mut Stream, change: fn(&mut [u8])) {
    if read_head(stream) {
        stream.write_all(SWITCH).unwrap_or_default();
        let mut bytes = [0; 64];
        stream.read_exact(&mut bytes).unwrap_or_default();
        change(&mut bytes);
        stream.write_all(&bytes).unwrap_or_default();
        while matches!(stream.read(&mut [0; 512]), Ok(1..)) {}
        close(stream);
    }
}

#[test]
fn of_upring_every_answer_is_right_in_tls() {
    for host in HOSTS {
        let arguments = ["--workers", "1", "--host", host, "--tls-self-signed"];
        let Some(server) = Serving::start(&arguments) else { return };
        for (arguments, handshakes) in [
            ("http --requests 2000", Some(64)),
            ("http --requests 2000 --depth 16 --tls-version 1.2", Some(64)),
            ("http --requests 200 --requests-per-connection 1", Some(200)),
            ("http --requests 200 --depth 3 --requests-per-connection 7 --threads 2", None),
            ("http --seconds 0.5 --rate 2000 --depth 2", Some(64)),
            ("switch --requests 200", Some(200)),
            ("switch --requests 200 --bytes 70000 --connections 8", Some(200)),
            ("switch --requests 200 --late --token websocket", Some(200)),
            ("echo --requests 2000 --bytes 16384", Some(64)),
            ("echo --requests 500 --bytes 100000 --connections 8 --tls-version 1.2", Some(8)),
            ("echo --requests 2000 --token websocket --bytes 16384 --depth 3", Some(64)),
            ("idle --connections 300 --warm-up 100 --seconds 0.2", Some(400)),
        ] {
            let output = load(&format!("{arguments} --tls --limit 60"), server.address());
            let report = report(&output);
            assert!(output.status.success(), "{host}, {arguments}: {output:?}");
            assert_eq!(report["errors"], 0, "{host}, {arguments}: {report}");
            assert_eq!(report["tls"]["resumed"], 0, "{host}, {arguments}: {report}");
            if let Some(handshakes) = handshakes {
                let told = report["tls"]["handshakes"].as_u64();
                assert_eq!(told, Some(handshakes), "{host}, {arguments}: {report}");
            }
        }
    }
}

#[test]
fn a_client_that_keeps_its_tickets_resumes_all_but_its_first_session() {
    let Some(server) = Serving::start(&["--workers", "1", "--tls-self-signed"]) else { return };
    for version in ["1.2", "1.3"] {
        for (mode, threads) in [("http --requests-per-connection 1", 1), ("switch", 2)] {
            let arguments = format!(
                "{mode} --requests 100 --connections 4 --threads {threads} --tls --tls-resume \
                 --tls-version {version}"
            );
            let output = load(&arguments, server.address());
            let report = report(&output);
            assert_eq!(report["errors"], 0, "{arguments}: {report}");
            assert_eq!(report["tls"]["handshakes"], 100, "{arguments}: {report}");
            assert_eq!(report["tls"]["resumed"], 96, "{arguments}: {report}");
        }
    }
}

#[test]
fn a_client_says_that_it_closes() {
    static SAID: AtomicUsize = AtomicUsize::new(0);
    static CUT: AtomicUsize = AtomicUsize::new(0);
    let target = serve_in_tls(Kind::Usual, |stream| {
        if read_head(stream) {
            stream.write_all(ANSWER).unwrap_or_default();
        }
        let end = stream.read(&mut [0]);
        let count = if matches!(end, Ok(0)) { &SAID } else { &CUT };
        count.fetch_add(1, Ordering::Relaxed);
    });
    let output = load("http --tls --requests 12 --connections 12", target);
    assert!(output.status.success(), "{output:?}");
    let begun = Instant::now();
    let ended = || SAID.load(Ordering::Relaxed) + CUT.load(Ordering::Relaxed);
    while ended() < 12 && begun.elapsed() < Duration::from_secs(9) {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((SAID.load(Ordering::Relaxed), CUT.load(Ordering::Relaxed)), (12, 0));
}

#[test]
fn tickets_that_are_not_taken_are_told_and_no_error() {
    let serve: Serve = |stream| {
        if read_head(stream) {
            stream.write_all(ANSWER).unwrap_or_default();
            close(stream);
        }
    };
    for (kind, is_told) in [(Kind::Forgetful, true), (Kind::Usual, false)] {
        let target = serve_in_tls(kind, serve);
        let output = super::text(
            "http --requests-per-connection 1 --requests 20 --connections 2 --tls --tls-resume",
            target,
        );
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(told.contains("NONE RESUMED"), is_told, "{told}");
    }
}

#[test]
fn what_is_wrong_in_tls_is_said_counted_and_in_the_status() {
    let cases: [(&str, Kind, Serve, &str); 7] = [
        (
            "http --requests-per-connection 1",
            Kind::Usual,
            |stream| {
                if read_head(stream) {
                    // All of it, and FIN behind it, and not a word that it was all.
                    stream.write_all(ANSWER).unwrap_or_default();
                }
            },
            "the server closed without close_notify",
        ),
        (
            "switch --late",
            Kind::Usual,
            |stream| echo(stream, |bytes| bytes[5] ^= 1),
            "byte 5 of the echo",
        ),
        (
            "http --content ha",
            Kind::Usual,
            |stream| {
                if read_head(stream) {
                    stream.write_all(ANSWER).unwrap_or_default();
                    close(stream);
                }
            },
            "the content differs",
        ),
        (
            "http",
            Kind::Usual,
            |stream| {
                if read_head(stream) {
                    stream.write_all(&ANSWER[..ANSWER.len() - 1]).unwrap_or_default();
                    close(stream);
                }
            },
            "the server closed the connection",
        ),
        (
            "http",
            Kind::Usual,
            |stream| {
                if read_head(stream) {
                    // Bytes on the connection beneath that nobody has sealed.
                    stream.sock.write_all(ANSWER).unwrap_or_default();
                    while matches!(stream.sock.read(&mut [0; 512]), Ok(1..)) {}
                }
            },
            "TLS: received corrupt message",
        ),
        ("http", Kind::Impostor, |stream| close(stream), "BadSignature"),
        (
            "http",
            Kind::Usual,
            |stream| drop(stream.sock.read(&mut [0; 4096])),
            "before the handshake was over",
        ),
    ];
    for (arguments, kind, serve, wrong) in cases {
        let target = serve_in_tls(kind, serve);
        for version in ["1.2", "1.3"] {
            let arguments = format!(
                "{arguments} --requests 20 --connections 2 --errors-max 5 --limit 9 --tls \
                 --tls-version {version}"
            );
            let output = load(&arguments, target);
            let report = report(&output);
            assert!(report["errors"].as_u64() >= Some(1), "{arguments}: {report}");
            assert_eq!(output.status.code(), Some(1), "{arguments}");
            assert!(said(&output).contains(wrong), "{arguments}, {wrong}: {}", said(&output));
        }
    }
}

#[test]
fn a_port_without_tls_is_said_to_be_one() {
    let Some(server) = Serving::start(&["--workers", "1"]) else { return };
    for arguments in [
        "http --requests 4 --connections 2",
        "echo --requests 4 --connections 2",
        "idle --connections 2 --warm-up 0",
        "storm --connections 8 --seconds 0.2",
        "storm --kind half-handshakes --connections 8 --seconds 0.2",
    ] {
        let output = load(&format!("{arguments} --tls"), server.address());
        assert_eq!(output.status.code(), Some(1), "{arguments}: {output:?}");
        assert!(said(&output).contains("the server does not speak TLS here"), "{output:?}");
    }
}

#[test]
fn in_a_storm_in_tls_the_honest_are_served() {
    for host in HOSTS {
        let arguments = ["--workers", "1", "--host", host, "--tls-self-signed"];
        let Some(server) = Serving::start(&arguments) else { return };
        let output = load("storm --tls --connections 80 --seconds 1.5", server.address());
        let storm = report(&output);
        assert!(output.status.success(), "{host}: {storm}");
        for client in ["slow-heads", "slow-readers", "half-closes", "honest"] {
            let answered = storm["clients"][client]["answered"].as_u64();
            assert!(answered >= Some(8), "{host}, {client}: {storm}");
        }
        let half = "storm --kind half-handshakes --tls --connections 40 --rate 100 --seconds 1 --sources 1";
        let output = load(half, server.address());
        let storm = report(&output);
        assert!(output.status.success(), "{host}: {storm}");
        // Begun one behind the other, and each again after as many as there are clients.
        let begun = storm["clients"]["half-handshakes"]["begun"].as_u64().unwrap_or_default();
        assert!((50..=110).contains(&begun), "{host}: {storm}");
        assert!(storm["clients"]["honest"]["answered"].as_u64() >= Some(8), "{storm}");
    }
    // One that ends without a word behind its answer has not ended rightly.
    let target = serve_in_tls(Kind::Usual, |stream| {
        if read_head(stream) {
            stream.write_all(ANSWER).unwrap_or_default();
        }
    });
    let output = load("storm --kind half-closes --tls --connections 4 --seconds 0.3", target);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("without close_notify"), "{output:?}");
}
