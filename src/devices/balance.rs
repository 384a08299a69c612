//! Which blocks lie on which device.

use crate::error::Result;
use crate::model::Decoder;
use crate::train::Placement;
use crate::train::memory::block_activations;
use candle_core::Device;
use std::ops::Range;

/// Splits the blocks of a model into stages so that the fullest device has as little as possible: the weights of its
/// blocks, and what they keep of the micro-batches of `tokens` tokens that are on their way. Stage s of S keeps up to
/// S − s of them. The first stage has the embedding as well, the last one the head.
pub(super) fn balanced(decoder: &Decoder, stages: usize, tokens: usize) -> Vec<Range<usize>> {
    let kept = block_activations(decoder, tokens as u64);
    let weights = decoder.block_bytes();
    let [first, last] = decoder.end_bytes();
    let cost = |stage: usize, range: Range<usize>| {
        let ends = if stage == 0 { first } else { 0 } + if stage + 1 == stages { last } else { 0 };
        let blocks: u64 = weights[range.clone()].iter().sum();
        blocks + ends + (stages - stage) as u64 * kept * range.len() as u64
    };
    smallest(weights.len(), stages, cost)
}

/// A model on the devices of its first group of stages, where it computes what one device does: samples, evaluations
/// of the handle, passes by hand.
///
/// # Errors
/// When a device has no room.
pub fn placed(decoder: &Decoder, devices: &[Device], placement: Placement, tokens: usize) -> Result<Decoder> {
    let stages = placement.stages().clamp(1, decoder.config().layers);
    let ranges = balanced(decoder, stages, tokens);
    let of_blocks: Vec<Device> =
        ranges.iter().zip(devices).flat_map(|(range, device)| vec![device.clone(); range.len()]).collect();
    decoder.on_devices(&of_blocks)
}

/// The split into ranges, none of them empty, whose largest cost is the smallest. best[s][n] is that of the first n
/// blocks on s devices.
fn smallest(blocks: usize, stages: usize, cost: impl Fn(usize, Range<usize>) -> u64) -> Vec<Range<usize>> {
    let mut best = vec![vec![(u64::MAX, 0); blocks + 1]; stages + 1];
    best[0][0] = (0, 0);
    for stage in 0..stages {
        for end in stage + 1..=blocks {
            for begin in stage..end {
                let before = best[stage][begin].0;
                if before == u64::MAX {
                    continue;
                }
                let largest = before.max(cost(stage, begin..end));
                if largest < best[stage + 1][end].0 {
                    best[stage + 1][end] = (largest, begin);
                }
            }
        }
    }
    let mut ranges = Vec::with_capacity(stages);
    let mut end = blocks;
    for stage in (1..=stages).rev() {
        let begin = best[stage][end].1;
        ranges.push(begin..end);
        end = begin;
    }
    ranges.reverse();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_device_has_as_little_as_possible() {
        let even = smallest(8, 2, |_, range| range.len() as u64);
        assert_eq!(even, [0..4, 4..8]);
        // A heavy head takes blocks from the last stage.
        let head = smallest(8, 2, |stage, range| range.len() as u64 + if stage == 1 { 4 } else { 0 });
        assert_eq!(head, [0..6, 6..8]);
        let all = |blocks, stages| smallest(blocks, stages, |_, range| 1 + range.len() as u64);
        assert_eq!(all(3, 3), [0..1, 1..2, 2..3]);
        for (blocks, stages) in [(1, 1), (7, 3), (32, 5)] {
            let ranges = all(blocks, stages);
            assert_eq!((ranges.len(), ranges[0].start, ranges[stages - 1].end), (stages, 0, blocks));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            let longest = ranges.iter().map(|range| range.len()).max().unwrap();
            assert_eq!(longest, blocks.div_ceil(stages));
        }
    }
}
