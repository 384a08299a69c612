//! The type of the numbers in an exported model.

use candle_core::DType;
use serde::{Deserialize, Serialize};

/// The type of every tensor in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportType {
    /// 32 bits: nothing is lost, also from blocks.
    F32,
    /// The upper half of them: what most models are published in.
    #[default]
    Bf16,
    /// 16 bits with a smaller range: a weight beyond 65504 is refused.
    F16,
}

impl ExportType {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// As people call it.
    pub(super) fn called(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// As safetensors and as PyTorch call it.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::F32 => ("F32", "float32"),
            Self::Bf16 => ("BF16", "bfloat16"),
            Self::F16 => ("F16", "float16"),
        }
    }
}
