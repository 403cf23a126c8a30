//! Buffers for bytes that do not come through a core's own ring, as those of a backend: read into,
//! sent by ownership, and used again when their last byte has left.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Bytes of one buffer.
const BUFFER_BYTES: usize = 16 * 1024;

/// Buffers a core keeps for the next use: 1 MiB.
const KEPT_MAX: usize = 64;

/// One core's buffers that nobody holds. Cloning shares them.
#[derive(Clone, Default)]
pub struct Spares {
    kept: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Spares {
    /// An empty buffer with room for 16 KiB, the most recently used one first.
    pub fn take(&self) -> Spare {
        let kept = self.kept.borrow_mut().pop();
        let bytes = kept.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        Spare { bytes, home: self.clone() }
    }

    fn put_back(&self, mut bytes: Vec<u8>) {
        let mut kept = self.kept.borrow_mut();
        // One that has grown, or was taken out of its spare, is not worth keeping.
        if kept.len() < KEPT_MAX && bytes.capacity() == BUFFER_BYTES {
            bytes.clear();
            kept.push(bytes);
        }
    }
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spares({})", self.kept.borrow().len())
    }
}

/// A buffer in use. Dropping it gives it back.
pub struct Spare {
    bytes: Vec<u8>,
    home: Spares,
}

impl Spare {
    /// These bytes as a payload bound by their own size. Few bytes in a large buffer are copied, so
    /// that who counts the bytes that wait knows the memory that waits: no more than four times as
    /// much.
    pub fn into_payload(self) -> super::Payload {
        if self.bytes.len() * 4 < BUFFER_BYTES {
            return super::Payload::Owned(self.bytes.to_vec());
        }
        super::Payload::Spare(self)
    }
}

impl Deref for Spare {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Spare {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.home.put_back(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spare({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Payload;

    #[test]
    fn a_buffer_that_was_sent_is_used_again() {
        let spares = Spares::default();
        let mut spare = spares.take();
        spare.resize(BUFFER_BYTES, 7);
        let address = spare.as_ptr();
        let payload = spare.into_payload();
        assert!(matches!(payload, Payload::Spare(_)) && payload.len() == BUFFER_BYTES);
        drop(payload);
        let again = spares.take();
        assert!(again.is_empty() && again.as_ptr() == address);
    }

    #[test]
    fn few_bytes_do_not_keep_a_large_buffer() {
        let spares = Spares::default();
        let mut spare = spares.take();
        spare.extend_from_slice(b"few");
        let Payload::Owned(bytes) = spare.into_payload() else { panic!("a copy") };
        assert!(bytes.capacity() < 64 && spares.kept.borrow().len() == 1);
    }

    #[test]
    fn no_more_are_kept_than_a_core_may_and_none_of_another_size() {
        let spares = Spares::default();
        let taken: Vec<Spare> = (0..KEPT_MAX + 9).map(|_| spares.take()).collect();
        drop(taken);
        assert_eq!(spares.kept.borrow().len(), KEPT_MAX);
        let mut grown = spares.take();
        grown.resize(2 * BUFFER_BYTES, 0);
        drop(grown);
        assert_eq!(spares.kept.borrow().len(), KEPT_MAX - 1);
    }
}
