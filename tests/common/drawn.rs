//! Small data for charts, and what was drawn of it.

use lorascope::plot::{Figure, HeatPanel, Measure, NoisyPoint, Series};
use roxmltree::Document;

pub fn measure(name: &str, value: f64) -> Measure {
    Measure::new(name, [Series::line(name, [(1.0, value), (2.0, value / 2.0)])])
}

pub fn map(name: &str, values: &[&[f64]]) -> HeatPanel {
    let values = values.iter().map(|row| row.iter().map(|&value| Some(value)).collect()).collect();
    HeatPanel { name: name.into(), values }
}

pub fn spread(rank: f64, loss: f64) -> NoisyPoint {
    NoisyPoint { x: rank, low: loss - 0.1, middle: loss, high: loss + 0.1 }
}

/// The attributes `names` of all elements of a kind, as numbers.
pub fn shapes<const N: usize>(figure: &Figure, tag: &str, names: [&str; N]) -> Vec<[f64; N]> {
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let all = document.descendants().filter(|node| node.tag_name().name() == tag);
    all.map(|node| names.map(|name| node.attribute(name).unwrap().parse().unwrap())).collect()
}

/// Where a text stands.
pub fn place(figure: &Figure, wanted: &str) -> (f64, f64) {
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let mut all =
        document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
    let node = all.find(|node| node.text().unwrap_or_default().trim() == wanted);
    let node = node.unwrap_or_else(|| panic!("no {wanted:?}"));
    let number = |name: &str| node.attribute(name).unwrap().parse().unwrap();
    (number("x"), number("y"))
}

/// A column of numbers of a figure's data.
pub fn column(figure: &Figure, name: &str) -> Vec<Option<f64>> {
    figure.data().unwrap().column(name).unwrap().f64().unwrap().iter().collect()
}

pub fn names_of(figure: &Figure) -> Vec<String> {
    figure.data().unwrap().get_column_names().iter().map(|name| name.to_string()).collect()
}
