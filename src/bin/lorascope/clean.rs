//! `lorascope data clean` and `split`: rows out of rows, in the format that they had.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lorascope::dataset::Dataset;
use lorascope::display::{Show as _, thousands};
use lorascope::error::{Error, Result};
use lorascope::format::{Extra, Misfits, RowSchema, WriteOptions};

use super::print;
use super::reading::{Counting, LayoutArgument, Reading, existing, format, refused, rejected};

#[derive(Args)]
pub struct Clean {
    /// A file, a folder or a pattern; JSON, CSV or Parquet, plain, .gz or .zst
    file: PathBuf,
    /// .jsonl, .json (an array), .csv, .tsv or .parquet; .gz or .zst may follow
    out: PathBuf,
    /// Leave out the rows that say what an earlier one says
    #[arg(long)]
    dedup: bool,
    /// Leave out the rows that are nearly an earlier one: from this similarity on, 0.5 to 1
    #[arg(long, value_name = "SIMILARITY")]
    dedup_near: Option<f64>,
    /// Leave out the rows with problems that reading finds
    #[arg(long)]
    drop_problems: bool,
    /// Leave out the rows in which this regular expression matches
    #[arg(long, value_name = "REGEX")]
    without: Option<String>,
    /// Leave out longer rows; needs --tokenizer
    #[arg(long, value_name = "N", requires = "tokenizer")]
    max_tokens: Option<usize>,
    #[command(flatten)]
    counting: Counting,
    #[command(flatten)]
    writing: Writing,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Args)]
pub struct Split {
    /// A file, a folder or a pattern; JSON, CSV or Parquet, plain, .gz or .zst
    file: PathBuf,
    /// The file for the first part; .jsonl, .json, .csv, .tsv or .parquet, .gz or .zst may follow
    train: PathBuf,
    /// The file for the rest
    test: PathBuf,
    /// The share of rows in the first file
    #[arg(long, default_value_t = 0.98)]
    fraction: f64,
    /// The seed; the same seed gives the same split
    #[arg(long, default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    writing: Writing,
    #[command(flatten)]
    reading: Reading,
}

/// How rows are written.
#[derive(Args)]
struct Writing {
    /// Write another format than the rows have
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    to: Option<RowSchema>,
    /// How rows that stay in their format are written
    #[arg(long, value_enum, default_value_t = LayoutArgument::Keep)]
    layout: LayoutArgument,
    /// Leave out the rows that the format cannot hold
    #[arg(long)]
    leave_out: bool,
    /// Replace an existing file
    #[arg(long)]
    overwrite: bool,
}

impl Writing {
    /// The format to write: the one that was asked for, or that of all rows.
    fn schema(&self, data: &Dataset) -> Result<RowSchema> {
        if let Some(schema) = self.to {
            return Ok(schema);
        }
        let columns = data.columns()?;
        let sources = columns.column("source")?.str()?;
        let names: BTreeSet<&str> = sources.iter().flatten().collect();
        match names.into_iter().collect::<Vec<_>>().as_slice() {
            [] => Err(Error::input("there are no rows to write")),
            [one] => one.parse().map_err(|_| {
                Error::input("the rows are of no known format").help("say which one to write: --to openai")
            }),
            several => {
                Err(Error::input(format_args!("the rows are of several formats: {}", several.join(", ")))
                    .help("say which one to write: --to openai"))
            }
        }
    }

    fn options(&self) -> WriteOptions {
        WriteOptions {
            layout: self.layout.into(),
            extra: Extra::Drop,
            misfits: if self.leave_out { Misfits::LeaveOut } else { Misfits::Fail },
            existing: existing(self.overwrite),
        }
    }

    /// Fails where writing would for the rows: one does not fit into the format, or none is left.
    fn check_rows(&self, data: &Dataset, schema: RowSchema, path: &Path) -> Result<()> {
        let losses = data.losses_with(schema, &self.options())?;
        if let Some(misfit) = losses.misfits.first().filter(|_| !self.leave_out) {
            return Err(Error::format(&misfit.what)
                .path(misfit.file.clone().unwrap_or_else(|| data.path()))
                .line(misfit.line.into())
                .help("nothing is written: choose another format, or leave such rows out with --leave-out"));
        }
        if losses.left_out + losses.labelled_bad >= losses.rows {
            let rows = thousands(losses.rows);
            return Err(Error::format(format_args!(
                "none of the {rows} rows of this part can be written as {schema}: {} do not fit, {} are marked as not to be learned",
                thousands(losses.left_out), thousands(losses.labelled_bad)
            ))
            .path(path)
            .help("nothing is written: choose another format, another --fraction or another --seed"));
        }
        Ok(())
    }

    /// Fails before the work where a file is in the way.
    fn check(&self, targets: &[&Path]) -> Result<()> {
        match targets.iter().find(|path| path.exists() && !self.overwrite) {
            Some(path) => Err(Error::input("the file exists")
                .path(path)
                .help("choose another name, or say --overwrite")),
            None => Ok(()),
        }
    }
}

pub fn clean(arguments: &Clean) -> Result<ExitCode> {
    arguments.writing.check(&[&arguments.out])?;
    // Rows that are alike but for what a repair takes away are duplicates after it.
    let all = repaired(&arguments.file, &arguments.reading)?;
    let mut data = all.clone();
    if arguments.drop_problems {
        data = data.drop_problems()?;
    }
    if let Some(pattern) = &arguments.without {
        data = data.not_matching(pattern)?;
    }
    if arguments.dedup {
        data = data.dedup()?;
    }
    if let Some(similarity) = arguments.dedup_near {
        data = data.dedup_near(similarity)?;
    }
    if let Some(tokens) = arguments.max_tokens {
        let counted = arguments.counting.bound(data)?;
        data = counted.max_tokens(tokens)?;
        refused(&counted)?;
    }
    let steps = data.steps();
    if !steps.is_empty() {
        print(steps.show().text.trim_end());
    }
    let schema = arguments.writing.schema(&data)?;
    print(data.write_with(&arguments.out, schema, &arguments.writing.options())?);
    rejected(&all)
}

/// The rows after the repairs, which are a step of their own where rows can be had without them.
fn repaired(file: &Path, reading: &Reading) -> Result<Dataset> {
    if !reading.fixes().is_empty() && !reading.is_strict() {
        // Where every row needs a repair there are none before it.
        if let Ok(all) = Dataset::open_with(file, &reading.unrepaired()) {
            return all.fix(reading.fixes().to_vec());
        }
    }
    Dataset::open_with(file, &reading.options())
}

pub fn split(arguments: &Split) -> Result<ExitCode> {
    let targets = [&arguments.train, &arguments.test];
    arguments.writing.check(&targets.map(PathBuf::as_path))?;
    let data = Dataset::open_with(&arguments.file, &arguments.reading.options())?;
    data.check_targets(&targets)?;
    let schema = arguments.writing.schema(&data)?;
    let (first, second) = data.split(arguments.fraction, arguments.seed)?;
    // The second part cannot fail for its rows once the first is written.
    arguments.writing.check_rows(&second, schema, &arguments.test)?;
    for (part, path) in [first, second].iter().zip(targets) {
        print(part.write_with(path, schema, &arguments.writing.options())?);
    }
    rejected(&data)
}
