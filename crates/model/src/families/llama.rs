//! Llama 1 to 3.3 and what shares its layout (SmolLM, TinyLlama). Source: transformers' models/llama.

use super::common::{self, LLAMA};
use super::fields::only;
use crate::Result;
use crate::spec::Spec;
use serde_json::{Value, json};

/// The spec of a Llama config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    only(config, "attention_bias", &json!(false))?;
    only(config, "sliding_window", &Value::Null)?;
    common::spec(config, "llama", &LLAMA)
}
