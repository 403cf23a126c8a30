//! Single byte ranges (RFC 9110 §14). Several ranges in one request are answered with the whole
//! file, as the standard allows.

use super::condition::{Validators, is_in_range_of};
use crate::http::{Method, Request};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    Whole,
    /// Both ends included.
    Part {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

/// What a request wants of a file of `length` bytes. RFC 9110 §14.2: a range that is malformed or of
/// another file is ignored, and so is one of another method than GET.
pub(super) fn read(request: Request<'_>, validators: &Validators, length: u64) -> Range {
    let mut values = request.fields_named("Range");
    match (values.next(), values.next(), request.method()) {
        (Some(value), None, Method::Get) if is_in_range_of(request, validators) => {
            parse(value, length).unwrap_or(Range::Whole)
        }
        _ => Range::Whole,
    }
}

fn parse(value: &[u8], length: u64) -> Option<Range> {
    let (unit, range) = std::str::from_utf8(value).ok()?.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = match (first, last) {
        ("", suffix) => match (number(suffix)?, length) {
            // RFC 9110 §14.1.2: the last bytes of nothing are all of it. A 206 could not say so:
            // its Content-Range has a first byte (§14.4).
            (1.., 0) => return Some(Range::Whole),
            (bytes, length) => (length.saturating_sub(bytes), length.saturating_sub(1)),
        },
        (first, "") => (number(first)?, length.saturating_sub(1)),
        (first, last) => match (number(first)?, number(last)?) {
            (first, last) if first > last => return None,
            (first, last) => (first, last.min(length.saturating_sub(1))),
        },
    };
    Some(if first < length { Range::Part { first, last } } else { Range::Unsatisfiable })
}

/// Digits, and as many of them as they like: what is too large lies behind the end anyway.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::condition::tests::{validators, with_fields};
    use super::*;

    #[test]
    fn one_range_is_a_part_and_all_else_the_whole() {
        let part = |first, last| Range::Part { first, last };
        for (fields, expected) in [
            ("", Range::Whole),
            ("Range: bytes=0-0\r\n", part(0, 0)),
            ("Range: Bytes=2-5\r\n", part(2, 5)),
            ("Range: bytes=2-\r\n", part(2, 9)),
            ("Range: bytes=-3\r\n", part(7, 9)),
            ("Range: bytes=-30\r\n", part(0, 9)),
            ("Range: bytes=2-99999999999999999999999\r\n", part(2, 9)),
            ("Range: bytes=10-\r\n", Range::Unsatisfiable),
            ("Range: bytes=99999999999999999999999-\r\n", Range::Unsatisfiable),
            ("Range: bytes=-0\r\n", Range::Unsatisfiable),
            ("Range: bytes=5-2\r\n", Range::Whole),
            ("Range: bytes=0-1,3-4\r\n", Range::Whole),
            ("Range: bytes=a-b\r\n", Range::Whole),
            ("Range: bytes=+1-2\r\n", Range::Whole),
            ("Range: bytes=-\r\n", Range::Whole),
            ("Range: lines=0-1\r\n", Range::Whole),
            ("Range: bytes=0-1\r\nRange: bytes=2-3\r\n", Range::Whole),
            ("Range: bytes=0-1\r\nIf-Range: \"tag\"\r\n", part(0, 1)),
            ("Range: bytes=0-1\r\nIf-Range: \"old\"\r\n", Range::Whole),
        ] {
            let found = with_fields("GET", fields, |request| read(request, &validators(), 10));
            assert_eq!(found, expected, "{fields}");
            let found = with_fields("HEAD", fields, |request| read(request, &validators(), 10));
            assert_eq!(found, Range::Whole, "HEAD {fields}");
        }
    }

    #[test]
    fn an_empty_file_has_last_bytes_but_no_first() {
        for (fields, expected) in [
            ("Range: bytes=0-\r\n", Range::Unsatisfiable),
            ("Range: bytes=0-0\r\n", Range::Unsatisfiable),
            ("Range: bytes=-0\r\n", Range::Unsatisfiable),
            ("Range: bytes=-1\r\n", Range::Whole),
            ("Range: bytes=-99999999999999999999999\r\n", Range::Whole),
        ] {
            let found = with_fields("GET", fields, |request| read(request, &validators(), 0));
            assert_eq!(found, expected, "{fields}");
        }
    }
}
