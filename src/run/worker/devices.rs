//! The devices that a worker trains on.

use super::thread::{GoOn, Worker};
use crate::devices::{Claimed, DeviceGroup, Setup, claim, devices_here};
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::run::disk::folder::Folder;
use crate::train::step::{self, Accumulated, RowLoss};
use crate::train::{Batch, Devices, Placement};
use candle_core::Device;

const OTHERS_TAKEN: &str =
    "the other processes work for another run: this one trains on the devices of this process";

impl Worker {
    /// The passes of a step, on all devices.
    pub(super) fn passes(&mut self, batch: &Batch, into: &mut Accumulated, go_on: GoOn) -> Result<()> {
        let Some(group) = self.take_group()? else {
            return step::forward_backward(&self.decoder, &self.learned, batch, into, go_on);
        };
        self.note_idle(&group, batch);
        if let Some(why) = group.note().filter(|_| group.is_new()) {
            self.shared.note(why);
        }
        let (decoder, learned) = (self.decoder.clone(), self.learned.clone());
        self.with(group, |group| group.forward_backward(&decoder, &learned, batch, into, go_on))
    }

    /// The losses of held-out rows, on all devices.
    pub(super) fn losses_on(
        &mut self,
        adapters: &Adapters,
        batch: &Batch,
        go_on: GoOn,
    ) -> Result<Vec<RowLoss>> {
        match self.take_group()? {
            None => step::evaluate(&self.decoder, adapters, batch, go_on),
            Some(group) => self.with(group, |group| group.evaluate(adapters, batch, go_on)),
        }
    }

    /// Says before the first step on these devices where some of them will have nothing to do.
    fn note_idle(&self, group: &DeviceGroup, batch: &Batch) {
        let devices = group.status().len();
        let packs = batch.packs.iter().filter(|pack| pack.trained_tokens() > 0).count();
        if group.is_new() && packs < devices {
            self.shared.note(format!(
                "a step has {packs} micro-batch{} for {devices} devices: some have nothing to do; raise batch, or lower micro_batch",
                if packs == 1 { "" } else { "es" }
            ));
        }
    }

    /// The threads of all devices, where there is more than the device that the model lies on.
    fn take_group(&mut self) -> Result<Option<DeviceGroup>> {
        match self.group.take() {
            Some(group) => Ok(Some(group)),
            None => self.new_group(&self.devices, self.placement),
        }
    }

    fn with<R>(
        &mut self,
        mut group: DeviceGroup,
        work: impl FnOnce(&mut DeviceGroup) -> Result<R>,
    ) -> Result<R> {
        let done = work(&mut group);
        let status = group.status();
        self.shared.update(|current| current.devices = status);
        // After a failure the threads are not to be trusted: the next step begins with new ones.
        if done.as_ref().err().is_none_or(Error::is_interrupted) {
            self.group = Some(group);
        }
        done
    }

    /// Threads for these devices and for the other processes, if there is more than one device in all.
    fn new_group(&self, devices: &Devices, placement: Placement) -> Result<Option<DeviceGroup>> {
        let mut all = devices_here(devices)?;
        let claimed = claim();
        if matches!(claimed, Claimed::ByAnother) {
            let known = self.shared.read().notes.iter().any(|note| note == OTHERS_TAKEN);
            if !known {
                self.shared.note(OTHERS_TAKEN);
            }
        }
        if all.len() < 2 && placement.stages() < 2 && !matches!(claimed, Claimed::Here(_)) {
            return Ok(None);
        }
        if all.is_empty() {
            all = vec![self.decoder.device().clone(); placement.stages()];
        }
        let group = DeviceGroup::new(&self.decoder, &all, placement, self.config.micro_batch)?
            .reduction(self.config.reduction);
        let Claimed::Here(claim) = claimed else { return Ok(Some(group)) };
        let setup = Setup {
            model: self.model.path().to_path_buf(),
            weights: self.model.weights(),
            fingerprint: self.model.fingerprint()?,
            recompute: self.config.recompute,
            precision: self.config.precision,
        };
        group.with_followers(claim, &setup).map(Some)
    }

    /// Goes on with other devices.
    pub(super) fn set_devices(&mut self, devices: Devices, placement: Placement) -> Result<()> {
        let all = devices_here(&devices)?;
        let here = self.decoder.device().is_cpu();
        if all.iter().map(Device::is_cpu).any(|cpu| cpu != here) || (!here && placement != self.placement) {
            return Err(Error::state(format!("devices {devices}{placement}: the model would have to move")).help(
                "run.close()?, then Run::open_with(folder, &OpenRun { devices: Some(…), ..OpenRun::default() })",
            ));
        }
        // The old threads let go of the other processes; where the new devices are refused, the next step makes
        // them again.
        self.group = None;
        let group = self.new_group(&devices, placement)?;
        let mut identity = Folder::identity(self.folder.path())?;
        (identity.config.devices, identity.config.placement) = (devices.clone(), placement);
        self.folder.write_identity(&identity)?;
        let status = group.as_ref().map(DeviceGroup::status).unwrap_or_default();
        self.shared.update(|current| current.devices = status);
        (self.devices, self.placement, self.group) = (devices, placement, group);
        Ok(())
    }
}
