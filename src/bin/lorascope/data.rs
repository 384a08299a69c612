//! `lorascope data`: report, rows, convert, clean, split, generate.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use lorascope::dataset::{Dataset, ReportConfig};
use lorascope::error::{Error, Result};
use lorascope::format::{Extra, Misfits, RowSchema, WriteOptions, convert};

use super::generate::rows::{Faults, Generate, Kinds, RowShape};
use super::reading::{Counting, LayoutArgument, Reading, existing, format, rejected};
use super::{clean, complain, print, rows};

#[derive(Subcommand)]
pub enum Command {
    /// Say what is in a dataset and what is wrong with it; the exit code is 1 where records were rejected
    Report {
        /// A file, a folder or a pattern; JSON, CSV or Parquet, plain, .gz or .zst
        file: PathBuf,
        #[command(flatten)]
        counting: Counting,
        /// Say how many rows are longer than N tokens (characters without --tokenizer); several with commas
        #[arg(long, value_name = "N", value_delimiter = ',')]
        context: Vec<u64>,
        /// Print JSON instead of tables
        #[arg(long, conflicts_with = "html")]
        json: bool,
        /// Write a page with figures
        #[arg(long, value_name = "OUT")]
        html: Option<PathBuf>,
        /// Replace an existing page
        #[arg(long, requires = "html")]
        overwrite: bool,
        #[command(flatten)]
        reading: Reading,
    },
    /// Show rows: the first and the last, or one, those with problems, of a language, longer ones, a sample
    Rows(rows::Arguments),
    /// Write the rows without duplicates, repaired, within a length; says how many each step leaves
    Clean(clean::Clean),
    /// Write the rows into two files, at random; rows that are equal or nearly so go into the same one
    Split(clean::Split),
    /// Write the rows in another format; the exit code is 1 where records were rejected
    Convert {
        /// A file, a folder or a pattern; JSON, CSV or Parquet, plain, .gz or .zst
        file: PathBuf,
        /// .jsonl, .json (an array), .csv, .tsv or .parquet; .gz or .zst may follow
        out: PathBuf,
        /// The format to write
        #[arg(long, value_name = "FORMAT", value_parser = format())]
        to: RowSchema,
        /// Replace an existing file
        #[arg(long)]
        overwrite: bool,
        /// How rows that are in this format already are written
        #[arg(long, value_enum)]
        layout: Option<LayoutArgument>,
        /// Add a key that carries what the format has no place for
        #[arg(long)]
        keep_extra: bool,
        /// Leave out the rows that the format cannot hold
        #[arg(long)]
        leave_out: bool,
        #[command(flatten)]
        reading: Reading,
    },
    /// Make school problems with worked answers, as many as you like
    Generate {
        /// .jsonl for JSON lines, .json for an array
        out: PathBuf,
        /// How many problems
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
        rows: u64,
        /// The seed; the same seed gives the same file
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// Which kinds of problem
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
    /// Those to train on
    Training,
    /// Other kinds, to evaluate on
    HeldOut,
}

pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Rows(arguments) => return rows::run(&arguments),
        Command::Clean(arguments) => return clean::clean(&arguments),
        Command::Split(arguments) => return clean::split(&arguments),
        Command::Report { file, counting, context, json, html, overwrite, reading } => {
            let data = counting.bound(Dataset::open_with(file, &reading.options())?)?;
            let mut config = ReportConfig::default();
            if !context.is_empty() {
                config.contexts = context;
            }
            let report = data.report_as(&config)?;
            match html {
                Some(path) if overwrite => complain(report.overwrite_html(path)?),
                Some(path) => complain(report.save_html(path)?),
                None if json => print(serde_json::to_string_pretty(&report).map_err(Error::compute)?),
                None => print(report),
            }
            return rejected(&data);
        }
        Command::Convert { file, out, to, overwrite, layout, keep_extra, leave_out, reading } => {
            let usual = WriteOptions::default();
            let writing = WriteOptions {
                layout: layout.map_or(usual.layout, Into::into),
                extra: if keep_extra { Extra::Keep } else { Extra::Drop },
                misfits: if leave_out { Misfits::LeaveOut } else { Misfits::Fail },
                existing: existing(overwrite),
            };
            let done = convert(file, out, to, &reading.options(), &writing)?;
            print(&done);
            if done.rejected > 0 {
                return Ok(ExitCode::from(1));
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
                shape: if conversations { RowShape::Conversations } else { RowShape::Instructions },
                faults: if faults { Faults::With } else { Faults::Without },
            };
            print(if overwrite { plan.overwrite(out)? } else { plan.write(out)? });
        }
    }
    Ok(ExitCode::SUCCESS)
}
