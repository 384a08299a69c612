//! `lorascope data`: report, convert, generate.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use lorascope::dataset::generate::{Faults, Generate, Kinds, Shape};
use lorascope::dataset::{Dataset, RowSchema};
use lorascope::error::Result;
use lorascope::model::tokenizer_of;

use super::print;

#[derive(Subcommand)]
pub enum Command {
    /// Lengths, turns, roles, duplicates, and what is wrong with which line
    Report {
        /// JSON lines or a JSON array; the schema is found by looking
        file: PathBuf,
        /// Count tokens too: a .gguf file, or a Hugging Face folder with tokenizer.json
        #[arg(long)]
        model: Option<PathBuf>,
    },
    /// Write the rows in another schema, in the container that the new name says
    Convert {
        /// JSON lines or a JSON array
        file: PathBuf,
        /// .jsonl for JSON lines, .json for an array
        out: PathBuf,
        /// alpaca, sharegpt, belle-chat or openai
        #[arg(long, value_name = "SCHEMA")]
        to: RowSchema,
        /// Replace an existing file
        #[arg(long)]
        overwrite: bool,
    },
    /// Make school problems with worked answers, as many as you like
    Generate {
        /// .jsonl for JSON lines, .json for an array
        out: PathBuf,
        /// How many
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
        rows: u64,
        /// Which of the possible files
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// Kinds of problem: those to train on, or others to evaluate on
        #[arg(long, value_enum, default_value_t = KindsArgument::Training)]
        kinds: KindsArgument,
        /// Conversations of several questions instead of instructions
        #[arg(long)]
        conversations: bool,
        /// With the faults of real data: line breaks, duplicates, one broken line in 2,000
        #[arg(long)]
        faults: bool,
        /// Replace an existing file
        #[arg(long)]
        overwrite: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum KindsArgument {
    Training,
    HeldOut,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Report { file, model } => {
            let data = Dataset::open(file)?;
            print(match model {
                Some(model) => data.report_with(&tokenizer_of(&model)?)?,
                None => data.report()?,
            });
        }
        Command::Convert { file, out, to, overwrite } => {
            let data = Dataset::open(file)?;
            let written = if overwrite { data.overwrite(out, to)? } else { data.write(out, to)? };
            print(written);
            let rejected = data.rejected()?;
            if rejected > 0 {
                print(format_args!("left out: {rejected} rejected records; see data report"));
            }
        }
        Command::Generate { out, rows, seed, kinds, conversations, faults, overwrite } => {
            let plan = Generate {
                rows,
                seed,
                kinds: match kinds {
                    KindsArgument::Training => Kinds::Training,
                    KindsArgument::HeldOut => Kinds::HeldOut,
                },
                shape: if conversations { Shape::Conversations } else { Shape::Instructions },
                faults: if faults { Faults::With } else { Faults::Without },
            };
            print(if overwrite { plan.overwrite(out)? } else { plan.write(out)? });
        }
    }
    Ok(())
}
