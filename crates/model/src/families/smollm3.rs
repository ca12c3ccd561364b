//! SmolLM 3: Llama with layers that aren't rotated, every fourth where the config doesn't list them. Source:
//! transformers' models/smollm3.

use super::common::{self, Defaults, LLAMA};
use super::fields::{flag, only, optional, size, sliding, wrong};
use super::rope;
use crate::Result;
use crate::spec::Spec;
use serde_json::{Value, json};

const DEFAULTS: Defaults =
    Defaults { context: 32768, tied: true, rope: rope::Defaults { theta: 2e6, partial: None }, ..LLAMA };

/// The spec of a SmolLM 3 config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    only(config, "attention_bias", &json!(false))?;
    let mut spec = common::spec(config, "smollm3", &DEFAULTS)?;
    let rotated = rotated(config, spec.num_hidden_layers)?;
    let used = flag(config, "use_sliding_window", false)?;
    let window = if used { optional(config, "sliding_window", None, size)? } else { None };
    let sliding = sliding(config, spec.num_hidden_layers, |index| !rotated[index])?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        layer.rope = rotated[index].then_some(0);
        layer.window = window.filter(|_| sliding[index]);
    }
    Ok(spec)
}

/// Which layers are rotated: those with a 1 in `no_rope_layers`.
fn rotated(config: &Value, layers: usize) -> Result<Vec<bool>> {
    let Some(value) = config.get("no_rope_layers").filter(|value| !value.is_null()) else {
        let interval = size(config, "no_rope_layer_interval", Some(4))?;
        return Ok((0..layers).map(|index| !(index + 1).is_multiple_of(interval)).collect());
    };
    let flags = value.as_array().filter(|flags| flags.len() == layers);
    let flags = flags.and_then(|flags| flags.iter().map(|f| f.as_u64().filter(|f| *f <= 1).map(|f| f == 1)).collect());
    flags.ok_or_else(|| wrong("no_rope_layers", value, &format!("0 or 1 for each of {layers} layers")))
}
