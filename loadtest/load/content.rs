//! The content every answer must have: as given, or that of the first answer that is whole. Until
//! there is one, contents are kept as they come, each once for all connections of all threads, and
//! none is held against another: of two that differ one is wrong, and which is not known. Called by
//! `answers.rs`.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::fault::Fault;

/// A longer content is not learned.
pub(crate) const CONTENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// So many that differ are kept while none is whole.
const BEGUN_MAX: usize = 8;

#[derive(Default)]
pub(crate) struct Content {
    whole: OnceLock<Vec<u8>>,
    begun: Mutex<Begun>,
}

/// How far the content of an answer has come.
#[derive(Default)]
pub(crate) struct Place {
    at: usize,
    /// Which of those that have begun it was the same as when none was whole.
    begun: Option<usize>,
}

/// Contents of which none has come to its end.
#[derive(Default)]
struct Begun {
    /// Of each, what the answer that is furthest has brought.
    contents: Vec<Vec<u8>>,
    /// Once one is whole, how far each was the same as that.
    same: Vec<usize>,
}

impl Content {
    pub(crate) fn known(bytes: Vec<u8>) -> Content {
        Content { whole: bytes.into(), ..Content::default() }
    }

    /// How many bytes it has, once that is known.
    pub(crate) fn len(&self) -> Option<usize> {
        self.whole.get().map(Vec::len)
    }

    /// Whether a content can be right of which `bytes` at least are to come behind `place`.
    pub(crate) fn check_end(&self, place: &Place, bytes: u64) -> Result<(), Fault> {
        let end = bytes.saturating_add(place.at as u64);
        match self.len() {
            Some(len) if end > len as u64 => Err(Fault::Content),
            None if end > CONTENT_BYTES_MAX as u64 => Err(Fault::TooLarge),
            _ => Ok(()),
        }
    }

    /// Compares what an answer has brought behind `place`, or keeps it while nothing is known.
    pub(crate) fn take(&self, place: &mut Place, bytes: &[u8]) -> Result<(), Fault> {
        let Some(whole) = self.whole.get() else {
            let mut begun = self.begun();
            // It may have become known meanwhile.
            if self.whole.get().is_some() {
                drop(begun);
                return self.take(place, bytes);
            }
            self.check_end(place, bytes.len() as u64)?;
            return begun.take(place, bytes);
        };
        self.check_begun(place)?;
        let due = whole.get(place.at..place.at + bytes.len());
        place.at += bytes.len();
        if due == Some(bytes) { Ok(()) } else { Err(Fault::Content) }
    }

    /// An answer's content ends behind `place`: the first to do so says what all have to be.
    pub(crate) fn end(&self, place: &mut Place) -> Result<(), Fault> {
        if self.whole.get().is_none() {
            let mut begun = self.begun();
            if self.whole.get().is_none() {
                let _ = self.whole.set(begun.end(place));
            }
        }
        self.check_begun(place)?;
        if self.len() == Some(place.at) { Ok(()) } else { Err(Fault::Content) }
    }

    /// Compares, once, what came before it was known.
    fn check_begun(&self, place: &mut Place) -> Result<(), Fault> {
        match place.begun.take() {
            Some(begun) if self.begun().same[begun] < place.at => Err(Fault::Content),
            _ => Ok(()),
        }
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        // Nobody leaves it half done.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// Keeps what is new of an answer: with the others that are the same, or as one that differs.
    fn take(&mut self, place: &mut Place, bytes: &[u8]) -> Result<(), Fault> {
        let before = self.before(place);
        let goes_on = |content: &Vec<u8>| same(&content[place.at..], bytes).is_none();
        let usual = place.begun.filter(|begun| goes_on(&self.contents[*begun]));
        let found = usual.or_else(|| {
            let has_begun = |content: &&Vec<u8>| content.starts_with(before);
            self.contents.iter().position(|content| has_begun(&content) && goes_on(content))
        });
        let begun = match found {
            Some(begun) => begun,
            None if self.contents.len() == BEGUN_MAX => return Err(Fault::Content),
            None => {
                let before = before.to_vec();
                self.contents.push(before);
                self.contents.len() - 1
            }
        };
        let content = &mut self.contents[begun];
        let kept = (content.len() - place.at).min(bytes.len());
        content.extend_from_slice(&bytes[kept..]);
        *place = Place { at: place.at + bytes.len(), begun: Some(begun) };
        Ok(())
    }

    /// All that an answer has brought, which is whole; what others have brought is let go.
    fn end(&mut self, place: &Place) -> Vec<u8> {
        let whole = self.before(place).to_vec();
        let far = |content: &Vec<u8>| {
            same(content, &whole).unwrap_or_else(|| content.len().min(whole.len()))
        };
        self.same = self.contents.iter().map(far).collect();
        self.contents = Vec::new();
        whole
    }

    fn before(&self, place: &Place) -> &[u8] {
        place.begun.map_or(&[], |begun| &self.contents[begun][..place.at])
    }
}

/// How many bytes are the same before the first that differs; nothing if none does, as far as both
/// go.
fn same(one: &[u8], other: &[u8]) -> Option<usize> {
    let both = one.len().min(other.len());
    if one[..both] == other[..both] {
        return None;
    }
    one.iter().zip(other).position(|(one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers that have come so far.
    fn places<const COUNT: usize>() -> [Place; COUNT] {
        std::array::from_fn(|_| Place::default())
    }

    #[test]
    fn the_first_that_ends_says_what_the_others_have_to_be() {
        let content = Content::default();
        let [mut first, mut short, mut long, mut other, mut late] = places();
        content.take(&mut first, b"hel").expect("whatever it is");
        content.take(&mut short, b"hell").expect("it goes on the same");
        content.take(&mut long, b"hello!").expect("it goes on the same");
        content.take(&mut other, b"help").expect("which is right is not known");
        content.take(&mut first, b"lo").expect("the same");
        content.end(&mut first).expect("the first");
        assert_eq!(content.len(), Some(5));
        assert!(matches!(content.end(&mut long), Err(Fault::Content)));
        assert!(matches!(content.take(&mut other, b"o"), Err(Fault::Content)));
        content.take(&mut late, b"hello").expect("the same");
        content.end(&mut late).expect("the same");
        assert!(matches!(content.take(&mut late, b"!"), Err(Fault::Content)));
        assert!(matches!(content.end(&mut short), Err(Fault::Content)));
    }

    #[test]
    fn what_never_ends_is_not_learned() {
        let content = Content::default();
        let [mut wrong, mut cut, mut right, mut next] = places();
        content.take(&mut wrong, b"wrong").expect("whatever it is");
        content.take(&mut right, b"ri").expect("which is right is not known");
        content.take(&mut cut, b"right and more").expect("it goes on the same");
        content.take(&mut right, b"ght").expect("the same");
        content.end(&mut right).expect("the first that is whole");
        content.take(&mut next, b"right").expect("the same");
        content.end(&mut next).expect("the same");
        assert!(matches!(content.end(&mut wrong), Err(Fault::Content)));
        assert!(matches!(content.end(&mut cut), Err(Fault::Content)));
    }

    #[test]
    fn an_empty_content_is_one_too() {
        let content = Content::default();
        let [mut empty, mut other] = places();
        content.end(&mut empty).expect("the first");
        assert!(matches!(content.take(&mut other, b"x"), Err(Fault::Content)));
    }

    #[test]
    fn no_more_than_can_be_kept_is_learned() {
        let content = Content::default();
        let bytes = vec![0; CONTENT_BYTES_MAX];
        let [mut first, mut same] = places();
        content.take(&mut first, &bytes).expect("there is room for so much");
        assert!(matches!(content.take(&mut first, b"!"), Err(Fault::TooLarge)));
        // Who brings the same costs nothing.
        content.take(&mut same, &bytes).expect("the same");
        let kept = |content: &Content| -> Vec<usize> {
            content.begun().contents.iter().map(Vec::len).collect()
        };
        assert_eq!(kept(&content), [CONTENT_BYTES_MAX]);
        for different in 1..BEGUN_MAX {
            content.take(&mut Place::default(), &[different as u8]).expect("there is room");
        }
        let fault = content.take(&mut Place::default(), b"!");
        assert!(matches!(fault, Err(Fault::Content)));
        assert_eq!(kept(&content).len(), BEGUN_MAX);
        content.end(&mut first).expect("the first that is whole");
        assert!(kept(&content).is_empty());
    }
}
