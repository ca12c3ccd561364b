//! Reading GGUF: metadata to a config, tensors dequantized and put back into Hugging Face's layout. Its tokenizer is
//! in `gguf_tokenizer`.
//!
//! llama.cpp's converter permutes the rows of q and k for its interleaved rotation; that is undone here.
//! Names: llama.cpp's gguf-py/gguf/tensor_mapping.py.

use crate::spec::{Mlp, QueryKeyValue, Spec};
use crate::weights::Weights;
use crate::{ModelError, Result};
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde_json::{Map, json};
use std::io::BufReader;
use std::path::Path;

/// Reads the header: metadata and where the tensors lie. Errors: not GGUF, cut off, a tensor larger than the file.
pub(crate) fn header(path: &Path) -> Result<Content> {
    let file = fs_err::File::open(path)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    // candle 0.11 divides by the file's `general.alignment` unseen: a 0 there is a panic
    let content = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Content::read(&mut reader)));
    let content = content
        .map_err(|_| ModelError::invalid(path, "is not a readable GGUF file: its `general.alignment` is 0"))?
        .map_err(|e| ModelError::invalid(path, format!("is not a readable GGUF file: {}", first_line(&e))))?;
    for (name, info) in &content.tensor_infos {
        let elements = info.shape.dims().iter().try_fold(1u64, |product, &dim| product.checked_mul(dim as u64));
        // no type has less than two bits per element
        if elements.is_none_or(|elements| elements / 4 > length) {
            let message = format!("`{name}` has shape {:?}, more than the file's {length} bytes hold", info.shape);
            return Err(ModelError::invalid(path, message));
        }
    }
    Ok(content)
}

/// An error of candle without the backtrace that it prints behind it.
pub(super) fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

/// The `config.json` that the metadata says. Errors: an architecture, a rotary scaling or a type of value that isn't
/// supported, a value that's missing.
pub(crate) fn config(path: &Path, content: &Content) -> Result<serde_json::Value> {
    let metadata = Metadata { path, content };
    let architecture = metadata.text("general.architecture")?.unwrap_or_default();
    if architecture != "llama" {
        let message =
            format!("has architecture `{architecture}`, which is not supported as GGUF; supported is `llama`");
        return Err(ModelError::invalid(path, message));
    }
    if content.tensor_infos.contains_key("rope_freqs.weight") {
        let message = "carries `rope_freqs.weight` (Llama 3 rotary scaling), which is not read from GGUF yet; use the safetensors files";
        return Err(ModelError::invalid(path, message));
    }
    let heads = metadata.required("llama.attention.head_count")?;
    if heads == 0 {
        return Err(ModelError::invalid(path, "its metadata `llama.attention.head_count` is 0"));
    }
    let hidden = metadata.required("llama.embedding_length")?;
    let head_dim = metadata.whole("llama.attention.key_length")?.unwrap_or(hidden / heads);
    let rotated = metadata.whole("llama.rope.dimension_count")?.unwrap_or(head_dim);
    if rotated != head_dim {
        let message =
            format!("rotates {rotated} of {head_dim} channels of a head, which is not supported (only all are)");
        return Err(ModelError::invalid(path, message));
    }
    let embedding = content.tensor_infos.get("token_embd.weight").and_then(|info| info.shape.dims2().ok());
    let (vocabulary, _) =
        embedding.ok_or_else(|| ModelError::invalid(path, "has no tensor `token_embd.weight` of two dimensions"))?;
    let epsilon = metadata.real("llama.attention.layer_norm_rms_epsilon")?;
    let epsilon = epsilon.ok_or_else(|| metadata.lacks("llama.attention.layer_norm_rms_epsilon"))?;
    let mut config = Map::new();
    let mut set = |key: &str, value: serde_json::Value| config.insert(key.to_string(), value);
    set("architectures", json!(["LlamaForCausalLM"]));
    set("model_type", json!("llama"));
    set("vocab_size", json!(vocabulary));
    set("hidden_size", json!(hidden));
    set("intermediate_size", json!(metadata.required("llama.feed_forward_length")?));
    set("num_hidden_layers", json!(metadata.required("llama.block_count")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(metadata.whole("llama.attention.head_count_kv")?.unwrap_or(heads)));
    set("head_dim", json!(head_dim));
    set("rms_norm_eps", json!(epsilon));
    set("max_position_embeddings", json!(metadata.required("llama.context_length")?));
    set("hidden_act", json!("silu"));
    set("attention_bias", json!(false));
    set("mlp_bias", json!(false));
    set("tie_word_embeddings", json!(!content.tensor_infos.contains_key("output.weight")));
    set("rope_parameters", rope(&metadata)?);
    for field in ["bos_token_id", "eos_token_id"] {
        if let Some(id) = metadata.whole(&format!("tokenizer.ggml.{field}"))? {
            set(field, json!(id));
        }
    }
    Ok(serde_json::Value::Object(config))
}

/// The rotary embedding. As llama.cpp reads it: a factor without a type is linear, and 0 is none.
fn rope(metadata: &Metadata) -> Result<serde_json::Value> {
    let theta = metadata.real("llama.rope.freq_base")?.unwrap_or(10_000.0);
    let older = metadata.real("llama.rope.scale_linear")?;
    let factor = metadata.real("llama.rope.scaling.factor")?.or(older).filter(|&factor| factor != 0.0);
    let kind = metadata.text("llama.rope.scaling.type")?;
    match (kind.as_deref(), factor) {
        (Some("none"), _) | (None | Some("linear"), None) => Ok(json!({"rope_theta": theta, "rope_type": "default"})),
        (None | Some("linear"), Some(factor)) => {
            Ok(json!({"rope_theta": theta, "rope_type": "linear", "factor": factor}))
        }
        (Some(other), _) => {
            let message =
                format!("has rotary scaling `{other}`, which is not supported; supported are `none`, `linear`");
            Err(ModelError::invalid(metadata.path, message))
        }
    }
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

    fn real(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", |value| match *value {
            // the f64 that prints as the f32 does: 1e-5 stays 1e-5
            Value::F32(number) => number.to_string().parse().ok(),
            Value::F64(number) => Some(number),
            _ => None,
        })
    }

    fn required(&self, key: &str) -> Result<u64> {
        self.whole(key)?.ok_or_else(|| self.lacks(key))
    }

    fn lacks(&self, key: &str) -> ModelError {
        ModelError::invalid(self.path, format!("lacks the metadata `{key}`"))
    }
}

/// Reads all tensors to `device` as `dtype`, under Hugging Face's names and in its layout.
pub(crate) fn read(path: &Path, content: &Content, spec: &Spec, dtype: DType, device: &Device) -> Result<Weights> {
    let names: Vec<&String> = content.tensor_infos.keys().collect();
    let tensors: Vec<(String, Tensor)> = names
        .into_par_iter()
        .map(|name| {
            let target = hugging_face_name(name, spec)
                .ok_or_else(|| ModelError::invalid(path, format!("`{name}` is not a tensor of a llama model")))?;
            let mut reader = BufReader::new(fs_err::File::open(path)?);
            let quantized = content.tensor(&mut reader, name, &Device::Cpu);
            let tensor =
                quantized.and_then(|q| q.dequantize(&Device::Cpu)).and_then(|tensor| match name.rsplit('.').nth(1) {
                    Some("attn_q") => unpermute(&tensor, spec.num_attention_heads, spec.head_dim),
                    Some("attn_k") => unpermute(&tensor, spec.num_key_value_heads, spec.head_dim),
                    _ => Ok(tensor),
                });
            let tensor =
                tensor.map_err(|e| ModelError::invalid(path, format!("`{name}` can't be read: {}", first_line(&e))))?;
            Ok((target, tensor.to_dtype(dtype)?.to_device(device)?))
        })
        .collect::<Result<_>>()?;
    Ok(tensors.into_iter().collect())
}

/// Rows in pairs (2i, 2i+1) back to halves (i, i + D/2). Shapes: (heads * D, C) -> the same.
fn unpermute(w: &Tensor, heads: usize, head_dim: usize) -> candle_core::Result<Tensor> {
    let (rows, columns) = w.dims2()?;
    let split = w.reshape((heads, head_dim / 2, 2, columns))?;
    split.transpose(1, 2)?.contiguous()?.reshape((rows, columns))
}

fn hugging_face_name(name: &str, spec: &Spec) -> Option<String> {
    let names = &spec.names;
    match name {
        "token_embd.weight" => return Some(names.embedding.into()),
        "output_norm.weight" => return Some(names.final_norm.into()),
        "output.weight" => return Some(names.head.into()),
        _ => {}
    }
    let (index, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let block = &names.block;
    let QueryKeyValue::Separate { query, key, value } = block.query_key_value else { return None };
    let Mlp::Gated { gate, up, .. } = block.mlp else { return None };
    let target = match part {
        "attn_norm.weight" => block.attention_norm?,
        "attn_q.weight" => query,
        "attn_k.weight" => key,
        "attn_v.weight" => value,
        "attn_output.weight" => block.output,
        "ffn_norm.weight" => block.mlp_norm?,
        "ffn_gate.weight" => gate,
        "ffn_up.weight" => up,
        "ffn_down.weight" => block.down,
        _ => return None,
    };
    Some(spec.block_tensor(index.parse().ok()?, target))
}
