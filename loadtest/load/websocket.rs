//! What RFC 6455 has besides messages: the key of an opening handshake and the answer to it, and
//! heads of frames. No I/O. Called by `script.rs`, `messages.rs` and `echo.rs`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::fault::Fault;
use crate::messages::mixed;

/// A Close frame with 1000, masked by zeros (RFC 6455 §5.5.1).
pub(crate) const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";

pub(crate) const MASKED: u8 = 0x80;
const FINAL: u8 = 0x80;
const BINARY: u8 = 0x2;
/// A control frame has at most so much payload (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// The nonce of a connection: of 16 bytes, another one for each (RFC 6455 §4.1).
pub(crate) fn key(seed: u64, connection: u64) -> String {
    let first = mixed(seed ^ mixed(connection));
    STANDARD.encode([first.to_be_bytes(), mixed(first ^ seed).to_be_bytes()].concat())
}

/// What has to be the answer to it (RFC 6455 §4.2.2, 5.4).
pub(crate) fn accept(key: &str) -> String {
    let mut digest = Sha1::new();
    digest.update(key);
    digest.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest.finalize())
}

/// The header of a binary message in one frame, without the masking key: the length in its shortest
/// form (RFC 6455 §5.2).
pub(crate) fn header(bytes: usize, mask: u8) -> Vec<u8> {
    let mut header = vec![FINAL | BINARY];
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

/// A Pong, masked by zeros, with the payload of a Ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    [&[FINAL | 0xa, MASKED | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The head of a server's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) opcode: Opcode,
    pub(crate) is_last: bool,
    /// Bytes of the head, and of the payload behind it.
    pub(crate) bytes: usize,
    pub(crate) payload_bytes: usize,
}

impl Head {
    /// `None` if it is not all there.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = match first & !FINAL {
            0x0 => Opcode::Continuation,
            BINARY => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            // Also a reserved bit, which no extension was agreed for.
            _ => return Err(Fault::Frame),
        };
        // RFC 6455 §5.2: of the three forms of a length the shortest. A mask, which a server's
        // frame has not (§5.1), is in the way of all of them.
        let (length_bytes, shortest) = match second {
            0..=125 => (0, 0),
            126 => (2, 126),
            127 => (8, 0x1_0000),
            _ => return Err(Fault::Frame),
        };
        let Some(length) = rest.get(..length_bytes) else { return Ok(None) };
        let length = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        let length = if length_bytes == 0 { u64::from(second) } else { length };
        let payload_bytes = usize::try_from(length).map_err(|_| Fault::Frame)?;
        let head =
            Head { opcode, is_last: first & FINAL != 0, bytes: 2 + length_bytes, payload_bytes };
        // RFC 6455 §5.5: a control frame is short and whole.
        let is_whole = head.is_last && payload_bytes <= CONTROL_BYTES_MAX;
        if payload_bytes < shortest || (head.is_control() && !is_whole) {
            return Err(Fault::Frame);
        }
        Ok(Some(head))
    }

    pub(crate) fn is_control(&self) -> bool {
        matches!(self.opcode, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// Whether a server may close with this: nothing, or a code that may be sent, and why (RFC 6455
/// §5.5.1, §7.4).
pub(crate) fn is_close(payload: &[u8]) -> bool {
    match payload {
        [] => true,
        [_] => false,
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let may_be_sent =
                (1000..=4999).contains(&code) && !matches!(code, 1004..=1006 | 1015..=2999);
            may_be_sent && str::from_utf8(reason).is_ok()
        }
    }
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
    fn what_is_written_is_read() {
        for bytes in [0, 125, 126, 256, 65_535, 65_536, 1 << 24] {
            let header = header(bytes, 0);
            for cut in 0..header.len() {
                assert_eq!(Head::read(&header[..cut]).expect("right so far"), None);
            }
            let head = Head::read(&header).expect("right").expect("whole");
            assert_eq!((head.bytes, head.payload_bytes), (header.len(), bytes));
            assert_eq!((head.opcode, head.is_last), (Opcode::Binary, true));
        }
    }

    #[test]
    fn a_frame_no_server_may_send_is_a_fault() {
        let masked: &[u8] = b"\x82\x81";
        let long_form: &[u8] = b"\x82\x7e\x00\x7d";
        let longer_form: &[u8] = b"\x82\x7f\0\0\0\0\0\0\xff\xff";
        let text: &[u8] = b"\x81\x01";
        let reserved: &[u8] = b"\xc2\x01";
        let unknown: &[u8] = b"\x83\x01";
        let long_ping: &[u8] = b"\x89\x7e\x01\x00";
        let cut_ping: &[u8] = b"\x09\x00";
        for bytes in [masked, long_form, longer_form, text, reserved, unknown, long_ping, cut_ping]
        {
            assert!(matches!(Head::read(bytes), Err(Fault::Frame)), "{bytes:?}");
        }
    }

    // RFC 6455 §1.3.
    #[test]
    fn an_accept_is_that_of_the_standard() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_connection_has_a_key_of_its_own() {
        let keys: std::collections::HashSet<_> =
            [1, 2].into_iter().flat_map(|seed| (0..500).map(move |one| key(seed, one))).collect();
        assert_eq!(keys.len(), 1000);
        assert!(keys.iter().all(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)));
    }

    #[test]
    fn what_may_close_is_nothing_or_a_code_that_may_be_sent() {
        for right in [&b""[..], b"\x03\xe8", b"\x03\xe9", b"\x03\xe8bye", b"\x0b\xb8"] {
            assert!(is_close(right), "{right:?}");
        }
        for wrong in [&b"\x03"[..], b"\x03\xed", b"\x03\xee", b"\0\0", b"\x03\xe8\xff"] {
            assert!(!is_close(wrong), "{wrong:?}");
        }
    }
}
