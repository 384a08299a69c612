//! Every kind of figure as a file of pixels, light and dark, under the target folder for tests, to be
//! looked at; and that text in it has a font.

use std::path::Path;

use lorascope::display::Show;
use lorascope::plot::{
    Curve, Figure, Fit, HeatPanel, Histogram, Measure, NoisyPoint, Panel, Scale, Series, SpectraStyle, Theme,
    bars, cumulative, energy, grouped, heat_map, heat_panels, intruders, lines, multiples, rank_curve,
    spectra, spectra_as, stack, stacked, traces, traces_beside, two_axes, waterfall,
};

/// A number between 0 and 1 that depends on its arguments alone.
fn noise(i: usize, j: usize) -> f64 {
    let mixed = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (j as u64 + 1).wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(17);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f64 / (1u64 << 24) as f64
}

fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(String::from).to_vec()
}

fn layers(count: usize) -> Vec<String> {
    (0..count).map(|layer| layer.to_string()).collect()
}

fn sigma(layer: usize, rank: usize) -> Vec<f64> {
    (0..rank)
        .map(|k| (1.0 + 0.1 * layer as f64) * (-(k as f64) * (0.2 + 0.02 * layer as f64)).exp())
        .collect()
}

fn losses(count: usize, end: f64, seed: usize) -> Vec<(f64, f64)> {
    let at = |i: usize| end + 1.6 * (-(i as f64) / 40.0).exp() + 0.25 * noise(i, seed);
    (0..count).map(|i| (i as f64 + 1.0, at(i))).collect()
}

fn moving(steps: usize, rank: usize) -> Vec<(f64, Vec<f64>)> {
    let grown = |step: usize| 1.0 - (-(step as f64) / 30.0).exp();
    let at = |step: usize, k: usize| {
        grown(step) * (-(k as f64) * 0.35 * (0.4 + grown(step))).exp() * (1.0 + 0.1 * noise(step, k))
    };
    (0..steps).map(|step| (step as f64, (0..rank).map(|k| at(step, k)).collect())).collect()
}

fn phi(rank: usize, overlap: f64) -> Vec<Vec<Option<f64>>> {
    let at = |i: usize, j: usize| {
        let base = overlap * (-((i.min(j)) as f64) / 3.0).exp();
        Some((base + 0.1 * noise(i, j)).min(1.0))
    };
    (0..rank).map(|i| (0..rank).map(|j| at(i, j)).collect()).collect()
}

/// All kinds by name.
fn gallery() -> Vec<(&'static str, Figure)> {
    let modules = names(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]);
    let curves = |count: usize, rank: usize| {
        (0..count)
            .map(|layer| Curve {
                name: format!("layer {layer}"),
                depth: layer as f64,
                values: sigma(layer, rank),
            })
            .collect::<Vec<_>>()
    };
    let panels: Vec<Panel> =
        modules.iter().map(|name| Panel { name: name.clone(), curves: curves(12, 16) }).collect();
    let cells: Vec<Vec<Option<f64>>> = (0..30)
        .map(|layer| (0..7).map(|m| (layer != 7 || m != 2).then(|| 2.0 + 9.0 * noise(layer, m))).collect())
        .collect();
    let a = losses(200, 1.1, 1);
    let two = [
        Series::smoothed("rank 8, lr 2e-4", a.clone(), 12.0),
        Series::smoothed("rank 64, lr 2e-4", losses(200, 0.9, 2), 12.0),
        Series::marks("evaluation, rank 8", (0..5).map(|i| (50.0 * f64::from(i), 2.6 - 0.3 * f64::from(i)))),
    ];
    let rank = |layer: usize| {
        Series::line(
            format!("layer {layer}"),
            (0..200).map(move |i| (i as f64, 2.0 + (6.0 - layer as f64 * 0.3) * (-(i as f64) / 60.0).exp())),
        )
    };
    let spread =
        |rank: f64, loss: f64| NoisyPoint { x: rank, low: loss - 0.03, middle: loss, high: loss + 0.034 };
    let ranks = [
        spread(1.0, 1.42),
        spread(2.0, 1.27),
        spread(4.0, 1.15),
        spread(8.0, 1.12),
        spread(16.0, 1.115),
        spread(32.0, 1.113),
    ];
    let shares = |decay: f64| {
        let all: Vec<f64> = (0..16).map(|k| (-2.0 * decay * f64::from(k)).exp()).collect();
        let whole: f64 = all.iter().sum();
        let mut sum = 0.0;
        let mut at = |(k, e): (usize, &f64)| {
            sum += e;
            (k as f64 + 1.0, (sum / whole).min(1.0))
        };
        all.iter().enumerate().map(&mut at).collect::<Vec<_>>()
    };
    let lengths: Vec<f64> = (0..2000).map(|i| 80.0 + 900.0 * noise(i, 3) * noise(i, 4)).collect();
    let cosines: Vec<f64> =
        (0..40).map(|i| if i % 9 == 2 { 0.1 + 0.3 * noise(i, 1) } else { 0.9 + 0.1 * noise(i, 2) }).collect();
    let fit = SpectraStyle { fit: Fit::Line, ..SpectraStyle::default() };
    let linear = SpectraStyle { scale: Scale::Linear, ..SpectraStyle::default() };
    let amplified = |layer: usize| {
        (
            format!("layers.{layer} q_proj"),
            vec![6.9 - layer as f64, 21.0 + layer as f64, 0.2 + 0.01 * layer as f64],
        )
    };
    let directions = names(["directions of ΔW", "directions of W₀", "random directions"]);
    let louder = |(step, values): (f64, Vec<f64>)| (step, values.iter().map(|s| s * s * 9.0).collect());
    let renamed = |series: Series| Series {
        name: series
            .name
            .replace("layer 14", "layer 11")
            .replace("layer 9", "layer 6")
            .replace("layer 3", "layer 0"),
        ..series
    };
    let run = |seed: usize| Series::smoothed(format!("run {seed}"), losses(150, 1.0, seed), 10.0);
    let lr = (0..150).map(|i| (f64::from(i), 2e-4 * f64::from(i.min(10)) / 10.0));
    let norm = (0..150).map(|i| (i as f64, if i == 70 { f64::NAN } else { 0.5 + 2.0 * noise(i, 9) }));
    vec![
        ("spectra", spectra("Singular values of B·A", &panels).unwrap()),
        (
            "spectra_fit",
            spectra_as(
                "Singular values of B·A, with fitted lines",
                &[Panel { name: "q_proj".into(), curves: curves(4, 16) }],
                fit,
            )
            .unwrap(),
        ),
        ("spectra_linear", spectra_as("Singular values of B·A", &panels[..2], linear).unwrap()),
        (
            "energy",
            energy(
                "Energy kept by rank",
                &[
                    Series::line("q_proj", shares(0.15)),
                    Series::line("v_proj", shares(0.5)),
                    Series::line("down_proj", shares(0.05)),
                ],
                Some(0.9),
            )
            .unwrap(),
        ),
        (
            "heat_map",
            heat_map(
                "Effective rank of B·A by layer and module",
                &layers(30),
                &modules,
                &cells,
                "effective rank",
            )
            .unwrap(),
        ),
        (
            "waterfall",
            waterfall("Singular values of layers.3 q_proj over the run", &moving(150, 16)).unwrap(),
        ),
        ("traces", traces("Singular values of layers.3 q_proj over the run", &moving(150, 16)).unwrap()),
        (
            "traces_beside",
            traces_beside(
                "Singular values of B·A and B·C^½ over the steps: model.layers.3.self_attn.q_proj",
                ("B·A", &moving(150, 8)),
                ("B·C^½", &moving(150, 8).into_iter().map(louder).collect::<Vec<_>>()),
            )
            .unwrap(),
        ),
        (
            "stack_ranks",
            stack(
                "Effective rank and loss",
                "step",
                &[
                    Measure::new("effective rank of B·A", [rank(0), rank(6), rank(11)]),
                    Measure::new("effective rank of B·C^½", [rank(3), rank(9), rank(14)].map(renamed)),
                    Measure::new(
                        "cross-entropy (nats per token)",
                        [Series::smoothed("loss", a.clone(), 10.0)],
                    ),
                ],
            )
            .unwrap(),
        ),
        (
            "two_axes",
            two_axes(
                "Effective rank and loss",
                "step",
                &Measure::new("effective rank of q_proj", [rank(0), rank(6), rank(11)]),
                &Measure::new(
                    "evaluation loss (nats per token)",
                    [Series::smoothed("loss", a.clone(), 10.0)],
                ),
            )
            .unwrap(),
        ),
        (
            "heat_panels",
            heat_panels(
                "Subspace similarity of rank 8 and rank 64",
                "j, directions of rank 64",
                "i, directions of rank 8",
                "φ(i, j)",
                Some((0.0, 1.0)),
                &[
                    HeatPanel { name: "layers.3 q_proj".into(), values: phi(8, 0.9) },
                    HeatPanel { name: "Gaussian control".into(), values: phi(8, 0.0) },
                ],
            )
            .unwrap(),
        ),
        (
            "heat_panels_large",
            heat_panels(
                "Subspace similarity of two seeds",
                "j",
                "i",
                "φ(i, j)",
                Some((0.0, 1.0)),
                &[
                    HeatPanel { name: "q_proj".into(), values: phi(64, 0.9) },
                    HeatPanel { name: "v_proj".into(), values: phi(64, 0.7) },
                    HeatPanel { name: "Gaussian control".into(), values: phi(64, 0.0) },
                ],
            )
            .unwrap(),
        ),
        (
            "grouped",
            grouped(
                "Weight in the directions of ΔW, of W₀ and of a random matrix",
                "‖UᵀW₀Vᵀ‖ (Frobenius norm)",
                &directions,
                &(0..3).map(amplified).collect::<Vec<_>>(),
                Scale::Linear,
            )
            .unwrap(),
        ),
        (
            "grouped_log",
            grouped(
                "Weight in the directions of ΔW, of W₀ and of a random matrix",
                "‖UᵀW₀Vᵀ‖ (Frobenius norm)",
                &directions,
                &(0..3).map(amplified).collect::<Vec<_>>(),
                Scale::Log,
            )
            .unwrap(),
        ),
        ("intruders", intruders("Intruder dimensions of layers.3 q_proj", &cosines, 0.5).unwrap()),
        (
            "rank_curve",
            rank_curve(
                "Which rank does this task need?",
                "evaluation loss (nats per token)",
                "cut to this rank",
                &ranks,
                Some(4.0),
                &[Series::marks("trained at this rank", [(1.0, 1.31), (2.0, 1.2), (4.0, 1.14), (8.0, 1.1)])],
            )
            .unwrap(),
        ),
        (
            "stack",
            stack(
                "Run school-math",
                "step",
                &[
                    Measure::new("loss (nats per token)", [run(1), run(2)]),
                    Measure::new("learning rate", [Series::line("", lr)]),
                    Measure::new("gradient norm", [Series::line("", norm)]),
                ],
            )
            .unwrap(),
        ),
        (
            "multiples",
            multiples(
                "Spectra of q_proj, first and last step",
                "index k of the singular value",
                "σ, log scale",
                &(0..12)
                    .map(|layer| {
                        (
                            format!("layer {layer}"),
                            vec![points("step 20", layer, 0.3), points("step 200", layer, 1.0)],
                        )
                    })
                    .collect::<Vec<_>>(),
                Scale::Log,
            )
            .unwrap(),
        ),
        (
            "lines",
            lines("Loss", "step", "cross-entropy (nats per token)", &two, Scale::Linear)
                .unwrap()
                .with_footer("seed 42 · 小明有3个苹果"),
        ),
        (
            "lines_chinese",
            lines(
                "每个词元的损失随训练步数的变化",
                "步数",
                "交叉熵损失",
                &[Series::line("训练", a.clone()), Series::line("评估", losses(200, 1.3, 5))],
                Scale::Log,
            )
            .unwrap(),
        ),
        ("histogram", Histogram::of(&lengths).unwrap().figure("Length of rows", "tokens", "rows").unwrap()),
        (
            "bars",
            bars(
                "Roles",
                "messages",
                &[("user".into(), 1200.0), ("assistant".into(), 1190.0), ("系统".into(), 40.0)],
            )
            .unwrap(),
        ),
        (
            "stacked",
            stacked(
                "What is computed",
                "tokens",
                &names(["trained", "context", "padding"]),
                &[
                    ("one by one".into(), vec![400.0, 300.0, 0.0]),
                    ("batches of 8".into(), vec![400.0, 300.0, 380.0]),
                ],
            )
            .unwrap(),
        ),
        (
            "cumulative",
            cumulative(
                "Cumulative length",
                "tokens",
                "% at most this long",
                &[Series::line("rows", (1..=100).map(|i| (9.0 * f64::from(i), f64::from(i) / 100.0)))],
                &[512.0, 1024.0],
            )
            .unwrap(),
        ),
    ]
}

fn points(name: &str, layer: usize, share: f64) -> Series {
    let values = sigma(layer, 16).into_iter().enumerate();
    Series::line(name, values.map(|(k, s)| (k as f64 + 1.0, s * share * (1.0 - 0.04 * share * k as f64))))
}

/// Width, height and how many different bytes the image data has, from the head of a PNG file.
fn head(path: &Path) -> (u32, u32, usize) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (number(16), number(20), bytes.len())
}

#[test]
fn every_figure_is_a_png_on_light_and_on_dark() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("figures");
    let side = |svg: &str, name: &str| -> f64 {
        let document = roxmltree::Document::parse(svg).unwrap();
        document.root_element().attribute(name).unwrap().parse().unwrap()
    };
    for (name, figure) in gallery() {
        for theme in [Theme::Light, Theme::Dark] {
            let path = folder.join(format!("{name}_{theme:?}.png").to_lowercase());
            match figure.with_theme(theme).overwrite(&path) {
                // A machine without fonts: the message says which packages have them.
                Err(error)
                    if error.to_string().contains("fonts-wqy-microhei")
                        && std::env::var_os("CI").is_none() =>
                {
                    return;
                }
                other => other.unwrap(),
            }
            let (width, height, bytes) = head(&path);
            let svg = figure.svg();
            assert_eq!(f64::from(width), (side(&svg, "width") * 2.0).round(), "{name}");
            assert_eq!(f64::from(height), (side(&svg, "height") * 2.0).round(), "{name}");
            // One colour packs into far less.
            assert!(bytes > 10_000, "{name}: {bytes} bytes");
            // The large maps have 12,288 cells.
            let most = if name == "heat_panels_large" { 800_000 } else { 200_000 };
            assert!(svg.len() < most, "{name}: {} bytes of SVG", svg.len());
        }
    }
}

#[test]
fn a_character_without_a_font_is_an_error_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    // No font has the last character of a private plane.
    let figure = bars("t", "x", &[("\u{10fffd}".into(), 1.0)]).unwrap();
    let error = figure.save(&path).unwrap_err();
    let text = error.to_string();
    assert!(error.is_state() && text.contains("a.png") && text.contains("fonts-wqy-microhei"), "{text}");
    assert!(text.contains("U+10FFFD") || text.contains("no font is installed"), "{text}");
    assert!(!path.exists());
    figure.save(path.with_extension("svg")).unwrap();
}

/// A zero left no trace on a log axis.
#[test]
fn a_zero_is_a_ring_on_the_foot_of_a_log_axis() {
    let panel = |values: &[f64]| {
        let curve = Curve { name: "layer 0".into(), depth: 0.0, values: values.to_vec() };
        [Panel { name: "q_proj".into(), curves: vec![curve] }]
    };
    let rings = |values: &[f64], scale| {
        let style = SpectraStyle { scale, ..SpectraStyle::default() };
        let figure = lorascope::plot::spectra_as("Spectra", &panel(values), style).unwrap();
        (figure.svg().matches("<circle").count(), figure.show().text)
    };
    let (none, text) = rings(&[1.0, 0.5, 0.1], Scale::Log);
    assert!(none == 0 && !text.contains("of them 0"), "{none} {text}");
    let (two, text) = rings(&[1.0, 0.5, 0.0, 0.0], Scale::Log);
    assert!(two == 2 && text.contains("2 of them 0"), "{two} {text}");
    let (rounding, _) = rings(&[1.0, 0.5, 1e-17], Scale::Log);
    assert_eq!((rounding, rings(&[1.0, 0.5, 0.0], Scale::Linear).0), (1, 0));
}
