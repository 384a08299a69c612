//! The thread that evaluates cells: one after the other, with evcxr.

use crate::base::{self, BuildProgress, Clone as Folder};
use crate::channel::{Channel, Told};
use crate::code;
use crate::commands;
use crate::ending::Ended;
use crate::lost;
use crate::messages::{Iopub, Problem, escaped};
use crate::outputs::Outputs;
use crate::paths::{CELL_NUMBER, Places, Tools};
use crate::problems;
use crossbeam_channel::Receiver;
use evcxr::{CommandContext, EvalCallbacks, EvalOutputs};
use jupyter_protocol::{JupyterMessage, Stdio};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Asks the person for a line: prompt and whether it is a secret.
pub type Ask = dyn Fn(&JupyterMessage, &str, bool) -> String + Send + Sync;

/// How far the kernel is with what must be done before its first cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// lorascope is being built.
    Building(Option<BuildProgress>),
    /// evcxr starts.
    Starting,
    Ready,
    Failed(String),
}

/// What the other threads see of the evaluation.
#[derive(Debug)]
pub struct Shared {
    pub stage: Mutex<(Stage, Instant)>,
    pub running: Mutex<Option<Running>>,
    pub process: Mutex<Option<Arc<Mutex<Child>>>>,
}

/// A cell that is being evaluated.
#[derive(Debug, Clone)]
pub struct Running {
    pub cell: u64,
    pub parent: JupyterMessage,
    /// When the person pressed stop first.
    pub stopped: Option<Instant>,
    /// Whether the stop button ended the process.
    pub ended: bool,
}

impl Default for Shared {
    fn default() -> Self {
        let stage = Mutex::new((Stage::Starting, Instant::now()));
        Self { stage, running: Mutex::default(), process: Mutex::default() }
    }
}

impl Shared {
    pub fn stage(&self) -> (Stage, Duration) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        (stage.0.clone(), stage.1.elapsed())
    }

    pub fn enter(&self, next: Stage) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = std::mem::discriminant(&stage.0) != std::mem::discriminant(&next);
        stage.0 = next;
        if begins {
            stage.1 = Instant::now();
        }
    }

    /// The number of the process of the cells.
    pub fn process_number(&self) -> Option<u32> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_ref().map(|process| process.lock().unwrap_or_else(PoisonError::into_inner).id())
    }

    pub fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a cell ended.
pub enum Outcome {
    /// What is shown of its last expression.
    Done(Map<String, Value>),
    Failed(Problem),
}

/// The evaluation of cells in one process.
pub struct Evaluator {
    context: CommandContext,
    outputs: Outputs,
    channel: Channel,
    iopub: Iopub,
    shared: Arc<Shared>,
    places: Places,
    /// Whether lorascope is in the process of the cells.
    loaded: bool,
    /// Where the stand-in for cargo reads the number of the cell that it compiles.
    number: PathBuf,
    cells: u64,
}

/// The imports of all cells; what they print is told apart by their numbers. evcxr learns from the first `?` that cells may have one; where that stood in a cell's
/// last expression, the value would be shown as Debug text.
const PRELUDE: &str = "use lorascope::prelude::*;\nuse lorascope::{cell_print as print, cell_println as println};\n\
     use lorascope::{cell_eprint as eprint, cell_eprintln as eprintln};\nlorascope::display::attach_kernel();\nOk::<(), std::fmt::Error>(())?;";

impl Evaluator {
    /// Prepares the first cell: builds lorascope if that was not done, and starts evcxr.
    pub fn start(
        places: &Places,
        tools: &Tools,
        folder: &Folder,
        shared: &Arc<Shared>,
        iopub: &Iopub,
        (channel, told): (Channel, Receiver<Told>),
        token: &str,
    ) -> Result<Self, String> {
        if !base::is_ready(places, tools) {
            shared.enter(Stage::Building(None));
            base::build(places, tools, &mut |progress| shared.enter(Stage::Building(Some(progress))))
                .map_err(|error| format!("lorascope could not be built:\n{error}"))?;
        }
        shared.enter(Stage::Starting);
        base::link_base(places, tools, folder)?;
        let (context, lines) = CommandContext::new().map_err(|error| error.to_string())?;
        *shared.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.process_handle());
        let outputs = Outputs::start(iopub.clone(), channel.clone(), told, lines, token);
        let number = folder.folder.join(CELL_NUMBER);
        let (shared, places, iopub) = (shared.clone(), places.clone(), iopub.clone());
        let mut evaluator =
            Self { context, outputs, channel, iopub, shared, places, loaded: false, number, cells: 0 };
        evaluator.load()?;
        Ok(evaluator)
    }

    /// Loads lorascope into the process of the cells; a cell tries it again where it fails.
    fn load(&mut self) -> Result<(), String> {
        const LONGEST: Duration = Duration::from_secs(2);
        self.loaded = false;
        let path = self.places.source.display().to_string();
        let prelude = format!(":dep lorascope = {{ path = {path:?} }}\n{PRELUDE}");
        let processes = self.channel.processes();
        match self.context.execute(&prelude) {
            Ok(_) => {
                self.loaded = true;
                // It has said hello, but another thread reads that.
                let begun = Instant::now();
                while self.channel.processes() == processes && begun.elapsed() < LONGEST {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }
            Err(evcxr::Error::CompilationErrors(errors)) => {
                Err(errors.iter().map(|error| error.rendered()).collect::<Vec<_>>().join("\n"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Lets rust-analyzer read what it needs for the types of variables while the person reads: the first cell with a
    /// variable would wait for that, three seconds.
    pub fn warm_up(&mut self) {
        let code = "let rows = Dataset::open(\"rows.jsonl\")?;\nrows.";
        // rust-analyzer may panic; the cell that needs it says more.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.context.completions(code, code.len())));
    }

    /// Ends the process of the cells and begins a new one, in which nothing of the cells is left. Runs are paused before.
    /// Returns what to tell the person.
    fn clear(&mut self) -> Result<String, String> {
        // A snapshot of a large run takes a while.
        const LONGEST: Duration = Duration::from_secs(60);
        let begun = Instant::now();
        while self.channel.prepare_end() && !self.channel.is_ready_to_end() && begun.elapsed() < LONGEST {
            std::thread::sleep(Duration::from_millis(20));
        }
        let runs = std::mem::take(&mut *self.outputs.runs.lock().unwrap_or_else(PoisonError::into_inner));
        self.context.execute(":clear").map_err(|error| error.to_string())?;
        self.load()?;
        let text = "cleared: the variables, functions, types, imports and `:dep` crates of all cells are gone; \
                    lorascope and its prelude are there\n";
        Ok(text.to_string() + &lost::go_on(&runs))
    }

    /// Does what a cell's `:clear` and `:restart` ask for, and what an earlier cell could not; returns the rest of it.
    fn cleared(&mut self, source: &str, request: &JupyterMessage) -> Result<String, String> {
        let (code, clears) = commands::without_clear(source);
        if clears {
            let said = self.clear()?;
            self.iopub.stream(Stdio::Stdout, said, Some(request));
        } else if !self.loaded {
            self.load()?;
        }
        Ok(code)
    }

    /// Evaluates a cell; its outputs are published by then.
    pub fn execute(&mut self, source: &str, count: usize, request: &JupyterMessage, ask: &Ask) -> Outcome {
        let code = match self.prepared(source) {
            Ok(code) => code,
            Err(problem) => return Outcome::Failed(problem),
        };
        if code.trim() == ":vars" {
            return Outcome::Done(self.variables_table());
        }
        let cell = self.next_number();
        *self.shared.running() = Some(Running { cell, parent: request.clone(), stopped: None, ended: false });
        let code = match self.cleared(&code, request) {
            Ok(code) => code,
            Err(error) => {
                self.shared.running().take();
                return Outcome::Failed(problems::cell_error(&error));
            }
        };
        let before = self.variables();
        self.outputs.begin(cell, request);
        let mut callbacks =
            EvalCallbacks { input_reader: &|asked| ask(request, &asked.prompt, asked.is_password) };
        let result = self.context.execute_with_callbacks(&code, &mut callbacks);
        let ended = self.outputs.end(cell);
        let running = self.shared.running().take();
        let stopped = running.as_ref().is_some_and(|running| running.stopped.is_some());
        let outcome = match &result {
            // cargo or rustc was ended.
            Err(evcxr::Error::Message(_)) if stopped => Outcome::Failed(problems::cell_error(
                "stopped while the cell was being compiled; nothing of it was run",
            )),
            _ => {
                let by_button = running.is_some_and(|running| running.ended);
                self.outcome(result, &ended, source, count, &before, by_button)
            }
        };
        let outcome = match outcome {
            // What ended early may have done so without an error; the cells behind it are not to run.
            Outcome::Done(_) if stopped => {
                Outcome::Failed(problems::cell_error("stopped; what the cell did until then stays"))
            }
            outcome => outcome,
        };
        if !ended.kept.is_empty() {
            self.restore(&ended, &before);
        }
        outcome
    }

    fn outcome(
        &mut self,
        result: Result<EvalOutputs, evcxr::Error>,
        ended: &Ended,
        source: &str,
        count: usize,
        before: &BTreeMap<String, String>,
        stopped: bool,
    ) -> Outcome {
        let mut problem = match result {
            Ok(outputs) => match (&ended.panic, &ended.error) {
                (Some(message), _) => problems::panicked(message),
                (None, Some(error)) => problems::cell_error(error),
                (None, None) => return Outcome::Done(bundle(outputs)),
            },
            Err(evcxr::Error::CompilationErrors(errors)) => problems::compile_errors(&errors, source, count),
            Err(evcxr::Error::SubprocessTerminated(said)) => {
                let names: Vec<String> = before.keys().cloned().collect();
                let runs =
                    std::mem::take(&mut *self.outputs.runs.lock().unwrap_or_else(PoisonError::into_inner));
                let problem =
                    lost::process_ended(&said, ended.crash.as_deref(), count, &names, &runs, stopped);
                if let Err(error) = self.load() {
                    return Outcome::Failed(Problem::new(
                        "process ended",
                        format!("{}\n{error}", problem.value),
                    ));
                }
                problem
            }
            Err(error) => problems::cell_error(without_wrapping(&error.to_string())),
        };
        let lost: Vec<&String> = ended.lost.iter().filter(|name| before.contains_key(*name)).collect();
        if !lost.is_empty() {
            let names = lost.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            problem.shown.push(format!("the cell had moved {names}, which cannot be copied: make it again"));
        }
        Outcome::Failed(problem)
    }

    /// Declares the variables again whose old values a failed cell put back into evcxr's store.
    fn restore(&mut self, ended: &Ended, before: &BTreeMap<String, String>) {
        let now = self.variables();
        let lost = ended.kept.iter().filter(|(name, _)| !now.contains_key(name));
        let declared =
            lost.filter_map(|(name, mutable)| Some(code::declared(name, before.get(name)?, *mutable)));
        let code: String = declared.collect();
        if !code.is_empty() {
            self.next_number();
            // The error of the cell says what went wrong; where this fails too, the variables are gone as in evcxr.
            let _ = self.context.execute(&code);
        }
    }

    /// The number of the next cell that is compiled.
    fn next_number(&mut self) -> u64 {
        self.cells += 1;
        // Without the file, what threads of the cell print later appears in the cell that runs then.
        if std::fs::write(&self.number, self.cells.to_string()).is_err() {
            let _ = std::fs::remove_file(&self.number);
        }
        self.cells
    }

    /// A cell without what the kernel does itself: the line that brings lorascope, which is there.
    fn prepared(&self, source: &str) -> Result<String, Problem> {
        let (code, asked) = commands::without_lorascope(source);
        if let Some(missing) = asked.iter().find(|feature| !self.places.features.contains(feature)) {
            return Err(Problem::new(
                "missing feature",
                format!(
                    "this kernel has lorascope without the feature {missing}: install one that has it with \
                     `lorascope-kernel install --features {}`",
                    asked.join(",")
                ),
            ));
        }
        Ok(code)
    }

    fn variables(&self) -> BTreeMap<String, String> {
        self.context.variables_and_types().map(|(name, kind)| (name.to_string(), kind.to_string())).collect()
    }

    fn variables_table(&self) -> Map<String, Value> {
        let variables = self.variables();
        let width = variables.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        let text: Vec<String> =
            variables.iter().map(|(name, kind)| format!("{name:width$}  {kind}")).collect();
        let rows: String = variables
            .iter()
            .map(|(name, kind)| {
                format!("<tr><td>{}</td><td><code>{}</code></td></tr>", escaped(name), escaped(kind))
            })
            .collect();
        let html = format!(
            "<table><thead><tr><th>variable</th><th>type</th></tr></thead><tbody>{rows}</tbody></table>"
        );
        let text = if text.is_empty() { "no variables".to_string() } else { text.join("\n") };
        [("text/html".to_string(), json!(html)), ("text/plain".to_string(), json!(text))]
            .into_iter()
            .collect()
    }

    /// The words that may stand at a place, and the bytes that they replace.
    pub fn completions(&mut self, source: &str, position: usize) -> Option<(Vec<String>, usize, usize)> {
        let source = commands::for_analysis(source);
        let found = self.context.completions(&source, position).ok()?;
        // Of `open(path)` the name: people type the arguments.
        let name = |code: String| code.split('(').next().map(String::from).unwrap_or(code);
        let mut matches: Vec<String> =
            found.completions.into_iter().map(|completion| name(completion.code)).collect();
        matches.dedup();
        Some((matches, found.start_offset, found.end_offset))
    }

    /// The documentation of what stands at a place.
    pub fn documentation(&mut self, source: &str, position: usize) -> Option<Map<String, Value>> {
        // evcxr looks at the word that ends there.
        let rest = &source[position..];
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let source = commands::for_analysis(source);
        let (text, html) = self.context.hover_at(&source, position + word).ok()?;
        let found = text != "No documentation found";
        let data = [("text/plain".to_string(), json!(text)), ("text/html".to_string(), json!(html))];
        found.then(|| data.into_iter().collect())
    }
}

fn bundle(outputs: EvalOutputs) -> Map<String, Value> {
    let sorted: HashMap<String, String> = outputs.content_by_mime_type;
    let value = |mime: &str, text: String| match mime.ends_with("json") {
        true => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        false => Value::String(text),
    };
    sorted.into_iter().map(|(mime, text)| (mime.clone(), value(&mime, text))).collect()
}

/// What cargo said, without evcxr's words around it.
fn without_wrapping(message: &str) -> &str {
    let inner = message.strip_prefix("Compilation failed, but no parsable errors were found. STDERR:\n");
    let inner = inner.and_then(|rest| rest.rsplit_once("\nSTDOUT:")).map_or(message, |(stderr, _)| stderr);
    inner.trim().trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cargo_said_is_shown() {
        let said = "Compilation failed, but no parsable errors were found. STDERR:\nerror: no such crate\n\nSTDOUT:\n";
        assert_eq!(without_wrapping(said), "no such crate");
        assert_eq!(without_wrapping("plain"), "plain");
    }
}
