//! One connection's TLS: what was received and not opened yet, and the keys.
//!
//! ```text
//!   Handshaking ──► Open ──► Over
//!        └────────── a fault ──┘
//! ```

use std::sync::Arc;

use rustls::ContentType;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::handshake::{Agreed, Handshake, Next};
use super::record::{self, Opener, Sealer};
use super::{Acceptor, Fault, Origin, TlsAlert};
use crate::buffer::{Batch, Lease, LeaseQueue};
use crate::config::{Millis, NEVER};
use crate::counters::Counters;
use crate::http::Secured;

/// What is sealed for one send: three full records, which fit the memory a batch keeps.
const SEALED_PER_SEND_MAX: usize = 3 * record::PLAIN_BYTES_MAX;

/// What a record carries at first: with all around it, it fits one segment, so that the peer can open what
/// has come instead of waiting for the rest of a long one.
const FIRST_RECORD_BYTES: usize = 1400;

/// Behind so many bytes records are as long as they get. After a pause it begins again, as the window of
/// the kernel does (RFC 2861).
const FIRST_RECORDS_BYTES: usize = 64 * 1024;
const PAUSE_MS: Millis = 1000;

/// Records without a byte of content in a row that a peer may send.
const EMPTY_RECORDS_MAX: u8 = 32;

/// The TLS of one connection.
pub(crate) struct Layer {
    state: State,
    incoming: Incoming,
    secured: Option<Arc<Secured>>,
    /// Handshake messages and alerts: they go before what the session writes.
    outgoing: Vec<u8>,
    /// When the handshake must be over.
    deadline: Millis,
    /// The peer ended its direction of the connection beneath.
    is_cut: bool,
    /// There is more to do without anything new.
    has_more: bool,
    has_said_close: bool,
}

enum State {
    /// In the clear; TLS is begun if the client asks for it.
    Offered(Arc<Acceptor>),
    Handshaking {
        handshake: Box<Handshake>,
        is_due: bool,
    },
    Open(Box<Open>),
    /// Nothing is opened any more. What was agreed on may still seal the rest.
    Ended(Box<Open>),
    Over,
}

struct Open {
    opener: Opener,
    sealer: Sealer,
    /// Makes further keys.
    keys: KernelConnection<ServerConnectionData>,
    /// Bytes sent since the last pause, and when the last of them.
    warmth: usize,
    sealed_at: Millis,
    empty_records: u8,
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

/// What was received and not opened.
#[derive(Default)]
struct Incoming {
    /// The oldest. It is not in the queue: a lease on the same buffer may be in another one.
    current: Option<Lease>,
    rest: LeaseQueue,
    /// The beginning of a record that did not come whole, in memory of its own.
    partial: Option<Lease>,
}

impl Layer {
    /// The server's side of a connection that begins its handshake `now`.
    pub(crate) fn accept(acceptor: &Acceptor, now: Millis, deadline: Millis) -> Layer {
        let handshake = Handshake::new(acceptor.configs(), now).into();
        Layer::of(State::Handshaking { handshake, is_due: false }, deadline)
    }

    fn of(state: State, deadline: Millis) -> Layer {
        Layer {
            state,
            incoming: Incoming::default(),
            secured: None,
            outgoing: Vec::new(),
            deadline,
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
            if let State::Handshaking { handshake, .. } = &mut self.state {
                handshake.expect_tls();
            }
        }
    }

    /// Bytes were received.
    pub(crate) fn received(&mut self, bytes: Lease) {
        if matches!(self.state, State::Handshaking { .. } | State::Open(_)) {
            self.incoming.rest.push(bytes);
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
        matches!(self.state, State::Handshaking { .. })
    }

    /// Whether a handshake is to be begun: all of the client's first message is there.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.state, State::Handshaking { is_due: true, .. })
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
        self.incoming.rest.len() + usize::from(self.incoming.current.is_some())
    }

    /// Receive buffers among them.
    pub(crate) fn held(&self) -> usize {
        self.incoming.rest.held() + usize::from(self.incoming.current.is_some())
    }

    /// Copies what waits out of the receive buffers, which others wait for.
    pub(crate) fn set_aside(&mut self) {
        self.incoming.set_aside();
    }

    /// Bytes that were [set aside](Layer::set_aside).
    pub(crate) fn bytes_aside(&self) -> usize {
        self.incoming.rest.bytes_aside()
    }

    /// What comes next. A handshake is begun only if there is time for it.
    pub(crate) fn next(&mut self, has_time: bool, counters: &Counters) -> Step {
        self.has_more = false;
        let step = match &mut self.state {
            State::Handshaking { .. } => self.shake(has_time),
            State::Open(_) => self.open(counters),
            State::Offered(_) | State::Ended(_) | State::Over => return Step::Waiting,
        };
        step.unwrap_or_else(|fault| self.fail(fault))
    }

    fn shake(&mut self, has_time: bool) -> Result<Step, Fault> {
        let State::Handshaking { handshake, is_due } = &mut self.state else {
            return Ok(Step::Waiting);
        };
        loop {
            if *is_due {
                // What follows on the first step costs little.
                if !has_time && !handshake.has_begun() {
                    return Ok(Step::Waiting);
                }
                *is_due = false;
                if handshake.step(&mut self.outgoing)? {
                    break;
                }
            }
            let Some(bytes) = self.incoming.front() else {
                return if self.is_cut { Err(Fault::cut_off()) } else { Ok(Step::Waiting) };
            };
            match handshake.take(bytes)? {
                Next::Part => {}
                Next::Whole => *is_due = true,
                Next::PlainHttp => {
                    self.state = State::Over;
                    return Ok(Step::PlainHttp);
                }
            }
        }
        let State::Handshaking { handshake, .. } = std::mem::replace(&mut self.state, State::Over)
        else {
            return Ok(Step::Waiting);
        };
        let accepted_at = handshake.accepted_at;
        let Agreed { opener, sealer, keys, secured } = handshake.finish()?;
        let (warmth, sealed_at, empty_records) = (0, 0, 0);
        let open = Open { opener, sealer, keys, warmth, sealed_at, empty_records };
        self.state = State::Open(Box::new(open));
        self.deadline = NEVER;
        self.secured = Some(Arc::new(secured));
        Ok(Step::Secured { accepted_at })
    }

    fn open(&mut self, counters: &Counters) -> Result<Step, Fault> {
        loop {
            let State::Open(open) = &mut self.state else { return Ok(Step::Waiting) };
            let Some(mut record) = self.incoming.record(counters)? else {
                return Ok(if self.is_cut { self.end(Step::Truncated) } else { Step::Waiting });
            };
            match open.opener.open(&mut record)? {
                ContentType::ApplicationData if !record.is_empty() => {
                    open.empty_records = 0;
                    return Ok(Step::Bytes(record));
                }
                ContentType::Alert => match alert(&record, open.is_tls13())? {
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
                if let Some((Origin::Here, alert)) = fault.alert {
                    open.sealer.alert(FATAL, alert, &mut self.outgoing);
                }
            }
            State::Handshaking { .. } => match fault.alert {
                // Not rustls': a record it never saw.
                Some((Origin::Here, alert)) if !fault.is_said => {
                    self.outgoing.extend_from_slice(&[21, 3, 3, 0, 2, FATAL, alert.into()]);
                }
                None => fault = fault.or_sent(plain_alert(&self.outgoing)),
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
            text.append(&mut self.outgoing);
            let (State::Open(open) | State::Ended(open)) = &mut self.state else { return };
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

/// RFC 8446 §6, and RFC 5246 §7.2 where they still mean something.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What an alert that ends nothing says.
enum Said {
    Close,
    Nothing,
}

fn alert(record: &[u8], is_tls13: bool) -> Result<Said, Fault> {
    let [level, description] = *record else {
        return Err(Fault::sent(TlsAlert::DecodeError, "an alert of another length than alerts"));
    };
    match TlsAlert::from(description) {
        TlsAlert::CloseNotify => Ok(Said::Close),
        // RFC 8446 §6.1: a close_notify follows.
        TlsAlert::UserCanceled => Ok(Said::Nothing),
        // RFC 5246 §7.2. RFC 8446 §6: there every other alert ends the connection, whatever its level says.
        _ if level == WARNING && !is_tls13 => Ok(Said::Nothing),
        description => Err(Fault::received(description)),
    }
}

/// The alert that the last record of a handshake's output is, if it is one in the clear.
fn plain_alert(outgoing: &[u8]) -> Option<TlsAlert> {
    match outgoing.last_chunk::<7>()? {
        [21, 3, _, 0, 2, _, description] => Some((*description).into()),
        _ => None,
    }
}

impl Open {
    fn is_tls13(&self) -> bool {
        self.keys.negotiated_cipher_suite().tls13().is_some()
    }

    /// Seals `written`, as much as is sent at once; whether that is all of it.
    fn seal(&mut self, written: &mut Batch, now: Millis, out: &mut Vec<u8>) -> bool {
        if now.saturating_sub(self.sealed_at) >= PAUSE_MS {
            self.warmth = 0;
        }
        self.sealed_at = now;
        let mut left = SEALED_PER_SEND_MAX;
        while !written.is_empty() && left > 0 {
            if self.sealer.is_used_up() && !self.renew(out) {
                return false;
            }
            let is_warm = self.warmth >= FIRST_RECORDS_BYTES;
            let most = if is_warm { record::PLAIN_BYTES_MAX } else { FIRST_RECORD_BYTES };
            let len = written.len().min(most).min(left);
            self.sealer.seal(ContentType::ApplicationData, len, out, |out| {
                let mut missing = len;
                for slice in written.slices() {
                    let taken = slice.len().min(missing);
                    out.extend_from_slice(&slice[..taken]);
                    missing -= taken;
                    if missing == 0 {
                        break;
                    }
                }
            });
            written.advance(len);
            self.warmth = self.warmth.saturating_add(len);
            left -= len;
        }
        written.is_empty()
    }

    /// RFC 8446 §4.6.3: has the peer open what follows with a new key, and seals it with that; false where
    /// TLS has no such thing.
    fn renew(&mut self, out: &mut Vec<u8>) -> bool {
        let suite = self.keys.negotiated_cipher_suite();
        if suite.tls13().is_none() {
            return false;
        }
        self.sealer.seal(ContentType::Handshake, KEY_UPDATE.len(), out, |out| {
            out.extend_from_slice(&KEY_UPDATE);
        });
        match self.keys.update_tx_secret() {
            Ok(secrets) => self.sealer = Sealer::new(suite, secrets),
            Err(_) => return false,
        }
        true
    }

    /// A handshake message behind the handshake.
    fn further(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let suite = self.keys.negotiated_cipher_suite();
        if suite.tls13().is_none() {
            // RFC 5746 §4.5 allows it, and RFC 9325 §3.5 asks for no more.
            return Err(Fault::sent(TlsAlert::NoRenegotiation, "renegotiation is not spoken"));
        }
        // RFC 8446 §4.6.3: alone in its record, since the key behind it is another.
        let is_asked = match *message {
            [24, 0, 0, 1, asked @ (0 | 1)] => asked == 1,
            _ => {
                let why = "a handshake message that has no place here";
                return Err(Fault::sent(TlsAlert::UnexpectedMessage, why));
            }
        };
        let secrets = self.keys.update_rx_secret().map_err(Fault::of)?;
        self.opener = Opener::new(suite, secrets);
        if is_asked {
            self.renew(out);
        }
        Ok(())
    }

    /// Keeps a peer from keeping us busy with nothing.
    fn note_empty(&mut self) -> Result<(), Fault> {
        self.empty_records += 1;
        if self.empty_records > EMPTY_RECORDS_MAX {
            let why = "record after record without content";
            return Err(Fault::sent(TlsAlert::UnexpectedMessage, why));
        }
        Ok(())
    }
}

/// RFC 8446 §4.6.3: update_not_requested.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

impl Sealer {
    fn alert(&mut self, level: u8, description: TlsAlert, out: &mut Vec<u8>) {
        let said = [level, description.into()];
        self.seal(ContentType::Alert, said.len(), out, |out| out.extend_from_slice(&said));
    }
}

impl Incoming {
    /// The oldest bytes that were not used up.
    fn front(&mut self) -> Option<&mut Lease> {
        if self.current.as_ref().is_none_or(|current| current.is_empty()) {
            self.current = self.rest.pop();
        }
        self.current.as_mut()
    }

    /// The next record, if it has come whole: on the buffer that it came in, or put together.
    fn record(&mut self, counters: &Counters) -> Result<Option<Lease>, Fault> {
        loop {
            let is_begun = self.partial.is_some();
            let Some(current) = self.front() else { return Ok(None) };
            if !is_begun {
                match record::record_bytes(current).transpose()? {
                    Some(len) if len == current.len() => return Ok(self.current.take()),
                    Some(len) if len < current.len() => return Ok(Some(current.split_to(len))),
                    _ => {}
                }
            }
            if self.assemble(counters)? {
                return Ok(self.partial.take());
            }
        }
    }

    /// Copies what is there of a record that came in pieces; whether it is whole.
    fn assemble(&mut self, counters: &Counters) -> Result<bool, Fault> {
        let Some(current) = &mut self.current else { return Ok(false) };
        let partial = self.partial.get_or_insert_with(|| Lease::with_room(0));
        for _ in 0..2 {
            let len = record::record_bytes(partial).transpose()?;
            let missing = len.unwrap_or(record::HEADER_BYTES) - partial.len();
            let taken = missing.min(current.len());
            partial.append(&current[..taken], len.unwrap_or(FIRST_RECORD_BYTES));
            current.advance(taken);
            counters.bytes_assembled.add(taken as u64);
        }
        if current.is_empty() {
            self.current = None;
        }
        let len = record::record_bytes(partial).transpose()?;
        Ok(len == Some(partial.len()))
    }

    fn set_aside(&mut self) {
        // It goes back to where it came from: all before it in its buffer was opened and given away.
        if let Some(current) = self.current.take() {
            let copied = Lease::copied(std::iter::once(&*current));
            self.rest.set_aside();
            self.current = Some(copied);
        } else {
            self.rest.set_aside();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

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
            let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]);
            let made = made.expect("a name");
            let [certificate, key] =
                [made.cert.pem(), made.signing_key.serialize_pem()].map(Pem::Text);
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
            let suite = client.negotiated_cipher_suite().expect("it is over");
            let secrets = client.dangerous_extract_secrets().expect("it may be asked");
            Scene { layer, peer: Sealer::new(suite, secrets.tx), counters }
        }

        /// What comes of a record: the alert of its fault, and who has sent it.
        fn hear(&mut self, kind: ContentType, carried: &[u8]) -> Option<(Origin, TlsAlert)> {
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

    const UNEXPECTED: Option<(Origin, TlsAlert)> =
        Some((Origin::Here, TlsAlert::UnexpectedMessage));

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
    fn in_tls_13_there_are_no_warnings() {
        let warning = [WARNING, TlsAlert::UnrecognisedName.into()];
        let mut scene = Scene::new(TlsVersion::Tls13);
        let expected = Some((Origin::Peer, TlsAlert::UnrecognisedName));
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
        let refused = Some((Origin::Here, TlsAlert::NoRenegotiation));
        let decode_error = Some((Origin::Here, TlsAlert::DecodeError));
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

    /// What comes of an alert: it closes, ends nothing, or is the end with this alert of this origin.
    fn heard(level: u8, alert: TlsAlert, is_tls13: bool) -> Result<&'static str, Origin> {
        match super::alert(&[level, alert.into()], is_tls13) {
            Ok(Said::Close) => Ok("closes"),
            Ok(Said::Nothing) => Ok("ends nothing"),
            Err(fault) => {
                let (origin, said) = fault.alert.expect("a fault with an alert");
                assert_eq!(said, alert);
                Err(origin)
            }
        }
    }

    #[test]
    fn a_level_means_something_in_tls_12_only() {
        for level in 0..=u8::MAX {
            for description in 0..=u8::MAX {
                let alert = TlsAlert::from(description);
                let (closes, canceled) = (alert == TlsAlert::CloseNotify, description == 90);
                let expected = |is_tls13: bool| match () {
                    () if closes => Ok("closes"),
                    () if canceled || (level == WARNING && !is_tls13) => Ok("ends nothing"),
                    () => Err(Origin::Peer),
                };
                for is_tls13 in [true, false] {
                    let heard = heard(level, alert, is_tls13);
                    assert_eq!(heard, expected(is_tls13), "{level} {description} {is_tls13}");
                }
            }
        }
    }

    #[test]
    fn an_alert_of_another_length_is_none() {
        for record in [&[][..], &[1], &[1, 0, 0]] {
            let fault = alert(record, true).err().expect("a fault");
            assert_eq!(fault.alert, Some((Origin::Here, TlsAlert::DecodeError)), "{record:?}");
        }
    }
}
