//! A run that is there already: given as it is, never replaced by a cell that is executed again, deleted when it
//! is asked for.

use crate::common::llama;
use crate::common::runs;
use crate::common::runs::{Bench, config, losses};
use lorascope::error::Result;
use lorascope::run::{Run, State};
use lorascope::train::RunConfig;
use std::fs;
use std::path::Path;

#[test]
fn a_cell_that_is_executed_again_gives_the_run_that_is_there() -> Result<()> {
    let bench = Bench::new()?;
    let test = bench.data.head(2)?;
    let cell = || Run::new_or_get("cell", &bench.model, &bench.data, config().eval(&test));
    let run = cell()?;
    run.steps(2)?;
    run.set_lr(1e-3)?; // a change of its own
    let before = losses(&run);
    run.start(100_000)?;
    let again = cell()?;
    assert_eq!(again.status().state, State::Running, "it trains on");
    run.stop()?;
    run.close()?;
    let again = cell()?;
    assert_eq!((&losses(&again)[..2], again.changes().iter().count()), (&before[..], 1));
    assert_eq!(names("runs"), ["cell"], "nothing was moved aside");
    Ok(())
}

#[test]
fn a_run_that_is_another_one_is_named_and_kept() -> Result<()> {
    let bench = Bench::new()?;
    bench.run("one", config())?.steps(1)?;
    let asked = |config: RunConfig| Run::new_or_get("one", &bench.model, &bench.data, config).unwrap_err();
    let told = asked(config().lr(1e-3).rank(4));
    assert!(told.is_state(), "{told}");
    for part in [
        "the run \"one\" exists, and is another one",
        "lr is 0.0002 there and 0.001 here",
        "lora.rank is 2 there and 4 here",
        "Run::get(\"one\")? gives it as it is",
    ] {
        assert!(told.to_string().contains(part), "{part:?} in {told}");
    }
    assert!(asked(config().eval(&bench.data)).to_string().contains("it has no rows to evaluate on"));
    assert!(asked(config().overwrite()).to_string().contains("leave overwrite() out"));
    assert!(asked(config().lr(-1.0)).is_input());
    let part = bench.data.head(5)?;
    let told = Run::new_or_get("one", &bench.model, &part, config()).unwrap_err().to_string();
    assert!(told.contains("it has other rows to train on, of ") && told.contains("rows.jsonl"), "{told}");
    let other = runs::model(&bench.folder().join("other.gguf"), llama::Sizes { layers: 2, ..runs::SMALL });
    let other = lorascope::model::Model::open(other)?;
    let told = Run::new_or_get("one", &other, &bench.data, config()).unwrap_err().to_string();
    assert!(told.contains("its model is ") && told.contains("small.gguf"), "{told}");
    assert_eq!((Run::get("one")?.status().step, names("runs")), (1, vec!["one".to_string()]));

    // What says that it exists says the way.
    let told = bench.run("one", config()).unwrap_err().to_string();
    assert!(told.contains("Run::new_or_get") && told.contains("overwrite() moves it aside"), "{told}");
    Ok(())
}

#[test]
fn a_handle_deletes_its_own_run_alone() -> Result<()> {
    let bench = Bench::new()?;
    let old = bench.run("one", config())?;
    old.steps(1)?;
    let new = bench.run("one", config().overwrite())?;
    new.steps(2)?;
    let told = old.delete().unwrap_err().to_string();
    assert!(told.contains("Run::get(\"one\")?.delete()"), "{told}");
    new.step()?;
    new.close()?;
    assert!(old.delete().is_err(), "the folder holds another run");
    assert!(Run::exists("one")?);
    Run::get("one")?.delete()?;
    assert!(!Run::exists("one")?);
    Ok(())
}

#[test]
fn a_run_is_deleted_when_it_is_asked_for() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("gone", config())?;
    run.start(100_000)?;
    let told = run.delete().unwrap_err().to_string();
    assert!(told.contains("is training, and is not deleted") && told.contains("run.stop()"), "{told}");
    run.stop()?;
    let folder = run.folder().to_path_buf();
    let told = run.delete()?.to_string();
    assert!(told.starts_with(&format!("deleted: {}", folder.display())), "{told}");
    assert!(!folder.exists() && run.status().state == State::Closed);
    assert!(run.delete().unwrap_err().is_not_found());

    // Its name is free, and what a person has put beside it stays.
    let run = bench.run("gone", config())?;
    fs::write(folder.join("notes.md"), "mine").unwrap();
    run.close()?;
    run.delete()?;
    assert_eq!(names(&folder), ["notes.md"]);
    bench.run("gone", config())?;
    Ok(())
}

fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
