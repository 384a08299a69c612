//! The loss of each row, along the steps: which rows a run cannot learn.

use crate::dataset::Chat;
use crate::display::{Bundle, Show, brief, escape};
use crate::error::{Error, Result};
use crate::run::Run;
use polars::prelude::{
    DataFrame, IntoColumn, IntoLazy, NamedFrom, Series as Values, SortMultipleOptions, col, len,
};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The ids, the sources and the lines of rows.
type Names = (Vec<String>, Vec<String>, Vec<u32>);

/// A row and its latest loss.
#[derive(Debug, Clone, PartialEq)]
pub struct HardRow {
    /// The step that saw it last.
    pub step: u64,
    /// Its mean loss there, in nats per token.
    pub loss: f64,
    /// The row.
    pub chat: Chat,
}

/// The rows with the highest losses; shows as chats.
#[derive(Clone, PartialEq)]
pub struct HardestRows(pub Vec<HardRow>);

brief!(HardestRows);

impl Show for HardestRows {
    fn show(&self) -> Bundle {
        let mut bundle = Bundle { html: String::new(), text: String::new() };
        for hard in &self.0 {
            let heading = format!("loss {:.3} at step {}", hard.loss, hard.step);
            let chat = hard.chat.show();
            bundle.html += &format!("<h4>{}</h4>{}", escape(&heading), chat.html);
            bundle.text += &format!("{heading}\n{}\n\n", chat.text);
        }
        bundle
    }
}

impl Run {
    /// The loss of every row in every step: `data` (0, and one more with each
    /// [`set_data`](Self::set_data)), `row` (its number in that dataset, from 0), `line`, `id`, `source`, `epoch`,
    /// `step`, `tokens` (whose loss counted), `loss` (their mean, in nats). It joins with
    /// [`Dataset::columns`](crate::dataset::Dataset::columns) by `row`.
    ///
    /// # Errors
    /// When the data can no longer be read.
    pub fn example_losses(&self) -> Result<DataFrame> {
        let history = self.0.shared.read().history.clone();
        let mut names: BTreeMap<usize, Names> = BTreeMap::new();
        let (mut data, mut rows, mut ids, mut sources) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut epochs, mut steps, mut tokens, mut losses) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut lines = Vec::new();
        for step in &history {
            let (id, source, line) = match names.entry(step.segment) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(self.names(step.segment)?),
            };
            for row in &step.rows {
                data.push(step.segment as u32);
                rows.push(row.row);
                lines.push(line.get(row.row as usize).copied());
                ids.push(id.get(row.row as usize).cloned());
                sources.push(source.get(row.row as usize).cloned());
                epochs.push(step.epoch);
                steps.push(step.step);
                tokens.push(row.tokens);
                losses.push(row.loss);
            }
        }
        let columns = vec![
            Values::new("data".into(), data).into_column(),
            Values::new("row".into(), rows).into_column(),
            Values::new("line".into(), lines).into_column(),
            Values::new("id".into(), ids).into_column(),
            Values::new("source".into(), sources).into_column(),
            Values::new("epoch".into(), epochs).into_column(),
            Values::new("step".into(), steps).into_column(),
            Values::new("tokens".into(), tokens).into_column(),
            Values::new("loss".into(), losses).into_column(),
        ];
        Ok(DataFrame::new(columns[0].len(), columns)?)
    }

    /// The ids, the sources and the lines of a segment's rows.
    fn names(&self, segment: usize) -> Result<Names> {
        let segment = self.0.segments.get(segment)?;
        let frame = segment.data.frame()?.select([col("id"), col("source"), col("line")]).collect()?;
        let texts = |name: &str| -> Result<Vec<String>> {
            let column = frame.column(name)?.str()?;
            Ok(column.iter().map(|text| text.unwrap_or_default().to_string()).collect())
        };
        let lines = frame.column("line")?.u32()?.iter().map(Option::unwrap_or_default).collect();
        Ok((texts("id")?, texts("source")?, lines))
    }

    /// The `n` rows of the data now that had the highest loss when they were last seen, the highest
    /// first.
    ///
    /// # Errors
    /// When no row was seen yet, or the data can no longer be read.
    pub fn worst(&self, n: usize) -> Result<HardestRows> {
        let number = self.settings().segment;
        let mut latest = BTreeMap::new();
        for step in self.0.shared.read().history.iter().filter(|step| step.segment == number) {
            for row in &step.rows {
                latest.insert(row.row, (step.step, f64::from(row.loss)));
            }
        }
        if latest.is_empty() {
            return Err(Error::state("no row was seen yet").help("run.steps(n)? first"));
        }
        let segment = self.0.segments.get(number)?;
        let mut rows: Vec<(u32, (u64, f64))> = latest.into_iter().collect();
        rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        let hard = rows
            .into_iter()
            .take(n)
            .map(|(row, (step, loss))| Ok(HardRow { step, loss, chat: segment.data.row(row as usize)? }));
        Ok(HardestRows(hard.collect::<Result<_>>()?))
    }

    /// The mean loss of the rows of each source, the highest first: `source`, `rows`, `loss`.
    ///
    /// # Errors
    /// As [`example_losses`](Self::example_losses).
    pub fn loss_by_source(&self) -> Result<DataFrame> {
        self.loss_by(col("source"))
    }

    /// The mean loss of rows by the number of their trained tokens, in classes that double: `tokens` (at
    /// least so many), `rows`, `loss`.
    ///
    /// # Errors
    /// As [`example_losses`](Self::example_losses).
    pub fn loss_by_length(&self) -> Result<DataFrame> {
        let frame = self.example_losses()?;
        let tokens = frame.column("tokens")?.u32()?;
        let class: Vec<u32> = tokens.iter().map(|n| n.map_or(0, |n| 1 << n.max(1).ilog2())).collect();
        let mut frame = frame;
        frame.with_column(Values::new("tokens".into(), class).into_column())?;
        let grouped = frame.lazy().group_by([col("tokens")]).agg([len().alias("rows"), col("loss").mean()]);
        Ok(grouped.sort(["tokens"], SortMultipleOptions::default()).collect()?)
    }

    fn loss_by(&self, key: polars::prelude::Expr) -> Result<DataFrame> {
        let grouped =
            self.example_losses()?.lazy().group_by([key]).agg([len().alias("rows"), col("loss").mean()]);
        let order = SortMultipleOptions::default().with_order_descending(true);
        Ok(grouped.sort(["loss"], order).collect()?)
    }
}
