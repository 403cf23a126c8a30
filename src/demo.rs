//! What the binary has beside the handlers that ship: a page to try things with, and what it tries.
//! Its default configuration serves all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use upring::http::{Request, Response, Status};
use upring::resource::returning;
use upring::site::{Catalog, websocket};
use upring::websocket::{Close, Endpoint, Message, Socket, Topics};

/// What is served when nothing is configured.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

/// Bytes of one message to everybody.
const CHAT_BYTES_MAX: usize = 500;

/// The one topic of the chat.
const LOBBY: &str = "lobby";

/// All that a configuration file can name. What it has of state, such as the guests of the chat, lives
/// as long as this: a reload changes nothing of it.
pub(crate) fn catalog() -> Catalog {
    let (guests, topics) = (Arc::new(AtomicU64::new(0)), Topics::default());
    let page = Response::new(Status::OK).with_body(include_bytes!("page.html"));
    let page = page.with_field("Content-Type", "text/html; charset=utf-8").expect("a valid value");
    let page = page.to_ready();
    Catalog::with_own()
        .handler("try-page", "a page that tries /ws and /chat", move |resource| {
            resource.get(page.clone())
        })
        .handler("count-content", "POST: how many bytes came", |resource| {
            resource.post(returning(count))
        })
        .upgrade("websocket-chat", "WebSocket: everybody gets every message", move |options| {
            let service = websocket::service(options, |limits| {
                limits.message_bytes_max = CHAT_BYTES_MAX;
            });
            let (guests, topics) = (Arc::clone(&guests), topics.clone());
            let service = service.topics(&topics);
            Ok(service.endpoint(move |_| {
                let number = guests.fetch_add(1, Ordering::Relaxed) + 1;
                Guest { number, topics: topics.clone() }
            }))
        })
}

fn count(_: &Request<'_>, content: &[u8]) -> String {
    format!("{} bytes\n", content.len())
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
