//! Listeners: where a configuration file has its server listen, and how.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::resolved;
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

/// What is said of tickets that are asked for where they would let in whose certificate has ended.
const NO_TICKETS: &str = "with `client_roots` every handshake checks the client's certificate, and no tickets are \
                          given: leave `tickets` out";

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
            Ok(address) => listener(relative_to(folder, address), &mut section, folder),
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

/// An address as a file in this folder means it.
pub(super) fn relative_to(folder: &Path, address: ListenAddress) -> ListenAddress {
    match address {
        ListenAddress::Unix(path) => ListenAddress::Unix(place(folder, path)),
        tcp @ ListenAddress::Tcp(_) => tcp,
    }
}

/// Where a path leads in a file of this folder. A relative one is spelled from the root on: whoever takes over finds
/// the same, wherever it was started and however its file was named.
pub(super) fn place(folder: &Path, path: PathBuf) -> PathBuf {
    match path.is_absolute() {
        true => path,
        // One whose folder is not there is told when it is to be used.
        false => resolved(&folder.join(path)),
    }
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
    let mut is_right = true;
    for certificate in section.sections("certificates") {
        match identity(certificate, folder) {
            Some(identity) => settings.identities.push(identity),
            None => is_right = false,
        }
    }
    let roots = section.text("client_roots");
    settings.client_roots = roots.as_ref().map(|said| folder.join(&said.value).into());
    settings.client_certificate =
        section.word("client_certificate", &CLIENT_CERTIFICATES).unwrap_or_default();
    settings.oldest = section.word("oldest", &VERSIONS).unwrap_or_default();
    settings.by_upgrade = section.flag("by_upgrade").unwrap_or_default();
    let tickets = section.flag("tickets");
    settings.without_tickets = tickets.is_some_and(|are_given| !are_given);
    if let (Some(true), Some(said)) = (tickets, &roots) {
        section.fault_at(said, NO_TICKETS);
    }
    settings.watch = section.flag("watch").unwrap_or_default();
    match Acceptor::check(&settings) {
        Err(CertificateError::None) if is_right => {
            section.fault("TLS takes `certificates`: [{ chain = \"cert.pem\", key = \"key.pem\" }]")
        }
        Err(error) if is_right => match roots {
            // Each certificate was right by itself.
            Some(said) => section.fault_at(&said, error.to_string()),
            None => section.fault(error.to_string()),
        },
        _ => {}
    }
    section.end();
    Some(settings)
}

/// A certificate by itself: what is wrong with it is told at the file that it is in.
fn identity(mut section: Section<'_>, folder: &Path) -> Option<Identity> {
    let mut file = |key| {
        let said = section.text(key)?;
        Some((folder.join(&said.value), said))
    };
    let (chain, key, ocsp) = (file("chain"), file("key"), file("ocsp"));
    let (Some(chain), Some(key)) = (chain, key) else {
        section.fault("a certificate says its `chain` and its `key`, two files in PEM");
        section.end();
        return None;
    };
    let identity = Identity {
        certificate: chain.0.clone().into(),
        key: key.0.clone().into(),
        ocsp: ocsp.as_ref().map(|(path, _)| path.clone()),
    };
    let identities = vec![identity.clone()];
    let checked = Acceptor::check(&TlsSettings { identities, ..TlsSettings::default() });
    if let Err(error) = &checked {
        let place = error.place().unwrap_or_default();
        // The key first: it may be in the file of the certificate, which was read before it.
        let mut files = [Some(key), Some(chain), ocsp].into_iter().flatten();
        match files.find(|(path, _)| path.display().to_string() == place) {
            Some((_, said)) => section.fault_at(&said, error.to_string()),
            None => section.fault(error.to_string()),
        }
    }
    section.end();
    checked.is_ok().then_some(identity)
}

fn parse_network(text: &Placed<String>) -> Option<ipnet::IpNet> {
    let text = &text.value;
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(Into::into))
}
