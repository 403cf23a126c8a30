//! UTF-8 that comes in pieces (RFC 6455 §8.1): valid so far, or wrong at the first byte that shows
//! it, wherever the pieces are cut.

use simdutf8::{basic, compat};

/// How far a text has been looked at: the beginning of a character whose end has not come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Utf8 {
    pending: [u8; 3],
    count: u8,
}

impl Utf8 {
    /// Whether the text so far, with `bytes` behind it, can still become UTF-8.
    pub(super) fn goes_on(&mut self, bytes: &[u8]) -> bool {
        let Some(rest) = self.complete(bytes) else { return false };
        // Nearly always all of it is fine, and asking only that is faster.
        if basic::from_utf8(rest).is_ok() {
            return true;
        }
        match compat::from_utf8(rest) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() => {
                self.keep(rest.get(error.valid_up_to()..).unwrap_or_default());
                true
            }
            Err(_) => false,
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.count == 0
    }

    /// Completes the pending character; what of `bytes` lies behind it, or `None` if it is none.
    fn complete<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = bytes;
        while self.count > 0 {
            let Some((next, behind)) = rest.split_first() else { break };
            let mut character = [0; 4];
            let count = usize::from(self.count);
            for (at, byte) in character.iter_mut().zip(self.pending.iter().take(count)) {
                *at = *byte;
            }
            *character.get_mut(count)? = *next;
            let character = character.get(..=count)?;
            match std::str::from_utf8(character) {
                Ok(_) => self.count = 0,
                Err(error) if error.error_len().is_none() => self.keep(character),
                Err(_) => return None,
            }
            rest = behind;
        }
        Some(rest)
    }

    /// At most three bytes: four are a character, or none.
    fn keep(&mut self, bytes: &[u8]) {
        self.count = bytes.len().min(self.pending.len()) as u8;
        for (at, byte) in self.pending.iter_mut().zip(bytes) {
            *at = *byte;
        }
    }
}

/// Whether `bytes` are UTF-8, from their first to their last.
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    basic::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&[u8]; 22] = [
        b"",
        b"plain",
        "caf\u{e9} \u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes(),
        "\u{1f600}x\u{10ffff}".as_bytes(),
        b"\xff",
        b"ab\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80edited",
        b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"tail\xe2",
        b"tail\xe2\x82",
        b"tail\xf0\x9f\x98",
        b"\xe2\x28\xa1",
        b"\xf0\x9f\x98x",
        b"\xc3\xc3",
        b"\xed\x9f\xbf\xee\x80\x80",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65",
        b"\xf1\xf1",
        b"\xe1\x80\xe1\x80\x80",
    ];

    /// Where std finds the first wrong byte: the prefixes up to there can still become UTF-8.
    fn wrong_at(text: &[u8]) -> Option<usize> {
        (1..=text.len()).find(|len| {
            std::str::from_utf8(&text[..*len]).is_err_and(|error| error.error_len().is_some())
        })
    }

    #[test]
    fn every_cut_finds_the_same_first_wrong_byte() {
        for text in TEXTS {
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let pieces = [&text[..first], &text[first..second], &text[second..]];
                    let (mut utf8, mut seen) = (Utf8::default(), 0);
                    let is_fine = pieces.iter().all(|piece| {
                        seen += piece.len();
                        utf8.goes_on(piece)
                    });
                    match wrong_at(text) {
                        Some(at) => assert!(!is_fine && seen >= at, "{text:x?} {first} {second}"),
                        None => assert!(is_fine, "{text:x?} {first} {second}"),
                    }
                    let is_valid = std::str::from_utf8(text).is_ok();
                    assert_eq!(is_fine && utf8.is_whole(), is_valid, "{text:x?}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_told_at_once() {
        for text in TEXTS {
            let mut utf8 = Utf8::default();
            let told = text.iter().position(|byte| !utf8.goes_on(&[*byte]));
            assert_eq!(told.map(|at| at + 1), wrong_at(text), "{text:x?}");
        }
    }
}
