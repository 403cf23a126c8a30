//! The switch to TLS on a connection in the clear (RFC 2817): off unless a listener asks for it, since who
//! can come between may join a client's https to a switch that it has begun itself (U-92).
//!
//! ```text
//!   request that offers TLS ──► 101 ──► handshake ──► the same request, read anew inside TLS ──► its answer
//! ```
//!
//! What lies behind the request belongs to the handshake, and is never read as a request (U-91): the
//! engine takes it away with the 101.

use super::{Port, Session, State};
use crate::buffer::{Lease, LeaseQueue};
use crate::http::{Fields, Framing, Request, Response, Status, framing, write_switching};
use crate::upgrade::Offer;

/// The token (RFC 2817 §3.1).
const TOKEN: &[u8] = b"TLS";

/// The stack from its bottom (RFC 2817 §3.3), behind the version that was offered.
const UPPER: &[u8] = b", HTTP/1.1";

/// What a client without TLS needs to be told where only TLS is spoken to: how to switch to it, if it can here
/// (RFC 2817 §4.2), or that this is not the connection for it.
#[cold]
#[expect(clippy::expect_used, reason = "no input: the names of two protocols")]
pub(super) fn in_the_clear(port: &Port<'_>) -> Response {
    if port.is_securable {
        let text = "This resource needs a switch to TLS, by Upgrade: TLS/1.2.\n";
        let stack = [TOKEN, b"/1.2", UPPER].concat();
        let response = Response::text(Status::UPGRADE_REQUIRED, text).with_upgrade(stack);
        return response.expect("tokens are no control bytes");
    }
    port.core.counters.requests_misdirected.raise();
    Response::text(Status::MISDIRECTED_REQUEST, "This resource is to be had by https only.\n")
}

/// Answers a request that offers TLS by the switch, if the connection can be secured; the request, which is
/// answered behind it.
pub(super) fn begin(bytes: &[u8], request: Request<'_>, port: &mut Port<'_>) -> Option<Lease> {
    if !port.is_securable || !request.head().has_upgrade {
        return None;
    }
    // U-26: content would have to come before the switch; the offer is ignored, as it may be.
    if framing(request.head()) != Ok(Framing::None) {
        return None;
    }
    let offer = Offer::read(&request).ok()?;
    let is_tls = |version: &[u8]| version.len() == 3 && version.starts_with(b"1.");
    let version = offer
        .members()
        .iter()
        .filter(|member| member.name.eq_ignore_ascii_case(TOKEN))
        .find_map(|member| member.version.filter(|version| is_tls(version)))?;
    let stack = [TOKEN, b"/", version, UPPER].concat();
    port.with_text(|text, _| write_switching(text, &stack, None, &Fields::new()));
    port.core.count_answer(Status::SWITCHING_PROTOCOLS);
    port.core.counters.tls_upgrades.raise();
    Some(Lease::copied(std::iter::once(bytes)))
}

impl Session {
    /// Whether its connection is to be secured now: the 101 that says so is the last that was written.
    pub(crate) fn is_securing(&self) -> bool {
        matches!(self.state, State::Securing(_))
    }

    /// The connection is inside TLS from here on: the request that asked for it is read anew.
    pub(crate) fn secured(&mut self, port: &mut Port<'_>) {
        if let State::Securing(request) = std::mem::take(&mut self.state) {
            self.input.push(request);
            self.advance(port);
        }
    }

    /// Gives up what was received and not used: it belongs to a layer beneath.
    pub(crate) fn take_input(&mut self) -> LeaseQueue {
        std::mem::take(&mut self.input)
    }
}
