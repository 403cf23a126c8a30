//! Connections with a layer between session and kernel: what comes up through it, a record at a time, and
//! what goes down. Connections in the clear have none of it.

use std::sync::Arc;

use super::connection::{Connection, Phase};
use crate::buffer::{Batch, Lease, LeaseQueue};
use crate::config::{Millis, NEVER};
use crate::counters::{Counters, HandshakeKind, NANOS_PER_MILLI};
use crate::http::{Response, Status};
use crate::ring::Manner;
use crate::session::{Core, Session};
use crate::tls::{Acceptor, Fault, Layer, Lent, Step};
use crate::upgrade::CloseReason;

/// What opening a record costs beside moving what it carries, in tenths of a microsecond.
const RECORD_COST: u32 = 3;

/// Bytes of a response that is no TLS, to a request that was none.
const PLAIN_HTTP: &str = "This port speaks TLS, and the request came without: use https://.\n";

impl Connection {
    /// From here on everything is inside TLS.
    pub(super) fn secure(&mut self, acceptor: &Acceptor, core: &Core) {
        let deadline = core.now.saturating_add(core.limits.tls_handshake_timeout_ms);
        core.counters.tls_handshakes_open.raise();
        // What a request may take counts from the end of the handshake.
        self.session = Session::default();
        self.layer = Some(Box::new(Layer::accept(acceptor, core.now, deadline)));
    }

    /// The same, behind a header that came first: what lies behind it is the handshake's.
    pub(super) fn secure_introduced(&mut self, acceptor: &Acceptor, core: &mut Core, key: u64) {
        let (early, is_ended) = (self.session.take_input(), self.session.is_input_ended());
        self.secure(acceptor, core);
        self.hand_down(early, is_ended);
        self.pump(core, key);
    }

    /// What was received in the clear, and counted there, belongs to the layer.
    fn hand_down(&mut self, mut early: LeaseQueue, is_ended: bool) {
        let Some(layer) = &mut self.layer else { return };
        while let Some(bytes) = early.pop() {
            layer.received(bytes);
        }
        if is_ended {
            layer.cut();
        }
    }

    /// It begins in the clear, and its client may ask for TLS (RFC 2817).
    pub(super) fn offer_tls(&mut self, acceptor: Arc<Acceptor>) {
        self.layer = Some(Box::new(Layer::offered(acceptor)));
    }

    /// The kernel has brought something.
    #[inline(always)]
    pub(super) fn take(&mut self, bytes: Lease, core: &mut Core, key: u64) {
        core.counters.bytes_received.add(bytes.len() as u64);
        match &mut self.layer {
            None => self.call_session(core, key, |session, port| session.received(bytes, port)),
            Some(layer) if layer.is_offered() => {
                self.call(core, key, |session, port| session.received(bytes, port));
            }
            Some(layer) => {
                layer.received(bytes);
                self.pump(core, key);
            }
        }
    }

    /// The kernel has brought the end of the peer's direction.
    pub(super) fn take_end(&mut self, core: &mut Core, key: u64) {
        match &mut self.layer {
            Some(layer) if !layer.is_offered() => {
                layer.cut();
                self.pump(core, key);
            }
            _ => self.call(core, key, |session, port| session.ended(port)),
        }
    }

    /// Begins what the session has said in a 101: what it has written leaves before the handshake, and what
    /// was received behind the request is the handshake's.
    #[cold]
    fn switch_to_tls(&mut self, core: &mut Core) {
        let Some(layer) = &mut self.layer else { return };
        let deadline = core.now.saturating_add(core.limits.tls_handshake_timeout_ms);
        let mut written = self.batch.take().unwrap_or_default();
        layer.begin(&written, core.now, deadline);
        core.counters.tls_handshakes_open.raise();
        written.advance(written.len());
        core.recycle(written);
        let (early, is_ended) = (self.session.take_input(), self.session.is_input_ended());
        self.hand_down(early, is_ended);
    }

    /// Gives the session what the layer has for it, as long as it uses it up.
    #[inline(never)]
    pub(super) fn pump(&mut self, core: &mut Core, key: u64) {
        if self.session.is_securing() && self.layer.as_ref().is_some_and(|layer| layer.is_offered())
        {
            self.switch_to_tls(core);
        }
        let begun = core.spent();
        while let Some(layer) = &mut self.layer
            && !layer.is_offered()
            && self.phase == Phase::Open
            && !self.session.is_behind()
        {
            if core.spent().saturating_sub(begun) >= core.cost_per_connection() {
                return layer.leave();
            }
            let is_handshaking = layer.is_handshaking();
            let was_due = layer.is_due();
            let step = layer.next(core.may_shake(), &core.counters);
            if was_due && !layer.is_due() {
                core.note_shaken();
            }
            if is_handshaking && !layer.is_handshaking() {
                core.counters.tls_handshakes_open.lower();
            }
            match step {
                Step::Waiting => return,
                Step::Bytes(bytes) => {
                    core.spend(RECORD_COST);
                    self.call_session(core, key, |session, port| session.received(bytes, port));
                }
                Step::Secured { accepted_at } => self.secured(accepted_at, core, key),
                Step::Ended => self.call_session(core, key, |session, port| session.ended(port)),
                Step::Truncated => self.truncated(core, key),
                Step::PlainHttp => self.answer_in_the_clear(core, key),
                Step::Failed(fault) => self.layer_failed(&fault, core, key),
            }
        }
    }

    /// Has the thread beside the core make a step of its handshake; false if it is to be made here.
    pub(super) fn lend_handshake(&mut self, core: &mut Core, key: u64) -> bool {
        let may_lend = core.may_lend() && self.phase == Phase::Open;
        let (Some(layer), Some(offload)) = (&mut self.layer, &mut core.offload) else {
            return false;
        };
        let Some(lent) = may_lend.then(|| layer.lend(key)).flatten() else { return false };
        offload.give(lent, core.now);
        true
    }

    /// It is back from there.
    pub(super) fn take_handshake_back(&mut self, lent: Lent, core: &mut Core, key: u64) {
        if let Some(layer) = &mut self.layer {
            layer.take_back(lent);
            self.pump(core, key);
        }
    }

    /// The handshake is over, and was right.
    fn secured(&mut self, accepted_at: Millis, core: &mut Core, key: u64) {
        let counters = &core.counters;
        counters.tls_handshakes.raise();
        counters.tls_connections_open.raise();
        let took_ms = core.now.saturating_sub(accepted_at);
        counters.tls.handshake_times.note(took_ms.saturating_mul(NANOS_PER_MILLI), 1);
        if let Some(secured) = self.layer.as_ref().and_then(|layer| layer.secured()) {
            counters.tls.note_handshake(secured.version, HandshakeKind::of(secured.is_resumed));
        }
        match self.session.is_securing() {
            true => self.call_session(core, key, |session, port| session.secured(port)),
            false => self.session = Session::open(core),
        }
    }

    /// It is gone, and with it its TLS.
    pub(super) fn uncount_layer(&self, counters: &Counters) {
        let Some(layer) = &self.layer else { return };
        if layer.is_handshaking() {
            counters.tls_handshakes_open.lower();
        } else if layer.secured().is_some() {
            counters.tls_connections_open.lower();
        }
    }

    /// A request that has come whole is answered; to a protocol this is no end like another (U-107).
    fn truncated(&mut self, core: &mut Core, key: u64) {
        core.counters.tls_truncated.raise();
        if self.session.is_switched() {
            self.end(Manner::Close, CloseReason::Truncated);
        } else {
            self.call_session(core, key, |session, port| session.ended(port));
        }
    }

    /// RFC 9110 §15.5.1, in the one way the client can read.
    #[cold]
    fn answer_in_the_clear(&mut self, core: &mut Core, key: u64) {
        core.counters.tls_plain_http.raise();
        self.layer = None;
        let response = Response::text(Status::BAD_REQUEST, PLAIN_HTTP);
        self.call_session(core, key, |session, port| session.refuse(&response, port));
    }

    /// The session is told now; the alert leaves first, and then the connection.
    #[cold]
    fn layer_failed(&mut self, fault: &Fault, core: &mut Core, key: u64) {
        core.counters.tls_faults.raise();
        if let Some((description, by)) = fault.said() {
            core.counters.tls.note_alert(description, by);
        }
        note_failure(core, key, fault);
        self.session.close(key, CloseReason::TlsFault, core);
        if let Some(batch) = self.batch.take() {
            core.recycle(batch);
        }
    }

    /// Nobody waits longer for the end of its handshake.
    #[cold]
    pub(super) fn handshake_timed_out(&mut self, core: &mut Core, key: u64) {
        core.counters.timeouts_handshakes.raise();
        note_failure(core, key, &"the handshake was not over in time");
        self.end(Manner::Close, CloseReason::HandshakeTimeout);
    }

    /// Whether nothing but the layer's last words is left.
    #[inline]
    pub(super) fn has_failed_layer(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.has_failed())
    }

    #[inline]
    pub(super) fn is_handshake_over_time(&self, now: Millis) -> bool {
        let deadline = self.layer.as_ref().map_or(NEVER, |layer| layer.deadline());
        self.phase == Phase::Open && deadline <= now
    }

    /// What is to be sent now.
    #[inline]
    pub(super) fn outgoing(&mut self, key: u64, core: &mut Core) -> Option<Box<Batch>> {
        match self.is_inside() {
            false => self.batch.take(),
            true => self.sealed(key, core),
        }
    }

    #[inline(never)]
    fn sealed(&mut self, key: u64, core: &mut Core) -> Option<Box<Batch>> {
        let layer = self.layer.as_mut()?;
        let control = self.session.control();
        let is_last = control.is_closing || control.is_ended;
        let is_written = self.batch.as_ref().is_some_and(|batch| !batch.is_empty());
        if !layer.has_words(is_last) && (!is_written || layer.is_handshaking()) {
            return None;
        }
        let mut sealed = core.batches.pop().unwrap_or_default();
        let written = |batch: &Option<Box<Batch>>| batch.as_ref().map_or(0, |batch| batch.len());
        let before = written(&self.batch);
        layer.seal(self.batch.as_deref_mut(), is_last, core.now, &mut sealed);
        if let Some(access) = &mut core.access
            && self.session.is_switched()
        {
            // What a protocol has said, not what it weighs on the wire.
            access.sent(key, before - written(&self.batch));
        }
        if let Some(written) = self.batch.take_if(|written| written.is_empty()) {
            core.recycle(written);
        }
        Some(sealed)
    }

    #[inline]
    pub(super) fn is_handshake_due(&self) -> bool {
        self.phase == Phase::Open && self.layer.as_ref().is_some_and(|layer| layer.is_due())
    }

    #[inline]
    pub(super) fn has_more(&self) -> bool {
        let is_layer = || self.layer.as_ref().is_some_and(|layer| layer.has_more());
        self.session.has_more() || (is_layer() && !self.session.is_behind())
    }

    /// Whether what it sends and receives is not what its socket does.
    #[inline]
    pub(super) fn is_inside(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| !layer.is_offered())
    }

    /// Whether the kernel has nothing more to bring.
    #[inline]
    pub(super) fn is_input_ended(&self) -> bool {
        let is_cut = self.layer.as_ref().is_some_and(|layer| layer.is_cut());
        is_cut || self.session.is_input_ended()
    }

    /// Pieces of what was received that wait, opened or not.
    #[inline]
    pub(super) fn unread(&self) -> usize {
        self.session.unread() + self.layer.as_ref().map_or(0, |layer| layer.unread())
    }

    #[inline]
    pub(super) fn bytes_aside(&self) -> usize {
        self.session.bytes_aside() + self.layer.as_ref().map_or(0, |layer| layer.bytes_aside())
    }

    /// Whether so much waits that nothing more should be received.
    #[inline]
    pub(super) fn is_full(&self, core: &Core) -> bool {
        let limit = usize::from(core.limits.leases_max);
        let is_full = self.layer.as_ref().is_some_and(|layer| layer.unread() >= limit);
        is_full || self.session.is_full(&core.limits)
    }

    /// Whether enough room is left to receive again.
    #[inline]
    pub(super) fn has_room(&self, core: &Core) -> bool {
        let limit = usize::from(core.limits.leases_max / 2);
        let has_room = |layer: &Layer| layer.unread() <= limit && layer.bytes_aside() == 0;
        self.layer.as_ref().is_none_or(|layer| has_room(layer))
            && self.session.has_room(&core.limits)
    }
}

/// Says of one connection why its TLS could not go on, and of many that they are many.
fn note_failure(core: &mut Core, key: u64, why: &dyn std::fmt::Display) {
    tracing::debug!(target: "upring::tls", client = ?core.addresses.of(key), "{why}");
    if let Some(count) = core.tls_alarm.note(core.now) {
        tracing::warn!(
            target: "upring::tls",
            "{count} TLS connections of a core could not go on within a minute; at debug level each is \
             told of, upring_tls_alerts_total counts them by their alerts"
        );
    }
}
