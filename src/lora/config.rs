//! What to adapt and how strongly.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which linear layers get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetModules {
    /// Every linear layer of the blocks; the head is left as it is.
    #[default]
    AllLinear,
    /// Those whose path ends in one of these names: `q_proj`, `mlp.down_proj`.
    Named(Vec<String>),
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
    /// Whether the scale is α / √r (rsLoRA) rather than α / r.
    pub rank_stabilised: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, target_modules: TargetModules::AllLinear, rank_stabilised: false }
    }
}

impl LoraConfig {
    /// The factor in front of B·A.
    ///
    /// # Errors
    /// When the rank is 0 or alpha is not a finite positive number.
    pub fn scaling(&self) -> Result<f64> {
        if self.rank == 0 {
            return Err(Error::input("rank is 0").help("give LoRA a rank of at least 1"));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(Error::input(format!("alpha is {}", self.alpha))
                .help("give a positive number; twice the rank is usual"));
        }
        let rank = self.rank as f64;
        Ok(self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank })
    }

    /// Adapts the layers whose path ends in one of these names.
    #[must_use]
    pub fn targets<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.target_modules = TargetModules::Named(names.into_iter().map(Into::into).collect());
        self
    }

    /// Which of the given module paths are adapted, in their order.
    ///
    /// # Errors
    /// When a name fits none of them; the error lists the names that would.
    pub fn select<'a>(&self, paths: &[&'a str]) -> Result<Vec<&'a str>> {
        let names = match &self.target_modules {
            TargetModules::AllLinear => return Ok(paths.to_vec()),
            TargetModules::Named(names) => names,
        };
        let fits = |path: &str, name: &str| {
            path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let known = || {
            let mut known: Vec<&str> = paths.iter().map(|p| p.rsplit('.').next().unwrap_or(p)).collect();
            known.sort_unstable();
            known.dedup();
            known.join(", ")
        };
        if names.is_empty() {
            return Err(Error::input("no target module is named").help(format!("name some of {}", known())));
        }
        for name in names {
            if !paths.iter().any(|path| fits(path, name)) {
                return Err(Error::input(format!("unknown target module {name:?}"))
                    .help(format!("this model has {}", known())));
            }
        }
        Ok(paths.iter().filter(|path| names.iter().any(|name| fits(path, name))).copied().collect())
    }
}
