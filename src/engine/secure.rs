//! Connections with a layer between session and kernel: what comes up through it, a record at a time, and
//! what goes down. Connections in the clear have none of it.

use std::sync::Arc;

use super::connection::{Connection, Phase};
use crate::buffer::{Batch, Lease, LeaseQueue};
use crate::config::{Millis, NEVER};
use crate::counters::{HandshakeKind, NANOS_PER_MILLI};
use crate::http::{Response, Status};
use crate::ring::Manner;
use crate::session::{Core, Session};
use crate::tls::{Acceptor, Fault, Layer, Lent, Place, Step};
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
            if layer.wants_place() && !take_place(layer, core) {
                return;
            }
            let is_handshaking = layer.is_handshaking();
            let was_due = layer.is_due();
            let step = layer.next(core.may_shake(), &core.counters);
            if was_due && !layer.is_due() {
                core.note_shaken();
            }
            if is_handshaking && !layer.is_handshaking() {
                core.counters.tls_handshakes_open.lower();
                leave_place(layer, core);
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
        let Some(lent) = may_lend.then(|| layer.lend(key, core.now)).flatten() else {
            return false;
        };
        offload.give(lent);
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
    pub(super) fn uncount_layer(&mut self, core: &mut Core) {
        let Some(layer) = &mut self.layer else { return };
        leave_place(layer, core);
        if layer.is_handshaking() {
            core.counters.tls_handshakes_open.lower();
        } else if layer.secured().is_some() {
            core.counters.tls_connections_open.lower();
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

    /// Whether it waits for the end of others' handshakes.
    #[inline]
    pub(super) fn is_in_line(&self) -> bool {
        let place = self.layer.as_ref().map(|layer| layer.place());
        self.phase == Phase::Open && place == Some(Place::InLine)
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
        let is_full = |layer: &Layer| layer.unread() >= limit || layer.place() == Place::InLine;
        self.layer.as_ref().is_some_and(|layer| is_full(layer))
            || self.session.is_full(&core.limits)
    }

    /// Whether enough room is left to receive again.
    #[inline]
    pub(super) fn has_room(&self, core: &Core) -> bool {
        let limit = usize::from(core.limits.leases_max / 2);
        let has_room = |layer: &Layer| {
            layer.unread() <= limit && layer.bytes_aside() == 0 && layer.place() != Place::InLine
        };
        self.layer.as_ref().is_none_or(|layer| has_room(layer))
            && self.session.has_room(&core.limits)
    }
}

/// Whether a handshake has a place now: there is room, or it waits for the end of others.
fn take_place(layer: &mut Layer, core: &mut Core) -> bool {
    let has_room = core.has_room_for_handshake();
    let place = if has_room { Place::Held } else { Place::InLine };
    let before = layer.set_place(place);
    if has_room {
        core.hold_handshake();
    } else if before == Place::None {
        core.counters.tls_handshakes_over_limit.raise();
    }
    has_room
}

fn leave_place(layer: &mut Layer, core: &mut Core) {
    if layer.set_place(Place::None) == Place::Held {
        core.release_handshake();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use crate::config::{DrainTimes, Limits, Pem, TlsSettings};
    use crate::counters::Counters;
    use crate::engine::{Engine, Turn};
    use crate::http::{Request, Response, Status};
    use crate::resource::{Registry, Reply, Resource, from_head};
    use crate::ring::sim::{Client, Faults, SimConfig, Simulation, World};
    use crate::ring::{ListenerId, Wait};
    use crate::session::Core;
    use crate::tls::Acceptor;

    /// Inside TLS; in the clear, and may be switched to it.
    const INSIDE: ListenerId = ListenerId(0);
    const BY_UPGRADE: ListenerId = ListenerId(1);

    const SWITCH: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.2\r\n\r\n";

    struct Scene {
        engine: Engine<Simulation>,
        world: World,
        counters: Arc<Counters>,
        config: Arc<ClientConfig>,
    }

    impl Scene {
        /// With room for one handshake.
        fn new() -> Scene {
            let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]);
            let made = made.expect("a name");
            let [certificate, key] =
                [made.cert.pem(), made.signing_key.serialize_pem()].map(Pem::Text);
            let mut roots = RootCertStore::empty();
            roots.add(made.cert.der().clone()).expect("a certificate");
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let config = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            let settings = TlsSettings::of(certificate, key);
            let by_upgrade = TlsSettings { by_upgrade: true, ..settings.clone() };
            let acceptors = [settings, by_upgrade]
                .map(|settings| Some(Arc::new(Acceptor::new(settings).expect("a certificate"))));
            let ok = from_head(|_: &Request<'_>, reply: &mut Reply<'_>| {
                reply.send(&Response::text(Status::OK, "ok"));
            });
            let mut registry = Registry::default();
            registry.insert("/", Resource::new().get(ok));
            let limits = Limits { tls_handshakes_max: 1, ..Limits::default() };
            let faults = Faults::none();
            let kernel = Simulation::new(1, SimConfig { faults, ..SimConfig::default() });
            let (world, counters) = (kernel.world(), Arc::<Counters>::default());
            let core = Core::new(registry, limits, Arc::clone(&counters), 0);
            let engine = Engine::new(kernel, core, 2, Arc::default(), DrainTimes::default())
                .securing(&acceptors);
            Scene { engine, world, counters, config: config.into() }
        }

        fn settle(&mut self) {
            while self.engine.turn(Wait::No).expect("a simulation goes on") == Turn::Again
                || !self.world.is_quiet()
            {}
        }

        fn client(&self) -> ClientConnection {
            let name = ServerName::try_from("a.example").expect("a name");
            ClientConnection::new(Arc::clone(&self.config), name).expect("a client")
        }

        /// Carries what both ends have to say; whether the handshake is over.
        fn shake(&mut self, client: &Client, tls: &mut ClientConnection) -> bool {
            loop {
                let mut said = Vec::new();
                while tls.wants_write() {
                    tls.write_tls(&mut said).expect("a buffer takes all");
                }
                client.write(&said);
                self.settle();
                let news = client.read();
                if news.is_empty() && said.is_empty() {
                    return !tls.is_handshaking();
                }
                let mut rest = &news[..];
                while !rest.is_empty() {
                    tls.read_tls(&mut rest).expect("a slice");
                    tls.process_new_packets().expect("it is TLS");
                }
            }
        }

        fn over_limit(&self) -> u64 {
            self.counters.tls_handshakes_over_limit.value()
        }
    }

    #[test]
    fn who_says_nothing_has_no_place_among_handshakes() {
        let mut scene = Scene::new();
        let silent: Vec<Client> = (0..20).map(|_| scene.world.connect(INSIDE)).collect();
        scene.settle();
        for _ in 0..3 {
            let (client, mut tls) = (scene.world.connect(INSIDE), scene.client());
            assert!(scene.shake(&client, &mut tls), "there is room");
        }
        assert_eq!((scene.over_limit(), scene.counters.tls_handshakes_open.value()), (0, 20));
        silent.iter().for_each(Client::close);
        scene.settle();
        assert_eq!(scene.counters.tls_handshakes_open.value(), 0);
    }

    #[test]
    fn who_begins_waits_for_the_end_of_others_wherever_they_came_in() {
        for first_at in [INSIDE, BY_UPGRADE] {
            for second_at in [INSIDE, BY_UPGRADE] {
                let mut scene = Scene::new();
                let first = scene.world.connect(first_at);
                if first_at == BY_UPGRADE {
                    first.write(SWITCH);
                }
                first.write(b"\x16\x03\x01");
                scene.settle();
                let (second, mut tls) = (scene.world.connect(second_at), scene.client());
                if second_at == BY_UPGRADE {
                    second.write(SWITCH);
                    scene.settle();
                    assert!(second.read().starts_with(b"HTTP/1.1 101 "));
                }
                assert!(!scene.shake(&second, &mut tls), "it has to wait");
                assert_eq!(scene.over_limit(), 1);
                first.close();
                scene.settle();
                assert!(scene.shake(&second, &mut tls), "{first_at:?}, {second_at:?}");
                assert_eq!(scene.over_limit(), 1, "it is told once");
                // Whoever is through takes no place from others.
                let (third, mut tls) = (scene.world.connect(INSIDE), scene.client());
                assert!(scene.shake(&third, &mut tls));
            }
        }
    }

    #[test]
    fn who_waits_keeps_one_buffer_and_goes_at_its_deadline() {
        let mut scene = Scene::new();
        let first = scene.world.connect(INSIDE);
        first.write(b"\x16\x03\x01");
        scene.settle();
        let second = scene.world.connect(INSIDE);
        for _ in 0..200 {
            second.write(&[b'\x16'; 4096]);
            scene.settle();
        }
        let read = scene.counters.bytes_received.value();
        assert!(read < 64 * 1024, "{read} bytes of who waits were received");
        scene.world.advance(Limits::default().tls_handshake_timeout_ms + 10);
        scene.settle();
        assert!(!second.is_open() && !first.is_open());
        scene.world.advance(10_000);
        scene.settle();
        assert_eq!(scene.counters.connections_open.value(), 0);
        let (third, mut tls) = (scene.world.connect(INSIDE), scene.client());
        assert!(scene.shake(&third, &mut tls), "their places are free");
    }
}
