//! What was received and not opened: whole records, where they were received, and a beginning of one.

use super::open::FIRST_RECORD_BYTES;
use super::{Fault, record};
use crate::buffer::{Lease, LeaseQueue};
use crate::counters::Counters;

/// What was received and not opened.
#[derive(Default)]
pub(super) struct Incoming {
    /// The oldest. It is not in the queue: a lease on the same buffer may be in another one.
    current: Option<Lease>,
    rest: LeaseQueue,
    /// The beginning of a record that did not come whole, in memory of its own.
    partial: Option<Lease>,
}

impl Incoming {
    /// The oldest bytes that were not used up.
    pub(super) fn front(&mut self) -> Option<&mut Lease> {
        if self.current.as_ref().is_none_or(|current| current.is_empty()) {
            self.current = self.rest.pop();
        }
        self.current.as_mut()
    }

    /// Gives the buffer back of the oldest, if all of it was used up.
    pub(super) fn let_go(&mut self) {
        self.current.take_if(|current| current.is_empty());
    }

    /// The next record, if it has come whole: on the buffer that it came in, or put together.
    pub(super) fn record(&mut self, counters: &Counters) -> Result<Option<Lease>, Fault> {
        loop {
            let is_begun = self.partial.is_some();
            let Some(current) = self.front() else { return Ok(None) };
            if !is_begun {
                match record::record_bytes(current).transpose()? {
                    Some(len) if len == current.len() => return Ok(self.current.take()),
                    Some(len) if len < current.len() => return Ok(Some(current.split_to(len))),
                    _ => {}
                }
            }
            if self.assemble(counters)? {
                return Ok(self.partial.take());
            }
        }
    }

    /// Copies what is there of a record that came in pieces; whether it is whole.
    fn assemble(&mut self, counters: &Counters) -> Result<bool, Fault> {
        let Some(current) = &mut self.current else { return Ok(false) };
        let partial = self.partial.get_or_insert_with(|| Lease::with_room(0));
        for _ in 0..2 {
            let len = record::record_bytes(partial).transpose()?;
            let missing = len.unwrap_or(record::HEADER_BYTES) - partial.len();
            let taken = missing.min(current.len());
            partial.append(&current[..taken], len.unwrap_or(FIRST_RECORD_BYTES));
            current.advance(taken);
            counters.bytes_assembled.add(taken as u64);
        }
        if current.is_empty() {
            self.current = None;
        }
        let len = record::record_bytes(partial).transpose()?;
        Ok(len == Some(partial.len()))
    }

    pub(super) fn push(&mut self, bytes: Lease) {
        self.rest.push(bytes);
    }

    /// Pieces that wait.
    pub(super) fn len(&self) -> usize {
        self.rest.len() + usize::from(self.current.is_some())
    }

    /// Receive buffers among them.
    pub(super) fn held(&self) -> usize {
        self.rest.held() + usize::from(self.current.as_ref().is_some_and(Lease::is_shared))
    }

    /// Copies what waits out of the receive buffers, which others wait for.
    pub(super) fn set_aside(&mut self) {
        if let Some(current) = self.current.take_if(|current| current.is_shared()) {
            self.current = Some(Lease::copied(std::iter::once(&*current)));
        }
        self.rest.set_aside();
    }

    /// Bytes that were [set aside](Incoming::set_aside), beside the oldest.
    pub(super) fn bytes_aside(&self) -> usize {
        self.rest.bytes_aside()
    }
}
