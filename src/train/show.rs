//! What a notebook shows of a run.

use super::batches::Batches;
use super::run::Run;
use crate::display::{self, Align, Bundle, Show, Table};

impl Show for Run {
    fn show(&self) -> Bundle {
        let inner = &self.0;
        let current = inner.segments.get(self.settings().segment);
        let adapters = self.adapters();
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption(&inner.name);
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
            left_out(&mut table, "left out", &segment.batches);
        }
        if let Some(eval) = &inner.eval {
            table.row(["evaluation".to_string(), format!("{} rows", eval.rows())]);
            left_out(&mut table, "left out of it", eval);
        }
        table.row([
            "learning rate".to_string(),
            format!("{:e}{}", settings.lr, if settings.lr > 1e-3 { ", which is high for LoRA" } else { "" }),
        ]);
        (table, self.status()).show()
    }
}

/// Says which rows are not used, and why.
fn left_out(table: &mut Table, label: &str, rows: &Batches) {
    let left_out = rows.left_out();
    if left_out.too_long > 0 {
        let what = format!("{} rows longer than {} tokens", left_out.too_long, rows.context());
        table.row([label.to_string(), what]);
    }
    if left_out.untrained > 0 {
        table.row([label.to_string(), format!("{} rows without an answer", left_out.untrained)]);
    }
}
