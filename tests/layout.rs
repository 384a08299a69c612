//! The house rules that a machine can hold: who imports whom, who prints, who may panic, how long
//! a file may get.

use std::path::Path;

/// A module imports from its own level and from those above it. `error`, `display` and
/// `files` share one: errors quote data and need `neutral`, tables show errors.
const LEVELS: [&[&str]; 13] = [
    &["error", "display", "files"],
    &["image"],
    &["ops"],
    &["plot"],
    &["spectrum"],
    &["hub"],
    &["format"],
    &["text"],
    &["dataset"],
    &["lora"],
    &["model"],
    &["train"],
    &["run"],
    &["analysis"],
    &["prelude"],
];
const PRINTS: [&str; 5] = ["print!(", "println!(", "dbg!(", "stdout()", "stderr()"];
const PANICS: [&str; 5] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("];
const LINES: usize = 550;
/// `src/model/layers/norm.rs` is as deep as it gets.
const PARTS: usize = 4;

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|names| names.contains(&module))
}

/// The code of a file of the library: no comments, and nothing from the tests at its end.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = source.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    lines.map(|line| line.split("//").next().unwrap_or_default()).enumerate().map(|(i, line)| (i + 1, line))
}

/// The modules that a text names after `crate::`, also in a group: `use crate::{error, plot::Figure}`.
fn imports(code: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(String::from);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue; // `other_crate::`
        }
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.extend(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut begin = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.extend(name(&group[begin..i]));
                    begin = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// What is wrong with one file; `path` is relative to the repository.
fn faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("{path}:{line}: {what}"));
    let lines = source.lines().count();
    if lines > LINES {
        fault(lines, format!("{lines} lines, more than {LINES}: split the file"));
    }
    // The command line is a crate of its own, whose root is `src/bin`.
    if path.strip_prefix("src/bin/").unwrap_or(path).split('/').count() > PARTS {
        fault(1, "more than two levels of folders".to_string());
    }
    let ignored = concat!("#[", "ignore");
    for (i, line) in source.lines().enumerate().filter(|(_, line)| line.trim().starts_with(ignored)) {
        fault(i + 1, format!("`{}`: a test runs or is removed", line.trim()));
    }
    let Some(inside) = path.strip_prefix("src/") else { return faults };
    for (number, line) in code(source) {
        for word in PANICS.iter().filter(|word| line.contains(**word)) {
            fault(number, format!("`{word}`: return an Error instead"));
        }
        if inside.starts_with("bin/") || inside.starts_with("display/") {
            continue;
        }
        for word in PRINTS.iter().filter(|word| line.contains(**word)) {
            fault(number, format!("`{word}`: only display/ prints"));
        }
    }
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    if module == "lib" || module == "bin" {
        return faults;
    }
    let Some(own) = level(module) else {
        fault(1, format!("`{module}` has no place in the import order of tests/layout.rs"));
        return faults;
    };
    let text: String = code(source).map(|(_, line)| format!("{line}\n")).collect();
    for name in imports(&text) {
        if level(&name).is_some_and(|other| other > own) {
            fault(1, format!("`{module}` imports `{name}`, which lies below it"));
        }
    }
    if text.contains("super::super") {
        fault(1, "`super::super` hides an import: say `crate::`".to_string());
    }
    faults
}

fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
    for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            walk(&entry, root, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let path = entry.strip_prefix(root).unwrap().to_string_lossy().to_string();
            found.extend(faults(&path, &std::fs::read_to_string(&entry).unwrap()));
        }
    }
}

#[test]
fn the_repository_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in
        ["src", "tests", "benches"].map(|name| root.join(name)).iter().filter(|folder| folder.is_dir())
    {
        walk(folder, root, &mut found);
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn each_rule_can_fail() {
    let broken = |path: &str, source: &str| faults(path, source).join("\n");
    assert!(broken("src/text/mod.rs", "use crate::model::Model;").contains("`text` imports `model`"));
    assert!(
        broken("src/text/mod.rs", "use crate::{error::{Error, Result},\n lora as l};")
            .contains("imports `lora`")
    );
    assert!(broken("src/text/mod.rs", "fn f() { crate::train::go() }").contains("imports `train`"));
    assert!(broken("src/lora/a/b/c.rs", "").contains("two levels"));
    assert!(broken("src/lora/a.rs", "use super::super::model;").contains("super::super"));
    assert!(broken("src/new.rs", "").contains("no place in the import order"));
    assert!(
        broken("src/text/mod.rs", "fn f() {\n eprintln!(\"x\") }")
            .starts_with("src/text/mod.rs:2: `println!(`")
    );
    assert!(broken("src/text/mod.rs", "x.unwrap()").contains("return an Error"));
    assert!(broken("src/bin/lorascope.rs", "x.expect(\"y\")").contains("return an Error"));
    assert!(broken("tests/a.rs", &"\n".repeat(LINES + 1)).contains("split the file"));
    assert!(broken("tests/a.rs", concat!("#[", "ignore]\nfn f() {}")).contains("a test runs"));
}

#[test]
fn what_the_rules_allow() {
    let allowed = [
        (
            "src/text/mod.rs",
            "/// crate::model, x.unwrap(), println!()\nuse crate::error::Error;\nuse my_crate::train;",
        ),
        ("src/text/mod.rs", "fn f() {}\n#[cfg(test)]\nmod tests { fn t() { x.unwrap(); panic!() } }"),
        ("src/lib.rs", "pub use crate::train::Run;"),
        ("src/bin/lorascope.rs", "println!(\"x\")"),
        ("src/display/mod.rs", "std::io::stdout().lock()"),
        ("tests/a.rs", "x.unwrap(); println!(\"x\")"),
    ];
    for (path, source) in allowed {
        assert_eq!(faults(path, source), Vec::<String>::new(), "{path}: {source}");
    }
}
