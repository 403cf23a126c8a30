//! The normal form of a path, so that two spellings of one path are one path.
//!
//! Called by routing, for patterns once and for paths that hold a `%`, and by handlers that compare
//! paths. `/`, an empty segment and `..` are left as they are: they part or are segments like others.

use std::borrow::Cow;

/// `path` as RFC 3986 §6.2.2 has it written: what is encoded though it need not be (§2.3: letters,
/// digits, `-._~`) is decoded, the other triplets are in upper case.
///
/// A `%` that begins no triplet stands for itself, and becomes `%25`: decoding the normal form gives
/// what decoding the path gives. Allocates only for a path that is not in its normal form.
///
/// ```
/// assert_eq!(*upring::http::normal_path(b"/%63ontent/a%2fb"), *b"/content/a%2Fb");
/// ```
pub fn normal_path(path: &[u8]) -> Cow<'_, [u8]> {
    let is_normal = memchr::memchr_iter(b'%', path).all(|at| {
        let spelled = path.get(at..at + 3);
        triplet(path, at).is_some_and(|byte| {
            let hex = escaped(byte);
            !is_unreserved(byte) && spelled == Some(&hex)
        })
    });
    if is_normal { Cow::Borrowed(path) } else { Cow::Owned(rewritten(path)) }
}

#[cold]
fn rewritten(path: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        let is_escape = *byte == b'%';
        match triplet(path, at).filter(|_| is_escape) {
            Some(byte) if is_unreserved(byte) => normal.push(byte),
            Some(byte) => normal.extend_from_slice(&escaped(byte)),
            None if is_escape => normal.extend_from_slice(b"%25"),
            None => normal.push(*byte),
        }
        at += if is_escape && triplet(path, at).is_some() { 3 } else { 1 };
    }
    normal
}

/// The byte that the two digits behind `at` stand for.
fn triplet(path: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*path.get(at)?).to_digit(16);
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

fn escaped(byte: u8) -> [u8; 3] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::percent_decoded;

    fn normal(path: &str) -> String {
        String::from_utf8(normal_path(path.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn what_need_not_be_encoded_is_decoded_and_the_rest_in_upper_case() {
        for (path, expected) in [
            ("", ""),
            ("/a", "/a"),
            ("/%63ontent", "/content"),
            ("/%63%6F%6e", "/con"),
            ("/%2e%2E/%7e", "/../~"),
            ("/a%2fb%2F", "/a%2Fb%2F"),
            ("/%c3%a9", "/%C3%A9"),
            ("/%2541", "/%2541"),
            ("/%21%2a", "/%21%2A"),
            ("/%", "/%25"),
            ("/%4", "/%254"),
            ("/%zz%61", "/%25zza"),
            ("/%%36%31", "/%2561"),
            ("//a/../%2E/", "//a/.././"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
            assert_eq!(normal(expected), expected, "{path}");
        }
    }

    #[test]
    fn a_path_in_normal_form_is_not_copied() {
        for path in ["/", "/a/b", "/a%20b", "/%2F%C3%A9"] {
            assert!(matches!(normal_path(path.as_bytes()), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn what_is_decoded_and_what_is_a_segment_stays_the_same() {
        let parts = ["%", "6", "1", "2", "F", "f", "z", "/", "."];
        for number in 0..parts.len().pow(5) {
            let mut path = String::new();
            let mut rest = number;
            for _ in 0..5 {
                path += parts[rest % parts.len()];
                rest /= parts.len();
            }
            let normal = normal(&path);
            assert_eq!(
                percent_decoded(normal.as_bytes()),
                percent_decoded(path.as_bytes()),
                "{path}: {normal}"
            );
            assert_eq!(normal.matches('/').count(), path.matches('/').count(), "{path}: {normal}");
        }
    }
}
