//! Finding the end of a request head, and the bytes at which its parts end.
//!
//! The session calls [`head_end`] each time bytes arrive of a head that did not come whole, until it
//! is; only then does `http` read it. A head that came whole is read along the marks of its blocks
//! (`classes`), its end among them. Nothing here knows what a field is, keeps state between calls, or reads a byte
//! behind the head.
//!
//! ```text
//!   GET / HTTP/1.1 CR LF  Host: a CR LF  CR LF  <first bytes of whatever follows>
//!                      ^              ^      ^
//!                      every LF is looked at once, together with at most three bytes before it
//! ```

// Nothing a peer sends may end in a panic: what could is refused here, and each exception says why it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions, and loads of whole blocks")]
mod avx2;
mod classes;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions, and loads of whole blocks")]
mod ssse3;

use memchr::memchr_iter;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::with_avx2;
#[cfg(test)]
pub(crate) use classes::ByteByByte;
pub(crate) use classes::{BLOCK, Block, Class, Classifier, HALF};
#[cfg(target_arch = "x86_64")]
pub(crate) use ssse3::with_ssse3;

/// What one look at the received bytes showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A whole head, and its length in bytes including the empty line that ends it.
    Complete(usize),
    /// No empty line yet and no fault: more bytes are needed.
    Partial,
    /// A line feed at this position without a carriage return before it.
    BareLf(usize),
}

/// Looks for the empty line that ends a head.
///
/// Bytes before `from` were scanned by an earlier call, so a caller resumes with `from` set to the
/// length it had then. Only line feeds from `from` on are visited, each with the bytes before it; a
/// cut inside CR LF CR LF is therefore found by the call that receives the last of the four. Empty
/// lines in front of the request line must be stripped first, see [`empty_lines`].
#[inline]
pub fn head_end(bytes: &[u8], from: usize) -> Scanned {
    let from = from.min(bytes.len());
    for found in memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
        let line_feed = from + found;
        let before = bytes.get(..line_feed).unwrap_or_default();
        // RFC 9112 §2.2 lets a recipient take a lone LF as a line end; U-61 does not, as that is
        // where parsers disagree.
        if before.last() != Some(&b'\r') {
            return Scanned::BareLf(line_feed);
        }
        if before.ends_with(b"\r\n\r") {
            return Scanned::Complete(line_feed + 1);
        }
    }
    Scanned::Partial
}

/// Looks for the end of a head that begins in `before`, wholly scanned without finding it, and goes
/// on in `bytes`.
///
/// Positions and lengths in the result count from the start of `bytes`.
pub fn head_end_across(before: &[u8], bytes: &[u8]) -> Scanned {
    let (_, tail) = before.split_at(before.len().saturating_sub(3));
    let (front, _) = bytes.split_at(bytes.len().min(3));
    // CR LF CR LF with its last byte among the first three of `bytes`: seen in a window over the
    // seam.
    let mut window = [0; 6];
    window.iter_mut().zip(tail.iter().chain(front)).for_each(|(to, from)| *to = *from);
    let (window, _) = window.split_at(tail.len() + front.len());
    match head_end(window, tail.len()) {
        Scanned::Complete(len) => Scanned::Complete(len - tail.len()),
        Scanned::BareLf(at) => Scanned::BareLf(at - tail.len()),
        Scanned::Partial => head_end(bytes, front.len()),
    }
}

/// Counts the empty lines (CR LF each) that `bytes` starts with.
///
/// RFC 9112 §2.2: a server should ignore at least one of them before the request line. How many are
/// too many is for the caller to say (U-68). A last lone CR is not counted: its LF may still come.
#[inline]
pub fn empty_lines(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seam_anywhere_gives_the_same_end() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest",
            "A: b\r\nC\nD\r\n\r\n",
            "\r\n\r\n",
            "a\r\n\r\r\n\r\n",
        ] {
            let bytes = text.as_bytes();
            let whole = oracle(bytes);
            for cut in 0..bytes.len() {
                if oracle(&bytes[..cut]) != Scanned::Partial {
                    break;
                }
                let expected = match whole {
                    Scanned::Complete(len) => Scanned::Complete(len - cut),
                    Scanned::BareLf(at) => Scanned::BareLf(at - cut),
                    Scanned::Partial => Scanned::Partial,
                };
                assert_eq!(
                    head_end_across(&bytes[..cut], &bytes[cut..]),
                    expected,
                    "{text:?} cut at {cut}"
                );
            }
        }
    }

    /// The same answer found one byte at a time, with nothing clever in it.
    fn oracle(bytes: &[u8]) -> Scanned {
        let mut last = [0u8; 3];
        for (position, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' {
                if last[2] != b'\r' {
                    return Scanned::BareLf(position);
                }
                if last == *b"\r\n\r" {
                    return Scanned::Complete(position + 1);
                }
            }
            last = [last[1], last[2], *byte];
        }
        Scanned::Partial
    }

    /// Feeds `bytes` cut at `split` and resumes the way a session does.
    fn resumed(bytes: &[u8], split: usize) -> Scanned {
        match head_end(&bytes[..split], 0) {
            Scanned::Partial => head_end(bytes, split),
            found => found,
        }
    }

    const CASES: &[&[u8]] = &[
        b"",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nping\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\r\n\r\n",
        b"POST /a-much-longer-target-than-one-vector HTTP/1.1\r\nHost: example.org\r\nContent-Length: 4\r\n\r\nBODY",
    ];

    #[test]
    fn agrees_with_the_oracle_at_every_split() {
        for case in CASES {
            for length in 0..=case.len() {
                let bytes = &case[..length];
                for split in 0..=length {
                    assert_eq!(resumed(bytes, split), oracle(bytes), "{bytes:?} at {split}");
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_oracle_at_every_alignment() {
        for case in CASES {
            for offset in 0..64 {
                let mut padded = vec![b'\n'; offset];
                padded.extend_from_slice(case);
                assert_eq!(head_end(&padded[offset..], 0), oracle(case));
            }
        }
    }

    #[test]
    fn agrees_with_the_oracle_on_every_short_string_of_line_bytes() {
        let alphabet = [b'\r', b'\n', b'x'];
        for length in 0..8u32 {
            for number in 0..3usize.pow(length) {
                let mut rest = number;
                let bytes: Vec<u8> = (0..length)
                    .map(|_| {
                        let byte = alphabet[rest % 3];
                        rest /= 3;
                        byte
                    })
                    .collect();
                for split in 0..=bytes.len() {
                    assert_eq!(resumed(&bytes, split), oracle(&bytes), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn resuming_byte_by_byte_finds_the_same_end() {
        for case in CASES {
            let mut found = Scanned::Partial;
            for length in 1..=case.len() {
                found = head_end(&case[..length], length - 1);
                if found != Scanned::Partial {
                    break;
                }
            }
            assert_eq!(found, oracle(case));
        }
    }

    #[test]
    fn a_resume_point_behind_the_bytes_is_partial() {
        assert_eq!(head_end(b"GET", 9), Scanned::Partial);
    }

    #[test]
    fn counts_leading_empty_lines_but_no_lone_return() {
        assert_eq!(empty_lines(b"\r\n\r\nGET /"), 2);
        assert_eq!(empty_lines(b"\r\n\r"), 1);
        assert_eq!(empty_lines(b"GET /\r\n"), 0);
        assert_eq!(empty_lines(b"\n\r\n"), 0);
    }
}
