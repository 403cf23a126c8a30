//! WebSocket services that are measured, and what a client says to them.

use upring::resource::{Registry, Resource};
use upring::ring::sim::Client;
use upring::websocket::{Compression, Endpoint, Message, Socket, WebSocket};

use super::Simulated;

/// Offered by a client, compression is agreed where the service has it.
pub const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// First bytes of whole messages: of text, of bytes, of compressed text, and of a ping.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const COMPRESSED_TEXT: u8 = 0xc1;
pub const PING: u8 = 0x89;

/// First bytes of the first fragment of a text, and of the last one of any message.
pub const UNFINISHED_TEXT: u8 = 0x01;
pub const CONTINUED: u8 = 0x80;

/// The masking key of every frame of a client.
pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Sends every message back.
struct Messages;

impl Endpoint for Messages {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.send(message);
    }
}

/// Says every message to everybody.
struct Member;

impl Endpoint for Member {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.subscribe("all").expect("one topic");
    }

    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.publish_to_all("all", message);
    }
}

/// `/ws` echoes, `/shared` and `/dedicated` with compression; at `/all` everybody hears everybody.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let mut insert = |path: &str, service: WebSocket| {
        registry.insert(path, Resource::new().upgrade(service.endpoint(|_| Messages)));
    };
    insert("/ws", WebSocket::new());
    insert("/shared", WebSocket::new().compression(Compression::shared()));
    insert("/dedicated", WebSocket::new().compression(Compression::dedicated(15)));
    registry.insert("/all", Resource::new().upgrade(WebSocket::new().endpoint(|_| Member)));
    registry
}

/// A resource that echoes messages, as they are.
pub fn echo() -> Resource {
    Resource::new().upgrade(WebSocket::new().endpoint(|_| Messages))
}

/// So many connections, switched at `path`.
pub fn open(simulated: &mut Simulated, path: &str, fields: &str, count: usize) -> Vec<Client> {
    let opening = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    );
    let clients: Vec<Client> = (0..count).map(|_| simulated.connect()).collect();
    clients.iter().for_each(|client| client.write(opening.as_bytes()));
    simulated.settle_aside();
    for client in &clients {
        assert!(client.read().starts_with(b"HTTP/1.1 101 "));
    }
    clients
}

/// A client's frame (RFC 6455 §5.2).
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A server's frame, which has no mask.
pub fn frame_back(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, 0, payload.len()), payload.to_vec()].concat()
}

fn header(first: u8, mask: u8, len: usize) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..=125 => header.push(mask | len as u8),
        126..=0xffff => {
            header.push(mask | 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header
}
