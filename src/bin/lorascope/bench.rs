//! `lorascope bench`: measurements for comparison with other tools.

use crate::bench_generate;
use crate::bench_step::{self, random_pack};
use crate::handle;
use clap::{Args, Subcommand};
use lorascope::candle_core::Device;
use lorascope::error::{Error, Result};
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::{Decoder, OpenOptions, Tokens, WeightDtype};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Subcommand)]
pub enum Command {
    /// Time one training step on random tokens: LoRA on all linear layers, or full fine-tuning
    Step(bench_step::Step),
    /// Time greedy generation of tokens with the keys and values of those before kept
    Generate(bench_generate::Generate),
    /// Time how soon a run responds while it trains, and how long a snapshot and the spectra of a step take
    Handle(handle::Arguments),
    /// Time the forward pass of a model with merged and with unmerged adapters, compared with the model alone
    Merged(Merged),
}

#[derive(Args)]
pub struct Merged {
    /// Model: a .gguf file or a Hugging Face folder; its weights are held in f32
    #[arg(long)]
    model: PathBuf,
    /// Tokens per pass
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Rank of the adapters
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// Passes of each variant, interleaved
    #[arg(long, default_value_t = 21)]
    turns: usize,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Step(args) => crate::print(bench_step::measured(&args)?),
        Command::Generate(args) => crate::print(bench_generate::measured(&args)?),
        Command::Handle(args) => crate::print(handle::measured(&args)?),
        Command::Merged(args) => crate::print(merged(&args)?),
    }
    Ok(())
}

fn merged(args: &Merged) -> Result<String> {
    if args.tokens == 0 || args.turns == 0 {
        return Err(Error::input("tokens and turns must be at least 1"));
    }
    let options = OpenOptions { weights: WeightDtype::F32, device: Device::Cpu };
    let model = Decoder::open_with(&args.model, &options)?;
    let config = LoraConfig { rank: args.rank, ..Default::default() };
    let adapters = model.new_adapters(&config, 0)?;
    let (merged, none) = (model.merged(&adapters)?, Adapters::default());
    let pack = random_pack(0..1, args.tokens, model.config().vocabulary);
    let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
    let contestants = [("plain", &model, &none), ("merged", &merged, &none), ("unmerged", &model, &adapters)];
    let mut seconds = [const { Vec::new() }; 3];
    for turn in 0..=args.turns {
        for ((_, model, adapters), seconds) in contestants.iter().zip(&mut seconds) {
            let begun = Instant::now();
            model.hidden(tokens, adapters, &|| true)?;
            if turn > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let medians = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    });
    let line = |((name, ..), median): (&(&str, &Decoder, &Adapters), f64)| {
        format!("{name:<9} {:.1} ms, {:.3} times plain", median * 1e3, median / medians[0])
    };
    Ok(contestants.iter().zip(medians).map(line).collect::<Vec<_>>().join("\n"))
}
