//! What the binary serves when nothing is configured: a page to try things with, and what it tries.

use std::sync::atomic::{AtomicU64, Ordering};

use upring::http::{Ready, Request, Response, Status};
use upring::protocols::echo;
use upring::resource::{Resource, returning};
use upring::server::Server;
use upring::websocket::{Endpoint, Message, Origins, Socket, WebSocket, WebSocketLimits};

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
    let messages = WebSocket::new().origins(Origins::Same).endpoint(|_| Messages);
    server
        .route("/", Resource::new().get(page.to_ready()))
        .route("/plaintext", Resource::new().get(text("Hello, World!")))
        .route("/healthz", Resource::new().get(text("ok\n")))
        .route("/content", Resource::new().post(returning(count)))
        .route("/ws", Resource::new().upgrade(messages).upgrade_required())
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
    let guests = AtomicU64::new(0);
    WebSocket::new()
        .origins(Origins::Same)
        .limits(limits)
        .endpoint(move |_| Guest { number: guests.fetch_add(1, Ordering::Relaxed) + 1 })
}

/// One of those who talk to each other.
struct Guest {
    number: u64,
}

impl Endpoint for Guest {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        // There is one topic.
        let _ = socket.subscribe(LOBBY);
        self.say(socket, "is here");
    }

    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        if let Some(said) = message.as_text().map(str::trim).filter(|said| !said.is_empty()) {
            self.say(socket, said);
        }
    }
}

impl Guest {
    fn say(&self, socket: &mut Socket<'_>, what: &str) {
        let guests = socket.subscribers(LOBBY);
        let said = serde_json::json!({ "guest": self.number, "said": what, "guests": guests });
        socket.publish_to_all(LOBBY, said.to_string());
    }
}
