//! WebSocket messages (RFC 6455), framed and masked once, before the first is sent: what a message
//! costs the generator is a write, a read and a comparison. Called by `script.rs`.

use crate::expect::Pattern;

/// Fields of the opening handshake; the key is the one of RFC 6455 §1.3.
pub(crate) const HANDSHAKE_FIELDS: &str =
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The answer to that key.
pub(crate) const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A Close frame with 1000, masked by zeros, and the one that answers it (RFC 6455 §5.5.1).
pub(crate) const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";
pub(crate) const CLOSED: &[u8] = b"\x88\x02\x03\xe8";

/// How a Ping begins (RFC 6455 §5.5.2).
pub(crate) const PING: u8 = 0x89;

/// A connection sends so many messages before it begins anew: a prime, so that rounds of any depth
/// are different.
const DISTINCT: u32 = 17;

/// Final, binary.
const FIRST: u8 = 0x82;
const MASKED: u8 = 0x80;

/// Messages of one length.
#[derive(Clone, Copy)]
pub(crate) struct Messages {
    /// Bytes of the payload.
    bytes: usize,
    /// Bytes of a message as it is sent, and as it has to come back.
    pub(crate) sent_bytes: usize,
    pub(crate) echoed_bytes: usize,
}

impl Messages {
    /// Messages of `bytes`.
    pub(crate) fn new(bytes: usize) -> Messages {
        let (sent_bytes, echoed_bytes) = (masked(bytes, 0).len(), plain(bytes, 0).len());
        Messages { bytes, sent_bytes, echoed_bytes }
    }

    /// All that a connection sends, `depth` messages at once.
    pub(crate) fn sent(self, depth: usize) -> Pattern {
        let frames = (0..DISTINCT).flat_map(|number| masked(self.bytes, number));
        Pattern::repeat(&frames.collect::<Vec<_>>(), depth * self.sent_bytes)
    }

    /// All that comes back.
    pub(crate) fn echoed(self, depth: usize) -> Pattern {
        let frames = (0..DISTINCT).flat_map(|number| plain(self.bytes, number));
        Pattern::repeat(&frames.collect::<Vec<_>>(), depth * self.echoed_bytes)
    }
}

/// The Pong to the Ping that `bytes` begin with, masked by zeros, and what is behind it; `None` if
/// it is not all there.
pub(crate) fn pong(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (&[_, len], rest) = bytes.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(usize::from(len))?;
    Some(([&[0x8a, MASKED | len, 0, 0, 0, 0], payload].concat(), rest))
}

/// A client's frame: each with a key of its own.
fn masked(bytes: usize, number: u32) -> Vec<u8> {
    let key = (number + 1).wrapping_mul(0x9e37_79b9).to_be_bytes();
    let payload = payload(bytes, number);
    let masked = payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    header(bytes, MASKED).into_iter().chain(key).chain(masked).collect()
}

/// A server's frame.
fn plain(bytes: usize, number: u32) -> Vec<u8> {
    header(bytes, 0).into_iter().chain(payload(bytes, number)).collect()
}

fn payload(bytes: usize, number: u32) -> Vec<u8> {
    Pattern::new(bytes).slice(number.into(), bytes).to_vec()
}

/// RFC 6455 §5.2, without the masking key: the length in its shortest form.
fn header(bytes: usize, mask: u8) -> Vec<u8> {
    let mut header = vec![FIRST];
    match bytes {
        0..=125 => header.push(mask | bytes as u8),
        126..=0xffff => {
            header.push(mask | 126);
            header.extend((bytes as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((bytes as u64).to_be_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6455 §5.7: an unmasked message of 256 bytes, and one of 65536.
    #[test]
    fn a_length_is_in_its_shortest_form() {
        assert_eq!(header(125, MASKED), [0x82, 0xfd]);
        assert_eq!(header(126, MASKED), [0x82, 0xfe, 0, 126]);
        assert_eq!(header(256, 0), [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(header(65_536, 0), [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn what_is_sent_is_what_comes_back_but_for_the_mask() {
        for (bytes, number) in [(1, 0), (64, 16), (1000, 3), (70_000, 5)] {
            let (sent, back) = (masked(bytes, number), plain(bytes, number));
            let (key, payload) = sent[sent.len() - bytes - 4..].split_at(4);
            let unmasked = payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            assert!(unmasked.eq(back[back.len() - bytes..].iter().copied()));
            assert_eq!(sent.len(), back.len() + 4);
        }
    }

    #[test]
    fn one_message_is_not_the_next() {
        for bytes in [1, 2, 251, 502, 4096] {
            assert_ne!(plain(bytes, 0), plain(bytes, 1), "{bytes}");
        }
    }
}
