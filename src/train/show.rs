//! What a notebook shows of a run.

use super::left_out::LeftOut;
use super::run::Run;
use crate::display::{self, Align, Bundle, Show, Table};

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
        let settings = self.settings();
        let mut said = Vec::new();
        if let Ok(segment) = &current {
            let rows = display::thousands(segment.batches.rows() as u64);
            table.row(["rows".to_string(), format!("{rows} to train on, {} a step", settings.batch)]);
            left_out(&mut table, &mut said, segment.batches.counts());
        }
        if let Some(eval) = &inner.eval {
            table.row(["evaluation".to_string(), format!("{} rows", eval.rows())]);
            left_out(&mut table, &mut said, eval.counts());
        }
        table.row([
            "learning rate".to_string(),
            format!("{:e}{}", settings.lr, if settings.lr > 1e-3 { ", which is high for LoRA" } else { "" }),
        ]);
        let mut status = self.status();
        status.notes.retain(|note| !said.contains(note));
        (table, status).show()
    }
}

/// Says how many rows are not used, and why.
fn left_out(table: &mut Table, said: &mut Vec<String>, counts: LeftOut) {
    if let Some(note) = counts.note() {
        table.row(["left out", note.as_str()]);
        said.push(note);
    }
}
