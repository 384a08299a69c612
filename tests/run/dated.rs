//! A chat template that writes the date: the time is part of the data, and a run keeps it.

use crate::common::bits::bits;
use crate::common::tiny;
use crate::common::tiny::{Bench, CHATML, Tiny, config};
use lorascope::analysis::{Preflight, compare_runs};
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::run::{OpenRun, Run};
use std::fs;
use std::time::{Duration, SystemTime};

/// To the second, so that a test needs no other day.
const SECONDS: &str = "<|im_start|>system\n{{ strftime_now('%d %b %Y %H:%M:%S') }}<|im_end|>\n";
const DAYS: &str = "<|im_start|>system\nToday Date: {{ strftime_now('%d %b %Y') }}<|im_end|>\n";

fn rows(bench: &Bench) -> Result<Dataset> {
    let row = |n: u32| format!("{{\"instruction\":\"{n} + {n} = ?\",\"output\":\"{}\"}}\n", 2 * n);
    bench.data("rows.jsonl", &(1..=12).map(row).collect::<String>())
}

fn identity(run: &Run) -> serde_json::Value {
    serde_json::from_slice(&fs::read(run.folder().join("run.json")).unwrap()).unwrap()
}

#[test]
fn a_run_keeps_the_time_of_its_rows() -> Result<()> {
    let bench = Bench::new();
    let template = format!("{SECONDS}{CHATML}");
    let model = bench.model(Tiny { template: Some(&template), ..Tiny::default() })?;
    let data = rows(&bench)?;
    let (train, test) = (data.head(10)?, data.slice(10, 2)?);
    let run = Run::new("day", &model, &train, config().eval(&test))?;
    assert_eq!(run.status().about_rows.iter().filter(|note| note.contains("writes the date")).count(), 1);
    let time = identity(&run)["time"].as_i64().expect("the time is kept");
    run.steps(2)?;
    let before = run.evaluate()?;
    run.close()?;

    std::thread::sleep(Duration::from_millis(1100));
    let opened = Run::open("runs/day")?;
    assert_eq!(opened.evaluate()?, before);
    let fork = opened.fork("other", |config| config.lr = 1e-4)?;
    opened.steps(2)?;
    let straight = Run::new("straight", &model.at_time(time)?, &train, config().eval(&test))?;
    straight.steps(4)?;
    assert_eq!(bits(&opened.adapters()), bits(&straight.adapters()));

    fork.step()?;
    fork.close()?;
    std::thread::sleep(Duration::from_millis(1100));
    let fork = Run::open("runs/other")?;
    assert_eq!(identity(&fork)["time"].as_i64(), Some(time));
    fork.step()?;
    assert!(compare_runs(&[&opened, &fork])?.show().text.contains("other"));
    // A model that lies elsewhere now takes the run's time, too.
    fork.close()?;
    let fork = Run::open_with("runs/other", &OpenRun { model: Some(model), ..OpenRun::default() })?;
    assert_eq!(fork.status().step, 4);
    Ok(())
}

#[test]
fn a_folder_of_an_earlier_version_is_rendered_at_the_day_of_its_making() -> Result<()> {
    let bench = Bench::new();
    let template = format!("{DAYS}{CHATML}");
    let model = bench.model(Tiny { template: Some(&template), ..Tiny::default() })?;
    let then = SystemTime::now() - Duration::from_secs(3 * 86_400);
    let seconds = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let run = Run::new("old", &model.at_time(seconds)?, &rows(&bench)?, config())?;
    run.step()?;
    run.close()?;
    let mut old = identity(&run);
    for field in ["time", "weights"] {
        old.as_object_mut().unwrap().remove(field).expect("a field of this version");
    }
    let path = run.folder().join("run.json");
    fs::write(&path, old.to_string()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    let opened = Run::open("runs/old")?;
    assert_eq!(opened.status().step, 1);
    let fork = opened.fork("new", |_| {})?;
    assert_eq!(identity(&fork)["time"].as_i64(), Some(seconds));
    Ok(())
}

#[test]
fn the_preflight_says_that_the_date_is_in_the_data() -> Result<()> {
    let bench = Bench::new();
    let template = format!("{DAYS}{CHATML}");
    let model = bench.model(Tiny { template: Some(&template), ..Tiny::default() })?;
    let data = rows(&bench)?;
    let found = Preflight::of(&data, &model.at_time(1_721_952_000)?, &config())?;
    let date = tiny::finding(&found, "date");
    assert_eq!(date.what, "the chat template writes the date into the rows: 2024-07-26 00:00:00 UTC");

    // Asked for, and not written; not asked for.
    for template in [format!("{{% if false %}}{DAYS}{{% endif %}}{CHATML}"), CHATML.to_string()] {
        let folder = bench.folder.path().join("plain");
        Tiny { template: Some(&template), ..Tiny::default() }.write(&folder);
        let plain = lorascope::model::Model::open(&folder)?;
        let found = Preflight::of(&data, &plain, &config())?;
        assert!(found.findings.iter().all(|finding| finding.check != "date"), "{template}");
        let run = Run::new("plain", &plain, &data, config().overwrite())?;
        assert_eq!(identity(&run).get("time").is_some(), template != CHATML);
    }
    Ok(())
}
