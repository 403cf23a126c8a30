//! The frames of a WebSocket server, read by RFC 6455 alone: control frames as they come, data
//! frames put together to messages and inflated. What a server must not send is told as such.

use flate2::{Decompress, FlushDecompress, Status};

/// Bytes of one message that are looked at.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a frame, or a message of several, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// A control frame or a whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Inflated, if it was compressed.
    pub(super) payload: Vec<u8>,
    /// RFC 6455 §5.1: a server must not.
    pub(super) is_masked: bool,
}

impl Frame {
    /// The code of a Close, if it has one.
    pub(super) fn code(&self) -> Option<u16> {
        match self.payload[..] {
            [a, b, ..] if self.kind == Kind::Close => Some(u16::from_be_bytes([a, b])),
            _ => None,
        }
    }
}

/// The reader behind one 101.
#[derive(Debug)]
pub(super) struct Frames {
    /// If permessage-deflate was agreed: what it has inflated before is its window.
    inflater: Option<Decompress>,
    /// The message that has begun, and whether it is compressed.
    partial: Option<(Frame, bool)>,
}

/// One frame as it lies there.
struct Raw<'a> {
    first: u8,
    key: Option<[u8; 4]>,
    payload: &'a [u8],
    length: usize,
}

impl Frames {
    pub(super) fn new(is_deflated: bool) -> Frames {
        Frames { inflater: is_deflated.then(|| Decompress::new(false)), partial: None }
    }

    /// The bytes of the next frame, and what is whole with it; `None` if it has not all come.
    ///
    /// # Errors
    /// A server must not send this.
    pub(super) fn step(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<(usize, Option<Frame>)>, &'static str> {
        if bytes.starts_with(b"HTTP/") {
            return Err("an answer of HTTP behind the 101");
        }
        let Some(raw) = read(bytes) else { return Ok(None) };
        if raw.first & 0x30 != 0 {
            return Err("a frame with a reserved bit set (RFC 6455 §5.2)");
        }
        let is_compressed = raw.first & 0x40 != 0;
        if is_compressed && self.inflater.is_none() {
            return Err("a compressed frame without an agreement (RFC 7692 §6)");
        }
        let mut payload = raw.payload.to_vec();
        if let Some(key) = raw.key {
            payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        let is_last = raw.first & 0x80 != 0;
        let frame = |kind| Frame { kind, payload: payload.clone(), is_masked: raw.key.is_some() };
        let whole = match raw.first & 0x0f {
            8..=10 if !is_last || payload.len() > 125 || is_compressed => {
                return Err("a control frame of more than 125 bytes, in pieces or compressed");
            }
            8 => Some(frame(Kind::Close)),
            9 => Some(frame(Kind::Ping)),
            10 => Some(frame(Kind::Pong)),
            0 => self.go_on(&frame(Kind::Binary), is_last)?,
            1 => self.begin(frame(Kind::Text), is_compressed, is_last)?,
            2 => self.begin(frame(Kind::Binary), is_compressed, is_last)?,
            _ => return Err("a frame with a reserved opcode (RFC 6455 §5.2)"),
        };
        Ok(Some((raw.length, whole)))
    }

    fn begin(
        &mut self,
        frame: Frame,
        is_compressed: bool,
        is_last: bool,
    ) -> Result<Option<Frame>, &'static str> {
        if self.partial.is_some() {
            return Err("a message within another (RFC 6455 §5.4)");
        }
        self.partial = Some((frame, is_compressed));
        self.finish(is_last)
    }

    fn go_on(&mut self, frame: &Frame, is_last: bool) -> Result<Option<Frame>, &'static str> {
        let Some((message, _)) = &mut self.partial else {
            return Err("a continuation of nothing (RFC 6455 §5.4)");
        };
        message.payload.extend_from_slice(&frame.payload);
        message.is_masked |= frame.is_masked;
        self.finish(is_last)
    }

    fn finish(&mut self, is_last: bool) -> Result<Option<Frame>, &'static str> {
        if !is_last {
            return Ok(None);
        }
        let Some((mut message, is_compressed)) = self.partial.take() else { return Ok(None) };
        if let (true, Some(inflater)) = (is_compressed, &mut self.inflater) {
            message.payload = inflate(inflater, message.payload)?;
        }
        if message.kind == Kind::Text && std::str::from_utf8(&message.payload).is_err() {
            return Err("text that is not UTF-8 (RFC 6455 §8.1)");
        }
        Ok(Some(message))
    }
}

fn read(bytes: &[u8]) -> Option<Raw<'_>> {
    let &[first, second, ref rest @ ..] = bytes else { return None };
    let (length, rest) = match second & 0x7f {
        126 => rest.split_at_checked(2)?,
        127 => rest.split_at_checked(8)?,
        _ => (&[second & 0x7f][..], rest),
    };
    let length = length.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    let (key, rest) = match second & 0x80 {
        0 => (None, rest),
        _ => {
            let (key, rest) = rest.split_first_chunk::<4>()?;
            (Some(*key), rest)
        }
    };
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    let length = bytes.len() - rest.len() + payload.len();
    Some(Raw { first, key, payload, length })
}

/// RFC 7692 §7.2.2.
fn inflate(inflater: &mut Decompress, payload: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    let bytes = [payload, vec![0, 0, 0xff, 0xff]].concat();
    let (mut inflated, mut at) = (Vec::new(), 0);
    loop {
        inflated.reserve(4096);
        let before = (inflater.total_in(), inflated.len());
        let status = inflater.decompress_vec(&bytes[at..], &mut inflated, FlushDecompress::Sync);
        let status = status.map_err(|_| "a message that cannot be inflated (RFC 7692 §7.2.2)")?;
        at += usize::try_from(inflater.total_in() - before.0).unwrap_or(usize::MAX);
        if status == Status::StreamEnd {
            inflater.reset(false);
        }
        let has_moved = inflater.total_in() != before.0 || inflated.len() != before.1;
        let is_full = inflated.len() == inflated.capacity();
        if inflated.len() > MESSAGE_BYTES_MAX || !has_moved || (at >= bytes.len() && !is_full) {
            return Ok(inflated);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(is_deflated: bool, mut bytes: &[u8]) -> Result<Vec<Frame>, &'static str> {
        let (mut frames, mut all) = (Frames::new(is_deflated), Vec::new());
        while let Some((taken, frame)) = frames.step(bytes)? {
            all.extend(frame);
            bytes = &bytes[taken..];
        }
        Ok(all)
    }

    #[test]
    fn messages_are_put_together_and_control_frames_stand_between() {
        let frames = all(false, b"\x01\x03Hel\x8a\x02hi\x80\x02lo\x88\x02\x03\xe8").expect("valid");
        let kinds: Vec<Kind> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [Kind::Pong, Kind::Text, Kind::Close]);
        assert_eq!((&frames[1].payload[..], frames[2].code()), (&b"Hello"[..], Some(1000)));
    }

    #[test]
    fn compressed_messages_are_inflated_with_what_came_before() {
        // The examples of RFC 7692 §7.2.3.2.
        let frames = all(true, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00");
        let frames = frames.expect("valid");
        assert!(frames.iter().all(|frame| frame.payload == b"Hello"), "{frames:?}");
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn what_a_server_must_not_send_is_told() {
        let masked = all(false, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58").expect("read");
        assert!(masked[0].is_masked && masked[0].payload == b"Hello");
        for bytes in [
            &b"\x83\x00"[..],
            b"\xc1\x00",
            b"\xa1\x00",
            b"\x80\x00",
            b"\x09\x00",
            b"\x89\x7e\x00\x7e\
              0123456789012345678901234567890123456789012345678901234567890123456789\
              01234567890123456789012345678901234567890123456789012345",
            b"\x81\x01\xff",
            b"\x01\x00\x01\x00",
            b"HTTP/1.1 101 ",
        ] {
            assert!(all(false, bytes).is_err(), "{bytes:x?}");
        }
    }
}
