//! Tunnels and proxies: what a configuration file says of servers behind this one.

use super::section::Section;
use crate::backend::{Backend, Forwarded, Terms};
use crate::protocols::tunnel::{Tunnel, TunnelSettings};
use crate::proxy::{Proxy, ProxySettings};
use crate::upgrade::Protocol;

/// What is said of a backend that is not named.
const NOWHERE: &str = "`to` says where it leads: host:port or unix:PATH";

const FORWARDED: [(&str, Forwarded); 3] = [
    ("x-forwarded", Forwarded::XForwarded),
    ("rfc7239", Forwarded::Rfc7239),
    ("off", Forwarded::Off),
];

/// A tunnel with these options: `to` says where, `protocol` which token it is registered by (`websocket` if
/// nothing is said), the others are the fields of [`TunnelSettings`] and [`Terms`]. An empty `Err` is of what was
/// noted where it stands.
pub(super) fn tunnel(options: &mut Section<'_>) -> Result<Protocol, String> {
    let mut settings = TunnelSettings::default();
    let backend = backend(options);
    times(
        options,
        [
            ("connect_timeout_ms", &mut settings.connect_timeout_ms),
            ("answer_timeout_ms", &mut settings.answer_timeout_ms),
            ("idle_timeout_ms", &mut settings.idle_timeout_ms),
            ("half_closed_timeout_ms", &mut settings.half_closed_timeout_ms),
        ],
    );
    settings.terms = terms(options);
    let protocol = options.text("protocol");
    let name = protocol.as_ref().map_or("websocket", |said| said.value.as_str());
    if let Some(said) = &protocol
        && !crate::http::list::is_token(name.as_bytes())
    {
        options.fault_at(said, "a protocol is a token (RFC 9110 §7.8)");
        return Err(String::new());
    }
    let tunnel = Tunnel::to(backend?);
    Ok(tunnel.with(settings).map_err(|error| error.to_string())?.protocol(name))
}

/// A proxy with these options: `to` says where, the others are the fields of [`ProxySettings`] and [`Terms`].
pub(super) fn proxy(options: &mut Section<'_>) -> Option<Proxy> {
    let mut settings = ProxySettings::default();
    let backend = backend(options);
    times(
        options,
        [
            ("connect_timeout_ms", &mut settings.connect_timeout_ms),
            ("answer_timeout_ms", &mut settings.answer_timeout_ms),
            ("idle_timeout_ms", &mut settings.idle_timeout_ms),
            ("idle_connection_timeout_ms", &mut settings.idle_connection_timeout_ms),
        ],
    );
    let mut count = |key, least, place: &mut usize| {
        if let Some(said) = options.number(key, least..=1 << 20) {
            *place = said.value as usize;
        }
    };
    count("connections_max", 1, &mut settings.connections_max);
    count("idle_connections_max", 0, &mut settings.idle_connections_max);
    settings.terms = terms(options);
    let with = |proxy: Proxy| proxy.with(settings).map_err(|error| error.to_string());
    match backend.map(Proxy::to).and_then(with) {
        Ok(proxy) => Some(proxy),
        Err(why) if why.is_empty() => None,
        Err(why) => {
            options.fault(why);
            None
        }
    }
}

/// A backend by its short form.
pub(super) fn named(text: &str) -> Result<Backend, String> {
    text.parse().map_err(|error: crate::BackendAddressError| error.to_string())
}

/// Where it leads, or what is to be said: nothing where it was noted.
fn backend(options: &mut Section<'_>) -> Result<Backend, String> {
    let is_said = options.has("to");
    let Some(said) = options.text("to") else {
        return Err(if is_said { String::new() } else { NOWHERE.to_owned() });
    };
    named(&said.value).map_err(|why| {
        options.fault_at(&said, why);
        String::new()
    })
}

fn times<const N: usize>(options: &mut Section<'_>, keys: [(&'static str, &mut u64); N]) {
    for (key, place) in keys {
        if let Some(said) = options.number(key, 0..=u64::from(u32::MAX)) {
            *place = said.value;
        }
    }
}

/// How requests go to the backend: an empty `via` is nobody's.
fn terms(options: &mut Section<'_>) -> Terms {
    let usual = Terms::default();
    Terms {
        forwarded: options.word("forwarded", &FORWARDED).unwrap_or(usual.forwarded),
        trust_forwarded: options.flag("trust_forwarded").unwrap_or(usual.trust_forwarded),
        odd_paths: options.flag("odd_paths").unwrap_or(usual.odd_paths),
        host: options.text("host").map(|said| said.value),
        via: match options.text("via") {
            None => usual.via,
            Some(said) => Some(said.value).filter(|via| !via.is_empty()),
        },
    }
}
