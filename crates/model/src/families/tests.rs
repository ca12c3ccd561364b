//! Fields of every family's config: what is read, and what is refused by name.

use super::spec;
use crate::rotary::RopeScaling;
use serde_json::{Value, json};

fn config() -> Value {
    json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 128,
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
    assert_eq!(older.ropes[0].theta, 500_000.0);
    assert!(matches!(older.ropes[0].scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
}

#[test]
fn fields_that_would_change_the_result_are_refused_by_name() {
    for (field, value) in [
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("rope_scaling", json!({"rope_type": "spiral", "factor": 2.0})),
        ("hidden_size", json!("64")),
        ("num_key_value_heads", json!(3)),
        ("vocab_size", json!(u64::MAX)),
        ("num_hidden_layers", json!(0)),
    ] {
        let mut config = config();
        config[field] = value;
        let message = spec(&config).unwrap_err().to_string();
        let named = if field == "rope_scaling" { "rope type `spiral`" } else { field };
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
    assert!(message(json!({"num_attention_heads": 4096, "head_dim": 8192})).contains("4096 heads of 8192 channels"));
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
    assert_eq!(spec(&config).unwrap().ropes[0].theta, 500_000.0);
    config["rope_parameters"]["rope_theta"] = json!(1e6);
    assert_eq!(spec(&config).unwrap().ropes[0].theta, 1e6);
}

#[test]
fn a_config_without_a_family_says_so() {
    for config in [json!({}), json!([]), json!({"model_type": 3})] {
        let message = spec(&config).unwrap_err().to_string();
        assert!(message.starts_with("config.json: `model_type` is missing; supported are `gemma2`, "), "{message}");
    }
}

#[test]
fn an_unknown_family_is_named_with_the_known_ones() {
    let message = spec(&json!({"model_type": "mamba"})).unwrap_err().to_string();
    assert!(message.starts_with("model_type `mamba` is not supported; supported are `gemma2`, "), "{message}");
    assert!(message.contains("`llama`"), "{message}");
}

/// The smallest config of each family.
fn families() -> Vec<Value> {
    let with = |family: &str, changes: Value| {
        let mut config = config();
        config["model_type"] = json!(family);
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    };
    vec![
        with("gemma2", json!({})),
        with("gemma3_text", json!({})),
        with("gpt2", json!({"rms_norm_eps": null, "n_embd": 64, "n_layer": 2, "n_head": 4})),
        with("gpt_neox", json!({"rms_norm_eps": null})),
        with("llama", json!({})),
        with("mistral", json!({})),
        with("olmo2", json!({})),
        with("phi3", json!({})),
        with("qwen2", json!({})),
        with("qwen3", json!({})),
        with("smollm3", json!({})),
    ]
}

#[test]
fn every_family_is_read_and_refuses_what_no_family_does() {
    assert_eq!(families().len(), super::FAMILIES.len());
    for config in families() {
        let family = config["model_type"].clone();
        let read = spec(&config).unwrap();
        assert_eq!((json!(read.family), read.layers.len()), (family.clone(), 2));
        for (field, value) in [
            ("quantization_config", json!({"bits": 4})),
            ("clip_qkv", json!(8.0)),
            ("mlp_bias", json!(true)),
            ("use_bidirectional_attention", json!(true)),
            ("logits_scaling", json!(16.0)),
        ] {
            let mut config = config.clone();
            config[field] = value;
            let message = spec(&config).unwrap_err().to_string();
            assert!(message.contains(&format!("`{field}`")), "{family}: {message}");
        }
    }
}

#[test]
fn fields_of_one_family_are_refused_by_name_where_it_does_not_do_what_they_say() {
    for (family, field, value) in [
        ("gemma2", "hidden_activation", json!("relu")),
        ("gemma3_text", "attn_logit_softcapping", json!(50.0)),
        ("gemma3_text", "layer_types", json!(["full_attention"])),
        ("gemma3_text", "rope_parameters", json!({"rope_type": "default"})),
        ("gpt2", "activation_function", json!("relu")),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true)),
        ("gpt_neox", "hidden_act", json!("relu")),
        ("gpt_neox", "rotary_pct", json!(0.1)),
        ("mistral", "attention_bias", json!(true)),
        ("mistral", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("olmo2", "attention_bias", json!(true)),
        ("phi3", "partial_rotary_factor", json!(1.5)),
        ("phi3", "rope_scaling", json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]})),
        ("qwen2", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("qwen3", "attention_bias", json!(true)),
        ("smollm3", "no_rope_layers", json!([1, 2])),
    ] {
        let mut config = families().into_iter().find(|config| config["model_type"] == family).unwrap();
        config[field] = value;
        let message = spec(&config).unwrap_err().to_string();
        let named = match field {
            "rope_scaling" => "short_factor",
            "rotary_pct" => "partial_rotary_factor",
            other => other,
        };
        assert!(message.contains(&format!("`{named}`")), "{family}, {field}: {message}");
    }
}

#[test]
fn yarn_takes_its_attention_factor_from_the_first_field_that_says_it() {
    let factor = |changes: Value| {
        let mut config = config();
        config["rope_scaling"] = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512});
        config["rope_scaling"].as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        spec(&config).unwrap().ropes[0].attention_factor()
    };
    let implied = 0.1 * 4f64.ln() + 1.0;
    assert_eq!(factor(json!({})), implied);
    assert_eq!(factor(json!({"attention_factor": 1.25, "mscale": 0.5, "mscale_all_dim": 1.0})), 1.25);
    let ratio = (0.05 * 4f64.ln() + 1.0) / implied;
    assert!((factor(json!({"mscale": 0.5, "mscale_all_dim": 1.0})) - ratio).abs() < 1e-15);
    assert_eq!(factor(json!({"mscale": 0.5})), implied, "one of the two alone counts for nothing");
}

#[test]
fn a_dynamic_scaling_reaches_beyond_the_context_of_the_config() {
    let mut config = config();
    config["max_position_embeddings"] = json!(100);
    config["rope_scaling"] = json!({"type": "dynamic", "factor": 2.5});
    let spec = spec(&config).unwrap();
    assert_eq!((spec.max_position_embeddings, spec.ropes[0].original()), (250, Some(100)));
}
