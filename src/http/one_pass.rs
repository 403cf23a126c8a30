//! Reading a head and finding its end in one pass, where the processor can.
//!
//! The session asks [`read_whole_head`] first, with whatever was received. It only ever says yes:
//! for a head that is all there, in which nothing is wrong or rare. Anything else is left to
//! `scan::head_end` and [`read_head`](super::read_head), which know what to say about it; a head
//! both read, they read alike.
//!
//! ```text
//!   Host: example.org CR LF           every block of 64 bytes is classified once; between the
//!       ^             ^               marks nothing is looked at again, apart from the values
//!       not a token   not a value     the server acts on
//! ```

use super::authority::{NAME, is_authority_at};
use super::field::{Field, HEAD_BYTES_MAX, Span};
use super::head::{FIELDS_CAPACITY, Head, HeadLimits, Version};
use super::list::TOKEN;
use super::method::Method;
use super::target::{TARGET, origin_form, read_target};
use crate::scan::{BLOCK, Block, Classifier, HALF};

/// Reads the head that `bytes` begin with into `head` and `fields`, and says where it ends.
///
/// `None` means that this reader has nothing to say: the head may be unfinished, faulty, of a rare
/// form, or the processor without vectors that it knows. What is in `head` and `fields` means nothing
/// then. A head that is read into its place is not moved right after it was written, which would
/// stall.
#[inline]
pub fn read_whole_head(
    bytes: &[u8],
    head: &mut Head,
    fields: &mut Vec<Field>,
    limits: &HeadLimits,
) -> Option<usize> {
    if bytes.len() >= HALF {
        return read_blocks(bytes, head, fields, limits);
    }
    read_blocks(&padded(bytes), head, fields, limits)
}

/// Copied once, instead of wherever a block of it is looked at. No head goes on behind a NUL.
#[inline]
fn padded(bytes: &[u8]) -> [u8; HALF] {
    let mut half = [0; HALF];
    half.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    half
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn read_blocks(
    bytes: &[u8],
    head: &mut Head,
    fields: &mut Vec<Field>,
    limits: &HeadLimits,
) -> Option<usize> {
    let wide = crate::scan::with_avx2(
        #[inline(always)]
        |classifier| read(classifier, bytes, head, fields, limits),
    );
    match wide {
        Some(read) => read,
        None => read_narrow_blocks(bytes, head, fields, limits),
    }
}

#[cfg(target_arch = "x86_64")]
fn read_narrow_blocks(
    bytes: &[u8],
    head: &mut Head,
    fields: &mut Vec<Field>,
    limits: &HeadLimits,
) -> Option<usize> {
    crate::scan::with_ssse3(
        #[inline(always)]
        |classifier| read(classifier, bytes, head, fields, limits),
    )?
}

/// [`read_whole_head`] as on a processor without AVX2, for benches.
#[doc(hidden)]
#[cfg(target_arch = "x86_64")]
pub fn read_whole_head_narrowly(
    bytes: &[u8],
    head: &mut Head,
    fields: &mut Vec<Field>,
    limits: &HeadLimits,
) -> Option<usize> {
    if bytes.len() >= HALF {
        return read_narrow_blocks(bytes, head, fields, limits);
    }
    read_narrow_blocks(&padded(bytes), head, fields, limits)
}

#[cfg(not(target_arch = "x86_64"))]
fn read_blocks(_: &[u8], _: &mut Head, _: &mut Vec<Field>, _: &HeadLimits) -> Option<usize> {
    None
}

#[inline(always)]
fn read<C: Classifier>(
    classifier: C,
    bytes: &[u8],
    head: &mut Head,
    fields: &mut Vec<Field>,
    limits: &HeadLimits,
) -> Option<usize> {
    let bytes = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
    let mut cursor = Cursor::new(classifier, bytes);
    let mut at = read_request_line(&mut cursor, head, limits)?;
    let fields_max = limits.fields_max.min(FIELDS_CAPACITY);
    fields.clear();
    loop {
        let colon = cursor.not_token(at)?;
        if bytes.get(colon) != Some(&b':') {
            let is_end = colon == at && is_line_end(bytes, at);
            return (is_end && head.finish().is_ok()).then_some(at + 2);
        }
        let line_end = cursor.not_value(colon + 1)?;
        if colon == at || !is_line_end(bytes, line_end) || fields.len() == fields_max {
            return None;
        }
        let value = trimmed(bytes, colon + 1, line_end);
        let field = Field { name: span(at, colon), value };
        fields.push(field);
        head.note(
            bytes.get(at..colon)?,
            value.of(bytes),
            field,
            #[inline(always)]
            || cursor.is_authority(value),
        )
        .ok()?;
        at = line_end + 2;
    }
}

/// Reads the request line; says where the next one begins.
#[inline(always)]
fn read_request_line<C: Classifier>(
    cursor: &mut Cursor<'_, C>,
    head: &mut Head,
    limits: &HeadLimits,
) -> Option<usize> {
    let bytes = cursor.bytes;
    let method_end = cursor.not_token(0)?;
    let start = method_end + 1;
    let (end, question) = cursor.target_end(start)?;
    let (first, rest) = bytes.get(end..)?.split_first_chunk::<8>()?;
    let version = match rest {
        [b'1', b'\r', b'\n', ..] => Version::Http11,
        [b'0', b'\r', b'\n', ..] => Version::Http10,
        _ => return None,
    };
    if first != b" HTTP/1." {
        return None;
    }
    if method_end == 0
        || bytes.get(method_end) != Some(&b' ')
        || end - start > limits.target_bytes_max
    {
        return None;
    }
    let method = Method::from_bytes(bytes.get(..method_end)?);
    let target = match (method, bytes.get(start)) {
        (Method::Connect, _) => return None,
        (_, Some(b'/')) => origin_form(span(start, end), question),
        _ => read_target(bytes, method, bytes.get(start..end)?).ok()?,
    };
    let spans = (span(0, method_end), span(start, end));
    *head = Head::of_line(method, version, spans, target);
    Some(end + 11)
}

#[inline(always)]
fn is_line_end(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..at + 2) == Some(b"\r\n")
}

/// `start` and `end` are within [`HEAD_BYTES_MAX`].
#[inline(always)]
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u16, len: (end - start) as u16 }
}

/// The value between `start` and `end` without the spaces and tabs around it.
#[inline(always)]
fn trimmed(bytes: &[u8], mut start: usize, mut end: usize) -> Span {
    while start < end && matches!(bytes.get(start), Some(b' ' | b'\t')) {
        start += 1;
    }
    while start < end && matches!(bytes.get(end - 1), Some(b' ' | b'\t')) {
        end -= 1;
    }
    span(start, end)
}

/// The marks of the block that is being read.
struct Cursor<'a, C> {
    classifier: C,
    bytes: &'a [u8],
    /// Where the block begins: a multiple of [`BLOCK`].
    block: usize,
    /// Bytes that cannot stand in a name: it ends at the first.
    not_token: u64,
    /// Bytes that cannot stand in a value: it ends at the first.
    not_value: u64,
}

impl<'a, C: Classifier> Cursor<'a, C> {
    #[inline(always)]
    fn new(classifier: C, bytes: &'a [u8]) -> Self {
        let mut cursor = Self { classifier, bytes, block: 0, not_token: 0, not_value: 0 };
        cursor.load(0);
        cursor
    }

    /// The first byte from `from` on that ends a name.
    #[inline(always)]
    fn not_token(&mut self, mut from: usize) -> Option<usize> {
        while self.reach(from) {
            let ahead = self.not_token >> (from % BLOCK);
            if ahead != 0 {
                return Some(from + ahead.trailing_zeros() as usize);
            }
            from = self.block + BLOCK;
        }
        None
    }

    /// The first byte from `from` on that ends a value.
    #[inline(always)]
    fn not_value(&mut self, mut from: usize) -> Option<usize> {
        while self.reach(from) {
            let ahead = self.not_value >> (from % BLOCK);
            if ahead != 0 {
                return Some(from + ahead.trailing_zeros() as usize);
            }
            from = self.block + BLOCK;
        }
        None
    }

    /// Loads the block that `from` is in, if there is one and it is not this one.
    #[inline(always)]
    fn reach(&mut self, from: usize) -> bool {
        if from >= self.bytes.len() {
            return false;
        }
        let block = from & !(BLOCK - 1);
        if block != self.block {
            self.load(block);
        }
        true
    }

    #[inline(always)]
    fn load(&mut self, block: usize) {
        let (bytes, surplus) = Block::of(self.bytes, block);
        self.block = block;
        self.not_token = self.classifier.outside(&TOKEN, bytes) >> surplus;
        self.not_value = self.classifier.not_value(bytes) >> surplus;
    }

    /// The first byte from `start` on that ends a target, and the first question mark before it.
    #[inline(always)]
    fn target_end(&self, start: usize) -> Option<(usize, Option<u16>)> {
        let mut question = None;
        let mut from = start;
        while from < self.bytes.len() {
            let (bytes, surplus) = Block::of(self.bytes, from);
            let end = (self.classifier.outside(&TARGET, bytes) >> surplus).trailing_zeros();
            let mark = (self.classifier.equal(b'?', bytes) >> surplus).trailing_zeros();
            if question.is_none() && mark < end {
                question = Some((from + mark as usize) as u16);
            }
            if (end as usize) < BLOCK {
                return Some((from + end as usize, question));
            }
            from += BLOCK;
        }
        None
    }

    /// Whether the bytes of `value` are a host with or without a port.
    #[inline(always)]
    fn is_authority(&self, value: Span) -> bool {
        let (bytes, surplus) = Block::of(self.bytes, usize::from(value.start));
        let end = (self.classifier.outside(&NAME, bytes) >> surplus).trailing_zeros() as usize;
        // A name that goes on behind this block ends a block later at most, and rarely does.
        end < BLOCK && is_authority_at(value.of(self.bytes), end.min(usize::from(value.len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::read_head;
    use crate::scan::{ByteByByte, Scanned, head_end};

    type Found = Option<(Head, usize, Vec<Field>)>;

    /// Heads this reader takes, of many lengths and forms.
    const HEADS: [&str; 9] = [
        "GET / HTTP/1.1\r\nHost:a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: example.org:8080\r\n\r\n",
        "M-SEARCH http://a.example/x?y?z HTTP/1.1\r\nhost:\t [::1]:80 \t\r\n\r\n",
        "GET /a?b HTTP/1.1\r\nHost: localhost\r\nEmpty:\r\nBlank: \t \r\nLast: \u{e9}\r\n\r\n",
        "GET /a-target-that-is-longer-than-a-block-of-sixty-four-bytes/and-goes-on?and=on HTTP/1.1\r\n\
         Host: a\r\n\r\n",
        "POST /e?x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\
         Content-Length: 12\r\nExpect: 100-continue\r\nX: a value that is longer than a block, so that \
         its end is found in another one than its name\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a%41.b\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nA-name-that-is-quite-as-long-as-a-block-of-sixty-four-bytes-or-longer: x\r\n\
         Host: a\r\n\r\n",
    ];

    fn one_pass(bytes: &[u8], limits: &HeadLimits) -> Found {
        let (mut head, mut fields) = (Head::EMPTY, Vec::new());
        let len = read_whole_head(bytes, &mut head, &mut fields, limits)?;
        Some((head, len, fields))
    }

    /// The same reader, its marks found one byte after the other.
    fn by_bytes(bytes: &[u8], limits: &HeadLimits) -> Found {
        let (mut head, mut fields) = (Head::EMPTY, Vec::new());
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().max(HALF), 0);
        let len = read(ByteByByte, &padded, &mut head, &mut fields, limits)?;
        Some((head, len, fields))
    }

    /// The same reader on a processor without AVX2.
    #[cfg(target_arch = "x86_64")]
    fn narrowly(bytes: &[u8], limits: &HeadLimits) -> Found {
        let (mut head, mut fields) = (Head::EMPTY, Vec::new());
        let len = read_whole_head_narrowly(bytes, &mut head, &mut fields, limits)?;
        Some((head, len, fields))
    }

    fn two_passes(bytes: &[u8], limits: &HeadLimits) -> Found {
        let Scanned::Complete(len) = head_end(bytes, 0) else { return None };
        let mut fields = Vec::new();
        let head = read_head(&bytes[..len], &mut fields, limits).ok()?;
        Some((head, len, fields))
    }

    fn has_vectors() -> bool {
        #[cfg(target_arch = "x86_64")]
        return crate::scan::with_ssse3(|_| ()).is_some();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// What is rare enough to be left to the other reader.
    fn is_left_alone(head: &Head, bytes: &[u8]) -> bool {
        let version = usize::from(head.target.start + head.target.len) + 1;
        let is_later_minor = !matches!(bytes[version + 7], b'0' | b'1');
        let has_long_host = head.host.is_some_and(|host| usize::from(host.len) >= BLOCK);
        head.method == Method::Connect || is_later_minor || has_long_host
    }

    fn assert_agreement(bytes: &[u8], limits: &HeadLimits) {
        let expected = match two_passes(bytes, limits) {
            Some((head, ..)) if is_left_alone(&head, bytes) => None,
            expected => expected,
        };
        assert_eq!(by_bytes(bytes, limits), expected, "{}", bytes.escape_ascii());
        if has_vectors() {
            assert_eq!(one_pass(bytes, limits), expected, "{}", bytes.escape_ascii());
            #[cfg(target_arch = "x86_64")]
            assert_eq!(narrowly(bytes, limits), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn takes_every_plain_head_at_every_length() {
        let limits = HeadLimits::default();
        for head in HEADS {
            assert!(by_bytes(head.as_bytes(), &limits).is_some(), "{head}");
            for behind in ["", "x", "\r\n\r\n", &HEADS.concat()] {
                let bytes = [head, behind].concat().into_bytes();
                for len in 0..=bytes.len() {
                    assert_agreement(&bytes[..len], &limits);
                }
            }
        }
    }

    #[test]
    fn reads_alike_at_every_alignment() {
        for head in HEADS {
            for offset in 0..BLOCK {
                let mut bytes = vec![b'\n'; offset];
                bytes.extend_from_slice(head.as_bytes());
                assert_agreement(&bytes[offset..], &HeadLimits::default());
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_is_judged_as_by_the_other_reader() {
        for head in HEADS {
            for place in 0..head.len() {
                let mut bytes = head.as_bytes().to_vec();
                for byte in 0..=255 {
                    bytes[place] = byte;
                    assert_agreement(&bytes, &HeadLimits::default());
                }
            }
        }
    }

    #[test]
    fn a_byte_more_or_less_is_judged_as_by_the_other_reader() {
        for head in HEADS {
            for place in 0..head.len() {
                let (before, behind) = head.as_bytes().split_at(place);
                assert_agreement(&[before, &behind[1..]].concat(), &HeadLimits::default());
                for byte in b"\0\t\n\r \":?%[x\x80".chunks(1) {
                    assert_agreement(&[before, byte, behind].concat(), &HeadLimits::default());
                }
            }
        }
    }

    #[test]
    fn limits_are_where_the_other_reader_has_them() {
        let head = "GET /abc HTTP/1.1\r\nHost: a\r\nX: y\r\nX: y\r\n\r\n";
        for fields_max in 0..5 {
            for target_bytes_max in 0..6 {
                let limits = HeadLimits { fields_max, target_bytes_max };
                assert_agreement(head.as_bytes(), &limits);
            }
        }
        let many = "X: y\r\n".repeat(FIELDS_CAPACITY + 10);
        for lines in FIELDS_CAPACITY - 3..FIELDS_CAPACITY + 3 {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", &many[..lines * 6]);
            let limits = HeadLimits { fields_max: usize::MAX, ..HeadLimits::default() };
            assert_agreement(head.as_bytes(), &limits);
        }
        for target in [65_500, 65_518, 65_519, 65_520, 70_000] {
            let head = format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(target));
            let limits = HeadLimits { target_bytes_max: usize::MAX, ..HeadLimits::default() };
            if head.len() <= HEAD_BYTES_MAX {
                assert_agreement(head.as_bytes(), &limits);
            } else {
                assert_eq!(one_pass(head.as_bytes(), &limits), None);
            }
        }
    }

    #[test]
    fn rare_forms_are_left_to_the_other_reader() {
        for head in [
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(),
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(BLOCK)),
        ] {
            assert_agreement(head.as_bytes(), &HeadLimits::default());
        }
    }
}
