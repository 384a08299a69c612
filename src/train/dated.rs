//! The time that rows are rendered at: part of the data where the chat template writes the date.

use super::folder::Folder;
use crate::error::Result;
use crate::model::Model;
use chrono::DateTime;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The model at one time, if its template writes the time: the given one, its own, or now.
pub(super) fn fixed(model: &Model, time: Option<i64>) -> Result<Model> {
    match model.tokenizer().is_dated() {
        true => model.at_time(time.or(model.tokenizer().time()).unwrap_or_else(now)),
        false => Ok(model.clone()),
    }
}

/// The time that this model's rows are rendered at, where it matters.
pub(super) fn time_of(model: &Model) -> Option<i64> {
    model.tokenizer().time().filter(|_| model.tokenizer().is_dated())
}

/// When a run was made whose folder does not say at what time its rows were rendered.
pub(super) fn time_of_making(folder: &Path) -> Option<i64> {
    std::fs::metadata(Folder::identity_file(folder)).ok()?.modified().ok().map(seconds)
}

/// The clock, in seconds since 1970.
pub(super) fn now() -> i64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// A time as `2024-07-26 00:00:00 UTC`.
pub(super) fn said(seconds: i64) -> String {
    match DateTime::from_timestamp(seconds, 0) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{seconds} seconds since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_dates() {
        assert_eq!(said(1_721_952_000), "2024-07-26 00:00:00 UTC");
        assert_eq!(said(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(said(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(said(-1), "1969-12-31 23:59:59 UTC");
    }
}
