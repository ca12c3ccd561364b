//! What most families share: the fields of sizes, Llama's names of tensors.

use super::fields::{LARGEST, flag, number, size, token_ids};
use super::rope::{self, rope};
use crate::rotary::RopeScaling;
use crate::spec::{Activation, Biases, BlockNames, Layer, Mlp, Names, NormKind, QueryKeyValue, Spec};
use crate::{ModelError, Result};
use serde_json::Value;

/// Llama's names of tensors, which most families took over.
pub(super) const NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    positions: None,
    final_norm: "model.norm.weight",
    head: "lm_head.weight",
    prefix: "model.",
    block_prefix: "model.layers.",
    block: BlockNames {
        attention_norm: Some("input_layernorm.weight"),
        query_key_value: QueryKeyValue::Separate {
            query: "self_attn.q_proj.weight",
            key: "self_attn.k_proj.weight",
            value: "self_attn.v_proj.weight",
        },
        query_key_norm: None,
        output: "self_attn.o_proj.weight",
        post_attention_norm: None,
        mlp_norm: Some("post_attention_layernorm.weight"),
        mlp: gated(Activation::Silu),
        down: "mlp.down_proj.weight",
        post_mlp_norm: None,
    },
};

/// Llama's gated MLP with another activation.
pub(super) const fn gated(activation: Activation) -> Mlp {
    Mlp::Gated { gate: "mlp.gate_proj.weight", up: "mlp.up_proj.weight", activation }
}

/// What a family's config leaves out where it is the default of transformers.
pub(super) struct Defaults {
    /// The field of the norms' epsilon, and its value.
    pub(super) norm_eps: (&'static str, f64),
    pub(super) context: usize,
    pub(super) tied: bool,
    pub(super) rope: rope::Defaults,
}

/// Those of Llama.
pub(super) const LLAMA: Defaults = Defaults {
    norm_eps: ("rms_norm_eps", 1e-6),
    context: 2048,
    tied: false,
    rope: rope::Defaults { theta: 10_000.0, partial: None },
};

/// Bounds beyond any model there is, so that a count of weights fits 64 bits whatever a config says.
const MOST_LAYERS: usize = 4096;
const MOST_CHANNELS: usize = 1 << 24;

/// A spec of Llama's form: RMS norms before each branch, a gated MLP, one rotation, no window, no bias. Families change
/// what they do otherwise.
pub(super) fn spec(config: &Value, family: &str, defaults: &Defaults) -> Result<Spec> {
    let hidden_size = size(config, "hidden_size", None)?;
    let num_attention_heads = size(config, "num_attention_heads", None)?;
    let num_key_value_heads = size(config, "num_key_value_heads", Some(num_attention_heads))?;
    let head_dim = size(config, "head_dim", Some(hidden_size / num_attention_heads))?;
    let num_hidden_layers = size(config, "num_hidden_layers", None)?;
    if num_hidden_layers > MOST_LAYERS || num_attention_heads * head_dim > MOST_CHANNELS {
        return Err(ModelError::Unsupported(format!(
            "config.json: {num_hidden_layers} layers of {num_attention_heads} heads of {head_dim} channels are more than \
             the {MOST_LAYERS} layers and {MOST_CHANNELS} channels that fit"
        )));
    }
    if !num_attention_heads.is_multiple_of(num_key_value_heads) || head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(ModelError::Unsupported(format!(
            "config.json: {num_attention_heads} query heads, {num_key_value_heads} key/value heads of {head_dim} channels: \
             the first must be a multiple of the second, the channels even and not 0"
        )));
    }
    let context = size(config, "max_position_embeddings", Some(defaults.context))?;
    let rope = rope(config, head_dim, context, &defaults.rope)?;
    // a dynamic scaling is there to go beyond the context that the config names
    let reach = if let RopeScaling::Dynamic { factor, .. } = rope.scaling { factor.max(1.0) } else { 1.0 };
    if context as f64 * reach > LARGEST as f64 {
        let message = format!("config.json: a context of {context} tokens times {reach} is more than {LARGEST} tokens");
        return Err(ModelError::Unsupported(message));
    }
    let (eps_field, eps) = defaults.norm_eps;
    Ok(Spec {
        family: family.into(),
        vocab_size: size(config, "vocab_size", None)?,
        hidden_size,
        intermediate_size: size(config, "intermediate_size", None)?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        norm: NormKind::Rms,
        norm_eps: number(config, eps_field, Some(eps))? as f32,
        max_position_embeddings: (context as f64 * reach) as usize,
        tie_word_embeddings: flag(config, "tie_word_embeddings", defaults.tied)?,
        embedding_scale: None,
        attention_scale: (head_dim as f64).sqrt().recip(),
        attention_softcap: None,
        final_softcap: None,
        parallel_residual: false,
        transposed: false,
        biases: Biases::default(),
        ropes: vec![rope],
        layers: vec![Layer { window: None, rope: Some(0) }; num_hidden_layers],
        initializer_range: number(config, "initializer_range", Some(0.02))?,
        bos_token_id: token_ids(config, "bos_token_id")?.first().copied(),
        eos_token_ids: token_ids(config, "eos_token_id")?,
        names: NAMES,
    })
}
