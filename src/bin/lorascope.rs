//! The `lorascope` command: a thin command line over the library.

#[path = "lorascope/bench.rs"]
mod bench;
#[path = "lorascope/data.rs"]
mod data;
#[path = "lorascope/handle.rs"]
mod handle;
#[path = "lorascope/plan.rs"]
mod plan;
#[path = "lorascope/spectrum.rs"]
mod spectrum;
#[path = "lorascope/train.rs"]
mod train;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
    /// Look at datasets, convert them, make one
    #[command(subcommand)]
    Data(data::Command),
    /// Memory and time of the ways to fine-tune a model, without loading it
    Plan(plan::Arguments),
    /// Train a run in the folder runs
    Train(train::Arguments),
    /// Singular values of an adapter's B·A
    Spectrum(spectrum::Arguments),
    /// Figures to hold against other tools
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    // Wrong usage ends in clap with code 2, and its message.
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            complain(format_args!("lorascope: {error}"));
            ExitCode::from(2)
        }
    }
}

/// 0 where all went well, 1 where some rows were rejected, 2 where nothing was done.
fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Data(command) => return data::run(command),
        Command::Plan(arguments) => plan::run(&arguments)?,
        Command::Train(arguments) => train::run(&arguments)?,
        Command::Spectrum(arguments) => spectrum::run(&arguments)?,
        Command::Bench(command) => bench::run(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is wrong.
fn complain(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{what}");
}

/// Prints an answer. A reader that went away, as in `lorascope … | head`, is no failure.
fn print(answer: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{answer}");
}
