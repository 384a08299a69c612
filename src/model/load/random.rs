//! Models of given sizes with random weights: for measurements, which do not depend on what a model knows.

use super::decoder::OpenOptions;
use super::source::{Stored, Tensors};
use crate::error::Result;
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::model::parts::TensorName;
use crate::model::weight::Weight;
use crate::model::weight_dtype::WeightDtype;
use crate::ops::random::SplitMix64;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// The standard deviation of the weights, that of many models before their training.
const DEVIATION: f64 = 0.02;

impl Decoder {
    /// A model of these sizes whose matrices hold random numbers, evenly spread around 0 with a standard deviation of
    /// 0.02; norms hold 1, biases 0. The numbers are the same each time. [`WeightDtype::Stored`] is bf16 here.
    ///
    /// # Errors
    /// When a size makes no sense, or the device has no room.
    ///
    /// # Examples
    /// ```
    /// use lorascope::model::{Decoder, DecoderConfig, OpenOptions};
    ///
    /// let llama = r#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2,
    ///     "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    ///     "tie_word_embeddings": true}"#;
    /// let model = Decoder::random(DecoderConfig::from_json(llama)?, &OpenOptions::default())?;
    /// // A table of 40 · 16 and 2 blocks of 4 · 16 · 16 + 3 · 24 · 16 numbers of 2 bytes.
    /// assert_eq!(model.bytes(), 2 * (640 + 2 * 2176));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn random(config: DecoderConfig, options: &OpenOptions) -> Result<Self> {
        let weights = match options.weights {
            WeightDtype::Stored => WeightDtype::Bf16,
            other => other,
        };
        Self::made_of(&RandomTensors(weights), config.validated()?, &options.device)
    }
}

/// Tensors by their names, in this dtype.
struct RandomTensors(WeightDtype);

impl Tensors for RandomTensors {
    fn has(&self, _: &TensorName) -> bool {
        false
    }

    /// Made in memory and moved then: candle quantises on the processor, and there on one core.
    fn weight(&self, name: &TensorName, shape: [usize; 2], _: Stored, device: &Device) -> Result<Weight> {
        let values = spread(key(name), shape.iter().product());
        let dense = Weight::dense(Tensor::from_vec(values, &shape[..], &Device::Cpu)?)?;
        self.0.convert(dense)?.to_device(device).map_err(|e| e.layer(name))
    }

    fn vector(&self, name: &TensorName, length: usize, _: Option<usize>, device: &Device) -> Result<Tensor> {
        let value = if name.to_string().ends_with(".bias") { 0f32 } else { 1.0 };
        Ok(Tensor::full(value, length, device)?)
    }

    fn refuse(&self, _: &TensorName) -> Result<()> {
        Ok(())
    }
}

fn key(name: &TensorName) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.to_string().as_bytes())
}

/// So many numbers, evenly spread: a standard deviation of 1/√12 of their range.
fn spread(key: u64, count: usize) -> Vec<f32> {
    const TASK: usize = 1 << 14;
    let range = DEVIATION * 12f64.sqrt();
    let step = (range / 65_536.0) as f32;
    let mut values = vec![0f32; count];
    values.par_chunks_mut(TASK).enumerate().for_each(|(task, values)| {
        for (i, four) in values.chunks_mut(4).enumerate() {
            let mut bits = SplitMix64::at(key ^ (task * TASK / 4 + i) as u64);
            for value in four {
                *value = ((bits & 0xffff) as f32 - 32_767.5) * step;
                bits >>= 16;
            }
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_mean_and_the_deviation_that_are_said() {
        let values = spread(5, 100_001);
        let n = values.len() as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
        // The mean of 100,000 has a deviation of 0.00006, the root of the mean square one of 0.00003.
        assert!(mean.abs() < 3e-4 && (square.sqrt() - DEVIATION).abs() < 2e-4, "{mean} {square}");
        assert_eq!(values, spread(5, 100_001));
        assert_ne!(values, spread(6, 100_001));
    }
}
