//! The handshake: rustls', fed a record at a time, so that nothing behind it is touched before the keys
//! are ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use rustls::kernel::KernelConnection;
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerConnectionData, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};

use super::acceptor::{Configs, PROTOCOL};
use super::record::{self, Opener, Sealer};
use super::{Fault, TlsAlert};
use crate::buffer::Lease;
use crate::config::{Millis, TlsVersion};
use crate::http::Secured;

/// What a handshake may keep of what it received: the longest message of one is 64 KiB in rustls.
const INCOMING_BYTES_MAX: usize = 80 * 1024;

/// What it may have more room than it needs for.
const GROWTH_BYTES_MAX: usize = 4096;

/// RFC 8446 §4: how its first record begins.
const HANDSHAKE_RECORD: u8 = 22;

/// A handshake that is under way.
pub(super) struct Handshake {
    side: Side,
    /// The records that it has not used up, and the beginning of the next one.
    incoming: Vec<u8>,
    /// How much of it are whole records that it has seen.
    seen: usize,
    /// Its first byte has come.
    has_spoken: bool,
    /// The client has said in the clear that TLS comes.
    is_agreed_on: bool,
    /// Clients show certificates.
    asks_clients: bool,
    /// When the connection was there.
    pub(super) accepted_at: Millis,
}

/// Our side of it.
enum Side {
    /// The client has not said enough: it may never, and costs nothing as yet.
    Waiting(Arc<Configs>),
    Speaking {
        connection: Box<UnbufferedServerConnection>,
        asked: Arc<Asked>,
    },
}

impl Side {
    /// Begins to speak to the client whose first record this is.
    fn speaking_to(configs: &Configs, record: &[u8]) -> Result<Side, Fault> {
        let mut config = ServerConfig::clone(configs.choose(record));
        let asked =
            Arc::new(Asked { of: Arc::clone(&config.cert_resolver), name: OnceLock::new() });
        config.cert_resolver = Arc::clone(&asked) as Arc<dyn ResolvesServerCert>;
        let connection = UnbufferedServerConnection::new(config.into()).map_err(Fault::of)?;
        Ok(Side::Speaking { connection: connection.into(), asked })
    }
}

/// Notes the name that a client asks for: rustls tells it nobody but who finds the certificate.
#[derive(Debug)]
struct Asked {
    of: Arc<dyn ResolvesServerCert>,
    name: OnceLock<Box<str>>,
}

impl ResolvesServerCert for Asked {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            // A second hello of the same handshake asks for the same.
            let _ = self.name.set(name.to_ascii_lowercase().into());
        }
        self.of.resolve(hello)
    }
}

/// A handshake that makes its next step on another thread, and what came of it.
pub(crate) struct Lent {
    /// Whose it is.
    pub(crate) key: u64,
    /// Since when.
    pub(super) since: Millis,
    pub(super) handshake: Box<Handshake>,
    /// What is to be sent for it.
    pub(super) outgoing: Vec<u8>,
    /// Whether it is over, once the step was made.
    pub(super) outcome: Option<Result<bool, Fault>>,
}

impl Lent {
    /// Makes the step.
    pub(crate) fn advance(&mut self) {
        self.outcome = Some(self.handshake.step(&mut self.outgoing));
    }
}

/// What a handshake leads to.
pub(super) struct Agreed {
    pub(super) opener: Opener,
    pub(super) sealer: Sealer,
    /// Makes further keys.
    pub(super) keys: KernelConnection<ServerConnectionData>,
    pub(super) secured: Secured,
}

/// What is at hand of the next record.
pub(super) enum Next {
    /// Not all of it.
    Part,
    /// All of it.
    Whole,
    /// A request, without TLS.
    PlainHttp,
}

impl Handshake {
    pub(super) fn new(configs: Arc<Configs>, accepted_at: Millis) -> Handshake {
        Handshake {
            asks_clients: configs.asks_clients(),
            side: Side::Waiting(configs),
            incoming: Vec::new(),
            seen: 0,
            has_spoken: false,
            is_agreed_on: false,
            accepted_at,
        }
    }

    /// Nothing but TLS can come: not even a request without it is answered in the clear.
    pub(super) fn expect_tls(&mut self) {
        self.is_agreed_on = true;
    }

    /// Takes of `bytes` what belongs to the next record.
    pub(super) fn take(&mut self, bytes: &mut Lease) -> Result<Next, Fault> {
        if !self.has_spoken
            && let Some(first) = bytes.first()
        {
            // RFC 9110 §9.1: a method. Anything else is no reason to answer in the clear.
            if !self.is_agreed_on && first.is_ascii_uppercase() {
                return Ok(Next::PlainHttp);
            }
            if *first != HANDSHAKE_RECORD {
                let fault = Fault::sent(TlsAlert::UnexpectedMessage, "no TLS was spoken");
                return Err(fault);
            }
            self.has_spoken = true;
        }
        self.fill(record::HEADER_BYTES, bytes);
        match record::record_bytes(&self.incoming[self.seen..]) {
            None => return Ok(Next::Part),
            Some(len) => {
                let len = len?;
                if self.seen + len > INCOMING_BYTES_MAX {
                    let why = "a handshake longer than handshakes are";
                    return Err(Fault::sent(TlsAlert::DecodeError, why));
                }
                self.fill(len, bytes);
            }
        }
        let len = record::record_bytes(&self.incoming[self.seen..]).transpose()?;
        match len {
            Some(len) if self.incoming.len() - self.seen == len => Ok(Next::Whole),
            _ => Ok(Next::Part),
        }
    }

    /// Has of the record that is coming as much as `len` bytes, or all that is at hand.
    fn fill(&mut self, len: usize, bytes: &mut Lease) {
        let missing = (self.seen + len).saturating_sub(self.incoming.len());
        let taken = missing.min(bytes.len());
        // Not twice as much as there is: of a long one half would be for nothing.
        if self.incoming.capacity() - self.incoming.len() < taken {
            self.incoming.reserve_exact(taken.max(self.incoming.len().min(GROWTH_BYTES_MAX)));
        }
        self.incoming.extend_from_slice(&bytes[..taken]);
        bytes.advance(taken);
    }

    /// Whether the step that the record at hand allows takes long: it agrees on a key, signs or verifies. One that
    /// is sealed has a signature if the client shows certificates.
    pub(super) fn is_heavy(&self) -> bool {
        self.asks_clients || self.incoming.get(self.seen) == Some(&HANDSHAKE_RECORD)
    }

    /// The same as [`advance`](Handshake::advance), fenced: what a peer sends must cost no more than its own
    /// connection, whatever rustls makes of it. What it was working on is never looked at again.
    pub(super) fn step(&mut self, out: &mut Vec<u8>) -> Result<bool, Fault> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.advance(out)));
        let panicked = |_| Err(Fault::sent(TlsAlert::InternalError, "the handshake panicked"));
        outcome.unwrap_or_else(panicked)
    }

    /// Makes the steps that the records at hand allow; what is to be sent for them is appended to `out`.
    /// Whether it is over.
    fn advance(&mut self, out: &mut Vec<u8>) -> Result<bool, Fault> {
        self.seen = self.incoming.len();
        if let Side::Waiting(configs) = &self.side {
            self.side = Side::speaking_to(configs, &self.incoming)?;
        }
        let Side::Speaking { connection, .. } = &mut self.side else { return Ok(false) };
        loop {
            let UnbufferedStatus { discard, state } =
                connection.process_tls_records(&mut self.incoming[..self.seen]);
            let outcome = match state {
                Ok(ConnectionState::EncodeTlsData(mut encoding)) => {
                    append(out, |room| encoding.encode(room));
                    None
                }
                Ok(ConnectionState::TransmitTlsData(sending)) => {
                    sending.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Ok(false)),
                Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(true)),
                Ok(_) => Some(Err(Fault::sent(
                    TlsAlert::UnexpectedMessage,
                    "the handshake was given up, or data sent before its end",
                ))),
                Err(error) => Some(Err(Fault::of(error))),
            };
            self.incoming.drain(..discard);
            self.seen -= discard;
            match outcome {
                None => {}
                Some(Ok(_)) => return Ok(!connection.is_handshaking()),
                Some(Err(fault)) => {
                    last_words(connection, &mut self.incoming[..self.seen], out);
                    return Err(fault);
                }
            }
        }
    }

    /// Ends it: the keys are ours.
    pub(super) fn finish(self) -> Result<Agreed, Fault> {
        debug_assert!(self.incoming.is_empty(), "a handshake uses up what it was given");
        let Side::Speaking { connection, asked } = self.side else {
            let fault = Fault::sent(TlsAlert::InternalError, "a handshake ended unbegun");
            return Err(fault);
        };
        let secured = agreed_on(&connection, &asked);
        let (secrets, keys) = connection.dangerous_into_kernel_connection().map_err(Fault::of)?;
        let suite = keys.negotiated_cipher_suite();
        let (opener, sealer) = (Opener::new(suite, secrets.rx), Sealer::new(suite, secrets.tx));
        Ok(Agreed { opener, sealer, keys, secured })
    }
}

fn agreed_on(of: &UnbufferedServerConnection, asked: &Asked) -> Secured {
    let chain = of.peer_certificates().unwrap_or_default();
    Secured {
        version: match of.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        },
        server_name: asked.name.get().cloned(),
        protocol: of.alpn_protocol().map(|_| PROTOCOL),
        is_resumed: of.handshake_kind() == Some(HandshakeKind::Resumed),
        client_certificates: chain.iter().map(|one| one.as_ref().into()).collect(),
    }
}

/// Appends the alert that rustls has for the peer. It is asked only as long as it has something: it would
/// look at what was received once more, and panic, if that were not where it was.
fn last_words(of: &mut UnbufferedServerConnection, mut seen: &mut [u8], out: &mut Vec<u8>) {
    while of.wants_write() {
        let UnbufferedStatus { discard, state } = of.process_tls_records(seen);
        let Ok(ConnectionState::EncodeTlsData(mut encoding)) = state else { return };
        append(out, |room| encoding.encode(room));
        seen = &mut seen[discard..];
    }
}

/// Appends what `encode` writes, which says how much room it needs.
fn append(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        encode(&mut [])
    else {
        return;
    };
    out.resize(start + required_size, 0);
    let written = encode(&mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
}

#[cfg(test)]
mod tests {
    use super::super::Acceptor;
    use super::*;
    use crate::buffer::Pool;
    use crate::config::{Pem, TlsSettings};
    use crate::counters::AlertBy;

    #[test]
    fn a_message_that_never_ends_keeps_no_more_than_its_bound() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a name");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let settings = TlsSettings::of(Pem::Text(certificate), Pem::Text(key));
        let acceptor = Acceptor::new(settings).expect("a certificate");
        let mut handshake = Handshake::new(acceptor.configs(), 0);
        let (pool, mut out, mut received) = (Pool::new(1, 64), Vec::new(), 0);
        // A ClientHello of 64 KiB, in pieces so short that their headers take it beyond 80 KiB.
        let begin = b"\x16\x03\x01\0\x11\x01\0\xff\xff\x03\x03\0\0\0\0\0\0\0\0\0\0\0";
        let more = b"\x16\x03\x01\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let fault = loop {
            let record = if received == 0 { begin } else { more };
            let mut lease = pool.take().expect("it is vacant").fill(record);
            match handshake.take(&mut lease) {
                Ok(next) => assert!(matches!(next, Next::Whole)),
                Err(fault) => break fault,
            }
            received += record.len();
            assert!(!handshake.step(&mut out).expect("it may go on"), "it is not over");
            assert!(handshake.incoming.capacity() <= INCOMING_BYTES_MAX + GROWTH_BYTES_MAX);
        };
        assert_eq!(fault.alert, Some((AlertBy::Us, TlsAlert::DecodeError)));
        assert!((INCOMING_BYTES_MAX - more.len()..=INCOMING_BYTES_MAX).contains(&received));
    }
}
