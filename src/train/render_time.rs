//! The time at which rows are rendered: part of the data where the chat template writes the date.

use crate::error::Result;
use crate::model::Model;
use chrono::DateTime;
use std::time::{SystemTime, UNIX_EPOCH};

/// Fixes the time of a model whose template writes it: the given time, the model's own, or now.
pub(crate) fn fixed(model: &Model, time: Option<i64>) -> Result<Model> {
    match model.tokenizer().is_dated() {
        true => model.at_time(time.or(model.tokenizer().time()).unwrap_or_else(now)),
        false => Ok(model.clone()),
    }
}

/// The time at which this model's rows are rendered; `None` where its template writes none.
pub(crate) fn time_of(model: &Model) -> Option<i64> {
    model.tokenizer().time().filter(|_| model.tokenizer().is_dated())
}

/// The clock, in seconds since 1970.
pub(crate) fn now() -> i64 {
    seconds(SystemTime::now())
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// A time as `2024-07-26 00:00:00 UTC`.
pub(crate) fn utc(seconds: i64) -> String {
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
        assert_eq!(utc(1_721_952_000), "2024-07-26 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(-1), "1969-12-31 23:59:59 UTC");
    }
}
