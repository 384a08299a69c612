//! Optimiser, the step, run state on disk, the run handle.
