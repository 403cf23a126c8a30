//! The built binary with a TLS listener, as its operator sees it: the log, a scrape, `upring top`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Stream};

use crate::inside_tls::{Authority, NAME, versions};
use crate::process::{Folder, Served, UPRING};
use upring::config::Pem;

/// A server with a TLS listener and an admin listener, both in this folder.
fn serve(folder: &Folder, authority: &Authority) -> Option<Served> {
    let identity = &authority.settings.identities[0];
    for (name, pem) in [("certificate.pem", &identity.certificate), ("key.pem", &identity.key)] {
        let Pem::Text(text) = pem else { panic!("it was made here") };
        folder.write(name, text);
    }
    let file = folder.write(
        "upring.toml",
        &format!(
            "workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n\
             [[listen]]\naddress = 'unix:{0}/tls.sock'\n\
             tls = {{ certificates = [{{ chain = 'certificate.pem', key = 'key.pem' }}] }}\n\
             [admin]\nlisten = 'unix:{0}/admin.sock'\n\
             [[route]]\npath = '/plaintext'\nanswer = {{ text = 'Hello, World!' }}\n",
            folder.0.display()
        ),
    );
    let file = file.to_str().expect("a name of ours").to_owned();
    Served::start(&["--config", &file], &[("UPRING_LOG", "debug")])
}

fn connected(folder: &Folder, name: &str) -> UnixStream {
    let stream = UnixStream::connect(folder.0.join(name)).expect("it listens");
    stream.set_read_timeout(Some(crate::process::PATIENCE)).expect("a timeout");
    stream
}

/// Says something that is no TLS, and hears why not.
fn blurt(folder: &Folder) {
    let mut stream = connected(folder, "tls.sock");
    stream.write_all(b"\x80\x2e\x01\x03\x01").expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it closes in order");
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 10], "unexpected_message");
}

#[test]
fn an_operator_sees_what_becomes_of_tls() {
    let folder = Folder::new("watched-tls");
    let Some(served) = serve(&folder, Authority::usual()) else { return };
    let top = Command::new(UPRING)
        .args(["top", "--once", &format!("unix:{}", folder.0.join("admin.sock").display())])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it is built");
    // In the second that it watches.
    thread::sleep(Duration::from_millis(500));
    let name = ServerName::try_from(NAME).expect("a name");
    let mut client = ClientConnection::new(Authority::usual().client_config(versions()[0]), name)
        .expect("a client");
    let mut stream = connected(&folder, "tls.sock");
    let mut inside = Stream::new(&mut client, &mut stream);
    inside.write_all(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
    let mut answer = vec![0; 16];
    inside.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, b"HTTP/1.1 200 OK\r");
    (0..100).for_each(|_| blurt(&folder));
    served.hears("unexpected_message: no TLS was spoken", 100);
    assert!(!served.log().contains("could not go on within a minute"), "100 are usual");
    (0..20).for_each(|_| blurt(&folder));
    served.hears("101 TLS connections of a core could not go on within a minute", 1);
    served.hears("unexpected_message: no TLS was spoken", 120);
    assert_eq!(served.log().matches("could not go on within a minute").count(), 1);

    let mut admin = connected(&folder, "admin.sock");
    admin
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut text = String::new();
    admin.read_to_string(&mut text).expect("it answers");
    // As rcgen makes them: date -u -d 4096-01-01 +%s.
    let not_after = 67_090_118_400_u64;
    for line in [
        "upring_tls_handshakes_total{version=\"1.3\",kind=\"full\"} 1".to_owned(),
        "upring_tls_alerts_total{alert=\"unexpected_message\",by=\"us\"} 120".to_owned(),
        "upring_tls_connections_open 1".to_owned(),
        "upring_tls_handshake_seconds_count 1".to_owned(),
        format!("upring_tls_certificate_not_after_seconds{{name=\"{NAME}\"}} {not_after}"),
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
    let shown = top.wait_with_output().expect("it was started");
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("\ntls ") && shown.contains("/s handshakes  open "), "{shown}");
    assert_eq!(served.end().0, Some(0));
}
