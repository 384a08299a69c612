//! Faults that tests inject into the threads of the devices.

use crate::error::Result;
use std::sync::{Mutex, PoisonError};

/// What a test does in the thread of a device before it works on a pack: pipeline, stage and pack, which is
/// `usize::MAX` before it gives its sums. It may fail, panic, or keep the thread waiting; `false` ends the thread as if it had been killed.
type Fault = Box<dyn Fn(usize, usize, usize) -> Result<bool> + Send + Sync>;

static FAULT: Mutex<Option<std::sync::Arc<Fault>>> = Mutex::new(None);

/// Sets it, for all groups of devices of this process.
#[doc(hidden)]
pub fn before_each_pack(fault: impl Fn(usize, usize, usize) -> Result<bool> + Send + Sync + 'static) {
    *FAULT.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::sync::Arc::new(Box::new(fault)));
}

/// Whether the thread lives on.
pub(super) fn injected(pipeline: usize, stage: usize, pack: usize) -> Result<bool> {
    let fault = FAULT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    fault.map_or(Ok(true), |fault| fault(pipeline, stage, pack))
}
