//! The dtype of weights in memory, independent of their dtype in the file.

use super::weight::Weight;
use crate::error::{Error, Result};
use crate::ops::{self, vector};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The dtype that the matrices of a model have in memory. Norms and biases stay in f32.
///
/// Quantised types need rows whose length is a multiple of their block. A matrix with other rows takes the next
/// type that fits, from
/// [`Q4K`](Self::Q4K) (256 values in a block) over [`Q8_0`](Self::Q8_0) (32) to
/// [`Bf16`](Self::Bf16); the model's table says how many did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightDtype {
    /// The dtype of the file.
    #[default]
    Stored,
    /// 32 bits: quantised weights are expanded once when they are loaded, and not before each product.
    F32,
    /// bfloat16: the upper 16 bits of f32.
    Bf16,
    /// GGUF blocks of 32 weights of 8 bits with a scale: 8.5 bits per weight.
    Q8_0,
    /// GGUF blocks of 256 weights of 4 bits, with scales and minima of 6 bits: 4.5 bits per weight.
    #[serde(rename = "q4k")]
    Q4K,
}

impl WeightDtype {
    const ALL: [Self; 5] = [Self::Stored, Self::F32, Self::Bf16, Self::Q8_0, Self::Q4K];

    /// The name that [`Weight::type_name`] returns.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stored => "",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4K",
        }
    }

    /// Appends the dtype to the fingerprint of the files, because it changes the weights.
    pub(super) fn mark(self, fingerprint: String) -> String {
        match self {
            Self::Stored => fingerprint,
            other => format!("{fingerprint}-{}", other.name()),
        }
    }

    /// The dtype that a model with this fingerprint was loaded in.
    pub(crate) fn of_fingerprint(fingerprint: &str) -> Self {
        let name = fingerprint.split_once('-').map_or("", |(_, name)| name);
        Self::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_default()
    }

    /// The dtype that fits rows of this length.
    fn fitting(self, inner: usize) -> Self {
        match self {
            Self::Q4K if !inner.is_multiple_of(GgmlDType::Q4K.block_size()) => Self::Q8_0.fitting(inner),
            Self::Q8_0 if !inner.is_multiple_of(GgmlDType::Q8_0.block_size()) => Self::Bf16,
            other => other,
        }
    }

    /// Bytes of a matrix in this dtype, or in the next one that fits it; `Stored` counts as bf16, in which most
    /// models are published.
    pub(super) fn bytes(self, shape: [usize; 2]) -> u64 {
        let numbers = (shape[0] * shape[1]) as u64;
        let blocks = |kind: GgmlDType| numbers / kind.block_size() as u64 * kind.type_size() as u64;
        match self.fitting(shape[1]) {
            Self::Stored | Self::Bf16 => 2 * numbers,
            Self::F32 => 4 * numbers,
            Self::Q8_0 => blocks(GgmlDType::Q8_0),
            Self::Q4K => blocks(GgmlDType::Q4K),
        }
    }

    /// Converts a matrix to this dtype, or to the next one that fits it.
    pub(super) fn convert(self, weight: Weight) -> Result<Weight> {
        let kind = self.fitting(weight.shape()[1]);
        if kind == Self::Stored || weight.type_name() == kind.name() {
            return Ok(weight);
        }
        let dense = weight.expand()?;
        match kind {
            Self::Stored | Self::F32 => Weight::dense(dense),
            Self::Bf16 => Weight::dense(dense.to_dtype(DType::BF16)?),
            Self::Q8_0 => Weight::quantized(quantise(&dense, GgmlDType::Q8_0)?),
            Self::Q4K => Weight::quantized(quantise(&dense, GgmlDType::Q4K)?),
        }
    }
}

/// Quantises a dense f32 matrix; on the CPU each thread takes some rows.
fn quantise(dense: &Tensor, dtype: GgmlDType) -> Result<QTensor> {
    const PIECE: usize = 64 * 1024;
    let (out, inner) = dense.dims2()?;
    if !dense.device().is_cpu() {
        return Ok(QTensor::quantize(dense, dtype)?);
    }
    let dense = dense.contiguous()?;
    let values = ops::values(&dense)?;
    let values: &[f32] = &values;
    // A block's scale is f16, and no scale is larger than the largest value.
    if let Some(at) = vector::first_above(values, half::f16::MAX.to_f32()) {
        return Err(Error::format(format!("a weight is {}, which {dtype:?} cannot hold", values[at]))
            .help("open the model with WeightDtype::Bf16, or as it is stored"));
    }
    let rows = (PIECE / inner).max(1);
    let pieces: Vec<Vec<u8>> = values
        .par_chunks(rows * inner)
        .map(|piece| {
            let piece = Tensor::from_slice(piece, (piece.len() / inner, inner), &Device::Cpu)?;
            Ok(QTensor::quantize(&piece, dtype)?.data()?.into_owned())
        })
        .collect::<Result<_>>()?;
    let storage = QStorage::from_data(Cow::Owned(pieces.concat()), &Device::Cpu, dtype)?;
    Ok(QTensor::new(storage, (out, inner))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_the_whole_is() {
        let values: Vec<f32> =
            (0..700 * 256).map(|i| (i as f32 * 0.731).sin() * (1 + i % 7) as f32).collect();
        let dense = Tensor::from_vec(values, (700, 256), &Device::Cpu).unwrap();
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K] {
            let whole = QTensor::quantize(&dense, dtype).unwrap();
            assert_eq!(quantise(&dense, dtype).unwrap().data().unwrap(), whole.data().unwrap());
        }
        let large = (dense * 1e5).unwrap();
        let error = quantise(&large, GgmlDType::Q8_0).unwrap_err().to_string();
        assert!(error.contains("which Q8_0 cannot hold; open the model with WeightDtype::Bf16"), "{error}");
    }

    #[test]
    fn rows_that_blocks_do_not_divide() {
        let kinds = [512, 576, 40].map(|inner| WeightDtype::Q4K.fitting(inner));
        assert_eq!(kinds, [WeightDtype::Q4K, WeightDtype::Q8_0, WeightDtype::Bf16]);
        assert_eq!(WeightDtype::Q8_0.fitting(40), WeightDtype::Bf16);
        for kind in WeightDtype::ALL {
            assert_eq!(kind.fitting(256), kind);
            assert_eq!(WeightDtype::of_fingerprint(&kind.mark("00ff".to_string())), kind);
        }
    }
}
