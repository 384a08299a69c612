//! Texts and numbers in titles and footers of charts.

/// `, 16 of 30 layers` of a title, where not all are drawn.
pub(super) fn some(drawn: usize, all: usize, of: &str) -> String {
    if drawn < all { format!(", {drawn} of {all} {of}") } else { String::new() }
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A number with three significant digits.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        size if (0.001..1e5).contains(&size) => {
            let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
        }
        0.0 => "0".to_string(),
        _ => format!("{value:.2e}"),
    }
}

/// At most `limit` of the items, evenly spaced, the first and the last among them.
pub(super) fn evenly<T: Copy>(items: &[T], limit: usize) -> Vec<T> {
    if items.len() <= limit {
        return items.to_vec();
    }
    let last = items.len() - 1;
    (0..limit).map(|i| items[(i * last + (limit - 1) / 2) / (limit - 1)]).collect()
}
