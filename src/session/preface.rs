//! The state of a session before HTTP, on a listener whose connections begin with a PROXY protocol
//! header.
//!
//! ```text
//!   Expecting ──header whole──► Introduced ──admitted by the engine──► HTTP
//!       └──── faulty, late ────────┴──── too many of its client ──► over
//! ```
//!
//! A header that lies whole in its buffer is read there; one that is cut is put together in a place of
//! its own, which is bounded by the longest header. What lies behind it stays where it was received.

use super::{InputEnd, Port, Session, State};
use crate::buffer::Lease;
use crate::config::{NEVER, ProxyProtocol};
use crate::counters::Counter;
use crate::preface::{Found, Header, HeaderError, LINE_BYTES_MAX, read_header};

/// A connection whose header is to come, or has come and is not answered for yet.
pub(super) struct Preface {
    protocol: ProxyProtocol,
    listener: u16,
    /// The beginning of a header that did not come in one piece.
    assembly: Vec<u8>,
    is_introduced: bool,
}

/// What a piece of what was received brought.
enum Taken {
    /// Not all of the header.
    Part,
    /// The rest of it, and what lies behind.
    Whole { header: Header, rest: Lease },
}

impl Preface {
    pub(super) fn expecting(protocol: ProxyProtocol, listener: u16) -> Box<Preface> {
        Box::new(Preface { protocol, listener, assembly: Vec::new(), is_introduced: false })
    }

    /// Its listener.
    pub(super) fn listener(&self) -> u16 {
        self.listener
    }

    /// Its listener, until it is introduced.
    pub(super) fn expecting_on(&self) -> Option<u16> {
        (!self.is_introduced).then_some(self.listener)
    }

    /// Uses a piece for the header. `assembled` is told how much of it was copied, when it is whole.
    fn take(
        &mut self,
        mut bytes: Lease,
        bytes_max: usize,
        assembled: &Counter,
    ) -> Result<Taken, HeaderError> {
        let before = self.assembly.len();
        let found = if before == 0 {
            read_header(&bytes, self.protocol, bytes_max)?
        } else {
            // No header is longer than that: what lies far behind is not even copied.
            let room = bytes_max.max(LINE_BYTES_MAX).saturating_sub(before);
            self.assembly.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            read_header(&self.assembly, self.protocol, bytes_max)?
        };
        match found {
            Found::Part => {
                if before == 0 {
                    self.assembly.extend_from_slice(&bytes);
                }
                Ok(Taken::Part)
            }
            Found::Whole { len, header } => {
                if before > 0 {
                    assembled.add(len as u64);
                }
                bytes.advance(len.saturating_sub(before));
                self.assembly = Vec::new();
                self.is_introduced = true;
                Ok(Taken::Whole { header, rest: bytes })
            }
        }
    }
}

impl Session {
    /// Uses what was received for the header, as far as that goes. When it is whole, the engine is
    /// [told](super::Core::introduced), and has the last word about who is let in.
    // Once a connection, and on few of them: what the others share with it is not to grow by it.
    #[cold]
    pub(super) fn introduce(&mut self, port: &mut Port<'_>) {
        let bytes_max = port.core.limits.proxy_header_bytes_max as usize;
        while let State::Preface(preface) = &mut self.state
            && !preface.is_introduced
            && !self.control.is_closing
            && let Some(bytes) = self.input.pop()
        {
            let counters = &port.core.counters;
            match preface.take(bytes, bytes_max, &counters.bytes_assembled) {
                Ok(Taken::Part) => {}
                Ok(Taken::Whole { header, rest }) => {
                    counters.proxy_headers_read.raise();
                    if let Header::Client { source, .. } = header {
                        port.core.addresses.note(port.key, source);
                    }
                    if !rest.is_empty() {
                        self.input.push_front(rest);
                    }
                    self.control.deadline = NEVER;
                    port.core.introduced.push(port.key);
                }
                Err(fault) => {
                    match fault {
                        HeaderError::TooLarge => counters.proxy_headers_too_large.raise(),
                        _ => counters.proxy_headers_faulty.raise(),
                    }
                    self.abort();
                }
            }
        }
        if self.input_end != InputEnd::Open && self.expecting().is_some() {
            // Load balancers that look whether we listen end so: nobody is there to be answered.
            self.control.is_closing = true;
        }
        if self.control.is_closing {
            self.input.clear();
        }
    }

    /// The client of an introduced connection may have it: HTTP begins.
    pub fn admitted(&mut self, port: &mut Port<'_>) {
        if matches!(self.state, State::Preface(_)) {
            self.state = State::default();
            self.advance(port);
        }
    }

    /// §2.1: it is aborted, so that the sender notices.
    pub(super) fn abort(&mut self) {
        self.state = State::Over;
        self.control.is_reset = true;
        self.control.deadline = NEVER;
        self.input.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::config::Limits;
    use crate::http::{Request, Response, Status};
    use crate::resource::{Registry, Reply, Resource, from_head};
    use crate::session::scene::Scene;
    use crate::upgrade::{Handler, Io, Opening, Protocol};

    thread_local! {
        static FIRST_BYTES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes where what it gets lies.
    struct Watching;

    impl Handler for Watching {
        fn on_bytes(&mut self, bytes: Lease, _: &mut Io<'_>) {
            FIRST_BYTES.with_borrow_mut(|places| places.push(bytes.as_ptr().addr()));
        }
    }

    /// A connection that is to begin with a header; whoever asks is told who asks.
    fn scene(protocol: ProxyProtocol) -> Scene {
        let who = from_head(|request: &Request<'_>, reply: &mut Reply<'_>| {
            let client = request.client().map_or("nobody".to_owned(), |at| at.to_string());
            reply.send(&Response::text(Status::OK, client));
        });
        let watching = Protocol::callback("watching", |_: &Opening<'_>| Watching);
        let mut registry = Registry::default();
        registry.insert("/", Resource::new().get(who).upgrade(watching));
        let mut scene = Scene::serving(registry, Limits::default());
        scene.session = Session::preceded(protocol, 0, &scene.core);
        scene
    }

    /// As the engine does where there is no limit.
    fn admit(scene: &mut Scene) {
        while scene.core.introduced.pop().is_some() {
            scene.call(|session, port| session.admitted(port));
        }
    }

    fn receive(scene: &mut Scene, piece: &[u8]) {
        scene.receive(piece);
        admit(scene);
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Of version 2, with a vector of 300 bytes.
    fn binary() -> Vec<u8> {
        let fixed =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x01\x3b\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\0\x50";
        [&fixed[..], &[4, 1, 44], &[0; 300]].concat()
    }

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";

    #[test]
    fn however_a_header_is_cut_its_client_is_known_and_the_request_behind_it_answered() {
        for header in [LINE.to_vec(), binary()] {
            let all = [&header[..], GET].concat();
            for cut in 0..=all.len() {
                let mut scene = scene(ProxyProtocol::Any);
                for piece in [&all[..cut], &all[cut..]] {
                    receive(&mut scene, piece);
                }
                let sent = scene.sent();
                assert!(sent.ends_with("192.0.2.1:56324"), "cut at {cut}: {sent}");
                let is_cut = (1..header.len()).contains(&cut);
                let assembled = scene.counters.bytes_assembled.value();
                let head = if cut > header.len() && cut < all.len() { GET.len() } else { 0 };
                let expected = if is_cut { header.len() } else { head };
                assert_eq!(assembled, expected as u64, "cut at {cut}");
            }
            let mut scene = scene(ProxyProtocol::Any);
            all.iter().for_each(|byte| receive(&mut scene, &[*byte]));
            assert!(scene.sent().ends_with("192.0.2.1:56324"), "byte by byte");
        }
    }

    #[test]
    fn what_lies_behind_a_header_stays_where_it_was_received() {
        let switch =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: watching\r\n\r\n";
        let (header, early) = (binary(), b"early");
        let all = [&header[..], switch.as_bytes(), early].concat();
        for cut in [0, 1, 16, header.len() - 1, header.len()] {
            let mut scene = scene(ProxyProtocol::V2);
            receive(&mut scene, &all[..cut]);
            let lease = scene.pool.take().expect("a buffer").fill(&all[cut..]);
            let place = lease.as_ptr().addr() + all.len() - cut - early.len();
            scene.call(|session, port| session.received(lease, port));
            admit(&mut scene);
            assert_eq!(FIRST_BYTES.take(), [place], "cut at {cut}");
        }
    }

    #[test]
    fn a_connection_that_does_not_begin_so_is_aborted_without_a_word() {
        let long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0"[..], &[0; 400]].concat();
        for (bytes, faulty, too_large) in
            [(GET, 1, 0), (b"PROXY TCP4 a b 1 2\r\n", 1, 0), (&[0x16, 3, 1], 1, 0), (&long, 0, 1)]
        {
            for pieces in [vec![bytes], bytes.chunks(1).collect()] {
                let mut scene = scene(ProxyProtocol::Any);
                pieces.into_iter().for_each(|piece| receive(&mut scene, piece));
                assert!(scene.session.control().is_reset && scene.batch.is_none());
                let counters = &scene.counters;
                let counted = [
                    counters.proxy_headers_faulty.value(),
                    counters.proxy_headers_too_large.value(),
                ];
                assert_eq!(counted, [faulty, too_large], "{:?}", bytes.escape_ascii());
                assert_eq!(scene.pool.vacant(), scene.pool.count(), "its buffers are free");
            }
        }
    }

    #[test]
    fn a_header_that_is_late_costs_its_connection_however_it_trickles() {
        let mut scene = scene(ProxyProtocol::Any);
        scene.core.now = 9_000;
        receive(&mut scene, &LINE[..20]);
        assert_eq!(scene.expire(), 1_000, "from the beginning of the connection");
        assert!(scene.session.control().is_reset && scene.batch.is_none());
        assert_eq!(scene.counters.timeouts_heads.value(), 1);
    }

    #[test]
    fn behind_a_header_the_clock_is_that_of_any_connection() {
        let mut scene = scene(ProxyProtocol::Any);
        scene.core.now = 5_000;
        receive(&mut scene, LINE);
        assert_eq!(scene.expire(), 60_000);
        assert_eq!(scene.counters.timeouts_idle.value(), 1);
    }

    #[test]
    fn who_ends_before_the_header_has_come_is_let_go() {
        for bytes in [&b""[..], &LINE[..20]] {
            let mut scene = scene(ProxyProtocol::Any);
            receive(&mut scene, bytes);
            scene.call(|session, port| session.ended(port));
            assert!(scene.is_closing() && scene.batch.is_none());
            assert_eq!(scene.counters.proxy_headers_faulty.value(), 0);
        }
        let mut scene = scene(ProxyProtocol::Any);
        scene.receive([LINE, GET].concat());
        scene.call(|session, port| session.ended(port));
        admit(&mut scene);
        assert!(scene.sent().contains("200 OK"), "what was asked before the end is answered");
    }
}
