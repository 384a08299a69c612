//! The gradients of what is trained.

use super::AdapterGradient;
use super::tensor_names::{A, B, EMBEDDING_A, EMBEDDING_B, MAGNITUDE};
use super::{Adapter, Beside};
use crate::error::Result;
use crate::ops;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

/// The gradient of each trained tensor, under the names of [`Adapters::tensors`](super::Adapters::tensors).
#[derive(Clone, Default)]
pub struct Gradients {
    tensors: BTreeMap<String, Tensor>,
    /// Σ (A x)(A x)ᵀ by the adapter's path, and of how many tokens.
    seen: BTreeMap<String, (Tensor, usize)>,
}

impl Gradients {
    /// No gradient yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what one backward pass found for the adapter at `path`, in place: copy a tensor that is
    /// to outlive the next call.
    ///
    /// # Errors
    /// When the shapes differ from what was added before.
    pub fn add(&mut self, path: &str, adapter: &Adapter, gradient: AdapterGradient) -> Result<()> {
        let (a, b) = match adapter.beside() {
            Beside::Embedding => (EMBEDDING_A, EMBEDDING_B),
            _ => (A, B),
        };
        self.add_tensor(format!("{path}.{a}"), gradient.a)?;
        self.add_tensor(format!("{path}.{b}"), gradient.b)?;
        self.see(path.to_string(), gradient.seen, gradient.tokens)?;
        match gradient.magnitude {
            Some(magnitude) => self.add_tensor(format!("{path}.{MAGNITUDE}"), magnitude),
            None => Ok(()),
        }
    }

    /// Adds to the gradient of one tensor, in place.
    ///
    /// # Errors
    /// When the shape differs from what was added before.
    pub fn add_tensor(&mut self, name: String, gradient: Tensor) -> Result<()> {
        add(&mut self.tensors, name, gradient)
    }

    /// Adds those of another pass, in place.
    ///
    /// # Errors
    /// When a shape differs from what was added before.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (name, tensor) in other.tensors {
            self.add_tensor(name, tensor)?;
        }
        for (path, (sum, tokens)) in other.seen {
            self.see(path, sum, tokens)?;
        }
        Ok(())
    }

    /// Adds Σ (A x)(A x)ᵀ of so many tokens for the adapter at `path`.
    ///
    /// # Errors
    /// When the shape differs from what was added before.
    pub(crate) fn see(&mut self, path: String, more: Tensor, of: usize) -> Result<()> {
        let seen = match self.seen.remove(&path) {
            None => (more, of),
            Some((sum, tokens)) => (ops::add(sum, &more)?, tokens + of),
        };
        self.seen.insert(path, seen);
        Ok(())
    }

    /// A copy that the next call of [`add`](Self::add) leaves as it is.
    ///
    /// # Errors
    /// When a device has no room.
    pub(crate) fn copied(&self) -> Result<Self> {
        let tensors = self.tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.copy()?)));
        let seen = self.seen.iter().map(|(path, (sum, tokens))| Ok((path.clone(), (sum.copy()?, *tokens))));
        Ok(Self { tensors: tensors.collect::<Result<_>>()?, seen: seen.collect::<Result<_>>()? })
    }

    /// The same in memory: one copy for all that lies on another device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn on_host(self) -> Result<Self> {
        let away = self.all().map(Tensor::device).find(|device| !device.is_cpu()).cloned();
        match &away {
            None => Ok(self),
            Some(device) => self.with_flat(&self.flat(device)?.to_device(&Device::Cpu)?),
        }
    }

    /// The same with each on the device of its tensor, which the name says.
    ///
    /// # Errors
    /// When a device has no room.
    pub fn beside<'a>(self, device_of: impl Fn(&str) -> &'a Device) -> Result<Self> {
        let tensors = self.tensors.into_iter().map(|(name, tensor)| {
            let tensor = tensor.to_device(device_of(&name))?;
            Ok((name, tensor))
        });
        let seen = self.seen.into_iter().map(|(path, (sum, tokens))| {
            let sum = sum.to_device(device_of(&format!("{path}.")))?;
            Ok((path, (sum, tokens)))
        });
        Ok(Self { tensors: tensors.collect::<Result<_>>()?, seen: seen.collect::<Result<_>>()? })
    }

    /// All numbers one after the other on a device, in f32: the gradients in the order of their names, then what was
    /// seen.
    ///
    /// # Errors
    /// When there are none, or the device fails.
    pub(crate) fn flat(&self, device: &Device) -> Result<Tensor> {
        let flat = |tensor: &Tensor| Ok(tensor.to_device(device)?.to_dtype(DType::F32)?.flatten_all()?);
        Ok(Tensor::cat(&self.all().map(flat).collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// The same names, shapes and numbers of tokens with other numbers, in the order of [`flat`](Self::flat).
    ///
    /// # Errors
    /// When there are fewer numbers.
    pub(crate) fn with_flat(&self, flat: &Tensor) -> Result<Self> {
        let mut at = 0;
        let mut own = |like: &Tensor| -> Result<Tensor> {
            let part = flat.narrow(0, at, like.elem_count())?.reshape(like.shape())?;
            at += like.elem_count();
            Ok(part.copy()?)
        };
        let tensors =
            self.tensors.iter().map(|(name, t)| Ok((name.clone(), own(t)?))).collect::<Result<_>>()?;
        let seen = self.seen.iter().map(|(path, (sum, n))| Ok((path.clone(), (own(sum)?, *n))));
        Ok(Self { tensors, seen: seen.collect::<Result<_>>()? })
    }

    /// How many numbers [`flat`](Self::flat) has.
    #[cfg(any(test, feature = "nccl"))]
    pub(crate) fn numbers(&self) -> usize {
        self.all().map(Tensor::elem_count).sum()
    }

    /// Whether the names and shapes are the same.
    #[cfg(any(test, feature = "nccl"))]
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let names = |of: &Self| -> Vec<String> { of.tensors.keys().chain(of.seen.keys()).cloned().collect() };
        names(self) == names(other) && self.all().zip(other.all()).all(|(a, b)| a.dims() == b.dims())
    }

    /// The sum of several that are alike, where the sum of their [`flat`](Self::flat) is known.
    ///
    /// # Errors
    /// When it has fewer numbers.
    #[cfg(any(test, feature = "nccl"))]
    pub(crate) fn of_flat_sum<'a>(all: impl IntoIterator<Item = &'a Self>, sum: &Tensor) -> Result<Self> {
        let mut all = all.into_iter();
        let Some(first) = all.next() else { return Ok(Self::new()) };
        let mut whole = first.with_flat(sum)?;
        for (path, (_, tokens)) in all.flat_map(|more| &more.seen) {
            if let Some((_, so_far)) = whole.seen.get_mut(path) {
                *so_far += tokens;
            }
        }
        Ok(whole)
    }

    fn all(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values().chain(self.seen.values().map(|(sum, _)| sum))
    }

    /// Σ (A x)(A x)ᵀ over the tokens so far, `[r, r]`, and their number, by the path of the adapter.
    pub(crate) fn seen(&self) -> &BTreeMap<String, (Tensor, usize)> {
        &self.seen
    }

    /// The gradient of a tensor, by its name: `model.layers.0.self_attn.q_proj.lora_A`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All of them, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Takes the gradient of a tensor out.
    pub fn take(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// How many tensors have a gradient.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The names of those that hold a NaN or an infinity, in the order of their names;
    /// [`Decoder::last_not_finite`](crate::model::Decoder::last_not_finite) knows where they lie.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn not_finite(&self) -> Result<Vec<String>> {
        let broken = |(name, tensor): (&String, &Tensor)| match ops::is_finite(tensor) {
            Ok(true) => None,
            Ok(false) => Some(Ok(name.clone())),
            Err(error) => Some(Err(error)),
        };
        self.tensors.iter().filter_map(broken).collect()
    }

    /// √(Σ g²) over all gradients, summed in f64. Those of a tensor on a GPU are summed there in f32, and each GPU is
    /// read once.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0f64;
        let mut elsewhere: Vec<(Device, Vec<Tensor>)> = Vec::new();
        for tensor in self.tensors.values() {
            if tensor.device().is_cpu() {
                sum += tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
                continue;
            }
            let square = tensor.to_dtype(DType::F32)?.sqr()?.sum_all()?;
            match elsewhere.iter_mut().find(|(device, _)| device.same_device(tensor.device())) {
                Some((_, squares)) => squares.push(square),
                None => elsewhere.push((tensor.device().clone(), vec![square])),
            }
        }
        for (_, squares) in elsewhere {
            sum += total(&squares)?;
        }
        Ok(sum.sqrt())
    }
}

/// The sum of scalars on one device, which is read once.
fn total(scalars: &[Tensor]) -> Result<f64> {
    Ok(Tensor::stack(scalars, 0)?.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
}

fn add(sums: &mut BTreeMap<String, Tensor>, name: String, more: Tensor) -> Result<()> {
    let sum = match sums.remove(&name) {
        None => more,
        Some(sum) => ops::add(sum, &more)?,
    };
    sums.insert(name, sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adding flat numbers gives what adding each tensor does, and counts the tokens.
    #[test]
    fn sums_of_flat_numbers_are_those_of_the_tensors() -> Result<()> {
        let values = |n: usize, by: f32| (0..n).map(|i| (i as f32 * by).sin() * 3.0).collect::<Vec<f32>>();
        let some = |by: f32, tokens: usize| -> Result<Gradients> {
            let tensor = |n: usize, m: usize, by| Tensor::from_vec(values(n * m, by), (n, m), &Device::Cpu);
            let mut all = Gradients::new();
            all.add_tensor("q.lora_B".to_string(), tensor(5, 2, by)?)?;
            all.add_tensor("q.lora_A".to_string(), tensor(2, 7, by + 0.1)?.t()?)?;
            all.add_tensor("norm".to_string(), tensor(1, 4, by + 0.2)?)?;
            all.see("q".to_string(), tensor(2, 2, by + 0.3)?, tokens)?;
            Ok(all)
        };
        let (a, b) = (some(0.37, 11)?, some(0.53, 30)?);
        assert!(a.is_like(&b) && a.numbers() == 10 + 14 + 4 + 4);
        let sum = (a.flat(&Device::Cpu)? + b.flat(&Device::Cpu)?)?;
        assert_eq!(sum.dims(), [a.numbers()]);
        let flat = Gradients::of_flat_sum([&a, &b], &sum)?;
        let mut merged = a.on_host()?;
        merged.merge(b)?;
        assert!(flat.is_like(&merged) && flat.len() == 3);
        let numbers = |of: &Gradients| -> Result<Vec<f32>> { Ok(of.flat(&Device::Cpu)?.to_vec1::<f32>()?) };
        assert_eq!(numbers(&flat)?, numbers(&merged)?);
        assert_eq!((flat.seen()["q"].1, merged.seen()["q"].1), (41, 41));
        let mut other = some(0.1, 1)?;
        other.take("norm");
        assert!(!flat.is_like(&other));
        assert!(Gradients::of_flat_sum([&flat], &sum.narrow(0, 0, 31)?).is_err());
        Ok(())
    }

    /// What a GPU sums is what the processor sums, but for the rounding of f32.
    #[test]
    fn device_sums_of_squares_are_read_at_once() -> Result<()> {
        let values = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin() * 3.0).collect::<Vec<f32>>();
        let mut all = Gradients::new();
        let mut squares = Vec::new();
        for (name, n) in [("a", 7), ("b", 1000), ("c", 33)] {
            let tensor = Tensor::from_vec(values(n), n, &Device::Cpu)?;
            squares.push(tensor.sqr()?.sum_all()?);
            all.add_tensor(name.to_string(), tensor)?;
        }
        let (norm, apart) = (all.norm()?, total(&squares)?.sqrt());
        assert!(norm > 60.0 && (apart / norm - 1.0).abs() < 1e-6, "{norm} and {apart}");
        Ok(())
    }
}
