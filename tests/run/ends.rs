//! How runs end and how more of them is had, in a notebook and on the command line.

use crate::common::tiny::{Bench, CHATML, Tiny, config};
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::LoraConfig;
use lorascope::model::Model;
use lorascope::run::{Ending, Run, RunFile, State};
use lorascope::train::{RunConfig, Schedule, Shape, Snapshots, StepReport};
use std::fs;
use std::path::Path;
use std::process::Command;

fn rows(count: u32) -> String {
    (1..=count).map(|n| format!("{{\"instruction\":\"{n} + {n} = ?\",\"output\":\"{}\"}}\n", 2 * n)).collect()
}

fn bench() -> Result<(Bench, Model, Dataset)> {
    let bench = Bench::new();
    let (model, data) = (bench.model(Tiny::default())?, bench.data("rows.jsonl", &rows(12))?);
    Ok((bench, model, data))
}

/// Nothing gets better at this rate.
fn still(eval: &Dataset) -> RunConfig {
    config().batch(2).lr(1e-30).warmup(0).eval(eval).eval_every(1).patience(3)
}

fn snapshots(run: &Run) -> Vec<u64> {
    let names = fs::read_dir(run.folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut steps: Vec<u64> = names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect();
    steps.sort();
    steps
}

#[test]
fn a_run_that_stops_early_says_so_and_keeps_its_best() -> Result<()> {
    let (_bench, model, data) = bench()?;
    let still = || still(&data).snapshots(Snapshots { keep: 1, ..Snapshots::default() });
    let whole = Run::new("whole", &model, &data, still())?;
    assert!(whole.best().is_none() && whole.rewind_to_best().unwrap_err().is_state());
    whole.steps(10)?;
    let early = Ending::Early { evaluations: 3, best: 1 };
    assert_eq!(
        (whole.status().step, whole.status().state, whole.status().ending),
        (4, State::Finished, Some(early))
    );
    let said = "stopped early: 3 evaluations no better than step 1; run.rewind(1)";
    assert!(whole.status().show().text.contains(said), "{}", whole.status().show().text);

    let parts = Run::new("parts", &model, &data, still())?;
    parts.steps(2)?;
    parts.close()?;
    let parts = Run::open("runs/parts")?;
    parts.steps(10)?;
    assert_eq!(parts.status().ending, Some(early));
    parts.close()?;
    let parts = Run::open("runs/parts")?;
    assert_eq!((parts.status().state, parts.status().ending), (State::Finished, Some(early)));
    let told = parts.start(3).unwrap_err().to_string();
    assert!(
        told.starts_with(
            "this run is finished: stopped early: 3 evaluations no better than step 1; run.rewind(1)?"
        ),
        "{told}"
    );
    assert!(parts.resume().is_err() && parts.status().step == 4);
    assert_eq!(parts.best().map(|step| step.step), Some(1));
    assert_eq!(snapshots(&parts), [1, 4], "the first of equal ones is the best");

    parts.set_patience(None)?;
    parts.start(3)?;
    assert_eq!((parts.wait()?.step, parts.status().state), (7, State::Idle));
    for _ in 0..7 {
        parts.step()?;
    }
    assert_eq!(snapshots(&parts), [1, 14]);
    parts.close()?;
    let parts = Run::open("runs/parts")?;
    assert_eq!(parts.rewind_to_best()?.step, 1);
    assert_eq!(snapshots(&parts), [1]);
    parts.steps(10)?;
    assert_eq!((parts.status().step, parts.status().ending), (4, Some(early)), "its patience is back");
    assert!(parts.set_patience(Some(0)).is_err());
    Ok(())
}

#[test]
fn a_rate_that_jumps_is_said_and_changes_are_sentences() -> Result<()> {
    let (_bench, model, data) = bench()?;
    let run = Run::new("jump", &model, &data, config().lr(1e-3).warmup(0).linear(4))?;
    run.steps(4)?;
    assert_eq!(run.status().ending, Some(Ending::Rate { step: 4 }));
    let told = run.start(1).unwrap_err().to_string();
    assert!(told.contains("its learning rate ended at step 4") && told.contains("set_schedule"), "{told}");
    let status = run.set_schedule(Schedule { warmup: 0, ..Schedule::default() })?;
    assert_eq!(status.notes.last().unwrap(), "the learning rate goes from 2.5e-4 to 1e-3 at step 5");
    assert_eq!(run.step()?.lr, 1e-3);
    let notes = run.status().notes.len();
    let gentle = Schedule { warmup: 0, ..Schedule::to(Shape::Linear, 100) };
    assert_eq!(run.set_schedule(gentle)?.notes.len(), notes, "that is no jump");
    run.set_batch(1)?;
    run.set_clip(None)?;
    run.set_eval_every(Some(20))?;
    run.freeze(&["q_proj"])?;
    run.cooldown(2)?;
    run.set_spectra_every(None)?;
    let said = run.changes().show().text;
    for sentence in [
        "the learning rate is constant",
        "the learning rate falls along a line to 0 until step 100",
        "a step has 1 row",
        "gradients are not clipped",
        "the run is evaluated every 20 steps",
        "1 module is frozen: model.layers.0.self_attn.q_proj",
        "the learning rate falls over 2 steps, and the run is finished",
        "singular values are not kept",
    ] {
        assert!(said.contains(sentence), "{sentence:?} in {said}");
    }
    assert!(run.step()?.spectra.is_none());
    run.set_spectra_every(Some(1))?;
    assert!(run.step()?.spectra.is_some());
    Ok(())
}

#[test]
fn epochs_are_counted_in_rows() -> Result<()> {
    let (bench, model, data) = bench()?;
    let run = Run::new("epochs", &model, &data, config().batch(5))?;
    assert_eq!(run.steps_of(2)?, 5);
    run.start_epochs(2)?;
    run.wait()?;
    let epochs: Vec<f64> = run.history().steps().iter().map(|step| step.epoch).collect();
    assert_eq!((epochs.len(), epochs[4]), (5, 2.0 + 1.0 / 12.0));
    run.start_epochs(1)?;
    assert_eq!(run.wait()?.step, 8);

    let file =
        bench.put("run.toml", "name = 'file'\nmodel = 'model'\ndata = 'rows.jsonl'\nepochs = 2\nbatch = 5\n");
    let read = RunFile::open(&file)?;
    assert_eq!(read.epochs, Some(2));
    let (code, out, err) = train(&bench, &["run.toml"]);
    assert_eq!((code, steps("file")), (Some(0), 5), "{out}{err}");
    Ok(())
}

#[test]
fn reports_come_as_the_steps_do_and_are_lines_of_json() -> Result<()> {
    let (_bench, model, data) = bench()?;
    let test = data.head(3)?;
    let run = Run::new("reports", &model, &data, config().eval(&test))?;
    run.steps(2)?;
    run.start(4)?;
    let came: Vec<u64> = run.reports(2).map(|report| report.step).collect();
    assert_eq!(came, [3, 4, 5, 6]);
    assert_eq!(run.reports(0).count(), 6);
    assert_eq!(run.reports(100).count(), 0);
    run.history().save("history.jsonl")?;
    let text = fs::read_to_string("history.jsonl").unwrap();
    let lines: Vec<StepReport> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, run.history().steps());
    assert_eq!(text, fs::read_to_string(run.folder().join("history.jsonl")).unwrap());

    let (held, on) = (run.evaluate()?, run.evaluate_on(&test)?);
    assert_eq!(held, on);
    assert_eq!(run.evaluate_on(&data)?.rows, 12);
    Ok(())
}

#[test]
fn settings_are_built_as_they_are_said() {
    let lora = LoraConfig { rank: 4, alpha: 4.0, ..LoraConfig::default() };
    let built =
        RunConfig::default().lora(lora.clone()).dropout(0.1).clip(None).cosine(50).spectra_every(None);
    assert_eq!(built.lora, LoraConfig { dropout: 0.1, ..lora });
    assert_eq!((built.clip, built.spectra_every), (None, None));
    assert_eq!(built.schedule, Schedule::to(Shape::Cosine, 50));
    assert_eq!(RunConfig::default().clip(0.5).clip, Some(0.5));
    assert_eq!(RunConfig::default().total(50).schedule, built.schedule);
    let to = Schedule::to(Shape::Linear, 100);
    for config in [
        RunConfig::default().warmup(3).schedule(to.clone()),
        RunConfig::default().schedule(to.clone()).warmup(3),
    ] {
        assert_eq!(config.schedule, Schedule { warmup: 3, ..to.clone() });
    }
    let own = Schedule { warmup: 7, ..to };
    assert_eq!(RunConfig::default().warmup(3).schedule(own.clone()).schedule, own);
}

fn train(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    let output = command.arg("train").args(arguments).current_dir(bench.folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn done(bench: &Bench, arguments: &[&str]) -> (String, String) {
    let (code, out, err) = train(bench, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    no_rust(&(out.clone() + &err));
    (out, err)
}

fn refused(bench: &Bench, arguments: &[&str]) -> String {
    let (code, out, err) = train(bench, arguments);
    assert_eq!(code, Some(2), "{arguments:?}: {out}{err}");
    no_rust(&(out + &err));
    err
}

/// Nothing that only a notebook can follow.
fn no_rust(text: &str) {
    for word in ["run.", "Run::", "OpenRun", "RunConfig", "()", "Schedule::"] {
        assert!(!text.replace("run.toml", "").contains(word), "{word:?} in {text}");
    }
}

fn steps(name: &str) -> usize {
    let history = fs::read_to_string(format!("runs/{name}/history.jsonl"));
    history.map_or(0, |text| text.matches('\n').count())
}

const SETTINGS: &str =
    "name = \"end\"\nmodel = \"model\"\ndata = \"rows.jsonl\"\nsteps = 6\nbatch = 2\nlr = 1e-3\n";

#[test]
fn the_command_line_goes_on_beyond_the_end_of_a_schedule() -> Result<()> {
    let (bench, ..) = bench()?;
    let shape = "\n[schedule]\nwarmup = 2\nshape = \"linear\"\ntotal = 6\n\n[lora]\nrank = 2\nalpha = 4.0\n";
    bench.put("run.toml", &format!("{SETTINGS}{shape}"));
    done(&bench, &["run.toml"]);
    let told = refused(&bench, &["run.toml", "--resume", "--steps", "4"]);
    assert!(
        told.contains("its learning rate ended at step 6; --resume --schedule constant --more N"),
        "{told}"
    );
    assert!(refused(&bench, &["end", "--resume", "--more", "4"]).contains("--schedule constant --more N"));
    let (out, _) = done(&bench, &["end", "--resume"]);
    assert!(out.contains("the run is finished: its learning rate ended at step 6"), "{out}");

    let longer =
        format!("{SETTINGS}{shape}").replace("total = 6", "total = 12").replace("steps = 6", "steps = 12");
    bench.put("run.toml", &longer);
    let (_, err) = done(&bench, &["run.toml", "--resume"]);
    assert!(
        err.contains("its own schedule, not the file's; --schedule file takes the file's schedule"),
        "{err}"
    );
    assert_eq!(steps("end"), 6);
    let (_, err) = done(&bench, &["run.toml", "--resume", "--schedule", "file"]);
    assert!(err.contains("the learning rate goes from 2.5e-4 to 6e-4 at step 7"), "{err}");
    assert_eq!(steps("end"), 12);
    done(&bench, &["end", "--resume", "--schedule", "constant", "--more", "2"]);
    assert_eq!(steps("end"), 14);
    done(&bench, &["end", "--resume", "--schedule", "linear:16"]);
    assert_eq!(steps("end"), 16, "to its end");
    assert!(train(&bench, &["end", "--resume", "--schedule", "linear"]).2.contains("linear:TOTAL"));
    assert!(refused(&bench, &["end", "--resume", "--schedule", "file"]).contains("needs a settings file"));
    Ok(())
}

#[test]
fn the_command_line_goes_on_after_stopping_early() -> Result<()> {
    let (bench, ..) = bench()?;
    let settings = SETTINGS.replace("1e-3", "1e-30").replace("steps = 6", "steps = 10");
    let more = "eval = \"rows.jsonl\"\neval_every = 1\npatience = 3\nschedule.warmup = 0\nlora.rank = 2\n";
    bench.put("run.toml", &format!("{settings}{more}"));
    done(&bench, &["run.toml"]);
    assert_eq!(steps("end"), 4);
    let (out, _) = done(&bench, &["run.toml", "--resume"]);
    let said = "the run is finished: stopped early: 3 evaluations no better than step 1; --resume --more N trains N more steps";
    assert!(out.contains(said), "{out}");
    assert_eq!(steps("end"), 4);
    assert!(refused(&bench, &["end", "--resume", "--steps", "2"]).contains("--more N"));
    let (_, err) = done(&bench, &["end", "--resume", "--more", "3"]);
    assert!(err.contains("does not stop early"), "{err}");
    assert_eq!(steps("end"), 7);
    done(&bench, &["end", "--resume", "--rewind", "best", "--more", "1"]);
    assert_eq!(steps("end"), 2);
    done(&bench, &["end", "--resume", "--rewind", "0", "--lr", "1e-4", "--more", "1"]);
    assert_eq!(steps("end"), 1);
    // Who goes back to the best gets that one.
    done(&bench, &["run.toml", "--name", "again"]);
    assert_eq!(steps("again"), 4);
    done(&bench, &["again", "--resume", "--rewind", "best", "--save", "adapter"]);
    assert_eq!(steps("again"), 1);
    Ok(())
}

#[test]
fn the_command_line_fails_where_an_evaluation_is_not_finite() -> Result<()> {
    let (bench, ..) = bench()?;
    let more = "eval = \"rows.jsonl\"\neval_every = 1\nschedule.warmup = 0\nlora.rank = 2\n";
    bench.put("run.toml", &format!("{}{more}", SETTINGS.replace("1e-3", "1e30")));
    let told = refused(&bench, &["run.toml", "--save", "adapter"]);
    assert!(
        told.contains("step 1: the loss in evaluation is") && told.contains("--resume --lr 2.0e-4"),
        "{told}"
    );
    assert!(!Path::new("adapter").exists() && steps("end") == 0);
    done(&bench, &["end", "--resume", "--lr", "1e-3", "--steps", "2", "--save", "adapter"]);
    assert!(Path::new("adapter").exists());
    Ok(())
}

#[test]
fn the_command_line_goes_on_on_another_day_and_with_other_rows() -> Result<()> {
    let bench = Bench::new();
    let template = format!("<|im_start|>system\n{{{{ strftime_now('%H:%M:%S') }}}}<|im_end|>\n{CHATML}");
    bench.model(Tiny { template: Some(&template), ..Tiny::default() })?;
    bench.put("rows.jsonl", &rows(12));
    let new = ["day", "--model", "model", "--data", "rows.jsonl", "--eval", "rows.jsonl", "--steps", "2"];
    done(&bench, &new);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    done(&bench, &["day", "--resume", "--steps", "2"]);
    assert_eq!(steps("day"), 4);

    bench.put("rows.jsonl", &rows(14));
    let told = refused(&bench, &["day", "--resume", "--steps", "2"]);
    assert!(told.contains("rows.jsonl"), "{told}");
    done(&bench, &["day", "--resume", "--accept", "--steps", "2"]);
    assert_eq!(steps("day"), 6);
    Ok(())
}
