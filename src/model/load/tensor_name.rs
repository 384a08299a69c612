//! What a tensor is called in a Hugging Face folder and in a GGUF file.

use crate::model::config::DecoderConfig;
use crate::model::parts::ModelPart;

/// A tensor by the names that it has in the two kinds of files; errors say Hugging Face's.
pub(crate) struct TensorName {
    pub(super) hugging_face: String,
    /// The same in a file of the model without its head.
    pub(super) bare: String,
    pub(super) gguf: String,
}

impl TensorName {
    /// A tensor (`weight` or `bias`) of a part, in a block or outside of them.
    pub(crate) fn of(config: &DecoderConfig, part: ModelPart, layer: Option<usize>, tensor: &str) -> Self {
        let (path, gguf) = match layer {
            Some(layer) => (config.path(part, layer), format!("blk.{layer}.{}", part.gguf())),
            None => (config.family.definition().name(part).to_string(), part.gguf().to_string()),
        };
        let base = config.family.definition().base;
        let bare = path.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&path);
        Self {
            bare: format!("{bare}.{tensor}"),
            hugging_face: format!("{path}.{tensor}"),
            gguf: format!("{gguf}.{tensor}"),
        }
    }
}

impl std::fmt::Display for TensorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hugging_face)
    }
}
