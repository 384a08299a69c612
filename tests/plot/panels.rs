//! Charts: well-formed SVG whatever the strings and numbers, and the right things in it.

use lorascope::display::Show;
use lorascope::plot::{
    Figure, Histogram, Scale, Series, bars, cumulative, heat_map, histogram, lines, spectra, stacked,
};
use roxmltree::Document;

use crate::common::svg::{HOSTILE, is_text_only, names, panel, texts};

#[test]
fn hostile_strings_are_text() {
    let evil = || HOSTILE.to_string();
    let figures = [
        lines(HOSTILE, HOSTILE, HOSTILE, &[Series::line(HOSTILE, [(0.0, 1.0), (1.0, 2.0)])], Scale::Linear)
            .unwrap(),
        spectra(HOSTILE, &[panel(HOSTILE, &[1.0, 0.5])]).unwrap(),
        heat_map(HOSTILE, &[evil()], &[evil()], &[vec![Some(1.0)]], HOSTILE).unwrap(),
        histogram(HOSTILE, HOSTILE, HOSTILE, &[1.0, 2.0, 2.0]).unwrap(),
        bars(HOSTILE, HOSTILE, &[(evil(), 3.0)]).unwrap(),
        stacked(HOSTILE, HOSTILE, &[evil()], &[(evil(), vec![3.0])]).unwrap(),
        cumulative(HOSTILE, HOSTILE, HOSTILE, &[Series::line(HOSTILE, [(1.0, 0.5)])], &[1.0]).unwrap(),
    ];
    figures.iter().for_each(is_text_only);
}

#[test]
fn markers_of_the_notebook_protocol_are_broken() {
    let title = "EVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html";
    let shown = lines(title, "", "", &[Series::line("", [(0.0, 1.0)])], Scale::Linear).unwrap().show();
    assert!(!shown.text.contains("EVCXR_BEGIN_CONTENT"), "{}", shown.text);
    assert!(!shown.html.contains("\nEVCXR_"), "{}", shown.html);
}

#[test]
fn text_and_axes_take_the_colour_of_the_page() {
    let figure =
        lines("Loss", "step", "loss", &[Series::line("a", [(0.0, 1.0), (1.0, 2.0)])], Scale::Linear).unwrap();
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    for node in document.descendants().filter(|node| node.has_tag_name("text")) {
        assert_eq!(node.attribute("fill"), Some("currentColor"), "{:?}", node.text());
    }
    assert!(!svg.contains("#010203") && !svg.contains("<style"));
}

#[test]
fn numbers_that_are_none_are_gaps() {
    let broken = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, f64::MAX];
    let points = broken.iter().chain(&[1.0, 2.0, f64::NAN, 3.0]).enumerate().map(|(i, y)| (i as f64, *y));
    for scale in [Scale::Linear, Scale::Log] {
        let points: Vec<_> = points.clone().chain([(f64::NAN, 1.0)]).collect();
        for series in [
            Series::line("a", points.clone()),
            Series::marks("a", points.clone()),
            Series::smoothed("a", points.clone(), 3.0),
        ] {
            let figure = lines("t", "x", "y", &[series], scale).unwrap();
            texts(&figure);
            assert!(figure.show().text.contains("least 1, most 3"), "{}", figure.show().text);
        }
    }
    texts(&histogram("t", "x", "y", &[f64::NAN, 5.0, f64::INFINITY]).unwrap());
    texts(&bars("t", "x", &[("a".into(), f64::NAN), ("b".into(), -2.0)]).unwrap());
    texts(
        &heat_map("t", &names(&["r"]), &names(&["a", "b"]), &[vec![Some(f64::NAN), Some(2.0)]], "u").unwrap(),
    );
    texts(&spectra("t", &[panel("a", &[f64::INFINITY, 2.0, f64::NAN, 1e-30, 0.0])]).unwrap());
}

#[test]
fn one_value_and_extreme_ranges_still_have_axes() {
    for value in [0.0, 1.0, -3.0, 1e-9, 1e12, 1e-300, 1e299] {
        let figure = lines("t", "x", "y", &[Series::line("a", [(value, value)])], Scale::Linear).unwrap();
        assert!(figure.svg().contains("<circle"), "{value}: a single point is a dot");
        texts(&figure);
        texts(&histogram("t", "x", "y", &[value]).unwrap());
        texts(&bars("t", "x", &[("a".into(), value)]).unwrap());
        texts(&heat_map("t", &names(&["r"]), &names(&["c"]), &[vec![Some(value)]], "u").unwrap());
    }
    texts(&lines("t", "x", "y", &[Series::line("a", [(0.0, -1e299), (1.0, 1e299)])], Scale::Linear).unwrap());
    texts(&lines("t", "x", "y", &[Series::line("a", [(0.0, 1e-299), (1.0, 1e299)])], Scale::Log).unwrap());
    texts(&histogram("t", "x", "y", &[-1e299, 0.0, 1e299]).unwrap());
}

#[test]
fn chinese_labels_are_laid_out_by_their_width() {
    let long = "每个词元的平均交叉熵损失随训练步数变化的曲线".repeat(4);
    let series: Vec<Series> =
        (0..9).map(|i| Series::line(format!("第{i}层注意力查询投影"), [(0.0, f64::from(i))])).collect();
    let figure = lines(&long, "步数", "损失", &series, Scale::Linear).unwrap();
    let texts_of = texts(&figure);
    assert!(texts_of[0].ends_with('…') && texts_of[0].chars().count() > 30, "{}", texts_of[0]);
    assert!(texts_of.contains(&"第8层注意力查询投影".to_string()), "{texts_of:?}");
    let rows = names(&["第一层", &long]);
    texts(
        &heat_map(
            &long,
            &rows,
            &names(&["注意力查询投影", "门"]),
            &vec![vec![Some(1.0), Some(20.0)]; 2],
            &long,
        )
        .unwrap(),
    );
    texts(&bars(&long, "行", &[(long.clone(), 3.0), ("短".into(), 5.0)]).unwrap());
}

#[test]
fn a_spectrum_of_zeros_says_so() {
    let figure = spectra("t", &[panel("q_proj", &[0.0; 8]), panel("k_proj", &[2.0, 1.0])]).unwrap();
    let texts = texts(&figure);
    assert_eq!(texts.iter().filter(|text| *text == "all zero").count(), 1);
}

#[test]
fn a_log_axis_has_decades() {
    let values: Vec<f64> = (0..9).map(|k| 10f64.powi(-k)).collect();
    let texts = texts(&spectra("t", &[panel("q_proj", &values)]).unwrap());
    assert!(texts.contains(&"10⁻⁴".to_string()) && texts.contains(&"1".to_string()), "{texts:?}");
}

#[test]
fn a_long_run_does_not_make_a_large_picture() {
    let noise = |i: u32| f64::from(i.wrapping_mul(2654435761) >> 8) / f64::from(1 << 24);
    let points = (0..200_000).map(|i| (f64::from(i), 1.0 + noise(i)));
    let svg =
        lines("t", "step", "loss", &[Series::smoothed("loss", points, 50.0)], Scale::Linear).unwrap().svg();
    assert!(svg.len() < 150_000, "{} bytes", svg.len());
}

#[test]
fn a_histogram_counts_every_value_once() {
    let values: Vec<f64> = (0..1000).map(|i| f64::from(i % 100)).chain([1e6]).collect();
    let figure = histogram("t", "tokens", "rows", &values).unwrap();
    let texts = texts(&figure);
    assert!(texts.iter().any(|text| text.starts_with("1 above ")), "{texts:?}");
    assert!(figure.show().text.contains("1,001 rows"), "{}", figure.show().text);
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let heights: Vec<f64> = document
        .descendants()
        .filter(|node| node.has_tag_name("rect"))
        .map(|node| node.attribute("height").unwrap().parse().unwrap())
        .collect();
    // 0 to 99, ten times each: equal bars.
    assert!(heights.len() >= 8, "{heights:?}");
    assert!(heights.iter().all(|height| (height - heights[0]).abs() < 0.02 * heights[0]), "{heights:?}");
}

#[test]
fn what_is_missing_is_said() {
    let said = |result: lorascope::error::Result<Figure>| result.unwrap_err().to_string();
    assert!(said(lines("Loss", "x", "y", &[], Scale::Linear)).contains("no series was given"));
    let negative = [Series::line("a", [(0.0, -1.0)])];
    assert!(said(lines("Loss", "x", "y", &negative, Scale::Log)).contains("positive"));
    assert!(said(spectra("S", &[])).contains("no spectrum"));
    assert!(said(histogram("H", "x", "y", &[f64::NAN])).contains("finite"));
    assert!(said(bars("B", "x", &[])).contains("finite"));
    let ragged = said(heat_map("M", &names(&["a"]), &names(&["b", "c"]), &[vec![Some(1.0)]], "u"));
    assert!(ragged.contains("2 column names"), "{ragged}");
}

#[test]
fn saving_never_overwrites_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let figure = spectra("t", &[panel("a", &[2.0, 1.0])]).unwrap();
    let path = folder.path().join("a.svg");
    figure.save(&path).unwrap();
    let error = figure.save(&path).unwrap_err().to_string();
    assert!(error.contains("a.svg") && error.contains("overwrite"), "{error}");
    figure.with_footer("seed 7").overwrite(&path).unwrap();
    let saved = std::fs::read_to_string(&path).unwrap();
    assert!(
        Document::parse(&saved).is_ok() && saved.contains("seed 7") && saved.contains("prefers-color-scheme")
    );
    let error = figure.save(folder.path().join("a.gif")).unwrap_err().to_string();
    assert!(error.contains("a.gif") && error.contains(".png"), "{error}");
    figure.save(folder.path().join("new/folder/a.svg")).unwrap();
    assert!(figure.save(path.join("a.svg")).unwrap_err().is_io(), "a file is no folder");
}

#[test]
fn a_figure_survives_serialisation() {
    let figure = spectra("t", &[panel("a", &[2.0, 1.0])]).unwrap().with_footer("seed 42");
    let text = serde_json::to_string(&figure).unwrap();
    assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), figure);
}

#[test]
fn a_cumulative_curve_marks_contexts_within_reach() {
    let curve = |end: f64| {
        Series::line("rows", (1..=100).map(|i| (end * f64::from(i) / 100.0, f64::from(i) / 100.0)))
    };
    let figure = cumulative("At most", "tokens", "%", &[curve(900.0)], &[512.0, 1024.0, 8192.0]).unwrap();
    let shown = texts(&figure);
    assert!(shown.contains(&"512".to_string()) && shown.contains(&"1,024".to_string()), "{shown:?}");
    assert!(!shown.contains(&"8,192".to_string()), "far beyond the curve");
    assert!(figure.show().text.contains("half within 450, 99 % within 891 tokens"), "{}", figure.show().text);
    for bad in [vec![], vec![Series::line("zero", [(0.0, 0.5)])], vec![Series::line("", [(f64::NAN, 0.5)])]] {
        assert!(cumulative("", "", "", &bad, &[f64::NAN]).unwrap_err().is_input());
    }
    texts(&cumulative("", "", "", &[curve(1e6)], &[f64::NAN, -1.0, 1e9, 1e5, 1.01e5]).unwrap());
}

#[test]
fn stacked_bars_follow_each_other() {
    let parts = names(&["rows", "padding"]);
    let bars = [("a".to_string(), vec![30.0, 10.0]), ("b".to_string(), vec![20.0, f64::NAN])];
    let figure = stacked("Padding", "tokens", &parts, &bars).unwrap();
    let shown = texts(&figure);
    for text in ["rows", "padding", "a", "b", "40", "20"] {
        assert!(shown.contains(&text.to_string()), "{text} in {shown:?}");
    }
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let wide = |n: usize| {
        let bars: Vec<f64> = document
            .descendants()
            .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "rect")))
            .map(|node| node.attribute("width").unwrap().parse().unwrap())
            .collect();
        bars[n]
    };
    // Two blocks in the legend come first.
    assert!((wide(2) / wide(3) - 3.0).abs() < 0.01 && (wide(2) / wide(4) - 1.5).abs() < 0.01);
    assert!(stacked("", "", &parts, &[]).unwrap_err().is_input());
    assert!(stacked("", "", &parts, &[("a".into(), vec![-1.0, 0.0])]).unwrap_err().is_input());
}

#[test]
fn bins_hold_every_value_once() {
    let lengths: Vec<f64> = (0..1000).map(|i| f64::from(i * i % 997)).chain([1e6, f64::NAN]).collect();
    let bins = Histogram::of(&lengths).unwrap();
    assert_eq!(bins.counts.iter().sum::<u64>() + bins.above, 1001);
    let end = bins.begin + bins.counts.len() as f64 * bins.width;
    assert_eq!(bins.above as usize, lengths.iter().filter(|&&value| value >= end).count());
    for (bin, &count) in bins.counts.iter().enumerate() {
        let from = bins.begin + bin as f64 * bins.width;
        let inside = lengths.iter().filter(|&&value| from <= value && value < from + bins.width).count();
        assert_eq!(count as usize, inside, "bin {bin}");
    }
    assert!(Histogram::of(&[f64::NAN]).is_none());
    let json = serde_json::to_string(&bins).unwrap();
    assert_eq!(serde_json::from_str::<Histogram>(&json).unwrap(), bins);
}
