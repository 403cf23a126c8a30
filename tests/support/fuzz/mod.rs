//! What fuzzing holds the parsers and a whole connection to, as functions of arbitrary bytes that
//! panic at the first thing that is wrong. `fuzz/` calls them with what libFuzzer finds,
//! `tests/fuzz_bodies.rs` with seeded bytes.

mod connection;
mod conversation;
#[path = "../inside_tls.rs"]
mod inside_tls;
mod preface;
mod tls;
mod websocket;

pub(crate) use connection::connection;
pub(crate) use preface::preface;
pub(crate) use tls::tls;
pub(crate) use websocket::websocket;

use upring::http::{
    ChunkError, ChunkStep, Chunked, Field, Head, HeadLimits, Method, Request, Version, framing,
    read_head, read_whole_head,
};
use upring::protocols::echo;
use upring::resource::{Registry, Resource};
use upring::scan::{Scanned, head_end, head_end_across};
use upring::upgrade::{Decision, Offer, Opening, Outcome, Protocol};

/// A head longer than this is cut at every so-manieth place, so that the work stays bounded.
const CUTS_MAX: usize = 256;

/// A head: its end is where a person would look for it, however it is cut; every view of it lies
/// inside it; both our readers and httparse agree about it.
pub(crate) fn head(bytes: &[u8]) {
    let scanned = head_end(bytes, 0);
    assert_eq!(scanned, head_end_by_eye(bytes), "{:?}", bytes.escape_ascii());
    scan_in_pieces(bytes, scanned);
    let Scanned::Complete(len) = scanned else {
        assert!(in_one_pass(bytes).is_none(), "a head that has no end");
        return;
    };
    let mut fields = Vec::new();
    let Ok(head) = read_head(&bytes[..len], &mut fields, &HeadLimits::default()) else {
        assert!(in_one_pass(bytes).is_none(), "a head that is refused");
        return;
    };
    look_at(&bytes[..len], &head, &fields);
    compare_with_httparse(&bytes[..len], &head, &fields);
    if let Some(found) = in_one_pass(bytes) {
        assert_eq!(found, (head, len, fields), "two readers, two heads");
    }
}

/// The same end, cut anywhere and byte by byte.
fn scan_in_pieces(bytes: &[u8], scanned: Scanned) {
    let end = match scanned {
        Scanned::Complete(len) => len,
        Scanned::BareLf(at) => at + 1,
        Scanned::Partial => bytes.len(),
    };
    // Where the places lie depends on the length: other inputs are cut at others.
    for cut in (0..end).step_by(1 + end / CUTS_MAX) {
        let (before, behind) = bytes.split_at(cut);
        let (resumed, across) = (head_end(bytes, cut), head_end_across(before, behind));
        assert_eq!((resumed, moved(across, cut)), (scanned, scanned), "cut at {cut}");
    }
    let mut found = Scanned::Partial;
    for (at, byte) in bytes.iter().enumerate() {
        found = moved(head_end_across(&bytes[..at], &[*byte]), at);
        if found != Scanned::Partial {
            break;
        }
    }
    assert_eq!(found, scanned, "byte by byte");
}

fn in_one_pass(bytes: &[u8]) -> Option<(Head, usize, Vec<Field>)> {
    let (mut head, mut fields) = (Head::EMPTY, Vec::new());
    let len = read_whole_head(bytes, &mut head, &mut fields, &HeadLimits::default())?;
    Some((head, len, fields))
}

/// What both take, both read alike.
fn compare_with_httparse(bytes: &[u8], head: &Head, fields: &[Field]) {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(parsed) => assert_eq!(parsed, httparse::Status::Complete(bytes.len())),
        // The only thing it refuses that we take (RFC 9112 §2.3).
        Err(error) => return assert_eq!(error, httparse::Error::Version),
    }
    let method = head.method_span.of(bytes);
    let target = head.target.of(bytes);
    assert_eq!(request.method.map(str::as_bytes), Some(method));
    assert_eq!(request.path.map(str::as_bytes), Some(target));
    assert_eq!(request.version, Some(u8::from(head.version == Version::Http11)));
    let theirs = request.headers.iter().map(|header| (header.name.as_bytes(), header.value));
    let ours = fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
    assert!(theirs.eq(ours), "{}", bytes.escape_ascii());
}

fn head_end_by_eye(bytes: &[u8]) -> Scanned {
    for at in 0..bytes.len() {
        match (bytes[at], &bytes[..at]) {
            (b'\n', [.., b'\r', b'\n', b'\r']) => return Scanned::Complete(at + 1),
            (b'\n', [.., b'\r']) => {}
            (b'\n', _) => return Scanned::BareLf(at),
            _ => {}
        }
    }
    Scanned::Partial
}

fn moved(scanned: Scanned, by: usize) -> Scanned {
    match scanned {
        Scanned::Complete(len) => Scanned::Complete(len + by),
        Scanned::BareLf(at) => Scanned::BareLf(at + by),
        Scanned::Partial => Scanned::Partial,
    }
}

fn look_at(bytes: &[u8], head: &Head, fields: &[Field]) {
    let request = Request::new(bytes, head, fields);
    for (name, value) in request.fields() {
        assert!(!name.is_empty() && !name.contains(&b':'), "{name:?}");
        let is_clean = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
        assert!(value.iter().all(is_clean), "a control byte in {:?}", value.escape_ascii());
    }
    assert!(request.target().iter().all(u8::is_ascii_graphic));
    let _ = (request.path(), request.query(), request.host(), request.method_name());
    let owned = request.into_owned();
    assert_eq!(owned.view().target(), request.target());
    assert_eq!(framing(head), framing(owned.view().head()));
}

/// A chunked content: the same data, end and fault, however it is cut.
pub(crate) fn chunked(bytes: &[u8]) {
    let whole = decode(bytes, usize::MAX);
    assert_eq!(whole, decode(bytes, 1), "byte by byte");
    let cut = bytes.first().map_or(2, |first| 2 + usize::from(*first % 16));
    assert_eq!(whole, decode(bytes, cut), "in pieces of {cut}");
    assert!(whole.0.len() <= bytes.len());
}

/// Data, the trailer section, and where the content ends, if it does.
type Decoded = (Vec<u8>, Vec<u8>, Result<Option<usize>, ChunkError>);

fn decode(bytes: &[u8], piece_max: usize) -> Decoded {
    let (mut decoder, mut data, mut at) = (Chunked::default(), Vec::new(), 0);
    let mut trailer = Vec::new();
    while at < bytes.len() {
        let piece = &bytes[at..bytes.len().min(at.saturating_add(piece_max))];
        match decoder.step(piece) {
            // A trailer section that is refused is nobody's: how much of it was seen is no matter.
            Err(fault) => return (data, Vec::new(), Err(fault)),
            Ok(ChunkStep::Done { consumed }) => return (data, trailer, Ok(Some(at + consumed))),
            Ok(ChunkStep::More { consumed }) => at += consumed,
            Ok(ChunkStep::Trailer { consumed, len }) => {
                assert!(len > 0 && consumed + len <= piece.len());
                trailer.extend_from_slice(&piece[consumed..consumed + len]);
                at += consumed + len;
            }
            Ok(ChunkStep::Data { consumed, len }) => {
                assert!(len > 0 && consumed + len <= piece.len());
                data.extend_from_slice(&piece[consumed..consumed + len]);
                at += consumed + len;
            }
        }
    }
    (data, trailer, Ok(decoder.is_done().then_some(at)))
}

/// An Upgrade field of these bytes: what is chosen was offered and is registered, whoever's order
/// decides.
pub(crate) fn negotiation(bytes: &[u8]) {
    let value: Vec<u8> = bytes.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    let head =
        [b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: ", &value[..], b"\r\n\r\n"];
    let (bytes, mut fields) = (head.concat(), Vec::new());
    let Ok(head) = read_head(&bytes, &mut fields, &HeadLimits::default()) else { return };
    let Ok(offer) = Offer::read(&Request::new(&bytes, &head, &fields)) else { return };
    assert!(!offer.members().is_empty());
    let registry = protocols();
    let chosen = ["/server", "/client"].map(|path| {
        let resource = &registry.find(None, path.as_bytes()).expect("it was inserted").resource;
        match resource.negotiate(&offer, Method::Get) {
            Outcome::Chosen { protocol, version } => {
                let is_offered =
                    |name: &[u8]| name.eq_ignore_ascii_case(protocol.name().as_bytes());
                let mut members = offer.members().iter();
                assert!(members.any(|member| is_offered(member.name) && member.version == version));
                assert!(is_decided(&resource.negotiate(&offer, Method::Get)), "it is a function");
                "chosen"
            }
            Outcome::Unknown => "unknown",
            Outcome::Unfit => "unfit",
        }
    });
    assert_eq!(chosen[0], chosen[1], "the order decides which, not whether");
}

fn is_decided(outcome: &Outcome<'_>) -> bool {
    matches!(outcome, Outcome::Chosen { .. })
}

fn protocols() -> Registry {
    let never = |_: &Opening<'_>| -> Decision { unreachable!("nothing is opened here") };
    let resource = Resource::new()
        .upgrade(echo::protocol())
        .upgrade(Protocol::new("chat", never).version("13"))
        .upgrade(Protocol::new("chat", never).any_version())
        .upgrade(Protocol::new("posted", never).methods(&[Method::Post]));
    let mut registry = Registry::default();
    registry.insert("/server", resource.clone());
    registry.insert("/client", resource.prefer_client());
    registry
}
