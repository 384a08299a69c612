//! `lorascope data clean` and `split`: write some rows of a dataset, by default in the format that they have.

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
    /// Dataset to read: a file, a folder or a glob pattern; JSON, CSV or Parquet, plain, .gz or .zst
    file: PathBuf,
    /// File to write, named .jsonl, .json (an array), .csv, .tsv or .parquet; .gz or .zst may follow
    out: PathBuf,
    /// Remove rows that are duplicates of an earlier row
    #[arg(long)]
    dedup: bool,
    /// Remove near-duplicates: rows with at least this similarity (0.5 to 1) to an earlier row
    #[arg(long, value_name = "SIMILARITY")]
    dedup_near: Option<f64>,
    /// Remove rows with problems that the reader found
    #[arg(long)]
    drop_problems: bool,
    /// Remove rows in which this regular expression matches
    #[arg(long, value_name = "REGEX")]
    without: Option<String>,
    /// Remove rows longer than N tokens; needs --tokenizer
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
    /// Dataset to read: a file, a folder or a glob pattern; JSON, CSV or Parquet, plain, .gz or .zst
    file: PathBuf,
    /// File to write the first part to, named .jsonl, .json, .csv, .tsv or .parquet; .gz or .zst may follow
    train: PathBuf,
    /// File to write the rest to
    test: PathBuf,
    /// Share of rows in the first file
    #[arg(long, default_value_t = 0.98)]
    fraction: f64,
    /// Random seed; the same seed gives the same split
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
    /// Format to write, if not the format of the rows
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    to: Option<RowSchema>,
    /// How to write rows that stay in their format
    #[arg(long, value_enum, default_value_t = LayoutArgument::Keep)]
    layout: LayoutArgument,
    /// Leave out rows that the format cannot hold, instead of failing
    #[arg(long)]
    leave_out: bool,
    /// Replace an existing file
    #[arg(long)]
    overwrite: bool,
}

impl Writing {
    /// Returns the requested format, or the one that all rows have.
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

    /// Fails if writing the rows would: a row does not fit into the format, or no row is left.
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

    /// Fails before any work if an output file exists.
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
    // Repair first: rows may be duplicates only after a repair.
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

/// Returns the repaired rows; the repairs are a step of their own if the rows can be read without them.
fn repaired(file: &Path, reading: &Reading) -> Result<Dataset> {
    if !reading.fixes().is_empty() && !reading.is_strict() {
        // If every row needs a repair, none can be read without it.
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
    // Check now, so that the second part cannot fail once the first is written.
    arguments.writing.check_rows(&second, schema, &arguments.test)?;
    for (part, path) in [first, second].iter().zip(targets) {
        print(part.write_with(path, schema, &arguments.writing.options())?);
    }
    rejected(&data)
}
