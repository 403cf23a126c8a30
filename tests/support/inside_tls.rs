//! The client's end of a TLS connection without a socket, by rustls: bytes in, bytes out. And what a server
//! needs to speak TLS to it.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, SupportedProtocolVersion};
use upring::config::{Pem, TlsSettings};
use upring::tls::Acceptor;

/// The name in the certificate.
pub const NAME: &str = "localhost";

/// A certificate signed by itself, and who trusts it.
pub struct Authority {
    pub settings: TlsSettings,
    roots: RootCertStore,
}

impl Authority {
    /// One for all: making it takes longer than a handshake.
    pub fn usual() -> &'static Authority {
        static USUAL: OnceLock<Authority> = OnceLock::new();
        USUAL.get_or_init(|| Authority::of(&[NAME]))
    }

    pub fn of(names: &[&str]) -> Authority {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("names");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        Authority { settings: TlsSettings::of(Pem::Text(certificate), Pem::Text(key)), roots }
    }

    pub fn acceptor(&self) -> Arc<Acceptor> {
        Arc::new(Acceptor::new(self.settings.clone()).expect("a certificate"))
    }

    pub fn client_config(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        self.client_config_of(default_provider(), version)
    }

    /// Of a client with these ciphers.
    pub fn client_config_of(
        &self,
        provider: CryptoProvider,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Both, the usual one first.
pub fn versions() -> [&'static SupportedProtocolVersion; 2] {
    [&TLS13, &TLS12]
}

/// One end of a connection inside TLS.
pub struct InsideTls {
    connection: ClientConnection,
    received: Vec<u8>,
    has_closed: bool,
    fault: Option<Error>,
}

impl InsideTls {
    pub fn new(config: &Arc<ClientConfig>, name: &str) -> InsideTls {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
        InsideTls { connection, received: Vec::new(), has_closed: false, fault: None }
    }

    pub fn connection(&mut self) -> &mut ClientConnection {
        &mut self.connection
    }

    /// Says something: a record, if it is no more than one carries.
    pub fn write(&mut self, bytes: &[u8]) {
        self.connection.set_buffer_limit(None);
        self.connection.writer().write_all(bytes).expect("a buffer takes all");
    }

    /// Says that this is all.
    pub fn finish(&mut self) {
        self.connection.send_close_notify();
    }

    /// What is to be sent for all that.
    pub fn output(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut output).expect("a buffer takes all");
        }
        output
    }

    /// What the server has sent.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.fault.is_none() && !self.has_closed {
            self.connection.read_tls(&mut bytes).expect("a slice");
            match self.connection.process_new_packets() {
                Ok(state) => self.has_closed = state.peer_has_closed(),
                Err(error) => self.fault = Some(error),
            }
            let mut news = Vec::new();
            // It says that nothing more is there by an error.
            let _ = self.connection.reader().read_to_end(&mut news);
            self.received.extend_from_slice(&news);
        }
    }

    /// What has come inside, since this was last asked.
    pub fn read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// Whether the server has said that this was all.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Why it cannot go on.
    pub fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }
}
