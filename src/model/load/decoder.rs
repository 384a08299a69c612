//! Opens a model's files and loads its weights, block by block.

use super::source::{Source, Stored, Tensors};
use crate::display::check_stop;
use crate::error::{Error, Result};
use crate::model::block::{Activation, Block, QkvLayers};
use crate::model::config::{DecoderConfig, FeedForward, NormKind, Positions, Projections};
use crate::model::decoder::{Decoder, PositionEncoding, Recompute};
use crate::model::layers::{Embedding, LayerNorm, LearnedPositions, Linear, RmsNorm};
use crate::model::parts::{ModelPart, TensorName};
use crate::model::trainable_norm::{NormLayer, TrainableNorm};
use crate::model::weight_dtype::WeightDtype;
use crate::ops::{Kernels, Precision};
use candle_core::Device;
use std::path::Path;

/// Options for opening a model.
///
/// # Examples
/// ```no_run
/// use lorascope::model::{Model, OpenOptions, WeightDtype};
///
/// let options = OpenOptions { weights: WeightDtype::Q8_0, ..Default::default() };
/// let model = Model::open_with("models/smollm2-135m", &options)?;
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The dtype of the weights in memory.
    pub weights: WeightDtype,
    /// The device of the weights.
    pub device: Device,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { weights: WeightDtype::Stored, device: Device::Cpu }
    }
}

impl DecoderConfig {
    /// Reads the sizes of a model without its weights: from a `config.json`, a Hugging Face folder that has one, or
    /// a `.gguf` file.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and when there is no such file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let json = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
        if json.extension().is_none_or(|extension| extension != "json") {
            return Source::open(path)?.config();
        }
        let text = std::fs::read_to_string(&json).map_err(|e| {
            Error::io(&json, e).help("give a config.json, a folder that has one, or a .gguf file")
        })?;
        Self::from_json(&text).map_err(|e| e.path(&json))
    }
}

impl Decoder {
    /// Loads the weights of a `.gguf` file or a Hugging Face folder; no tokenizer is needed.
    ///
    /// # Errors
    /// When a file is missing, damaged, cut off, or of another architecture.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::load(&Source::open(path.as_ref())?, device)
    }

    pub(crate) fn load(source: &Source, device: &Device) -> Result<Self> {
        Self::made_of(source, source.config()?, device)
    }

    /// The decoder of these sizes and tensors.
    pub(super) fn made_of(source: &dyn Tensors, config: DecoderConfig, device: &Device) -> Result<Self> {
        let loader = Loader { source, config: &config, device };
        let name = |part| TensorName::of(&config, part, None, "weight");
        let outside =
            |part, rows| source.weight(&name(part), [rows, config.width], Stored::default(), device);
        let mut blocks = Vec::new(); // no room in advance: the file may lie about its layers
        for layer in 0..config.layers {
            check_stop()?;
            blocks.push(loader.block(layer)?);
        }
        let norm = loader.norm(ModelPart::Norm, None)?;
        let embedding = outside(ModelPart::Embedding, config.vocabulary)?;
        let head = match config.tied_embeddings && !source.has(&name(ModelPart::Head)) {
            true => embedding.clone(),
            false => outside(ModelPart::Head, config.vocabulary)?,
        };
        let family = config.family.definition();
        let embedding = Embedding::new(family.name(ModelPart::Embedding), embedding)
            .with_padding(config.padding)
            .with_max_norm(config.max_norm);
        let mut head = Linear::new(family.name(ModelPart::Head), head, None).without_dropout();
        if config.unit_head {
            head = head.with_unit_rows()?;
        }
        let positions = match &config.positions {
            Positions::Rotary(frequencies) => PositionEncoding::Rotary(frequencies.of(config.head_width)?),
            Positions::Learned => {
                let table = outside(ModelPart::Positions, config.context)?;
                PositionEncoding::Learned(
                    LearnedPositions::new(table).called(family.name(ModelPart::Positions)),
                )
            }
        };
        let kernels = if device.is_cpu() { Kernels::Fused } else { Kernels::Candle };
        let (device, recompute, precision) = (device.clone(), Recompute::default(), Precision::default());
        Ok(Self {
            embedding,
            positions,
            blocks,
            norm,
            head,
            device,
            kernels,
            recompute,
            precision,
            tied_copy: false,
            config,
        })
    }

    /// Loads the weights of a `.gguf` file or a Hugging Face folder as the options say; no tokenizer is
    /// needed.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when a weight is too large for its new dtype.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let source = Source::open(path.as_ref())?.with_dtype(options.weights);
        Self::load(&source, &options.device)
    }
}

/// Where tensors are read from, and what they should be.
struct Loader<'a> {
    source: &'a dyn Tensors,
    config: &'a DecoderConfig,
    device: &'a Device,
}

impl Loader<'_> {
    /// Loads a norm of the width of the model, in a block or outside of the blocks.
    fn norm(&self, part: ModelPart, layer: Option<usize>) -> Result<TrainableNorm> {
        let vector = |tensor: &str| {
            let name = TensorName::of(self.config, part, layer, tensor);
            self.source.vector(&name, self.config.width, None, self.device)
        };
        let (weight, epsilon) = (vector("weight")?, self.config.norm_epsilon);
        let norm = match self.config.norm {
            NormKind::Rms => NormLayer::Rms(RmsNorm::new(weight, epsilon)),
            NormKind::Layer => NormLayer::Layer(LayerNorm::new(weight, vector("bias")?, epsilon)),
        };
        Ok(TrainableNorm::new(&self.path(part, layer), norm))
    }

    fn path(&self, part: ModelPart, layer: Option<usize>) -> String {
        match layer {
            Some(layer) => self.config.path(part, layer),
            None => self.config.family.definition().name(part).to_string(),
        }
    }

    fn head_norm(&self, part: ModelPart, layer: usize) -> Result<TrainableNorm> {
        let name = TensorName::of(self.config, part, Some(layer), "weight");
        let weight = self.source.vector(&name, self.config.head_width, None, self.device)?;
        let norm = NormLayer::Rms(RmsNorm::new(weight, self.config.norm_epsilon));
        Ok(TrainableNorm::new(&self.config.path(part, layer), norm))
    }

    fn linear(&self, part: ModelPart, layer: usize) -> Result<Linear> {
        let (config, family) = (self.config, self.config.family.definition());
        let matrices = config.matrices();
        let Some(matrix) = matrices.iter().find(|m| m.part == part) else {
            return Err(Error::compute(format!("{:?} has no {part:?}", config.family)));
        };
        let rotated = match part {
            ModelPart::Q => Some(config.heads),
            ModelPart::K => Some(config.kv_heads),
            _ => None,
        };
        let interleaved = rotated.filter(|_| family.interleaved);
        let stored = Stored { interleaved, transposed: family.transposed };
        let name = TensorName::of(config, part, Some(layer), "weight");
        let weight = self.source.weight(&name, matrix.shape, stored, self.device)?;
        let name = TensorName::of(config, part, Some(layer), "bias");
        if !matrix.bias {
            self.source.refuse(&name)?;
        }
        let bias = || self.source.vector(&name, matrix.shape[0], interleaved, self.device);
        let bias = matrix.bias.then(bias).transpose()?;
        Ok(Linear::new(config.path(part, layer), weight, bias))
    }

    fn block(&self, layer: usize) -> Result<Block> {
        let config = self.config;
        let linear = |part| self.linear(part, layer);
        Ok(Block {
            attention_norm: self.norm(ModelPart::AttentionNorm, Some(layer))?,
            projections: match config.projections {
                Projections::Separate => QkvLayers::Separate {
                    q: linear(ModelPart::Q)?,
                    k: linear(ModelPart::K)?,
                    v: linear(ModelPart::V)?,
                },
                Projections::Fused => QkvLayers::Fused(linear(ModelPart::Qkv)?),
            },
            widths: config.qkv_widths(),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_norms: match config.head_norms {
                true => {
                    Some([self.head_norm(ModelPart::QNorm, layer)?, self.head_norm(ModelPart::KNorm, layer)?])
                }
                false => None,
            },
            o: linear(ModelPart::O)?,
            mlp_norm: self.norm(ModelPart::MlpNorm, Some(layer))?,
            activation: match config.feed_forward {
                FeedForward::SwiGlu => Activation::SwiGlu(linear(ModelPart::Gate)?),
                FeedForward::Gelu(gelu) => Activation::Gelu(gelu),
            },
            up: linear(ModelPart::Up)?,
            down: linear(ModelPart::Down)?,
        })
    }
}
