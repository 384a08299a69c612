//! The stop button: what a cell waits for ends cleanly, a run pauses, and nothing is lost.

use crate::common::bits::bits;
use crate::common::clock::eventually;
use crate::common::fake_kernel::FakeKernel;
use crate::common::tiny;
use crate::common::tiny::{Bench, Tiny};
use lorascope::dataset::Dataset;
use lorascope::display::stop_requested;
use lorascope::error::{Error, Result};
use lorascope::format::{self, ReadOptions, WriteOptions};
use lorascope::prelude::*;
use serde_json::json;
use std::fs;
use std::path::Path;

fn rows(count: u32) -> String {
    (1..=count).map(|n| format!("{{\"instruction\":\"{n} + {n} = ?\",\"output\":\"{}\"}}\n", 2 * n)).collect()
}

fn run(bench: &Bench, name: &str) -> Result<Run> {
    let model = bench.model(Tiny::default())?;
    Run::new(name, &model, &bench.data("rows.jsonl", &rows(8))?, tiny::config())
}

fn losses(run: &Run) -> Vec<u64> {
    run.history().steps().iter().map(|step| step.loss.to_bits()).collect()
}

/// Presses stop once the run has done some steps.
fn stop_at(kernel: &FakeKernel, run: &Run, step: u64, cell: u64) {
    eventually("some steps", || (run.status().step >= step).then_some(()));
    kernel.press_stop(cell);
}

#[test]
fn stop_pauses_the_run_that_a_cell_waits_for() -> Result<()> {
    let (bench, kernel) = (Bench::new(), FakeKernel::attach());
    let run = run(&bench, "stopped")?;
    kernel.say(json!({"cell": 1}));
    let error = std::thread::scope(|scope| {
        scope.spawn(|| stop_at(&kernel, &run, 3, 1));
        run.steps(1_000_000)
    })
    .unwrap_err();
    let status = run.status();
    assert!(error.is_interrupted(), "{error}");
    let said = format!("paused at step {} of 1000000; run.resume()? goes on", status.step);
    assert!(error.to_string().starts_with(&said), "{error}");
    assert_eq!((status.state, status.snapshot), (State::Paused, Some(status.step)));
    assert!(run.folder().join(format!("step-{:06}", status.step)).is_dir());

    // In the next cell it goes on as if nothing had been.
    kernel.sync(1);
    kernel.say(json!({"cell": 2}));
    assert!(!stop_requested());
    run.resume()?;
    let error = std::thread::scope(|scope| {
        scope.spawn(|| stop_at(&kernel, &run, status.step + 3, 2));
        run.wait()
    })
    .unwrap_err();
    assert!(error.is_interrupted(), "{error}");
    kernel.sync(2);
    let straight = Run::new("straight", run.model(), &Dataset::open("rows.jsonl")?, tiny::config())?;
    straight.steps(run.status().step)?;
    assert_eq!(losses(&run), losses(&straight));
    assert_eq!(bits(&run.adapters()), bits(&straight.adapters()));

    // The iterator of the reports ends with a pause, too.
    let done = straight.start(1_000_000)?.step;
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| stop_at(&kernel, &straight, done + 3, 3));
        straight.reports(done).count() as u64
    });
    assert_eq!(straight.status().state, State::Paused);
    assert!(seen >= 3 && seen <= straight.status().step - done);
    Ok(())
}

#[test]
fn a_run_in_the_background_does_not_stop_with_a_cell() -> Result<()> {
    let (bench, kernel) = (Bench::new(), FakeKernel::attach());
    let run = run(&bench, "beside")?;
    let first = run.watch(&["1 + 1 = ?"], 1).and_then(|_| run.start(1_000_000))?.step;
    kernel.press_stop(1);
    assert!(run.sample("2 + 2 = ?").unwrap_err().is_interrupted());
    let step = run.status().step.max(first);
    eventually("more steps", || (run.status().step >= step + 5).then_some(()));
    kernel.sync(1);
    run.stop()?;
    assert!(run.status().notes.is_empty(), "{:?}", run.status().notes);
    let (answers, steps) = (run.answers().0.len() as u64, run.status().step);
    assert!(answers + 1 >= steps, "{answers} answers in {steps} steps: they are made in the background, too");
    Ok(())
}

/// The names of all files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn reading_and_writing_of_files_end_and_leave_nothing_behind() -> Result<()> {
    let (bench, kernel) = (Bench::new(), FakeKernel::attach());
    let path = bench.put("big.jsonl", &rows(50_000));
    let data = Dataset::open(&path)?;
    let model = bench.model(Tiny::default())?;
    let before = files(bench.folder.path());
    kernel.press_stop(1);
    let stopped = |what: &str, error: Option<Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} went on"));
        assert!(error.is_interrupted(), "{what}: {error}");
    };
    stopped("reading", Dataset::open(&path).err());
    stopped("a report", data.report().err());
    stopped("near-duplicates", data.near_duplicates(0.8).err());
    stopped("tokens", data.for_model(&model).columns().err());
    stopped("writing", data.write("written.jsonl", RowSchema::ShareGpt).err());
    let (reading, writing) = (ReadOptions::default(), WriteOptions::default());
    stopped(
        "converting",
        format::convert(&path, "converted.jsonl", RowSchema::ShareGpt, &reading, &writing).err(),
    );
    stopped("a new run", Run::new("new", &model, &data, tiny::config()).err());
    assert_eq!(files(bench.folder.path()), before);

    // The next cell finds everything as it was.
    kernel.sync(1);
    kernel.say(json!({"cell": 2}));
    assert_eq!(Dataset::open(&path)?.len(), 50_000);
    assert_eq!(data.write("written.jsonl", RowSchema::ShareGpt)?.rows, 50_000);
    Ok(())
}

#[test]
fn analyses_and_passes_by_hand_end_and_keep_what_was_there() -> Result<()> {
    let (bench, kernel) = (Bench::new(), FakeKernel::attach());
    let run = run(&bench, "looked-at")?;
    run.steps(2)?;
    let test = Dataset::open("rows.jsonl")?;
    let batch = run.next_batch()?;
    let once = run.forward_backward(&batch)?;
    let (adapters, history) = (bits(&run.adapters()), losses(&run));
    kernel.press_stop(1);
    let stopped = |what: &str, error: Option<Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} went on"));
        assert!(error.is_interrupted(), "{what}: {error}");
    };
    stopped("a pass by hand", run.forward_backward(&batch).err());
    stopped("find_lr", run.find_lr(20).err());
    stopped("rank_curve", run.rank_curve(&test, &[1]).err());
    stopped("preflight", run.preflight().err());
    stopped("an evaluation", run.evaluate_on(&test).err());
    stopped("spectra", run.spectra().err());
    stopped("an answer", run.model().ask("1 + 1 = ?").err());
    stopped("a text", run.model().complete("1 + 1", &GenerateConfig::default()).err());
    stopped("a comparison", run.compare(&["1 + 1 = ?"]).err());
    stopped(
        "a model",
        Model::open_with("model", &OpenOptions { weights: WeightDtype::Q8_0, ..Default::default() }).err(),
    );
    assert_eq!((bits(&run.adapters()), losses(&run)), (adapters, history));

    kernel.sync(1);
    kernel.say(json!({"cell": 2}));
    // The gradients of the pass that was not stopped are there.
    assert_eq!(run.optimizer_step()?.loss, once.loss);
    let straight = Run::new("straight", run.model(), &test, tiny::config())?;
    straight.steps(3)?;
    assert_eq!(bits(&run.adapters()), bits(&straight.adapters()));
    Ok(())
}
