//! The devices that a worker trains on.

use super::thread::{GoOn, Worker};
use crate::devices::DeviceGroup;
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::run::disk::folder::Folder;
use crate::train::step::{self, Accumulated, RowLoss};
use crate::train::{Batch, Devices, Placement};
use candle_core::Device;

impl Worker {
    /// The passes of a step, on all devices.
    pub(super) fn passes(&mut self, batch: &Batch, into: &mut Accumulated, go_on: GoOn) -> Result<()> {
        if !self.uses_group()? {
            return step::forward_backward(&self.decoder, &self.learned, batch, into, go_on);
        }
        self.note_idle(batch)?;
        let (decoder, learned) = (self.decoder.clone(), self.learned.clone());
        self.with_group(|group| group.forward_backward(&decoder, &learned, batch, into, go_on))
    }

    /// The losses of held-out rows, on all devices.
    pub(super) fn losses_on(
        &mut self,
        adapters: &Adapters,
        batch: &Batch,
        go_on: GoOn,
    ) -> Result<Vec<RowLoss>> {
        if !self.uses_group()? {
            return step::evaluate(&self.decoder, adapters, batch, go_on);
        }
        self.with_group(|group| group.evaluate(adapters, batch, go_on))
    }

    /// Says before the first step on these devices where some of them will have nothing to do.
    fn note_idle(&self, batch: &Batch) -> Result<()> {
        let devices = self.devices.all()?.len().max(self.placement.stages());
        let packs = batch.packs.iter().filter(|pack| pack.trained_tokens() > 0).count();
        if self.group.is_none() && packs < devices {
            self.shared.note(format!(
                "a step has {packs} micro-batch{} for {devices} devices: some have nothing to do; raise batch, or lower micro_batch",
                if packs == 1 { "" } else { "es" }
            ));
        }
        Ok(())
    }

    /// Whether there is more than the device that the model lies on.
    fn uses_group(&self) -> Result<bool> {
        let devices = self.devices.all()?;
        Ok(devices.len() > 1 || self.placement.stages() > 1)
    }

    fn with_group<R>(&mut self, work: impl FnOnce(&mut DeviceGroup) -> Result<R>) -> Result<R> {
        let mut group = match self.group.take() {
            Some(group) => group,
            None => self.new_group(&self.devices, self.placement)?,
        };
        let done = work(&mut group);
        let status = group.status();
        self.shared.update(|current| current.devices = status);
        // After a failure the threads are not to be trusted: the next step begins with new ones.
        if done.as_ref().err().is_none_or(Error::is_interrupted) {
            self.group = Some(group);
        }
        done
    }

    fn new_group(&self, devices: &Devices, placement: Placement) -> Result<DeviceGroup> {
        let mut all = devices.all()?;
        if all.is_empty() {
            all = vec![self.decoder.device().clone(); placement.stages()];
        }
        DeviceGroup::new(&self.decoder, &all, placement, self.config.micro_batch)
    }

    /// Goes on with other devices.
    pub(super) fn set_devices(&mut self, devices: Devices, placement: Placement) -> Result<()> {
        let all = devices.all()?;
        let here = self.decoder.device().is_cpu();
        if all.iter().map(Device::is_cpu).any(|cpu| cpu != here) || (!here && placement != self.placement) {
            return Err(Error::state(format!("devices {devices}{placement}: the model would have to move")).help(
                "run.close()?, then Run::open_with(folder, &OpenRun { devices: Some(…), ..OpenRun::default() })",
            ));
        }
        let group = match all.len() > 1 || placement.stages() > 1 {
            true => Some(self.new_group(&devices, placement)?),
            false => None,
        };
        let mut identity = Folder::identity(self.folder.path())?;
        (identity.config.devices, identity.config.placement) = (devices.clone(), placement);
        self.folder.write_identity(&identity)?;
        let status = group.as_ref().map(DeviceGroup::status).unwrap_or_default();
        self.shared.update(|current| current.devices = status);
        (self.devices, self.placement, self.group) = (devices, placement, group);
        Ok(())
    }
}
