//! What a notebook shows of a run.

use super::run::Run;
use crate::display::{self, Align, Bundle, Show, Table};
use std::sync::atomic::Ordering;

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
        if let Ok(segment) = &current {
            let rows = display::thousands(segment.batches.rows() as u64);
            table.row(["rows".to_string(), format!("{rows} to train on, {} a step", settings.batch)]);
        }
        if let Some(eval) = &inner.eval {
            table.row(["evaluation".to_string(), format!("{} rows", eval.rows())]);
        }
        table.row([
            "learning rate".to_string(),
            format!("{:e}{}", settings.lr, if settings.lr > 1e-3 { ", which is high for LoRA" } else { "" }),
        ]);
        let status = self.status();
        status.about_rows.iter().for_each(|note| table.row(["note", note.as_str()]));
        inner.shared.told.store(true, Ordering::Relaxed);
        (table, status).show()
    }
}
