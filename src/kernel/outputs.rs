//! Brings what a cell prints, shows and tells to the notebook, in order, before the cell is over.

use crate::channel::{Channel, Told};
use crate::ending::{Ended, Ending};
use crate::messages::Iopub;
use crossbeam_channel::{Receiver, Sender, after, at, never, select};
use evcxr::EvalContextOutputs;
use jupyter_protocol::{JupyterMessage, JupyterMessageContent, Status, Stdio};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the last lines of a cell are waited for.
const LAST_LINES: Duration = Duration::from_secs(3);
/// How long errors are waited for where the process of the cells has no channel.
const QUIET: Duration = Duration::from_millis(30);
/// How long an output is waited for that stands before a line.
const OUTPUT: Duration = Duration::from_secs(2);
/// Cells whose threads are given a place to print in: the last ones.
const CELLS: usize = 2000;

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
        let mut publisher = Publisher::new(iopub, channel, told, runs.clone(), token);
        std::thread::spawn(move || publisher.publish(&orders, &lines));
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
    told: Receiver<Told>,
    runs: Runs,
    token: String,
    /// The requests of the last cells.
    parents: BTreeMap<u64, JupyterMessage>,
    parent: Option<JupyterMessage>,
    cell: u64,
    /// Whether that cell runs: where none does, no mark comes.
    running: bool,
    /// Outputs of the channel that wait for their mark in the standard output, and those behind them.
    waiting: VecDeque<Told>,
    /// When they are published without it: a cell may print elsewhere, or ask for input.
    overdue: Option<Instant>,
    /// Text of the channel that is published in one message: whether it goes to the standard error, its cell.
    pieces: Option<(bool, Option<u64>, String)>,
    /// The last mark.
    marked: u64,
    /// The last output of the channel that was published.
    published: u64,
    /// Whether the process has ended.
    gone: bool,
    ending: Ending,
    synced: bool,
    errors_synced: bool,
}

impl Publisher {
    fn new(iopub: Iopub, channel: Channel, told: Receiver<Told>, runs: Runs, token: &str) -> Self {
        Self {
            iopub,
            channel,
            told,
            runs,
            token: format!("{token} "),
            parents: BTreeMap::new(),
            parent: None,
            cell: 0,
            running: false,
            waiting: VecDeque::new(),
            overdue: None,
            pieces: None,
            marked: 0,
            published: 0,
            gone: false,
            ending: Ending::default(),
            synced: false,
            errors_synced: false,
        }
    }

    fn publish(&mut self, orders: &Receiver<Order>, lines: &EvalContextOutputs) {
        let (mut stdout, mut stderr) = (lines.stdout.clone(), lines.stderr.clone());
        let told = self.told.clone();
        loop {
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::Begin { cell, parent }) => self.begin(cell, *parent),
                    Ok(Order::End { cell, ended }) => {
                        self.finish(cell, lines);
                        let _ = ended.send(std::mem::take(&mut self.ending).ended);
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
                recv(self.overdue.map_or_else(never, at)) -> _ => {
                    let order = self.waiting.iter().filter_map(order).max();
                    self.marked = self.marked.max(order.unwrap_or(0));
                    self.release();
                }
            }
        }
    }

    fn begin(&mut self, cell: u64, parent: JupyterMessage) {
        // What came since the last cell is that one's, but how the process ended is told in this one.
        let rest = self.ending.finish(self.gone);
        self.iopub.stream(Stdio::Stderr, rest, self.parent.as_ref());
        let crash = std::mem::take(&mut self.ending).ended.crash;
        self.ending.ended.crash = crash;
        // Of a request the header is needed.
        let mut header = parent.clone();
        (header.content, header.buffers) = (JupyterMessageContent::from(Status::idle()), Vec::new());
        self.parents.insert(cell, header);
        while self.parents.len() > CELLS {
            self.parents.pop_first();
        }
        (self.cell, self.parent) = (cell, Some(parent));
        if self.gone {
            // A new process counts anew.
            (self.marked, self.published) = (0, 0);
        }
        (self.gone, self.running) = (false, true);
        self.channel.begin(cell);
    }

    /// Publishes all that is still on its way.
    fn finish(&mut self, cell: u64, lines: &EvalContextOutputs) {
        (self.synced, self.errors_synced) = (false, false);
        let by_channel = self.channel.sync(cell);
        let deadline = Instant::now() + LAST_LINES;
        let told = self.told.clone();
        while !(self.synced && self.errors_synced || self.gone) {
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
                    Ok(message) => self.told(message),
                    Err(_) => break,
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
        self.running = false;
        self.release();
        let rest = self.ending.finish(self.gone);
        self.iopub.stream(Stdio::Stderr, rest, self.parent.as_ref());
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
                    if let Some(order) = note.strip_prefix("order ") {
                        let text = std::mem::take(&mut text);
                        self.iopub.stream(Stdio::Stdout, text, self.parent.as_ref());
                        self.marked(order.parse().unwrap_or(0));
                    } else {
                        self.ending.note(note);
                    }
                }
                None => {
                    text += &next;
                    text.push('\n');
                }
            }
        }
        self.iopub.stream(Stdio::Stdout, text, self.parent.as_ref());
    }

    fn error_line(&mut self, line: &str) {
        if let Some(cell) = line.strip_prefix("LORASCOPE_SYNC ") {
            self.errors_synced |= cell.trim() == self.cell.to_string();
        } else if let Some(text) = self.ending.error_line(line) {
            self.iopub.stream(Stdio::Stderr, text, self.parent.as_ref());
        }
    }

    /// Publishes the outputs up to a mark; what is printed next stands behind them.
    fn marked(&mut self, order: u64) {
        self.marked = self.marked.max(order);
        self.release();
        let deadline = Instant::now() + OUTPUT;
        while self.published < order && !self.gone {
            match self.told.recv_deadline(deadline) {
                Ok(message) => self.told(message),
                // It was no output that can be read.
                Err(_) => self.published = order,
            }
        }
    }

    /// Publishes what waits no more.
    fn release(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            if self.waits(&message) {
                self.waiting.push_front(message);
                return self.flush();
            }
            self.show(message);
        }
        self.overdue = None;
        self.flush();
    }

    /// Whether an output stands behind lines that have not come yet.
    fn waits(&self, output: &Told) -> bool {
        match output {
            Told::Display { place, .. } | Told::Stream { place, .. } => {
                self.running && place.waits && place.order > self.marked
            }
            _ => false,
        }
    }

    /// Takes what the channel tells, with what is there already: pieces of text go into one message.
    fn told(&mut self, message: Told) {
        const TOGETHER: usize = 1000;
        self.take(message);
        for _ in 0..TOGETHER {
            let Ok(message) = self.told.try_recv() else { break };
            self.take(message);
        }
        self.flush();
    }

    fn take(&mut self, message: Told) {
        match message {
            Told::Failed(text) => self.ending.ended.error = Some(text),
            Told::Run { name, open } => {
                let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
                match open {
                    Some(code) => drop(runs.insert(name, code)),
                    None => drop(runs.remove(&name)),
                }
            }
            Told::Synced(cell) => self.synced |= cell == self.cell,
            Told::Gone => {
                self.running = false;
                self.release();
                self.gone = true;
            }
            output if self.waiting.is_empty() && !self.waits(&output) => self.show(output),
            output => {
                self.overdue.get_or_insert_with(|| Instant::now() + OUTPUT);
                self.waiting.push_back(output);
            }
        }
    }

    fn show(&mut self, output: Told) {
        match output {
            Told::Display { id, data, place } => {
                self.flush();
                self.iopub.display(data, &id, self.parent_of(place.cell));
                self.published = self.published.max(place.order);
            }
            Told::Stream { errors, text, place } => {
                if self.pieces.as_ref().is_some_and(|(to, cell, _)| (*to, *cell) != (errors, place.cell)) {
                    self.flush();
                }
                self.pieces.get_or_insert_with(|| (errors, place.cell, String::new())).2 += &text;
                self.published = self.published.max(place.order);
            }
            Told::Update { id, data } => {
                self.flush();
                self.iopub.update(data, &id, self.parent.as_ref());
            }
            _ => {}
        }
    }

    /// Publishes the pieces of text that were gathered.
    fn flush(&mut self) {
        if let Some((errors, cell, text)) = self.pieces.take() {
            let name = if errors { Stdio::Stderr } else { Stdio::Stdout };
            self.iopub.stream(name, text, self.parent_of(cell));
        }
    }

    fn parent_of(&self, cell: Option<u64>) -> Option<&JupyterMessage> {
        cell.and_then(|cell| self.parents.get(&cell)).or(self.parent.as_ref())
    }
}

/// The number of an output.
fn order(output: &Told) -> Option<u64> {
    match output {
        Told::Display { place, .. } | Told::Stream { place, .. } => Some(place.order),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Place;
    use jupyter_protocol::ExecuteRequest;
    use serde_json::json;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    struct Notebook {
        publisher: Publisher,
        lines: (Sender<String>, Receiver<String>),
        told: Sender<Told>,
        seen: UnboundedReceiver<JupyterMessage>,
        cells: Vec<JupyterMessage>,
    }

    impl Notebook {
        /// A notebook whose last cell runs.
        fn new(cells: u64) -> Self {
            let (iopub, seen) = unbounded_channel();
            let (sender, told) = crossbeam_channel::unbounded();
            let publisher = Publisher::new(Iopub(iopub), Channel::default(), told, Runs::default(), "TOKEN");
            let lines = crossbeam_channel::unbounded();
            let mut notebook = Self { publisher, lines, told: sender, seen, cells: Vec::new() };
            for cell in 1..=cells {
                let request = JupyterMessage::new(request(), None);
                notebook.publisher.begin(cell, request.clone());
                notebook.cells.push(request);
            }
            notebook
        }

        fn print(&mut self, lines: &[&str]) {
            for line in lines {
                self.lines.0.send((*line).to_string()).unwrap();
            }
            let line = self.lines.1.recv().unwrap();
            self.publisher.printed(line, &self.lines.1);
        }

        /// What was published since: cell and text.
        fn seen(&mut self) -> Vec<(usize, String)> {
            let mut out = Vec::new();
            while let Ok(message) = self.seen.try_recv() {
                let parent = message.parent_header.as_ref().unwrap().msg_id.clone();
                let cell = self.cells.iter().position(|cell| cell.header.msg_id == parent).unwrap() + 1;
                out.push((cell, text(&message)));
            }
            out
        }
    }

    fn request() -> ExecuteRequest {
        serde_json::from_value(json!({"code": "", "silent": false, "store_history": true, "user_expressions": {}, "allow_stdin": false, "stop_on_error": true})).unwrap()
    }

    fn text(message: &JupyterMessage) -> String {
        match &message.content {
            JupyterMessageContent::StreamContent(stream) => stream.text.clone(),
            JupyterMessageContent::DisplayData(display) => {
                json!(display.data)["text/plain"].as_str().unwrap().to_string()
            }
            JupyterMessageContent::UpdateDisplayData(update) => {
                format!("update {}", json!(update.data)["text/plain"].as_str().unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn display(order: u64, waits: bool, cell: Option<u64>) -> Told {
        let data = json!({"text/plain": format!("display {order}")});
        Told::Display { id: order.to_string(), data, place: Place { order, waits, cell } }
    }

    fn update() -> Told {
        Told::Update { id: "1".into(), data: json!({"text/plain": "1"}) }
    }

    #[test]
    fn a_display_that_comes_before_the_line_in_front_of_it_waits() {
        let mut notebook = Notebook::new(1);
        notebook.publisher.told(display(1, true, None));
        notebook.publisher.told(update());
        assert!(notebook.seen().is_empty());
        notebook.print(&["first", "begunTOKEN order 1", "last"]);
        let seen: Vec<String> = notebook.seen().into_iter().map(|(_, text)| text).collect();
        assert_eq!(seen, ["first\nbegun", "display 1", "update 1", "last\n"]);
    }

    #[test]
    fn a_line_waits_for_the_display_in_front_of_it() {
        let mut notebook = Notebook::new(1);
        let told = notebook.told.clone();
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            told.send(display(1, true, None)).unwrap();
            told.send(display(2, false, None)).unwrap();
        });
        notebook.print(&["first", "TOKEN order 2", "last"]);
        later.join().unwrap();
        let seen: Vec<String> = notebook.seen().into_iter().map(|(_, text)| text).collect();
        assert_eq!(seen, ["first\n", "display 1", "display 2", "last\n"]);
    }

    #[test]
    fn outputs_of_a_thread_appear_in_its_cell_at_once() {
        let mut notebook = Notebook::new(3);
        notebook.publisher.told(display(1, false, Some(1)));
        let place = Place { order: 2, waits: false, cell: Some(2) };
        notebook.publisher.told(Told::Stream { errors: false, text: "of the second".into(), place });
        notebook.publisher.told(display(3, false, Some(99)));
        let expected = [(1, "display 1"), (2, "of the second"), (3, "display 3")];
        assert_eq!(notebook.seen(), expected.map(|(cell, text)| (cell, text.to_string())));
    }

    #[test]
    fn a_process_that_ends_leaves_no_output_behind_and_the_next_counts_anew() {
        let mut notebook = Notebook::new(1);
        notebook.publisher.told(display(7, true, None));
        notebook.publisher.told(Told::Gone);
        assert_eq!(notebook.seen(), [(1, "display 7".to_string())]);
        let began = Instant::now();
        notebook.print(&["TOKEN order 9"]);
        assert!(began.elapsed() < OUTPUT, "it waits for a process that has ended");
        notebook.publisher.begin(2, notebook.cells[0].clone());
        notebook.publisher.told(display(1, true, None));
        assert!(notebook.seen().is_empty());
        notebook.publisher.running = false;
        notebook.publisher.release();
        assert_eq!(notebook.seen().len(), 1);
    }
}
