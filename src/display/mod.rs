//! Everything that a notebook sees: HTML tables, escaping, the mime bundle, progress.
//!
//! These are the only files of the library that print. evcxr reads a cell's standard output line by
//! line and takes a line that holds `EVCXR_BEGIN_CONTENT` for the start of rich output, so text
//! that comes from data or from a model goes through [`neutral`] or [`escape`] first.
//!
//! The lorascope kernel listens on a socket beside it (`channel.rs`): [`show`] and [`Progress`] then show at once, and
//! displays go on moving when their cell has ended. Everywhere else the same calls print.

mod audience;
mod bundle;
mod cell_store;
mod channel;
mod dashboard;
mod data_frames;
mod displayed;
mod escaping;
mod live;
mod number_format;
mod outbox;
mod page;
mod plain_values;
mod printing;
mod progress;
mod show;
mod stop;
mod table;
mod untrusted;

pub(crate) use audience::advice;
pub use audience::{Audience, speak_to};
pub use bundle::Bundle;
#[doc(hidden)]
pub use cell_store::{VariableStore, create_variable_store, tell_error};
pub use channel::{attach_kernel, attach_kernel_at};
pub(crate) use channel::{before_end, before_sync, in_kernel, tell_of_run};
pub use dashboard::{Dashboard, dashboard};
pub use displayed::{Displayed, show};
pub use escaping::{attribute, cut, escape, neutral};
pub(crate) use escaping::{in_line, width};
pub use live::Live;
pub use number_format::{bytes, counted, duration, thousands};
pub use page::{Cards, Page};
pub(crate) use plain_values::{brief, failed};
pub use printing::{Printed, print_in_cell};
pub use progress::{OutputStream, Progress, progress_on};
pub use show::{EvcxrDisplay, Show, Text};
pub use stop::stop_requested;
pub(crate) use stop::{StopButton, check_stop, work_in_background};
pub use table::{Align, Table};
