//! What the tours say: nothing in them hurts a run when it is copied, and they name what people look for.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The kind and the source of each cell.
fn cells(notebook: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(notebook).unwrap();
    let notebook: Value = serde_json::from_str(&text).unwrap();
    let source = |cell: &Value| match &cell["source"] {
        Value::Array(lines) => lines.iter().map(|line| line.as_str().unwrap()).collect(),
        other => other.as_str().unwrap().to_string(),
    };
    let cells = notebook["cells"].as_array().unwrap().iter();
    cells.map(|cell| (cell["cell_type"].as_str().unwrap().to_string(), source(cell))).collect()
}

fn tours() -> Vec<PathBuf> {
    let all = root().join("notebooks").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|extension| extension == "ipynb")).collect();
    all.sort();
    assert!(all.len() >= 5, "{all:?}");
    all
}

/// The code of the README.
fn readme() -> String {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = text.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.collect()
}

#[test]
fn a_cell_that_is_copied_replaces_no_run() {
    let codes = tours().into_iter().flat_map(|tour| {
        let name = tour.file_name().unwrap().to_string_lossy().into_owned();
        cells(&tour).into_iter().filter(|(kind, _)| kind == "code").map(move |(_, code)| (name.clone(), code))
    });
    for (name, code) in codes.chain([("README.md".to_string(), readme())]) {
        // What writes files says which one, as its argument.
        assert!(!code.contains(".overwrite()"), "{name}: {code}");
        assert!(!code.contains("Existing::Replace"), "{name}: {code}");
        if code.contains("Run::new(") {
            assert_eq!(
                name, "README.md",
                "Run::new_or_get gives the run when the cell is executed again: {code}"
            );
        }
    }
}

#[test]
fn notebooks_are_committed_without_outputs() {
    for tour in tours() {
        let notebook: Value = serde_json::from_str(&fs::read_to_string(&tour).unwrap()).unwrap();
        for cell in notebook["cells"].as_array().unwrap().iter().filter(|cell| cell["cell_type"] == "code") {
            assert_eq!((&cell["outputs"], &cell["execution_count"]), (&Value::Array(vec![]), &Value::Null));
        }
    }
}

#[test]
fn the_tours_name_what_people_look_for() {
    let all: String = tours().iter().flat_map(|tour| cells(tour)).map(|(_, source)| source + "\n").collect();
    for what in
        ["for_model(", ":doc", ":vars", "Shift-Tab", "over the first 10 steps", "plot::bars", "lines("]
    {
        assert!(all.contains(what), "{what:?} is in no notebook");
    }
    assert!(!all.contains("nothing is lost"), "variables are lost with a cell that fails");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for what in [
        "for_model(",
        ":doc",
        ":vars",
        "Shift-Tab",
        "warm-up",
        "plot::{",
        "Run::new_or_get",
        "lorascope -- plan",
        "lorascope -- sample",
        "lorascope -- merge",
        "lorascope -- export",
    ] {
        let what = what.replace("lorascope -- ", "--features cli -- ");
        assert!(readme.contains(&what), "{what:?} is not in README.md");
    }
}
