//! What a listener needs to speak TLS: made at the start, made anew at a reload, asked once a handshake.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::certificates::{ByName, Certificate, CertificateError, Chain, unix_now};
use super::hello;
use super::watch::{Stamp, stamps};
use crate::config::{ClientCertificate, TlsSettings, TlsVersion};

/// The protocol inside (RFC 7301 §6).
pub(super) const PROTOCOL: &str = "http/1.1";

/// Both, the newest first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The name it is for; the first, if there are several, and whom it names if there is none.
    pub name: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// The OCSP response that stands beside a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// The name of its certificate, as [`Expiry`] has it.
    pub name: String,
    /// When it ends, in seconds since 1970; nothing of one that does not (RFC 6960 §4.2.2.1).
    pub next_update: Option<i64>,
    /// Why it is not stapled, if it was not to be used when it was read: it had ended, or had not begun.
    pub warning: Option<String>,
}

/// The TLS side of a listener, shared by all cores. What it holds is replaced whole; a handshake that has
/// begun goes on with what it began with.
#[derive(Debug)]
pub struct Acceptor {
    settings: TlsSettings,
    // Locked for a moment once a handshake, which takes a thousand times as long.
    current: RwLock<Current>,
}

/// What rustls is told of a handshake, by the client's ciphers.
#[derive(Debug)]
pub(super) struct Configs {
    /// For clients with AES in hardware, as we have it.
    usual: Arc<ServerConfig>,
    /// For those that ask for ChaCha20 first.
    chacha: Arc<ServerConfig>,
    asks_clients: bool,
}

impl Configs {
    fn of(config: ServerConfig, asks_clients: bool) -> Configs {
        let [mut usual, mut chacha] = [config.clone(), config];
        (usual.ignore_client_order, chacha.ignore_client_order) = (true, false);
        Configs { usual: usual.into(), chacha: chacha.into(), asks_clients }
    }

    /// Whether clients may show certificates.
    pub(super) fn asks_clients(&self) -> bool {
        self.asks_clients
    }

    /// For the client whose first record this is.
    pub(super) fn choose(&self, record: &[u8]) -> &Arc<ServerConfig> {
        if hello::prefers_chacha(record) { &self.chacha } else { &self.usual }
    }
}

/// What is to take the place of what an [`Acceptor`] has.
#[derive(Debug)]
pub struct Renewed(Current);

#[derive(Debug)]
struct Current {
    configs: Arc<Configs>,
    expiries: Vec<Expiry>,
    staples: Vec<Staple>,
    /// Its files as they were before they were read.
    stamps: Vec<Stamp>,
}

impl Acceptor {
    /// Reads what the settings name. The log warns of OCSP responses that are not stapled.
    ///
    /// # Errors
    /// A file cannot be read, or what is in it cannot be used.
    pub fn new(settings: TlsSettings) -> Result<Acceptor, CertificateError> {
        let current = build(&settings)?;
        warn(&current.staples);
        Ok(Acceptor { settings, current: RwLock::new(current) })
    }

    /// Whether there could be one of these settings.
    ///
    /// # Errors
    /// As of [`Acceptor::new`].
    pub(crate) fn check(settings: &TlsSettings) -> Result<(), CertificateError> {
        build(settings).map(|_| ())
    }

    /// Reads everything anew.
    ///
    /// # Errors
    /// As of [`Acceptor::new`].
    pub fn read_anew(&self) -> Result<Renewed, CertificateError> {
        Ok(Renewed(build(&self.settings)?))
    }

    /// Uses what was read for the handshakes that begin from now on. Tickets given before are good still.
    /// The log warns as of [`Acceptor::new`].
    pub fn renew(&self, Renewed(mut next): Renewed) {
        warn(&next.staples);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut config = ServerConfig::clone(&next.configs.usual);
        config.ticketer = Arc::clone(&current.configs.usual.ticketer);
        next.configs = Configs::of(config, next.configs.asks_clients).into();
        *current = next;
    }

    /// What it was made of.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// When each of its certificates ends.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).expiries.clone()
    }

    /// The OCSP responses that stand beside its certificates.
    pub fn staples(&self) -> Vec<Staple> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).staples.clone()
    }

    /// Its files as they were when they were read.
    pub(super) fn stamps(&self) -> Vec<Stamp> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).stamps.clone()
    }

    /// For a handshake that begins now.
    pub(super) fn configs(&self) -> Arc<Configs> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).configs)
    }
}

fn warn(staples: &[Staple]) {
    for warning in staples.iter().filter_map(|staple| staple.warning.as_ref()) {
        tracing::warn!("{warning}");
    }
}

/// AES-128 goes before AES-256: the hash of the latter's suites, SHA-384, has no instructions of its own on most
/// processors, and a handshake takes a tenth longer by it. RFC 9325 §4.2 and browsers have them in this order.
fn provider_in_order() -> CryptoProvider {
    let mut provider = provider::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    });
    provider
}

fn build(settings: &TlsSettings) -> Result<Current, CertificateError> {
    let provider = Arc::new(provider_in_order());
    let setup = |error: &dyn std::error::Error| CertificateError::Setup(error.to_string());
    let (stamps, now) = (stamps(settings), unix_now());
    let certificates = settings
        .identities
        .iter()
        .map(|identity| Certificate::read(identity, &provider))
        .collect::<Result<Vec<_>, _>>()?;
    let resolver = ByName::of(&certificates).ok_or(CertificateError::None)?;
    let versions = match settings.oldest {
        TlsVersion::Tls12 => &VERSIONS[..],
        TlsVersion::Tls13 => &VERSIONS[..1],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| setup(&error))?;
    let builder = match &settings.client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let mut store = RootCertStore::empty();
            let chain = Chain::read(roots)?;
            for (index, root) in chain.certificates.iter().enumerate() {
                let added = store.add(root.clone());
                added.map_err(|error| chain.faulty(index, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(store.into(), provider);
            let verifier = match settings.client_certificate {
                ClientCertificate::Required => verifier,
                ClientCertificate::Optional => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| setup(&error))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![PROTOCOL.into()];
    // The records are ours from the end of the handshake on.
    config.enable_secret_extraction = true;
    config.max_early_data_size = 0;
    // A ticket would stand for a certificate that has ended since, or whose root is not trusted any more:
    // rustls checks none on the way, and each handshake that is resumed gives another.
    if settings.without_tickets || settings.client_roots.is_some() {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    } else {
        config.ticketer = provider::Ticketer::new().map_err(|error| setup(&error))?;
        // A client opens few connections at once by one ticket.
        config.send_tls13_tickets = 2;
    }
    let expiries = certificates
        .iter()
        .map(|one| Expiry { name: one.name().to_owned(), not_after: one.not_after });
    let staples = certificates.iter().filter_map(|one| staple(one, now));
    let (expiries, staples) = (expiries.collect(), staples.collect());
    let configs = Configs::of(config, settings.client_roots.is_some()).into();
    Ok(Current { configs, expiries, staples, stamps })
}

fn staple(certificate: &Certificate, now: i64) -> Option<Staple> {
    let (validity, name) = (certificate.staple()?, certificate.name());
    let fault = validity.fault(now);
    let warning = fault.map(|fault| format!("the OCSP response for {name} {fault}"));
    Some(Staple { name: name.to_owned(), next_update: validity.next_update, warning })
}
