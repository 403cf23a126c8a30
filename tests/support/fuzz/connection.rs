//! A whole connection, from its first byte to its end: what comes out must not depend on how the
//! bytes that go in are cut, nor on when a handler decides, answers or goes on.

use upring::buffer::Lease;
use upring::config::Limits;
use upring::http::{Method, Request, Response, Status, Trailers};
use upring::protocols::echo::{self, Echo};
use upring::resource::{Registry, Reply, Resource, StreamIo, Streaming, from_head, streamed};
use upring::upgrade::{Decision, Handler, Io, Opening, Protocol};
use upring::websocket::{Endpoint, Message, Socket, WebSocket};

use super::conversation::{Conversation, Later, converse, later, without};

/// Resources with protocols that forbid early data.
const GUARDED: [&[u8]; 2] = [b"/strict", b"/ws"];

/// Any bytes: the same answers and the same end in every manner, and no panic.
pub(crate) fn connection(bytes: &[u8]) {
    let names = |path: &[u8]| bytes.windows(path.len()).any(|window| window == path);
    if GUARDED.into_iter().any(names) {
        converse(bytes, serve, up_to_a_refusal);
    } else {
        converse(bytes, serve, PartialEq::eq);
    }
}

/// U-25: who forbids early data and does not switch closes the connection if some has come, and what
/// has come is a matter of time. Up to there, and but for that close, nothing may differ.
fn up_to_a_refusal(one: &Conversation, other: &Conversation) -> bool {
    if one == other {
        return true;
    }
    let without_close = |conversation: &Conversation| {
        let output = without(&conversation.output, b"Connection: close\r\n");
        without(&output, b", close")
    };
    let (one_said, other_said) = (without_close(one), without_close(other));
    (one.is_closing && other_said.starts_with(&one_said))
        || (other.is_closing && one_said.starts_with(&other_said))
}

fn serve() -> (Registry, Limits) {
    let limits = Limits {
        head_bytes_max: 300,
        target_bytes_max: 60,
        fields_max: 6,
        content_bytes_max: 40,
        requests_per_turn: 2,
        outbox_bytes_high: 400,
        unread_bytes_max: 20,
        chunk_extension_bytes_max: 10,
        trailer_bytes_max: 12,
        requests_per_connection_max: 9,
        leases_max: 4,
        ..Limits::default()
    };
    (registry(), limits)
}

fn registry() -> Registry {
    let resource = Resource::new()
        .get(greets)
        .on(Method::Post, greets)
        .upgrade(echo::protocol())
        .upgrade(Protocol::new("no", |_: &Opening<'_>| declined()))
        .upgrade(Protocol::callback("post", |_| Echo).methods(&[Method::Post]).content_bytes_max(9))
        .upgrade(put_off("later", || Decision::switch(Echo)))
        .upgrade(put_off("later-no", declined))
        .upgrade(Protocol::callback("pause", |_| Pausing));
    let strict = Resource::new()
        .get(greets)
        .post(greets)
        .upgrade(Protocol::callback("strict", |_| Echo).forbid_early_data())
        .upgrade(put_off("strict-no", declined).forbid_early_data());
    let counts = streamed(|_: &Request<'_>, reply: &mut Reply<'_>| reply.stream(Counts(0)));
    let refuses = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::new(Status::GONE));
    });
    let streams = Resource::new().get(counts.clone()).post(counts).on(Method::Put, refuses);
    let mut registry = Registry::default();
    registry.insert("/s", streams.content_bytes_max(30));
    registry.insert("/l", Resource::new().get(answers_later).post(from_head(refuses_later)));
    registry.insert("/", resource.clone().advertise());
    registry.insert("/only", resource.upgrade_required());
    registry.insert("/strict", strict);
    registry
        .insert("/ws", Resource::new().get(greets).upgrade(WebSocket::new().endpoint(|_| Says)));
    registry.connect(Protocol::new("tunnel", connects));
    registry
}

fn declined() -> Decision {
    Decision::Answer(Response::text(Status::FORBIDDEN, "No.\n"))
}

fn greets(_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>) {
    reply.send(&Response::text(Status::OK, format!("{} bytes\n", content.len())));
}

fn answers_later(_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>) {
    let response = Response::text(Status::OK, format!("{} bytes, later\n", content.len()));
    later(Later::Answer(reply.later(), response));
}

/// Leaves the content unread.
fn refuses_later(_: &Request<'_>, reply: &mut Reply<'_>) {
    later(Later::Answer(reply.later(), Response::new(Status::GONE)));
}

/// A protocol that is decided on later.
fn put_off(name: &str, decision: fn() -> Decision) -> Protocol {
    Protocol::new(name, move |opening: &Opening<'_>| decided_later(opening, decision()))
}

fn decided_later(opening: &Opening<'_>, decision: Decision) -> Decision {
    let (promise, awaited) = opening.later();
    later(Later::Decision(promise, decision));
    awaited
}

fn connects(opening: &Opening<'_>) -> Decision {
    match opening.request().target() {
        b"a:1" => Decision::switch(Echo),
        b"b:1" => decided_later(opening, Decision::switch(Pausing)),
        b"c:1" => decided_later(opening, declined()),
        _ => declined(),
    }
}

/// Returns every byte, a few at a time, and takes no more before it was woken.
struct Pausing;

impl Handler for Pausing {
    fn on_bytes(&mut self, mut bytes: Lease, io: &mut Io<'_>) {
        io.send(bytes.split_to(bytes.len().min(7)));
        io.pause();
        if !bytes.is_empty() {
            io.put_back(bytes);
        }
        later(Later::Wake(io.waker()));
    }

    fn on_end(&mut self, io: &mut Io<'_>) {
        io.end();
    }

    fn on_wake(&mut self, io: &mut Io<'_>) {
        io.resume();
    }
}

/// Takes content piece by piece, each when it was woken, and says how much it was and what came
/// behind it.
struct Counts(usize);

impl Streaming for Counts {
    fn on_content(&mut self, bytes: Lease, io: &mut StreamIo<'_>) {
        self.0 += bytes.len();
        io.pause();
        later(Later::Wake(io.waker()));
    }

    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        io.resume();
    }

    fn on_content_end(&mut self, trailers: &Trailers, io: &mut StreamIo<'_>) {
        let text = format!("{} bytes, {} trailers\n", self.0, trailers.iter().count());
        io.start(&Response::new(Status::OK), Some(text.len() as u64));
        io.send(text);
        io.finish();
    }
}

/// Sends messages back.
struct Says;

impl Endpoint for Says {
    fn on_message(&mut self, message: Message, socket: &mut Socket<'_>) {
        socket.send(message);
    }
}
