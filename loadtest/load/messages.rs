//! What is said on switched connections: messages of one length, of which no two of a run are the
//! same. Made once, before the first is sent; `rounds.rs` sends them, `echo.rs` compares with them.
//!
//! ```text
//!   header, if there are frames │ stamp, 8 bytes │ filler, 504 bytes │ stamp │ filler │ …
//! ```
//!
//! Only the stamps are made for each message, of connection, message and where they stand: no piece
//! of 520 bytes is another message's, so that what a server crosses is found, the tails of two
//! messages, too. The filler is one of seventeen, masked before the run begins: what a message
//! costs the generator is a copy, a write, a read and a comparison.

use upring::buffer::Payload;

use crate::script::Protocol;
use crate::websocket::{self, MASKED};

/// Bytes of a stamp.
const STAMP: usize = 8;
/// Bytes of a masking key.
const KEY: usize = 4;
/// A prime: a lost, repeated or reordered byte of the filler shows wherever a receive is cut.
const PERIOD: usize = 251;
/// Fillers, each of which begins a byte later: a prime, so that rounds of any depth are different.
const DISTINCT: usize = 17;
/// From one stamp of a message to the next.
const SPACING: usize = 512;
/// Messages are put together up to so many bytes, and one that is longer is by itself.
const TOGETHER_BYTES: usize = 64 * 1024;

/// Messages of one length.
pub(crate) struct Messages {
    /// Bytes of the payload.
    pub(crate) bytes: usize,
    filler: Vec<u8>,
    frames: Option<Frames>,
}

/// What is round a payload, and what is masked of it (RFC 6455 §5.2).
struct Frames {
    sent_header: Vec<u8>,
    echoed_header: Vec<u8>,
    masked: Vec<Masked>,
}

/// A filler as a client sends it.
struct Masked {
    key: [u8; KEY],
    filler: Vec<u8>,
}

impl Messages {
    /// Messages of `bytes` of payload, in frames if that is what the protocol has.
    pub(crate) fn of(protocol: &Protocol, bytes: usize) -> Messages {
        let filler: Vec<u8> = (0..PERIOD as u8).cycle().take(bytes + DISTINCT).collect();
        let frames = match protocol {
            Protocol::Raw(_) => None,
            Protocol::WebSocket => Some(Frames {
                sent_header: websocket::header(bytes, MASKED),
                echoed_header: websocket::header(bytes, 0),
                masked: (0..DISTINCT).map(|place| Masked::of(&filler[place..], bytes)).collect(),
            }),
        };
        Messages { bytes, filler, frames }
    }

    /// Whether nothing is sent: no message is to be seen of an empty one without frames.
    pub(crate) fn are_nothing(&self) -> bool {
        self.bytes == 0 && self.frames.is_none()
    }

    pub(crate) fn are_framed(&self) -> bool {
        self.frames.is_some()
    }

    /// What stands in front of a payload that comes back in one frame.
    pub(crate) fn echoed_header(&self) -> &[u8] {
        self.frames.as_ref().map_or(&[], |frames| &frames.echoed_header)
    }

    /// Sends the next `count` messages of a connection that has said `said` before.
    pub(crate) fn send(
        &self,
        connection: u64,
        said: u64,
        count: usize,
        mut send: impl FnMut(Payload),
    ) {
        let message_bytes = self.sent_bytes();
        let mut left = count;
        let mut number = said;
        while left > 0 {
            let together = (TOGETHER_BYTES / message_bytes.max(1)).clamp(1, left);
            let mut text = Vec::with_capacity(together * message_bytes);
            for _ in 0..together {
                self.write(connection, number, &mut text);
                number += 1;
            }
            left -= together;
            if !text.is_empty() {
                send(text.into());
            }
        }
    }

    /// Bytes of a message as it is sent.
    fn sent_bytes(&self) -> usize {
        let around = self.frames.as_ref().map_or(0, |frames| frames.sent_header.len() + KEY);
        around + self.bytes
    }

    fn write(&self, connection: u64, number: u64, text: &mut Vec<u8>) {
        let place = place(connection, number);
        let (mask, filler) = match &self.frames {
            None => (0, &self.filler[place..][..self.bytes]),
            Some(Frames { sent_header, masked, .. }) => {
                let Masked { key, filler } = &masked[place];
                text.extend_from_slice(sent_header);
                text.extend_from_slice(key);
                let [a, b, c, d] = *key;
                (u64::from_be_bytes([a, b, c, d, a, b, c, d]), &filler[..])
            }
        };
        let begin = text.len();
        text.extend_from_slice(filler);
        let first = stamp(connection, number);
        for (block, bytes) in text[begin..].chunks_mut(SPACING).enumerate() {
            let stamp = (stamp_of(first, block) ^ mask).to_be_bytes();
            let stamp_bytes = STAMP.min(bytes.len());
            bytes[..stamp_bytes].copy_from_slice(&stamp[..stamp_bytes]);
        }
    }

    /// Compares bytes of the payload of a message with what they have to be, the first of them
    /// being at `at`.
    ///
    /// # Errors
    /// How many are as they have to be, before the first that is not.
    pub(crate) fn compare(
        &self,
        connection: u64,
        number: u64,
        at: usize,
        bytes: &[u8],
    ) -> Result<(), usize> {
        let filler = &self.filler[place(connection, number)..];
        let first = stamp(connection, number);
        let mut same = 0;
        while same < bytes.len() {
            let (block, within) = ((at + same) / SPACING, (at + same) % SPACING);
            let stamp = stamp_of(first, block).to_be_bytes();
            let end = if within < STAMP { STAMP } else { SPACING };
            let piece = &bytes[same..][..(end - within).min(bytes.len() - same)];
            let due = if within < STAMP { &stamp[within..] } else { &filler[at + same..] };
            let due = &due[..piece.len()];
            if piece != due {
                let right = piece.iter().zip(due).take_while(|(came, due)| came == due);
                return Err(same + right.count());
            }
            same += piece.len();
        }
        Ok(())
    }
}

impl Masked {
    /// The filler of a payload of `bytes`. Where a stamp is to be, the key begins anew.
    fn of(filler: &[u8], bytes: usize) -> Masked {
        const { assert!(STAMP.is_multiple_of(KEY) && SPACING.is_multiple_of(KEY)) };
        // Of the bytes of a filler, where it begins.
        let key = (u32::from(filler[0]) + 1).wrapping_mul(0x9e37_79b9).to_be_bytes();
        let masked = filler[..bytes].iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        Masked { key, filler: masked.collect() }
    }
}

/// Which filler a message has.
fn place(connection: u64, number: u64) -> usize {
    (connection.wrapping_add(number) % DISTINCT as u64) as usize
}

/// No two messages have the same, up to four thousand millions of connections and as many messages
/// on each. A message too short for all of it has its beginning, which is as good as drawn by lot.
fn stamp(connection: u64, number: u64) -> u64 {
    mixed((connection << 32) | (number & 0xffff_ffff))
}

/// The stamp of a block of a message whose first is `first`: no two messages have the same in one
/// block, nor a message in two.
fn stamp_of(first: u64, block: usize) -> u64 {
    // An odd number, of which no multiple below 2^64 is another's.
    first.wrapping_add((block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A number that looks like any other, and is no other's: the last steps of splitmix64.
pub(crate) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// All that is sent for so many messages.
    pub(crate) fn sent(messages: &'static Messages, said: u64, count: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        messages.send(5, said, count, |payload| sent.extend_from_slice(&bytes(payload)));
        sent
    }

    fn bytes(payload: Payload) -> Vec<u8> {
        match payload {
            Payload::Static(bytes) => bytes.to_vec(),
            Payload::Owned(bytes) => bytes,
            other => panic!("{other:?} is not sent here"),
        }
    }

    fn messages(protocol: &Protocol, bytes: usize) -> &'static Messages {
        Box::leak(Box::new(Messages::of(protocol, bytes)))
    }

    #[test]
    fn what_is_sent_is_what_has_to_come_back_but_for_the_mask() {
        for bytes in [1, 7, 8, 9, 64, 511, 512, 513, 1000, 2056, 65_536, 70_000] {
            let raw = messages(&Protocol::named("echo"), bytes);
            let sent_raw = sent(raw, 16, 3);
            let framed = messages(&Protocol::WebSocket, bytes);
            let sent_framed = sent(framed, 16, 3);
            let (header, frame) = (websocket::header(bytes, MASKED), sent_framed.len() / 3);
            assert_eq!(frame, header.len() + 4 + bytes);
            for (place, frame) in sent_framed.chunks(frame).enumerate() {
                assert!(frame.starts_with(&header));
                let (key, payload) = frame[header.len()..].split_at(4);
                let payload: Vec<u8> = payload
                    .iter()
                    .zip(key.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask)
                    .collect();
                assert_eq!(payload, sent_raw[place * bytes..][..bytes]);
                for cut in [0, 1, bytes / 3, bytes / 2, bytes] {
                    let (front, back) = payload.split_at(cut);
                    let number = 16 + place as u64;
                    assert_eq!(raw.compare(5, number, 0, front), Ok(()), "{bytes}");
                    assert_eq!(framed.compare(5, number, cut, back), Ok(()), "{bytes}");
                }
            }
        }
    }

    #[test]
    fn the_first_byte_that_differs_is_told() {
        let messages = messages(&Protocol::named("echo"), 1028);
        for wrong in [0, 7, 8, 511, 512, 519, 520, 1024, 1027] {
            let mut bytes = sent(messages, 0, 1);
            bytes[wrong] ^= 1;
            assert_eq!(messages.compare(5, 0, 0, &bytes), Err(wrong));
            assert_eq!(messages.compare(5, 0, wrong, &bytes[wrong..]), Err(0));
        }
    }

    #[test]
    fn no_two_messages_of_a_run_are_the_same() {
        let mut seen = HashSet::new();
        for connection in [0, 1, 16, 17, 18, 34, 250, 251, 252, 502, 1 << 20, (1 << 32) - 1] {
            for number in (0..600).chain([1 << 20, (1 << 32) - 1]) {
                assert!(seen.insert(stamp(connection, number)), "{connection} {number}");
            }
        }
        // A byte is little, and yet few of two connections are the same.
        let byte = |connection, number| stamp(connection, number) >> 56;
        let same = (0..10_000).filter(|number| byte(0, *number) == byte(17, *number));
        assert!(same.count() < 100);
    }

    #[test]
    fn no_piece_of_520_bytes_is_another_messages() {
        const BYTES: usize = 2000;
        const PIECE: usize = SPACING + STAMP;
        let messages = messages(&Protocol::named("echo"), BYTES);
        let sent = sent(messages, 0, 18);
        // The same filler, seventeen messages or connections apart.
        let (own, other) = (&sent[..BYTES], &sent[17 * BYTES..]);
        for at in 0..=BYTES - PIECE {
            assert_eq!(messages.compare(5, 0, at, &own[at..][..PIECE]), Ok(()));
            for connection in [5, 22, 5 + 17 * 251] {
                let found = messages.compare(connection, 0, at, &other[at..][..PIECE]);
                assert!(found.is_err(), "{connection}, {at}");
            }
            // Nor is it the same message's, from another place.
            let elsewhere = (at + SPACING) % (BYTES - PIECE + 1);
            assert!(messages.compare(5, 0, at, &own[elsewhere..][..PIECE]).is_err(), "{at}");
        }
    }
}
