//! The syntax of `host[:port]`, in a Host field, an absolute target or the target of CONNECT (RFC
//! 3986 §3.2).
//!
//! Called by the head reader only. Names are checked, never resolved or normalised.

use std::net::Ipv6Addr;

use super::list::split_once;
use crate::scan::Class;

/// Unreserved bytes and sub-delimiters, of which a host name consists besides escapes (RFC 3986
/// §3.2.2).
///
/// The comma is a sub-delimiter, yet no host name holds one, and a recipient that joins two Host
/// lines makes one: U-62 refuses it.
pub(super) static NAME: Class = Class::letters_digits_and(b"-._~!$&'()*+;=");

/// Whether `bytes` is a host that is not empty, with or without a port, and nothing else: no user
/// information.
#[inline]
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    split(bytes).is_some()
}

/// The port of a `host:port` that names both, as CONNECT needs it (RFC 9110 §9.3.6); port 0 cannot
/// be connected to.
pub(super) fn connect_port(bytes: &[u8]) -> Option<u16> {
    match split(bytes) {
        Some(Port::Number(port)) if port != 0 => Some(port),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Absent,
    Number(u16),
}

fn split(bytes: &[u8]) -> Option<Port> {
    let end = bytes.iter().position(|byte| !NAME.contains(*byte)).unwrap_or(bytes.len());
    split_at(bytes, end)
}

/// Whether `bytes` is a host with or without a port, if [`NAME`] holds exactly its first `end`
/// bytes, and the next not.
#[inline]
pub(super) fn is_authority_at(bytes: &[u8], end: usize) -> bool {
    match bytes.get(end..).unwrap_or_default() {
        [] => end > 0,
        // What nearly every one that has a port looks like.
        rest @ [b':', ..] if end > 0 => read_port(rest).is_some(),
        _ => split_at(bytes, end).is_some(),
    }
}

fn split_at(bytes: &[u8], end: usize) -> Option<Port> {
    match bytes.get(end..)? {
        [] if end > 0 => Some(Port::Absent),
        rest @ [b':', ..] if end > 0 => read_port(rest),
        [b'%', ..] => split_escaped(bytes),
        [b'[', literal @ ..] if end == 0 => split_literal(literal),
        _ => None,
    }
}

/// Reads a name that holds percent-encoded bytes (RFC 3986 §3.2.2).
fn split_escaped(bytes: &[u8]) -> Option<Port> {
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (name, rest) = bytes.split_at(colon.unwrap_or(bytes.len()));
    let has_only_name_bytes = name.iter().all(|byte| *byte == b'%' || NAME.contains(*byte));
    if has_only_name_bytes && has_whole_escapes(name) { read_port(rest) } else { None }
}

/// Reads what follows the `[` of an IP literal.
fn split_literal(bytes: &[u8]) -> Option<Port> {
    let (literal, rest) = split_once(bytes, b']')?;
    if is_ip_literal(literal) { read_port(rest) } else { None }
}

/// Reads what follows the host: nothing, a lone colon, or a colon and digits up to 65535.
#[inline]
fn read_port(rest: &[u8]) -> Option<Port> {
    let digits = match rest {
        [] | [b':'] => return Some(Port::Absent),
        [b':', digits @ ..] => digits,
        _ => return None,
    };
    let port = digits.iter().try_fold(0u32, |port, digit| {
        // Saturated, one that is too large stays so.
        let next = || port.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        digit.is_ascii_digit().then(next)
    })?;
    u16::try_from(port).ok().map(Port::Number)
}

fn has_whole_escapes(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'%').skip(1).all(
        |escape| matches!(escape, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
    )
}

/// An IPv6 address without a zone, or an address of a future version (RFC 3986 §3.2.2).
fn is_ip_literal(literal: &[u8]) -> bool {
    match literal {
        [b'v' | b'V', future @ ..] => is_future_address(future),
        _ => std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    }
}

fn is_future_address(future: &[u8]) -> bool {
    let Some((version, address)) = split_once(future, b'.') else {
        return false;
    };
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && !address.is_empty()
        && address.iter().all(|byte| *byte == b':' || NAME.contains(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_addresses_and_ports() {
        for host in [
            "a",
            "a:80",
            "a:",
            "example.org:65535",
            "a:0080",
            "192.0.2.6:443",
            "[::1]",
            "[2001:db8::1]:8080",
            "[v1.fe:80]",
            "my_host-1.local",
            "caf%C3%A9",
            "a(b);c=d!$&'*+~",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn u_62_refuses_what_is_no_host() {
        for host in [
            "",
            ":80",
            "a/b",
            "u@a",
            "a, b",
            "a,b",
            "a b",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:-1",
            "[::1",
            "::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[]",
            "[v1]",
            "[v.a]",
            "[a]",
            "a%2",
            "a%zz",
            "a#b",
            "a\\b",
            "a?b",
            "a|b",
            "a^b",
            "a`b",
            "a\"b",
            "a<b",
            "caf\u{e9}",
            "a\tb",
            "[v1.%41]",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn u_105_connect_needs_a_port_that_can_be_reached() {
        assert_eq!(connect_port(b"x:443"), Some(443));
        assert_eq!(connect_port(b"[::1]:1"), Some(1));
        for target in ["x", "x:", "x:0", "x:65536", "x:4a", "http://x:1", ":1"] {
            assert_eq!(connect_port(target.as_bytes()), None, "{target}");
        }
    }
}
