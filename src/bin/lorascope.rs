//! The `lorascope` command: a thin command line over the library.

#[path = "lorascope/bench.rs"]
mod bench;
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
#[path = "lorascope/model.rs"]
mod model;
#[path = "lorascope/plan.rs"]
mod plan;
#[path = "lorascope/reading.rs"]
mod reading;
#[path = "lorascope/rows.rs"]
mod rows;
#[path = "lorascope/spectrum.rs"]
mod spectrum;
#[path = "lorascope/train.rs"]
mod train;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::{Parser, Subcommand};
use lorascope::display::{Audience, OutputStream, progress_on, speak_to};
use lorascope::error::Result;

/// Look at the data, train a little, look inside, decide, go on.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look at the rows of a dataset, clean, split and convert them, make some
    #[command(subcommand)]
    Data(data::Command),
    /// Say how much memory it takes to fine-tune a model, with adapters or whole, without loading it
    Plan(plan::Arguments),
    /// Train adapters: begin a run in the folder runs, or go on with one
    Train(train::Arguments),
    /// Let a model answer prompts, with an adapter or without
    Sample(model::Sample),
    /// Write a model with an adapter merged into its weights, as a Hugging Face folder
    Merge(model::Merge),
    /// Write a model as a Hugging Face folder
    Export(model::Export),
    /// Show the singular values of an adapter's B·A, and cut it to smaller ranks
    Spectrum(spectrum::Arguments),
    /// Measure speed and memory, to compare them with other tools
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
            // A reader that went away, as in `lorascope … | head`, knows it.
            if error.kind() != io::ErrorKind::BrokenPipe {
                complain(format_args!("lorascope: the answer cannot be written: {error}"));
            }
            ExitCode::from(UNHEARD)
        }
    }
}

/// The code where all was done and the answer did not reach its reader, or not all of it.
const UNHEARD: u8 = 3;

/// Why the first answer that could not be written was not.
static UNSAID: Mutex<Option<io::Error>> = Mutex::new(None);

/// Keeps the first failure to write an answer: what is being done goes on, such as training.
fn note(written: io::Result<()>) {
    if let Err(error) = written {
        UNSAID.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// 0 where all went well or a run has trained, 1 where a command on data rejected some rows, 2 where nothing was
/// done.
fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Data(command) => return data::run(command),
        Command::Plan(arguments) => plan::run(&arguments)?,
        Command::Train(arguments) => train::run(&arguments)?,
        Command::Sample(arguments) => model::sample(&arguments)?,
        Command::Merge(arguments) => model::merge(&arguments)?,
        Command::Export(arguments) => model::export(&arguments)?,
        Command::Spectrum(arguments) => spectrum::run(&arguments)?,
        Command::Bench(command) => bench::run(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is wrong.
fn complain(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{what}");
}

/// Prints an answer. Where that fails the process ends with another code than 0.
fn print(answer: impl std::fmt::Display) {
    let mut output = io::stdout().lock();
    note(writeln!(output, "{answer}").and_then(|()| output.flush()));
}
