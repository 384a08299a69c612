//! The hyperparameters of LoRA.

use super::Adapter;
use crate::error::{Error, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The layers that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetModules {
    /// Every linear layer of the blocks; the head and the embedding are left as they are.
    #[default]
    AllLinear,
    /// Those whose path ends in one of these names: `q_proj`, `mlp.down_proj`, `embed_tokens`.
    Named(Vec<String>),
    /// Those whose whole path is matched by this regular expression: `.*\.[0-3]\..*_proj`.
    Matching(String),
}

/// The initialisation of A and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// A uniform in ±1/√in (Kaiming with a = √5, as PEFT does it), B zero.
    #[default]
    Kaiming,
    /// A normal with a standard deviation of 1/r, B zero (Hu et al. 2021, §4.1; PEFT's `gaussian`).
    Gaussian,
    /// A and B random with B·A = 0: their inner directions are orthogonal (PEFT's `orthogonal`).
    Orthogonal,
    /// A and B from the r largest singular values of W, which are subtracted from W (Meng et al. 2024,
    /// *PiSSA*): the rest of W stays frozen.
    Pissa,
}

/// Which biases are trained beside the adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Biases {
    /// None of them.
    #[default]
    None,
    /// All that the model has, those of norms too.
    All,
    /// Those of the adapted layers.
    LoraOnly,
}

/// The hyperparameters of LoRA.
///
/// # Examples
/// ```
/// use lorascope::lora::LoraConfig;
///
/// let config = LoraConfig { rank: 8, alpha: 16.0, ..Default::default() };
/// assert_eq!(config.scaling()?, 2.0);
///
/// let error = LoraConfig { rank: 0, ..Default::default() }.scaling().unwrap_err();
/// assert_eq!(error.to_string(), "rank is 0; give LoRA a rank of at least 1");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// r, the inner dimension of B·A.
    pub rank: usize,
    /// α: the update is scaled by α / r, or by α / √r with [`rank_stabilised`](Self::rank_stabilised).
    pub alpha: f64,
    /// Which layers are adapted.
    pub target_modules: TargetModules,
    /// Those of them that are not: names as in [`TargetModules::Named`].
    pub exclude_modules: Vec<String>,
    /// The blocks whose layers are adapted, from 0; `None` takes all.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Other ranks for some layers: a name at the end of their paths, or a regular expression for it. The
    /// first that fits counts, as in PEFT.
    pub rank_pattern: IndexMap<String, usize>,
    /// Other alphas for some layers. To keep the scale when a rank changes, change alpha too.
    pub alpha_pattern: IndexMap<String, f64>,
    /// Whether the scale is α / √r (rsLoRA, Kalajdzievski 2023) rather than α / r.
    pub rank_stabilised: bool,
    /// Whether each row of W + B·A also gets a trained magnitude (DoRA, Liu et al. 2024).
    pub dora: bool,
    /// The dropout probability of the inputs of A in training.
    pub dropout: f64,
    /// The initialisation of A and B.
    pub init: Init,
    /// Which biases are trained.
    pub bias: Biases,
    /// Modules that are trained whole and saved beside the adapters, by the ends of their paths:
    /// `lm_head`, `embed_tokens`, `norm` (all norms).
    pub modules_to_save: Vec<String>,
    /// Whether a head that is the embedding stays so where one of them is in
    /// [`modules_to_save`](Self::modules_to_save): one tensor is trained for both. Otherwise, as in PEFT, the
    /// one that is named gets a copy of its own, and the other stays the model's. Where the model's head is a
    /// matrix of its own it has no effect.
    pub ensure_weight_tying: bool,
    /// For layers that are several in one (GPT-2's `c_attn`, Baichuan's `W_pack`), which of the equal
    /// parts are adapted, each with its own A and B: `c_attn → [true, false, true]`. Others get one
    /// pair for the whole.
    pub enable_lora: BTreeMap<String, Vec<bool>>,
    /// Whether the model's files hold the adapted weights as `[in, out]`, as GPT-2's do. Nothing here
    /// depends on it: it is what PEFT is told.
    pub fan_in_fan_out: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            target_modules: TargetModules::AllLinear,
            exclude_modules: Vec::new(),
            layers_to_transform: None,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
            rank_stabilised: false,
            dora: false,
            dropout: 0.0,
            init: Init::Kaiming,
            bias: Biases::None,
            modules_to_save: Vec::new(),
            ensure_weight_tying: false,
            enable_lora: BTreeMap::new(),
            fan_in_fan_out: false,
        }
    }
}

impl LoraConfig {
    /// The factor in front of B·A, where no pattern says otherwise.
    ///
    /// # Errors
    /// When the rank is 0 or alpha is not a finite positive number.
    pub fn scaling(&self) -> Result<f64> {
        self.scale(self.rank, self.alpha)
    }

    /// α / r, or α / √r.
    pub(super) fn scale(&self, rank: usize, alpha: f64) -> Result<f64> {
        if rank == 0 {
            return Err(Error::input("rank is 0").help("give LoRA a rank of at least 1"));
        }
        if !(alpha.is_finite() && alpha > 0.0) {
            return Err(Error::input(format!("alpha is {alpha}"))
                .help("give a positive number; twice the rank is usual"));
        }
        let rank = rank as f64;
        Ok(alpha / if self.rank_stabilised { rank.sqrt() } else { rank })
    }

    /// Says what cannot be used, whatever the model.
    ///
    /// # Errors
    /// When a value makes no sense or two of them do not go together; the error names them.
    pub fn check(&self) -> Result<()> {
        self.scaling()?;
        for (name, rank) in &self.rank_pattern {
            self.scale(*rank, self.alpha).map_err(|e| e.layer(name))?;
        }
        for (name, alpha) in &self.alpha_pattern {
            self.scale(self.rank, *alpha).map_err(|e| e.layer(name))?;
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::input(format!("dropout is {}", self.dropout))
                .help("give a share from 0 up to, but not including, 1"));
        }
        if self.dora && self.init == Init::Pissa {
            return Err(Error::input("DoRA and PiSSA together are not defined").help("take one of them"));
        }
        if self.dora && !self.enable_lora.is_empty() {
            return Err(Error::input("DoRA on parts of a layer is not defined")
                .help("leave enable_lora empty, or take LoRA"));
        }
        for (name, parts) in &self.enable_lora {
            if !parts.contains(&true) {
                return Err(Error::input(format!("enable_lora of {name:?} enables no part"))
                    .help("enable one: [true, false, true]"));
            }
        }
        if let Some(name) = self.modules_to_save.iter().find(|name| name.is_empty()) {
            return Err(Error::input(format!("modules_to_save has the name {name:?}")));
        }
        Ok(())
    }

    /// Whether head and embedding stay one. As in PEFT 0.21, which knows them by the names `embed_tokens` and
    /// `lm_head`: GPT-2's `wte` alone gets a copy of its own whatever
    /// [`ensure_weight_tying`](Self::ensure_weight_tying) says.
    pub(crate) fn ties(&self) -> bool {
        let named = |wanted: &[&str]| {
            self.modules_to_save.iter().any(|name| wanted.contains(&name.rsplit('.').next().unwrap_or(name)))
        };
        self.ensure_weight_tying && (named(&["embed_tokens", "lm_head"]) || !named(&["wte"]))
    }

    /// Adapts the layers whose path ends in one of these names.
    #[must_use]
    pub fn targets<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.target_modules = TargetModules::Named(names.into_iter().map(Into::into).collect());
        self
    }
}

/// The same config with the ranks and alphas that these pairs have: the commonest rank and its alpha, the
/// others as patterns by whole paths, a rank never without the alpha that keeps its scale.
pub(super) fn scaled(config: &LoraConfig, pairs: &BTreeMap<String, Adapter>) -> LoraConfig {
    let alpha = |pair: &Adapter| {
        let rank = pair.rank() as f64;
        pair.scale() * if config.rank_stabilised { rank.sqrt() } else { rank }
    };
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    pairs.values().for_each(|pair| *counts.entry(pair.rank()).or_default() += 1);
    let Some((rank, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return config.clone() };
    let first = pairs.values().find(|pair| pair.rank() == rank).map_or(config.alpha, alpha);
    let mut new = LoraConfig {
        rank,
        alpha: first,
        rank_pattern: IndexMap::new(),
        alpha_pattern: IndexMap::new(),
        ..config.clone()
    };
    for (path, pair) in pairs {
        let alpha = alpha(pair);
        if pair.rank() != rank {
            new.rank_pattern.insert(path.clone(), pair.rank());
        }
        if pair.rank() != rank || alpha != first {
            new.alpha_pattern.insert(path.clone(), alpha);
        }
    }
    new
}
