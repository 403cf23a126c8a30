//! What a session tells of its requests: to the access log, if there is one, and at debug level the
//! reason of every negotiation. Without either each costs a branch.
//!
//! The bytes of an answer are what the outbox has grown by while its request was looked at.

use super::exchange::Step;
use super::{Core, Port};
use crate::access::{Facts, Whose};
use crate::config::Millis;
use crate::counters::TokenSlot;
use crate::http::{Method, Request};

/// What filters call the reasons of negotiations.
const NEGOTIATION: &str = "upring::negotiation";

/// Bytes of an offer that are shown.
const OFFER_BYTES_MAX: usize = 1024;

impl Port<'_> {
    /// What waits to be sent now, if there is a log: what comes of the request that is looked at from
    /// here on is told by [`Port::log_begun`], [`Port::log_gone_on`] or [`Port::log_faulty`].
    #[inline]
    pub(super) fn log_mark(&mut self) -> Option<usize> {
        self.core.access.as_ref()?;
        Some(self.outbox().queued().bytes)
    }

    /// A request was looked at for the first time.
    #[inline(never)]
    pub(super) fn log_begun(&mut self, mark: usize, request: Request<'_>, step: &Step) {
        let (key, queued, whose) = (self.key, self.outbox().queued().bytes, self.whose());
        let owed = self.owed();
        let Core { access: Some(access), counters, .. } = &mut *self.core else { return };
        let (noted, facts) = (access.take_noted(), Facts::of(request, access.format()));
        let bytes = queued.saturating_sub(mark) as u64;
        if noted.status.is_some() {
            access.write(&facts, whose, noted, bytes, counters);
        } else if matches!(step, Step::Begun(_) | Step::Waiting(_)) {
            access.keep(&facts, key, noted, bytes);
        }
        if matches!(step, Step::Switched(..)) {
            access.open(key, request.target());
            access.owe(key, owed);
        }
    }

    /// A request that waits was looked at again; `step` is what became of it, or nothing if it goes on
    /// waiting for what it did.
    #[inline(never)]
    pub(super) fn log_gone_on(&mut self, mark: usize, step: Option<&Step>) {
        let (key, queued, whose) = (self.key, self.outbox().queued().bytes, self.whose());
        let owed = self.owed();
        let Core { access: Some(access), counters, .. } = &mut *self.core else { return };
        let bytes = queued.saturating_sub(mark) as u64;
        let is_waiting = matches!(step, None | Some(Step::Begun(_) | Step::Waiting(_)));
        access.go_on(whose, bytes, is_waiting, counters);
        if matches!(step, Some(Step::Switched(..))) {
            access.owe(key, owed);
        }
    }

    /// A request was refused for its head.
    #[inline(never)]
    pub(super) fn log_faulty(&mut self, mark: usize) {
        let (queued, whose) = (self.outbox().queued().bytes, self.whose());
        let secured = self.secured.map(|secured| &**secured);
        let Core { access: Some(access), counters, .. } = &mut *self.core else { return };
        access.write_faulty(whose, secured, queued.saturating_sub(mark) as u64, counters);
    }

    /// What waits to be sent and was not counted as sent: of TLS what was sealed was.
    fn owed(&mut self) -> u64 {
        let sealed = if self.secured.is_some() { self.in_flight.bytes } else { 0 };
        self.outbox().queued().bytes.saturating_sub(sealed) as u64
    }

    fn whose(&self) -> Whose {
        let Core { addresses, now, times, .. } = &*self.core;
        Whose { key: self.key, client: addresses.of(self.key), now: *now, since: times.since() }
    }
}

impl Core {
    /// A switched connection is over.
    #[inline]
    pub(super) fn log_end(&mut self, key: u64, token: TokenSlot, since: Millis, reason: &str) {
        let Core { access: Some(access), addresses, counters, now, .. } = self else { return };
        let whose = Whose { key, client: addresses.of(key), now: *now, since: 0 };
        access.end(whose, now.saturating_sub(since), token, reason, counters);
    }
}

/// Says why an offer had its result.
#[inline]
pub(super) fn explain(request: Request<'_>, registered: &str, result: &str) {
    if tracing::enabled!(target: NEGOTIATION, tracing::Level::DEBUG) {
        say(request, registered, result);
    }
}

#[cold]
fn say(request: Request<'_>, registered: &str, result: &str) {
    let mut offered = match request.method() {
        Method::Connect => [b"CONNECT ", request.target()].concat(),
        _ => request.fields_named("upgrade").collect::<Vec<_>>().join(&b", "[..]),
    };
    let is_cut = offered.len() > OFFER_BYTES_MAX;
    offered.truncate(OFFER_BYTES_MAX);
    let (offered, more) = (offered.escape_ascii(), if is_cut { "..." } else { "" });
    let registered = if registered.is_empty() { "nothing" } else { registered };
    tracing::debug!(
        target: NEGOTIATION,
        "offered {offered}{more}; registered {registered}; result {result}"
    );
}
