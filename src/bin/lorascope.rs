//! The `lorascope` command: a thin command line over the library.

#[path = "lorascope/bench.rs"]
mod bench;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// LoRA fine-tuning: look at the data, train a little, look inside, decide, go on
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Figures to hold against other tools
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let answer = match &Cli::parse().command {
        Command::Bench(bench) => bench::run(bench),
    };
    match answer {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lorascope: {error}");
            ExitCode::FAILURE
        }
    }
}
