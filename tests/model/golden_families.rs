//! A tiny model of each family with adapters against PyTorch and PEFT: one forward and backward pass,
//! and ten updates of AdamW. `golden/families.py` made the numbers, in f64, and the folders.

use crate::common::golden::{check_pass, check_steps};
use lorascope::error::Result;
use lorascope::ops::Kernels;

fn check(name: &str) -> Result<()> {
    for kernels in [Kernels::Candle, Kernels::Fused] {
        check_pass(name, kernels)?;
        check_steps(name, kernels)?;
    }
    Ok(())
}

#[test]
fn golden_qwen2_with_biases() -> Result<()> {
    check("qwen2")
}

#[test]
fn golden_qwen3_with_norms_of_heads() -> Result<()> {
    check("qwen3")
}

#[test]
fn golden_gpt2_fused_with_layer_norms() -> Result<()> {
    check("gpt2")
}

#[test]
fn golden_llama3_with_scaled_frequencies() -> Result<()> {
    check("llama3")
}

#[test]
fn golden_baichuan2_with_a_head_of_unit_rows() -> Result<()> {
    check("baichuan2")
}
