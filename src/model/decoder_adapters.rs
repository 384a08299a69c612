//! Adapters of a decoder: initialisation, validation, merging, full fine-tuning.

use super::config::DecoderConfig;
use super::decoder::{Decoder, PositionEncoding};
use super::layers::Linear;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Base, LoraConfig, Target, TargetKind};
use candle_core::Tensor;
use std::collections::BTreeMap;

impl Decoder {
    /// Initialises adapters for this model.
    ///
    /// # Errors
    /// When the config is invalid or does not fit the model.
    pub fn new_adapters(&self, config: &LoraConfig, seed: u64) -> Result<Adapters> {
        let config = LoraConfig { fan_in_fan_out: self.config().fan_in_fan_out(), ..config.clone() };
        self.place(&Adapters::beside(self, &config, &self.targets(), seed, self.device())?)
    }

    /// Checks that these adapters, and all weights that are trained in full, belong to this model.
    ///
    /// # Errors
    /// When one has no layer here or another shape: it would silently do nothing.
    pub fn check(&self, adapters: &Adapters) -> Result<()> {
        adapters.check(&self.targets())?;
        if adapters.wholes().next().is_none() {
            return Ok(());
        }
        let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for target in self.targets() {
            shapes.insert(format!("{}.weight", target.path), target.shape.to_vec());
        }
        shapes.insert(format!("{}.weight", self.head.path()), self.head.weight().shape().to_vec());
        shapes.extend(self.vectors(&|_| true)?.into_iter().map(|(name, v)| (name, v.dims().to_vec())));
        if let PositionEncoding::Learned(table) = &self.positions {
            shapes.insert(table.name().to_string(), table.table().shape().to_vec());
        }
        for (name, tensor) in adapters.wholes() {
            let error = match shapes.get(name) {
                Some(shape) if shape == tensor.dims() => continue,
                Some(shape) => format!("shape {:?} in place of {shape:?}", tensor.dims()),
                None => "this model has no such weight".to_string(),
            };
            return Err(Error::input(error).layer(name).help("these adapters belong to another model"));
        }
        Ok(())
    }

    /// All weights as trained weights, for full fine-tuning: the baseline of LoRA.
    ///
    /// # Errors
    /// When the device has not enough memory.
    pub fn all_trained(&self) -> Result<Adapters> {
        let mut whole = BTreeMap::new();
        let shared = |t: &Target| matches!(t.kind, TargetKind::Head | TargetKind::TiedHead) && self.is_tied();
        for target in self.targets().iter().filter(|t| !shared(t)) {
            whole.insert(format!("{}.weight", target.path), self.matrix(&target.path)?);
        }
        if self.config().unit_head {
            whole.insert(format!("{}.weight", self.head.path()), self.head.matrix()?);
        }
        whole.extend(self.vectors(&|_| true)?);
        if let PositionEncoding::Learned(table) = &self.positions {
            whole.insert(table.name().to_string(), table.table().expand()?);
        }
        let config = LoraConfig { ensure_weight_tying: true, ..Default::default() };
        self.place(&Adapters::from_pairs(config, BTreeMap::new()).with_whole(whole))
    }

    /// Merges the adapters into copies of the weights that they adapt; all others are shared. This model does not
    /// change.
    ///
    /// # Errors
    /// When the adapters belong to another model, or the device has not enough memory.
    pub fn merged(&self, adapters: &Adapters) -> Result<Self> {
        self.check(adapters)?;
        let positions = match &self.positions {
            PositionEncoding::Learned(table) => PositionEncoding::Learned(table.merged(adapters)?),
            rotary => rotary.clone(),
        };
        let max_norm = self.config.max_norm.filter(|_| !self.embedding.is_trained(adapters));
        Ok(Self {
            config: DecoderConfig { max_norm, ..self.config.clone() },
            blocks: self.blocks.iter().map(|block| block.merged(adapters)).collect::<Result<_>>()?,
            norm: self.norm.merged(adapters),
            embedding: self.embedding.merged(adapters)?,
            head: match self.trained_head(adapters) {
                Some(head) => head.merged(adapters)?,
                None => self.head.clone(),
            },
            positions,
            tied_copy: self.tied_copy
                && !self.embedding.is_trained(adapters)
                && self.trained_head(adapters).is_none(),
            ..self.clone()
        })
    }

    /// The adapters that an update after these tokens starts from
    /// ([`Embedding::settled`](super::layers::Embedding::settled)).
    pub(crate) fn settled(
        &self,
        ids: impl IntoIterator<Item = u32>,
        adapters: &Adapters,
    ) -> Result<Adapters> {
        self.embedding.settled(ids, adapters)
    }

    /// The head, if anything of it is trained. In a tied model whose weights stay tied, the trained embedding is the
    /// head. Otherwise a head that is not trained stays on the frozen embedding, as in PEFT.
    pub(super) fn trained_head(&self, adapters: &Adapters) -> Option<Linear> {
        if self.head.is_trained(adapters) {
            return Some(self.head.clone());
        }
        let shared =
            self.is_tied() && adapters.config().ties() && adapters.whole(self.embedding.name()).is_some();
        shared.then(|| self.head.clone().called(self.embedding.path()))
    }
}

impl Base for Decoder {
    fn matrix(&self, path: &str) -> Result<Tensor> {
        let linear = self.linears().chain([&self.head]).find(|linear| linear.path() == path);
        match linear {
            Some(linear) => linear.matrix(),
            None if path == self.embedding.path() => self.embedding.weight().expand(),
            None => Err(Error::input("this model has no such layer").layer(path)),
        }
    }

    fn vectors(&self, fits: &dyn Fn(&str) -> bool) -> Result<Vec<(String, Tensor)>> {
        let biases = self.linears().filter_map(|l| Some((format!("{}.bias", l.path()), l.bias()?.clone())));
        let norms = self.blocks.iter().flat_map(|b| b.norms()).chain([&self.norm]);
        let all = biases.chain(norms.flat_map(|norm| norm.vectors()));
        Ok(all.filter(|(name, _)| fits(name)).collect())
    }
}
