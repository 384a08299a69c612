//! What is added to the code that evcxr makes of a cell: it tells the kernel how the cell ended, and it puts the old
//! values of variables back where the cell ended early.
//!
//! evcxr loads all variables from its store into locals, runs the cell in a closure, and stores the locals again.
//! A variable that the cell declares anew or moves is not stored again; when the cell ends at a `?` or panics, its
//! old value is lost. So the generated lines are changed: none is added or removed, because evcxr finds the user's
//! lines by their numbers.
//!
//! evcxr also writes the store of the variables into each cell, the code of a hash map, which takes rustc longer than
//! what people write. Where a cell has lorascope, the one in lorascope is named instead.

use std::collections::HashSet;
use std::fmt::Write as _;

/// How old values come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Those of variables that are declared anew are moved back, which does not compile if the cell moves them.
    Moves,
    /// All of them are copies that were made before the cell ran, where their type has any.
    Copies,
}

/// The code of a cell with what was added.
#[derive(Debug)]
pub struct Edited {
    pub text: String,
    /// The line, from 1, in which values are moved back.
    pub last_line: usize,
    /// Whether any are moved back.
    pub moves: bool,
}

const ERROR_TYPE: &str = "struct EvcxrUserCodeError {}";
const CATCH: &str = "match std::panic::catch_unwind(";
const PANICKED: &str = "println!(\"EVCXR_PANIC_NOTIFICATION\");";
/// How an error of a `?` is printed: `eprintln!("{}", error);`, or as `:efmt` says.
const ERROR: (&str, &str) = ("eprintln!(\"{", "}\", error);");
const END: &str = "evcxr_variable_store";
/// The module with the store of the variables, and the begin of its last function.
const STORE: &str = "mod evcxr_internal_runtime {";
const STORE_LAST: &str = "pub fn create_variable_store() -> *mut VariableStore {";
const TAKE: &str = " = evcxr_variable_store.take_variable::<";
const PUT: &str = "evcxr_variable_store.put_variable::<";

/// A variable that is loaded before the cell runs.
#[derive(Debug, PartialEq, Eq)]
struct Loaded<'a> {
    line: usize,
    name: &'a str,
    kind: &'a str,
    mutable: bool,
}

/// Adds to a cell's code what the kernel needs; `token` begins the lines that it prints for the kernel. With
/// `with_lorascope` the cell is linked with lorascope.
pub fn edited(code: &str, token: &str, variant: Variant, with_lorascope: bool) -> Edited {
    let mut lines: Vec<String> = code.lines().map(String::from).collect();
    let trimmed: Vec<&str> = code.lines().map(str::trim).collect();
    let catch = trimmed.iter().position(|line| *line == CATCH);
    let end = trimmed.iter().rposition(|line| *line == END);
    // Each cell is a library of its own, so this is false where it begins.
    let failed =
        "static EVCXR_FAILED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);";
    let fail = "EVCXR_FAILED.store(true, std::sync::atomic::Ordering::Relaxed);";
    let (mut declared, mut told) = (false, false);
    for (line, text) in lines.iter_mut().zip(&trimmed) {
        if *text == ERROR_TYPE && !declared {
            *line = format!("{failed} {ERROR_TYPE}");
            declared = true;
        } else if declared
            && !told
            && let Some(form) = text.strip_prefix(ERROR.0).and_then(|rest| rest.strip_suffix(ERROR.1))
        {
            *line = match with_lorascope {
                true => format!(
                    "::lorascope::display::tell_error(file!(), \"{token}\", format_args!(\"{{{form}}}\", error)); {fail}"
                ),
                false => {
                    format!("println!(\"{token} error {{:?}}\", format!(\"{{{form}}}\", error)); {fail}")
                }
            };
            // People write such lines as well.
            told = true;
        }
    }
    if with_lorascope {
        name_store(&mut lines, &trimmed);
    }
    let (Some(catch), Some(end)) = (catch, end) else {
        return Edited { text: lines.join("\n"), last_line: 0, moves: false };
    };
    if !declared {
        lines[catch] = format!("{failed} {}", lines[catch]);
    }
    if let Some(panicked) = trimmed.iter().rposition(|line| *line == PANICKED) {
        let _ = write!(lines[panicked], " {fail} println!(\"{token} panic\");");
    }
    let stored: HashSet<&str> = trimmed[catch..].iter().filter_map(|line| stored_name(line)).collect();
    let after: HashSet<&str> =
        match trimmed.iter().rposition(|line| line.ends_with("}}") && line.starts_with("}}")) {
            Some(closed) => trimmed[closed..].iter().filter_map(|line| stored_name(line)).collect(),
            None => HashSet::new(),
        };
    let mut back = String::new();
    let mut moves = false;
    for old in loaded(&trimmed[..catch]).filter(|old| !after.contains(old.name)) {
        let Loaded { name, kind, mutable, line } = old;
        let keep = format!("evcxr_kept_{name}");
        // Declared anew: the old local is still there after the cell.
        if variant == Variant::Moves && stored.contains(name) {
            moves = true;
            let _ = write!(back, "let {keep} = Some({name}); ");
        } else {
            let _ = write!(lines[line], " {}", copied(&keep, name, kind));
        }
        let _ = write!(
            back,
            "match {keep} {{ Some(value) => {{ println!(\"{token} kept {} {name}\"); \
             evcxr_variable_store.put_variable::<{kind}>(stringify!({name}), value); }} \
             None => println!(\"{token} lost {name}\"), }} ",
            if mutable { "mut" } else { "let" }
        );
    }
    // A line that ends without a line break is completed by the kernel's.
    lines[end] = format!(
        "if EVCXR_FAILED.load(std::sync::atomic::Ordering::Relaxed) {{ {back} }} println!(\"{token} end\"); {}",
        lines[end]
    );
    Edited { text: lines.join("\n"), last_line: end + 1, moves }
}

/// Names the store of lorascope in place of the one that evcxr wrote, if it is as we know it. Its constants stay.
fn name_store(lines: &mut [String], trimmed: &[&str]) {
    let Some(first) = trimmed.iter().position(|line| *line == STORE) else { return };
    let Some(last) = trimmed[first..].iter().position(|line| *line == STORE_LAST) else { return };
    // Its body, and two brackets.
    let end = first + last + 3;
    if trimmed.get(end - 1..=end) != Some(&["}", "}"]) {
        return;
    }
    for (line, text) in lines[first + 1..end].iter_mut().zip(&trimmed[first + 1..end]) {
        if !text.starts_with("pub const ") {
            line.clear();
        }
    }
    lines[first] += " pub use ::lorascope::display::{VariableStore, create_variable_store};";
}

/// Code that declares a variable again, whose value lies in evcxr's store.
pub fn declared(name: &str, kind: &str, mutable: bool) -> String {
    let mutable = if mutable { "mut " } else { "" };
    format!("let {mutable}{name}: {kind} = evcxr_variable_store.take_variable::<{kind}>(\"{name}\");\n")
}

/// Copies a value if its type can be copied: of two methods of a name, that of the type is taken before that of a
/// reference to it.
fn copied(keep: &str, name: &str, kind: &str) -> String {
    format!(
        "let {keep}: Option<{kind}> = {{ struct EvcxrProbe<'a, T>(&'a T); \
         trait EvcxrCopy<T> {{ fn evcxr_copy(&self) -> Option<T>; }} \
         impl<T: Clone> EvcxrCopy<T> for EvcxrProbe<'_, T> {{ fn evcxr_copy(&self) -> Option<T> {{ Some(self.0.clone()) }} }} \
         impl<T> EvcxrCopy<T> for &EvcxrProbe<'_, T> {{ fn evcxr_copy(&self) -> Option<T> {{ None }} }} \
         (&EvcxrProbe(&{name})).evcxr_copy() }};"
    )
}

fn loaded<'a>(lines: &[&'a str]) -> impl Iterator<Item = Loaded<'a>> {
    lines.iter().enumerate().filter_map(|(line, text)| {
        let (name, rest) = text.strip_prefix("let ")?.split_once(TAKE)?;
        let (mutable, name) = match name.strip_prefix("mut ") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let kind = rest.strip_suffix(&format!(">(stringify!({name}));"))?;
        Some(Loaded { line, name, kind, mutable })
    })
}

fn stored_name<'a>(line: &&'a str) -> Option<&'a str> {
    let (_, rest) = line.strip_prefix(PUT)?.rsplit_once(">(stringify!(")?;
    rest.split_once(')').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cell as evcxr 0.22 generates it.
    const CELL: &str = r#"struct EvcxrUserCodeError {}
                    eprintln!("{:?}", error);
#[unsafe(no_mangle)]
pub extern "C" fn run_user_code_3(
let mut a = evcxr_variable_store.take_variable::<Vec<u8>>(stringify!(a));
let b = evcxr_variable_store.take_variable::<String>(stringify!(b));
let c = evcxr_variable_store.take_variable::<f32>(stringify!(c));
match std::panic::catch_unwind(
  std::panic::AssertUnwindSafe(||{
let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {
let a = parse(b)?;
evcxr_variable_store.put_variable::<u8>(stringify!(a), a);
Ok(())})();
})) { 
  Ok(_) => {}
  Err(_) => {
    println!("EVCXR_PANIC_NOTIFICATION");
}}
evcxr_variable_store.put_variable::<f32>(stringify!(c), c);
evcxr_variable_store
}"#;

    #[test]
    fn no_line_is_added_and_the_users_stays() {
        for variant in [Variant::Moves, Variant::Copies] {
            let edited = edited(CELL, "T", variant, false);
            assert_eq!(edited.text.lines().count(), CELL.lines().count());
            assert_eq!(edited.text.lines().nth(10), Some("let a = parse(b)?;"));
        }
    }

    #[test]
    fn what_is_declared_anew_is_moved_back_and_what_is_moved_is_copied() {
        let moves = edited(CELL, "T", Variant::Moves, false);
        assert!(moves.moves && moves.last_line == 20);
        let line = |edited: &Edited, at: usize| edited.text.lines().nth(at).unwrap_or_default().to_string();
        assert!(!line(&moves, 4).contains("evcxr_kept_a") && line(&moves, 5).contains("evcxr_kept_b"));
        assert!(line(&moves, 19).contains("Some(a)") && line(&moves, 19).contains("T kept mut a"));
        assert!(!line(&moves, 6).contains("kept") && !line(&moves, 19).contains(" c"), "c is stored anyway");
        let copies = edited(CELL, "T", Variant::Copies, false);
        assert!(!copies.moves && line(&copies, 4).contains("evcxr_kept_a"));
        assert!(line(&copies, 0).starts_with("static EVCXR_FAILED"));
        assert!(line(&copies, 16).contains("T panic") && line(&copies, 1).contains("T error"));
    }

    #[test]
    fn code_without_a_cell_stays_as_it_is() {
        let code = "pub extern \"C\" fn run_user_code_0(\nmut x: *mut u8) -> *mut u8 {x}";
        assert_eq!(edited(code, "T", Variant::Moves, true).text, code);
    }

    #[test]
    fn the_store_is_that_of_lorascope() {
        const STORE: &str = r#"struct EvcxrUserCodeError {}
            eprintln!("{}", error);
mod evcxr_internal_runtime {
pub const USER_ERROR_OCCURRED: &str = "EVCXR_ERROR_OCCURRED";
pub struct VariableStore {
    variables: std::collections::HashMap<String, Box<dyn std::any::Any + 'static>>,
}

pub fn create_variable_store() -> *mut VariableStore {
    Box::into_raw(Box::new(VariableStore::new()))
}
}
let mine = "mod evcxr_internal_runtime {";
eprintln!("{}", error);"#;
        let code = format!("{STORE}\n{CELL}");
        let with = edited(&code, "T", Variant::Moves, true).text;
        assert!(
            !with.contains("HashMap") && with.contains("{ pub use ::lorascope::display::{VariableStore,")
        );
        assert!(with.contains("pub const USER_ERROR_OCCURRED") && with.contains("let mine = \"mod evcxr_"));
        assert!(with.contains("tell_error(file!(), \"T\", format_args!(\"{}\", error));"));
        assert!(with.contains("\neprintln!(\"{}\", error);"), "a line of the person");
        assert_eq!(with.lines().count(), code.lines().count());
        assert!(edited(&code, "T", Variant::Moves, false).text.contains("HashMap"));
    }
}
