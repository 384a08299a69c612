//! The steps of a run in a file of events for TensorBoard, while they come.

use std::path::Path;
use std::thread::JoinHandle;

use lorascope::error::{Error, Result};
use lorascope::run::{EventFile, Run, State};

/// Writes the reports of a run aside, so that training does not wait for the file.
pub struct Follower(Option<JoinHandle<Result<()>>>);

impl Follower {
    /// Follows the steps after this one into a new file in the folder, where one is given.
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

    /// Waits until the last step of a run that rests is in the file.
    pub fn end(self, run: &Run) -> Result<()> {
        match self.0 {
            // A run that trains on has no last step.
            Some(thread) if run.status().state != State::Running => {
                thread.join().map_err(|_| Error::state("the file of events was not written to its end"))?
            }
            _ => Ok(()),
        }
    }
}
