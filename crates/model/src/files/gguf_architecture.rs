//! What a GGUF file's metadata and tensor names are in Hugging Face's terms, by architecture.
//!
//! llama.cpp's converter permutes the rows of Llama's q and k for its interleaved rotation, adds one to Gemma's norms and turns GPT-2's
//! matrices around; [`Change`] says what is to be undone. Mistral and SmolLM are `llama` here.
//! Sources: llama.cpp's gguf-py/gguf/{constants,tensor_mapping}.py and convert_hf_to_gguf.py. Llama 3.1's `rope_freqs` are in `gguf_rope`;
//! left out: `rope_factors_*`, Phi 3's long contexts.

use super::gguf::Metadata;
use super::gguf_rope;
use crate::Result;
use serde_json::{Map, Value, json};

/// What undoes a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// Rows in pairs (2i, 2i+1) back to halves, of so many heads as there are for queries.
    PermuteQueries,
    /// The same of keys.
    PermuteKeys,
    /// (out, in) to (in, out).
    Transpose,
    /// One less.
    MinusOne,
}

/// A part of a block, or of the model: GGUF's name, Hugging Face's name, what is to be undone. Without `.weight`.
type Part = (&'static str, &'static str, Change);

/// One architecture.
pub(super) struct Architecture {
    /// `general.architecture`.
    pub(super) name: &'static str,
    model_type: &'static str,
    class: &'static str,
    /// What is in front of a block's number.
    block: &'static str,
    outside: &'static [Part],
    inside: &'static [Part],
    /// Fields that its config has beyond the common ones.
    more: fn(&Metadata, &mut Map<String, Value>) -> Result<()>,
}

use Change::{MinusOne, None as As, PermuteKeys, PermuteQueries, Transpose};

const OUTSIDE: &[Part] =
    &[("token_embd", "model.embed_tokens", As), ("output_norm", "model.norm", As), ("output", "lm_head", As)];

const LLAMA: Architecture = Architecture {
    name: "llama",
    model_type: "llama",
    class: "LlamaForCausalLM",
    block: "model.layers.",
    outside: OUTSIDE,
    inside: &[
        ("attn_norm", "input_layernorm", As),
        ("attn_q", "self_attn.q_proj", PermuteQueries),
        ("attn_k", "self_attn.k_proj", PermuteKeys),
        ("attn_v", "self_attn.v_proj", As),
        ("attn_output", "self_attn.o_proj", As),
        ("ffn_norm", "post_attention_layernorm", As),
        ("ffn_gate", "mlp.gate_proj", As),
        ("ffn_up", "mlp.up_proj", As),
        ("ffn_down", "mlp.down_proj", As),
    ],
    more: |_, config| {
        set(config, &[("hidden_act", json!("silu")), ("attention_bias", json!(false)), ("mlp_bias", json!(false))]);
        Ok(())
    },
};

const QWEN: &[Part] = &[
    ("attn_norm", "input_layernorm", As),
    ("attn_q", "self_attn.q_proj", As),
    ("attn_q_norm", "self_attn.q_norm", As),
    ("attn_k", "self_attn.k_proj", As),
    ("attn_k_norm", "self_attn.k_norm", As),
    ("attn_v", "self_attn.v_proj", As),
    ("attn_output", "self_attn.o_proj", As),
    ("ffn_norm", "post_attention_layernorm", As),
    ("ffn_gate", "mlp.gate_proj", As),
    ("ffn_up", "mlp.up_proj", As),
    ("ffn_down", "mlp.down_proj", As),
];

const ARCHITECTURES: [Architecture; 6] = [
    LLAMA,
    Architecture {
        name: "qwen2",
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        inside: QWEN,
        more: |_, config| {
            set(config, &[("hidden_act", json!("silu")), ("use_sliding_window", json!(false))]);
            Ok(())
        },
        ..LLAMA
    },
    Architecture {
        name: "qwen3",
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        inside: QWEN,
        more: |_, config| {
            let more =
                [("hidden_act", json!("silu")), ("attention_bias", json!(false)), ("use_sliding_window", json!(false))];
            set(config, &more);
            Ok(())
        },
        ..LLAMA
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        outside: &[
            ("token_embd", "model.embed_tokens", As),
            ("output_norm", "model.norm", MinusOne),
            ("output", "lm_head", As),
        ],
        inside: &[
            ("attn_norm", "input_layernorm", MinusOne),
            ("attn_q", "self_attn.q_proj", As),
            ("attn_q_norm", "self_attn.q_norm", MinusOne),
            ("attn_k", "self_attn.k_proj", As),
            ("attn_k_norm", "self_attn.k_norm", MinusOne),
            ("attn_v", "self_attn.v_proj", As),
            ("attn_output", "self_attn.o_proj", As),
            ("post_attention_norm", "post_attention_layernorm", MinusOne),
            ("ffn_norm", "pre_feedforward_layernorm", MinusOne),
            ("ffn_gate", "mlp.gate_proj", As),
            ("ffn_up", "mlp.up_proj", As),
            ("ffn_down", "mlp.down_proj", As),
            ("post_ffw_norm", "post_feedforward_layernorm", MinusOne),
        ],
        more: gemma3,
        ..LLAMA
    },
    Architecture {
        name: "phi3",
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        inside: &[
            ("attn_norm", "input_layernorm", As),
            ("attn_qkv", "self_attn.qkv_proj", As),
            ("attn_output", "self_attn.o_proj", As),
            ("ffn_norm", "post_attention_layernorm", As),
            ("ffn_up", "mlp.gate_up_proj", As),
            ("ffn_down", "mlp.down_proj", As),
        ],
        more: phi3,
        ..LLAMA
    },
    Architecture {
        name: "gpt2",
        model_type: "gpt2",
        class: "GPT2LMHeadModel",
        block: "transformer.h.",
        outside: &[
            ("token_embd", "transformer.wte", As),
            ("position_embd", "transformer.wpe", As),
            ("output_norm", "transformer.ln_f", As),
            ("output", "lm_head", As),
        ],
        inside: &[
            ("attn_norm", "ln_1", As),
            ("attn_qkv", "attn.c_attn", Transpose),
            ("attn_output", "attn.c_proj", Transpose),
            ("ffn_norm", "ln_2", As),
            ("ffn_up", "mlp.c_fc", Transpose),
            ("ffn_down", "mlp.c_proj", Transpose),
        ],
        more: gpt2,
    },
];

static ALL: [Architecture; 6] = ARCHITECTURES;

/// The file's architecture. Errors: one that isn't supported.
pub(super) fn of(metadata: &Metadata) -> Result<&'static Architecture> {
    let name = metadata.text("general.architecture")?.unwrap_or_default();
    ALL.iter().find(|architecture| architecture.name == name).ok_or_else(|| {
        let known: Vec<String> = ALL.iter().map(|architecture| format!("`{}`", architecture.name)).collect();
        let known = known.join(", ");
        metadata.wrong(format!("has architecture `{name}`, which is not supported as GGUF; supported are {known}"))
    })
}

/// The architecture that a family is written as; None where there is none.
pub(super) fn of_family(model_type: &str) -> Option<&'static Architecture> {
    ALL.iter().find(|architecture| architecture.model_type == model_type)
}

/// The families that are read and written, for messages.
pub(super) fn families() -> String {
    ALL.iter().map(|architecture| format!("`{}`", architecture.model_type)).collect::<Vec<_>>().join(", ")
}

impl Architecture {
    /// GGUF's name of a tensor that Hugging Face calls `name`, and the change that reading it will undo: the inverse of
    /// [`Architecture::tensor`].
    pub(super) fn written_name(&self, name: &str) -> Option<(String, Change)> {
        let (path, kind) = name.rsplit_once('.')?;
        let find = |parts: &[Part], wanted: &str| parts.iter().find(|(_, part, _)| *part == wanted).copied();
        let (front, (part, _, change)) = match path.strip_prefix(self.block) {
            Some(rest) => {
                let (index, part) = rest.split_once('.')?;
                (format!("blk.{index}."), find(self.inside, part)?)
            }
            None => (String::new(), find(self.outside, path)?),
        };
        let change = if kind == "bias" && change == Transpose { As } else { change };
        Some((format!("{front}{part}.{kind}"), change))
    }

    /// Hugging Face's name of a tensor, and what is to be undone; None where the architecture has no such tensor.
    pub(super) fn tensor(&self, name: &str) -> Option<(String, Change)> {
        let (path, kind) = name.rsplit_once('.')?;
        let find = |parts: &[Part], wanted: &str| parts.iter().find(|(part, ..)| *part == wanted).copied();
        let (front, (_, part, change)) = match path.strip_prefix("blk.") {
            Some(rest) => {
                let (index, part) = rest.split_once('.')?;
                let index: usize = index.parse().ok()?;
                (format!("{}{index}.", self.block), find(self.inside, part)?)
            }
            None => (String::new(), find(self.outside, path)?),
        };
        // a bias is permuted with its rows, and has no columns to turn
        let change = if kind == "bias" && change == Transpose { As } else { change };
        ["weight", "bias"].contains(&kind).then(|| (format!("{front}{part}.{kind}"), change))
    }

    /// The `config.json` that the metadata says. Errors: a value that's missing, of another type, or not supported.
    pub(super) fn config(&self, metadata: &Metadata) -> Result<Value> {
        let Self { name, .. } = *self;
        let tensors = &metadata.content.tensor_infos;
        let own = [gguf_rope::TENSOR, "rope_factors_long.weight", "rope_factors_short.weight"];
        let is_read = |own: &str| own == gguf_rope::TENSOR && name == "llama";
        if let Some(own) = own.into_iter().find(|own| tensors.contains_key(*own) && !is_read(own)) {
            let message = format!(
                "carries `{own}` (a rotary scaling in a tensor), which is not read from GGUF yet; use the safetensors files"
            );
            return Err(metadata.wrong(message));
        }
        let key = |rest: &str| format!("{name}.{rest}");
        let heads = metadata.required(&key("attention.head_count"))?;
        if heads == 0 {
            return Err(metadata.wrong(format!("its metadata `{name}.attention.head_count` is 0")));
        }
        let hidden = metadata.required(&key("embedding_length"))?;
        let head_dim = metadata.whole(&key("attention.key_length"))?.unwrap_or(hidden / heads);
        let rotated = metadata.whole(&key("rope.dimension_count"))?.unwrap_or(head_dim);
        if rotated != head_dim && name != "phi3" {
            let message =
                format!("rotates {rotated} of {head_dim} channels of a head, which is not supported (only all are)");
            return Err(metadata.wrong(message));
        }
        let embedding = tensors.get("token_embd.weight").and_then(|info| info.shape.dims2().ok());
        let (vocabulary, _) =
            embedding.ok_or_else(|| metadata.wrong("has no tensor `token_embd.weight` of two dimensions".into()))?;
        let mut config = Map::new();
        set(
            &mut config,
            &[
                ("architectures", json!([self.class])),
                ("model_type", json!(self.model_type)),
                ("vocab_size", json!(vocabulary)),
                ("hidden_size", json!(hidden)),
                ("intermediate_size", json!(metadata.required(&key("feed_forward_length"))?)),
                ("num_hidden_layers", json!(metadata.required(&key("block_count"))?)),
                ("num_attention_heads", json!(heads)),
                ("num_key_value_heads", json!(metadata.whole(&key("attention.head_count_kv"))?.unwrap_or(heads))),
                ("head_dim", json!(head_dim)),
                ("max_position_embeddings", json!(metadata.required(&key("context_length"))?)),
                ("tie_word_embeddings", json!(!tensors.contains_key("output.weight"))),
            ],
        );
        if name != "gpt2" {
            let epsilon = key("attention.layer_norm_rms_epsilon");
            let epsilon = metadata.real(&epsilon)?.ok_or_else(|| metadata.lacks(&epsilon))?;
            let mut rope = rope(metadata, name)?;
            if tensors.contains_key(gguf_rope::TENSOR) {
                if rope["rope_type"] != "default" {
                    let message = format!("has both a rotary scaling in its metadata and `{}`", gguf_rope::TENSOR);
                    return Err(metadata.wrong(message));
                }
                let context = metadata.required(&key("context_length"))?;
                let theta = rope["rope_theta"].as_f64().unwrap_or_default();
                rope = gguf_rope::parameters(metadata, theta, head_dim as usize, context)?;
            }
            set(&mut config, &[("rms_norm_eps", json!(epsilon)), ("rope_parameters", rope)]);
        }
        (self.more)(metadata, &mut config)?;
        for field in ["bos_token_id", "eos_token_id"] {
            if let Some(id) = metadata.whole(&format!("tokenizer.ggml.{field}"))? {
                set(&mut config, &[(field, json!(id))]);
            }
        }
        Ok(Value::Object(config))
    }
}

fn set(config: &mut Map<String, Value>, fields: &[(&str, Value)]) {
    config.extend(fields.iter().map(|(key, value)| ((*key).to_string(), value.clone())));
}

/// Gemma 3 has a rotation for each kind of attention; five layers of six attend in a window.
fn gemma3(metadata: &Metadata, config: &mut Map<String, Value>) -> Result<()> {
    let heads = config.get("num_attention_heads").and_then(Value::as_u64).unwrap_or(1);
    let hidden = config.get("hidden_size").and_then(Value::as_u64).unwrap_or(0);
    let layers = config.get("num_hidden_layers").and_then(Value::as_u64);
    let head_dim = config.get("head_dim").cloned().unwrap_or_default();
    // the largest model, of 62 layers, scales by its width
    let scalar = if layers == Some(62) { json!(hidden / heads) } else { head_dim };
    let window = "gemma3.attention.sliding_window";
    let local = metadata.real("gemma3.rope.freq_base_swa")?.unwrap_or(10_000.0);
    let full = config.remove("rope_parameters").unwrap_or_default();
    set(
        config,
        &[
            ("hidden_activation", json!("gelu_pytorch_tanh")),
            ("attention_bias", json!(false)),
            ("query_pre_attn_scalar", scalar),
            ("sliding_window", json!(metadata.required(window)?)),
            ("sliding_window_pattern", json!(6)),
            (
                "rope_parameters",
                json!({
                    "full_attention": full,
                    "sliding_attention": {"rope_theta": local, "rope_type": "default"},
                }),
            ),
        ],
    );
    Ok(())
}

fn phi3(metadata: &Metadata, config: &mut Map<String, Value>) -> Result<()> {
    let context = config.get("max_position_embeddings").cloned().unwrap_or_default();
    let head_dim = config.get("head_dim").and_then(Value::as_u64).unwrap_or(1).max(1);
    let rotated = metadata.whole("phi3.rope.dimension_count")?.unwrap_or(head_dim);
    let window = metadata.whole("phi3.attention.sliding_window")?.filter(|window| *window > 0);
    if let Some(rope) = config.get_mut("rope_parameters") {
        rope["partial_rotary_factor"] = json!(rotated as f64 / head_dim as f64);
    }
    set(
        config,
        &[
            ("hidden_act", json!("silu")),
            ("attention_bias", json!(false)),
            ("original_max_position_embeddings", context),
            ("sliding_window", json!(window)),
        ],
    );
    Ok(())
}

/// GPT-2 under its own names.
fn gpt2(metadata: &Metadata, config: &mut Map<String, Value>) -> Result<()> {
    for (common, own) in [
        ("hidden_size", "n_embd"),
        ("num_hidden_layers", "n_layer"),
        ("num_attention_heads", "n_head"),
        ("intermediate_size", "n_inner"),
        ("max_position_embeddings", "n_positions"),
    ] {
        if let Some(value) = config.remove(common) {
            config.insert(own.into(), value);
        }
    }
    config.remove("num_key_value_heads");
    config.remove("head_dim");
    let key = "gpt2.attention.layer_norm_epsilon";
    let epsilon = metadata.real(key)?.ok_or_else(|| metadata.lacks(key))?;
    set(config, &[("layer_norm_epsilon", json!(epsilon)), ("activation_function", json!("gelu_new"))]);
    Ok(())
}

/// The rotary embedding. As llama.cpp reads it: a factor without a type is linear, and 0 is none.
fn rope(metadata: &Metadata, name: &str) -> Result<Value> {
    let key = |rest: &str| format!("{name}.rope.{rest}");
    let theta = metadata.real(&key("freq_base"))?.unwrap_or(10_000.0);
    let older = metadata.real(&key("scale_linear"))?;
    let factor = metadata.real(&key("scaling.factor"))?.or(older).filter(|&factor| factor != 0.0);
    let kind = metadata.text(&key("scaling.type"))?;
    match (kind.as_deref(), factor) {
        (Some("none"), _) | (None | Some("linear"), None) => Ok(json!({"rope_theta": theta, "rope_type": "default"})),
        (None | Some("linear"), Some(factor)) => {
            Ok(json!({"rope_theta": theta, "rope_type": "linear", "factor": factor}))
        }
        (Some(other), _) => {
            let message =
                format!("has rotary scaling `{other}`, which is not supported; supported are `none`, `linear`");
            Err(metadata.wrong(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_their_names_and_changes_by_architecture() {
        let of = |name: &str, tensor: &str| {
            let architecture = ARCHITECTURES.into_iter().find(|architecture| architecture.name == name).unwrap();
            architecture.tensor(tensor)
        };
        let some = |name: &str, change| Some((name.to_string(), change));
        assert_eq!(of("llama", "blk.3.attn_q.weight"), some("model.layers.3.self_attn.q_proj.weight", PermuteQueries));
        assert_eq!(of("llama", "output.weight"), some("lm_head.weight", As));
        assert_eq!(of("qwen2", "blk.0.attn_k.bias"), some("model.layers.0.self_attn.k_proj.bias", As));
        assert_eq!(of("qwen3", "blk.0.attn_q_norm.weight"), some("model.layers.0.self_attn.q_norm.weight", As));
        assert_eq!(
            of("gemma3", "blk.1.post_ffw_norm.weight"),
            some("model.layers.1.post_feedforward_layernorm.weight", MinusOne)
        );
        assert_eq!(of("gemma3", "output_norm.weight"), some("model.norm.weight", MinusOne));
        assert_eq!(of("phi3", "blk.1.ffn_up.weight"), some("model.layers.1.mlp.gate_up_proj.weight", As));
        assert_eq!(of("gpt2", "blk.1.attn_qkv.weight"), some("transformer.h.1.attn.c_attn.weight", Transpose));
        assert_eq!(of("gpt2", "blk.1.attn_qkv.bias"), some("transformer.h.1.attn.c_attn.bias", As));
        assert_eq!(of("gpt2", "position_embd.weight"), some("transformer.wpe.weight", As));
        for architecture in &ALL {
            let parts = architecture.outside.iter().map(|(part, ..)| part.to_string());
            let inside = architecture.inside.iter().map(|(part, ..)| format!("blk.7.{part}"));
            for part in parts.chain(inside) {
                for name in [format!("{part}.weight"), format!("{part}.bias")] {
                    let (theirs, change) = architecture.tensor(&name).unwrap();
                    assert_eq!(architecture.written_name(&theirs), Some((name, change)), "{}", architecture.name);
                }
            }
        }
        for tensor in
            ["blk.x.attn_q.weight", "blk.1.attn_qkv.weight", "rope_freqs.weight", "output", "blk.1.attn_q.data"]
        {
            assert_eq!(of("llama", tensor), None, "{tensor}");
        }
    }
}
