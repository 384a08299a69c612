//! Loading: finds, checks and maps the files of a model, and loads its weights in the dtype that is asked for.

mod decoder;
mod folder;
mod gguf;
mod random;
mod source;

pub use decoder::OpenOptions;
pub(crate) use source::Source;
