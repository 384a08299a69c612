//! The dtype of an exported model, and how much of a merged ΔW survives rounding to it.

use super::decoder::Decoder;
use super::frozen::Frozen;
use crate::error::Result;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Numbers that are compared at a time.
const PIECE: usize = 1 << 20;

/// The dtype of every tensor in the files of an exported model.
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

/// How much of the ΔW of one weight survives rounding, in Frobenius norms.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The weight's path: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// ‖ΔW‖ of what was merged, in 32 bits.
    pub change: f64,
    /// ‖round(W + ΔW) − round(W) − ΔW‖: how far the change that the files hold is from ΔW.
    pub lost: f64,
}

impl Kept {
    /// 1 − lost/change: 1 if ΔW is exact in the files, 0 if the error is as large as ΔW.
    pub fn share(&self) -> f64 {
        (1.0 - self.lost / self.change).clamp(0.0, 1.0)
    }

    /// The share of several weights together, from the root of the sums of squares; `None` for no weight.
    pub fn share_of(all: &[Self]) -> Option<f64> {
        let sum = |of: fn(&Self) -> f64| all.iter().map(|kept| of(kept).powi(2)).sum::<f64>().sqrt();
        let (change, lost) = (sum(|kept| kept.change), sum(|kept| kept.lost));
        (!all.is_empty()).then(|| (1.0 - lost / change).clamp(0.0, 1.0))
    }
}

/// For every tensor that differs from the base, how much of the difference the dtype keeps. Tensors are compared
/// in pieces: no weight is copied as a whole.
pub(super) fn kept(base: &Decoder, merged: &Decoder, dtype: ExportType) -> Result<Vec<Kept>> {
    if dtype == ExportType::F32 {
        return Ok(Vec::new());
    }
    let before: HashMap<String, Frozen> = base.tensors().into_iter().collect();
    // A head that merging has untied was the embedding.
    let head = Frozen::Matrix(base.head.weight());
    let pairs: Vec<_> = merged
        .tensors()
        .into_iter()
        .filter_map(|(name, now)| {
            let old = before.get(&name).or((name == format!("{}.weight", base.head.path())).then_some(&head));
            old.map(|old| (name, old, now))
        })
        .collect();
    let all = pairs.par_iter().map(|(name, old, now)| {
        let sums = match (old, now) {
            (Frozen::Vector(old), Frozen::Vector(now)) if old.id() != now.id() => sums(old, now, dtype)?,
            (Frozen::Matrix(old) | Frozen::Turned(old), Frozen::Matrix(now) | Frozen::Turned(now))
                if !old.same_storage(now) && old.shape() == now.shape() =>
            {
                let [out, inner] = now.shape();
                let rows: Vec<u32> = (0..out as u32).collect();
                rows.chunks((PIECE / inner).max(1)).try_fold((0.0, 0.0), |(change, lost), rows| {
                    let more = sums(&old.rows(rows)?, &now.rows(rows)?, dtype)?;
                    Ok::<_, crate::error::Error>((change + more.0, lost + more.1))
                })?
            }
            _ => (0.0, 0.0),
        };
        let module = name.strip_suffix(".weight").unwrap_or(name).to_string();
        Ok(Kept { module, change: sums.0.sqrt(), lost: sums.1.sqrt() })
    });
    let all: Vec<Kept> = all.collect::<Result<_>>()?;
    // A number that is not finite is named when it is written.
    Ok(all.into_iter().filter(|kept| kept.change > 0.0 && kept.change.is_finite()).collect())
}

/// Σ d² and Σ (round(w + d) − round(w) − d)².
fn sums(old: &Tensor, now: &Tensor, dtype: ExportType) -> Result<(f64, f64)> {
    let numbers = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    };
    let rounded = |x: f32| match dtype {
        ExportType::F32 => x,
        ExportType::Bf16 => half::bf16::from_f32(x).to_f32(),
        ExportType::F16 => half::f16::from_f32(x).to_f32(),
    };
    let (old, now) = (numbers(old)?, numbers(now)?);
    Ok(old.iter().zip(&now).fold((0.0, 0.0), |(change, lost), (old, now)| {
        let delta = f64::from(*now) - f64::from(*old);
        let written = f64::from(rounded(*now)) - f64::from(rounded(*old));
        (change + delta.powi(2), lost + (written - delta).powi(2))
    }))
}

/// The note about the loss: the share over all weights, the worst weight, and what to do if much is lost.
pub(super) fn note(kept: &[Kept], called: &str) -> Option<String> {
    /// Below this share the answers differ from those of base and adapter.
    const FINE: f64 = 0.9;
    let all = Kept::share_of(kept)?;
    let worst = kept.iter().min_by(|a, b| a.share().total_cmp(&b.share()))?;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let advice = match all.min(worst.share()) < FINE {
        true => crate::display::advice(
            "; to keep all of it write ExportType::F32, or leave the adapter beside the model",
            "; to keep all of it say --dtype f32, or leave the adapter beside the model",
        ),
        false => "",
    };
    Some(format!(
        "rounding to {called} keeps {} of the change ΔW that was merged (1 − ‖error‖/‖ΔW‖), least in {}: {}{advice}",
        percent(all),
        worst.module,
        percent(worst.share())
    ))
}
