//! The layer and the module of an adapter, read from its path; search by the end of a path.

use crate::error::{Error, Result};
use std::collections::HashSet;

/// The layer and the module that a module path names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct LayerPlace {
    /// The layer's number, when the path has one: 3 in `model.layers.3.self_attn.q_proj`.
    pub layer: Option<usize>,
    /// The module inside the layer: `q_proj`.
    pub module: String,
}

impl LayerPlace {
    /// Reads a module path. The first number is the layer; the module is the last part, or begins
    /// before a second number (`experts.5.w1`).
    ///
    /// # Examples
    /// ```
    /// use lorascope::spectrum::LayerPlace;
    ///
    /// let place = LayerPlace::of("base_model.model.model.layers.3.self_attn.q_proj");
    /// assert_eq!((place.layer, place.module.as_str()), (Some(3), "q_proj"));
    /// assert_eq!(LayerPlace::of("model.layers.3.mlp.experts.5.w1").module, "experts.5.w1");
    /// assert_eq!(LayerPlace::of("lm_head"), LayerPlace { layer: None, module: "lm_head".into() });
    /// ```
    pub fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('.').collect();
        let mut numbers =
            parts.iter().enumerate().filter_map(|(at, part)| Some((at, part.parse::<usize>().ok()?)));
        let layer = numbers.next();
        let last = parts.len() - 1;
        let begin = match numbers.next() {
            Some((second, _)) => second - 1,
            None => last,
        };
        // A path that ends in its layer number is named by all that stands before it.
        let module = match layer {
            Some((at, _)) if at == last => parts[..last].join("."),
            Some((at, _)) => parts[begin.max(at + 1)..].join("."),
            None => parts[begin..].join("."),
        };
        Self { layer: layer.map(|(_, number)| number), module }
    }

    /// The places of all paths of one model. Where short module names do not tell two adapters
    /// apart (an encoder's and a decoder's `q_proj`), the whole path without the layer number does.
    pub(super) fn of_all<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Vec<Self> {
        let mut seen = HashSet::new();
        let distinct = paths.clone().all(|path| seen.insert(Self::of(path)));
        if distinct {
            return paths.map(Self::of).collect();
        }
        let long = |path: &str| {
            let layer = Self::of(path).layer;
            let mut parts: Vec<&str> = path.split('.').collect();
            if let Some(at) = parts.iter().position(|part| part.parse::<usize>().is_ok()) {
                parts.remove(at);
            }
            Self { layer, module: parts.join(".") }
        };
        paths.map(long).collect()
    }
}

/// Whether a path is this name, or ends in it after a dot.
pub(crate) fn ends_in(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Finds the name that equals `name` or ends in it after a dot: `layers.3.self_attn.q_proj`. `None` if there is none.
///
/// # Errors
/// When several names end in it; the error lists some.
pub(crate) fn called<'a>(names: impl IntoIterator<Item = &'a str>, name: &str) -> Result<Option<&'a str>> {
    const NAMED: usize = 3;
    let mut found = Vec::new();
    for one in names {
        if one == name {
            return Ok(Some(one));
        }
        if ends_in(one, name) {
            found.push(one);
        }
    }
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => {
            let more = if found.len() > NAMED { ", …" } else { "" };
            let some: Vec<&str> = found.iter().take(NAMED).copied().collect();
            Err(Error::input(format!("{} layers are called {name:?}", found.len()))
                .help(format!("say which: {}{more}", some.join(", "))))
        }
    }
}

/// Where a module stands in a block: attention before feed-forward, in the order that data flows;
/// modules of other names come after those.
pub(super) fn order(module: &str) -> usize {
    const FLOW: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let last = module.rsplit('.').next().unwrap_or(module);
    FLOW.iter().position(|name| *name == last).unwrap_or(FLOW.len())
}

/// Whether `path` contains the dotted parts of `part` in sequence: `layers.3` in `model.layers.3.mlp`, but
/// not in `model.layers.31.mlp`.
pub(super) fn contains(path: &str, part: &str) -> bool {
    let path: Vec<&str> = path.split('.').collect();
    let part: Vec<&str> = part.split('.').collect();
    // `c_attn` also means the parts of a merged layer, `c_attn[0]`.
    let equal = |(have, want): (&&str, &&str)| {
        have == want || have.split_once('[').is_some_and(|(name, _)| name == *want)
    };
    path.windows(part.len()).any(|window| window.iter().zip(&part).all(equal))
}
