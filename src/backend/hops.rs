//! Fields that are for one hop only: what Connection names, and those that are so by their name
//! (RFC 9110 §7.6.1).

use super::CONNECTION_OPTIONS_MAX;
use crate::http::list::members;

/// Hop-by-hop whether or not Connection names them, and Connection itself. Transfer-Encoding is
/// made anew with the framing.
const BY_NAME: [&str; 6] =
    ["connection", "proxy-connection", "keep-alive", "te", "transfer-encoding", "upgrade"];

/// The options of one message's Connection.
pub(super) struct Hops<'a> {
    options: Vec<&'a [u8]>,
}

impl<'a> Hops<'a> {
    /// Those of these lines; `None` if there are more than [`CONNECTION_OPTIONS_MAX`].
    pub(super) fn of(lines: impl Iterator<Item = &'a [u8]>) -> Option<Hops<'a>> {
        let mut options = Vec::new();
        for option in lines.flat_map(members).filter(|option| !option.is_empty()) {
            if options.len() == CONNECTION_OPTIONS_MAX {
                return None;
            }
            options.push(option);
        }
        Some(Hops { options })
    }

    /// Whether the field goes no further than this hop.
    pub(super) fn end_here(&self, name: &[u8]) -> bool {
        is_hop_by_hop(name) || self.name(name)
    }

    /// Whether it is among the options.
    pub(super) fn name(&self, option: &[u8]) -> bool {
        self.options.iter().any(|named| named.eq_ignore_ascii_case(option))
    }
}

/// Whether a field is for one hop whether or not Connection names it.
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    BY_NAME.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_ends_here_and_so_do_those_known_by_name() {
        let hops = Hops::of([&b"close, X-Own"[..], b",,Sec-Thing"].into_iter()).unwrap();
        for name in ["x-own", "SEC-THING", "TE", "Upgrade", "Keep-Alive", "Connection"] {
            assert!(hops.end_here(name.as_bytes()), "{name}");
        }
        for name in ["Host", "X", "Trailer", "Via"] {
            assert!(!hops.end_here(name.as_bytes()), "{name}");
        }
        assert!(hops.name(b"Close") && !hops.name(b"keep-alive"));
    }

    #[test]
    fn options_are_bounded() {
        let line = vec!["a"; CONNECTION_OPTIONS_MAX + 1].join(",");
        assert!(Hops::of([line.as_bytes()].into_iter()).is_none());
        let line = format!("{},,,", vec!["a"; CONNECTION_OPTIONS_MAX].join(","));
        assert!(Hops::of([line.as_bytes()].into_iter()).is_some());
    }
}
