//! Brings what a cell prints, shows and tells to the notebook, in order, before the cell is over.

use crate::channel::{Channel, Told};
use crate::messages::Iopub;
use crossbeam_channel::{Receiver, Sender, after, never, select};
use evcxr::EvalContextOutputs;
use jupyter_protocol::{JupyterMessage, Stdio};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the last lines of a cell are waited for.
const LAST_LINES: Duration = Duration::from_secs(3);
/// How long errors are waited for where the process of the cells has no channel.
const QUIET: Duration = Duration::from_millis(30);

/// How a cell ended, as its process told.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// The error of a `?`, or that of a last expression.
    pub error: Option<String>,
    /// The message of a panic.
    pub panic: Option<String>,
    /// Variables whose old values were put back, and whether they are mutable.
    pub kept: Vec<(String, bool)>,
    /// Variables that have no old value any more.
    pub lost: Vec<String>,
}

enum Order {
    Begin { cell: u64, parent: Box<JupyterMessage> },
    End { cell: u64, ended: Sender<Ended> },
}

/// Runs that are open, and the code that opens each again.
pub type Runs = Arc<Mutex<BTreeMap<String, String>>>;

/// The thread that publishes.
#[derive(Debug, Clone)]
pub struct Outputs {
    orders: Sender<Order>,
    pub runs: Runs,
}

impl Outputs {
    pub fn start(
        iopub: Iopub,
        channel: Channel,
        told: Receiver<Told>,
        lines: EvalContextOutputs,
        token: &str,
    ) -> Self {
        let (sender, orders) = crossbeam_channel::unbounded();
        let runs = Runs::default();
        let mut publisher = Publisher {
            iopub,
            channel,
            runs: runs.clone(),
            token: format!("{token} "),
            parent: None,
            cell: 0,
            ended: Ended::default(),
            panicked: false,
            panic: None,
            synced: false,
            errors_synced: false,
        };
        std::thread::spawn(move || publisher.publish(&orders, &told, &lines));
        Self { orders: sender, runs }
    }

    /// What comes from now on belongs to this cell.
    pub fn begin(&self, cell: u64, parent: &JupyterMessage) {
        let _ = self.orders.send(Order::Begin { cell, parent: Box::new(parent.clone()) });
    }

    /// Waits until all that a cell said is published.
    pub fn end(&self, cell: u64) -> Ended {
        let (sender, ended) = crossbeam_channel::bounded(1);
        let _ = self.orders.send(Order::End { cell, ended: sender });
        ended.recv().unwrap_or_default()
    }
}

struct Publisher {
    iopub: Iopub,
    channel: Channel,
    runs: Runs,
    token: String,
    parent: Option<JupyterMessage>,
    cell: u64,
    ended: Ended,
    panicked: bool,
    /// The lines of a panic's message, while they come.
    panic: Option<Vec<String>>,
    synced: bool,
    errors_synced: bool,
}

impl Publisher {
    fn publish(&mut self, orders: &Receiver<Order>, told: &Receiver<Told>, lines: &EvalContextOutputs) {
        let (mut stdout, mut stderr) = (lines.stdout.clone(), lines.stderr.clone());
        loop {
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::Begin { cell, parent }) => self.begin(cell, *parent),
                    Ok(Order::End { cell, ended }) => {
                        self.finish(cell, told, lines);
                        let _ = ended.send(std::mem::take(&mut self.ended));
                    }
                    Err(_) => return,
                },
                recv(stdout) -> line => match line {
                    Ok(line) => self.printed(line, &lines.stdout),
                    Err(_) => stdout = never(),
                },
                recv(stderr) -> line => match line {
                    Ok(line) => self.error_line(&line),
                    Err(_) => stderr = never(),
                },
                recv(told) -> message => if let Ok(message) = message { self.told(message) },
            }
        }
    }

    fn begin(&mut self, cell: u64, parent: JupyterMessage) {
        (self.cell, self.parent) = (cell, Some(parent));
        self.ended = Ended::default();
        (self.panicked, self.panic) = (false, None);
        self.channel.begin(cell);
    }

    /// Publishes all that is still on its way.
    fn finish(&mut self, cell: u64, told: &Receiver<Told>, lines: &EvalContextOutputs) {
        (self.synced, self.errors_synced) = (false, false);
        let by_channel = self.channel.sync(cell);
        let deadline = Instant::now() + LAST_LINES;
        while !(self.synced && self.errors_synced) {
            let left = if by_channel { deadline.saturating_duration_since(Instant::now()) } else { QUIET };
            if left.is_zero() {
                break;
            }
            select! {
                recv(lines.stdout) -> line => match line {
                    Ok(line) => self.printed(line, &lines.stdout),
                    Err(_) => break,
                },
                recv(lines.stderr) -> line => match line {
                    Ok(line) => self.error_line(&line),
                    Err(_) => break,
                },
                recv(told) -> message => match message {
                    Ok(Told::Gone) | Err(_) => break,
                    Ok(message) => self.told(message),
                },
                recv(after(left)) -> _ => break,
            }
        }
        while let Ok(line) = lines.stdout.try_recv() {
            self.printed(line, &lines.stdout);
        }
        while let Ok(line) = lines.stderr.try_recv() {
            self.error_line(&line);
        }
        self.end_of_panic();
    }

    /// A line of the standard output, with those that are there already.
    fn printed(&mut self, line: String, more: &Receiver<String>) {
        /// Lines that go into one message.
        const TOGETHER: usize = 1000;
        let mut text = String::new();
        let mut line = Some(line);
        for _ in 0..TOGETHER {
            let Some(next) = line.take().or_else(|| more.try_recv().ok()) else { break };
            match next.split_once(&self.token) {
                // A line that had not ended is before it.
                Some((before, note)) => {
                    text += before;
                    self.noted(note);
                }
                None => {
                    text += &next;
                    text.push('\n');
                }
            }
        }
        self.iopub.stream(Stdio::Stdout, text, self.parent.as_ref());
    }

    /// What the code that was added to a cell says (code.rs).
    fn noted(&mut self, note: &str) {
        match note.split_once(' ').unwrap_or((note, "")) {
            ("error", text) => self.ended.error = Some(from_debug(text)),
            ("panic", _) => self.panicked = true,
            ("kept", variable) => {
                if let Some((how, name)) = variable.split_once(' ') {
                    self.ended.kept.push((name.to_string(), how == "mut"));
                }
            }
            ("lost", name) => self.ended.lost.push(name.to_string()),
            _ => {}
        }
    }

    fn error_line(&mut self, line: &str) {
        if let Some(cell) = line.strip_prefix("LORASCOPE_SYNC ") {
            self.errors_synced |= cell.trim() == self.cell.to_string();
            return;
        }
        if let Some(panic) = &mut self.panic {
            if line.starts_with("note: run with `RUST_BACKTRACE=") {
                return;
            }
            panic.push(line.to_string());
        } else if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.panic = Some(vec![line.to_string()]);
        } else if !line.is_empty() {
            self.iopub.stream(Stdio::Stderr, format!("{line}\n"), self.parent.as_ref());
        }
    }

    /// The message of a panic is the cell's error, or text where the cell caught it.
    fn end_of_panic(&mut self) {
        let lines = self.panic.take();
        if self.panicked {
            // The first line names a place in the generated code.
            let text = lines.map_or_else(String::new, |lines| lines[1..].join("\n"));
            self.ended.panic = Some(text.trim_end().to_string());
        } else if let Some(lines) = lines {
            self.iopub.stream(Stdio::Stderr, lines.join("\n") + "\n", self.parent.as_ref());
        }
    }

    fn told(&mut self, message: Told) {
        match message {
            Told::Display { id, data } => self.iopub.display(data, &id, self.parent.as_ref()),
            Told::Update { id, data } => self.iopub.update(data, &id, self.parent.as_ref()),
            Told::Stream(text) => self.iopub.stream(Stdio::Stdout, text, self.parent.as_ref()),
            Told::Failed(text) => self.ended.error = Some(text),
            Told::Run { name, open } => {
                let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
                match open {
                    Some(code) => drop(runs.insert(name, code)),
                    None => drop(runs.remove(&name)),
                }
            }
            Told::Synced(cell) => self.synced |= cell == self.cell,
            Told::Gone => {}
        }
    }
}

/// Reads what `{:?}` made of a text.
fn from_debug(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut out = String::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('0') => out.push('\0'),
            Some('u') => {
                let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(c) => out.push(c),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_debug() {
        for text in ["", "plain", "two\nlines", "\"quoted\" \\ back", "tab\t\u{1b}[1m 字 \u{7f}", "\0end"] {
            assert_eq!(from_debug(&format!("{text:?}")), text);
        }
    }
}
