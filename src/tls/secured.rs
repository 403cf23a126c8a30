//! What a handshake has agreed on, for whoever asks whose connection it is.

use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};

use crate::config::TlsVersion;

/// What is known of a connection inside TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// The version spoken.
    pub version: TlsVersion,
    /// The name that the client has asked for (SNI, RFC 6066 §3), in lower case.
    pub server_name: Option<Box<str>>,
    /// The protocol it has asked for (ALPN, RFC 7301), of those that are spoken here.
    pub protocol: Option<&'static str>,
    /// It goes on from an earlier connection, by a ticket.
    pub is_resumed: bool,
    /// The certificates that the client has shown and proved, its own first, in DER.
    pub client_certificates: Vec<CertificateDer<'static>>,
}

impl Secured {
    pub(super) fn of(
        connection: &UnbufferedServerConnection,
        server_name: Option<Box<str>>,
    ) -> Secured {
        Secured {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            server_name,
            protocol: connection.alpn_protocol().map(|_| super::acceptor::PROTOCOL),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client_certificates: connection
                .peer_certificates()
                .map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect())
                .unwrap_or_default(),
        }
    }
}
