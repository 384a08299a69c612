//! Pictures of made-up adapters: `cargo run --example pictures` writes docs/spectrum.svg, and
//! `cargo run --example pictures -- FOLDER` one picture of each kind into a folder.
//!
//! The adapters are B·A with a decaying spectrum that flattens with depth, from a fixed seed.

use lorascope::candle_core::{Device, Tensor};
use lorascope::error::{Error, Result};
use lorascope::plot::{Figure, Scale, Series, bars, heat_map, histogram, lines};
use lorascope::spectrum::Spectra;

const RANK: usize = 16;
const LAYERS: usize = 24;
const MODULES: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", 96, 96),
    ("self_attn.k_proj", 32, 96),
    ("self_attn.v_proj", 32, 96),
    ("self_attn.o_proj", 96, 96),
    ("mlp.gate_proj", 256, 96),
    ("mlp.up_proj", 256, 96),
    ("mlp.down_proj", 96, 256),
];

/// Numbers from -1 to 1, the same every time (a 64-bit linear congruential generator).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

fn adapters() -> Result<Spectra> {
    let mut noise = Noise(42);
    let mut adapters = Vec::new();
    for layer in 0..LAYERS {
        for (kind, &(module, output, input)) in MODULES.iter().enumerate() {
            let depth = layer as f64 / (LAYERS - 1) as f64;
            // e-folds over the rank: attention is steep, the MLP flat, late layers flatter.
            let decay = [6.5, 7.5, 3.2, 4.0, 2.6, 2.2, 3.0][kind] * (1.25 - 0.7 * depth);
            let size = 0.02 * (1.0 + 1.5 * depth) * (1.0 + 0.15 * noise.next());
            let a: Vec<f64> = (0..RANK * input).map(|_| noise.next()).collect();
            let b: Vec<f64> = (0..output * RANK)
                .map(|i| size * noise.next() * (-decay * (i % RANK) as f64 / RANK as f64).exp())
                .collect();
            let name = format!("model.layers.{layer}.{module}");
            let a = Tensor::from_vec(a, (RANK, input), &Device::Cpu)?;
            let b = Tensor::from_vec(b, (output, RANK), &Device::Cpu)?;
            adapters.push((name, a, b));
        }
    }
    Spectra::of(adapters.iter().map(|(name, a, b)| (name.as_str(), a, b, 2.0)))
}

fn gallery(spectra: &Spectra) -> Result<Vec<(&'static str, Figure)>> {
    let mut noise = Noise(7);
    let mut loss =
        |step: i32| (f64::from(step), 1.1 + 1.6 * (-f64::from(step) / 40.0).exp() + 0.16 * noise.next());
    let train = Series::smoothed("training", (1..=300).map(&mut loss), 20.0);
    let test = Series::marks(
        "evaluation (held-out kinds)",
        [(1.0, 2.7), (100.0, 1.35), (200.0, 1.2), (300.0, 1.18)],
    );
    let lengths: Vec<f64> =
        (0..2000).map(|_| (40.0 + 700.0 * (loss(300).1 - 0.9).powi(3) * 9.0).round()).collect();
    let cells = [vec![Some(1.0), None, Some(1e-9)], vec![Some(f64::NAN), Some(0.5), Some(0.25)]];
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    Ok(vec![
        ("panels", spectra.plot()?.with_footer("made-up adapters, seed 42")),
        ("one", spectra.select("q_proj")?.plot()?),
        ("two", spectra.select("mlp")?.plot()?),
        ("layer", spectra.select("layers.3")?.select("q_proj")?.plot()?),
        ("ranks", spectra.heat_map()?.with_footer("seed 42")),
        (
            "loss",
            lines("Loss", "step", "nats per token", &[train.clone(), test], Scale::Linear)?
                .with_footer("seed 42"),
        ),
        (
            "log",
            lines(
                "损失曲线:数学应用题,每个词元的交叉熵(对数坐标)",
                "步数",
                "每个词元的损失",
                &[train],
                Scale::Log,
            )?,
        ),
        ("lengths", histogram("Length of conversations", "tokens", "rows", &lengths)?),
        (
            "kinds",
            bars(
                "题型 Kinds of problems",
                "rows",
                &[
                    ("鸡兔同笼问题的变式与推广".into(), 120.0),
                    ("age".into(), 75.5),
                    ("speed and distance".into(), -20.0),
                ],
            )?,
        ),
        (
            "small",
            heat_map(
                "A title that is longer than its small map is wide",
                &names(&["第一层", "1"]),
                &names(&["注意力查询投影", "k", "v"]),
                &cells,
                "share of the energy",
            )?,
        ),
        (
            "hostile",
            lines(
                "</svg><script>alert(1)</script>",
                "x & y",
                "\"'<b>",
                &[Series::line(
                    "</text><img src=x onerror=alert(1)>",
                    [(0.0, f64::NAN), (1.0, 2.0), (2.0, f64::INFINITY), (3.0, -4.0), (4.0, 5.0)],
                )],
                Scale::Linear,
            )?,
        ),
    ])
}

fn main() -> Result<()> {
    let spectra = adapters()?;
    let Some(folder) = std::env::args().nth(1) else {
        return spectra.plot()?.with_footer("made-up adapters, seed 42").overwrite("docs/spectrum.svg");
    };
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    for (name, figure) in gallery(&spectra)? {
        figure.overwrite(format!("{folder}/{name}.svg"))?;
        let page = |style: &str| {
            format!("<!doctype html><meta charset=utf-8><body style='margin:8px;{style}'>{}", figure.svg())
        };
        for (theme, style) in
            [("light", "background:#fff;color:#111"), ("dark", "background:#111;color:#eee")]
        {
            let path = format!("{folder}/{name}.{theme}.html");
            std::fs::write(&path, page(style)).map_err(|error| Error::io(&path, error))?;
        }
    }
    Ok(())
}
