//! What adapters are in a few words, and what is to be said of how they were read.

use super::Adapters;
use crate::display::{counted, thousands};
use std::fmt;

impl Adapters {
    /// What is to be said of these adapters: fields of the config they were read from that are not known here,
    /// whose meaning is therefore not done. They are shown with the adapters, with a run that begins with
    /// them, and with an export that they are merged into.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::Device;
    /// use lorascope::lora::{Adapters, LoraConfig, Target};
    ///
    /// let layer = [Target::linear("model.layers.0.mlp.up_proj", [32, 16])];
    /// let adapters = Adapters::new(&LoraConfig { rank: 4, ..Default::default() }, &layer, 0, &Device::Cpu)?;
    /// assert!(adapters.notes().is_empty());
    /// assert_eq!(adapters.to_string(), "adapters beside 1 layer, rank 4: 192 numbers");
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Display for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no adapters");
        }
        let ranks = || self.iter().map(|(_, pair)| pair.rank());
        let mut parts = Vec::new();
        if let (Some(least), Some(most)) = (ranks().min(), ranks().max()) {
            let ranks =
                if least == most { format!("rank {least}") } else { format!("ranks {least} to {most}") };
            parts.push(format!("adapters beside {}, {ranks}", counted(self.len() as u64, "layer")));
        }
        match self.wholes().count() as u64 {
            0 => {}
            whole => parts.push(format!("{} trained whole", counted(whole, "weight"))),
        }
        f.write_str(&parts.join(", "))?;
        write!(f, ": {} numbers", thousands(self.parameters() as u64))?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}
