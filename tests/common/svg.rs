//! What figures must hold whatever stands in them.

use lorascope::display::Show;
use lorascope::plot::{Curve, Figure, Panel};
use roxmltree::Document;

pub const HOSTILE: &str = "</svg><script>alert(1)</script> & \"'<\u{0}\u{ffff}\n\u{1b}[31m";

pub fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

pub fn panel(name: &str, values: &[f64]) -> Panel {
    Panel {
        name: name.into(),
        curves: vec![Curve { name: name.into(), depth: 3.0, values: values.to_vec() }],
    }
}

/// The texts of a figure, after a check that it is XML in which every element is a plain shape and
/// every text stands inside the picture.
pub fn texts(figure: &Figure) -> Vec<String> {
    let svg = figure.with_footer(HOSTILE).svg();
    let document = Document::parse(&svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    let view: Vec<f64> = document
        .root_element()
        .attribute("viewBox")
        .unwrap()
        .split(' ')
        .map(|n| n.parse().unwrap())
        .collect();
    let number = |node: &roxmltree::Node, name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let mut texts = Vec::new();
    for node in document.descendants().filter(|node| node.is_element()) {
        let name = node.tag_name().name();
        assert!(["svg", "text", "line", "polyline", "rect", "circle", "polygon"].contains(&name), "<{name}>");
        assert!(node.attributes().all(|a| !a.name().starts_with("on")), "{name}");
        if name == "rect" {
            assert!(number(&node, "width") >= 0.0 && number(&node, "height") >= 0.0);
        }
        if name == "polyline" {
            for pair in node.attribute("points").unwrap().split(' ') {
                let (x, y) = pair.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((0.0..=view[2]).contains(&x) && (0.0..=view[3]).contains(&y), "{pair}");
            }
        }
        if name == "text" {
            let text = node.text().unwrap_or_default().trim().to_string();
            // Half an em a character, a full one for wide scripts: nothing may leave the picture.
            let em: f64 = text.chars().map(|c| if c as u32 >= 0x2e80 { 1.0 } else { 0.5 }).sum();
            let length = em * number(&node, "font-size");
            let upright = node.attribute("transform").is_some();
            let (at, end) =
                if upright { (view[3] - number(&node, "y"), view[3]) } else { (number(&node, "x"), view[2]) };
            let (from, to) = match node.attribute("text-anchor") {
                Some("end") => (at - length, at),
                Some("middle") => (at - length / 2.0, at + length / 2.0),
                _ => (at, at + length),
            };
            assert!(from >= -1.0 && to <= end + 1.0, "{text:?} from {from} to {to} of {end}");
            // Across: the height of a line about its middle, above its foot or below its head.
            let (middle, end) =
                if upright { (number(&node, "x"), view[2]) } else { (number(&node, "y"), view[3]) };
            let size = number(&node, "font-size");
            let (above, below) = match node.attribute("dy") {
                Some("0.5ex") => (0.5, 0.5),
                Some("0.76em") => (0.0, 1.0),
                Some("-0.5ex") => (1.0, 0.0),
                None => (1.0, 0.0),
                Some(other) => panic!("{text:?} is shifted by {other}"),
            };
            let (from, to) = (middle - above * size, middle + below * size);
            assert!(from >= -1.0 && to <= end + 1.0, "{text:?} across from {from} to {to} of {end}");
            texts.push(text);
        }
    }
    texts
}

/// A hostile title or name is text in the figure, and nothing else.
pub fn is_text_only(figure: &Figure) {
    let texts = texts(figure);
    assert!(texts.iter().any(|text| text.starts_with("</svg><script>")), "{texts:?}");
    let html = figure.show().html;
    assert!(!html.contains("<script") && html.matches("</svg>").count() == 1);
}
