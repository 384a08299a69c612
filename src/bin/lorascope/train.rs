//! `lorascope train`: a run without a notebook.

use clap::Args;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::{Error, Result};
use lorascope::model::Model;
use lorascope::train::{Run, RunConfig};
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// The run's name; it lies in runs/NAME
    name: String,
    /// Replace the run of this name
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Go on with the run that exists; model, data and settings come from its folder
    #[arg(long, conflicts_with_all = ["model", "data", "eval", "rank", "lr", "batch", "seed"])]
    resume: bool,
    /// A .gguf file or a Hugging Face folder
    #[arg(long, required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// Rows to train on
    #[arg(long, required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// Rows to evaluate on, before and after
    #[arg(long)]
    eval: Option<PathBuf>,
    /// Steps to train
    #[arg(long, default_value_t = 100)]
    steps: u64,
    #[arg(long)]
    rank: Option<usize>,
    /// Learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// Rows of a step
    #[arg(long)]
    batch: Option<usize>,
    #[arg(long)]
    seed: Option<u64>,
    /// Save the adapter here when done; PEFT loads it
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let run = if arguments.resume { Run::get(&arguments.name)? } else { new(arguments)? };
    let evaluate = || match run.config().eval {
        Some(_) => run.evaluate().map(|evaluation| crate::print(evaluation.show().text)),
        None => Ok(()),
    };
    crate::print(run.show().text);
    evaluate()?;
    let history = run.steps(arguments.steps)?;
    crate::print(history.show().text);
    evaluate()?;
    if let Some(folder) = &arguments.save {
        crate::print(run.save_adapter(folder)?);
    }
    Ok(())
}

fn new(arguments: &Arguments) -> Result<Run> {
    let (Some(model), Some(data)) = (&arguments.model, &arguments.data) else {
        return Err(Error::input("a new run needs --model and --data"));
    };
    if !arguments.overwrite && Run::exists(&arguments.name)? {
        return Err(Error::state(format!("the run {:?} exists", arguments.name))
            .help("--resume goes on with it, --overwrite replaces it"));
    }
    let mut config = RunConfig::default();
    if arguments.overwrite {
        config = config.overwrite();
    }
    if let Some(rank) = arguments.rank {
        config = config.rank(rank);
    }
    config.lr = arguments.lr.unwrap_or(config.lr);
    config.batch = arguments.batch.unwrap_or(config.batch);
    config.seed = arguments.seed.unwrap_or(config.seed);
    config.eval = arguments.eval.as_ref().map(Dataset::open).transpose()?;
    Run::new(&arguments.name, &Model::open(model)?, &Dataset::open(data)?, config)
}
