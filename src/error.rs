//! One opaque error for the whole crate.
//!
//! A notebook cell ends in `?` and prints the error's `Display`, so the message is part of the
//! interface: it says where (file, line, layer, step), what was wrong with the values, and what to
//! do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
///
/// # Examples
/// ```
/// use lorascope::error::Error;
///
/// let error = Error::format("no closing brace").path("rows.jsonl").line(7).help("repair the line");
/// assert!(error.is_format());
/// assert_eq!(error.to_string(), "rows.jsonl, line 7: no closing brace; repair the line");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    help: Option<String>,
    path: Option<PathBuf>,
    line: Option<u64>,
    layer: Option<String>,
    device: Option<String>,
    step: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Input,
    NotFound,
    Format,
    State,
    Io,
    Compute,
    NotFinite,
    Interrupted,
}

impl Error {
    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.to_string(),
            help: None,
            path: None,
            line: None,
            layer: None,
            device: None,
            step: None,
            source: None,
        }))
    }

    /// A value that the caller passed cannot be used: a rank of 0, an unknown target module.
    pub fn input(message: impl fmt::Display) -> Self {
        Self::new(Kind::Input, message)
    }

    /// A file, a run or a named thing does not exist.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The content of a file or of a string is not what it should be.
    pub fn format(message: impl fmt::Display) -> Self {
        Self::new(Kind::Format, message)
    }

    /// The call does not fit the state that the thing is in: pausing a run that does not train.
    pub fn state(message: impl fmt::Display) -> Self {
        Self::new(Kind::State, message)
    }

    /// A tensor or a table operation failed.
    pub fn compute(message: impl fmt::Display) -> Self {
        Self::new(Kind::Compute, message)
    }

    /// A computation gave NaN or an infinity.
    pub fn not_finite(message: impl fmt::Display) -> Self {
        Self::new(Kind::NotFinite, message)
    }

    /// Work was broken off because somebody asked for it.
    pub fn interrupted() -> Self {
        Self::interrupted_at("interrupted")
    }

    /// The same, and how far the work had come.
    pub(crate) fn interrupted_at(message: impl fmt::Display) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// The operating system refused to read or write `path`; where that is empty, whoever knows it says it.
    pub fn io(path: impl AsRef<Path>, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Io,
        };
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or folder".to_string(),
            _ => error.to_string(),
        };
        let mut new = Self::new(kind, message);
        if !path.as_ref().as_os_str().is_empty() {
            new = new.path(path);
        }
        new.0.source = Some(Box::new(error));
        new
    }

    /// Whether there is no room left on the disk.
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let source = self.0.source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
    }

    /// Says which file it was. The innermost path, set first, is kept.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path.get_or_insert_with(|| path.as_ref().to_path_buf());
        self
    }

    /// Names what was asked for in place of the temporary file or folder that it was written as.
    #[must_use]
    pub(crate) fn moved(mut self, temporary: &Path, asked: &Path) -> Self {
        if let Some(path) = &mut self.0.path
            && let Ok(rest) = path.strip_prefix(temporary)
        {
            *path = match rest.as_os_str().is_empty() {
                true => asked.to_path_buf(),
                false => asked.join(rest),
            };
        }
        self
    }

    /// Says which line of the file it was, counted from 1.
    #[must_use]
    pub fn line(mut self, line: u64) -> Self {
        self.0.line.get_or_insert(line);
        self
    }

    /// Says which layer of the model it was, by its path in the weights.
    #[must_use]
    pub fn layer(mut self, layer: impl fmt::Display) -> Self {
        self.0.layer.get_or_insert_with(|| layer.to_string());
        self
    }

    /// Says which optimiser step it was, counted from 1.
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.0.step.get_or_insert(step);
        self
    }

    /// Says what to do about it, in the imperative.
    #[must_use]
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.0.help.get_or_insert_with(|| help.to_string());
        self
    }

    /// Says on which device it was: `cuda:1, rank 1`.
    #[must_use]
    pub(crate) fn on_device(mut self, name: &str) -> Self {
        self.0.device.get_or_insert_with(|| name.to_string());
        self
    }

    /// Whether a device has no more memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.0.message.to_lowercase().contains("out of memory")
    }

    /// What happened, without where it did and what to do.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The same, with the file and the line.
    pub(crate) fn message_at(&self) -> String {
        let path = self.0.path.iter().map(|path| path.display().to_string());
        let line = self.0.line.iter().map(|line| format!("line {line}"));
        let place = path.chain(line).collect::<Vec<_>>().join(", ");
        if place.is_empty() { self.0.message.clone() } else { format!("{place}: {}", self.0.message) }
    }

    /// The layer that it names.
    pub(crate) fn layer_name(&self) -> Option<&str> {
        self.0.layer.as_deref()
    }

    /// What to do about it.
    pub(crate) fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Whether a value that the caller passed was wrong.
    pub fn is_input(&self) -> bool {
        self.0.kind == Kind::Input
    }

    /// Whether something that was named does not exist.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == Kind::NotFound
    }

    /// Whether a file's or a string's content was wrong.
    pub fn is_format(&self) -> bool {
        self.0.kind == Kind::Format
    }

    /// Whether the call did not fit the state of the thing it was made on.
    pub fn is_state(&self) -> bool {
        self.0.kind == Kind::State
    }

    /// Whether the operating system refused to read or to write.
    pub fn is_io(&self) -> bool {
        self.0.kind == Kind::Io
    }

    /// Whether the work was broken off on request.
    pub fn is_interrupted(&self) -> bool {
        self.0.kind == Kind::Interrupted
    }

    /// Whether a tensor or a table operation failed, or gave numbers that are not finite.
    pub fn is_compute(&self) -> bool {
        matches!(self.0.kind, Kind::Compute | Kind::NotFinite)
    }

    /// Whether a computation gave NaN or an infinity.
    pub fn is_not_finite(&self) -> bool {
        self.0.kind == Kind::NotFinite
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        let mut places = Vec::new();
        if let Some(path) = &inner.path {
            places.push(path.display().to_string());
        }
        if let Some(line) = inner.line {
            places.push(format!("line {line}"));
        }
        if let Some(layer) = &inner.layer {
            places.push(format!("layer {layer}"));
        }
        if let Some(device) = &inner.device {
            places.push(format!("device {device}"));
        }
        if let Some(step) = inner.step {
            places.push(format!("step {step}"));
        }
        let mut text = places.join(", ");
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.message);
        if let Some(help) = &inner.help {
            text.push_str("; ");
            text.push_str(help);
        }
        // Messages quote files and datasets, and evcxr reads what a cell prints line by line.
        f.write_str(&crate::display::neutral(&text))
    }
}

impl fmt::Debug for Error {
    /// The message: what `unwrap` and a result without `?` print is for a person to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl From<candle_core::Error> for Error {
    /// candle appends a backtrace where RUST_BACKTRACE is set, as evcxr does; the cause is enough.
    fn from(error: candle_core::Error) -> Self {
        fn cause(error: &candle_core::Error) -> String {
            use candle_core::Error as E;
            match error {
                E::WithBacktrace { inner, .. } => cause(inner),
                E::Context { inner, context } => format!("{context}: {}", cause(inner)),
                E::WithPath { inner, path } => format!("{}: {}", path.display(), cause(inner)),
                other => other.to_string(),
            }
        }
        let mut new = Self::new(Kind::Compute, cause(&error));
        new.0.source = Some(Box::new(error));
        new
    }
}

impl From<polars::error::PolarsError> for Error {
    fn from(error: polars::error::PolarsError) -> Self {
        if let polars::error::PolarsError::IO { error: said, msg: None } = &error {
            return Self::io("", std::io::Error::new(said.kind(), said.to_string()));
        }
        let mut new = Self::new(Kind::Compute, &error);
        new.0.source = Some(Box::new(error));
        new
    }
}
