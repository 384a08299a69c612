//! One low-rank pair and its products.

use super::dropout::Dropout;
use crate::error::{Error, Result};
use crate::ops::matmul::{Form, matmul, matmul_add};
use crate::ops::shortened;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// A trained pair A, B of one frozen layer: y = W x + scale·B A x.
///
/// The layer is a linear layer; an embedding, for which columns of A are looked up
/// ([`embedding`](Self::embedding)); or a fused weight of n equal parts ([`merged`](Self::merged)).
///
/// # Shapes
/// A `[r, in]`, B `[out, r]`, x `[T, in]`, y `[T, out]`; T tokens.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::lora::Adapter;
///
/// let a = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?; //  r = 1, in = 2
/// let b = Tensor::new(&[[3f32], [4.]], &Device::Cpu)?; // out = 2
/// let x = Tensor::new(&[[1f32, 1.]], &Device::Cpu)?;
/// let y = Adapter::new(a, b, 0.5)?.forward(x.zeros_like()?, &x)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[4.5, 6.]]); // 0.5·(3, 4)·(1 + 2)
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Adapter {
    a: Tensor,
    b: Tensor,
    scale: f64,
    beside: Beside,
    magnitude: Option<Tensor>,
    start: Option<(Tensor, Tensor)>,
}

/// The kind of layer that an adapter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// A matrix `[out, in]`.
    #[default]
    Linear,
    /// A table `[V, D]` whose rows are looked up: A is `[r, V]` and B `[D, r]`.
    Embedding,
    /// A matrix of equal parts along `out`, some of which have a pair of their own.
    Parts(Vec<bool>),
}

/// ∂loss/∂A and ∂loss/∂B of one adapter, in their shapes.
#[derive(Debug, Clone)]
pub struct AdapterGradient {
    /// `[r, in]`
    pub a: Tensor,
    /// `[out, r]`
    pub b: Tensor,
    /// `[out]`, where the adapter has a magnitude.
    pub magnitude: Option<Tensor>,
    /// Σ (A x)(A x)ᵀ over the tokens that went through, `[r, r]`, before any scale and dropout: what
    /// [`Activations`](super::Activations) are made of. Where a start is taken off, A₀ stands below A.
    pub seen: Tensor,
    /// How many tokens went through.
    pub tokens: usize,
}

impl Adapter {
    /// A pair with its scale.
    ///
    /// # Errors
    /// When A is not `[r, in]` or B is not `[out, r]` with the same r.
    pub fn new(a: Tensor, b: Tensor, scale: f64) -> Result<Self> {
        match (a.dims2(), b.dims2()) {
            (Ok((rank, _)), Ok((_, columns))) if rank == columns && rank > 0 => {
                Ok(Self { a, b, scale, beside: Beside::Linear, magnitude: None, start: None })
            }
            _ => Err(Error::format(format!(
                "A has shape {:?} and B has shape {:?}, expected [r, in] and [out, r]",
                a.dims(),
                b.dims()
            ))),
        }
    }

    /// A pair for an embedding: A `[r, V]`, whose column of a token is looked up, and B `[D, r]`
    /// (Microsoft's loralib, `Embedding`).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn embedding(a: Tensor, b: Tensor, scale: f64) -> Result<Self> {
        Ok(Self { beside: Beside::Embedding, ..Self::new(a, b, scale)? })
    }

    /// Pairs beside one matrix of `enabled.len()` equal parts along `out`, such as q, k and v in one:
    /// each enabled part has its own A and B, the others stay as they are (loralib's `MergedLinear`).
    ///
    /// # Shapes
    /// With n enabled parts of width w = out / parts: A `[n·r, in]`, r rows for each; B `[n·w, r]`.
    ///
    /// # Errors
    /// When no part is enabled, or the shapes do not fit.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::lora::Adapter;
    ///
    /// // Three parts of width 1, the first and the last enabled, r = 1, in = 1.
    /// let a = Tensor::new(&[[2f32], [3.]], &Device::Cpu)?;
    /// let b = Tensor::new(&[[5f32], [7.]], &Device::Cpu)?;
    /// let adapter = Adapter::merged(a, b, &[true, false, true], 1.0)?;
    /// assert_eq!(adapter.delta()?.to_vec2::<f32>()?, [[10.], [0.], [21.]]);
    /// assert_eq!((adapter.rank(), adapter.parameters()), (1, 4));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn merged(a: Tensor, b: Tensor, enabled: &[bool], scale: f64) -> Result<Self> {
        let parts = enabled.iter().filter(|on| **on).count();
        let wrong = |what: String| Error::format(what).help("A is [n·r, in] and B [n·out / parts, r]");
        if parts == 0 {
            return Err(Error::input("no part is enabled").help("enable one: [true, false, true]"));
        }
        let ((rows, _), (height, rank)) = (a.dims2()?, b.dims2()?);
        if rank == 0 || rows != parts * rank || !height.is_multiple_of(parts) {
            return Err(wrong(format!(
                "A has shape {:?} and B has shape {:?} for {parts} enabled parts",
                a.dims(),
                b.dims()
            )));
        }
        // B in full, with each part's block in its own columns and zeros elsewhere.
        let width = height / parts;
        let mut blocks = Vec::new();
        let mut done = 0;
        for on in enabled {
            if !on {
                blocks.push(Tensor::zeros((width, rows), b.dtype(), b.device())?);
                continue;
            }
            let block = b.narrow(0, done * width, width)?;
            let left = Tensor::zeros((width, done * rank), b.dtype(), b.device())?;
            let right = Tensor::zeros((width, rows - (done + 1) * rank), b.dtype(), b.device())?;
            blocks.push(Tensor::cat(&[&left, &block, &right], 1)?);
            done += 1;
        }
        let full = Tensor::cat(&blocks, 0)?.contiguous()?;
        Ok(Self { beside: Beside::Parts(enabled.to_vec()), ..Self::new(a, full, scale)? })
    }

    /// The same A and B, whole as they are kept, beside another kind of layer.
    ///
    /// # Errors
    /// When no part is enabled, or A and B cannot be divided into these parts.
    pub(crate) fn standing_beside(self, beside: Beside) -> Result<Self> {
        if let Beside::Parts(enabled) = &beside {
            let on = enabled.iter().filter(|on| **on).count();
            let (rows, height) = (self.a.dims()[0], self.b.dims()[0]);
            if on == 0 || !rows.is_multiple_of(on) || !height.is_multiple_of(enabled.len()) {
                return Err(Error::format(format!(
                    "A of {rows} rows and B of {height} for parts {enabled:?}"
                )));
            }
        }
        Ok(Self { beside, ..self })
    }

    /// The same pair with a magnitude for each row of W + scale·B A: DoRA (Liu et al. 2024,
    /// *DoRA: Weight-Decomposed Low-Rank Adaptation*, eq. 5).
    ///
    /// # Errors
    /// When it is not `[out]`, or the adapter stands beside no linear layer.
    pub fn with_magnitude(self, magnitude: Tensor) -> Result<Self> {
        if self.beside != Beside::Linear {
            return Err(Error::input("DoRA needs a linear layer")
                .help("leave embeddings and merged layers out, or take LoRA"));
        }
        if magnitude.dims() != [self.b.dims()[0]] {
            return Err(Error::format(format!(
                "the magnitude has shape {:?}, expected [{}]",
                magnitude.dims(),
                self.b.dims()[0]
            )));
        }
        Ok(Self { magnitude: Some(magnitude), ..self })
    }

    /// The same pair minus an initial pair of the same scale: y = W x + scale·(B A − B₀A₀) x.
    /// PiSSA begins so: with A = A₀ and B = B₀ the layer is what it was, whatever W is stored in.
    ///
    /// # Errors
    /// When the shapes of A₀ and B₀ are not those of A and B.
    pub fn starting_from(self, a: Tensor, b: Tensor) -> Result<Self> {
        if a.dims() != self.a.dims() || b.dims() != self.b.dims() {
            return Err(Error::format(format!(
                "the start is {:?} and {:?}, the pair {:?} and {:?}",
                a.dims(),
                b.dims(),
                self.a.dims(),
                self.b.dims()
            )));
        }
        Ok(Self { start: Some((a, b)), ..self })
    }

    /// The pair without the subtracted initial pair.
    pub(super) fn without_start(self) -> Self {
        Self { start: None, ..self }
    }

    /// The same adapter with other values in A, B and the magnitude.
    ///
    /// # Errors
    /// When a shape changes.
    pub(super) fn with_values(&self, a: Tensor, b: Tensor, magnitude: Option<Tensor>) -> Result<Self> {
        let same = a.dims() == self.a.dims()
            && b.dims() == self.b.dims()
            && magnitude.as_ref().map(Tensor::dims) == self.magnitude.as_ref().map(Tensor::dims);
        match same {
            true => Ok(Self { a, b, magnitude, ..self.clone() }),
            false => Err(Error::compute("a tensor changed its shape")),
        }
    }

    /// A, `[r, in]`.
    pub fn a(&self) -> &Tensor {
        &self.a
    }

    /// B, `[out, r]`.
    pub fn b(&self) -> &Tensor {
        &self.b
    }

    /// The magnitude of DoRA, `[out]`.
    pub fn magnitude(&self) -> Option<&Tensor> {
        self.magnitude.as_ref()
    }

    /// A₀ and B₀ of [`starting_from`](Self::starting_from).
    pub fn start(&self) -> Option<(&Tensor, &Tensor)> {
        self.start.as_ref().map(|(a, b)| (a, b))
    }

    /// Whether A = A₀ and B = B₀, so that ΔW = 0.
    pub(super) fn is_at_start(&self) -> Result<bool> {
        let Some((a, b)) = &self.start else { return Ok(false) };
        let distance =
            |x: &Tensor, y: &Tensor| x.sub(y)?.abs()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>();
        Ok(distance(&self.a, a)? == 0.0 && distance(&self.b, b)? == 0.0)
    }

    /// The largest possible rank of ΔW (for a merged layer, of a part): r, or 2·r if an initial pair is subtracted.
    pub fn delta_rank(&self) -> usize {
        self.rank() * if self.start.is_some() { 2 } else { 1 }
    }

    /// The kind of layer that it belongs to.
    pub fn beside(&self) -> &Beside {
        &self.beside
    }

    /// The factor in front of B·A.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// r; for a merged layer the r of each part.
    pub fn rank(&self) -> usize {
        match &self.beside {
            Beside::Parts(enabled) => self.a.dims()[0] / enabled.iter().filter(|on| **on).count().max(1),
            _ => self.a.dims()[0],
        }
    }

    /// The shape of the adapted weight: `[out, in]`; for an embedding `[V, D]`.
    pub fn shape(&self) -> [usize; 2] {
        let (out, inner) = (self.b.dims()[0], self.a.dims()[1]);
        if self.beside == Beside::Embedding { [inner, out] } else { [out, inner] }
    }

    /// The number of trained parameters; the fixed zeros in the B of a merged layer do not count.
    pub fn parameters(&self) -> usize {
        let b = match &self.beside {
            Beside::Parts(enabled) => {
                let on = enabled.iter().filter(|on| **on).count();
                self.b.dims()[0] / enabled.len().max(1) * on * self.rank()
            }
            _ => self.b.elem_count(),
        };
        self.a.elem_count() + b + self.magnitude.as_ref().map_or(0, Tensor::elem_count)
    }

    /// scale·(B A − B₀A₀) in the shape of the weight. It excludes the magnitude of DoRA, which needs W.
    ///
    /// # Errors
    /// When the device fails.
    pub fn delta(&self) -> Result<Tensor> {
        let mut delta = (matmul(&self.b, &self.a, Form::Plain)? * self.scale)?;
        if let Some((a, b)) = &self.start {
            delta = matmul_add(delta, b, a, Form::Plain, -self.scale)?;
        }
        Ok(if self.beside == Beside::Embedding { delta.t()?.contiguous()? } else { delta })
    }

    /// A, B and scale of a plain pair with the same ΔW = scale·B·A: where a start is taken off
    /// ([`starting_from`](Self::starting_from)), A₀ and −B₀ stand beside A and B, at twice the rank.
    ///
    /// # Errors
    /// When the device fails.
    pub fn factors(&self) -> Result<(Tensor, Tensor, f64)> {
        let Some((a, b)) = &self.start else { return Ok((self.a.clone(), self.b.clone(), self.scale)) };
        let a = Tensor::cat(&[&self.a, a], 0)?;
        Ok((a, Tensor::cat(&[&self.b, &b.neg()?], 1)?.contiguous()?, self.scale))
    }

    /// y + scale·(x Aᵀ) Bᵀ.
    ///
    /// # Errors
    /// When x is not `[T, in]` or y not `[T, out]`.
    pub fn forward(&self, y: Tensor, x: &Tensor) -> Result<Tensor> {
        self.forward_dropped(y, x, None)
    }

    /// y + scale·(x̃ Aᵀ) Bᵀ, where x̃ is x after dropout.
    pub(crate) fn forward_dropped(&self, y: Tensor, x: &Tensor, dropout: Option<Dropout>) -> Result<Tensor> {
        let dropped = dropout.map(|d| d.apply(x)).transpose()?;
        let x = dropped.as_ref().unwrap_or(x);
        let [a, b] = [&self.a, &self.b].map(|factor| factor.to_dtype(x.dtype()));
        let u = matmul(x, &a?, Form::RightTransposed)?; // [T, r]
        let y = matmul_add(y, &u, &b?, Form::RightTransposed, self.scale)?;
        match &self.start {
            None => Ok(y),
            Some((a, b)) => {
                let u = matmul(x, &a.to_dtype(x.dtype())?, Form::RightTransposed)?;
                matmul_add(y, &u, &b.to_dtype(x.dtype())?, Form::RightTransposed, -self.scale)
            }
        }
    }

    /// Gradients for y = … + scale·(x Aᵀ) Bᵀ, given dy = ∂loss/∂y. With v = scale·dy B:
    /// ∂A = vᵀ x, ∂B = scale·dyᵀ (x Aᵀ), and dx + v A where dx is asked for. The products are in the type of x
    /// and dy; ∂A and ∂B are f32.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        dx: Option<Tensor>,
    ) -> Result<(AdapterGradient, Option<Tensor>)> {
        self.backward_dropped(x, dy, dx, None)
    }

    /// The same where [`forward_dropped`](Self::forward_dropped) dropped some of x.
    pub(crate) fn backward_dropped(
        &self,
        x: &Tensor,
        dy: &Tensor,
        dx: Option<Tensor>,
        dropout: Option<Dropout>,
    ) -> Result<(AdapterGradient, Option<Tensor>)> {
        let (tokens, dtype) = (x.dim(0)?, x.dtype());
        let (own_a, own_b) = (self.a.to_dtype(dtype)?, self.b.to_dtype(dtype)?);
        let start = match &self.start {
            None => None,
            Some((a, b)) => Some((a.to_dtype(dtype)?, b.to_dtype(dtype)?)),
        };
        let whole = matmul(x, &own_a, Form::RightTransposed)?; // [T, r]
        let seen = match &start {
            None => squared(&whole)?,
            Some((a, _)) => squared(&Tensor::cat(&[&whole, &matmul(x, a, Form::RightTransposed)?], 1)?)?,
        };
        let dropped = dropout.map(|d| d.apply(x)).transpose()?;
        let (x, u) = match &dropped {
            None => (x, whole),
            Some(dropped) => (dropped, matmul(dropped, &own_a, Form::RightTransposed)?),
        };
        let u = (u * self.scale)?;
        let v = (matmul(dy, &own_b, Form::Plain)? * self.scale)?; // [T, r]
        let a = matmul(&v, x, Form::LeftTransposed)?.to_dtype(DType::F32)?;
        let b = self.masked(matmul(dy, &u, Form::LeftTransposed)?.to_dtype(DType::F32)?)?;
        let Some(dx) = dx else { return Ok((AdapterGradient { a, b, magnitude: None, seen, tokens }, None)) };
        let dx = match dropout {
            None => matmul_add(dx, &v, &own_a, Form::Plain, 1.0)?,
            Some(d) => (dx + d.apply(&matmul(&v, &own_a, Form::Plain)?)?)?,
        };
        let dx = match &start {
            None => dx,
            Some((a, b)) => {
                let v = (matmul(dy, b, Form::Plain)? * -self.scale)?;
                match dropout {
                    None => matmul_add(dx, &v, a, Form::Plain, 1.0)?,
                    Some(d) => (dx + d.apply(&matmul(&v, a, Form::Plain)?)?)?,
                }
            }
        };
        Ok((AdapterGradient { a, b, magnitude: None, seen, tokens }, Some(dx)))
    }

    /// The same pair beside an embedding with every column of A longer than `max_norm` brought to it.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with_max_norm(&self, max_norm: f64) -> Result<Self> {
        let short = |a: &Tensor| -> Result<Tensor> {
            Ok(shortened(a.t()?.contiguous()?, Some(max_norm))?.t()?.contiguous()?)
        };
        let start = match &self.start {
            Some((a, b)) => Some((short(a)?, b.clone())),
            None => None,
        };
        Ok(Self { a: short(&self.a)?, start, ..self.clone() })
    }

    /// y + scale·A[:, ids]ᵀ Bᵀ, beside an embedding; a looked-up column longer than `max_norm` counts
    /// as one of that length.
    ///
    /// # Errors
    /// When a token is outside the vocabulary, or y is not `[T, D]`.
    pub fn look_up(&self, y: Tensor, ids: &Tensor, max_norm: Option<f64>) -> Result<Tensor> {
        let columns = |a| columns(a, ids, max_norm);
        let y = matmul_add(y, &columns(&self.a)?, &self.b, Form::RightTransposed, self.scale)?;
        match &self.start {
            None => Ok(y),
            Some((a, b)) => matmul_add(y, &columns(a)?, b, Form::RightTransposed, -self.scale),
        }
    }

    /// Gradients beside an embedding: ∂B = scale·dyᵀ A[:, ids]ᵀ, and column t of scale·(dy B)ᵀ is
    /// added to the column of token t in ∂A, unless `counted` `[T, 1]` is 0 there. With a `max_norm`
    /// ∂B sees the shortened columns, and ∂A is that of the shortened column: as in PyTorch no gradient
    /// goes through the factor.
    ///
    /// # Errors
    /// When dy is not `[T, D]`.
    pub fn look_up_backward(
        &self,
        ids: &Tensor,
        dy: &Tensor,
        counted: Option<&Tensor>,
        max_norm: Option<f64>,
    ) -> Result<AdapterGradient> {
        let u = columns(&self.a, ids, max_norm)?; // [T, r]
        let seen = match &self.start {
            None => squared(&u)?,
            Some((a, _)) => squared(&Tensor::cat(&[&u, &columns(a, ids, max_norm)?], 1)?)?,
        };
        let u = (u * self.scale)?;
        let mut v = (matmul(dy, &self.b, Form::Plain)? * self.scale)?; // [T, r]
        if let Some(counted) = counted {
            v = v.broadcast_mul(counted)?;
        }
        let (rank, vocabulary) = self.a.dims2()?;
        let zeros = Tensor::zeros((vocabulary, rank), self.a.dtype(), self.a.device())?;
        let a = zeros.index_add(ids, &v, 0)?.t()?.contiguous()?;
        let b = matmul(dy, &u, Form::LeftTransposed)?;
        Ok(AdapterGradient { a, b, magnitude: None, seen, tokens: ids.elem_count() })
    }

    /// ‖Wᵢ + scale·(B A)ᵢ‖ of each row i, from ‖Wᵢ‖² and A Wᵀ: the dense sum is never built.
    ///
    /// # Shapes
    /// `squares` `[out]`, `crossed` `[r, out]`, the result `[out]`.
    pub(crate) fn row_norms(&self, squares: &Tensor, crossed: &Tensor) -> Result<Tensor> {
        let f64s = |t: &Tensor| t.to_dtype(DType::F64);
        let (a, b) = (f64s(&self.a)?, (f64s(&self.b)? * self.scale)?);
        let across = (&b * f64s(crossed)?.t()?)?.sum(1)?; // Σ over r of B ⊙ (A Wᵀ)ᵀ
        let own = (b.matmul(&a.matmul(&a.t()?)?)? * &b)?.sum(1)?; // rows of B (A Aᵀ) ⊙ B
        let sum = ((f64s(squares)? + (across * 2.0)?)? + own)?;
        Ok(sum.relu()?.sqrt()?.to_dtype(DType::F32)?)
    }

    /// Leaves the zeros of a merged layer's B as they are.
    fn masked(&self, b: Tensor) -> Result<Tensor> {
        let Beside::Parts(enabled) = &self.beside else { return Ok(b) };
        let (out, columns) = b.dims2()?;
        let (width, rank) = (out / enabled.len().max(1), self.rank());
        let mut mask = vec![0f32; out * columns];
        let on = enabled.iter().enumerate().filter(|(_, on)| **on);
        for (done, (part, _)) in on.enumerate() {
            for row in part * width..(part + 1) * width {
                mask[row * columns + done * rank..][..rank].fill(1.0);
            }
        }
        Ok((b * Tensor::from_vec(mask, (out, columns), self.b.device())?)?)
    }
}

/// uᵀ u of `[T, r]`, in f32: a sum of squares may leave the range of a half type.
fn squared(u: &Tensor) -> Result<Tensor> {
    let u = u.to_dtype(DType::F32)?.contiguous()?;
    matmul(&u, &u, Form::LeftTransposed)
}

/// The columns of A `[r, V]` with these numbers, as rows `[T, r]`, none longer than `max_norm`.
fn columns(a: &Tensor, ids: &Tensor, max_norm: Option<f64>) -> Result<Tensor> {
    shortened(a.index_select(ids, 1)?.t()?.contiguous()?, max_norm)
}
