//! Reading GGUF against the same model as a Hugging Face folder: values, hash, tokenizers, and what is refused by name. The file is
//! written by `common::gguf`.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use candle_core::{DType, Device, Tensor};
use common::gguf::{END, Pair, TEMPLATE, logits, tokens_and_merges, vocabulary};
use common::{bits, load, message, numbers};
use outcrop_model::{Base, export};
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn gguf_and_folder_give_the_same_bits_tied_and_untied_in_f32_and_quantized() {
    for tied in [true, false] {
        for dtype in [GgmlDType::F32, GgmlDType::Q8_0, GgmlDType::Q4_0] {
            let pair = Pair::new(tied, dtype);
            let (gguf, hf) = (Base::open(&pair.gguf()).unwrap(), Base::open(&pair.hugging_face()).unwrap());
            let mut spec = hf.spec().clone();
            spec.bos_token_id = Some(0);
            spec.eos_token_ids = vec![0];
            assert_eq!(gguf.spec(), &spec);
            assert_eq!(gguf.spec().tie_word_embeddings, tied);
            let (ours, theirs) = (load(&pair.gguf()).unwrap(), load(&pair.hugging_face()).unwrap());
            for ((name, a), (other, b)) in ours.weights().into_iter().zip(theirs.weights()) {
                assert_eq!(name, other);
                assert_eq!(bits(a), bits(b), "{name} as {dtype:?}");
            }
            assert_eq!(logits(&pair.gguf()), logits(&pair.hugging_face()), "{dtype:?}");
        }
    }
}

#[test]
fn the_hash_of_a_gguf_file_is_of_its_content_not_of_its_name() {
    let pair = Pair::new(true, GgmlDType::Q8_0);
    let hash = |path: &Path| Base::open(path).unwrap().hash().unwrap();
    let other = pair.folder.path().join("other.gguf");
    fs_err::copy(pair.gguf(), &other).unwrap();
    assert_eq!(hash(&other), hash(&pair.gguf()));
    let mut bytes = fs_err::read(&other).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&other, bytes).unwrap();
    assert_ne!(hash(&other), hash(&pair.gguf()));
}

#[test]
fn the_tokenizer_of_smollm_has_no_prefix_space_and_single_digits() {
    let pair = Pair::new(true, GgmlDType::F32);
    let base = Base::open(&pair.gguf()).unwrap();
    let tokenizer = base.tokenizer().unwrap();
    let encode = |text: &str| tokenizer.encode(text, true).unwrap().get_tokens().to_vec();
    assert_eq!(encode("Hello"), ["Hello"]);
    assert_eq!(encode(" Hello"), ["ĠHello"]);
    assert_eq!(encode("1234"), ["1", "2", "3", "4"]);
    assert_eq!(encode("xyz"), ["x", "y", "z"]);
    assert_eq!(encode(&format!("Hello{END}")), ["Hello", END]);
    let ids = tokenizer.encode(" Hello 12é", true).unwrap().get_ids().to_vec();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), " Hello 12é");
    assert_eq!(base.end_token(&tokenizer).unwrap(), 0);
    assert_eq!(base.stop_tokens(&tokenizer).unwrap(), [0]);
}

#[test]
fn the_tokenizer_of_llama_3_has_no_prefix_space_groups_of_three_digits_and_a_bos() {
    let pair = Pair::new(true, GgmlDType::F32);
    let encode = |text: &str, add_bos: Option<bool>| {
        let base = pair.changed(|metadata, _| {
            metadata.insert("tokenizer.ggml.pre", Value::String("llama-bpe".into()));
            metadata.remove("tokenizer.ggml.add_bos_token");
            if let Some(add_bos) = add_bos {
                metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(add_bos));
            }
        });
        base.unwrap().tokenizer().unwrap().encode(text, true).unwrap().get_tokens().to_vec()
    };
    assert_eq!(encode("Hello1234", Some(false)), ["Hello", "123", "4"]);
    assert_eq!(encode("xyz", Some(false)), ["xyz"], "a word that is a token needs no merges");
    assert_eq!(encode("Hello", Some(true)), [END, "Hello"]);
    assert_eq!(encode("Hello", None), [END, "Hello"], "files without the key mean true");
}

/// Pieces of a small SentencePiece model, with scores and types: the longest are the best.
fn sentence_pieces() -> Vec<(String, f32, i32)> {
    let mut pieces = vec![("<unk>".to_string(), 0.0, 2), ("<s>".into(), 0.0, 3), ("</s>".into(), 0.0, 3)];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    pieces.push(("<tool>".into(), 0.0, 4));
    for (score, piece) in ["▁abc", "abc", "▁a", "bc", "ab", "▁", "a", "b", "c"].into_iter().enumerate() {
        pieces.push((piece.into(), -(score as f32) - 1.0, 1));
    }
    pieces
}

#[test]
fn a_sentencepiece_tokenizer_is_rebuilt_from_pieces_and_scores() {
    let pair = Pair::new(true, GgmlDType::F32);
    let base = |change: &dyn Fn(&mut BTreeMap<&'static str, Value>)| {
        let base = pair.changed(|metadata, _| {
            let list = |values: Vec<Value>| Value::Array(values);
            let pieces = sentence_pieces();
            metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
            let texts = pieces.iter().map(|(text, ..)| Value::String(text.clone())).collect();
            metadata.insert("tokenizer.ggml.tokens", list(texts));
            metadata.insert("tokenizer.ggml.scores", list(pieces.iter().map(|piece| Value::F32(piece.1)).collect()));
            metadata
                .insert("tokenizer.ggml.token_type", list(pieces.iter().map(|piece| Value::I32(piece.2)).collect()));
            metadata.insert("tokenizer.ggml.bos_token_id", Value::U32(1));
            for key in ["tokenizer.ggml.merges", "tokenizer.ggml.pre", "tokenizer.ggml.add_bos_token"] {
                metadata.remove(key);
            }
            change(metadata);
        });
        base.unwrap().tokenizer()
    };
    let encode =
        |tokenizer: &tokenizers::Tokenizer, text: &str| tokenizer.encode(text, true).unwrap().get_tokens().to_vec();
    let plain = base(&|_| ()).unwrap();
    // `bc` is better than `ab`, but joins to nothing with `▁a` that is better still
    assert_eq!(encode(&plain, "abc cab"), ["<s>", "▁abc", "▁", "c", "ab"]);
    assert_eq!(encode(&plain, "é"), ["<s>", "▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(encode(&plain, "a<tool>b</s>"), ["<s>", "▁a", "<tool>", "▁", "b", "</s>"]);
    for text in ["abc  cab é", "a"] {
        let ids = plain.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(plain.decode(&ids, true).unwrap(), text);
    }
    let flag = |key: &'static str| move |metadata: &mut BTreeMap<_, _>| drop(metadata.insert(key, Value::Bool(false)));
    let bare = base(&|metadata| {
        flag("tokenizer.ggml.add_bos_token")(metadata);
        flag("tokenizer.ggml.add_space_prefix")(metadata);
    });
    assert_eq!(encode(&bare.unwrap(), "abc"), ["abc"]);
    let error = message(base(&|metadata| {
        metadata.insert("tokenizer.ggml.scores", Value::Array(vec![Value::F32(0.0)]));
    }));
    assert!(error.contains("it has 269 tokens but 1 scores and 269 types"), "{error}");
    let error = message(base(&|metadata| {
        metadata.insert("tokenizer.ggml.scores", Value::Array(vec![Value::U32(0)]));
    }));
    assert!(error.contains("its `tokenizer.ggml.scores` is not a list of what it should be"), "{error}");
}

#[test]
fn a_tokenizer_that_would_be_guessed_is_refused() {
    let pair = Pair::new(true, GgmlDType::F32);
    let error = |key: &'static str, value: Option<&str>| {
        let base = pair.changed(|metadata, _| {
            metadata.remove(key);
            metadata.extend(value.map(|value| (key, Value::String(value.into()))));
        });
        message(base.unwrap().tokenizer())
    };
    for (key, value, expected) in [
        ("tokenizer.ggml.pre", Some("viking"), "its pre-tokenizer `viking` is not supported"),
        ("tokenizer.ggml.pre", Some("default"), "its pre-tokenizer `default` is not supported"),
        ("tokenizer.ggml.pre", None, "it names no pre-tokenizer (`tokenizer.ggml.pre`)"),
        ("tokenizer.ggml.model", Some("llama"), "it has no `tokenizer.ggml.scores`"),
        ("tokenizer.ggml.model", Some("t5"), "unsupported tokenizer model `t5`"),
        ("tokenizer.ggml.tokens", None, "missing GGUF metadata key `tokenizer.ggml.tokens`"),
    ] {
        let message = error(key, value);
        let expected = format!("its tokenizer can't be rebuilt: {expected}; use the safetensors files");
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn what_would_change_the_result_is_refused_by_name() {
    let pair = Pair::new(true, GgmlDType::F32);
    let text = |text: &str| Value::String(text.into());
    for (key, value, expected) in [
        (
            "general.architecture",
            Some(text("bert")),
            "has architecture `bert`, which is not supported as GGUF; supported are `llama`, `qwen2`, `qwen3`, `gemma3`, `phi3`, `gpt2`",
        ),
        (
            "general.architecture",
            None,
            "has architecture ``, which is not supported as GGUF; supported are `llama`, `qwen2`, `qwen3`, `gemma3`, `phi3`, `gpt2`",
        ),
        ("general.architecture", Some(Value::U32(1)), "its metadata `general.architecture` is not a text"),
        (
            "llama.rope.scaling.type",
            Some(text("yarn")),
            "has rotary scaling `yarn`, which is not supported; supported are `none`, `linear`",
        ),
        (
            "llama.rope.dimension_count",
            Some(Value::U32(8)),
            "rotates 8 of 16 channels of a head, which is not supported (only all are)",
        ),
        (
            "llama.attention.head_count_kv",
            Some(Value::Array(vec![Value::U32(2); 2])),
            "its metadata `llama.attention.head_count_kv` is not a whole number from 0",
        ),
        (
            "llama.attention.sliding_window",
            Some(Value::U32(7)),
            "has the metadata `llama.attention.sliding_window`, and what it would change isn't known; use the safetensors files",
        ),
        (
            "llama.attention.causal",
            Some(Value::Bool(false)),
            "has the metadata `llama.attention.causal`, and what it would change isn't known; use the safetensors files",
        ),
        (
            "llama.attention.value_length",
            Some(Value::U32(8)),
            "has keys of 16 and values of 8 channels, which must be as many",
        ),
        (
            "split.count",
            Some(Value::U16(3)),
            "is one of 3 parts of a model, which aren't read; put them together by `llama-gguf-split --merge`",
        ),
        ("llama.block_count", None, "lacks the metadata `llama.block_count`"),
        ("llama.block_count", Some(Value::I32(-1)), "its metadata `llama.block_count` is not a whole number from 0"),
        ("llama.attention.layer_norm_rms_epsilon", None, "lacks the metadata `llama.attention.layer_norm_rms_epsilon`"),
        ("llama.rope.freq_base", Some(text("1e4")), "its metadata `llama.rope.freq_base` is not a number"),
        ("llama.attention.head_count", Some(Value::U32(0)), "its metadata `llama.attention.head_count` is 0"),
        ("general.alignment", Some(Value::U32(0)), "its `general.alignment` is 0, which is not a power of two"),
    ] {
        let result = pair.changed(|metadata, _| {
            metadata.remove(key);
            metadata.extend(value.map(|value| (key, value)));
        });
        let message = message(result);
        assert!(message.contains("changed.gguf: ") && message.ends_with(expected), "{message}");
    }
}

#[test]
fn linear_scaling_is_read_in_both_of_its_forms() {
    let pair = Pair::new(true, GgmlDType::F32);
    let rope = |entries: &[(&'static str, Value)]| {
        pair.changed(|metadata, _| metadata.extend(entries.iter().cloned())).unwrap().spec().ropes[0].scaling.clone()
    };
    let linear = outcrop_model::RopeScaling::Linear { factor: 4.0 };
    let kind = |kind: &str| ("llama.rope.scaling.type", Value::String(kind.into()));
    assert_eq!(rope(&[kind("linear"), ("llama.rope.scaling.factor", Value::F32(4.0))]), linear);
    assert_eq!(rope(&[("llama.rope.scale_linear", Value::F32(4.0))]), linear);
    assert_eq!(
        rope(&[kind("none"), ("llama.rope.scaling.factor", Value::F32(4.0))]),
        outcrop_model::RopeScaling::Default
    );
    assert_eq!(rope(&[]), outcrop_model::RopeScaling::Default);
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let pair = Pair::new(true, GgmlDType::F32);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let key = "model.layers.1.self_attn.k_proj.weight";
    for (name, tensor, expected) in [
        ("rope_freqs.weight", Some(zeros(&[8])), "`rope_freqs.weight` has a value that isn't a positive number"),
        (
            "rope_freqs.weight",
            Some(zeros(&[7])),
            "`rope_freqs.weight` has 7 values, one for each of 8 frequencies is expected",
        ),
        (
            "rope_factors_long.weight",
            Some(zeros(&[8])),
            "carries `rope_factors_long.weight` (a rotary scaling in a tensor), which is not read from GGUF yet; use the safetensors files",
        ),
        (
            "blk.0.ffn_gate_inp.weight",
            Some(zeros(&[8, 64])),
            "`blk.0.ffn_gate_inp.weight` is not a tensor of a llama model",
        ),
        ("blk.x.attn_q.weight", Some(zeros(&[8, 64])), "`blk.x.attn_q.weight` is not a tensor of a llama model"),
        (
            "blk.7.ffn_norm.weight",
            Some(zeros(&[64])),
            "`model.layers.7.post_attention_layernorm.weight` is not a tensor of this llama model",
        ),
        (
            "model.layers.1.mlp.up_proj.weight",
            Some(zeros(&[64, 96])),
            "`model.layers.1.mlp.up_proj.weight` has shape [64, 96], config.json needs [96, 64]",
        ),
        ("model.norm.weight", None, "`model.norm.weight` is missing"),
        ("model.embed_tokens.weight", None, "has no tensor `token_embd.weight` of two dimensions"),
        ("model.embed_tokens.weight", Some(zeros(&[64])), "has no tensor `token_embd.weight` of two dimensions"),
    ] {
        let message = message(pair.changed(|_, tensors| {
            tensors.remove(name);
            tensors.extend(tensor.map(|tensor| (name.to_string(), tensor)));
        }));
        assert!(message.ends_with(expected), "{message}");
    }
    let misshapen = message(pair.changed(|_, tensors| {
        tensors.insert(key.into(), zeros(&[36, 64]));
    }));
    assert!(misshapen.contains("`blk.1.attn_k.weight` can't be read: "), "{misshapen}");
}

#[test]
fn a_file_that_is_cut_off_or_claims_too_much_is_an_error() {
    let pair = Pair::new(true, GgmlDType::Q8_0);
    let whole = fs_err::read(pair.gguf()).unwrap();
    let path = pair.folder.path().join("cut.gguf");
    for length in (0..whole.len()).step_by(whole.len() / 37).chain([whole.len() - 64]) {
        fs_err::write(&path, &whole[..length]).unwrap();
        assert!(message(load(&path)).contains("cut.gguf: "), "{length} bytes");
    }
    // behind a tensor's name come the number of its dimensions and the first of them: 2^62 where 64 stood
    let name = b"output_norm.weight";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4;
    let mut large = whole.clone();
    large[at..at + 8].copy_from_slice(&(1u64 << 62).to_le_bytes());
    fs_err::write(&path, large).unwrap();
    assert!(
        message(load(&path)).contains("`output_norm.weight` has shape [4611686018427387904], more than the file's")
    );
}

#[test]
fn a_weight_that_is_no_number_is_named_as_the_file_has_it() {
    let pair = Pair::new(true, GgmlDType::F32);
    let message = message(pair.changed(|_, tensors| {
        let mut values = vec![0.5f32; 64];
        values[9] = f32::NAN;
        tensors.insert("model.norm.weight".into(), Tensor::from_vec(values, 64, &Device::Cpu).unwrap());
    }));
    let expected = "changed.gguf: `output_norm.weight` has 1 of 64 weights that are NaN or infinite as F32, the first at [9]; \
                    use another copy, or a checkpoint from before they were";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn merges_that_make_no_token_are_an_error_not_a_panic() {
    let pair = Pair::new(true, GgmlDType::F32);
    let longest = tokens_and_merges().0.into_iter().max_by_key(String::len).unwrap();
    let merges = Value::Array(vec![Value::String(format!("{longest} {longest}"))]);
    let base = pair.changed(|metadata, _| drop(metadata.insert("tokenizer.ggml.merges", merges))).unwrap();
    let message = message(base.tokenizer());
    assert!(message.contains("its tokenizer can't be rebuilt: its parts contradict each other ("), "{message}");
}

#[test]
fn r29_r30_an_export_of_a_gguf_base_carries_its_tokenizer_template_and_values() {
    let pair = Pair::new(false, GgmlDType::Q8_0);
    let (base, target) = (Base::open(&pair.gguf()).unwrap(), pair.folder.path().join("export"));
    let decoder = load(&pair.gguf()).unwrap();
    let result = export::write(&decoder, &base, &target, DType::F32, &[numbers(20, vocabulary() as u32, 1)]).unwrap();
    assert_eq!((result.largest_difference, result.same_choice), (0.0, 1));
    assert_eq!(logits(&target), logits(&pair.gguf()));
    assert_eq!(fs_err::read_to_string(target.join("chat_template.jinja")).unwrap(), TEMPLATE);
    let exported = Base::open(&target).unwrap();
    let (ours, theirs) = (exported.tokenizer().unwrap(), base.tokenizer().unwrap());
    assert_eq!(exported.end_token(&ours).unwrap(), 0);
    for text in ["Hello Hello 1234 xyz", " é\n\n  12", END] {
        assert_eq!(ours.encode(text, true).unwrap().get_ids(), theirs.encode(text, true).unwrap().get_ids(), "{text}");
    }
}
