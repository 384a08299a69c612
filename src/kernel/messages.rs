//! What the kernel says to all who look at the notebook: outputs, states, errors.

use jupyter_protocol::{
    DisplayData, ErrorOutput, ExecuteInput, ExecuteResult, ExecutionCount, ExecutionState, JupyterMessage,
    JupyterMessageContent, Media, Status, Stdio, StreamContent, Transient, UpdateDisplayData,
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedSender;

/// A message of a cell that failed.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// What kind of error it is, in a word or two.
    pub name: String,
    pub value: String,
    /// The lines that the notebook shows.
    pub shown: Vec<String>,
}

impl Problem {
    /// A problem whose text is all that there is to show.
    pub fn new(name: &str, text: impl Into<String>) -> Self {
        let text = text.into();
        let shown = text.lines().map(String::from).collect();
        Self { name: name.to_string(), value: text, shown }
    }
}

/// The channel to all who look on. Messages keep the order in which they are sent.
#[derive(Debug, Clone)]
pub struct Iopub(pub UnboundedSender<JupyterMessage>);

impl Iopub {
    pub fn send(&self, content: impl Into<JupyterMessageContent>, parent: Option<&JupyterMessage>) {
        // Where the kernel ends, nobody reads any more.
        let _ = self.0.send(JupyterMessage::new(content, parent).with_zmq_identities(Vec::new()));
    }

    pub fn state(&self, state: ExecutionState, parent: Option<&JupyterMessage>) {
        self.send(Status { execution_state: state }, parent);
    }

    pub fn stream(&self, name: Stdio, text: String, parent: Option<&JupyterMessage>) {
        if !text.is_empty() {
            self.send(StreamContent { name, text }, parent);
        }
    }

    pub fn input(&self, code: &str, count: usize, parent: &JupyterMessage) {
        let execution_count = ExecutionCount::new(count);
        self.send(ExecuteInput { code: code.to_string(), execution_count }, Some(parent));
    }

    pub fn result(&self, data: Value, count: usize, parent: &JupyterMessage) {
        let execution_count = ExecutionCount::new(count);
        let result = ExecuteResult {
            execution_count,
            data: media(data),
            metadata: Map::new(),
            transient: Some(Transient { display_id: None }),
        };
        self.send(result, Some(parent));
    }

    /// A new output; with an `id` it can be changed later.
    pub fn display(&self, data: Value, id: &str, parent: Option<&JupyterMessage>) {
        let transient = Some(Transient { display_id: Some(id.to_string()) });
        self.send(DisplayData { data: media(data), metadata: Map::new(), transient }, parent);
    }

    pub fn update(&self, data: Value, id: &str, parent: Option<&JupyterMessage>) {
        self.send(UpdateDisplayData::new(media(data), id), parent);
    }

    pub fn error(&self, problem: &Problem, parent: &JupyterMessage) {
        let (ename, evalue) = (problem.name.clone(), problem.value.clone());
        self.send(ErrorOutput { ename, evalue, traceback: problem.shown.clone() }, Some(parent));
    }
}

/// A mime bundle. What is no JSON of one is shown as text.
pub fn media(data: Value) -> Media {
    serde_json::from_value(data.clone())
        .or_else(|_| serde_json::from_value(json!({"text/plain": data.to_string()})))
        .unwrap_or_default()
}

/// Text for HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
