//! `lorascope bench handle`: measures how soon a run responds while it trains.

use clap::Args;
use lorascope::dataset::Dataset;
use lorascope::error::{Error, Result};
use lorascope::model::Model;
use lorascope::run::{Run, State};
use lorascope::train::RunConfig;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Arguments {
    /// Model: a .gguf file or a Hugging Face folder
    #[arg(long)]
    model: PathBuf,
    /// Rows per step
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Approximate tokens per row
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Rank of the adapters
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// Number of pauses, each at another moment of a step
    #[arg(long, default_value_t = 20)]
    turns: u32,
}

/// Starts, inspects, pauses and resumes a run, and measures each.
pub fn measured(args: &Arguments) -> Result<String> {
    if args.batch == 0 || args.tokens < 32 || args.turns == 0 {
        return Err(Error::input("batch and turns must be at least 1, tokens at least 32"));
    }
    let model = Model::open(&args.model)?;
    let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
    std::env::set_current_dir(folder.path()).map_err(|e| Error::io(folder.path(), e))?;
    // One token per word, and a few for the template.
    let row = |i: usize| {
        let words =
            (0..args.tokens - 28).map(|k| ["one", "two", "red", "sun"][(k * (i + 3) / 2 + k / 5) % 4]);
        let answer = words.collect::<Vec<_>>().join(" ");
        format!("{{\"instruction\": \"Row {i}\", \"output\": \"{answer}\"}}\n")
    };
    let text: String = (0..8 * args.batch).map(row).collect();
    std::fs::write("rows.jsonl", text).map_err(|e| Error::io("rows.jsonl", e))?;
    let data = Dataset::open("rows.jsonl")?;
    let config = RunConfig::default().rank(args.rank).batch(args.batch).context(args.tokens + 64);
    let run = Run::new(
        "handle",
        &model,
        &data,
        RunConfig { micro_batch: args.batch * (args.tokens + 64), ..config },
    )?;

    let first = run.steps(2)?;
    let step = first.steps().iter().map(|step| step.seconds).fold(0.0, f64::max);
    let tokens = first.steps().last().map_or(0, |step| step.tokens);
    let (mut status, mut pause, mut snapshot) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..args.turns {
        run.start(1000)?;
        // Anywhere in the first two steps.
        let moment = 2.0 * step * f64::from(turn + 1) / f64::from(args.turns);
        for part in 1..=4 {
            std::thread::sleep(Duration::from_secs_f64(moment / 4.0));
            let begun = Instant::now();
            let state = run.status().state;
            status.push(begun.elapsed().as_secs_f64());
            if state != State::Running {
                return Err(Error::compute(format!("the run is {state} at part {part} of turn {turn}")));
            }
        }
        let begun = Instant::now();
        let paused = run.pause()?;
        pause.push(begun.elapsed().as_secs_f64());
        snapshot.extend(paused.snapshot_seconds);
    }
    let mut spectra = Vec::new();
    for _ in 0..args.turns.min(9) {
        let begun = Instant::now();
        run.spectra()?;
        spectra.push(begun.elapsed().as_secs_f64());
    }
    run.close()?;
    let [status, pause, snapshot, spectra] = [status, pause, snapshot, spectra].map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        let most = seconds.last().copied().unwrap_or(f64::NAN);
        (seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN), most)
    });
    let every = RunConfig::default().snapshots.every_seconds;
    Ok(format!(
        "a step   {step:.2} s, {tokens} tokens\n\
         status   {:.3} ms, at most {:.3} ms\n\
         pause    {:.0} ms, at most {:.0} ms, the snapshot included\n\
         snapshot {:.0} ms, at most {:.0} ms: {:.3} % of training at one in {every} s\n\
         spectra  {:.1} ms, at most {:.1} ms: {:.2} % of a step",
        status.0 * 1e3,
        status.1 * 1e3,
        pause.0 * 1e3,
        pause.1 * 1e3,
        snapshot.0 * 1e3,
        snapshot.1 * 1e3,
        100.0 * snapshot.0 / every,
        spectra.0 * 1e3,
        spectra.1 * 1e3,
        100.0 * spectra.0 / step
    ))
}
