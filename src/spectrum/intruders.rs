//! Amplification factor and intruder dimensions: ΔW compared with the singular vectors of W₀.

use super::base_weight::{Operator, Top, orthonormal, top};
use super::{BaseWeight, Side, Vectors};
use crate::display::{Align, Table};
use crate::error::{Error, Result};
use crate::ops::random::{Random, Stream};
use faer::{Mat, MatRef};
use polars::prelude::{DataFrame, df};

/// How much ΔW amplifies directions that W₀ has little of: ‖ΔW‖_F / ‖Uᵀ W₀ Vᵀ‖_F, U and V the first r
/// singular vectors of ΔW (Hu et al. 2021, *LoRA*, §7.3 and table 7, where V holds them as rows), held
/// against those of W₀ itself and of a random matrix.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::spectrum::{Amplification, BaseWeight, Vectors};
///
/// let weight = BaseWeight::new("q", &Tensor::new(&[[10f32, 0.], [0., 0.5]], &Device::Cpu)?)?;
/// let (a, b) = (Tensor::new(&[[0f32, 1.]], &Device::Cpu)?, Tensor::new(&[[0f32], [4.]], &Device::Cpu)?);
/// let delta = Vectors::of("q", &a, &b, 1.0)?;
/// let amplification = Amplification::of(&weight, &delta, 1, 0)?;
/// assert!((amplification.factor() - 8.0).abs() < 1e-13); // 4 where W₀ has 0.5
/// assert!((amplification.along_weight - 10.0).abs() < 1e-13);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Amplification {
    /// The module's path.
    pub name: String,
    /// The number of directions of each.
    pub rank: usize,
    /// ‖ΔW‖_F
    pub delta_norm: f64,
    /// ‖W₀‖_F
    pub weight_norm: f64,
    /// ‖Uᵀ W₀ V‖_F along the first directions of ΔW.
    pub along_delta: f64,
    /// The same along those of W₀: √Σ σᵢ² of its first r.
    pub along_weight: f64,
    /// The same along random directions.
    pub along_random: f64,
}

impl Amplification {
    /// The norms along the first `rank` directions of ΔW, of W₀, and of random ones drawn from the seed.
    ///
    /// # Errors
    /// When the shapes differ, ΔW is zero, or the rank is 0.
    pub fn of(weight: &BaseWeight, delta: &Vectors, rank: usize, seed: u64) -> Result<Self> {
        let compute = || {
            let (u, v) = fitting(weight, delta)?;
            let rank = rank.min(u.ncols());
            if rank == 0 {
                return Err(Error::input("an amplification along 0 directions").help("take 1 or more"));
            }
            let (rows, columns) = weight.shape();
            let norm = |u: MatRef<f64>, v: MatRef<f64>| (u.transpose() * weight.times(v)).norm_l2();
            let mut random = Random::at(seed, Stream::Control, 2, 0);
            let mut any = |rows: usize| orthonormal(Mat::from_fn(rows, rank, |_, _| random.normal()));
            let (random_u, random_v) = (any(rows), any(columns));
            let own = weight.singular_values(rank)?;
            Ok(Self {
                name: weight.name().to_string(),
                rank,
                delta_norm: delta.singular_values.iter().map(|s| s * s).sum::<f64>().sqrt(),
                weight_norm: weight.frobenius_norm(),
                along_delta: norm(u.get(.., ..rank), v.get(.., ..rank)),
                along_weight: own.iter().map(|s| s * s).sum::<f64>().sqrt(),
                along_random: norm(random_u.as_ref(), random_v.as_ref()),
            })
        };
        compute().map_err(|error: Error| error.layer(weight.name()))
    }

    /// ‖ΔW‖_F / ‖Uᵀ W₀ V‖_F along the directions of ΔW.
    pub fn factor(&self) -> f64 {
        self.delta_norm / self.along_delta
    }

    /// One row: name, rank, delta_norm, weight_norm, along_delta, along_weight, along_random, factor.
    ///
    /// # Errors
    /// When polars refuses to build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        Ok(df!(
            "name" => [self.name.as_str()],
            "rank" => [self.rank as u32],
            "delta_norm" => [self.delta_norm],
            "weight_norm" => [self.weight_norm],
            "along_delta" => [self.along_delta],
            "along_weight" => [self.along_weight],
            "along_random" => [self.along_random],
            "factor" => [self.factor()],
        )?)
    }

    /// ‖UᵀW₀V‖ along each kind of direction, and ‖ΔW‖ over it.
    pub fn table(&self) -> Table {
        let columns =
            [("directions of", Align::Left), ("‖UᵀW₀V‖", Align::Right), ("‖ΔW‖ / ‖UᵀW₀V‖", Align::Right)];
        let mut table = Table::new(columns).caption(format!(
            "{}: ‖ΔW‖ {:.4}, ‖W₀‖ {:.4}, along the first {} directions",
            self.name, self.delta_norm, self.weight_norm, self.rank
        ));
        for (of, norm) in [("ΔW", self.along_delta), ("W₀", self.along_weight), ("chance", self.along_random)]
        {
            table.row([of.to_string(), format!("{norm:.4}"), format!("{:.3}", self.delta_norm / norm)]);
        }
        table
    }
}

/// When a singular vector counts as an intruder.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntruderConfig {
    /// The number of first left singular vectors of W₀ + ΔW that are compared.
    pub top: usize,
    /// ε: an intruder has a cosine below it with every left singular vector of W₀.
    pub threshold: f64,
    /// The number of vectors of W₀ to compare with; `None` for all, which needs the full decomposition of a large
    /// weight.
    pub compared: Option<usize>,
}

impl Default for IntruderConfig {
    fn default() -> Self {
        Self { top: 10, threshold: 0.5, compared: None }
    }
}

/// One of the first left singular vectors of W₀ + ΔW.
#[derive(Debug, Clone, PartialEq)]
pub struct Intruder {
    /// Its number, from 1.
    pub index: usize,
    /// Its singular value.
    pub singular_value: f64,
    /// The largest |cosine| with a left singular vector of W₀ that was compared.
    pub cosine: f64,
    /// Which one that is, from 1.
    pub nearest: usize,
    /// The largest |cosine| that one can have which was left out: √(1 − Σ cos²).
    pub left_out: f64,
}

/// Directions of W₀ + ΔW that W₀ does not have (Shuttleworth et al. 2024, *LoRA vs full fine-tuning: an
/// illusion of equivalence*, algorithm 1): those of the first left singular vectors whose cosine with each
/// of W₀'s is below ε.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::spectrum::{BaseWeight, IntruderConfig, Intruders, Vectors};
///
/// // W₀ has (1, 1) and (1, −1); ΔW brings 9 along e₁, which becomes the first direction.
/// let weight = BaseWeight::new("q", &Tensor::new(&[[1f32, 1.], [1., -1.]], &Device::Cpu)?)?;
/// let (a, b) = (Tensor::new(&[[1f32, 0.]], &Device::Cpu)?, Tensor::new(&[[9f32], [0.]], &Device::Cpu)?);
/// let config = IntruderConfig { top: 1, threshold: 0.8, ..Default::default() };
/// let intruders = Intruders::of(&weight, &Vectors::of("q", &a, &b, 1.0)?, &config)?;
/// assert_eq!(intruders.rows.len(), 1);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Intruders {
    /// The module's path.
    pub name: String,
    /// ε
    pub threshold: f64,
    /// The first left singular vectors of W₀ + ΔW.
    pub rows: Vec<Intruder>,
    /// How many of W₀'s vectors were compared.
    pub compared: usize,
    /// How many it has.
    pub of: usize,
}

impl Intruders {
    /// Compares the first left singular vectors of W₀ + ΔW with those of W₀, which are computed once for all
    /// clones of the weight.
    ///
    /// # Errors
    /// When the shapes differ, ΔW is zero, nothing is to be compared, or ε is not in (0, 1].
    pub fn of(weight: &BaseWeight, delta: &Vectors, config: &IntruderConfig) -> Result<Self> {
        let compute = || {
            if !(config.threshold > 0.0 && config.threshold <= 1.0) {
                return Err(Error::input(format!("a threshold of {}", config.threshold))
                    .help("give a cosine above 0 and up to 1; 0.5 is usual"));
            }
            if config.top == 0 || config.compared == Some(0) {
                return Err(Error::input("no directions to compare").help("take 1 or more"));
            }
            let (u, v) = fitting(weight, delta)?;
            let (rows, columns) = weight.shape();
            let of = rows.min(columns);
            let own = weight.top(config.compared.unwrap_or(of))?;
            let compared = config.compared.unwrap_or(of).min(own.sigma.len());
            let sigma = delta.singular_values[..u.ncols()].to_vec();
            let tuned: Top = top(&Tuned { weight, u, v, sigma }, config.top.min(of))?;
            let known = own.u.get(.., ..compared);
            let rows = (0..config.top.min(of)).map(|n| {
                let cosines = known.transpose() * tuned.u.col(n);
                let (nearest, cosine) =
                    cosines.iter().map(|c| c.abs()).enumerate().fold((0, 0.0), |best, (at, cosine)| {
                        if cosine > best.1 { (at, cosine) } else { best }
                    });
                let rest = if compared == of { 0.0 } else { 1.0 - cosines.squared_norm_l2() };
                Intruder {
                    index: n + 1,
                    singular_value: tuned.sigma[n],
                    cosine,
                    nearest: nearest + 1,
                    left_out: rest.max(0.0).sqrt(),
                }
            });
            let rows = rows.collect();
            Ok(Self { name: weight.name().to_string(), threshold: config.threshold, rows, compared, of })
        };
        compute().map_err(|error: Error| error.layer(weight.name()))
    }

    /// The number of certain intruders: below ε with each compared vector, and with each that was left out.
    pub fn count(&self) -> usize {
        self.rows.iter().filter(|row| row.cosine.max(row.left_out) < self.threshold).count()
    }

    /// The number of possible intruders: below ε with each compared vector, but perhaps not with one that was left out.
    pub fn undecided(&self) -> usize {
        let below = self.rows.iter().filter(|row| row.cosine < self.threshold).count();
        below - self.count()
    }

    /// One row for each vector: index, singular_value, cosine, nearest, left_out.
    ///
    /// # Errors
    /// When polars refuses to build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let rows = &self.rows;
        Ok(df!(
            "index" => rows.iter().map(|row| row.index as u32).collect::<Vec<_>>(),
            "singular_value" => rows.iter().map(|row| row.singular_value).collect::<Vec<_>>(),
            "cosine" => rows.iter().map(|row| row.cosine).collect::<Vec<_>>(),
            "nearest" => rows.iter().map(|row| row.nearest as u32).collect::<Vec<_>>(),
            "left_out" => rows.iter().map(|row| row.left_out).collect::<Vec<_>>(),
        )?)
    }

    /// Each vector with its nearest one of W₀, under a line that counts the intruders.
    pub fn table(&self) -> Table {
        let columns = ["index", "σ", "cosine", "nearest"].map(|name| (name, Align::Right));
        let undecided = match self.undecided() {
            0 => String::new(),
            some => format!(", {some} that only the vectors left out can decide"),
        };
        let mut table = Table::new(columns).caption(format!(
            "{}: {} intruders below {} among {} directions{undecided}; compared with {} of {} of W₀",
            self.name,
            self.count(),
            self.threshold,
            self.rows.len(),
            self.compared,
            self.of
        ));
        for row in &self.rows {
            table.row([
                row.index.to_string(),
                format!("{:.4}", row.singular_value),
                format!("{:.3}", row.cosine),
                row.nearest.to_string(),
            ]);
        }
        table
    }
}

/// W₀ + U·diag(σ)·Vᵀ.
struct Tuned<'a> {
    weight: &'a BaseWeight,
    u: Mat<f64>,
    v: Mat<f64>,
    sigma: Vec<f64>,
}

impl Tuned<'_> {
    /// left·diag(σ)·rightᵀ·x
    fn delta(&self, left: &Mat<f64>, right: &Mat<f64>, x: MatRef<f64>) -> Mat<f64> {
        let inner = right.transpose() * x;
        left * Mat::from_fn(inner.nrows(), inner.ncols(), |i, j| self.sigma[i] * inner[(i, j)])
    }
}

impl Operator for Tuned<'_> {
    fn shape(&self) -> (usize, usize) {
        self.weight.shape()
    }

    fn times(&self, x: MatRef<f64>) -> Mat<f64> {
        self.weight.times(x) + self.delta(&self.u, &self.v, x)
    }

    fn transposed_times(&self, x: MatRef<f64>) -> Mat<f64> {
        self.weight.transposed_times(x) + self.delta(&self.v, &self.u, x)
    }
}

/// U and V of ΔW, where it has the shape of W₀.
fn fitting(weight: &BaseWeight, delta: &Vectors) -> Result<(Mat<f64>, Mat<f64>)> {
    let (u, v) = (delta.side(Side::Left)?, delta.side(Side::Right)?);
    let (rows, columns) = weight.shape();
    if (u.nrows(), v.nrows()) != (rows, columns) {
        return Err(Error::input(format!(
            "ΔW is {}×{} beside a weight of {rows}×{columns}",
            u.nrows(),
            v.nrows()
        ))
        .help("pass the weight of the same layer, [out, in]; that of an embedding transposed"));
    }
    let some = u.ncols().min(v.ncols());
    Ok((u.get(.., ..some).to_owned(), v.get(.., ..some).to_owned()))
}
