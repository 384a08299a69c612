//! The sums that the ranks made of the gradients of their packs become one.

use super::messages::Sums;
#[cfg(feature = "nccl")]
use super::nccl::Nccl;
use super::pipeline::{On, Pipeline, Place};
use crate::error::Result;
use crate::lora::Gradients;
use candle_core::{Device, DeviceLocation};
use std::collections::BTreeMap;
use std::time::Duration;

const NOT_BUILT: &str = "the gradients of several GPUs are added in the memory of the host: this program was built without the feature nccl";
const SHARED: &str = "the gradients of several GPUs are added in the memory of the host: two ranks share a GPU, which NCCL does not do";
#[cfg(feature = "nccl")]
const NO_THREAD: &str =
    "the gradients of several GPUs are added in the memory of the host: no thread can be started for NCCL";

/// Who adds them.
pub(super) enum Adder {
    /// The coordinator in memory, in the order of the ranks; and why, where GPUs could do it.
    Host(Option<&'static str>),
    /// NCCL between the GPUs of this process.
    #[cfg(feature = "nccl")]
    Nccl(Nccl),
}

impl Default for Adder {
    fn default() -> Self {
        Self::Host(None)
    }
}

impl Adder {
    /// Who adds the sums of these ranks. Those of other processes are always added in memory.
    pub fn of(pipelines: &[Pipeline]) -> Self {
        let here = |place: &Place| match &place.on {
            On::Here(stage) => Some((place.name.clone(), stage.device().clone())),
            On::Elsewhere(_) => None,
        };
        let ranks: Vec<Vec<(String, Device)>> =
            pipelines.iter().filter_map(|rank| rank.seats.iter().map(here).collect()).collect();
        let locations: Vec<Vec<DeviceLocation>> =
            ranks.iter().map(|rank| rank.iter().map(|(_, device)| device.location()).collect()).collect();
        match adds(&locations, cfg!(feature = "nccl")) {
            #[cfg(feature = "nccl")]
            Ok(()) => Nccl::start(ranks).map_or(Self::Host(Some(NO_THREAD)), Self::Nccl),
            #[cfg(not(feature = "nccl"))]
            Ok(()) => Self::Host(None),
            Err(why) => Self::Host(why),
        }
    }

    /// Whether it wants them in memory.
    pub fn is_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }

    /// Why GPUs leave it to the host.
    pub fn note(&self) -> Option<&'static str> {
        match self {
            Self::Host(why) => *why,
            #[cfg(feature = "nccl")]
            Self::Nccl(_) => None,
        }
    }

    /// Adds them: the last stage first, as a backward pass does, and each in the order of the ranks.
    ///
    /// # Errors
    /// When shapes differ or a device fails or gives no answer for so long, and an interrupted error when `go_on`
    /// returns false.
    pub fn add(&self, found: Sums, limit: Duration, go_on: &dyn Fn() -> bool) -> Result<Gradients> {
        let found = match self {
            Self::Host(_) => found,
            #[cfg(feature = "nccl")]
            Self::Nccl(nccl) => nccl.add(found, limit, go_on)?,
        };
        #[cfg(not(feature = "nccl"))]
        let _ = (limit, go_on);
        in_order(found)
    }
}

/// Whether NCCL adds the sums of ranks whose stages lie there; if not, why, where they are several GPUs.
fn adds(ranks: &[Vec<DeviceLocation>], built: bool) -> Result<(), Option<&'static str>> {
    let on_gpu = |location: &DeviceLocation| matches!(location, DeviceLocation::Cuda { .. });
    if ranks.len() < 2 || !ranks.iter().flatten().all(on_gpu) {
        return Err(None);
    }
    if !built {
        return Err(Some(NOT_BUILT));
    }
    let shared = |(at, rank): (usize, &Vec<DeviceLocation>)| {
        ranks[..at].iter().any(|before| before.iter().zip(rank).any(|(a, b)| a == b))
    };
    match ranks.iter().enumerate().any(shared) {
        true => Err(Some(SHARED)),
        false => Ok(()),
    }
}

fn in_order(found: Sums) -> Result<Gradients> {
    let mut stages: BTreeMap<usize, Vec<Gradients>> = BTreeMap::new();
    for ((stage, _), sums) in found {
        stages.entry(stage).or_default().push(sums);
    }
    let mut all = Gradients::new();
    for sums in stages.into_values().rev().flatten() {
        all.merge(sums)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    #[test]
    fn nccl_adds_between_gpus_that_no_two_ranks_share() {
        let on = |numbers: &[&[usize]]| -> Vec<Vec<DeviceLocation>> {
            let gpu = |gpu_id: &usize| DeviceLocation::Cuda { gpu_id: *gpu_id };
            numbers.iter().map(|rank| rank.iter().map(gpu).collect()).collect()
        };
        assert_eq!(adds(&on(&[&[0], &[1], &[3]]), true), Ok(()));
        assert_eq!(adds(&on(&[&[0, 1], &[2, 3]]), true), Ok(()));
        // Each stage has a communicator of its own.
        assert_eq!(adds(&on(&[&[0, 1], &[1, 0]]), true), Ok(()));
        assert_eq!(adds(&on(&[&[0], &[1], &[0]]), true), Err(Some(SHARED)));
        assert_eq!(adds(&on(&[&[0, 1], &[2, 1]]), true), Err(Some(SHARED)));
        assert_eq!(adds(&on(&[&[0], &[1]]), false), Err(Some(NOT_BUILT)));
        assert_eq!(adds(&on(&[&[0, 1]]), false), Err(None));
        assert_eq!(adds(&[vec![DeviceLocation::Cpu], vec![DeviceLocation::Cpu]], true), Err(None));
    }

    /// 1 + 2⁻²⁴ + 2⁻²⁴ is 1 from the left, and more than 1 from the right.
    #[test]
    fn sums_are_added_in_the_order_of_the_ranks_and_the_last_stage_first() -> Result<()> {
        let small = 2f32.powi(-24);
        let sums = |name: &str, value: f32| -> Result<Gradients> {
            let mut sums = Gradients::new();
            sums.add_tensor(name.to_string(), Tensor::new(&[value], &Device::Cpu)?)?;
            Ok(sums)
        };
        let added = |values: [f32; 3], key: fn(usize) -> (usize, usize)| -> Result<f32> {
            let mut found = Sums::new();
            for (at, value) in values.into_iter().enumerate().rev() {
                found.insert(key(at), sums("w", value)?);
            }
            let all = Adder::default().add(found, Duration::ZERO, &|| true)?;
            let sum = all.get("w").map(Tensor::to_vec1::<f32>).transpose()?;
            Ok(sum.unwrap_or_default()[0])
        };
        assert_eq!(added([1.0, small, small], |at| (0, at))?, 1.0);
        assert_eq!(added([small, small, 1.0], |at| (0, at))?, 1.0 + 2.0 * small);
        assert_eq!(added([small, small, 1.0], |at| (at, 0))?, 1.0);
        assert_eq!(added([1.0, small, small], |at| (at, 0))?, 1.0 + 2.0 * small);
        Ok(())
    }
}
