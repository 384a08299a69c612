//! Figures in a notebook that is not trusted: JupyterLab's sanitiser drops drawings and style sheets, and leaves
//! images.

use lorascope::display::{Show, Table, Text, dashboard};
use lorascope::plot::{Figure, Scale, Series, Theme, lines, waterfall};
use roxmltree::Document;

fn figure() -> Figure {
    let loss = Series::smoothed(
        "损失 'a' \"b\" 100 % #1",
        (0..50).map(|i| (f64::from(i), 3.0 / f64::from(1 + i))),
        8.0,
    );
    lines("Loss & <more>", "step", "nats", &[loss], Scale::Linear).unwrap()
}

/// What the sanitiser of JupyterLab 4.6 (sanitize-html 2) leaves of what lorascope shows: of `<style>` nothing, of
/// `<svg>` and what is in it the texts, and no attribute without a value.
fn sanitised(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(begin) = rest.find('<') {
        out.push_str(&rest[..begin]);
        let end = begin + rest[begin..].find('>').unwrap() + 1;
        let tag = &rest[begin..end];
        let name: String =
            tag.trim_start_matches(['<', '/']).chars().take_while(char::is_ascii_alphanumeric).collect();
        rest = &rest[end..];
        match name.as_str() {
            "style" => rest = rest.split_once("</style>").unwrap().1,
            "svg" | "text" | "line" | "polyline" | "polygon" | "rect" | "circle" => {}
            _ => out.push_str(&tag.replace(" hidden>", ">").replace(" hidden ", " ")),
        }
    }
    out + rest
}

/// The documents in the images of some HTML.
fn images(html: &str) -> Vec<String> {
    const BEGIN: &str = " src=\"data:image/svg+xml,";
    let addresses = html.split(BEGIN).skip(1).map(|rest| rest.split_once('"').unwrap().0);
    let decoded = |address: &str| {
        let mut bytes = Vec::new();
        let mut rest = address.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    addresses.map(decoded).collect()
}

#[test]
fn an_image_of_the_figure_is_seen_without_trust() {
    let html = figure().show().printed();
    assert_eq!((html.matches("<svg ").count(), html.matches("<img ").count()), (1, 1));
    // Trusted, the drawing is shown and the image is not.
    assert!(html.contains(".lorascope-drawing[hidden]{display:block!important}"));
    assert!(html.contains(".lorascope-image{display:none!important}"));
    let safe = sanitised(&html);
    assert!(!safe.contains("<svg") && !safe.contains("<style"), "{safe}");
    // The texts that stay of the drawing are hidden, the image is not.
    assert!(
        safe.contains("<div class=\"lorascope-drawing\" hidden=\"hidden\" style=\"display:none\">"),
        "{safe}"
    );
    let image = safe.split_once("<img ").unwrap().1.split_once('>').unwrap().0;
    assert!(!image.contains("hidden") && image.contains("alt=\"Loss &amp; &lt;more&gt;\""), "{image}");

    let drawn = images(&safe);
    let document = Document::parse(&drawn[0]).unwrap();
    let root = document.root_element();
    assert_eq!(root.attribute("color"), Some("#1f2328"));
    let page = root.children().find(|node| node.is_element()).unwrap();
    assert_eq!((page.tag_name().name(), page.attribute("fill")), ("rect", Some("#ffffff")));
    let svg = figure().svg();
    let same = Document::parse(&svg).unwrap();
    let texts = |document: &Document| -> Vec<String> {
        let nodes =
            document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
        nodes.map(|node| node.text().unwrap_or_default().to_string()).collect()
    };
    assert_eq!(texts(&document), texts(&same));
    assert!(texts(&document).iter().any(|text| text.contains("损失 'a' \"b\" 100 % #1")));
}

#[test]
fn a_page_of_its_own_stays_and_several_figures_have_an_image_each() {
    let dark = figure().with_theme(Theme::Dark);
    let drawn = images(&dark.show().printed());
    assert!(drawn[0].contains("fill='#0d1117'") && !drawn[0].contains("#ffffff"), "{}", &drawn[0][..400]);

    let board = dashboard("both", &[&figure(), &dark, &Text::new("words")]).show().printed();
    assert_eq!((images(&board).len(), board.matches("<style>").count()), (2, 1));
    assert!(board.contains("words"));
}

#[test]
fn the_image_costs_little_more_than_the_drawing() {
    let spectra: Vec<(f64, Vec<f64>)> = (0..240)
        .map(|n| (f64::from(n), (1..17).map(|k| f64::from(k * (n + 1)).ln() + 1.0).rev().collect()))
        .collect();
    for figure in [figure(), waterfall("large", &spectra).unwrap()] {
        let (svg, printed) = (figure.svg().len(), figure.show().printed().len());
        assert!(printed < svg * 9 / 4 + 1500, "{printed} of {svg}");
    }
}

#[test]
fn nothing_is_added_where_there_is_no_figure() {
    let mut table = Table::new([("a", lorascope::display::Align::Left)]);
    table.row(["<svg width=\"1\"></svg>"]);
    let printed = table.show().printed();
    assert!(!printed.contains("<img") && !printed.contains("<style"), "{printed}");
}

#[test]
fn words_stay_on_their_side() {
    // The sanitiser knows left and right; which side text begins on it does not.
    let mut table = Table::new([("name", lorascope::display::Align::Left)]);
    table.row(["a word"]);
    let html = sanitised(&table.show().html).replace(";text-align:start", "");
    assert_eq!(html.matches("text-align:left").count(), 2 + html.matches("<caption").count(), "{html}");
}
