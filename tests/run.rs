//! The run handle on the real model: pause, resume, open again; nothing is lost.

mod common;

use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::Model;
use lorascope::train::{Run, RunConfig, State, runs};
use std::path::Path;
use std::time::{Duration, Instant};

/// Each test works in a folder of its own: nextest runs each in a process of its own.
fn start(folder: &tempfile::TempDir) -> Result<(Model, Dataset)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/school_math.jsonl");
    let model = Model::open(common::model_path())?;
    std::env::set_current_dir(folder.path()).unwrap();
    Ok((model, Dataset::open(data)?.head(40)))
}

fn config() -> RunConfig {
    RunConfig::default().rank(2).batch(2).targets(["q_proj", "down_proj"]).warmup(2).seed(7)
}

fn bits(adapters: &Adapters) -> Vec<(String, Vec<u32>)> {
    let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    adapters.tensors().map(|(name, t)| (name, values(t).into_iter().map(f32::to_bits).collect())).collect()
}

#[test]
fn resume_is_exact_to_the_bit() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = start(&folder)?;
    let straight = Run::new("straight", &model, &data, config())?;
    straight.steps(4)?;

    // The same with a pause in the middle of a step, a wait, and the rest in another process' place.
    let broken = Run::new("broken", &model, &data, config())?;
    broken.start(4)?;
    while broken.status().step < 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    let status = broken.pause()?;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!((status.state, status.snapshot), (State::Paused, Some(status.step)));
    assert!((1..4).contains(&status.step));
    broken.resume()?;
    broken.wait()?;
    assert_eq!(bits(&broken.adapters()), bits(&straight.adapters()));
    let losses =
        |run: &Run| run.history().steps().iter().map(|s| (s.step, s.loss.to_bits())).collect::<Vec<_>>();
    assert_eq!(losses(&broken), losses(&straight));
    assert_eq!(losses(&broken).len(), 4);

    // Gone on from disk, as after a restart: a copy of the folder, so that no state is shared.
    let copied =
        std::process::Command::new("cp").args(["-r", "runs/broken", "runs/copied"]).status().unwrap();
    assert!(copied.success());
    let copied = Run::open("runs/copied")?;
    assert_eq!(copied.status().step, 4);
    assert_eq!(losses(&copied), losses(&straight));
    copied.steps(2)?;
    straight.steps(2)?;
    assert_eq!(bits(&copied.adapters()), bits(&straight.adapters()));
    assert_eq!(runs().len(), 3);
    Ok(())
}

#[test]
fn a_name_in_use_is_kept() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = start(&folder)?;
    let run = Run::new("once", &model, &data, config())?;
    let report = run.step()?;
    assert_eq!(report.step, 1);
    assert!(report.loss > 0.5 && report.loss < 6.0 && report.gradient_norm > 0.0, "{report:?}");
    drop(run);
    let error = Run::new("once", &model, &data, config()).unwrap_err();
    assert!(error.is_state());
    assert!(error.to_string().contains("Run::get(\"once\")"), "{error}");
    assert_eq!(Run::get("once")?.status().step, 1);

    // Overwriting with a config that cannot be used leaves the run as it is.
    let bad = config().targets(["q_prof"]).overwrite();
    let error = Run::new("once", &model, &data, bad).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown target module \"q_prof\"; this model has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    );
    let old = Run::get("once")?;
    assert_eq!(old.status().step, 1);
    let new = Run::new("once", &model, &data, config().overwrite())?;
    assert_eq!(new.status().step, 0);
    let error = old.start(1).unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
    Ok(())
}

#[test]
fn wrong_settings_say_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = start(&folder)?;
    let told = |config: RunConfig| Run::new("wrong", &model, &data, config).unwrap_err().to_string();
    assert_eq!(told(config().rank(0)), "rank is 0; give LoRA a rank of at least 1");
    assert_eq!(
        told(config().context(10_000)),
        "a context of 10000 tokens; SmolLM2-135M-Instruct was made for at most 8192"
            .replace("SmolLM2-135M-Instruct", &model.name())
    );
    assert_eq!(told(config().lr(-1.0)), "the learning rate is -1; give a positive number such as 2e-4");
    assert!(
        told(config().context(5)).contains("no row can be trained on: of 40, 40 are longer than 5 tokens")
    );
    assert!(told(config().rank(600)).contains("rank 600 is more than"));
    for name in ["", "..", "../up", "a/b", ".hidden", "new\nline"] {
        assert!(Run::new(name, &model, &data, config()).unwrap_err().is_input(), "{name:?}");
    }
    assert!(!Path::new("runs").exists(), "nothing was left behind");
    assert!(Run::open("nowhere").unwrap_err().to_string().contains("no run here"));
    assert!(Run::get("nobody").unwrap_err().to_string().contains("none is open"));
    Ok(())
}

#[test]
fn looking_inside_while_it_trains() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = start(&folder)?;
    let (train, test) = data.split(0.8, 42)?;
    let run = Run::new("seen", &model, &train, config().eval(&test))?;
    assert_eq!(run.spectra()?.iter().map(|s| s.effective_rank()).sum::<f64>(), 0.0, "B is zero at first");
    let before = run.evaluate()?;
    assert!(before.rows == test.len() && before.loss > 0.0, "{before:?}");
    let untrained = run.sample("1 + 1 = ?")?;
    assert_eq!(untrained.as_str(), model.ask("1 + 1 = ?")?.as_str(), "B is zero: the model as it was");

    run.start(500)?;
    assert!(run.start(1).unwrap_err().to_string().contains("is training"));
    while run.status().step < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    assert_eq!(run.status().state, State::Training);
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
    assert!(run.spectra()?.iter().all(|s| s.effective_rank() > 0.9), "every adapter has learned");
    run.pause()?;
    assert!(run.status().show().html.contains("paused"));
    assert!(run.history().frame()?.height() >= 2);
    assert!(run.history().plot().is_ok());
    run.save_adapter("adapter")?;
    let saved = Adapters::open("adapter", model.llama().device())?;
    assert_eq!(bits(&saved), bits(&run.adapters()));
    assert!(run.save_adapter("adapter").unwrap_err().to_string().contains("exists already"));
    Ok(())
}
