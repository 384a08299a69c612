//! Selects the layers that a config names: names, expressions, blocks, patterns.

use super::{LoraConfig, Target, TargetKind, TargetModules};
use crate::error::{Error, Result};
use crate::spectrum::ends_in;
use indexmap::IndexMap;
use regex::Regex;

impl LoraConfig {
    /// Selects the layers that are adapted, in their order.
    ///
    /// # Errors
    /// When a name or an expression fits none of them; the error lists the names that would, the
    /// nearest first.
    pub fn select<'a>(&self, targets: &'a [Target]) -> Result<Vec<&'a Target>> {
        let chosen: Vec<&Target> = match &self.target_modules {
            TargetModules::AllLinear => targets.iter().filter(|t| t.kind == TargetKind::Linear).collect(),
            TargetModules::Named(names) => {
                if names.is_empty() {
                    return Err(Error::input("no target module is named")
                        .help(format!("name some of {}", known(targets, ""))));
                }
                each_fits(names, targets, "target module")?;
                targets.iter().filter(|t| names.iter().any(|name| ends_in(&t.path, name))).collect()
            }
            TargetModules::Matching(expression) => {
                let whole = whole(expression)?;
                let found: Vec<_> = targets.iter().filter(|t| whole.is_match(&t.path)).collect();
                if found.is_empty() {
                    let example = targets.first().map_or("", |t| &t.path);
                    return Err(Error::input(format!("no layer matches {expression:?}"))
                        .help(format!("the whole path must match, such as {example}")));
                }
                found
            }
        };
        each_fits(&self.exclude_modules, targets, "excluded module")?;
        let excluded = |t: &Target| self.exclude_modules.iter().any(|name| ends_in(&t.path, name));
        let inside = |t: &Target| match &self.layers_to_transform {
            None => true,
            Some(blocks) => block(&t.path).is_some_and(|block| blocks.contains(&block)),
        };
        if let Some(blocks) = &self.layers_to_transform {
            let last = targets.iter().filter_map(|t| block(&t.path)).max().unwrap_or(0);
            if let Some(block) = blocks.iter().find(|block| **block > last) {
                return Err(Error::input(format!("layers_to_transform names block {block}"))
                    .help(format!("this model has the blocks 0 to {last}")));
            }
        }
        let chosen: Vec<&Target> = chosen.into_iter().filter(|t| !excluded(t) && inside(t)).collect();
        if chosen.is_empty() {
            return Err(Error::input("no layer is left to adapt")
                .help("see target_modules, exclude_modules and layers_to_transform"));
        }
        Ok(chosen)
    }

    /// Rank and alpha of the layer at a path: those of the first pattern that fits, or the config's.
    ///
    /// # Errors
    /// When a pattern is no regular expression.
    pub fn rank_and_alpha(&self, path: &str) -> Result<(usize, f64)> {
        let rank = first(&self.rank_pattern, path)?.copied().unwrap_or(self.rank);
        let alpha = first(&self.alpha_pattern, path)?.copied().unwrap_or(self.alpha);
        Ok((rank, alpha))
    }

    /// The number of parameters of the adapters of these layers, and of the largest tensor. Weights that are trained in
    /// full are not counted.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn parameters(&self, targets: &[Target]) -> Result<(u64, u64)> {
        let (mut all, mut largest) = (0, 0);
        for target in self.select(targets)? {
            let [out, inner] = target.shape.map(|size| size as u64);
            let rank = self.rank_and_alpha(&target.path)?.0 as u64;
            // Of the parts of a layer each has an A, and a B of its own rows.
            let (enabled, parts) = match self.parts(&target.path) {
                Some(parts) => (parts.iter().filter(|on| **on).count() as u64, parts.len().max(1) as u64),
                None => (1, 1),
            };
            let (a, b) = (enabled * rank * inner, out / parts * enabled * rank);
            all += a + b + if self.dora { out } else { 0 };
            largest = largest.max(a).max(b);
        }
        Ok((all, largest))
    }

    /// The enabled parts of the layer at a path, where it has parts.
    pub(super) fn parts(&self, path: &str) -> Option<&[bool]> {
        self.enable_lora.iter().find(|(name, _)| ends_in(path, name)).map(|(_, parts)| parts.as_slice())
    }
}

/// Whether a tensor is the weight of a layer with this last name.
pub(super) fn is_weight_of(tensor: &str, name: &str) -> bool {
    tensor.strip_suffix(".weight").is_some_and(|path| ends_in(path, name))
}

/// The value of the first pattern that fits: `(.*\.)?(pattern)$`, as PEFT has it.
pub(super) fn first<'a, T>(patterns: &'a IndexMap<String, T>, path: &str) -> Result<Option<&'a T>> {
    for (pattern, value) in patterns {
        if ends_in(path, pattern) || expression(&format!(r"^(?:.*\.)?(?:{pattern})$"))?.is_match(path) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn whole(text: &str) -> Result<Regex> {
    expression(&format!("^(?:{text})$"))
}

fn expression(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| {
        if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|around| text.contains(around)) {
            let error = format!("{text:?} uses look-ahead or look-behind, which is not supported here");
            return Error::input(error).help(
                "name the layers instead: in rank_pattern and alpha_pattern of adapter_config.json each layer by its \
                 path with its number (a rank is the first size of its lora_A), in target_modules a list of paths",
            );
        }
        Error::input(format!("{text:?} is no regular expression: {e}"))
            .help("a name such as q_proj, or an expression such as .*\\.[0-3]\\..*_proj")
    })
}

/// The number of the block that a path lies in: `model.layers.3.self_attn.q_proj` is in block 3.
pub(super) fn block(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}

fn each_fits(names: &[String], targets: &[Target], what: &str) -> Result<()> {
    match names.iter().find(|name| !targets.iter().any(|t| ends_in(&t.path, name))) {
        None => Ok(()),
        Some(name) => Err(Error::input(format!("unknown {what} {name:?}"))
            .help(format!("this model has {}", known(targets, name)))),
    }
}

/// The last parts of all paths, the nearest to `name` first.
fn known(targets: &[Target], name: &str) -> String {
    let mut known: Vec<&str> = targets.iter().map(|t| t.path.rsplit('.').next().unwrap_or(&t.path)).collect();
    known.sort_unstable();
    known.dedup();
    if !name.is_empty() {
        known.sort_by_key(|known| distance(known, name));
    }
    known.join(", ")
}

/// Levenshtein's distance, by bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Vec<Target> {
        let path = |layer, name| format!("model.layers.{layer}.{name}");
        let names = ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"];
        let mut all: Vec<Target> =
            (0..3).flat_map(|layer| names.map(|name| Target::linear(path(layer, name), [8, 8]))).collect();
        all.push(Target { path: "lm_head".to_string(), shape: [9, 8], kind: TargetKind::Head });
        all
    }

    fn chosen(config: &LoraConfig) -> Vec<String> {
        config.select(&targets()).unwrap().into_iter().map(|t| t.path.clone()).collect()
    }

    #[test]
    fn names_expressions_blocks_and_exclusions() {
        let all = LoraConfig::default();
        assert_eq!(chosen(&all).len(), 9);
        let some = LoraConfig { layers_to_transform: Some(vec![1]), ..all.clone() };
        assert_eq!(
            chosen(&LoraConfig { exclude_modules: vec!["down_proj".into()], ..some }),
            ["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj"]
        );
        let matching = |text: &str| LoraConfig {
            target_modules: TargetModules::Matching(text.to_string()),
            ..LoraConfig::default()
        };
        assert_eq!(chosen(&matching(r".*\.[02]\..*q_proj")).len(), 2);
        assert_eq!(chosen(&matching("lm_head")), ["lm_head"]);
        let said = |config: &LoraConfig| config.select(&targets()).unwrap_err().to_string();
        assert!(said(&matching("q_proj")).contains("the whole path must match"));
        assert!(said(&matching("(")).contains("no regular expression"));
        assert_eq!(
            said(&all.clone().targets(["qproj"])),
            "unknown target module \"qproj\"; this model has q_proj, k_proj, down_proj, lm_head"
        );
        assert_eq!(
            said(&LoraConfig { layers_to_transform: Some(vec![3]), ..all }),
            "layers_to_transform names block 3; this model has the blocks 0 to 2"
        );
    }

    #[test]
    fn patterns_are_peft_s() {
        let config = LoraConfig {
            rank_pattern: IndexMap::from([("q_proj".into(), 4), (r"layers\.[01]\.mlp\..*".into(), 2)]),
            alpha_pattern: IndexMap::from([("model.layers.2.self_attn.q_proj".into(), 5.0)]),
            ..Default::default()
        };
        assert_eq!(config.rank_and_alpha("model.layers.2.self_attn.q_proj").unwrap(), (4, 5.0));
        assert_eq!(config.rank_and_alpha("model.layers.1.mlp.down_proj").unwrap(), (2, 32.0));
        assert_eq!(config.rank_and_alpha("model.layers.2.mlp.down_proj").unwrap(), (16, 32.0));
        assert_eq!(config.rank_and_alpha("model.layers.1.self_attn.my_q_proj").unwrap(), (16, 32.0));
        // Both fit; the first counts, whatever the alphabet says, and also after a file.
        let both = IndexMap::from([("q_proj".into(), 4.0), ("layers.0.self_attn.q_proj".into(), 9.0)]);
        let config = LoraConfig { alpha_pattern: both, ..Default::default() };
        let read: LoraConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        for config in [config, read] {
            assert_eq!(config.rank_and_alpha("model.layers.0.self_attn.q_proj").unwrap(), (16, 4.0));
        }
    }
}
