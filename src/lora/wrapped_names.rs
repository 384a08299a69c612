//! Names of tensors with the prefixes of wrappers (`torch.compile`, DDP …), which PEFT does not match.

use super::peft::PREFIX;
use crate::error::Error;

/// What stands in or is missing from the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrapped {
    /// `_orig_mod.`
    Compiled,
    /// `module.` in front.
    Parallel,
    /// `lora_A.default.weight`
    Named,
    /// No `base_model.model.` in front.
    Bare,
}

impl Wrapped {
    fn what(self) -> &'static str {
        match self {
            Self::Compiled => "names of tensors carry `_orig_mod.`: they were written by torch.compile",
            Self::Parallel => {
                "names of tensors begin with `module.`: they were written by DistributedDataParallel"
            }
            Self::Named => {
                "names of tensors carry the name of an adapter, as in `lora_A.default.weight`: this is a \
                            state dict, not what save_pretrained writes"
            }
            Self::Bare => "names of tensors have no `base_model.model.` in front",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Compiled => "take `_orig_mod.` out of the names, or save model._orig_mod",
            Self::Parallel => "take `module.` off the names, or save model.module",
            Self::Named => {
                "take the adapter's name out (`lora_A.weight`), or save with model.save_pretrained"
            }
            Self::Bare => "put `base_model.model.` in front of each name",
        }
    }

    pub(super) fn error(self, name: &str) -> Error {
        Error::format(self.what()).layer(name).help(self.help())
    }

    pub(super) fn note(&self) -> String {
        format!("{}; for a model, {}", self.what(), self.help())
    }
}

/// The name as PEFT writes it, and what was wrapped around it.
pub(super) fn unwrapped(name: &str) -> (String, Vec<Wrapped>) {
    let (mut plain, mut by) = (name.to_string(), Vec::new());
    if plain.contains("_orig_mod.") {
        plain = plain.replace("_orig_mod.", "");
        by.push(Wrapped::Compiled);
    }
    if let Some(rest) = plain.strip_prefix("module.") {
        plain = rest.to_string();
        by.push(Wrapped::Parallel);
    }
    for part in ["lora_A", "lora_B"] {
        // `.lora_A.NAME.weight`
        let inner = plain.split_once(&format!(".{part}.")).and_then(|(front, rest)| {
            let name = rest.strip_suffix(".weight").filter(|name| !name.is_empty())?;
            (!name.contains('.')).then(|| format!("{front}.{part}.weight"))
        });
        if let Some(inner) = inner {
            plain = inner;
            by.push(Wrapped::Named);
        }
    }
    for part in ["lora_embedding_A", "lora_embedding_B"] {
        let inner = plain.split_once(&format!(".{part}.")).map(|(front, _)| format!("{front}.{part}"));
        if let Some(inner) = inner {
            plain = inner;
            by.push(Wrapped::Named);
        }
    }
    if !plain.starts_with(PREFIX) && plain.contains(".lora_") {
        plain = format!("{PREFIX}{plain}");
        by.push(Wrapped::Bare);
    }
    (plain, by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_peft_writes() {
        let path = "base_model.model.model.layers.0.self_attn.q_proj";
        for (name, by) in [
            (format!("{path}.lora_A.weight"), &[][..]),
            (format!("_orig_mod.{path}.lora_A.weight"), &[Wrapped::Compiled]),
            (format!("module.{path}.lora_A.default_0.weight"), &[Wrapped::Parallel, Wrapped::Named]),
            ("model.layers.0.self_attn.q_proj.lora_A.weight".to_string(), &[Wrapped::Bare]),
        ] {
            assert_eq!(unwrapped(&name), (format!("{path}.lora_A.weight"), by.to_vec()), "{name}");
        }
        let whole = "base_model.model.lm_head.weight";
        assert_eq!(unwrapped(whole), (whole.to_string(), vec![]));
    }
}
