//! What is known of a connection inside TLS, for whoever asks by what connection a request came. Plain data:
//! `tls` makes it once a handshake.

use crate::config::TlsVersion;

/// What a handshake has agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// The version spoken.
    pub version: TlsVersion,
    /// The name that the client has asked for (SNI, RFC 6066 §3), in lower case.
    pub server_name: Option<Box<str>>,
    /// The protocol that was agreed on (ALPN, RFC 7301), if the client named any.
    pub protocol: Option<&'static str>,
    /// The connection goes on from an earlier one, by a ticket.
    pub is_resumed: bool,
    /// The certificates that the client has shown and proved, its own first, in DER (RFC 5280).
    pub client_certificates: Vec<Box<[u8]>>,
}
