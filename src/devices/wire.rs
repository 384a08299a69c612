//! What the first process and the others tell each other.

use super::flat::{GradientLayout, Layout, Numbers};
use super::frames::Frame;
use super::messages::{Pass, PassKind};
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use crate::model::{Recompute, WeightDtype};
use crate::ops::Precision;
use crate::text::Pack;
use crate::train::{Batch, DeviceKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::PoisonError;

/// What the first process tells another.
#[allow(clippy::large_enum_variant, reason = "one message at a time")]
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum ToFollower {
    /// Compute on this kind of device. The number counts what was asked for.
    Device { number: u64, kind: DeviceKind },
    /// Open this model. The number counts what was asked for; so many processes share the machine.
    Setup { number: u64, setup: Setup, together: usize },
    /// What the adapters of the passes that follow are. Numbers: those of the pairs that are subtracted.
    Structure(Layout),
    /// A pass begins. Numbers: those of the adapters.
    Pass { pass: u64, kind: PassKind, packs: Vec<PackText> },
    /// Work on one of its packs.
    Pack { pass: u64, pack: usize },
    /// Give the sums of its packs: all that were asked for are done.
    Collect { pass: u64 },
    /// The pass is over or given up.
    Forget { pass: u64 },
}

/// What another process tells the first one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum FromFollower {
    /// It is there.
    Hello(Hello),
    /// Which device it computes on (`cpu`, `cuda:1`), or why on none.
    Device { number: u64, device: Result<String, ErrorText> },
    /// The model is open, or could not be opened. The nanoseconds that it has worked so far.
    Ready { number: u64, worked: u64 },
    /// What came of a pack, and the nanoseconds so far. Numbers: the losses of its trained tokens, then the gradients.
    Part { pass: u64, pack: usize, losses: usize, gradients: GradientLayout, worked: u64 },
    /// The sums of the packs of a pass. Numbers: the gradients.
    Sum { pass: u64, gradients: GradientLayout, worked: u64 },
    /// A pack failed.
    Failed { pass: u64, pack: usize, error: ErrorText },
}

/// A model, and how it computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Where it lies for the first process.
    pub model: PathBuf,
    /// The dtype of its weights.
    pub weights: WeightDtype,
    /// Its fingerprint there.
    pub fingerprint: String,
    /// What its backward pass recomputes.
    pub recompute: Recompute,
    /// The type of its products.
    pub precision: Precision,
}

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    /// The version of lorascope.
    pub version: String,
    /// The name of its machine.
    pub host: String,
}

/// A pack without what follows from the rest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackText {
    ids: Vec<u32>,
    targets: Vec<Option<u32>>,
    borders: Vec<usize>,
}

/// An error as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorText {
    message: String,
    layer: Option<String>,
    help: Option<String>,
}

/// The two messages with which a pass begins: the structure of its adapters, which is only needed where it differs
/// from the last one, and the pass. They are made once for all processes.
pub(super) fn pass_frames(pass: &Pass) -> Result<[Frame; 2]> {
    let mut told = pass.told.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(frames) = told.as_ref() {
        return Ok(frames.clone());
    }
    let adapters = &pass.adapters;
    let structure = ToFollower::Structure(adapters.layout()?);
    let packs = pass.batch.packs.iter().map(PackText::of).collect();
    let begin = ToFollower::Pass { pass: pass.number, kind: pass.kind, packs };
    let frames = [frame(&structure, adapters.start_numbers()?)?, frame(&begin, adapters.numbers()?)?];
    *told = Some(frames.clone());
    Ok(frames)
}

pub(super) fn frame(message: &impl Serialize, numbers: Vec<f32>) -> Result<Frame> {
    Frame::new(&serde_json::to_vec(message).map_err(Error::compute)?, numbers)
}

pub(super) fn read<M: DeserializeOwned>(frame: &Frame) -> Result<M> {
    serde_json::from_slice(frame.text()).map_err(|error| {
        Error::format(format!("a message of another process cannot be read: {error}"))
            .help("start the same version of lorascope on every machine")
    })
}

impl PackText {
    fn of(pack: &Pack) -> Self {
        Self { ids: pack.ids.clone(), targets: pack.targets.clone(), borders: pack.borders.clone() }
    }

    /// The pack, whose examples are numbered as they come.
    fn pack(self) -> Result<Pack> {
        let Self { ids, targets, borders } = self;
        let ascend = borders.windows(2).all(|border| border[0] < border[1]);
        let ends = (borders.first().copied(), borders.last().copied());
        if ids.len() != targets.len() || !ascend || ends != (Some(0), Some(ids.len())) {
            return Err(Error::format("a pack of another process contradicts itself"));
        }
        let positions = borders.windows(2).flat_map(|border| 0..(border[1] - border[0]) as u32).collect();
        let examples = (0..borders.len() - 1).collect();
        Ok(Pack { ids, positions, targets, borders, examples })
    }
}

/// A batch of these packs, without the numbers of their rows: only the first process needs them.
pub(super) fn batch(packs: Vec<PackText>) -> Result<Batch> {
    Ok(Batch::of(packs.into_iter().map(PackText::pack).collect::<Result<_>>()?))
}

/// The message of what came of a pack.
pub(super) fn part(
    (pass, pack): (u64, usize),
    losses: Vec<f32>,
    gradients: &Gradients,
    worked: u64,
) -> Result<Frame> {
    let (gradients, more) = GradientLayout::of(gradients)?;
    let message = FromFollower::Part { pass, pack, losses: losses.len(), gradients, worked };
    let mut numbers = losses;
    numbers.extend(more);
    frame(&message, numbers)
}

/// The message of the sums of a pass.
pub(super) fn sum(pass: u64, gradients: &Gradients, worked: u64) -> Result<Frame> {
    let (gradients, numbers) = GradientLayout::of(gradients)?;
    frame(&FromFollower::Sum { pass, gradients, worked }, numbers)
}

/// The losses and the gradients that such a message tells.
pub(super) fn parts(
    frame: &Frame,
    losses: usize,
    gradients: &GradientLayout,
    adapters: &Adapters,
) -> Result<(Vec<f32>, Gradients)> {
    let Some((losses, rest)) = frame.numbers().split_at_checked(losses) else {
        return Err(Error::format(format!(
            "{losses} losses are told with {} numbers",
            frame.numbers().len()
        )));
    };
    let mut rest = Numbers(rest);
    let gradients = gradients.gradients(&mut rest, adapters)?;
    match rest.0.len() {
        0 => Ok((losses.to_vec(), gradients)),
        left => Err(Error::format(format!("gradients came with {left} numbers too many"))),
    }
}

impl ErrorText {
    pub fn of(error: &Error) -> Self {
        let (layer, help) = (error.layer_name(), error.help_text());
        Self { message: error.message_at(), layer: layer.map(str::to_string), help: help.map(str::to_string) }
    }

    /// What this process says.
    pub fn error_of(self, process: &str) -> Error {
        let message = format!("{process}: {}", self.message);
        Self { message, ..self }.error()
    }

    pub fn error(self) -> Error {
        let error = Error::compute(self.message);
        let error = match self.layer {
            Some(layer) => error.layer(layer),
            None => error,
        };
        match self.help {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Example, pack};

    #[test]
    fn packs_are_told_whole() -> Result<()> {
        let row = |length: u32| Example {
            ids: (0..length).map(|i| i * 7 % 40).collect(),
            trained: (0..length).map(|i| i > 2).collect(),
        };
        let rows = [row(5), row(9), row(3)];
        let packs = pack(&rows.iter().collect::<Vec<_>>(), 30)?;
        let told = batch(packs.iter().map(PackText::of).collect())?;
        assert_eq!(told.packs, packs);
        let broken = |ids: usize, targets: usize, borders: &[usize]| {
            let text =
                PackText { ids: vec![1; ids], targets: vec![None; targets], borders: borders.to_vec() };
            assert!(text.pack().is_err(), "{ids} {targets} {borders:?}");
        };
        broken(3, 2, &[0, 3]);
        broken(3, 3, &[]);
        broken(3, 3, &[0]);
        broken(3, 3, &[1, 3]);
        broken(3, 3, &[0, 2]);
        broken(3, 3, &[0, 2, 2, 3]);
        broken(3, 3, &[0, 4, 3]);
        Ok(())
    }

    #[test]
    fn errors_are_told_with_their_place_and_way_out() {
        let error = Error::io("model.gguf", std::io::ErrorKind::NotFound.into()).help("fetch it").layer("q");
        let told = ErrorText::of(&error).error().on_device("cpu, rank 1, process 1 on b");
        assert_eq!(
            told.to_string(),
            "layer q, device cpu, rank 1, process 1 on b: model.gguf: no such file or folder; fetch it"
        );
    }
}
