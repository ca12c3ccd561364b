//! OLMo 2: norms behind each branch instead of before, queries and keys normalised over their whole width. Source:
//! transformers' models/olmo2.

use super::common::{self, Defaults, LLAMA};
use super::fields::only;
use crate::Result;
use crate::spec::{QueryKeyNorm, Spec};
use serde_json::{Value, json};

/// The spec of an OLMo 2 config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    only(config, "attention_bias", &json!(false))?;
    only(config, "sliding_window", &Value::Null)?;
    let mut spec = common::spec(config, "olmo2", &Defaults { norm_eps: ("rms_norm_eps", 1e-5), ..LLAMA })?;
    let block = &mut spec.names.block;
    block.attention_norm = None;
    block.post_attention_norm = Some("post_attention_layernorm.weight");
    block.mlp_norm = None;
    block.post_mlp_norm = Some("post_feedforward_layernorm.weight");
    let (query, key) = ("self_attn.q_norm.weight", "self_attn.k_norm.weight");
    block.query_key_norm = Some(QueryKeyNorm { query, key, whole_width: true });
    Ok(spec)
}
