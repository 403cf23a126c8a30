//! A PROXY protocol header: what is found of it is the same however it is cut, and what lies behind it is
//! the connection's, byte for byte.

use std::sync::Arc;

use upring::buffer::{Load, Pool};
use upring::config::{Limits, ProxyProtocol};
use upring::counters::Counters;
use upring::preface::{Found, Header, read_header};
use upring::resource::Registry;
use upring::session::{Core, Port, Session};

const BYTES_MAX: u32 = 536;

/// Bytes at the beginning of a connection on a listener that takes headers; the first one says of which
/// version.
pub(crate) fn preface(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let protocol = match first % 3 {
        0 => ProxyProtocol::V1,
        1 => ProxyProtocol::V2,
        _ => ProxyProtocol::Any,
    };
    let read = |len: usize| read_header(&bytes[..len], protocol, BYTES_MAX as usize);
    let whole = read(bytes.len());
    // No header, and no fault of one, is further behind.
    let bound = bytes.len().min(BYTES_MAX as usize + 1);
    for len in 0..=bound {
        match (read(len), whole) {
            (Ok(Found::Part), Ok(Found::Whole { len: end, .. })) => assert!(len < end),
            (Ok(Found::Part), _) => assert!(len < BYTES_MAX as usize),
            (found, whole) => assert_eq!(found, whole, "at {len}"),
        }
    }
    if let Ok(Found::Whole { len, .. }) = whole {
        assert!(len > 0 && len <= bytes.len() && len <= BYTES_MAX as usize);
    }
    let unread = bytes.len().saturating_sub(match whole {
        Ok(Found::Whole { len, .. }) => len,
        _ => bytes.len(),
    });
    for piece_max in [usize::MAX, 1, 1 + usize::from(first / 3)] {
        introduce(bytes, piece_max, protocol, whole.ok(), unread);
    }
}

/// The same of a session that gets the bytes in pieces.
fn introduce(
    bytes: &[u8],
    piece_max: usize,
    protocol: ProxyProtocol,
    found: Option<Found>,
    unread: usize,
) {
    let (counters, limits) = (Arc::<Counters>::default(), Limits::default());
    let mut core = Core::new(Registry::default(), limits, Arc::clone(&counters), 0);
    let mut session = Session::preceded(protocol, 0, &core);
    let (pool, mut batch) = (Pool::new(1024, 4096), None);
    for piece in bytes.chunks(piece_max.min(4096)).take(1000) {
        let lease = pool.take().expect("a buffer for each").fill(piece);
        let core = &mut core;
        let mut port = Port {
            core,
            batch: &mut batch,
            in_flight: Load::default(),
            key: 1,
            secured: None,
            is_securable: false,
        };
        session.received(lease, &mut port);
        let is_reset = session.control().is_reset;
        assert_eq!(is_reset, counters.proxy_headers_faulty.value() + large(&counters) == 1);
        if is_reset {
            break;
        }
    }
    assert!(batch.is_none(), "nothing is said before HTTP");
    let is_seen_whole = bytes.len() <= 1000 || piece_max > 1000;
    if is_seen_whole {
        assert_eq!(session.control().is_reset, found.is_none());
    }
    if let Some(Found::Whole { header, .. }) = found
        && is_seen_whole
    {
        assert_eq!(core.introduced, [1], "once");
        let client = match header {
            Header::Peer => None,
            Header::Client { source, .. } => Some((source.ip().to_canonical(), source.port())),
        };
        assert_eq!(core.addresses.of(1).map(|at| (at.ip(), at.port())), client);
        assert_eq!(session.unread() > 0, unread > 0);
    }
}

fn large(counters: &Counters) -> u64 {
    counters.proxy_headers_too_large.value()
}
