//! A WebSocket connection behind its opening handshake, without compression and with it: what is said
//! back must not depend on how a client's bytes are cut, nor on when the endpoint goes on.

use upring::config::Limits;
use upring::resource::{Registry, Resource};
use upring::websocket::{
    CloseCode, Compression, Endpoint, Message, Socket, WebSocket, WebSocketLimits,
};

use super::conversation::{Later, converse, later};

/// What a client may offer. The last one has both sides forget after each message.
const OFFERS: [&str; 3] = [
    "",
    "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
     client_no_context_takeover\r\n",
];

/// Any bytes behind the handshake: the same frames and the same end in every manner, and no panic.
pub(crate) fn websocket(bytes: &[u8]) {
    for offer in OFFERS {
        let opening = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        converse(&[opening.as_bytes(), bytes].concat(), serve, PartialEq::eq);
    }
}

fn serve() -> (Registry, Limits) {
    let bounds = WebSocketLimits {
        message_bytes_max: 600,
        fragments_max: 4,
        control_frames_per_second_max: 9,
        ..WebSocketLimits::default()
    };
    let compression = Compression { bytes_min: 8, ..Compression::dedicated(9) };
    let service = WebSocket::new().limits(bounds).compression(compression);
    let mut registry = Registry::default();
    registry.insert("/", Resource::new().upgrade(service.endpoint(|_| Moody)));
    (registry, Limits { outbox_bytes_high: 400, leases_max: 4, ..Limits::default() })
}

/// Sends messages back. Behind some it takes no more before it was woken, and behind one it closes.
struct Moody;

impl Endpoint for Moody {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        match message.as_bytes().first() {
            Some(b'c') => socket.close(CloseCode::GOING_AWAY, "as you wish"),
            first => {
                if first == Some(&b'p') {
                    socket.pause();
                    later(Later::Wake(socket.waker()));
                }
                socket.send(message);
            }
        }
    }

    fn on_wake(&mut self, socket: &mut Socket<'_>) {
        socket.resume();
    }
}
