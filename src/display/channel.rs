//! The channel to the lorascope kernel: displays that move, text at once, the stop button.
//!
//! A cell's standard output reaches the notebook when the cell has ended, and nothing does between two cells. The
//! kernel therefore listens on a Unix socket, whose path is in `LORASCOPE_KERNEL_SOCKET`. Each message is a line of
//! JSON. Without that variable (the stock kernel, the command line, a program) nothing here does anything.

use super::outbox::Outbox;
use super::{Bundle, stop};
use serde_json::{Value, json};
use std::io::{BufRead, Read as _, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// The path of the kernel's socket.
const SOCKET: &str = "LORASCOPE_KERNEL_SOCKET";
/// What lines of the standard output begin with that are meant for the kernel.
const TOKEN: &str = "LORASCOPE_KERNEL_TOKEN";
/// A kernel that takes nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a line of the kernel at most: its messages are short.
const LINE: u64 = 1 << 16;

static KERNEL: OnceLock<Option<Channel>> = OnceLock::new();
static NUMBER: AtomicU64 = AtomicU64::new(1);
static BEFORE_SYNC: Mutex<Vec<Hook>> = Mutex::new(Vec::new());
static BEFORE_END: Mutex<Vec<Hook>> = Mutex::new(Vec::new());
/// The thread that runs the cells.
static CELLS: OnceLock<ThreadId> = OnceLock::new();

/// Sends what is to be seen when a cell ends; returns false when it is no longer needed.
type Hook = Box<dyn Fn() -> bool + Send>;

/// Connects to the lorascope kernel that runs this process, once; does nothing where none does. The kernel calls it
/// before the first cell.
///
/// # Examples
/// ```
/// lorascope::display::attach_kernel(); // no kernel here: nothing happens
/// lorascope::display::attach_kernel();
/// ```
pub fn attach_kernel() {
    CELLS.get_or_init(|| std::thread::current().id());
    kernel();
}

/// Whether this is the thread that runs the cells.
pub(super) fn on_the_thread_of_cells() -> bool {
    CELLS.get() == Some(&std::thread::current().id())
}

/// Connects to a kernel that listens at this path, unless one was found before; says whether there is one.
#[doc(hidden)]
pub fn attach_kernel_at(path: &std::path::Path) -> bool {
    KERNEL.get_or_init(|| connect(path));
    begin();
    kernel().is_some()
}

/// The channel, while a kernel listens.
pub(super) fn kernel() -> Option<&'static Channel> {
    KERNEL.get_or_init(|| {
        let path = std::env::var_os(SOCKET).filter(|_| !super::audience::at_command_line())?;
        connect(path.as_ref())
    });
    begin();
    KERNEL.get()?.as_ref().filter(|channel| channel.open.load(Ordering::Relaxed))
}

/// Whether the lorascope kernel shows what this process sends.
pub(crate) fn in_kernel() -> bool {
    kernel().is_some()
}

/// An id that no other display of this process has: `show-3`.
pub(super) fn new_id(kind: &str) -> String {
    format!("{kind}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Calls a function before the kernel is told that a cell's output is complete, until it returns false.
pub(crate) fn before_sync(hook: impl Fn() -> bool + Send + 'static) {
    lock(&BEFORE_SYNC).push(Box::new(hook));
}

/// Calls a function before the kernel ends this process, until it returns false.
pub(crate) fn before_end(hook: impl Fn() -> bool + Send + 'static) {
    lock(&BEFORE_END).push(Box::new(hook));
}

/// Tells the kernel that the value of a cell is an error, so that the cell fails; returns false where no kernel listens.
pub(super) fn fail(error: &str) -> bool {
    let Some(kernel) = kernel() else { return false };
    kernel.send(&json!({"failed": {"text": error}}));
    true
}

/// Tells the kernel which code opens a run again, or with none that the run is closed: what it shows when this process
/// ends.
pub(crate) fn tell_of_run(name: &str, open: Option<&str>) {
    if let Some(kernel) = kernel() {
        kernel.send(&json!({"run": {"name": name, "open": open}}));
    }
}

pub(super) struct Channel {
    writer: Mutex<Writer>,
    /// A state waits that did not wait before.
    waits: Condvar,
    open: AtomicBool,
    /// What the kernel says, until its thread begins.
    reader: Mutex<Option<Box<dyn BufRead + Send>>>,
}

struct Writer {
    stream: Option<Box<dyn Write + Send>>,
    outbox: Outbox,
    /// Outputs that were sent.
    outputs: u64,
    /// Those of them that the standard output says to stand before what is printed next.
    marked: u64,
    /// Whether the thread of the cells printed since.
    printed: bool,
    /// The cell that runs.
    running: Option<u64>,
    /// What begins a line of the standard output for the kernel; without it outputs and lines have no order.
    token: Option<String>,
}

impl Writer {
    fn new(stream: Box<dyn Write + Send>, token: Option<String>) -> Self {
        let outbox = Outbox::default();
        Self { stream: Some(stream), outbox, outputs: 0, marked: 0, printed: false, running: None, token }
    }

    /// Says in the standard output that all outputs so far stand before what is printed next. Who locks both locks the
    /// standard output first.
    fn mark(&mut self, out: &mut StdoutLock<'_>) {
        if let Some(token) = self.token.as_ref().filter(|_| self.marked < self.outputs) {
            (self.marked, self.printed) = (self.outputs, false);
            // A kernel that went away is no reason to fail a computation.
            let _ = out.write_all(format!("{token} order {}\n", self.marked).as_bytes());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn connect(path: &std::path::Path) -> Option<Channel> {
    use std::os::unix::net::UnixStream;
    let stream = UnixStream::connect(path).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let reader = std::io::BufReader::new(stream.try_clone().ok()?);
    let channel = Channel::new(Box::new(stream), Box::new(reader), std::env::var(TOKEN).ok());
    channel.send(&json!({"hello": std::process::id()}));
    Some(channel)
}

#[cfg(not(unix))]
fn connect(_: &std::path::Path) -> Option<Channel> {
    None
}

/// Starts the threads of a channel that has none yet.
fn begin() {
    let Some(Some(channel)) = KERNEL.get() else { return };
    let Some(reader) = lock(&channel.reader).take() else { return };
    let thread = |name: &str| std::thread::Builder::new().name(name.to_string());
    let heard = thread("kernel reader").spawn(move || {
        stop::work_in_background();
        channel.listen(reader);
    });
    let sent = thread("kernel displays").spawn(move || {
        stop::work_in_background();
        channel.send_what_waits();
    });
    if heard.is_err() || sent.is_err() {
        channel.close(&mut lock(&channel.writer));
    }
}

/// What a notebook is given of a value.
pub(super) fn data(bundle: &Bundle) -> Value {
    json!({"text/html": bundle.guarded(), "text/plain": bundle.text})
}

impl Channel {
    fn new(stream: Box<dyn Write + Send>, reader: Box<dyn BufRead + Send>, token: Option<String>) -> Self {
        Self {
            writer: Mutex::new(Writer::new(stream, token)),
            waits: Condvar::new(),
            open: AtomicBool::new(true),
            reader: Mutex::new(Some(reader)),
        }
    }

    /// Shows something new: in this cell, or without a number in the one that runs.
    pub fn display(&self, id: &str, data: Value, cell: Option<u64>) {
        lock(&self.writer).outbox.sent(id, Instant::now());
        self.output(json!({"display": {"id": id, "data": data}}), cell);
    }

    /// Replaces what a display shows: now, or in half a second where it was replaced just before.
    pub fn update(&self, id: &str, data: Value) {
        let writer = &mut lock(&self.writer);
        match writer.outbox.offer(id, data, Instant::now()) {
            Some(data) => self.write(writer, &update(id, &data)),
            None => self.waits.notify_all(),
        }
    }

    /// Replaces what a display shows now: it is finished.
    pub fn finish(&self, id: &str, data: &Value) {
        let writer = &mut lock(&self.writer);
        writer.outbox.sent(id, Instant::now());
        self.write(writer, &update(id, data));
    }

    /// Adds text to `stdout` or `stderr` of this cell, or without a number of the one that runs.
    pub fn stream(&self, name: &str, text: &str, cell: Option<u64>) {
        if !text.is_empty() {
            self.output(json!({"stream": {"name": name, "text": text}}), cell);
        }
    }

    /// Is called before the thread of the cells prints: what was shown by now stands before it.
    pub fn before_print(&self, out: &mut StdoutLock<'_>) {
        let writer = &mut lock(&self.writer);
        writer.mark(out);
        writer.printed = true;
    }

    /// Sends an output. One of the running cell waits in the kernel for the mark in the standard output, and so stands
    /// behind what the cell printed before. Of other threads only the first one behind a line has a mark: where no
    /// cell runs nobody reads the pipe, which many would fill.
    fn output(&self, mut message: Value, cell: Option<u64>) {
        let mut out = std::io::stdout().lock();
        let writer = &mut lock(&self.writer);
        writer.outputs += 1;
        message["order"] = writer.outputs.into();
        message["cell"] = cell.into();
        let of_running = writer.running.is_some() && (cell.is_none() || cell == writer.running);
        let waits = writer.token.is_some() && (on_the_thread_of_cells() || of_running && writer.printed);
        message["waits"] = waits.into();
        if waits {
            writer.mark(&mut out);
        }
        self.write(writer, &message);
    }

    fn send(&self, message: &Value) {
        self.write(&mut lock(&self.writer), message);
    }

    fn write(&self, writer: &mut Writer, message: &Value) {
        let Some(stream) = &mut writer.stream else { return };
        let line = message.to_string() + "\n";
        // A kernel that went away is no reason to fail a computation.
        if stream.write_all(line.as_bytes()).and_then(|()| stream.flush()).is_err() {
            self.close(writer);
        }
    }

    fn close(&self, writer: &mut Writer) {
        self.open.store(false, Ordering::Relaxed);
        writer.stream = None;
        stop::request_stop(false);
        self.waits.notify_all();
    }

    /// Sends each state that waits at its time, until the channel is closed.
    fn send_what_waits(&self) {
        let mut writer = lock(&self.writer);
        while writer.stream.is_some() {
            let now = Instant::now();
            for (id, data) in writer.outbox.due(now) {
                self.write(&mut writer, &update(&id, &data));
            }
            writer = match writer.outbox.next() {
                None => self.waits.wait(writer).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let limit = next.saturating_duration_since(now);
                    self.waits.wait_timeout(writer, limit).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Does what the kernel says until it goes away. What is no message of this protocol is passed over.
    fn listen(&self, mut reader: Box<dyn BufRead + Send>) {
        let (mut line, mut over) = (Vec::new(), 0);
        loop {
            line.clear();
            match reader.by_ref().take(LINE).read_until(b'\n', &mut line) {
                Ok(read) if read > 0 && line.last() == Some(&b'\n') => {}
                _ => break self.close(&mut lock(&self.writer)),
            }
            let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
            let number = |name: &str| message.get(name).and_then(Value::as_u64);
            if let Some(cell) = number("cell") {
                stop::request_stop(false);
                lock(&self.writer).running = Some(cell);
            } else if let Some(cell) = number("interrupt") {
                // It may come late, when its cell is over.
                if cell > over {
                    stop::request_stop(true);
                }
            } else if let Some(cell) = number("sync") {
                over = over.max(cell);
                stop::request_stop(false);
                self.sync(cell);
            } else if message.get("end").is_some() {
                outlive_termination();
                call(&BEFORE_END);
                self.send(&json!({"ready_to_end": true}));
            }
        }
    }

    /// Says that the output of a cell is complete, when it is.
    fn sync(&self, cell: u64) {
        call(&BEFORE_SYNC);
        {
            let writer = &mut lock(&self.writer);
            writer.running = None;
            for (id, data) in writer.outbox.all(Instant::now()) {
                self.write(writer, &update(&id, &data));
            }
        }
        let _ = std::io::stdout().flush();
        // One write: lines of other threads do not come in between.
        let said = format!("LORASCOPE_SYNC {cell}\n");
        let _ = std::io::stderr().lock().write_all(said.as_bytes());
        self.send(&json!({"synced": cell}));
    }
}

/// Jupyter ends a kernel and all that it started by SIGTERM, two seconds and a half after it asked for the end, and for
/// good as long after that: the time in between is for what is being saved.
fn outlive_termination() {
    #[cfg(unix)]
    // SAFETY: a plain call, which leaves no handler behind.
    unsafe {
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
    }
}

/// Calls the hooks, and keeps those that are needed on.
fn call(hooks: &Mutex<Vec<Hook>>) {
    // Taken out: a hook may end up where another one is added.
    let taken = std::mem::take(&mut *lock(hooks));
    let kept = taken.into_iter().filter(|hook| {
        // What is drawn for a panel is no reason to keep the cell from ending.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(hook)).unwrap_or(false)
    });
    let kept: Vec<Hook> = kept.collect();
    lock(hooks).extend(kept);
}

fn update(id: &str, data: &Value) -> Value {
    json!({"update": {"id": id, "data": data}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::sync::Arc;

    /// What was written, up to a number of writes after which the kernel is gone.
    #[derive(Clone)]
    struct Written(Arc<Mutex<Vec<u8>>>, usize);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 = self.1.checked_sub(1).ok_or(std::io::ErrorKind::BrokenPipe)?;
            lock(&self.0).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn channel(writes: usize) -> (Channel, Arc<Mutex<Vec<u8>>>) {
        let written = Arc::default();
        let stream = Box::new(Written(Arc::clone(&written), writes));
        (Channel::new(stream, Box::new(Cursor::new(Vec::new())), None), written)
    }

    /// A message of a thread that does not run cells.
    fn output(order: u64, cell: Option<u64>, mut message: Value) -> Value {
        message["order"] = order.into();
        message["cell"] = cell.into();
        message["waits"] = false.into();
        message
    }

    fn lines(written: &Mutex<Vec<u8>>) -> Vec<Value> {
        let text = String::from_utf8(lock(written).clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_message_is_a_line_whatever_it_holds() {
        let (channel, written) = channel(usize::MAX);
        let text = "a\nb\u{2028}\"}\n{\"synced\": 7}\u{0}";
        channel.stream("stdout", text, None);
        channel.stream("stderr", "", None);
        channel.display("a-1", json!({"text/plain": text}), Some(3));
        channel.finish("a-1", &json!({"text/plain": "end"}));
        assert_eq!(
            lines(&written),
            [
                output(1, None, json!({"stream": {"name": "stdout", "text": text}})),
                output(2, Some(3), json!({"display": {"id": "a-1", "data": {"text/plain": text}}})),
                json!({"update": {"id": "a-1", "data": {"text/plain": "end"}}}),
            ]
        );
    }

    #[test]
    fn without_a_kernel_nothing_is_told() {
        assert!(!fail("an error"));
        tell_of_run("a", None);
    }

    #[test]
    fn what_waits_is_sent_before_the_answer_to_a_sync() {
        let (channel, written) = channel(usize::MAX);
        channel.display("a", 1.into(), None);
        (2..9).for_each(|state| channel.update("a", state.into()));
        let said = b"{\"sync\": 4}\n\xff\xfe\n[]\nnull\n{\"sync\": -1}\n{\"sync\": \"x\"}\n{\"cell\": 5}\n{\"sync\": 5}\n";
        channel.listen(Box::new(Cursor::new(said.to_vec())));
        let seen = lines(&written);
        assert_eq!(seen[0], output(1, None, json!({"display": {"id": "a", "data": 1}})));
        assert_eq!(
            seen[seen.len() - 3..],
            [update("a", &8.into()), json!({"synced": 4}), json!({"synced": 5})]
        );
        assert!(!channel.open.load(Ordering::Relaxed), "the kernel has said all");
    }

    #[test]
    fn a_kernel_that_went_away_closes_the_channel_and_fails_nothing() {
        let (channel, written) = channel(1);
        channel.stream("stdout", "one", None);
        channel.stream("stdout", "two", None);
        channel.update("a", 1.into());
        channel.stream("stdout", "three", None);
        channel.send_what_waits(); // it returns
        assert_eq!(lines(&written), [output(1, None, json!({"stream": {"name": "stdout", "text": "one"}}))]);
        assert!(!channel.open.load(Ordering::Relaxed));
    }

    #[test]
    fn a_line_without_an_end_is_not_gathered() {
        let (channel, written) = channel(usize::MAX);
        let endless = [vec![b' '; LINE as usize + 1], b"{\"sync\": 1}\n".to_vec()].concat();
        channel.listen(Box::new(Cursor::new(endless)));
        assert!(lines(&written).is_empty() && !channel.open.load(Ordering::Relaxed));
    }
}
