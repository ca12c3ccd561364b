//! Every key of a GGUF file's own architecture is known: it is read, or has the value at which it changes nothing, or is an error that
//! names it. Left out: `general.*` and `tokenizer.*`, of which nothing decides what the model computes.

use super::gguf::Metadata;
use crate::Result;
use candle_core::quantized::gguf_file::Value;

/// Read by `gguf_architecture`.
const READ: [&str; 16] = [
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
];

/// Of no effect: a count that the tensors say, too, and what only other scalings than those that are read look at.
const WITHOUT_EFFECT: [&str; 4] =
    ["vocab_size", "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout"];

/// Errors: the file is a part of a model; a key of the architecture that would change the result and isn't read.
pub(super) fn check(metadata: &Metadata, architecture: &str) -> Result<()> {
    if let Some(parts) = metadata.whole("split.count")?.filter(|parts| *parts > 1) {
        return Err(metadata.wrong(format!(
            "is one of {parts} parts of a model, which aren't read; put them together by `llama-gguf-split --merge`"
        )));
    }
    let own = format!("{architecture}.");
    let mut keys: Vec<&String> = metadata.content.metadata.keys().filter(|key| key.starts_with(&own)).collect();
    keys.sort(); // the map's order is another each time
    for key in keys {
        let name = &key[own.len()..];
        let has_window = matches!(architecture, "gemma3" | "phi3");
        let known = READ.contains(&name) || WITHOUT_EFFECT.contains(&name);
        let known = known || (has_window && name == "attention.sliding_window");
        if !known && !is_neutral(name, &metadata.content.metadata[key]) {
            return Err(metadata.wrong(format!(
                "has the metadata `{key}`, and what it would change isn't known; use the safetensors files"
            )));
        }
    }
    let length = |which: &str| metadata.whole(&format!("{own}attention.{which}_length"));
    if let (Some(keys), Some(values)) = (length("key")?, length("value")?)
        && keys != values
    {
        return Err(
            metadata.wrong(format!("has keys of {keys} and values of {values} channels, which must be as many"))
        );
    }
    Ok(())
}

/// True for a value that switches off what the key is about.
fn is_neutral(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("attention.causal", Value::Bool(value)) => *value,
        ("logit_scale" | "residual_scale" | "embedding_scale", Value::F32(value)) => *value == 1.0,
        ("expert_count" | "expert_used_count" | "attention.sliding_window", value) => {
            value.to_u64().is_ok_and(|v| v == 0)
        }
        _ => false,
    }
}
