//! Handlers under TLS, which do not know it: the echo of raw bytes and one of WebSocket messages, as they are
//! without. Who wants to know by what connection a request came asks `Request::secured`; the page does.
//!
//! ```text
//!   tls [ADDRESS [CERTIFICATE KEY [CLIENT_ROOTS]]]      files in PEM; without any, a certificate is made
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use upring::config::{ClientCertificate, Pem, TlsSettings};
use upring::protocols::echo;
use upring::websocket::{Endpoint, Message, Socket, WebSocket};
use upring::{Config, Listener, Request, Resource, Server, returning};

struct Echo;

impl Endpoint for Echo {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        let _ = socket.send(message);
    }
}

/// What TLS has agreed on, a fact a line.
fn about(request: &Request<'_>, _: &[u8]) -> String {
    let Some(secured) = request.secured() else { return "not inside TLS\n".into() };
    let name = secured.server_name.as_deref().unwrap_or("none");
    let shown = &secured.client_certificates;
    let client =
        shown.first().map_or("none".to_owned(), |der| format!("{} bytes of DER", der.len()));
    format!(
        "version: {:?}\nserver name: {name}\nresumed: {}\nclient certificate: {client}\n",
        secured.version, secured.is_resumed
    )
}

/// The files that are named, or a certificate for the occasion.
fn settings(mut files: impl Iterator<Item = String>) -> Result<TlsSettings, rcgen::Error> {
    let mut file = || files.next().map(PathBuf::from);
    let Some((certificate, key)) = file().zip(file()) else {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        return Ok(TlsSettings::of(Pem::Text(certificate), Pem::Text(key)));
    };
    let client_roots = file().map(Pem::File);
    // Who shows one is known by it; who does not is served all the same.
    let client_certificate = ClientCertificate::Optional;
    Ok(TlsSettings { client_roots, client_certificate, ..TlsSettings::of(certificate, key) })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().unwrap_or("127.0.0.1:8443".into()).parse()?;
    let tls = Some(settings(arguments)?);
    let listen = vec![Listener { tls, ..Listener::from(address) }];
    let server = Server::new(Config { listen, ..Config::default() })
        .route("/", Resource::new().get(returning(about)))
        .route("/echo", Resource::new().upgrade(echo::protocol()).upgrade_required())
        .route("/ws", Resource::new().upgrade(WebSocket::new().endpoint(|_| Echo)))
        .start()?;
    let address = server.addresses()[0];
    println!("listening on {address}; try");
    println!("  curl -k --connect-to localhost:443:{address} https://localhost/");
    Ok(server.join()?)
}
