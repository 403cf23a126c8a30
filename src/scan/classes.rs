//! The structural bytes of a head, found 64 at a time.
//!
//! `http::one_pass` asks once for the marks of each block of a head and walks along them. A
//! [`Classifier`] says where they are; there is one for processors with AVX2, and one that goes
//! byte by byte, which the tests hold the other to.

/// Bytes classified at a time, one bit of a mask each; the lowest bit is the first byte.
pub(crate) const BLOCK: usize = 64;

/// A set of ASCII bytes.
///
/// `rows` is what a vector is looked up in: a row for each low nibble, in it a bit for each high
/// nibble.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) members: [bool; 256],
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only vectors use it"))]
    pub(super) rows: [u8; 16],
}

#[expect(
    clippy::indexing_slicing,
    reason = "by a byte or a nibble, in tables with a place for each"
)]
impl Class {
    /// Letters, digits and these marks.
    pub(crate) const fn letters_digits_and(marks: &[u8]) -> Self {
        let mut class = Self { members: [false; 256], rows: [0; 16] };
        let mut byte = 0;
        while byte < 128 {
            if (byte as u8).is_ascii_alphanumeric() {
                class.insert(byte as u8);
            }
            byte += 1;
        }
        let mut mark = 0;
        while mark < marks.len() {
            class.insert(marks[mark]);
            mark += 1;
        }
        class
    }

    /// Visible ASCII without these marks.
    pub(crate) const fn visible_without(marks: &[u8]) -> Self {
        let mut class = Self { members: [false; 256], rows: [0; 16] };
        let mut byte = b'!';
        while byte <= b'~' {
            let mut is_member = true;
            let mut mark = 0;
            while mark < marks.len() {
                is_member &= marks[mark] != byte;
                mark += 1;
            }
            if is_member {
                class.insert(byte);
            }
            byte += 1;
        }
        class
    }

    const fn insert(&mut self, byte: u8) {
        assert!(byte.is_ascii(), "a class holds ASCII only: rows have no bit for anything else");
        self.members[byte as usize] = true;
        self.rows[(byte & 15) as usize] |= 1 << (byte >> 4);
    }

    /// Whether `byte` is in the set.
    #[inline]
    pub(crate) fn contains(&self, byte: u8) -> bool {
        self.members[usize::from(byte)]
    }
}

/// Finds bytes in a block.
pub(crate) trait Classifier: Copy {
    /// The bytes that are not in `class`.
    fn outside(self, class: &Class, block: &[u8; BLOCK]) -> u64;
    /// The bytes that cannot stand in a field value (RFC 9110 §5.5).
    fn not_value(self, block: &[u8; BLOCK]) -> u64;
    /// The bytes that are `byte`.
    fn equal(self, byte: u8, block: &[u8; BLOCK]) -> u64;
}

/// One byte after the other, with nothing clever in it: the oracle.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteByByte;

#[cfg(test)]
impl Classifier for ByteByByte {
    fn outside(self, class: &Class, block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| !class.contains(byte))
    }

    fn not_value(self, block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| !crate::http::list::is_value_byte(byte))
    }

    fn equal(self, byte: u8, block: &[u8; BLOCK]) -> u64 {
        mask(block, |other| byte == other)
    }
}

#[cfg(test)]
fn mask(block: &[u8; BLOCK], is_marked: impl Fn(u8) -> bool) -> u64 {
    (0..BLOCK).fold(0, |mask, at| mask | u64::from(is_marked(block[at])) << at)
}
