//! The families of models, one short file each: what `config.json` and GGUF metadata mean, what the
//! tensors are called, which parts a block has. `docs/adding-a-model.md` shows how to add one.

mod baichuan;
mod definition;
mod gpt2;
mod llama;
mod qwen2;
mod qwen3;
mod registry;
mod values;
