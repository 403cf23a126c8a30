//! What the binary serves when nothing is configured: a page to try things with, and what it tries.

use std::sync::atomic::{AtomicU64, Ordering};

use upring::http::{Ready, Request, Response, Status};
use upring::protocols::echo;
use upring::resource::{Resource, returning};
use upring::server::Server;
use upring::websocket::{
    Close, Endpoint, Message, Origins, Socket, Topics, WebSocket, WebSocketLimits,
};

/// Path and what is there.
pub(crate) const SERVED: [(&str, &str); 7] = [
    ("/", "a page that tries /ws and /chat"),
    ("/plaintext", "Hello, World!"),
    ("/healthz", "ok"),
    ("/content", "POST: how many bytes came"),
    ("/ws", "WebSocket: every message comes back"),
    ("/chat", "WebSocket: everybody gets every message"),
    ("/echo", "Upgrade: echo, every byte comes back"),
];

/// Bytes of one message to everybody.
const CHAT_BYTES_MAX: usize = 500;

/// The one topic of the chat.
const LOBBY: &str = "lobby";

pub(crate) fn routes(server: Server) -> Server {
    let page = Response::new(Status::OK).with_body(include_bytes!("page.html"));
    let page = page.with_field("Content-Type", "text/html; charset=utf-8").expect("a valid value");
    server
        .route("/", Resource::new().get(page.to_ready()))
        .route("/plaintext", Resource::new().get(text("Hello, World!")))
        .route("/healthz", Resource::new().get(text("ok\n")))
        .route("/content", Resource::new().post(returning(count)))
        .route("/ws", Resource::new().upgrade(messages()).upgrade_required())
        .route("/chat", Resource::new().upgrade(chat()).upgrade_required())
        .route("/echo", Resource::new().upgrade(echo::protocol()).upgrade_required())
}

fn count(_: &Request<'_>, content: &[u8]) -> String {
    format!("{} bytes\n", content.len())
}

fn text(body: &'static str) -> Ready {
    let response = Response::new(Status::OK).with_body(body.as_bytes());
    response.with_field("Content-Type", "text/plain").expect("a valid value").to_ready()
}

fn messages() -> upring::Protocol {
    WebSocket::new().origins(Origins::Same).endpoint(|_| Messages)
}

/// Sends every message back from where it was received.
struct Messages;

impl Endpoint for Messages {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.send(message);
    }
}

fn chat() -> upring::Protocol {
    let limits =
        WebSocketLimits { message_bytes_max: CHAT_BYTES_MAX, ..WebSocketLimits::default() };
    let (guests, topics) = (AtomicU64::new(0), Topics::default());
    WebSocket::new().origins(Origins::Same).limits(limits).topics(&topics).endpoint(move |_| {
        Guest { number: guests.fetch_add(1, Ordering::Relaxed) + 1, topics: topics.clone() }
    })
}

/// One of those who talk to each other.
struct Guest {
    number: u64,
    topics: Topics,
}

impl Endpoint for Guest {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        // There is one topic.
        let _ = socket.subscribe(LOBBY);
        socket.publish_to_all(LOBBY, self.line("is here"));
    }

    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        if let Some(said) = message.as_text().map(str::trim).filter(|said| !said.is_empty()) {
            socket.publish_to_all(LOBBY, self.line(said));
        }
    }

    fn on_close(&mut self, _: &Close) {
        self.topics.publish(LOBBY, self.line("has left"));
    }
}

impl Guest {
    fn line(&self, said: &str) -> String {
        let guests = self.topics.subscribers(LOBBY);
        serde_json::json!({ "guest": self.number, "said": said, "guests": guests }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use upring::counters::Counters;
    use upring::engine::{Engine, Turn};
    use upring::resource::Registry;
    use upring::ring::sim::{Faults, SimConfig, Simulation};
    use upring::ring::{ListenerId, Wait};
    use upring::session::Core;

    use super::*;

    const HANDSHAKE: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// A binary message of at least 126 bytes, masked by zeros.
    fn message(len: usize) -> Vec<u8> {
        let len_bytes = match u16::try_from(len) {
            Ok(len) => [&[0x80 | 126][..], &len.to_be_bytes()].concat(),
            Err(_) => [&[0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
        };
        [&[0x82][..], &len_bytes, &[0; 4], &vec![0; len]].concat()
    }

    #[test]
    fn the_largest_message_comes_back_behind_what_a_slow_client_has_not_read() {
        let config = SimConfig { faults: Faults::none(), ..SimConfig::default() };
        let (kernel, mut registry) = (Simulation::new(1, config), Registry::default());
        registry.insert("/", Resource::new().upgrade(messages()));
        let core = Core::new(registry, Default::default(), Arc::<Counters>::default(), 0);
        let world = kernel.world();
        let mut engine = Engine::new(kernel, core, 1, Arc::default(), Duration::from_secs(5));
        let mut settle = || {
            while engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
                || !world.is_quiet()
            {}
        };
        let client = world.connect(ListenerId(0));
        client.set_window(30_000);
        client.write(HANDSHAKE);
        settle();
        let sizes = [60_000, 1024 * 1024];
        for size in sizes {
            client.write(&message(size));
            settle();
        }
        let mut came = 0;
        while client.arrived() > 0 {
            came += client.read().len();
            settle();
        }
        // Behind a head, and each behind a header.
        let messages: usize = sizes.iter().sum();
        assert!((messages..messages + 500).contains(&came), "{came} bytes");
    }
}
