//! A kernel that listens on a socket, as the lorascope kernel does, and keeps what it is told.

use super::clock::eventually;
use lorascope::display::{attach_kernel_at, stop_requested};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub struct FakeKernel {
    stream: UnixStream,
    heard: Arc<Mutex<Vec<Value>>>,
    _folder: tempfile::TempDir,
}

impl FakeKernel {
    /// This process has one kernel at most: each test has a process of its own.
    pub fn attach() -> Self {
        Self::attached_by(|path| assert!(attach_kernel_at(path)))
    }

    pub fn attached_by(attach: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel");
        let listener = UnixListener::bind(&path).unwrap();
        attach(&path);
        let (stream, _) = listener.accept().unwrap();
        let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (reader, into) = (BufReader::new(stream.try_clone().unwrap()), heard.clone());
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let kernel = Self { stream, heard, _folder: folder };
        eventually("a hello", || kernel.heard().first().filter(|hello| hello["hello"].is_u64()).cloned());
        kernel
    }

    pub fn say(&self, message: Value) {
        (&self.stream).write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until the kernel hears something like this.
    pub fn hears(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.heard().into_iter().find(&is_it))
    }

    /// Ends a cell and waits until its output is there.
    pub fn sync(&self, cell: u64) -> Vec<Value> {
        self.say(json!({"sync": cell}));
        self.hears("an answer to sync", |message| message["synced"] == cell);
        self.heard()
    }

    /// Presses stop in a cell; this returns when the process has heard it.
    pub fn press_stop(&self, cell: u64) {
        self.say(json!({"cell": cell}));
        self.say(json!({"interrupt": cell}));
        eventually("the stop button", || stop_requested().then_some(()));
    }

    pub fn hang_up(&self) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

/// The messages of a kind, in their order: id and text.
pub fn texts(heard: &[Value], kind: &str) -> Vec<(String, String)> {
    let of = |message: &Value| {
        let message = message.get(kind)?;
        Some((message["id"].as_str()?.to_string(), message["data"]["text/plain"].as_str()?.to_string()))
    };
    heard.iter().filter_map(of).collect()
}
