//! Every field of a `config.json` is known: it is read, or held to the one value that changes nothing, or has no effect on what a
//! model computes. Any other is an error that names it, since a fork's own field would change the result unseen.
//!
//! Sources: the classes of transformers' `models/*/configuration_*.py`, whose fields `fields.json` lists, and configs of models as
//! they are published. Left out: what a field means, which the families' files know.

use super::fields::{only, wrong};
use crate::{ModelError, Result};
use serde_json::{Map, Value, json};

/// Read by `common`.
#[rustfmt::skip]
const SIZES: &[&str] = &[
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "tie_word_embeddings", "initializer_range",
    "bos_token_id", "eos_token_id",
];
const RMS: &[&str] = &["rms_norm_eps"];
#[rustfmt::skip]
const ROPE: &[&str] =
    &["rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"];
const SILU: &[&str] = &["hidden_act", "attention_bias"];
const WINDOWS: &[&str] = &["use_sliding_window", "sliding_window", "max_window_layers", "layer_types"];
#[rustfmt::skip]
const GEMMA: &[&str] = &[
    "hidden_activation", "hidden_act", "attention_bias", "query_pre_attn_scalar", "sliding_window", "layer_types",
    "attn_logit_softcapping", "final_logit_softcapping",
];

/// The fields that a family reads, by groups.
pub(super) fn read(family: &str) -> &'static [&'static [&'static str]] {
    match family {
        "gemma2" => &[SIZES, RMS, ROPE, GEMMA],
        "gemma3_text" => &[
            SIZES,
            RMS,
            GEMMA,
            &["rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq"],
            &["sliding_window_pattern", "_sliding_window_pattern"],
        ],
        "gpt2" => &[
            &["model_type", "vocab_size", "tie_word_embeddings", "initializer_range", "bos_token_id", "eos_token_id"],
            &["n_embd", "n_layer", "n_head", "n_inner", "n_positions", "layer_norm_epsilon", "activation_function"],
            // the same by transformers' common names
            &[
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "max_position_embeddings",
            ],
            &["scale_attn_weights", "scale_attn_by_inverse_layer_idx"],
        ],
        "gpt_neox" => &[
            SIZES,
            ROPE,
            &[
                "layer_norm_eps",
                "hidden_act",
                "attention_bias",
                "use_parallel_residual",
                "rotary_pct",
                "rotary_emb_base",
            ],
        ],
        "llama" | "olmo2" => &[SIZES, RMS, ROPE, SILU, &["sliding_window"]],
        "mistral" => &[SIZES, RMS, ROPE, SILU, &["sliding_window", "layer_types"]],
        "phi3" => &[SIZES, RMS, ROPE, SILU, &["sliding_window"]],
        "qwen2" => &[SIZES, RMS, ROPE, &["hidden_act"], WINDOWS],
        "qwen3" => &[SIZES, RMS, ROPE, SILU, WINDOWS],
        "smollm3" => &[
            SIZES,
            RMS,
            ROPE,
            SILU,
            &["use_sliding_window", "sliding_window", "layer_types", "no_rope_layers", "no_rope_layer_interval"],
        ],
        _ => &[],
    }
}

/// Without effect on what a model computes, by what they are about.
#[rustfmt::skip]
const WITHOUT_EFFECT: &[&[&str]] = &[
    // where it came from, and how it is loaded
    &["architectures", "transformers_version", "name_or_path", "auto_map", "dtype", "torch_dtype", "training_dtype",
      "attn_implementation", "use_flash_attn", "use_bfloat16", "torchscript", "tf_legacy_loss", "custom_pipelines",
      "is_llama_config", "task_specific_params", "finetuning_task", "model_max_length", "tokenizer_class", "prefix"],
    // what is returned, remembered or recomputed
    &["use_cache", "cache_implementation", "return_dict", "return_dict_in_generate", "output_hidden_states",
      "output_attentions", "output_scores", "chunk_size_feed_forward", "gradient_checkpointing", "is_decoder"],
    // exact in theory, and done in another order by some: matrices in slices, scores in f32
    &["pretraining_tp", "reorder_and_upcast_attn", "scale_attention_softmax_in_fp32", "attention_softmax_in_fp32"],
    // training: dropout isn't applied here, weights aren't made by these
    &["attention_dropout", "attn_pdrop", "attention_probs_dropout_prob", "hidden_dropout", "hidden_dropout_prob",
      "resid_pdrop", "embd_pdrop", "classifier_dropout", "mlp_dropout", "neftune_noise_alpha"],
    // heads that aren't a language model's
    &["summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
      "id2label", "label2id", "num_labels", "problem_type"],
    // generation, as configs had it before generation_config.json
    &["pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id", "decoder_start_token_id", "forced_bos_token_id",
      "forced_eos_token_id", "max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams",
      "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
      "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
      "num_return_sequences", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
      "begin_suppress_tokens"],
    // GPT-2's and SmolLM 3's, which nothing reads
    &["n_ctx", "n_special", "predict_special_tokens", "max_window_layers"],
];

/// Beginnings of the names of notes that tools leave, of no effect: transformers' private fields are all derived from others.
const NOTES: [&str; 3] = ["_", "unsloth", "transformers."];

/// Fields of other families, or of forks, and the value at which they change nothing. Null, and not being there, does so for all.
#[rustfmt::skip]
fn neutral() -> Vec<(&'static str, Value)> {
    let off = [
        "mlp_bias", "attention_bias", "lm_head_bias", "qkv_bias", "use_bias", "use_qkv_bias", "use_qk_norm", "qk_layernorm",
        "use_bidirectional_attention", "is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder",
        "use_sliding_window", "rope_interleaved", "rope_interleave", "use_mrope", "alibi", "scale_embedding",
        "multi_query", "parallel_attn", "output_router_logits",
    ];
    let one = [
        "embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling", "logit_scale",
        "partial_rotary_factor", "interpolate_factor", "full_attn_mod",
    ];
    let none = ["pruned_heads"];
    let off = off.into_iter().map(|field| (field, json!(false)));
    let one = one.into_iter().map(|field| (field, json!(1.0)));
    let zero = ["num_nextn_predict_layers", "num_experts", "num_local_experts"].into_iter().map(|field| (field, json!(0)));
    off.chain(one).chain(zero).chain(none.into_iter().map(|field| (field, json!({})))).collect()
}

/// Ends of the classes that compute what a language model does.
const LANGUAGE_MODELS: [&str; 3] = ["ForCausalLM", "LMHeadModel", "Model"];

/// Errors: a field that the family doesn't know, with its name; a class with another head than a language model's.
pub(super) fn check(config: &Value, family: &str) -> Result<()> {
    let nothing = Map::new();
    let fields = config.as_object().unwrap_or(&nothing);
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let is_in = |lists: &[&[&str]]| lists.iter().any(|list| list.contains(&field.as_str()));
        if is_in(read(family)) || is_in(WITHOUT_EFFECT) {
            continue;
        }
        if let Some((_, neutral)) = neutral().iter().find(|(name, _)| name == field) {
            only(config, field, neutral)?;
        } else if field == "layer_types" {
            let full = value.as_array().is_some_and(|types| types.iter().all(|kind| kind == "full_attention"));
            full.then_some(()).ok_or_else(|| wrong(field, value, "`full_attention` for every layer"))?;
        } else if !NOTES.iter().any(|note| field.starts_with(note)) {
            return Err(ModelError::Unsupported(format!(
                "config.json: `{field}` is `{value}`, and what it would change in a `{family}` model isn't known; if it \
                 changes nothing, take it out of the file"
            )));
        }
    }
    let classes = config.get("architectures").and_then(Value::as_array).into_iter().flatten();
    match classes.filter_map(Value::as_str).find(|class| !LANGUAGE_MODELS.iter().any(|end| class.ends_with(end))) {
        Some(class) => Err(ModelError::Unsupported(format!(
            "config.json: `architectures` names `{class}`, which is no language model"
        ))),
        None => Ok(()),
    }
}

/// Fields of a rotary embedding's parameters.
#[rustfmt::skip]
const ROPE_PARAMETERS: [&str; 17] = [
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings",
    "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "truncate", "attention_factor", "mscale",
    "mscale_all_dim", "short_factor", "long_factor",
    "finetuned", // a note of YaRN's first models
];

/// Errors: a parameter of the rotation that isn't known.
pub(super) fn check_rope(parameters: &Value) -> Result<()> {
    let nothing = Map::new();
    let fields = parameters.as_object().unwrap_or(&nothing).iter().filter(|(_, value)| !value.is_null());
    match fields.into_iter().find(|(field, _)| !ROPE_PARAMETERS.contains(&field.as_str())) {
        Some((field, value)) => Err(ModelError::Unsupported(format!(
            "config.json: the rotary parameter `{field}` is `{value}`, and what it would change isn't known"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) fn is_without_effect(field: &str) -> bool {
    WITHOUT_EFFECT.iter().any(|list| list.contains(&field))
}
