//! The handle of a run: what all its verbs start from.

use super::journal::Settings;
use super::segments::Segments;
use super::state::shared::Shared;
use super::state::status::State;
use super::worker::thread::Request;
use crate::display::Displayed;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::RunConfig;
use crate::train::batches::Batches;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A training run: it trains in a thread of its own and saves itself; this is the handle to it.
///
/// Cheap to clone, and all methods take `&self`. The run itself lives in the process until it ends:
/// dropping a handle stops nothing and loses nothing, and [`Run::get`] gives another one.
#[derive(Clone)]
pub struct Run(pub(crate) Arc<RunInner>);

/// What all handles of a run share.
pub(crate) struct RunInner {
    pub name: String,
    pub folder: PathBuf,
    pub model: Model,
    pub config: RunConfig,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub shared: Arc<Shared>,
    pub requests: Mutex<Sender<Request>>,
    /// The panels that follow it, in the cells of a notebook.
    pub panels: Mutex<Vec<Displayed>>,
    /// Shows the last state in these panels, where there are some.
    pub show_end: OnceLock<fn(&Run)>,
}

impl RunInner {
    /// Whether its thread has ended.
    pub fn ended(&self) -> bool {
        self.shared.read().state == State::Closed
    }
}

impl Run {
    /// The run's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it lies on disk, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Its settings as it was made with; [`changes`](Self::changes) came after.
    pub fn config(&self) -> &RunConfig {
        &self.0.config
    }

    /// The model that it adapts.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// What holds for the next step.
    pub(crate) fn settings(&self) -> Settings {
        let current = self.0.shared.read();
        current.journal.settings(&self.0.config, current.place.step + 1)
    }

    /// The line below its pictures.
    pub(crate) fn footer(&self) -> String {
        let c = &self.0.config;
        format!(
            "{} · {} · rank {} · lr {:e} · seed {}",
            self.0.name,
            self.0.model.name(),
            c.lora.rank,
            self.settings().lr,
            c.seed
        )
    }

    pub(crate) fn send(&self, request: Request) -> Result<()> {
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.send(request).map_err(|_| self.ended())
    }

    pub(crate) fn ended(&self) -> Error {
        Error::state(format!("the run {:?} has ended", self.0.name))
            .help("Run::open(folder)? reads it from disk")
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({})", self.0.folder.display())
    }
}
