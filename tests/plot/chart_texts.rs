//! The texts of charts: ticks, legends, names that are cut, and strings made to harm.

use crate::common::clock;
use crate::common::drawn::{map, measure, place, spread};
use lorascope::display::Show;
use lorascope::plot::{
    Figure, Measure, Scale, Series, energy, grouped, heat_map, heat_panels, intruders, lines, multiples,
    rank_curve, stack, traces, two_axes, waterfall,
};
use roxmltree::Document;

use crate::common::svg::{HOSTILE, is_text_only, names, texts};

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
