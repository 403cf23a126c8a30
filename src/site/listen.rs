//! Listeners: where a configuration file has its server listen, and how.

use std::ops::RangeInclusive;
use std::path::Path;

use super::section::{Placed, Section};
use crate::config::{
    ClientCertificate, Identity, ListenAddress, Listener, ProxyProtocol, TlsSettings, TlsVersion,
};
use crate::tls::{Acceptor, CertificateError};

/// What the kernel takes for an option: an `int`.
const OPTION: RangeInclusive<u64> = 0..=i32::MAX as u64;

const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 4] = [
    ("off", ProxyProtocol::Off),
    ("v1", ProxyProtocol::V1),
    ("v2", ProxyProtocol::V2),
    ("any", ProxyProtocol::Any),
];

const CLIENT_CERTIFICATES: [(&str, ClientCertificate); 2] =
    [("required", ClientCertificate::Required), ("optional", ClientCertificate::Optional)];

const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

/// Every `[[listen]]`.
pub(super) fn listeners(file: &mut Section<'_>, folder: &Path) -> Vec<Listener> {
    let mut listeners = Vec::<Listener>::new();
    for mut section in file.sections("listen") {
        let Some(said) = section.text("address") else {
            section.fault("a listener says its `address`");
            section.end();
            continue;
        };
        let listener = match said.value.parse() {
            Ok(address) => listener(address, &mut section, folder),
            Err(error) => {
                section.fault_at(&said, format!("{error}"));
                // Whatever else is wrong is told, too.
                listener(ListenAddress::Unix("".into()), &mut section, folder);
                section.end();
                continue;
            }
        };
        if listeners.iter().any(|before| before.address == listener.address) {
            section.fault_at(&said, "this address is listened on already");
        }
        if let Some(fault) = listener.fault() {
            section.fault_at(&said, fault.to_string());
        }
        section.end();
        listeners.push(listener);
    }
    listeners
}

fn listener(address: ListenAddress, section: &mut Section<'_>, folder: &Path) -> Listener {
    let mut listener = Listener::from(address);
    if let Some(said) = section.number("backlog", 1..=*OPTION.end()) {
        listener.backlog = i32::try_from(said.value).unwrap_or(i32::MAX);
    }
    let mut option = |key, place: &mut u32| {
        if let Some(said) = section.number(key, OPTION) {
            *place = u32::try_from(said.value).unwrap_or(u32::MAX);
        }
    };
    option("defer_accept_s", &mut listener.defer_accept_s);
    option("notsent_lowat_bytes", &mut listener.notsent_lowat_bytes);
    option("user_timeout_ms", &mut listener.user_timeout_ms);
    option("mode", &mut listener.mode);
    listener.only_v6 = section.flag("only_v6").unwrap_or_default();
    listener.proxy_protocol = section.word("proxy_protocol", &PROXY_PROTOCOLS).unwrap_or_default();
    for network in section.texts("proxy_from").unwrap_or_default() {
        match parse_network(&network) {
            Some(parsed) => listener.proxy_from.push(parsed),
            None => {
                let text = "a network is like \"10.0.0.0/8\" or \"2001:db8::/32\", or one address";
                section.fault_at(&network, text);
            }
        }
    }
    listener.tls = section.section("tls").and_then(|section| tls(section, folder));
    listener
}

fn tls(mut section: Section<'_>, folder: &Path) -> Option<TlsSettings> {
    let mut settings = TlsSettings::default();
    for mut certificate in section.sections("certificates") {
        let mut path = |key| certificate.text(key).map(|said| folder.join(said.value));
        let (chain, key, ocsp) = (path("chain"), path("key"), path("ocsp"));
        match (chain, key) {
            (Some(chain), Some(key)) => {
                settings.identities.push(Identity {
                    certificate: chain.into(),
                    key: key.into(),
                    ocsp,
                });
            }
            _ => {
                certificate.fault("a certificate says its `chain` and its `key`, two files in PEM")
            }
        }
        certificate.end();
    }
    let roots = section.text("client_roots");
    settings.client_roots = roots.map(|said| folder.join(said.value).into());
    settings.client_certificate =
        section.word("client_certificate", &CLIENT_CERTIFICATES).unwrap_or_default();
    settings.oldest = section.word("oldest", &VERSIONS).unwrap_or_default();
    settings.by_upgrade = section.flag("by_upgrade").unwrap_or_default();
    settings.without_tickets = section.flag("tickets").is_some_and(|are_given| !are_given);
    if let Err(error) = Acceptor::new(settings.clone()) {
        section.fault(match error {
            CertificateError::None => {
                "TLS takes `certificates`: [{ chain = \"cert.pem\", key = \"key.pem\" }]".into()
            }
            error => error.to_string(),
        });
    }
    section.end();
    Some(settings)
}

fn parse_network(text: &Placed<String>) -> Option<ipnet::IpNet> {
    let text = &text.value;
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(Into::into))
}
