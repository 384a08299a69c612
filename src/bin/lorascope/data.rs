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
    /// Report the content and the problems of a dataset; the exit code is 1 if records were rejected
    Report {
        /// Dataset to read: a file, a folder or a glob pattern; JSON, CSV or Parquet, plain, .gz or .zst
        file: PathBuf,
        #[command(flatten)]
        counting: Counting,
        /// Count the rows longer than N tokens (characters without --tokenizer); separate several N with commas
        #[arg(long, value_name = "N", value_delimiter = ',')]
        context: Vec<u64>,
        /// Print JSON instead of tables
        #[arg(long, conflicts_with = "html")]
        json: bool,
        /// Write the report as an HTML page with figures
        #[arg(long, value_name = "OUT")]
        html: Option<PathBuf>,
        /// Replace an existing page
        #[arg(long, requires = "html")]
        overwrite: bool,
        #[command(flatten)]
        reading: Reading,
    },
    /// Show rows: the first and last ones, or one, those with problems, of a language, the longest, a sample
    Rows(rows::Arguments),
    /// Remove duplicates, problems and long rows, repair rows, and write the rest; report how many each step leaves
    Clean(clean::Clean),
    /// Split the rows at random into two files; duplicates and near-duplicates stay in the same file
    Split(clean::Split),
    /// Convert the rows to another format; the exit code is 1 if records were rejected
    Convert {
        /// Dataset to read: a file, a folder or a glob pattern; JSON, CSV or Parquet, plain, .gz or .zst
        file: PathBuf,
        /// File to write, named .jsonl, .json (an array), .csv, .tsv or .parquet; .gz or .zst may follow
        out: PathBuf,
        /// Format to write
        #[arg(long, value_name = "FORMAT", value_parser = format())]
        to: RowSchema,
        /// Replace an existing file
        #[arg(long)]
        overwrite: bool,
        /// How to write rows that are in this format already
        #[arg(long, value_enum)]
        layout: Option<LayoutArgument>,
        /// Add the key `lorascope`, which stores what the format cannot hold
        #[arg(long)]
        keep_extra: bool,
        /// Leave out rows that the format cannot hold, instead of failing
        #[arg(long)]
        leave_out: bool,
        #[command(flatten)]
        reading: Reading,
    },
    /// Generate any number of school problems with worked answers
    Generate {
        /// File to write: .jsonl for JSON lines, .json for an array
        out: PathBuf,
        /// Number of problems
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
        rows: u64,
        /// Random seed; the same seed gives the same file
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// Kinds of problems
        #[arg(long, value_enum, default_value_t = KindsArgument::Training)]
        kinds: KindsArgument,
        /// Generate conversations of several questions, instead of single instructions
        #[arg(long)]
        conversations: bool,
        /// Add the faults of real data: line breaks, duplicates, one broken line in 2,000
        #[arg(long)]
        faults: bool,
        /// Replace an existing file
        #[arg(long)]
        overwrite: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum KindsArgument {
    /// Kinds to train on
    Training,
    /// Other kinds, for the evaluation split
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
