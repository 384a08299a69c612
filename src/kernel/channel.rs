//! The socket between the kernel and the process of the cells: outputs while a cell runs and after it, and the stop
//! button. Each message is a line of JSON; src/display has the other end.

use crossbeam_channel::Sender;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the process of the cells tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Display {
        id: String,
        data: Value,
        place: Place,
    },
    Update {
        id: String,
        data: Value,
    },
    Stream {
        /// Whether it goes to the standard error.
        errors: bool,
        text: String,
        place: Place,
    },
    /// The value of a cell is an error.
    Failed(String),
    /// A run that is open, and the code that opens it again; or that it is closed.
    Run {
        name: String,
        open: Option<String>,
    },
    Synced(u64),
    Gone,
}

/// Where an output belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Its number among the outputs of the channel, from 1.
    pub order: u64,
    /// Whether a mark in the standard output says what stands before it.
    pub waits: bool,
    /// Its cell; none is the one that runs.
    pub cell: Option<u64>,
}

/// The kernel's end.
#[derive(Debug, Clone, Default)]
pub struct Channel {
    writer: Arc<Mutex<Option<UnixStream>>>,
    asked_to_end: Arc<AtomicBool>,
    ready_to_end: Arc<AtomicBool>,
    /// How many processes have said hello.
    processes: Arc<AtomicU64>,
}

impl Channel {
    /// Listens; what is told goes to `told`.
    pub fn listen(socket: &Path, told: Sender<Told>) -> Result<Self, String> {
        let listener =
            UnixListener::bind(socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        let channel = Self::default();
        let ours = channel.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (channel, told) = (ours.clone(), told.clone());
                std::thread::spawn(move || channel.read(stream, &told));
            }
        });
        Ok(channel)
    }

    /// Reads what one process says. That of the cells begins with its number; builds say how far they are.
    fn read(&self, stream: UnixStream, told: &Sender<Told>) {
        let (mut of_cells, mut number) = (false, 0);
        for line in BufReader::new(&stream).lines() {
            let Ok(line) = line else { break };
            let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
            if let Some(process) = message.get("hello") {
                // A program that a cell started has the variable as well.
                of_cells = process.as_u64().is_some_and(is_child);
                if !of_cells {
                    return;
                }
                let mut writer = self.writer();
                *writer = stream.try_clone().ok();
                number = self.processes.fetch_add(1, Ordering::Relaxed) + 1;
                // What the process before it was asked.
                self.asked_to_end.store(false, Ordering::Relaxed);
                self.ready_to_end.store(false, Ordering::Relaxed);
            } else if message.get("ready_to_end").is_some() {
                self.ready_to_end.store(true, Ordering::Relaxed);
            } else if let Some(message) = read(&message) {
                let _ = told.send(message);
            }
        }
        if of_cells {
            let mut writer = self.writer();
            // The next process may be there already.
            if self.processes() == number {
                *writer = None;
            }
            let _ = told.send(Told::Gone);
        }
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Option<UnixStream>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a line; returns false where nobody is there.
    fn say(&self, message: &Value) -> bool {
        let mut writer = self.writer();
        let sent =
            writer.as_mut().is_some_and(|stream| stream.write_all(format!("{message}\n").as_bytes()).is_ok());
        if !sent {
            *writer = None;
        }
        sent
    }

    pub fn begin(&self, cell: u64) {
        self.say(&json!({ "cell": cell }));
    }

    pub fn interrupt(&self, cell: u64) -> bool {
        self.say(&json!({ "interrupt": cell }))
    }

    pub fn sync(&self, cell: u64) -> bool {
        self.say(&json!({ "sync": cell }))
    }

    /// Asks the process once to save what it has before it is ended; returns false where there is none.
    pub fn prepare_end(&self) -> bool {
        match self.asked_to_end.swap(true, Ordering::Relaxed) {
            true => self.writer().is_some(),
            false => self.say(&json!({ "end": true })),
        }
    }

    /// How many processes of cells there have been.
    pub fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
    }

    /// Whether it has.
    pub fn is_ready_to_end(&self) -> bool {
        self.ready_to_end.load(Ordering::Relaxed)
    }
}

/// Whether this process started another one itself.
fn is_child(process: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let parent = status.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
    parent == Some(std::process::id().to_string().as_str())
}

fn read(message: &Value) -> Option<Told> {
    let text = |value: &Value| value.as_str().map(String::from);
    let place = || Place {
        order: message["order"].as_u64().unwrap_or(0),
        waits: message["waits"].as_bool().unwrap_or(false),
        cell: message["cell"].as_u64(),
    };
    if let Some(display) = message.get("display") {
        return Some(Told::Display {
            id: text(&display["id"])?,
            data: display["data"].clone(),
            place: place(),
        });
    }
    if let Some(update) = message.get("update") {
        return Some(Told::Update { id: text(&update["id"])?, data: update["data"].clone() });
    }
    if let Some(stream) = message.get("stream") {
        let errors = stream["name"] == "stderr";
        return Some(Told::Stream { errors, text: text(&stream["text"])?, place: place() });
    }
    if let Some(failed) = message.get("failed") {
        return Some(Told::Failed(text(&failed["text"])?));
    }
    if let Some(run) = message.get("run") {
        return Some(Told::Run { name: text(&run["name"])?, open: text(&run["open"]) });
    }
    message.get("synced").and_then(Value::as_u64).map(Told::Synced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_go_both_ways_and_nonsense_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let (sender, told) = crossbeam_channel::unbounded();
        let channel = Channel::listen(&socket, sender).unwrap();
        assert!(!channel.sync(1), "nobody is there");
        drop(UnixStream::connect(&socket).unwrap()); // a build
        let mut stranger = UnixStream::connect(&socket).unwrap();
        writeln!(stranger, "{{\"hello\": 1}}\n{{\"stream\": {{\"text\": \"strange\"}}}}").unwrap();
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut child = UnixStream::connect(&socket).unwrap();
        let hello = process.id();
        writeln!(child, "{{\"hello\": {hello}}}\nno JSON\n{{\"stream\": {{\"text\": \"3 <\"}}}}").unwrap();
        let wait = Duration::from_secs(20);
        let stream = Told::Stream { errors: false, text: "3 <".into(), place: Place::default() };
        assert_eq!(told.recv_timeout(wait).unwrap(), stream);
        assert!(channel.sync(5));
        let mut line = String::new();
        BufReader::new(child.try_clone().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "{\"sync\":5}\n");
        drop(child);
        assert_eq!(told.recv_timeout(wait).unwrap(), Told::Gone);
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
