//! Mistral 7B and its successors of the same type: Llama with a window in every layer. Source: transformers'
//! models/mistral.

use super::common::{self, Defaults, LLAMA};
use super::fields::{only, optional, size};
use crate::Result;
use crate::spec::Spec;
use serde_json::{Value, json};

/// The spec of a Mistral config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    only(config, "attention_bias", &json!(false))?;
    only(config, "layer_types", &Value::Null)?;
    let mut spec = common::spec(config, "mistral", &Defaults { context: 4096 * 32, ..LLAMA })?;
    let window = optional(config, "sliding_window", Some(4096), size)?;
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(spec)
}
