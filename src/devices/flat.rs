//! Adapters and gradients as plain numbers, and what they are without these: how one process tells them to another.

use crate::error::{Error, Result};
use crate::lora::{Adapter, Adapters, Beside, Gradients, LoraConfig};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All of [`Adapters`] but their numbers. PEFT's files would say less: they have no place for the pair that PiSSA
/// subtracts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    config: LoraConfig,
    pairs: Vec<PairLayout>,
    /// Names and shapes of the weights that are trained whole.
    whole: Vec<(String, Vec<usize>)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairLayout {
    path: String,
    a: [usize; 2],
    b: [usize; 2],
    scale: f64,
    beside: Beside,
    magnitude: bool,
    start: bool,
}

impl Adapters {
    /// What they are, without their numbers.
    pub(super) fn layout(&self) -> Result<Layout> {
        let pairs = self.iter().map(|(path, pair)| {
            let ((rank, inner), (out, columns)) = (pair.a().dims2()?, pair.b().dims2()?);
            Ok(PairLayout {
                path: path.to_string(),
                a: [rank, inner],
                b: [out, columns],
                scale: pair.scale(),
                beside: pair.beside().clone(),
                magnitude: pair.magnitude().is_some(),
                start: pair.start().is_some(),
            })
        });
        let whole = self.wholes().map(|(name, tensor)| (name.to_string(), tensor.dims().to_vec()));
        Ok(Layout {
            config: self.config().clone(),
            pairs: pairs.collect::<Result<_>>()?,
            whole: whole.collect(),
        })
    }

    /// The numbers of all trained tensors, in the order of [`tensors`](Self::tensors).
    pub(super) fn numbers(&self) -> Result<Vec<f32>> {
        flat(self.tensors().map(|(_, tensor)| tensor))
    }

    /// The numbers of the pairs that are subtracted, A₀ and B₀ of each.
    pub(super) fn start_numbers(&self) -> Result<Vec<f32>> {
        flat(self.iter().filter_map(|(_, pair)| pair.start()).flat_map(|(a, b)| [a, b]))
    }
}

impl Layout {
    /// The adapters with these numbers, in memory.
    ///
    /// # Errors
    /// When there are more or fewer numbers than these adapters have, or the shapes contradict each other.
    pub(super) fn adapters(&self, numbers: &[f32], start_numbers: &[f32]) -> Result<Adapters> {
        let (mut numbers, mut starts) = (Numbers(numbers), Numbers(start_numbers));
        let mut pairs = BTreeMap::new();
        for layout in &self.pairs {
            let pair = layout.pair(&mut numbers, &mut starts).map_err(|e| e.layer(&layout.path))?;
            pairs.insert(layout.path.clone(), pair);
        }
        let mut whole = BTreeMap::new();
        for (name, shape) in &self.whole {
            whole.insert(name.clone(), numbers.tensor(shape).map_err(|e| e.layer(name))?);
        }
        if !numbers.0.is_empty() || !starts.0.is_empty() {
            let left = numbers.0.len() + starts.0.len();
            return Err(Error::format(format!("adapters came with {left} numbers too many")));
        }
        Ok(Adapters::from_pairs(self.config.clone(), pairs).with_whole(whole))
    }
}

/// The names and shapes of gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GradientLayout {
    tensors: Vec<(String, Vec<usize>)>,
    /// Path, side and tokens of each Σ (A x)(A x)ᵀ.
    seen: Vec<(String, usize, usize)>,
}

impl GradientLayout {
    /// Names, shapes and numbers of gradients.
    pub(super) fn of(gradients: &Gradients) -> Result<(Self, Vec<f32>)> {
        let tensors = gradients.tensors().map(|(name, tensor)| (name.to_string(), tensor.dims().to_vec()));
        let seen = gradients.seen();
        let sides = seen.iter().map(|(path, (sum, tokens))| Ok((path.clone(), sum.dim(0)?, *tokens)));
        let layout = Self { tensors: tensors.collect(), seen: sides.collect::<Result<_>>()? };
        let all = gradients.tensors().map(|(_, tensor)| tensor).chain(seen.values().map(|(sum, _)| sum));
        Ok((layout, flat(all)?))
    }

    /// The gradients with these numbers, for these adapters.
    ///
    /// # Errors
    /// When a name or a shape is not one of the adapters', or there are not enough numbers.
    pub(super) fn gradients(&self, numbers: &mut Numbers, of: &Adapters) -> Result<Gradients> {
        let known: BTreeMap<String, &Tensor> = of.tensors().collect();
        let mut all = Gradients::new();
        for (name, shape) in &self.tensors {
            if known.get(name).is_none_or(|tensor| tensor.dims() != shape.as_slice()) {
                return Err(Error::format(format!("a gradient {name} of {shape:?} for no such tensor")));
            }
            all.add_tensor(name.clone(), numbers.tensor(shape)?)?;
        }
        for (path, side, tokens) in &self.seen {
            if of.get(path).is_none() {
                return Err(Error::format(format!("what {path} has seen, without such an adapter")));
            }
            all.see(path.clone(), numbers.tensor(&[*side, *side])?, *tokens)?;
        }
        Ok(all)
    }
}

impl PairLayout {
    fn pair(&self, numbers: &mut Numbers, starts: &mut Numbers) -> Result<Adapter> {
        let (a, b) = (numbers.tensor(&self.a)?, numbers.tensor(&self.b)?);
        let pair = Adapter::new(a, b, self.scale)?.standing_beside(self.beside.clone())?;
        let pair = match self.magnitude {
            true => pair.with_magnitude(numbers.tensor(&self.b[..1])?)?,
            false => pair,
        };
        match self.start {
            true => pair.starting_from(starts.tensor(&self.a)?, starts.tensor(&self.b)?),
            false => Ok(pair),
        }
    }
}

/// Numbers that are taken from the front.
pub(super) struct Numbers<'a>(pub &'a [f32]);

impl Numbers<'_> {
    /// The next tensor of this shape.
    pub(super) fn tensor(&mut self, shape: &[usize]) -> Result<Tensor> {
        let count = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        match count.and_then(|count| self.0.split_at_checked(count)) {
            Some((own, rest)) => {
                self.0 = rest;
                Ok(Tensor::from_slice(own, shape, &Device::Cpu)?)
            }
            None => {
                Err(Error::format(format!("a tensor of {shape:?} is told with {} numbers", self.0.len())))
            }
        }
    }
}

/// The numbers of tensors one after the other, in memory.
pub(super) fn flat<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for tensor in tensors {
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return Err(Error::compute(format!("numbers of {:?} are not told in f32", tensor.dtype())));
        }
        all.extend(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::DropoutPass;

    fn tensor(shape: (usize, usize), begin: f32) -> Tensor {
        let values: Vec<f32> = (0..shape.0 * shape.1).map(|i| begin + i as f32 / 7.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// All kinds: plain, DoRA, beside an embedding, merged parts, with a start; and a whole weight.
    fn adapters() -> Adapters {
        let pair =
            |n: usize, begin: f32| Adapter::new(tensor((2, n), begin), tensor((6, 2), -begin), 0.3).unwrap();
        let magnitude = Tensor::new(&[1f32, 2., 3., 4., 5., 6.], &Device::Cpu).unwrap();
        let parts =
            Adapter::merged(tensor((4, 3), 1.0), tensor((4, 2), 2.0), &[true, false, true], 1.0 / 3.0);
        let start = pair(3, 4.0).starting_from(tensor((2, 3), 9.0), tensor((6, 2), 8.0));
        let table = Adapter::embedding(tensor((2, 5), 0.5), tensor((3, 2), 0.25), 2.0);
        let pairs = [
            ("dora", pair(4, 1.5).with_magnitude(magnitude).unwrap()),
            ("parts", parts.unwrap()),
            ("plain", pair(5, 0.1)),
            ("start", start.unwrap()),
            ("table", table.unwrap()),
        ];
        let pairs = pairs.into_iter().map(|(path, pair)| (path.to_string(), pair)).collect();
        let whole = [("norm.weight".to_string(), tensor((1, 4), 3.0).flatten_all().unwrap())].into();
        let config = LoraConfig { rank: 2, alpha: 0.6, dropout: 0.1, ..LoraConfig::default() };
        Adapters::from_pairs(config, pairs).with_whole(whole)
    }

    #[test]
    fn adapters_are_told_whole() -> Result<()> {
        let old = adapters();
        let text = serde_json::to_string(&old.layout()?).map_err(Error::compute)?;
        let layout: Layout = serde_json::from_str(&text).map_err(Error::compute)?;
        assert_eq!(layout, old.layout()?);
        let new = layout.adapters(&old.numbers()?, &old.start_numbers()?)?;
        assert_eq!(new.layout()?, layout);
        assert_eq!((new.numbers()?, new.start_numbers()?), (old.numbers()?, old.start_numbers()?));
        assert_eq!(new.config(), old.config());
        for ((path, new), (_, old)) in new.iter().zip(old.iter()) {
            let values =
                |pair: &Adapter| pair.delta().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(new), values(old), "{path}");
            assert_eq!((new.scale().to_bits(), new.rank()), (old.scale().to_bits(), old.rank()), "{path}");
        }
        // Dropout is drawn by the place of a layer among all.
        let pass = DropoutPass { seed: 1, step: 2, pack: 3 };
        let drawn = |adapters: &Adapters| format!("{:?}", adapters.training(pass).dropout("plain"));
        assert_eq!(drawn(&new), drawn(&old));
        assert_ne!(drawn(&new), "None");
        Ok(())
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() -> Result<()> {
        let old = adapters();
        let (layout, numbers, starts) = (old.layout()?, old.numbers()?, old.start_numbers()?);
        let refused = |layout: &Layout, numbers: &[f32], starts: &[f32]| {
            layout.adapters(numbers, starts).map(|_| ()).unwrap_err().to_string()
        };
        let short = refused(&layout, &numbers[1..], &starts);
        assert_eq!(short, "layer norm.weight: a tensor of [4] is told with 3 numbers");
        let more = refused(&layout, &[&numbers[..], &[0.0]].concat(), &starts);
        assert_eq!(more, "adapters came with 1 numbers too many");
        let start = refused(&layout, &numbers, &starts[..7]);
        assert_eq!(start, "layer start: a tensor of [6, 2] is told with 1 numbers");
        let mut harmful = layout.clone();
        harmful.pairs[0].a = [usize::MAX, 16];
        assert!(refused(&harmful, &numbers, &starts).starts_with("layer dora: a tensor of [1844"));
        let mut odd = layout.clone();
        odd.pairs[2].beside = Beside::Parts(vec![false]);
        assert!(refused(&odd, &numbers, &starts).starts_with("layer plain: "));
        Ok(())
    }
}
