//! Dropout before A, drawn anew for each layer and pass without a hidden generator.

use crate::error::Result;
use crate::ops::Kernels;
use crate::ops::random::{Random, SplitMix64, Stream};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Which numbers one layer drops in one pass: a pure function of its key, so that the backward pass
/// draws what the forward pass drew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    p: f64,
    key: u64,
}

/// What a training pass is: the numbers that it drops depend on this and on the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DropoutPass {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step.
    pub step: u64,
    /// The micro-batch inside the step.
    pub pack: u64,
}

impl Dropout {
    /// That of one layer, given by its number, in a pass.
    pub fn new(p: f64, pass: DropoutPass, layer: u64) -> Self {
        // Packs and layers share one coordinate; there are fewer than 2³² of each.
        let mut random = Random::at(pass.seed, Stream::Dropout, pass.step, pass.pack << 32 | layer);
        Self { p, key: random.below(u64::MAX) }
    }

    /// x ⊙ m / (1 − p), where each number of m is 0 with probability p and otherwise 1
    /// (Srivastava et al. 2014, inverted).
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        if Kernels::of(x) == Kernels::Fused {
            let y = self.dropped(x.flatten_all()?.to_vec1()?);
            return Ok(Tensor::from_vec(y, x.shape(), &Device::Cpu)?);
        }
        // The factors go to the device, and nothing is read back from it.
        let factors = Tensor::from_vec(self.dropped(vec![1.0; x.elem_count()]), x.shape(), &Device::Cpu)?;
        Ok((x * factors.to_dtype(x.dtype())?.to_device(x.device())?)?)
    }

    fn dropped(self, mut y: Vec<f32>) -> Vec<f32> {
        const TASK: usize = 1 << 14;
        // 16 bits for each number: p is met within 1/65,536.
        let limit = (self.p * 65_536.0).round() as u64;
        let scale = (1.0 / (1.0 - self.p)) as f32;
        y.par_chunks_mut(TASK).enumerate().for_each(|(task, y)| {
            for (i, four) in y.chunks_mut(4).enumerate() {
                let mut bits = SplitMix64::at(self.key ^ (task * TASK / 4 + i) as u64);
                for y in four {
                    *y = if bits & 0xffff < limit { 0.0 } else { *y * scale };
                    bits >>= 16;
                }
            }
        });
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_and_the_mean_are_right_and_draws_repeat() {
        let x = Tensor::ones((100, 1000), candle_core::DType::F32, &Device::Cpu).unwrap();
        let pass = DropoutPass { seed: 7, step: 3, pack: 0 };
        let drawn = |pass, layer| {
            let y = Dropout::new(0.2, pass, layer).apply(&x).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let y = drawn(pass, 5);
        // 100,000 draws: a standard deviation of 0.00126.
        let dropped = y.iter().filter(|y| **y == 0.0).count() as f64 / y.len() as f64;
        assert!((dropped - 0.2).abs() < 0.006, "{dropped}");
        assert!(y.iter().all(|y| *y == 0.0 || *y == 1.25));
        assert_eq!(y, drawn(pass, 5));
        let same = |z: Vec<f32>| y.iter().zip(z).filter(|(y, z)| (**y == 0.0) == (*z == 0.0)).count();
        for other in [
            drawn(pass, 6),
            drawn(DropoutPass { step: 4, ..pass }, 5),
            drawn(DropoutPass { pack: 1, ..pass }, 5),
        ] {
            // Independent draws agree in 0.2² + 0.8² = 68 % of the places.
            assert!((same(other) as f64 / 1e5 - 0.68).abs() < 0.01);
        }
    }
}
