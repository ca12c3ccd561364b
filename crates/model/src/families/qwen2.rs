//! Qwen 2 and 2.5: Llama with biases on queries, keys and values, and a window in the upper layers where the config
//! says so. Source: transformers' models/qwen2.

use super::common::{self, Defaults, LLAMA};
use super::fields::{flag, only, optional, size, sliding, wrong};
use crate::Result;
use crate::spec::{Biases, Spec};
use serde_json::{Value, json};

/// The spec of a Qwen 2 config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    let mut spec = common::spec(config, "qwen2", &Defaults { context: 32768, ..LLAMA })?;
    spec.biases = Biases { query_key_value: true, ..Biases::default() };
    windows(config, &mut spec)?;
    Ok(spec)
}

/// The windows of Qwen 2 and 3: by `layer_types`, else in the layers from `max_window_layers` on.
pub(super) fn windows(config: &Value, spec: &mut Spec) -> Result<()> {
    let used = flag(config, "use_sliding_window", false)?;
    let window = if used { optional(config, "sliding_window", Some(4096), size)? } else { None };
    // 0 is a number of layers, too
    let first = match config.get("max_window_layers") {
        None | Some(Value::Null) => 28,
        Some(value) => value.as_u64().ok_or_else(|| wrong("max_window_layers", value, "a whole number from 0"))?,
    };
    let sliding = sliding(config, spec.num_hidden_layers, |index| window.is_some() && index as u64 >= first)?;
    if window.is_none() && sliding.contains(&true) {
        let value = config.get("layer_types").unwrap_or(&Value::Null);
        return Err(wrong("layer_types", value, "no `sliding_attention` without `use_sliding_window` and its size"));
    }
    for (layer, sliding) in spec.layers.iter_mut().zip(sliding) {
        layer.window = window.filter(|_| sliding);
    }
    Ok(())
}
