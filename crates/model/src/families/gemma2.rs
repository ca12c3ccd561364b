//! Gemma 2: scaled embedding, norms of weight 1 + w on both sides of each branch, GeGLU, soft-caps, a window in every
//! other layer. Source: transformers' models/gemma2.

use super::common::{self, Defaults, LLAMA, gated};
use super::fields::{number, only, optional, size, sliding};
use crate::Result;
use crate::spec::{Activation, Form, NormKind, Spec};
use serde_json::{Value, json};

/// The spec of a Gemma 2 config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    let mut spec = gemma(config, "gemma2", 8192)?;
    spec.attention_softcap = optional(config, "attn_logit_softcapping", Some(50.0), number)?.map(|cap| cap as f32);
    spec.final_softcap = optional(config, "final_logit_softcapping", Some(30.0), number)?.map(|cap| cap as f32);
    let window = size(config, "sliding_window", Some(4096))?;
    let sliding = sliding(config, spec.num_hidden_layers, |index| index % 2 == 0)?;
    for (layer, sliding) in spec.layers.iter_mut().zip(sliding) {
        layer.window = sliding.then_some(window);
    }
    Ok(spec)
}

/// What Gemma 2 and 3 share.
pub(super) fn gemma(config: &Value, family: &str, context: usize) -> Result<Spec> {
    only(config, "hidden_activation", &json!("gelu_pytorch_tanh"))?;
    only(config, "hidden_act", &json!("gelu_pytorch_tanh"))?; // a second name, which older configs have beside the first
    only(config, "attention_bias", &json!(false))?;
    let mut config = config.clone();
    config["head_dim"] = json!(size(&config, "head_dim", Some(256))?); // not the hidden size by the heads
    let mut spec = common::spec(&config, family, &Defaults { context, tied: true, ..LLAMA })?;
    spec.norm = NormKind::RmsOffset;
    spec.embedding_scale = Some((spec.hidden_size as f64).sqrt());
    spec.attention_scale = number(&config, "query_pre_attn_scalar", Some(256.0))?.sqrt().recip();
    let block = &mut spec.names.block;
    block.post_attention_norm = Some("post_attention_layernorm.weight");
    block.mlp_norm = Some("pre_feedforward_layernorm.weight");
    block.post_mlp_norm = Some("post_feedforward_layernorm.weight");
    block.mlp = gated(Activation::Gelu(Form::Tanh));
    Ok(spec)
}
