//! The devices of a run.

use super::handle::Run;
use super::worker::thread::Request;
use crate::devices::{devices_here, placed};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::{Devices, Placement, RunConfig};
use std::sync::mpsc::channel;

impl Run {
    /// Trains on other devices from the next step on. The steps are those that it would have made: their numbers do
    /// not depend on how many devices there are. A run that trains begins its unfinished step anew.
    ///
    /// # Errors
    /// When a device is not there, the model cannot be split so, or the model would have to move to a GPU or from
    /// one: close the run and open it with [`OpenRun::devices`](super::OpenRun::devices) for that.
    pub fn set_devices(&self, devices: Devices, placement: Placement) -> Result<()> {
        let (answer, answered) = channel();
        self.0.shared.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.send(Request::Devices(devices, placement, answer))?;
        answered.recv().map_err(|_| self.ended())?
    }
}

/// The model of a run on the devices that its config names: GPUs take it, the processor has it.
pub(super) fn on_its_devices(model: &Model, config: &RunConfig) -> Result<Model> {
    let devices = devices_here(&config.devices)?;
    let count = if devices.is_empty() { config.placement.stages() } else { devices.len() };
    config.placement.check(count, model.config().layers)?;
    if devices.iter().all(|device| device.is_cpu()) {
        if !(devices.is_empty() || model.decoder().device().is_cpu()) {
            return Err(Error::input(format!("devices {} for a model on a GPU", config.devices))
                .help("open the model without a device: Model::open(path)"));
        }
        return Ok(model.clone());
    }
    let decoder = placed(model.decoder(), &devices, config.placement, config.micro_batch)?;
    Ok(model.placed(decoder))
}
