//! TLS as an operator asks for it, by listener: plain data. `tls::Acceptor` is made of it.

use std::fmt;
use std::path::PathBuf;

/// Where PEM text is (RFC 7468).
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file, which is read at the start and at each reload.
    File(PathBuf),
    /// Here.
    Text(String),
}

// A key is not for logs.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.fmt(f),
            Pem::Text(_) => f.write_str("Text(..)"),
        }
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Pem {
        Pem::File(path)
    }
}

/// A certificate with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and behind it those that lead to a root. Its names are those that it is shown for.
    pub certificate: Pem,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: Pem,
    /// An OCSP response in DER that is stapled to it (RFC 6066 §8).
    pub ocsp: Option<PathBuf>,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// They must, or there is no connection.
    #[default]
    Required,
    /// They may; one that is shown must be good.
    Optional,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), with the cipher suites of RFC 9325 §4.2 alone.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// All of them, the oldest first.
    pub const ALL: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

    /// Its number, as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        }
    }
}

/// A listener whose connections are inside TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Certificates. Which one is shown is chosen by the name the client asks for (SNI, RFC 6066 §3);
    /// the first is the one for who asks for none of theirs.
    pub identities: Vec<Identity>,
    /// Whose certificates clients may show, in PEM; without any, they are not asked.
    pub client_roots: Option<Pem>,
    /// Whether they must. Without `client_roots` it says nothing.
    pub client_certificate: ClientCertificate,
    /// The oldest version spoken. Default 1.2.
    pub oldest: TlsVersion,
    /// Begins in the clear, and speaks TLS to clients that ask for it by `Upgrade: TLS/1.2` (RFC 2817). Default
    /// false, and never for a port that https is spoken to: who can come between joins a client's https to
    /// a switch of their own (CVE-2025-49812).
    pub by_upgrade: bool,
    /// Gives no tickets, so that every handshake is a full one. Default false: the keys of tickets are
    /// made anew every six hours, and shared by all cores. With `client_roots` there are none, whatever this
    /// says: a client's certificate is checked at every handshake.
    pub without_tickets: bool,
    /// Has the files looked at every two seconds, and read anew if they have changed. Default false: a
    /// reload reads them.
    pub watch: bool,
}

impl TlsSettings {
    /// One certificate for all names, and all else as usual.
    pub fn of(certificate: impl Into<Pem>, key: impl Into<Pem>) -> TlsSettings {
        let (certificate, key) = (certificate.into(), key.into());
        let identities = vec![Identity { certificate, key, ocsp: None }];
        TlsSettings { identities, ..TlsSettings::default() }
    }
}
