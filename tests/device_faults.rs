//! Faults in the threads of devices: the run says which device failed and why, nothing hangs, and it goes on.

mod common;

use crate::common::runs::{Bench, bits, config, losses};
use lorascope::devices::{DeviceGroup, before_each_pack};
use lorascope::error::{Error, Result};
use lorascope::run::{Run, State};
use lorascope::train::step::{Accumulated, Learned};
use lorascope::train::{Batch, Devices, Placement, RunConfig};
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

/// A thread that hangs in the middle of its work is given up after the limit.
#[test]
fn device_that_hangs_is_given_up() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("hangs", small())?;
    let batch: Batch = run.next_batch()?;
    let model = bench.model.decoder();
    let learned = Learned::new(run.adapters(), 7);
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
