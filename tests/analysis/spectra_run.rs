//! Spectra along the steps of a run, what they are weighted by, and the rank that evaluation asks for.

use crate::common::runs::{Bench, config};
use lorascope::analysis::{SpectraHistory, SpreadRanks, Within};
use lorascope::candle_core::{Device, Tensor};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::{Activations, Adapter, Adapters, Gradients, Init, LoraConfig, Truncation};
use lorascope::run::Run;
use lorascope::train::RunConfig;
use std::collections::BTreeMap;

fn numbers(seed: u64, shape: (usize, usize)) -> Tensor {
    let mut state = seed;
    let values: Vec<f32> = (0..shape.0 * shape.1)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn with(mut config: RunConfig, change: impl FnOnce(&mut LoraConfig)) -> RunConfig {
    change(&mut config.lora);
    config
}

#[test]
fn what_dropout_leaves_out_is_seen() -> Result<()> {
    // B begins with zeros: the inputs of the first step are the same with any dropout.
    let bench = Bench::new()?;
    let seen = |name: &str, dropout: f64| -> Result<Vec<Vec<Vec<f32>>>> {
        let run = bench.run(name, with(config(), |lora| lora.dropout = dropout))?;
        run.step()?;
        Ok(run.activations().by_path().values().map(|c| c.to_vec2().unwrap()).collect())
    };
    let (none, half) = (seen("none", 0.0)?, seen("half", 0.5)?);
    assert_eq!(none.len(), 16);
    assert_eq!(none, half);
    Ok(())
}

#[test]
fn the_weighted_spectrum_is_the_change_of_the_output() -> Result<()> {
    // Inputs that lie mostly along a few directions, and an adapter that is not square.
    let (tokens, inner, out, rank, scale) = (57, 13, 9, 4, 1.5);
    let x =
        (numbers(1, (tokens, 3)).matmul(&numbers(2, (3, inner)))? + (numbers(3, (tokens, inner)) * 0.1)?)?;
    let pair = Adapter::new(numbers(4, (rank, inner)), numbers(5, (out, rank)), scale)?;
    let config = LoraConfig { rank, alpha: scale * rank as f64, ..Default::default() };
    let adapters =
        Adapters::from_pairs(config, BTreeMap::from([("layers.0.q_proj".to_string(), pair.clone())]));

    // In two micro-batches.
    let mut gradients = Gradients::new();
    for (begin, count) in [(0, 20), (20, 37)] {
        let (x, dy) = (x.narrow(0, begin, count)?, numbers(6, (count, out)));
        gradients.add("layers.0.q_proj", &pair, pair.backward(&x, &dy, None)?.0)?;
    }
    let seen = Activations::default().with(&gradients)?;
    let c = seen.by_path()["layers.0.q_proj"].to_vec2::<f32>()?;
    let ax = x.matmul(&pair.a().t()?)?.to_vec2::<f32>()?;
    for (i, j) in (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j))) {
        let mean = ax.iter().map(|row| f64::from(row[i]) * f64::from(row[j])).sum::<f64>() / tokens as f64;
        assert!((f64::from(c[i][j]) - mean).abs() < 1e-5 * (1.0 + mean.abs()), "C[{i}, {j}]");
    }

    // Σ σ² = E‖ΔW x‖².
    let output_change = |delta: &Tensor| -> f64 {
        let y = x.matmul(&delta.t().unwrap()).unwrap().to_vec2::<f32>().unwrap();
        y.iter().flatten().map(|y| f64::from(*y).powi(2)).sum::<f64>() / tokens as f64
    };
    let spectra = adapters.spectra_weighted(seen.by_path())?;
    let weighted = spectra.weighted().unwrap().get("layers.0.q_proj")?;
    let energy = weighted.frobenius_norm().powi(2);
    assert!((energy / output_change(&pair.delta()?) - 1.0).abs() < 1e-5, "{energy}");

    // The cut by it loses the rest of that sum, and less than the cut by ΔW does.
    let lost = |cut: &Adapters| -> Result<f64> {
        let cut = cut.get("layers.0.q_proj").unwrap().delta()?;
        Ok(output_change(&(pair.delta()? - cut)?))
    };
    let by_output = lost(&adapters.truncate_weighted(&Truncation::Rank(2), seen.by_path())?)?;
    let rest: f64 = weighted.singular_values[2..].iter().map(|sigma| sigma * sigma).sum();
    assert!((by_output / rest - 1.0).abs() < 1e-3, "{by_output} and {rest}");
    assert!(by_output < 0.999 * lost(&adapters.truncate(&Truncation::Rank(2))?)?);

    // A step later the first counts 0.9, the second 0.1.
    let mut second = Gradients::new();
    second.add("layers.0.q_proj", &pair, pair.backward(&(&x * 2.0)?, &numbers(6, (tokens, out)), None)?.0)?;
    let later = seen.with(&second)?.by_path()["layers.0.q_proj"].to_vec2::<f32>()?;
    assert!((later[1][2] / c[1][2] - (0.9 + 0.1 * 4.0)).abs() < 1e-4, "{} {}", later[1][2], c[1][2]);
    Ok(())
}

/// step, name, k and the bits of both singular values.
type Row = (u64, String, u32, u32, Option<u32>);

fn rows(history: &SpectraHistory) -> Result<Vec<Row>> {
    let frame = history.frame()?;
    let (step, name, k) =
        (frame.column("step")?.u64()?, frame.column("name")?.str()?, frame.column("k")?.u32()?);
    let (sigma, weighted) = (frame.column("sigma")?.f32()?, frame.column("weighted_sigma")?.f32()?);
    Ok((0..frame.height())
        .map(|i| {
            let bits = sigma.get(i).unwrap().to_bits();
            let name = name.get(i).unwrap().to_string();
            (step.get(i).unwrap(), name, k.get(i).unwrap(), bits, weighted.get(i).map(f32::to_bits))
        })
        .collect())
}

#[test]
fn spectra_of_every_step_resume_to_the_bit() -> Result<()> {
    let bench = Bench::new()?;
    let straight = bench.run("straight", config())?;
    assert!(straight.spectra_history().unwrap_err().to_string().contains("no singular values"));
    straight.steps(5)?;
    let history = straight.spectra_history()?;
    let expected = rows(&history)?;
    // 8 blocks, 2 modules, rank 2.
    assert_eq!((history.len(), expected.len()), (5, 5 * 8 * 2 * 2));
    assert!(expected.iter().all(|row| row.4.is_some()));

    // What was kept last is what the adapters have now.
    let now = straight.spectra()?;
    let spectrum = now.get(&expected[expected.len() - 1].1)?;
    let last = f32::from_bits(expected[expected.len() - 1].3);
    assert_eq!(last, spectrum.singular_values[1] as f32);
    let weighted = now.weighted().unwrap().get(&spectrum.name)?;
    assert_eq!(expected[expected.len() - 1].4, Some((weighted.singular_values[1] as f32).to_bits()));

    let broken = bench.run("broken", config())?;
    broken.steps(3)?;
    let folder = broken.folder().to_path_buf();
    broken.close()?;
    let opened = Run::open(&folder)?;
    opened.steps(2)?;
    assert_eq!(rows(&opened.spectra_history()?)?, expected);
    opened.rewind(2)?;
    assert_eq!(opened.spectra_history()?.len(), 2);
    opened.steps(3)?;
    assert_eq!(rows(&opened.spectra_history()?)?, expected);
    let fork = opened.fork("fork", |c| c.spectra_every = Some(2))?;
    fork.steps(3)?;
    let frame = fork.spectra_history()?.frame()?;
    assert_eq!(frame.column("step")?.u64()?.last(), Some(8));
    assert_eq!(fork.spectra_history()?.len(), 7); // 1 to 5, then 6 and 8

    let none = RunConfig { spectra_every: None, ..config() };
    let none = bench.run("none", none)?;
    none.steps(2)?;
    let error = none.spectra_history().unwrap_err().to_string();
    assert!(error.contains("spectra_every"), "{error}");
    Ok(())
}

#[test]
fn a_start_that_is_taken_off() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("pissa", with(config().rank(3).lr(1e-2), |lora| lora.init = Init::Pissa))?;
    // B·A − B₀·A₀ is nothing yet, not what rounding leaves of it.
    assert!(run.spectra()?.iter().all(|spectrum| spectrum.singular_values.iter().all(|s| *s == 0.0)));
    run.steps(3)?;
    let curve = run.rank_curve(&bench.data, &[1, 3, 5])?;
    let ranks: Vec<usize> = curve.points.iter().map(|point| point.rank).collect();
    assert_eq!(ranks, [1, 3, 5, 6]); // ΔW has rank 2·3
    let whole = curve.points[3];
    assert_eq!(whole.loss, run.evaluate_with(&run.adapters(), &bench.data)?.loss);
    assert_eq!(whole.parameters, run.adapters().parameters());
    assert_ne!(curve.points[1].loss, whole.loss);
    Ok(())
}

#[test]
fn pictures_of_a_run() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("pictures", config())?;
    assert!(run.dashboard()?.show().html.contains("no step yet"));
    for figure in [run.history().plot(), run.history().curves()] {
        assert_eq!(figure.unwrap_err().to_string(), "no step yet; run.step() or run.start(n)");
    }
    run.steps(4)?;
    let curves = run.history().curves()?;
    for label in ["cross-entropy (nats per token)", "learning rate", "gradient norm"] {
        assert!(curves.svg().contains(label), "{label}");
    }
    assert_eq!(curves.data()?.height(), 3 * 4);
    let history = run.spectra_history()?;
    let name = "layers.3.self_attn.q_proj";
    let map = history.waterfall(name)?;
    assert_eq!(map.data()?.height(), 4 * 2);
    assert!(map.svg().contains("model.layers.3.self_attn.q_proj"));
    assert!(history.traces(name)?.svg().contains("step"));
    let error = history.waterfall("q_proj").unwrap_err().to_string();
    assert!(error.contains("more than one adapter"), "{error}");
    let error = history.waterfall("layers.99.self_attn.q_proj").unwrap_err().to_string();
    assert!(error.contains("no adapter") && error.contains("say one of model.layers.0"), "{error}");
    let figure = history.plot()?;
    assert!(figure.svg().contains("effective rank") && figure.svg().contains("q_proj"));
    let shown = history.show();
    assert!(shown.text.contains("16 adapters at 4 steps"), "{}", shown.text);
    let shown = run.dashboard()?.show();
    for part in [
        "Loss",
        "Effective rank of B·A and loss",
        "Singular values of B·A",
        "Singular values of B·C^½",
        "ranks that keep 95 %",
    ] {
        assert!(shown.html.contains(part), "{part}");
    }
    let compared = lorascope::analysis::compare_runs(&[&run, &run.fork("other", |c| c.lr = 1e-3)?])?;
    assert!(compared.spectra_plot()?.svg().contains("other"));
    Ok(())
}

#[test]
fn the_smallest_rank_within_the_noise() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("ranks", config().rank(8).lr(2e-2))?;
    run.steps(12)?;
    let curve = run.rank_curve(&bench.data, &[4, 1, 2, 4, 64])?;
    let ranks: Vec<usize> = curve.points.iter().map(|point| point.rank).collect();
    assert_eq!(ranks, [1, 2, 4, 8]);
    let whole = curve.points[3];
    assert_eq!((whole.worse, whole.interval), (0.0, (0.0, 0.0)));
    assert_eq!(curve.rows, 12);
    assert_eq!(whole.loss, run.evaluate_with(&run.adapters(), &bench.data)?.loss);
    for point in &curve.points {
        let (low, high) = point.interval;
        assert!(low <= point.worse && point.worse <= high, "{point:?}");
        assert!((point.loss - whole.loss - point.worse).abs() < 1e-12);
        assert_eq!(point.parameters, whole.parameters * point.rank / 8);
    }
    // Within so much that everything is enough, within nothing at all.
    let far = curve.points[0].worse.max(0.0) + 1.0;
    assert_eq!(curve.advise(Within::Loss(far))?.rank, 1);
    let exact = curve.advise(Within::Loss(0.0))?;
    assert!(exact.worse <= 0.0);
    let noise = curve.advise(Within::Noise)?;
    assert!(
        noise.interval.0 <= 0.0 && curve.points.iter().all(|p| p.rank >= noise.rank || p.interval.0 > 0.0)
    );
    assert!(curve.advise(Within::Loss(-1.0)).unwrap_err().to_string().contains("-1"));

    let curve = curve.beside(&run, &bench.data)?;
    let frame = curve.frame()?;
    assert_eq!((frame.height(), frame.column("kind")?.str()?.get(4)), (5, Some("ranks")));
    let loss = frame.column("loss")?.f64()?;
    assert_eq!(loss.get(3), loss.get(4)); // the same adapter on the same rows
    let shown = curve.show();
    assert!(
        shown.html.contains("trained at that rank") && shown.text.contains("the smallest within the noise")
    );
    assert!(run.rank_curve(&bench.data, &[]).unwrap_err().to_string().contains("ranks []"));
    assert!(run.rank_curve(&bench.data, &[0, 2]).is_err());
    // The cut that the curve was made of.
    let cut = run.truncate(&Truncation::Rank(2))?;
    assert_eq!(run.evaluate_with(&cut, &bench.data)?.loss, curve.points[1].loss);
    let plain = run.adapters().truncate(&Truncation::Rank(2))?;
    assert_ne!(run.evaluate_with(&plain, &bench.data)?.loss, curve.points[1].loss);
    let error = curve.beside(&run, &bench.data.head(5)?).unwrap_err().to_string();
    assert!(
        error.contains("\"ranks\" was evaluated on 5 rows") && error.contains("the curve on 12"),
        "{error}"
    );

    let full = bench.run("full", config().full())?;
    assert!(curve.beside(&full, &bench.data).unwrap_err().to_string().contains("it has no rank"));
    assert!(full.rank_curve(&bench.data, &[1]).unwrap_err().to_string().contains("no adapters to cut"));
    Ok(())
}

#[test]
fn the_same_parameters_spent_in_other_ways() -> Result<()> {
    let bench = Bench::new()?;
    let sets: [&[&str]; 3] = [&["q_proj"], &["q_proj", "k_proj"], &["q_proj", "k_proj", "v_proj", "o_proj"]];
    let spread = lorascope::analysis::spread_ranks(
        "spread",
        &bench.model,
        &bench.data,
        &bench.data,
        &config().rank(6),
        3,
        &sets,
    )?;
    // q 32 + 32, k and v 32 + 16, o 32 + 32 by rank and block: 384, then 112 and 224 for each rank.
    let ranks: Vec<(usize, usize)> = spread.ways.iter().map(|way| (way.rank, way.parameters)).collect();
    assert_eq!(ranks, [(6, 8 * 384), (3, 8 * 336), (2, 8 * 448)]);
    let run = Run::get("spread-2")?;
    assert_eq!(run.evaluate_with(&run.adapters(), &bench.data)?.loss, spread.ways[1].loss);
    assert!(spread.ways.iter().all(|way| way.loss.is_finite() && way.training.is_finite()));
    assert!(spread.show().text.contains("q_proj, k_proj"));
    assert_eq!(spread.frame()?.height(), 3);
    let one = lorascope::analysis::spread_ranks(
        "one",
        &bench.model,
        &bench.data,
        &bench.data,
        &config(),
        3,
        &sets[..1],
    );
    assert!(one.unwrap_err().to_string().contains("1 sets"));

    // What is not trained at these ranks does not count, and an orthogonal beginning has even ones.
    let others = |name: &str, config: RunConfig, sets: &[&[&str]]| {
        lorascope::analysis::spread_ranks(name, &bench.model, &bench.data, &bench.data, &config, 1, sets)
    };
    let dora = with(config().rank(6), |lora| lora.dora = true);
    let ranks = |spread: SpreadRanks| spread.ways.iter().map(|way| way.rank).collect::<Vec<_>>();
    assert_eq!(ranks(others("dora", dora, &sets)?), [6, 3, 2]);
    let orthogonal = with(config().rank(6), |lora| lora.init = Init::Orthogonal);
    assert_eq!(ranks(others("orthogonal", orthogonal, &sets)?), [6, 4, 2]);

    // Refused before anything is trained.
    let refused = |name: &str, config: RunConfig, sets: &[&[&str]], part: &str| {
        let error = others(name, config, sets).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(Run::get(&format!("{name}-1")).is_err(), "{name}");
    };
    refused("high", config().rank(16), &[sets[2], &["k_proj"]], "rank 75 is more than B·A of 16×32 can have");
    refused("whole", config().full(), &sets, "leave out full()");
    let pattern =
        with(config(), |lora| lora.rank_pattern = [("q_proj".to_string(), 2)].into_iter().collect());
    refused("pattern", pattern, &sets, "leave out rank_pattern");
    bench.run("taken-2", config())?;
    refused("taken", config(), &sets, "\"taken-2\" exists");
    Ok(())
}
