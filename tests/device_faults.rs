//! Faults in the threads of devices: the run says which device failed and why, nothing hangs, and it goes on.

mod common;

use crate::common::runs::{Bench, bits, config, losses};
use lorascope::candle_core::Device;
use lorascope::devices::{DeviceGroup, Followers, before_each_pack, in_process, open_model};
use lorascope::error::{Error, Result};
use lorascope::run::{Run, State};
use lorascope::train::step::{Accumulated, Learned};
use lorascope::train::{Batch, Devices, Placement, Reduction, RunConfig};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn small() -> RunConfig {
    config().batch(5).micro_batch(40)
}

/// What happens at the third pack that the second device gets.
const NOTHING: usize = 0;
const KILL: usize = 1;
const PANIC: usize = 2;
const FAIL: usize = 3;
const FULL: usize = 4;

static WHAT: AtomicUsize = AtomicUsize::new(NOTHING);
static LEFT: AtomicUsize = AtomicUsize::new(0);

fn inject() {
    before_each_pack(|pipeline, stage, _| {
        if pipeline + stage != 1 || WHAT.load(Ordering::SeqCst) == NOTHING {
            return Ok(true);
        }
        if LEFT.fetch_sub(1, Ordering::SeqCst) != 1 {
            return Ok(true);
        }
        match WHAT.swap(NOTHING, Ordering::SeqCst) {
            KILL => Ok(false),
            PANIC => panic!("an index out of bounds"),
            FAIL => Err(Error::compute("CUDA_ERROR_LAUNCH_FAILED")),
            FULL => {
                Err(Error::compute("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
                    .layer("model.layers.3.mlp.up_proj"))
            }
            _ => Ok(true),
        }
    });
}

fn failed(run: &Run) -> String {
    match run.status().state {
        State::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

/// A rank that is killed, panics, fails or has no memory: within ten seconds the run is Failed with the reason and
/// what it had learned, and goes on to the same numbers.
#[test]
fn device_that_fails_ends_the_step_and_no_more() -> Result<()> {
    let bench = Bench::new()?; // tests in one process take turns
    inject();
    let alone = bench.run("alone", small())?;
    alone.steps(8)?;
    let arrangements = [(3, Placement::Replicate), (2, Placement::Split(2)), (4, Placement::Split(2))];
    for (what, reason) in [
        (KILL, "its thread has ended"),
        (PANIC, "panic: an index out of bounds"),
        (FAIL, "CUDA_ERROR_LAUNCH_FAILED"),
        (FULL, "out of memory"),
    ] {
        for (devices, placement) in arrangements {
            let name = format!("{what}-{devices}-{}", placement.stages());
            let run = bench.run(&name, small().devices(Devices::cpu(devices)).placement(placement))?;
            run.steps(3)?;
            LEFT.store(3, Ordering::SeqCst);
            WHAT.store(what, Ordering::SeqCst);
            let begun = Instant::now();
            run.steps(20).unwrap_err();
            assert!(begun.elapsed() < Duration::from_secs(10), "{name}");
            let why = failed(&run);
            assert!(why.contains(reason) && why.contains("device cpu, rank "), "{name}: {why}");
            assert!(why.contains("step "), "{name}: {why}");
            if what == FULL {
                assert!(why.contains("layer model.layers.3.mlp.up_proj"), "{why}");
                assert!(
                    why.contains("this micro-batch has ") && why.contains("recompute = \"blocks\""),
                    "{why}"
                );
            }
            let done = run.status().step;
            assert!((3..8).contains(&done), "{name}: {done}");
            // Also after another process has opened it.
            if what == KILL {
                let folder = run.folder().to_path_buf();
                run.close()?;
                let run = Run::open(folder)?;
                assert_eq!(run.status().step, done, "{name}");
                run.steps(8 - done)?;
                assert_eq!(losses(&run), losses(&alone), "{name}");
                run.close()?;
                continue;
            }
            run.steps(8 - done)?;
            assert_eq!(losses(&run), losses(&alone), "{name}");
            assert!(bits(&run.adapters()) == bits(&alone.adapters()), "{name}");
            run.close()?;
        }
    }
    Ok(())
}

/// What one pass of a run works with.
fn one_pass(bench: &Bench) -> Result<(Learned, Batch)> {
    let run = bench.run("hangs", small())?;
    Ok((Learned::new(run.adapters(), 7), run.next_batch()?))
}

/// A thread that hangs in the middle of its work is given up after the limit.
#[test]
fn device_that_hangs_is_given_up() -> Result<()> {
    let bench = Bench::new()?;
    let (model, (learned, batch)) = (bench.model.decoder(), one_pass(&bench)?);
    for placement in [Placement::Replicate, Placement::Split(2)] {
        let devices = vec![model.device().clone(); 2];
        let group = DeviceGroup::new(model, &devices, placement, 40)?;
        let mut group = group.silence(Duration::from_millis(300));
        before_each_pack(|pipeline, stage, _| {
            if pipeline + stage == 1 {
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(true)
        });
        let mut sums = Accumulated::default();
        let begun = Instant::now();
        let error = group.forward_backward(model, &learned, &batch, &mut sums, &|| true).unwrap_err();
        before_each_pack(|_, _, _| Ok(true));
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
        let error = error.to_string();
        assert!(error.starts_with("device cpu, rank 1: no sign of life for 0."), "{error}");
    }
    Ok(())
}

/// What a fault does.
fn fault(what: usize) -> Result<bool> {
    match what {
        KILL => Ok(false),
        PANIC => panic!("an index out of bounds"),
        FAIL => Err(Error::compute("CUDA_ERROR_LAUNCH_FAILED")),
        _ => Ok(true),
    }
}

const REASONS: [(usize, &str); 3] = [
    (KILL, "its thread has ended"),
    (PANIC, "panic: an index out of bounds"),
    (FAIL, "CUDA_ERROR_LAUNCH_FAILED"),
];

/// Makes two steps of a run, and fails in the third: at the first pack of `at`, a pipeline or process and its stage,
/// or when it is asked for its sums. The run goes on to the numbers of `straight`, which nobody disturbed.
fn fails_and_goes_on(run: &Run, straight: &Run, (at, stage): (usize, usize), named: &str) -> Result<()> {
    run.steps(2)?;
    for at_sums in [false, true] {
        for (what, reason) in REASONS {
            let step = run.status().step;
            let context = format!("{}, {reason}, at its sums: {at_sums}", run.name());
            before_each_pack(move |pipeline, its_stage, pack| {
                match (pipeline, its_stage) == (at, stage) && at_sums == (pack == usize::MAX) {
                    true => fault(what),
                    false => Ok(true),
                }
            });
            let begun = Instant::now();
            run.steps(20).unwrap_err();
            before_each_pack(|_, _, _| Ok(true));
            assert!(begun.elapsed() < Duration::from_secs(10), "{context}");
            let why = failed(run);
            assert!(why.contains(reason) && why.contains(named), "{context}: {why}");
            assert!(why.contains(&format!("step {}", step + 1)), "{context}: {why}");
            assert_eq!(run.status().step, step, "{context}");
            run.step()?;
        }
    }
    assert_eq!(run.status().step, 8);
    assert_eq!(losses(run), losses(straight), "{}", run.name());
    assert!(bits(&run.adapters()) == bits(&straight.adapters()), "{}", run.name());
    Ok(())
}

/// Where the devices add gradients themselves: a rank that fails at a pack, or when it is asked for its sums.
#[test]
fn device_that_fails_with_its_sums_ends_the_step_and_no_more() -> Result<()> {
    let bench = Bench::new()?;
    for (devices, placement, at, named) in [
        (3, Placement::Replicate, (1, 0), "device cpu, rank 1"),
        (2, Placement::Split(2), (0, 1), "device cpu, rank 1"),
        (4, Placement::Split(2), (1, 0), "device cpu, rank 2"),
    ] {
        let on = |name: &str| {
            let config = small().reduction(Reduction::OnDevices).devices(Devices::cpu(devices));
            bench.run(&format!("{name}-{devices}"), config.placement(placement))
        };
        let (straight, run) = (on("straight")?, on("fails")?);
        straight.steps(8)?;
        fails_and_goes_on(&run, &straight, at, named)?;
    }
    Ok(())
}

/// The same in another process.
#[test]
fn device_of_a_follower_that_fails_with_its_sums_ends_the_step_and_no_more() -> Result<()> {
    let bench = Bench::new()?;
    let others = in_process(2, |_, setup| open_model(setup, None, &Device::Cpu))?;
    Followers::set(Some(others.followers.clone()));
    let small = || small().reduction(Reduction::OnDevices);
    let straight = bench.run("straight", small())?;
    straight.steps(8)?;
    assert_eq!(straight.status().devices.len(), 3);
    let ours = (losses(&straight), bits(&straight.adapters()));
    let folder = straight.folder().to_path_buf();
    straight.close()?; // they work for one run at a time
    let run = bench.run("fails", small())?;
    run.steps(1)?;
    assert_eq!(run.status().devices.len(), 3);
    run.rewind(0)?;
    let straight = Run::open(folder)?;
    assert_eq!((losses(&straight), bits(&straight.adapters())), ours);
    let done = fails_and_goes_on(&run, &straight, (2, 0), "process 2 on host0");
    Followers::set(None);
    done
}

/// A thread that hangs when it is asked for its sums is given up after the limit, and a pass may be left meanwhile.
#[test]
fn device_that_hangs_with_its_sums_is_given_up() -> Result<()> {
    let bench = Bench::new()?;
    let (model, (learned, batch)) = (bench.model.decoder(), one_pass(&bench)?);
    for placement in [Placement::Replicate, Placement::Split(2)] {
        let group = || {
            let group = DeviceGroup::new(model, &[Device::Cpu, Device::Cpu], placement, 40)?;
            Ok::<_, Error>(group.reduction(Reduction::OnDevices).silence(Duration::from_millis(300)))
        };
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        ASKED.store(0, Ordering::SeqCst);
        before_each_pack(|pipeline, stage, pack| {
            if pipeline + stage == 1 && pack == usize::MAX {
                ASKED.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(true)
        });
        let begun = Instant::now();
        let mut sums = Accumulated::default();
        let error = group()?.forward_backward(model, &learned, &batch, &mut sums, &|| true).unwrap_err();
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
        let error = error.to_string();
        assert!(error.starts_with("device cpu, rank 1: no sign of life for 0."), "{error}");
        // Whoever waits may go before.
        let mut waiting = group()?.silence(Duration::from_secs(3600));
        let go_on = || ASKED.load(Ordering::SeqCst) < 2;
        let mut sums = Accumulated::default();
        let error = waiting.forward_backward(model, &learned, &batch, &mut sums, &go_on).unwrap_err();
        assert!(error.is_interrupted(), "{error}");
        before_each_pack(|_, _, _| Ok(true));
    }
    Ok(())
}
