//! Runs on several virtual devices: the steps of one device, and going on with another number of them.

use crate::common::devices::{devices, name, on_gpu};
use crate::common::runs::{Bench, bits, config, losses};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::run::{OpenRun, Run};
use lorascope::train::{Devices, Placement, RunConfig};

/// Odd batches in micro-batches of some forty tokens.
fn small() -> RunConfig {
    config().batch(5).micro_batch(40).devices(devices(1))
}

/// Blocks over so many devices, where they may move while the run is open.
fn split(stages: usize) -> Placement {
    if on_gpu() { Placement::Replicate } else { Placement::Split(stages) }
}

/// 20 steps on 1, 2, 3 and 4 ranks, 1, 2 and 3 stages, and two ranks of two stages: the same losses, evaluations and
/// adapters to the bit, dropout on.
#[test]
fn device_numbers_do_not_change_twenty_steps() -> Result<()> {
    let bench = Bench::new()?;
    let eval = bench.data.head(4)?;
    let small = || small().eval(&eval).eval_every(7);
    let alone = bench.run("alone", small())?;
    alone.steps(20)?;
    assert!(alone.batch()?.show().text.contains('='));
    let arrangements = [
        (1, Placement::Replicate),
        (2, Placement::Replicate),
        (3, Placement::Replicate),
        (4, Placement::Replicate),
        (2, Placement::Split(2)),
        (3, Placement::Split(3)),
        (4, Placement::Split(2)),
    ];
    for (count, placement) in arrangements {
        let called = format!("on-{count}-{}", placement.stages());
        let run = bench.run(&called, small().devices(devices(count)).placement(placement))?;
        run.steps(20)?;
        assert_eq!(losses(&run), losses(&alone), "{called}");
        assert!(bits(&run.adapters()) == bits(&alone.adapters()), "{called}");
        let evaluated = |run: &Run| run.history().steps().iter().map(|s| s.eval_loss).collect::<Vec<_>>();
        assert_eq!(evaluated(&run), evaluated(&alone), "{called}");
        assert_eq!(run.evaluate()?.loss.to_bits(), alone.evaluate()?.loss.to_bits(), "{called}");
        let status = run.status();
        assert_eq!(status.devices.len(), if count > 1 { count } else { 0 });
        if count > 1 {
            let shown = status.show().text;
            let second = run.config().devices.to_string().contains(",1");
            let second = if second { "cuda:1".to_string() } else { name() };
            assert!(shown.contains(&format!("{second}, rank 1")), "{shown}");
            assert!(shown.contains("% of the time at work"), "{shown}");
            let blocks: usize = status.devices.iter().map(|device| device.blocks).sum();
            assert_eq!(blocks, 8 * count / placement.stages());
        }
        run.close()?;
    }
    Ok(())
}

/// One micro-batch a step for four ranks, and rows that are fewer than these.
#[test]
fn device_ranks_may_be_more_than_examples() -> Result<()> {
    let bench = Bench::new()?;
    let alone = bench.run("alone", config().devices(devices(1)))?;
    alone.steps(3)?;
    let run = bench.run("four", config().devices(devices(4)))?;
    run.steps(3)?;
    assert_eq!(losses(&run), losses(&alone));
    assert!(bits(&run.adapters()) == bits(&alone.adapters()));
    let notes = run.status().notes;
    assert_eq!(
        notes,
        [
            "a step has 1 micro-batch for 4 devices: some have nothing to do; raise batch, or lower micro_batch"
        ]
    );
    Ok(())
}

/// From 4 ranks to one device, to 3 stages, to 2 ranks: from disk, and while it is open.
#[test]
fn device_numbers_may_change_in_a_run() -> Result<()> {
    let bench = Bench::new()?;
    let alone = bench.run("alone", small())?;
    alone.steps(12)?;
    let run = bench.run("moving", small().devices(devices(4)))?;
    run.steps(3)?;
    let folder = run.folder().to_path_buf();
    run.close()?;
    let on = |devices: Devices, placement| OpenRun {
        devices: Some(devices),
        placement: Some(placement),
        ..OpenRun::default()
    };
    let run = Run::open_with(&folder, &on(devices(1), Placement::Replicate))?;
    assert_eq!(run.status().devices, []);
    run.steps(3)?;
    run.close()?;
    let run = Run::open_with(&folder, &on(devices(3), split(3)))?;
    run.steps(2)?;
    run.set_devices(devices(2), Placement::Replicate)?;
    run.steps(2)?;
    run.close()?;
    // What was set last is what it opens with.
    let run = Run::open(&folder)?;
    run.steps(2)?;
    assert_eq!(run.status().devices.len(), 2);
    assert_eq!(losses(&run), losses(&alone));
    assert!(bits(&run.adapters()) == bits(&alone.adapters()));
    run.rewind(5)?;
    assert_eq!(losses(&run), losses(&alone)[..5]);
    Ok(())
}

/// Devices change while the run trains, it is paused in the middle of steps, and nothing of it shows.
#[test]
fn device_numbers_may_change_while_it_trains() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("busy", small().devices(devices(2)))?;
    run.start(1000)?;
    for (count, placement) in [(3, Placement::Replicate), (2, split(2)), (1, Placement::Replicate)] {
        std::thread::sleep(std::time::Duration::from_millis(60));
        run.set_devices(devices(count), placement)?;
        run.pause()?;
        run.resume()?;
    }
    run.pause()?;
    // As many as this machine has come to.
    let alone = bench.run("alone", small())?;
    alone.steps(run.status().step)?;
    assert_eq!(losses(&run), losses(&alone));
    assert!(bits(&run.adapters()) == bits(&alone.adapters()));
    Ok(())
}

#[test]
fn device_choices_that_cannot_be_are_errors() -> Result<()> {
    let bench = Bench::new()?;
    let error = |config: RunConfig| bench.run("none", config).map(|_| ()).unwrap_err().to_string();
    let gpu = error(small().devices(Devices::cuda([99])));
    assert!(gpu.starts_with("there is no GPU 99 for this program"), "{gpu}");
    assert!(gpu.contains("cpu:1"), "{gpu}");
    assert_eq!(error(small().devices(Devices::cpu(0))), "0 devices; take at least one");
    assert_eq!(
        error(small().placement(Placement::Split(0))),
        "a model split over 0 devices; split it over at least 2"
    );
    // Before anything is written, so that nothing is replaced by a run that cannot begin.
    assert_eq!(
        error(small().devices(devices(3)).placement(Placement::Split(2))),
        "3 devices for a model split over 2; take 2 devices or a multiple of that, or split it over another number"
    );
    let blocks = error(small().devices(Devices::cpu(9)).placement(Placement::Split(9)));
    assert_eq!(blocks, "a model of 8 blocks split over 9 devices; split it over at most 8");
    let many = error(small().devices(Devices::cpu(100_000)));
    assert_eq!(many, "100000 ranks on the processor; each is a thread of its own: take at most 256");
    assert!(!bench.folder().join("runs/none").exists());
    let run = bench.run("one", small())?;
    let refused = run.set_devices(devices(3), Placement::Split(2)).unwrap_err().to_string();
    let why = if on_gpu() { "the model would have to move" } else { "3 devices for a model split over 2" };
    assert!(refused.contains(why), "{refused}");
    // It goes on as it was.
    run.step()?;
    Ok(())
}
