//! The memory and time that fine-tuning a model would take, before its weights are loaded.

use crate::display::{Align, Bundle, Show, Table, bytes, duration, thousands};
use crate::error::Result;
use crate::lora::TargetKind;
use crate::model::{DecoderConfig, Recompute, WeightDtype};
use crate::ops::Precision;
use crate::ops::matmul::{Form, matmul};
use crate::train::memory::Load;
use crate::train::{AdamWConfig, CONTEXT, OptimizerConfig, RunConfig, SgdConfig, StepMemory};
use candle_core::{DType, Device, Tensor};
use std::time::{Duration, Instant};

/// Memory and time of the ways to fine-tune a model, from its config alone.
///
/// # Examples
/// ```no_run
/// use lorascope::candle_core::Device;
/// use lorascope::model::DecoderConfig;
/// use lorascope::analysis::Plan;
/// use lorascope::train::RunConfig;
///
/// let config = DecoderConfig::open("models/llama-2-7b/config.json")?;
/// let plan = Plan::of(&config, &RunConfig::default().rank(8).context(1024), &[Device::Cpu])?;
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many numbers the model has.
    pub parameters: u64,
    /// Tokens of a micro-batch at most, which memory follows from: those that the config says, or of a row
    /// as long as the context.
    pub micro_batch: usize,
    /// Tokens of a step at most, which its time follows from: all rows as long as the context.
    pub step_tokens: usize,
    /// The ways to fine-tune it.
    pub ways: Vec<Way>,
    /// Where it could be done.
    pub devices: Vec<Capacity>,
    /// Floating-point operations in a second of a matrix product in f32 of this model's shapes on this
    /// machine's processor, as measured; time is estimated from it.
    pub speed: f64,
}

/// One way to fine-tune a model.
#[derive(Debug, Clone)]
pub struct Way {
    /// What is trained and how weights are held.
    pub name: &'static str,
    /// How many numbers are trained.
    pub trained: u64,
    /// The memory of a step.
    pub memory: StepMemory,
    /// Floating-point operations of a step.
    pub operations: f64,
}

/// The memory of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// The device: `CPU`, `CUDA 0`.
    pub name: String,
    /// Its memory in bytes, where it is known.
    pub total: Option<u64>,
    /// What is free of it.
    pub available: Option<u64>,
}

impl Plan {
    /// The plan for a model of these sizes: full fine-tuning by SGD with momentum and by AdamW, in f32, and
    /// LoRA as the run's config has it beside weights in f32, bf16 and 4 bits.
    ///
    /// With N weights that a token is multiplied with, a step over T tokens takes 4NT operations for LoRA
    /// (2NT forward, 2NT back through the frozen weights) and 6NT for full fine-tuning (2NT more for their
    /// gradients; Kaplan et al. 2020, *Scaling Laws for Neural Language Models*, §2.1), 6PT for P numbers of
    /// adapters, and attention. Measures the processor's speed for a fifth of a second.
    ///
    /// # Errors
    /// When the run's config cannot be used or its adapters do not fit the model.
    pub fn of(config: &DecoderConfig, run: &RunConfig, devices: &[Device]) -> Result<Self> {
        run.check()?;
        let context = run.context.unwrap_or(CONTEXT).min(config.context);
        let step_tokens = run.batch.saturating_mul(context);
        let micro_batch = context.max(run.micro_batch).min(step_tokens);
        let full = [
            ("full, SGD with momentum, f32", OptimizerConfig::Sgd(SgdConfig::default())),
            ("full, AdamW, f32", OptimizerConfig::AdamW(AdamWConfig::default())),
        ];
        let lora = [
            ("LoRA, f32 weights", WeightDtype::F32),
            ("LoRA, bf16 weights", WeightDtype::Bf16),
            ("LoRA, 4-bit weights (Q4K)", WeightDtype::Q4K),
        ];
        let (recompute, precision) = (run.recompute, run.precision);
        let sizes = Sizes { config, recompute, precision, context, micro_batch, step_tokens };
        let mut ways = Vec::new();
        if !config.unit_head {
            for (name, optimizer) in full {
                let (trained, largest) = (config.parameters(), sizes.largest());
                ways.push(sizes.way(name, WeightDtype::F32, trained, largest, &optimizer, true));
            }
        }
        let (trained, largest) = run.lora.parameters(&config.targets())?;
        for (name, weights) in lora {
            ways.push(sizes.way(name, weights, trained, largest, &run.optimizer, false));
        }
        Ok(Self {
            parameters: config.parameters(),
            micro_batch,
            step_tokens,
            ways,
            devices: devices.iter().map(Capacity::of).collect(),
            speed: speed(config)?,
        })
    }

    /// The time of a step on this machine's processor, an estimate: matrix products alone, at the speed that
    /// was measured.
    pub fn estimate(&self, way: &Way) -> Duration {
        Duration::try_from_secs_f64(way.operations / self.speed).unwrap_or(Duration::MAX)
    }
}

/// The sizes that all ways share.
struct Sizes<'a> {
    config: &'a DecoderConfig,
    recompute: Recompute,
    precision: Precision,
    context: usize,
    micro_batch: usize,
    step_tokens: usize,
}

impl Sizes<'_> {
    fn way(
        &self,
        name: &'static str,
        weights: WeightDtype,
        trained: u64,
        largest: u64,
        optimizer: &OptimizerConfig,
        full: bool,
    ) -> Way {
        let load = Load {
            weights: self.config.weight_bytes(weights),
            plain: weights == WeightDtype::F32,
            trained,
            largest,
            tokens: self.micro_batch as u64,
            recompute: self.recompute,
            precision: self.precision,
        };
        let memory = StepMemory::computed(self.config, &load, optimizer);
        Way { name, trained, memory, operations: self.operations(trained, full) }
    }

    fn largest(&self) -> u64 {
        self.config.targets().iter().map(|t| (t.shape[0] * t.shape[1]) as u64).max().unwrap_or(0)
    }

    fn operations(&self, trained: u64, full: bool) -> f64 {
        let c = self.config;
        let linear = |kind| c.targets().into_iter().filter(move |t| t.kind == kind);
        let count = |kind| linear(kind).map(|t| (t.shape[0] * t.shape[1]) as f64).sum::<f64>();
        let blocks = count(TargetKind::Linear);
        let n = blocks + (c.vocabulary * c.width) as f64;
        let of_weights = if full { 6.0 * n } else { 4.0 * n + 6.0 * trained as f64 };
        let again = if self.recompute == Recompute::Blocks { 2.0 * blocks } else { 0.0 };
        // Forward q·kᵀ and p·v, backward the first again and four more; half of the keys are seen.
        let attention = 7.0 * (self.context * c.qkv_widths()[0] * c.layers) as f64;
        self.step_tokens as f64 * (of_weights + again + attention)
    }
}

/// Operations in a second, from the largest matrix of a block (cut to what a measurement has time for).
fn speed(config: &DecoderConfig) -> Result<f64> {
    const ROWS: usize = 256;
    const SIDE: usize = 4096;
    const LIMIT: Duration = Duration::from_millis(200);
    let (inner, out) = (config.width.min(SIDE), config.intermediate.min(SIDE));
    let x = Tensor::ones((ROWS, inner), DType::F32, &Device::Cpu)?;
    let w = Tensor::ones((out, inner), DType::F32, &Device::Cpu)?;
    matmul(&x, &w, Form::RightTransposed)?; // the threads are awake after it
    let (begun, mut times) = (Instant::now(), 0);
    while begun.elapsed() < LIMIT {
        matmul(&x, &w, Form::RightTransposed)?;
        times += 1;
    }
    Ok(2.0 * (times * ROWS * inner * out) as f64 / begun.elapsed().as_secs_f64())
}

impl Capacity {
    /// That of the processor's memory, as the system and the process's group allow; that of other devices is
    /// not known.
    pub fn of(device: &Device) -> Self {
        let unknown = |name: String| Self { name, total: None, available: None };
        match device.location() {
            candle_core::DeviceLocation::Cpu => {
                let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
                let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
                let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
                let limited = |bytes: u64| bytes.min(limit.unwrap_or(u64::MAX));
                Self {
                    name: "CPU".to_string(),
                    total: entry(&text, "MemTotal").map(limited),
                    available: entry(&text, "MemAvailable").map(limited),
                }
            }
            candle_core::DeviceLocation::Cuda { gpu_id } => unknown(format!("CUDA {gpu_id}")),
            candle_core::DeviceLocation::Metal { gpu_id } => unknown(format!("Metal {gpu_id}")),
        }
    }

    /// Whether this many bytes fit into what is free; `None` where that is not known.
    pub fn fits(&self, bytes: u64) -> Option<bool> {
        self.available.map(|available| bytes <= available)
    }

    fn describe(&self) -> String {
        match (self.available, self.total) {
            (Some(available), Some(total)) => {
                format!("{}: {} free of {}", self.name, bytes(available), bytes(total))
            }
            _ => format!("{}: its memory is not known", self.name),
        }
    }
}

/// Bytes of an entry of `/proc/meminfo`, which counts in units of 1,024.
fn entry(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

impl Show for Plan {
    fn show(&self) -> Bundle {
        let devices: Vec<String> =
            self.devices.iter().map(|device| format!("fits {}", device.name)).collect();
        let columns = [
            "trained",
            "weights",
            "trained in memory",
            "gradients",
            "moments",
            "activations",
            "scratch",
            "update",
            "peak",
        ];
        let numbers = columns.map(|name| (name, Align::Right));
        let fits = devices.iter().map(|name| (name.as_str(), Align::Left));
        let all = [("", Align::Left)].into_iter().chain(numbers).chain(fits);
        let caption = format!(
            "{} numbers; {} tokens in a micro-batch, {} in a step; {}; time estimated from {:.0} GFLOP/s measured",
            thousands(self.parameters),
            thousands(self.micro_batch as u64),
            thousands(self.step_tokens as u64),
            self.devices.iter().map(Capacity::describe).collect::<Vec<_>>().join("; "),
            self.speed / 1e9,
        );
        let mut table = Table::new(all.chain([("a step, estimated", Align::Right)])).caption(caption);
        for way in &self.ways {
            let m = &way.memory;
            let share = 100.0 * way.trained as f64 / self.parameters as f64;
            let sizes =
                [m.weights, m.trained, m.gradients, m.moments, m.activations, m.scratch, m.update, m.peak()];
            let fits = self.devices.iter().map(|device| match device.fits(m.peak()) {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            });
            let trained = format!("{} ({share:.2} %)", thousands(way.trained));
            let mut row = vec![way.name.to_string(), trained];
            row.extend(sizes.map(bytes));
            row.extend(fits.map(String::from));
            row.push(duration(self.estimate(way)));
            table.row(row);
        }
        table.show()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_meminfo() {
        let text = "MemTotal:       16 kB\nMemTotalX: 1 kB\nMemAvailable:    8 kB\nHugePages_Total:  0\n";
        assert_eq!((entry(text, "MemTotal"), entry(text, "MemAvailable")), (Some(16 << 10), Some(8 << 10)));
        assert_eq!((entry(text, "Mem"), entry("", "MemTotal")), (None, None));
        let device = Capacity { name: "x".to_string(), total: Some(10), available: Some(5) };
        assert_eq!((device.fits(5), device.fits(6)), (Some(true), Some(false)));
        assert_eq!(Capacity { available: None, ..device }.fits(1), None);
    }
}
