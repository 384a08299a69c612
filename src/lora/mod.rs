//! LoRA: configuration, adapters, PEFT files.
