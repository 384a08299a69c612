//! What to say when the process of the cells has ended.

use crate::messages::Problem;
use std::collections::BTreeMap;

/// The signal behind a line of evcxr's handler, as a status of a process has it. The handler then aborts, so that the
/// status is that of the abort.
pub fn signal_of(line: &str) -> Option<&'static str> {
    match line {
        "Segmentation fault." => Some("signal: 11 "),
        "Illegal instruction." => Some("signal: 4 "),
        "Bus error." => Some("signal: 7 "),
        _ => None,
    }
}

/// What was lost and how to get the runs back. `said` is evcxr's word on it, `crash` what its handler caught before,
/// `stopped` whether the person ended it.
pub fn process_ended(
    said: &str,
    crash: Option<&str>,
    count: usize,
    variables: &[String],
    runs: &BTreeMap<String, String>,
    stopped: bool,
) -> Problem {
    let how = said.rsplit("Subprocess terminated with status: ").next().unwrap_or(said).trim();
    let mut text = match stopped {
        true => format!("the process of the cells was ended by the stop button in cell {count}"),
        false => {
            format!("the process of the cells ended in cell {count}: {}", cause(crash.unwrap_or(how)))
        }
    };
    text += "\n";
    text += &match variables {
        [] => "no variables were lost\n".to_string(),
        names => format!("lost are the variables {}\n", names.join(", ")),
    };
    text += &go_on(runs);
    text += "the next cell begins in a new process; run the cells that the rest needs again";
    let mut problem = Problem::new("process ended", text);
    if let Some(first) = problem.shown.first_mut() {
        *first = format!("\u{1b}[1;31merror\u{1b}[0m\u{1b}[1m: {first}\u{1b}[0m");
    }
    problem
}

/// The lines of code with which runs go on.
pub fn go_on(runs: &BTreeMap<String, String>) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let lines = runs.values().map(|open| format!("    {open}\n"));
    "what runs trained is on disk; each goes on from its last snapshot:\n".to_string()
        + &lines.collect::<String>()
}

/// What a signal usually means.
fn cause(status: &str) -> String {
    let meaning = [
        ("signal: 9 ", "SIGKILL: mostly because the machine was out of memory"),
        ("signal: 6 ", "SIGABRT: a program error that cannot be caught"),
        ("signal: 11 ", "SIGSEGV: a memory error in native code, or calls that nest too deeply"),
        ("signal: 4 ", "SIGILL: an instruction that this processor has not"),
        ("signal: 7 ", "SIGBUS: a file that is mapped into memory became shorter"),
        ("signal: 15 ", "SIGTERM: another program asked for it"),
    ];
    match meaning.iter().find(|(signal, _)| status.starts_with(signal)) {
        Some((signal, meaning)) => format!("{}, {meaning}", signal.trim()),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_lost_and_how_to_go_on() {
        let runs =
            BTreeMap::from([("a".to_string(), "let a = Run::open(\"runs/a\")?; a.resume()?;".to_string())]);
        let said = "Subprocess terminated with status: signal: 9 (SIGKILL)";
        let problem = process_ended(said, None, 7, &["model".into(), "a".into()], &runs, false);
        for part in
            ["cell 7", "signal: 9, SIGKILL", "variables model, a", "    let a = Run::open(\"runs/a\")?"]
        {
            assert!(problem.value.contains(part), "{part}: {}", problem.value);
        }
        let stopped = process_ended(said, None, 7, &[], &BTreeMap::new(), true);
        let caught = signal_of("Segmentation fault.");
        let segfault = process_ended("signal: 6 (SIGABRT)", caught, 1, &[], &BTreeMap::new(), false);
        assert!(segfault.value.contains("SIGSEGV") && !segfault.value.contains("SIGABRT"));
        assert!(stopped.value.contains("by the stop button") && !stopped.value.contains("SIGKILL"));
        assert!(
            process_ended("exit status: 3", None, 1, &[], &BTreeMap::new(), false)
                .value
                .contains("exit status: 3")
        );
    }
}
