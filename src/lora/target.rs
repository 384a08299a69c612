//! The layers of a model that can be adapted, and access to their frozen weights.

use crate::error::Result;
use candle_core::Tensor;

/// A layer that can be adapted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its path in the weights: `model.layers.3.self_attn.q_proj`.
    pub path: String,
    /// `[out, in]`; for an embedding `[V, D]`.
    pub shape: [usize; 2],
    /// The kind of layer.
    pub kind: TargetKind,
}

/// The kinds of layers that can be adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A linear layer of a block.
    Linear,
    /// The embedding.
    Embedding,
    /// The head: a linear layer that `all-linear` leaves out.
    Head,
    /// A head whose matrix is the embedding's.
    TiedHead,
}

impl Target {
    /// A linear layer of a block, `[out, in]`.
    pub fn linear(path: impl Into<String>, shape: [usize; 2]) -> Self {
        Self { path: path.into(), shape, kind: TargetKind::Linear }
    }
}

/// Access to the frozen weights for initialisations that need them: PiSSA, DoRA, and modules that are trained in
/// full.
pub trait Base {
    /// The matrix of a layer in f32, `[out, in]`, or of an embedding `[V, D]`.
    ///
    /// # Errors
    /// When there is no such layer.
    fn matrix(&self, path: &str) -> Result<Tensor>;

    /// All other weights (norms, biases) whose names fit, in f32, with their names.
    ///
    /// # Errors
    /// When the device fails.
    fn vectors(&self, fits: &dyn Fn(&str) -> bool) -> Result<Vec<(String, Tensor)>>;
}
