//! A chat on one screen. A room is a topic: whoever is in it hears everybody in it, on whatever core
//! they are. `/rooms/{room}?name=NAME` is the way in.

use upring::websocket::{
    Close, CloseCode, Endpoint, Message, Socket, TopicLimits, Topics, WebSocket, WebSocketLimits,
};
use upring::{Config, Decision, Opening, Resource, Response, Server, Status};

/// Whatever a guest can make grow has a bound.
const ROOMS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 20;
const MESSAGE_BYTES_MAX: usize = 1000;

/// One connection: a plain value.
struct Guest {
    name: String,
    room: String,
    topics: Topics,
}

impl Endpoint for Guest {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        if socket.subscribe(&self.room).is_err() {
            return socket.close(CloseCode::TRY_AGAIN_LATER, "there are too many rooms");
        }
        let others = socket.subscribers(&self.room) - 1;
        socket.send(format!("welcome, {}; {others} others are here", self.name));
        // To all but this connection.
        socket.publish(&self.room, format!("{} comes in", self.name));
    }

    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        match message.as_text().map(str::trim) {
            Some("") => {}
            Some("/leave") => socket.close(CloseCode::NORMAL, "come again"),
            Some(said) => socket.publish_to_all(&self.room, format!("{}: {said}", self.name)),
            None => socket.close(CloseCode::UNSUPPORTED, "this is a chat: text, please"),
        }
    }

    /// A guest who reads slowly holds up nobody.
    fn on_missed(&mut self, _: &str, count: u64, socket: &mut Socket<'_>) {
        socket.send(format!("you read too slowly and have missed {count} messages"));
    }

    /// However it ended. There is no socket any more; anybody may publish by the topics themselves.
    fn on_close(&mut self, _: &Close) {
        self.topics.publish(&self.room, format!("{} leaves", self.name));
    }
}

/// The name a guest asks for, if it is one.
fn name(opening: &Opening<'_>) -> Option<String> {
    let (_, name) = opening.request().query_pairs().find(|(key, _)| key == "name")?;
    let is_fine = (1..=NAME_CHARS_MAX).contains(&name.chars().count())
        && name.chars().all(char::is_alphanumeric);
    is_fine.then(|| name.into_owned())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let topics = Topics::new(TopicLimits { topics_max: ROOMS_MAX, ..TopicLimits::default() });
    let limits =
        WebSocketLimits { message_bytes_max: MESSAGE_BYTES_MAX, ..WebSocketLimits::default() };
    let chat = WebSocket::new().limits(limits).topics(&topics).decide(move |opening, handshake| {
        let room = opening.request().parameter("room").unwrap_or_default();
        let room = String::from_utf8_lossy(room).into_owned();
        match name(opening) {
            Some(name) => handshake.accept(Guest { name, room, topics: topics.clone() }).into(),
            // Still plain HTTP.
            None => Decision::Answer(Response::text(Status::BAD_REQUEST, "Who are you? ?name=\n")),
        }
    });
    let server = Server::new(Config::listening(listen))
        .route("/rooms/{room}", Resource::new().upgrade(chat).upgrade_required())
        .start()?;
    let address = server.addresses()[0];
    println!("listening on {address}; try, in two terminals,");
    println!("  python3 -m websockets 'ws://{address}/rooms/kitchen?name=ada'");
    println!("  python3 -m websockets 'ws://{address}/rooms/kitchen?name=bob'");
    println!("and /leave to leave");
    Ok(server.join()?)
}
