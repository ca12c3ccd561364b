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
