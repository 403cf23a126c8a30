//! Classification with SSSE3: a block in four registers, for processors without AVX2. Nearly all that
//! run a server have it.
//!
//! The same as `avx2` with registers half as wide; see there how a byte is looked up.

use std::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8,
    _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_setzero_si128, _mm_shuffle_epi8,
    _mm_srli_epi16,
};

use super::classes::{Block, Class, Classifier, HALF, NIBBLE_BITS};

/// That the processor has SSSE3: only [`with_ssse3`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ssse3(());

/// Runs `work` compiled for SSSE3, or not at all on a processor without it.
///
/// `work`, and all it calls that is to profit, has to be marked `#[inline(always)]`.
#[inline]
pub(crate) fn with_ssse3<R>(work: impl FnOnce(Ssse3) -> R) -> Option<R> {
    // SAFETY: the processor has just said that it has the feature `run` is compiled for.
    is_x86_feature_detected!("ssse3").then(|| unsafe { run(work) })
}

#[target_feature(enable = "ssse3")]
fn run<R>(work: impl FnOnce(Ssse3) -> R) -> R {
    work(Ssse3(()))
}

impl Classifier for Ssse3 {
    #[inline(always)]
    fn outside(self, class: &Class, block: Block<'_>) -> u64 {
        let [low, high] = self.loaded(block);
        // SAFETY: `self` says that the processor has SSSE3; the tables are 16 bytes, and loads of
        // them need no alignment.
        unsafe {
            let rows = _mm_loadu_si128(class.rows.as_ptr().cast());
            let bits = _mm_loadu_si128(NIBBLE_BITS.as_ptr().cast());
            let low = marks(not_in(rows, bits, low[0]), not_in(rows, bits, low[1]));
            let high = marks(not_in(rows, bits, high[0]), not_in(rows, bits, high[1]));
            block.joined([low, high])
        }
    }

    #[inline(always)]
    fn not_value(self, block: Block<'_>) -> u64 {
        let [low, high] = self.loaded(block);
        // SAFETY: `self` says that the processor has SSSE3.
        unsafe {
            let low = marks(control(low[0]), control(low[1]));
            block.joined([low, marks(control(high[0]), control(high[1]))])
        }
    }

    #[inline(always)]
    fn equal(self, byte: u8, block: Block<'_>) -> u64 {
        let [low, high] = self.loaded(block);
        // SAFETY: `self` says that the processor has SSSE3.
        unsafe {
            let wanted = _mm_set1_epi8(byte.cast_signed());
            let low = marks(_mm_cmpeq_epi8(low[0], wanted), _mm_cmpeq_epi8(low[1], wanted));
            let high = marks(_mm_cmpeq_epi8(high[0], wanted), _mm_cmpeq_epi8(high[1], wanted));
            block.joined([low, high])
        }
    }
}

impl Ssse3 {
    #[inline(always)]
    fn loaded(self, block: Block<'_>) -> [[__m128i; 2]; 2] {
        let [low, high] = block.halves();
        [self.half(low), self.half(high)]
    }

    #[inline(always)]
    fn half(self, half: &[u8; HALF]) -> [__m128i; 2] {
        let at = half.as_ptr().cast::<__m128i>();
        // SAFETY: `self` says that the processor has SSSE3; a half is twice 16 bytes, and loads need
        // no alignment.
        unsafe { [_mm_loadu_si128(at), _mm_loadu_si128(at.add(1))] }
    }
}

/// The bytes with these rows and bits where the two do not meet.
///
/// # Safety
/// The processor has SSSE3.
#[inline(always)]
unsafe fn not_in(rows: __m128i, bits: __m128i, bytes: __m128i) -> __m128i {
    // SAFETY: as the caller promises.
    unsafe {
        // A shuffle takes the low nibble of its index, and gives 0 where the index is 128 or more.
        let row = _mm_shuffle_epi8(rows, bytes);
        let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(0x0f));
        let bit = _mm_shuffle_epi8(bits, high);
        _mm_cmpeq_epi8(_mm_and_si128(row, bit), _mm_setzero_si128())
    }
}

/// The bytes below space, the tab excepted, and DEL.
///
/// # Safety
/// The processor has SSSE3.
#[inline(always)]
unsafe fn control(bytes: __m128i) -> __m128i {
    // SAFETY: as the caller promises.
    unsafe {
        let space = _mm_set1_epi8(b' '.cast_signed());
        let is_above = _mm_cmpeq_epi8(_mm_max_epu8(bytes, space), bytes);
        let is_tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\t'.cast_signed()));
        let is_delete = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        let is_value = _mm_andnot_si128(is_delete, _mm_or_si128(is_above, is_tab));
        _mm_cmpeq_epi8(is_value, _mm_setzero_si128())
    }
}

/// The marks of one half.
///
/// # Safety
/// The processor has SSSE3.
#[inline(always)]
unsafe fn marks(first: __m128i, second: __m128i) -> u32 {
    // SAFETY: as the caller promises.
    let (first, second) = unsafe { (_mm_movemask_epi8(first), _mm_movemask_epi8(second)) };
    first.cast_unsigned() | second.cast_unsigned() << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::classes::tests::assert_marks_as_the_oracle_does;

    #[test]
    fn marks_as_the_oracle_does() {
        assert_marks_as_the_oracle_does(|bytes, from, ask| {
            with_ssse3(|ssse3| ask(&ssse3, Block::of(bytes, from).0));
        });
    }
}
