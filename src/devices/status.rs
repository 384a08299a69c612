//! What the devices of a run are doing.

use super::beat::Beat;
use crate::display::bytes;
use crate::model::Stage;
use candle_core::{Device, DeviceLocation};
use std::fmt;
use std::time::Duration;

/// What one device of a run has done, and how full it is.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceStatus {
    /// `cuda:1, rank 1`.
    pub name: String,
    /// The number of blocks of the model that lie there.
    pub blocks: usize,
    /// Tokens that went through it.
    pub tokens: u64,
    /// Seconds that its thread worked.
    pub worked: f64,
    /// Seconds that steps and evaluations took.
    pub since: f64,
    /// Bytes of its memory that are in use, by all programs, and all of them; `None` for the processor and for another
    /// process.
    pub memory: Option<(u64, u64)>,
    /// How much of the last moments a kernel ran on it, from 0 to 1, as its driver says; `None`
    /// as well.
    pub utilisation: Option<f64>,
}

impl DeviceStatus {
    /// Of a stage here, or of so many blocks in another process.
    pub(super) fn of(name: &str, on: Result<&Stage, usize>, beat: &Beat, since: Duration) -> Self {
        let (memory, utilisation) = on.map_or((None, None), |stage| driver(stage.device()));
        Self {
            name: name.to_string(),
            blocks: on.map_or_else(|blocks| blocks, Stage::blocks),
            tokens: beat.tokens(),
            worked: beat.worked().as_secs_f64(),
            since: since.as_secs_f64(),
            memory,
            utilisation,
        }
    }

    /// Tokens in a second of its work.
    pub fn tokens_per_second(&self) -> f64 {
        if self.worked > 0.0 { self.tokens as f64 / self.worked } else { 0.0 }
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = if self.since > 0.0 { 100.0 * self.worked / self.since } else { 0.0 };
        write!(f, "{:.0} tokens/s, {share:.0} % of the time at work", self.tokens_per_second())?;
        if let Some((used, all)) = self.memory {
            write!(f, ", {} of {}", bytes(used), bytes(all))?;
        }
        if let Some(utilisation) = self.utilisation {
            write!(f, ", {:.0} % utilised", 100.0 * utilisation)?;
        }
        Ok(())
    }
}

/// `cpu`, `cuda:1`.
pub(super) fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        DeviceLocation::Cpu => "cpu".to_string(),
    }
}

/// What the driver of a GPU says of its memory and its utilisation.
#[cfg(not(feature = "cuda"))]
fn driver(_: &Device) -> (Option<(u64, u64)>, Option<f64>) {
    (None, None)
}

/// What the driver of a GPU says of its memory and its utilisation. Its library is loaded at run time.
#[cfg(feature = "cuda")]
fn driver(device: &Device) -> (Option<(u64, u64)>, Option<f64>) {
    use nvml_wrapper::Nvml;
    use std::sync::OnceLock;

    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    let DeviceLocation::Cuda { gpu_id } = device.location() else { return (None, None) };
    let Some(nvml) = NVML.get_or_init(|| Nvml::init().ok()) else { return (None, None) };
    let Ok(gpu) = nvml.device_by_index(gpu_id as u32) else { return (None, None) };
    let memory = gpu.memory_info().ok().map(|memory| (memory.used, memory.total));
    let utilisation = gpu.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0);
    (memory, utilisation)
}
