//! Tunnels and proxies: what a configuration file says of servers behind this one.

use super::section::Section;
use crate::backend::{Backend, Forwarded, Terms};
use crate::protocols::tunnel::{Tunnel, TunnelSettings};
use crate::proxy::{Proxy, ProxySettings};
use crate::upgrade::Protocol;

const FORWARDED: [(&str, Forwarded); 3] = [
    ("x-forwarded", Forwarded::XForwarded),
    ("rfc7239", Forwarded::Rfc7239),
    ("off", Forwarded::Off),
];

/// A tunnel with these options: `to` says where, `protocol` which token it is registered by (`websocket` if
/// nothing is said), the others are the fields of [`TunnelSettings`] and [`Terms`].
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
        return Err("it has no name".to_owned());
    }
    let tunnel = Tunnel::to(backend.ok_or("`to` says where it leads: host:port or unix:PATH")?);
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
    match Proxy::to(backend?).with(settings) {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            options.fault(error.to_string());
            None
        }
    }
}

/// A backend by its short form.
pub(super) fn named(text: &str) -> Result<Backend, String> {
    text.parse().map_err(|error: crate::BackendAddressError| error.to_string())
}

fn backend(options: &mut Section<'_>) -> Option<Backend> {
    let Some(said) = options.text("to") else {
        options.fault("`to` says where it leads: host:port or unix:PATH");
        return None;
    };
    match named(&said.value) {
        Ok(backend) => Some(backend),
        Err(why) => {
            options.fault_at(&said, why);
            None
        }
    }
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
