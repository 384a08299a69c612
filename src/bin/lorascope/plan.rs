//! `lorascope plan`: estimates what fine-tuning a model takes.

use clap::Args;
use lorascope::analysis::Plan;
use lorascope::candle_core::Device;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::model::DecoderConfig;
use lorascope::model::Recompute;
use lorascope::train::{CONTEXT, RunConfig};
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// Model: a config.json, a Hugging Face folder or a .gguf file
    model: PathBuf,
    /// Rank of the adapters; 16 by default
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Tokens per step, instead of 16 rows of the maximum length
    #[arg(long, value_name = "TOKENS")]
    batch_tokens: Option<usize>,
    /// Maximum tokens per row; by default the model's context, but at most 2048
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Recompute activations in the backward pass from the input of each block: less memory, more time
    #[arg(long)]
    recompute: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let model = DecoderConfig::open(&arguments.model)?;
    let mut config = RunConfig::default();
    if let Some(rank) = arguments.rank {
        config = config.rank(rank);
    }
    let context = arguments.context.unwrap_or(CONTEXT).min(model.context);
    config = config.context(context);
    if let Some(tokens) = arguments.batch_tokens {
        config = config.context(context.min(tokens)).batch((tokens / context).max(1));
    }
    if arguments.recompute {
        config = config.recompute(Recompute::Blocks);
    }
    crate::print(Plan::of(&model, &config, &[Device::Cpu])?.show().text);
    Ok(())
}
