//! The shapes of queries, keys and values.

use crate::error::{Error, Result};
use crate::ops::expect;
use candle_core::Tensor;

/// H query heads, G key-value heads of width W, T tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadShapes {
    pub(super) heads: usize,
    pub(super) groups: usize,
    pub(super) tokens: usize,
    pub(super) width: usize,
}

impl HeadShapes {
    /// Those of q `[H, T, W]`, k and v `[G, T, W]`.
    pub(super) fn of(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Self> {
        let (heads, tokens, width) = q.dims3()?;
        let groups = groups(q, k)?;
        if k.dims()[1] != tokens {
            return Err(unfit(q, k));
        }
        expect("v", v, k.dims())?;
        Ok(Self { heads, groups, tokens, width })
    }

    /// Query heads for each key-value head.
    pub(super) fn each(&self) -> usize {
        self.heads / self.groups
    }

    /// 1/√W.
    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.width as f64).sqrt()
    }
}

/// The number of key-value heads, of which each serves as many of the query heads.
pub(super) fn groups(q: &Tensor, k: &Tensor) -> Result<usize> {
    let ((heads, _, width), (groups, _, key_width)) = (q.dims3()?, k.dims3()?);
    let fit = groups > 0 && heads > 0 && heads.is_multiple_of(groups) && width > 0 && width == key_width;
    if fit { Ok(groups) } else { Err(unfit(q, k)) }
}

pub(super) fn unfit(q: &Tensor, k: &Tensor) -> Error {
    Error::compute(format!("queries {:?} do not fit keys {:?}", q.shape(), k.shape()))
}

/// Fails unless `borders` is a rising list from 0 to the number of tokens.
pub(super) fn check_borders(borders: &[usize], tokens: usize) -> Result<()> {
    let rising = borders.windows(2).all(|pair| pair[0] < pair[1]);
    if borders.first() != Some(&0) || !rising || borders.last() != Some(&tokens) {
        return Err(Error::compute(format!("row borders {borders:?} in a pack of {tokens} tokens")));
    }
    Ok(())
}
