//! Sums on the devices: each rank adds the gradients of its packs, and the sums of the ranks are added once a step.
//! The numbers of one device but for the order of additions, and the same bits each time.

use crate::common::devices::{all, devices, first, on_gpu};
use crate::common::runs::{Bench, bits as bits_of, config, losses};
use crate::device_families::{FAMILIES, batch, bits, file, kinds, moved};
use crate::device_followers::{Others, group as with_others, with_model};
use lorascope::candle_core::{Device, Tensor};
use lorascope::devices::DeviceGroup;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Gradients};
use lorascope::model::{Decoder, Recompute};
use lorascope::run::Run;
use lorascope::text::{Example, pack};
use lorascope::train::step::{Accumulated, Learned, evaluate, forward_backward, update};
use lorascope::train::{Batch, Devices, OptimizerConfig, Placement, Reduction, RunConfig};
use std::time::{Duration, Instant};

/// So many devices, in groups of so many stages; the first two are one rank.
const ARRANGEMENTS: [(usize, usize); 8] = [(1, 1), (2, 2), (2, 1), (3, 1), (4, 1), (4, 2), (6, 2), (3, 3)];

fn placement(stages: usize) -> Placement {
    if stages == 1 { Placement::Replicate } else { Placement::Split(stages) }
}

fn group(model: &Decoder, devices: usize, stages: usize) -> Result<DeviceGroup> {
    Ok(DeviceGroup::new(model, &all(devices), placement(stages), 24)?.reduction(Reduction::OnDevices))
}

/// √Σ (a − b)² over √Σ b².
fn apart<'a>(a: impl Iterator<Item = &'a Tensor>, b: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
    let (mut difference, mut size) = (0.0, 0.0);
    for (a, b) in a.zip(b) {
        let (a, b) = (a.to_device(&Device::Cpu)?, &b.to_device(&Device::Cpu)?);
        difference += f64::from((a - b)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
        size += f64::from(b.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    Ok((difference / size).sqrt())
}

fn tensors(gradients: &Gradients) -> impl Iterator<Item = &Tensor> {
    gradients.tensors().map(|(_, tensor)| tensor)
}

/// One pass in each way: the losses and rows to the bit, the gradients and what the data have shown of A within the
/// rounding of f32; one rank gives the bits of one device, and all give the same bits again.
fn check(name: &str, model: &Decoder, adapters: &Adapters) -> Result<()> {
    let batch = batch();
    let learned = Learned::new(adapters.clone(), 7);
    let mut alone = Accumulated::default();
    forward_backward(model, &learned, &batch, &mut alone, &|| true)?;
    let evaluated = evaluate(model, adapters, &batch, &|| true)?;
    let update = |sums| -> Result<Learned> {
        Ok(update(model, &learned, sums, 0.1, Some(1.0), &Default::default(), &|_| false)?.0)
    };
    let mut again = Accumulated::default();
    forward_backward(model, &learned, &batch, &mut again, &|| true)?;
    let truth = update(again)?;
    let layers = model.config().layers;
    for (devices, stages) in ARRANGEMENTS.into_iter().filter(|(_, stages)| *stages <= layers) {
        let context = format!("{name} on {devices} devices, {stages} stages");
        let mut group = group(model, devices, stages)?;
        let mut before: Option<Vec<_>> = None;
        for _ in 0..2 {
            let mut together = Accumulated::default();
            group.forward_backward(model, &learned, &batch, &mut together, &|| true)?;
            assert_eq!(together.sum.to_bits(), alone.sum.to_bits(), "{context}");
            assert_eq!(together.rows, alone.rows, "{context}");
            assert_eq!(together.trained_tokens, alone.trained_tokens, "{context}");
            let names = |gradients: &Gradients| {
                gradients.tensors().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(names(&together.gradients), names(&alone.gradients), "{context}");
            let off = apart(tensors(&together.gradients), tensors(&alone.gradients))?;
            assert!(off < 1e-6, "{context}: {off:e}");
            let bits = bits(&together.gradients);
            // A tied weight that is trained whole has one sum in the first stage and one in the last.
            if devices == stages && (stages == 1 || !name.starts_with("all weights")) {
                assert!(bits == crate::device_families::bits(&alone.gradients), "{context}");
            }
            assert!(before.replace(bits.clone()).is_none_or(|before| before == bits), "{context}");
            // What the data have shown of A is summed, too.
            let ours = update(together)?;
            let (ours, truth) = (ours.activations.by_path(), truth.activations.by_path());
            assert!(ours.keys().eq(truth.keys()), "{context}");
            if !truth.is_empty() {
                let off = apart(ours.values(), truth.values())?;
                assert!(off < 1e-6, "{context}: {off:e}");
            }
        }
        assert_eq!(group.evaluate(adapters, &batch, &|| true)?, evaluated, "{context}");
    }
    Ok(())
}

#[test]
fn device_sums_of_each_family_are_those_of_one_device() -> Result<()> {
    for name in FAMILIES {
        let model = Decoder::open(file(name), &first())?;
        let adapters = Adapters::open(file(&format!("{name}-adapter")), &first())?;
        check(name, &model, &adapters)?;
    }
    let model = Decoder::open(file("tiny"), &first())?.with_recompute(Recompute::Blocks);
    check("recomputed", &model, &Adapters::open(file("tiny-adapter"), &first())?)
}

#[test]
fn device_sums_of_all_kinds_of_adapters_are_those_of_one_device() -> Result<()> {
    for family in ["tiny", "tied"] {
        let model = Decoder::open(file(family), &first())?;
        for (name, config) in kinds() {
            check(&format!("{name} of {family}"), &model, &moved(&model, &config)?)?;
        }
    }
    let model = Decoder::open(file("tied"), &first())?;
    check("all weights", &model, &model.all_trained()?)
}

/// Four batches of different sizes, the third of one row.
fn batches() -> Vec<Batch> {
    let row = |length: usize, seed: u32| Example {
        ids: (0..length as u32).map(|i| (seed * 17 + i * 5) % 40).collect(),
        trained: (0..length).map(|i| i * 3 > length).collect(),
    };
    let of = |lengths: &[usize], seed: u32| {
        let rows: Vec<Example> = lengths.iter().zip(seed..).map(|(n, i)| row(*n, i)).collect();
        Batch::of(pack(&rows.iter().collect::<Vec<_>>(), 24).unwrap())
    };
    vec![of(&[9, 17, 12, 5, 21], 1), of(&[20, 7, 11, 24, 24, 3, 9], 6), of(&[13], 13), batch()]
}

/// Losses and adapters of twenty steps.
fn twenty(
    model: &Decoder,
    adapters: &Adapters,
    mut group: Option<DeviceGroup>,
) -> Result<(Vec<f64>, Adapters)> {
    let batches = batches();
    let mut learned = Learned::new(adapters.clone(), 7);
    let mut losses = Vec::new();
    for step in 0..20 {
        let mut sums = Accumulated::default();
        let of_step = match step % 3 {
            0 => &batches[..1],
            1 => &batches[1..2],
            _ => &batches[2..], // two passes
        };
        for batch in of_step {
            match &mut group {
                None => forward_backward(model, &learned, batch, &mut sums, &|| true)?,
                Some(group) => group.forward_backward(model, &learned, batch, &mut sums, &|| true)?,
            }
        }
        let config = OptimizerConfig::default();
        let (next, numbers) = update(model, &learned, sums, 1e-3, Some(1.0), &config, &|_| false)?;
        learned = next;
        losses.push(numbers.loss);
    }
    Ok((losses, learned.adapters))
}

/// Within 1e-4 of one device after twenty steps, and the same bits again.
fn check_twenty(name: &str, model: &Decoder, adapters: &Adapters) -> Result<()> {
    let (losses, alone) = twenty(model, adapters, None)?;
    // The same rows; the loss falls by far more than it may differ.
    assert!(losses[18] < 0.997 * losses[0], "{name}: {losses:?}");
    let start: Vec<Tensor> = adapters.tensors().map(|(_, tensor)| tensor.clone()).collect();
    let moved = apart(alone.tensors().map(|(_, tensor)| tensor), start.iter())?;
    assert!(moved > 1e-3, "{name}: {moved}");
    for (devices, stages) in [(2, 2), (2, 1), (3, 1), (4, 1), (4, 2)] {
        let (ours, end) = twenty(model, adapters, Some(group(model, devices, stages)?))?;
        for (step, (ours, truth)) in ours.iter().zip(&losses).enumerate() {
            let off = (ours / truth - 1.0).abs();
            assert!(off < 1e-4, "{name} on {devices} in {stages}, step {step}: {ours} and {truth}");
        }
        let off = apart(end.tensors().map(|(_, t)| t), alone.tensors().map(|(_, t)| t))?;
        assert!(off < 1e-4, "{name} on {devices} in {stages}: {off:e}");
        if (devices, stages) == (4, 2) {
            let (again, same) = twenty(model, adapters, Some(group(model, devices, stages)?))?;
            assert!(again == ours && bits_of(&same) == bits_of(&end), "{name} on {devices} in {stages}");
        }
    }
    Ok(())
}

#[test]
fn device_sums_of_twenty_steps_are_those_of_one_device() -> Result<()> {
    for (family, chosen) in [("tiny", ["dropout", "dora"]), ("tied", ["head", "embedding"])] {
        let model = Decoder::open(file(family), &first())?;
        for (name, config) in kinds().into_iter().filter(|(name, _)| chosen.contains(name)) {
            check_twenty(&format!("{name} of {family}"), &model, &moved(&model, &config)?)?;
        }
    }
    let model = Decoder::open(file("tied"), &first())?;
    check_twenty("all weights", &model, &model.all_trained()?)
}

/// Odd batches in micro-batches of some forty tokens.
fn small() -> RunConfig {
    config().batch(5).micro_batch(40).devices(devices(1)).reduction(Reduction::OnDevices)
}

/// The losses and adapters of a run are within 1e-4 of those of another one.
fn near(run: &Run, alone: &Run) -> Result<()> {
    let (ours, truth) = (run.history(), alone.history());
    assert_eq!(ours.steps().len(), truth.steps().len(), "{}", run.name());
    for (ours, truth) in ours.steps().iter().zip(truth.steps()) {
        let off = (ours.loss / truth.loss - 1.0).abs();
        assert!(off < 1e-4, "{}, step {}: {} and {}", run.name(), ours.step, ours.loss, truth.loss);
    }
    let (ours, truth) = (run.adapters(), alone.adapters());
    let off = apart(ours.tensors().map(|(_, t)| t), truth.tensors().map(|(_, t)| t))?;
    assert!(off < 1e-4, "{}: {off:e}", run.name());
    Ok(())
}

fn same(run: &Run, other: &Run) {
    assert_eq!(losses(run), losses(other), "{} and {}", run.name(), other.name());
    assert!(bits_of(&run.adapters()) == bits_of(&other.adapters()), "{} and {}", run.name(), other.name());
}

/// A run says where its gradients are added, keeps it on disk, and gives the same bits however it is disturbed.
#[test]
fn device_sums_of_a_run_go_on_to_the_bit() -> Result<()> {
    let bench = Bench::new()?;
    let eval = bench.data.head(4)?;
    let small = || small().eval(&eval).eval_every(7);
    let alone = bench.run("alone", small().reduction(Reduction::Ordered))?;
    alone.steps(20)?;
    let straight = |name: &str, count, placement| -> Result<Run> {
        let run = bench.run(name, small().devices(devices(count)).placement(placement))?;
        run.steps(20)?;
        near(&run, &alone)?;
        Ok(run)
    };
    // One rank adds as one device does.
    same(&straight("stages", 3, Placement::Split(3))?, &alone);
    let three = straight("three", 3, Placement::Replicate)?;
    let pairs = straight("pairs", 4, Placement::Split(2))?;
    assert!(bits_of(&three.adapters()) != bits_of(&alone.adapters()));
    assert!(three.config().show().text.contains("added on the devices"));

    let run = bench.run("moving", small().devices(devices(3)))?;
    run.start(1000)?;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(40));
        let begun = Instant::now();
        run.pause()?;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        run.resume()?;
    }
    run.pause()?;
    let more = bench.run("more", small().devices(devices(3)))?;
    more.steps(run.status().step)?;
    same(&run, &more);
    let folder = run.folder().to_path_buf();
    run.close()?;
    let run = Run::open(&folder)?;
    assert_eq!(run.config().reduction, Reduction::OnDevices);
    run.steps(2)?;
    more.steps(2)?;
    same(&run, &more);
    // Other devices give other bits, and go on from where it is.
    pairs.rewind(4)?;
    if !on_gpu() {
        pairs.set_devices(devices(3), Placement::Replicate)?; // elsewhere the model would have to move
    }
    pairs.steps(16)?;
    near(&pairs, &alone)?;
    let fork = three.fork("fork", |c| c.reduction = Reduction::Ordered)?;
    assert!(fork.config().reduction.is_ordered());
    fork.steps(1)?;
    alone.steps(1)?;
    near(&fork, &alone)
}

/// Fewer micro-batches than ranks: those that have none are not asked.
#[test]
fn device_sums_of_ranks_without_examples() -> Result<()> {
    let bench = Bench::new()?;
    let config = || config().devices(devices(1)).reduction(Reduction::OnDevices);
    let alone = bench.run("alone", config())?;
    alone.steps(3)?;
    let run = bench.run("four", config().devices(devices(4)))?;
    run.steps(3)?;
    // One micro-batch has one sum: the numbers of one device.
    same(&run, &alone);
    Ok(())
}

/// A follower tells the losses of its packs, and its sums once a step.
#[test]
fn device_sums_of_followers_are_told_once_a_step() -> Result<()> {
    let others = with_model(2, "tiny")?;
    let model = Decoder::open(file("tiny"), &Device::Cpu)?;
    let (batch, (_, config)) = (batch(), kinds().remove(1));
    let learned = Learned::new(moved(&model, &config)?, 7);
    let numbers: usize = learned.adapters.tensors().map(|(_, tensor)| tensor.elem_count()).sum();
    let mut alone = Accumulated::default();
    forward_backward(&model, &learned, &batch, &mut alone, &|| true)?;
    let packs = batch.packs.iter().filter(|pack| pack.trained_tokens() > 0).count();
    for reduction in [Reduction::OnDevices, Reduction::Ordered] {
        let mut group = with_others(&model, 1, Placement::Replicate, &others)?.reduction(reduction);
        others.take_told();
        let mut before: Option<Vec<_>> = None;
        let mut in_order = 0;
        for _ in 0..4 {
            let mut together = Accumulated::default();
            group.forward_backward(&model, &learned, &batch, &mut together, &|| true)?;
            assert_eq!(together.sum.to_bits(), alone.sum.to_bits());
            let off = apart(tensors(&together.gradients), tensors(&alone.gradients))?;
            assert!(off < 1e-6, "{off:e}");
            let bits = bits(&together.gradients);
            assert!(before.replace(bits.clone()).is_none_or(|before| before == bits));
            let told = others.take_told();
            let large = |process| told.iter().filter(|(p, n)| *p == process && *n >= numbers).count();
            let small: Vec<usize> = told.iter().map(|(_, n)| *n).filter(|n| *n > 0 && *n < numbers).collect();
            if reduction.is_ordered() {
                // Once a pack, by whoever was free.
                assert!(small.is_empty() && large(1) + large(2) <= packs, "{told:?}");
                in_order += large(1) + large(2);
                continue;
            }
            assert_eq!([large(1), large(2)], [1; 2], "{told:?}");
            // Losses, no more numbers than the tokens of a pack.
            assert!(small.len() < packs && small.iter().all(|n| *n <= 24), "{packs} packs: {told:?}");
            assert!(small.len() >= 2, "{told:?}");
        }
        assert_eq!(in_order > 0, reduction.is_ordered());
        assert_eq!(group.evaluate(&learned.adapters, &batch, &|| true)?, {
            evaluate(&model, &learned.adapters, &batch, &|| true)?
        });
    }
    Ok(())
}

/// Followers beside ranks here, of one and of two stages; paused within steps.
#[test]
fn device_sums_of_runs_with_followers() -> Result<()> {
    let bench = Bench::new()?;
    let alone = bench.run("alone", small().devices(Devices::default()))?;
    alone.steps(20)?;
    let _others = Others::new(2)?;
    for (devices, placement) in [(1, Placement::Replicate), (2, Placement::Split(2))] {
        let on = |name: &str| {
            let name = format!("{name}-{devices}");
            bench.run(&name, small().devices(Devices::cpu(devices)).placement(placement))
        };
        let straight = on("straight")?;
        straight.steps(20)?;
        assert_eq!(straight.status().devices.len(), devices + 2);
        near(&straight, &alone)?;
        straight.close()?;
        let run = on("paused")?;
        run.start(1000)?;
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(70));
            run.pause()?;
            run.resume()?;
        }
        run.pause()?;
        let (step, found) = (run.status().step, (losses(&run), bits_of(&run.adapters())));
        run.close()?;
        // As many as this machine has come to.
        let again = on("again")?;
        again.steps(step)?;
        assert!(found == (losses(&again), bits_of(&again.adapters())), "{devices} devices");
        again.close()?;
    }
    Ok(())
}
