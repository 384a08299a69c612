//! The dtype of an exported model.

use candle_core::DType;
use serde::{Deserialize, Serialize};

/// The dtype of every tensor in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportType {
    /// 32 bits: lossless, also for quantised weights.
    F32,
    /// bfloat16: the dtype of most published models.
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

    /// The usual name.
    pub(super) fn called(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The names in safetensors and in PyTorch.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::F32 => ("F32", "float32"),
            Self::Bf16 => ("BF16", "bfloat16"),
            Self::F16 => ("F16", "float16"),
        }
    }
}
