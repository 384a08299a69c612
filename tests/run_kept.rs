//! What a run keeps: what lies beside it when it is replaced, what was learned when an evaluation is not
//! finite, memory when it is written.

mod common;

use crate::common::clock;
use crate::common::llama;
use crate::common::runs;
use crate::common::runs::{Bench, bits, config, losses};
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::model::Model;
use lorascope::run::{History, Operation, Run, State};
use lorascope::train::{RunConfig, Snapshots, StepReport};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn overwriting_moves_the_old_run_aside_and_leaves_what_lies_beside_it() -> Result<()> {
    let bench = Bench::new()?;
    let old = bench.run("again", config())?;
    old.steps(2)?;
    let learned = bits(&old.adapters());
    let folder = old.folder().to_path_buf();
    // Names that begin as those of snapshots do, too.
    for name in ["README.md", "step-by-step.md", "damaged-notes.txt"] {
        fs::write(folder.join(name), name).unwrap();
    }
    fs::create_dir_all(folder.join("checkpoints/best")).unwrap();
    let first = names(&folder);
    let new = bench.run("again", config().overwrite())?;
    assert_eq!((new.status().step, new.history().len()), (0, 0));
    for name in ["README.md", "step-by-step.md", "damaged-notes.txt"] {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), name);
    }
    assert!(folder.join("checkpoints/best").is_dir());
    let told = new.show().text;
    assert!(told.contains("the old run \"again\" is now in") && told.contains("again.1"), "{told}");

    // It is whole, and goes on.
    let moved = Run::get("again.1")?;
    assert_eq!((moved.status().step, bits(&moved.adapters())), (2, learned));
    assert_eq!(losses(&moved), losses(&old));
    let own: BTreeSet<String> = names(moved.folder());
    assert!(own.is_subset(&first) && !own.contains("README.md"), "{own:?}");
    moved.step()?;

    // The next one takes the next number; one without a step leaves nothing behind.
    new.step()?;
    let third = bench.run("again", config().overwrite())?;
    assert_eq!(Run::get("again.2")?.status().step, 1);
    bench.run("again", config().overwrite())?;
    assert!(!folder.with_file_name("again.3").exists());
    assert_eq!(third.status().state, State::Closed);
    assert_eq!(fs::read_to_string(folder.join("README.md")).unwrap(), "README.md");
    Ok(())
}

#[test]
fn a_linked_folder_and_a_linked_file_stay_links() -> Result<()> {
    let bench = Bench::new()?;
    fs::create_dir_all("runs").unwrap();
    fs::create_dir_all("elsewhere/far").unwrap();
    std::os::unix::fs::symlink("../elsewhere/far", "runs/far").unwrap();
    bench.run("far", config())?.steps(1)?;
    let new = bench.run("far", config().overwrite())?;
    assert!(Path::new("runs/far").is_symlink() && Path::new("elsewhere/far/run.json").exists());
    assert!(Path::new("elsewhere/far.1/history.jsonl").exists());
    new.step()?;

    fs::write("real.csv", "old").unwrap();
    std::os::unix::fs::symlink("real.csv", "link.csv").unwrap();
    assert!(new.history().save("link.csv").is_err());
    new.history().overwrite("link.csv")?;
    assert!(Path::new("link.csv").is_symlink());
    assert!(fs::read_to_string("real.csv").unwrap().starts_with("step,epoch,loss"));
    Ok(())
}

#[test]
fn a_run_that_trains_is_not_replaced() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("busy", config())?;
    run.start(100_000)?;
    let error = bench.run("busy", config().overwrite()).unwrap_err();
    assert!(error.is_state() && error.to_string().contains("is training, and is not replaced"), "{error}");
    assert_eq!(run.status().state, State::Running);
    run.stop()?;
    let step = run.status().step;
    bench.run("busy", config().overwrite())?;
    assert!(step == 0 || Run::get("busy.1")?.status().step == step);
    Ok(())
}

/// Adam moves by the learning rate, whatever the gradient: after one step of 1e30 nothing is finite.
fn diverging(test: &Dataset) -> RunConfig {
    RunConfig::default().rank(2).batch(2).lr(1e30).warmup(0).eval(test).eval_every(1).patience(2)
}

#[test]
fn an_evaluation_that_is_not_finite_is_an_error_and_never_the_best() -> Result<()> {
    let bench = Bench::new()?;
    let test = bench.data.head(2)?;
    let run = bench.run("nan", diverging(&test))?;
    let error = run.step().unwrap_err().to_string();
    assert!(error.contains("step 1") && error.contains("2 of 2 rows are not finite: 0, 1"), "{error}");
    assert!(matches!(run.status().state, State::Failed(_)) && run.status().step == 0, "{:?}", run.status());
    assert_eq!((run.history().len(), run.status().snapshot), (0, Some(0)));
    assert!(run.history().curves().is_err(), "there is no step");
    run.close()?;
    let run = Run::open("runs/nan")?;
    assert_eq!((run.history().len(), run.status().step, run.status().state), (0, 0, State::Paused));
    assert!(run.evaluate()?.loss.is_finite(), "what was learned before is whole");

    // In the middle: the best before it stays, patience counts on from there.
    run.set_lr(1e-4)?;
    run.steps(2)?;
    let before = (losses(&run), bits(&run.adapters()), run.status().snapshot);
    run.set_lr(1e30)?;
    assert!(run.steps(2).unwrap_err().to_string().contains("step 3"));
    assert_eq!((losses(&run), bits(&run.adapters())), (before.0.clone(), before.1.clone()));
    run.close()?;
    let run = Run::open("runs/nan")?;
    assert_eq!((losses(&run), bits(&run.adapters()), run.status().snapshot), before);
    assert!(run.history().steps().iter().all(|step| step.eval_loss.is_some_and(f64::is_finite)));

    // Other adapters of this model, evaluated by hand: the step and the rows are said as well.
    let broken = run.adapters().map(|_, tensor| Ok((tensor * f64::NAN)?))?;
    let error = run.evaluate_with(&broken, &test).unwrap_err().to_string();
    assert!(error.contains("step 2") && error.contains("are not finite"), "{error}");
    Ok(())
}

static FULL: AtomicBool = AtomicBool::new(false);
static LOOKS: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_full_disk_is_looked_at_not_written_to() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("full", config())?;
    lorascope::run::before_each_operation(|operation, path| {
        if !path.to_string_lossy().contains("/full") || !FULL.load(Ordering::SeqCst) {
            return Ok(());
        }
        match operation {
            Operation::Room => LOOKS.fetch_add(1, Ordering::SeqCst),
            Operation::Write => WRITES.fetch_add(1, Ordering::SeqCst),
            _ => return Ok(()),
        };
        Err(std::io::ErrorKind::StorageFull.into())
    });
    FULL.store(true, Ordering::SeqCst);
    run.start(2)?;
    clock::eventually("the disk is looked at", || (LOOKS.load(Ordering::SeqCst) >= 2).then_some(()));
    assert_eq!(WRITES.load(Ordering::SeqCst), 1, "nothing is written to find out");
    assert_eq!(run.status().state, State::Paused);
    FULL.store(false, Ordering::SeqCst);
    clock::eventually("the run goes on", || (run.status().step >= 2).then_some(()));
    run.wait()?;
    assert_eq!(run.status().state, State::Idle);
    Ok(())
}

/// Bytes of a line of `/proc/self/status`.
fn resident(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|found| found.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_snapshot_takes_no_memory_of_its_own() -> Result<()> {
    let bench = Bench::new()?;
    let sizes = llama::Sizes { width: 128, layers: 1, ..runs::SMALL };
    let model = Model::open(runs::model(&bench.folder().join("wide.gguf"), sizes))?;
    let snapshots = Snapshots { every_seconds: 1e9, memory: 0, ..Snapshots::default() };
    let run =
        Run::new("wide", &model, &bench.data, RunConfig::default().full().batch(1).snapshots(snapshots))?;
    let state = 3 * 4 * run.adapters().parameters() as u64;
    assert!(state > 140 << 20, "{state} bytes of weights and moments");
    run.step()?;
    run.rewind(1)?; // gives back what the step held
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident("VmRSS:");
    let fork = run.fork("narrow", |_| {})?;
    let peak = resident("VmHWM:").saturating_sub(before);
    println!("{} MB of state, {} MB more to write them", state >> 20, peak >> 20);
    // A third of it is what the fork would begin with, which is no part of a snapshot.
    assert!(peak < state / 3 + (16 << 20), "{} MB", peak >> 20);
    assert!(fork.folder().join("step-000001/weights.safetensors").exists());
    Ok(())
}

#[test]
fn a_history_of_an_earlier_version_with_a_number_that_is_none() {
    // JSON has no NaN: it was written as null, and reads as no evaluation.
    let step = StepReport { step: 1, eval_loss: Some(f64::NAN), ..StepReport::default() };
    let text = serde_json::to_string(&step).unwrap();
    let read: StepReport = serde_json::from_str(&text).unwrap();
    assert_eq!(read.eval_loss, None);
    assert_eq!(History::new(vec![read], "").len(), 1);
}
