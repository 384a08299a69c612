//! The charts of a run and of its spectra: heights, places and tables against the numbers given.

use crate::common::drawn::{column, map, measure, names_of, place, shapes, spread};
use lorascope::display::{Show, Text, dashboard};
use lorascope::plot::{
    Figure, Fit, Histogram, Measure, Scale, Series, SpectraStyle, Theme, energy, grouped, heat_map,
    heat_panels, intruders, lines, multiples, rank_curve, spectra, spectra_as, stack, traces, traces_beside,
    two_axes, waterfall,
};
use roxmltree::Document;

use crate::common::svg::{HOSTILE, names, panel, texts};

#[test]
fn a_figure_gives_the_numbers_it_was_made_of() {
    let series = [Series::line("a", [(1.0, 2.5), (2.0, f64::NAN)]), Series::marks("b", [(1.0, 1e308)])];
    let figure = lines("t", "step", "loss", &[series[0].clone(), series[1].clone()], Scale::Linear).unwrap();
    assert_eq!(names_of(&figure), ["series", "step", "loss"]);
    assert_eq!(column(&figure, "loss"), [Some(2.5), None, None]);
    assert_eq!(column(&figure, "step"), [Some(1.0), Some(2.0), Some(1.0)]);
    let data = figure.data().unwrap();
    let named: Vec<Option<&str>> = data.column("series").unwrap().str().unwrap().iter().collect();
    assert_eq!(named, [Some("a"), Some("a"), Some("b")]);
    // Equal and empty names still give a table; so do names that meet by renaming.
    let odd = lines("t", "series", "", &series[..1], Scale::Linear).unwrap();
    assert_eq!(names_of(&odd), ["series", "series 2", "column 3"]);
    assert_eq!(
        names_of(&odd.with_columns(["column 3", "column 3"])),
        ["column 3", "column 3 2", "column 3 3"]
    );

    let bins = Histogram::of(&[1.0, 2.0, 2.0, 3.0, 6.0]).unwrap().figure("t", "dots", "throws").unwrap();
    assert_eq!(names_of(&bins), ["dots from", "dots to", "throws"]);
    assert_eq!(column(&bins, "throws"), [1.0, 2.0, 1.0, 0.0, 0.0, 1.0].map(Some));
    let cells =
        heat_map("t", &names(&["0", "1"]), &names(&["q"]), &[vec![Some(7.5)], vec![None]], "rank").unwrap();
    assert_eq!(column(&cells, "rank"), [Some(7.5), None]);
    let moved = waterfall("t", &[(3.0, vec![2.0, 1.0]), (4.0, vec![4.0, 0.0])]).unwrap();
    assert_eq!(column(&moved, "step"), [3.0, 3.0, 4.0, 4.0].map(Some));
    assert_eq!(column(&moved, "k"), [1.0, 2.0, 1.0, 2.0].map(Some));
    assert_eq!(column(&moved, "singular value"), [2.0, 1.0, 4.0, 0.0].map(Some));
    let both = two_axes("t", "step", &measure("rank", 8.0), &measure("loss", 2.0)).unwrap();
    assert_eq!(column(&both, "rank"), [Some(8.0), Some(4.0), None, None]);
    assert_eq!(column(&both, "loss"), [None, None, Some(2.0), Some(1.0)]);
    let phi = heat_panels("t", "j", "i", "φ", None, &[map("a", &[&[0.1, 0.2], &[0.3, 0.4]])]).unwrap();
    assert_eq!(names_of(&phi), ["panel", "i", "j", "φ"]);
    assert_eq!(column(&phi, "j"), [1.0, 2.0, 1.0, 2.0].map(Some));
    assert_eq!(column(&phi, "φ"), [0.1, 0.2, 0.3, 0.4].map(Some));
    let rank =
        rank_curve("t", "loss", "cut", &[spread(4.0, 1.0)], None, &[Series::line("own", [(4.0, 0.5)])]);
    assert_eq!(column(&rank.unwrap(), "low"), [Some(0.9), None]);
}

#[test]
fn heights_follow_the_numbers() {
    // τ = 0.75 lies three quarters up, the point where it is reached at its own share.
    let figure = energy("t", &[Series::line("q", [(1.0, 0.5), (2.0, 0.8), (3.0, 1.0)])], Some(0.75)).unwrap();
    texts(&figure);
    let (zero, one, tau) = (place(&figure, "0").1, place(&figure, "1.0").1, place(&figure, "τ = 0.75").1);
    assert!(((zero - tau) / (zero - one) - 0.75).abs() < 0.01);
    let [_, at] = shapes(&figure, "circle", ["cx", "cy"])[0];
    let ticks = zero - one;
    let baseline = place(&figure, "0").1 - at;
    assert!((baseline / ticks - 0.8).abs() < 0.02, "{baseline} of {ticks}");

    // Doublings are equally far apart.
    let curve = [spread(1.0, 2.0), spread(2.0, 1.5), spread(8.0, 1.0)];
    let figure = rank_curve("t", "loss", "cut", &curve, Some(2.0), &[]).unwrap();
    let [one, two, four, eight] = ["1", "2", "4", "8"].map(|rank| place(&figure, rank).0);
    assert!(((two - one) - (four - two)).abs() < 2.0 && ((four - two) - (eight - four)).abs() < 2.0);
    assert!((place(&figure, "rank 2").0 - two).abs() < 2.0);
    assert!(figure.show().text.contains("rank 8: 1 (0.9 to 1.1)\nchosen: rank 2"), "{}", figure.show().text);

    // Bars of 1, 2 and −1: from zero, in proportion. A block in the legend comes first.
    let bars = [("a".to_string(), vec![1.0]), ("b".to_string(), vec![2.0]), ("c".to_string(), vec![-1.0])];
    let figure = grouped("t", "norm", &names(&["part"]), &bars, Scale::Linear).unwrap();
    let drawn = shapes(&figure, "rect", ["x", "width"]);
    assert!((drawn[2][1] / drawn[1][1] - 2.0).abs() < 0.01 && (drawn[3][1] / drawn[1][1] - 1.0).abs() < 0.01);
    assert!((drawn[3][0] + drawn[3][1] - drawn[1][0]).abs() <= 1.0, "{drawn:?}");

    // Two intruders, as diamonds with their index; three others as circles; one in the legend each.
    let figure = intruders("t", &[0.99, 0.2, 0.9, f64::NAN, 0.4, 1.0 + 1e-9], 0.5).unwrap();
    assert_eq!(shapes(&figure, "circle", ["cx"]).len(), 1 + 3);
    assert_eq!(figure.svg().matches("<polygon").count(), 1 + 2);
    assert!(figure.show().text.contains("2 of 5 below 0.5: 2, 5"), "{}", figure.show().text);
}

#[test]
fn maps_beside_each_other_share_their_colours() {
    let figure = heat_panels(
        "t",
        "j",
        "i",
        "φ",
        Some((0.0, 1.0)),
        &[map("one", &[&[0.25]]), map("two", &[&[0.25, 1.0]])],
    )
    .unwrap();
    texts(&figure);
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let rects =
        document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "rect")));
    let fills: Vec<&str> = rects.map(|node| node.attribute("fill").unwrap()).collect();
    assert_eq!(fills[0], fills[1]);
    assert_eq!(fills[2], "#FDE725", "the last colour of viridis");
    for text in ["0.25", "1.00"] {
        place(&figure, text);
    }
}

#[test]
fn series_differ_by_more_than_colour() {
    let series: Vec<Series> = (0..3).map(|i| measure("a", f64::from(i) + 1.0).series.remove(0)).collect();
    let svg = lines("t", "x", "y", &series, Scale::Linear).unwrap().svg();
    let document = Document::parse(&svg).unwrap();
    let all =
        document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "polyline")));
    let dashes: Vec<Option<&str>> = all.map(|node| node.attribute("stroke-dasharray")).collect();
    // The legend's and then the plot's.
    assert_eq!(dashes[..3], dashes[3..]);
    assert!(dashes[0].is_none() && dashes[1].is_some() && dashes[2].is_some() && dashes[1] != dashes[2]);
}

#[test]
fn fits_are_off_until_asked_for_and_right_then() {
    let halved: Vec<f64> = (0..6).map(|k| 0.5f64.powi(k)).collect();
    let panels = [panel("q_proj", &halved)];
    assert!(!spectra("t", &panels).unwrap().svg().contains("stroke-dasharray"));
    let fitted =
        spectra_as("t", &panels, SpectraStyle { fit: Fit::Line, ..SpectraStyle::default() }).unwrap();
    assert!(fitted.svg().contains("stroke-dasharray"));
    // log₁₀ 2 = 0.301.
    assert!(fitted.show().text.contains("log₁₀ σ falls by 0.301 "), "{}", fitted.show().text);
    let style = SpectraStyle { fit: Fit::Line, scale: Scale::Linear };
    let straight = spectra_as("t", &[panel("q_proj", &[5.0, 4.0, 3.0, f64::NAN, 1.0])], style).unwrap();
    assert!(straight.show().text.contains(", σ falls by 1 "), "{}", straight.show().text);
    texts(&spectra_as("t", &[panel("q_proj", &[1.0])], style).unwrap());
}

#[test]
fn gaps_and_long_runs_in_the_charts_of_a_run() {
    let broken = [1.0, f64::NAN, 2.0, f64::INFINITY, 1.0, -1.0];
    let series = Series::line("a", broken.iter().enumerate().map(|(i, y)| (i as f64, *y)));
    let bad = Measure::new("none", [Series::line("", [(0.0, f64::NAN)])]);
    let good = Measure { label: "a".into(), scale: Scale::Log, series: vec![series.clone()] };
    let stacked = stack("t", "step", &[good.clone(), bad.clone()]).unwrap();
    assert!(!texts(&stacked).contains(&"none".to_string()), "nothing to draw there");
    texts(&two_axes("t", "x", &good, &good).unwrap());
    texts(
        &multiples("t", "x", "y", &[("a".into(), vec![series]), ("b".into(), vec![])], Scale::Linear)
            .unwrap(),
    );
    let moving: Vec<(f64, Vec<f64>)> = (0..5000)
        .map(|step| (f64::from(step), vec![1.0 + f64::from(step % 7), f64::NAN, 1e-9, 0.0]))
        .collect();
    let figure = waterfall("t", &moving).unwrap();
    assert!(figure.svg().len() < 100_000, "{} bytes", figure.svg().len());
    texts(&figure);
    texts(&traces("t", &moving).unwrap());
    texts(
        &waterfall("t", &[(5.0, vec![1.0]), (1.0, vec![2.0]), (3.0, vec![]), (3.0, vec![4.0, 1.0])]).unwrap(),
    );
    assert_eq!(figure.data().unwrap().height(), 20_000, "all numbers, not only those that are drawn");
    texts(
        &rank_curve(
            "t",
            "y",
            "n",
            &[spread(f64::NAN, 1.0), spread(3.0, f64::NAN), spread(5.0, 1.0)],
            Some(100.0),
            &[],
        )
        .unwrap(),
    );
    texts(
        &grouped(
            "t",
            "x",
            &names(&["a"]),
            &[("g".into(), vec![f64::NAN]), ("h".into(), vec![0.1])],
            Scale::Log,
        )
        .unwrap(),
    );

    let said = |result: lorascope::error::Result<Figure>| result.unwrap_err().to_string();
    assert!(said(stack("t", "x", std::slice::from_ref(&bad))).contains("nothing to draw"));
    assert!(said(two_axes("t", "x", &good, &bad)).contains("no series has a finite number"));
    assert!(said(energy("t", &[], Some(1.2))).contains("1.2"));
    assert!(said(energy("t", &[], None)).contains("nothing to draw"));
    assert!(said(waterfall("t", &[(0.0, vec![0.0])])).contains("above zero"));
    assert!(said(traces("t", &[])).contains("above zero"));
    assert!(said(intruders("t", &[0.5], 1.5)).contains("1.5"));
    assert!(said(intruders("t", &[], 0.5)).contains("nothing to draw"));
    assert!(said(rank_curve("t", "y", "n", &[spread(0.0, 1.0)], None, &[])).contains("positive rank"));
    assert!(
        said(heat_panels("t", "j", "i", "u", Some((1.0, 1.0)), &[map("a", &[&[1.0]])])).contains("1 to 1")
    );
    assert!(said(heat_panels("t", "j", "i", "u", None, &[map("a", &[&[1.0], &[]])])).contains("[1, 0]"));
    assert!(said(heat_panels("t", "j", "i", "u", None, &[])).contains("nothing to draw"));
    assert!(
        said(grouped("t", "x", &names(&["a", "b"]), &[("g".into(), vec![1.0])], Scale::Linear))
            .contains("1 amounts for 2 parts")
    );
    assert!(said(multiples("t", "x", "y", &[], Scale::Linear)).contains("no series was given"));
}

#[test]
fn a_theme_has_its_own_page_and_colours() {
    let figure = spectra("t", &[panel("a", &[2.0, 1.0])]).unwrap();
    assert!(!figure.svg().contains("height=\"100%\""));
    for (theme, page, text) in [(Theme::Light, "#ffffff", "#1f2328"), (Theme::Dark, "#0d1117", "#e6edf3")] {
        let svg = figure.with_theme(theme).svg();
        let document = Document::parse(&svg).unwrap();
        assert_eq!(document.root_element().attribute("color"), Some(text));
        assert_eq!(document.root_element().first_element_child().unwrap().attribute("fill"), Some(page));
    }
}

#[test]
fn a_dashboard_is_one_escaped_block() {
    let figure = spectra(HOSTILE, &[panel("a", &[2.0, 1.0])]).unwrap();
    let shown = dashboard(HOSTILE, &[&figure, &Text::new(HOSTILE), &figure]).show();
    assert!(!shown.html.contains("<script") && shown.html.matches("</svg>").count() == 2);
    assert!(Document::parse(&shown.html).is_ok(), "{}", shown.html);
    assert_eq!(shown.text.matches("σ₁ 2").count(), 2, "{}", shown.text);
    assert_eq!(dashboard("empty", &[]).show().text, "empty\n");
}

#[test]
fn a_fit_goes_through_what_is_drawn() {
    // The last value is rounding: of no weight, and no reason for thirteen decades.
    let fit = SpectraStyle { fit: Fit::Line, ..SpectraStyle::default() };
    let with = spectra_as("t", &[panel("q", &[100.0, 10.0, 1.0, 1e-17])], fit).unwrap();
    assert!(with.show().text.contains("log₁₀ σ falls by 1 "), "{}", with.show().text);
    let shown = texts(&with);
    assert!(shown.contains(&"100".into()) && shown.iter().all(|text| !text.contains("10⁻")), "{shown:?}");
    // On a linear axis zeros are drawn, and count.
    let linear = SpectraStyle { fit: Fit::Line, scale: Scale::Linear };
    let straight = spectra_as("t", &[panel("q", &[3.0, 0.0, 0.0])], linear).unwrap();
    assert!(straight.show().text.contains("σ falls by 1.5 "), "{}", straight.show().text);
}

#[test]
fn two_kinds_of_traces_are_solid_and_dashed() {
    let moving = |factor: f64| [(1.0, vec![factor, factor / 2.0]), (2.0, vec![2.0 * factor, factor])];
    let figure = traces_beside("t", ("B·A", &moving(1.0)), ("B·C^½", &moving(10.0))).unwrap();
    let shown = texts(&figure);
    assert!(shown.contains(&"B·A".into()) && shown.contains(&"B·C^½".into()), "{shown:?}");
    // One of each in the legend, and two lines of each kind.
    assert_eq!(shapes(&figure, "polyline", ["stroke-width"]).len(), 6);
    assert_eq!(figure.svg().matches("stroke-dasharray").count(), 3);
    assert_eq!(names_of(&figure), ["spectrum", "step", "k", "singular value"]);
    assert_eq!(column(&figure, "singular value")[4..6], [Some(10.0), Some(5.0)]);
    assert!(figure.show().text.contains("B·C^½\nσ_1: 10 → 20"), "{}", figure.show().text);
}

#[test]
fn a_cumulative_figure_and_its_data_are_in_per_cent() {
    let curve = Series::line("rows", [(100.0, 0.25), (400.0, 1.0)]);
    let figure = lorascope::plot::cumulative("t", "tokens", "% at most so long", &[curve], &[]).unwrap();
    assert_eq!(column(&figure, "% at most so long"), [25.0, 100.0].map(Some));
    assert!(texts(&figure).contains(&"100".into()));
    assert!(figure.show().text.contains("half within 400"), "{}", figure.show().text);
}
