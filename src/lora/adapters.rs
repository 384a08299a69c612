//! The adapters of a model, by the path of the layer that they stand beside.

use super::{Adapter, AdapterGradient, LoraConfig};
use crate::error::{Error, Result};
use crate::ops;
use crate::ops::random::{Random, Stream};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

/// A linear layer that can be adapted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its path in the weights: `model.layers.3.self_attn.q_proj`.
    pub path: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
}

/// One adapter for each adapted layer, in the order of their paths.
///
/// Cheap to clone: tensors are shared and never changed in place. The default is none at all.
#[derive(Debug, Clone, Default)]
pub struct Adapters {
    config: LoraConfig,
    pairs: BTreeMap<String, Adapter>,
}

/// The gradient of each adapter, by the same paths.
#[derive(Debug, Clone, Default)]
pub struct Gradients(BTreeMap<String, AdapterGradient>);

impl Adapters {
    /// Fresh adapters: A uniform in ±1/√in (Kaiming with a = √5, as PEFT does it), B zero, so
    /// that training starts from the model as it is.
    ///
    /// # Errors
    /// When the config cannot be used, names an unknown module, or has a rank that a layer cannot
    /// hold.
    pub fn new(config: &LoraConfig, targets: &[Target], seed: u64, device: &Device) -> Result<Self> {
        let scale = config.scaling()?;
        let paths: Vec<&str> = targets.iter().map(|t| t.path.as_str()).collect();
        let chosen = config.select(&paths)?;
        let mut pairs = BTreeMap::new();
        for (index, target) in targets.iter().enumerate() {
            if !chosen.contains(&target.path.as_str()) {
                continue;
            }
            let [out, inner] = target.shape;
            if config.rank > out.min(inner) {
                return Err(Error::input(format!(
                    "rank {} is more than B·A of {out}×{inner} can have",
                    config.rank
                ))
                .layer(&target.path)
                .help(format!("take a rank of at most {}", out.min(inner))));
            }
            let bound = 1.0 / (inner as f64).sqrt();
            let mut random = Random::at(seed, Stream::Init, 0, index as u64);
            let a: Vec<f32> =
                (0..config.rank * inner).map(|_| ((2.0 * random.unit() - 1.0) * bound) as f32).collect();
            let a = Tensor::from_vec(a, (config.rank, inner), device)?;
            let b = Tensor::zeros((out, config.rank), DType::F32, device)?;
            pairs.insert(target.path.clone(), Adapter::new(a, b, scale)?);
        }
        Ok(Self { config: config.clone(), pairs })
    }

    /// Adapters from given pairs, by the paths of their layers. They must be those that the config
    /// selects: what [`save`](Self::save) tells PEFT is taken from there.
    pub fn from_pairs(config: LoraConfig, pairs: BTreeMap<String, Adapter>) -> Self {
        Self { config, pairs }
    }

    /// Whether each adapter has its layer among these, the [targets](crate::model::Decoder::targets)
    /// of a model. One that has none would do nothing, without a word, so whoever brings a model
    /// and adapters together asks once.
    ///
    /// # Errors
    /// When an adapter stands beside no layer, or beside one of another shape.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::Device;
    /// use lorascope::lora::{Adapters, LoraConfig, Target};
    ///
    /// let layer = |out| [Target { path: "model.layers.0.mlp.up_proj".to_string(), shape: [out, 16] }];
    /// let adapters = Adapters::new(&LoraConfig::default(), &layer(32), 0, &Device::Cpu)?;
    /// adapters.check(&layer(32))?;
    /// assert_eq!(
    ///     adapters.check(&layer(48)).unwrap_err().to_string(),
    ///     "layer model.layers.0.mlp.up_proj: an adapter of 32×16 beside a weight of 48×16; \
    ///      these adapters belong to another model"
    /// );
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn check(&self, targets: &[Target]) -> Result<()> {
        let shapes: BTreeMap<&str, [usize; 2]> = targets.iter().map(|t| (t.path.as_str(), t.shape)).collect();
        for (path, pair) in self.iter() {
            let [out, inner] = pair.shape();
            let error = match shapes.get(path) {
                Some(shape) if *shape == pair.shape() => continue,
                Some([rows, columns]) => {
                    format!("an adapter of {out}×{inner} beside a weight of {rows}×{columns}")
                }
                None => "an adapter beside no linear layer of this model".to_string(),
            };
            return Err(Error::input(error).layer(path).help("these adapters belong to another model"));
        }
        Ok(())
    }

    /// The config they were made with.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The adapter beside the layer at this path.
    pub fn get(&self, path: &str) -> Option<&Adapter> {
        self.pairs.get(path)
    }

    /// All of them, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Adapter)> {
        self.pairs.iter().map(|(path, adapter)| (path.as_str(), adapter))
    }

    /// How many layers are adapted.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether no layer is adapted.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// How many numbers are trained.
    pub fn parameters(&self) -> usize {
        self.pairs.values().map(|pair| pair.a().elem_count() + pair.b().elem_count()).sum()
    }

    /// The trained tensors with PEFT's names for them (`….lora_A`, `….lora_B`), in a fixed order.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.iter().flat_map(|(path, pair)| {
            [(format!("{path}.lora_A"), pair.a()), (format!("{path}.lora_B"), pair.b())]
        })
    }

    /// The same adapters with other values, made from each tensor and its name.
    ///
    /// # Errors
    /// When `value` fails or gives another shape.
    pub fn map(&self, mut value: impl FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        for (path, pair) in &self.pairs {
            let a = value(&format!("{path}.lora_A"), pair.a())?;
            let b = value(&format!("{path}.lora_B"), pair.b())?;
            let new = Adapter::new(a, b, pair.scale()).map_err(|e| e.layer(path))?;
            if new.shape() != pair.shape() || new.rank() != pair.rank() {
                return Err(Error::compute("a tensor changed its shape").layer(path));
            }
            pairs.insert(path.clone(), new);
        }
        Ok(Self { config: self.config.clone(), pairs })
    }
}

impl Gradients {
    /// No gradient yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what one backward pass found for the adapter at `path`, in place: copy a tensor that is
    /// to outlive the next call.
    ///
    /// # Errors
    /// When the shapes differ from what was added before.
    pub fn add(&mut self, path: &str, gradient: AdapterGradient) -> Result<()> {
        let sum = match self.0.remove(path) {
            None => gradient,
            Some(sum) => {
                AdapterGradient { a: ops::add(sum.a, &gradient.a)?, b: ops::add(sum.b, &gradient.b)? }
            }
        };
        self.0.insert(path.to_string(), sum);
        Ok(())
    }

    /// The gradient of the adapter at this path.
    pub fn get(&self, path: &str) -> Option<&AdapterGradient> {
        self.0.get(path)
    }

    /// The gradient tensors under the names of [`Adapters::tensors`], in the same order.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.0
            .iter()
            .flat_map(|(path, g)| [(format!("{path}.lora_A"), &g.a), (format!("{path}.lora_B"), &g.b)])
    }

    /// How many adapters have a gradient.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// √(Σ g²) over all gradients, summed in f64.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0f64;
        for (_, tensor) in self.tensors() {
            sum += tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        }
        Ok(sum.sqrt())
    }
}
