//! TLS on the connections of `clients.rs`, by rustls, which does no I/O here: bytes in, bytes out.
//!
//! ```text
//!   what is to be said ──► write ──► output ──► sent
//!   what was received ──► receive ──► what was said
//! ```
//!
//! Who the server is matters to nobody who loads a machine of their own: its certificate may be
//! signed by anyone and have any name. The signature in its handshake is verified by it, so that no
//! server does less than the work of one.

use std::io::{IoSlice, Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
};
use serde_json::{Value, json};
use upring::buffer::Batch;

use crate::fault::Fault;
use crate::options::{Common, Tls, Version};

/// Servers whose sessions a seat remembers: there is one.
const SESSIONS_MAX: usize = 2;

/// See [`Handshakes::text`].
const FULL_FEW: u64 = 3;

/// What the connections of one thread share, and what is left of those that were.
pub(crate) struct Security {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// The same with a seat's own tickets, by place; none if they are not kept.
    keeping: Vec<Option<Arc<ClientConfig>>>,
}

/// Handshakes that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshakes {
    pub(crate) all: u64,
    /// Those of them that took up an earlier session.
    pub(crate) resumed: u64,
}

impl Handshakes {
    pub(crate) fn add(&mut self, other: Handshakes) {
        self.all += other.all;
        self.resumed += other.resumed;
    }

    /// For machines; null without TLS.
    pub(crate) fn json(self, options: &Tls) -> Value {
        let Handshakes { all, resumed } = self;
        if options.tls { json!({ "handshakes": all, "resumed": resumed }) } else { Value::Null }
    }

    /// A part of a sentence, for people; nothing without TLS. Of each client's handshakes the first
    /// few may be full ones, although it keeps tickets.
    pub(crate) fn text(self, common: &Common) -> String {
        let Handshakes { all, resumed } = self;
        let few = FULL_FEW * common.connections as u64;
        match &common.tls {
            Tls { tls: false, .. } => String::new(),
            Tls { tls_resume: true, .. } if resumed == 0 && all > few => {
                format!(
                    ", {all} handshakes, NONE RESUMED: the server gives no tickets, or takes none"
                )
            }
            _ => format!(", {all} handshakes, {resumed} of them resumed"),
        }
    }
}

impl Security {
    /// What is asked for, of so many seats; `None` if nothing is.
    pub(crate) fn of(options: &Tls, seats: usize) -> Option<Security> {
        let Tls { tls, tls_version, tls_resume, tls_name } = options;
        let versions = match tls_version {
            _ if !tls => return None,
            Some(Version::V12) => &[&TLS12][..],
            Some(Version::V13) => &[&TLS13],
            None => &[&TLS13, &TLS12],
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let config = configuration(provider, versions, Anyone(algorithms));
        Some(Security {
            config: Arc::new(config),
            name: tls_name.clone(),
            keeping: vec![None; if *tls_resume { seats } else { 0 }],
        })
    }

    /// The client's end of a new connection of a seat.
    pub(crate) fn begin(&mut self, place: usize) -> Secured {
        let config = match self.keeping.get_mut(place) {
            None => &self.config,
            // Tickets are used once: seats that shared them would take them from each other.
            Some(own) => own.get_or_insert_with(|| {
                let mut config = ClientConfig::clone(&self.config);
                config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
                Arc::new(config)
            }),
        };
        let mut connection = ClientConnection::new(Arc::clone(config), self.name.clone())
            .expect("the provider has what a first message needs");
        // What is said at once is as long as it is.
        connection.set_buffer_limit(None);
        Secured { connection: Box::new(connection), has_said_close: false, has_ended: false }
    }

    /// A first message, which may be sent by anyone, and any number of times.
    pub(crate) fn hello(&mut self) -> Vec<u8> {
        // Of no seat: it has no ticket.
        self.begin(usize::MAX).output().expect("a client speaks first")
    }
}

fn configuration(
    provider: Arc<CryptoProvider>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    verifier: Anyone,
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider has suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Believes that anyone is who they say they are, as long as they have the key to what they show.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _staple: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The client's end of one connection.
pub(crate) struct Secured {
    connection: Box<ClientConnection>,
    has_said_close: bool,
    /// The server has said that this was all.
    has_ended: bool,
}

impl Secured {
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether an earlier session was taken up.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the server has said that this was all.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether we have.
    pub(crate) fn has_said_close(&self) -> bool {
        self.has_said_close
    }

    /// What was said in what was received.
    ///
    /// # Errors
    /// It is no TLS, or none that can go on.
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut said = Vec::new();
        while !bytes.is_empty() && !self.has_ended {
            self.connection.read_tls(&mut bytes).map_err(|error| Fault::Tls(error.to_string()))?;
            let is_answered = self.connection.protocol_version().is_some();
            let state = self.connection.process_new_packets().map_err(|error| match error {
                Error::InvalidMessage(_) if !is_answered => Fault::Clear,
                error => Fault::Tls(error.to_string()),
            })?;
            let known = said.len();
            said.resize(known + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut said[known..]).expect("so much is there");
            self.has_ended = state.peer_has_closed();
        }
        Ok(said)
    }

    /// What it means that the server ended the connection beneath.
    pub(crate) fn cut(&self) -> Fault {
        if self.is_handshaking() { Fault::Handshake } else { Fault::Truncated }
    }

    /// Says what is in a batch, in as few records as it fits; before the handshake is over it waits
    /// for that.
    pub(crate) fn write(&mut self, batch: &Batch) {
        let slices: Vec<IoSlice<'_>> = batch.slices().map(IoSlice::new).collect();
        let written = self.connection.writer().write_vectored(&slices);
        debug_assert_eq!(written.ok(), Some(batch.len()), "there is no limit to what waits");
    }

    /// Says that this is all, once everything else could be said.
    pub(crate) fn finish(&mut self) {
        if !self.is_handshaking() && !self.has_said_close {
            self.connection.send_close_notify();
            self.has_said_close = true;
        }
    }

    /// What is to be sent, if there is something.
    pub(crate) fn output(&mut self) -> Option<Vec<u8>> {
        let mut output = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut output).expect("memory takes everything");
        }
        (!output.is_empty()).then_some(output)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    fn server() -> ServerConnection {
        let made = rcgen::generate_simple_self_signed(vec!["somebody.test".to_owned()]);
        let made = made.expect("a name");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("both")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
            .expect("its own key");
        ServerConnection::new(Arc::new(config)).expect("it can be begun")
    }

    fn options(version: Version) -> Tls {
        let tls_name = ServerName::try_from("localhost").expect("a name");
        Tls { tls: true, tls_version: Some(version), tls_resume: false, tls_name }
    }

    /// What a server says to so many bytes.
    fn answer(server: &mut ServerConnection, mut bytes: &[u8]) -> Vec<u8> {
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).expect("it is memory");
            server.process_new_packets().expect("it is TLS");
        }
        let mut output = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut output).expect("it is memory");
        }
        output
    }

    /// The lengths of records (RFC 8446 §5.1).
    fn records(mut bytes: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        while let [_, _, _, high, low, rest @ ..] = bytes {
            found.push(usize::from(u16::from_be_bytes([*high, *low])));
            bytes = &rest[found[found.len() - 1]..];
        }
        found
    }

    #[test]
    fn what_is_said_in_a_turn_shares_records_also_before_the_handshake_is_over() {
        for version in [Version::V12, Version::V13] {
            for is_early in [true, false] {
                let mut security = Security::of(&options(version), 1).expect("it is asked for");
                let (mut client, mut server) = (security.begin(0), server());
                let mut batch = Batch::default();
                for piece in ["GET ", "/ HTTP/1.1", "\r\n\r\n"] {
                    batch.push(piece.into());
                }
                batch.push(vec![b'x'; 1000].into());
                if is_early {
                    client.write(&batch);
                }
                let mut last = Vec::new();
                while client.is_handshaking() || last.is_empty() {
                    last = client.output().unwrap_or_default();
                    let answer = answer(&mut server, &last);
                    assert_eq!(client.receive(&answer).expect("it is TLS"), b"");
                    if !client.is_handshaking() {
                        if !is_early {
                            client.write(&batch);
                        }
                        last = client.output().unwrap_or(last);
                    }
                }
                let lengths = records(&last);
                let shared = lengths.iter().filter(|length| **length > 1018).count();
                assert_eq!(shared, 1, "{version:?}, {is_early}: {lengths:?}");
                answer(&mut server, &last);
                let mut said = vec![0; 1018];
                server.reader().read_exact(&mut said).expect("it has come");
                assert_eq!(said, batch.slices().flatten().copied().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_close_is_said_once_and_not_in_a_handshake() {
        let mut security = Security::of(&options(Version::V13), 1).expect("it is asked for");
        let (mut client, mut server) = (security.begin(0), server());
        client.finish();
        assert!(!client.has_said_close());
        while client.is_handshaking() {
            let answer = answer(&mut server, &client.output().unwrap_or_default());
            client.receive(&answer).expect("it is TLS");
        }
        let tickets = answer(&mut server, &client.output().expect("its Finished"));
        client.receive(&tickets).expect("it is TLS");
        client.finish();
        client.finish();
        assert!(client.has_said_close());
        assert_eq!(records(&client.output().expect("an alert")).len(), 1);
        assert!(matches!(client.cut(), Fault::Truncated));
        server.send_close_notify();
        let answer = answer(&mut server, &[]);
        client.receive(&answer).expect("it is TLS");
        assert!(client.has_ended());
    }
}
