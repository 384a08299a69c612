//! Singular values alone: a matrix is made bidiagonal, and each value of that is exact to a few ε of itself, down to
//! 10⁻¹⁴⁰ of the largest; smaller ones count as 0.

use crate::ops::vector::simd;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::bidiag::{bidiag_in_place, bidiag_in_place_scratch};
use faer::{Mat, Par};
use std::array::from_fn;

/// Values that are sought side by side: four of the widest vectors, so that one division does not wait for another.
const LANES: usize = 32;
/// σ² that counts as 0, beside a largest entry of 1: squares lose digits below it.
const NOTHING: f64 = 1e-280;
/// Probes of one group of values; about 15 are usual.
const ROUNDS: usize = 2000;

type Lanes = [f64; LANES];

/// U·B·Vᵀ of a matrix `[m, n]` with m ≥ n.
pub(super) struct Bidiagonal {
    diagonal: Vec<f64>,
    above: Vec<f64>,
    /// Below the diagonal the reflectors that make U, v_k[k] = 1 implied.
    reflectors: Mat<f64>,
}

impl Bidiagonal {
    pub(super) fn new(mut matrix: Mat<f64>) -> Self {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        let (mut left, mut right) = (Mat::zeros(1, columns), Mat::zeros(1, columns.saturating_sub(1)));
        let mut buffer =
            MemBuffer::new(bidiag_in_place_scratch::<f64>(rows, columns, Par::Seq, Default::default()));
        let stack = MemStack::new(&mut buffer);
        let out = (left.as_mut(), right.as_mut());
        // The adapters run in parallel; one core of r×r is too small to share.
        bidiag_in_place(matrix.as_mut(), out.0, out.1, Par::Seq, stack, Default::default());
        Self {
            diagonal: (0..columns).map(|k| matrix[(k, k)]).collect(),
            above: (1..columns).map(|k| matrix[(k - 1, k)]).collect(),
            reflectors: matrix,
        }
    }

    /// The singular values, descending; none when a number is not finite.
    pub(super) fn singular_values(&self) -> Option<Vec<f64>> {
        values(&self.diagonal, &self.above)
    }

    /// How much larger than ε·dᵢ the rounding in row i was, by the length dᵢ that the row had at first: reflector k
    /// adds v_k\[i\] times row k to it.
    pub(super) fn growth(&self, lengths: &[f64]) -> f64 {
        let below = |k: usize| (k + 1..lengths.len()).filter(|i| lengths[*i] > 0.0);
        let of = |i: usize, k: usize| self.reflectors[(i, k)].abs() * lengths[k] / lengths[i];
        (0..self.diagonal.len()).flat_map(|k| below(k).map(move |i| of(i, k))).fold(0.0, f64::max)
    }
}

/// The singular values of the upper bidiagonal matrix with `diagonal` and `above`, descending; None where one of
/// the numbers is not finite.
///
/// σ² are the eigenvalues of BᵀB. As many are below x as BᵀB − x has negative pivots, which the stationary
/// quotient-difference recurrence finds from the entries of B (Fernando & Parlett 1994, *Accurate singular values
/// and differential qd algorithms*). Its rounding amounts to a change of each entry by a few ε of itself, and
/// that moves no σ by more than about 2·n·ε of itself (Demmel & Kahan 1990, *Accurate singular values of
/// bidiagonal matrices*). Brackets are divided until each holds one value; then Newton's steps towards a zero of
/// the determinant close it.
fn values(diagonal: &[f64], above: &[f64]) -> Option<Vec<f64>> {
    let size = diagonal.len();
    if diagonal.iter().chain(above).any(|x| !x.is_finite()) {
        return None;
    }
    let peak = diagonal.iter().chain(above).fold(0.0_f64, |peak, x| peak.max(x.abs()));
    if peak == 0.0 {
        return Some(vec![0.0; size]);
    }
    let square = |x: &f64| (x / peak) * (x / peak);
    let q: Vec<f64> = diagonal.iter().map(square).collect();
    let e: Vec<f64> = above.iter().map(square).chain([0.0]).collect();
    let mut found = Vec::with_capacity(size);
    let mut floor = NOTHING;
    for first in (0..size).step_by(LANES) {
        let count = LANES.min(size - first);
        let group = simd(
            #[inline(always)]
            || group(&q, &e, first, count, floor),
        )?;
        floor = group[count - 1].0;
        found.extend(group[..count].iter().map(|(low, high)| match *low > NOTHING {
            true => ((low + high) / 2.0).sqrt() * peak,
            false => 0.0,
        }));
    }
    // Equal ones may be a last bit out of order.
    found.sort_by(|x, y| y.total_cmp(x));
    Some(found)
}

/// Brackets of the eigenvalues `first`.. of BᵀB in ascending order, all of them at least `floor`.
#[inline(always)]
fn group(q: &[f64], e: &[f64], first: usize, count: usize, floor: f64) -> Option<[(f64, f64); LANES]> {
    // ‖B‖² ≤ ‖B‖₁·‖B‖_∞ ≤ 4.
    let mut brackets = [(floor, 4.0 + 1e-9); LANES];
    let mut newton: Lanes = [f64::NAN; LANES];
    let mut steps: Lanes = [0.0; LANES];
    let mut x: Lanes = [1.0; LANES];
    for _ in 0..ROUNDS {
        let (mut open, mut alone) = (false, [false; LANES]);
        let mut k = 0;
        while k < count {
            let (low, high) = brackets[k];
            let mut end = k + 1;
            while end < count && brackets[end] == brackets[k] {
                end += 1;
            }
            alone[k] = end == k + 1;
            let narrow = high - low <= 4.0 * f64::EPSILON * high;
            open |= !narrow;
            for (at, x) in x[k..end].iter_mut().enumerate() {
                let part = (at + 1) as f64 / (end - k + 1) as f64;
                *x = if narrow {
                    high
                } else if alone[k] && newton[k] > low && newton[k] < high {
                    newton[k]
                } else if high > 4.0 * low {
                    low * (high / low).powf(part)
                } else {
                    low + (high - low) * part
                };
            }
            k = end;
        }
        if !open {
            return Some(brackets);
        }
        let (below, slope) = probe(q, e, &x);
        for k in 0..count {
            let (low, high) = brackets[k];
            let (mut new_low, mut new_high) = (low, high);
            let probes = if alone[k] { k..k + 1 } else { 0..count };
            for at in probes {
                if below[at] <= (first + k) as f64 {
                    new_low = new_low.max(x[at]);
                } else {
                    new_high = new_high.min(x[at]);
                }
            }
            brackets[k] = (new_low, new_high);
            // A little too far, so that the bracket closes from both sides; none where the last was of no use.
            let step = -1.0 / slope[k];
            let useful = step.abs() <= 0.5 * steps[k] || new_high - new_low <= 0.6 * (high - low);
            newton[k] = if useful {
                x[k] + step + step.signum() * (1e-3 * step.abs()).max(f64::EPSILON * x[k])
            } else {
                f64::NAN
            };
            steps[k] = step.abs();
        }
    }
    None
}

/// For each x the number of eigenvalues of BᵀB below it, and Σ 1 / (x − λ).
#[inline(always)]
fn probe(q: &[f64], e: &[f64], x: &Lanes) -> (Lanes, Lanes) {
    const TINY: f64 = 1e-300;
    let (mut below, mut slope) = ([0.0; LANES], [0.0; LANES]);
    let mut t: Lanes = from_fn(|k| -x[k]);
    let mut dt: Lanes = [-1.0; LANES];
    for (&q, &e) in q.iter().zip(e) {
        for k in 0..LANES {
            let pivot = q + t[k];
            let pivot = if pivot.abs() < TINY { -TINY } else { pivot };
            let inverse = 1.0 / pivot;
            below[k] += if pivot < 0.0 { 1.0 } else { 0.0 };
            let ratio = dt[k] * inverse;
            slope[k] += ratio;
            t[k] = e * (t[k] * inverse) - x[k];
            dt[k] = e * (ratio * (q * inverse)) - 1.0;
        }
    }
    (below, slope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::random::{Random, Stream};

    fn each_close(found: &[f64], known: &[f64], part: f64) {
        assert_eq!(found.len(), known.len());
        for (found, known) in found.iter().zip(known) {
            assert!((found - known).abs() <= part * known, "{found:e} for {known:e}");
        }
    }

    #[test]
    fn known_values() {
        let golden = (1.0 + 5f64.sqrt()) / 2.0;
        each_close(&values(&[1.0, 1.0], &[1.0]).unwrap(), &[golden, 1.0 / golden], 4e-16);
        each_close(&values(&[-2.0], &[]).unwrap(), &[2.0], 0.0);
        assert_eq!(values(&[], &[]), Some(vec![]));
        assert_eq!(values(&[0.0; 5], &[0.0; 4]), Some(vec![0.0; 5]));
        // No value is lost between groups, and equal ones stay together.
        for size in [1, 31, 32, 33, 70, 97] {
            each_close(&values(&vec![3.0; size], &vec![0.0; size - 1]).unwrap(), &vec![3.0; size], 1e-15);
        }
        // 2 cos(kπ / (2n + 1)) of ones on and above the diagonal, all of size 1.
        let (size, angle) = (75, std::f64::consts::PI / 151.0);
        let known: Vec<f64> = (1..=size).map(|k| 2.0 * (k as f64 * angle).cos()).collect();
        each_close(&values(&vec![1.0; size], &vec![1.0; size - 1]).unwrap(), &known, 1e-13);
        // A row of zeros: one σ is 0, the others those of what is left.
        let found = values(&[3.0, 0.0, 5.0], &[4.0, 0.0]).unwrap();
        assert!(
            (found[0] - 5.0).abs() < 1e-14 && (found[1] - 5.0).abs() < 1e-14 && found[2] == 0.0,
            "{found:?}"
        );
    }

    #[test]
    fn small_values_are_as_exact_as_large_ones() {
        // [1, 1; 0, t]: σ₁·σ₂ = t and σ₁² + σ₂² = 2 + t².
        for t in [1e-3, 1e-9, 1e-30, 1e-120] {
            let found = values(&[1.0, t], &[1.0]).unwrap();
            let first = ((2.0 + t * t + (4.0 + t.powi(4)).sqrt()) / 2.0).sqrt();
            each_close(&found, &[first, t / first], 4e-16);
        }
        let mut random = Random::at(1, Stream::Control, 0, 0);
        for last in [1.0, 1e-8, 1e-60] {
            let fall = |k: usize| f64::powf(last, k as f64 / 99.0);
            let diagonal: Vec<f64> = (0..100).map(|k| (0.1 + random.unit()) * fall(k)).collect();
            let above: Vec<f64> = (0..99).map(|k| (0.1 + random.unit()) * fall(k)).collect();
            let found = values(&diagonal, &above).unwrap();
            // The product of all is |det B|, and hangs on the small ones as on the large ones.
            let off = found.iter().zip(&diagonal).map(|(x, y)| (x / y).ln()).sum::<f64>();
            assert!(off.abs() < 1e-12, "{last}: {off:e}");
            assert!(found.is_sorted_by(|x, y| x >= y));
            let turned: Vec<f64> = found.iter().map(|x| -x * 1e-9).rev().collect();
            each_close(
                &values(&turned, &[0.0; 99]).unwrap(),
                &found.iter().map(|x| x * 1e-9).collect::<Vec<_>>(),
                4e-16,
            );
        }
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(values(&[1.0, bad], &[1.0]), None);
            assert_eq!(values(&[1.0, 1.0], &[bad]), None);
            let matrix = Mat::from_fn(4, 3, |i, k| if (i, k) == (2, 1) { bad } else { 1.0 });
            assert_eq!(Bidiagonal::new(matrix).singular_values(), None);
        }
    }

    #[test]
    fn equals_the_dense_decomposition() {
        let mut random = Random::at(2, Stream::Control, 0, 0);
        for (rows, columns) in [(1, 1), (2, 1), (7, 5), (33, 33), (150, 67), (130, 129)] {
            let matrix = Mat::from_fn(rows, columns, |_, _| random.normal());
            let known = matrix.singular_values().unwrap();
            let found = Bidiagonal::new(matrix).singular_values().unwrap();
            for (found, known_one) in found.iter().zip(&known) {
                // Both are off by a few ε·σ₁ for each row and column.
                let bound = 4.0 * (rows + columns) as f64 * f64::EPSILON * known[0];
                assert!((found - known_one).abs() < bound, "{rows}×{columns}");
            }
        }
    }
}
