//! The frozen tensors of a model with their names.

use super::decoder::{Decoder, PositionEncoding};
use super::weight::Weight;
use super::weight_dtype::WeightDtype;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// A frozen tensor of a model.
pub(crate) enum Frozen<'a> {
    /// `[out, in]`.
    Matrix(&'a Weight),
    /// `[out, in]`, but the files of the family store it as `[in, out]`.
    Turned(&'a Weight),
    Vector(Tensor),
}

impl Decoder {
    /// Every frozen tensor with its Hugging Face name; a tied head has no tensor of its own.
    pub(crate) fn tensors(&self) -> Vec<(String, Frozen<'_>)> {
        let matrix = |weight| match self.config.fan_in_fan_out() {
            true => Frozen::Turned(weight),
            false => Frozen::Matrix(weight),
        };
        let vectors = |all: Vec<(String, Tensor)>| all.into_iter().map(|(name, v)| (name, Frozen::Vector(v)));
        let mut all = vec![(self.embedding.name().to_string(), Frozen::Matrix(self.embedding.weight()))];
        if let PositionEncoding::Learned(table) = &self.positions {
            all.push((table.name().to_string(), Frozen::Matrix(table.table())));
        }
        for block in &self.blocks {
            for norm in block.norms() {
                all.extend(vectors(norm.vectors()));
            }
            for linear in block.linears() {
                all.push((format!("{}.weight", linear.path()), matrix(linear.weight())));
                let bias = linear.bias().map(|bias| (format!("{}.bias", linear.path()), bias.clone()));
                all.extend(vectors(bias.into_iter().collect()));
            }
        }
        all.extend(vectors(self.norm.vectors()));
        if !self.is_tied() {
            all.push((format!("{}.weight", self.head.path()), Frozen::Matrix(self.head.weight())));
        }
        all
    }

    /// Describes the dtypes of the matrices for the table of the model.
    pub(super) fn describe_dtypes(&self, dtype: WeightDtype) -> String {
        if dtype == WeightDtype::Stored {
            return format!("as stored: {}", self.weight_types());
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (_, part) in self.tensors() {
            if let Frozen::Matrix(weight) | Frozen::Turned(weight) = part {
                *counts.entry(weight.type_name()).or_default() += 1;
            }
        }
        let own = counts.remove(dtype.name()).unwrap_or(0);
        if counts.is_empty() {
            return format!("as {}", dtype.name());
        }
        let others: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        format!(
            "as {}: {own} matrices, and {} whose row length is not a multiple of its block size",
            dtype.name(),
            others.join(", ")
        )
    }
}
