//! Options to read a dataset, and messages about rejected records.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use lorascope::dataset::Dataset;
use lorascope::display::{counted, neutral};
use lorascope::error::{Error, Result};
use lorascope::format::{Existing, Fix, Join, Layout, Map, OnFault, ReadOptions, RowSchema};
use lorascope::model::tokenizer_of;
use lorascope::polars::prelude::{IntoLazy as _, col, lit};
use lorascope::text::{Trained, Training};
use lorascope::train::{RowsLeftOut, Why};

use super::complain;

/// Reads the name of a format; help and errors list all.
pub fn format() -> impl TypedValueParser<Value = RowSchema> {
    PossibleValuesParser::new(RowSchema::ALL.map(RowSchema::name)).try_map(|name| name.parse())
}

/// Reads the name of a repair; help and errors list all.
fn repair() -> impl TypedValueParser<Value = Fix> {
    PossibleValuesParser::new(Fix::ALL.map(Fix::word)).try_map(|name| name.parse())
}

/// How the file is read.
#[derive(Args)]
pub struct Reading {
    /// Format of the rows, instead of detecting it
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    from: Option<RowSchema>,
    /// Keys of the turns, for a file of unknown format: user=question,assistant=std_answer
    #[arg(long, value_name = "MAP", conflicts_with = "from")]
    map: Option<Map>,
    /// List of rows to read, if the file holds several (such as train and test)
    #[arg(long, value_name = "NAME")]
    list: Option<String>,
    /// Join an instruction and its input without a line break between them
    #[arg(long)]
    join_nothing: bool,
    /// Fail at the first record that cannot be read, instead of leaving it out
    #[arg(long)]
    strict: bool,
    /// Repair the rows; separate several repairs with commas
    #[arg(long, value_name = "REPAIR", value_delimiter = ',', value_parser = repair())]
    fix: Vec<Fix>,
}

impl Reading {
    pub fn options(&self) -> ReadOptions {
        ReadOptions { fixes: self.fix.clone().into(), ..self.unrepaired() }
    }

    /// The options without the repairs.
    pub fn unrepaired(&self) -> ReadOptions {
        ReadOptions {
            schema: self.from,
            map: self.map.clone(),
            list: self.list.clone(),
            join: if self.join_nothing { Join::Nothing } else { Join::LineBreak },
            faults: if self.strict { OnFault::Fail } else { OnFault::List },
            ..Default::default()
        }
    }

    /// Whether reading fails at the first fault.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    pub fn fixes(&self) -> &[Fix] {
        &self.fix
    }
}

/// The tokenizer that counts lengths.
#[derive(Args)]
pub struct Counting {
    /// Count tokens with the tokenizer of a .gguf file, or of a Hugging Face folder with tokenizer.json
    #[arg(long, value_name = "DIR", alias = "model")]
    tokenizer: Option<PathBuf>,
    /// Which tokens of a conversation to count as trained, as in a run: assistant, last-assistant or all
    #[arg(long, value_name = "WHAT", requires = "tokenizer")]
    trained: Option<Trained>,
}

impl Counting {
    /// Binds the tokenizer to the rows, if one was given.
    pub fn bound(&self, data: Dataset) -> Result<Dataset> {
        let training = Training { trained: self.trained.unwrap_or_default(), ..Training::default() };
        match &self.tokenizer {
            Some(tokenizer) => Ok(data.for_training(&tokenizer_of(tokenizer)?, &training)),
            None => Ok(data),
        }
    }
}

/// Whether rows that stay in their format keep the keys of their file.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum LayoutArgument {
    /// Keep the order of keys, the names of roles and other keys of the file
    Keep,
    /// Write all rows in the usual layout of the format
    Schema,
}

impl From<LayoutArgument> for Layout {
    fn from(layout: LayoutArgument) -> Self {
        match layout {
            LayoutArgument::Keep => Self::Keep,
            LayoutArgument::Schema => Self::Schema,
        }
    }
}

/// What to do if the file exists, from the flag --overwrite.
pub fn existing(overwrite: bool) -> Existing {
    if overwrite { Existing::Replace } else { Existing::Refuse }
}

/// The largest number of records to list.
pub const LISTED: usize = 20;

/// Lists the rejected records on standard error; returns exit code 1 if there are any.
pub fn rejected(data: &Dataset) -> Result<ExitCode> {
    for (path, what) in data.not_read()? {
        complain(format_args!("not read: {}: {what}", path.display()));
    }
    let count = data.rejected()?;
    if count == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let problems = data.problems()?.lazy().filter(col("outcome").eq(lit("rejected")));
    let were = if count == 1 { "was" } else { "were" };
    complain(format_args!("{} {were} rejected", counted(count as u64, "record")));
    let shown = problems.select([col("file"), col("line"), col("kind"), col("what")]).limit(LISTED as u32);
    let shown = shown.collect().map_err(Error::from)?;
    let lines = shown.column("line")?.u32()?;
    let text = |name: &str| -> Result<Vec<String>> {
        Ok(shown.column(name)?.str()?.iter().map(|text| text.unwrap_or_default().to_string()).collect())
    };
    let (files, kinds, what) = (text("file")?, text("kind")?, text("what")?);
    for (i, line) in lines.iter().enumerate() {
        let line = line.unwrap_or_default();
        let said = format!("  {}, line {line}: {}: {}", files[i], kinds[i], what[i]);
        complain(neutral(&said.replace(['\n', '\r'], " ")));
    }
    if count > LISTED {
        complain(format_args!("and {} more", count - LISTED));
    }
    Ok(ExitCode::from(1))
}

/// Lists on standard error the first rows that a run leaves out because the reader rejected them or the chat
/// template refuses them.
pub fn left_out(left_out: &RowsLeftOut, listed: usize) {
    let rows = || left_out.rows.iter().filter(|row| matches!(row.why, Why::Rejected(_) | Why::Refused(_)));
    let count = rows().count();
    if count == 0 {
        return;
    }
    let were = if count == 1 { "was" } else { "were" };
    complain(format_args!("{} {were} rejected or refused, and left out", counted(count as u64, "record")));
    for row in rows().take(listed) {
        let why = match &row.why {
            Why::Refused(words) => format!("refused by the chat template: {words}"),
            why => why.details(),
        };
        let said = format!("  {}, line {}: {why}", row.file.display(), row.line);
        complain(neutral(&said.replace(['\n', '\r'], " ")));
    }
    if count > listed {
        complain(format_args!("and {} more", count - listed));
    }
}

/// Lists on standard error the rows that the chat template refuses.
pub fn refused(data: &Dataset) -> Result<()> {
    let refused = data.refused()?;
    if refused.is_empty() {
        return Ok(());
    }
    complain(format_args!("the chat template refuses {}: left out", counted(refused.len() as u64, "row")));
    for (row, why) in refused.iter().take(LISTED) {
        let (file, line) = data.place(*row)?;
        complain(format_args!("  {}, line {line}: {why}", file.display()));
    }
    if refused.len() > LISTED {
        complain(format_args!("and {} more", refused.len() - LISTED));
    }
    Ok(())
}
