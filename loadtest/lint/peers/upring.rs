//! A server of this crate with all that the linter has vectors for: what the binary serves at `/ws`
//! does not compress, and its `/echo` takes no content. `run.sh` starts it, `tests/lint.rs` lints it.

use upring::http::{Method, Request};
use upring::protocols::echo;
use upring::websocket::{Compression, Endpoint, Message, Origins, Socket, WebSocket};
use upring::{Config, Resource, Server, returning};

struct Messages;

impl Endpoint for Messages {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.send(message);
    }
}

/// Content at `/`, a WebSocket with permessage-deflate at `/ws`, and bytes that come back at `/echo`.
pub(crate) fn served(config: Config) -> Server {
    let websocket = WebSocket::new()
        .origins(Origins::Same)
        .compression(Compression::dedicated(15))
        .endpoint(|_| Messages);
    let echo = echo::protocol().methods(&[Method::Get, Method::Post]).content_bytes_max(1024);
    let page = |_: &Request<'_>, content: &[u8]| format!("{} bytes\n", content.len());
    Server::new(config)
        .route("/", Resource::new().get(returning(page)).post(returning(page)))
        .route("/ws", Resource::new().upgrade(websocket).upgrade_required())
        .route("/echo", Resource::new().upgrade(echo).upgrade_required())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let config = Config { workers: 1, ..Config::listening(listen) };
    Ok(served(config).start()?.join()?)
}
