//! What a notebook shows of a run's settings.

use super::config::{Adaptation, RunConfig};
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
        if !self.precision.is_f32() {
            facts.push(fact("precision", format!("products in {}, the rest in f32", self.precision)));
        }
        facts.extend(self.device_facts());
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

impl RunConfig {
    /// The devices, and where gradients are added, where these are not the usual ones.
    pub(crate) fn device_facts(&self) -> Vec<[String; 2]> {
        let mut facts = Vec::new();
        if !self.devices.is_model() || !self.placement.is_replicate() {
            facts.push(["devices".to_string(), format!("{}{}", self.devices, self.placement)]);
        }
        if !self.reduction.is_ordered() {
            let added = "added on the devices, then over them once a step";
            facts.push(["gradients".to_string(), added.to_string()]);
        }
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
pub(crate) fn rate(lr: f64) -> String {
    format!("{lr:e}{}", if lr > 1e-3 { ", which is high for LoRA" } else { "" })
}

/// When it is evaluated.
pub(crate) fn evaluated(every: Option<u64>) -> String {
    match every {
        None => {
            advice("when asked: evaluate(), or eval_every(20)", "when asked; more often by eval_every = 20")
                .into()
        }
        Some(1) => "after every step".to_string(),
        Some(steps) => format!("every {steps} steps"),
    }
}
