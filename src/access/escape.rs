//! What clients send, as it may stand in a log: no byte of theirs ends a line or a text in quotes, and
//! none is a control character to whoever looks at it.

/// Stands behind a text that was longer than its bound.
const CUT: &[u8] = b"...";

/// Appends at most `bytes_max` of `text`. Control characters, `"`, `\` and all that is not ASCII are
/// `\xNN`, as nginx writes them.
pub(super) fn write_plain(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    let (text, is_cut) = bounded(text, bytes_max);
    text.iter().for_each(|byte| write_byte(out, *byte));
    if is_cut {
        out.extend_from_slice(CUT);
    }
}

/// Appends at most `bytes_max` of `text` as the inside of a JSON string (RFC 8259 §7). What is no UTF-8
/// is U+FFFD.
pub(super) fn write_json(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    let (text, is_cut) = bounded(text, bytes_max);
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().for_each(|char| write_char(out, char));
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if is_cut {
        out.extend_from_slice(CUT);
    }
}

fn bounded(text: &[u8], bytes_max: usize) -> (&[u8], bool) {
    match text.get(..bytes_max) {
        Some(front) => (front, text.len() > bytes_max),
        None => (text, false),
    }
}

/// Copies a text to as many bytes, and says whether nothing of it needs an escape; nearly every text is
/// one of which nothing does. Eight bytes at a time, the last of them over some of those before, without
/// a branch on any byte.
#[inline(never)]
pub(super) fn copy_if_clean(to: &mut [u8], text: &[u8]) -> bool {
    let mut seen = Seen::default();
    if let (Some(last_to), Some(last)) = (to.last_chunk_mut::<8>(), text.last_chunk::<8>()) {
        *last_to = *last;
        seen.look_at(u64::from_le_bytes(*last));
        for (to, word) in to.as_chunks_mut::<8>().0.iter_mut().zip(text.as_chunks::<8>().0) {
            *to = *word;
            seen.look_at(u64::from_le_bytes(*word));
        }
        return seen.is_clean();
    }
    let mut word = [b' '; 8];
    for ((to, seen), byte) in to.iter_mut().zip(&mut word).zip(text) {
        (*to, *seen) = (*byte, *byte);
    }
    seen.look_at(u64::from_le_bytes(word));
    seen.is_clean()
}

/// What was seen of the bytes of words, in the highest bit of each byte.
struct Seen {
    /// One of them was 0x7f, or is not ASCII.
    any: u64,
    /// None was below 0x20, or `"`, or `\`.
    all: u64,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { any: 0, all: u64::MAX }
    }
}

impl Seen {
    /// No sum or difference leaves its byte: what is added to is below 0x80, what is taken from is not.
    #[inline(always)]
    fn look_at(&mut self, word: u64) {
        let low = word & !HIGHEST_BITS;
        self.any |= word | (low + each(1));
        let is_no_control = (word | HIGHEST_BITS) - each(b' ');
        let is_no_quote = (low ^ each(b'"')) + each(0x7f);
        let is_no_backslash = (low ^ each(b'\\')) + each(0x7f);
        self.all &= is_no_control & is_no_quote & is_no_backslash;
    }

    #[inline(always)]
    fn is_clean(&self) -> bool {
        (self.any | !self.all) & HIGHEST_BITS == 0
    }
}

const HIGHEST_BITS: u64 = each(0x80);

/// Eight times the same byte.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

fn is_special(byte: u8) -> bool {
    !(b' '..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

fn write_byte(out: &mut Vec<u8>, byte: u8) {
    if is_special(byte) {
        out.extend_from_slice(b"\\x");
        out.extend(hex(byte));
    } else {
        out.push(byte);
    }
}

fn write_char(out: &mut Vec<u8>, char: char) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        // Those of Latin-1, which terminals obey, too.
        _ if char.is_control() => {
            out.extend_from_slice(b"\\u00");
            out.extend(hex(char as u8));
        }
        _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn hex(byte: u8) -> [u8; 2] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    [digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &[u8]) -> String {
        let mut out = Vec::new();
        write_plain(&mut out, text, 40);
        String::from_utf8(out).expect("it is ASCII")
    }

    fn json(text: &[u8]) -> String {
        let mut out = Vec::new();
        write_json(&mut out, text, 40);
        String::from_utf8(out).expect("it is UTF-8")
    }

    #[test]
    fn every_byte_that_could_end_a_line_or_a_text_is_escaped() {
        for byte in 0..=255_u8 {
            let (plain, json) = (plain(&[byte]), json(&[byte]));
            let is_printable = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
            assert_eq!(plain.len() == 1, is_printable, "{byte:#x}");
            assert_eq!(json.len() == 1, is_printable, "{byte:#x}");
            assert!(plain.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{byte:#x}");
            let read: String = serde_json::from_str(&format!("\"{json}\"")).expect("JSON");
            let meant = if byte < 0x80 { char::from(byte) } else { '\u{fffd}' };
            assert_eq!(read, meant.to_string(), "{byte:#x}");
        }
    }

    #[test]
    fn texts_are_as_nginx_writes_them_and_cut_at_their_bound() {
        assert_eq!(plain(b"a\r\nb\"c\\d\xff"), "a\\x0D\\x0Ab\\x22c\\x5Cd\\xFF");
        assert_eq!(json("a\r\u{9b}é\"".as_bytes()), "a\\u000D\\u009Bé\\\"");
        assert_eq!(plain(&[b'a'; 41]), format!("{}...", "a".repeat(40)));
        assert_eq!(plain(&[b'a'; 40]), "a".repeat(40));
        let long = [&[b'a'; 39][..], "é".as_bytes()].concat();
        assert_eq!(json(&long), format!("{}\u{fffd}...", "a".repeat(39)), "cut in a character");
    }

    // Each length has its own way to be copied.
    #[test]
    fn a_byte_that_needs_an_escape_is_found_wherever_it_is() {
        for len in 0..=40 {
            let mut text: Vec<u8> = (b'a'..=b'z').cycle().take(len).collect();
            let mut copied = vec![0; len];
            assert!(copy_if_clean(&mut copied, &text) && copied == text, "{len}");
            for at in 0..len {
                for special in [b'"', b'\\', 0x7f, 0x1f, 0x80, 0xff, 0] {
                    let byte = std::mem::replace(&mut text[at], special);
                    assert!(!copy_if_clean(&mut copied, &text), "{special:#x} at {at} of {len}");
                    text[at] = byte;
                }
            }
        }
    }
}
