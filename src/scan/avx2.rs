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

use super::classes::{Block, Class, Classifier, NIBBLE_BITS};

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
    use crate::scan::classes::tests::assert_marks_as_the_oracle_does;

    #[test]
    fn marks_as_the_oracle_does() {
        assert_marks_as_the_oracle_does(|bytes, from, ask| {
            with_avx2(|avx2| ask(&avx2, Block::of(bytes, from).0));
        });
    }
}
