//! `lorascope bench step`: times training steps on random tokens.

use clap::Args;
use lorascope::analysis::Plan;
use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::devices::{DeviceGroup, placed};
use lorascope::error::{Error, Result};
use lorascope::lora::LoraConfig;
use lorascope::model::{Decoder, DecoderConfig, OpenOptions, Recompute, WeightDtype};
use lorascope::ops::matmul::{Form, matmul};
use lorascope::ops::random::{Random, Stream};
use lorascope::ops::{Precision, peak_memory};
use lorascope::text::Pack;
use lorascope::train::step::{Accumulated, Learned, forward_backward, update};
use lorascope::train::{
    Batch, Devices, OptimizerConfig, Placement, Reduction, RunConfig, SgdConfig, StepMemory,
};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
#[command(group = clap::ArgGroup::new("sizes").required(true).args(["model", "shapes"]))]
pub struct Step {
    /// Model: a .gguf file or a Hugging Face folder
    #[arg(long)]
    model: Option<PathBuf>,
    /// Instead of a model its config.json: the weights are random, in bf16 if --weights does not say otherwise
    #[arg(long, value_name = "FILE")]
    shapes: Option<PathBuf>,
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
    /// Devices to train on: cpu:RANKS, cuda:0,1, auto; with more than one, each row of the batch is a micro-batch
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

/// What was measured.
struct Measured {
    tokens_per_second: f64,
    /// Of one step, the median.
    seconds: f64,
    /// MiB of the GPU's memory or, on the processor, of the process.
    peak_mb: Option<u64>,
    /// MiB of a step as it was computed before.
    computed_mb: u64,
    loss: f64,
    /// Operations in a second, of all devices together.
    operations: f64,
    /// Those of one large product in the same type on as many devices.
    possible: f64,
    /// The dtypes of the weights.
    weights: String,
    /// The devices, how the model lies on them, and where gradients are added.
    on: String,
}

pub fn measured(args: &Step) -> Result<String> {
    if args.batch == 0 || args.tokens < 2 || args.steps == 0 {
        return Err(Error::input("batch and steps must be at least 1, tokens at least 2"));
    }
    let dtype = match args.precision {
        Precision::F32 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::F16 => "float16",
    };
    let found = args.measure()?;
    let Measured { tokens_per_second, seconds, computed_mb, loss, operations, possible, .. } = found;
    let share = operations / possible;
    let peak = found.peak_mb.map_or("null".to_string(), |mb| mb.to_string());
    Ok(if args.json {
        format!(
            "{{\"tool\": \"lorascope\", \"dtype\": \"{dtype}\", \"weights\": \"{}\", \"devices\": \"{}\", \"tokens_per_second\": {tokens_per_second:.1}, \"step_seconds\": {seconds:.3}, \"peak_mb\": {peak}, \"computed_mb\": {computed_mb}, \"loss\": {loss:.4}, \"gflops\": {:.1}, \"product_gflops\": {:.1}, \"share\": {share:.3}}}",
            found.weights,
            found.on,
            operations / 1e9,
            possible / 1e9,
        )
    } else {
        format!(
            "{tokens_per_second:.1} tokens/s, {seconds:.3} s a step (median of {}), peak {peak} MB ({computed_mb} MB computed), {:.0} GFLOP/s ({:.0} % of one large product's), loss {loss:.4}, on {}",
            args.steps,
            operations / 1e9,
            100.0 * share,
            found.on,
        )
    })
}

impl Step {
    fn model(&self, device: &Device) -> Result<Decoder> {
        let weights = match self.weights {
            Weights::Stored => WeightDtype::Stored,
            Weights::F32 => WeightDtype::F32,
            Weights::Bf16 => WeightDtype::Bf16,
            Weights::Q8_0 => WeightDtype::Q8_0,
            Weights::Q4k => WeightDtype::Q4K,
        };
        let options = OpenOptions { weights, device: device.clone() };
        let model = match (&self.shapes, &self.model) {
            (Some(shapes), _) => Decoder::random(DecoderConfig::open(shapes)?, &options)?,
            (None, Some(model)) => Decoder::open_with(model, &options)?,
            (None, None) => return Err(Error::input("no model").help("give --model or --shapes")),
        };
        Ok(model.with_precision(self.precision).with_recompute(match self.recompute {
            true => Recompute::Blocks,
            false => Recompute::Nothing,
        }))
    }

    fn measure(&self) -> Result<Measured> {
        let placement = self.split.map_or(Placement::Replicate, Placement::Split);
        if placement.stages() == 0 {
            return Err(Error::input("a model split over 0 devices").help("split it over at least 2"));
        }
        let mut devices = match &self.devices {
            Some(devices) => devices.all()?,
            None => Vec::new(),
        };
        if devices.is_empty() {
            devices = vec![Device::Cpu; placement.stages()];
        }
        let alone = devices.len() == 1 && placement.stages() == 1;
        // Several GPUs get their parts of a model in memory, as those of a run do: it need not fit on one of them.
        let mut model = self.model(if alone { &devices[0] } else { &Device::Cpu })?;
        placement.check(devices.len(), model.config().layers)?;
        if !alone && !devices[0].is_cpu() {
            model = placed(&model, &devices, placement, self.tokens)?;
        }
        self.precision.check_on(&devices[0])?;
        let config = LoraConfig { rank: self.rank, alpha: 2.0 * self.rank as f64, ..Default::default() };
        let (adapters, optimizer) = match self.full {
            true => (model.all_trained()?, OptimizerConfig::Sgd(SgdConfig::default())),
            false => (model.new_adapters(&config, 0)?, OptimizerConfig::default()),
        };
        let computed = StepMemory::of(&model, &adapters, &optimizer, self.batch * self.tokens).peak();
        let mut learned = Learned::new(adapters, 0).on(&model)?;
        let vocabulary = model.config().vocabulary;
        let batch = Batch::of(match alone {
            true => vec![random_pack(0..self.batch, self.tokens, vocabulary)],
            false => (0..self.batch).map(|n| random_pack(n..n + 1, self.tokens, vocabulary)).collect(),
        });
        let mut group = match alone {
            true => None,
            false => {
                let group =
                    DeviceGroup::new(&model, &devices, placement, self.tokens)?.reduction(self.reduction);
                group.note().into_iter().for_each(crate::complain);
                Some(group)
            }
        };
        let (mut seconds, mut loss) = (Vec::new(), 0.0);
        for i in 0..=self.steps {
            let begun = Instant::now();
            let mut sums = Accumulated::default();
            match &mut group {
                None => forward_backward(&model, &learned, &batch, &mut sums, &|| true)?,
                Some(group) => group.forward_backward(&model, &learned, &batch, &mut sums, &|| true)?,
            }
            let (next, numbers) = update(&model, &learned, sums, 2e-4, Some(1.0), &optimizer, &|_| false)?;
            (learned, loss) = (next, numbers.loss);
            devices.iter().try_for_each(Device::synchronize)?;
            if i > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
        }
        let peak = devices.iter().filter_map(peak_memory).max();
        let weights = model.weight_types();
        let one_step = self.operations(model.config(), config)?;
        drop((group, learned, model));
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        Ok(Measured {
            tokens_per_second: (self.batch * self.tokens) as f64 / median,
            seconds: median,
            peak_mb: peak.map(|bytes| bytes >> 20).or_else(peak_mb),
            computed_mb: computed >> 20,
            loss,
            operations: one_step / median,
            // Ranks on the processor share it.
            possible: product_speed(&devices[0], self.precision.dtype())?
                * if devices[0].is_cpu() { 1.0 } else { gpus(&devices) as f64 },
            weights,
            on: self.on(placement),
        })
    }

    /// The devices in words.
    fn on(&self, placement: Placement) -> String {
        let devices = self.devices.as_ref().map_or("cpu".to_string(), Devices::to_string);
        let reduction = if self.reduction.is_ordered() { "" } else { ", gradients added on the devices" };
        format!("{devices}{placement}{reduction}")
    }

    /// The operations of one step, as `lorascope plan` counts them.
    fn operations(&self, config: &DecoderConfig, lora: LoraConfig) -> Result<f64> {
        let recompute = if self.recompute { Recompute::Blocks } else { Recompute::Nothing };
        let context = Some(self.tokens);
        let run = RunConfig { lora, context, recompute, ..RunConfig::default().batch(self.batch) };
        let plan = Plan::of(config, &run, &[])?;
        let name = if self.full { "full, SGD" } else { "LoRA, bf16" };
        let way = plan.ways.iter().find(|way| way.name.starts_with(name));
        way.map(|way| way.operations).ok_or_else(|| Error::compute("the plan has no such way"))
    }
}

fn gpus(devices: &[Device]) -> usize {
    let mut apart: Vec<&Device> = Vec::new();
    for device in devices {
        if !apart.iter().any(|other| other.same_device(device)) {
            apart.push(device);
        }
    }
    apart.len()
}

/// Operations in a second of one large square product, the median of five.
fn product_speed(device: &Device, dtype: DType) -> Result<f64> {
    let side = if device.is_cpu() { 1024 } else { 8192 };
    let random = || Tensor::randn(0f32, 1.0, (side, side), device)?.to_dtype(dtype);
    let (a, b) = (random()?, random()?);
    let mut seconds = Vec::new();
    for i in 0..6 {
        let begun = Instant::now();
        let product = matmul(&a, &b, Form::RightTransposed)?;
        device.synchronize()?;
        drop(product);
        if i > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(2.0 * (side as f64).powi(3) / seconds[seconds.len() / 2])
}

/// Rows of random tokens by their numbers, all of them trained on.
pub fn random_pack(rows: Range<usize>, tokens: usize, vocabulary: usize) -> Pack {
    let mut pack = Pack { borders: vec![0], ..Default::default() };
    for row in rows {
        let mut random = Random::at(0, Stream::Order, 0, row as u64);
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
pub fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
