//! Numbers, counts, sizes and times as a person reads them.

use std::time::Duration;

/// A whole number with a comma every three digits.
///
/// ```
/// assert_eq!(lorascope::display::thousands(1234567), "1,234,567");
/// ```
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things: the word as it stands for one, with an s for others.
///
/// ```
/// use lorascope::display::counted;
///
/// assert_eq!([counted(1, "row"), counted(2000, "row")], ["1 row", "2,000 rows"]);
/// ```
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// A number of bytes in the decimal unit that fits.
///
/// ```
/// assert_eq!(lorascope::display::bytes(98_362_432), "98.4 MB");
/// ```
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].iter();
    let mut unit = units.next();
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        value /= 1000.0;
        unit = Some(next);
    }
    let unit = unit.copied().unwrap_or("B");
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

/// A time span as a person says it.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(lorascope::display::duration(Duration::from_millis(340)), "340 ms");
/// assert_eq!(lorascope::display::duration(Duration::from_secs(75)), "1 min 15 s");
/// ```
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
