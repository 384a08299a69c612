//! Products of stored weights with a vector, and their expansion, straight from how they are stored.
//!
//! A product multiplies values as soon as they are unpacked, while they are in registers. Its sums run in the 32 lanes of
//! [`vector::dot`](super::vector::dot), so it is the same to the bit as one with the expanded weight, on every instruction
//! set. The loops are compiled for AVX-512, for AVX2, and for the processor that the build was made for; the first of
//! these that runs here is taken.

use super::blocks::{
    Bf16, F16, F32, Format, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8_1, Q8K,
};
#[cfg(target_arch = "x86_64")]
use super::instructions::Avx2;
use super::instructions::{Instructions, LANES, Lanes, Portable};

/// How the elements of a weight are stored. Blocks are those of GGUF; 16-bit numbers in them are little-endian f16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

/// Runs `$function` with the format of a [`Stored`] as its first type.
macro_rules! with_format {
    ($stored:expr, $function:ident($($argument:expr),*)) => {
        match $stored {
            Stored::F32 => $function::<F32>($($argument),*),
            Stored::F16 => $function::<F16>($($argument),*),
            Stored::Bf16 => $function::<Bf16>($($argument),*),
            Stored::Q4_0 => $function::<Q4_0>($($argument),*),
            Stored::Q4_1 => $function::<Q4_1>($($argument),*),
            Stored::Q5_0 => $function::<Q5_0>($($argument),*),
            Stored::Q5_1 => $function::<Q5_1>($($argument),*),
            Stored::Q8_0 => $function::<Q8_0>($($argument),*),
            Stored::Q8_1 => $function::<Q8_1>($($argument),*),
            Stored::Q2K => $function::<Q2K>($($argument),*),
            Stored::Q3K => $function::<Q3K>($($argument),*),
            Stored::Q4K => $function::<Q4K>($($argument),*),
            Stored::Q5K => $function::<Q5K>($($argument),*),
            Stored::Q6K => $function::<Q6K>($($argument),*),
            Stored::Q8K => $function::<Q8K>($($argument),*),
        }
    };
}

impl Stored {
    /// Bytes of `count` values that begin at a block.
    pub(crate) fn bytes(self, count: usize) -> usize {
        with_format!(self, bytes_of(count))
    }
}

/// A plain number is a block of its own, however many are unpacked at once.
#[inline(always)]
fn bytes_of<F: Format>(count: usize) -> usize {
    if F::PLAIN { count * (F::BYTES / F::VALUES) } else { count / F::VALUES * F::BYTES }
}

/// yᵢ = Σⱼ Wᵢⱼ·xⱼ for the rows of W that `bytes` holds, one after the other, each as long as x.
pub(crate) fn dots(stored: Stored, bytes: &[u8], x: &[f32], y: &mut [f32]) {
    with_format!(stored, run_dots(bytes, x, y));
}

/// The values of `bytes` in f32, until `out` is full.
pub(crate) fn expand(stored: Stored, bytes: &[u8], out: &mut [f32]) {
    with_format!(stored, run_expand(bytes, out));
}

/// A function for each instruction set, the best of them picked at run time.
macro_rules! dispatched {
    ($name:ident => $inner:ident($($argument:ident: $type:ty),*)) => {
        fn $name<F: Format>($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c")]
                fn avx512<F: Format>($($argument: $type),*) {
                    $inner::<F, Avx2>($($argument),*);
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2<F: Format>($($argument: $type),*) {
                    $inner::<F, Avx2>($($argument),*);
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                    let wide = is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512cd")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512vl");
                    // SAFETY: the processor has what the functions are compiled for.
                    return unsafe { if wide { avx512::<F>($($argument),*) } else { avx2::<F>($($argument),*) } };
                }
            }
            $inner::<F, Portable>($($argument),*);
        }
    };
}
dispatched!(run_dots => dots_of(bytes: &[u8], x: &[f32], y: &mut [f32]));
dispatched!(run_expand => expand_of(bytes: &[u8], out: &mut [f32]));

/// Bytes of one step of [`Format::unpack`] on plain numbers, at most.
const STEP: usize = 4 * LANES;

#[inline(always)]
fn dots_of<F: Format, I: Instructions>(bytes: &[u8], x: &[f32], y: &mut [f32]) {
    let row_bytes = bytes_of::<F>(x.len());
    if row_bytes == 0 {
        return y.fill(0.0);
    }
    for (y, row) in y.iter_mut().zip(bytes.chunks_exact(row_bytes)) {
        *y = dot_of::<F, I>(row, x);
    }
}

#[inline(always)]
fn dot_of<F: Format, I: Instructions>(row: &[u8], x: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (blocks, inputs) = (row.chunks_exact(F::BYTES), x.chunks_exact(F::VALUES));
    let (rest, rest_of_x) = (blocks.remainder(), inputs.remainder());
    for (block, x) in blocks.zip(inputs) {
        I::fetch_ahead(block);
        F::unpack::<I>(
            block,
            #[inline(always)]
            |at, values| multiply(&mut lanes, values, &x[at..]),
        );
    }
    if F::PLAIN && !rest.is_empty() {
        let (mut block, mut x) = ([0u8; STEP], [0f32; LANES]);
        block[..rest.len()].copy_from_slice(rest);
        x[..rest_of_x.len()].copy_from_slice(rest_of_x);
        F::unpack::<I>(&block[..F::BYTES], |_, values| multiply(&mut lanes, values, &x));
    }
    I::sum(lanes)
}

/// lanes += values ⊙ x
#[inline(always)]
fn multiply(lanes: &mut Lanes, values: &Lanes, x: &[f32]) {
    for (lane, (value, x)) in lanes.iter_mut().zip(values.iter().zip(&x[..LANES])) {
        *lane = value.mul_add(*x, *lane);
    }
}

#[inline(always)]
fn expand_of<F: Format, I: Instructions>(bytes: &[u8], out: &mut [f32]) {
    let (blocks, mut outputs) = (bytes.chunks_exact(F::BYTES), out.chunks_exact_mut(F::VALUES));
    let rest = blocks.remainder();
    for (block, out) in blocks.zip(&mut outputs) {
        F::unpack::<I>(
            block,
            #[inline(always)]
            |at, values| out[at..at + LANES].copy_from_slice(values),
        );
    }
    let out = outputs.into_remainder();
    if F::PLAIN && !out.is_empty() {
        let mut block = [0u8; STEP];
        block[..rest.len()].copy_from_slice(rest);
        F::unpack::<I>(&block[..F::BYTES], |_, values| out.copy_from_slice(&values[..out.len()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::vector;
    use candle_core::quantized::k_quants::{self as k, GgmlType};
    use half::{bf16, f16};

    const ALL: [Stored; 15] = [
        Stored::F32,
        Stored::F16,
        Stored::Bf16,
        Stored::Q4_0,
        Stored::Q4_1,
        Stored::Q5_0,
        Stored::Q5_1,
        Stored::Q8_0,
        Stored::Q8_1,
        Stored::Q2K,
        Stored::Q3K,
        Stored::Q4K,
        Stored::Q5K,
        Stored::Q6K,
        Stored::Q8K,
    ];

    /// What candle makes of the same bytes.
    fn by_candle(stored: Stored, bytes: &[u8]) -> Vec<f32> {
        fn of<B: GgmlType>(bytes: &[u8]) -> Vec<f32> {
            let mut blocks: Vec<B> = (0..bytes.len() / size_of::<B>()).map(|_| B::zeros()).collect();
            // SAFETY: the blocks are plain numbers for which every bit pattern is a value, and as many bytes.
            unsafe {
                let to = blocks.as_mut_ptr().cast::<u8>();
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, size_of_val(&blocks[..]));
            }
            let mut values = vec![0f32; blocks.len() * B::BLCK_SIZE];
            B::to_float(&blocks, &mut values);
            values
        }
        match stored {
            Stored::F32 => of::<f32>(bytes),
            Stored::F16 => of::<f16>(bytes),
            Stored::Bf16 => of::<bf16>(bytes),
            Stored::Q4_0 => of::<k::BlockQ4_0>(bytes),
            Stored::Q4_1 => of::<k::BlockQ4_1>(bytes),
            Stored::Q5_0 => of::<k::BlockQ5_0>(bytes),
            Stored::Q5_1 => of::<k::BlockQ5_1>(bytes),
            Stored::Q8_0 => of::<k::BlockQ8_0>(bytes),
            Stored::Q8_1 => of::<k::BlockQ8_1>(bytes),
            Stored::Q2K => of::<k::BlockQ2K>(bytes),
            Stored::Q3K => of::<k::BlockQ3K>(bytes),
            Stored::Q4K => of::<k::BlockQ4K>(bytes),
            Stored::Q5K => of::<k::BlockQ5K>(bytes),
            Stored::Q6K => of::<k::BlockQ6K>(bytes),
            Stored::Q8K => of::<k::BlockQ8K>(bytes),
        }
    }

    /// `count` values whose bytes look random. Where a scale has 16 bits they have all bits, and blocks that are not
    /// finite are drawn again; numbers of a wide range are kept so small that sums of their products are finite.
    fn bytes(stored: Stored, count: usize, seed: u32) -> Vec<u8> {
        let is_wide = matches!(stored, Stored::F32 | Stored::Bf16 | Stored::Q8K);
        let mask = if is_wide { !0x44 } else { !0 };
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & mask
        };
        let size = (1..=256).map(|values| stored.bytes(values)).find(|bytes| *bytes > 0).unwrap();
        let mut block = || loop {
            let drawn: Vec<u8> = (0..size).map(|_| next()).collect();
            if by_candle(stored, &drawn).iter().all(|value| value.is_finite()) {
                return drawn;
            }
        };
        (0..stored.bytes(count) / size).flat_map(|_| block()).collect()
    }

    fn wave(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn values_are_those_of_candle() {
        for stored in ALL {
            let bytes = bytes(stored, 6 * 256, 7);
            let mut values = vec![0f32; 6 * 256];
            expand(stored, &bytes, &mut values);
            assert_eq!(values, by_candle(stored, &bytes), "{stored:?}");
            assert!(values.iter().any(|v| *v < 0.0) && values.iter().any(|v| *v > 0.0), "{stored:?}");
        }
    }

    #[test]
    fn products_are_those_of_the_expanded_weight() {
        for stored in ALL {
            for (rows, width) in [(1, 256), (3, 768), (5, 1536)] {
                let (bytes, x) = (bytes(stored, rows * width, 3), wave(width));
                let (mut values, mut y) = (vec![0f32; rows * width], vec![0f32; rows]);
                expand(stored, &bytes, &mut values);
                dots(stored, &bytes, &x, &mut y);
                for (y, w) in y.iter().zip(values.chunks_exact(width)) {
                    let expanded = vector::simd(|| vector::dot(w, &x));
                    assert_eq!(y.to_bits(), expanded.to_bits(), "{stored:?} {width}");
                    let terms = || w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (exact, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    assert!((f64::from(*y) - exact).abs() <= 1e-6 * size, "{stored:?} {y} {exact}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same() {
        fn portable<F: Format>(bytes: &[u8], x: &[f32], y: &mut [f32], values: &mut [f32]) {
            dots_of::<F, Portable>(bytes, x, y);
            expand_of::<F, Portable>(bytes, values);
        }
        // Where there is AVX-512 too, the other functions take that.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<F: Format>(bytes: &[u8], x: &[f32], y: &mut [f32], values: &mut [f32]) {
            dots_of::<F, Avx2>(bytes, x, y);
            expand_of::<F, Avx2>(bytes, values);
        }
        for stored in ALL {
            let (bytes, x) = (bytes(stored, 4 * 256, 11), wave(256));
            let (mut y, mut values) = ([[0f32; 4]; 2], [vec![0f32; 4 * 256], vec![0f32; 4 * 256]]);
            dots(stored, &bytes, &x, &mut y[0]);
            expand(stored, &bytes, &mut values[0]);
            with_format!(stored, portable(&bytes, &x, &mut y[1], &mut values[1]));
            assert_eq!(y[0], y[1], "{stored:?}");
            assert_eq!(values[0], values[1], "{stored:?}");
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                // SAFETY: the processor has what the function is compiled for.
                unsafe { with_format!(stored, avx2(&bytes, &x, &mut y[1], &mut values[1])) };
                assert_eq!(y[0], y[1], "{stored:?}");
                assert_eq!(values[0], values[1], "{stored:?}");
            }
        }
    }

    #[test]
    fn rows_of_plain_numbers_may_end_anywhere() {
        for stored in [Stored::F32, Stored::F16, Stored::Bf16] {
            for width in [0, 1, 8, 31, 32, 33, 100] {
                let (bytes, x) = (bytes(stored, 2 * width, 5), wave(width));
                let (mut values, mut y) = (vec![0f32; 2 * width], [f32::NAN; 2]);
                expand(stored, &bytes, &mut values);
                assert_eq!(values, by_candle(stored, &bytes), "{stored:?} {width}");
                dots(stored, &bytes, &x, &mut y);
                for (row, y) in y.iter().enumerate() {
                    assert_eq!(*y, vector::dot(&values[row * width..][..width], &x), "{stored:?} {width}");
                }
            }
        }
    }

    #[test]
    fn all_halves_are_converted() {
        for bits in 0..=u16::MAX {
            let (ours, truth) = (Portable::half(bits), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == truth.to_bits() || (ours.is_nan() && truth.is_nan()), "{bits}");
        }
        let mut y = [0f32];
        dots(Stored::F16, &f16::INFINITY.to_le_bytes(), &[2.0], &mut y);
        assert_eq!(y, [f32::INFINITY]);
        dots(Stored::Bf16, &bf16::NAN.to_le_bytes(), &[2.0], &mut y);
        assert!(y[0].is_nan());
    }
}
