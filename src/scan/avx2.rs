//! Classification with AVX2: a block in two registers.
//!
//! `http::one_pass` runs its reader inside [`with_avx2`], which is compiled for these instructions
//! as a whole, so that nothing is called and no mask leaves the registers. Whether the processor
//! has them is asked each time; std keeps the answer, which makes that one load and a branch.
//!
//! For a [`Class`], one shuffle looks up the rows of 32 bytes by their low nibbles, another the bits
//! by their high nibbles; where both meet, the byte is in the class. High nibbles from 8 on have no
//! bit: no such byte is in one.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_andnot_si256, _mm256_broadcastsi128_si256,
    _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_max_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::classes::{Block, Class, Classifier};

/// That the processor has AVX2, BMI1 and BMI2: only [`with_avx2`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// Runs `work` compiled for AVX2, BMI1 and BMI2, or not at all on a processor without them.
///
/// `work`, and all it calls that is to profit, has to be marked `#[inline(always)]`.
#[inline]
pub(crate) fn with_avx2<R>(work: impl FnOnce(Avx2) -> R) -> Option<R> {
    let has_all = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2");
    // SAFETY: the processor has just said that it has the features `run` is compiled for.
    has_all.then(|| unsafe { run(work) })
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn run<R>(work: impl FnOnce(Avx2) -> R) -> R {
    work(Avx2(()))
}

/// The bit of each high nibble.
static NIBBLE_BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

impl Classifier for Avx2 {
    #[inline(always)]
    fn outside(self, class: &Class, block: Block<'_>) -> u64 {
        let [low, high] = self.loaded(block);
        // SAFETY: `self` says that the processor has AVX2; the tables are 16 bytes, and loads of
        // them need no alignment.
        unsafe {
            let rows = _mm256_broadcastsi128_si256(_mm_loadu_si128(class.rows.as_ptr().cast()));
            let bits = _mm256_broadcastsi128_si256(_mm_loadu_si128(NIBBLE_BITS.as_ptr().cast()));
            block.joined([marks(not_in(rows, bits, low)), marks(not_in(rows, bits, high))])
        }
    }

    #[inline(always)]
    fn not_value(self, block: Block<'_>) -> u64 {
        let [low, high] = self.loaded(block);
        // SAFETY: `self` says that the processor has AVX2.
        unsafe { block.joined([marks(control(low)), marks(control(high))]) }
    }

    #[inline(always)]
    fn equal(self, byte: u8, block: Block<'_>) -> u64 {
        let [low, high] = self.loaded(block);
        // SAFETY: `self` says that the processor has AVX2.
        unsafe {
            let wanted = _mm256_set1_epi8(byte.cast_signed());
            let is_equal = [_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted)];
            block.joined([marks(is_equal[0]), marks(is_equal[1])])
        }
    }
}

impl Avx2 {
    #[inline(always)]
    fn loaded(self, block: Block<'_>) -> [__m256i; 2] {
        let [low, high] = block.halves();
        // SAFETY: `self` says that the processor has AVX2; a half is 32 bytes, and loads need no
        // alignment.
        unsafe {
            [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())]
        }
    }
}

/// The bytes with these rows and bits where the two do not meet.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn not_in(rows: __m256i, bits: __m256i, bytes: __m256i) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        // A shuffle takes the low nibble of its index, and gives 0 where the index is 128 or more.
        let row = _mm256_shuffle_epi8(rows, bytes);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(0x0f));
        let bit = _mm256_shuffle_epi8(bits, high);
        _mm256_cmpeq_epi8(_mm256_and_si256(row, bit), _mm256_setzero_si256())
    }
}

/// The bytes below space, the tab excepted, and DEL.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn control(bytes: __m256i) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let space = _mm256_set1_epi8(b' '.cast_signed());
        let is_above = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, space), bytes);
        let is_tab = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\t'.cast_signed()));
        let is_delete = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x7f));
        let is_value = _mm256_or_si256(is_above, is_tab);
        let is_either = _mm256_andnot_si256(is_delete, is_value);
        _mm256_cmpeq_epi8(is_either, _mm256_setzero_si256())
    }
}

/// The marks of one half.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn marks(found: __m256i) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_movemask_epi8(found).cast_unsigned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{BLOCK, ByteByByte, HALF};

    /// Whether both classifiers mark `bytes` alike from each place on, for a class and for values.
    fn assert_agreement(bytes: &[u8]) {
        let classes = [Class::letters_digits_and(b"-_"), Class::visible_without(b"#?")];
        for from in [0, 1, bytes.len() - 1] {
            let (block, _) = Block::of(bytes, from);
            let marks =
                |classifier: &dyn Fn(&Class) -> u64| classes.map(|class| classifier(&class));
            let found = with_avx2(|avx2| {
                let outside = marks(&|class| avx2.outside(class, block));
                (outside, avx2.not_value(block), avx2.equal(b'?', block))
            });
            let expected = (
                marks(&|class| ByteByByte.outside(class, block)),
                ByteByByte.not_value(block),
                ByteByByte.equal(b'?', block),
            );
            // Where there is no AVX2 there is nothing to compare.
            assert!(found.is_none_or(|found| found == expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn marks_every_byte_at_every_place_of_every_length_as_the_oracle_does() {
        for len in [HALF, HALF + 1, BLOCK - 1, BLOCK, BLOCK + 1] {
            for place in 0..len {
                for byte in 0..=255 {
                    for around in [b'a', b'\r', 0xff] {
                        let mut bytes = vec![around; len];
                        bytes[place] = byte;
                        assert_agreement(&bytes);
                    }
                }
            }
        }
    }

    #[test]
    fn marks_all_bytes_at_once_as_the_oracle_does() {
        for start in 0..=255u8 {
            for step in [1u8, 3, 37, 101] {
                for len in HALF..=BLOCK {
                    let byte = |at: usize| start.wrapping_add(step.wrapping_mul(at as u8));
                    assert_agreement(&(0..len).map(byte).collect::<Vec<u8>>());
                }
            }
        }
    }
}
