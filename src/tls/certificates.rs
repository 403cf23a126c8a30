//! Certificates as files have them: read, checked, and found by name.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::ocsp::{self, Subject, Validity};
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
    /// A certificate is none, or none that can be used.
    #[error("{place}: {which} cannot be read: {detail}")]
    Faulty {
        /// Where.
        place: String,
        /// Which one of its file.
        which: String,
        /// What is wrong.
        detail: String,
    },
    /// A key cannot be read without a passphrase.
    #[error(
        "{place}: the private key is encrypted, and nobody is asked for its passphrase: decrypt it (`openssl pkey \
         -in KEY -out DECRYPTED`) into a file that the server alone may read"
    )]
    Encrypted {
        /// Where.
        place: String,
    },
    /// An OCSP response is none that can be stapled.
    #[error("{place}: no OCSP response in DER that can be stapled: {detail}")]
    Staple {
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
    shown: Arc<Shown>,
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
            | CertificateError::Encrypted { place }
            | CertificateError::Staple { place, .. }
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

/// The certificates of a PEM text, each of which can be read.
pub(super) struct Chain {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    place: String,
}

impl Chain {
    pub(super) fn read(pem: &Pem) -> Result<Chain, CertificateError> {
        let text = pem.read()?;
        let (what, place) = ("certificate", pem.place());
        let missing = |detail| CertificateError::Missing { place: pem.place(), what, detail };
        let mut chain = Chain { certificates: Vec::new(), place };
        let sections = CertificateDer::pem_slice_iter(&text).collect::<Vec<_>>();
        for (index, section) in sections.iter().enumerate() {
            match section {
                Ok(certificate) => chain.certificates.push(certificate.clone()),
                Err(error) if index == 0 => return Err(missing(error.to_string())),
                Err(error) => return Err(chain.faulty(index, error.to_string())),
            }
        }
        if chain.certificates.is_empty() {
            return Err(missing("nothing is".into()));
        }
        (0..chain.certificates.len()).try_for_each(|index| chain.parsed(index).map(|_| ()))?;
        Ok(chain)
    }

    fn parsed(&self, index: usize) -> Result<X509Certificate<'_>, CertificateError> {
        match X509Certificate::from_der(&self.certificates[index]) {
            Ok(([], parsed)) => Ok(parsed),
            Ok((rest, _)) => Err(self.faulty(index, format!("{} bytes are behind it", rest.len()))),
            Err(error) => Err(self.faulty(index, error.to_string())),
        }
    }

    /// One of them is wrong.
    pub(super) fn faulty(&self, index: usize, detail: String) -> CertificateError {
        let which = match index {
            0 if self.certificates.len() < 2 => "the certificate".to_owned(),
            index => format!("certificate {} of the file", index + 1),
        };
        CertificateError::Faulty { place: self.place.clone(), which, detail }
    }
}

impl Certificate {
    pub(super) fn read(
        identity: &Identity,
        provider: &CryptoProvider,
    ) -> Result<Certificate, CertificateError> {
        let chain = Chain::read(&identity.certificate)?;
        let Facts { names, subject, answered, not_after } = facts(&chain)?;
        let (key, place) = (private_key(&identity.key)?, identity.key.place());
        let bare = CertifiedKey::from_der(chain.certificates, key, provider)
            .map_err(|error| CertificateError::KeyMismatch { place, detail: error.to_string() })?;
        let response = identity.ocsp.as_ref().map(|path| staple(path, &answered)).transpose()?;
        let stapled = response.map(|(response, validity)| {
            (Arc::new(CertifiedKey { ocsp: Some(response), ..bare.clone() }), validity)
        });
        let shown = Arc::new(Shown { bare: Arc::new(bare), stapled });
        Ok(Certificate { shown, names, subject, not_after })
    }

    /// For how long the OCSP response beside it is good.
    pub(super) fn staple(&self) -> Option<Validity> {
        self.shown.stapled.as_ref().map(|(_, validity)| *validity)
    }

    /// What it is called: by the first name it is for, and by whom it names if there is none.
    pub(super) fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.subject)
    }
}

/// As clients get it.
#[derive(Debug)]
struct Shown {
    bare: Arc<CertifiedKey>,
    /// With its OCSP response, as long as that is good.
    stapled: Option<(Arc<CertifiedKey>, Validity)>,
}

impl Shown {
    /// At this time, in seconds since 1970.
    fn at(&self, now: impl FnOnce() -> i64) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, validity)) if validity.fault(now()).is_none() => Arc::clone(stapled),
            _ => Arc::clone(&self.bare),
        }
    }
}

/// In seconds since 1970.
pub(super) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = pem.read()?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let (what, detail, place) = ("private key", error.to_string(), pem.place());
        match is_encrypted(&text) {
            true => CertificateError::Encrypted { place },
            false => CertificateError::Missing { place, what, detail },
        }
    })
}

/// As PKCS #8 (RFC 7468 §11), or the older way of OpenSSL, by a header (RFC 1421 §4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim_end);
    lines.any(|line| {
        line == "-----BEGIN ENCRYPTED PRIVATE KEY-----" || line == "Proc-Type: 4,ENCRYPTED"
    })
}

/// An OCSP response, and for how long it is good.
fn staple(path: &PathBuf, subject: &Subject) -> Result<(Vec<u8>, Validity), CertificateError> {
    let response = read(path)?;
    let place = path.display().to_string();
    match ocsp::read(&response, subject) {
        Ok(validity) => Ok((response, validity)),
        Err(detail) => Err(CertificateError::Staple { place, detail }),
    }
}

/// What a certificate says of itself.
struct Facts {
    names: Vec<String>,
    subject: String,
    /// What an OCSP response has to be about.
    answered: Subject,
    not_after: i64,
}

/// The names, the number, the issuer and the end of the first certificate (RFC 5280 §4.1.2, §4.2.1.6).
fn facts(chain: &Chain) -> Result<Facts, CertificateError> {
    let parsed = chain.parsed(0)?;
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|error| chain.faulty(0, error.to_string()))?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let subject = parsed.subject().to_string();
    let not_after = parsed.validity().not_after.timestamp();
    let answered = Subject {
        serial: parsed.raw_serial().to_vec(),
        issuer: parsed.issuer().as_raw().to_vec(),
        keys: keys(chain, parsed.issuer().as_raw())?,
    };
    Ok(Facts { names: names.collect(), subject, answered, not_after })
}

/// The keys of the issuer of this name, as far as the chain has them behind the first certificate, which may
/// be named as its issuer is.
fn keys(chain: &Chain, issuer: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    let mut keys = Vec::new();
    for index in 1..chain.certificates.len() {
        let parsed = chain.parsed(index)?;
        if parsed.subject().as_raw() == issuer {
            keys.push(parsed.public_key().subject_public_key.data.to_vec());
        }
    }
    Ok(keys)
}

/// Finds the certificate for the name that a client asks for.
#[derive(Debug)]
pub(super) struct ByName {
    names: HashMap<String, Arc<Shown>>,
    first: Arc<Shown>,
}

impl ByName {
    pub(super) fn of(certificates: &[Certificate]) -> Option<ByName> {
        let first = Arc::clone(&certificates.first()?.shown);
        let mut names = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                // Of two for the same name the earlier one is shown.
                names.entry(name.clone()).or_insert_with(|| Arc::clone(&certificate.shown));
            }
        }
        Some(ByName { names, first })
    }

    /// RFC 6125 §6.4.3: a wildcard stands for one whole label, the leftmost.
    fn find(&self, name: &str) -> &Arc<Shown> {
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
        Some(found.at(unix_now))
    }
}
