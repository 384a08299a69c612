//! Two whole models with adapters against PyTorch and PEFT, in one forward and backward pass:
//! `golden/tiny.py` made the numbers, in f64, and the folders, with transformers and PEFT.

use crate::common::golden::check_pass;
use lorascope::error::Result;
use lorascope::ops::Kernels;

#[test]
fn golden_grouped_heads_and_a_head_of_its_own() -> Result<()> {
    check_pass("tiny", Kernels::Candle)?;
    check_pass("tiny", Kernels::Fused)
}

#[test]
fn golden_tied_with_biases_and_rank_stabilised() -> Result<()> {
    check_pass("tied", Kernels::Candle)?;
    check_pass("tied", Kernels::Fused)
}
