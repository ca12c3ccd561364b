//! Weights that are no numbers: a NaN or an infinity in one weight makes every loss NaN, far from its cause. Checked where the
//! values are read anyway, on the CPU, before they go to a device.

use crate::{ModelError, Result};
use candle_core::{CpuStorage, Storage, Tensor};
use std::path::Path;

/// Errors: a value that is NaN or infinite; the message says how many there are and where the first is.
pub(super) fn check(path: &Path, name: &str, tensor: &Tensor) -> Result<()> {
    let (storage, layout) = tensor.storage_and_layout();
    let (begin, end) = layout.contiguous_offsets().unwrap_or((0, 0));
    let found = match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => first(&values[begin..end], |value| value.is_finite()),
        Storage::Cpu(CpuStorage::F64(values)) => first(&values[begin..end], |value| value.is_finite()),
        Storage::Cpu(CpuStorage::BF16(values)) => first(&values[begin..end], |value| value.is_finite()),
        Storage::Cpu(CpuStorage::F16(values)) => first(&values[begin..end], |value| value.is_finite()),
        _ => None,
    };
    let Some((index, count)) = found else { return Ok(()) };
    let place = place(index, tensor.dims());
    let message = format!(
        "`{name}` has {count} of {} weights that are NaN or infinite as {:?}, the first at {place:?}; use another copy, \
         or a checkpoint from before they were",
        tensor.elem_count(),
        tensor.dtype(),
    );
    Err(ModelError::invalid(path, message))
}

/// The index of the first value that isn't finite, and how many there are.
fn first<T>(values: &[T], is_finite: impl Fn(&T) -> bool) -> Option<(usize, usize)> {
    // one pass without branches, which compilers turn into vectors; nearly always the only one
    let count = values.iter().map(|value| usize::from(!is_finite(value))).sum();
    let index = (count > 0).then(|| values.iter().position(|value| !is_finite(value)))??;
    Some((index, count))
}

/// An index of the flattened tensor as one for each dimension.
fn place(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut place: Vec<usize> = dims
        .iter()
        .rev()
        .map(|dim| {
            let at = index % dim;
            index /= dim;
            at
        })
        .collect();
    place.reverse();
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn a_weight_that_is_no_number_is_told_by_count_and_place_in_every_type() {
        let mut values = vec![1f32; 24];
        let tensor = |values: &[f32]| Tensor::from_vec(values.to_vec(), (2, 3, 4), &Device::Cpu).unwrap();
        let check = |values: &[f32], dtype| check(Path::new("m"), "w", &tensor(values).to_dtype(dtype).unwrap());
        let types = [DType::F32, DType::F64, DType::BF16, DType::F16];
        types.iter().for_each(|dtype| check(&values, *dtype).unwrap());
        (values[17], values[20]) = (f32::NAN, f32::NEG_INFINITY);
        for dtype in types {
            let message = check(&values, dtype).unwrap_err().to_string();
            let expected = format!(
                "m: `w` has 2 of 24 weights that are NaN or infinite as {dtype:?}, the first at [1, 1, 1]; use another copy, or a checkpoint from before they were"
            );
            assert_eq!(message, expected);
        }
        // what a narrower type can't hold is infinite there
        (values[17], values[20]) = (1e30, 0.0);
        check(&values, DType::F32).unwrap();
        assert!(check(&values, DType::F16).unwrap_err().to_string().contains("1 of 24"));
        check(&[f32::MAX; 24], DType::F32).unwrap();
    }

    #[test]
    fn a_part_of_a_tensor_and_one_without_values_are_read_as_they_lie() {
        let tensor = Tensor::new(&[f32::NAN, 1.0, 2.0], &Device::Cpu).unwrap();
        check(Path::new("m"), "w", &tensor.narrow(0, 1, 2).unwrap()).unwrap();
        check(Path::new("m"), "w", &Tensor::zeros((0, 4), DType::F32, &Device::Cpu).unwrap()).unwrap();
    }
}
