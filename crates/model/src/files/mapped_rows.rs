//! Rows of one tensor in a safetensors file, memory-mapped and read a few at a time: features of a frozen trunk.

use crate::{ModelError, Result};
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// Name of the tensor in the file.
const NAME: &str = "features";

/// An open file of rows (R, C).
#[derive(Debug)]
pub struct MappedRows {
    path: PathBuf,
    map: Mmap,
    begin: usize,
    rows: usize,
    columns: usize,
    dtype: DType,
}

impl MappedRows {
    /// Writes rows under their name: to a temporary file, synced, renamed. Shapes: (R, C).
    pub fn write(path: &Path, rows: &Tensor, key: &str) -> Result<()> {
        let rows = rows.to_device(&Device::Cpu)?.contiguous()?;
        super::safetensors::write(path, &[(NAME.to_string(), rows)], Some(("key", key)))
    }

    /// Opens a file of rows. Errors: it isn't one; its values are not looked at.
    pub fn open(path: &Path) -> Result<Self> {
        let map = super::safetensors::map(path)?;
        let (begin, shape, dtype) = {
            let wrong = |e: safetensors::SafeTensorError| ModelError::invalid(path, e.to_string());
            let tensors = SafeTensors::deserialize(&map).map_err(wrong)?;
            let view = tensors.tensor(NAME).map_err(wrong)?;
            let begin = view.data().as_ptr() as usize - map.as_ptr() as usize;
            let dtype = super::safetensors::source_dtype(view.dtype());
            (begin, view.shape().to_vec(), dtype)
        };
        match (&shape[..], dtype) {
            (&[rows, columns], Some(dtype)) => Ok(Self { path: path.into(), map, begin, rows, columns, dtype }),
            _ => Err(ModelError::invalid(path, format!("holds {shape:?}, rows and columns of floats are needed"))),
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// A copy of `count` rows from `first` on. Shapes: (count, C). Errors: there are not so many.
    pub fn read(&self, first: usize, count: usize, device: &Device) -> Result<Tensor> {
        if first + count > self.rows {
            return Err(ModelError::invalid(&self.path, format!("has {} rows, not {}", self.rows, first + count)));
        }
        let size = self.columns * self.dtype.size_in_bytes();
        let bytes = &self.map[self.begin + first * size..][..count * size];
        Ok(Tensor::from_raw_buffer(bytes, self.dtype, &[count, self.columns], &Device::Cpu)?.to_device(device)?)
    }
}
