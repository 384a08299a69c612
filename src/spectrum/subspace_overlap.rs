//! Whether two adapters, or two trainings, found the same directions.

use super::Vectors;
use super::factor_matrix::{FactorNumbers, HostNumbers};
use super::jacobi::{Want, decompose};
use crate::display::{Align, Table};
use crate::error::{Error, Result};
use crate::ops::random::{Random, Stream};
use candle_core::{DType, Device, Tensor};
use faer::Mat;
use polars::prelude::{DataFrame, df};

/// Which singular vectors are compared: those of ΔW, or those of A or B by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// V of ΔW: directions of the input. They span what the rows of A span, but in the order of ΔW, which B
    /// decides too.
    #[default]
    Right,
    /// U of ΔW: directions of the output.
    Left,
    /// The right singular vectors of A alone, whatever B is: what the paper compares in §7.2 and figure 3
    /// (U_A, "the right-singular unitary matrices" of A). Where a start is taken off (PiSSA), A has the rows
    /// of both.
    A,
    /// The left singular vectors of B alone.
    B,
}

impl Side {
    /// What they are, in the words of a caption.
    pub(super) fn called(self) -> &'static str {
        match self {
            Self::Right => "right singular vectors",
            Self::Left => "left singular vectors",
            Self::A => "singular vectors of A",
            Self::B => "singular vectors of B",
        }
    }
}

/// How much of the first i directions of one ΔW lies in the first j of another:
/// φ(i, j) = ‖U₁ᵢᵀ U₂ⱼ‖²_F / min(i, j), from 0 to 1 (Hu et al. 2021, *LoRA*, §7.2, eq. 4, and appendix G).
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::spectrum::{SubspaceOverlap, Side, Vectors};
///
/// let b = Tensor::new(&[[2f64, 0.], [0., 1.]], &Device::Cpu)?;
/// // Both have e₁ first; then the one has e₂, the other e₃.
/// let one = Vectors::of("q", &Tensor::new(&[[1f64, 0., 0.], [0., 1., 0.]], &Device::Cpu)?, &b, 1.0)?;
/// let other = Vectors::of("q", &Tensor::new(&[[1f64, 0., 0.], [0., 0., 1.]], &Device::Cpu)?, &b, 1.0)?;
/// let overlap = SubspaceOverlap::of(&one, &other, Side::Right, (2, 2), 0)?;
/// assert!((overlap.at(1, 1)? - 1.0).abs() < 1e-15);
/// assert!((overlap.at(2, 2)? - 0.5).abs() < 1e-15);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct SubspaceOverlap {
    /// The side that was compared.
    pub side: Side,
    /// φ(i, j) at `grid[i - 1][j - 1]`.
    pub grid: Vec<Vec<f64>>,
    /// The same of two ΔW of the same shapes with Gaussian A and B: about max(i, j) / width.
    pub control: Vec<Vec<f64>>,
}

impl SubspaceOverlap {
    /// All φ(i, j) up to the given (i, j) in one pass, and those of the control, drawn from the seed.
    ///
    /// Directions whose σ is 0 are none: the grid ends before them.
    ///
    /// # Errors
    /// When the two stand beside weights of other shapes, a size is 0, or a ΔW is zero.
    pub fn of(
        first: &Vectors,
        second: &Vectors,
        side: Side,
        sizes: (usize, usize),
        seed: u64,
    ) -> Result<Self> {
        let (x, y) = sides(first, second, side)?;
        if sizes.0 == 0 || sizes.1 == 0 {
            return Err(Error::input(format!("φ({}, {}) has no directions", sizes.0, sizes.1))
                .help("compare 1 direction or more"));
        }
        let (i, j) = (sizes.0.min(x.ncols()), sizes.1.min(y.ncols()));
        let control = |index: u64, of: &Vectors, k: usize| {
            let like = of.gaussian(k, Random::at(seed, Stream::Control, 0, index))?;
            like.side(side)
        };
        let (one, other) = (control(0, first, i)?, control(1, second, j)?);
        Ok(Self { side, grid: grid(&x, &y, i, j), control: grid(&one, &other, i, j) })
    }

    /// φ(i, j), both counted from 1.
    ///
    /// # Errors
    /// When the grid does not reach so far.
    pub fn at(&self, i: usize, j: usize) -> Result<f64> {
        let row = i.checked_sub(1).and_then(|i| self.grid.get(i));
        row.and_then(|row| row.get(j.checked_sub(1)?)).copied().ok_or_else(|| {
            Error::input(format!("there is no φ({i}, {j})")).help(format!(
                "i goes from 1 to {}, j from 1 to {}",
                self.grid.len(),
                self.columns()
            ))
        })
    }

    fn columns(&self) -> usize {
        self.grid.first().map_or(0, Vec::len)
    }

    /// One row for each pair: i, j, phi, control.
    ///
    /// # Errors
    /// When polars refuses to build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let (rows, columns) = (self.grid.len(), self.columns());
        let pairs = || (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)));
        Ok(df!(
            "i" => pairs().map(|(i, _)| i as u32 + 1).collect::<Vec<_>>(),
            "j" => pairs().map(|(_, j)| j as u32 + 1).collect::<Vec<_>>(),
            "phi" => pairs().map(|(i, j)| self.grid[i][j]).collect::<Vec<_>>(),
            "control" => pairs().map(|(i, j)| self.control[i][j]).collect::<Vec<_>>(),
        )?)
    }

    /// φ(i, i) beside that of the control, at i = 1, 2, 4, … and the last.
    pub fn table(&self) -> Table {
        let side = self.side.called();
        let mut table = Table::new([("i = j", Align::Right), ("φ", Align::Right), ("random", Align::Right)])
            .caption(format!("overlap of the first {side}"));
        let last = self.grid.len().min(self.columns());
        let doubled = std::iter::successors(Some(1), |at| Some(2 * at)).take_while(|at| *at < last);
        for at in doubled.chain((last > 0).then_some(last)) {
            let number = |grid: &[Vec<f64>]| format!("{:.3}", grid[at - 1][at - 1]);
            table.row([at.to_string(), number(&self.grid), number(&self.control)]);
        }
        table
    }
}

/// The angles between the first i directions of one ΔW and the first j of another, ascending, in radians
/// from 0 to π/2; min(i, j) of them (Björck & Golub 1973, "Numerical methods for computing angles between
/// linear subspaces": by cosines where those are small, by sines where the cosines are near 1).
///
/// # Errors
/// As [`SubspaceOverlap::of`].
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::spectrum::{Side, Vectors, principal_angles};
///
/// let b = Tensor::new(&[[1f64]], &Device::Cpu)?;
/// let one = Vectors::of("q", &Tensor::new(&[[1f64, 0.]], &Device::Cpu)?, &b, 1.0)?;
/// let other = Vectors::of("q", &Tensor::new(&[[1f64, 1e-9]], &Device::Cpu)?, &b, 1.0)?;
/// assert!((principal_angles(&one, &other, Side::Right, (1, 1))?[0] - 1e-9).abs() < 1e-20);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn principal_angles(
    first: &Vectors,
    second: &Vectors,
    side: Side,
    sizes: (usize, usize),
) -> Result<Vec<f64>> {
    let (x, y) = sides(first, second, side)?;
    let (i, j) = (sizes.0.min(x.ncols()), sizes.1.min(y.ncols()));
    if i == 0 || j == 0 {
        return Err(Error::input(format!("no angles between {i} and {j} directions"))
            .help("compare 1 direction or more"));
    }
    let (x, y) = (x.get(.., ..i), y.get(.., ..j));
    let (x, y) = if i >= j { (x, y) } else { (y, x) };
    let inner = x.transpose() * y; // [larger, smaller]
    let cosines = decompose(&inner, Want::Values)?.sigma;
    let apart = y - x * &inner;
    let sines = decompose(&apart, Want::Values)?.sigma;
    let angle = |(cosine, sine): (&f64, &f64)| {
        if *cosine > 0.7 { sine.min(1.0).asin() } else { cosine.min(1.0).acos() }
    };
    Ok(cosines.iter().zip(sines.iter().rev()).map(angle).collect())
}

impl Vectors {
    /// Singular vectors of one side, a column each, of those whose σ is not 0.
    pub(super) fn side(&self, side: Side) -> Result<Mat<f64>> {
        let tensor = match side {
            Side::Right => &self.v,
            Side::Left => &self.u,
            Side::A | Side::B => return self.alone(side),
        };
        let (rows, columns) = tensor.dims2()?;
        let first = self.singular_values.first().copied().unwrap_or(0.0);
        let smallest = first * rows as f64 * f64::EPSILON;
        let some = self.singular_values.iter().take_while(|s| **s > smallest).count();
        if some == 0 {
            return Err(Error::input("ΔW is zero: it has no directions").help("train a step first"));
        }
        let host = HostNumbers::of(tensor)?;
        let FactorNumbers::Double(values) = host.numbers() else {
            return Err(Error::input("singular vectors are f64 tensors"));
        };
        Ok(Mat::from_fn(rows, some.min(columns), |i, k| values[i * columns + k]))
    }

    /// Those of A or of B: of its product with an identity in place of the other.
    fn alone(&self, side: Side) -> Result<Mat<f64>> {
        let Some([a, b]) = &self.factors else {
            return Err(Error::input(
                "these are the singular vectors of a whole weight, which has no A and B",
            )
            .help("compare Side::Right or Side::Left"));
        };
        let one = Tensor::eye(a.dim(0)?, DType::F64, &Device::Cpu)?;
        match side {
            Side::A => Self::of("A", a, &one, 1.0)?.side(Side::Right),
            _ => Self::of("B", &one, b, 1.0)?.side(Side::Left),
        }
    }

    /// Those of a product of the same shape with Gaussian factors of rank k.
    fn gaussian(&self, k: usize, mut random: Random) -> Result<Self> {
        let (out, inner) = (self.u.dims()[0], self.v.dims()[0]);
        let mut normal = |rows: usize, columns: usize| {
            let values: Vec<f64> = (0..rows * columns).map(|_| random.normal()).collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu)
        };
        Self::of("random", &normal(k, inner)?, &normal(out, k)?, 1.0)
    }
}

fn sides(first: &Vectors, second: &Vectors, side: Side) -> Result<(Mat<f64>, Mat<f64>)> {
    let (x, y) = (first.side(side)?, second.side(side)?);
    if x.nrows() != y.nrows() {
        return Err(Error::input(format!("directions of {} and of {} numbers", x.nrows(), y.nrows()))
            .help("compare adapters beside weights of the same shape"));
    }
    Ok((x, y))
}

/// φ for all i and j: sums of squared cosines, row by row and column by column.
fn grid(x: &Mat<f64>, y: &Mat<f64>, i: usize, j: usize) -> Vec<Vec<f64>> {
    let inner = x.get(.., ..i.min(x.ncols())).transpose() * y.get(.., ..j.min(y.ncols()));
    let mut above = vec![0.0; inner.ncols()];
    (0..inner.nrows())
        .map(|i| {
            let mut along = 0.0;
            (0..inner.ncols())
                .map(|j| {
                    along += inner[(i, j)].powi(2);
                    above[j] += along;
                    above[j] / (i.min(j) + 1) as f64
                })
                .collect()
        })
        .collect()
}
