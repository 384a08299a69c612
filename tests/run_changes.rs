//! Changes of a run, forks, steps that fail, schedules: nothing is dropped, and nothing holds that was never done.

mod common;

use crate::common::clock;
use crate::common::runs::{Bench, bits, config, losses};
use lorascope::candle_core::Device;
use lorascope::error::Result;
use lorascope::format::OnFault;
use lorascope::model::{Model, Recompute};
use lorascope::run::{Operation, Run, State, before_each_operation};
use lorascope::train::{AdamWConfig, OptimizerConfig, RunConfig, SgdConfig};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

fn rates(run: &Run) -> Vec<f64> {
    run.history().steps().iter().map(|step| step.lr).collect()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_fork_takes_all_that_it_is_given_or_says_why_not() -> Result<()> {
    let bench = Bench::new()?;
    let (first, second) = (bench.data.head(2)?, bench.data.slice(2, 3)?);
    let run = bench.run("parent", config().eval(&first).eval_every(1))?;
    run.steps(2)?;
    let fork = run.fork("fork", |c| {
        c.eval = Some(second.clone());
        c.recompute = Recompute::Blocks;
    })?;
    assert_eq!((fork.config().recompute, fork.evaluate()?.rows), (Recompute::Blocks, 3));
    let (before, after) = (run.evaluate_with(&run.adapters(), &second)?, fork.evaluate()?);
    assert_eq!(before.loss.to_bits(), after.loss.to_bits());
    assert!(fork.history().steps().iter().all(|step| step.eval_loss.is_none()), "they were of other rows");
    fork.steps(2)?;
    run.steps(2)?;
    assert_eq!(bits(&fork.adapters()), bits(&run.adapters()), "recomputing changes no bit");
    let loss = fork.history().steps()[3].eval_loss;
    fork.close()?;
    let fork = Run::get("fork")?;
    assert_eq!((fork.evaluate()?.rows, fork.config().recompute), (3, Recompute::Blocks));
    assert_eq!(fork.history().steps()[3].eval_loss, loss);

    // Without evaluation, and with the same rows as before.
    let none = run.fork("none", |c| (c.eval, c.eval_every) = (None, None))?;
    assert!(none.evaluate().unwrap_err().is_state());
    none.close()?;
    assert!(Run::get("none")?.evaluate().is_err());
    let same = run.fork("same", |c| c.eval = Some(first.clone()))?;
    let evaluated = |run: &Run| run.history().steps().iter().map(|s| s.eval_loss).collect::<Vec<_>>();
    assert_eq!(evaluated(&same), evaluated(&run));

    let told = |change: fn(&mut RunConfig)| run.fork("other", change).unwrap_err().to_string();
    let sgd = told(|c| c.optimizer = OptimizerConfig::Sgd(SgdConfig::default()));
    assert!(sgd.starts_with("another optimiser cannot continue with these moments"), "{sgd}");
    let strict = told(|c| c.faults = OnFault::Fail);
    assert!(strict.contains("another treatment of refused rows"), "{strict}");
    assert!(!Path::new("runs/other").exists());
    Ok(())
}

#[test]
fn find_lr_begins_where_the_next_step_does() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("find", config())?;
    run.steps(3)?;
    run.set_data(&bench.data.slice(6, 5)?)?;
    let curve = run.find_lr(10)?;
    assert_eq!(curve.points[0].1.to_bits(), run.step()?.loss.to_bits());
    Ok(())
}

#[test]
fn a_step_by_hand_that_fails_leaves_no_entry() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("hand", config())?;
    run.set_lr(1e-4)?;
    let history = run.folder().join("history.jsonl");
    fs::create_dir(&history).unwrap();
    run.forward_backward(&run.batch_of(&bench.data.slice(3, 1)?)?)?;
    assert!(run.optimizer_step().unwrap_err().to_string().contains("history.jsonl"));
    assert_eq!(run.changes().iter().count(), 1);
    assert_eq!(json(&run.folder().join("journal.json")).as_array().unwrap().len(), 1);
    fs::remove_dir(&history).unwrap();
    run.steps(3)?;
    fs::remove_dir_all(run.folder().join("step-000001")).unwrap();
    run.rewind(1)?;
    assert_eq!(losses(&run).len(), 1);
    Ok(())
}

#[test]
fn a_change_made_in_a_step_that_fails_holds_when_it_is_done_again() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("again", config())?;
    let history = run.folder().join("history.jsonl");
    fs::create_dir(&history).unwrap();
    assert!(run.step().is_err());
    run.set_lr(9e-4)?; // the help of a failed step says so
    run.set_batch(3)?;
    fs::remove_dir(&history).unwrap();
    run.resume()?;
    run.wait()?;
    let step = run.history().steps()[0].clone();
    assert_eq!((step.lr, step.rows.len()), (9e-4 / 3.0, 3));

    // Also where it was made while the step was being done, and the step was thrown away.
    run.start(100_000)?;
    run.set_clip(Some(0.5))?;
    run.freeze(&["layers.3"])?;
    run.pause()?;
    run.set_batch(2)?;
    assert_eq!(run.changes().iter().count(), 5, "{:?}", run.changes());
    let written = json(&run.folder().join("journal.json"));
    assert_eq!(written.as_array().unwrap().len(), 5);
    let step = run.status().step;
    assert!(run.changes().iter().all(|(from, _)| from <= step + 1), "{:?}", run.changes());
    let end = run.history();
    run.stop()?;
    run.steps(2)?;
    run.rewind(step)?;
    assert_eq!(run.history().steps(), end.steps());
    Ok(())
}

static HELD: AtomicBool = AtomicBool::new(false);
static WAITS: AtomicBool = AtomicBool::new(false);

#[test]
fn a_look_at_a_run_waits_for_no_disk() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("slow", config())?;
    before_each_operation(|operation, path| {
        let journal = path.ends_with("slow/journal.json") && operation == Operation::Sync;
        if journal {
            WAITS.store(true, Ordering::SeqCst);
            clock::eventually("the disk is let go", || (!HELD.load(Ordering::SeqCst)).then_some(()));
        }
        Ok(())
    });
    HELD.store(true, Ordering::SeqCst);
    let changing = std::thread::spawn({
        let run = run.clone();
        move || run.set_lr(1e-3).map(drop)
    });
    clock::eventually("a change waits for the disk", || WAITS.load(Ordering::SeqCst).then_some(()));
    let (answer, answered) = channel();
    std::thread::spawn({
        let run = run.clone();
        move || answer.send((run.status().step, run.history().len()))
    });
    assert_eq!(answered.recv_timeout(Duration::from_secs(300)).expect("an answer"), (0, 0));
    // Another change waits its turn, and neither is lost.
    let second = std::thread::spawn({
        let run = run.clone();
        move || run.set_batch(3).map(drop)
    });
    HELD.store(false, Ordering::SeqCst);
    changing.join().unwrap()?;
    second.join().unwrap()?;
    assert_eq!(run.changes().iter().count(), 2);
    Ok(())
}

#[test]
fn the_last_step_of_a_line_trains() -> Result<()> {
    let bench = Bench::new()?;
    let line = |name: &str| bench.run(name, config().warmup(0).lr(1e-3).linear(4));
    let run = line("line")?;
    run.steps(3)?;
    let before = bits(&run.adapters());
    run.step()?;
    assert_eq!(rates(&run), [1.0, 0.75, 0.5, 0.25].map(|share| 1e-3 * share));
    assert_ne!(bits(&run.adapters()), before);
    assert_eq!(run.status().state, State::Finished);

    // A run that was begun by an earlier version keeps its rates, whatever becomes of it.
    let old = line("old")?;
    old.close()?;
    let path = old.folder().join("run.json");
    let mut identity = json(&path);
    assert_eq!(identity.as_object_mut().unwrap().remove("reaches_zero"), Some("after_last_step".into()));
    fs::write(&path, identity.to_string()).unwrap();
    let old = Run::get("old")?;
    old.steps(2)?;
    old.close()?;
    let old = Run::get("old")?;
    let fork = old.fork("younger", |_| {})?;
    fork.close()?;
    for run in [old, Run::get("younger")?] {
        run.steps(2)?;
        assert_eq!(rates(&run), [0.75, 0.5, 0.25, 0.0].map(|share| 1e-3 * share));
    }
    Ok(())
}

#[test]
fn an_answer_that_a_pause_cuts_short_is_made_again() -> Result<()> {
    let bench = Bench::new()?;
    let prompts = ["1 + 1 = ?"];
    let straight = bench.run("straight", config())?;
    straight.watch(&prompts, 1)?;
    straight.steps(2)?;
    let run = bench.run("cut", config())?;
    run.watch(&prompts, 1)?;
    run.start(2)?;
    while run.status().step < 2 {
        assert_eq!(run.status().state, State::Running);
        // At once after a step, while its answers are being made.
        let step = run.status().step;
        if run.answers().0.iter().filter(|answer| answer.step == step).count() < prompts.len()
            && step > 0
            && step < 2
        {
            run.pause()?;
            let whole = run.answers().0.iter().all(|answer| straight.answers().0.contains(answer));
            assert!(whole, "{:?}", run.answers());
            run.close()?;
            let run = Run::get("cut")?;
            run.resume()?;
            run.wait()?;
            break;
        }
    }
    let run = Run::get("cut")?;
    run.wait()?;
    assert_eq!(run.answers(), straight.answers());
    Ok(())
}

#[test]
fn each_setter_holds_from_the_next_step() -> Result<()> {
    let bench = Bench::new()?;
    let test = bench.data.head(2)?;
    let set = |name: &str, change: fn(&Run) -> Result<()>| -> Result<Run> {
        let run = bench.run(name, config().eval(&test).batch(3))?;
        run.step()?;
        change(&run)?;
        run.steps(2)?;
        Ok(run)
    };
    let plain = set("plain", |_| Ok(()))?;
    // A micro-batch of one token takes a row at a time: the same sums in another order, but dropout is drawn anew.
    let small = set("small", |run| run.set_micro_batch(1).map(drop))?;
    assert_eq!(losses(&small)[0], losses(&plain)[0]);
    assert_ne!(losses(&small)[1], losses(&plain)[1]);
    let tokens = |run: &Run| run.history().steps().iter().map(|s| s.trained_tokens).collect::<Vec<_>>();
    assert_eq!(tokens(&small), tokens(&plain));
    assert!(small.set_micro_batch(0).unwrap_err().to_string().contains("micro-batch of 0"));

    let decayed = set("decayed", |run| {
        let decayed = AdamWConfig { weight_decay: 0.5, ..AdamWConfig::default() };
        run.set_optimizer(OptimizerConfig::AdamW(decayed)).map(drop)
    })?;
    assert_eq!(losses(&decayed)[..2], losses(&plain)[..2], "the loss of step 2 is that before its update");
    assert_ne!(bits(&decayed.adapters()), bits(&plain.adapters()));
    let told = decayed.set_optimizer(OptimizerConfig::Sgd(SgdConfig::default())).unwrap_err();
    assert!(told.to_string().contains("cannot continue with these moments"), "{told}");

    let evaluated = set("evaluated", |run| run.set_eval_every(Some(2)).map(drop))?;
    let at: Vec<u64> =
        evaluated.history().steps().iter().filter(|s| s.eval_loss.is_some()).map(|s| s.step).collect();
    assert_eq!(at, [2]);
    assert!(evaluated.set_eval_every(Some(0)).is_err());
    evaluated.set_eval_every(None)?;
    evaluated.steps(2)?;
    assert!(evaluated.history().steps()[3..].iter().all(|step| step.eval_loss.is_none()));

    for run in [&small, &decayed, &evaluated] {
        run.close()?;
        let again = Run::get(run.name())?;
        assert_eq!((losses(&again), again.changes()), (losses(run), run.changes()));
    }
    Ok(())
}

#[test]
fn losses_by_source_are_those_of_the_rows() -> Result<()> {
    let bench = Bench::new()?;
    let row = |n: u32| match n % 3 {
        0 => format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{n}?\"}},{{\"role\":\"assistant\",\"content\":\"{n}\"}}]}}\n"
        ),
        _ => format!("{{\"instruction\":\"{n} + {n} = ?\",\"output\":\"{}\"}}\n", 2 * n),
    };
    fs::write("sources.jsonl", (1..=9).map(row).collect::<String>()).unwrap();
    let data = lorascope::dataset::Dataset::open("sources.jsonl")?;
    let model = Model::open_on(bench.model.path(), &Device::Cpu)?;
    assert_eq!(model.fingerprint()?, bench.model.fingerprint()?);
    let run = Run::new("sources", &model, &data, config().batch(9))?;
    let step = run.step()?;
    let frame = run.loss_by_source()?;
    let names: Vec<&str> = frame.column("source")?.str()?.iter().flatten().collect();
    let counts: Vec<u32> = frame.column("rows")?.u32()?.iter().flatten().collect();
    let means: Vec<f32> = frame.column("loss")?.f32()?.iter().flatten().collect();
    for ((name, count), mean) in names.iter().zip(counts).zip(&means) {
        let thirds = *name != "alpaca";
        assert_eq!(count, if thirds { 3 } else { 6 });
        let own: Vec<f32> =
            step.rows.iter().filter(|row| (row.row % 3 == 2) == thirds).map(|row| row.loss).collect();
        assert!((mean - own.iter().sum::<f32>() / own.len() as f32).abs() < 1e-5, "{name}");
    }
    assert!(names.len() == 2 && means[0] >= means[1], "the highest first");
    Ok(())
}
