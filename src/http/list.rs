//! Comma lists and tokens, the two pieces of grammar that most fields share (RFC 9110 §5.6).
//!
//! Called by the head reader for Connection, Expect and Transfer-Encoding, and by negotiation for
//! Upgrade. Quoted strings are not understood: no field read here may contain one.

use crate::scan::Class;

/// The bytes of a token (RFC 9110 §5.6.2).
pub(super) static TOKEN: Class = Class::letters_digits_and(b"!#$%&'*+-.^_`|~");

/// The members of one line of a comma list, in order, without the white space around them.
///
/// Empty members are included, so that callers can count or refuse them; an empty value is one
/// empty member.
#[inline]
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// What stands before the first `separator`, and what behind it.
#[inline]
pub fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = bytes.split_at_checked(memchr::memchr(separator, bytes)?)?;
    Some((before, rest.get(1..)?))
}

/// `value` without the spaces and tabs around it (OWS, RFC 9110 §5.6.3).
#[inline]
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether `bytes` is a token: one or more token bytes and nothing else.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// Whether `byte` may stand in a token.
#[inline]
pub fn is_token_byte(byte: u8) -> bool {
    TOKEN.contains(byte)
}

/// Whether `byte` may stand in a field value: tab, space, visible ASCII or obs-text (RFC 9110
/// §5.5).
#[inline]
pub fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(value: &[u8]) -> Vec<&[u8]> {
        members(value).collect()
    }

    #[test]
    fn u_05_members_are_trimmed_and_empty_ones_are_kept() {
        let expected: Vec<&[u8]> = vec![b"", b"", b"UPGRADE", b""];
        assert_eq!(collected(b",, \tUPGRADE ,"), expected);
        assert_eq!(collected(b""), vec![b""]);
        assert_eq!(collected(b" foo bar "), vec![b"foo bar"]);
    }

    #[test]
    fn a_separator_is_in_neither_part() {
        assert_eq!(split_once(b"a:b:c", b':'), Some((&b"a"[..], &b"b:c"[..])));
        assert_eq!(split_once(b":", b':'), Some((&b""[..], &b""[..])));
        assert_eq!(split_once(b"a", b':'), None);
    }

    #[test]
    fn only_the_bytes_of_the_grammar_make_a_token() {
        let allowed =
            b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for byte in 0..=255u8 {
            assert_eq!(is_token(&[byte]), allowed.contains(&byte), "{byte:#x}");
        }
        assert!(!is_token(b""));
        assert!(!is_token(b"a b"));
    }

    #[test]
    fn value_bytes_exclude_controls_but_not_the_tab() {
        for byte in 0..=255u8 {
            let control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
            assert_eq!(is_value_byte(byte), !control, "{byte:#x}");
        }
    }
}
