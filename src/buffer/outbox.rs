//! Bytes on their way out. Everything a connection writes in one turn gathers in one batch; the
//! batch is given to the kernel whole, by ownership, and comes back with its completion. Small
//! writes are appended to the batch's text; leases, static and owned buffers are referred to, not
//! copied.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::{Lease, Spare};

/// Text capacity above which an emptied batch does not keep its memory.
const TEXT_KEPT_MAX: usize = 64 * 1024;
const TEXT_FIRST: usize = 2048;

/// Bytes handed over for sending, without a copy.
#[derive(Debug)]
pub enum Payload {
    /// Received bytes, sent from where they were received.
    Lease(Lease),
    /// Bytes that live as long as the program.
    Static(&'static [u8]),
    /// Bytes owned by this send alone.
    Owned(Vec<u8>),
    /// Bytes that many connections send.
    Shared(Arc<[u8]>),
    /// Bytes that many connections of this core send: who still does is counted by it alone.
    Counted(Rc<Arc<[u8]>>),
    /// Bytes that came another way than through this core's ring, in a buffer that is used again.
    Spare(Spare),
}

impl Payload {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Payload::Lease(lease) => lease,
            Payload::Static(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
            Payload::Shared(bytes) => bytes,
            Payload::Counted(bytes) => bytes,
            Payload::Spare(bytes) => bytes,
        }
    }
}

impl From<Lease> for Payload {
    fn from(lease: Lease) -> Payload {
        Payload::Lease(lease)
    }
}

impl From<Spare> for Payload {
    fn from(spare: Spare) -> Payload {
        Payload::Spare(spare)
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Payload {
        Payload::Static(bytes)
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Payload {
        Payload::Static(text.as_bytes())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Payload {
        Payload::Owned(text.into_bytes())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload::Owned(bytes)
    }
}

impl From<Cow<'static, [u8]>> for Payload {
    fn from(bytes: Cow<'static, [u8]>) -> Payload {
        match bytes {
            Cow::Borrowed(bytes) => Payload::Static(bytes),
            Cow::Owned(bytes) => Payload::Owned(bytes),
        }
    }
}

impl From<Rc<Arc<[u8]>>> for Payload {
    fn from(bytes: Rc<Arc<[u8]>>) -> Payload {
        Payload::Counted(bytes)
    }
}

impl From<Arc<[u8]>> for Payload {
    fn from(bytes: Arc<[u8]>) -> Payload {
        Payload::Shared(bytes)
    }
}

#[derive(Debug)]
enum Piece {
    /// A range of the batch's text.
    Text {
        start: usize,
        end: usize,
    },
    Payload(Payload),
}

/// What one send carries: pieces in order, and how much of them has left.
#[derive(Debug, Default)]
pub struct Batch {
    text: Vec<u8>,
    pieces: Vec<Piece>,
    /// Pieces wholly sent, and bytes sent of the piece behind them.
    gone: usize,
    gone_of_next: usize,
    bytes_left: usize,
    leases: u16,
    overflowed: bool,
}

/// What waits to be sent: what it weighs, and how many receive buffers it keeps from being received
/// into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes.
    pub bytes: usize,
    /// Leases among them.
    pub leases: u16,
}

impl Load {
    /// Whether it is as much as `bound` in either.
    pub fn reaches(self, bound: Load) -> bool {
        self.bytes >= bound.bytes || self.leases >= bound.leases
    }
}

impl Batch {
    /// Bytes not sent yet.
    pub fn len(&self) -> usize {
        self.bytes_left
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.bytes_left == 0
    }

    /// Whether some of it was sent.
    pub fn has_begun(&self) -> bool {
        self.gone > 0 || self.gone_of_next > 0
    }

    /// What is left to send.
    pub fn load(&self) -> Load {
        Load { bytes: self.bytes_left, leases: self.leases }
    }

    /// Whether more was written than the outbox may hold: some of it is missing, and the connection
    /// is lost.
    pub fn is_overflowed(&self) -> bool {
        self.overflowed
    }

    /// The bytes not sent yet, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.gone_of_next;
        self.pieces[self.gone..].iter().map(move |piece| {
            let bytes = match piece {
                Piece::Text { start, end } => &self.text[*start..*end],
                Piece::Payload(payload) => payload.bytes(),
            };
            &bytes[std::mem::take(&mut skip)..]
        })
    }

    /// Notes that the first `count` bytes have left; what was sent whole is given up at once.
    pub fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.bytes_left, "no more is sent than there was");
        self.bytes_left -= count;
        while let Some(piece) = self.pieces.get_mut(self.gone) {
            let left = piece.len() - self.gone_of_next;
            if count < left {
                self.gone_of_next += count;
                return;
            }
            count -= left;
            self.leases -= u16::from(matches!(piece, Piece::Payload(Payload::Lease(_))));
            // A lease is given back as soon as its last byte has left.
            *piece = Piece::Text { start: 0, end: 0 };
            self.gone += 1;
            self.gone_of_next = 0;
        }
    }

    /// Copies what it refers to in receive buffers, which are then free for others: for a send that has
    /// to wait for its peer. Lengths and order stay.
    pub fn give_buffers_back(&mut self) {
        if self.leases == 0 {
            return;
        }
        let mut begun = std::mem::take(&mut self.gone_of_next);
        for piece in self.pieces.iter_mut().skip(self.gone) {
            let skipped = std::mem::take(&mut begun);
            match piece {
                Piece::Payload(Payload::Lease(lease)) => {
                    let left = lease.get(skipped..).unwrap_or_default().to_vec();
                    *piece = Piece::Payload(Payload::Owned(left));
                }
                // Only the first piece has begun to leave: it keeps its place.
                _ => self.gone_of_next += skipped,
            }
        }
        self.leases = 0;
    }

    /// Appends what `write` appends to the text.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.text.capacity() == 0 {
            self.text.reserve(TEXT_FIRST);
        }
        let start = self.text.len();
        write(&mut self.text);
        let end = self.text.len();
        debug_assert!(start <= end, "text is only appended to");
        self.bytes_left += end - start;
        // A piece that stands for one that has left is not grown: those all lie before `gone`.
        match self.pieces[self.gone..].last_mut() {
            Some(Piece::Text { end: last, .. }) if *last == start => *last = end,
            _ if start == end => {}
            _ => self.pieces.push(Piece::Text { start, end }),
        }
    }

    /// Appends a payload by reference.
    pub fn push(&mut self, payload: Payload) {
        let len = payload.len();
        if len > 0 {
            self.bytes_left += len;
            self.leases += u16::from(matches!(payload, Payload::Lease(_)));
            self.pieces.push(Piece::Payload(payload));
        }
    }

    /// Bytes of text it has room for without allocating.
    pub(crate) fn text_capacity(&self) -> usize {
        self.text.capacity()
    }

    /// Empties the batch and keeps its memory, within reason, for the next use.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.text.clear();
        if self.text.capacity() > TEXT_KEPT_MAX {
            self.text = Vec::new();
        }
        (self.gone, self.gone_of_next, self.bytes_left) = (0, 0, 0);
        (self.leases, self.overflowed) = (0, false);
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Text { start, end } => end - start,
            Piece::Payload(payload) => payload.len(),
        }
    }
}

/// The writing end of one connection while it handles an event: its batch of this turn, taken from
/// the core's spare ones at the first byte, and its bound.
#[derive(Debug)]
pub struct Outbox<'a> {
    batch: &'a mut Option<Box<Batch>>,
    spare: &'a mut Vec<Box<Batch>>,
    in_flight: Load,
    bytes_max: usize,
}

impl<'a> Outbox<'a> {
    /// Writes into `batch`; `in_flight` of the same connection is with the kernel already. What is
    /// written while more than `bytes_max` bytes wait makes the batch
    /// [overflow](Batch::is_overflowed) and is not taken: one piece of any size fits, going on does
    /// not.
    pub fn new(
        batch: &'a mut Option<Box<Batch>>,
        spare: &'a mut Vec<Box<Batch>>,
        in_flight: Load,
        bytes_max: usize,
    ) -> Outbox<'a> {
        Outbox { batch, spare, in_flight, bytes_max }
    }

    /// The same, for a call within this one.
    pub(crate) fn reborrow(&mut self) -> Outbox<'_> {
        let Outbox { batch, spare, in_flight, bytes_max } = self;
        Outbox { batch, spare, in_flight: *in_flight, bytes_max: *bytes_max }
    }

    /// What the kernel holds of what was written in earlier turns.
    pub(crate) fn in_flight(&self) -> Load {
        self.in_flight
    }

    /// Whether nothing was written in this turn.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.batch.as_ref().is_none_or(|batch| batch.is_empty())
    }

    /// What waits to be sent, with the kernel or here.
    pub fn queued(&self) -> Load {
        let here = self.batch.as_ref().map_or(Load::default(), |batch| batch.load());
        Load {
            bytes: self.in_flight.bytes + here.bytes,
            leases: self.in_flight.leases + here.leases,
        }
    }

    /// Appends a copy of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) {
        self.append(|text| text.extend_from_slice(bytes));
    }

    /// Appends what `write` appends to a text.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.with(|batch| batch.append(write));
    }

    /// Appends a payload without copying it.
    pub fn push(&mut self, payload: impl Into<Payload>) {
        self.with(|batch| batch.push(payload.into()));
    }

    fn with(&mut self, write: impl FnOnce(&mut Batch)) {
        let batch = self.batch.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
        batch.overflowed |= self.in_flight.bytes + batch.bytes_left > self.bytes_max;
        if !batch.overflowed {
            write(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;

    fn sent(batch: &Batch) -> Vec<u8> {
        batch.slices().flatten().copied().collect()
    }

    #[test]
    fn pieces_leave_in_the_order_they_were_written_however_the_sends_are_cut() {
        let pool = Pool::new(1, 16);
        let whole = b"HTTP early static owned tail";
        for cut in 0..=whole.len() {
            let mut batch = Batch::default();
            batch.append(|text| text.extend_from_slice(b"HT"));
            batch.append(|text| text.extend_from_slice(b"TP "));
            batch.push(pool.take().expect("one is vacant").fill(b"early ").into());
            batch.push(Payload::Static(b"static "));
            batch.push(b"owned ".to_vec().into());
            batch.append(|text| text.extend_from_slice(b"tail"));
            batch.advance(cut);
            assert_eq!(sent(&batch), &whole[cut..], "cut at {cut}");
            assert_eq!(
                pool.vacant(),
                usize::from(cut >= 11),
                "the lease is given back when its last byte left"
            );
            batch.append(|text| text.extend_from_slice(b"!"));
            assert_eq!(sent(&batch), [&whole[cut..], b"!"].concat());
            batch.advance(batch.len());
            assert!(batch.is_empty() && sent(&batch).is_empty());
        }
    }

    #[test]
    fn what_waits_gives_its_buffers_back_and_stays_what_it_is() {
        let pool = Pool::new(3, 16);
        let lease = |bytes: &[u8]| pool.take().expect("one is vacant").fill(bytes);
        let whole = b"one two text three";
        for cut in 0..whole.len() {
            let mut batch = Batch::default();
            batch.push(lease(b"one ").into());
            batch.push(lease(b"two ").into());
            batch.append(|text| text.extend_from_slice(b"text "));
            batch.push(lease(b"three").into());
            batch.advance(cut);
            batch.give_buffers_back();
            assert_eq!((pool.vacant(), batch.load().leases), (3, 0));
            assert_eq!((sent(&batch), batch.len()), (whole[cut..].to_vec(), whole.len() - cut));
            batch.advance(1);
            assert_eq!(sent(&batch), &whole[cut + 1..]);
        }
    }

    #[test]
    fn text_written_in_pieces_is_one_slice() {
        let mut batch = Batch::default();
        for _ in 0..5 {
            batch.append(|text| text.extend_from_slice(b"response"));
        }
        assert_eq!(batch.slices().count(), 1);
    }

    #[test]
    fn one_piece_of_any_size_fits_an_outbox() {
        let (mut batch, mut spare) = (None, Vec::new());
        let mut outbox = Outbox::new(&mut batch, &mut spare, Load::default(), 10);
        outbox.push(vec![0; 1000]);
        assert_eq!(outbox.queued().bytes, 1000);
        assert!(batch.is_some_and(|batch| !batch.is_overflowed()));
    }

    #[test]
    fn an_outbox_over_its_bound_says_so_and_takes_no_more() {
        let (mut batch, mut spare) = (None, Vec::new());
        let in_flight = Load { bytes: 6, leases: 0 };
        let mut outbox = Outbox::new(&mut batch, &mut spare, in_flight, 10);
        outbox.write(b"four");
        outbox.write(b"!");
        outbox.write(b"dropped");
        assert_eq!(outbox.queued().bytes, 11);
        assert!(batch.is_some_and(|batch| batch.is_overflowed()));
    }

    #[test]
    fn an_unused_outbox_takes_no_batch() {
        let (mut batch, mut spare) = (None, vec![Box::default()]);
        let outbox = Outbox::new(&mut batch, &mut spare, Load::default(), 10);
        assert_eq!(outbox.queued(), Load::default());
        assert!(batch.is_none());
        assert_eq!(spare.len(), 1);
    }
}
