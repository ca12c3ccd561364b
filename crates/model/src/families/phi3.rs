//! Phi 3, 3.5 and 4: Llama with fused matrices, a partial rotation and longrope. Source: transformers' models/phi3.

use super::common::{self, Defaults, LLAMA};
use super::fields::{only, optional, size};
use super::rope;
use crate::Result;
use crate::spec::{Activation, Mlp, QueryKeyValue, Spec};
use serde_json::{Value, json};

const DEFAULTS: Defaults = Defaults {
    norm_eps: ("rms_norm_eps", 1e-5),
    context: 4096,
    rope: rope::Defaults { theta: 10_000.0, partial: Some(1.0) },
    ..LLAMA
};

/// The spec of a Phi 3 config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    only(config, "attention_bias", &json!(false))?;
    let mut config = config.clone();
    for field in ["rope_parameters", "rope_scaling"] {
        // the first configs of Phi 3 call longrope `yarn`
        for name in ["rope_type", "type"] {
            if config.get(field).and_then(|rope| rope.get(name)) == Some(&json!("yarn")) {
                config[field][name] = json!("longrope");
            }
        }
    }
    // a context of its own where longer ones have other frequencies
    config["original_max_position_embeddings"] = json!(size(&config, "original_max_position_embeddings", Some(4096))?);
    let mut spec = common::spec(&config, "phi3", &DEFAULTS)?;
    spec.names.block.query_key_value = QueryKeyValue::Stacked("self_attn.qkv_proj.weight");
    spec.names.block.mlp = Mlp::Fused { gate_up: "mlp.gate_up_proj.weight", activation: Activation::Silu };
    let window = optional(&config, "sliding_window", None, size)?;
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(spec)
}
