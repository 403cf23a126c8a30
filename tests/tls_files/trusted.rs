//! Clients that are let in by a certificate, for as long as it is good, and those that are not let in.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use super::certificates::{Authority, ask, connect, root_file, shown};
use super::process::{Folder, Served};
use super::{OWN, configuration, kind};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// A server that asks clients for certificates of this authority.
fn asking(folder: &Folder, authority: &Authority) -> Option<Served> {
    root_file(&folder.0, authority);
    authority.issue(&["localhost"]).write(&folder.0, "own");
    let text = configuration(&format!("{OWN}, client_roots = 'root.pem'"));
    let file = folder.write("upring.toml", &text);
    Served::start(&["--config", shown(&file)], &[("UPRING_LOG", "info,upring::tls=debug")])
}

/// How its handshake was made, if it is let in.
fn comes(served: &Served, config: &Arc<ClientConfig>) -> std::io::Result<HandshakeKind> {
    let mut stream = connect(&served.address, "localhost", config)?;
    assert_eq!(ask(&mut stream, "/a")?, "200 a");
    Ok(kind(&stream))
}

/// Each comes twice, and has what a server gives to come again by.
fn come_twice(served: &Served, clients: &[Arc<ClientConfig>]) {
    for config in clients {
        for _ in 0..2 {
            let kind = comes(served, config).expect("its certificate is good");
            assert_eq!(kind, HandshakeKind::Full);
        }
    }
}

fn are_refused(served: &Served, clients: &[Arc<ClientConfig>], alert: &str) {
    for (count, config) in (1..).zip(clients) {
        comes(served, config).expect_err("its certificate is good no more");
        served.hears(alert, count);
    }
}

#[test]
fn a_client_whose_certificate_has_ended_is_let_in_no_more() {
    let folder = Folder::new("tls-ended");
    let authority = Authority::new();
    let Some(served) = asking(&folder, &authority) else { return };
    let end = SystemTime::now() + Duration::from_secs(8);
    let own = authority.issue_until(&["a client"], end);
    let clients = VERSIONS.map(|version| authority.client_showing(&[version], &own));
    come_twice(&served, &clients);
    // RFC 5280 §4.1.2.5: its last second is one of its own.
    let over = end + Duration::from_millis(1_500);
    thread::sleep(over.duration_since(SystemTime::now()).unwrap_or_default());
    are_refused(&served, &clients, "certificate_expired: ");
    served.end();
}

#[test]
fn a_client_whose_root_was_removed_is_let_in_no_more() {
    let folder = Folder::new("tls-removed");
    let authority = Authority::new();
    let Some(served) = asking(&folder, &authority) else { return };
    let own = authority.issue(&["a client"]);
    let clients = VERSIONS.map(|version| authority.client_showing(&[version], &own));
    come_twice(&served, &clients);
    root_file(&folder.0, &Authority::named("another authority"));
    served.signal(Signal::HUP);
    served.hears("reloaded: 1 routes", 1);
    are_refused(&served, &clients, "unknown_ca: ");
    served.end();
}

#[test]
fn a_client_that_speaks_h2_alone_is_told_so_and_counted() {
    let folder = Folder::new("tls-alpn");
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(&folder.0, "own");
    let file = folder.write("upring.toml", &configuration(OWN));
    let admin = format!("unix:{}", shown(&folder.socket()));
    let arguments = ["--config", shown(&file), "--admin", &admin];
    let log = [("UPRING_LOG", "info,upring::tls=debug")];
    let Some(served) = Served::start(&arguments, &log) else { return };
    for (count, version) in (1..).zip(VERSIONS) {
        let mut config = ClientConfig::clone(&authority.client(&[version]));
        config.alpn_protocols = vec![b"h2".to_vec()];
        comes(&served, &config.into()).expect_err("it speaks no h2");
        served.hears("no_application_protocol: ", count);
    }
    let mut metrics = UnixStream::connect(folder.socket()).expect("it listens");
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    metrics.write_all(request).expect("it reads");
    let mut text = String::new();
    metrics.read_to_string(&mut text).expect("it ends in order");
    let counted = "upring_tls_alerts_total{alert=\"no_application_protocol\",by=\"us\"} 2";
    let alerts = || text.lines().filter(|line| line.starts_with("upring_tls_alerts_total"));
    assert!(alerts().any(|line| line == counted), "{:?}", alerts().collect::<Vec<_>>());
    served.end();
}
