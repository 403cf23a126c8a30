//! Masking (RFC 6455 §5.3), undone in place: every byte of a payload is XORed with one of the four
//! of its frame's key.

#[cfg(target_arch = "x86_64")]
use crate::scan::with_avx2;

/// Shorter payloads do not pay for asking what the processor can do.
#[cfg(target_arch = "x86_64")]
const WIDE_MIN: usize = 128;

/// Unmasks `payload`, whose first byte is byte `offset` of its frame's, and says whether all of it
/// is ASCII: text that is needs no other look to be UTF-8.
#[inline]
pub fn unmask(payload: &mut [u8], key: [u8; 4], offset: usize) -> bool {
    let mut key = key;
    key.rotate_left(offset % 4);
    #[cfg(target_arch = "x86_64")]
    if payload.len() >= WIDE_MIN
        && let Some(is_ascii) = with_avx2(|_| by_words(payload, key))
    {
        return is_ascii;
    }
    by_words(payload, key)
}

/// A word at a time, written as words: arrays of bytes became vector instructions in one caller and
/// 64 steps of one byte in another. Who compiles it makes vectors as wide as it may of the words.
#[inline(always)]
fn by_words(payload: &mut [u8], key: [u8; 4]) -> bool {
    let half = u64::from(u32::from_ne_bytes(key));
    let key = half << 32 | half;
    let (words, tail) = payload.as_chunks_mut::<8>();
    let mut seen = 0;
    for word in words {
        let plain = u64::from_ne_bytes(*word) ^ key;
        *word = plain.to_ne_bytes();
        seen |= plain;
    }
    let mut last = 0;
    for (byte, mask) in tail.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= mask;
        last |= *byte;
    }
    (seen | u64::from(last)) & 0x8080_8080_8080_8080 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// As RFC 6455 §5.3 writes it.
    fn by_the_book(payload: &[u8], offset: usize) -> Vec<u8> {
        (offset..).zip(payload).map(|(at, byte)| byte ^ KEY[at % 4]).collect()
    }

    fn plain(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 % 128) as u8).collect()
    }

    #[test]
    fn every_length_at_every_alignment_and_offset_is_as_the_standard_writes_it() {
        let mut memory = vec![0; 700];
        for len in (0..300).chain([511, 512, 513, 600]) {
            for start in [0, 1, 2, 3, 15, 16, 31] {
                for offset in 0..5 {
                    let expected = plain(len);
                    let masked = by_the_book(&expected, offset);
                    memory.fill(0xee);
                    memory[start..start + len].copy_from_slice(&masked);
                    assert!(unmask(&mut memory[start..start + len], KEY, offset));
                    assert_eq!(memory[start..start + len], expected, "{len} at {start}, {offset}");
                    let outside = memory[..start].iter().chain(&memory[start + len..]);
                    assert!(outside.into_iter().all(|byte| *byte == 0xee));
                }
            }
        }
    }

    #[test]
    fn one_byte_above_ascii_is_seen_wherever_it_is() {
        for len in 1..200 {
            for at in 0..len {
                let mut payload = plain(len);
                payload[at] |= 0x80;
                let mut masked = by_the_book(&payload, 0);
                assert!(!unmask(&mut masked, KEY, 0), "{at} of {len}");
                assert_eq!(masked, payload);
            }
        }
    }

    #[test]
    fn both_widths_agree() {
        for len in 0..300 {
            let masked = by_the_book(&plain(len), 0);
            let (mut narrow, mut either) = (masked.clone(), masked);
            assert_eq!(by_words(&mut narrow, KEY), unmask(&mut either, KEY, 0));
            assert_eq!(narrow, either);
        }
    }
}
