//! The frame of RFC 6455 §5.2: its header read and written, close codes, and what can be wrong.
//!
//! ```text
//!    0               1               2               3
//!   |F|R|R|R| opcode |M| length  7 |  length 16 or 64, if 126 or 127 was said  |
//!   |I|S|S|S|  (4)   |A|           |- - - - - - - - - - - - - - - - - - - - - -|
//!   |N|1|2|3|        |S|           |  masking key, from clients, and payload   |
//! ```
//!
//! A server's header has no masking key: it is four bytes shorter and fits in front of a payload
//! where the client's header was.

use std::fmt;

/// Bytes of the longest header a client sends.
pub(super) const CLIENT_HEADER_MAX: usize = 14;

/// Bytes of the longest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_PAYLOAD_MAX: usize = 125;

const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;

/// What a frame is (RFC 6455 §11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn of(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The header of a frame that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_final: bool,
    /// RSV1: the first frame of a compressed message (RFC 7692 §6).
    pub(super) is_compressed: bool,
    pub(super) opcode: Opcode,
    /// Bytes of payload.
    pub(super) len: u64,
    pub(super) key: [u8; 4],
    /// Bytes of the header itself.
    pub(super) size: u8,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` if it is not whole. What is wrong with it is
    /// said as soon as the byte is there that shows it.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Header>, Fault> {
        let &[first, ref behind @ ..] = bytes else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(Fault::ReservedBits);
        }
        let opcode = Opcode::of(first & 0x0f).ok_or(Fault::Opcode)?;
        let is_final = first & FINAL != 0;
        if opcode.is_control() {
            if !is_final {
                return Err(Fault::ControlFragmented);
            }
            if first & COMPRESSED != 0 {
                return Err(Fault::ReservedBits);
            }
        }
        let &[second, ref behind @ ..] = behind else { return Ok(None) };
        // RFC 6455 §5.1: a server fails a connection on an unmasked frame.
        if second & MASKED == 0 {
            return Err(Fault::Unmasked);
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_MAX {
            return Err(Fault::ControlTooLong);
        }
        let Some((len, behind)) = read_length(short, behind)? else { return Ok(None) };
        let &[a, b, c, d, ref behind @ ..] = behind else { return Ok(None) };
        Ok(Some(Header {
            is_final,
            is_compressed: first & COMPRESSED != 0,
            opcode,
            len,
            key: [a, b, c, d],
            size: (bytes.len() - behind.len()) as u8,
        }))
    }
}

/// The length that `short` stands for, and what follows it. RFC 6455 §5.2: in the shortest form, and
/// the highest of 64 bits is zero.
#[inline]
fn read_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Fault> {
    match (short, bytes) {
        (126, &[a, b, ref behind @ ..]) => match u16::from_be_bytes([a, b]) {
            0..=125 => Err(Fault::LengthNotShortest),
            len => Ok(Some((u64::from(len), behind))),
        },
        (127, &[a, ..]) if a & 0x80 != 0 => Err(Fault::LengthOverflow),
        (127, &[a, b, c, d, e, f, g, h, ref behind @ ..]) => {
            match u64::from_be_bytes([a, b, c, d, e, f, g, h]) {
                0..=0xffff => Err(Fault::LengthNotShortest),
                len => Ok(Some((len, behind))),
            }
        }
        (126 | 127, _) => Ok(None),
        (len, behind) => Ok(Some((u64::from(len), behind))),
    }
}

/// The header of a frame that we send: at most ten bytes, without a masking key.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerHeader {
    bytes: [u8; 10],
    size: u8,
}

impl ServerHeader {
    /// Of a whole message or control frame with `len` bytes of payload.
    #[inline]
    pub(super) fn new(opcode: Opcode, is_compressed: bool, len: usize) -> ServerHeader {
        let first = FINAL | if is_compressed { COMPRESSED } else { 0 } | opcode as u8;
        let mut header = ServerHeader { bytes: [0; 10], size: 2 };
        let [at, short, long @ ..] = &mut header.bytes;
        *at = first;
        match len {
            0..=125 => *short = len as u8,
            126..=0xffff => {
                let [a, b] = (len as u16).to_be_bytes();
                (*short, long[0], long[1]) = (126, a, b);
                header.size = 4;
            }
            _ => {
                *short = 127;
                *long = (len as u64).to_be_bytes();
                header.size = 10;
            }
        }
        header
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.size)).unwrap_or_default()
    }
}

/// Why a connection closes, as a Close frame says it (RFC 6455 §7.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// 1001: a server goes down, or a browser has left the page.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// 1003: a kind of message that is not accepted.
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// 1007: a message is not what its kind says it is.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    /// 1008: a policy was broken, and no other code fits.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// 1009: a message is too large.
    pub const TOO_LARGE: CloseCode = CloseCode(1009);
    /// 1011: the server met something it did not expect.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// 1012: the server restarts.
    pub const RESTART: CloseCode = CloseCode(1012);
    /// 1013: the server is overloaded; try again later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);

    /// A code that may stand in a Close frame: those above, 1010, 1014 and, for libraries and
    /// applications, 3000 to 4999.
    pub const fn new(code: u16) -> Option<CloseCode> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(CloseCode(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a peer did that ends its connection. Each has the close code that tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// RFC 6455 §5.1.
    #[error("a frame of a client was not masked")]
    Unmasked,
    /// RFC 6455 §5.2, RFC 7692 §6.
    #[error("a reserved bit was set that no extension gives a meaning")]
    ReservedBits,
    /// RFC 6455 §5.2.
    #[error("an opcode that is not defined")]
    Opcode,
    /// RFC 6455 §5.5.
    #[error("a control frame was longer than 125 bytes")]
    ControlTooLong,
    /// RFC 6455 §5.5.
    #[error("a control frame was fragmented")]
    ControlFragmented,
    /// RFC 6455 §5.2.
    #[error("a length was not in its shortest form")]
    LengthNotShortest,
    /// RFC 6455 §5.2.
    #[error("the highest bit of a length was set")]
    LengthOverflow,
    /// RFC 6455 §5.4.
    #[error("a continuation of no message")]
    NothingToContinue,
    /// RFC 6455 §5.4.
    #[error("a new message inside another")]
    NotContinued,
    /// RFC 6455 §5.5.1 and §7.4.
    #[error("a Close frame with half a code, or a code that must not be sent")]
    CloseCode,
    /// RFC 6455 §8.1.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// RFC 7692 §7.2.2.
    #[error("a compressed message that cannot be inflated")]
    NotDeflate,
    /// The limit `message_bytes_max`.
    #[error("a message larger than allowed")]
    MessageTooLarge,
    /// The limit `fragments_max`.
    #[error("a message of more fragments than allowed")]
    TooManyFragments,
    /// The limit `control_frames_per_second_max`.
    #[error("more control frames a second than allowed")]
    TooManyControlFrames,
    /// The server's limit `collected_bytes_max`.
    #[error("the messages of others left no room for this one")]
    NoRoom,
}

impl Fault {
    /// The code of the Close frame that answers it.
    pub fn code(self) -> CloseCode {
        match self {
            Fault::NotUtf8 | Fault::NotDeflate => CloseCode::INVALID_DATA,
            Fault::MessageTooLarge => CloseCode::TOO_LARGE,
            Fault::TooManyFragments | Fault::TooManyControlFrames => CloseCode::POLICY,
            Fault::NoRoom => CloseCode::TRY_AGAIN_LATER,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    fn header(opcode: Opcode, len: u64, size: u8) -> Header {
        Header { is_final: true, is_compressed: false, opcode, len, key: KEY, size }
    }

    /// A client's header, whatever it says.
    fn written(first: u8, len: &[u8]) -> Vec<u8> {
        [&[first][..], len, &KEY].concat()
    }

    #[test]
    fn a_header_is_whole_when_its_last_byte_is_there_and_not_before() {
        for (bytes, expected) in [
            (written(0x81, &[0x80 | 5]), header(Opcode::Text, 5, 6)),
            (written(0x82, &[0x80 | 125]), header(Opcode::Binary, 125, 6)),
            (written(0x82, &[0x80 | 126, 0, 126]), header(Opcode::Binary, 126, 8)),
            (written(0x82, &[0x80 | 126, 0xff, 0xff]), header(Opcode::Binary, 65_535, 8)),
            (
                written(0x82, &[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]),
                header(Opcode::Binary, 65_536, 14),
            ),
            (written(0x89, &[0x80]), header(Opcode::Ping, 0, 6)),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(Header::read(&bytes[..cut]), Ok(None), "{bytes:x?} cut at {cut}");
            }
            let longer = [&bytes[..], b"payload"].concat();
            assert_eq!(Header::read(&bytes), Ok(Some(expected)));
            assert_eq!(Header::read(&longer), Ok(Some(expected)));
        }
    }

    #[test]
    fn a_fault_is_said_with_the_first_byte_that_shows_it() {
        for (bytes, whole_at, fault) in [
            (written(0xa1, &[0x80]), 1, Fault::ReservedBits),
            (written(0x91, &[0x80]), 1, Fault::ReservedBits),
            (written(0xc9, &[0x80]), 1, Fault::ReservedBits),
            (written(0x83, &[0x80]), 1, Fault::Opcode),
            (written(0x8b, &[0x80]), 1, Fault::Opcode),
            (written(0x09, &[0x80]), 1, Fault::ControlFragmented),
            (written(0x81, &[5]), 2, Fault::Unmasked),
            (written(0x89, &[0x80 | 126, 0, 126]), 2, Fault::ControlTooLong),
            (written(0x81, &[0x80 | 126, 0, 125]), 4, Fault::LengthNotShortest),
            (
                written(0x81, &[0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
                10,
                Fault::LengthNotShortest,
            ),
            (written(0x81, &[0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), 3, Fault::LengthOverflow),
        ] {
            for cut in 0..=bytes.len() {
                let expected = if cut < whole_at { Ok(None) } else { Err(fault) };
                assert_eq!(Header::read(&bytes[..cut]), expected, "{bytes:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn our_headers_are_what_a_client_reads_but_for_the_mask() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 32] {
            let written = ServerHeader::new(Opcode::Text, false, len);
            let mut bytes = written.as_bytes().to_vec();
            let size = bytes.len();
            bytes[1] |= MASKED;
            bytes.extend_from_slice(&KEY);
            let read = Header::read(&bytes).expect("a valid header").expect("a whole one");
            let size = u8::try_from(size + 4).expect("a header is short");
            assert_eq!(read, header(Opcode::Text, len as u64, size));
        }
        assert_eq!(ServerHeader::new(Opcode::Binary, true, 3).as_bytes(), [0xc2, 3]);
    }

    #[test]
    fn codes_that_only_an_endpoint_says_to_itself_cannot_be_sent() {
        let sendable = |code| CloseCode::new(code).is_some();
        for code in (0..=999).chain(1004..=1006).chain(1015..=2999).chain(5000..=u16::MAX) {
            assert!(!sendable(code), "{code}");
        }
        for code in (1000..=1003).chain(1007..=1014).chain(3000..=4999) {
            assert!(sendable(code), "{code}");
        }
    }
}
