//! `lorascope bench`: measurements for comparison with other tools.

use crate::handle;
use clap::{Args, Subcommand};
use lorascope::candle_core::Device;
use lorascope::devices::DeviceGroup;
use lorascope::error::{Error, Result};
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::{Decoder, OpenOptions, Recompute, Tokens, WeightDtype};
use lorascope::ops::Precision;
use lorascope::ops::random::{Random, Stream};
use lorascope::text::Pack;
use lorascope::train::step::{Accumulated, Learned, forward_backward, update};
use lorascope::train::{Batch, Devices, OptimizerConfig, Placement, Reduction, SgdConfig, StepMemory};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Subcommand)]
pub enum Command {
    /// Time one training step on random tokens: LoRA on all linear layers, or full fine-tuning
    Step(Step),
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

#[derive(Args)]
pub struct Step {
    /// Model: a .gguf file or a Hugging Face folder
    #[arg(long)]
    model: PathBuf,
    /// Rows per batch
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Tokens per row
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Rank of the adapters
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// Timed steps, after one that is not timed
    #[arg(long, default_value_t = 4)]
    steps: usize,
    /// Full fine-tuning with SGD and momentum, instead of adapters with AdamW
    #[arg(long)]
    full: bool,
    /// Dtype of the frozen weights in memory: as stored in the file, or this one
    #[arg(long, value_enum, default_value = "stored")]
    weights: Weights,
    /// Recompute activations in the backward pass from the input of each block: less memory, more time
    #[arg(long)]
    recompute: bool,
    /// Precision of the matrix products: f32, bf16 (GPUs) or f16
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    precision: Precision,
    /// Devices to train on: cpu:RANKS, cuda:0,1, auto; each row of the batch is a micro-batch then
    #[arg(long, value_name = "DEVICES")]
    devices: Option<Devices>,
    /// Split the model's blocks over this many devices
    #[arg(long, value_name = "N", requires = "devices")]
    split: Option<usize>,
    /// Where gradients are added: ordered (on the host), or on-devices
    #[arg(long, value_name = "WHERE", default_value = "ordered", requires = "devices")]
    reduction: Reduction,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Weights {
    Stored,
    F32,
    Bf16,
    Q8_0,
    Q4k,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Step(args) => crate::print(step(&args)?),
        Command::Handle(args) => crate::print(handle::measured(&args)?),
        Command::Merged(args) => crate::print(merged(&args)?),
    }
    Ok(())
}

fn step(args: &Step) -> Result<String> {
    if args.batch == 0 || args.tokens < 2 || args.steps == 0 {
        return Err(Error::input("batch and steps must be at least 1, tokens at least 2"));
    }
    let weights = match args.weights {
        Weights::Stored => WeightDtype::Stored,
        Weights::F32 => WeightDtype::F32,
        Weights::Bf16 => WeightDtype::Bf16,
        Weights::Q8_0 => WeightDtype::Q8_0,
        Weights::Q4k => WeightDtype::Q4K,
    };
    let model = Decoder::open_with(&args.model, &OpenOptions { weights, device: Device::Cpu })?
        .with_precision(args.precision)
        .with_recompute(if args.recompute { Recompute::Blocks } else { Recompute::Nothing });
    let config = LoraConfig { rank: args.rank, alpha: 2.0 * args.rank as f64, ..Default::default() };
    let (adapters, optimizer) = match args.full {
        true => (model.all_trained()?, OptimizerConfig::Sgd(SgdConfig::default())),
        false => (model.new_adapters(&config, 0)?, OptimizerConfig::default()),
    };
    let computed = StepMemory::of(&model, &adapters, &optimizer, args.batch * args.tokens).peak() >> 20;
    let mut learned = Learned::new(adapters, 0);
    let vocabulary = model.config().vocabulary;
    let batch = Batch::of(match args.devices {
        None => vec![random_pack(args.batch, args.tokens, vocabulary)],
        Some(_) => vec![random_pack(1, args.tokens, vocabulary); args.batch],
    });
    let placement = args.split.map_or(Placement::Replicate, Placement::Split);
    let mut group = match &args.devices {
        None => None,
        Some(devices) => {
            let mut all = devices.all()?;
            if all.is_empty() {
                all = vec![model.device().clone(); placement.stages()];
            }
            Some(DeviceGroup::new(&model, &all, placement, args.tokens)?.reduction(args.reduction))
        }
    };
    let (mut seconds, mut loss) = (Vec::new(), 0.0);
    for i in 0..=args.steps {
        let begun = Instant::now();
        let mut sums = Accumulated::default();
        match &mut group {
            None => forward_backward(&model, &learned, &batch, &mut sums, &|| true)?,
            Some(group) => group.forward_backward(&model, &learned, &batch, &mut sums, &|| true)?,
        }
        let (next, numbers) = update(&model, &learned, sums, 2e-4, Some(1.0), &optimizer, &|_| false)?;
        (learned, loss) = (next, numbers.loss);
        if i > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let rate = (args.batch * args.tokens) as f64 / median;
    let peak = peak_mb().map_or("null".to_string(), |mb| mb.to_string());
    let dtype = match args.precision {
        Precision::F32 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::F16 => "float16",
    };
    Ok(if args.json {
        format!(
            "{{\"tool\": \"lorascope\", \"dtype\": \"{dtype}\", \"tokens_per_second\": {rate:.1}, \"step_seconds\": {median:.3}, \"peak_mb\": {peak}, \"computed_mb\": {computed}, \"loss\": {loss:.4}}}"
        )
    } else {
        format!(
            "{rate:.1} tokens/s, {median:.3} s a step (median of {}), peak {peak} MB ({computed} MB computed), loss {loss:.4}",
            args.steps
        )
    })
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
    let pack = random_pack(1, args.tokens, model.config().vocabulary);
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

fn random_pack(rows: usize, tokens: usize, vocabulary: usize) -> Pack {
    let mut random = Random::at(0, Stream::Order, 0, 0);
    let mut pack = Pack { borders: vec![0], ..Default::default() };
    for row in 0..rows {
        let ids: Vec<u32> = (0..tokens).map(|_| random.below(vocabulary as u64) as u32).collect();
        pack.positions.extend(0..tokens as u32);
        pack.targets.extend(ids[1..].iter().map(|id| Some(*id)).chain([None]));
        pack.ids.extend(ids);
        pack.borders.push(pack.ids.len());
        pack.examples.push(row);
    }
    pack
}

/// The largest resident memory of this process so far, in MiB as getrusage counts it.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
