//! The content every answer must have: as given, or that of the first answer. It is learned as it
//! comes, once for all connections of all threads, and nobody keeps a part of it: a connection knows
//! how far it has come. Called by `answers.rs`.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::fault::Fault;

/// A longer content is not learned.
pub(crate) const CONTENT_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct Content {
    whole: OnceLock<Vec<u8>>,
    /// Of the first answers, whose end has not come: what the one that is furthest has brought.
    begun: Mutex<Vec<u8>>,
}

impl Content {
    pub(crate) fn known(bytes: Vec<u8>) -> Content {
        Content { whole: bytes.into(), ..Content::default() }
    }

    /// How many bytes it has, once that is known.
    pub(crate) fn len(&self) -> Option<usize> {
        self.whole.get().map(Vec::len)
    }

    /// Whether a content that goes on to `end` at least can be right.
    pub(crate) fn check_end(&self, end: u64) -> Result<(), Fault> {
        match self.len() {
            Some(len) if end > len as u64 => Err(Fault::Content),
            None if end > CONTENT_BYTES_MAX as u64 => Err(Fault::TooLarge),
            _ => Ok(()),
        }
    }

    /// Compares what an answer has brought behind its first `at` bytes, and learns what is new.
    pub(crate) fn take(&self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        let compare = |known: &[u8], bytes: &[u8]| match known.get(at..at + bytes.len()) {
            Some(due) if due == bytes => Ok(()),
            _ => Err(Fault::Content),
        };
        if let Some(whole) = self.whole.get() {
            return compare(whole, bytes);
        }
        let mut begun = self.begun();
        // It may have become whole meanwhile.
        if let Some(whole) = self.whole.get() {
            return compare(whole, bytes);
        }
        self.check_end((at + bytes.len()) as u64)?;
        let (old, new) = bytes.split_at((begun.len() - at).min(bytes.len()));
        compare(&begun, old)?;
        begun.extend_from_slice(new);
        Ok(())
    }

    /// An answer's content ends behind so many bytes, all of which were taken.
    pub(crate) fn end(&self, at: usize) -> Result<(), Fault> {
        let mut begun = self.begun();
        if self.whole.get().is_none() && begun.len() == at {
            let _ = self.whole.set(std::mem::take(&mut begun));
        }
        if self.len() == Some(at) { Ok(()) } else { Err(Fault::Content) }
    }

    fn begun(&self) -> MutexGuard<'_, Vec<u8>> {
        // Nobody leaves it half done.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_ends_says_what_the_others_have_to_be() {
        let content = Content::default();
        content.take(0, b"he").expect("whatever it is");
        content.take(0, b"hell").expect("it goes on the same");
        content.take(2, b"l").expect("the same");
        assert!(matches!(content.take(3, b"p"), Err(Fault::Content)));
        content.take(4, b"o").expect("whatever it is");
        assert!(matches!(content.end(4), Err(Fault::Content)), "another had more");
        assert_eq!(content.len(), None);
        content.end(5).expect("as far as any came");
        assert_eq!(content.len(), Some(5));
        content.take(3, b"lo").expect("the same");
        content.end(5).expect("the same");
        assert!(matches!(content.take(5, b"!"), Err(Fault::Content)));
        assert!(matches!(content.end(4), Err(Fault::Content)));
    }

    #[test]
    fn no_more_than_can_be_kept_is_learned() {
        let content = Content::default();
        let bytes = vec![0; CONTENT_BYTES_MAX];
        content.take(0, &bytes).expect("there is room for so much");
        assert!(matches!(content.take(bytes.len(), b"!"), Err(Fault::TooLarge)));
        // Who brings the same costs nothing.
        content.take(0, &bytes).expect("the same");
        assert_eq!(content.begun().len(), CONTENT_BYTES_MAX);
    }
}
