//! GPT-2: learned positions, layer norms, a plain MLP, biases everywhere, matrices stored as (in, out). Source:
//! transformers' models/gpt2.

use super::common::{self, Defaults, LLAMA};
use super::fields::{flag, gelu, only};
use crate::spec::{Biases, BlockNames, Form, Layer, Mlp, Names, NormKind, QueryKeyValue, Spec};
use crate::{ModelError, Result};
use serde_json::{Value, json};

const NAMES: Names = Names {
    embedding: "transformer.wte.weight",
    positions: Some("transformer.wpe.weight"),
    final_norm: "transformer.ln_f.weight",
    head: "lm_head.weight",
    prefix: "transformer.",
    block_prefix: "transformer.h.",
    block: BlockNames {
        attention_norm: Some("ln_1.weight"),
        query_key_value: QueryKeyValue::Stacked("attn.c_attn.weight"),
        query_key_norm: None,
        output: "attn.c_proj.weight",
        post_attention_norm: None,
        mlp_norm: Some("ln_2.weight"),
        mlp: Mlp::Plain { up: "mlp.c_fc.weight", form: Form::Tanh },
        down: "mlp.c_proj.weight",
        post_mlp_norm: None,
    },
};

/// GPT-2's fields under the names that the other families have.
const FIELDS: [(&str, &str); 5] = [
    ("n_embd", "hidden_size"),
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("n_inner", "intermediate_size"),
    ("n_positions", "max_position_embeddings"),
];

/// The spec of a GPT-2 config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "scale_attn_by_inverse_layer_idx", &json!(false))?;
    let mut renamed = config.clone();
    for (own, common) in FIELDS {
        if let Some(value) = config.get(own) {
            if let Some(other) = config.get(common).filter(|other| *other != value) {
                let message =
                    format!("config.json: `{own}` is `{value}` and `{common}` is `{other}`, two names of one size");
                return Err(ModelError::Unsupported(message));
            }
            renamed[common] = value.clone();
        }
    }
    if renamed.get("intermediate_size").is_none_or(Value::is_null) {
        renamed["intermediate_size"] =
            json!(renamed.get("hidden_size").and_then(Value::as_u64).map(|c| c.saturating_mul(4)));
    }
    let defaults = Defaults { norm_eps: ("layer_norm_epsilon", 1e-5), context: 1024, tied: true, ..LLAMA };
    let mut spec = common::spec(&renamed, "gpt2", &defaults)?;
    spec.norm = NormKind::Layer;
    spec.transposed = true;
    spec.biases = Biases { query_key_value: true, output: true, mlp: true };
    if !flag(config, "scale_attn_weights", true)? {
        spec.attention_scale = 1.0;
    }
    spec.ropes = vec![];
    spec.layers = vec![Layer { window: None, rope: None }; spec.num_hidden_layers];
    let form = gelu(config, "activation_function", Form::Tanh)?;
    spec.names = NAMES;
    spec.names.block.mlp = Mlp::Plain { up: "mlp.c_fc.weight", form };
    Ok(spec)
}
