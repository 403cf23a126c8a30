//! The sends in flight. The kernel reads a batch, and the list of its slices, until the send completes: both
//! live here in memory that does not move, and nobody else can reach them in between.
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

/// No signal when the peer is gone, and no completion before everything has left: a short send is rare.
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

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
    generation: u32,
    slices: [libc::iovec; SLICES_MAX],
    header: libc::msghdr,
}

impl InFlight {
    /// Takes a batch in and makes the submission that sends it.
    pub(super) fn begin(
        &mut self,
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

    /// The send in flight of a connection: a walk over all of them, for the rare case that one must be stopped.
    pub(super) fn find(&self, connection: Token) -> Option<UserData> {
        let (index, place) = (0..)
            .zip(&self.places)
            .find(|(_, place)| place.batch.is_some() && place.connection == connection)?;
        Some(place.user_data(index))
    }
}

impl Place {
    fn vacant() -> Place {
        Place {
            batch: None,
            connection: Token { slot: 0, generation: 0 },
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
        opcode::Send::new(Tier::file(handle), slice.iov_base.cast(), len).flags(FLAGS).build()
    }

    fn send_slices(&mut self, handle: Handle, count: usize) -> Entry {
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = count as _;
        opcode::SendMsg::new(Tier::file(handle), &raw const self.header)
            .flags(FLAGS.cast_unsigned())
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
        sends.find(connection).expect("it is in flight").token
    }

    #[test]
    fn a_send_is_finished_once() {
        let mut sends = InFlight::default();
        let send = begin(&mut sends, 3);
        let (connection, batch) = sends.finish(send).expect("it is in flight");
        assert_eq!((connection, batch.len()), (Token { slot: 3, generation: 7 }, 5));
        assert!(sends.finish(send).is_none());
        assert!(sends.find(connection).is_none());
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
    fn no_more_slices_are_listed_than_there_is_room_for() {
        for (slices, listed) in
            [(0, 0), (1, 1), (2, 2), (SLICES_MAX, SLICES_MAX), (SLICES_MAX + 3, SLICES_MAX)]
        {
            assert_eq!(Place::vacant().fill(batch(slices)), listed);
        }
    }
}
