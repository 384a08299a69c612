//! Tokenizer, chat template, which tokens are trained on, packing.
