//! The content of a backend's answer, piece by piece. Data of the chunked coding is moved together
//! within the buffer it was received in: the one place that moves it.

use super::connection::within;
use super::{BackendError, Connection, Extent, Late};
use crate::buffer::{Payload, Spare, Spares};
use crate::http::{ChunkStep, Chunked, Fields, Trailers};

/// What is left of one answer.
#[derive(Debug)]
pub(crate) struct AnswerContent {
    extent: Extent,
    /// What came behind the head, until it is taken.
    received: Vec<u8>,
    is_done: bool,
    /// Something came behind the end, which nobody has asked for.
    has_excess: bool,
    trailers: Trailers,
}

impl AnswerContent {
    /// Of an answer of which `received` came behind its head.
    pub(crate) fn new(extent: Extent, received: Vec<u8>) -> AnswerContent {
        let is_done = matches!(extent, Extent::Without | Extent::Length(0));
        let has_excess = is_done && !received.is_empty();
        AnswerContent { extent, received, is_done, has_excess, trailers: Trailers::new() }
    }

    /// Whether the connection can have another request: the answer is over, and nothing follows it.
    pub(crate) fn is_over_cleanly(&self) -> bool {
        self.is_done && !self.has_excess && self.extent != Extent::UntilClose
    }

    /// The trailers behind the content, those of them that may be passed on.
    pub(crate) fn trailers(&self) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in self.trailers.iter() {
            // Refused is what frames the message.
            let _ = fields.push(name, value);
        }
        fields
    }

    /// The next bytes; `None` behind the last.
    ///
    /// # Errors
    /// The backend is silent for `timeout_ms`, ends too early, or what it sends is not in the
    /// chunked coding.
    pub(crate) async fn next(
        &mut self,
        connection: &Connection,
        spares: &Spares,
        timeout_ms: u64,
    ) -> Result<Option<Payload>, BackendError> {
        while !self.is_done {
            let mut piece = match self.received.is_empty() {
                false => self.take_received(spares),
                true => {
                    let receipt = connection.receive_spare(spares);
                    let piece = within(timeout_ms, Late::Content, receipt).await?;
                    piece.map_err(|_| BackendError::ContentCut)?
                }
            };
            if piece.is_empty() {
                return self.ended().map(|()| None);
            }
            self.keep_content(&mut piece)?;
            if !piece.is_empty() {
                return Ok(Some(piece.into_payload()));
            }
        }
        Ok(None)
    }

    /// As much of what came behind the head as a buffer holds: it is little, and once.
    fn take_received(&mut self, spares: &Spares) -> Spare {
        let mut spare = spares.take();
        let count = self.received.len().min(spare.capacity());
        spare.extend(self.received.drain(..count));
        spare
    }

    /// The backend has ended its direction.
    fn ended(&mut self) -> Result<(), BackendError> {
        self.is_done = true;
        match self.extent {
            Extent::UntilClose => Ok(()),
            _ => Err(BackendError::ContentCut),
        }
    }

    /// Leaves in `piece` what of it is content.
    fn keep_content(&mut self, piece: &mut Vec<u8>) -> Result<(), BackendError> {
        match &mut self.extent {
            Extent::UntilClose => {}
            Extent::Without => piece.clear(),
            Extent::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(piece.len(), |left| left.min(piece.len()));
                self.has_excess = count < piece.len();
                piece.truncate(count);
                *left -= count as u64;
                self.is_done = *left == 0;
            }
            Extent::Chunked(chunked) => {
                let len = dechunk(chunked, piece, &mut self.trailers, &mut self.has_excess)?;
                piece.truncate(len);
                self.is_done = chunked.is_done();
            }
        }
        // What came behind the head may be more than one piece.
        self.has_excess |= self.is_done && !self.received.is_empty();
        Ok(())
    }
}

/// Moves the data in `piece` to its front, and returns how much there is.
fn dechunk(
    chunked: &mut Chunked,
    piece: &mut [u8],
    trailers: &mut Trailers,
    has_excess: &mut bool,
) -> Result<usize, BackendError> {
    let (mut at, mut len) = (0, 0);
    loop {
        let rest = piece.get(at..).unwrap_or_default();
        let step = chunked.step(rest);
        let step = step.map_err(|_| BackendError::FramingFaulty("its chunks are malformed"))?;
        match step {
            ChunkStep::Data { consumed, len: count } => {
                let from = at + consumed;
                piece.copy_within(from..from + count, len);
                (at, len) = (from + count, len + count);
            }
            ChunkStep::Trailer { consumed, len: count } => {
                let from = at + consumed;
                trailers.extend(piece.get(from..from + count).unwrap_or_default());
                at = from + count;
            }
            ChunkStep::More { .. } => return Ok(len),
            ChunkStep::Done { consumed } => {
                *has_excess = at + consumed < piece.len();
                return Ok(len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content found when the bytes come in pieces of this size, whether it is over, and
    /// cleanly.
    fn content(
        extent: Extent,
        bytes: &[u8],
        size: usize,
    ) -> Result<(Vec<u8>, bool, bool), BackendError> {
        let mut content = AnswerContent::new(extent, Vec::new());
        let mut found = Vec::new();
        let mut pieces = bytes.chunks(size);
        while !content.is_done
            && let Some(piece) = pieces.next()
        {
            let mut piece = piece.to_vec();
            content.keep_content(&mut piece)?;
            found.extend(piece);
        }
        content.has_excess |= pieces.next().is_some();
        Ok((found, content.is_done, content.is_over_cleanly()))
    }

    #[test]
    fn content_is_the_same_however_it_is_cut() {
        let chunked = Extent::Chunked(Chunked::default());
        let chunks = &b"5;a=b\r\nhello\r\n1\r\n,\r\n006\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"[..];
        let more = [chunks, b"HTTP/1.1 200 OK\r\n"].concat();
        for (extent, bytes, expected, is_clean) in [
            (Extent::Length(5), &b"hello"[..], &b"hello"[..], true),
            (Extent::Length(5), b"hello, world", b"hello", false),
            (chunked, chunks, b"hello, world", true),
            (chunked, &more, b"hello, world", false),
        ] {
            for size in 1..=bytes.len() {
                let found = content(extent, bytes, size).unwrap();
                assert_eq!(found, (expected.to_vec(), true, is_clean), "in pieces of {size}");
            }
        }
        let found = content(Extent::UntilClose, b"hello", 2).unwrap();
        assert_eq!(found, (b"hello".to_vec(), false, false));
    }

    #[test]
    fn what_is_not_in_the_chunked_coding_is_a_fault() {
        for bytes in
            [&b"5\nhello"[..], b"x\r\n", b"2\r\nabc\r\n", b"-1\r\n", b"0\r\nno field\r\n\r\n"]
        {
            let fault = content(Extent::Chunked(Chunked::default()), bytes, 1).unwrap_err();
            assert!(matches!(fault, BackendError::FramingFaulty(_)), "{bytes:?}");
        }
    }

    #[test]
    fn what_comes_behind_an_answer_without_content_is_excess() {
        assert!(AnswerContent::new(Extent::Without, Vec::new()).is_over_cleanly());
        assert!(!AnswerContent::new(Extent::Without, b"x".to_vec()).is_over_cleanly());
        assert!(!AnswerContent::new(Extent::Length(0), b"x".to_vec()).is_over_cleanly());
    }

    #[test]
    fn trailers_that_frame_are_not_passed_on() {
        let mut content = AnswerContent::new(Extent::Chunked(Chunked::default()), Vec::new());
        let mut piece = b"0\r\nX-Sum: 7\r\nContent-Length: 5\r\n\r\n".to_vec();
        content.keep_content(&mut piece).unwrap();
        assert!(piece.is_empty() && content.is_over_cleanly());
        assert_eq!(content.trailers().as_bytes(), b"X-Sum: 7\r\n");
    }
}
