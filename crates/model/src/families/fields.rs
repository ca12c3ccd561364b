//! Reading fields of a `config.json`, with errors that name the field, what it holds and what is expected.

use crate::spec::Form;
use crate::{ModelError, Result};
use serde_json::Value;

pub(super) fn wrong(field: &str, found: &Value, expected: &str) -> ModelError {
    ModelError::Unsupported(format!("config.json: `{field}` is `{found}`, expected {expected}"))
}

/// The largest size a field may have: beyond any model there is, and small enough that products of sizes fit 64 bits.
pub(super) const LARGEST: u64 = 1 << 24;

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
        Some(value) if value == expected || (value.is_number() && value.as_f64() == expected.as_f64()) => Ok(()),
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

/// A number above 0, or none where the field is null. Absent gives `default`.
pub(super) fn optional<T>(
    config: &Value,
    field: &str,
    default: Option<T>,
    read: impl Fn(&Value, &str, Option<T>) -> Result<T>,
) -> Result<Option<T>> {
    match config.get(field) {
        None => Ok(default),
        Some(Value::Null) => Ok(None),
        Some(_) => read(config, field, None).map(Some),
    }
}

/// A list of positive numbers, `length` of them.
pub(super) fn numbers(config: &Value, field: &str, length: usize) -> Result<Vec<f64>> {
    let value = config.get(field).unwrap_or(&Value::Null);
    let numbers = value.as_array().filter(|values| values.len() == length);
    let numbers = numbers.and_then(|values| values.iter().map(|v| v.as_f64().filter(|n| *n > 0.0)).collect());
    numbers.ok_or_else(|| wrong(field, value, &format!("a list of {length} positive numbers")))
}

/// Which layers attend in a window, by `layer_types`; where that is absent, as `default` says of each index.
pub(super) fn sliding(config: &Value, layers: usize, default: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let value = config.get("layer_types").filter(|value| !value.is_null());
    let Some(value) = value else { return Ok((0..layers).map(default).collect()) };
    let kind = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Some(false),
        Some("sliding_attention") => Some(true),
        _ => None,
    };
    let kinds = value.as_array().filter(|kinds| kinds.len() == layers);
    let kinds = kinds.and_then(|kinds| kinds.iter().map(kind).collect());
    let expected = format!("`full_attention` or `sliding_attention` for each of {layers} layers");
    kinds.ok_or_else(|| wrong("layer_types", value, &expected))
}

/// The form of GELU that a field names.
pub(super) fn gelu(config: &Value, field: &str, default: Form) -> Result<Form> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => match value.as_str() {
            Some("gelu") => Ok(Form::Erf),
            Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh") => Ok(Form::Tanh),
            _ => Err(wrong(field, value, "`gelu`, `gelu_new`, `gelu_fast` or `gelu_pytorch_tanh`")),
        },
    }
}
