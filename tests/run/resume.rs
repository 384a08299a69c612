//! Runs that are paused, changed, rewound and forked, of a small model: what comes out is to the bit
//! what comes out of a run that nobody disturbed.

use crate::common;
use crate::common::clock;
use crate::common::runs::{Bench, Straight, bits, config, losses};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::model::Model;
use lorascope::run::{Run, State};
use lorascope::train::{Snapshots, Until};
use proptest::prelude::*;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

#[test]
fn resume_makes_changes_again_where_they_were() -> Result<()> {
    let bench = Bench::new()?;
    let config = || config().snapshots(Snapshots { every_seconds: 1e9, ..Snapshots::default() });
    let change = |run: &Run| -> Result<()> {
        run.steps(2)?;
        run.set_lr(1e-3)?;
        run.set_batch(3)?;
        run.freeze(&["layers.3", "layers.7.mlp"])?;
        run.steps(2)?;
        run.unfreeze(&["layers.3"])?;
        run.set_data(&bench.data.head(5)?)?;
        run.set_clip(Some(0.05))?;
        run.steps(2)?;
        run.cooldown(3)?;
        Ok(())
    };
    let straight = bench.run("straight", config())?;
    change(&straight)?;
    straight.resume()?;
    assert_eq!(straight.wait()?.state, State::Finished);
    assert_eq!(straight.status().step, 9);
    let rates: Vec<f64> = straight.history().steps()[6..].iter().map(|step| step.lr).collect();
    for (rate, expected) in rates.iter().zip([1e-3, 2e-3 / 3.0, 1e-3 / 3.0]) {
        assert!((rate / expected - 1.0).abs() < 1e-12, "{rates:?}");
    }
    assert!(straight.start(1).unwrap_err().to_string().contains("finished"));

    // The journal is on disk; of the steps only the first four are.
    let killed = bench.run("killed", config())?;
    change(&killed)?;
    let folder = killed.folder().to_path_buf();
    killed.close()?;
    for step in [6, 4] {
        fs::remove_dir_all(folder.join(format!("step-{step:06}"))).unwrap();
    }
    let opened = Run::get("killed")?;
    let status = opened.status();
    assert_eq!((status.step, status.state), (2, State::Paused));
    assert!(status.notes[0].contains("4 changes made after step 2"), "{:?}", status.notes);
    opened.resume()?;
    assert_eq!(opened.wait()?.state, State::Finished);
    assert_eq!(losses(&opened), losses(&straight));
    assert_eq!(bits(&opened.adapters()), bits(&straight.adapters()));

    // Back across a change of the data, and on: the same again, to the bit.
    opened.rewind(3)?;
    assert_eq!(losses(&opened), losses(&straight)[..3]);
    assert_eq!(opened.changes().iter().count(), 3);
    change_from_three(&opened, &bench)?;
    assert_eq!(losses(&opened), losses(&straight));
    assert_eq!(bits(&opened.adapters()), bits(&straight.adapters()));
    Ok(())
}

fn change_from_three(run: &Run, bench: &Bench) -> Result<()> {
    run.step()?;
    run.unfreeze(&["layers.3"])?;
    run.set_data(&bench.data.head(5)?)?;
    run.set_clip(Some(0.05))?;
    run.steps(2)?;
    run.cooldown(3)?;
    run.resume()?;
    run.wait().map(drop)
}

#[test]
fn forks_share_the_past_and_part_from_there() -> Result<()> {
    let bench = Bench::new()?;
    let mut straight = Straight::new(&bench)?;
    let run = bench.run("parent", config())?;
    run.steps(2)?;
    let low = run.fork("low", |c| c.lr = 1e-5)?;
    run.steps(2)?;
    low.steps(2)?;
    straight.agrees(&run)?;
    assert_ne!(losses(&low)[3], losses(&run)[3]);
    assert_eq!(losses(&low)[..3], losses(&run)[..3], "the loss of step 3 is that before its update");
    low.close()?;
    let low = Run::get("low")?;
    assert_eq!(low.history().len(), 4);
    low.rewind(1)?;
    straight.agrees(&low)?;
    low.steps(2)?;
    straight.agrees(&low)?; // the other rate came at step 2, and that is forgotten
    let told = run.fork("other", |c| c.lora.rank = 4).unwrap_err().to_string();
    assert!(told.contains("a fork cannot have another rank"), "{told}");
    let both = lorascope::analysis::compare_runs(&[&run, &low])?.show();
    assert!(both.html.contains("<svg") && both.text.contains("parent") && both.text.contains("low"));
    Ok(())
}

#[test]
fn the_parts_of_a_step_are_the_step() -> Result<()> {
    let bench = Bench::new()?;
    let mut straight = Straight::new(&bench)?;
    let run = bench.run("parts", config())?;
    let told = run.optimizer_step().unwrap_err().to_string();
    assert!(told.contains("there is no gradient to apply"), "{told}");
    let batch = run.next_batch()?;
    let numbers = run.forward_backward(&batch)?;
    assert!(run.gradients()?.0.iter().all(|g| g.norm.is_some()));
    assert!(run.start(1).unwrap_err().to_string().contains("are not applied yet"));
    let report = run.optimizer_step()?;
    assert_eq!((report.loss, report.gradient_norm), (numbers.loss, numbers.gradient_norm));
    straight.agrees(&run)?;
    run.step()?;
    straight.agrees(&run)?;
    // Rows of one's own: the run goes on beside them, and says that nobody can do that step again.
    run.forward_backward(&run.batch_of(&bench.data.slice(3, 1)?)?)?;
    run.optimizer_step()?;
    assert_ne!(bits(&run.adapters()), straight.at(3)?);
    run.step()?;
    run.close()?;
    let run = Run::get("parts")?;
    assert_eq!(run.status().step, 4);
    fs::remove_dir_all(run.folder().join("step-000003")).unwrap();
    let told = run.rewind(3).unwrap_err().to_string();
    assert!(told.contains("step 3 was applied by hand"), "{told}");
    run.rewind(2)?;
    straight.agrees(&run)
}

#[test]
fn goals_end_where_they_say() -> Result<()> {
    let bench = Bench::new()?;
    assert!(bench.folder().exists());
    let run = bench.run("goals", config().lr(5e-3))?;
    let status = run.start_until(Until::loss_below(1e-9).max_steps(3))?;
    assert_eq!(status.goal.loss, Some(1e-9));
    assert_eq!((run.wait()?.step, run.status().state), (3, State::Idle));
    run.start_for("1s")?;
    let step = run.wait()?.step;
    assert!((4..3000).contains(&step), "{step} steps in a second");
    run.start_until(Until::loss_below(50.0))?;
    assert_eq!(run.wait()?.state, State::Idle);
    for text in ["soon", "-1min", ""] {
        assert!(run.start_for(text).unwrap_err().is_input(), "{text}");
    }
    assert!(run.start_until(Until::default()).unwrap_err().to_string().contains("nothing says when to stop"));
    assert!(run.start_until(Until::eval_loss_below(1.0)).unwrap_err().to_string().contains("no evaluations"));
    assert!(run.rewind(10_000).unwrap_err().to_string().contains("not done yet"));
    run.start(1_000)?;
    assert_eq!(run.stop()?.state, State::Idle);
    assert!(run.resume().unwrap_err().to_string().contains("no steps are left"));
    Ok(())
}

/// What a person may do, in any order.
#[derive(Debug, Clone)]
enum Act {
    Step,
    StartAndPause(u64),
    Rewind(u64),
    Reopen,
    Resume,
    Fork,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => Just(Act::Step),
        2 => (0u64..100).prop_map(Act::StartAndPause),
        2 => (0u64..8).prop_map(Act::Rewind),
        2 => Just(Act::Reopen),
        1 => Just(Act::Resume),
        1 => Just(Act::Fork),
    ];
    prop::collection::vec(act, 4..9)
}

#[test]
fn resume_any_sequence_of_acts_ends_where_its_net_steps_say() -> Result<()> {
    let bench = Bench::new()?;
    let straight = Mutex::new(Straight::new(&bench)?);
    let count = AtomicI64::new(0);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&acts(), |acts| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let name = format!("case{number}");
        // Sometimes a snapshot after every step, sometimes hardly any.
        let every_seconds = if number % 2 == 0 { 0.0 } else { 1e9 };
        let memory = if number % 3 == 0 { 0 } else { 256 << 20 };
        let snapshots = Snapshots { every_seconds, memory, ..Snapshots::default() };
        let mut run = bench.run(&name, config().snapshots(snapshots)).unwrap();
        for act in &acts {
            let step = run.status().step;
            match act {
                Act::Step => assert_eq!(run.step().unwrap().step, step + 1),
                Act::StartAndPause(ms) => {
                    run.start(3).unwrap();
                    std::thread::sleep(Duration::from_millis(*ms));
                    let now = run.pause().unwrap().step;
                    assert!((step..=step + 3).contains(&now));
                }
                Act::Rewind(to) => {
                    let to = (*to).min(step);
                    assert_eq!(run.rewind(to).unwrap().step, to);
                }
                Act::Reopen => {
                    run.close().unwrap();
                    run = Run::get(&name).unwrap();
                    assert_eq!(run.status().step, step);
                }
                Act::Resume => match run.resume() {
                    Ok(_) => drop(run.wait().unwrap()),
                    Err(error) => assert!(error.to_string().contains("no steps are left"), "{error}"),
                },
                Act::Fork => {
                    let fork = run
                        .fork(&format!("{name}-{}", count.fetch_add(1, Ordering::SeqCst)), |_| {})
                        .unwrap();
                    run.close().unwrap();
                    run = fork;
                }
            }
            let (there, status) = (Run::get(run.name()).unwrap(), run.status());
            assert_eq!(there.status().step, status.step);
            straight.lock().unwrap().agrees(&run).unwrap();
            if run.name() != name && matches!(act, Act::Fork) {
                break; // the fork has the name now; one is enough
            }
        }
        run.close().unwrap();
        Ok(())
    });
    outcome.unwrap();
    Ok(())
}

#[test]
fn forks_and_rewinds_leak_nothing() -> Result<()> {
    let bench = Bench::new()?;
    // The real model: beside a small one the allocator's own steps weigh more than what is looked for.
    let model = Model::open(common::model_path())?;
    let run = Run::new("round", &model, &bench.data, config().batch(1))?;
    run.steps(2)?;
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
    };
    let mut at = Vec::new();
    for round in 1..=50 {
        let fork = run.fork(&format!("fork{round}"), |c| c.lr = 1e-4)?;
        fork.step()?;
        fork.close()?;
        run.step()?;
        run.rewind(2)?;
        fs::remove_dir_all(fork.folder()).unwrap();
        at.push(resident());
    }
    println!("resident after rounds 1, 10, 50: {} {} {} KiB", at[0], at[9], at[49]);
    // What the allocator keeps depends on what else the machine does; the weights are far more than a quarter.
    let most = if clock::timed() { 1.05 } else { 1.25 };
    assert!(at[49] < most * at[9], "{at:?}");
    Ok(())
}
