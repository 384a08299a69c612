//! What a run shows of itself, also while it trains: history, adapters, rows.

use super::handle::Run;
use super::history::History;
use super::journal::Cooldown;
use crate::dataset::Chat;
use crate::display::{self, Align, Bundle, Show, Table, Text, brief};
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::train::left_out::lists_not_read;
use crate::train::show_config::{evaluated, rate};
use crate::train::{Adaptation, RowsLeftOut};
use std::path::Path;
use std::sync::atomic::Ordering;

impl Run {
    /// All steps so far.
    pub fn history(&self) -> History {
        let footer = self.footer(); // it looks at what is shared, too
        let history = self.0.shared.read().history.clone();
        let evaluated = self.0.shared.evaluated(&history);
        History::new(history, footer).with_evaluations(evaluated)
    }

    /// The adapters as they are after the latest step. They are a copy: training goes on beside it.
    pub fn adapters(&self) -> Adapters {
        self.0.shared.read().learned.adapters.clone()
    }

    /// Saves the adapters in a folder that PEFT loads; it appears whole or not at all.
    ///
    /// # Errors
    /// When the folder exists, or cannot be written.
    pub fn save_adapter(&self, folder: impl AsRef<Path>) -> Result<Text> {
        let path = self.adapters().save(folder, &self.0.model.name())?;
        Ok(Text::new(format!("adapter saved in {}", path.display())))
    }

    /// Like [`save_adapter`](Self::save_adapter), but replaces a folder that exists.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn overwrite_adapter(&self, folder: impl AsRef<Path>) -> Result<Text> {
        let path = self.adapters().overwrite(folder, &self.0.model.name())?;
        Ok(Text::new(format!("adapter saved in {}", path.display())))
    }

    /// The rows of the latest step as the model saw them, the trained tokens shaded.
    ///
    /// # Errors
    /// When no step was done since the run was opened or rewound.
    pub fn batch(&self) -> Result<BatchView> {
        let batch = self.0.shared.read().batch.clone();
        let Some(batch) = batch else {
            return Err(
                Error::state("no step was done yet since the run was opened").help("run.step()? does one")
            );
        };
        let segment = self.0.segments.get(batch.segment)?;
        let data = segment.data.for_training(self.0.model.tokenizer(), &self.0.config.training());
        Ok(BatchView(batch.rows.iter().map(|row| data.row(*row as usize)).collect::<Result<_>>()?))
    }

    /// The rows that are left out, of those to train on and to evaluate on: file, line and why.
    ///
    /// # Errors
    /// When the data can no longer be read.
    pub fn left_out(&self) -> Result<RowsLeftOut> {
        let mut all = RowsLeftOut::default();
        let segment = self.0.segments.get(self.settings().segment)?;
        all.lists = lists_not_read(&segment.data, self.0.config.eval.as_ref())?;
        segment.batches.add_left_out(&segment.data, &mut all)?;
        if let (Some(batches), Some(data)) = (&self.0.eval, &self.0.config.eval) {
            batches.add_left_out(data, &mut all)?;
        }
        Ok(all)
    }
}

/// Rows as the model saw them.
#[derive(Clone, PartialEq)]
pub struct BatchView(pub Vec<Chat>);

brief!(BatchView);

impl Show for BatchView {
    fn show(&self) -> Bundle {
        let shown: Vec<Bundle> = self.0.iter().map(Show::show).collect();
        Bundle {
            html: shown.iter().map(|b| b.html.as_str()).collect::<Vec<_>>().join("<hr>"),
            text: shown.iter().map(|b| b.text.as_str()).collect::<Vec<_>>().join("\n\n"),
        }
    }
}

impl Show for Run {
    fn show(&self) -> Bundle {
        let inner = &self.0;
        let current = inner.segments.get(self.settings().segment);
        let adapters = self.adapters();
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption(&inner.name).whole();
        let c = &inner.config;
        table.row(["model".to_string(), inner.model.name()]);
        table.row([
            "adapters".to_string(),
            format!(
                "{} of rank {}, alpha {}: {} numbers are trained",
                adapters.len(),
                c.lora.rank,
                c.lora.alpha,
                display::thousands(adapters.parameters() as u64)
            ),
        ]);
        match c.adaptation {
            Adaptation::Lora => table.row(["target modules".to_string(), c.lora.targeted()]),
            Adaptation::Full => {}
        }
        c.device_facts().into_iter().for_each(|fact| table.row(fact));
        let settings = self.settings();
        if let Ok(segment) = &current {
            let rows = display::thousands(segment.batches.rows() as u64);
            table.row(["rows".to_string(), format!("{rows} to train on, {} a step", settings.batch)]);
        }
        if let Some(eval) = &inner.eval {
            let (rows, every) = (display::thousands(eval.rows() as u64), evaluated(settings.eval_every));
            table.row(["evaluation".to_string(), format!("{rows} rows, {every}")]);
        }
        table.row(["learning rate".to_string(), rate(settings.lr)]);
        let schedule = match settings.cooldown {
            Some(Cooldown { at, steps, .. }) => format!("falls to 0 in the {steps} steps after step {at}"),
            None => settings.schedule.to_string(),
        };
        table.row(["schedule".to_string(), schedule]);
        let status = self.status();
        status.about_rows.iter().for_each(|note| table.row(["note", note.as_str()]));
        inner.shared.told.store(true, Ordering::Relaxed);
        (table, status).show()
    }
}
