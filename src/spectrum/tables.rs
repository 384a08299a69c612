//! What a notebook shows of one spectrum, its vectors and a frozen weight.

use super::base_weight::Operator as _;
use super::{BaseWeight, Spectrum, Vectors};
use crate::display::{Align, Bundle, Show, Table};

/// Singular values that a table shows.
const SHOWN: usize = 16;

/// A table of a name and a value.
fn facts(caption: String) -> Table {
    Table::new([("", Align::Left), ("", Align::Left)]).caption(caption).whole()
}

/// The first values, and how many there are.
fn values(all: &[f64]) -> String {
    let first: Vec<String> = all.iter().take(SHOWN).map(|sigma| format!("{sigma:.4e}")).collect();
    let more = if all.len() > SHOWN { format!(", … ({} in all)", all.len()) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

impl Show for Spectrum {
    fn show(&self) -> Bundle {
        let mut table = facts(format!("spectrum of {}", self.name));
        let [rows, columns, rank] = [self.out_features, self.in_features, self.rank];
        table.row(["ΔW".to_string(), format!("{rows}×{columns}, rank {rank}, scale {}", self.scale)]);
        table.row(["singular values σ".to_string(), values(&self.singular_values)]);
        let ranks = format!(
            "effective {:.2}, stable {:.2}; 90 % of the energy in {}",
            self.effective_rank(),
            self.stable_rank(),
            self.energy_rank(0.9).map_or_else(|error| error.to_string(), |rank| rank.to_string())
        );
        table.row(["ranks".to_string(), ranks]);
        table.row(["‖ΔW‖".to_string(), format!("{:.4e}", self.frobenius_norm())]);
        table.show()
    }
}

impl Show for Vectors {
    fn show(&self) -> Bundle {
        let mut table = facts(format!("singular vectors of {} directions", self.singular_values.len()));
        table.row(["singular values σ".to_string(), values(&self.singular_values)]);
        table.row(["u".to_string(), format!("left singular vectors, {:?}", self.u.dims())]);
        table.row(["v".to_string(), format!("right singular vectors, {:?}", self.v.dims())]);
        table.show()
    }
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, u, v) = (self.singular_values.len(), self.u.dims(), self.v.dims());
        write!(f, "Vectors({count} directions, u {u:?}, v {v:?})")
    }
}

impl Show for BaseWeight {
    fn show(&self) -> Bundle {
        let (rows, columns) = self.shape();
        let mut table = facts(format!("frozen weight of {}", self.name()));
        table.row(["W₀".to_string(), format!("{rows}×{columns}")]);
        table.row(["‖W₀‖".to_string(), format!("{:.4e}", self.frobenius_norm())]);
        let more =
            "singular_values(8)?, vectors(8)?, Amplification::of(&weight, …), Intruders::of(&weight, …)";
        table.row(["further".to_string(), more.to_string()]);
        table.show()
    }
}

impl std::fmt::Debug for BaseWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, columns) = self.shape();
        write!(f, "BaseWeight({}, {rows}×{columns})", self.name())
    }
}
