//! A frozen matrix, kept in memory as it is stored.

use crate::error::{Error, Result};
use crate::ops::matmul::{Form, matmul};
use crate::ops::{self, Kernels, Stored, StoredMatrix};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{CpuStorage, D, DType, Device, StorageRef, Tensor};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

/// A frozen `[out, in]` matrix: dense in f32, f16 or bf16, or in GGUF's quantised blocks.
///
/// Each product expands it into f32 and drops the result at once: for a thousand tokens this costs a few percent
/// of the time of the product, and a 4-bit model takes the memory of its file size. A product of a few tokens reads the
/// weight as it is stored. A product in a half type
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

/// With no more rows of x than this, a product decodes the weight row by row instead of expanding it whole.
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
    /// When it is not a matrix, an empty one, or its bytes are not those of the shape.
    pub fn quantized(tensor: QTensor) -> Result<Self> {
        let (out, inner) = matrix(tensor.shape().dims())?;
        let (bytes, wanted) = (tensor.storage_size_in_bytes(), out * stored(tensor.dtype()).bytes(inner));
        if bytes != wanted {
            return Err(Error::format(format!(
                "a weight [{out}, {inner}] in {:?} with {bytes} bytes, which are {wanted}",
                tensor.dtype()
            )));
        }
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
                let (stored, bytes) = source.bytes()?;
                let rows = (16 * 1024 / self.inner.max(1)).max(1);
                all.par_chunks_mut(rows * self.inner)
                    .zip(bytes.par_chunks(rows * stored.bytes(self.inner)))
                    .for_each(|(out, bytes)| ops::expand(stored, bytes, out));
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
        match Self::forward_few(&[self], x)?.map(|mut products| products.pop()) {
            Some(Some(y)) => Ok(y),
            _ => matmul(x, &self.expand_as(x.dtype())?, Form::RightTransposed),
        }
    }

    /// dy W in the type of dy: `[T, out]` to `[T, in]`.
    ///
    /// # Errors
    /// When dy has another width.
    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        matmul(dy, &self.expand_as(dy.dtype())?, Form::Plain)
    }

    /// x Wᵀ for each of several W and a few tokens, as in generation, straight from how each W is stored; `None` where
    /// there are more tokens, another type than f32, x of another width, or a GPU.
    ///
    /// # Errors
    /// When x is not a matrix.
    pub(crate) fn forward_few(weights: &[&Self], x: &Tensor) -> Result<Option<Vec<Tensor>>> {
        let (rows, width) = x.dims2()?;
        let fits = |w: &&Self| w.inner == width && w.device().is_cpu();
        if !(1..=FEW_ROWS).contains(&rows) || Kernels::of(x) != Kernels::Fused || !weights.iter().all(fits) {
            return Ok(None);
        }
        let sources = weights.iter().map(|w| w.source()).collect::<Result<Vec<_>>>()?;
        let matrices = weights.iter().zip(&sources).map(|(w, source)| w.matrix(source));
        let matrices = matrices.collect::<Result<Vec<_>>>()?;
        let x = x.contiguous()?;
        let products = ops::few_rows(&ops::values(&x)?, rows, &matrices); // [out, T] each
        let turned = |(y, w): (Vec<f32>, &&Self)| match rows {
            1 => Ok(Tensor::from_vec(y, (1, w.out), &Device::Cpu)?),
            _ => Ok(Tensor::from_vec(y, (w.out, rows), &Device::Cpu)?.t()?.contiguous()?),
        };
        products.into_iter().zip(weights).map(turned).collect::<Result<Vec<_>>>().map(Some)
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
                let (stored, bytes) = source.bytes()?;
                let row_bytes = stored.bytes(self.inner);
                let mut all = vec![0f32; ids.len() * self.inner];
                for (id, row) in ids.iter().zip(all.chunks_exact_mut(self.inner)) {
                    ops::expand(stored, &bytes[*id as usize * row_bytes..][..row_bytes], row);
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

    fn matrix<'a>(&self, source: &'a Source) -> Result<StoredMatrix<'a>> {
        let (stored, bytes) = source.bytes()?;
        Ok(StoredMatrix { stored, bytes, out: self.out, inner: self.inner })
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

/// A weight's numbers in the memory of the CPU.
enum Source<'a> {
    /// The tensor's whole storage, and where the weight's elements lie in it.
    Dense(StorageRef<'a>, std::ops::Range<usize>),
    Blocks(Cow<'a, [u8]>, Stored),
}

impl<'a> Source<'a> {
    fn of(storage: &'a Storage) -> Result<Self> {
        match storage {
            Storage::Dense(t) => {
                let (storage, layout) = t.storage_and_layout();
                let start = layout.start_offset();
                Ok(Self::Dense(storage, start..start + layout.shape().elem_count()))
            }
            Storage::Quantized(q) => Ok(Self::Blocks(q.data()?, stored(q.dtype()))),
        }
    }

    fn bytes(&self) -> Result<(Stored, &[u8])> {
        let (storage, range) = match self {
            Self::Blocks(data, stored) => return Ok((*stored, data)),
            Self::Dense(storage, range) => (storage, range.clone()),
        };
        match &**storage {
            candle_core::Storage::Cpu(CpuStorage::F32(all)) => Ok((Stored::F32, ops::bytes_of(&all[range]))),
            candle_core::Storage::Cpu(CpuStorage::F16(all)) => Ok((Stored::F16, ops::bytes_of(&all[range]))),
            candle_core::Storage::Cpu(CpuStorage::BF16(all)) => {
                Ok((Stored::Bf16, ops::bytes_of(&all[range])))
            }
            _ => Err(Error::compute("expected a weight in f32, f16 or bf16 on the CPU")),
        }
    }
}

/// GGUF's type as our loops call it.
fn stored(dtype: GgmlDType) -> Stored {
    match dtype {
        GgmlDType::F32 => Stored::F32,
        GgmlDType::F16 => Stored::F16,
        GgmlDType::BF16 => Stored::Bf16,
        GgmlDType::Q4_0 => Stored::Q4_0,
        GgmlDType::Q4_1 => Stored::Q4_1,
        GgmlDType::Q5_0 => Stored::Q5_0,
        GgmlDType::Q5_1 => Stored::Q5_1,
        GgmlDType::Q8_0 => Stored::Q8_0,
        GgmlDType::Q8_1 => Stored::Q8_1,
        GgmlDType::Q2K => Stored::Q2K,
        GgmlDType::Q3K => Stored::Q3K,
        GgmlDType::Q4K => Stored::Q4K,
        GgmlDType::Q5K => Stored::Q5K,
        GgmlDType::Q6K => Stored::Q6K,
        GgmlDType::Q8K => Stored::Q8K,
    }
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

    #[test]
    fn dense_weights_are_read_as_they_are_stored() {
        let values: Vec<f32> = (0..10 * 45).map(|i| (i as f32 * 0.37).cos()).collect();
        let x: Vec<f32> = (0..2 * 45).map(|i| (i as f32 * 0.11).sin()).collect();
        let x = Tensor::from_vec(x, (2, 45), &Device::Cpu).unwrap();
        let all = Tensor::from_vec(values, (10, 45), &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            // Its rows begin within the tensor that they are a part of.
            let part = all.to_dtype(dtype).unwrap().narrow(0, 3, 7).unwrap();
            let weight = Weight::dense(part.clone()).unwrap();
            assert_eq!(weight.expand().unwrap().to_vec2::<f32>().unwrap(), {
                part.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap()
            });
            let truth = x.matmul(&weight.expand().unwrap().t().unwrap()).unwrap();
            for rows in [1, 2] {
                let y = weight.forward(&x.narrow(0, 0, rows).unwrap()).unwrap();
                let off = (y - truth.narrow(0, 0, rows).unwrap()).unwrap().abs().unwrap();
                assert!(off.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5, "{dtype:?}");
            }
        }
    }
}
