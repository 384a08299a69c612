//! A run: its handle, the thread that trains, and its folder on disk.
//!
//! [`Run`] is the handle. Its verbs lie in one file a group:
//!
//! | file | verbs of `Run` |
//! |---|---|
//! | `create.rs` | `new` |
//! | `existing.rs` | `get`, `exists`, `new_or_get`, `saved`, `delete` |
//! | `open.rs` | `open`, `open_with` |
//! | `fork.rs` | `fork` |
//! | `handle.rs` | `name`, `folder`, `config`, `model` |
//! | `lifecycle.rs` | `close`; [`runs`] lists those of this process |
//! | `control.rs` | `step`, `steps`, `steps_of`, `start`, `start_epochs`, `start_for`, `start_until`, `resume`, `pause`, `stop`, `rewind`, `rewind_to_best`, `wait`, `status` |
//! | `manual_step.rs` | `next_batch`, `batch_of`, `forward_backward`, `optimizer_step`, `clear_gradients` |
//! | `devices.rs` | `set_devices` |
//! | `changes.rs` | `set_lr`, `cooldown`, `set_schedule`, `set_batch`, `set_data`, `freeze`, `watch`, …, `changes` |
//! | `view.rs` | `history`, `adapters`, `save_adapter`, `overwrite_adapter`, `batch`, `left_out` |
//! | `evaluate.rs` | `evaluate`, `evaluate_on`, `evaluate_with`, `best` |
//! | `chat.rs` | `sample`, `chat`, `compare`, `answers` |
//! | `reports.rs` | `reports` |
//! | `run_file.rs` | `save_config`, `overwrite_config` |
//!
//! What a run is asked that needs an analysis of its own (`spectra`, `find_lr`, `rank_curve`, `preflight`, `inspect`,
//! …) lies in the folder [`analysis`](crate::analysis).
//!
//! The folder `worker` has the thread that makes the steps, `state` what it publishes, `disk` the files of a run.
//! `pause` and `stop` set `state::shared::Shared::stop`, which cancels the unfinished step, and send the thread a
//! request (`worker/thread.rs`), which it answers when a snapshot is on disk.

mod answers;
mod changes;
mod chat;
mod control;
mod create;
mod devices;
pub(crate) mod disk;
mod evaluate;
mod existing;
mod fork;
pub(crate) mod handle;
pub(crate) mod history;
pub(crate) mod journal;
mod lifecycle;
mod manual_step;
mod names;
mod open;
mod registry;
mod reports;
mod run_file;
mod segments;
pub(crate) mod state;
#[cfg(feature = "tensorboard")]
mod tensorboard;
mod view;
pub(crate) mod worker;

pub use answers::{Answer, Answers};
pub use changes::Changes;
#[doc(hidden)]
pub use disk::operations::{Operation, before_each_operation};
pub use existing::SavedRun;
pub use handle::Run;
pub use history::History;
pub use journal::{Change, Rows};
pub use lifecycle::runs;
pub use open::{Changed, OpenRun};
pub use reports::Reports;
pub use run_file::{RowsFrom, RunFile};
pub use state::status::{Ending, State, Status};
#[cfg(feature = "tensorboard")]
pub use tensorboard::EventFile;
pub use view::BatchView;
