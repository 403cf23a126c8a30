//! A whole connection, from its first byte to its end, on a session without a kernel: what comes
//! out must not depend on how the bytes that go in are cut.

use upring::buffer::{Batch, Lease, Load, Pool};
use upring::config::Limits;
use upring::http::{CONTINUE, Method, Request, Response, Status, Trailers};
use upring::protocols::echo::{self, Echo};
use upring::resource::{Registry, Reply, Resource, StreamIo, Streaming, from_head, streamed};
use upring::session::{Core, Port, Session};
use upring::upgrade::{Decision, Opening, Protocol};

const BUFFER_BYTES: u32 = 64 * 1024;

/// Any bytes, whole, byte by byte or cut as they say themselves: the same answers, the same end,
/// and no panic.
pub(crate) fn connection(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(BUFFER_BYTES as usize)];
    let whole = converse(bytes, |left| left);
    let single = converse(bytes, |_| 1);
    assert!(whole == single, "byte by byte\n{}", difference(&whole, &single));
    let mut state =
        bytes.iter().fold(1_u64, |state, byte| state.wrapping_mul(31) + u64::from(*byte));
    let cut = converse(bytes, |left| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        left.min(1 + (state >> 33) as usize % if state & 1 << 20 == 0 { 4 } else { 60 })
    });
    assert!(whole == cut, "in pieces\n{}", difference(&whole, &cut));
}

#[derive(Debug, PartialEq, Eq)]
struct Conversation {
    output: Vec<u8>,
    is_switched: bool,
    is_closing: bool,
    is_ended: bool,
}

fn difference(left: &Conversation, right: &Conversation) -> String {
    let text = |conversation: &Conversation| {
        let Conversation { output, is_switched, is_closing, is_ended } = conversation;
        format!(
            "{} switched {is_switched} closing {is_closing} ended {is_ended}",
            output.escape_ascii()
        )
    };
    format!("{}\n{}", text(left), text(right))
}

/// Says `bytes` in pieces of the lengths that `cut` gives, then ends; what was answered.
fn converse(bytes: &[u8], mut cut: impl FnMut(usize) -> usize) -> Conversation {
    let pool = Pool::new(4, BUFFER_BYTES);
    let mut core = Core::new(registry(), limits(), Default::default(), 0);
    let mut session = Session::open(&core);
    let (mut output, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() && !is_over(&session) {
        let (piece, behind) = rest.split_at(cut(rest.len()));
        rest = behind;
        let lease = pool.take().expect("a session keeps no more than it was given").fill(piece);
        drive(&mut session, &mut core, &mut output, |session, port| session.received(lease, port));
    }
    if !is_over(&session) {
        drive(&mut session, &mut core, &mut output, Session::ended);
    }
    let control = session.control();
    let conversation = Conversation {
        output: without_interim(&output),
        is_switched: session.is_switched(),
        is_closing: control.is_closing,
        is_ended: control.is_ended,
    };
    session.close(upring::upgrade::CloseReason::Finished, &mut core);
    assert_eq!(pool.vacant(), pool.count(), "every buffer comes back");
    conversation
}

fn is_over(session: &Session) -> bool {
    session.control().is_closing || session.control().is_reset
}

/// One event, and all that follows from it when the peer reads at once.
fn drive(
    session: &mut Session,
    core: &mut Core,
    output: &mut Vec<u8>,
    event: impl FnOnce(&mut Session, &mut Port<'_>),
) {
    let mut batch: Option<Box<Batch>> = None;
    core.begin_turn(core.now);
    event(session, &mut Port { core, batch: &mut batch, in_flight: Load::default(), key: 1 });
    loop {
        let sent = batch.take().filter(|batch| !batch.is_empty());
        if let Some(sent) = &sent {
            sent.slices().for_each(|slice| output.extend_from_slice(slice));
        }
        core.begin_turn(core.now);
        let mut port = Port { core, batch: &mut batch, in_flight: Load::default(), key: 1 };
        match sent {
            Some(_) => session.sent(&mut port),
            None if session.has_more() => session.go_on(&mut port),
            None => return,
        }
    }
}

/// Whether a client waits for the 100 is a matter of time: what it has sent already it need not be
/// asked for.
fn without_interim(output: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = output;
    while let Some(at) = rest.windows(CONTINUE.len()).position(|window| window == CONTINUE) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at + CONTINUE.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

fn limits() -> Limits {
    Limits {
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
        ..Limits::default()
    }
}

fn registry() -> Registry {
    let declines = |_: &Opening<'_>| Decision::Answer(Response::text(Status::FORBIDDEN, "No.\n"));
    let greets = |_: &Request<'_>, content: &[u8], reply: &mut Reply<'_>| {
        reply.send(&Response::text(Status::OK, format!("{} bytes\n", content.len())));
    };
    let resource = Resource::new()
        .get(greets)
        .on(Method::Post, greets)
        .upgrade(echo::protocol())
        .upgrade(Protocol::new("no", declines))
        .upgrade(
            Protocol::callback("post", |_| Echo).methods(&[Method::Post]).content_bytes_max(9),
        );
    let mut registry = Registry::default();
    let counts = streamed(|_: &Request<'_>, reply: &mut Reply<'_>| reply.stream(Counts(0)));
    let refuses = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
        reply.send(&Response::new(Status::GONE));
    });
    let streams = Resource::new().get(counts.clone()).post(counts).on(Method::Put, refuses);
    registry.insert("/s", streams.content_bytes_max(30));
    registry.insert("/", resource.clone().advertise());
    registry.insert("/only", resource.upgrade_required());
    registry
}

/// Takes content piece by piece and says how much it was and what came behind it.
struct Counts(usize);

impl Streaming for Counts {
    fn on_content(&mut self, bytes: Lease, _: &mut StreamIo<'_>) {
        self.0 += bytes.len();
    }

    fn on_content_end(&mut self, trailers: &Trailers, io: &mut StreamIo<'_>) {
        let text = format!("{} bytes, {} trailers\n", self.0, trailers.iter().count());
        io.start(&Response::new(Status::OK), Some(text.len() as u64));
        io.send(text);
        io.finish();
    }
}
