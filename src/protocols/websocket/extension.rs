//! What a client offers in Sec-WebSocket-Extensions, and what of permessage-deflate is agreed
//! (RFC 6455 §9.1, RFC 7692 §7.1): a pure function of the offer and the settings.

use std::fmt::Write;

use super::settings::{Compression, Context};
use crate::http::list;

const NAME: &[u8] = b"permessage-deflate";

/// The largest window there is, and what nothing said means, as a power of two.
pub(super) const WINDOW_BITS_MAX: u8 = 15;
/// The smallest our compressor has; the standard knows 8.
pub(super) const WINDOW_BITS_MIN: u8 = 9;

/// The field does not have its syntax. RFC 6455 §9.1: the connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What both sides do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Our compressor forgets after each message.
    pub(super) server_forgets: bool,
    /// The client's does.
    pub(super) client_forgets: bool,
    pub(super) server_bits: u8,
    pub(super) client_bits: u8,
    says_server_bits: bool,
    says_client_bits: bool,
}

impl Agreed {
    /// The value of the field that answers.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("permessage-deflate");
        if self.server_forgets {
            text += "; server_no_context_takeover";
        }
        if self.client_forgets {
            text += "; client_no_context_takeover";
        }
        // Writing to memory does not fail.
        if self.says_server_bits {
            let _ = write!(text, "; server_max_window_bits={}", self.server_bits);
        }
        if self.says_client_bits {
            let _ = write!(text, "; client_max_window_bits={}", self.client_bits);
        }
        text
    }
}

/// What one offer asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Offer {
    server_forgets: bool,
    client_forgets: bool,
    server_bits: Option<u8>,
    /// Whether the client can be told a window, and its own bound for it.
    client_bits: Option<Option<u8>>,
}

/// What follows from the values of all fields: the first offer that can be taken.
pub(super) fn agree<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    compression: Option<&Compression>,
) -> Result<Option<Agreed>, Malformed> {
    let mut agreed = None;
    for value in values {
        for extension in Pieces::of(value, b',') {
            let mut pieces = Pieces::of(extension?, b';');
            let name = pieces.next().transpose()?.unwrap_or_default();
            // RFC 9110 §5.6.1.2: empty members of a list are skipped.
            if name.is_empty() && pieces.rest.is_none() {
                continue;
            }
            if !list::is_token(name) {
                return Err(Malformed);
            }
            let offer = Offer::read(pieces)?;
            if name.eq_ignore_ascii_case(NAME) {
                agreed = agreed.or_else(|| offer?.answer(compression?));
            }
        }
    }
    Ok(agreed)
}

impl Offer {
    /// Reads parameters; `None` if one of them is unknown, repeated or has no valid value (RFC 7692
    /// §7): then the offer, not the handshake, is declined.
    fn read<'a>(
        parameters: impl Iterator<Item = Result<&'a [u8], Malformed>>,
    ) -> Result<Option<Offer>, Malformed> {
        let mut offer = Some(Offer::default());
        for parameter in parameters {
            let (name, value) = read_parameter(parameter?)?;
            offer = offer.and_then(|offer| offer.with(&name.to_ascii_lowercase(), value));
        }
        Ok(offer)
    }

    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Offer> {
        match (name, value) {
            (b"server_no_context_takeover", None) if !self.server_forgets => {
                self.server_forgets = true;
            }
            (b"client_no_context_takeover", None) if !self.client_forgets => {
                self.client_forgets = true;
            }
            (b"server_max_window_bits", Some(value)) if self.server_bits.is_none() => {
                self.server_bits = Some(read_bits(value)?);
            }
            (b"client_max_window_bits", None) if self.client_bits.is_none() => {
                self.client_bits = Some(None);
            }
            (b"client_max_window_bits", Some(value)) if self.client_bits.is_none() => {
                self.client_bits = Some(Some(read_bits(value)?));
            }
            _ => return None,
        }
        Some(self)
    }

    /// What it is answered with, or `None` if it asks for what we cannot do.
    fn answer(&self, compression: &Compression) -> Option<Agreed> {
        let server_bits = compression.window_bits.min(self.server_bits.unwrap_or(WINDOW_BITS_MAX));
        if server_bits < WINDOW_BITS_MIN {
            return None;
        }
        let client_max = self.client_bits.map(|bits| bits.unwrap_or(WINDOW_BITS_MAX));
        let client_bits = compression.client_window_bits.min(client_max.unwrap_or(WINDOW_BITS_MAX));
        Some(Agreed {
            server_forgets: self.server_forgets || compression.context == Context::Shared,
            client_forgets: self.client_forgets || !compression.keeps_client_context,
            server_bits,
            // A client that cannot be told may use all there is.
            client_bits: if client_max.is_some() { client_bits } else { WINDOW_BITS_MAX },
            says_server_bits: self.server_bits.is_some() || server_bits < WINDOW_BITS_MAX,
            says_client_bits: client_max.is_some() && client_bits < WINDOW_BITS_MAX,
        })
    }
}

/// 8 to 15, without leading zeros (RFC 7692 §7.1.2).
fn read_bits(value: &[u8]) -> Option<u8> {
    match *value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// `name`, `name=token` or `name="token"` (RFC 6455 §9.1).
fn read_parameter(parameter: &[u8]) -> Result<(&[u8], Option<&[u8]>), Malformed> {
    let (name, value) = match list::split_once(parameter, b'=') {
        None => (parameter, None),
        Some((name, value)) => {
            let value = list::trim(value);
            let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            (list::trim(name), Some(quoted.unwrap_or(value)))
        }
    };
    let is_fine = list::is_token(name) && value.is_none_or(list::is_token);
    if is_fine { Ok((name, value)) } else { Err(Malformed) }
}

/// The pieces of a value between separators, those within quotation marks aside, and without the
/// white space around them.
struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Pieces<'a> {
    fn of(value: &'a [u8], separator: u8) -> Pieces<'a> {
        Pieces { rest: Some(value), separator }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let mut is_quoted = false;
        let end = rest.iter().position(|byte| {
            is_quoted ^= *byte == b'"';
            *byte == self.separator && !is_quoted
        });
        let (piece, behind) = match end {
            Some(at) => {
                let (piece, behind) = rest.split_at(at);
                (piece, behind.split_first().map(|(_, behind)| behind))
            }
            None if is_quoted => return Some(Err(Malformed)),
            None => (rest, None),
        };
        self.rest = behind;
        Some(Ok(list::trim(piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(compression: &Compression, offer: &str) -> Option<String> {
        let agreed = agree([offer.as_bytes()].into_iter(), Some(compression));
        agreed.expect("a valid field").map(|agreed| agreed.text())
    }

    // U-85, U-86.
    #[test]
    fn the_first_offer_that_can_be_taken_is() {
        let dedicated = Compression::dedicated(15);
        for (offer, expected) in [
            ("permessage-deflate", Some("permessage-deflate")),
            ("PerMessage-Deflate", Some("permessage-deflate")),
            ("x-webkit-deflate-frame, permessage-deflate", Some("permessage-deflate")),
            (
                "permessage-deflate; server_max_window_bits=16, permessage-deflate",
                Some("permessage-deflate"),
            ),
            ("permessage-deflate; foo", None),
            ("permessage-deflate; foo=1", None),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            ("permessage-deflate; server_max_window_bits=08", None),
            ("permessage-deflate; server_max_window_bits=7", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; client_max_window_bits=17", None),
            ("permessage-deflate; client_max_window_bits=9; client_max_window_bits", None),
            // A deflater that cannot do it declines.
            ("permessage-deflate; server_max_window_bits=8", None),
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9",
                Some("permessage-deflate; server_max_window_bits=9"),
            ),
            (
                "permessage-deflate; server_max_window_bits=\"10\"",
                Some("permessage-deflate; server_max_window_bits=10"),
            ),
            (
                "permessage-deflate; server_max_window_bits = 15",
                Some("permessage-deflate; server_max_window_bits=15"),
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                Some("permessage-deflate; server_no_context_takeover"),
            ),
            (
                "permessage-deflate; CLIENT_no_context_takeover",
                Some("permessage-deflate; client_no_context_takeover"),
            ),
            ("permessage-deflate; client_max_window_bits", Some("permessage-deflate")),
            (
                "permessage-deflate; client_max_window_bits=8",
                Some("permessage-deflate; client_max_window_bits=8"),
            ),
            ("x; a=\",\", permessage-deflate", Some("permessage-deflate")),
            ("", None),
            (" , ,", None),
        ] {
            if offer.contains("a=\",\"") {
                // A quoted value must be a token once it is unquoted.
                assert_eq!(agree([offer.as_bytes()].into_iter(), Some(&dedicated)), Err(Malformed));
                continue;
            }
            assert_eq!(answer(&dedicated, offer).as_deref(), expected, "{offer}");
        }
    }

    #[test]
    fn what_is_not_offered_of_the_clients_window_is_not_answered() {
        let small = Compression { client_window_bits: 10, ..Compression::dedicated(12) };
        for (offer, expected) in [
            ("permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10",
            ),
            (
                "permessage-deflate; client_max_window_bits=9; server_max_window_bits=11",
                "permessage-deflate; server_max_window_bits=11; client_max_window_bits=9",
            ),
        ] {
            assert_eq!(answer(&small, offer).as_deref(), Some(expected), "{offer}");
        }
        let shared = answer(&Compression::shared(), "permessage-deflate; client_max_window_bits");
        let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(shared.as_deref(), Some(expected));
    }

    #[test]
    fn nothing_is_agreed_where_compression_is_off() {
        assert_eq!(agree([&b"permessage-deflate"[..]].into_iter(), None), Ok(None));
    }

    #[test]
    fn a_field_without_its_syntax_is_told_apart_from_an_offer_that_is_declined() {
        for value in
            ["permessage-deflate; =1", ";", "a b", "x; y=", "x; y=\"", "x; y=\"a", "@", "x;"]
        {
            let agreed = agree([value.as_bytes()].into_iter(), None);
            assert_eq!(agreed, Err(Malformed), "{value}");
        }
    }
}
