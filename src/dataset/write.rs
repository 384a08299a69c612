//! Writing a dataset's rows in any schema, and what that would lose.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::data::Dataset;
use super::table::Rows;
use crate::display::{advice, counted, thousands};
use crate::error::{Error, Result};
use crate::files::Existing;
use crate::format::container::{real, refuse_inside};
use crate::format::output::{RowWriter, container};
use crate::format::row_view::RowView;
use crate::format::schema::default::Prompts;
use crate::format::write::{Batch, Encoder, Tally};
use crate::format::{Losses, Misfit, Misfits, RowSchema, WriteOptions, Written};

impl Dataset {
    /// Writes all rows in `schema`, to JSON lines (`.jsonl`, `.ndjson`) or to an array (`.json`).
    ///
    /// The file appears whole or not at all, in folders that are made where they are missing. What
    /// the schema has no place for is counted in [`Written::lost`], as [`losses`](Self::losses)
    /// says beforehand. Rows whose answers are labelled as bad ones are left out of schemas without
    /// labels. A row that was read from the same schema keeps all that it has, under the usual keys and
    /// in the usual forms (bare tools are wrapped, arguments of a `function_call` turn are objects);
    /// [`Layout::Keep`](crate::format::Layout::Keep) writes it as it was.
    ///
    /// # Errors
    /// If the file exists ([`overwrite`](Self::overwrite) replaces it), if its name says no
    /// container, if a row's turns do not fit the schema, or if the disk refuses.
    pub fn write(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Written> {
        self.write_with(path, schema, &WriteOptions::default())
    }

    /// Like [`write`](Self::write), but replaces an existing file.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn overwrite(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Written> {
        self.write_with(path, schema, &WriteOptions { existing: Existing::Replace, ..Default::default() })
    }

    /// Like [`write`](Self::write), in other ways.
    ///
    /// # Errors
    /// As for [`write`](Self::write); rows that do not fit are left out and listed with
    /// [`Misfits::LeaveOut`], unless there are no others.
    pub fn write_with(
        &self,
        path: impl AsRef<Path>,
        schema: RowSchema,
        options: &WriteOptions,
    ) -> Result<Written> {
        refuse_inside(&self.0.origin.path, path.as_ref())?;
        let mut output = RowWriter::create(path.as_ref(), options.existing)?;
        let mut encoder = Encoder::new(schema, options);
        let forms = self.pieces(|rows, _| {
            let of = |i| {
                let row = RowView::Table(&rows, i);
                encoder.prompts(&row).filter(|_| !encoder.leaves_out(&row) && encoder.fits(&row).is_ok())
            };
            Ok((0..rows.len()).map(of).fold([false; 2], |[texts, turns], form| {
                [texts || form == Some(Prompts::Texts), turns || form == Some(Prompts::Turns)]
            }))
        })?;
        if [0, 1].iter().all(|form| forms.iter().any(|found| found[*form])) {
            encoder = encoder.with_turns();
        }
        let between = output.between();
        let mut tally = Tally::default();
        // The rows after one that is left out move up.
        let mut moved: HashMap<usize, u64> = HashMap::new();
        let mut sum = 0;
        let all = options.misfits == Misfits::LeaveOut;
        for (first, count) in self.pieces(|rows, first| Ok((first, unfit(&rows, &encoder, all))))? {
            moved.insert(first, sum);
            sum += count;
        }
        let work = |rows: Rows<'_>, first: usize| {
            let moved = moved.get(&first).copied().unwrap_or(0);
            let mut piece = batch(&rows, first as u64 - moved, &encoder, between);
            if self.0.sources.len() > 1 {
                for (misfit, row) in piece.misfits.iter_mut().zip(&piece.unfit) {
                    misfit.file = Some(self.place(first + row)?.0);
                }
            }
            match piece.misfits.first() {
                Some(misfit) if options.misfits == Misfits::Fail => Err(self.misfit(misfit, schema)),
                _ => Ok(piece),
            }
        };
        self.in_order(work, |piece| tally.take(piece, &mut output).map(drop))?;
        if let (0, Some(misfit)) = (tally.rows, tally.misfits.first()) {
            return Err(self.misfit(misfit, schema));
        }
        if let Some(error) = tally.all_bad(schema) {
            return Err(error.path(self.path()));
        }
        Ok(Written { schema: Some(schema), ..tally.finish(output)? })
    }

    /// What `schema` has no place for, and in how many rows: what [`write`](Self::write) would leave
    /// out and [`Extra::Keep`](crate::format::Extra::Keep) would carry.
    ///
    /// # Errors
    /// Only if the rows cannot be read.
    pub fn losses(&self, schema: RowSchema) -> Result<Losses> {
        self.losses_with(schema, &WriteOptions::default())
    }

    /// The same of rows that are written in other ways ([`write_with`](Self::write_with)).
    ///
    /// # Errors
    /// As for [`losses`](Self::losses).
    pub fn losses_with(&self, schema: RowSchema, options: &WriteOptions) -> Result<Losses> {
        let encoder = Encoder::new(schema, options);
        let mut tally = Tally::default();
        let work = |rows: Rows<'_>, first: usize| {
            let mut batch = batch(&rows, first as u64, &encoder, b"");
            batch.text = Vec::new();
            Ok(batch)
        };
        self.in_order(work, |batch| {
            tally.count(batch);
            Ok(())
        })?;
        Ok(tally.losses(schema, self.len() as u64))
    }

    /// Like [`losses`](Self::losses), and with what the container that the name says has no place for: a CSV
    /// cell has no type, a column of Parquet one type. The rows are written for it, to a temporary file.
    ///
    /// # Errors
    /// If the name says no container, if the rows cannot be read, or if the disk refuses.
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
    /// # let path = folder.path().join("rows.jsonl");
    /// # std::fs::write(&path, r#"{"prompt": "1 + 1 = ?", "completion": "2", "page": 7}"#).unwrap();
    /// use lorascope::dataset::Dataset;
    /// use lorascope::format::RowSchema;
    ///
    /// let data = Dataset::open(&path)?;
    /// assert!(data.losses(RowSchema::PromptCompletion)?.is_empty());
    /// let losses = data.losses_to("rows.csv", RowSchema::PromptCompletion)?;
    /// assert_eq!(losses.lost.values().sum::<u64>(), 1);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn losses_to(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Losses> {
        let path = path.as_ref();
        container(path)?;
        let losses = self.losses(schema)?;
        if losses.left_out + losses.labelled_bad >= losses.rows {
            return Ok(losses);
        }
        let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        let options = WriteOptions { misfits: Misfits::LeaveOut, ..WriteOptions::default() };
        let written = self.write_with(folder.path().join(name), schema, &options)?;
        Ok(Losses { lost: written.lost, ..losses })
    }

    /// Says that a row cannot be written, and how many cannot.
    fn misfit(&self, misfit: &Misfit, schema: RowSchema) -> Error {
        let count = self.losses(schema).map_or(1, |losses| losses.left_out.max(1));
        let rows = self.len() as u64;
        let path = misfit.file.clone().unwrap_or_else(|| self.path());
        Error::format(&misfit.what).path(path).line(misfit.line.into()).help(format_args!(
            "{} of {} {}: choose another schema, or leave them out with {}",
            thousands(count),
            counted(rows, "row"),
            if count == 1 { "does not fit" } else { "do not fit" },
            advice("WriteOptions { misfits: Misfits::LeaveOut, ..Default::default() }", "--leave-out")
        ))
    }

    /// Looks whether the parts of these rows can be written to these files, before the first of them is:
    /// whether each name says a container, and no two names are one file, or a file that the rows come
    /// from. Links and dots in the paths are resolved.
    ///
    /// # Errors
    /// If one cannot, with its name.
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
    /// # let path = folder.path().join("rows.jsonl");
    /// # std::fs::write(&path, r#"{"instruction": "1 + 1 = ?", "output": "2"}"#).unwrap();
    /// use lorascope::dataset::Dataset;
    ///
    /// let data = Dataset::open(&path)?;
    /// let of = |name: &str| folder.path().join(name);
    /// data.check_targets(&[of("train.jsonl"), of("test.jsonl")])?;
    /// assert!(data.check_targets(&[of("train.jsonl"), of("./train.jsonl")]).is_err());
    /// assert!(data.check_targets(&[of("train.jsonl"), path]).is_err());
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn check_targets<P: AsRef<Path>>(&self, targets: &[P]) -> Result<()> {
        let inputs: Vec<PathBuf> = self.0.sources.iter().map(|source| real(&source.path)).collect();
        let mut taken: Vec<PathBuf> = Vec::with_capacity(targets.len());
        for path in targets.iter().map(AsRef::as_ref) {
            if path.is_dir() {
                return Err(Error::input("this is a folder").path(path).help("name a file in it"));
            }
            container(path)?;
            let target = real(path);
            if inputs.contains(&target) {
                return Err(Error::input("this is the file that the rows come from")
                    .path(path)
                    .help("give each part another name"));
            }
            refuse_inside(&self.0.origin.path, path)?;
            if taken.contains(&target) {
                return Err(Error::input("both parts were to be written to one file")
                    .path(path)
                    .help("give each part a name of its own"));
            }
            taken.push(target);
        }
        Ok(())
    }
}

/// Rows that are left out: those labelled as bad, and with `all` those that do not fit.
fn unfit(rows: &Rows<'_>, encoder: &Encoder, all: bool) -> u64 {
    let unfit = |i: &usize| {
        let row = RowView::Table(rows, *i);
        encoder.leaves_out(&row) || all && encoder.fits(&row).is_err()
    };
    (0..rows.len()).filter(unfit).count() as u64
}

/// The text of some rows; `first` rows are in the output before them.
fn batch(rows: &Rows<'_>, first: u64, encoder: &Encoder, between: &[u8]) -> Batch {
    let mut batch = Batch::default();
    for i in 0..rows.len() {
        batch.push(&RowView::Table(rows, i), first, encoder, between);
    }
    batch
}
