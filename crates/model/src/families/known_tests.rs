//! No field of a config is ignored unseen: every field of transformers' classes is read, held to its neutral value, or without effect.

use super::{FAMILIES, known, spec};
use serde_json::{Value, json};

/// The config of each family as transformers 5.23 writes it for two layers (tests/interop/config_fields.py).
fn written() -> serde_json::Map<String, Value> {
    let all: Value = serde_json::from_str(include_str!("fields.json")).unwrap();
    all.as_object().unwrap().clone()
}

/// A config in which every field that is read has a say.
fn with_everything(family: &str, written: &Value) -> Value {
    let mut config = written.clone();
    let more = match family {
        "qwen2" | "qwen3" => {
            json!({"use_sliding_window": true, "sliding_window": 7, "max_window_layers": 1, "layer_types": null})
        }
        "smollm3" => {
            json!({"use_sliding_window": true, "sliding_window": 7, "layer_types": null, "num_hidden_layers": 4,
                            "no_rope_layers": null})
        }
        "gemma3_text" => json!({"layer_types": null, "rope_parameters": null, "num_hidden_layers": 4}),
        "gemma2" => json!({"layer_types": null}),
        "gpt2" => json!({"n_inner": 3072}),
        _ => json!({}),
    };
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let factors = vec![1.5; 48];
    let longrope = json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors});
    match family {
        "gemma3_text" => {}
        "phi3" => config["rope_parameters"] = longrope,
        _ if config.get("rope_parameters").is_some() => {
            config["rope_parameters"] = json!({"rope_type": "yarn", "factor": 4.0});
        }
        _ => {}
    }
    config
}

#[test]
fn the_config_that_transformers_writes_is_read_for_every_family() {
    let written = written();
    assert_eq!(written.len(), FAMILIES.len());
    for (family, config) in &written {
        let spec = spec(config).unwrap_or_else(|error| panic!("{family}: {error}"));
        assert_eq!((spec.family.as_str(), spec.num_hidden_layers), (family.as_str(), 2));
    }
}

#[test]
fn every_field_of_transformers_is_read_held_to_its_value_or_without_effect() {
    let others = [
        json!(3),
        json!(12),
        json!(24),
        json!(0.5),
        json!(true),
        json!(false),
        json!("relu"),
        json!("gelu"),
        json!(["full_attention", "sliding_attention"]),
        json!([1, 0, 0, 1]),
        json!({"factor": 2.0, "type": "linear"}),
        json!({"rope_type": "spiral"}),
    ];
    for (family, config) in written() {
        let config = with_everything(&family, &config);
        let spec_of = |field: &str, value: &Value| {
            let mut config = config.clone();
            config[field] = value.clone();
            spec(&config)
        };
        let before = spec(&config).unwrap_or_else(|error| panic!("{family}: {error}"));
        let fields = config.as_object().unwrap().keys().map(String::as_str);
        let read = known::read(&family).iter().flat_map(|list| list.iter().copied());
        for field in fields.chain(read).filter(|field| *field != "model_type") {
            let changed: Vec<_> = others.iter().map(|value| spec_of(field, value)).collect();
            let is_read = known::read(&family).iter().any(|list| list.contains(&field));
            if !is_read && field != "architectures" && (known::is_without_effect(field) || field.starts_with('_')) {
                assert!(
                    changed.iter().all(|spec| spec.as_ref().is_ok_and(|spec| *spec == before)),
                    "{family}: `{field}`"
                );
                continue;
            }
            let has_a_say = |spec: &crate::Result<_>| match spec {
                Ok(spec) => *spec != before,
                Err(_) => true,
            };
            assert!(changed.iter().any(has_a_say), "{family}: no other value of `{field}` makes a difference");
        }
    }
}

#[test]
fn a_field_that_no_family_knows_is_an_error_that_names_it() {
    for (family, config) in written() {
        let with = |field: &str, value: Value| {
            let mut config = config.clone();
            config[field] = value;
            spec(&config).map_err(|error| error.to_string())
        };
        let message = with("attention_sinks", json!(4)).unwrap_err();
        let expected = format!(
            "config.json: `attention_sinks` is `4`, and what it would change in a `{family}` model isn't known; if it changes \
             nothing, take it out of the file"
        );
        assert_eq!(message, expected);
        assert!(with("attention_sinks", Value::Null).is_ok(), "null is absent");
        // notes of tools
        for (field, value) in
            [("_name_or_path", json!("a/b")), ("unsloth_version", json!("2025.1")), ("auto_map", json!({}))]
        {
            assert!(with(field, value).is_ok(), "{family}: {field}");
        }
        // fields of others at the value that changes nothing, and at another
        for (field, neutral, other) in [
            ("use_mrope", json!(false), json!(true)),
            ("residual_multiplier", json!(1), json!(0.22)),
            ("pruned_heads", json!({}), json!({"1": [0]})),
            ("num_experts", json!(0), json!(8)),
            ("quantization_config", Value::Null, json!({"bits": 4})),
            ("compression_config", Value::Null, json!({"format": "int"})),
        ] {
            assert!(with(field, neutral).is_ok(), "{family}: {field}");
            assert!(with(field, other).unwrap_err().contains(&format!("`{field}`")), "{family}: {field}");
        }
        let class = with("architectures", json!(["LlamaForSequenceClassification"])).unwrap_err();
        assert!(class.ends_with("`architectures` names `LlamaForSequenceClassification`, which is no language model"));
    }
}

#[test]
fn a_rotary_parameter_that_is_not_known_is_an_error_that_names_it() {
    for (family, mut config) in written() {
        match family.as_str() {
            "gpt2" => continue,
            "gemma3_text" => config["rope_parameters"]["full_attention"]["mrope_section"] = json!([16, 24, 24]),
            _ => config["rope_parameters"]["mrope_section"] = json!([16, 24, 24]),
        }
        let message = spec(&config).unwrap_err().to_string();
        assert!(message.contains("the rotary parameter `mrope_section` is `[16,24,24]`"), "{family}: {message}");
    }
}

#[test]
fn configs_as_published_are_read() {
    // the fields beside the sizes of SmolLM2-135M, SmolLM3-3B, Phi-4-mini, gemma-2-2b, gemma-3-1b, gemma-3-270m, Qwen2.5, pythia, gpt2
    for (family, fields) in [
        (
            "llama",
            json!({"is_llama_config": true, "rope_interleaved": false, "rope_scaling": null, "pretraining_tp": 1,
                         "transformers.js_config": {"kv_cache_dtype": {}}}),
        ),
        (
            "smollm3",
            json!({"max_window_layers": 28, "pretraining_tp": 2, "use_sliding_window": false, "mlp_bias": false}),
        ),
        (
            "phi3",
            json!({"embd_pdrop": 0.0, "resid_pdrop": 0.0, "full_attn_mod": 1, "interpolate_factor": 1, "mlp_bias": false,
                        "lm_head_bias": false, "partial_rotary_factor": 1.0, "sliding_window": 262144,
                        "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}}),
        ),
        ("gemma2", json!({"cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh"})),
        ("gemma3_text", json!({"cache_implementation": "hybrid", "sliding_window_pattern": 6, "rope_scaling": null})),
        ("gemma3_text", json!({"_sliding_window_pattern": 6, "use_bidirectional_attention": false})),
        ("qwen2", json!({"use_mrope": false, "max_window_layers": 21, "use_sliding_window": false})),
        ("gpt_neox", json!({"rotary_pct": 0.25, "rotary_emb_base": 10000, "classifier_dropout": 0.1})),
        (
            "gpt2",
            json!({"n_ctx": 1024, "summary_type": "cls_index", "_num_labels": 1,
                        "task_specific_params": {"text-generation": {"do_sample": true}}}),
        ),
    ] {
        let mut config = written()[family].clone();
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec(&config).unwrap_or_else(|error| panic!("{family}: {error}"));
    }
}
