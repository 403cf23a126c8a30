//! How the content of a request is framed (RFC 9112 §6).
//!
//! The head reader notes every Content-Length and Transfer-Encoding line as a fact, valid or not;
//! [`framing`] then decides. Keeping the two apart means that the order of fields cannot change the
//! decision. Every fault closes the connection.

use super::error::HeadError;
use super::head::{Head, Version};
use super::list::{is_token, members, split_once, trim};

/// Where the content of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no content: the next request starts behind the head.
    None,
    /// This many bytes follow the head. May be 0.
    Length(u64),
    /// Chunks follow the head, see [`Chunked`](super::Chunked).
    Chunked,
}

/// What the Content-Length lines of a head said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lengths {
    /// No line.
    #[default]
    Absent,
    /// One line with one number.
    One(u64),
    /// One line that is no number within 64 bits.
    Invalid,
    /// Several lines, or a list.
    Several,
}

/// What the Transfer-Encoding lines of a head said, read as one list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codings {
    /// No line.
    #[default]
    Absent,
    /// `chunked`, alone and without parameters.
    Chunked,
    /// Other codings, so far without `chunked` behind them.
    Unfinished,
    /// Other codings and then `chunked`: the content could be delimited, but not decoded.
    Unsupported,
    /// `chunked` not last, twice or with parameters, or something that is no list of codings.
    Invalid,
}

/// Decides the framing of a request from the facts in its head, by RFC 9112 §6.3.
///
/// # Errors
/// 501 for a coding before `chunked`, otherwise 400. The connection must be closed after the
/// answer, since it is unknown where the next request would start.
#[inline]
pub fn framing(head: &Head) -> Result<Framing, HeadError> {
    match (head.codings, head.lengths) {
        // RFC 9112 §6.3 (7): neither field, no content.
        (Codings::Absent, Lengths::Absent) => Ok(Framing::None),
        // RFC 9112 §6.3 (6): a valid Content-Length without Transfer-Encoding.
        (Codings::Absent, Lengths::One(bytes)) => Ok(Framing::Length(bytes)),
        // RFC 9112 §6.3 (5), U-52 and U-53: an invalid one is unrecoverable.
        (Codings::Absent, Lengths::Invalid) => Err(HeadError::LengthInvalid),
        (Codings::Absent, Lengths::Several) => Err(HeadError::LengthRepeated),
        (codings, lengths) => coded_framing(head.version, codings, lengths),
    }
}

fn coded_framing(
    version: Version,
    codings: Codings,
    lengths: Lengths,
) -> Result<Framing, HeadError> {
    // RFC 9112 §6.3 (3): a server may reject a message with both fields, U-49 does.
    if lengths != Lengths::Absent {
        return Err(HeadError::LengthWithCoding);
    }
    // RFC 9112 §6.1: a client that says HTTP/1.0 and Transfer-Encoding has faulty framing (U-50).
    if version == Version::Http10 {
        return Err(HeadError::CodingInHttp10);
    }
    match codings {
        Codings::Chunked => Ok(Framing::Chunked),
        // RFC 9112 §6.1: a coding that is not understood should be answered with 501 (U-51).
        Codings::Unsupported => Err(HeadError::CodingUnsupported),
        // RFC 9112 §6.3 (4): without a final chunked the length of a request cannot be known.
        _ => Err(HeadError::CodingInvalid),
    }
}

impl Lengths {
    /// Adds one Content-Length line.
    pub(crate) fn note(&mut self, value: &[u8]) {
        *self = match self {
            Self::Absent => Self::read(value),
            // U-53: a second line is refused even if it is equal or the first is invalid.
            _ => Self::Several,
        };
    }

    fn read(value: &[u8]) -> Self {
        if value.contains(&b',') {
            return Self::Several;
        }
        match decimal(value) {
            Some(bytes) => Self::One(bytes),
            None => Self::Invalid,
        }
    }
}

/// RFC 9110 §8.6: Content-Length = 1*DIGIT. No sign, no blank; leading zeros are digits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let value = digit.wrapping_sub(b'0');
        match value {
            0..=9 => number.checked_mul(10)?.checked_add(u64::from(value)),
            _ => None,
        }
    })
}

impl Codings {
    /// Adds one Transfer-Encoding line.
    pub(crate) fn note(&mut self, value: &[u8]) {
        if value == b"chunked" && *self == Self::Absent {
            *self = Self::Chunked;
            return;
        }
        for member in members(value) {
            *self = self.followed_by(member);
        }
    }

    /// The state behind one more member of the list.
    ///
    /// An empty member makes the list invalid: RFC 9110 §5.6.1.2 would skip it, but senders must
    /// not write it, and here it only serves to hide `chunked` from another parser.
    fn followed_by(self, member: &[u8]) -> Self {
        let (name, has_parameters) = match split_once(member, b';') {
            Some((name, _)) => (trim(name), true),
            None => (member, false),
        };
        if !is_token(name) {
            return Self::Invalid;
        }
        let is_chunked = name.eq_ignore_ascii_case(b"chunked");
        match self {
            // RFC 9112 §7.1: chunked has no parameters, and a list that repeats it is faulty.
            _ if is_chunked && has_parameters => Self::Invalid,
            Self::Absent if is_chunked => Self::Chunked,
            Self::Unfinished if is_chunked => Self::Unsupported,
            Self::Absent | Self::Unfinished => Self::Unfinished,
            // RFC 9112 §6.1: chunked must be the final coding, applied once.
            Self::Chunked | Self::Unsupported | Self::Invalid => Self::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(lines: &[&str]) -> Lengths {
        let mut lengths = Lengths::Absent;
        for line in lines {
            lengths.note(line.as_bytes());
        }
        lengths
    }

    fn codings(lines: &[&str]) -> Codings {
        let mut codings = Codings::Absent;
        for line in lines {
            codings.note(line.as_bytes());
        }
        codings
    }

    #[test]
    fn u_52_content_length_is_digits_within_64_bits() {
        assert_eq!(lengths(&["0"]), Lengths::One(0));
        assert_eq!(lengths(&["007"]), Lengths::One(7));
        assert_eq!(lengths(&["18446744073709551615"]), Lengths::One(u64::MAX));
        for value in [
            "+5",
            "-0",
            "0x5",
            "5 5",
            "5.0",
            "",
            "99999999999999999999",
            "18446744073709551616",
            "5\t5",
            "\u{666}",
            "1_0",
        ] {
            assert_eq!(lengths(&[value]), Lengths::Invalid, "{value:?}");
        }
    }

    #[test]
    fn u_53_a_second_content_length_is_refused_equal_or_not() {
        for lines in [&["2, 2"][..], &["2,"], &["2", "2"], &["2", "3"], &["x", "2"], &["", ""]] {
            assert_eq!(lengths(lines), Lengths::Several, "{lines:?}");
        }
    }

    #[test]
    fn u_51_only_a_single_final_chunked_delimits_content() {
        for lines in [&["chunked"][..], &["Chunked"], &[" CHUNKED\t"]] {
            assert_eq!(codings(lines), Codings::Chunked, "{lines:?}");
        }
        for lines in [&["gzip, chunked"][..], &["gzip", "chunked"], &["x;q=1, br, chunked"]] {
            assert_eq!(codings(lines), Codings::Unsupported, "{lines:?}");
        }
        for lines in [&["xchunked"][..], &["identity"], &["gzip", "br"]] {
            assert_eq!(codings(lines), Codings::Unfinished, "{lines:?}");
        }
        for lines in [
            &["chunked, gzip"][..],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["chunked;a=1"],
            &["chunked ; a"],
            &["chunked;"],
            &["\u{b}chunked"],
            &[""],
            &["chunked,"],
            &[",chunked"],
            &["chunked", ""],
            &["\"chunked\""],
            &["chunked chunked"],
            &["gzip, chunked, chunked"],
            &["gzip;a=\"b, chunked\""],
            &["chunked\u{a0}"],
        ] {
            assert_eq!(codings(lines), Codings::Invalid, "{lines:?}");
        }
    }

    #[test]
    fn u_49_both_fields_are_refused_however_they_read() {
        for codings in [Codings::Chunked, Codings::Unsupported, Codings::Invalid] {
            for lengths in [Lengths::One(0), Lengths::Invalid, Lengths::Several] {
                let found = coded_framing(Version::Http11, codings, lengths);
                assert_eq!(found, Err(HeadError::LengthWithCoding));
            }
        }
    }

    #[test]
    fn u_50_http_1_0_has_no_transfer_coding() {
        let found = coded_framing(Version::Http10, Codings::Chunked, Lengths::Absent);
        assert_eq!(found, Err(HeadError::CodingInHttp10));
    }
}
