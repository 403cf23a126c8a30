//! Certificates as files have them: read, checked, and found by name.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::{Identity, Pem};

/// Why a certificate, or what belongs to it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error(
        "{path}: {error}; the server reads it at the start and at a reload, as the user it is then"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is nothing of the kind in it.
    #[error("{place}: no {what} in PEM is there ({detail})")]
    Missing {
        /// Where.
        place: String,
        /// What was looked for.
        what: &'static str,
        /// What was found.
        detail: String,
    },
    /// A certificate is none.
    #[error("{place}: the certificate cannot be read: {detail}")]
    Faulty {
        /// Where.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// Certificate and key are not of each other, or of a kind that is not known.
    #[error("{place}: the key is not the certificate's, or of no known kind: {detail}")]
    KeyMismatch {
        /// Where.
        place: String,
        /// What rustls says.
        detail: String,
    },
    /// What a server config cannot be made of.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// There is none.
    #[error("TLS takes a certificate")]
    None,
}

/// A certificate that is ready to be shown.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) certified: Arc<CertifiedKey>,
    /// Names it is for, in lower case; `*.` begins those of one level.
    pub(super) names: Vec<String>,
    /// Whom it names (RFC 5280 §4.1.2.6).
    pub(super) subject: String,
    /// When it ends, in seconds since 1970.
    pub(super) not_after: i64,
}

impl CertificateError {
    /// The file it is about, or what stands for one.
    pub fn place(&self) -> Option<String> {
        match self {
            CertificateError::Unreadable { path, .. } => Some(path.display().to_string()),
            CertificateError::Missing { place, .. }
            | CertificateError::Faulty { place, .. }
            | CertificateError::KeyMismatch { place, .. } => Some(place.clone()),
            CertificateError::Setup(_) | CertificateError::None => None,
        }
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, CertificateError> {
        match self {
            Pem::Text(text) => Ok(text.clone().into_bytes()),
            Pem::File(path) => read(path),
        }
    }

    fn place(&self) -> String {
        match self {
            Pem::Text(_) => "the PEM text".into(),
            Pem::File(path) => path.display().to_string(),
        }
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |error| CertificateError::Unreadable { path: path.clone(), error };
    fs::read(path).map_err(unreadable)
}

/// Every certificate of a PEM text.
pub(super) fn chain(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = pem.read()?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let (what, place) = ("certificate", pem.place());
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(CertificateError::Missing { place, what, detail: "nothing is".into() }),
        Err(error) => Err(CertificateError::Missing { place, what, detail: error.to_string() }),
    }
}

impl Certificate {
    pub(super) fn read(
        identity: &Identity,
        provider: &CryptoProvider,
    ) -> Result<Certificate, CertificateError> {
        let chain = chain(&identity.certificate)?;
        let Facts { names, subject, not_after } = facts(&chain[0], &identity.certificate.place())?;
        let (key, place) = (identity.key.read()?, identity.key.place());
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
            let (what, detail) = ("private key", error.to_string());
            CertificateError::Missing { place: place.clone(), what, detail }
        })?;
        let mut certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| CertificateError::KeyMismatch { place, detail: error.to_string() })?;
        certified.ocsp = identity.ocsp.as_ref().map(read).transpose()?;
        Ok(Certificate { certified: Arc::new(certified), names, subject, not_after })
    }
}

/// What a certificate says of itself.
struct Facts {
    names: Vec<String>,
    subject: String,
    not_after: i64,
}

/// The names and the end of a certificate (RFC 5280 §4.1.2.5, §4.2.1.6).
fn facts(der: &CertificateDer<'_>, place: &str) -> Result<Facts, CertificateError> {
    let faulty = |detail: String| CertificateError::Faulty { place: place.to_owned(), detail };
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| faulty(error.to_string()))?;
    let names = parsed.subject_alternative_name().map_err(|error| faulty(error.to_string()))?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let subject = parsed.subject().to_string();
    let not_after = parsed.validity().not_after.timestamp();
    Ok(Facts { names: names.collect(), subject, not_after })
}

/// Finds the certificate for the name that a client asks for.
#[derive(Debug)]
pub(super) struct ByName {
    names: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl ByName {
    pub(super) fn of(certificates: &[Certificate]) -> Option<ByName> {
        let first = Arc::clone(&certificates.first()?.certified);
        let mut names = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                // Of two for the same name the earlier one is shown.
                names.entry(name.clone()).or_insert_with(|| Arc::clone(&certificate.certified));
            }
        }
        Some(ByName { names, first })
    }

    /// RFC 6125 §6.4.3: a wildcard stands for one whole label, the leftmost.
    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        let wild = || {
            let (_, rest) = name.split_once('.')?;
            self.names.get(&format!("*.{rest}"))
        };
        self.names.get(&name).or_else(wild).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().map_or(&self.first, |name| self.find(name));
        Some(Arc::clone(found))
    }
}
