//! Llama 1 to 3.3 and what shares its layout (SmolLM, TinyLlama). Source: transformers' models/llama.

use super::fields::{flag, number, only, rope, size, token_ids};
use crate::spec::{BlockNames, Names, Spec};
use crate::{ModelError, Result};
use serde_json::{Value, json};

/// Names of the tensors.
pub(super) const NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    final_norm: "model.norm.weight",
    head: "lm_head.weight",
    block_prefix: "model.layers.",
    block: BlockNames {
        attention_norm: "input_layernorm.weight",
        query: "self_attn.q_proj.weight",
        key: "self_attn.k_proj.weight",
        value: "self_attn.v_proj.weight",
        output: "self_attn.o_proj.weight",
        mlp_norm: "post_attention_layernorm.weight",
        gate: "mlp.gate_proj.weight",
        up: "mlp.up_proj.weight",
        down: "mlp.down_proj.weight",
    },
};

/// Bounds beyond any model there is, so that a count of weights fits 64 bits whatever a config says.
const MOST_LAYERS: usize = 4096;
const MOST_CHANNELS: usize = 1 << 24;

/// The spec of a Llama config.
pub(super) fn spec(config: &Value) -> Result<Spec> {
    only(config, "hidden_act", &json!("silu"))?;
    only(config, "attention_bias", &json!(false))?;
    only(config, "mlp_bias", &json!(false))?;
    only(config, "sliding_window", &Value::Null)?;
    only(config, "partial_rotary_factor", &json!(1.0))?;
    only(config, "quantization_config", &Value::Null)?;
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
    Ok(Spec {
        family: "llama".into(),
        vocab_size: size(config, "vocab_size", None)?,
        hidden_size,
        intermediate_size: size(config, "intermediate_size", None)?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        norm_eps: number(config, "rms_norm_eps", Some(1e-6))? as f32,
        max_position_embeddings: size(config, "max_position_embeddings", Some(2048))?,
        tie_word_embeddings: flag(config, "tie_word_embeddings", false)?,
        rope: rope(config)?,
        initializer_range: number(config, "initializer_range", Some(0.02))?,
        bos_token_id: token_ids(config, "bos_token_id")?.first().copied(),
        eos_token_ids: token_ids(config, "eos_token_id")?,
        names: NAMES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RopeScaling;

    fn config() -> Value {
        json!({"hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 128,
               "num_hidden_layers": 2, "rms_norm_eps": 1e-5})
    }

    #[test]
    fn older_and_newer_rope_fields_give_the_same_spec() {
        let (mut older, mut newer) = (config(), config());
        let scaling = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192});
        older["rope_theta"] = json!(500_000.0);
        older["rope_scaling"] = scaling.clone();
        older["rope_scaling"]["type"] = json!("llama3");
        newer["rope_parameters"] = scaling;
        newer["rope_parameters"]["rope_type"] = json!("llama3");
        newer["rope_parameters"]["rope_theta"] = json!(500_000.0);
        let (older, newer) = (spec(&older).unwrap(), spec(&newer).unwrap());
        assert_eq!(older, newer);
        assert_eq!(older.rope.theta, 500_000.0);
        assert!(matches!(older.rope.scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
    }

    #[test]
    fn fields_that_would_change_the_result_are_refused_by_name() {
        for (field, value) in [
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(true)),
            ("mlp_bias", json!(true)),
            ("rope_scaling", json!({"rope_type": "yarn", "factor": 2.0})),
            ("hidden_size", json!("64")),
            ("num_key_value_heads", json!(3)),
            ("vocab_size", json!(u64::MAX)),
            ("num_hidden_layers", json!(0)),
        ] {
            let mut config = config();
            config[field] = value;
            let message = spec(&config).unwrap_err().to_string();
            let named = if field == "rope_scaling" { "rope type `yarn`" } else { field };
            let named = if field == "num_key_value_heads" { "3 key/value heads" } else { named };
            assert!(message.contains(named), "{field}: {message}");
        }
    }

    #[test]
    fn a_head_without_channels_and_a_size_beyond_any_model_are_errors() {
        let message = |changes: Value| {
            let mut config = config();
            config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            spec(&config).unwrap_err().to_string()
        };
        assert!(message(json!({"hidden_size": 2})).contains("heads of 0 channels"));
        assert!(message(json!({"num_hidden_layers": 5000})).contains("5000 layers"));
        assert!(
            message(json!({"num_attention_heads": 4096, "head_dim": 8192})).contains("4096 heads of 8192 channels")
        );
        let message = message(json!({"hidden_size": 1u64 << 40}));
        assert_eq!(
            message,
            "config.json: `hidden_size` is `1099511627776`, expected a positive whole number up to 16777216"
        );
    }

    #[test]
    fn rope_fields_that_contradict_each_other_or_are_no_names_are_refused() {
        let message = |changes: Value| {
            let mut config = config();
            config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            spec(&config).unwrap_err().to_string()
        };
        let both = json!({"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"type": "linear", "factor": 2.0}});
        assert!(message(both).contains("both `rope_parameters` and `rope_scaling`"));
        assert!(message(json!({"rope_scaling": {"rope_type": 3}})).contains("expected a name under `rope_type`"));
        assert!(message(json!({"rope_scaling": {"type": "llama3"}})).contains("`factor` is missing"));
        let partial = json!({"rope_parameters": {"partial_rotary_factor": 0.5}});
        assert!(message(partial).contains("`partial_rotary_factor` is `0.5`"));
    }

    #[test]
    fn a_theta_beside_the_rope_parameters_counts_where_they_have_none() {
        let mut config = config();
        config["rope_theta"] = json!(500_000.0);
        config["rope_parameters"] = json!({"rope_type": "default"});
        assert_eq!(spec(&config).unwrap().rope.theta, 500_000.0);
        config["rope_parameters"]["rope_theta"] = json!(1e6);
        assert_eq!(spec(&config).unwrap().rope.theta, 1e6);
    }

    #[test]
    fn a_linear_scaling_divides_every_frequency() {
        let mut config = config();
        let plain = spec(&config).unwrap().rope.inverse_frequencies(16);
        config["rope_scaling"] = json!({"type": "linear", "factor": 4.0});
        let scaled = spec(&config).unwrap().rope.inverse_frequencies(16);
        assert!(plain.iter().zip(&scaled).all(|(a, b)| (a / 4.0 - b).abs() < 1e-15));
    }
}
