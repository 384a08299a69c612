//! What a run's thread publishes, readable at any moment: where the run is, what it does, and when it stops.

pub(crate) mod diverged;
pub(crate) mod shared;
pub(crate) mod status;
pub(crate) mod stopping;
