//! The adapters of a model by the path of their layer.

use super::config::scaled;
use super::dropout::{Dropout, DropoutPass};
use super::target::{Base, Target, TargetKind};
use super::tensor_names::{A, B, EMBEDDING_A, EMBEDDING_B, MAGNITUDE};
use super::{Adapter, Beside, LoraConfig, TargetModules, init};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The trained parameters: one adapter for each adapted layer, in the order of their paths, and weights that are
/// trained in full.
///
/// Cheap to clone: tensors are shared and never changed in place. The default is none at all.
#[derive(Clone, Default)]
pub struct Adapters {
    config: LoraConfig,
    pairs: BTreeMap<String, Adapter>,
    /// By their names in the model's files: `lm_head.weight`.
    whole: BTreeMap<String, Tensor>,
    pass: Option<DropoutPass>,
    /// Fields of a PEFT config that are not used here.
    foreign: Arc<Map<String, Value>>,
    /// Notes from reading the files.
    pub(super) notes: Arc<Vec<String>>,
}

impl Adapters {
    /// Initialises adapters as [`LoraConfig::init`] says: training starts from the base model.
    ///
    /// # Errors
    /// When the config is invalid, names an unknown module, has a rank that is too large for a layer,
    /// or needs the weights of the model ([`beside`](Self::beside)).
    pub fn new(config: &LoraConfig, targets: &[Target], seed: u64, device: &Device) -> Result<Self> {
        Self::begin(config, targets, None, seed, device)
    }

    /// Initialises adapters with access to the weights of the model, which some initialisations need.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn beside(
        base: &dyn Base,
        config: &LoraConfig,
        targets: &[Target],
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        Self::begin(config, targets, Some(base), seed, device)
    }

    fn begin(
        config: &LoraConfig,
        targets: &[Target],
        base: Option<&dyn Base>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        let chosen = config.select(targets)?;
        let tied = targets.iter().any(|t| t.kind == TargetKind::TiedHead);
        if config.ensure_weight_tying
            && tied
            && let Some(target) =
                chosen.iter().find(|t| matches!(t.kind, TargetKind::Embedding | TargetKind::TiedHead))
        {
            return Err(Error::input(
                "one pair for embedding and head (ensure_weight_tying) is not supported",
            )
            .layer(&target.path)
            .help("name it in modules_to_save, or leave ensure_weight_tying out"));
        }
        let mut pairs = BTreeMap::new();
        for (index, target) in targets.iter().enumerate().filter(|(_, t)| chosen.contains(t)) {
            let pair = init::adapter(config, target, base, seed, index as u64, device)
                .map_err(|e| e.layer(&target.path))?;
            pairs.insert(target.path.clone(), pair);
        }
        let whole = init::whole(config, targets, &pairs, base)?;
        let mut config = config.clone();
        if config.ensure_weight_tying && !tied {
            config.ensure_weight_tying = false; // the head has a matrix of its own
        }
        let table = targets.iter().find(|t| t.kind == TargetKind::Embedding).filter(|_| config.ties());
        if let Some(table) = table.filter(|table| whole.contains_key(&format!("{}.weight", table.path))) {
            // As PEFT writes what it has tied.
            config.modules_to_save.retain(|name| !matches!(name.as_str(), "lm_head") && *name != table.path);
            config.modules_to_save.push(table.path.clone());
        }
        Ok(Self { config, pairs, whole, ..Self::default() })
    }

    /// Adapters from given pairs, by the paths of their layers. They must be those that the config
    /// selects: what [`save`](Self::save) tells PEFT is taken from there.
    pub fn from_pairs(config: LoraConfig, pairs: BTreeMap<String, Adapter>) -> Self {
        Self { config, pairs, ..Self::default() }
    }

    /// The same with weights that are trained whole, by their names in the model's files.
    #[must_use]
    pub fn with_whole(self, whole: BTreeMap<String, Tensor>) -> Self {
        Self { whole, ..self }
    }

    pub(super) fn with_foreign(self, fields: Map<String, Value>) -> Self {
        Self { foreign: Arc::new(fields), ..self }
    }

    pub(super) fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes: Arc::new(notes), ..self }
    }

    pub(super) fn foreign(&self) -> &Map<String, Value> {
        &self.foreign
    }

    /// Checks that each adapter has its layer among these [targets](crate::model::Decoder::targets) of a model. An
    /// adapter without a layer would silently do nothing.
    ///
    /// Of the weights that are trained in full, it checks those of these layers;
    /// [`Decoder::check`](crate::model::Decoder::check) also checks norms.
    ///
    /// # Errors
    /// When an adapter has no layer, or a layer of another shape.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::Device;
    /// use lorascope::lora::{Adapters, LoraConfig, Target};
    ///
    /// let layer = |out| [Target::linear("model.layers.0.mlp.up_proj", [out, 16])];
    /// let adapters = Adapters::new(&LoraConfig::default(), &layer(32), 0, &Device::Cpu)?;
    /// adapters.check(&layer(32))?;
    /// assert_eq!(
    ///     adapters.check(&layer(48)).unwrap_err().to_string(),
    ///     "layer model.layers.0.mlp.up_proj: an adapter of 32×16 beside a weight of 48×16; \
    ///      these adapters belong to another model"
    /// );
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn check(&self, targets: &[Target]) -> Result<()> {
        let known: BTreeMap<&str, &Target> = targets.iter().map(|t| (t.path.as_str(), t)).collect();
        for (path, pair) in self.iter() {
            let [out, inner] = pair.shape();
            let error = match known.get(path) {
                Some(target) if target.shape == pair.shape() => {
                    if (target.kind == TargetKind::Embedding) == (*pair.beside() == Beside::Embedding) {
                        continue;
                    }
                    format!("an adapter of a {:?} layer beside another kind", pair.beside())
                }
                Some(Target { shape: [rows, columns], .. }) => {
                    format!("an adapter of {out}×{inner} beside a weight of {rows}×{columns}")
                }
                None => "this model has no linear layer for this adapter".to_string(),
            };
            return Err(Error::input(error).layer(path).help("these adapters belong to another model"));
        }
        for (name, tensor) in &self.whole {
            let path = name.rsplit_once('.').map_or(name.as_str(), |(path, _)| path);
            let Some(target) = known.get(path) else { continue };
            let shape = if name.ends_with(".bias") { &target.shape[..1] } else { &target.shape[..] };
            if let ([rows, columns], [known, same]) = (tensor.dims(), shape)
                && columns == same
                && target.kind != TargetKind::Linear
            {
                if rows == known {
                    continue;
                }
                let what = if target.kind == TargetKind::Embedding { "embedding" } else { "head" };
                return Err(Error::input(format!("the {what} has {rows} rows beside {known}"))
                    .layer(name)
                    .help("tokens were added to the model that this was trained on: give that model"));
            }
            if tensor.dims() != shape {
                return Err(Error::input(format!("shape {:?} beside a weight of {shape:?}", tensor.dims()))
                    .layer(name)
                    .help("these adapters belong to another model"));
            }
        }
        Ok(())
    }

    /// The same adapters with a config that describes them: their layers, ranks and alphas.
    pub(crate) fn described(&self, fan_in_fan_out: bool) -> Self {
        let mut config = LoraConfig { fan_in_fan_out, ..self.config.clone() };
        if !self.pairs.is_empty() {
            config.target_modules = TargetModules::Named(self.pairs.keys().cloned().collect());
            (config.exclude_modules, config.layers_to_transform) = (Vec::new(), None);
            config.dora = self.pairs.values().any(|pair| pair.magnitude().is_some());
            config = scaled(&config, &self.pairs);
        }
        Self { config, ..self.clone() }
    }

    /// The config they were made with.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The adapter of the layer at this path.
    pub fn get(&self, path: &str) -> Option<&Adapter> {
        self.pairs.get(path)
    }

    /// The weight of this name that is trained whole.
    pub fn whole(&self, name: &str) -> Option<&Tensor> {
        if self.whole.is_empty() { None } else { self.whole.get(name) }
    }

    /// The weights that are trained whole.
    pub fn wholes(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.whole.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// All adapters, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Adapter)> {
        self.pairs.iter().map(|(path, adapter)| (path.as_str(), adapter))
    }

    /// How many layers are adapted.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.whole.is_empty()
    }

    /// The number of trained parameters.
    pub fn parameters(&self) -> usize {
        let pairs: usize = self.pairs.values().map(Adapter::parameters).sum();
        pairs + self.whole.values().map(Tensor::elem_count).sum::<usize>()
    }

    /// The same adapters for one training pass with dropout. Without this call nothing is dropped.
    #[must_use]
    pub fn training(&self, pass: DropoutPass) -> Self {
        Self { pass: Some(pass), ..self.clone() }
    }

    /// The dropout of the layer at this path in this pass.
    pub(crate) fn dropout(&self, path: &str) -> Option<Dropout> {
        let pass = self.pass.filter(|_| self.config.dropout > 0.0)?;
        let layer = self.pairs.keys().position(|known| known == path)?;
        Some(Dropout::new(self.config.dropout, pass, layer as u64))
    }

    /// The trained tensors with PEFT's names for them (`….lora_A`, `….lora_B`), in a fixed order.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let pairs = self.iter().flat_map(|(path, pair)| named(path, pair));
        pairs.chain(self.whole.iter().map(|(name, tensor)| (name.clone(), tensor)))
    }

    /// The same adapters with other values, made from each tensor and its name.
    ///
    /// # Errors
    /// When `value` fails or gives another shape.
    pub fn map(&self, mut value: impl FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        for (path, pair) in &self.pairs {
            let mut tensors = named(path, pair).into_iter().map(|(name, tensor)| value(&name, tensor));
            let mut next = || tensors.next().unwrap_or_else(|| Err(Error::compute("a tensor is missing")));
            let (a, b) = (next()?, next()?);
            let magnitude = pair.magnitude().map(|_| next()).transpose()?;
            let new = pair.with_values(a, b, magnitude).map_err(|e| e.layer(path))?;
            pairs.insert(path.clone(), new);
        }
        let mut whole = BTreeMap::new();
        for (name, tensor) in &self.whole {
            let new = value(name, tensor)?;
            if new.dims() != tensor.dims() {
                return Err(Error::compute("a tensor changed its shape").layer(name));
            }
            whole.insert(name.clone(), new);
        }
        let (config, foreign, notes) = (self.config.clone(), self.foreign.clone(), self.notes.clone());
        Ok(Self { config, pairs, whole, pass: self.pass, foreign, notes })
    }

    /// The same with each tensor on the device that the name of a trained one says; a pair that is subtracted goes
    /// with its own.
    ///
    /// # Errors
    /// When a device has no room.
    pub fn beside_layers<'a>(&self, device_of: impl Fn(&str) -> Option<&'a Device>) -> Result<Self> {
        let there = |name: &str, tensor: &Tensor| match device_of(name) {
            Some(device) => Ok(tensor.to_device(device)?),
            None => Ok(tensor.clone()),
        };
        let mut all = self.map(|name, tensor| there(name, tensor))?;
        for pair in all.pairs.values_mut() {
            if let Some((a, b)) = pair.start() {
                let device = pair.a().device();
                let (a, b) = (a.to_device(device)?, b.to_device(device)?);
                *pair = pair.clone().starting_from(a, b)?;
            }
        }
        Ok(all)
    }
}

/// The trained tensors of one pair with their names.
fn named<'a>(path: &str, pair: &'a Adapter) -> Vec<(String, &'a Tensor)> {
    let (a, b) = match pair.beside() {
        Beside::Embedding => (EMBEDDING_A, EMBEDDING_B),
        _ => (A, B),
    };
    let mut all = vec![(format!("{path}.{a}"), pair.a()), (format!("{path}.{b}"), pair.b())];
    all.extend(pair.magnitude().map(|magnitude| (format!("{path}.{MAGNITUDE}"), magnitude)));
    all
}
