//! The house rules that a machine can hold: who imports whom, who prints, who may panic, how long
//! a file and how full a folder may get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::imports::{Imports, Library, is_test};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;

/// The way of the data: a module imports from its own level and from those above it. `error`, `display` and
/// `files` share one: errors quote data and need `neutral`, tables show errors.
const LEVELS: [&[&str]; 16] = [
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
    &["devices"],
    &["run"],
    &["analysis"],
    &["prelude"],
];
/// What prints, as tokens.
const PRINTS: [&[&str]; 7] = [
    &["print", "!"],
    &["println", "!"],
    &["eprint", "!"],
    &["eprintln", "!"],
    &["dbg", "!"],
    &["stdout", "("],
    &["stderr", "("],
];
/// What panics, as tokens.
const PANICS: [&[&str]; 6] = [
    &[".", "unwrap", "("],
    &[".", "expect", "("],
    &["panic", "!"],
    &["todo", "!"],
    &["unimplemented", "!"],
    &["unreachable", "!"],
];
const LINES: usize = 500;
/// Files of one folder of the library.
const FILES: usize = 25;
/// Lines of the file in the middle.
const MEDIAN: std::ops::RangeInclusive<usize> = 150..=250;
/// `src/model/layers/rms_norm.rs` is as deep as it gets; the command line begins one folder further in.
const PARTS: usize = 4;

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|names| names.contains(&module))
}

/// The top folder or file of a path below `src`.
fn top(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or_default()
}

/// The tokens of a file without what is there in tests only, and their lines.
fn code(file: &mut syn::File) -> Vec<(String, usize)> {
    struct WithoutTests;
    impl syn::visit_mut::VisitMut for WithoutTests {
        fn visit_file_mut(&mut self, file: &mut syn::File) {
            file.items.retain(|item| !is_test(attributes(item)));
            syn::visit_mut::visit_file_mut(self, file);
        }

        fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
            if let Some((_, items)) = &mut module.content {
                items.retain(|item| !is_test(attributes(item)));
            }
            syn::visit_mut::visit_item_mod_mut(self, module);
        }

        fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
            item.items
                .retain(|item| !matches!(item, syn::ImplItem::Fn(function) if is_test(&function.attrs)));
            syn::visit_mut::visit_item_impl_mut(self, item);
        }
    }
    syn::visit_mut::VisitMut::visit_file_mut(&mut WithoutTests, file);
    let mut found = Vec::new();
    flatten(file.to_token_stream(), &mut found);
    found
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn flatten(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                found.push((open.into(), line));
                flatten(group.stream(), found);
                found.push((close.into(), group.span_close().start().line));
            }
            other => found.push((other.to_string(), line)),
        }
    }
}

/// What is wrong with one file by itself; `path` is relative to the repository.
fn faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("{path}:{line}: {what}"));
    let lines = source.lines().count();
    if lines > LINES {
        fault(lines, format!("{lines} lines, more than {LINES}: split the file"));
    }
    if path.split('/').count() > PARTS + usize::from(path.starts_with("src/bin/")) {
        fault(1, "more than two levels of folders".to_string());
    }
    let ignored = concat!("#[", "ignore");
    for (i, line) in source.lines().enumerate().filter(|(_, line)| line.trim().starts_with(ignored)) {
        fault(i + 1, format!("`{}`: a test runs or is removed", line.trim()));
    }
    let Some(inside) = path.strip_prefix("src/") else { return faults };
    let mut parsed = match syn::parse_file(source) {
        Ok(parsed) => parsed,
        Err(error) => {
            fault(error.span().start().line, error.to_string());
            return faults;
        }
    };
    let code = code(&mut parsed);
    let at = |words: &'static [&'static str]| {
        let same = move |window: &[(String, usize)]| {
            window.iter().zip(words).all(|((token, _), word)| token == word)
        };
        code.windows(words.len()).filter(move |window| same(window)).map(|window| window[0].1)
    };
    for words in PANICS {
        at(words).for_each(|line| fault(line, format!("`{}`: return an Error instead", words.concat())));
    }
    if !["bin/", "display/", "kernel/"].iter().any(|folder| inside.starts_with(folder)) {
        for words in PRINTS {
            at(words).for_each(|line| fault(line, format!("`{}`: only display/ prints", words.concat())));
        }
    }
    at(&["super", ":", ":", "super"])
        .for_each(|line| fault(line, "`super::super` hides an import: say `crate::`".to_string()));
    let module = top(inside);
    // The kernel is a package of its own.
    if !["lib", "bin", "kernel"].contains(&module) && level(module).is_none() {
        fault(1, format!("`{module}` has no place in the import order of tests/house/layout.rs"));
    }
    faults
}

/// Files that import each other, in any number of steps: each group with the imports inside it.
fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports
        .keys()
        .map(|from| {
            let (mut reached, mut open) = (BTreeSet::new(), vec![from.as_str()]);
            while let Some(at) = open.pop() {
                for to in imports.get(at).into_iter().flat_map(BTreeMap::keys) {
                    if reached.insert(to.as_str()) {
                        open.push(to);
                    }
                }
            }
            (from.as_str(), reached)
        })
        .collect();
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (from, to) in &reached {
        if to.contains(from) {
            circles.insert(to.iter().copied().filter(|other| reached[other].contains(from)).collect());
        }
    }
    let inside = |circle: Vec<&str>| {
        let edges =
            circle.iter().flat_map(|from| imports[*from].iter().map(move |(to, name)| (*from, to, name)));
        let edges = edges.filter(|(_, to, _)| circle.contains(&to.as_str()));
        edges.map(|(from, to, name)| format!("{from} imports {name} of {to}")).collect()
    };
    circles.into_iter().map(inside).collect()
}

/// Imports against the way of the data, and circles.
fn against(library: &Library) -> Vec<String> {
    let imports = library.imports();
    let mut faults = Vec::new();
    for (from, others) in &imports {
        let Some(own) = level(top(from)) else { continue };
        for (to, name) in others {
            if level(top(to)).is_none_or(|other| other > own) {
                faults.push(format!("src/{from} imports {name} of {to}, which lies below it"));
            }
        }
    }
    for circle in circles(&imports) {
        faults.push(format!("these files import each other:\n  {}", circle.join("\n  ")));
    }
    faults
}

/// Folders that are too full, and a file in the middle of the library that is too short or too long.
fn sizes(lines: &BTreeMap<&str, usize>) -> Vec<String> {
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for path in lines.keys() {
        *folders.entry(path.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
    }
    let full = folders.iter().filter(|(_, files)| **files > FILES);
    let mut faults: Vec<_> =
        full.map(|(folder, files)| format!("{folder}: {files} files, more than {FILES}")).collect();
    let library = |path: &str| {
        path.starts_with("src/") && !["src/bin/", "src/kernel/"].iter().any(|folder| path.starts_with(folder))
    };
    let mut sorted: Vec<usize> =
        lines.iter().filter(|(path, _)| library(path)).map(|(_, lines)| *lines).collect();
    sorted.sort_unstable();
    if let Some(median) = sorted.get(sorted.len() / 2).filter(|median| !MEDIAN.contains(median)) {
        faults.push(format!("the file in the middle has {median} lines"));
    }
    faults
}

fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
    for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            walk(&entry, root, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let path = entry.strip_prefix(root).unwrap().to_string_lossy().to_string();
            found.push((path, std::fs::read_to_string(&entry).unwrap()));
        }
    }
}

#[test]
fn the_repository_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in
        ["src", "tests", "benches"].map(|name| root.join(name)).iter().filter(|folder| folder.is_dir())
    {
        walk(folder, root, &mut files);
    }
    let mut found: Vec<String> = files.iter().flat_map(|(path, source)| faults(path, source)).collect();
    found
        .extend(sizes(&files.iter().map(|(path, source)| (path.as_str(), source.lines().count())).collect()));
    found.extend(against(&Library::read(&root.join("src"))));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn each_rule_for_a_file_can_fail() {
    let broken = |path: &str, source: &str| faults(path, source).join("\n");
    assert!(broken("src/lora/a/b/c.rs", "").contains("two levels"));
    assert!(broken("src/lora/a.rs", "use super::super::model;").contains("super::super"));
    assert!(broken("src/new.rs", "").contains("no place in the import order"));
    assert!(
        broken("src/text/mod.rs", "fn f() {\n eprintln!(\"x\") }")
            .starts_with("src/text/mod.rs:2: `eprintln!`")
    );
    assert!(broken("src/text/mod.rs", "fn f() { x.unwrap() }").contains("return an Error"));
    assert!(
        broken("src/bin/lorascope.rs", "fn f() { x\n.expect(\"y\") }").starts_with("src/bin/lorascope.rs:2")
    );
    // Tests in the middle of a file do not end its code.
    let after = "#[cfg(test)]\nmod tests { fn t() { x.unwrap() } }\nfn f() {\n x.unwrap() }";
    assert_eq!(broken("src/text/mod.rs", after), "src/text/mod.rs:4: `.unwrap(`: return an Error instead");
    assert!(broken("src/text/mod.rs", "fn f( {").contains("src/text/mod.rs:1"));
    assert!(broken("tests/a.rs", &"\n".repeat(LINES + 1)).contains("split the file"));
    assert!(broken("tests/a.rs", concat!("#[", "ignore]\nfn f() {}")).contains("a test runs"));
}

#[test]
fn the_rules_for_imports_can_fail() {
    let broken = |sources: &[(&str, &str)]| against(&Library::of(sources.iter().copied())).join("\n");
    let text = "src/text/mod.rs imports model::Model of model/mod.rs, which lies below it";
    let model = ("model/mod.rs", "pub struct Model;");
    assert_eq!(broken(&[("text/mod.rs", "use crate::model::Model;"), model]), text);
    assert_eq!(broken(&[("text/mod.rs", "use crate::{model::{Model as M}};"), model]), text);
    assert_eq!(broken(&[("text/mod.rs", "fn f() { crate::model::Model; }"), model]), text);
    assert_eq!(broken(&[("text/mod.rs", "fn f() { format!(\"{}\", crate::model::Model) }"), model]), text);
    assert_eq!(broken(&[("text/mod.rs", "fn f() { use crate::model::Model; }"), model]), text);
    assert!(
        broken(&[("text/mod.rs", "use crate::model; fn f() { model::Model; }"), model])
            .contains("lies below it")
    );
    assert_eq!(broken(&[("text/mod.rs", "pub(crate) use crate::model::Model;"), model]), text);
    // Through a re-export, and from inside a module of the file.
    let export = ("model/mod.rs", "mod load;\npub use load::Load;");
    let load = ("model/load.rs", "pub struct Load;");
    let inner = ("text/mod.rs", "mod inner { use crate::model::Load; }");
    assert!(broken(&[inner, export, load]).contains("imports model::Load of model/load.rs"));
    // Two files, three files, a file and the one that declares it.
    let circle = broken(&[
        ("lora/a.rs", "use super::b::B; pub struct A;"),
        ("lora/b.rs", "use crate::lora::a::A; pub struct B;"),
    ]);
    assert!(
        circle.starts_with("these files import each other:\n  lora/a.rs imports lora::b::B of lora/b.rs\n"),
        "{circle}"
    );
    let three =
        [("lora/a.rs", "use super::b;"), ("lora/b.rs", "use super::c;"), ("lora/c.rs", "use super::a;")];
    assert!(broken(&three).contains("lora/c.rs imports lora::a of lora/a.rs"));
    let parent =
        [("lora/mod.rs", "mod a; use a::A; pub struct B;"), ("lora/a.rs", "use super::B; pub struct A;")];
    assert!(broken(&parent).contains("lora/a.rs imports lora::B of lora/mod.rs"));
}

#[test]
fn sizes_can_be_wrong() {
    let names = |folder: &str| (0..=FILES).map(|n| format!("{folder}/{n}.rs")).collect::<Vec<_>>();
    for folder in ["src/lora", "src/bin/lorascope", "tests/format", "tests"] {
        let names = names(folder);
        let full = names.iter().map(|name| (name.as_str(), 200)).collect();
        assert_eq!(sizes(&full), [format!("{folder}: {} files, more than {FILES}", FILES + 1)]);
    }
    let short = [("src/lora/a.rs", 0), ("src/lora/b.rs", 40), ("src/lora/c.rs", 80), ("tests/a.rs", 90)];
    assert_eq!(sizes(&short.into()), ["the file in the middle has 40 lines"]);
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
        ("src/bin/lorascope.rs", "fn f() { println!(\"x\") }"),
        ("src/display/mod.rs", "fn f() { std::io::stdout().lock() }"),
        ("src/text/mod.rs", "const HELP: &str = \"call .unwrap() or println!()\";"),
        ("tests/a.rs", "x.unwrap(); println!(\"x\")"),
    ];
    for (path, source) in allowed {
        assert_eq!(faults(path, source), Vec::<String>::new(), "{path}: {source}");
    }
    let library = [
        // Declared and re-exported, and the children import from each other's way.
        ("lora/mod.rs", "mod a; mod b; pub use a::A; pub use b::*;"),
        (
            "lora/a.rs",
            "use super::B; use crate::error::Error; pub struct A;\n#[cfg(test)] mod tests { use crate::model::Model; }",
        ),
        ("lora/b.rs", "pub struct B; fn f(a: self::inner::C) {} mod inner { use super::B; pub struct C; }"),
        ("error.rs", "pub struct Error; // use crate::lora::A;"),
        ("model/mod.rs", "pub struct Model;"),
    ];
    assert_eq!(against(&Library::of(library.into_iter())), Vec::<String>::new());
}
