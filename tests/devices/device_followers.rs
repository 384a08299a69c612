//! Other processes as followers, here threads that are told all as a process is: the numbers of one device to the bit.

use crate::common::runs::{Bench, bits as bits_of, config, losses};
use crate::device_families::{FAMILIES, batch, bits, file, kinds, moved};
use lorascope::candle_core::Device;
use lorascope::devices::{
    DeviceGroup, Followers, InProcess, Opened, Setup, in_process, in_process_on, open_model,
};
use lorascope::error::{Error, Result};
use lorascope::lora::{Adapter, Adapters, LoraConfig};
use lorascope::model::{Decoder, Recompute, WeightDtype};
use lorascope::ops::Precision;
use lorascope::run::{OpenRun, RowsFrom, Run, RunFile, State};
use lorascope::train::step::{Accumulated, Learned, evaluate, forward_backward};
use lorascope::train::{Devices, Placement, RunConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn setup(recompute: Recompute) -> Setup {
    Setup {
        model: "unused".into(),
        weights: WeightDtype::Stored,
        fingerprint: "one".to_string(),
        recompute,
        precision: Precision::F32,
    }
}

/// Followers that have this model of tests/golden.
pub fn with_model(count: usize, name: &'static str) -> Result<InProcess> {
    in_process(count, move |_, _| {
        Ok(Opened { decoder: Decoder::open(file(name), &Device::Cpu)?, fingerprint: "one".to_string() })
    })
}

pub fn group(model: &Decoder, ranks: usize, placement: Placement, others: &InProcess) -> Result<DeviceGroup> {
    let claim = others.followers.claim().unwrap();
    let recompute = model.recompute();
    DeviceGroup::new(model, &vec![Device::Cpu; ranks], placement, 24)?
        .with_followers(claim, &setup(recompute))
}

fn check(name: &str, model: &Decoder, adapters: &Adapters, others: &InProcess) -> Result<()> {
    let batch = batch();
    let learned = Learned::new(adapters.clone(), 7);
    let mut alone = Accumulated::default();
    forward_backward(model, &learned, &batch, &mut alone, &|| true)?;
    let evaluated = evaluate(model, adapters, &batch, &|| true)?;
    for (ranks, placement) in [(1, Placement::Replicate), (2, Placement::Split(2))] {
        let context = format!("{name}, {placement:?}");
        let mut group = group(model, ranks, placement, others)?;
        for _ in 0..2 {
            let mut together = Accumulated::default();
            group.forward_backward(model, &learned, &batch, &mut together, &|| true)?;
            assert_eq!(together.sum.to_bits(), alone.sum.to_bits(), "{context}");
            assert_eq!(together.rows, alone.rows, "{context}");
            assert!(bits(&together.gradients) == bits(&alone.gradients), "{context}");
            // What the data have shown of A, too: one update of each.
            let update = |accumulated| {
                lorascope::train::step::update(
                    model,
                    &learned,
                    accumulated,
                    0.1,
                    Some(1.0),
                    &Default::default(),
                    &|_| false,
                )
            };
            let mut again = Accumulated::default();
            forward_backward(model, &learned, &batch, &mut again, &|| true)?;
            let (together, again) = (update(together)?.0, update(again)?.0);
            assert_eq!(
                format!("{:?}", together.activations),
                format!("{:?}", again.activations),
                "{context}"
            );
        }
        assert_eq!(group.evaluate(adapters, &batch, &|| true)?, evaluated, "{context}");
        let status = group.status();
        let there: u64 = status.iter().filter(|d| d.name.contains("process")).map(|d| d.tokens).sum();
        assert!(there > 0, "{context}: {status:?}");
    }
    Ok(())
}

#[test]
fn device_followers_of_each_family_give_the_same_bits() -> Result<()> {
    for name in FAMILIES {
        let others = with_model(2, name)?;
        let model = Decoder::open(file(name), &Device::Cpu)?;
        let adapters = Adapters::open(file(&format!("{name}-adapter")), &Device::Cpu)?;
        check(name, &model, &adapters, &others)?;
        check(name, &model.with_recompute(Recompute::Blocks), &adapters, &others)?;
    }
    Ok(())
}

#[test]
fn device_followers_know_all_kinds_of_adapters() -> Result<()> {
    for family in ["tiny", "tied"] {
        let others = with_model(3, family)?;
        let model = Decoder::open(file(family), &Device::Cpu)?;
        for (name, config) in kinds() {
            check(&format!("{name} of {family}"), &model, &moved(&model, &config)?, &others)?;
        }
    }
    // Pairs beside parts of a fused weight (loralib).
    let others = with_model(2, "gpt2")?;
    let model = Decoder::open(file("gpt2"), &Device::Cpu)?;
    let targets = model.targets();
    let fused = targets.iter().find(|target| target.shape[0] == 3 * target.shape[1]).unwrap();
    let tensor = |rows: usize, columns: usize| {
        let values = (0..rows * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 400.0).collect::<Vec<_>>();
        lorascope::candle_core::Tensor::from_vec(values, (rows, columns), &Device::Cpu)
    };
    let width = fused.shape[1];
    let pair = Adapter::merged(tensor(6, width)?, tensor(2 * width, 3)?, &[true, false, true], 0.7)?;
    let pairs = [(fused.path.clone(), pair)].into();
    let adapters = Adapters::from_pairs(LoraConfig { rank: 3, ..LoraConfig::default() }, pairs);
    check("parts", &model, &adapters, &others)
}

/// All weights of a tied model: as on several devices of one process.
#[test]
fn device_followers_train_all_weights() -> Result<()> {
    let others = with_model(2, "tied")?;
    let model = Decoder::open(file("tied"), &Device::Cpu)?;
    let learned = Learned::new(model.all_trained()?, 7);
    let passed = |mut group: DeviceGroup| -> Result<_> {
        let mut sums = Accumulated::default();
        group.forward_backward(&model, &learned, &batch(), &mut sums, &|| true)?;
        Ok((sums.sum.to_bits(), bits(&sums.gradients)))
    };
    let here = passed(DeviceGroup::new(&model, &vec![Device::Cpu; 3], Placement::Replicate, 24)?)?;
    assert!(here.1.len() > 10);
    assert!(passed(group(&model, 1, Placement::Replicate, &others)?)? == here);
    Ok(())
}

#[test]
fn device_followers_with_another_model_are_refused() -> Result<()> {
    let others = in_process(2, |process, _| match process {
        1 => {
            Ok(Opened { decoder: Decoder::open(file("tiny"), &Device::Cpu)?, fingerprint: "two".to_string() })
        }
        _ => Err(Error::not_found("no such file or folder").path("a.gguf")),
    })?;
    let model = Decoder::open(file("tiny"), &Device::Cpu)?;
    let config = LoraConfig { rank: 3, ..LoraConfig::default() };
    let learned = Learned::new(moved(&model, &config)?, 7);
    let mut errors = Vec::new();
    for _ in 0..40 {
        let mut group = group(&model, 1, Placement::Replicate, &others)?;
        let begun = Instant::now();
        let mut sums = Accumulated::default();
        let error = group.forward_backward(&model, &learned, &batch(), &mut sums, &|| true).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        errors.push(error.to_string());
        errors.sort();
        errors.dedup();
        if errors.len() == 2 {
            break;
        }
    }
    let another = "device cpu, rank 1, process 1 on host1: another model than that of process 0: its fingerprint is two, \
                   there one; give every process the same model file";
    let missing = "device cpu, rank 2, process 2 on host0: a.gguf: no such file or folder";
    assert!(errors.iter().all(|error| error == another || error == missing), "{errors:?}");
    Ok(())
}

/// The first process tells which kind of device to compute on; whoever cannot is named before any model is opened,
/// there or here.
#[test]
fn device_kinds_that_differ_are_refused_before_a_model_is_opened() -> Result<()> {
    static OPENED: AtomicUsize = AtomicUsize::new(0);
    let bench = Bench::new()?;
    let run = bench.run("before", small())?;
    run.steps(1)?;
    let folder = run.folder().to_path_buf();
    run.close()?;
    let others = in_process_on(
        3,
        |process| if process == 2 { Devices::cuda([0]) } else { Devices::auto() },
        |_, setup| {
            OPENED.fetch_add(1, Ordering::SeqCst);
            open_model(setup, None, &Device::Cpu)
        },
    )?;
    let mixed = "process 2 on host0: it was started with devices cuda:0, and process 0 computes on the processor; \
                 numbers would depend on which process computes: give all of them devices cpu:1, or auto";
    // Twice: a refusal leaves nothing behind.
    for _ in 0..2 {
        let model = Decoder::open(file("tiny"), &Device::Cpu)?;
        let error = group(&model, 1, Placement::Replicate, &others).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(mixed));
    }
    Followers::set(Some(others.followers.clone()));
    let file = RunFile {
        name: Some("mixed".to_string()),
        model: Some("missing.gguf".into()),
        data: Some(RowsFrom::Path("rows.jsonl".into())),
        ..RunFile::default()
    };
    let new = file.new_run().err().map(|error| error.to_string());
    let opened = Run::open(&folder).err().map(|error| error.to_string());
    let moved = OpenRun { devices: Some(Devices::cpu(2)), ..OpenRun::default() };
    let moved = Run::open_with(&folder, &moved).err().map(|error| error.to_string());
    Followers::set(None);
    assert_eq!([new, opened, moved].map(Option::unwrap_or_default), [mixed; 3]);
    assert!(!bench.folder().join("runs/mixed").exists());
    assert_eq!(OPENED.load(Ordering::SeqCst), 0);
    let run = Run::open(&folder)?;
    assert_eq!(run.status().step, 1);
    run.close()
}

/// A short run beside one that is alone.
fn small() -> RunConfig {
    config().batch(5).micro_batch(40)
}

/// Followers of runs, which belong to this process until it is dropped.
pub struct Others(InProcess);

impl Others {
    pub fn new(count: usize) -> Result<Self> {
        let others = in_process(count, |_, setup| open_model(setup, None, &Device::Cpu))?;
        Followers::set(Some(others.followers.clone()));
        Ok(Self(others))
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        Followers::set(None);
    }
}

fn same(run: &Run, alone: &Run) {
    assert_eq!(losses(run), losses(alone), "{}", run.name());
    assert!(bits_of(&run.adapters()) == bits_of(&alone.adapters()), "{}", run.name());
}

#[test]
fn device_followers_do_not_change_a_run() -> Result<()> {
    let bench = Bench::new()?;
    let eval = bench.data.head(4)?;
    let small = || small().eval(&eval).eval_every(5);
    let alone = bench.run("alone", small())?;
    alone.steps(12)?;
    for count in [1, 3] {
        let others = Others::new(count)?;
        let run = bench.run(&format!("with-{count}"), small())?;
        run.steps(4)?;
        let status = run.status();
        assert_eq!(status.devices.len(), 1 + count);
        assert!(status.devices[1].name.starts_with("cpu, rank 1, process 1 on host1"), "{status:?}");
        assert_eq!(status.devices[count].blocks, 8);
        // They work for one run at a time.
        let second = bench.run(&format!("second-{count}"), small())?;
        second.steps(1)?;
        assert_eq!(second.status().devices, []);
        let told = |run: &Run| run.status().notes.iter().filter(|note| note.contains("another run")).count();
        assert_eq!((told(&second), told(&run)), (1, 0));
        run.set_devices(Devices::cpu(2), Placement::Replicate)?;
        assert_eq!(run.status().devices.len(), 2 + count);
        run.steps(2)?;
        run.set_devices(Devices::cpu(3), Placement::Split(2)).unwrap_err();
        run.set_devices(Devices::cpu(2), Placement::Split(2))?;
        run.steps(2)?;
        let folder = run.folder().to_path_buf();
        run.close()?;
        second.steps(11)?;
        assert_eq!(second.status().devices.len(), 1 + count);
        same(&second, &alone);
        second.close()?;
        drop(others);
        let run = Run::open(folder)?;
        run.steps(4)?;
        same(&run, &alone);
        run.close()?;
    }
    Ok(())
}

#[test]
fn device_followers_are_paused_within_a_step() -> Result<()> {
    let bench = Bench::new()?;
    let _others = Others::new(2)?;
    let run = bench.run("paused", small())?;
    run.start(1000)?;
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(70));
        let begun = Instant::now();
        run.pause()?;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        run.resume()?;
    }
    run.pause()?;
    // As many as this machine has come to.
    let alone = bench.run("alone", small().devices(Devices::cpu(1)))?;
    alone.steps(run.status().step)?;
    same(&run, &alone);
    Ok(())
}

/// A follower that fails, panics, loses its thread or its line: the run is Failed with the reason and the process, and
/// goes on to the same numbers.
#[test]
fn device_followers_that_fail_end_the_step_and_no_more() -> Result<()> {
    const LOSE: usize = 4;
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    let bench = Bench::new()?;
    let alone = bench.run("alone", small())?;
    alone.steps(8)?;
    for (what, reason) in [
        (1, "CUDA_ERROR_LAUNCH_FAILED"),
        (2, "panic: an index out of bounds"),
        (3, "its thread has ended"),
        (LOSE, "nothing was heard of it for "),
    ] {
        let others = Others::new(3)?;
        let lose = Arc::new(AtomicUsize::new(0));
        let cut = lose.clone();
        lorascope::devices::before_each_pack(move |process, _, _| {
            if process != 2 || LEFT.load(Ordering::SeqCst) == 0 || LEFT.fetch_sub(1, Ordering::SeqCst) != 1 {
                return Ok(true);
            }
            match what {
                1 => Err(Error::compute("CUDA_ERROR_LAUNCH_FAILED")),
                2 => panic!("an index out of bounds"),
                3 => Ok(false),
                _ => {
                    cut.store(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_secs(3600));
                    Ok(true)
                }
            }
        });
        let run = bench.run(&format!("run-{what}"), small())?;
        run.steps(2)?;
        LEFT.store(2, Ordering::SeqCst);
        let begun = Instant::now();
        run.start(20)?;
        while run.status().state == State::Running {
            if lose.load(Ordering::SeqCst) == 1 {
                others.0.cut(2);
            }
            std::thread::sleep(Duration::from_millis(10));
            assert!(begun.elapsed() < Duration::from_secs(20), "{reason}: {:?}", run.status());
        }
        lorascope::devices::before_each_pack(|_, _, _| Ok(true));
        let State::Failed(why) = run.status().state else { panic!("{:?}", run.status().state) };
        assert!(why.contains(reason) && why.contains("process 2 on host0"), "{why}");
        assert!(why.contains("step "), "{why}");
        assert_eq!(others.0.followers.any_lost(), what == LOSE);
        let done = run.status().step;
        assert!((2..8).contains(&done), "{done}");
        run.steps(8 - done)?;
        same(&run, &alone);
        assert_eq!(run.status().devices.len(), if what == LOSE { 3 } else { 4 });
        run.close()?;
    }
    Ok(())
}
