//! The run handle on the real model: pause, resume, close, open again; nothing is lost.

use crate::common;
use crate::common::bits::bits;
use crate::common::clock;
use crate::common::working_folder::WorkingFolder;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::Model;
use lorascope::run::{Run, State, runs};
use lorascope::train::RunConfig;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A working folder of its own, the real model and 40 rows.
struct Bench {
    model: Model,
    data: Dataset,
    folder: WorkingFolder,
}

impl Bench {
    fn new() -> Result<Self> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/school_math.jsonl");
        let (model, data) = (Model::open(common::model_path())?, Dataset::open(data)?.head(40)?);
        let folder = WorkingFolder::enter();
        Ok(Self { model, data, folder })
    }

    fn run(&self, name: &str) -> Result<Run> {
        Run::new(name, &self.model, &self.data, config())
    }
}

fn config() -> RunConfig {
    RunConfig::default().rank(2).batch(2).targets(["q_proj", "down_proj"]).warmup(2).seed(7)
}

fn losses(run: &Run) -> Vec<(u64, u64)> {
    run.history().steps().iter().map(|s| (s.step, s.loss.to_bits())).collect()
}

/// The steps that have a snapshot.
fn snapshots(run: &Run) -> BTreeSet<u64> {
    let entries = fs::read_dir(run.folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.strip_prefix("step-")?.parse().unwrap())).collect()
}

/// Waits until a run that trains has done this many steps.
fn reach(run: &Run, step: u64) {
    let begun = Instant::now();
    loop {
        let status = run.status();
        if status.step >= step {
            return;
        }
        assert_eq!(status.state, State::Running);
        assert!(begun.elapsed() < Duration::from_secs(600), "step {} after ten minutes", status.step);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn resume_is_exact_to_the_bit() -> Result<()> {
    let bench = Bench::new()?;
    // Paused in the middle of a step, gone on, paused again.
    let broken = bench.run("broken")?;
    broken.start(500)?;
    reach(&broken, 1);
    std::thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    let paused = broken.pause()?;
    clock::within(asked, Duration::from_secs(5));
    assert_eq!(
        (paused.state, paused.snapshot, paused.goal.step),
        (State::Paused, Some(paused.step), Some(500))
    );
    broken.resume()?;
    reach(&broken, paused.step + 1);
    let paused = broken.pause()?.step;
    assert!(paused < 500);

    let straight = bench.run("straight")?;
    straight.steps(paused)?;
    assert_eq!(bits(&broken.adapters()), bits(&straight.adapters()));
    assert_eq!(losses(&broken), losses(&straight));
    assert_eq!(losses(&broken).len() as u64, paused);
    let own =
        runs().into_iter().filter(|status| status.folder.starts_with(broken.folder().parent().unwrap()));
    assert_eq!(own.map(|status| status.name).collect::<Vec<_>>(), ["broken", "straight"]);

    // Gone on from disk: nothing of the run is in memory any longer.
    broken.close()?;
    assert_eq!(broken.status().state, State::Closed);
    assert!(broken.close().unwrap_err().to_string().contains("has ended"));
    let opened = Run::get("broken")?;
    let status = opened.status();
    assert_eq!((status.state, status.step, status.goal.step), (State::Paused, paused, Some(500)));
    assert_eq!(losses(&opened), losses(&straight));
    opened.resume()?;
    reach(&opened, paused + 1);
    let step = opened.pause()?.step;
    straight.steps(step - paused)?;
    assert_eq!(bits(&opened.adapters()), bits(&straight.adapters()));
    Ok(())
}

#[test]
fn a_target_outlives_a_pause_before_the_first_step() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("early")?;
    run.start(u64::MAX)?;
    let status = run.pause()?;
    assert_eq!(status.goal.step, Some(u64::MAX));
    run.close()?;
    let status = Run::get("early")?.status();
    assert_eq!((status.state, status.goal.step), (State::Paused, Some(u64::MAX)));
    Ok(())
}

#[test]
fn a_failed_step_says_why_and_is_done_again() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("fails")?;
    let history = run.folder().join("history.jsonl");
    fs::create_dir(&history).unwrap();
    let error = run.steps(2).unwrap_err().to_string();
    assert!(error.contains(history.to_str().unwrap()), "{error}");
    let failed = State::Failed(error);
    assert_eq!((run.status().state, run.status().step), (failed.clone(), 0));
    assert_eq!(run.pause()?.state, failed, "why it failed is still to be read");
    fs::remove_dir(&history).unwrap();
    run.resume()?;
    assert_eq!((run.wait()?.state, run.history().len()), (State::Idle, 2));
    Ok(())
}

#[test]
fn a_name_in_use_is_kept() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("once")?;
    let report = run.step()?;
    assert_eq!(report.step, 1);
    assert!(report.loss > 0.5 && report.loss < 6.0 && report.gradient_norm > 0.0, "{report:?}");
    drop(run);
    let error = bench.run("once").unwrap_err();
    assert!(error.is_state());
    assert!(error.to_string().contains("Run::get(\"once\")"), "{error}");
    assert_eq!(Run::get("once")?.status().step, 1);

    // The same folder by another way is the same run.
    std::os::unix::fs::symlink("runs", "link").unwrap();
    assert_eq!(Run::open("link/once")?.folder(), Run::get("once")?.folder());

    // Overwriting with a config that cannot be used leaves the run as it is.
    let new = |config: RunConfig| Run::new("once", &bench.model, &bench.data, config.overwrite());
    let error = new(config().targets(["q_prof"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown target module \"q_prof\"; this model has q_proj, k_proj, o_proj, v_proj, up_proj, down_proj, gate_proj, lm_head, embed_tokens"
    );
    assert_eq!(Run::get("once")?.status().step, 1);
    Ok(())
}

#[test]
fn overwriting_ends_a_run_that_was_stopped() -> Result<()> {
    let bench = Bench::new()?;
    let old = bench.run("again")?;
    old.start(500)?;
    reach(&old, 1);
    let error = Run::new("again", &bench.model, &bench.data, config().overwrite()).unwrap_err();
    assert!(error.to_string().contains("the run \"again\" is training, and is not replaced"), "{error}");
    let step = old.stop()?.step;
    let new = Run::new("again", &bench.model, &bench.data, config().overwrite())?;
    assert_eq!((new.status().step, new.history().len(), snapshots(&new)), (0, 0, BTreeSet::from([0])));
    assert_eq!(old.status().state, State::Closed);
    for error in [old.start(1), old.pause(), old.wait(), old.resume()].map(Result::unwrap_err) {
        assert!(error.is_state() && error.to_string().contains("has ended"), "{error}");
    }
    new.step()?;
    assert_eq!((snapshots(&new), Run::get("again")?.status().step), (BTreeSet::from([0, 1]), 1));
    let lines = fs::read_to_string(new.folder().join("history.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 1, "none of the old run");
    assert_eq!(Run::get("again.1")?.status().step, step, "it lies beside the new one");
    Ok(())
}

#[test]
fn the_best_by_evaluation_stays() -> Result<()> {
    let bench = Bench::new()?;
    let (train, test) = (bench.data.head(30)?, bench.data.slice(30, 2)?);
    // A learning rate of 0.01, 0.02, … ruins the model: the best comes early.
    let config = config().lr(4.0).warmup(400).eval(&test).eval_every(1);
    let run = Run::new("best", &bench.model, &train, config)?;
    run.steps(5)?;
    let steps = run.history().steps().to_vec();
    let loss = |step: u64| steps[step as usize - 1].eval_loss.unwrap();
    let best = (1..=5).min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap();
    assert!(best < 5, "{steps:?}");
    assert!(snapshots(&run).contains(&best), "best {best} of {:?}", snapshots(&run));
    for _ in 0..3 {
        run.step()?;
    }
    assert_eq!(snapshots(&run), BTreeSet::from([best, 6, 7, 8]));
    assert!(run.show().text.contains("2 rows"), "{}", run.show().text);
    Ok(())
}

#[test]
fn damage_is_found_and_leftovers_are_cleared() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("hurt")?;
    run.steps(2)?;
    let before = bits(&run.adapters());
    run.close()?;
    let history = run.folder().join("history.jsonl");
    let text = fs::read_to_string(&history).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let leftover = run.folder().join(".partial-x");
    fs::create_dir(&leftover).unwrap();

    // Killed while it wrote the line of step 3.
    fs::write(&history, format!("{text}{}", &lines[1][..20])).unwrap();
    let opened = Run::get("hurt")?;
    assert_eq!((opened.status().step, bits(&opened.adapters())), (2, before));
    assert_eq!(fs::read_to_string(&history).unwrap(), text);
    assert!(!leftover.exists());
    opened.close()?;

    let told = |content: &str| {
        fs::write(&history, content).unwrap();
        let error = Run::get("hurt").unwrap_err();
        assert!(error.is_format());
        error.to_string().replace(&format!("{}, ", history.display()), "")
    };
    let help =
        |step| format!("put the line of step {step} back, or remove the snapshots of step {step} and later");
    let gap = format!("{}\n{}\n", lines[1], lines[1]);
    assert_eq!(told(&gap), format!("line 1: step 2 stands where step 1 belongs; {}", help(1)));
    let short = format!("{}\n{}", lines[0], &lines[1][..20]);
    assert_eq!(told(&short), format!("line 2: step 2 is missing or cut short; {}", help(2)));
    let broken = format!("{{}}\n{}\n", lines[1]);
    assert!(told(&broken).starts_with("line 1: missing field `step`"), "{}", told(&broken));

    fs::write(&history, &text).unwrap();
    let identity = run.folder().join("run.json");
    let old = fs::read_to_string(&identity).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut new: serde_json::Value = serde_json::from_str(&old).unwrap();
        *new.pointer_mut(field).unwrap() = value;
        fs::write(&identity, new.to_string()).unwrap();
        Run::get("hurt").unwrap_err().to_string()
    };
    assert!(with("/rows/tokens", "0".into()).contains("the rows give other tokens"));
    assert!(with("/rows/context", 100.into()).contains("the rows give other tokens"));
    assert_eq!(
        with("/model", "gone.gguf".into()),
        "gone.gguf: the model of this run is gone; put it back there, or say where it is: \
         Run::open_with(folder, &OpenRun { model: Some(model), ..OpenRun::default() })"
    );
    assert!(with("/format", 9.into()).contains("format 9, this version reads 2"));
    fs::write(&identity, &old).unwrap();
    assert_eq!(Run::get("hurt")?.status().step, 2);
    Ok(())
}

/// A real second process, by the command line.
#[cfg(feature = "cli")]
#[test]
fn one_process_at_a_time() -> Result<()> {
    let bench = Bench::new()?;
    let train = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.args(["train", "held"]).args(arguments).current_dir(bench.folder.path());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    bench.data.write("rows.jsonl", lorascope::format::RowSchema::Alpaca)?;
    let model = common::model_path();
    let new = ["--model", model.to_str().unwrap(), "--data", "rows.jsonl", "--steps", "1", "--batch", "2"];

    let run = bench.run("held")?;
    run.step()?;
    let before = snapshots(&run);
    for arguments in [&["--resume", "--steps", "1"][..], &[&new[..], &["--overwrite"]].concat()] {
        let (success, told) = train(arguments);
        assert!(!success && told.contains("has this run open"), "{arguments:?}: {told}");
    }
    assert_eq!((run.step()?.step, before), (2, BTreeSet::from([0, 1])), "it is whole");
    run.close()?;
    let (success, told) = train(&["--resume", "--steps", "1"]);
    assert!(success, "{told}");
    let run = Run::get("held")?;
    assert_eq!((run.status().step, run.history().len()), (3, 3));
    run.close()?;

    let (success, told) = train(&new);
    assert!(!success);
    assert_eq!(
        told,
        "lorascope: the run \"held\" exists; --resume continues it, --overwrite moves it aside and starts a new run\n"
    );
    let (success, told) = train(&[&new[..], &["--overwrite"]].concat());
    assert!(success, "{told}");
    let run = Run::get("held")?;
    assert_eq!((run.status().step, snapshots(&run)), (1, BTreeSet::from([0, 1])));
    Ok(())
}

#[test]
fn wrong_settings_say_what_to_do() -> Result<()> {
    let bench = Bench::new()?;
    let new = |name: &str, config: RunConfig| Run::new(name, &bench.model, &bench.data, config).unwrap_err();
    let told = |config: RunConfig| new("wrong", config).to_string();
    assert_eq!(told(config().rank(0)), "rank is 0; give LoRA a rank of at least 1");
    assert_eq!(
        told(config().context(10_000)),
        "a context of 10000 tokens; SmolLM2-135M-Instruct was made for at most 8192"
            .replace("SmolLM2-135M-Instruct", &bench.model.name())
    );
    assert_eq!(told(config().lr(-1.0)), "the learning rate is -1; give a positive number such as 2e-4");
    assert_eq!(
        told(config().warmup(10).total(10)),
        "the learning rate rises for 10 steps, but training ends at step 10; give a total above the warm-up"
    );
    assert!(
        told(config().context(5)).contains("no row can be trained on: of 40, 40 are longer than 5 tokens")
    );
    assert!(told(config().rank(600)).contains("rank 600 is more than"));
    for name in ["", "..", "../up", "a/b", ".hidden", "new\nline", &"数".repeat(61)] {
        assert!(new(name, config()).is_input(), "{name:?}");
    }
    assert!(!Path::new("runs").exists(), "nothing was left behind");
    assert!(Run::open("nowhere").unwrap_err().to_string().contains("no run here"));
    assert!(!Path::new("nowhere").exists());
    assert!(Run::get("nobody").unwrap_err().to_string().contains("no run \"nobody\""));
    assert_eq!(bench.run(&"数".repeat(60))?.name(), "数".repeat(60));
    Ok(())
}

#[test]
fn looking_inside_while_it_trains() -> Result<()> {
    let bench = Bench::new()?;
    let (train, test) = bench.data.split(0.8, 42)?;
    let run = Run::new("seen", &bench.model, &train, config().eval(&test))?;
    assert_eq!(run.spectra()?.iter().map(|s| s.effective_rank()).sum::<f64>(), 0.0, "B is zero at first");
    let before = run.evaluate()?;
    assert!(before.rows == test.len() && before.loss > 0.0, "{before:?}");
    let untrained = run.sample("1 + 1 = ?")?;
    assert_eq!(untrained.as_str(), bench.model.ask("1 + 1 = ?")?.as_str(), "B is zero: the model as it was");

    run.start(500)?;
    assert!(run.start(1).unwrap_err().to_string().contains("is training"));
    reach(&run, 2);
    let asked = Instant::now();
    assert_eq!(run.status().state, State::Running);
    clock::within(asked, Duration::from_secs(1));
    assert!(run.spectra()?.iter().all(|s| s.effective_rank() > 0.9), "every adapter has learned");
    run.pause()?;
    assert!(run.status().show().html.contains("paused"));
    assert!(run.history().frame()?.height() >= 2);
    assert!(run.history().plot().is_ok());
    run.save_adapter("adapter")?;
    let saved = Adapters::open("adapter", bench.model.decoder().device())?;
    assert_eq!(bits(&saved), bits(&run.adapters()));
    assert!(run.save_adapter("adapter").unwrap_err().to_string().contains("exists already"));
    Ok(())
}
