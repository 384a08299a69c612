//! The pictures of spectra: their numbers, names and titles.

use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::display::Show;
use lorascope::plot::{Figure, Fit, Scale, SpectraStyle};
use lorascope::spectrum::{
    Amplification, BaseWeight, Intruder, IntruderConfig, Intruders, Side, Spectra, SpectralMeasure, Spectrum,
    SubspaceOverlap, Vectors,
};
use std::collections::BTreeMap;

use crate::common::svg::{HOSTILE, is_text_only, names, texts};

fn cpu(values: &[f64], rows: usize, columns: usize) -> Tensor {
    Tensor::from_vec(values.to_vec(), (rows, columns), &Device::Cpu).unwrap()
}

/// A = identity `[r, r + 2]` and B = diag(σ) `[r + 1, r]`, so that ΔW has these singular values.
fn factors(sigma: &[f64]) -> (Tensor, Tensor) {
    let r = sigma.len();
    let on = |rows: usize, columns: usize, value: &dyn Fn(usize) -> f64| {
        let all = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
        cpu(&all.map(|(i, j)| if i == j { value(i) } else { 0.0 }).collect::<Vec<_>>(), rows, columns)
    };
    (on(r, r + 2, &|_| 1.0), on(r + 1, r, &|k| sigma[k]))
}

fn spectrum(name: &str, sigma: &[f64]) -> Spectrum {
    let (a, b) = factors(sigma);
    Spectrum::of(name, &a, &b, 1.0).unwrap()
}

fn path(layer: usize, module: &str) -> String {
    format!("model.layers.{layer}.self_attn.{module}")
}

/// q and v of three layers; σ of layer l is (4, 3, …) times l + 1, and v of layer 1 is missing.
fn some() -> Spectra {
    let scaled =
        |layer: usize, sigma: &[f64]| sigma.iter().map(|s| s * (layer + 1) as f64).collect::<Vec<_>>();
    let q = (0..3).map(|l| spectrum(&path(l, "q_proj"), &scaled(l, &[4.0, 3.0, 0.5])));
    let v = [0, 2].map(|l| spectrum(&path(l, "v_proj"), &scaled(l, &[2.0, 2.0, 2.0])));
    q.chain(v).collect::<Vec<_>>().into()
}

/// The same q of two layers, the first with a C that weighs its last direction most.
fn weighted() -> Spectra {
    let (a, b) = factors(&[4.0, 3.0, 0.5]);
    let c = cpu(&[0.01, 0., 0., 0., 0.01, 0., 0., 0., 400.0], 3, 3);
    let (first, second) = (path(0, "q_proj"), path(1, "q_proj"));
    Spectra::of_weighted([(first.as_str(), &a, &b, 1.0, Some(&c)), (second.as_str(), &a, &b, 1.0, None)])
        .unwrap()
}

fn numbers(figure: &Figure, column: &str) -> Vec<Option<f64>> {
    figure.data().unwrap().column(column).unwrap().f64().unwrap().iter().collect()
}

fn words(figure: &Figure, column: &str) -> Vec<String> {
    let data = figure.data().unwrap();
    data.column(column).unwrap().str().unwrap().iter().map(|word| word.unwrap().to_string()).collect()
}

fn has(figure: &Figure, wanted: &[&str]) {
    let texts = texts(figure);
    for want in wanted {
        assert!(texts.iter().any(|text| text == want), "{want:?} is not among {texts:?}");
    }
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() <= 1e-13 * expected.abs(), "{found} instead of {expected}");
}

#[test]
fn overlap_stands_beside_its_control() {
    // Both have e₁ first; then the one has e₂, the other e₃.
    let b = cpu(&[2., 0., 0., 1.], 2, 2);
    let one = Vectors::of("q", &cpu(&[1., 0., 0., 0., 1., 0.], 2, 3), &b, 1.0).unwrap();
    let other = Vectors::of("q", &cpu(&[1., 0., 0., 0., 0., 1.], 2, 3), &b, 1.0).unwrap();
    let overlap = SubspaceOverlap::of(&one, &other, Side::Right, (2, 2), 7).unwrap();
    let figure = overlap.plot().unwrap();
    has(&figure, &["measured", "Gaussian control", "i", "j", "φ(i, j)", "0.50"]);
    assert_eq!(figure.title(), "Overlap of the right singular vectors");
    let phi = numbers(&figure, "φ(i, j)");
    assert_eq!(phi.len(), 8);
    for (found, expected) in phi.iter().zip([1.0, 1.0, 1.0, 0.5]) {
        near(*found, expected);
    }
    for (found, expected) in phi[4..].iter().zip(overlap.control.iter().flatten()) {
        assert_eq!(*found, Some(*expected));
    }
    assert_eq!(words(&figure, "panel")[3..5], names(&["measured", "Gaussian control"]));
    assert!(texts(&figure)[0].ends_with("singular vectors"), "the title is whole");
    // The scale is that of φ, not that of the values.
    has(&figure, &["0", "1"]);
    let shown = overlap.show();
    assert!(shown.html.contains("</svg>") && shown.html.contains("<table"));
    assert!(shown.text.contains("overlap of the first right singular vectors"), "{}", shown.text);
    let left = SubspaceOverlap::of(&one, &other, Side::Left, (1, 2), 7).unwrap().plot().unwrap();
    assert!(left.title().contains("left"));
    assert_eq!(numbers(&left, "j")[..2], [Some(1.0), Some(2.0)]);
}

#[test]
fn amplification_has_a_mark_for_each_kind_of_direction() {
    let weight = Tensor::new(&[[10f32, 0., 0.], [0., 0.5, 0.]], &Device::Cpu).unwrap();
    let weight = BaseWeight::new("layers.3.q_proj", &weight).unwrap();
    let delta = Vectors::of("q", &cpu(&[0., 1., 0.], 1, 3), &cpu(&[0., 4.], 2, 1), 1.0).unwrap();
    let amplification = Amplification::of(&weight, &delta, 1, 3).unwrap();
    let figure = amplification.plot().unwrap();
    assert_eq!(figure.title(), "Amplification factor 8 in layers.3.q_proj");
    assert_eq!(words(&figure, "directions of"), ["ΔW", "W₀", "chance"]);
    let norms = numbers(&figure, "norm");
    near(norms[0], 0.5);
    near(norms[1], 10.0);
    assert_eq!(norms[2], Some(amplification.along_random));
    has(&figure, &["ΔW", "W₀", "chance", "r = 1", "0.5", "10"]);
    assert!(figure.svg().contains("‖ΔW‖ 4, ‖W₀‖ 10"), "{}", figure.svg());
    let shown = amplification.show();
    assert!(shown.html.contains("</svg>") && shown.html.contains("<table"));
    assert!(shown.text.contains("along the first 1 directions"));
}

#[test]
fn intruders_are_marked_below_the_threshold() {
    let weight = Tensor::new(&[[1f32, 1.], [1., -1.]], &Device::Cpu).unwrap();
    let weight = BaseWeight::new("q", &weight).unwrap();
    let delta = Vectors::of("q", &cpu(&[1., 0.], 1, 2), &cpu(&[9., 0.], 2, 1), 1.0).unwrap();
    let config = IntruderConfig { top: 2, threshold: 0.8, ..Default::default() };
    let found = Intruders::of(&weight, &delta, &config).unwrap();
    let figure = found.plot().unwrap();
    assert_eq!(figure.title(), "Intruder dimensions in q");
    let expected: Vec<Option<f64>> = found.rows.iter().map(|row| Some(row.cosine)).collect();
    assert_eq!(numbers(&figure, "cosine"), expected);
    has(&figure, &["as in W₀", "intruder", "0.8"]);
    assert!(figure.svg().contains("compared with 2 of 2 of W₀"));
    let shown = found.show();
    assert!(shown.html.contains("</svg>") && shown.html.contains("<table"));
    assert!(shown.text.contains("1 intruders below 0.8") || shown.text.contains("2 intruders below 0.8"));
    // 0.3 is below, but a vector that was left out may have 0.9.
    let row = |index, cosine, left_out| Intruder { index, singular_value: 1.0, cosine, nearest: 1, left_out };
    let rows = vec![row(1, 0.99, 0.1), row(2, 0.3, 0.9), row(3, 0.2, 0.1)];
    let open = Intruders { name: "q".into(), threshold: 0.5, rows, compared: 4, of: 64 };
    let figure = open.plot().unwrap();
    assert!(figure.svg().contains("compared with 4 of 64 of W₀; of those below, 1 may be near"));
    // Nothing to draw is no reason to show nothing.
    let none = Intruders { rows: Vec::new(), ..open };
    assert!(none.plot().is_err() && !none.show().html.contains("</svg>"));
    assert!(none.show().html.contains("<table"));
}

#[test]
fn energy_has_its_line_and_the_weighted_curve() {
    let figure = some().energy_plot("q_proj", 0.95).unwrap();
    has(&figure, &["layer 0 q_proj", "layer 2 q_proj", "τ = 0.95"]);
    assert_eq!(figure.title(), "Energy of B·A kept by k directions");
    let shares = numbers(&figure, "share of the energy");
    assert_eq!(shares.len(), 9);
    near(shares[0], 16.0 / 25.25);
    near(shares[1], 25.0 / 25.25);
    near(shares[5], 1.0); // the scale of a layer does not matter
    assert!(figure.show().text.contains("layer 1 q_proj: 0.95 within k = 2"), "{}", figure.show().text);

    let figure = weighted().energy_plot("layers.0", 0.9).unwrap();
    assert_eq!(words(&figure, "adapter")[2..4], names(&["layer 0 q_proj, B·A", "layer 0 q_proj, B·C^½"]));
    let shares = numbers(&figure, "share of the energy");
    near(shares[3], 100.0 / (100.0 + 0.16 + 0.09)); // 20·0.5, 0.1·4 and 0.1·3
    let text = figure.show().text;
    assert!(text.contains("B·A: 0.9 within k = 2") && text.contains("B·C^½: 0.9 within k = 1"), "{text}");

    let many: Spectra = (0..30).map(|l| spectrum(&path(l, "q_proj"), &[2.0, 1.0])).collect::<Vec<_>>().into();
    let figure = many.energy_plot("q_proj", 0.9).unwrap();
    assert!(figure.title().ends_with(", 8 of 30 adapters"), "{}", figure.title());
    has(&figure, &["layer 0 q_proj", "layer 29 q_proj"]);

    let error = some().energy_plot("q_proj", 1.2).unwrap_err().to_string();
    assert!(error.contains("1.2") && error.contains("0.95"), "{error}");
    let error = some().energy_plot("o_proj", 0.9).unwrap_err().to_string();
    assert!(error.contains("q_proj, v_proj in the layers 0 to 2"), "{error}");
    let zero: Spectra = vec![spectrum(&path(0, "q_proj"), &[0.0, 0.0])].into();
    let error = zero.energy_plot("q_proj", 0.9).unwrap_err().to_string();
    assert!(error.contains("every ΔW is zero; train a step first"), "{error}");
}

#[test]
fn spectra_on_both_scales_with_a_fit() {
    let spectra = some();
    let figure = spectra.plot().unwrap();
    has(&figure, &["q_proj", "v_proj", "singular value σ, log scale"]);
    assert_eq!(words(&figure, "module")[8..10], names(&["q_proj", "v_proj"]));
    assert_eq!(numbers(&figure, "singular value")[3..6], [Some(8.0), Some(6.0), Some(1.0)]);
    let linear = spectra.plot_linear().unwrap();
    has(&linear, &["singular value σ"]);
    assert_eq!(linear.data().unwrap(), figure.data().unwrap());
    // σ of v falls by nothing; that of q of layer 0 by 1.75 from k to k + 1.
    // A module in few layers has its panel, whichever layers of the others are drawn.
    let many = (0..31).map(|l| spectrum(&path(l, "q_proj"), &[2.0, 1.0]));
    let few = [1, 3].map(|l| spectrum(&path(l, "v_proj"), &[5.0, 1.0]));
    let figure = Spectra::from(many.chain(few).collect::<Vec<_>>()).plot().unwrap();
    assert_eq!(figure.title(), "Singular values of B·A, at most 16 layers of each module");
    assert_eq!(words(&figure, "module").len(), 2 * (16 + 2));
    assert_eq!(words(&figure, "layer")[34..], names(&["layer 3", "layer 3"]));
    has(&figure, &["q_proj", "v_proj"]);
    let style = SpectraStyle { scale: Scale::Linear, fit: Fit::Line };
    let text = spectra.plot_as(style).unwrap().show().text;
    assert!(text.contains("σ falls by 1.75 from k to k + 1"), "{text}");
    let both = weighted();
    assert_eq!(both.weighted().unwrap().plot().unwrap().title(), "Singular values of B·C^½");
}

#[test]
fn a_small_plot_for_each_layer() {
    let figure = some().small_multiples("q_proj").unwrap();
    assert_eq!(figure.title(), "Singular values of B·A, q_proj of each layer");
    has(&figure, &["layer 0", "layer 1", "layer 2"]);
    let layers = words(&figure, "layer");
    assert_eq!(layers.iter().filter(|layer| *layer == "layer 1").count(), 3);
    assert_eq!(numbers(&figure, "singular value")[6..], [Some(12.0), Some(9.0), Some(1.5)]);
    // The weighted spectrum beside it, also where the first layer has none.
    let both = weighted().small_multiples("q_proj").unwrap();
    has(&both, &["B·A", "B·C^½"]);
    let values = numbers(&both, "singular value");
    assert_eq!(words(&both, "spectrum")[2..4], names(&["B·A", "B·C^½"]));
    near(values[3], 10.0);
    assert_eq!(values.len(), 9);
    // Rounding does not stretch the axis, and a layer that has not moved is an empty panel.
    let graded: Spectra = vec![
        spectrum(&path(0, "q_proj"), &[1.0, 0.5, 1e-17]),
        spectrum(&path(1, "q_proj"), &[0.0, 0.0, 0.0]),
    ]
    .into();
    let figure = graded.small_multiples("q_proj").unwrap();
    assert_eq!(numbers(&figure, "singular value"), [Some(1.0), Some(0.5), None, None, None, None]);
    has(&figure, &["layer 1"]);
    assert!(graded.select("layers.1").unwrap().small_multiples("q_proj").unwrap_err().is_state());
}

#[test]
fn maps_of_every_measure() {
    let spectra = some();
    let figure = spectra.heat_map().unwrap();
    assert_eq!(figure.title(), "Effective rank of B·A by layer and module");
    assert_eq!(words(&figure, "layer")[..3], names(&["0", "0", "1"]));
    let ranks = numbers(&figure, "effective rank");
    near(ranks[1], 3.0);
    assert_eq!(ranks[3], None); // v of layer 1
    use SpectralMeasure::*;
    let expected = [
        (EffectiveRank, ranks[0].unwrap()),
        (StableRank, 25.25 / 16.0),
        (ParticipationRatio, 25.25 * 25.25 / (256.0 + 81.0 + 0.0625)),
        (NumericalRank, 3.0),
        (EnergyRank(0.9), 2.0),
        (FirstShare, 16.0 / 25.25),
        (SpectralNorm, 4.0),
        (FrobeniusNorm, 25.25f64.sqrt()),
        (NuclearNorm, 7.5),
        (Condition, 8.0),
    ];
    for (measure, value) in expected {
        let figure = spectra.heat_map_of(measure).unwrap();
        near(numbers(&figure, &measure.name())[0], value);
        assert!(figure.title().to_lowercase().contains(&measure.name().to_lowercase()), "{}", figure.title());
        let json = serde_json::to_string(&measure).unwrap();
        assert_eq!(serde_json::from_str::<SpectralMeasure>(&json).unwrap(), measure);
    }
    let error = spectra.heat_map_of(EnergyRank(0.0)).unwrap_err().to_string();
    assert!(error.contains("ask for a share above 0"), "{error}");

    let norms: BTreeMap<String, f64> = spectra.iter().map(|s| (s.name.clone(), 50.0)).collect();
    let figure = spectra.relative_heat_map(&norms).unwrap();
    assert_eq!(figure.title(), "‖ΔW‖ / ‖W₀‖ by layer and module");
    near(numbers(&figure, "‖ΔW‖ / ‖W₀‖")[0], 25.25f64.sqrt() / 50.0);
    let error = spectra.relative_heat_map(&BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("layers.0.self_attn.q_proj"), "{error}");
}

#[test]
fn advice_shows_its_map_and_its_table() {
    let advice = some().advise(0.9).unwrap();
    let figure = advice.heat_map().unwrap();
    assert_eq!(figure.title(), "Rank that keeps 90 % of the energy");
    let ranks = numbers(&figure, "advised rank");
    assert_eq!(ranks, [Some(2.0), Some(3.0), Some(2.0), None, Some(2.0), Some(3.0)]);
    has(&figure, &["q_proj", "v_proj", "2", "3", "advised rank (of 3)"]);
    let shown = advice.show();
    assert!(shown.html.contains("</svg>") && shown.html.contains("<table"));
    let one = some().layer(0).unwrap().advise(0.9).unwrap().show();
    assert!(!one.html.contains("</svg>") && one.html.contains("<table"));
    // By the output's change where it is known.
    let figure = weighted().advise(0.9).unwrap().heat_map().unwrap();
    assert_eq!(numbers(&figure, "advised rank"), [Some(1.0), Some(2.0)]);
}

#[test]
fn two_trainings_over_each_other() {
    let (name, one) = (path(1, "q_proj"), some());
    let other: Spectra = vec![spectrum(&name, &[5.0, 1.0])].into();
    let figure = Spectra::compare(&name, &[("rank 3", &one), ("rank 2", &other)]).unwrap();
    has(&figure, &["rank 3", "rank 2"]);
    assert_eq!(words(&figure, "spectrum")[2..4], names(&["rank 3", "rank 2"]));
    let values = [8.0, 6.0, 1.0, 5.0, 1.0].map(Some);
    assert_eq!(numbers(&figure, "singular value"), values);
    assert_eq!(numbers(&figure, "k")[2..4], [Some(3.0), Some(1.0)]);
    let missing = path(2, "q_proj");
    let error = Spectra::compare(&missing, &[("rank 3", &one), ("rank 2", &other)]).unwrap_err();
    let text = error.to_string();
    assert!(
        error.is_not_found() && text.contains("in \"rank 2\"") && text.contains("layers 1 to 1"),
        "{text}"
    );
    let zero: Spectra = vec![spectrum(&name, &[0.0])].into();
    assert!(Spectra::compare(&name, &[("start", &zero)]).unwrap_err().to_string().contains("train a step"));
    assert!(Spectra::compare(&name, &[]).is_err());
}

#[test]
fn hostile_names_are_text() {
    let hostile: Spectra = vec![spectrum(HOSTILE, &[2.0, 1.0])].into();
    let compared = Spectra::compare(HOSTILE, &[(HOSTILE, &hostile)]).unwrap();
    is_text_only(&compared);
    assert!(!hostile.show().html.contains("<script"));
}

#[test]
fn a_dense_matrix_and_its_factors_agree() {
    let (a, b) = factors(&[4.0, 3.0, 0.5]);
    let dense = Spectrum::of_matrix("q", &b.matmul(&a).unwrap()).unwrap();
    assert_eq!((dense.out_features, dense.in_features, dense.rank, dense.scale), (4, 5, 4, 1.0));
    for (found, expected) in dense.singular_values.iter().zip([4.0, 3.0, 0.5, 0.0]) {
        assert!((found - expected).abs() < 1e-14, "{found} instead of {expected}");
    }
    let error = Spectrum::of_matrix("q", &cpu(&[1.0, f64::NAN], 1, 2)).unwrap_err().to_string();
    assert!(error.contains("ΔW[0, 1] is NaN") && error.contains("layer q"), "{error}");
    assert!(Spectrum::of_matrix("q", &Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap()).is_err());
    assert!(Spectrum::of_matrix("q", &cpu(&[1.0], 1, 1).flatten_all().unwrap()).is_err());
}
