//! A frozen matrix, kept in memory as it is stored.

use crate::error::{Error, Result};
use crate::ops::matmul::{Form, matmul};
use crate::ops::{self, Kernels, vector};
use candle_core::quantized::k_quants::{self, GgmlType};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{D, DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use std::sync::Arc;

/// A frozen `[out, in]` matrix: dense in f32, f16 or bf16, or in GGUF's quantised blocks.
///
/// Each product expands it into f32 and drops the result at once: for a thousand tokens this costs a few percent
/// of the time of the product, and a 4-bit model takes the memory of its file size. A product in a half type
/// ([`Precision`](crate::ops::Precision)) uses a weight of that type as it is, and expands others into it.
#[derive(Clone)]
pub struct Weight {
    storage: Storage,
    out: usize,
    inner: usize,
}

#[derive(Clone)]
enum Storage {
    Dense(Tensor),
    Quantized(Arc<QTensor>),
}

impl Storage {
    /// Blocks as they are; on a GPU plain numbers become a dense tensor, because candle expands them on the CPU.
    fn of(tensor: QTensor) -> Result<Self> {
        let device = tensor.device();
        Ok(match plain(tensor.dtype()) {
            Some(dtype) if !device.is_cpu() => Self::Dense(tensor.dequantize(&device)?.to_dtype(dtype)?),
            _ => Self::Quantized(Arc::new(tensor)),
        })
    }
}

/// The dtype of GGUF's blocks of one number.
fn plain(dtype: GgmlDType) -> Option<DType> {
    match dtype {
        GgmlDType::F32 => Some(DType::F32),
        GgmlDType::F16 => Some(DType::F16),
        GgmlDType::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// With fewer rows of x than this, a product decodes the weight row by row instead of expanding it whole.
const FEW_ROWS: usize = 8;

impl Weight {
    /// A dense matrix.
    ///
    /// # Errors
    /// When the tensor is not a matrix of f32, f16 or bf16, or an empty one.
    pub fn dense(tensor: Tensor) -> Result<Self> {
        let (out, inner) = matrix(tensor.dims())?;
        match tensor.dtype() {
            DType::F32 | DType::F16 | DType::BF16 => {}
            other => return Err(Error::format(format!("a weight of type {other:?} is not supported"))),
        }
        Ok(Self { storage: Storage::Dense(tensor.contiguous()?), out, inner })
    }

    /// A matrix in blocks that run along `in`.
    ///
    /// # Errors
    /// When it is not a matrix, or an empty one.
    pub fn quantized(tensor: QTensor) -> Result<Self> {
        let (out, inner) = matrix(tensor.shape().dims())?;
        Ok(Self { storage: Storage::of(tensor)?, out, inner })
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.out, self.inner]
    }

    /// Whether both share one matrix in memory, as a tied embedding and head do.
    pub fn same_storage(&self, other: &Self) -> bool {
        match (&self.storage, &other.storage) {
            (Storage::Dense(a), Storage::Dense(b)) => a.id() == b.id(),
            (Storage::Quantized(a), Storage::Quantized(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The device that it lies on.
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Dense(t) => t.device().clone(),
            Storage::Quantized(q) => q.device(),
        }
    }

    /// The same matrix on a device; where it lies there already, it is shared.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let storage = match &self.storage {
            Storage::Dense(t) => Storage::Dense(t.to_device(device)?),
            Storage::Quantized(q) if q.device().same_device(device) => self.storage.clone(),
            Storage::Quantized(q) => {
                let blocks = QStorage::from_data(q.data()?, device, q.dtype())?;
                Storage::of(QTensor::new(blocks, q.shape().clone())?)?
            }
        };
        Ok(Self { storage, ..*self })
    }

    /// Its size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Dense(t) => t.elem_count() * t.dtype().size_in_bytes(),
            Storage::Quantized(q) => q.storage_size_in_bytes(),
        }
    }

    /// The type of its elements, as the formats call it: `f32`, `bf16`, `Q4_1`.
    pub fn type_name(&self) -> String {
        match &self.storage {
            Storage::Dense(t) => t.dtype().as_str().to_string(),
            Storage::Quantized(q) => format!("{:?}", q.dtype()),
        }
    }

    /// The matrix in f32, `[out, in]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn expand(&self) -> Result<Tensor> {
        match &self.storage {
            Storage::Dense(t) if t.dtype() == DType::F32 => Ok(t.clone()),
            Storage::Dense(t) if !t.device().is_cpu() => Ok(t.to_dtype(DType::F32)?),
            Storage::Quantized(q) if !q.device().is_cpu() => Ok(q.dequantize(&q.device())?),
            _ => {
                let mut all = vec![0f32; self.out * self.inner];
                let source = self.source()?;
                let rows = (16 * 1024 / self.inner.max(1)).max(1);
                all.par_chunks_mut(rows * self.inner)
                    .enumerate()
                    .for_each(|(i, out)| source.decode(i * rows * self.inner, out));
                Ok(Tensor::from_vec(all, (self.out, self.inner), &Device::Cpu)?)
            }
        }
    }

    /// The matrix in the type of a product, `[out, in]`.
    pub(crate) fn expand_as(&self, dtype: DType) -> Result<Tensor> {
        match &self.storage {
            Storage::Dense(t) if t.dtype() == dtype => Ok(t.clone()),
            Storage::Dense(t) if dtype != DType::F32 => Ok(t.to_dtype(dtype)?),
            // Through f16, whose mantissa is the longer one: half of the memory traffic of f32.
            Storage::Quantized(q) if dtype != DType::F32 && !q.device().is_cpu() => {
                match q.dtype() {
                    // Which candle has no kernel for.
                    GgmlDType::Q8_1 => Ok(self.expand()?.to_dtype(dtype)?),
                    _ => Ok(q.dequantize_f16(&q.device())?.to_dtype(dtype)?),
                }
            }
            _ => Ok(self.expand()?.to_dtype(dtype)?),
        }
    }

    /// x Wᵀ in the type of x: `[T, in]` to `[T, out]`.
    ///
    /// # Errors
    /// When x has another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        if width != self.inner {
            return Err(Error::compute(format!("x has width {width}, the weight {}", self.inner)));
        }
        if rows == 0 {
            return Ok(Tensor::zeros((0, self.out), x.dtype(), x.device())?);
        }
        if rows <= FEW_ROWS && Kernels::of(x) == Kernels::Fused {
            return self.forward_few(&x.contiguous()?, rows);
        }
        matmul(x, &self.expand_as(x.dtype())?, Form::RightTransposed)
    }

    /// dy W in the type of dy: `[T, out]` to `[T, in]`.
    ///
    /// # Errors
    /// When dy has another width.
    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        matmul(dy, &self.expand_as(dy.dtype())?, Form::Plain)
    }

    /// The product for one or two tokens, as in generation: each thread decodes a few rows of W into its cache and
    /// multiplies them there, so that the expanded matrix never goes through memory.
    fn forward_few(&self, x: &Tensor, rows: usize) -> Result<Tensor> {
        const PIECE: usize = 32;
        let values = ops::values(x)?;
        let (x, inner): (&[f32], usize) = (&values, self.inner);
        let source = self.source()?;
        let mut columns = vec![0f32; self.out * rows]; // [out, T]
        columns.par_chunks_mut(PIECE * rows).enumerate().for_each(|(i, y)| {
            let count = y.len() / rows;
            let mut piece = vec![0f32; count * inner];
            source.decode(i * PIECE * inner, &mut piece);
            vector::simd(
                #[inline(always)]
                || {
                    for (y, w) in y.chunks_exact_mut(rows).zip(piece.chunks_exact(inner)) {
                        for (y, x) in y.iter_mut().zip(x.chunks_exact(inner)) {
                            *y = vector::dot(w, x);
                        }
                    }
                },
            );
        });
        Ok(Tensor::from_vec(columns, (self.out, rows), &Device::Cpu)?.t()?.contiguous()?)
    }

    /// The rows with these numbers in f32: `[ids, in]`.
    ///
    /// # Errors
    /// When a number is not below the number of rows.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.out) {
            return Err(Error::input(format!("token {id} is not in a vocabulary of {}", self.out)));
        }
        match &self.storage {
            Storage::Dense(t) => {
                let ids = Tensor::new(ids, t.device())?;
                Ok(t.index_select(&ids, 0)?.to_dtype(DType::F32)?)
            }
            Storage::Quantized(q) if q.device().is_cpu() => {
                let source = self.source()?;
                let mut all = vec![0f32; ids.len() * self.inner];
                for (id, row) in ids.iter().zip(all.chunks_exact_mut(self.inner)) {
                    source.decode(*id as usize * self.inner, row);
                }
                Ok(Tensor::from_vec(all, (ids.len(), self.inner), &Device::Cpu)?)
            }
            Storage::Quantized(q) => Ok(q.embedding(&Tensor::new(ids, &q.device())?)?),
        }
    }

    /// The matrix with each row divided by its length, max(‖w‖, 1e-12) as PyTorch's `normalize` has
    /// it, in the type that it is stored in; f32 where that is blocks.
    ///
    /// # Errors
    /// When the device fails.
    pub fn unit_rows(&self) -> Result<Self> {
        let unit = self.expand()?.broadcast_div(&self.row_lengths()?)?;
        match &self.storage {
            Storage::Dense(t) => Self::dense(unit.to_dtype(t.dtype())?),
            Storage::Quantized(_) => Self::dense(unit),
        }
    }

    /// What [`unit_rows`](Self::unit_rows) divides by: max(‖w‖, 1e-12) of each row, `[out, 1]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn row_lengths(&self) -> Result<Tensor> {
        Ok(self.expand()?.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?)
    }

    fn source(&self) -> Result<Source<'_>> {
        Source::of(&self.storage)
    }
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weight({} [{}, {}])", self.type_name(), self.out, self.inner)
    }
}

fn matrix(dims: &[usize]) -> Result<(usize, usize)> {
    match *dims {
        [out, inner] if out > 0 && inner > 0 => Ok((out, inner)),
        _ => Err(Error::format(format!("expected a matrix, found shape {dims:?}"))),
    }
}

/// Where elements are decoded from on the CPU.
enum Source<'a> {
    Halves(Tensor),
    Blocks(std::borrow::Cow<'a, [u8]>, GgmlDType),
}

impl<'a> Source<'a> {
    fn of(storage: &'a Storage) -> Result<Self> {
        match storage {
            Storage::Dense(t) => Ok(Self::Halves(t.clone())),
            Storage::Quantized(q) => {
                let data = q.data()?;
                // Blocks hold 16-bit scales or f32 numbers; allocations are aligned far beyond that.
                if data.as_ptr().align_offset(std::mem::align_of::<f32>()) != 0 {
                    return Err(Error::compute("quantised weights are not aligned in memory"));
                }
                Ok(Self::Blocks(data, q.dtype()))
            }
        }
    }

    /// Decodes elements from number `start` on until `out` is full. Both are multiples of a block.
    fn decode(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::Halves(tensor) => halves(tensor, start, out),
            Self::Blocks(data, dtype) => {
                let (block, size) = (dtype.block_size(), dtype.type_size());
                let bytes = &data[start / block * size..(start + out.len()) / block * size];
                match dtype {
                    GgmlDType::Q4_1 => q4_1(bytes, out),
                    GgmlDType::Q8_0 => q8_0(bytes, out),
                    GgmlDType::F32 => to_float::<f32>(bytes, out),
                    GgmlDType::F16 => to_float::<f16>(bytes, out),
                    GgmlDType::BF16 => to_float::<bf16>(bytes, out),
                    GgmlDType::Q4_0 => to_float::<k_quants::BlockQ4_0>(bytes, out),
                    GgmlDType::Q5_0 => to_float::<k_quants::BlockQ5_0>(bytes, out),
                    GgmlDType::Q5_1 => to_float::<k_quants::BlockQ5_1>(bytes, out),
                    GgmlDType::Q8_1 => to_float::<k_quants::BlockQ8_1>(bytes, out),
                    GgmlDType::Q2K => to_float::<k_quants::BlockQ2K>(bytes, out),
                    GgmlDType::Q3K => to_float::<k_quants::BlockQ3K>(bytes, out),
                    GgmlDType::Q4K => to_float::<k_quants::BlockQ4K>(bytes, out),
                    GgmlDType::Q5K => to_float::<k_quants::BlockQ5K>(bytes, out),
                    GgmlDType::Q6K => to_float::<k_quants::BlockQ6K>(bytes, out),
                    GgmlDType::Q8K => to_float::<k_quants::BlockQ8K>(bytes, out),
                }
            }
        }
    }
}

fn halves(tensor: &Tensor, start: usize, out: &mut [f32]) {
    use candle_core::CpuStorage as S;
    let (storage, layout) = tensor.storage_and_layout();
    let from = layout.start_offset() + start;
    let candle_core::Storage::Cpu(storage) = &*storage else { return };
    vector::simd(
        #[inline(always)]
        || match storage {
            S::F32(all) => out.copy_from_slice(&all[from..from + out.len()]),
            S::BF16(all) => {
                for (out, x) in out.iter_mut().zip(&all[from..]) {
                    *out = f32::from_bits((x.to_bits() as u32) << 16);
                }
            }
            S::F16(all) => {
                for (out, x) in out.iter_mut().zip(&all[from..]) {
                    *out = x.to_f32();
                }
            }
            _ => {}
        },
    );
}

/// candle's decoder for blocks of type `B`.
fn to_float<B: GgmlType>(bytes: &[u8], out: &mut [f32]) {
    let count = bytes.len() / size_of::<B>();
    // SAFETY: the block types are plain `repr(C)` numbers for which every bit pattern is a value,
    // `Source::of` checked the alignment of the first block and sizes are multiples of it, and
    // `count` blocks lie within `bytes`.
    let blocks = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<B>(), count) };
    B::to_float(blocks, out);
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// GGUF `Q4_1`: 32 values in 20 bytes, scale d and minimum m in f16, then a nibble each: d·q + m;
/// the low nibbles are the first 16 values.
fn q4_1(bytes: &[u8], out: &mut [f32]) {
    vector::simd(
        #[inline(always)]
        || {
            for (block, out) in bytes.chunks_exact(20).zip(out.chunks_exact_mut(32)) {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                let (low, high) = out.split_at_mut(16);
                for ((low, high), q) in low.iter_mut().zip(high).zip(&block[4..20]) {
                    *low = (q & 15) as f32 * d + m;
                    *high = (q >> 4) as f32 * d + m;
                }
            }
        },
    );
}

/// GGUF `Q8_0`: 32 values in 34 bytes, scale d in f16, then a signed byte each: d·q.
fn q8_0(bytes: &[u8], out: &mut [f32]) {
    vector::simd(
        #[inline(always)]
        || {
            for (block, out) in bytes.chunks_exact(34).zip(out.chunks_exact_mut(32)) {
                let d = half_at(block, 0);
                for (out, q) in out.iter_mut().zip(&block[2..34]) {
                    *out = *q as i8 as f32 * d;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our decoders against candle's, on blocks that candle made.
    #[test]
    fn decoders_agree_with_candle() {
        let values: Vec<f32> =
            (0..64 * 96).map(|i| (i as f32 * 0.731).sin() * (1.0 + (i % 7) as f32)).collect();
        let dense = Tensor::from_vec(values, (64, 96), &Device::Cpu).unwrap();
        for dtype in [
            GgmlDType::Q4_1,
            GgmlDType::Q8_0,
            GgmlDType::Q4_0,
            GgmlDType::Q5_1,
            GgmlDType::F16,
            GgmlDType::BF16,
        ] {
            let q = QTensor::quantize(&dense, dtype).unwrap();
            let truth = q.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            let weight = Weight::quantized(q).unwrap();
            assert_eq!(weight.expand().unwrap().to_vec2::<f32>().unwrap(), truth, "{dtype:?}");
            assert_eq!(
                weight.rows(&[5, 63]).unwrap().to_vec2::<f32>().unwrap(),
                [truth[5].clone(), truth[63].clone()]
            );
        }
    }

    #[test]
    fn few_rows_give_what_many_give() {
        let values: Vec<f32> = (0..70 * 64).map(|i| (i as f32 * 0.37).cos()).collect();
        let dense = Tensor::from_vec(values, (70, 64), &Device::Cpu).unwrap();
        let weight = Weight::quantized(QTensor::quantize(&dense, GgmlDType::Q8_0).unwrap()).unwrap();
        let x: Vec<f32> = (0..11 * 64).map(|i| (i as f32 * 0.11).sin()).collect();
        let x = Tensor::from_vec(x, (11, 64), &Device::Cpu).unwrap();
        let many = weight.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        let few = weight.forward(&x.narrow(0, 2, 3).unwrap()).unwrap().to_vec2::<f32>().unwrap();
        for (few, many) in few.iter().flatten().zip(many[2..5].iter().flatten()) {
            assert!((few - many).abs() < 1e-4, "{few} {many}");
        }
    }
}
