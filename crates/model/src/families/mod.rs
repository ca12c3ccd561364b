//! One file per family: it maps `config.json` to a [`Spec`]. An unknown family, or a field that would change the
//! result and isn't supported, is an error that names it.

mod fields;
mod llama;

pub(crate) use fields::token_ids;

use crate::spec::Spec;
use crate::{ModelError, Result};
use serde_json::Value;

/// `model_type`s that can be loaded.
pub const SUPPORTED: [&str; 1] = ["llama"];

/// Reads a `config.json`. Errors: an unknown `model_type`, a missing, wrong or unsupported field.
pub fn spec(config: &Value) -> Result<Spec> {
    let Some(family) = config.get("model_type").and_then(Value::as_str) else {
        let message = format!("config.json: `model_type` is missing; supported are `{}`", SUPPORTED.join("`, `"));
        return Err(ModelError::Unsupported(message));
    };
    match family {
        "llama" => llama::spec(config),
        other => Err(ModelError::Unsupported(format!(
            "model_type `{other}` is not supported; supported are `{}`",
            SUPPORTED.join("`, `")
        ))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_config_without_a_family_says_so() {
        for config in [serde_json::json!({}), serde_json::json!([]), serde_json::json!({"model_type": 3})] {
            let message = super::spec(&config).unwrap_err().to_string();
            assert_eq!(message, "config.json: `model_type` is missing; supported are `llama`");
        }
    }

    #[test]
    fn an_unknown_family_is_named_with_the_known_ones() {
        let message = super::spec(&serde_json::json!({"model_type": "mamba"})).unwrap_err().to_string();
        assert_eq!(message, "model_type `mamba` is not supported; supported are `llama`");
    }
}
