//! The type of the numbers that a step multiplies.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The type that the matrix products of a step are computed in (Micikevicius et al. 2018, *Mixed Precision Training*,
/// §3).
///
/// In a half type, operands and results of the products are of that type, and so is what a block keeps for its backward
/// pass; the products themselves sum in f32. The residual path, norms, softmax, loss, adapters, their gradients and
/// moments stay in f32. Weights that are stored in the type are used as they are, others are cast for their product.
///
/// # Examples
/// ```
/// use lorascope::ops::Precision;
///
/// assert_eq!("bf16".parse::<Precision>()?, Precision::Bf16);
/// assert_eq!(Precision::default().to_string(), "f32");
/// let error = "fp8".parse::<Precision>().unwrap_err().to_string();
/// assert_eq!(error, "precision \"fp8\"; write f32, bf16 or f16");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16, the range of f32 with 8 bits of mantissa: for GPUs.
    Bf16,
    /// IEEE half, 11 bits of mantissa up to 65,504; the loss is not scaled.
    F16,
}

impl Precision {
    /// The dtype of the operands.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// Whether everything is in f32.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// x in this type; shared if it is.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn cast(self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_dtype(self.dtype())?)
    }

    /// Checks that a device multiplies this type.
    ///
    /// # Errors
    /// For bf16 on the CPU.
    pub fn check_on(self, device: &Device) -> Result<()> {
        if self == Self::Bf16 && device.is_cpu() {
            return Err(Error::input("precision bf16 on the CPU, where it cannot be multiplied")
                .help("take f16 or f32 there, or train on a GPU"));
        }
        Ok(())
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype().as_str())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::F32, Self::Bf16, Self::F16]
            .into_iter()
            .find(|precision| precision.dtype().as_str() == text)
            .ok_or_else(|| Error::input(format!("precision {text:?}")).help("write f32, bf16 or f16"))
    }
}
