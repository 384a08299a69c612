//! Spectra of the 224 adapters of an 8B Llama at rank 16, and of one 4096×4096 module, beside PyTorch's QR
//! in f64: `LORASCOPE_PEER=PYTHON cargo bench --profile dev --bench spectra`, PYTHON having `torch` (the profile
//! in which everything is compiled already). The other side is benches/peers/torch_spectra.py; the two take turns.
//! Then `Adapters::spectra_weighted()` of the 210 adapters of SmolLM2-135M at several ranks, without C and with it.

#[path = "peers/turns.rs"]
mod turns;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use lorascope::candle_core::{Device, Tensor};
use lorascope::error::Result;
use lorascope::lora::{Adapter, Adapters, LoraConfig};
use lorascope::spectrum::{Spectra, Spectrum};
use turns::Peer;

const RANK: usize = 16;
const TURNS: usize = 9;
/// (out, in) of q, o, k, v, gate, up and down.
const SHAPES: [(usize, usize); 7] =
    [(4096, 4096), (4096, 4096), (1024, 4096), (1024, 4096), (14336, 4096), (14336, 4096), (4096, 14336)];

/// PyTorch with factors of the same shapes; answers with the seconds that all took.
fn peer(python: String) -> Result<Peer> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/torch_spectra.py");
    let threads = rayon::current_num_threads().to_string();
    Peer::start(Command::new(python).args([script, "--turns", "--threads", &threads]))
}

fn timed(work: impl Fn() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// (out, in) of q, o, k, v, gate, up and down of SmolLM2-135M, which has 30 of each.
const SMALL: [(usize, usize); 7] =
    [(576, 576), (576, 576), (192, 576), (192, 576), (1536, 576), (1536, 576), (576, 1536)];

/// What is the same in all of B's components and what is not.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Nothing falls.
    Even,
    /// The components fall in equal steps to 1e-6 of the first.
    Components,
    /// Directions fall to 1e-4 of the first, and each component has a part of all: so are adapters that have been
    /// trained.
    Directions,
    /// As even, and C of 1,000 inputs is given.
    Seen,
}

/// How long `Adapters::spectra_weighted()` takes for 30 blocks of SmolLM2-135M, seconds of each turn.
fn small(rank: usize, kind: Kind) -> Result<Vec<f64>> {
    let normal = |rows, columns| Tensor::randn(0f32, 0.02, (rows, columns), &Device::Cpu);
    let last: f64 = match kind {
        Kind::Even | Kind::Seen => 1.0,
        Kind::Components => 1e-6,
        Kind::Directions => 1e-4,
    };
    let falls: Vec<f32> = (0..rank).map(|k| last.powf(k as f64 / (rank - 1) as f64) as f32).collect();
    let falls = Tensor::new(falls, &Device::Cpu)?;
    let turned = Tensor::randn(0f32, 1.0 / (rank as f32).sqrt(), (rank, rank), &Device::Cpu)?;
    let (mut pairs, mut seen_by) = (BTreeMap::new(), BTreeMap::new());
    for (module, (out, input)) in (0..30).flat_map(|_| SMALL).enumerate() {
        let a = normal(rank, input)?;
        let path = format!("layers.{}.{}", module / 7, module % 7);
        if kind == Kind::Seen {
            // A few of a model's activations are far larger than the rest.
            let sizes = Tensor::randn(0f32, 3.0, (input, 1), &Device::Cpu)?.exp()?;
            let ax = a.matmul(&normal(input, 1000)?.broadcast_mul(&sizes)?)?;
            seen_by.insert(path.clone(), (ax.matmul(&ax.t()?)? / 1000.0)?);
        }
        let mut b = normal(out, rank)?.broadcast_mul(&falls)?;
        if kind == Kind::Directions {
            b = b.matmul(&turned)?;
        }
        pairs.insert(path, Adapter::new(a, b, 2.0)?);
    }
    let adapters = Adapters::from_pairs(LoraConfig { rank, ..Default::default() }, pairs);
    let mut seconds = (0..TURNS)
        .map(|_| timed(|| adapters.spectra_weighted(&seen_by).map(drop)))
        .collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

struct Layer {
    name: String,
    a: Tensor,
    /// As random as A, and with columns that are nearly one direction: two ways to the same numbers.
    even: Tensor,
    alike: Tensor,
}

fn main() -> Result<()> {
    large()?;
    println!("SmolLM2-135M, 210 adapters, median of {TURNS}");
    for rank in [8, 16, 64, 256] {
        for (what, seconds) in [
            ("even", small(rank, Kind::Even)?),
            ("B's components falling to 1e-6", small(rank, Kind::Components)?),
            ("its directions to 1e-4", small(rank, Kind::Directions)?),
            ("with C", small(rank, Kind::Seen)?),
        ] {
            println!("rank {rank:<3} {what:<30} {:.5} s, best {:.5} s", seconds[TURNS / 2], seconds[0]);
        }
    }
    Ok(())
}

/// The adapters of an 8B Llama beside the peer.
fn large() -> Result<()> {
    let normal = |rows, columns| Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu);
    let mut layers = Vec::new();
    for (module, (out, input)) in (0..32).flat_map(|_| SHAPES).enumerate() {
        let even = normal(out, RANK)?;
        let alike = (&even * 1e-3)?.broadcast_add(&normal(out, 1)?)?;
        layers.push(Layer {
            name: format!("layers.{}.{}", module / 7, module % 7),
            a: normal(RANK, input)?,
            even,
            alike,
        });
    }
    let all = |b: fn(&Layer) -> &Tensor| {
        timed(|| Spectra::of(layers.iter().map(|l| (l.name.as_str(), &l.a, b(l), 2.0))).map(drop))
    };
    let mut peer = std::env::var("LORASCOPE_PEER").ok().map(peer).transpose()?;
    let mut seconds = [const { Vec::new() }; 4];
    for _ in 0..TURNS {
        let one = || Spectrum::of("one", &layers[0].a, &layers[0].even, 2.0).map(drop);
        let mut turn = vec![all(|l| &l.even)?, all(|l| &l.alike)?, timed(one)?];
        turn.extend(peer.as_mut().map(Peer::turn::<f64>).transpose()?);
        seconds.iter_mut().zip(turn).for_each(|(all, one)| all.push(one));
    }
    println!(
        "{} adapters of rank {RANK}, {} threads, median of {TURNS}",
        layers.len(),
        rayon::current_num_threads()
    );
    let names = ["all", "all, B's columns nearly alike", "one of 4096×4096", "peer: torch QR f64, all"];
    for (name, seconds) in names.iter().zip(&mut seconds).filter(|(_, seconds)| !seconds.is_empty()) {
        seconds.sort_by(f64::total_cmp);
        println!("{name:<32} {:.5} s, best {:.5} s", seconds[TURNS / 2], seconds[0]);
    }
    if let [even, alike, _, peer] = seconds.each_ref().map(|seconds| seconds.get(TURNS / 2))
        && let (Some(even), Some(alike), Some(peer)) = (even, alike, peer)
    {
        println!(
            "ours {:.1} times as fast, {:.1} where B's columns are nearly alike",
            peer / even,
            peer / alike
        );
    }
    Ok(())
}
