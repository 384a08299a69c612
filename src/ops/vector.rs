//! Loops over f32 slices that the compiler turns into vector instructions.
//!
//! [`simd`] compiles a closure for the widest instruction set and picks it at run time; that reaches
//! only what is inlined into it, so such closures say `#[inline(always)]` (measured: without it each
//! `mul_add` was a call of libm). Sums run in a fixed number of lanes, so the result does not depend
//! on the instruction set or on threads.

use rayon::prelude::*;

/// Runs a closure compiled for the processor at hand.
#[inline(always)]
pub(crate) fn simd<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Values that one task of a parallel loop handles: 64 KiB, half of a first-level cache and more
/// than what it costs to hand a task over.
const TASK: usize = 16 * 1024;

/// Splits `y` into pieces of whole rows and runs `work` on pieces in parallel.
pub(crate) fn for_rows(y: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (TASK / width.max(1)).max(1);
    let piece = rows * width.max(1);
    y.par_chunks_mut(piece).enumerate().for_each(|(i, y)| {
        simd(
            #[inline(always)]
            || work(i * rows, y),
        )
    });
}

/// The same over two slices of equal length.
pub(crate) fn for_rows2(y: &mut [f32], x: &[f32], width: usize, work: impl Fn(&mut [f32], &[f32]) + Sync) {
    let piece = (TASK / width.max(1)).max(1) * width.max(1);
    y.par_chunks_mut(piece).zip(x.par_chunks(piece)).for_each(|(y, x)| {
        simd(
            #[inline(always)]
            || work(y, x),
        )
    });
}

/// The place of the first value that is NaN or whose magnitude is above `limit`; `f32::MAX` finds what is not finite.
///
/// Without the sign, the bits of floats order as the numbers do, infinity and NaN above all others. A search that
/// may end at each element is no vector loop; the largest of a piece is.
pub(crate) fn first_above(x: &[f32], limit: f32) -> Option<usize> {
    const SIGN: u32 = 1 << 31;
    let limit = limit.to_bits();
    x.par_chunks(TASK).enumerate().find_map_first(|(i, piece)| {
        let largest = simd(
            #[inline(always)]
            || piece.iter().fold(0, |largest: u32, x| largest.max(x.to_bits() & !SIGN)),
        );
        let inside = || piece.iter().position(|x| x.to_bits() & !SIGN > limit);
        if largest > limit { inside().map(|at| i * TASK + at) } else { None }
    })
}

const LANES: usize = 32;

/// Folds in `LANES` independent lanes, then over the lanes in order.
#[inline(always)]
fn fold<const N: usize>(
    xs: [&[f32]; N],
    start: f32,
    f: impl Fn(f32, [f32; N]) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let length = xs[0].len();
    let mut lanes = [start; LANES];
    let whole = length - length % LANES;
    let mut i = 0;
    while i < whole {
        let rows: [&[f32; LANES]; N] =
            std::array::from_fn(|n| xs[n][i..i + LANES].as_array().unwrap_or(&[0.0; LANES]));
        for (lane, acc) in lanes.iter_mut().enumerate() {
            *acc = f(*acc, std::array::from_fn(|n| rows[n][lane]));
        }
        i += LANES;
    }
    for (lane, i) in (whole..length).enumerate() {
        lanes[lane] = f(lanes[lane], std::array::from_fn(|n| xs[n][i]));
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Σ x·y
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    fold(
        [x, y],
        0.0,
        #[inline(always)]
        |acc, [x, y]| x.mul_add(y, acc),
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Σ x·y·z
#[inline(always)]
pub(crate) fn dot3(x: &[f32], y: &[f32], z: &[f32]) -> f32 {
    let (y, z) = (&y[..x.len()], &z[..x.len()]);
    fold(
        [x, y, z],
        0.0,
        #[inline(always)]
        |acc, [x, y, z]| (x * y).mul_add(z, acc),
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Σ x
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    fold(
        [x],
        0.0,
        #[inline(always)]
        |acc, [x]| acc + x,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Σ (x − mean)²
#[inline(always)]
pub(crate) fn square_from_mean(x: &[f32], mean: f32) -> f32 {
    fold(
        [x],
        0.0,
        #[inline(always)]
        |acc, [x]| (x - mean).mul_add(x - mean, acc),
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Σ g·(x − mean)
#[inline(always)]
pub(crate) fn dot_from_mean(g: &[f32], x: &[f32], mean: f32) -> f32 {
    let x = &x[..g.len()];
    fold(
        [g, x],
        0.0,
        #[inline(always)]
        |acc, [g, x]| g.mul_add(x - mean, acc),
        #[inline(always)]
        |a, b| a + b,
    )
}

/// The largest value; NaN when there is one.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    fold(
        [x],
        f32::NEG_INFINITY,
        #[inline(always)]
        |acc, [x]| larger(acc, x),
        larger,
    )
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// x ← exp(x − shift); gives the sum.
#[inline(always)]
pub(crate) fn exp_sum(x: &mut [f32], shift: f32) -> f32 {
    for x in x.iter_mut() {
        *x = exp(*x - shift);
    }
    sum(x)
}

/// e^x to within 2 units in the last place, without branches so that it vectorises; 0 below −87.3
/// and at most e^88.3 above, NaN for NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, and a polynomial for e^r (Cephes `expf`, S. Moshier).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it leaves the nearest integer in the low bits
    let tiny = x < -87.3;
    let x = if x > 88.3 { 88.3 } else { x };
    let x = if tiny { -87.3 } else { x };
    let shifted = x.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let e = p.mul_add(r * r, r + 1.0);
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    if tiny { 0.0 } else { e * f32::from_bits(power) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_above_a_limit_is_found() {
        let mut x = vec![1.0f32; 3 * TASK + 5];
        (x[7], x[TASK]) = (-3.0, f32::MIN_POSITIVE / 4.0);
        assert_eq!(first_above(&x, 3.0), None);
        assert_eq!(first_above(&x, 2.9), Some(7));
        assert_eq!(first_above(&[], f32::MAX), None);
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 8, TASK - 1, TASK, 3 * TASK + 4] {
                x[at] = bad;
                assert_eq!(first_above(&x, f32::MAX), Some(at));
                let later = std::mem::replace(&mut x[3 * TASK + 3], f32::NAN);
                assert_eq!(first_above(&x, f32::MAX), Some(at.min(3 * TASK + 3)));
                (x[3 * TASK + 3], x[at]) = (later, 1.0);
            }
        }
        assert_eq!(first_above(&[f32::MAX, -f32::MAX], f32::MAX), None);
    }

    #[test]
    fn exp_is_right_to_two_units() {
        let mut worst = 0f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let truth = (x as f64).exp();
            worst = worst.max((exp(x) as f64 - truth).abs() / truth);
        }
        assert!(worst < 2.4e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn folds_agree_with_plain_sums_at_odd_lengths() {
        for n in [0, 1, 31, 32, 33, 577] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
            let y: Vec<f32> = (0..n).map(|i| (i as f32 * 0.11).cos()).collect();
            let sum: f64 = x.iter().zip(&y).map(|(a, b)| *a as f64 * *b as f64).sum();
            assert!((dot(&x, &y) as f64 - sum).abs() < 1e-4, "{n}");
            let sum: f64 = x.iter().zip(&y).map(|(a, b)| *a as f64 * *b as f64 * *a as f64).sum();
            assert!((dot3(&x, &y, &x) as f64 - sum).abs() < 1e-4, "{n}");
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        assert!(max(&[1.0, f32::NAN, 2.0]).is_nan());
    }
}
