//! Learned positions: a row of a table for each place.

use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::model::weight::Weight;
use crate::ops::{self, Kernels, expect, values};
use candle_core::{DType, Device, Tensor};

/// y = x + Pₚ, p a token's position in its own row (Radford et al. 2019; Vaswani et al. 2017, §3.5,
/// "learned positional embeddings").
///
/// # Shapes
/// x, y `[T, D]`; P `[context, D]`.
#[derive(Debug, Clone)]
pub struct LearnedPositions {
    /// Its name in the model's files.
    name: String,
    table: Weight,
}

impl LearnedPositions {
    /// The table P.
    pub fn new(table: Weight) -> Self {
        Self { name: String::new(), table }
    }

    /// The same table at a path in the weights: `transformer.wpe`.
    #[must_use]
    pub fn called(self, path: &str) -> Self {
        Self { name: format!("{path}.weight"), ..self }
    }

    /// The same table on a device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { table: self.table.to_device(device)?, name: self.name.clone() })
    }

    /// Its name in the model's files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether P is trained.
    pub fn is_trained(&self, adapters: &Adapters) -> bool {
        adapters.whole(&self.name).is_some()
    }

    /// The same with the P that is trained, if it is.
    ///
    /// # Errors
    /// When that is no matrix.
    pub fn merged(&self, adapters: &Adapters) -> Result<Self> {
        let table = match adapters.whole(&self.name) {
            Some(whole) => Weight::dense(whole.clone())?,
            None => self.table.clone(),
        };
        Ok(Self { table, name: self.name.clone() })
    }

    /// P.
    pub fn table(&self) -> &Weight {
        &self.table
    }

    /// x + the rows of P at these positions, in place on the CPU: x must be a tensor that nobody else holds.
    ///
    /// # Errors
    /// When x has another width or number of rows, or a position lies beyond the table.
    pub fn forward(&self, x: Tensor, positions: &[u32], kernels: Kernels) -> Result<Tensor> {
        self.check(&x, positions)?;
        let rows = self.table.rows(positions)?;
        match kernels {
            Kernels::Candle => Ok((x + rows)?),
            Kernels::Fused => ops::add(x, &rows),
        }
    }

    /// ∂loss/∂P `[context, D]` for dy = ∂loss/∂y: each row of dy is added to the row of its position.
    /// The gradient of x is dy itself.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn backward(&self, dy: &Tensor, positions: &[u32], kernels: Kernels) -> Result<Tensor> {
        self.check(dy, positions)?;
        let [rows, width] = self.table.shape();
        if kernels == Kernels::Candle {
            let zero = Tensor::zeros((rows, width), DType::F32, dy.device())?;
            let ids = Tensor::new(positions, dy.device())?;
            return Ok(zero.index_add(&ids, &dy.to_dtype(DType::F32)?, 0)?);
        }
        let mut sum = vec![0f32; rows * width];
        for (position, dy) in positions.iter().zip(values(dy)?.chunks_exact(width)) {
            let at = *position as usize * width;
            sum[at..at + width].iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
        }
        Ok(Tensor::from_vec(sum, (rows, width), &Device::Cpu)?)
    }

    fn check(&self, x: &Tensor, positions: &[u32]) -> Result<()> {
        let [rows, width] = self.table.shape();
        expect("x", x, &[positions.len(), width])?;
        match positions.iter().find(|p| **p as usize >= rows) {
            Some(p) => Err(Error::input(format!("position {p} of a model that knows {rows}"))),
            None => Ok(()),
        }
    }
}
