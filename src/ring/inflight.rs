//! The sends in flight. The kernel reads a batch, and the list of its slices, until the send
//! completes: both live here in memory that does not move, and nobody else can reach them in
//! between.
//!
//! ```text
//!   begin(batch) ──► place, boxed: batch, slices, header ──► submission ┄┄ kernel reads ┄┄► finish() ──► batch
//!                        ▲                                                                     │
//!                        └───────────────────────── free list ◄────────────────────────────────┘
//! ```
//!
//! A place is reused, so that a warm table allocates nothing; a generation tells its tenants apart.

use std::mem;

use io_uring::opcode;
use io_uring::squeue::Entry;

use super::tier::Tier;
use super::user_data::{Kind, UserData};
use super::{Handle, Token};
use crate::buffer::Batch;

/// Slices of a batch that leave in one send; the rest of a longer one is for the next send.
pub(super) const SLICES_MAX: usize = 16;

/// How long a send may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It completes within the call that submits it, short or with EAGAIN if the socket is full.
    AtOnce,
    /// It completes when something has left, however long that takes: a peer that reads, however
    /// slowly, is seen to.
    Patient,
}

impl Pace {
    /// No signal when the peer is gone, in any case.
    fn flags(self) -> i32 {
        match self {
            Pace::AtOnce => libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            Pace::Patient => libc::MSG_NOSIGNAL,
        }
    }
}

/// Bytes of a first attempt that a socket takes at once, unless its peer has not read for a while.
/// The rest of a send that came out short is not tried like that again.
const AT_ONCE_BYTES_MAX: usize = 16 * 1024;

/// Bytes the kernel transfers at most in one call, a whole page less than two gigabytes.
const SLICE_BYTES_MAX: usize = 0x7fff_f000;

/// Every send between its submission and its completion.
#[derive(Default)]
pub(super) struct InFlight {
    // Boxed: the kernel holds addresses inside a place while the table grows.
    #[expect(clippy::vec_box)]
    places: Vec<Box<Place>>,
    free: Vec<u32>,
}

struct Place {
    batch: Option<Box<Batch>>,
    connection: Token,
    handle: Handle,
    pace: Pace,
    /// It was asked to end before it had completed.
    is_stopped: bool,
    generation: u32,
    slices: [libc::iovec; SLICES_MAX],
    header: libc::msghdr,
}

impl InFlight {
    /// Takes a batch in and makes the submission that sends it, at the pace that fits it.
    pub(super) fn begin(
        &mut self,
        tier: Tier,
        connection: Token,
        handle: Handle,
        batch: Box<Batch>,
    ) -> (Entry, Pace) {
        let is_small = batch.len() <= AT_ONCE_BYTES_MAX && !batch.has_begun();
        // What it keeps of receive buffers is to be back at once, sent or not.
        let is_quick = is_small || batch.load().leases > 0;
        let pace = if is_quick { Pace::AtOnce } else { Pace::Patient };
        (self.begin_at(pace, tier, connection, handle, batch), pace)
    }

    /// Sends a batch that did not fit into its socket once more, patiently. `None` if no such send
    /// is in flight, or it was stopped, or had all the time it wanted: then it is over.
    pub(super) fn retry(&mut self, tier: Tier, send: Token) -> Option<Entry> {
        let place = self.places.get(send.slot as usize)?;
        if place.generation != send.generation || place.pace == Pace::Patient || place.is_stopped {
            return None;
        }
        let handle = place.handle;
        let (connection, mut batch) = self.finish(send)?;
        // It waits for its peer: nobody else shall wait for its buffers.
        batch.give_buffers_back();
        Some(self.begin_at(Pace::Patient, tier, connection, handle, batch))
    }

    fn begin_at(
        &mut self,
        pace: Pace,
        tier: Tier,
        connection: Token,
        handle: Handle,
        batch: Box<Batch>,
    ) -> Entry {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Box::new(Place::vacant()));
            u32::try_from(self.places.len() - 1)
                .expect("sends in flight are as many as connections at most")
        });
        let place = &mut *self.places[index as usize];
        debug_assert!(place.batch.is_none(), "a free place holds no batch");
        place.connection = connection;
        (place.handle, place.pace, place.is_stopped) = (handle, pace, false);
        let entry = match place.fill(batch) {
            0 | 1 => place.send(handle),
            count => place.send_slices(handle, count),
        };
        tier.aim(entry).user_data(place.user_data(index).pack())
    }

    /// Takes the batch out again: its send is over. `None` if no such send is in flight.
    pub(super) fn finish(&mut self, send: Token) -> Option<(Token, Box<Batch>)> {
        let place = self
            .places
            .get_mut(send.slot as usize)
            .filter(|place| place.generation == send.generation)?;
        let batch = place.batch.take()?;
        place.generation = (place.generation + 1) & Token::GENERATION_MASK;
        self.free.push(send.slot);
        Some((place.connection, batch))
    }

    /// Marks the send in flight of a connection as stopped, and says which it is: a walk over all
    /// of them, for the rare case that one must be stopped.
    pub(super) fn stop(&mut self, connection: Token) -> Option<UserData> {
        let (index, place) = (0..)
            .zip(&mut self.places)
            .find(|(_, place)| place.batch.is_some() && place.connection == connection)?;
        place.is_stopped = true;
        Some(place.user_data(index))
    }
}

impl Place {
    fn vacant() -> Place {
        Place {
            batch: None,
            connection: Token { slot: 0, generation: 0 },
            handle: Handle(0),
            pace: Pace::Patient,
            is_stopped: false,
            generation: 0,
            slices: [NO_SLICE; SLICES_MAX],
            // SAFETY: a message header is integers and pointers, for all of which zero is a value.
            header: unsafe { mem::zeroed() },
        }
    }

    /// Keeps the batch and lists its slices; their number.
    fn fill(&mut self, batch: Box<Batch>) -> usize {
        // The addresses are taken from the batch where it stays until `finish`.
        let batch = self.batch.insert(batch);
        let mut count = 0;
        self.slices[0] = NO_SLICE;
        let filled = batch.slices().filter(|slice| !slice.is_empty());
        for (entry, slice) in self.slices.iter_mut().zip(filled) {
            *entry =
                libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
            count += 1;
        }
        count
    }

    fn send(&self, handle: Handle) -> Entry {
        let slice = &self.slices[0];
        let len = slice.iov_len.min(SLICE_BYTES_MAX) as u32;
        opcode::Send::new(Tier::file(handle), slice.iov_base.cast(), len)
            .flags(self.pace.flags())
            .build()
    }

    fn send_slices(&mut self, handle: Handle, count: usize) -> Entry {
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = count as _;
        opcode::SendMsg::new(Tier::file(handle), &raw const self.header)
            .flags(self.pace.flags().cast_unsigned())
            .build()
    }

    fn user_data(&self, index: u32) -> UserData {
        UserData::new(Kind::Send, Token { slot: index, generation: self.generation })
    }
}

const NO_SLICE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(slices: usize) -> Box<Batch> {
        let mut batch = Batch::default();
        for _ in 0..slices {
            batch.push("slice".into());
        }
        Box::new(batch)
    }

    fn begin(sends: &mut InFlight, slot: u32) -> Token {
        let connection = Token { slot, generation: 7 };
        sends.begin(Tier::Plain, connection, Handle(0), batch(1));
        sends.stop(connection).expect("it is in flight").token
    }

    #[test]
    fn a_send_is_finished_once() {
        let mut sends = InFlight::default();
        let send = begin(&mut sends, 3);
        let (connection, batch) = sends.finish(send).expect("it is in flight");
        assert_eq!((connection, batch.len()), (Token { slot: 3, generation: 7 }, 5));
        assert!(sends.finish(send).is_none());
        assert!(sends.stop(connection).is_none());
    }

    #[test]
    fn a_place_is_reused_under_a_new_generation() {
        let mut sends = InFlight::default();
        let first = begin(&mut sends, 1);
        sends.finish(first).expect("it is in flight");
        let second = begin(&mut sends, 2);
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
        assert!(sends.finish(first).is_none(), "an old generation finishes nothing");
        assert_eq!(sends.places.len(), 1);
    }

    #[test]
    fn a_send_that_found_no_room_is_tried_once_more_unless_it_was_stopped() {
        let mut sends = InFlight::default();
        let connection = Token { slot: 3, generation: 7 };
        for is_stopped in [false, true] {
            let (entry, pace) = sends.begin(Tier::Plain, connection, Handle(0), batch(1));
            assert_eq!(pace, Pace::AtOnce);
            let send = UserData::unpack(entry.get_user_data()).expect("it is ours").token;
            if is_stopped {
                sends.stop(connection).expect("it is in flight");
                assert!(sends.retry(Tier::Plain, send).is_none());
                assert!(sends.finish(send).is_some());
            } else {
                let entry = sends.retry(Tier::Plain, send).expect("it is in flight");
                let again = UserData::unpack(entry.get_user_data()).expect("it is ours").token;
                assert!(sends.retry(Tier::Plain, again).is_none(), "a patient send is final");
                assert!(sends.finish(again).is_some());
            }
        }
    }

    #[test]
    fn what_is_large_or_the_rest_of_a_short_send_has_all_the_time_it_wants() {
        let mut sends = InFlight::default();
        let connection = Token { slot: 3, generation: 7 };
        let mut rest = batch(2);
        rest.advance(1);
        let mut large = batch(1);
        large.push(vec![0; AT_ONCE_BYTES_MAX].into());
        for batch in [rest, large] {
            let (_, pace) = sends.begin(Tier::Plain, connection, Handle(0), batch);
            assert_eq!(pace, Pace::Patient);
        }
    }

    #[test]
    fn no_more_slices_are_listed_than_there_is_room_for() {
        for (slices, listed) in
            [(0, 0), (1, 1), (2, 2), (SLICES_MAX, SLICES_MAX), (SLICES_MAX + 3, SLICES_MAX)]
        {
            assert_eq!(Place::vacant().fill(batch(slices)), listed);
        }
    }
}
