//! Snapshots in memory. Trained tensors are never changed in place, so keeping some costs memory and no time.

use crate::run::disk::snapshot::RunProgress;
use crate::train::step::Learned;
use std::collections::BTreeMap;

/// Earlier states of a run, within a budget.
#[derive(Debug, Default)]
pub struct SnapshotCache {
    kept: BTreeMap<u64, (Learned, RunProgress)>,
    budget: u64,
}

impl SnapshotCache {
    /// An empty cache; `budget` in bytes.
    pub fn new(budget: u64) -> Self {
        Self { kept: BTreeMap::new(), budget }
    }

    /// Keeps a state, and drops others where the budget is exceeded. The latest stay dense, earlier ones grow sparse:
    /// the state is dropped whose neighbours are nearest to each other for its age.
    pub fn push(&mut self, learned: &Learned, place: &RunProgress) {
        self.kept.insert(place.step, (learned.clone(), *place));
        let each = learned.bytes().max(1);
        while self.kept.len() as u64 * each > self.budget && !self.kept.is_empty() {
            let steps: Vec<u64> = self.kept.keys().copied().collect();
            let goes = match steps.len() {
                1 | 2 => steps[0],
                _ => {
                    let gap = |w: &&[u64]| (w[2] - w[0]) as f64 / (place.step - w[1] + 1) as f64;
                    let least = steps.windows(3).min_by(|a, b| gap(a).total_cmp(&gap(b)));
                    least.map_or(steps[0], |w| w[1])
                }
            };
            self.kept.remove(&goes);
        }
    }

    /// The latest state up to a step.
    pub fn latest(&self, step: u64) -> Option<&(Learned, RunProgress)> {
        self.kept.range(..=step).next_back().map(|(_, state)| state)
    }

    /// Forgets what came after a step.
    pub fn forget_after(&mut self, step: u64) {
        self.kept.split_off(&(step + 1));
    }

    /// The steps that are kept.
    #[cfg(test)]
    fn steps(&self) -> Vec<u64> {
        self.kept.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::Adapters;

    #[test]
    fn the_latest_are_dense_and_the_first_is_not_forgotten() {
        let learned = Learned::new(Adapters::default(), 1);
        let mut cache = SnapshotCache::new(8); // of one byte each, as nothing is trained
        for step in 0..100 {
            cache.push(&learned, &RunProgress { step, ..RunProgress::default() });
        }
        let steps = cache.steps();
        assert_eq!((steps.len(), steps[0], steps[7], steps[6]), (8, 0, 99, 98), "{steps:?}");
        let gaps: Vec<u64> = steps.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.windows(2).all(|g| g[0] * 2 >= g[1]), "{steps:?}");
        assert_eq!(cache.latest(97).unwrap().1.step, steps[5]);
        cache.forget_after(50);
        assert!(cache.latest(1000).unwrap().1.step <= 50);
    }
}
