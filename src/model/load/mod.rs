//! From files to a model in memory: a GGUF file or a Hugging Face folder, found, checked, mapped and
//! loaded in the type that is asked for.

mod decoder;
mod folder;
mod gguf;
mod mapped;
mod source;
mod tensor_name;

pub use decoder::OpenOptions;
pub(crate) use source::Source;
