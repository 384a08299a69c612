//! Every option that a message names is one of the command line.
#![cfg(feature = "cli")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COMMANDS: [&str; 13] = [
    "data report",
    "data rows",
    "data clean",
    "data split",
    "data convert",
    "data generate",
    "plan",
    "train",
    "sample",
    "merge",
    "export",
    "spectrum",
    "bench step",
];

/// Options of other programs, as messages name them.
const OF_OTHERS: [&str; 5] = [
    "llama-gguf-split --merge",
    "mpirun --bind-to",
    "cargo install --features",
    "srun --mpi",
    "cargo build --release",
];

/// The options in a text: `--fix`, `--eval-list`.
fn options(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("--") {
        let name: String =
            text[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        let before = text[..at].chars().next_back();
        if name.starts_with(|c: char| c.is_ascii_lowercase())
            && before.is_none_or(|c| !c.is_alphanumeric() && c != '-')
        {
            found.insert(format!("--{}", name.trim_end_matches('-')));
        }
    }
    found
}

fn help() -> BTreeMap<&'static str, BTreeSet<String>> {
    let of = |command: &'static str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lorascope"))
            .args(command.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        (command, options(&String::from_utf8(output.stdout).unwrap()))
    };
    COMMANDS.into_iter().map(of).collect()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false if path.extension().is_some_and(|end| end == "rs") => into.push(path),
            false => {}
        }
    }
}

/// The string literals of a source file, without its comments and its tests.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut text: Option<String> = None;
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match (&mut text, c) {
            (None, '/') if chars.peek() == Some(&'/') => while chars.next().is_some_and(|c| c != '\n') {},
            (None, '\'') => {
                // A character, or a lifetime.
                let mut ahead = chars.clone();
                match (ahead.next(), ahead.next()) {
                    (Some('\\'), _) => {
                        while chars.next().is_some_and(|c| c == '\\' && chars.next().is_some() || c != '\'') {
                        }
                    }
                    (_, Some('\'')) => drop((chars.next(), chars.next())),
                    _ => {}
                }
            }
            (None, '"') => text = Some(String::new()),
            (None, _) => {}
            (Some(_), '"') => found.extend(text.take()),
            (Some(text), '\\') => text.extend(chars.next().filter(|c| *c == '"')),
            (Some(text), c) => text.push(c),
        }
    }
    found
}

/// The commands whose messages a file makes.
fn speaks_in(path: &Path) -> Vec<&'static str> {
    let path = path.to_string_lossy();
    let of = |start: &str| COMMANDS.into_iter().filter(|command| command.starts_with(start)).collect();
    match () {
        () if path.contains("src/bin/lorascope/train.rs") => of("train"),
        // Rows are read by commands on data and by runs.
        () if path.contains("src/dataset/") || path.contains("src/format/") => {
            COMMANDS.into_iter().filter(|c| c.starts_with("data") || *c == "train").collect()
        }
        () if ["src/train/", "src/run/", "src/analysis/"].iter().any(|folder| path.contains(folder)) => {
            of("train")
        }
        () => COMMANDS.to_vec(),
    }
}

#[test]
fn every_option_that_is_advised_exists() {
    let help = help();
    assert!(help["train"].contains("--eval-list") && help["data report"].contains("--context"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    let mut looked = 0;
    // The kernel is a program of its own, with options of its own.
    for file in files.into_iter().filter(|file| !file.starts_with(root.join("kernel"))) {
        for text in literals(&fs::read_to_string(&file).unwrap()) {
            let all = options(&OF_OTHERS.iter().fold(text.clone(), |text, other| text.replace(other, "")));
            looked += all.len();
            // `lorascope data rows FILE --row N` is about that command, up to the next sentence.
            let named = COMMANDS.into_iter().find(|command| text.contains(&format!("{command} ")));
            let commands = speaks_in(&file).into_iter().chain(named).collect::<Vec<_>>();
            for option in all {
                if !commands.iter().any(|command| help[command].contains(&option)) {
                    wrong.push(format!("{}: {option} in {text:?}", file.display()));
                }
            }
        }
    }
    assert!(looked > 40, "{looked} options");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn options_are_found_in_texts() {
    let found: Vec<String> =
        options("use --resume --more N; -- no, ---x, a--b, --fix trim").into_iter().collect();
    assert_eq!(found, ["--fix", "--more", "--resume"]);
    let source =
        "// \"--no\"\nlet a: &'static str = \"--yes \\\" --on\"; let c = '\"'; let d = '\\''; f(\"--end\")";
    assert_eq!(literals(source), ["--yes \" --on", "--end"]);
}
