//! Advice for the command line can be followed there: every option that a message names exists.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

/// The options in string literals, with the names of their files: not those in comments.
fn named(text: &str) -> BTreeSet<String> {
    let literal = Regex::new(r#""(?:[^"\\]|\\.|\\\n)*""#).unwrap();
    let option = Regex::new(r"(?:^|[^-\w])--([a-z][a-z-]+)").unwrap();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    // What stands in tests of a file are no messages.
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let literals = literal.find_iter(code).map(|found| found.as_str().to_string());
    literals
        .flat_map(|text| option.captures_iter(&text).map(|found| found[1].to_string()).collect::<Vec<_>>())
        .collect()
}

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lorascope")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn options_in_messages_exist() {
    let commands: [&[&str]; 10] = [
        &["train"],
        &["spectrum"],
        &["plan"],
        &["data", "report"],
        &["data", "rows"],
        &["data", "clean"],
        &["data", "split"],
        &["data", "convert"],
        &["data", "generate"],
        &[],
    ];
    let help: String = commands.iter().map(|command| help(command)).collect();
    let known: BTreeSet<String> = named(&format!("{help:?}"));
    assert!(known.contains("overwrite") && known.contains("context") && known.len() > 40, "{known:?}");
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut seen = 0;
    for file in files {
        // Options of another program: llama-gguf-split.
        if file.ends_with("src/model/gguf.rs") {
            continue;
        }
        let options = named(&std::fs::read_to_string(&file).unwrap());
        seen += options.len();
        for option in options {
            assert!(known.contains(&option), "{} names --{option}, which no command has", file.display());
        }
    }
    assert!(seen > 30, "{seen}");
    // It can fail.
    assert_eq!(named("let a = \"say --no-such\"; // --comment"), BTreeSet::from(["no-such".to_string()]));
}
