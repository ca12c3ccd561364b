//! What a job changed: the tensors that trained, on top of a base known by its hash.

use crate::base::Base;
use crate::decoder::Decoder;
use crate::files::safetensors;
use crate::{ModelError, Result};
use candle_core::{DType, Device, Tensor};
use std::path::Path;

/// Writes the tensors of a delta as f32 safetensors, with the base's hash in the metadata.
/// An `lm_head.weight` on top of a tied base means that the head was untied (R28).
pub fn write(path: &Path, tensors: &[(String, Tensor)], base_hash: &str) -> Result<()> {
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?)))
        .collect::<Result<Vec<_>>>()?;
    safetensors::write(path, &tensors, Some(("base", base_hash)))
}

/// The tensors of a delta.
pub fn read(path: &Path, dtype: DType, device: &Device) -> Result<Vec<(String, Tensor)>> {
    let weights = safetensors::read(&[path.to_path_buf()], dtype, device)?;
    Ok(weights.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect())
}

/// Writes tensors in their own types, in the form of a delta: a checkpoint's.
pub fn write_exact(path: &Path, tensors: &[(String, Tensor)], base_hash: &str) -> Result<()> {
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<Vec<_>>>()?;
    safetensors::write(path, &tensors, Some(("base", base_hash)))
}

/// The tensors of a delta or of [`write_exact`], in their own types.
pub fn read_exact(path: &Path, device: &Device) -> Result<Vec<(String, Tensor)>> {
    let weights = safetensors::read(&[path.to_path_buf()], None, device)?;
    Ok(weights.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect())
}

/// The hash of the base that a delta was trained on, as [`write()`] put it. Errors: not a delta.
pub fn base_hash(path: &Path) -> Result<String> {
    let hash = safetensors::metadata(path)?.remove("base");
    hash.ok_or_else(|| ModelError::invalid(path, "names no base in its metadata, so it is not a delta"))
}

/// The base with a delta on top. That the base is the delta's own is the caller's to check, by [`base_hash`]: hashing
/// reads all of the base. Errors: the delta has a tensor that the model doesn't, or of another shape.
pub fn load(base: &Base, delta: &Path, dtype: DType, device: &Device) -> Result<Decoder> {
    let mut weights = base.weights(dtype, device)?;
    let mut spec = base.spec().clone();
    if spec.tie_word_embeddings && weights.get(spec.names.head).is_ok() {
        // some write a tied head a second time: checked once, then out of the way of a changed embedding
        weights.check(&spec).map_err(|e| at(base.path(), e))?;
        weights.remove(spec.names.head);
    }
    for (name, tensor) in read(delta, dtype, device)? {
        if name == spec.names.head {
            spec.tie_word_embeddings = false;
        } else if weights.get(&name).is_err() {
            return Err(ModelError::invalid(delta, format!("has a tensor `{name}` that the base has not")));
        }
        weights.insert(name, tensor);
    }
    Decoder::new(spec, &weights, device).map_err(|e| at(delta, e))
}

fn at(path: &Path, error: ModelError) -> ModelError {
    match error {
        ModelError::Unsupported(message) => ModelError::invalid(path, message),
        other => other,
    }
}
