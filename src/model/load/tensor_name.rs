//! Names of tensors in Hugging Face folders and in GGUF files.

use crate::model::config::DecoderConfig;
use crate::model::parts::ModelPart;

/// The names of a tensor in both kinds of files; errors show the Hugging Face name.
pub(crate) struct TensorName {
    pub(super) hugging_face: String,
    /// The name in a file of the model without its head.
    pub(super) bare: String,
    pub(super) gguf: String,
}

impl TensorName {
    /// The name of a tensor (`weight` or `bias`) of a part, in a block or outside of the blocks.
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
