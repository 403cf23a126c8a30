//! What clients send, as it may stand in a log: no byte of theirs ends a line or a text in quotes, and
//! none is a control character to whoever looks at it.

/// Stands behind a text that was longer than its bound.
const CUT: &[u8] = b"...";

/// Appends at most `bytes_max` of `text`. Control characters, `"`, `\` and all that is not ASCII are
/// `\xNN`, as nginx writes them.
pub(super) fn write_plain(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    let (text, is_cut) = bounded(text, bytes_max);
    if is_clean(text) {
        out.extend_from_slice(text);
    } else {
        text.iter().for_each(|byte| write_byte(out, *byte));
    }
    if is_cut {
        out.extend_from_slice(CUT);
    }
}

/// Appends at most `bytes_max` of `text` as the inside of a JSON string (RFC 8259 §7). What is no UTF-8
/// is U+FFFD.
pub(super) fn write_json(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    let (text, is_cut) = bounded(text, bytes_max);
    if is_clean(text) {
        out.extend_from_slice(text);
    } else {
        for chunk in text.utf8_chunks() {
            chunk.valid().chars().for_each(|char| write_char(out, char));
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
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

/// Whether nothing of it needs an escape. Nearly every text: all bytes are looked at without a branch,
/// many at a time.
fn is_clean(text: &[u8]) -> bool {
    !text.iter().fold(false, |any, byte| any | is_special(*byte))
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
}
