//! After a step whose numbers are not finite: what is advised works as it is said, in a notebook and on the
//! command line, and what the status says is true.

use crate::common::runs::{Bench, losses};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::run::{Run, State};
use lorascope::train::{RunConfig, Snapshots, StepSpectra};

/// Steps are short, and only the beginning and the end are on disk.
fn config(lr: f64) -> RunConfig {
    let config = RunConfig::default().rank(2).batch(2).warmup(0).lr(lr).seed(7);
    config.snapshots(Snapshots { every_seconds: 1e9, ..Snapshots::default() })
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}")).1;
    rest.split_once(after).unwrap_or_else(|| panic!("no {after:?} in {text}")).0
}

/// Does what a message says to do: `run.rewind(7)?; run.set_lr(1e-4)?; run.resume()?`.
fn follow(run: &Run, told: &str) -> Result<u64> {
    let step: u64 = between(told, "run.rewind(", ")?; run.set_lr(").parse().unwrap();
    let lr: f64 = between(told, "run.set_lr(", ")?; run.resume()?").parse().unwrap();
    run.rewind(step)?;
    run.set_lr(lr)?;
    run.resume()?;
    Ok(step)
}

#[test]
fn the_way_back_is_one() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("nan", config(1e-3))?;
    run.steps(7)?;
    let before = losses(&run);
    run.set_lr(1e30)?;
    let shown = run.status().show().text;
    assert!(shown.contains("1.00e-3 in step 7, 1.00e30 in step 8"), "{shown}");
    let error = run.steps(5).unwrap_err();
    let told = error.to_string();
    assert!(error.is_compute() && told.contains("step 9") && told.contains("NaN"), "{told}");
    let status = run.status();
    assert!(matches!(status.state, State::Failed(_)) && status.left.is_none(), "{status:?}");
    assert!(!status.show().text.contains("time left"), "{}", status.show().text);
    assert_eq!(status.snapshot, Some(8), "the steps before it are on disk");

    // Going back alone keeps the change, says so, and comes to the same end.
    let status = run.rewind(7)?;
    let said = "back at step 7; changes that still hold: the peak learning rate is 1e30 (from step 8)";
    assert_eq!(status.notes.last().map(String::as_str), Some(said));
    assert!(status.left.is_some(), "it goes on to step 12");
    run.resume()?;
    assert_eq!(run.wait().unwrap_err().to_string(), told);

    // In another process, too: what a step of such weights wrote is read.
    run.close()?;
    let run = Run::open("runs/nan")?;
    assert_eq!((run.status().step, run.status().state), (8, State::Paused));
    assert_eq!(follow(&run, &told)?, 7);
    assert_eq!((run.wait()?.step, run.status().state), (12, State::Idle));
    assert_eq!(losses(&run)[..7], before);
    assert!(run.history().steps().iter().all(|step| step.loss.is_finite()));

    // Back before the change nothing of it is left.
    let status = run.rewind(6)?;
    let said = "back at step 6; the settings are those that the run was made with";
    assert_eq!(status.notes.last().map(String::as_str), Some(said));
    Ok(())
}

#[test]
fn a_run_that_began_too_high_comes_back_too() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("high", config(1e30))?;
    let told = run.steps(4).unwrap_err().to_string();
    assert_eq!(follow(&run, &told)?, 0);
    assert_eq!(run.wait()?.step, 4);

    // A look at what has diverged says the same way.
    let run = bench.run("looked", config(1e30))?;
    run.step()?;
    let told = run.evaluate_on(&bench.data).unwrap_err().to_string();
    assert_eq!(follow(&run, &told)?, 0);
    assert_eq!(run.wait()?.step, 1);
    let told = bench.run("model", config(1e-3))?.evaluate_on(&bench.data)?;
    assert!(told.loss.is_finite());

    // An update that an evaluation throws away has left all as it was: no step back is needed.
    let run = bench.run("eval", config(1e30).eval(&bench.data).eval_every(1))?;
    let told = run.steps(3).unwrap_err().to_string();
    assert!(told.contains("the step was thrown away") && !told.contains("rewind"), "{told}");
    run.set_lr(between(&told, "run.set_lr(", ")?; run.resume()?").parse().unwrap())?;
    run.resume()?;
    assert_eq!(run.wait()?.step, 3);
    Ok(())
}

/// JSON has no infinity: earlier versions wrote null for a singular value beyond the range of f32.
#[test]
fn a_singular_value_beyond_f32_is_read() {
    let read: StepSpectra = serde_json::from_str(r#"{"plain": [[null, 1.5]], "weighted": []}"#).unwrap();
    assert_eq!(read.plain, [[f32::MAX, 1.5]]);
}

#[test]
fn changes_that_later_ones_took_back_do_not_hold() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("stand", config(1e-3))?;
    run.step()?;
    run.set_lr(1e-4)?;
    run.set_batch(3)?;
    run.watch(&["hi?"], 100)?;
    run.cooldown(50)?;
    run.step()?;
    run.set_lr(2e-4)?; // ends the cooldown
    run.watch(&[] as &[&str], 1)?;
    run.step()?;
    let status = run.rewind(2)?;
    let said = "back at step 2; changes that still hold: a step has 3 rows (from step 2); the peak learning rate is 2e-4 (from step 3)";
    assert_eq!(status.notes.last().map(String::as_str), Some(said));
    Ok(())
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_comes_back_too() -> Result<()> {
    let bench = Bench::new()?;
    let train = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.arg("train").args(arguments).current_dir(bench.folder());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let new =
        ["--model", "small.gguf", "--data", "rows.jsonl", "--batch", "2", "--rank", "2", "--lr", "1e-3"];
    let (code, out, err) = train(&[&["nan"], &new[..], &["--steps", "4"]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = train(&["nan", "--resume", "--lr", "1e36", "--more", "4"]);
    assert_eq!(code, Some(2), "{out}{err}");
    let flags = between(&err, "; --resume ", " goes back to step");
    let flags: Vec<&str> = flags.split(' ').collect();
    let (code, out, err) = train(&[&["nan", "--resume"], &flags[..]].concat());
    assert_eq!(code, Some(0), "{flags:?}: {out}{err}");
    assert!(err.contains("back at step "), "{err}");
    assert_eq!(Run::get("nan")?.status().step, 8);
    Ok(())
}
