//! `lorascope bench generate`: times greedy generation, token by token.

use crate::bench_step::{peak_mb, random_pack};
use clap::Args;
use lorascope::candle_core::Device;
use lorascope::error::{Error, Result};
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::generate::generate_each;
use lorascope::model::{Decoder, GenerateConfig};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub struct Generate {
    /// Model: a .gguf file or a Hugging Face folder
    #[arg(long)]
    model: PathBuf,
    /// Tokens to generate; the first is not timed with the others, because the prompt is read before it
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Random tokens before them
    #[arg(long, default_value_t = 16)]
    prompt: usize,
    /// Rank of adapters on all linear layers; 0 for the model alone
    #[arg(long, default_value_t = 0)]
    rank: usize,
    /// Timed turns, after one that is not timed
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub fn measured(args: &Generate) -> Result<String> {
    if args.tokens < 2 || args.prompt == 0 || args.turns == 0 {
        return Err(Error::input("prompt and turns must be at least 1, tokens at least 2"));
    }
    let model = Decoder::open(&args.model, &Device::Cpu)?;
    let context = model.config().context;
    if args.prompt + args.tokens > context {
        return Err(Error::input(format!("{} tokens after {} of a prompt", args.tokens, args.prompt))
            .help(format!("together at most {context}, the context of the model")));
    }
    let adapters = match args.rank {
        0 => Adapters::default(),
        rank => model.new_adapters(&LoraConfig { rank, ..LoraConfig::default() }, 0)?,
    };
    let prompt = random_pack(0..1, args.prompt, model.config().vocabulary).ids;
    let config = GenerateConfig { max_tokens: args.tokens, ..GenerateConfig::default() };
    let (mut each, mut first) = (Vec::new(), Vec::new());
    for turn in 0..=args.turns {
        let begun = Instant::now();
        let mut at = Vec::with_capacity(args.tokens);
        generate_each(&model, &adapters, &prompt, &[], &config, &mut |_| {
            at.push(begun.elapsed().as_secs_f64());
            Ok(true)
        })?;
        if turn > 0 {
            let (begin, end) = (at[0], at[at.len() - 1]);
            first.push(begin);
            each.push((end - begin) / (at.len() - 1) as f64);
        }
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let (each, first) = (median(each), median(first));
    let gigabytes = model.bytes_per_token() as f64 / each / 1e9;
    let (speed, weights, peak) = (1.0 / each, model.weight_types(), peak_mb());
    let peak = peak.map_or("null".to_string(), |mb| mb.to_string());
    Ok(if args.json {
        format!(
            "{{\"tool\": \"lorascope\", \"weights\": \"{weights}\", \"rank\": {}, \"tokens_per_second\": {speed:.1}, \"first_token_seconds\": {first:.4}, \"gigabytes_per_second\": {gigabytes:.2}, \"peak_mb\": {peak}}}",
            args.rank
        )
    } else {
        format!(
            "{speed:.1} tokens/s (median of {}), first token after {:.0} ms, {gigabytes:.1} GB/s of weights ({weights}), peak {peak} MB",
            args.turns,
            1e3 * first
        )
    })
}
