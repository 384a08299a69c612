//! Writes the steps of a run to a TensorBoard event file while it trains.

use std::path::Path;
use std::thread::JoinHandle;

use lorascope::error::{Error, Result};
use lorascope::run::{EventFile, Run, State};

/// Writes the reports of a run in its own thread, so that training does not wait for the file.
pub struct Follower(Option<JoinHandle<Result<()>>>);

impl Follower {
    /// Writes the steps after this one to a new file in the folder, if one is given.
    pub fn new(run: &Run, after: u64, folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self(None)) };
        let mut events = EventFile::create(folder)?;
        let reports = run.reports(after);
        Ok(Self(Some(std::thread::spawn(move || {
            for report in reports {
                events.write(&report)?;
            }
            Ok(())
        }))))
    }

    /// If the run no longer trains, waits until its last step is in the file.
    pub fn end(self, run: &Run) -> Result<()> {
        match self.0 {
            // A run that still trains has no last step yet.
            Some(thread) if run.status().state != State::Running => {
                thread.join().map_err(|_| Error::state("the event file for TensorBoard is incomplete"))?
            }
            _ => Ok(()),
        }
    }
}
