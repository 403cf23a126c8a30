//! One connection's TLS: what was received and not opened yet, and the keys.
//!
//! ```text
//!   Handshaking ──► Open ──► Over
//!        └────────── a fault ──┘
//! ```

use std::sync::Arc;

use rustls::ContentType;

use super::alert::{self, FATAL, Said, WARNING};
use super::handshake::{Handshake, Lent, Next};
use super::incoming::Incoming;
use super::open::Open;
use super::{Acceptor, Fault, TlsAlert};
use crate::buffer::{Batch, Lease};
use crate::config::{Millis, NEVER};
use crate::counters::{AlertBy, Counters};
use crate::http::Secured;

/// The TLS of one connection.
pub(crate) struct Layer {
    state: State,
    incoming: Incoming,
    secured: Option<Arc<Secured>>,
    /// Handshake messages and alerts: they go before what the session writes.
    outgoing: Vec<u8>,
    /// When the handshake must be over.
    deadline: Millis,
    place: Place,
    /// The peer ended its direction of the connection beneath.
    is_cut: bool,
    /// There is more to do without anything new.
    has_more: bool,
    has_said_close: bool,
}

enum State {
    /// In the clear; TLS is begun if the client asks for it.
    Offered(Arc<Acceptor>),
    Handshaking(Stage),
    Open(Box<Open>),
    /// Nothing is opened any more. What was agreed on may still seal the rest.
    Ended(Box<Open>),
    Over,
}

/// What a handshake has of the room there is for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing, and it needs nothing: its client has not said a word.
    None,
    /// It waits for the end of others.
    InLine,
    /// A place.
    Held,
}

/// Where a handshake is.
enum Stage {
    /// Here. The step that the record at hand allows takes long, if it `is_due`, and waits for its time. If it is
    /// back from elsewhere, there is what came of the step that was made there.
    Here { handshake: Box<Handshake>, is_due: bool, outcome: Option<Result<bool, Fault>> },
    /// A step of it is made elsewhere.
    Lent,
}

/// What a layer has for its session.
pub(crate) enum Step {
    /// Nothing before more is received.
    Waiting,
    /// The handshake of a connection that was accepted then is over: see [`Layer::secured`].
    Secured { accepted_at: Millis },
    /// What a record carried, where it was received.
    Bytes(Lease),
    /// The peer has ended its direction, and said so.
    Ended,
    /// It has ended without a word: some of what it had to say may be missing.
    Truncated,
    /// It speaks HTTP without TLS.
    PlainHttp,
    /// It cannot go on.
    Failed(Fault),
}

impl Layer {
    /// The server's side of a connection that begins its handshake `now`.
    pub(crate) fn accept(acceptor: &Acceptor, now: Millis, deadline: Millis) -> Layer {
        let handshake = Handshake::new(acceptor.configs(), now).into();
        let stage = Stage::Here { handshake, is_due: false, outcome: None };
        Layer::of(State::Handshaking(stage), deadline)
    }

    fn of(state: State, deadline: Millis) -> Layer {
        Layer {
            state,
            incoming: Incoming::default(),
            secured: None,
            outgoing: Vec::new(),
            deadline,
            place: Place::None,
            is_cut: false,
            has_more: false,
            has_said_close: false,
        }
    }

    /// The server's side of a connection that is in the clear until its client asks for TLS.
    pub(crate) fn offered(acceptor: Arc<Acceptor>) -> Layer {
        Layer::of(State::Offered(acceptor), NEVER)
    }

    /// Whether it is.
    pub(crate) fn is_offered(&self) -> bool {
        matches!(self.state, State::Offered(_))
    }

    /// The client has asked for TLS: its handshake begins, behind what was `written` in the clear.
    pub(crate) fn begin(&mut self, written: &Batch, now: Millis, deadline: Millis) {
        if let State::Offered(acceptor) = &self.state {
            let outgoing = written.slices().collect::<Vec<_>>().concat();
            *self = Layer { outgoing, ..Layer::accept(&Arc::clone(acceptor), now, deadline) };
            if let State::Handshaking(Stage::Here { handshake, .. }) = &mut self.state {
                handshake.expect_tls();
            }
        }
    }

    /// Bytes were received.
    pub(crate) fn received(&mut self, bytes: Lease) {
        if matches!(self.state, State::Handshaking(_) | State::Open(_)) {
            self.incoming.push(bytes);
        }
    }

    /// The peer ended its direction of the connection beneath.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Whether it [was](Layer::cut).
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// When the handshake must be over; [`NEVER`] if it is.
    pub(crate) fn deadline(&self) -> Millis {
        self.deadline
    }

    /// What the handshake has agreed on, once it is over.
    pub(crate) fn secured(&self) -> Option<&Arc<Secured>> {
        self.secured.as_ref()
    }

    /// Whether the handshake is under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshaking(_))
    }

    /// Whether a handshake that has no place wants one: its client has begun to speak.
    pub(crate) fn wants_place(&self) -> bool {
        self.place != Place::Held && self.is_handshaking() && self.incoming.len() > 0
    }

    /// What it has of the room for handshakes.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// It has this of it from now on; what it had before.
    pub(crate) fn set_place(&mut self, place: Place) -> Place {
        std::mem::replace(&mut self.place, place)
    }

    /// Whether a step of the handshake can be made that takes long.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.state, State::Handshaking(Stage::Here { is_due: true, .. }))
    }

    /// Gives a handshake away that [is due](Layer::is_due), to make that step elsewhere.
    pub(crate) fn lend(&mut self, key: u64, since: Millis) -> Option<Lent> {
        let State::Handshaking(stage @ Stage::Here { is_due: true, .. }) = &mut self.state else {
            return None;
        };
        let Stage::Here { handshake, .. } = std::mem::replace(stage, Stage::Lent) else {
            return None;
        };
        let outgoing = std::mem::take(&mut self.outgoing);
        Some(Lent { key, since, handshake, outgoing, outcome: None })
    }

    /// It is back. A handshake that is over, since its time was, wants nothing of it.
    pub(crate) fn take_back(&mut self, lent: Lent) {
        if let State::Handshaking(stage @ Stage::Lent) = &mut self.state {
            let Lent { handshake, outgoing, outcome, .. } = lent;
            self.outgoing = outgoing;
            *stage = Stage::Here { handshake, is_due: false, outcome };
        }
    }

    /// Whether it could not go on: nothing is left but its last words.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether [`next`](Layer::next) has something although nothing new has come.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// It was left before it had nothing more.
    pub(crate) fn leave(&mut self) {
        self.has_more = true;
    }

    /// Pieces of what was received that were not opened.
    pub(crate) fn unread(&self) -> usize {
        self.incoming.len()
    }

    /// Receive buffers among them.
    pub(crate) fn held(&self) -> usize {
        self.incoming.held()
    }

    /// Copies what waits out of the receive buffers, which others wait for.
    pub(crate) fn set_aside(&mut self) {
        self.incoming.set_aside();
    }

    /// Bytes that were [set aside](Layer::set_aside).
    pub(crate) fn bytes_aside(&self) -> usize {
        self.incoming.bytes_aside()
    }

    /// What comes next. A handshake is begun only if there is time for it.
    pub(crate) fn next(&mut self, has_time: bool, counters: &Counters) -> Step {
        self.has_more = false;
        let step = match &mut self.state {
            State::Handshaking(_) => self.shake(has_time),
            State::Open(_) => self.open(counters),
            State::Offered(_) | State::Ended(_) | State::Over => return Step::Waiting,
        };
        step.unwrap_or_else(|fault| self.fail(fault))
    }

    fn shake(&mut self, has_time: bool) -> Result<Step, Fault> {
        if !self.make_steps(has_time)? {
            return Ok(Step::Waiting);
        }
        let State::Handshaking(Stage::Here { handshake, .. }) =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return Ok(Step::PlainHttp);
        };
        let accepted_at = handshake.accepted_at;
        let (open, secured) = Open::of(handshake.finish()?);
        self.state = State::Open(open.into());
        self.deadline = NEVER;
        self.secured = Some(Arc::new(secured));
        Ok(Step::Secured { accepted_at })
    }

    /// Makes the steps that what was received allows, of those that take long one at most. Whether the handshake
    /// is over, or was none.
    fn make_steps(&mut self, mut has_time: bool) -> Result<bool, Fault> {
        let State::Handshaking(Stage::Here { handshake, is_due, outcome }) = &mut self.state else {
            return Ok(false);
        };
        if outcome.take().transpose()? == Some(true) {
            return Ok(true);
        }
        loop {
            if *is_due {
                if !std::mem::take(&mut has_time) {
                    return Ok(false);
                }
                *is_due = false;
                if handshake.step(&mut self.outgoing)? {
                    return Ok(true);
                }
            }
            let Some(bytes) = self.incoming.front() else {
                return if self.is_cut { Err(Fault::cut_off()) } else { Ok(false) };
            };
            let next = handshake.take(bytes)?;
            self.incoming.let_go();
            match next {
                Next::Part => {}
                Next::Whole if handshake.is_heavy() => *is_due = true,
                Next::Whole => {
                    if handshake.step(&mut self.outgoing)? {
                        return Ok(true);
                    }
                }
                Next::PlainHttp => {
                    self.state = State::Over;
                    return Ok(true);
                }
            }
        }
    }

    fn open(&mut self, counters: &Counters) -> Result<Step, Fault> {
        loop {
            let State::Open(open) = &mut self.state else { return Ok(Step::Waiting) };
            let Some(mut record) = self.incoming.record(counters)? else {
                return Ok(if self.is_cut { self.end(Step::Truncated) } else { Step::Waiting });
            };
            match open.opener.open(&mut record)? {
                ContentType::ApplicationData if !record.is_empty() => {
                    open.note_content();
                    return Ok(Step::Bytes(record));
                }
                ContentType::Alert => match alert::received(&record, open.is_tls13())? {
                    Said::Nothing => open.note_empty()?,
                    Said::Close => return Ok(self.end(Step::Ended)),
                },
                ContentType::ApplicationData => open.note_empty()?,
                ContentType::Handshake => {
                    open.note_empty()?;
                    open.further(&record, &mut self.outgoing)?;
                }
                _ => {
                    let why = "a record of a type that has no place here";
                    return Err(Fault::sent(TlsAlert::UnexpectedMessage, why));
                }
            }
        }
    }

    /// Nothing is opened from here on.
    fn end(&mut self, step: Step) -> Step {
        self.incoming = Incoming::default();
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Open(open) => State::Ended(open),
            _ => State::Over,
        };
        step
    }

    /// RFC 8446 §6.2: says why, and that is the last word.
    fn fail(&mut self, mut fault: Fault) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open(mut open) => {
                if let Some((AlertBy::Us, alert)) = fault.alert {
                    open.sealer.alert(FATAL, alert, &mut self.outgoing);
                }
            }
            State::Handshaking(_) => match fault.alert {
                // Not rustls': a record it never saw.
                Some((AlertBy::Us, alert)) if !fault.is_said => {
                    self.outgoing.extend_from_slice(&[21, 3, 3, 0, 2, FATAL, alert.into()]);
                }
                None => fault = fault.or_sent(alert::last_plain(&self.outgoing)),
                _ => {}
            },
            State::Offered(_) | State::Ended(_) | State::Over => {}
        }
        self.incoming = Incoming::default();
        (self.deadline, self.has_said_close) = (NEVER, true);
        Step::Failed(fault)
    }

    /// Whether it has something to send of its own.
    pub(crate) fn has_words(&self, is_last: bool) -> bool {
        let may_close = matches!(self.state, State::Open(_) | State::Ended(_));
        !self.outgoing.is_empty() || (is_last && may_close && !self.has_said_close)
    }

    /// Seals what a session has written, or the first part of it, behind what there is to be said before;
    /// `is_last` if nothing is to follow. During a handshake what is written waits.
    pub(crate) fn seal(
        &mut self,
        written: Option<&mut Batch>,
        is_last: bool,
        now: Millis,
        out: &mut Batch,
    ) {
        out.append(|text| {
            // Behind the handshake it has something once in an hour, and no memory until then.
            text.append(&mut std::mem::take(&mut self.outgoing));
            let (State::Open(open) | State::Ended(open)) = &mut self.state else { return };
            open.note_said();
            let is_all = written.is_none_or(|written| open.seal(written, now, text));
            if open.sealer.is_used_up() && !open.is_tls13() {
                // RFC 5246 has no other key for a connection, and with this one no word more may be said.
                self.state = State::Over;
                return;
            }
            if is_last && is_all && !std::mem::replace(&mut self.has_said_close, true) {
                open.sealer.alert(WARNING, TlsAlert::CloseNotify, text);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::super::open::EMPTY_RECORDS_MAX;
    use super::super::record::{self, Sealer};
    use super::*;
    use crate::config::{Pem, TlsSettings, TlsVersion};

    /// A layer whose handshake is over, and what its peer seals with: anything.
    struct Scene {
        layer: Layer,
        peer: Sealer,
        counters: Counters,
    }

    impl Scene {
        fn new(version: TlsVersion) -> Scene {
            let (layer, client) = connected(version);
            let suite = client.negotiated_cipher_suite().expect("it is over");
            let secrets = client.dangerous_extract_secrets().expect("it may be asked");
            Scene { layer, peer: Sealer::new(suite, secrets.tx), counters: Counters::default() }
        }

        /// What comes of a record: the alert of its fault, and who has sent it.
        fn hear(&mut self, kind: ContentType, carried: &[u8]) -> Option<(AlertBy, TlsAlert)> {
            let mut record = Vec::new();
            self.peer.seal(kind, carried.len(), &mut record, |out| out.extend(carried));
            self.layer.received(Lease::copied(std::iter::once(&record[..])));
            match self.layer.next(true, &self.counters) {
                Step::Failed(fault) => fault.alert,
                Step::Bytes(bytes) => {
                    assert_eq!((kind, &bytes[..]), (ContentType::ApplicationData, carried));
                    None
                }
                _ => None,
            }
        }
    }

    /// A layer and its peer, whose handshake is over.
    fn connected(version: TlsVersion) -> (Layer, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]);
        let made = made.expect("a name");
        let [certificate, key] = [made.cert.pem(), made.signing_key.serialize_pem()].map(Pem::Text);
        let acceptor = Acceptor::new(TlsSettings::of(certificate, key)).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        let versions = match version {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            TlsVersion::Tls13 => &rustls::version::TLS13,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[versions])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("a.example").expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let (mut layer, counters) = (Layer::accept(&acceptor, 0, NEVER), Counters::default());
        while client.is_handshaking() || layer.is_handshaking() {
            let mut output = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut output).expect("a buffer takes all");
            }
            layer.received(Lease::copied(std::iter::once(&output[..])));
            while !matches!(layer.next(true, &counters), Step::Waiting) {}
            let mut batch = Batch::default();
            layer.seal(None, false, 0, &mut batch);
            let sealed: Vec<u8> = batch.slices().flatten().copied().collect();
            let mut rest = &sealed[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).expect("a slice");
                client.process_new_packets().expect("it is TLS");
            }
        }
        (layer, client)
    }

    const UNEXPECTED: Option<(AlertBy, TlsAlert)> =
        Some((AlertBy::Us, TlsAlert::UnexpectedMessage));

    #[test]
    fn a_key_that_is_used_up_is_replaced_and_where_there_is_no_other_that_is_the_end() {
        for version in TlsVersion::ALL {
            let mut scene = Scene::new(version);
            let State::Open(open) = &mut scene.layer.state else { panic!("its handshake is over") };
            open.sealer.use_up();
            let (mut written, mut sealed) = (Batch::default(), Batch::default());
            written.append(|text| text.extend_from_slice(b"more"));
            scene.layer.seal(Some(&mut written), true, 0, &mut sealed);
            let is_tls13 = version == TlsVersion::Tls13;
            assert_eq!((written.is_empty(), scene.layer.has_failed()), (is_tls13, !is_tls13));
            // The word of the new key, what was written, and the end.
            let types = if is_tls13 { 3 } else { 0 };
            let bytes: Vec<u8> = sealed.slices().flatten().copied().collect();
            let mut rest = &bytes[..];
            for _ in 0..types {
                let len = record::record_bytes(rest).expect("a header").expect("a record");
                rest = &rest[len..];
            }
            assert!(rest.is_empty(), "{version:?}: {} bytes", bytes.len());
        }
    }

    #[test]
    fn in_tls_12_so_many_warnings_in_a_row_are_too_many() {
        let warning = [WARNING, TlsAlert::UnrecognisedName.into()];
        let mut scene = Scene::new(TlsVersion::Tls12);
        for _ in 0..3 {
            for _ in 0..EMPTY_RECORDS_MAX {
                assert_eq!(scene.hear(ContentType::Alert, &warning), None);
            }
            assert_eq!(scene.hear(ContentType::ApplicationData, b"content"), None);
        }
        for _ in 0..EMPTY_RECORDS_MAX {
            assert_eq!(scene.hear(ContentType::Alert, &warning), None);
        }
        assert_eq!(scene.hear(ContentType::Alert, &warning), UNEXPECTED);
    }

    #[test]
    fn who_asks_for_new_keys_and_reads_none_is_answered_once() {
        let ((mut layer, mut client), counters) =
            (connected(TlsVersion::Tls13), Counters::default());
        let mut ask = |layer: &mut Layer| {
            client.refresh_traffic_keys().expect("it is TLS 1.3");
            client.writer().write_all(b"content").expect("a buffer takes all");
            let mut said = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut said).expect("a buffer takes all");
            }
            layer.received(Lease::copied(std::iter::once(&said[..])));
            assert!(matches!(layer.next(true, &counters), Step::Bytes(_)));
            layer.outgoing.len()
        };
        let answer = ask(&mut layer);
        assert!(answer > 0, "it is answered");
        for _ in 0..100 {
            assert_eq!(ask(&mut layer), answer, "and once, as long as that has not left");
        }
        layer.seal(None, false, 0, &mut Batch::default());
        assert_eq!(layer.outgoing.len(), 0);
        assert_eq!(ask(&mut layer), answer, "the next is answered anew");
    }

    #[test]
    fn in_tls_13_there_are_no_warnings() {
        let warning = [WARNING, TlsAlert::UnrecognisedName.into()];
        let mut scene = Scene::new(TlsVersion::Tls13);
        let expected = Some((AlertBy::Peer, TlsAlert::UnrecognisedName));
        assert_eq!(scene.hear(ContentType::Alert, &warning), expected);
    }

    #[test]
    fn records_without_content_in_a_row_are_bounded() {
        for version in TlsVersion::ALL {
            let mut scene = Scene::new(version);
            for _ in 0..EMPTY_RECORDS_MAX {
                assert_eq!(scene.hear(ContentType::ApplicationData, b""), None);
            }
            assert_eq!(scene.hear(ContentType::ApplicationData, b""), UNEXPECTED);
        }
    }

    #[test]
    fn what_has_no_place_behind_a_handshake_is_refused_though_its_peer_has_sealed_it() {
        let hello = [1, 0, 0, 2, 3, 3];
        let refused = Some((AlertBy::Us, TlsAlert::NoRenegotiation));
        let decode_error = Some((AlertBy::Us, TlsAlert::DecodeError));
        for version in TlsVersion::ALL {
            let of_hello = if version == TlsVersion::Tls12 { refused } else { UNEXPECTED };
            for (kind, carried, expected) in [
                (ContentType::Handshake, &hello[..], of_hello),
                (ContentType::ChangeCipherSpec, &[1], UNEXPECTED),
                (ContentType::Heartbeat, &[1, 0, 0], UNEXPECTED),
                (ContentType::Unknown(99), b"x", UNEXPECTED),
                (ContentType::Unknown(0), b"\0\0", UNEXPECTED),
                (ContentType::Alert, &[2], decode_error),
            ] {
                assert_eq!(Scene::new(version).hear(kind, carried), expected, "{kind:?}");
            }
        }
        // RFC 8446 §4.6.3: one that says neither yes nor no, or that shares its record.
        for update in [&[24, 0, 0, 1, 2][..], &[24, 0, 0, 1, 0, 24], &[24, 0, 0, 1]] {
            let mut scene = Scene::new(TlsVersion::Tls13);
            assert_eq!(scene.hear(ContentType::Handshake, update), UNEXPECTED, "{update:?}");
        }
    }
}
