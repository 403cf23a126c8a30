//! Connections with a layer between session and kernel: what comes up through it, a record at a time, and
//! what goes down. Connections in the clear have none of it.

use super::connection::{Connection, Phase};
use crate::buffer::{Batch, Lease};
use crate::config::{Millis, NEVER};
use crate::counters::{Counters, HandshakeKind, NANOS_PER_MILLI};
use crate::http::{Response, Status};
use crate::ring::Manner;
use crate::session::{Core, Session};
use crate::tls::{Acceptor, Fault, Layer, Step};
use crate::upgrade::CloseReason;

/// What opening a record costs beside moving what it carries, in tenths of a microsecond.
const RECORD_COST: u32 = 3;

/// What a step of a handshake costs: a signature and an agreement on a key.
const HANDSHAKE_COST: u32 = 1500;

/// Steps of handshakes that are made in one turn: they take longer than anything else that is done in one,
/// and whoever has a connection waits for them.
const HANDSHAKES_PER_TURN: u32 = 1;

/// Bytes of a response that is no TLS, to a request that was none.
const PLAIN_HTTP: &str = "This port speaks TLS, and the request came without: use https://.\n";

impl Connection {
    /// From here on everything is inside TLS: `rest` is the beginning of it.
    pub(super) fn secure(&mut self, acceptor: &Acceptor, core: &Core) {
        let deadline = core.now.saturating_add(core.limits.tls_handshake_timeout_ms);
        core.counters.tls_handshakes_open.raise();
        // What a request may take counts from the end of the handshake.
        self.session = Session::default();
        self.layer = Some(Box::new(Layer::accept(acceptor, core.now, deadline)));
    }

    /// The kernel has brought something.
    pub(super) fn take(&mut self, bytes: Lease, core: &mut Core, key: u64) {
        core.counters.bytes_received.add(bytes.len() as u64);
        match &mut self.layer {
            None => self.call(core, key, |session, port| session.received(bytes, port)),
            Some(layer) => {
                layer.received(bytes);
                self.pump(core, key);
            }
        }
    }

    /// The kernel has brought the end of the peer's direction.
    pub(super) fn take_end(&mut self, core: &mut Core, key: u64) {
        match &mut self.layer {
            None => self.call(core, key, |session, port| session.ended(port)),
            Some(layer) => {
                layer.cut();
                self.pump(core, key);
            }
        }
    }

    /// Gives the session what the layer has for it, as long as it uses it up.
    pub(super) fn pump(&mut self, core: &mut Core, key: u64) {
        let begun = core.spent();
        while let Some(layer) = &mut self.layer
            && self.phase == Phase::Open
            && !self.session.is_behind()
        {
            if core.spent().saturating_sub(begun) >= core.cost_per_connection() {
                return layer.leave();
            }
            let is_handshaking = layer.is_handshaking();
            let has_time = core.handshakes_in_turn < HANDSHAKES_PER_TURN;
            let step = layer.next(has_time, &core.counters);
            if is_handshaking && layer.has_made_step() {
                core.handshakes_in_turn += 1;
                core.spend(HANDSHAKE_COST);
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
                Step::Secured { accepted_at } => self.secured(accepted_at, core),
                Step::Ended => self.call_session(core, key, |session, port| session.ended(port)),
                Step::Truncated => self.truncated(core, key),
                Step::PlainHttp => self.answer_in_the_clear(core, key),
                Step::Failed(fault) => self.layer_failed(&fault, core, key),
            }
        }
    }

    /// The handshake is over, and was right.
    fn secured(&mut self, accepted_at: Millis, core: &Core) {
        let counters = &core.counters;
        counters.tls_handshakes.raise();
        counters.tls_connections_open.raise();
        let took_ms = core.now.saturating_sub(accepted_at);
        counters.tls.handshake_times.note(took_ms.saturating_mul(NANOS_PER_MILLI), 1);
        if let Some(secured) = self.layer.as_ref().and_then(|layer| layer.secured()) {
            counters.tls.note_handshake(secured.version, HandshakeKind::of(secured.is_resumed));
        }
        self.session = Session::open(core);
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
    pub(super) fn has_failed_layer(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.has_failed())
    }

    pub(super) fn is_handshake_over_time(&self, now: Millis) -> bool {
        let deadline = self.layer.as_ref().map_or(NEVER, |layer| layer.deadline());
        self.phase == Phase::Open && deadline <= now
    }

    /// What is to be sent now.
    pub(super) fn outgoing(&mut self, key: u64, core: &mut Core) -> Option<Box<Batch>> {
        let Some(layer) = &mut self.layer else { return self.batch.take() };
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

    pub(super) fn has_more(&self) -> bool {
        let is_layer = || self.layer.as_ref().is_some_and(|layer| layer.has_more());
        self.session.has_more() || (is_layer() && !self.session.is_behind())
    }

    /// Whether the kernel has nothing more to bring.
    pub(super) fn is_input_ended(&self) -> bool {
        let is_cut = self.layer.as_ref().is_some_and(|layer| layer.is_cut());
        is_cut || self.session.is_input_ended()
    }

    /// Pieces of what was received that wait, opened or not.
    pub(super) fn unread(&self) -> usize {
        self.session.unread() + self.layer.as_ref().map_or(0, |layer| layer.unread())
    }

    pub(super) fn bytes_aside(&self) -> usize {
        self.session.bytes_aside() + self.layer.as_ref().map_or(0, |layer| layer.bytes_aside())
    }

    /// Whether so much waits that nothing more should be received.
    pub(super) fn is_full(&self, core: &Core) -> bool {
        let limit = usize::from(core.limits.leases_max);
        let is_full = self.layer.as_ref().is_some_and(|layer| layer.unread() >= limit);
        is_full || self.session.is_full(&core.limits)
    }

    /// Whether enough room is left to receive again.
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
