//! Spectra of the 224 adapters of an 8B Llama at rank 16, and of one 4096×4096 module:
//! `cargo bench --bench spectra`. The other side is benches/peers/torch_spectra.py.

use std::time::{Duration, Instant};

use lorascope::candle_core::{Device, Tensor};
use lorascope::error::Result;
use lorascope::spectrum::{Spectra, Spectrum};

const RANK: usize = 16;
const REPEATS: usize = 9;
/// (out, in) of q, o, k, v, gate, up and down.
const SHAPES: [(usize, usize); 7] =
    [(4096, 4096), (4096, 4096), (1024, 4096), (1024, 4096), (14336, 4096), (14336, 4096), (4096, 14336)];

fn median(mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut spans = Vec::new();
    for _ in 0..REPEATS {
        let begun = Instant::now();
        work()?;
        spans.push(begun.elapsed());
    }
    spans.sort();
    Ok(spans[REPEATS / 2])
}

fn main() -> Result<()> {
    let mut adapters = Vec::new();
    for layer in 0..32 {
        for (module, (out, input)) in SHAPES.into_iter().enumerate() {
            let a = Tensor::randn(0f32, 1.0, (RANK, input), &Device::Cpu)?;
            let b = Tensor::randn(0f32, 1.0, (out, RANK), &Device::Cpu)?;
            adapters.push((format!("layers.{layer}.{module}"), a, b));
        }
    }
    let all =
        median(|| Spectra::of(adapters.iter().map(|(name, a, b)| (name.as_str(), a, b, 2.0))).map(drop))?;
    println!("factored_f64 {:.3} s for all {}", all.as_secs_f64(), adapters.len());
    let (name, a, b) = &adapters[0];
    let one = median(|| Spectrum::of(name, a, b, 2.0).map(drop))?;
    println!("factored_f64 {:.5} s for one 4096 x 4096", one.as_secs_f64());
    Ok(())
}
