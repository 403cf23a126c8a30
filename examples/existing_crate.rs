//! A protocol crate written for tokio, unchanged, as a handler: tokio-tungstenite speaks WebSocket
//! over the upgraded connection. The opening handshake is decided here, with tungstenite's own key
//! derivation.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use upring::{
    Config, Decision, Opening, Protocol, Resource, Response, Server, Status, Switch, Upgraded,
};

/// RFC 6455 §4.2.2: what the request must have, and the field that proves we understood it.
fn open(opening: &Opening<'_>) -> Decision {
    let request = opening.request();
    if request.field("Sec-WebSocket-Version") != Some(b"13") {
        let text = "This server speaks version 13 of WebSocket.\n";
        let answer = Response::text(Status::UPGRADE_REQUIRED, text)
            .with_field("Sec-WebSocket-Version", "13")
            .expect("a valid value");
        return Decision::UpgradeRequired(answer);
    }
    let Some(key) = request.field("Sec-WebSocket-Key").filter(|key| is_key(key)) else {
        let text = "A WebSocket needs a Sec-WebSocket-Key: 16 bytes in base64.\n";
        return Decision::Answer(Response::text(Status::BAD_REQUEST, text));
    };
    Switch::to_async(echo)
        .with_field("Sec-WebSocket-Accept", derive_accept_key(key))
        .expect("base64 is a valid value")
        .into()
}

/// RFC 6455 §4.2.1 (5): 16 bytes are 22 digits of base64 and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

async fn echo(upgraded: Upgraded) {
    let stream = upgraded.into_stream();
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let websocket = Protocol::new("websocket", open).needs_runtime();
    let server = Server::new(Config::listening(listen))
        .route("/", Resource::new().upgrade(websocket).upgrade_required())
        .start()?;
    let address = server.addresses()[0];
    println!("listening on {address}; try");
    println!("  python3 -m websockets ws://{address}/");
    Ok(server.join()?)
}
