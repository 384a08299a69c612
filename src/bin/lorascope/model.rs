//! `lorascope sample`, `merge` and `export`: answer prompts with a model, and write it, with or without an adapter.

use clap::{Args, ValueEnum};
use lorascope::display::Show as _;
use lorascope::error::{Error, Result};
use lorascope::lora::Adapters;
use lorascope::model::{ExportOptions, ExportType, GenerateConfig, Model, OpenOptions};
use lorascope::run::Run;
use lorascope::text::Message;
use serde_json::json;
use std::io::IsTerminal as _;
use std::path::PathBuf;

/// A model, and the adapter to use with it.
#[derive(Args)]
struct Adapted {
    /// Model: a .gguf file or a Hugging Face folder
    #[arg(long, value_name = "PATH", required_unless_present = "run")]
    model: Option<PathBuf>,
    /// Adapter: a PEFT or mlx folder, or a kohya file
    #[arg(long, value_name = "PATH", conflicts_with = "run")]
    adapter: Option<PathBuf>,
    /// Run to use instead of an adapter, by its name in the folder runs or by its path: uses its newest snapshot,
    /// and its model unless --model gives the model's new path
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

impl Adapted {
    fn open(&self) -> Result<(Model, Adapters)> {
        let saved = self.run.as_deref().map(Run::saved).transpose()?;
        let weights = saved.as_ref().map(|saved| saved.weights).unwrap_or_default();
        let Some(path) = self.model.as_ref().or(saved.as_ref().map(|saved| &saved.model)) else {
            return Err(Error::input("no model is given").help("say --model PATH or --run RUN"));
        };
        if saved.is_some() && self.model.is_none() && !path.exists() {
            return Err(Error::not_found("the run's model is no longer there")
                .path(path)
                .help("--model PATH says where it is now"));
        }
        let model = Model::open_with(path, &OpenOptions { weights, ..OpenOptions::default() })?;
        if let Some(saved) = &saved
            && saved.model_fingerprint != model.fingerprint()?
        {
            return Err(Error::input("this is not the model that the run was trained on").path(path).help(
                "give that model with --model PATH, or use this model with --adapter and the run's adapter",
            ));
        }
        if let Some(saved) = &saved {
            crate::complain(format_args!("step {} of {}", saved.step, saved.folder.display()));
        }
        let adapter = self.adapter.as_ref().or(saved.as_ref().map(|saved| &saved.snapshot));
        let adapters = adapter.map_or_else(|| Ok(Adapters::default()), |path| model.adapters(path))?;
        adapters.notes().iter().for_each(crate::complain);
        Ok((model, adapters))
    }
}

#[derive(Args)]
pub struct Sample {
    /// Prompts; each is answered separately
    #[arg(required = true)]
    prompts: Vec<String>,
    #[command(flatten)]
    adapted: Adapted,
    /// System message before each prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Maximum tokens per answer
    #[arg(long, value_name = "N", default_value_t = GenerateConfig::default().max_tokens)]
    max_tokens: usize,
    /// Sampling temperature: 0 always takes the most likely token; higher values draw rarer tokens more often
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Random seed, for a temperature above 0
    #[arg(long, value_name = "N", default_value_t = GenerateConfig::default().seed)]
    seed: u64,
    /// Print one line of JSON per prompt, with prompt and answer
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Merge {
    /// Hugging Face folder to write; must not exist
    out: PathBuf,
    #[command(flatten)]
    adapted: Adapted,
    #[command(flatten)]
    written: Written,
}

#[derive(Args)]
pub struct Export {
    /// Hugging Face folder to write; must not exist
    out: PathBuf,
    /// Model: a .gguf file or a Hugging Face folder
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    written: Written,
}

/// How weights are written.
#[derive(Args)]
struct Written {
    /// Dtype of the weights in the files
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    dtype: Dtype,
    /// Maximum bytes per file; a larger tensor gets its own file
    #[arg(long, value_name = "N", default_value_t = ExportOptions::default().shard_bytes)]
    shard_bytes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    /// 32 bits, without loss
    F32,
    /// 16 bits with the range of f32, as most models are published
    Bf16,
    /// 16 bits, more exact than bf16, with a smaller range
    F16,
}

impl Written {
    fn options(&self) -> ExportOptions {
        let dtype = match self.dtype {
            Dtype::F32 => ExportType::F32,
            Dtype::Bf16 => ExportType::Bf16,
            Dtype::F16 => ExportType::F16,
        };
        ExportOptions { dtype, shard_bytes: self.shard_bytes }
    }
}

pub fn sample(arguments: &Sample) -> Result<()> {
    let (model, adapters) = arguments.adapted.open()?;
    let config = GenerateConfig {
        max_tokens: arguments.max_tokens,
        temperature: arguments.temperature,
        seed: arguments.seed,
        ..GenerateConfig::default()
    };
    let live = std::io::stdout().is_terminal() && !arguments.json;
    for prompt in &arguments.prompts {
        let system = arguments.system.as_deref().map(Message::system);
        let messages: Vec<Message> = system.into_iter().chain([Message::user(prompt.as_str())]).collect();
        if arguments.prompts.len() > 1 && !arguments.json {
            crate::print(format_args!("> {}", prompt.replace('\n', "\n> ")));
        }
        if live {
            model.chat_live(&adapters, &messages, &config)?;
            continue;
        }
        let answer = model.chat_each(&adapters, &messages, &config, &mut |_| true)?.text;
        match arguments.json {
            true => crate::print(json!({ "prompt": prompt, "answer": answer })),
            false => crate::print(answer),
        }
    }
    Ok(())
}

pub fn merge(arguments: &Merge) -> Result<()> {
    free(&arguments.out)?;
    let (model, adapters) = arguments.adapted.open()?;
    if adapters.is_empty() {
        return Err(Error::input("there is nothing to merge")
            .help("say --adapter PATH or --run RUN; lorascope export writes the model alone"));
    }
    crate::print(
        model.export_merged(&adapters, &arguments.out, &arguments.written.options())?.show().text.trim_end(),
    );
    Ok(())
}

pub fn export(arguments: &Export) -> Result<()> {
    free(&arguments.out)?;
    let model = Model::open(&arguments.model)?;
    crate::print(model.export(&arguments.out, &arguments.written.options())?.show().text.trim_end());
    Ok(())
}

/// Fails before any work if the output folder exists.
fn free(out: &std::path::Path) -> Result<()> {
    match out.symlink_metadata() {
        Ok(_) => Err(Error::input("the folder exists already").path(out).help("choose another name")),
        Err(_) => Ok(()),
    }
}
