//! From received bytes to messages: frames read and unmasked where they lie, fragments put together,
//! every rule of RFC 6455 on what a client may send.
//!
//! ```text
//!   Lease ──► a whole message in one frame ────────────────────► Incoming, in the very buffer
//!      └────► pieces of frames, fragments ──► Partial (copied) ──► Incoming, in memory of its own
//! ```
//!
//! Between two messages a reader owns nothing. What it answers does not depend on where its input
//! was cut.

use std::sync::Arc;

use super::deflate::Inflater;
use super::frame::{CLIENT_HEADER_MAX, CloseCode, Fault, Header, Opcode};
use super::mask::unmask;
use super::message::{Body, Message};
use super::utf8::{self, Utf8};
use crate::buffer::{Collected, Lease, Ledger, NoRoom};
use crate::counters::Counters;

/// Frames of which nothing is to be told that are taken at once: a segment may have hundreds.
const FRAMES_AT_ONCE: usize = 16;

/// The bounds of what one message may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) message_bytes_max: usize,
    pub(super) fragments_max: u32,
}

/// What a peer said.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(Message),
    /// Many fragments, and more behind them.
    Fragments,
    Ping(Body),
    Pong,
    /// The code and the reason, if there is a code.
    Close(Option<(CloseCode, Box<str>)>),
}

/// One connection's reader.
#[derive(Debug, Default)]
pub(super) struct Reader {
    partial: Option<Box<Partial>>,
}

/// Reads the messages in `bytes`, for benches: frames between an engine's receive and an endpoint's
/// message, and nothing else.
///
/// # Errors
/// What a peer that sends such frames is closed for.
#[doc(hidden)]
#[inline]
pub fn read_messages(
    mut bytes: Lease,
    counters: &Arc<Counters>,
    mut take: impl FnMut(Message),
) -> Result<(), Fault> {
    let ledger = Ledger { counters, bytes_max: u64::MAX };
    let bounds = Bounds { message_bytes_max: 1024 * 1024, fragments_max: 1 };
    let mut reader = Reader::default();
    while let Some(incoming) = reader.next(&mut bytes, &bounds, None, ledger)? {
        if let Incoming::Message(message) = incoming {
            take(message);
        }
    }
    Ok(())
}

/// What has begun and not ended.
#[derive(Debug, Default)]
struct Partial {
    /// The beginning of a header.
    header: [u8; CLIENT_HEADER_MAX],
    header_len: u8,
    /// The frame whose payload is not whole, and how many bytes of that were seen.
    frame: Option<(Header, u64)>,
    control: Vec<u8>,
    message: Option<Unfinished>,
}

/// A message some of which has come.
#[derive(Debug)]
struct Unfinished {
    is_text: bool,
    is_compressed: bool,
    /// Frames begun.
    fragments: u32,
    /// Bytes of payload, as they were announced.
    announced: u64,
    bytes: Collected,
    utf8: Utf8,
}

impl Reader {
    /// Takes what comes next out of `bytes`; `None` when they are used up. `inflater` is there if the
    /// peer may compress.
    #[inline]
    pub(super) fn next(
        &mut self,
        bytes: &mut Lease,
        bounds: &Bounds,
        inflater: Option<&mut Inflater>,
        ledger: Ledger<'_>,
    ) -> Result<Option<Incoming>, Fault> {
        if self.partial.is_none()
            && let Some(header) = Header::read(bytes)?
            && header.is_alone(bounds)
            && let Some(size) = header.frame_size().filter(|size| *size <= bytes.len())
        {
            return whole(&header, bytes.split_to(size)).map(Some);
        }
        self.go_on(bytes, bounds, inflater, ledger)
    }

    /// The general case.
    fn go_on(
        &mut self,
        bytes: &mut Lease,
        bounds: &Bounds,
        mut inflater: Option<&mut Inflater>,
        ledger: Ledger<'_>,
    ) -> Result<Option<Incoming>, Fault> {
        for _ in 0..FRAMES_AT_ONCE {
            if bytes.is_empty() {
                return Ok(None);
            }
            let partial = self.partial.get_or_insert_default();
            if partial.frame.is_none() {
                let Some(header) = partial.next_header(bytes)? else { return Ok(None) };
                partial.begin(header, bounds, inflater.is_some(), ledger)?;
            }
            let incoming = partial.take_payload(bytes, bounds, inflater.as_deref_mut(), ledger)?;
            if partial.is_done() {
                self.partial = None;
            }
            if incoming.is_some() {
                return Ok(incoming);
            }
        }
        Ok((!bytes.is_empty()).then_some(Incoming::Fragments))
    }
}

impl Header {
    /// Whether its frame is all there is of a message, or a control frame, and needs nothing but to be
    /// unmasked.
    #[inline]
    fn is_alone(&self, bounds: &Bounds) -> bool {
        self.is_final
            && !self.is_compressed
            && self.opcode != Opcode::Continuation
            && (self.len <= bounds.message_bytes_max as u64 || self.opcode.is_control())
    }

    /// Bytes of header and payload.
    fn frame_size(&self) -> Option<usize> {
        usize::try_from(self.len).ok()?.checked_add(usize::from(self.size))
    }
}

/// What lies whole in one frame.
#[inline]
fn whole(header: &Header, mut frame: Lease) -> Result<Incoming, Fault> {
    let header_size = usize::from(header.size);
    let payload = frame.get_mut(header_size..).unwrap_or_default();
    let is_ascii = unmask(payload, header.key, 0);
    match header.opcode {
        Opcode::Text if !is_ascii && !utf8::is_utf8(payload) => Err(Fault::NotUtf8),
        Opcode::Text => Ok(Incoming::Message(Message::received(true, frame, header_size))),
        Opcode::Binary => Ok(Incoming::Message(Message::received(false, frame, header_size))),
        opcode => said(opcode, Body::Received { frame, header_size }),
    }
}

impl Partial {
    fn is_done(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// The next header, from `bytes` and what was kept of it; `None` if it is not whole.
    fn next_header(&mut self, bytes: &mut Lease) -> Result<Option<Header>, Fault> {
        let kept = usize::from(self.header_len);
        let room = self.header.get_mut(kept..).unwrap_or_default();
        let count = room.len().min(bytes.len());
        for (at, byte) in room.iter_mut().zip(bytes.iter()) {
            *at = *byte;
        }
        let seen = self.header.get(..kept + count).unwrap_or_default();
        let Some(header) = Header::read(seen)? else {
            bytes.advance(count);
            self.header_len += count as u8;
            return Ok(None);
        };
        // What was kept was no whole header: some of this one is new.
        bytes.advance(usize::from(header.size) - kept);
        self.header_len = 0;
        Ok(Some(header))
    }

    /// Checks that the frame may come now, before any of its payload.
    fn begin(
        &mut self,
        header: Header,
        bounds: &Bounds,
        may_compress: bool,
        ledger: Ledger<'_>,
    ) -> Result<(), Fault> {
        self.frame = Some((header, 0));
        if header.opcode.is_control() {
            return Ok(());
        }
        // RFC 7692 §6: on the first frame of a message alone, and only if it was agreed.
        let is_first = header.opcode != Opcode::Continuation;
        if header.is_compressed && !(may_compress && is_first) {
            return Err(Fault::ReservedBits);
        }
        match (&self.message, is_first) {
            (Some(_), true) => return Err(Fault::NotContinued),
            (None, false) => return Err(Fault::NothingToContinue),
            _ => {}
        }
        let message = self.message.get_or_insert_with(|| Unfinished {
            is_text: header.opcode == Opcode::Text,
            is_compressed: header.is_compressed,
            fragments: 0,
            announced: 0,
            bytes: Collected::new(ledger),
            utf8: Utf8::default(),
        });
        message.begin(&header, bounds)
    }

    /// Takes what there is of the payload of the frame at hand.
    fn take_payload(
        &mut self,
        bytes: &mut Lease,
        bounds: &Bounds,
        inflater: Option<&mut Inflater>,
        ledger: Ledger<'_>,
    ) -> Result<Option<Incoming>, Fault> {
        let Some((header, seen)) = &mut self.frame else { return Ok(None) };
        let left = usize::try_from(header.len - *seen).unwrap_or(usize::MAX);
        let mut payload = bytes.split_to(left.min(bytes.len()));
        let is_ascii = unmask(&mut payload, header.key, (*seen % 4) as usize);
        *seen += payload.len() as u64;
        let (header, is_whole) = (*header, *seen == header.len);
        if is_whole {
            self.frame = None;
        }
        if header.opcode.is_control() {
            self.control.extend_from_slice(&payload);
            if !is_whole {
                return Ok(None);
            }
            let payload = Body::owned(std::mem::take(&mut self.control));
            return said(header.opcode, payload).map(Some);
        }
        let is_last = is_whole && header.is_final;
        if let Some(message) = &mut self.message {
            message.add(&payload, is_ascii, is_last, bounds, inflater, ledger)?;
        }
        match self.message.take_if(|_| is_last) {
            Some(message) => message.finish().map(Some),
            None => Ok(None),
        }
    }
}

impl Unfinished {
    fn begin(&mut self, header: &Header, bounds: &Bounds) -> Result<(), Fault> {
        self.fragments += 1;
        if self.fragments > bounds.fragments_max {
            return Err(Fault::TooManyFragments);
        }
        self.announced = self.announced.saturating_add(header.len);
        // What is compressed is bounded where it is inflated, but not without end: a stream of
        // nothing would never get there.
        let max = bounds.message_bytes_max as u64;
        let max = if self.is_compressed { max.saturating_mul(2).saturating_add(1024) } else { max };
        if self.announced > max {
            return Err(Fault::MessageTooLarge);
        }
        Ok(())
    }

    /// Adds payload, and looks at it as far as it goes.
    fn add(
        &mut self,
        payload: &[u8],
        is_ascii: bool,
        is_last: bool,
        bounds: &Bounds,
        inflater: Option<&mut Inflater>,
        ledger: Ledger<'_>,
    ) -> Result<(), Fault> {
        let before = self.bytes.len();
        let result = match inflater.filter(|_| self.is_compressed) {
            Some(inflater) => {
                let max = bounds.message_bytes_max;
                let inflate = |out: &mut Vec<u8>| inflater.inflate(payload, is_last, out, max);
                self.bytes.append(ledger, inflate).unwrap_or(Err(Fault::NoRoom))
            }
            None => {
                let extended = self.bytes.extend(payload, self.announced, ledger);
                extended.map_err(|NoRoom| Fault::NoRoom)
            }
        };
        if !self.is_text || (is_ascii && !self.is_compressed && self.utf8.is_whole()) {
            return result;
        }
        // First of what there is: a message is wrong in the same way however it is cut.
        let added = self.bytes.get(before..).unwrap_or_default();
        if self.utf8.goes_on(added) { result } else { Err(Fault::NotUtf8) }
    }

    fn finish(self) -> Result<Incoming, Fault> {
        if !self.utf8.is_whole() {
            return Err(Fault::NotUtf8);
        }
        Ok(Incoming::Message(Message::new(self.is_text, Body::owned(self.bytes.into_bytes()))))
    }
}

/// What a control frame says.
fn said(opcode: Opcode, payload: Body) -> Result<Incoming, Fault> {
    match opcode {
        Opcode::Ping => Ok(Incoming::Ping(payload)),
        Opcode::Close => read_close(payload.as_bytes()).map(Incoming::Close),
        _ => Ok(Incoming::Pong),
    }
}

/// RFC 6455 §5.5.1: nothing, or a code and a reason in UTF-8.
fn read_close(payload: &[u8]) -> Result<Option<(CloseCode, Box<str>)>, Fault> {
    match *payload {
        [] => Ok(None),
        [_] => Err(Fault::CloseCode),
        [a, b, ref reason @ ..] => {
            let code = CloseCode::new(u16::from_be_bytes([a, b])).ok_or(Fault::CloseCode)?;
            let reason = std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
            Ok(Some((code, reason.into())))
        }
    }
}
