//! One file per family: it maps `config.json` to a [`Spec`]. An unknown family, or a field that would change the
//! result and isn't supported, is an error that names it.

mod common;
mod fields;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod known;
#[cfg(test)]
mod known_tests;
mod llama;
mod mistral;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod rope;
mod smollm3;
#[cfg(test)]
mod tests;

pub(crate) use fields::token_ids;

use crate::spec::Spec;
use crate::{ModelError, Result};
use serde_json::Value;

/// Reads the config of one family.
type Read = fn(&Value) -> Result<Spec>;

/// `model_type`s that can be loaded, and what reads their config.
const FAMILIES: [(&str, Read); 11] = [
    ("gemma2", gemma2::spec),
    ("gemma3_text", gemma3::spec),
    ("gpt2", gpt2::spec),
    ("gpt_neox", gpt_neox::spec),
    ("llama", llama::spec),
    ("mistral", mistral::spec),
    ("olmo2", olmo2::spec),
    ("phi3", phi3::spec),
    ("qwen2", qwen2::spec),
    ("qwen3", qwen3::spec),
    ("smollm3", smollm3::spec),
];

/// Their names, for messages.
pub fn supported() -> String {
    FAMILIES.map(|(name, _)| format!("`{name}`")).join(", ")
}

/// Reads a `config.json`. Errors: an unknown `model_type`, a missing, wrong, unsupported or unknown field.
pub fn spec(config: &Value) -> Result<Spec> {
    let Some(family) = config.get("model_type").and_then(Value::as_str) else {
        let message = format!("config.json: `model_type` is missing; supported are {}", supported());
        return Err(ModelError::Unsupported(message));
    };
    match FAMILIES.iter().find(|(name, _)| *name == family) {
        Some((_, read)) => {
            let spec = read(config)?;
            known::check(config, family)?;
            Ok(spec)
        }
        None => {
            let message = format!("model_type `{family}` is not supported; supported are {}", supported());
            Err(ModelError::Unsupported(message))
        }
    }
}
