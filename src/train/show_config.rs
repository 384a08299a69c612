//! What a notebook shows of a run.

use super::config::{Adaptation, RunConfig};
use super::journal::Cooldown;
use super::run::Run;
use crate::display::{self, Align, Bundle, Show, Table, advice, counted};

impl RunConfig {
    /// The settings by name, as a person reads them.
    fn facts(&self) -> Vec<[String; 2]> {
        let fact = |name: &str, value: String| [name.to_string(), value];
        let some = |value: Option<String>, none: &str| value.unwrap_or_else(|| none.to_string());
        let mut facts = match self.adaptation {
            Adaptation::Lora => self.lora.facts(),
            Adaptation::Full => vec![fact("trained", "all weights, in f32".to_string())],
        };
        facts.push(fact("learning rate", rate(self.lr)));
        facts.push(fact("schedule", self.schedule.to_string()));
        facts.push(fact("a step", counted(self.batch as u64, "row")));
        let micro = display::thousands(self.micro_batch as u64);
        facts.push(fact("a micro-batch", format!("{micro} tokens at a time")));
        let context = self.context.map(|tokens| counted(tokens as u64, "token"));
        facts.push(fact("longest row", some(context, "the model's context, at most 2,048 tokens")));
        facts.push(fact("trained on", format!("{} tokens", self.trained)));
        facts.push(fact("optimiser", self.optimizer.to_string()));
        let clip = self.clip.map(|norm| format!("gradient norms above {norm}"));
        facts.push(fact("clipped", some(clip, "nothing")));
        facts.push(fact("seed", self.seed.to_string()));
        let rows = if self.eval.is_some() { "" } else { "; no rows to evaluate on: eval(&test)" };
        facts.push(fact("evaluated", format!("{}{rows}", evaluated(self.eval_every))));
        let mut also = |value: Option<String>, name: &str| facts.extend(value.map(|value| fact(name, value)));
        also(self.patience.map(|n| format!("after {} no better", counted(n, "evaluation"))), "stops early");
        also(self.spike.map(|factor| format!("after a loss {factor} times the usual")), "pauses");
        also(self.init_from.as_ref().map(|path| path.display().to_string()), "begins from");
        facts
    }
}

impl Show for RunConfig {
    fn show(&self) -> Bundle {
        let mut table =
            Table::new([("", Align::Left), ("", Align::Left)]).caption("settings of a run").whole();
        self.facts().into_iter().for_each(|fact| table.row(fact));
        table.show()
    }
}

/// A learning rate, and whether it is high.
fn rate(lr: f64) -> String {
    format!("{lr:e}{}", if lr > 1e-3 { ", which is high for LoRA" } else { "" })
}

/// When it is evaluated.
fn evaluated(every: Option<u64>) -> String {
    match every {
        None => {
            advice("when asked: evaluate(), or eval_every(20)", "when asked; more often by eval_every = 20")
                .into()
        }
        Some(1) => "after every step".to_string(),
        Some(steps) => format!("every {steps} steps"),
    }
}
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
        match c.adaptation {
            Adaptation::Lora => table.row(["target modules".to_string(), c.lora.targeted()]),
            Adaptation::Full => {}
        }
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
