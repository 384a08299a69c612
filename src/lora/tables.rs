//! How a notebook shows adapters and their settings.

use super::{Activations, Adapters, Beside, Biases, Gradients, Init, LoraConfig, TargetModules};
use crate::display::{Align, Bundle, Show, Table, cut};
use std::fmt;

/// Adapters of each end that a table shows.
const SHOWN: usize = 8;
/// Characters of a list of names or patterns.
const NAMES: usize = 240;

impl fmt::Display for TargetModules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllLinear => f.write_str("all linear layers of the blocks"),
            Self::Named(names) => f.write_str(&cut(&names.join(", "), NAMES)),
            Self::Matching(pattern) => write!(f, "paths that match {}", cut(pattern, NAMES)),
        }
    }
}

impl LoraConfig {
    /// Describes which layers are adapted.
    pub(crate) fn targeted(&self) -> String {
        let mut said = self.target_modules.to_string();
        if !self.exclude_modules.is_empty() {
            said += &format!("; but {}", cut(&self.exclude_modules.join(", "), NAMES));
        }
        if let Some(layers) = &self.layers_to_transform {
            said += &format!("; of the blocks {}", cut(&format!("{layers:?}"), NAMES));
        }
        said
    }

    /// The settings by name, as a person reads them: those that are always of interest, and of the others what
    /// is not the default.
    pub(crate) fn facts(&self) -> Vec<[String; 2]> {
        let fact = |name: &str, value: String| [name.to_string(), value];
        let scale = self.scaling().map_or_else(|error| error.to_string(), |scale| scale.to_string());
        let kind = if self.rank_stabilised { "α / √r, rsLoRA" } else { "α / r" };
        let mut facts = vec![
            fact("rank r", self.rank.to_string()),
            fact("alpha α", format!("{}: B·A is scaled by {scale} ({kind})", self.alpha)),
            fact("target modules", self.targeted()),
            fact("dropout", self.dropout.to_string()),
        ];
        let mut also = |differs: bool, name: &str, value: String| {
            if differs {
                facts.push(fact(name, value));
            }
        };
        let pattern = |entries: Vec<String>| cut(&entries.join(", "), NAMES);
        let ranks = self.rank_pattern.iter().map(|(name, rank)| format!("{name} {rank}")).collect();
        also(!self.rank_pattern.is_empty(), "other ranks", pattern(ranks));
        let alphas = self.alpha_pattern.iter().map(|(name, alpha)| format!("{name} {alpha}")).collect();
        also(!self.alpha_pattern.is_empty(), "other alphas", pattern(alphas));
        also(self.dora, "DoRA", "each row has a trained magnitude".to_string());
        also(self.init != Init::default(), "A and B begin", format!("{:?}", self.init).to_lowercase());
        let biases = if self.bias == Biases::All { "all" } else { "of the adapted layers" };
        also(self.bias != Biases::None, "biases", format!("{biases}, trained"));
        let whole = cut(&self.modules_to_save.join(", "), NAMES);
        also(!self.modules_to_save.is_empty(), "trained whole", whole);
        let tied = "embedding and head stay tied".to_string();
        also(self.ensure_weight_tying, "weight tying", tied);
        let parts = self.enable_lora.iter().map(|(name, parts)| format!("{name} {parts:?}")).collect();
        also(!self.enable_lora.is_empty(), "parts of fused layers", pattern(parts));
        facts
    }
}

impl Show for LoraConfig {
    fn show(&self) -> Bundle {
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption("LoRA").whole();
        self.facts().into_iter().for_each(|fact| table.row(fact));
        table.show()
    }
}

impl Show for Adapters {
    fn show(&self) -> Bundle {
        let names = [
            ("layer", Align::Left),
            ("kind", Align::Left),
            ("shape", Align::Right),
            ("r", Align::Right),
            ("scale", Align::Right),
            ("type", Align::Left),
        ];
        let notes: String = self.notes().iter().map(|note| format!(" · note: {note}")).collect();
        let mut table = Table::new(names)
            .caption(format!("{}; model.adapter_status(&adapters)? has their norms{notes}", self.said()));
        let count = self.len();
        let cut = count > 2 * SHOWN + 1;
        for (at, (path, pair)) in self.iter().enumerate() {
            if cut && (SHOWN..count - SHOWN).contains(&at) {
                if at == SHOWN {
                    table.row(["…"; 6]);
                }
                continue;
            }
            let kind = match pair.beside() {
                Beside::Linear if pair.magnitude().is_some() => "DoRA",
                Beside::Linear => "LoRA",
                Beside::Embedding => "embedding",
                Beside::Parts(_) => "parts",
            };
            let [rows, columns] = pair.shape();
            table.row([
                path.to_string(),
                kind.to_string(),
                format!("{rows}×{columns}"),
                pair.rank().to_string(),
                pair.scale().to_string(),
                pair.a().dtype().as_str().to_string(),
            ]);
        }
        table.show()
    }
}

impl fmt::Debug for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adapters({})", self.said())
    }
}

impl fmt::Debug for Gradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gradients({} tensors)", self.len())
    }
}

impl fmt::Debug for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Activations({} layers)", self.by_path().len())
    }
}
