//! The sums that the ranks made of the gradients of their packs become one.

use super::pipeline::Pipeline;
use crate::error::Result;
use crate::lora::Gradients;
use std::collections::BTreeMap;
use std::time::Duration;

/// Sums by stage and rank.
pub(super) type Found = BTreeMap<(usize, usize), Gradients>;

/// Who adds them.
#[derive(Default)]
pub(super) enum Adder {
    /// The coordinator in memory, in the order of the ranks.
    #[default]
    Host,
}

impl Adder {
    /// Who adds the sums of these ranks.
    pub fn of(_: &[Pipeline]) -> Self {
        Self::Host
    }

    /// Whether it wants them in memory.
    pub fn is_host(&self) -> bool {
        matches!(self, Self::Host)
    }

    /// Why GPUs leave it to the host.
    pub fn note(&self) -> Option<&'static str> {
        None
    }

    /// Adds them: the last stage first, as a backward pass does, and each in the order of the ranks.
    pub fn add(&self, found: Found, _: Duration, _: &dyn Fn() -> bool) -> Result<Gradients> {
        in_order(found)
    }
}

fn in_order(found: Found) -> Result<Gradients> {
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
