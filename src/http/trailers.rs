//! The trailer section of a chunked content, as handlers see it: behind the content, never merged
//! into the head (RFC 9110 §6.5.1, U-56).

use super::list::split_once;

/// Trailer fields, checked by their grammar when they were received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    lines: Vec<u8>,
}

impl Trailers {
    /// No fields.
    pub const fn new() -> Trailers {
        Trailers { lines: Vec::new() }
    }

    /// Adds received bytes of the section, as [`ChunkStep::Trailer`](super::ChunkStep) points them
    /// out.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.lines.extend_from_slice(bytes);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Names and values of all lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let (name, value) = split_once(line, b':')?;
            Some((name, value.trim_ascii()))
        })
    }

    /// The value of the first line with this name, in any case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.iter();
        all.find(|(at, _)| at.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_received_in_pieces_are_fields() {
        let mut trailers = Trailers::new();
        assert!(trailers.is_empty() && trailers.field("x").is_none());
        trailers.extend(b"X-Sum: \tab");
        trailers.extend(b"c \r\nEmpty:\r\n");
        assert_eq!(trailers.field("x-sum"), Some(&b"abc"[..]));
        let all: Vec<_> = trailers.iter().collect();
        assert_eq!(all, [(&b"X-Sum"[..], &b"abc"[..]), (b"Empty", b"")]);
    }
}
