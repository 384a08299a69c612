//! A small GGUF model, made in memory, and what opening a model says.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::model::Decoder;
use std::collections::BTreeMap;
use std::path::Path;

/// What a small GGUF model holds: V = 40, D = 32, 4 heads on 2, F = 64, one layer, context 16.
pub struct Parts {
    pub metadata: BTreeMap<&'static str, Value>,
    pub tensors: BTreeMap<String, QTensor>,
}

pub fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 0.3, shape, &Device::Cpu).unwrap()
}

impl Parts {
    fn new() -> Self {
        let number = Value::U32;
        let metadata = BTreeMap::from([
            ("general.architecture", Value::String("llama".to_string())),
            ("general.alignment", number(32)),
            ("llama.vocab_size", number(40)),
            ("llama.embedding_length", number(32)),
            ("llama.block_count", number(1)),
            ("llama.attention.head_count", number(4)),
            ("llama.attention.head_count_kv", number(2)),
            ("llama.feed_forward_length", number(64)),
            ("llama.context_length", number(16)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("tokenizer.ggml.tokens", Value::Array(vec![Value::String("a".to_string()); 40])),
        ]);
        let mut parts = Self { metadata, tensors: BTreeMap::new() };
        for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
            parts.tensor(name, &[32], GgmlDType::F32);
        }
        for (name, shape) in [
            ("token_embd", [40, 32]),
            ("blk.0.attn_q", [32, 32]),
            ("blk.0.attn_k", [16, 32]),
            ("blk.0.attn_v", [16, 32]),
            ("blk.0.attn_output", [32, 32]),
            ("blk.0.ffn_gate", [64, 32]),
            ("blk.0.ffn_up", [64, 32]),
            ("blk.0.ffn_down", [32, 64]),
        ] {
            parts.tensor(name, &shape, GgmlDType::Q8_0);
        }
        parts
    }

    pub fn tensor(&mut self, name: &str, shape: &[usize], dtype: GgmlDType) {
        let tensor = QTensor::quantize(&random(shape), dtype).unwrap();
        self.tensors.insert(format!("{name}.weight"), tensor);
    }

    fn bytes(&self) -> Vec<u8> {
        let metadata: Vec<_> = self.metadata.iter().map(|(name, value)| (*name, value)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut file = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
        file.into_inner()
    }
}

/// The bytes of a small GGUF model after a change.
pub fn gguf(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::new();
    change(&mut parts);
    parts.bytes()
}

/// What the error at opening says after the path that it begins with.
#[track_caller]
pub fn refusal(opened: &Path, named: &Path) -> String {
    let error = Decoder::open(opened, &Device::Cpu).unwrap_err().to_string();
    let Some(rest) = error.strip_prefix(&named.display().to_string()) else {
        panic!("{error} does not name {}", named.display())
    };
    rest.to_string()
}
