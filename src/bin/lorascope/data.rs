//! `lorascope data`: report, convert, generate.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use lorascope::dataset::generate::{Faults, Generate, Kinds, Shape};
use lorascope::dataset::{
    Dataset, Existing, Extra, Fix, Join, Misfits, OnFault, ReadOptions, RowSchema, WriteOptions, convert,
};
use lorascope::display::Show as _;
use lorascope::error::{Error, Result};
use lorascope::model::tokenizer_of;
use lorascope::polars::prelude::{IntoLazy as _, col, lit};

use super::{complain, print};

#[derive(Subcommand)]
pub enum Command {
    /// What is in a dataset and what is wrong with it; ends with 1 where records were rejected
    Report {
        /// A file, a folder or a pattern; JSON, CSV or Parquet, plain, .gz or .zst
        file: PathBuf,
        /// Count tokens too: a .gguf file, or a Hugging Face folder with tokenizer.json
        #[arg(long, value_name = "DIR", alias = "model")]
        tokenizer: Option<PathBuf>,
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
    /// Write the rows in another schema; ends with 1 where records were rejected
    Convert {
        /// A file, a folder or a pattern; JSON, CSV or Parquet, plain, .gz or .zst
        file: PathBuf,
        /// .jsonl, .json (an array), .csv, .tsv or .parquet; .gz or .zst may follow
        out: PathBuf,
        /// alpaca, sharegpt, belle-chat, openai, firefly, prompt-completion, text, preference or kto
        #[arg(long, value_name = "FORMAT")]
        to: RowSchema,
        /// Replace an existing file
        #[arg(long)]
        overwrite: bool,
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

/// How the file is read.
#[derive(Args)]
pub struct Reading {
    /// The format of the rows, instead of finding it by looking
    #[arg(long, value_name = "FORMAT")]
    from: Option<RowSchema>,
    /// Put nothing between an instruction and its input, instead of a line break
    #[arg(long)]
    join_nothing: bool,
    /// Fail at the first fault, instead of leaving the record out
    #[arg(long)]
    strict: bool,
    /// Repairs: trim, strip-control, replace-invalid-utf8, drop-empty-turns, drop-leading-assistant,
    /// drop-trailing-user, merge-same-role
    #[arg(long, value_name = "REPAIR", value_delimiter = ',')]
    fix: Vec<Fix>,
}

impl Reading {
    fn options(&self) -> ReadOptions {
        ReadOptions {
            schema: self.from,
            join: if self.join_nothing { Join::Nothing } else { Join::LineBreak },
            faults: if self.strict { OnFault::Fail } else { OnFault::List },
            fixes: self.fix.clone().into(),
            ..Default::default()
        }
    }
}

/// Rejected records that are listed.
const LISTED: usize = 20;

/// Lists the rejected records on the standard error; code 1 where there are any.
fn rejected(data: &Dataset) -> Result<ExitCode> {
    let count = data.rejected()?;
    if count == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let problems = data.problems()?.lazy().filter(col("row").eq(lit("rejected")));
    complain(format_args!("{count} records were rejected"));
    let shown = problems.select([col("file"), col("line"), col("kind"), col("what")]).limit(LISTED as u32);
    complain(shown.collect().map_err(Error::from)?.show().text);
    if count > LISTED {
        complain(format_args!("and {} more", count - LISTED));
    }
    Ok(ExitCode::from(1))
}

#[derive(Clone, Copy, ValueEnum)]
pub enum KindsArgument {
    Training,
    HeldOut,
}

pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Report { file, tokenizer, json, html, overwrite, reading } => {
            let mut data = Dataset::open_with(file, &reading.options())?;
            if let Some(tokenizer) = tokenizer {
                data = data.for_tokenizer(&tokenizer_of(&tokenizer)?);
            }
            let report = data.report()?;
            match html {
                Some(path) if overwrite => report.overwrite_html(path)?,
                Some(path) => report.save_html(path)?,
                None if json => print(serde_json::to_string_pretty(&report).map_err(Error::compute)?),
                None => print(report),
            }
            return rejected(&data);
        }
        Command::Convert { file, out, to, overwrite, keep_extra, leave_out, reading } => {
            let writing = WriteOptions {
                extra: if keep_extra { Extra::Keep } else { Extra::Drop },
                misfits: if leave_out { Misfits::LeaveOut } else { Misfits::Fail },
                existing: if overwrite { Existing::Replace } else { Existing::Refuse },
                ..Default::default()
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
                shape: if conversations { Shape::Conversations } else { Shape::Instructions },
                faults: if faults { Faults::With } else { Faults::Without },
            };
            print(if overwrite { plan.overwrite(out)? } else { plan.write(out)? });
        }
    }
    Ok(ExitCode::SUCCESS)
}
