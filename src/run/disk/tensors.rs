//! Writes tensors into a safetensors file, piece by piece: a state of gigabytes takes some megabytes to write.

use super::operations::{Writing, written};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::HashMap;
use std::path::Path;

/// Numbers that are held at a time.
const PIECE: usize = 1 << 18;

/// Writes a new file with the bytes of `safetensors::serialize`, flushed to the disk, and returns its checksum.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<String> {
    let mut tensors: Vec<(String, &Tensor)> = tensors.into_iter().collect();
    // Types of the largest alignment first, then names.
    let dtype = |tensor: &Tensor| Dtype::from(tensor.dtype());
    tensors.sort_by(|(a, x), (b, y)| dtype(y).cmp(&dtype(x)).then_with(|| a.cmp(b)));
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let begin = end;
        end += tensor.elem_count() * tensor.dtype().size_in_bytes();
        let shape = tensor.dims().to_vec();
        (name.clone(), TensorInfo { dtype: dtype(tensor), shape, data_offsets: (begin, end) })
    });
    let infos = infos.collect();
    let header = Metadata::new(metadata, infos).map_err(Error::format)?;
    let mut header = serde_json::to_vec(&header).map_err(Error::compute)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = 8 + header.len() + end;
    written(path, length as u64, |file| {
        file.put(&(header.len() as u64).to_le_bytes())?;
        file.put(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| pieces(tensor, file))
    })
}

/// The bytes of one tensor.
fn pieces(tensor: &Tensor, file: &mut Writing) -> Result<()> {
    if tensor.dtype() != DType::F32 {
        return file.put(&safetensors::View::data(tensor));
    }
    let flat = tensor.flatten_all()?;
    let count = flat.elem_count();
    for begin in (0..count).step_by(PIECE) {
        let piece = flat.narrow(0, begin, PIECE.min(count - begin))?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = piece.iter().flat_map(|number| number.to_le_bytes()).collect();
        file.put(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Names in no order, shapes of all kinds, more numbers than a piece has.
    fn tensors() -> Vec<(String, Tensor)> {
        let long = PIECE * 2 + 77;
        let numbers: Vec<f32> = (0..long).map(|n| n as f32 * 0.37 - 1e4).collect();
        let long = Tensor::from_vec(numbers, long, &Device::Cpu).unwrap();
        let turned = long.narrow(0, 0, 12).unwrap().reshape((3, 4)).unwrap().t().unwrap();
        let ids = Tensor::from_vec(vec![7u32, 8, 9], 3, &Device::Cpu).unwrap();
        let named = [("w.long", long), ("b", turned.clone()), ("a.é", turned), ("ids", ids)];
        named.map(|(name, tensor)| (name.to_string(), tensor)).into()
    }

    #[test]
    fn the_file_is_that_of_safetensors_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        for (number, metadata) in
            [None, Some(HashMap::from([("format".to_string(), "pt".to_string())]))].into_iter().enumerate()
        {
            let path = folder.path().join(format!("{number}.safetensors"));
            let tensors = tensors();
            let sum = write(&path, tensors.iter().map(|(n, t)| (n.clone(), t)), metadata.clone()).unwrap();
            let whole = safetensors::serialize(tensors.iter().map(|(n, t)| (n, t)), metadata).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes == whole, "{} and {} bytes", bytes.len(), whole.len());
            assert_eq!(sum, format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&whole)));
            assert_eq!(crate::run::disk::operations::checksum(&path).unwrap(), sum);
            assert!(write(&path, Vec::new(), None).is_err(), "it exists");
        }
    }
}
