//! The `lorascope` command: a thin command line over the library.

#[path = "lorascope/bench.rs"]
mod bench;
#[path = "lorascope/bench_generate.rs"]
mod bench_generate;
#[path = "lorascope/bench_step.rs"]
mod bench_step;
#[path = "lorascope/clean.rs"]
mod clean;
#[path = "lorascope/data.rs"]
mod data;
#[cfg(feature = "tensorboard")]
#[path = "lorascope/events.rs"]
mod events;
#[path = "lorascope/generate/mod.rs"]
mod generate;
#[path = "lorascope/handle.rs"]
mod handle;
#[path = "lorascope/kernel.rs"]
mod kernel;
#[path = "lorascope/model.rs"]
mod model;
#[path = "lorascope/plan.rs"]
mod plan;
#[path = "lorascope/processes.rs"]
mod processes;
#[path = "lorascope/reading.rs"]
mod reading;
#[path = "lorascope/rows.rs"]
mod rows;
#[path = "lorascope/spectrum.rs"]
mod spectrum;
#[path = "lorascope/train.rs"]
mod train;
#[path = "lorascope/train_values.rs"]
mod train_values;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::{Parser, Subcommand};
use lorascope::display::{Audience, OutputStream, progress_on, speak_to};
use lorascope::error::Result;

/// Explore instruction-tuning data, fine-tune a language model with LoRA, and analyse its adapters
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Inspect, clean, split, convert and generate datasets
    #[command(subcommand)]
    Data(Box<data::Command>),
    /// Estimate the memory for LoRA and for full fine-tuning of a model, without loading it
    Plan(plan::Arguments),
    /// Train adapters: start a new run in the folder runs, or resume one
    Train(Box<train::Arguments>),
    /// Answer prompts with a model, with or without an adapter
    Sample(model::Sample),
    /// Merge an adapter into the weights of a model, and write a Hugging Face folder
    Merge(model::Merge),
    /// Write a model as a Hugging Face folder
    Export(model::Export),
    /// Show the singular values of an adapter's B·A, and truncate it to smaller ranks
    Spectrum(spectrum::Arguments),
    /// Install, run or remove the kernel for Jupyter: passed on to lorascope-kernel
    Kernel(kernel::Arguments),
    /// Measure speed and memory, for comparison with other tools
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    progress_on(OutputStream::Error);
    speak_to(Audience::CommandLine);
    let code = match Arguments::try_parse() {
        Ok(arguments) => run(arguments.command).unwrap_or_else(|error| {
            complain(format_args!("lorascope: {error}"));
            ExitCode::from(2)
        }),
        // Wrong usage ends with code 2; help and the version are answers.
        Err(wrong) if wrong.use_stderr() => wrong.exit(),
        Err(help) => {
            note(help.print());
            ExitCode::SUCCESS
        }
    };
    match UNSAID.lock().unwrap_or_else(PoisonError::into_inner).take() {
        None => code,
        Some(error) => {
            // No complaint if the reader has closed the pipe, as in `lorascope … | head`.
            if error.kind() != io::ErrorKind::BrokenPipe {
                complain(format_args!("lorascope: the answer cannot be written: {error}"));
            }
            ExitCode::from(UNHEARD)
        }
    }
}

/// The exit code if all was done, but the answer could not be written completely.
const UNHEARD: u8 = 3;

/// The first error of writing an answer.
static UNSAID: Mutex<Option<io::Error>> = Mutex::new(None);

/// Keeps the first failure to write an answer; work such as training continues.
fn note(written: io::Result<()>) {
    if let Err(error) = written {
        UNSAID.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Returns 0 for success, 1 if a command on data rejected rows; an error becomes exit code 2.
fn run(command: Command) -> Result<ExitCode> {
    if !matches!(command, Command::Train(_)) {
        processes::note_alone();
    }
    match command {
        Command::Data(command) => return data::run(*command),
        Command::Plan(arguments) => plan::run(&arguments)?,
        Command::Train(arguments) => processes::train(&arguments)?,
        Command::Sample(arguments) => model::sample(&arguments)?,
        Command::Merge(arguments) => model::merge(&arguments)?,
        Command::Export(arguments) => model::export(&arguments)?,
        Command::Spectrum(arguments) => spectrum::run(&arguments)?,
        Command::Kernel(arguments) => return kernel::run(&arguments),
        Command::Bench(command) => bench::run(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a problem on standard error.
fn complain(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{what}");
}

/// Prints an answer. If that fails, the process ends with code 3.
fn print(answer: impl std::fmt::Display) {
    let mut output = io::stdout().lock();
    note(writeln!(output, "{answer}").and_then(|()| output.flush()));
}
