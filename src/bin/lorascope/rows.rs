//! `lorascope data rows`: rows as they are read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lorascope::dataset::{Dataset, ProblemCount};
use lorascope::display::{Show as _, thousands};
use lorascope::error::{Error, Result};
use lorascope::format::Outcome;
use lorascope::polars::prelude::{col, lit};

use super::print;
use super::reading::{Counting, Reading, refused, rejected};

#[derive(Args)]
pub struct Arguments {
    /// Dataset to read: a file, a folder or a glob pattern; JSON, CSV or Parquet, plain, .gz or .zst
    file: PathBuf,
    /// Show row number N, counted from 0
    #[arg(long, value_name = "N", conflicts_with_all = ["problems", "lang", "longer", "sample"])]
    row: Option<usize>,
    /// Show the rows and records with problems, grouped by kind
    #[arg(long, conflicts_with_all = ["lang", "longer", "sample"])]
    problems: bool,
    /// Show the rows in a language: zh, en, …; und if the language is unknown
    #[arg(long, value_name = "CODE")]
    lang: Option<String>,
    /// Show the rows longer than N characters, or N tokens with --tokenizer; the longest first
    #[arg(long, value_name = "N")]
    longer: Option<u32>,
    /// Show N rows drawn at random
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Random seed; the same seed draws the same rows
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Largest number of rows to show; with --problems, of each kind
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    counting: Counting,
    #[command(flatten)]
    reading: Reading,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let data = Dataset::open_with(&arguments.file, &arguments.reading.options())?;
    let data = arguments.counting.bound(data)?;
    if let Some(row) = arguments.row {
        print(data.row(row)?);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.problems {
        return problems(&data, arguments.limit);
    }
    let mut wanted = data.clone();
    if let Some(lang) = &arguments.lang {
        wanted = wanted.filter(col("lang").eq(lit(lang.as_str())))?;
    }
    if let Some(longer) = arguments.longer {
        let length = if data.tokenizer().is_some() { "tokens" } else { "chars" };
        if data.tokenizer().is_some() {
            refused(&data)?;
        }
        wanted = wanted.filter(col(length).gt(lit(longer)))?;
        wanted = wanted.sort(col(length), lorascope::dataset::Order::Descending)?;
    }
    if let Some(sample) = arguments.sample {
        wanted = wanted.sample(sample, arguments.seed)?;
    }
    if arguments.lang.is_none() && arguments.longer.is_none() && arguments.sample.is_none() {
        print(data.show().text.trim_end());
        return rejected(&data);
    }
    let limit = if arguments.sample.is_some() { wanted.len() } else { arguments.limit };
    print(format_args!("{} of {} rows", thousands(wanted.len() as u64), thousands(data.len() as u64)));
    // Number them as in the whole dataset, so that --row finds them again.
    for row in wanted.row_numbers()?.into_iter().take(limit) {
        print(format_args!("\n{}", row_or_line(&data, row)?));
    }
    if wanted.len() > limit {
        print(format_args!("\nand {} more; --limit shows them", thousands((wanted.len() - limit) as u64)));
    }
    rejected(&data)
}

/// Shows the rows with problems found by the reader or by the report.
fn problems(data: &Dataset, limit: usize) -> Result<ExitCode> {
    let report = data.report()?;
    if report.problems.is_empty() {
        print("no problems");
    }
    let listed = data.problems()?;
    let files: BTreeSet<PathBuf> =
        listed.column("file")?.str()?.iter().flatten().map(PathBuf::from).collect();
    let files: Vec<PathBuf> = files.into_iter().collect();
    for problem in &report.problems {
        print(format_args!(
            "{}: {} {}; {}\n  the first: {}",
            problem.kind,
            thousands(problem.count),
            problem.outcome.name(),
            problem.kind.fix(),
            problem.example
        ));
        shown(data, &files, problem, limit)?;
        print("");
    }
    Ok(ExitCode::from(u8::from(report.rejected > 0)))
}

/// Returns a row, or its line in the file if the chat template refuses it.
fn row_or_line(data: &Dataset, row: usize) -> Result<String> {
    match data.row(row) {
        Ok(chat) => Ok(chat.to_string()),
        Err(_) => {
            let (path, line) = data.place(row)?;
            Ok(data.line_of(path, line)?.to_string())
        }
    }
}

fn shown(data: &Dataset, files: &[PathBuf], problem: &ProblemCount, limit: usize) -> Result<()> {
    let mut left = limit;
    for places in &problem.places {
        // The name is the path from the folder that holds all files: of those that end in it, the highest.
        let named = files.iter().filter(|path| path.ends_with(&places.file));
        let path = named.min_by_key(|path| path.components().count());
        for (line, row) in places.lines.iter().zip(&places.rows).take(left) {
            let text = match row {
                Some(row) if problem.outcome != Outcome::Rejected => {
                    row_or_line(data, usize::try_from(*row).map_err(Error::compute)?)?
                }
                _ => match path.map(|path| data.line_of(path, u64::from(*line))) {
                    Some(Ok(line)) => line.to_string(),
                    _ => format!("{}, line {line}", places.file),
                },
            };
            print(format_args!("  {}", text.replace('\n', "\n  ")));
        }
        left = left.saturating_sub(places.lines.len());
    }
    Ok(())
}
