//! The charts of a run and of its spectra: heights, places and tables against the numbers given.

use lorascope::display::{Show, Text, dashboard};
use lorascope::plot::{
    Figure, Fit, HeatPanel, Histogram, Measure, NoisyPoint, Scale, Series, SpectraStyle, Theme, energy,
    grouped, heat_map, heat_panels, intruders, lines, multiples, rank_curve, spectra, spectra_as, stack,
    traces, traces_beside, two_axes, waterfall,
};
use roxmltree::Document;

#[path = "common/clock.rs"]
mod clock;
#[path = "common/svg.rs"]
mod svg;
use svg::{HOSTILE, is_text_only, names, panel, texts};

fn measure(name: &str, value: f64) -> Measure {
    Measure::new(name, [Series::line(name, [(1.0, value), (2.0, value / 2.0)])])
}

fn map(name: &str, values: &[&[f64]]) -> HeatPanel {
    let values = values.iter().map(|row| row.iter().map(|&value| Some(value)).collect()).collect();
    HeatPanel { name: name.into(), values }
}

fn spread(rank: f64, loss: f64) -> NoisyPoint {
    NoisyPoint { x: rank, low: loss - 0.1, middle: loss, high: loss + 0.1 }
}

/// The attributes `names` of all elements of a kind, as numbers.
fn shapes<const N: usize>(figure: &Figure, tag: &str, names: [&str; N]) -> Vec<[f64; N]> {
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let all = document.descendants().filter(|node| node.tag_name().name() == tag);
    all.map(|node| names.map(|name| node.attribute(name).unwrap().parse().unwrap())).collect()
}

/// Where a text stands.
fn place(figure: &Figure, wanted: &str) -> (f64, f64) {
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
fn column(figure: &Figure, name: &str) -> Vec<Option<f64>> {
    figure.data().unwrap().column(name).unwrap().f64().unwrap().iter().collect()
}

fn names_of(figure: &Figure) -> Vec<String> {
    figure.data().unwrap().get_column_names().iter().map(|name| name.to_string()).collect()
}

#[test]
fn hostile_strings_are_text() {
    let evil = || HOSTILE.to_string();
    let figures = [
        energy(HOSTILE, &[Series::line(HOSTILE, [(1.0, 0.5)])], Some(0.5)).unwrap(),
        waterfall(HOSTILE, &[(0.0, vec![1.0])]).unwrap(),
        traces(HOSTILE, &[(0.0, vec![1.0])]).unwrap(),
        two_axes(HOSTILE, HOSTILE, &measure(HOSTILE, 1.0), &measure(HOSTILE, 2.0)).unwrap(),
        stack(HOSTILE, HOSTILE, &[measure(HOSTILE, 1.0), measure(HOSTILE, 2.0)]).unwrap(),
        multiples(HOSTILE, HOSTILE, HOSTILE, &[(evil(), measure(HOSTILE, 1.0).series)], Scale::Log).unwrap(),
        heat_panels(HOSTILE, HOSTILE, HOSTILE, HOSTILE, None, &[map(HOSTILE, &[&[0.1, 0.2]])]).unwrap(),
        grouped(HOSTILE, HOSTILE, &[evil()], &[(evil(), vec![1.0])], Scale::Log).unwrap(),
        intruders(HOSTILE, &[0.9, 0.1], 0.5).unwrap(),
        rank_curve(HOSTILE, HOSTILE, HOSTILE, &[spread(4.0, 1.0)], Some(4.0), &measure(HOSTILE, 1.0).series)
            .unwrap(),
    ];
    figures.iter().for_each(is_text_only);
}

/// Long Chinese names are cut or wrapped, and stay inside.
#[test]
fn long_names_stay_inside() {
    let long = "每个词元的平均交叉熵损失随训练步数变化的曲线".repeat(4);
    let long = long.as_str();
    let own = || long.to_string();
    for figure in [
        energy(long, &[Series::line(long, [(1.0, 0.5)])], Some(0.5)).unwrap(),
        waterfall(long, &[(0.0, vec![1.0])]).unwrap(),
        traces(long, &[(0.0, vec![1.0, 0.5])]).unwrap(),
        two_axes(long, long, &measure(long, 1.0), &measure(long, 2.0)).unwrap(),
        stack(long, long, &[measure(long, 1.0), measure(long, 2.0)]).unwrap(),
        multiples(long, long, long, &[(own(), measure(long, 1.0).series)], Scale::Log).unwrap(),
        heat_panels(long, long, long, long, None, &[map(long, &[&[0.1, 0.2]])]).unwrap(),
        grouped(long, long, &[own()], &[(own(), vec![1.0])], Scale::Log).unwrap(),
        intruders(long, &[0.9, 0.1], 0.5).unwrap(),
        rank_curve(long, long, long, &[spread(4.0, 1.0)], Some(4.0), &measure(long, 1.0).series).unwrap(),
    ] {
        assert!(texts(&figure).iter().any(|text| text.ends_with('…')));
    }
}

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

/// The labels left of the plot, below it or beside a key that read as numbers with an exponent.
fn labels_with(figure: &Figure, part: &str) -> Vec<String> {
    texts(figure).into_iter().filter(|text| text.contains(part)).collect()
}

fn distinct(labels: &[String]) -> bool {
    (0..labels.len()).all(|i| !labels[..i].contains(&labels[i]))
}

#[test]
fn small_and_large_ticks_are_all_different() {
    let line = |high: f64| {
        let points = [(0.0, 0.0), (1.0, high)];
        lines("t", "x", "y", &[Series::line("a", points)], Scale::Linear).unwrap()
    };
    let small = labels_with(&line(1.5e-5), "e-");
    assert!(
        distinct(&small) && small.contains(&"1.2e-5".into()) && small.contains(&"8e-6".into()),
        "{small:?}"
    );
    let large = labels_with(&line(2.3e7), "e7");
    assert!(large.len() > 2 && distinct(&large), "{large:?}");
    for (low, high) in [(0.0, 3e-9), (1.0, 1.0 + 1e-9), (9.8e6, 1.02e7), (-4e-5, 4e-5), (5e-5, 3e-4)] {
        let points = [(0.0, low), (1.0, high)];
        let figure = lines("t", "step", "y", &[Series::line("", points)], Scale::Linear).unwrap();
        let all = texts(&figure);
        // All but the title, the names and the two ticks of the steps.
        let ticks: Vec<String> = all
            .into_iter()
            .filter(|text| text.starts_with(|c: char| c.is_ascii_digit() || c == '−' || c == '-'))
            .collect();
        let ticks: Vec<String> =
            ticks.into_iter().filter(|text| !["0", "1"].contains(&text.as_str())).collect();
        assert!(ticks.len() > 3 && distinct(&ticks), "{low} to {high}: {ticks:?}");
    }
}

#[test]
fn a_log_axis_never_has_one_tick_alone() {
    // Less than two decades in panels of 130 pixels.
    let panels: Vec<_> = (0..9)
        .map(|layer| (format!("layer {layer}"), vec![Series::line("", [(1.0, 0.08), (2.0, 0.0013)])]))
        .collect();
    let figure = multiples("t", "k", "σ", &panels, Scale::Log).unwrap();
    let ticks = labels_with(&figure, "0.0");
    for tick in ["0.002", "0.01", "0.05"] {
        assert_eq!(ticks.iter().filter(|text| *text == tick).count(), 3, "{tick} at each row: {ticks:?}");
    }
    // Nor does a linear one of 110 pixels, whose step would be 5.
    let ranks = Measure::new("rank", [Series::line("", [(0.0, 1.8), (1.0, 8.0)])]);
    let stacked = stack("t", "step", &[ranks]).unwrap();
    assert!(place(&stacked, "2").1 - place(&stacked, "6").1 > 600.0);
    // At least 34 pixels apart.
    let heights = ["0.002", "0.01", "0.05"].map(|tick| place(&figure, tick).1);
    assert!(heights.windows(2).all(|pair| pair[0] - pair[1] >= 339.0), "{heights:?}");
}

#[test]
fn ranks_between_powers_of_two_have_ticks() {
    let curve = [9.0, 10.0, 12.0].map(|rank| spread(rank, 10.0 / rank));
    let figure = rank_curve("t", "loss", "cut", &curve, None, &[]).unwrap();
    let [nine, ten, twelve] = ["9", "10", "12"].map(|rank| place(&figure, rank).0);
    let share = (ten - nine) / (twelve - nine);
    assert!((share - (10f64 / 9.0).ln() / (12f64 / 9.0).ln()).abs() < 0.01, "{share}");
    // Where two powers fit, they are the ticks, and no rank beside them.
    let figure =
        rank_curve("t", "loss", "cut", &[4.0, 6.0, 8.0].map(|rank| spread(rank, 1.0)), None, &[]).unwrap();
    let shown = texts(&figure);
    assert!(
        shown.contains(&"4".into()) && shown.contains(&"8".into()) && !shown.contains(&"6".into()),
        "{shown:?}"
    );
}

#[test]
fn the_legend_of_a_stack_names_what_has_more_than_one_line() {
    let one =
        |name: &str| Measure::new(format!("axis {name}"), [Series::line(name, [(1.0, 2.0), (2.0, 1.0)])]);
    let shown = texts(&stack("t", "step", &[one("loss"), one("rate"), one("norm")]).unwrap());
    for name in ["loss", "rate", "norm"] {
        assert!(!shown.contains(&name.to_string()) && shown.contains(&format!("axis {name}")), "{shown:?}");
    }
    // Two lines on one axis and a third of another name: each name once, and a colour of its own.
    let two = Measure::new("ranks", ["q", "v"].map(|name| Series::line(name, [(1.0, 2.0), (2.0, 1.0)])));
    let figure = stack("t", "step", &[one("loss"), two.clone(), two]).unwrap();
    let shown = texts(&figure);
    for name in ["q", "v", "loss"] {
        assert_eq!(shown.iter().filter(|text| *text == name).count(), 1, "{name} in {shown:?}");
    }
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let all = document.descendants().filter(|node| node.tag_name().name() == "polyline");
    let colours: Vec<&str> = all.map(|node| node.attribute("stroke").unwrap()).collect();
    let [q, v, loss] = [colours[0], colours[1], colours[2]];
    assert!(q != v && v != loss && q != loss);
    assert_eq!(colours[3..], [loss, q, v, q, v]);
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
fn names_are_cut_where_they_agree() {
    let path = |module: &str| format!("base_model.model.model.language_model.layers.31.{module}");
    let modules = [path("self_attn.q_proj"), path("mlp.gate_proj")];
    let ends = |figure: &Figure, all: &[&str]| {
        let shown = texts(figure);
        for end in all {
            assert!(
                shown.iter().any(|text| text.starts_with('…') && text.ends_with(end)),
                "{end}: {shown:?}"
            );
        }
    };
    let map = heat_map("t", &modules, &modules, &vec![vec![Some(1.0); 2]; 2], "rank").unwrap();
    ends(&map, &["self_attn.q_proj", "mlp.gate_proj"]);
    let panels: Vec<_> = (0..8).map(|i| (modules[i % 2].clone(), measure("a", 1.0).series)).collect();
    ends(&multiples("t", "k", "σ", &panels, Scale::Linear).unwrap(), &["self_attn.q_proj", "mlp.gate_proj"]);
    // A title keeps its words and the end of its path; without a path it keeps its beginning.
    let title = format!("Singular values of B·A over the steps: {}.deeper.{}", modules[0], modules[1]);
    let shown = texts(&traces(&title, &[(0.0, vec![1.0, 0.5])]).unwrap());
    assert!(shown[0].starts_with("Singular values of B·A over the steps: …"), "{}", shown[0]);
    assert!(shown[0].ends_with(".mlp.gate_proj"), "{}", shown[0]);
    let shown = texts(&traces(&"many words ".repeat(20), &[(0.0, vec![1.0, 0.5])]).unwrap());
    assert!(shown[0].starts_with("many words") && shown[0].ends_with('…'), "{}", shown[0]);
}

#[test]
fn a_long_text_is_cut_in_one_pass() {
    let long = "层.".repeat(1 << 20);
    let begin = std::time::Instant::now();
    texts(&heat_map(&long, &names(&[&long]), &names(&[&long]), &[vec![Some(1.0)]], &long).unwrap());
    // Each cut tried anew would take hours.
    clock::within(begin, std::time::Duration::from_secs(20));
}

#[test]
fn a_key_stays_inside_and_begins_at_zero() {
    // Narrow maps of values with long labels: `texts` looks at the name beside the key as well.
    for value in [1234567.0, -123456.0, 1.25e-9, 1.0 + 1e-9] {
        let values = [vec![Some(value), Some(value * (1.0 + 1e-7))]];
        let columns: Vec<String> = (0..9).map(|i| format!("module_{i}.q_proj")).collect();
        let wide = [(0..9).map(|i| Some(value * (1.0 + 1e-7 * f64::from(i)))).collect()];
        texts(&heat_map("t", &names(&["0"]), &names(&["a", "b"]), &values, "rank").unwrap());
        texts(&heat_map("t", &names(&["0"]), &columns, &wide, "rank").unwrap());
    }
    let zeros =
        heat_map("t", &names(&["0", "1"]), &names(&["q"]), &[vec![Some(0.0)], vec![Some(0.0)]], "rank")
            .unwrap();
    let shown = texts(&zeros);
    assert!(shown.contains(&"1.0".into()) && shown.iter().all(|text| !text.starts_with('−')), "{shown:?}");
    let svg = zeros.svg();
    let document = Document::parse(&svg).unwrap();
    let cell = document.descendants().find(|node| node.tag_name().name() == "rect").unwrap();
    assert_eq!(cell.attribute("fill"), Some("#440154"), "the first colour of viridis");
}

#[test]
fn small_numbers_keep_three_digits() {
    let bars: Vec<(String, f64)> = [0.0014, 0.0015, 0.0123456, 0.5, 1.2345e-5, 123456.0, 1.25e7]
        .map(|amount| (amount.to_string(), amount))
        .into();
    let figure = lorascope::plot::bars("t", "x", &bars).unwrap();
    let text = figure.show().text;
    for number in
        [": 0.0014 x", ": 0.0015 x", ": 0.0123 x", ": 0.5 x", ": 1.23e-5 x", ": 123456 x", ": 1.25e7 x"]
    {
        assert!(text.contains(number), "{number} in {text}");
    }
    let curve = Series::line("q", [(1.0, 0.9), (2.0, 0.99995), (3.0, 1.0)]);
    for tau in [0.9999, 0.999999999999] {
        let figure = energy("t", std::slice::from_ref(&curve), Some(tau)).unwrap();
        assert!(texts(&figure).contains(&format!("τ = {tau}")));
        assert!(figure.show().text.contains(&format!("q: {tau} within k = ")), "{}", figure.show().text);
    }
    assert!(texts(&intruders("t", &[0.9], 0.9999).unwrap()).contains(&"0.9999".into()));
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
