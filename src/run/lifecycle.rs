//! The thread of a run: how it is started, closed and found again in this process.

use super::handle::{Run, RunInner};
use super::names::name_of;
use super::registry;
use super::state::status::Status;
use super::worker::process;
use super::worker::thread::{Request, Worker};
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};

impl Run {
    /// Starts the thread of a run.
    pub(crate) fn start_thread(path: PathBuf, worker: Worker, pool: rayon::ThreadPool) -> Result<Self> {
        let (sender, requests) = channel();
        let inner = Arc::new(RunInner {
            name: name_of(&path),
            folder: path,
            model: worker.model.clone(),
            config: worker.config.clone(),
            segments: worker.segments.clone(),
            eval: worker.eval.clone(),
            shared: worker.shared.clone(),
            requests: Mutex::new(sender),
            panels: Mutex::default(),
            show_end: OnceLock::new(),
        });
        std::thread::Builder::new()
            .name(format!("run {}", inner.name))
            .spawn(move || worker.work(requests, &pool))
            .map_err(|e| Error::io(&inner.folder, e))?;
        registry::insert(inner.clone());
        Ok(Self(inner))
    }

    /// Pauses, ends the run's thread and lets go of its folder and its memory, so that another process
    /// can open it. [`Run::open`] reads it from disk again; older handles still show what it had
    /// learned.
    ///
    /// # Errors
    /// When the snapshot cannot be written, or the run has ended before.
    pub fn close(&self) -> Result<()> {
        self.pause()?;
        self.end();
        Ok(())
    }

    /// Ends the thread without a snapshot. The folder is free when this returns.
    pub(crate) fn end(&self) {
        let (answer, answered) = channel();
        self.0.shared.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // Without an answer the thread had ended before, which is all that is asked.
        if self.send(Request::End(answer)).is_ok() {
            let _ = answered.recv();
        }
        registry::remove(&self.0);
        // The thread of the panels does not keep the run alive, and may come too late.
        if let Some(show) = self.0.show_end.get() {
            show(self);
        }
        process::give_back();
    }
}

/// The runs that this process has open.
pub fn runs() -> Vec<Status> {
    registry::all().into_iter().map(|inner| Run(inner).status()).collect()
}
