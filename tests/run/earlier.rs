//! Runs that earlier versions wrote still open, show what they learned and go on as they did then.

use crate::common::tiny::Tiny;
use lorascope::error::Result;
use lorascope::run::Run;
use std::path::Path;

/// Copies `tests/earlier/NAME` and puts the folder's path where the run's file has `FOLDER`.
fn restore(name: &str, folder: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/earlier").join(name);
    copy(&from, folder, &folder.canonicalize().unwrap().to_string_lossy());
    std::fs::create_dir(folder.join("model")).unwrap();
    Tiny::default().write(&folder.join("model"));
}

fn copy(from: &Path, to: &Path, folder: &str) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target, folder);
        } else if entry.extension().is_some_and(|extension| extension == "json") {
            std::fs::write(&target, std::fs::read_to_string(&entry).unwrap().replace("FOLDER", folder))
                .unwrap();
        } else {
            std::fs::copy(&entry, &target).unwrap();
        }
    }
}

/// Of version 0.1 at da8fb5e: 4 steps of 4 rows, then a falling learning rate, 2 more steps and an evaluation.
/// `after` is what that version's steps 7 and 8 gave.
#[test]
fn a_run_of_format_2_goes_on() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    restore("format-2", folder.path());
    let run = Run::open(folder.path().join("runs/old"))?;
    assert_eq!((run.status().step, run.status().notes), (6, Vec::new()));
    let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} and {b}");
    let history = run.history();
    assert_eq!(history.steps().len(), 6);
    close(history.steps()[5].loss, 6.5075);
    run.steps(2)?;
    let after =
        [(6.309367537498474, 3.1707930281288714, 1.4e-4), (6.336232488805598, 2.7392054135099273, 1.6e-4)];
    for (step, (loss, norm, lr)) in run.history().steps()[6..].iter().zip(after) {
        close(step.loss, loss);
        close(step.gradient_norm, norm);
        close(step.lr, lr);
    }
    // The way back is there as well.
    run.rewind(0)?;
    assert_eq!(run.status().step, 0);
    Ok(())
}
