//! The sockets: requests come in, replies go out.

use crate::base::{self, Clone as Folder};
use crate::channel::Channel;
use crate::complete::completeness;
use crate::evaluate::{Evaluator, Outcome, Running, Shared, Stage};
use crate::history;
use crate::messages::{Iopub, Problem, media};
use crate::paths::{Places, Tools, variables};
use crate::queue::Queue;
use crate::requests;
use crate::waiting;
use jupyter_protocol::{
    CommClose, CommInfoReply, CompleteReply, ConnectionInfo, ExecuteReply, ExecuteRequest, ExecutionCount,
    ExecutionState, HelpLink, HistoryReply, InputRequest, InspectReply, InterruptReply, IsCompleteReply,
    IsCompleteReplyStatus, JupyterMessage, JupyterMessageContent, KernelInfoReply, LanguageInfo, ReplyError,
    ReplyStatus, ShutdownReply, Stdio,
};
use jupyter_zmq_client as zmq;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How long a cell may go on after the stop button, before the next press ends its process.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long requests that come after a failed cell still belong to the same `Run All`: they were sent together.
const SAME_RUN: Duration = Duration::from_millis(60);

/// A question to the person: the request, and where the answer goes.
type Question = (JupyterMessage, crossbeam_channel::Sender<String>);

/// What all tasks know.
#[derive(Clone)]
struct Kernel {
    iopub: Iopub,
    shell: UnboundedSender<JupyterMessage>,
    questions: UnboundedSender<Question>,
    channel: Channel,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    history: Arc<Mutex<Vec<String>>>,
}

/// Runs the kernel until it is told to shut down.
pub async fn serve(
    connection: &ConnectionInfo,
    places: Places,
    tools: Tools,
    folder: Folder,
    token: String,
) -> Result<(), String> {
    let failed = |error: zmq::RuntimeError| format!("the kernel's sockets: {error}");
    let session = uuid::Uuid::new_v4().to_string();
    let mut iopub_socket = zmq::create_kernel_iopub_connection(connection, &session).await.map_err(failed)?;
    let shell = zmq::create_kernel_shell_connection(connection, &session).await.map_err(failed)?;
    let mut control = zmq::create_kernel_control_connection(connection, &session).await.map_err(failed)?;
    let mut stdin = zmq::create_kernel_stdin_connection(connection, &session).await.map_err(failed)?;
    let mut heartbeat = zmq::create_kernel_heartbeat_connection(connection).await.map_err(failed)?;
    tokio::spawn(async move { while heartbeat.single_heartbeat().await.is_ok() {} });

    let (iopub, mut published) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = published.recv().await {
            // A page that went away is no reason to end.
            let _ = iopub_socket.send(message).await;
        }
    });
    let (mut shell_out, shell_in) = shell.split();
    let mut shell_in = requests::whole(shell_in);
    let (replies, mut replied) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = replied.recv().await {
            let _ = shell_out.send(message).await;
        }
    });
    let (questions, mut asked) = unbounded_channel::<Question>();
    tokio::spawn(async move {
        while let Some((question, answer)) = asked.recv().await {
            let mut value = String::new();
            if stdin.send(question).await.is_ok() {
                while let Ok(message) = stdin.read().await {
                    if let JupyterMessageContent::InputReply(reply) = message.content {
                        value = reply.value;
                        break;
                    }
                }
            }
            let _ = answer.send(value);
        }
    });

    let (told_sender, told) = crossbeam_channel::unbounded();
    let channel = Channel::listen(&folder.folder.join("socket"), told_sender)?;
    let kernel = Kernel {
        iopub: Iopub(iopub),
        shell: replies,
        questions,
        channel: channel.clone(),
        shared: Arc::new(Shared::default()),
        queue: Arc::new(Queue::default()),
        history: Arc::default(),
    };
    kernel.iopub.state(ExecutionState::Starting, None);
    let cells = kernel.clone();
    std::thread::spawn(move || {
        let waits = waiting::show(cells.shared.clone(), cells.iopub.clone(), {
            let queue = cells.queue.clone();
            move || queue.lock().iter().find(|request| is_execution(request)).cloned()
        });
        let mut started =
            Evaluator::start(&places, &tools, &folder, &cells.shared, &cells.iopub, (channel, told), &token);
        let idle = cells.queue.lock().is_empty();
        match &mut started {
            Ok(evaluator) if idle => evaluator.warm_up(),
            _ => {}
        }
        cells.shared.enter(match &started {
            Ok(_) => Stage::Ready,
            Err(error) => Stage::Failed(error.clone()),
        });
        let _ = waits.join();
        // Until the process ends: the folder is in use, and the evaluator would end the process of the cells.
        let _folder = folder;
        cells.work(started)
    });
    let reader = kernel.clone();
    tokio::spawn(async move {
        loop {
            match shell_in.read().await {
                Ok(request) => reader.receive(request),
                Err(zmq::RuntimeError::ZmqError(_)) => return,
                Err(error) => eprintln!("a request that cannot be read: {error}"),
            }
        }
    });
    loop {
        let request = match control.read().await {
            Ok(request) => request,
            Err(zmq::RuntimeError::ZmqError(error)) => return Err(format!("the kernel's sockets: {error}")),
            Err(_) => continue,
        };
        let reply: JupyterMessageContent = match &request.content {
            JupyterMessageContent::InterruptRequest(_) => {
                kernel.interrupt();
                InterruptReply::new().into()
            }
            JupyterMessageContent::ShutdownRequest(shutdown) => {
                let reply = ShutdownReply { restart: shutdown.restart, ..ShutdownReply::default() };
                let _ = control.send(JupyterMessage::new(reply, Some(&request))).await;
                kernel.let_it_pause().await;
                kernel.end_process();
                return Ok(());
            }
            JupyterMessageContent::KernelInfoRequest(_) => kernel_info().into(),
            _ => continue,
        };
        let _ = control.send(JupyterMessage::new(reply, Some(&request))).await;
    }
}

fn is_execution(request: &JupyterMessage) -> bool {
    matches!(request.content, JupyterMessageContent::ExecuteRequest(_))
}

impl Kernel {
    fn reply(&self, content: impl Into<JupyterMessageContent>, request: &JupyterMessage) {
        let _ = self.shell.send(JupyterMessage::new(content, Some(request)));
    }

    /// Answers at once what needs no evaluation; all else waits for its turn.
    fn receive(&self, request: JupyterMessage) {
        let content: JupyterMessageContent = match &request.content {
            JupyterMessageContent::KernelInfoRequest(_) => kernel_info().into(),
            JupyterMessageContent::CommInfoRequest(_) => CommInfoReply::default().into(),
            JupyterMessageContent::IsCompleteRequest(asked) => {
                let status = completeness(&asked.code);
                let indent = if status == IsCompleteReplyStatus::Incomplete { "    " } else { "" };
                IsCompleteReply { status, indent: indent.to_string() }.into()
            }
            JupyterMessageContent::HistoryRequest(asked) => {
                let lines = self.history.lock().unwrap_or_else(PoisonError::into_inner);
                HistoryReply { history: history::asked(&lines, asked), ..HistoryReply::default() }.into()
            }
            _ => return self.queue.push(request),
        };
        self.iopub.state(ExecutionState::Busy, Some(&request));
        self.reply(content, &request);
        self.iopub.state(ExecutionState::Idle, Some(&request));
        // Pages take the last state for that of the kernel.
        if let Some(running) = &*self.shared.running() {
            self.iopub.state(ExecutionState::Busy, Some(&running.parent));
        }
    }

    /// The thread of the cells.
    fn work(&self, mut evaluator: Result<Evaluator, String>) -> ! {
        let mut count = 0;
        loop {
            let request = self.queue.next();
            self.iopub.state(ExecutionState::Busy, Some(&request));
            let behind = self.answer(&mut evaluator, &request, &mut count);
            self.iopub.state(ExecutionState::Idle, Some(&request));
            self.abort(&behind);
        }
    }

    /// Answers a request. Returns the cells behind one that failed, which must not run.
    fn answer(
        &self,
        evaluator: &mut Result<Evaluator, String>,
        request: &JupyterMessage,
        count: &mut usize,
    ) -> Vec<JupyterMessage> {
        match &request.content {
            JupyterMessageContent::ExecuteRequest(cell) => self.execute(evaluator, request, cell, count),
            JupyterMessageContent::CompleteRequest(asked) => {
                let at = byte_of(&asked.code, asked.cursor_pos);
                let found = evaluator.as_mut().ok().and_then(|it| it.completions(&asked.code, at));
                let (matches, start, end) = found.unwrap_or_else(|| (Vec::new(), at, at));
                let place = |byte: usize| {
                    asked.code.get(..byte).map_or(asked.cursor_pos, |text| text.chars().count())
                };
                let reply = CompleteReply {
                    matches,
                    cursor_start: place(start),
                    cursor_end: place(end),
                    ..CompleteReply::default()
                };
                self.reply(reply, request);
                Vec::new()
            }
            JupyterMessageContent::InspectRequest(asked) => {
                let at = byte_of(&asked.code, asked.cursor_pos);
                let found = evaluator.as_mut().ok().and_then(|it| it.documentation(&asked.code, at));
                let data = found.map(|data| media(Value::Object(data)));
                let reply = InspectReply {
                    found: data.is_some(),
                    data: data.unwrap_or_default(),
                    ..InspectReply::default()
                };
                self.reply(reply, request);
                Vec::new()
            }
            JupyterMessageContent::CommOpen(opened) => {
                // No widget of ours has a counterpart in the kernel.
                let close = CommClose { comm_id: opened.comm_id.clone(), data: Map::new() };
                self.iopub.send(close, Some(request));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn execute(
        &self,
        evaluator: &mut Result<Evaluator, String>,
        request: &JupyterMessage,
        cell: &ExecuteRequest,
        count: &mut usize,
    ) -> Vec<JupyterMessage> {
        if !cell.silent {
            *count += 1;
            if cell.store_history {
                self.history.lock().unwrap_or_else(PoisonError::into_inner).push(cell.code.clone());
            }
            self.iopub.input(&cell.code, *count, request);
        }
        let kernel = self.clone();
        let ask = move |request: &JupyterMessage, prompt: &str, password: bool| {
            kernel.ask(request, prompt, password)
        };
        let outcome = match evaluator {
            Ok(evaluator) => evaluator.execute(&cell.code, *count, request, &ask),
            Err(error) => Outcome::Failed(Problem::new("not prepared", error.clone())),
        };
        let reply = ExecuteReply { execution_count: ExecutionCount::new(*count), ..ExecuteReply::default() };
        match outcome {
            Outcome::Done(data) => {
                if !data.is_empty() && !cell.silent {
                    self.iopub.result(Value::Object(data), *count, request);
                }
                let expressions = cell.user_expressions.as_ref().map(|_| Default::default());
                self.reply(ExecuteReply { user_expressions: expressions, ..reply }, request);
                Vec::new()
            }
            Outcome::Failed(problem) => {
                if !cell.silent {
                    self.iopub.error(&problem, request);
                }
                // Those that had come by now do not run; one that is sent after the reply does.
                let behind = if cell.stop_on_error { self.cells_behind() } else { Vec::new() };
                let error =
                    ReplyError { ename: problem.name, evalue: problem.value, traceback: problem.shown };
                self.reply(
                    ExecuteReply { status: ReplyStatus::Error, error: Some(Box::new(error)), ..reply },
                    request,
                );
                behind
            }
        }
    }

    /// The cells that wait, or are on their way with those that do.
    fn cells_behind(&self) -> Vec<JupyterMessage> {
        std::thread::sleep(SAME_RUN);
        let mut waiting = self.queue.lock();
        let (cells, others) = waiting.drain(..).partition(is_execution);
        *waiting = others;
        cells.into_iter().collect()
    }

    /// Tells cells that they do not run.
    fn abort(&self, cells: &[JupyterMessage]) {
        for request in cells {
            self.iopub.state(ExecutionState::Busy, Some(request));
            self.reply(ExecuteReply { status: ReplyStatus::Aborted, ..ExecuteReply::default() }, request);
            self.iopub.state(ExecutionState::Idle, Some(request));
        }
    }

    fn ask(&self, request: &JupyterMessage, prompt: &str, password: bool) -> String {
        let may_ask =
            matches!(&request.content, JupyterMessageContent::ExecuteRequest(cell) if cell.allow_stdin);
        if !may_ask {
            return String::new();
        }
        let (sender, answer) = crossbeam_channel::bounded(1);
        let question =
            JupyterMessage::new(InputRequest { prompt: prompt.to_string(), password }, Some(request));
        let _ = self.questions.send((question, sender));
        answer.recv().unwrap_or_default()
    }

    /// The stop button: once, the running call pauses; again, where it does not listen, its process is ended.
    fn interrupt(&self) {
        let mut running = self.shared.running();
        let Some(cell) = running.as_mut() else { return };
        let word = match cell.stopped {
            None => {
                cell.stopped = Some(Instant::now());
                base::end_compilation(self.shared.process_number());
                if !self.channel.interrupt(cell.cell) {
                    cell.stopped = Instant::now().checked_sub(PATIENCE);
                }
                let (shared, iopub, number) = (self.shared.clone(), self.iopub.clone(), cell.cell);
                std::thread::spawn(move || say_that_it_goes_on(&shared, &iopub, number));
                return;
            }
            Some(since) if since.elapsed() < PATIENCE => {
                let left = (PATIENCE - since.elapsed()).as_secs() + 1;
                format!("stopping; if nothing happens, press stop again in {left} s to end the process\n")
            }
            Some(_) => {
                cell.ended = true;
                "the cell does not listen to the stop button: its process is ended now\n".to_string()
            }
        };
        let (ends, parent) = (cell.ended, cell.parent.clone());
        drop(running);
        self.iopub.stream(Stdio::Stderr, word, Some(&parent));
        if ends {
            self.end_process();
        }
    }

    /// Before the end: the running call stops, and all runs pause, each with a snapshot. Jupyter waits for five seconds,
    /// after half of which it asks once more, by a signal.
    async fn let_it_pause(&self) {
        const LOOKS: u32 = 42;
        // SAFETY: a plain call, which leaves no handler behind.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        self.queue.close();
        base::end_compilation(self.shared.process_number());
        let mut asked = None;
        for _ in 0..LOOKS {
            let cell = self.shared.running().as_ref().map(|running| running.cell);
            if let Some(cell) = cell.filter(|cell| asked != Some(*cell)) {
                self.channel.interrupt(cell);
                asked = Some(cell);
            }
            // Once, behind the button: what waits for a run then fails, and does not go on.
            if !self.channel.prepare_end() || self.channel.is_ready_to_end() && cell.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn end_process(&self) {
        if let Some(process) = &*self.shared.process.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = process.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
    }
}

/// Tells the person what the next press does, where a cell goes on for long after the first.
fn say_that_it_goes_on(shared: &Shared, iopub: &Iopub, number: u64) {
    std::thread::sleep(PATIENCE);
    let parent = match &*shared.running() {
        Some(Running { cell, parent, ended: false, .. }) if *cell == number => parent.clone(),
        _ => return,
    };
    let text = "this cell does not listen to the stop button. Pressing it again ends the process with all variables; \
                runs that train are on disk and can be resumed\n";
    iopub.stream(Stdio::Stderr, text.to_string(), Some(&parent));
}

/// The byte at which a character of a text begins.
fn byte_of(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte)
}

fn kernel_info() -> KernelInfoReply {
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: "5.3".to_string(),
        implementation: "lorascope".to_string(),
        implementation_version: env!("CARGO_PKG_VERSION").to_string(),
        language_info: LanguageInfo {
            name: "rust".to_string(),
            version: env!("CARGO_PKG_RUST_VERSION").to_string(),
            mimetype: Some("text/rust".to_string()),
            file_extension: Some(".rs".to_string()),
            pygments_lexer: Some("rust".to_string()),
            codemirror_mode: Some(jupyter_protocol::CodeMirrorMode::Simple("rust".to_string())),
            nbconvert_exporter: Some("rust".to_string()),
        },
        banner: format!("lorascope {}: LoRA fine-tuning in a notebook", env!("CARGO_PKG_VERSION")),
        help_links: Vec::<HelpLink>::new(),
        debugger: false,
        error: None,
    }
}

/// Variables of the environment for evcxr, the stand-ins and the process of the cells.
pub fn environment(
    places: &Places,
    tools: &Tools,
    folder: &Folder,
    token: &str,
) -> Vec<(&'static str, String)> {
    let path = |path: &std::path::Path| path.display().to_string();
    let before = |name: &str, value: String| match std::env::var(name) {
        Ok(old) if !old.is_empty() => format!("{value}:{old}"),
        _ => value,
    };
    let libraries = format!("{}:{}", path(&folder.libraries()), path(&tools.libraries));
    let mut environment = vec![
        ("EVCXR_TMPDIR", path(&folder.krate())),
        ("EVCXR_CONFIG_DIR", path(&folder.folder.join("config"))),
        ("PATH", before("PATH", path(&folder.folder.join("bin")))),
        ("CARGO", path(&folder.folder.join("bin/cargo"))),
        ("CARGO_HOME", path(&folder.folder.join("home"))),
        (variables::CARGO_HOME, path(&tools.cargo_home)),
        ("LD_LIBRARY_PATH", before("LD_LIBRARY_PATH", libraries)),
        (variables::CLONE, path(&folder.folder)),
        (variables::BASE, path(&places.base())),
        (variables::CARGO, path(&tools.cargo)),
        (variables::HOST, tools.host.clone()),
        (variables::SOCKET, path(&folder.folder.join("socket"))),
        (variables::TOKEN, token.to_string()),
    ];
    if let Some(rustup) = &tools.rustup {
        environment.push((variables::RUSTUP, path(rustup)));
    }
    if folder.rust_source().join("core").exists() {
        // rust-analyzer reads this.
        environment.push(("RUST_SRC_PATH", path(&folder.rust_source())));
        environment.push((variables::RUST_SOURCE, path(&tools.rust_source())));
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_as_jupyter_counts() {
        assert_eq!(byte_of("a字b", 2), 4);
        assert_eq!(byte_of("a", 9), 1);
    }

    #[test]
    fn what_the_kernel_says_of_itself_is_whole() {
        let info = serde_json::json!(kernel_info());
        assert_eq!(info["language_info"]["file_extension"], ".rs");
    }
}
