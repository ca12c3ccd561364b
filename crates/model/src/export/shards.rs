//! The weights of an exported folder: `model.safetensors`, or shards of a largest size with `model.safetensors.index.json`, both as
//! transformers' `save_pretrained` writes them. Left out: everything else in the folder.

use crate::Result;
use crate::files::safetensors;
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// What was written.
pub(super) struct Written {
    /// Share of the values that `dtype` can't hold.
    pub(super) rounded: f64,
    pub(super) files: usize,
}

/// Writes tensors as `dtype`, at most `limit` bytes of them to a file but for a larger tensor, which has a file of its own.
/// One file's tensors are converted at a time.
pub(super) fn write(folder: &Path, tensors: &[(&str, &Tensor)], dtype: DType, limit: u64) -> Result<Written> {
    let sizes: Vec<u64> =
        tensors.iter().map(|(_, tensor)| (tensor.elem_count() * dtype.size_in_bytes()) as u64).collect();
    let shards = ranges(&sizes, limit);
    let file = |number: usize| match shards.len() {
        1 => "model.safetensors".to_string(),
        all => format!("model-{:05}-of-{all:05}.safetensors", number + 1),
    };
    let (mut changed, mut weight_map) = (0.0, BTreeMap::new());
    for (number, range) in shards.iter().enumerate() {
        let mut stored = Vec::with_capacity(range.len());
        for (name, tensor) in &tensors[range.clone()] {
            let (converted, differing) = convert(tensor, dtype)?;
            changed += differing;
            stored.push((name.to_string(), converted));
            weight_map.insert(*name, file(number));
        }
        safetensors::write(&folder.join(file(number)), &stored, None)?;
    }
    let total_parameters: u64 = tensors.iter().map(|(_, tensor)| tensor.elem_count() as u64).sum();
    if shards.len() > 1 {
        let totals = json!({"total_parameters": total_parameters, "total_size": sizes.iter().sum::<u64>()});
        let index = json!({"metadata": totals, "weight_map": weight_map});
        super::write_json(folder, "model.safetensors.index.json", &index)?;
    }
    Ok(Written { rounded: changed / total_parameters.max(1) as f64, files: shards.len() })
}

/// A tensor as `dtype` in memory, and how many of its values are others than before.
fn convert(tensor: &Tensor, dtype: DType) -> Result<(Tensor, f64)> {
    let tensor = tensor.to_device(&Device::Cpu)?;
    let converted = tensor.to_dtype(dtype)?.contiguous()?;
    if dtype == tensor.dtype() {
        return Ok((converted, 0.0));
    }
    let differs = converted.to_dtype(DType::F32)?.ne(&tensor.to_dtype(DType::F32)?)?;
    let share = f64::from(differs.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?);
    Ok((converted, share * tensor.elem_count() as f64))
}

/// Tensors in their order, cut where the next one would make more than `limit` bytes.
fn ranges(sizes: &[u64], limit: u64) -> Vec<Range<usize>> {
    let (mut ranges, mut start, mut bytes) = (Vec::new(), 0, 0u64);
    for (index, size) in sizes.iter().enumerate() {
        if index > start && bytes.checked_add(*size).is_none_or(|sum| sum > limit) {
            ranges.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(*size);
    }
    ranges.push(start..sizes.len());
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_full_and_a_larger_tensor_is_alone() {
        assert_eq!(ranges(&[1, 2, 3], 6), std::slice::from_ref(&(0..3)));
        assert_eq!(ranges(&[1, 2, 3, 4], 6), [0..3, 3..4]);
        assert_eq!(ranges(&[9, 1, 9, 1, 1], 2), [0..1, 1..2, 2..3, 3..5]);
        assert_eq!(ranges(&[1, 1], 0), [0..1, 1..2]);
        assert_eq!(ranges(&[u64::MAX, u64::MAX], u64::MAX), [0..1, 1..2]);
    }
}
