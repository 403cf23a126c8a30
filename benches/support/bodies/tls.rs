//! The engine with TLS beneath its sessions, on the simulated kernel: what a record costs, and what a handshake
//! does. The client's part of it is in no figure.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, SupportedProtocolVersion};
use upring::ring::sim::Client;

use super::Body;
use crate::support::counted::{by_the_few, timed};
use crate::support::inside_tls::{Authority, InsideTls, NAME, versions};
use crate::support::{PLAINTEXT, SWITCH, Simulated, registry};

pub fn bodies() -> Vec<Body> {
    let echoes = [64, 1024, 16 * 1024].map(|len| {
        let said = vec![b'x'; len];
        let name = format!("echo of {len} bytes");
        Body::new("tls", name, move || answered(SWITCH, &said, said.clone())).bytes(len)
    });
    let request = Body::new("tls", "request", || answered(b"", PLAINTEXT, b"lo, World!".to_vec()));
    let handshakes = ["1.3", "1.2"].into_iter().zip(versions()).flat_map(|(number, version)| {
        [(false, "full"), (true, "resumed")].map(|(is_resumed, kind)| {
            let name = format!("handshake, {kind}, {number}");
            // What they take is chosen by the processor's features and by chance.
            Body::new("tls", name, move || handshakes(version, is_resumed)).only_timed()
        })
    });
    [request].into_iter().chain(echoes).chain(handshakes).collect()
}

fn simulated() -> Simulated {
    Simulated::new(registry(), |_| {}).inside_tls(Authority::usual().acceptor())
}

fn config(version: &'static SupportedProtocolVersion, is_resumed: bool) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&Authority::usual().client_config(version));
    if !is_resumed {
        config.resumption = Resumption::disabled();
    }
    config.into()
}

/// Carries what both ends have to say until neither has more; how long the server has had for it.
fn converse(simulated: &mut Simulated, client: &Client, tls: &mut InsideTls) -> Duration {
    let mut took = Duration::ZERO;
    loop {
        let output = tls.output();
        if output.is_empty() {
            return took;
        }
        client.write(&output);
        took += timed(|| simulated.settle());
        tls.feed(&client.read());
    }
}

/// What is said in a round is answered by something that ends so. Behind what comes `first`.
fn answered(first: &[u8], said: &[u8], end: Vec<u8>) -> impl FnMut(u64) -> Duration + use<> {
    let mut simulated = simulated();
    let client = simulated.connect();
    let mut tls = InsideTls::new(&config(versions()[0], false), NAME);
    tls.write(first);
    converse(&mut simulated, &client, &mut tls);
    assert_eq!(tls.read().starts_with(b"HTTP/1.1 101 "), !first.is_empty());
    let said = said.to_vec();
    move |rounds| {
        let mut round = || {
            tls.write(&said);
            let took = converse(&mut simulated, &client, &mut tls);
            assert!(tls.read().ends_with(&end));
            took
        };
        (0..rounds).map(|_| round()).sum()
    }
}

/// Accepted, and all said that there is to a handshake, with the tickets behind it.
fn handshakes(
    version: &'static SupportedProtocolVersion,
    is_resumed: bool,
) -> impl FnMut(u64) -> Duration {
    let config = config(version, is_resumed);
    // Who resumes has been here.
    let client = (simulated(), InsideTls::new(&config, NAME));
    let (mut first, mut tls) = client;
    let client = first.connect();
    converse(&mut first, &client, &mut tls);
    move |rounds| {
        by_the_few(rounds, |count| {
            let mut simulated = simulated();
            let mut round = || {
                let client = simulated.connect();
                let mut tls = InsideTls::new(&config, NAME);
                let took = converse(&mut simulated, &client, &mut tls);
                let kind = tls.connection().handshake_kind();
                assert_eq!(kind == Some(rustls::HandshakeKind::Resumed), is_resumed);
                client.reset();
                simulated.settle_aside();
                took
            };
            (0..count).map(|_| round()).sum()
        })
    }
}
