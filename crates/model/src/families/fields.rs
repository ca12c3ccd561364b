//! Reading fields of a `config.json`, with errors that name the field, what it holds and what is expected.

use crate::spec::{Rope, RopeScaling};
use crate::{ModelError, Result};
use serde_json::Value;

fn wrong(field: &str, found: &Value, expected: &str) -> ModelError {
    ModelError::Unsupported(format!("config.json: `{field}` is `{found}`, expected {expected}"))
}

/// The largest size a field may have: beyond any model there is, and small enough that products of sizes fit 64 bits.
const LARGEST: u64 = 1 << 24;

/// A positive whole number; absent or null gives `default`, or an error where there is none.
pub(super) fn size(config: &Value, field: &str, default: Option<usize>) -> Result<usize> {
    match (config.get(field), default) {
        (None | Some(Value::Null), Some(default)) => Ok(default),
        (None | Some(Value::Null), None) => Err(ModelError::Unsupported(format!("config.json: `{field}` is missing"))),
        (Some(value), _) => match value.as_u64() {
            Some(number) if (1..=LARGEST).contains(&number) => Ok(number as usize),
            _ => Err(wrong(field, value, &format!("a positive whole number up to {LARGEST}"))),
        },
    }
}

/// A positive number.
pub(super) fn number(config: &Value, field: &str, default: Option<f64>) -> Result<f64> {
    match (config.get(field), default) {
        (None | Some(Value::Null), Some(default)) => Ok(default),
        (None | Some(Value::Null), None) => Err(ModelError::Unsupported(format!("config.json: `{field}` is missing"))),
        (Some(value), _) => value.as_f64().filter(|n| *n > 0.0).ok_or_else(|| wrong(field, value, "a positive number")),
    }
}

/// true or false.
pub(super) fn flag(config: &Value, field: &str, default: bool) -> Result<bool> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| wrong(field, value, "true or false")),
    }
}

/// Refuses a field unless it is absent, null or `expected`: anything else would change the result.
pub(super) fn only(config: &Value, field: &str, expected: &Value) -> Result<()> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value == expected => Ok(()),
        Some(value) => Err(ModelError::Unsupported(format!(
            "config.json: `{field}` is `{value}`, which is not supported (only `{expected}` is)"
        ))),
    }
}

/// Token ids: absent, one, or a list.
pub(crate) fn token_ids(config: &Value, field: &str) -> Result<Vec<u32>> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(field, value, "a token id or a list of them"))
    };
    match config.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

/// The rotary embedding, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before).
/// Errors: both forms at once, a type that isn't known, a field of it missing.
pub(super) fn rope(config: &Value) -> Result<Rope> {
    let newer = config.get("rope_parameters").filter(|value| !value.is_null());
    let older = config.get("rope_scaling").filter(|value| !value.is_null());
    if newer.is_some() && older.is_some() {
        let message = "config.json: both `rope_parameters` and `rope_scaling` are there; keep the one that counts";
        return Err(ModelError::Unsupported(message.into()));
    }
    let theta = number(config, "rope_theta", Some(10_000.0))?;
    let Some(parameters) = newer.or(older) else { return Ok(Rope { theta, scaling: RopeScaling::Default }) };
    let theta = number(parameters, "rope_theta", Some(theta))?;
    only(parameters, "partial_rotary_factor", &serde_json::json!(1.0))?;
    let kind = parameters.get("rope_type").or_else(|| parameters.get("type"));
    let kind = kind.map_or(Some("default"), Value::as_str);
    let kind = kind.ok_or_else(|| wrong("rope_type", parameters, "a name under `rope_type`"))?;
    let scaling = match kind {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: number(parameters, "factor", None)? },
        "llama3" => RopeScaling::Llama3 {
            factor: number(parameters, "factor", None)?,
            low_freq_factor: number(parameters, "low_freq_factor", None)?,
            high_freq_factor: number(parameters, "high_freq_factor", None)?,
            original_max_position_embeddings: number(parameters, "original_max_position_embeddings", None)?,
        },
        other => {
            return Err(ModelError::Unsupported(format!(
                "config.json: rope type `{other}` is not supported; supported are `default`, `linear`, `llama3`"
            )));
        }
    };
    Ok(Rope { theta, scaling })
}
