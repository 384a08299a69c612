//! A one-line summary of adapters, and notes from reading them.

use super::Adapters;
use crate::display::{counted, thousands};
use std::fmt;

impl Adapters {
    /// Notes about these adapters: unknown fields of the config that they were read from, which have no effect here.
    /// They are shown with the adapters, with a run that starts from them, and with an export that they are merged
    /// into.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::Device;
    /// use lorascope::lora::{Adapters, LoraConfig, Target};
    ///
    /// let layer = [Target::linear("model.layers.0.mlp.up_proj", [32, 16])];
    /// let adapters = Adapters::new(&LoraConfig { rank: 4, ..Default::default() }, &layer, 0, &Device::Cpu)?;
    /// assert!(adapters.notes().is_empty());
    /// assert_eq!(adapters.to_string(), "1 adapter of rank 4: 192 numbers are trained");
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Adapters {
    /// The number and rank of the adapters in one line.
    pub(super) fn said(&self) -> String {
        if self.is_empty() {
            return "no adapters".to_string();
        }
        let ranks = || self.iter().map(|(_, pair)| pair.rank());
        let mut parts = Vec::new();
        if let (Some(least), Some(most)) = (ranks().min(), ranks().max()) {
            let ranks =
                if least == most { format!("rank {least}") } else { format!("ranks {least} to {most}") };
            parts.push(format!("{} of {ranks}", counted(self.len() as u64, "adapter")));
        }
        match self.wholes().count() as u64 {
            0 => {}
            whole => parts.push(format!("{} trained whole", counted(whole, "weight"))),
        }
        format!("{}: {} numbers are trained", parts.join(", "), thousands(self.parameters() as u64))
    }
}

impl fmt::Display for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said())?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}
