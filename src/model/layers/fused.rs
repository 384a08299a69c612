//! The output of a fused projection: queries, keys and values beside each other in one row.

use crate::error::{Error, Result};
use crate::ops::{Kernels, expect, values, vector};
use candle_core::{Device, Tensor};

/// Cuts `[T, ΣN]` into columns of the given widths, `[T, Nᵢ]` each, in their order.
///
/// # Errors
/// When the widths do not add up to that of y.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::model::layers::fused;
/// use lorascope::ops::Kernels;
///
/// let y = Tensor::new(&[[1f32, 2., 3.], [4., 5., 6.]], &Device::Cpu)?;
/// let [q, k, v] = fused::split(&y, [1, 1, 1], Kernels::Fused)?;
/// assert_eq!(k.to_vec2::<f32>()?, [[2.], [5.]]);
/// assert_eq!(fused::join([&q, &k, &v], Kernels::Fused)?.to_vec2::<f32>()?, y.to_vec2::<f32>()?);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn split(y: &Tensor, widths: [usize; 3], kernels: Kernels) -> Result<[Tensor; 3]> {
    let (rows, all) = y.dims2()?;
    if widths.iter().sum::<usize>() != all || widths.contains(&0) {
        return Err(Error::compute(format!("a width of {all} is no sum of {widths:?}")));
    }
    let [a, b, c] = widths;
    let column = |from: usize, width: usize| -> Result<Tensor> {
        if kernels == Kernels::Candle {
            return Ok(y.narrow(1, from, width)?.contiguous()?);
        }
        let y = values(y)?;
        let y: &[f32] = &y;
        let mut part = vec![0f32; rows * width];
        vector::for_rows(&mut part, width, |first, part| {
            for (part, y) in part.chunks_exact_mut(width).zip(y[first * all..].chunks_exact(all)) {
                part.copy_from_slice(&y[from..from + width]);
            }
        });
        Ok(Tensor::from_vec(part, (rows, width), &Device::Cpu)?)
    };
    Ok([column(0, a)?, column(a, b)?, column(a + b, c)?])
}

/// The gradient of the whole from those of its parts: `[T, Nᵢ]` beside each other, `[T, ΣN]`.
///
/// # Errors
/// When the parts have different numbers of rows.
pub fn join(parts: [&Tensor; 3], kernels: Kernels) -> Result<Tensor> {
    let rows = parts[0].dims2()?.0;
    let mut widths = [0; 3];
    for (width, part) in widths.iter_mut().zip(parts) {
        *width = part.dims2()?.1;
        expect("a part", part, &[rows, *width])?;
    }
    if kernels == Kernels::Candle {
        return Ok(Tensor::cat(&parts, 1)?);
    }
    let all = widths.iter().sum::<usize>();
    let [a, b, c] = [values(parts[0])?, values(parts[1])?, values(parts[2])?];
    let parts: [&[f32]; 3] = [&a, &b, &c];
    let mut whole = vec![0f32; rows * all];
    vector::for_rows(&mut whole, all, |first, whole| {
        for (t, whole) in (first..).zip(whole.chunks_exact_mut(all.max(1))) {
            let mut from = 0;
            for (part, width) in parts.iter().zip(widths) {
                whole[from..from + width].copy_from_slice(&part[t * width..(t + 1) * width]);
                from += width;
            }
        }
    });
    Ok(Tensor::from_vec(whole, (rows, all), &Device::Cpu)?)
}
