//! Gemma 3, text alone: Gemma 2 without soft-caps, each head's query and key normalised, and a rotation of its own in
//! the layers that attend in a window. Source: transformers' models/gemma3.

use super::fields::{number, only, optional, size, sliding};
use super::gemma2::gemma;
use super::qwen3::PER_HEAD;
use super::rope::{self, Defaults};
use crate::rotary::Rope;
use crate::spec::{Layer, Spec};
use crate::{ModelError, Result};
use serde_json::{Value, json};

/// The spec of a Gemma 3 text config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    let mut plain = config.clone();
    for field in ["rope_parameters", "rope_scaling"] {
        plain[field] = Value::Null; // `ropes` reads them: there are two
    }
    let mut spec = gemma(&plain, "gemma3_text", 131_072)?;
    spec.names.block.query_key_norm = Some(PER_HEAD);
    only(config, "attn_logit_softcapping", &Value::Null)?; // transformers' Gemma 3 reads it and doesn't apply it
    spec.final_softcap = optional(config, "final_logit_softcapping", None, number)?.map(|cap| cap as f32);
    let window = size(config, "sliding_window", Some(4096))?;
    let pattern = size(config, "sliding_window_pattern", Some(6))?;
    if ["layer_types", "sliding_window_pattern"].iter().all(|field| config.get(field).is_none_or(Value::is_null)) {
        only(config, "_sliding_window_pattern", &json!(6))?; // a note beside the other two, which some readers take alone
    }
    let sliding = sliding(config, spec.num_hidden_layers, |index| !(index + 1).is_multiple_of(pattern))?;
    let layer = |sliding: bool| Layer { window: sliding.then_some(window), rope: Some(usize::from(sliding)) };
    spec.layers = sliding.into_iter().map(layer).collect();
    spec.ropes = ropes(config, &spec)?.into();
    Ok(spec)
}

/// The rotations of full attention and of attention in a window.
fn ropes(config: &Value, spec: &Spec) -> Result<[Rope; 2]> {
    let newer = config.get("rope_parameters").filter(|value| !value.is_null());
    let older = config.get("rope_scaling").filter(|value| !value.is_null());
    if newer.is_some() && older.is_some() {
        let message = "config.json: both `rope_parameters` and `rope_scaling` are there; keep the one that counts";
        return Err(ModelError::Unsupported(message.into()));
    }
    let of = |kind: &str, older: Option<&Value>, theta: f64| {
        let nested = newer.and_then(|value| value.get(kind)).filter(|value| !value.is_null());
        let nothing = json!({});
        let parameters = nested.or(older).unwrap_or(&nothing);
        let defaults = Defaults { theta, partial: None };
        rope::of(parameters, &nothing, spec.head_dim, spec.max_position_embeddings, &defaults)
    };
    if let Some(value) = newer.filter(|v| v.get("full_attention").is_none() && v.get("sliding_attention").is_none()) {
        let message = format!("config.json: `rope_parameters` is `{value}`, expected one for each kind of layer");
        return Err(ModelError::Unsupported(message));
    }
    let (full, sliding) =
        (number(config, "rope_theta", Some(1e6))?, number(config, "rope_local_base_freq", Some(10_000.0))?);
    Ok([of("full_attention", older, full)?, of("sliding_attention", None, sliding)?])
}
