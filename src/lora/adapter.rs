//! One low-rank pair and its products.

use crate::error::{Error, Result};
use crate::ops::matmul::{Form, matmul, matmul_add};
use candle_core::Tensor;

/// The trained pair beside one frozen linear layer: y = W x + scale·B A x.
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
}

/// ∂loss/∂A and ∂loss/∂B of one adapter, in their shapes.
#[derive(Debug, Clone)]
pub struct AdapterGradient {
    /// `[r, in]`
    pub a: Tensor,
    /// `[out, r]`
    pub b: Tensor,
}

impl Adapter {
    /// A pair with its scale.
    ///
    /// # Errors
    /// When A is not `[r, in]` or B is not `[out, r]` with the same r.
    pub fn new(a: Tensor, b: Tensor, scale: f64) -> Result<Self> {
        match (a.dims2(), b.dims2()) {
            (Ok((rank, _)), Ok((_, columns))) if rank == columns && rank > 0 => Ok(Self { a, b, scale }),
            _ => Err(Error::format(format!(
                "A has shape {:?} and B has shape {:?}, expected [r, in] and [out, r]",
                a.dims(),
                b.dims()
            ))),
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

    /// The factor in front of B·A.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// r.
    pub fn rank(&self) -> usize {
        self.a.dims()[0]
    }

    /// `[out, in]` of the layer beside it.
    pub fn shape(&self) -> [usize; 2] {
        [self.b.dims()[0], self.a.dims()[1]]
    }

    /// y + scale·(x Aᵀ) Bᵀ.
    ///
    /// # Errors
    /// When x is not `[T, in]` or y not `[T, out]`.
    pub fn forward(&self, y: Tensor, x: &Tensor) -> Result<Tensor> {
        let u = matmul(x, &self.a, Form::RightTransposed)?; // [T, r]
        matmul_add(y, &u, &self.b, Form::RightTransposed, self.scale)
    }

    /// Gradients for y = … + scale·(x Aᵀ) Bᵀ, given dy = ∂loss/∂y. With v = scale·dy B:
    /// ∂A = vᵀ x, ∂B = scale·dyᵀ (x Aᵀ), and dx + v A where dx is asked for.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, dx: Option<Tensor>) -> Result<(AdapterGradient, Option<Tensor>)> {
        let u = (matmul(x, &self.a, Form::RightTransposed)? * self.scale)?; // [T, r]
        let v = (matmul(dy, &self.b, Form::Plain)? * self.scale)?; // [T, r]
        let a = matmul(&v, x, Form::LeftTransposed)?;
        let b = matmul(dy, &u, Form::LeftTransposed)?;
        let dx = dx.map(|dx| matmul_add(dx, &v, &self.a, Form::Plain, 1.0)).transpose()?;
        Ok((AdapterGradient { a, b }, dx))
    }
}
