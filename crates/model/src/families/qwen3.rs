//! Qwen 3: Qwen 2 without biases, each head's query and key normalised. Source: transformers' models/qwen3.

use super::common::{self, Defaults, LLAMA};
use super::fields::{only, size};
use super::qwen2;
use crate::Result;
use crate::spec::{QueryKeyNorm, Spec};
use serde_json::{Value, json};

/// The norms of Qwen 3 and Gemma 3.
pub(super) const PER_HEAD: QueryKeyNorm =
    QueryKeyNorm { query: "self_attn.q_norm.weight", key: "self_attn.k_norm.weight", whole_width: false };

/// The spec of a Qwen 3 config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    only(config, "attention_bias", &json!(false))?;
    let mut config = config.clone();
    config["head_dim"] = json!(size(&config, "head_dim", Some(128))?); // not the hidden size by the heads
    let mut spec = common::spec(&config, "qwen3", &Defaults { context: 32768, ..LLAMA })?;
    spec.names.block.query_key_norm = Some(PER_HEAD);
    qwen2::windows(&config, &mut spec)?;
    Ok(spec)
}
