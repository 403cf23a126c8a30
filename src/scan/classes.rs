//! The structural bytes of a head, found 64 at a time.
//!
//! `http::one_pass` asks once for the marks of each block of a head and walks along them. A
//! [`Classifier`] says where they are; there is one for processors with AVX2, and one that goes
//! byte by byte, which the tests hold the other to.

/// Bytes classified at a time, one bit of a mask each; the lowest bit is the first byte.
pub(crate) const BLOCK: usize = 64;

/// Half of that: what the shortest input has.
pub(crate) const HALF: usize = BLOCK / 2;

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

/// The bit of each high nibble in a row; high nibbles from 8 on have none: no such byte is in a class.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only vectors use it"))]
pub(super) static NIBBLE_BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

/// The bytes of a block, in two halves that may overlap: what is shorter than a block has one, too,
/// without being copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    low: &'a [u8; HALF],
    high: &'a [u8; HALF],
    /// How far the second half begins behind the first, at most [`HALF`].
    gap: u32,
}

impl<'a> Block<'a> {
    /// The block of `bytes`, which are [`HALF`] or more, that has byte `from` in it, and how many of
    /// its bytes lie before that. It begins at `from` where there is so much.
    #[inline(always)]
    pub(crate) fn of(bytes: &'a [u8], from: usize) -> (Self, usize) {
        if let Some(block) = bytes.get(from..).and_then(|ahead| ahead.first_chunk::<BLOCK>()) {
            return (Self::whole(block), 0);
        }
        if let Some(block) = bytes.last_chunk::<BLOCK>() {
            return (Self::whole(block), from + BLOCK - bytes.len());
        }
        let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk()) else {
            debug_assert!(false, "half a block at least");
            return (Self { low: &[0; HALF], high: &[0; HALF], gap: 0 }, from);
        };
        (Self { low, high, gap: (bytes.len() - HALF) as u32 }, from)
    }

    #[inline(always)]
    fn whole(block: &'a [u8; BLOCK]) -> Self {
        let (low, high) = block.split_at(HALF);
        match (low.first_chunk(), high.first_chunk()) {
            (Some(low), Some(high)) => Self { low, high, gap: HALF as u32 },
            _ => Self { low: &[0; HALF], high: &[0; HALF], gap: 0 },
        }
    }

    /// Both halves.
    #[inline(always)]
    pub(super) fn halves(self) -> [&'a [u8; HALF]; 2] {
        [self.low, self.high]
    }

    /// The marks of both halves as one mask. Where they overlap they have the same bytes, and the same
    /// marks.
    #[inline(always)]
    pub(super) fn joined(self, [low, high]: [u32; 2]) -> u64 {
        u64::from(low) | u64::from(high) << self.gap
    }
}

/// Finds bytes in a block.
pub(crate) trait Classifier: Copy {
    /// The bytes that are not in `class`.
    fn outside(self, class: &Class, block: Block<'_>) -> u64;
    /// The bytes that cannot stand in a field value (RFC 9110 §5.5).
    fn not_value(self, block: Block<'_>) -> u64;
    /// The bytes that are `byte`.
    fn equal(self, byte: u8, block: Block<'_>) -> u64;
}

/// One byte after the other, with nothing clever in it: the oracle.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteByByte;

#[cfg(test)]
impl Classifier for ByteByByte {
    fn outside(self, class: &Class, block: Block<'_>) -> u64 {
        mask(block, |byte| !class.contains(byte))
    }

    fn not_value(self, block: Block<'_>) -> u64 {
        mask(block, |byte| !crate::http::list::is_value_byte(byte))
    }

    fn equal(self, byte: u8, block: Block<'_>) -> u64 {
        mask(block, |other| byte == other)
    }
}

#[cfg(test)]
fn mask(block: Block<'_>, is_marked: impl Fn(u8) -> bool) -> u64 {
    let marks = |half: &[u8; HALF]| {
        (0..HALF).fold(0, |mask, at| mask | u32::from(is_marked(half[at])) << at)
    };
    block.joined(block.halves().map(marks))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a classifier is asked, whichever it is: the masks of two classes, of values and of a byte.
    pub(in crate::scan) trait Asked {
        fn answers(&self, block: Block<'_>) -> [u64; 4];
    }

    impl<C: Classifier> Asked for C {
        fn answers(&self, block: Block<'_>) -> [u64; 4] {
            let classes = [Class::letters_digits_and(b"-_"), Class::visible_without(b"#?")];
            let [names, targets] = classes.map(|class| self.outside(&class, block));
            [names, targets, self.not_value(block), self.equal(b'?', block)]
        }
    }

    /// `with` runs what it is given with a classifier and the block of the bytes that has a place in
    /// it, or not at all where the processor cannot.
    pub(in crate::scan) fn assert_marks_as_the_oracle_does(
        with: impl Fn(&[u8], usize, &mut dyn FnMut(&dyn Asked, Block<'_>)),
    ) {
        let check = |bytes: &[u8]| {
            for from in [0, 1, bytes.len() - 1] {
                with(bytes, from, &mut |classifier, block| {
                    let expected = ByteByByte.answers(block);
                    assert_eq!(classifier.answers(block), expected, "{}", bytes.escape_ascii());
                });
            }
        };
        every_byte_at_every_place(check);
        for start in 0..=255u8 {
            for step in [1u8, 3, 37, 101] {
                for len in HALF..=BLOCK {
                    let byte = |at: usize| start.wrapping_add(step.wrapping_mul(at as u8));
                    check(&(0..len).map(byte).collect::<Vec<u8>>());
                }
            }
        }
    }

    fn every_byte_at_every_place(check: impl Fn(&[u8])) {
        for len in [HALF, HALF + 1, BLOCK - 1, BLOCK, BLOCK + 1] {
            for place in 0..len {
                for byte in 0..=255 {
                    for around in [b'a', b'\r', 0xff] {
                        let mut bytes = vec![around; len];
                        bytes[place] = byte;
                        check(&bytes);
                    }
                }
            }
        }
    }
}
