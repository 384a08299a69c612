//! What figures say of what they draw: which line is the mean, where an evaluation lies, which layers, of what.

use crate::common::tiny;
use crate::common::tiny::{Bench, Tiny};
use lorascope::display::{Show, dashboard};
use lorascope::error::Result;
use lorascope::plot::{Figure, Scale, Series, lines};
use lorascope::prelude::*;
use roxmltree::Document;

const ROWS: &str = "{\"instruction\":\"1 + 1 = ?\",\"output\":\"2\"}\n{\"instruction\":\"2 + 2 = ?\",\"output\":\"4\"}\n\
                    {\"instruction\":\"3 + 3 = ?\",\"output\":\"6\"}\n{\"instruction\":\"4 + 4 = ?\",\"output\":\"8\"}\n";

/// The texts of a figure.
fn texts(figure: &Figure) -> Vec<String> {
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let nodes = document.descendants().filter(|node| node.tag_name().name() == "text");
    nodes.map(|node| node.text().unwrap_or_default().trim().to_string()).collect()
}

/// The colours of the strokes beside a name in the legend: of the line that ends nearest before it.
fn colour(figure: &Figure, name: &str) -> String {
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let mut stroke = String::new();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        match node.tag_name().name() {
            "polyline" => stroke = node.attribute("stroke").unwrap().to_string(),
            "text" if node.text().unwrap_or_default().trim() == name => return stroke,
            _ => {}
        }
    }
    panic!("no {name:?} in {:?}", texts(figure))
}

/// Points of each line, with its width, the points as (x, y).
fn strokes(figure: &Figure) -> Vec<(f64, Vec<(f64, f64)>)> {
    let svg = figure.svg();
    let document = Document::parse(&svg).unwrap();
    let lines = document.descendants().filter(|node| node.tag_name().name() == "polyline");
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    let line = |node: roxmltree::Node| {
        let points = node.attribute("points").unwrap().split_whitespace().map(point).collect();
        (node.attribute("stroke-width").unwrap().parse().unwrap(), points)
    };
    lines.map(line).collect()
}

#[test]
fn the_legend_names_the_points_and_their_mean_and_the_mean_ends_at_the_loss() -> Result<()> {
    let falling = (1..=30).map(|n| (f64::from(n), 2.0 - 0.05 * f64::from(n)));
    let figure = lines("Loss", "step", "nats", &[Series::smoothed("training", falling, 8.0)], Scale::Linear)?;
    let texts = texts(&figure);
    for name in ["training", "training, mean over about 8 points"] {
        assert!(texts.iter().any(|text| text == name), "{name} in {texts:?}");
    }
    let long: Vec<_> = strokes(&figure).into_iter().filter(|(_, points)| points.len() > 10).collect();
    let [(thin, loss), (thick, mean)] = &long[..] else { panic!("{} lines", long.len()) };
    assert!(thin < thick, "{thin} {thick}");
    let (loss, mean) = (loss.last().unwrap(), mean.last().unwrap());
    assert!(
        (loss.1 - mean.1).abs() <= 10.0,
        "the mean ends at {mean:?}, the loss at {loss:?}: more than a pixel off"
    );
    Ok(())
}

fn history(evaluated: bool) -> History {
    let step = |n: u64| lorascope::train::StepReport {
        step: n,
        loss: 2.0 / n as f64,
        lr: 1e-3,
        gradient_norm: 0.5,
        eval_loss: (evaluated && n.is_multiple_of(4)).then_some(1.0),
        ..Default::default()
    };
    History::new((1..=12).map(step).collect(), "seed 42")
}

#[test]
fn evaluations_are_on_both_loss_curves_and_each_meaning_has_its_colour() -> Result<()> {
    let (plot, curves) = (history(true).plot()?, history(true).curves()?);
    for figure in [&plot, &curves] {
        assert!(texts(figure).iter().any(|text| text == "evaluation"), "{:?}", texts(figure));
    }
    let [loss, evaluation, lr, norm] =
        ["training", "evaluation", "learning rate", "gradient norm"].map(|name| colour(&curves, name));
    assert_eq!((&loss, &evaluation), (&colour(&plot, "training"), &colour(&plot, "evaluation")));
    let mut all = vec![loss, evaluation, lr, norm];
    // Without evaluations the others keep theirs.
    assert_eq!(all[2], colour(&history(false).curves()?, "learning rate"));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4, "{all:?}");
    Ok(())
}

#[test]
fn an_evaluation_by_hand_is_on_the_curve_of_the_steps_that_it_was_after() -> Result<()> {
    let bench = Bench::new();
    let (model, data) = (bench.model(Tiny::default())?, bench.data("rows.jsonl", ROWS)?);
    let run = Run::new("curve", &model, &data, tiny::config().eval(&data))?;
    let evaluations = || -> Result<Vec<f64>> {
        let data =
            run.history().plot()?.data()?.lazy().filter(col("series").eq(lit("evaluation"))).collect()?;
        Ok(data.column("step")?.f64()?.into_no_null_iter().collect())
    };
    let first = run.evaluate()?;
    run.steps(3)?;
    run.evaluate()?;
    run.evaluate()?;
    assert_eq!(evaluations()?, [0.0, 3.0]);
    assert!(
        run.history()
            .plot()?
            .data()?
            .column("cross-entropy (nats per token)")?
            .f64()?
            .iter()
            .any(|y| y == Some(first.loss))
    );
    // Steps that were taken back take theirs along.
    run.rewind(2)?;
    run.set_lr(1e-2)?;
    run.steps(2)?;
    assert_eq!(evaluations()?, [0.0]);

    let ranks = run.spectra_history()?.plot()?;
    let loss = colour(&ranks, "loss (right axis)");
    assert_eq!(loss, colour(&run.history().plot()?, "training"));
    assert_ne!(loss, colour(&ranks, "q_proj"));
    let map = run.spectra()?.heat_map()?;
    let texts = texts(&map);
    assert!(texts.iter().any(|text| text == "layer"), "{texts:?}");
    assert!(texts.iter().any(|text| text == "effective rank (of 2)"), "{texts:?}");
    assert_eq!(map.data()?.get_column_names(), ["layer", "module", "effective rank"]);
    Ok(())
}

#[test]
fn a_run_has_one_colour_in_all_curves_that_compare_it() -> Result<()> {
    let bench = Bench::new();
    let (model, data) = (bench.model(Tiny::default())?, bench.data("rows.jsonl", ROWS)?);
    let config = || tiny::config().eval(&data).eval_every(2);
    let (fresh, trained) =
        (Run::new("fresh", &model, &data, config())?, Run::new("trained", &model, &data, config())?);
    trained.steps(4)?;
    let both = compare_runs(&[&fresh, &trained])?;
    let (loss, spectra) = (both.plot()?, both.spectra_plot()?);
    assert_eq!(colour(&loss, "trained"), colour(&spectra, "trained"));
    assert_eq!(colour(&loss, "trained, evaluation"), colour(&loss, "trained"));
    assert_ne!(colour(&spectra, "fresh"), colour(&spectra, "trained"));
    assert!(!texts(&loss).iter().any(|text| text == "fresh"), "{:?}", texts(&loss));
    Ok(())
}

#[test]
fn a_figure_beside_others_keeps_its_small_text_readable() -> Result<()> {
    let figure = history(true).plot()?;
    let small = 11.0; // pixels, of 720 that the figure is wide
    let board = dashboard("two", &[&figure, &figure]).show().html;
    let row = (figure.clone(), Text::new("words")).show().html;
    for (html, before) in [(board, "minmax(min(100%,"), (row, "min-width:min(100%,")] {
        let width: f64 = html.split_once(before).unwrap().1.split_once("px)").unwrap().0.parse().unwrap();
        assert!(small * width / 720.0 >= 9.0, "{width}");
    }
    Ok(())
}

#[test]
fn a_table_of_groups_says_how_many_of_how_many_it_shows() -> Result<()> {
    let bench = Bench::new();
    let row = |n: u32| format!("{{\"instruction\":\"what is {n} times {n}?\",\"output\":\"{}\"}}\n", n * n);
    let twice: String = (0..21).map(|n| row(n) + &row(n)).collect();
    let report = bench.data("rows.jsonl", &twice)?.report()?;
    let shown = report.exact.largest.len();
    assert!(shown < 21 && report.exact.groups == 21, "{shown}");
    assert!(report.to_string().contains(&format!("these are {shown} of the 21 groups")), "{report}");
    let few = bench.data("few.jsonl", &(row(1) + &row(1)))?.report()?.to_string();
    assert!(few.contains("1 groups of 2 rows") && !few.contains("these are"), "{few}");
    Ok(())
}
