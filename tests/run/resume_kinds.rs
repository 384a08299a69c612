//! Every kind of run under whatever a person may do to it, and under steps that fail: what comes out is to the bit
//! what comes out of the changes that the run says were made, step by step.

use crate::common::runs::{Bench, bits, config, losses};
use lorascope::error::Result;
use lorascope::model::Recompute;
use lorascope::run::{Change, Run};
use lorascope::train::{OptimizerConfig, RunConfig, SgdConfig, Snapshots};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What is trained, and how.
#[derive(Debug, Clone, Copy)]
enum Kind {
    AdamW,
    Sgd,
    Dora,
    Full,
    FullSgd,
}

impl Kind {
    fn config(self) -> RunConfig {
        let sgd = OptimizerConfig::Sgd(SgdConfig::default());
        let mut config = match self {
            Self::AdamW | Self::Dora => config(),
            Self::Sgd => config().optimizer(sgd).lr(0.05),
            Self::Full => config().full(),
            Self::FullSgd => config().full().optimizer(sgd).lr(0.01),
        };
        config.lora.dora = matches!(self, Self::Dora);
        config
    }
}

/// What a person may do, and what may happen.
#[derive(Debug, Clone)]
enum Act {
    Step,
    StartAndPause(u64),
    /// A change while the run trains, and a pause right after it.
    ChangeAndPause(u32),
    Rewind(u64),
    Reopen,
    /// A fork that is evaluated on other rows and computes blocks again.
    Fork,
    Lr(u32),
    Clip(u32),
    Freeze(usize),
    Unfreeze,
    /// The disk refuses the step's line.
    FailStep,
    FailByHand,
    ByHand,
}

const LAYERS: [&str; 3] = ["layers.3", "layers.5.mlp", "layers.0.self_attn"];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => Just(Act::Step),
        1 => (0u64..60).prop_map(Act::StartAndPause),
        1 => (1u32..9).prop_map(Act::ChangeAndPause),
        2 => (0u64..6).prop_map(Act::Rewind),
        2 => Just(Act::Reopen),
        1 => Just(Act::Fork),
        1 => (1u32..9).prop_map(Act::Lr),
        1 => (1u32..9).prop_map(Act::Clip),
        1 => (0..LAYERS.len()).prop_map(Act::Freeze),
        1 => Just(Act::Unfreeze),
        2 => Just(Act::FailStep),
        1 => Just(Act::FailByHand),
        1 => Just(Act::ByHand),
    ];
    prop::collection::vec(act, 4..9)
}

/// With a history that cannot be written.
fn blocked<R>(run: &Run, act: impl FnOnce() -> R) -> R {
    let (history, aside) = (run.folder().join("history.jsonl"), run.folder().join("aside"));
    let there = history.exists();
    if there {
        fs::rename(&history, &aside).unwrap();
    }
    fs::create_dir(&history).unwrap();
    let answer = act();
    fs::remove_dir(&history).unwrap();
    if there {
        fs::rename(&aside, &history).unwrap();
    }
    answer
}

/// The run again, from its changes alone.
fn replayed(bench: &Bench, name: &str, kind: Kind, run: &Run) -> Result<Run> {
    let again = bench.run(name, kind.config())?;
    let changes: Vec<(u64, Change)> =
        run.changes().iter().map(|(from, change)| (from, change.clone())).collect();
    for step in 1..=run.status().step {
        let own = || changes.iter().filter(|(from, _)| *from == step).map(|(_, change)| change);
        for change in own() {
            match change {
                Change::Lr(lr) => drop(again.set_lr(*lr)?),
                Change::Clip(clip) => drop(again.set_clip(*clip)?),
                Change::Frozen(modules) => {
                    let frozen = again.changes();
                    let last = frozen.iter().filter_map(|(_, change)| match change {
                        Change::Frozen(modules) if !modules.is_empty() => Some(modules.clone()),
                        Change::Frozen(_) => Some(Vec::new()),
                        _ => None,
                    });
                    if let Some(last) = last.last().filter(|last| !last.is_empty()) {
                        again.unfreeze(&last)?;
                    }
                    if !modules.is_empty() {
                        again.freeze(modules)?;
                    }
                }
                Change::EvalEvery(_) | Change::ByHand => {}
                other => panic!("{other:?}"),
            }
        }
        match own().any(|change| *change == Change::ByHand) {
            true => {
                again.forward_backward(&again.batch_of(&bench.data.slice(3, 1)?)?)?;
                again.optimizer_step()?;
            }
            false => drop(again.step()?),
        }
    }
    Ok(again)
}

fn one(bench: &Bench, number: usize, kind: Kind, acts: &[Act]) -> Result<()> {
    let every_seconds = if number.is_multiple_of(2) { 0.0 } else { 1e9 };
    let memory = if number.is_multiple_of(3) { 0 } else { 256 << 20 };
    let snapshots = Snapshots { every_seconds, memory, ..Snapshots::default() };
    let first = bench.run(&format!("case{number}"), kind.config().snapshots(snapshots))?;
    let mut run = first.clone();
    // The steps from which the changes hold that must be there.
    let mut made: Vec<u64> = Vec::new();
    let mut by_hand: Vec<u64> = Vec::new();
    for (at, act) in acts.iter().enumerate() {
        let step = run.status().step;
        match act {
            Act::Step => assert_eq!(run.step()?.step, step + 1),
            Act::StartAndPause(ms) => {
                run.start(3)?;
                std::thread::sleep(Duration::from_millis(*ms));
                run.pause()?;
            }
            Act::ChangeAndPause(tenths) => {
                run.start(3)?;
                run.set_lr(f64::from(*tenths) * 1e-4)?;
                let now = run.pause()?.step;
                let (from, last) =
                    run.changes().iter().last().map(|(from, change)| (from, change.clone())).unwrap();
                assert!(
                    last == Change::Lr(f64::from(*tenths) * 1e-4) && (step + 1..=now + 1).contains(&from)
                );
                made.push(from);
            }
            Act::Rewind(to) => {
                let to = (*to).min(step);
                let done = run.rewind(to);
                match done {
                    Ok(status) => {
                        assert_eq!(status.step, to);
                        // A change of the step to come holds; that it was made by hand does not.
                        let lost: Vec<u64> = by_hand.extract_if(.., |step| *step > to).collect();
                        made.retain(|from| *from <= to + 1);
                        if let Some(at) = made.iter().rposition(|from| lost.contains(from)) {
                            made.remove(at);
                        }
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("was applied by hand"), "{error}");
                        assert_eq!(run.status().step, step);
                    }
                }
            }
            Act::Reopen => {
                let state = (bits(&run.adapters()), losses(&run), run.changes());
                run.close()?;
                run = Run::get(run.name())?;
                assert_eq!((bits(&run.adapters()), losses(&run), run.changes()), state);
            }
            Act::Fork => {
                let test = bench.data.slice(number % 7, 2)?;
                let fork = run.fork(&format!("case{number}-{at}"), |c| {
                    c.eval = Some(test);
                    c.eval_every = Some(2 + at as u64);
                    c.recompute = Recompute::Blocks;
                    c.existing = lorascope::format::Existing::Refuse;
                })?;
                run.close()?;
                (run, _) = (fork, made.push(step + 1));
            }
            Act::Lr(tenths) => {
                run.set_lr(f64::from(*tenths) * 1e-4)?;
                made.push(step + 1);
            }
            Act::Clip(tenths) => {
                run.set_clip(Some(f64::from(*tenths) * 0.1))?;
                made.push(step + 1);
            }
            Act::Freeze(layer) => {
                run.freeze(&[LAYERS[*layer]])?;
                made.push(step + 1);
            }
            Act::Unfreeze => {
                if run.unfreeze(&["layers"]).is_ok() {
                    made.push(step + 1);
                }
            }
            Act::FailStep => {
                let state = (bits(&run.adapters()), losses(&run));
                assert!(blocked(&run, || run.step()).is_err());
                assert_eq!((bits(&run.adapters()), losses(&run)), state);
            }
            Act::FailByHand => {
                run.forward_backward(&run.batch_of(&bench.data.slice(3, 1)?)?)?;
                assert!(blocked(&run, || run.optimizer_step()).is_err());
            }
            Act::ByHand => {
                run.forward_backward(&run.batch_of(&bench.data.slice(3, 1)?)?)?;
                run.optimizer_step()?;
                made.push(step + 1);
                by_hand.push(step + 1);
            }
        }
        let there: Vec<u64> = run.changes().iter().map(|(from, _)| from).collect();
        assert_eq!(there, made, "changes after {act:?}");
    }
    let again = replayed(bench, &format!("again{number}"), kind, &run)?;
    assert_eq!(losses(&run), losses(&again));
    assert!(bits(&run.adapters()) == bits(&again.adapters()), "other adapters");
    for run in [run, again] {
        run.close()?;
    }
    Ok(())
}

#[test]
fn every_kind_of_run_is_what_its_changes_say() -> Result<()> {
    let bench = Bench::new()?;
    let kinds = [Kind::AdamW, Kind::Sgd, Kind::Dora, Kind::Full, Kind::FullSgd];
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resume_kinds.proptest-regressions");
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 60,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::default()
    });
    let count = AtomicUsize::new(0);
    let outcome = runner.run(&(0..kinds.len(), acts()), |(kind, acts)| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        one(&bench, number, kinds[kind], &acts).unwrap();
        // A state of full training is megabytes.
        for entry in fs::read_dir("runs").unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(Path::new("runs").exists());
    Ok(())
}
