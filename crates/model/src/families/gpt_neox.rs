//! GPT-NeoX and Pythia: layer norms, a plain MLP beside attention, a partial rotation, heads stored one after another.
//! Source: transformers' models/gpt_neox.

use super::common::{self, Defaults, LLAMA};
use super::fields::{flag, gelu, number, only};
use super::rope;
use crate::Result;
use crate::spec::{Biases, BlockNames, Form, Mlp, Names, NormKind, QueryKeyValue, Spec};
use serde_json::Value;

const NAMES: Names = Names {
    embedding: "gpt_neox.embed_in.weight",
    positions: None,
    final_norm: "gpt_neox.final_layer_norm.weight",
    head: "embed_out.weight",
    prefix: "gpt_neox.",
    block_prefix: "gpt_neox.layers.",
    block: BlockNames {
        attention_norm: Some("input_layernorm.weight"),
        query_key_value: QueryKeyValue::PerHead("attention.query_key_value.weight"),
        query_key_norm: None,
        output: "attention.dense.weight",
        post_attention_norm: None,
        mlp_norm: Some("post_attention_layernorm.weight"),
        mlp: Mlp::Plain { up: "mlp.dense_h_to_4h.weight", form: Form::Erf },
        down: "mlp.dense_4h_to_h.weight",
        post_mlp_norm: None,
    },
};

/// The spec of a GPT-NeoX config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "num_key_value_heads", &Value::Null)?;
    only(config, "head_dim", &Value::Null)?;
    // the fields' names before transformers 5
    let (theta, partial) =
        (number(config, "rotary_emb_base", Some(10_000.0))?, number(config, "rotary_pct", Some(0.25))?);
    let rope = rope::Defaults { theta, partial: Some(partial) };
    let norm_eps = ("layer_norm_eps", 1e-5);
    let mut spec = common::spec(config, "gpt_neox", &Defaults { norm_eps, rope, ..LLAMA })?;
    spec.norm = NormKind::Layer;
    let attention = flag(config, "attention_bias", true)?;
    spec.biases = Biases { query_key_value: attention, output: attention, mlp: true };
    spec.parallel_residual = flag(config, "use_parallel_residual", true)?;
    let form = gelu(config, "hidden_act", Form::Erf)?;
    spec.names = NAMES;
    spec.names.block.mlp = Mlp::Plain { up: "mlp.dense_h_to_4h.weight", form };
    Ok(spec)
}
