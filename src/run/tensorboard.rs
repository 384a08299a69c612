//! The numbers of each step as a file of events, which TensorBoard shows.
//!
//! The crates that write such files panic where a file cannot be written and bring an old image library along
//! (`tensorboard-rs`), or have many dependencies for what is not needed here (`tfrecord`). A file of numbers needs
//! three messages and a checksum: `prost` encodes the former, without a compiler for protocols, `crc32c` computes
//! the latter.

use crate::error::{Error, Result};
use crate::train::StepReport;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// `tensorflow.Event`, as far as numbers need it.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// A file of events that TensorBoard follows: `tensorboard --logdir FOLDER`.
///
/// # Examples
/// ```
/// use lorascope::run::EventFile;
/// use lorascope::train::StepReport;
///
/// let folder = tempfile::tempdir().unwrap();
/// let mut events = EventFile::create(folder.path())?;
/// // for report in run.reports(0)
/// let report = StepReport { step: 1, loss: 2.5, ..StepReport::default() };
/// events.write(&report)?;
/// let bytes = std::fs::read(events.path()).unwrap();
/// assert!(bytes.windows(10).any(|part| part == b"train/loss"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// Bytes of whole records.
    length: u64,
}

impl EventFile {
    /// Begins a new file in a folder, which is made where it is missing. Files that are there stay:
    /// TensorBoard shows them as one curve.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let (now, process) = (now(), std::process::id());
        let mut number = 0;
        let (path, file) = loop {
            let name = format!("events.out.tfevents.{:010}.lorascope.{process}.{number}", now as u64);
            let path = folder.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(Error::io(&path, e)),
            }
        };
        let mut events = Self { path, file, length: 0 };
        let version = Some("brain.Event:2".to_string());
        events.record(&Event { wall_time: now, file_version: version, ..Event::default() })?;
        Ok(events)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the numbers of a step: `train/loss`, `train/gradient_norm`, `train/lr`, `train/epoch`,
    /// `train/tokens_per_second`, `train/memory` and, where the step was evaluated, `eval/loss`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, report: &StepReport) -> Result<()> {
        let mut numbers = vec![
            ("train/loss", report.loss),
            ("train/gradient_norm", report.gradient_norm),
            ("train/lr", report.lr),
            ("train/epoch", report.epoch),
            ("train/tokens_per_second", report.tokens_per_second()),
        ];
        numbers.extend(report.memory.map(|bytes| ("train/memory", bytes as f64)));
        numbers.extend(report.eval_loss.map(|loss| ("eval/loss", loss)));
        let value =
            |(tag, number): (&str, f64)| Value { tag: tag.to_string(), simple_value: Some(number as f32) };
        let summary = Some(Summary { value: numbers.into_iter().map(value).collect() });
        let step = i64::try_from(report.step).unwrap_or(i64::MAX);
        self.record(&Event { wall_time: now(), step, file_version: None, summary })
    }

    /// A record: its length, a checksum of the length, the event, a checksum of the event.
    fn record(&mut self, event: &Event) -> Result<()> {
        let bytes = event.encode_to_vec();
        let length = (bytes.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(bytes.len() + 16);
        record.extend(length);
        record.extend(masked(&length).to_le_bytes());
        record.extend(&bytes);
        record.extend(masked(&bytes).to_le_bytes());
        // In one piece: TensorBoard may read at any time, and goes on behind no record that is cut off.
        let whole = self.file.write_all(&record).map(|()| self.length += record.len() as u64);
        whole.map_err(|e| {
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            Error::io(&self.path, e)
        })
    }
}

/// CRC-32C, masked as TFRecord does: rotated by 15 bits, plus a constant.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
