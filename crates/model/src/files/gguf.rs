//! Reading GGUF: header and metadata, tensors dequantized and put back into Hugging Face's layout. What the architectures
//! are is in `gguf_architecture`, the header in `gguf_header`, the tokenizers in `gguf_tokenizer` and `gguf_sentencepiece`.

use super::gguf_architecture::{self, Change};
use super::gguf_rope;
use super::{finite, gguf_header, gguf_keys};
use crate::weights::Weights;
use crate::{ModelError, Result};
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use std::io::BufReader;
use std::path::Path;

/// Reads the header: metadata and where the tensors lie. Errors: not GGUF, cut off, a tensor outside the file.
pub(crate) fn header(path: &Path) -> Result<Content> {
    gguf_header::read(path)
}

/// An error of candle without the backtrace that it prints behind it.
pub(super) fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

/// The `config.json` that the metadata says. Errors: an architecture, a rotary scaling or a type of value that isn't
/// supported, a value that's missing.
pub(crate) fn config(path: &Path, content: &Content) -> Result<serde_json::Value> {
    let metadata = Metadata { path, content };
    let architecture = gguf_architecture::of(&metadata)?;
    let config = architecture.config(&metadata)?;
    gguf_keys::check(&metadata, architecture.name)?;
    Ok(config)
}

/// Values of the metadata; one of another type than expected is an error that names it.
pub(super) struct Metadata<'a> {
    pub(super) path: &'a Path,
    pub(super) content: &'a Content,
}

impl Metadata<'_> {
    fn get<T>(&self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        let wrong = || ModelError::invalid(self.path, format!("its metadata `{key}` is not {expected}"));
        read(value).map(Some).ok_or_else(wrong)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>> {
        self.get(key, "a text", |value| value.to_string().ok().cloned())
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| value.to_bool().ok())
    }

    pub(super) fn whole(&self, key: &str) -> Result<Option<u64>> {
        self.get(key, "a whole number from 0", |value| match *value {
            Value::U8(number) => Some(number.into()),
            Value::U16(number) => Some(number.into()),
            Value::U32(number) => Some(number.into()),
            Value::U64(number) => Some(number),
            Value::I8(number) => number.try_into().ok(),
            Value::I16(number) => number.try_into().ok(),
            Value::I32(number) => number.try_into().ok(),
            Value::I64(number) => number.try_into().ok(),
            _ => None,
        })
    }

    pub(super) fn real(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", |value| match *value {
            // the f64 that prints as the f32 does: 1e-5 stays 1e-5
            Value::F32(number) => number.to_string().parse().ok(),
            Value::F64(number) => Some(number),
            _ => None,
        })
    }

    pub(super) fn required(&self, key: &str) -> Result<u64> {
        self.whole(key)?.ok_or_else(|| self.lacks(key))
    }

    /// An error about the file.
    pub(super) fn wrong(&self, message: String) -> ModelError {
        ModelError::invalid(self.path, message)
    }

    pub(super) fn lacks(&self, key: &str) -> ModelError {
        ModelError::invalid(self.path, format!("lacks the metadata `{key}`"))
    }
}

/// Reads all tensors to `device` as `dtype`, under Hugging Face's names and in its layout. `config` is the file's own.
pub(crate) fn read(
    path: &Path,
    content: &Content,
    config: &serde_json::Value,
    dtype: DType,
    device: &Device,
) -> Result<Weights> {
    let architecture = gguf_architecture::of(&Metadata { path, content })?;
    let names: Vec<&String> = content.tensor_infos.keys().filter(|name| *name != gguf_rope::TENSOR).collect();
    let tensors: Vec<(String, Tensor)> = names
        .into_par_iter()
        .map(|name| {
            let (target, change) = architecture.tensor(name).ok_or_else(|| {
                ModelError::invalid(path, format!("`{name}` is not a tensor of a {} model", architecture.name))
            })?;
            let mut reader = BufReader::new(fs_err::File::open(path)?);
            let quantized = content.tensor(&mut reader, name, &Device::Cpu);
            let tensor =
                quantized.and_then(|q| q.dequantize(&Device::Cpu)).and_then(|tensor| undo(&tensor, change, config));
            let tensor =
                tensor.map_err(|e| ModelError::invalid(path, format!("`{name}` can't be read: {}", first_line(&e))))?;
            let tensor = tensor.to_dtype(dtype)?;
            finite::check(path, name, &tensor)?;
            Ok((target, tensor.to_device(device)?))
        })
        .collect::<Result<_>>()?;
    Ok(tensors.into_iter().collect())
}

/// Undoes what the converter did to a tensor.
fn undo(tensor: &Tensor, change: Change, config: &serde_json::Value) -> candle_core::Result<Tensor> {
    let field = |name: &str| config.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default() as usize;
    match change {
        Change::None => Ok(tensor.clone()),
        Change::PermuteQueries => unpermute(tensor, field("num_attention_heads"), field("head_dim")),
        Change::PermuteKeys => unpermute(tensor, field("num_key_value_heads"), field("head_dim")),
        Change::Transpose => tensor.t()?.contiguous(),
        Change::MinusOne => tensor.affine(1.0, -1.0),
    }
}

/// Rows in pairs (2i, 2i+1) back to halves (i, i + D/2). Shapes: (heads * D, ...) -> the same.
fn unpermute(w: &Tensor, heads: usize, head_dim: usize) -> candle_core::Result<Tensor> {
    let columns = w.elem_count() / w.dim(0)?.max(1);
    let split = w.reshape((heads, head_dim / 2, 2, columns))?;
    split.transpose(1, 2)?.contiguous()?.reshape(w.dims())
}

/// Hugging Face's names of the file's tensors with their shapes. Errors: a tensor that the architecture has not.
pub(crate) fn shapes(path: &Path, content: &Content) -> Result<Vec<(String, Vec<usize>)>> {
    let architecture = gguf_architecture::of(&Metadata { path, content })?;
    let shape = |(name, info): (&String, &TensorInfo)| {
        let (target, change) = architecture.tensor(name).ok_or_else(|| {
            ModelError::invalid(path, format!("`{name}` is not a tensor of a {} model", architecture.name))
        })?;
        let mut shape = info.shape.dims().to_vec();
        if change == Change::Transpose {
            shape.reverse();
        }
        Ok((target, shape))
    };
    content.tensor_infos.iter().filter(|(name, _)| *name != gguf_rope::TENSOR).map(shape).collect()
}
