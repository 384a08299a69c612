//! Everything that a notebook sees: HTML tables, escaping, the mime bundle, progress.
//!
//! These are the only files of the library that print. evcxr reads a cell's standard output line by
//! line and takes a line that holds `EVCXR_BEGIN_CONTENT` for the start of rich output, so text
//! that comes from data or from a model goes through [`neutral`] or [`escape`] first.

mod audience;
mod bundle;
mod dashboard;
mod data_frames;
mod escaping;
mod live;
mod number_format;
mod page;
mod plain_values;
mod progress;
mod show;
mod table;
mod untrusted;

pub(crate) use audience::advice;
pub use audience::{Audience, speak_to};
pub use bundle::Bundle;
pub use dashboard::{Dashboard, dashboard};
pub use escaping::{attribute, cut, escape, neutral};
pub(crate) use escaping::{in_line, width};
pub use live::Live;
pub use number_format::{bytes, counted, duration, thousands};
pub use page::{Cards, Page};
pub(crate) use plain_values::{brief, failed};
pub use progress::{OutputStream, Progress, progress_on};
pub use show::{EvcxrDisplay, Show, Text};
pub use table::{Align, Table};
