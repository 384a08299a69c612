//! What is done with instructions of its own because the compiler does not find them, for each instruction set.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _MM_HINT_T0, _mm_add_ps, _mm_add_ss, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_cvtss_f32,
    _mm_movehdup_ps, _mm_movehl_ps, _mm_prefetch, _mm_storeu_ps, _mm256_add_ps, _mm256_castps256_ps128,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_extractf128_ps, _mm256_loadu_ps, _mm256_mul_ps,
    _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps,
};

/// Values that are computed at once, and partial sums of a dot product.
pub(super) const LANES: usize = 32;
pub(super) type Lanes = [f32; LANES];

/// What an instruction set does better than the compiler.
pub(super) trait Instructions {
    /// f16 to f32, in a loop.
    fn half(bits: u16) -> f32;

    /// Four f16 to f32.
    fn halves(bytes: [u8; 8]) -> [f32; 4];

    /// d·(b − offset) of eight bytes b, the lowest first.
    fn scaled(bytes: u64, offset: f32, d: f32) -> [f32; 8];

    /// Σ lanes: the upper half is added to the lower one until one is left.
    fn sum(lanes: Lanes) -> f32;

    /// Asks for the bytes that lie as far behind these as takes a fetch from memory: the processor's own guess is late at
    /// the pace of a product (measured: a fifth of its time). They need not exist.
    fn fetch_ahead(bytes: &[u8]);
}

/// The same on every processor.
pub(super) struct Portable;

impl Instructions for Portable {
    #[inline(always)]
    fn half(bits: u16) -> f32 {
        let magnitude = (u32::from(bits) & 0x7fff) << 13;
        let value = match magnitude {
            0x0f80_0000.. => magnitude + (224 << 23), // infinities and NaN
            0x0080_0000.. => magnitude + (112 << 23),
            // Subnormal numbers: 2⁻¹⁴ (1 + m/1024) − 2⁻¹⁴.
            _ => (f32::from_bits(magnitude + (113 << 23)) - f32::from_bits(113 << 23)).to_bits(),
        };
        f32::from_bits(value | (u32::from(bits) & 0x8000) << 16)
    }

    #[inline(always)]
    fn halves(bytes: [u8; 8]) -> [f32; 4] {
        std::array::from_fn(|i| Self::half(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])))
    }

    #[inline(always)]
    fn scaled(bytes: u64, offset: f32, d: f32) -> [f32; 8] {
        bytes.to_le_bytes().map(|b| d * (f32::from(b) - offset))
    }

    #[inline(always)]
    fn sum(mut lanes: Lanes) -> f32 {
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    #[inline(always)]
    fn fetch_ahead(_: &[u8]) {}
}

/// Bytes between what is computed and what is fetched.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 2048;

/// AVX2 with FMA and F16C, and what has more.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Instructions for Avx2 {
    #[inline(always)]
    fn half(bits: u16) -> f32 {
        // SAFETY: only the functions that are compiled for F16C name this type.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
    }

    #[inline(always)]
    fn halves(bytes: [u8; 8]) -> [f32; 4] {
        // SAFETY: only the functions that are compiled for F16C name this type.
        let mut halves = unsafe { _mm_cvtph_ps(_mm_cvtsi64_si128(i64::from_le_bytes(bytes))) };
        // SAFETY: no instruction. Without it the compiler converts the one number that is used in a register whose other
        // contents, though without meaning, have to be waited for.
        unsafe {
            std::arch::asm!("/* {0} */", inout(xmm_reg) halves, options(pure, nomem, nostack, preserves_flags))
        };
        let mut four = [0f32; 4];
        // SAFETY: four numbers of 32 bits have the size of the register.
        unsafe { _mm_storeu_ps(four.as_mut_ptr(), halves) };
        four
    }

    #[inline(always)]
    fn scaled(bytes: u64, offset: f32, d: f32) -> [f32; 8] {
        let mut eight = [0f32; 8];
        // SAFETY: only the functions that are compiled for AVX2 name this type; eight numbers of 32 bits have the size of
        // the register.
        unsafe {
            let b = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)));
            let scaled = _mm256_mul_ps(_mm256_set1_ps(d), _mm256_sub_ps(b, _mm256_set1_ps(offset)));
            _mm256_storeu_ps(eight.as_mut_ptr(), scaled);
        }
        eight
    }

    #[inline(always)]
    fn sum(lanes: Lanes) -> f32 {
        // SAFETY: only the functions that are compiled for AVX2 name this type; the four pieces of 8 lie within the 32.
        unsafe {
            let piece = |i: usize| _mm256_loadu_ps(lanes.as_ptr().add(8 * i));
            let (low, high) = (_mm256_add_ps(piece(0), piece(2)), _mm256_add_ps(piece(1), piece(3)));
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn fetch_ahead(bytes: &[u8]) {
        for at in (0..bytes.len()).step_by(64) {
            // SAFETY: a hint, which fails nowhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(AHEAD + at).cast()) };
        }
    }
}
