//! Scalar values of Arrow columns as text: decimals, dates, times.

use std::io::Write as _;

use chrono::{Datelike as _, NaiveDate};
use polars_arrow::datatypes::TimeUnit;

/// Appends a value as it is displayed.
pub(super) fn show(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// Appends a decimal number of `scale` decimal places.
pub(super) fn decimal(out: &mut Vec<u8>, value: i128, scale: usize) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    show(out, whole);
    if scale > 0 {
        show(out, format_args!(".{part}"));
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Days since 1970-01-01 as a date of the Gregorian calendar; as their number beyond some 260,000 years.
pub(super) fn date(days: i64) -> String {
    match i32::try_from(days).ok().and_then(NaiveDate::from_epoch_days) {
        Some(date) => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        None => format!("{days} days since 1970-01-01"),
    }
}

/// A time of day.
pub(super) fn time(value: i64, unit: TimeUnit) -> String {
    let per = per_second(unit);
    let (seconds, part) = (value.div_euclid(per), value.rem_euclid(per));
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match part {
        0 => clock,
        part => format!("{clock}.{part:0width$}", width = per.ilog10() as usize),
    }
}

/// A moment as RFC 3339 has it; one without a zone without its Z.
pub(super) fn moment(out: &mut Vec<u8>, value: i64, unit: TimeUnit, zoned: bool) {
    let day = 86_400 * per_second(unit);
    let (days, rest) = (value.div_euclid(day), value.rem_euclid(day));
    let zone = if zoned { "Z" } else { "" };
    show(out, format_args!("\"{}T{}{zone}\"", date(days), time(rest, unit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_781, "2026-11-24"),
            (-719_162, "0001-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn moments_and_decimals() {
        let said = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(&|out| moment(out, -1, TimeUnit::Millisecond, true)), "\"1969-12-31T23:59:59.999Z\"");
        assert_eq!(said(&|out| moment(out, 86_400, TimeUnit::Second, false)), "\"1970-01-02T00:00:00\"");
        assert_eq!(said(&|out| decimal(out, -5, 2)), "-0.05");
        assert_eq!(said(&|out| decimal(out, 12_345, 2)), "123.45");
        assert_eq!(said(&|out| decimal(out, 7, 0)), "7");
    }
}
