//! The loss on held-out rows.

use super::left_out::LeftOut;
use crate::display::{self, Align, Bundle, Show, Table, advice};

/// The loss on held-out rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// After which step.
    pub step: u64,
    /// Mean cross-entropy over the trained tokens, in nats.
    pub loss: f64,
    /// Rows that were used.
    pub rows: usize,
    /// Tokens whose loss counted.
    pub tokens: usize,
    /// How many records of the rows' files were not used, and why.
    pub left_out: LeftOut,
}

impl Evaluation {
    /// Perplexity, e^loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

impl Show for Evaluation {
    fn show(&self) -> Bundle {
        let columns = ["after step", "loss (nats per token)", "perplexity", "rows", "tokens"];
        let mut table = Table::new(columns.map(|c| (c, Align::Right)));
        table.row([
            self.step.to_string(),
            format!("{:.4}", self.loss),
            format!("{:.2}", self.perplexity()),
            display::thousands(self.rows as u64),
            display::thousands(self.tokens as u64),
        ]);
        if !self.left_out.is_none() {
            let rejected = self.left_out.rejected + self.left_out.rejected_of_files > 0;
            let listed = if rejected {
                advice("; problems() of the rows lists what the reader rejected", "")
            } else {
                ""
            };
            table = table.caption(format!("{}{listed}", self.left_out));
        }
        table.show()
    }
}
