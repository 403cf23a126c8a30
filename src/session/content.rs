//! The content of a request on its way in: which of the received bytes are content, how much of it
//! there may be, and by when it must have come.

use super::Core;
use crate::buffer::{Lease, LeaseQueue};
use crate::config::{Limits, Millis};
use crate::http::{ChunkError, ChunkStep, Chunked, Framing, Trailers};

/// What is still to come of one content.
pub(super) struct Incoming {
    left: Left,
    /// Bytes of data that may still come.
    bytes_left_max: u64,
    pub(super) trailers: Trailers,
    /// The client may be waiting for a 100 before it sends anything.
    is_awaited: bool,
    /// When the client is too slow.
    late_at: Millis,
}

enum Left {
    Length(u64),
    Chunked(Chunked),
    Nothing,
}

/// What comes next of a content.
pub(super) enum Piece {
    /// Bytes of it, where they were received.
    Data(Lease),
    /// Nothing yet.
    Partial,
    /// Nothing more: it is complete.
    End,
    /// More than there may be has come or was announced.
    TooLarge,
    /// Bytes that are not in the chunked coding.
    Faulty(ChunkError),
}

impl Incoming {
    /// Before the first byte of a content that may have `bytes_max`.
    pub(super) fn new(framing: Framing, is_awaited: bool, bytes_max: u64, core: &Core) -> Incoming {
        let left = match framing {
            Framing::None | Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::new(&core.chunk_limits())),
        };
        Incoming {
            left,
            bytes_left_max: bytes_max,
            trailers: Trailers::new(),
            is_awaited,
            late_at: core.now.saturating_add(core.limits.content_slack_ms),
        }
    }

    /// Whether nothing is left to come.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Whether more was announced than there may be.
    pub(super) fn is_too_large(&self) -> bool {
        self.announced() > self.bytes_left_max
    }

    /// Bytes of data that may still come.
    pub(super) fn at_most(&self) -> u64 {
        match self.left {
            Left::Length(left) => left.min(self.bytes_left_max),
            Left::Chunked(_) => self.bytes_left_max,
            Left::Nothing => 0,
        }
    }

    /// Bytes of data that must still come: of all the content, or of its chunk.
    pub(super) fn announced(&self) -> u64 {
        match &self.left {
            Left::Nothing => 0,
            Left::Length(left) => *left,
            Left::Chunked(decoder) => decoder.announced(),
        }
    }

    /// Whether what is left may be read and thrown away so that the connection can go on (RFC 9112
    /// §9.3). Not if the client may wait for a 100: whether content follows could not be told.
    pub(super) fn is_discardable(&self, limits: &Limits) -> bool {
        match self.left {
            Left::Nothing => true,
            _ if self.is_awaited => false,
            Left::Length(left) => left <= limits.unread_bytes_max,
            Left::Chunked(_) => true,
        }
    }

    /// Whether the client may be waiting for a 100 before it sends anything.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited && !self.is_done()
    }

    /// The same, to be thrown away.
    pub(super) fn discarded(mut self, core: &Core) -> Incoming {
        self.bytes_left_max = core.limits.unread_bytes_max;
        self.forgive(core);
        self
    }

    /// Whether the client has to be told to go on. Asked once.
    pub(super) fn wants_continue(&mut self) -> bool {
        std::mem::take(&mut self.is_awaited)
    }

    /// When the client is too slow.
    pub(super) fn late_at(&self) -> Millis {
        self.late_at
    }

    /// It was not the client who was late: the clock starts anew.
    pub(super) fn forgive(&mut self, core: &Core) {
        self.late_at = core.now.saturating_add(core.limits.content_slack_ms);
    }

    /// Takes the next piece out of `input`.
    pub(super) fn next(&mut self, input: &mut LeaseQueue, core: &Core) -> Piece {
        loop {
            if self.is_done() {
                return Piece::End;
            }
            let Some(mut bytes) = input.pop() else { return Piece::Partial };
            self.is_awaited = false;
            let piece = self.cut(&mut bytes);
            if !bytes.is_empty() {
                input.push_front(bytes);
            }
            match piece {
                Ok(Some(data)) => return self.admit(data, core),
                Ok(None) if self.is_too_large() => return Piece::TooLarge,
                Ok(None) => {}
                Err(fault) => return Piece::Faulty(fault),
            }
        }
    }

    /// Cuts the first data off `bytes`, and the framing before it.
    fn cut(&mut self, bytes: &mut Lease) -> Result<Option<Lease>, ChunkError> {
        match &mut self.left {
            Left::Nothing => Ok(None),
            Left::Length(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                Ok(Some(bytes.split_to(count)))
            }
            Left::Chunked(decoder) => match decoder.step(bytes)? {
                ChunkStep::Data { consumed, len } => {
                    bytes.advance(consumed);
                    Ok(Some(bytes.split_to(len)))
                }
                ChunkStep::Trailer { consumed, len } => {
                    bytes.advance(consumed);
                    self.trailers.extend(&bytes.split_to(len));
                    Ok(None)
                }
                ChunkStep::More { consumed } => {
                    bytes.advance(consumed);
                    Ok(None)
                }
                ChunkStep::Done { consumed } => {
                    bytes.advance(consumed);
                    self.left = Left::Nothing;
                    Ok(None)
                }
            },
        }
    }

    /// Counts data against its bound and its time: with the rest of its chunk, so that a chunk is
    /// refused as a whole, however it is cut. Each byte buys the client the time it may take at the
    /// slowest rate, but never more than the slack.
    fn admit(&mut self, data: Lease, core: &Core) -> Piece {
        let count = data.len() as u64;
        if count.saturating_add(self.announced()) > self.bytes_left_max {
            return Piece::TooLarge;
        }
        self.bytes_left_max -= count;
        let latest = core.now.saturating_add(core.limits.content_slack_ms);
        let bought = count.saturating_mul(1000).checked_div(core.limits.content_rate_min);
        self.late_at =
            bought.map_or(latest, |bought| self.late_at.saturating_add(bought).min(latest));
        Piece::Data(data)
    }
}

/// The whole content, if it lies in one piece at the front of `input`: nearly every short one does.
pub(super) fn at_hand(framing: Framing, input: &mut LeaseQueue) -> Option<Lease> {
    let Framing::Length(length) = framing else { return None };
    let mut bytes = input.pop()?;
    let content = match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Some(bytes.split_to(length)),
        _ => None,
    };
    if !bytes.is_empty() {
        input.push_front(bytes);
    }
    content
}
