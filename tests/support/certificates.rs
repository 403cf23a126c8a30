//! An authority of a test's own: certificates as files, whoever trusts them, and rustls' client over a socket.

#![allow(dead_code, reason = "each test takes the part of it that it needs")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Who issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::named("an authority for tests")
    }

    pub(crate) fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate, in PEM.
    pub(crate) fn root(&self) -> String {
        self.0.pem()
    }

    /// Its key, in PEM.
    pub(crate) fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// For names and addresses, good from yesterday for a year.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, SystemTime::now() + 365 * DAY)
    }

    pub(crate) fn issue_until(&self, names: &[&str], end: SystemTime) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common = names.first().cloned().unwrap_or_else(|| "nobody".to_owned());
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        params.use_authority_key_identifier_extension = true;
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("it is later");
        params.not_before = date_time_ymd(1970, 1, 1) + since(SystemTime::now() - 400 * DAY);
        params.not_after = date_time_ymd(1970, 1, 1) + since(end);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let (chain, der) = (certificate.pem(), certificate.der().clone());
        Issued { chain, key: key.serialize_pem(), der }
    }

    /// A client that trusts it, and speaks these versions.
    pub(crate) fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        self.trusting(versions).with_no_client_auth().into()
    }

    /// The same, which shows this certificate if it is asked.
    pub(crate) fn client_showing(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        own: &Issued,
    ) -> Arc<ClientConfig> {
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
        let config = self.trusting(versions).with_client_auth_cert(vec![own.der.clone()], key);
        config.expect("a certificate and its key").into()
    }

    fn trusting(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate");
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
    }
}

impl Issued {
    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.chain).expect("it is ours");
        std::fs::write(folder.join(format!("{name}.key")), &self.key).expect("it is ours");
    }
}

/// A connection inside TLS.
pub(crate) type Inside<S = TcpStream> = StreamOwned<ClientConnection, S>;

/// Connects, and has the handshake over, or why there is none.
pub(crate) fn connect(
    address: &str,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<Inside> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    inside(stream, name, config)
}

/// Has the handshake over on a connection, or why there is none.
pub(crate) fn inside<S: Read + Write>(
    mut stream: S,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<Inside<S>> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a client");
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(tls, stream))
}

/// Asks on a connection that stays: the status and the content.
pub(crate) fn ask(stream: &mut (impl Read + Write), path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let head = head(stream)?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut content = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut content)?;
    Ok(format!("{} {}", &head[9..12], String::from_utf8_lossy(&content)))
}

pub(crate) fn head(stream: &mut impl Read) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    String::from_utf8(head).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))
}

/// Where `openssl` and others find a file of a folder.
pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("a name of ours")
}

/// The folder of a test's files with an authority's certificate in it.
pub(crate) fn root_file(folder: &Path, authority: &Authority) -> PathBuf {
    let path = folder.join("root.pem");
    std::fs::write(&path, authority.root()).expect("it is ours");
    path
}
