//! The families of models, one short file each: how `config.json` and GGUF metadata are read, the names of the
//! tensors, the parts of a block. `docs/adding-a-model.md` shows how to add one.

mod baichuan;
mod definition;
mod gpt2;
mod llama;
mod qwen2;
mod qwen3;
mod registry;
mod values;
