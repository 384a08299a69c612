//! What rust-analyzer is told of the packages: only those whose types a cell can name. With all 430 it takes 2 GB.

use crate::paths::{Places, Tools};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages that rust-analyzer reads beside lorascope and what a `:dep` line names.
const READ: &[&str] = &[
    "ctx",
    "lorascope",
    "candle-core",
    "candle-nn",
    "half",
    "polars",
    "polars-core",
    "polars-error",
    "polars-expr",
    "polars-lazy",
    "polars-plan",
    "polars-utils",
    "polars-schema",
    "serde_json",
];

/// The packages of Rust's own library that programs name.
pub const RUST_PACKAGES: [&str; 4] = ["core", "alloc", "std", "proc_macro"];

/// The file with what cargo says of Rust's own library.
pub fn rust_metadata(base: &Path, question: u64) -> PathBuf {
    base.join(format!("rust-{question:016x}.json"))
}

/// Removes what was noted of Rust's own library.
pub fn forget_rust(base: &Path) {
    for entry in base.read_dir().into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("rust-")
            && Path::new(&name).extension().is_some_and(|e| e == "json")
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes what cargo says of the base, reduced, for all kernels.
pub fn write_metadata(places: &Places, tools: &Tools) -> Result<(), String> {
    let output = Command::new(&tools.cargo)
        .args(["metadata", "--format-version=1", "--filter-platform", &tools.host])
        .current_dir(places.base_crate())
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let write = |file: PathBuf, value: &Value| {
        std::fs::write(&file, value.to_string()).map_err(|error| format!("{}: {error}", file.display()))
    };
    write(places.base_features(), &json!(features(&metadata)))?;
    reduce(&mut metadata, &[]);
    write(places.base_metadata(), &metadata)
}

/// The features with which each package is built.
fn features(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let of_node = |node: &Value| {
        let names = node["features"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
        Some((node["id"].as_str()?.to_string(), names.map(String::from).collect()))
    };
    nodes.filter_map(of_node).collect()
}

/// The package that would be built with other features than those that lorascope is built with, and these. Then
/// lorascope would be built anew, which takes minutes and which a running process cannot load.
pub fn changed(metadata: &Value, base_features: &str) -> Option<String> {
    let before: BTreeMap<String, Vec<String>> = serde_json::from_str(base_features).ok()?;
    let now = features(metadata);
    let changed = |id: &&String| now.get(*id).is_some_and(|features| *features != before[*id]);
    let id = before.keys().filter(|id| !id.contains("#ctx@")).find(changed)?;
    let more: Vec<&str> =
        now[id].iter().filter(|name| !before[id].contains(name)).map(String::as_str).collect();
    let name = id.rsplit(['#', '/']).next().unwrap_or(id).replace('@', " ");
    Some(match more.is_empty() {
        true => name,
        false => format!("{name} with the features {}", more.join(", ")),
    })
}

/// Leaves the packages that a cell can name; `more` are those of `:dep` lines, with all that they stand on.
pub fn reduce(metadata: &mut Value, more: &[&str]) {
    let name_of = |id: &Value, packages: &[Value]| {
        let package = packages.iter().find(|package| package["id"] == *id);
        package.and_then(|package| package["name"].as_str().map(String::from))
    };
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let nodes = metadata["resolve"]["nodes"].as_array().cloned().unwrap_or_default();
    let mut kept: HashSet<String> = READ.iter().map(ToString::to_string).collect();
    let mut open: Vec<String> =
        more.iter().map(ToString::to_string).filter(|name| name != "lorascope").collect();
    while let Some(name) = open.pop() {
        if !kept.insert(name.clone()) {
            continue;
        }
        let of_name = nodes.iter().filter(|node| name_of(&node["id"], &packages).as_ref() == Some(&name));
        let needed = of_name.flat_map(|node| node["dependencies"].as_array().cloned().unwrap_or_default());
        open.extend(needed.filter_map(|id| name_of(&id, &packages)));
    }
    keep(metadata, &kept);
}

/// Leaves the packages with these names.
pub fn keep(metadata: &mut Value, names: &HashSet<String>) {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let name_of: HashMap<&str, &str> = packages
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let is_kept =
        |id: &Value| id.as_str().and_then(|id| name_of.get(id)).is_some_and(|name| names.contains(*name));
    if let Some(list) = metadata["packages"].as_array_mut() {
        list.retain(|package| is_kept(&package["id"]));
    }
    if let Some(list) = metadata["resolve"]["nodes"].as_array_mut() {
        list.retain(|node| is_kept(&node["id"]));
        for node in list.iter_mut() {
            if let Some(ids) = node["dependencies"].as_array_mut() {
                ids.retain(&is_kept);
            }
            if let Some(deps) = node["deps"].as_array_mut() {
                deps.retain(|dep| is_kept(&dep["pkg"]));
            }
        }
    }
}

/// What cargo would say of a kernel's crate with lorascope: that of the base, with other paths.
pub fn of_base(base: &Path, clone: &Path) -> Option<String> {
    let text = std::fs::read_to_string(base.join("metadata.json")).ok()?;
    let (from, to) = (base.join("ctx"), clone.join("ctx"));
    let mut metadata: Value = serde_json::from_str(&text).ok()?;
    rename(&mut metadata, &from.display().to_string(), &to.display().to_string());
    metadata["workspace_root"] = json!(to.display().to_string());
    Some(metadata.to_string())
}

/// Replaces a part of all texts.
pub fn rename(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => *text = text.replace(from, to),
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, from, to)),
        Value::Object(map) => map.values_mut().for_each(|value| rename(value, from, to)),
        _ => {}
    }
}

/// Says what to use in place of a dependency that lorascope brings: a second copy would have other types.
pub fn re_exported(dependency: &str) -> Option<String> {
    let name = dependency.split(" = ").next()?;
    let path = match name {
        "candle-core" | "candle_core" | "candle" => "lorascope::candle_core",
        "candle-nn" | "candle_nn" => "lorascope::candle_nn",
        "tokenizers" => "lorascope::tokenizers",
        "polars" => "lorascope::polars",
        "plotters" => "lorascope::plotters",
        _ => return None,
    };
    Some(format!(
        "lorascope brings {name} already, and a second copy would have other types: leave the line out and write \
         `use {path};` or `{path}::…`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_no_cell_names_are_left_out() {
        let package = |name: &str| json!({"name": name, "id": format!("{name} 1")});
        let node = |name: &str, needs: &[&str]| {
            let ids: Vec<String> = needs.iter().map(|name| format!("{name} 1")).collect();
            let deps: Vec<Value> = ids.iter().map(|id| json!({"pkg": id})).collect();
            json!({"id": format!("{name} 1"), "dependencies": ids, "deps": deps})
        };
        let packages = ["ctx", "lorascope", "polars", "hyper", "rand", "rand-core"].map(package);
        let mut metadata = json!({
            "packages": packages,
            "resolve": {"nodes": [
                node("ctx", &["lorascope", "rand"]), node("lorascope", &["polars", "hyper"]), node("polars", &[]),
                node("hyper", &[]), node("rand", &["rand-core"]), node("rand-core", &[]),
            ]},
        });
        let mut without = metadata.clone();
        reduce(&mut without, &[]);
        let names = |metadata: &Value| -> Vec<String> {
            metadata["packages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["name"].as_str().unwrap().into())
                .collect()
        };
        assert_eq!(names(&without), ["ctx", "lorascope", "polars"]);
        assert_eq!(without["resolve"]["nodes"][1]["dependencies"], json!(["polars 1"]));
        reduce(&mut metadata, &["rand", "lorascope"]);
        assert_eq!(names(&metadata), ["ctx", "lorascope", "polars", "rand", "rand-core"]);
        assert_eq!(
            metadata["resolve"]["nodes"][0]["deps"],
            json!([{"pkg": "lorascope 1"}, {"pkg": "rand 1"}])
        );
    }

    #[test]
    fn a_feature_that_lorascope_was_not_built_with_is_found() {
        let node = |name: &str, features: &[&str]| json!({"id": format!("registry#{name}@1.2.0"), "features": features});
        let metadata = |nodes: Vec<Value>| json!({"resolve": {"nodes": nodes}});
        let before =
            json!(features(&metadata(vec![node("ctx", &[]), node("indexmap", &["std"])]))).to_string();
        let more = metadata(vec![node("ctx", &["x"]), node("indexmap", &["std"]), node("rand", &["std"])]);
        assert_eq!(changed(&more, &before), None);
        let other = metadata(vec![node("indexmap", &["rayon", "std"])]);
        assert_eq!(changed(&other, &before).unwrap(), "indexmap 1.2.0 with the features rayon");
    }

    #[test]
    fn a_second_candle_is_answered_with_the_first() {
        assert!(re_exported("candle-core = \"0.9\"").unwrap().contains("use lorascope::candle_core;"));
        assert!(re_exported("candle-nn = \"0.9\"").unwrap().contains("lorascope::candle_nn"));
        assert!(re_exported("rand = \"0.9\"").is_none());
    }
}
