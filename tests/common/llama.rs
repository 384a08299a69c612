//! A small llama as a Hugging Face folder or a GGUF file, with given tensors, and its gradients.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Gradients, LoraConfig};
use lorascope::model::{Counted, Decoder, Tokens};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub type Tensors = BTreeMap<String, Tensor>;

#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub vocabulary: usize,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub intermediate: usize,
    pub layers: usize,
}

/// Rows that every block divides.
pub const EVEN: Sizes =
    Sizes { vocabulary: 53, width: 256, heads: 4, kv_heads: 2, head: 64, intermediate: 512, layers: 2 };

impl Sizes {
    /// Matrices by Hugging Face's names; `true` where the rows are rotated pairs.
    fn matrices(&self) -> Vec<(String, [usize; 2], Option<usize>)> {
        let (d, h, g, w, f) = (self.width, self.heads, self.kv_heads, self.head, self.intermediate);
        let mut all = vec![
            ("model.embed_tokens.weight".to_string(), [self.vocabulary, d], None),
            ("lm_head.weight".to_string(), [self.vocabulary, d], None),
        ];
        for layer in 0..self.layers {
            for (name, shape, heads) in [
                ("self_attn.q_proj", [h * w, d], Some(h)),
                ("self_attn.k_proj", [g * w, d], Some(g)),
                ("self_attn.v_proj", [g * w, d], None),
                ("self_attn.o_proj", [d, h * w], None),
                ("mlp.gate_proj", [f, d], None),
                ("mlp.up_proj", [f, d], None),
                ("mlp.down_proj", [d, f], None),
            ] {
                all.push((format!("model.layers.{layer}.{name}.weight"), shape, heads));
            }
        }
        all
    }

    /// The same numbers each time.
    pub fn tensors(&self) -> Tensors {
        let mut tensors = Tensors::new();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut normal = |count: usize, std: f64, mean: f64| -> Vec<f32> {
            let mut unit = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 11) as f64 / (1u64 << 53) as f64
            };
            // Twelve uniform numbers are as good as normal here.
            (0..count)
                .map(|_| ((0..12).map(|_| unit()).sum::<f64>() - 6.0) * std + mean)
                .map(|x| x as f32)
                .collect()
        };
        for (name, [out, inner], _) in self.matrices() {
            let std = if name.contains("embed") { 0.5 } else { 1.5 / (inner as f64).sqrt() };
            let values = normal(out * inner, std, 0.0);
            tensors.insert(name, Tensor::from_vec(values, (out, inner), &Device::Cpu).unwrap());
        }
        for layer in 0..self.layers {
            for name in ["input_layernorm", "post_attention_layernorm"] {
                let values =
                    Tensor::from_vec(normal(self.width, 0.3, 1.0), self.width, &Device::Cpu).unwrap();
                tensors.insert(format!("model.layers.{layer}.{name}.weight"), values);
            }
        }
        let values = Tensor::from_vec(normal(self.width, 0.3, 1.0), self.width, &Device::Cpu).unwrap();
        tensors.insert("model.norm.weight".to_string(), values);
        tensors
    }

    pub fn write_folder(&self, folder: &Path, tensors: &Tensors) {
        std::fs::create_dir_all(folder).unwrap();
        let config = serde_json::json!({
            "model_type": "llama", "vocab_size": self.vocabulary, "hidden_size": self.width,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head,
            "intermediate_size": self.intermediate, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64, "hidden_act": "silu",
        });
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let tensors: HashMap<String, Tensor> = tensors.clone().into_iter().collect();
        candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
    }

    /// Writes a GGUF file whose matrices are of this type.
    pub fn write_gguf(&self, path: &Path, tensors: &Tensors, dtype: GgmlDType) {
        self.write_gguf_with(path, tensors, dtype, HashMap::new());
    }

    /// The same with further metadata, such as a tokenizer's.
    pub fn write_gguf_with(
        &self,
        path: &Path,
        tensors: &Tensors,
        dtype: GgmlDType,
        more: HashMap<String, Value>,
    ) {
        let number = |n: usize| Value::U32(n as u32);
        let mut metadata: BTreeMap<String, Value> = [
            ("general.architecture", Value::String("llama".to_string())),
            ("llama.vocab_size", number(self.vocabulary)),
            ("llama.embedding_length", number(self.width)),
            ("llama.block_count", number(self.layers)),
            ("llama.attention.head_count", number(self.heads)),
            ("llama.attention.head_count_kv", number(self.kv_heads)),
            ("llama.rope.dimension_count", number(self.head)),
            ("llama.feed_forward_length", number(self.intermediate)),
            ("llama.context_length", number(64)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into();
        metadata.extend(more);
        let heads: HashMap<String, usize> =
            self.matrices().into_iter().filter_map(|(name, _, heads)| Some((name, heads?))).collect();
        let stored: Vec<(String, QTensor)> = tensors
            .iter()
            .map(|(name, tensor)| {
                let tensor = match heads.get(name) {
                    Some(heads) => interleaved(tensor, *heads),
                    None => tensor.clone(),
                };
                let dtype = if tensor.rank() == 2 { dtype } else { GgmlDType::F32 };
                (gguf_name(name), QTensor::quantize(&tensor, dtype).unwrap())
            })
            .collect();
        let metadata: Vec<_> = metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let tensors: Vec<_> = stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut std::fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
    }
}

/// Rows of rotated heads in GGUF's order: (j, j + w/2) here is (2j, 2j + 1) there.
fn interleaved(tensor: &Tensor, heads: usize) -> Tensor {
    let (rows, inner) = tensor.dims2().unwrap();
    let half = rows / heads / 2;
    let split = tensor.reshape((heads, 2, half, inner)).unwrap();
    split.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, inner)).unwrap()
}

fn gguf_name(name: &str) -> String {
    [
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
    ]
    .iter()
    .fold(name.to_string(), |name, (ours, theirs)| name.replace(ours, theirs))
}

/// Adapters beside all layers, with a B that is not zero.
pub fn adapters(model: &Decoder, rank: usize) -> Result<Adapters> {
    let config = LoraConfig { rank, alpha: 2.5 * rank as f64, ..Default::default() };
    let fresh = Adapters::new(&config, &model.targets(), 7, &Device::Cpu)?;
    fresh.map(|name, tensor| {
        if name.ends_with("lora_A") {
            return Ok(tensor.clone());
        }
        let values: Vec<f32> =
            (0..tensor.elem_count()).map(|i| (i as f32 * 0.37 + 1.0).sin() * 0.1).collect();
        Ok(Tensor::from_vec(values, tensor.dims(), &Device::Cpu)?)
    })
}

/// The loss over two packed rows, and the gradient of every adapter tensor.
pub fn gradients(model: &Decoder, adapters: &Adapters) -> Result<(f64, Vec<(String, Tensor)>)> {
    let count = model.config().vocabulary as u32;
    let ids: Vec<u32> = (0..21).map(|i| (i * i * 7 + 3) % count).collect();
    let borders = [0, 8, 21];
    let (hidden, saved) = model.forward(Tokens { ids: &ids, borders: &borders }, adapters, &|| true)?;
    let rows: Vec<u32> = (1..7).chain(9..20).collect();
    let targets: Vec<u32> = rows.iter().map(|row| ids[*row as usize + 1]).collect();
    let scale = 1.0 / rows.len() as f64;
    let mut gradients = Gradients::new();
    let (losses, dhidden) = model.loss_backward(
        &hidden,
        Counted { places: &rows, targets: &targets },
        scale,
        adapters,
        &mut gradients,
        &|| true,
    )?;
    let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    model.backward(saved, &dhidden, &borders, adapters, &mut gradients, &|| true)?;
    let owned = |(name, tensor): (&str, &Tensor)| (name.to_string(), tensor.copy().unwrap());
    Ok((sum * scale, gradients.tensors().map(owned).collect()))
}

/// |ours − truth| / |truth|
pub fn off(ours: &Tensor, truth: &Tensor) -> f64 {
    assert_eq!(ours.dims(), truth.dims());
    let [ours, truth] = [ours, truth].map(|x| x.to_dtype(DType::F64).unwrap());
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    norm(&(ours - &truth).unwrap()) / norm(&truth)
}
