//! GGUF files as they are exported: every family in every type, both kinds of tokenizers, and what is refused in which words.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device};
use common::{bits, config, load, message, numbers, random_tensors, write_json, write_tensors};
use outcrop_model::export::gguf::{GgufType, write};
use outcrop_model::{Base, Row};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const END: &str = "<|endoftext|>";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const ALL: [GgufType; 4] = [GgufType::F32, GgufType::F16, GgufType::Bf16, GgufType::Q8_0];

fn bytes(use_regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn split(regex: &str) -> Json {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn digits() -> Json {
    json!({"type": "Digits", "individual_digits": true})
}

fn sequence(steps: &[Json]) -> Json {
    json!({"type": "Sequence", "pretokenizers": steps})
}

fn added(id: usize, text: &str, special: bool) -> Json {
    json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
           "special": special})
}

/// Byte-level tokens with a few merges; `w2`'s place, id 2, is the end token's.
fn byte_level() -> Json {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2", "12 3", "123 4"];
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    tokens.insert(2, END.into());
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let vocabulary: serde_json::Map<String, Json> = tokens.into_iter().zip(0..).map(|(t, id)| (t, json!(id))).collect();
    let merges: Vec<Vec<&str>> = merges.iter().map(|merge| merge.split(' ').collect()).collect();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(2, END, true)],
           "normalizer": null, "pre_tokenizer": bytes(true), "post_processor": null, "decoder": bytes(true),
           "model": {"type": "BPE", "vocab": vocabulary, "merges": merges, "byte_fallback": false, "ignore_merges": false}})
}

/// SentencePiece's form: bytes, a user's own token, pieces that merges make.
fn sentencepiece() -> Json {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["<tool>", "▁abc", "abc", "▁a", "bc", "ab", "▁", "a", "b", "c"].map(String::from));
    let vocabulary: serde_json::Map<String, Json> = tokens.into_iter().zip(0..).map(|(t, id)| (t, json!(id))).collect();
    let merges = ["▁a bc", "▁ abc", "a bc", "ab c", "▁ a", "b c", "a b"];
    let merges: Vec<Vec<&str>> = merges.iter().map(|merge| merge.split(' ').collect()).collect();
    json!({"version": "1.0", "truncation": null, "padding": null,
           "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true), added(259, "<tool>", false)],
           "normalizer": {"type": "Sequence", "normalizers": [
               {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
           "pre_tokenizer": null,
           "post_processor": {"type": "TemplateProcessing",
               "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
               "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
           "decoder": null,
           "model": {"type": "BPE", "vocab": vocabulary, "merges": merges, "byte_fallback": true, "fuse_unk": true,
                     "unk_token": "<unk>", "ignore_merges": false}})
}

struct Bench(TempDir);

impl Bench {
    /// A base with random weights.
    fn new(config: &Json, tokenizer: &Json) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs_err::create_dir(bench.base()).unwrap();
        write_json(&bench.base().join("config.json"), config);
        write_json(&bench.base().join("tokenizer.json"), tokenizer);
        write_tensors(&bench.base().join("model.safetensors"), &random_tensors(config, 3));
        bench
    }

    fn base(&self) -> PathBuf {
        self.0.path().join("base")
    }

    fn export(
        &self,
        dtype: GgufType,
    ) -> Result<(PathBuf, outcrop_model::export::RoundTrip), outcrop_model::ModelError> {
        let base = Base::open(&self.base())?;
        let decoder = base.load(DType::F32, &Device::Cpu)?;
        let file = self.0.path().join(format!("{dtype:?}.gguf"));
        let prompts = [numbers(20, 200, 4), numbers(40, 200, 5)];
        let result = write(&decoder, &base, &file, dtype, Some("{{ messages }}"), &prompts)?;
        Ok((file, result))
    }

    fn refused(&self) -> String {
        let message = message(self.export(GgufType::F32));
        assert_eq!(fs_err::read_dir(self.0.path()).unwrap().count(), 1, "nothing is left");
        message
    }
}

fn content(file: &Path) -> Content {
    Content::read(&mut fs_err::File::open(file).unwrap()).unwrap()
}

/// A config of every family that is written.
fn families() -> Vec<Json> {
    let with = |family: &str, changes: Json| {
        let mut config = config(300, 64, 96, 3, family != "phi3");
        config["model_type"] = json!(family);
        config["bos_token_id"] = json!(1);
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    };
    vec![
        with("llama", json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}})),
        with("qwen2", json!({})),
        with("qwen3", json!({"head_dim": 32})),
        with(
            "gemma3_text",
            json!({"hidden_act": null, "num_hidden_layers": 7, "sliding_window": 9, "query_pre_attn_scalar": 16, "rope_parameters":
                {"full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                 "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}}}),
        ),
        with("phi3", json!({"sliding_window": 11})),
        json!({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300, "n_positions": 128,
               "eos_token_id": 2}),
    ]
}

#[test]
fn r30_every_family_in_every_type_is_the_model_within_its_rounding() {
    for config in families() {
        let bench = Bench::new(&config, &byte_level());
        let family = &config["model_type"];
        let row = Row::single(numbers(50, 300, 9)).unwrap();
        let logits = |path: &Path| bits(&load(path).unwrap().logits(&row).unwrap());
        for dtype in ALL {
            let (file, result) = bench.export(dtype).unwrap();
            assert_eq!(result.prompts, 2);
            assert_eq!(result.rounded == 0.0, dtype == GgufType::F32, "{family} {dtype:?}");
            // Gemma's norms are stored with one added, as the norm itself adds it
            let exact = dtype == GgufType::F32;
            assert_eq!(result.largest_difference == 0.0, exact, "{family} {dtype:?}");
            assert_eq!(logits(&file) == logits(&bench.base()), exact, "{family} {dtype:?}");
            let content = content(&file);
            let named = if family == "gemma3_text" { "gemma3" } else { family.as_str().unwrap() };
            assert_eq!(content.metadata["general.architecture"].to_string().unwrap(), named);
            assert_eq!(content.metadata["tokenizer.chat_template"].to_string().unwrap(), "{{ messages }}");
            let tokens = content.metadata["tokenizer.ggml.tokens"].to_vec().unwrap();
            assert_eq!(tokens.len(), 300, "one for each row of the embedding");
            assert_eq!(tokens[299].to_string().unwrap(), "[PAD299]");
        }
        let sizes: Vec<u64> =
            ALL.map(|dtype| bench.0.path().join(format!("{dtype:?}.gguf")).metadata().unwrap().len()).into();
        assert!(sizes[0] > sizes[1] && sizes[1] == sizes[2] && sizes[2] > sizes[3], "{family}: {sizes:?}");
        assert_eq!(
            message(bench.export(GgufType::F32)).rsplit(": ").next().unwrap(),
            "exists already; choose another name"
        );
    }
}

#[test]
fn an_export_of_an_export_is_the_same_file_but_for_its_name() {
    let bench = Bench::new(&config(300, 64, 96, 2, false), &byte_level());
    let (first, _) = bench.export(GgufType::F32).unwrap();
    let base = Base::open(&first).unwrap();
    let decoder = base.load(DType::F32, &Device::Cpu).unwrap();
    let again = bench.0.path().join("again.gguf");
    write(&decoder, &base, &again, GgufType::F32, Some("{{ messages }}"), &[numbers(9, 200, 1)]).unwrap();
    let (first, again) = (content(&first), content(&again));
    let keys: std::collections::BTreeSet<&String> = first.metadata.keys().collect();
    assert_eq!(keys, again.metadata.keys().collect());
    for key in keys.into_iter().filter(|key| *key != "general.name") {
        assert_eq!(format!("{:?}", first.metadata[key]), format!("{:?}", again.metadata[key]), "{key}");
    }
}

#[test]
fn r30_pre_tokenizers_are_named_by_what_they_do() {
    for (name, cuts, normalizer, ignores) in [
        ("gpt-2", bytes(true), Json::Null, false),
        ("smollm", sequence(&[digits(), bytes(true)]), Json::Null, false),
        ("llama-bpe", sequence(&[split(LLAMA3), bytes(false)]), Json::Null, true),
        ("qwen2", sequence(&[split(QWEN2), bytes(false)]), json!({"type": "NFC"}), false),
    ] {
        let mut tokenizer = byte_level();
        tokenizer["pre_tokenizer"] = cuts;
        tokenizer["normalizer"] = normalizer;
        tokenizer["model"]["ignore_merges"] = json!(ignores);
        let (file, _) =
            Bench::new(&config(300, 64, 96, 2, true), &tokenizer).export(GgufType::F16).unwrap_or_else(|e| {
                panic!("{name}: {e}");
            });
        let _ = file;
        tokenizer["model"]["ignore_merges"] = json!(!ignores);
        let message = Bench::new(&config(300, 64, 96, 2, true), &tokenizer).refused();
        assert!(
            message.contains("its tokenizer can't be written as GGUF: no name is known for its pre-tokenizer"),
            "{message}"
        );
    }
}

#[test]
fn r30_what_gguf_can_not_say_of_a_tokenizer_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Json)| {
        let mut tokenizer = byte_level();
        change(&mut tokenizer);
        Bench::new(&config(300, 64, 96, 2, true), &tokenizer).refused()
    };
    let cuts = refused(&|json| json["pre_tokenizer"] = sequence(&[split(r"\w+"), bytes(false)]));
    assert!(cuts.ends_with("known are those of `gpt-2`, `smollm`, `llama-bpe`, `qwen2`"), "{cuts}");
    assert!(refused(&|json| json["pre_tokenizer"]["add_prefix_space"] = json!(true)).contains("no name is known"));
    assert!(refused(&|json| json["normalizer"] = json!({"type": "Lowercase"})).contains("normalizer [\"Lowercase\"]"));
    assert!(refused(&|json| json["added_tokens"][0]["rstrip"] = json!(true)).contains("`<|endoftext|>` has `rstrip`"));
    let suffix = refused(&|json| json["model"]["end_of_word_suffix"] = json!("</w>"));
    assert!(suffix.contains("its `end_of_word_suffix` is \"</w>\""), "{suffix}");
    let beyond = Bench::new(&config(260, 64, 96, 2, true), &byte_level()).refused();
    assert!(beyond.contains(", but the embedding has 260 rows"), "R29: {beyond}");
    let mut words = byte_level();
    words["model"] = json!({"type": "WordLevel", "vocab": {"a": 0, END: 2}, "unk_token": "a"});
    let message = Bench::new(&config(300, 64, 96, 2, true), &words).refused();
    assert!(message.contains("its model is \"WordLevel\", only BPE is supported"), "{message}");
}

#[test]
fn r9_a_sentencepiece_tokenizer_keeps_its_bos_scores_and_prefix() {
    let mut config = config(272, 64, 96, 2, true);
    config["bos_token_id"] = json!(1);
    let bench = Bench::new(&config, &sentencepiece());
    let (file, _) = bench.export(GgufType::Q8_0).unwrap();
    let (ours, theirs) = (Base::open(&bench.base()).unwrap(), Base::open(&file).unwrap());
    for text in ["abc cab", "é a", "a<tool>b</s>", "", " ", "ab  c"] {
        let ids = |base: &Base| base.tokenizer().unwrap().encode(text, true).unwrap().get_ids().to_vec();
        assert_eq!(ids(&ours), ids(&theirs), "{text:?}");
    }
    let content = content(&file);
    let flag = |key: &str| content.metadata[key].to_bool().unwrap();
    assert!(flag("tokenizer.ggml.add_bos_token") && flag("tokenizer.ggml.add_space_prefix"));
    let types = content.metadata["tokenizer.ggml.token_type"].to_vec().unwrap();
    let types: Vec<i32> = [0, 1, 3, 259, 260, 271].map(|id| types[id].to_i32().unwrap()).into();
    assert_eq!(types, [2, 3, 6, 4, 1, 5]);
    assert!(
        matches!(content.metadata["tokenizer.ggml.scores"].to_vec().unwrap()[260], Value::F32(score) if score == 0.0)
    );

    let refused = |change: &dyn Fn(&mut Json)| {
        let mut tokenizer = sentencepiece();
        change(&mut tokenizer);
        Bench::new(&config, &tokenizer).refused()
    };
    let lost = refused(&|json| drop(json["model"]["merges"].as_array_mut().unwrap().pop()));
    assert!(lost.contains("its piece `ab` is two other pieces, but no merge makes it"), "{lost}");
    let cuts = refused(&|json| json["normalizer"] = json!({"type": "NFC"}));
    assert!(cuts.contains("its normalizer or pre-tokenizer isn't that of SentencePiece"), "{cuts}");
    let around = refused(&|json| {
        let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
        json["post_processor"]["single"].as_array_mut().unwrap().push(end);
        json["post_processor"]["special_tokens"]["</s>"] = json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    });
    assert!(around.contains("it puts other tokens around a text than a BOS before it"), "{around}");
}

#[test]
fn what_gguf_can_not_say_of_a_model_is_refused_by_name() {
    let refused = |index: usize, change: &dyn Fn(&mut Json)| {
        let mut config = families().swap_remove(index);
        change(&mut config);
        Bench::new(&config, &byte_level()).refused()
    };
    let rope = |kind: &str| {
        json!({"rope_type": kind, "factor": 4.0, "rope_theta": 1e4, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 128})
    };
    let yarn = refused(0, &|config| config["rope_parameters"] = rope("yarn"));
    let only = "can't be written as GGUF (only `linear` can, and Llama's `llama3`)";
    assert!(yarn.contains(&format!("rotary scaling `yarn` {only}")), "{yarn}");
    // llama.cpp reads `rope_freqs` of a llama alone
    let qwen = refused(1, &|config| config["rope_parameters"] = rope("llama3"));
    assert!(qwen.contains(&format!("rotary scaling `llama3` {only}")), "{qwen}");
    let windows = refused(1, &|config| {
        config["use_sliding_window"] = json!(true);
        config["sliding_window"] = json!(16);
        config["max_window_layers"] = json!(1);
    });
    assert!(windows.contains("GGUF's keys for `qwen2` can't say this model's windows of attention"), "{windows}");
    let pattern = refused(3, &|config| config["sliding_window_pattern"] = json!(2));
    assert!(pattern.contains("windows of attention"), "{pattern}");
    assert!(
        refused(3, &|config| config["query_pre_attn_scalar"] = json!(64)).contains("factor of the attention scores")
    );
    assert!(refused(3, &|config| config["final_logit_softcapping"] = json!(30.0)).contains("soft-cap of the logits"));
    assert!(
        refused(5, &|config| config["activation_function"] = json!("gelu"))
            .contains("`gpt2` can't say this model's activation")
    );
    let family = refused(0, &|config| {
        config["model_type"] = json!("smollm3");
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 1e4});
    });
    assert!(
        family.contains("models of family `smollm3` can't be written as GGUF; supported are `llama`, "),
        "{family}"
    );
}

#[test]
fn r30_llama3_scaling_is_written_as_divisors_and_read_back_from_them() {
    for (factor, low, high, original, is_metas) in
        [(8.0, 1.0, 4.0, 8192, true), (32.0, 1.0, 4.0, 8192, true), (4.0, 1.0, 8.0, 32, false)]
    {
        let mut config = families().swap_remove(0);
        config["rope_parameters"] = json!({"rope_type": "llama3", "factor": factor, "rope_theta": 5e5, "low_freq_factor": low,
            "high_freq_factor": high, "original_max_position_embeddings": original});
        let bench = Bench::new(&config, &byte_level());
        let (file, result) = bench.export(GgufType::F32).unwrap();
        let content = content(&file);
        let divisors =
            content.tensor(&mut fs_err::File::open(&file).unwrap(), "rope_freqs.weight", &Device::Cpu).unwrap();
        let divisors: Vec<f32> = divisors.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
        // what llama.cpp's converter computes: 1 for short waves, the factor for long ones, a ramp between
        for (pair, divisor) in divisors.iter().enumerate() {
            let dim = 2 * divisors.len();
            let wave = std::f64::consts::TAU * 5e5f64.powf(2.0 * pair as f64 / dim as f64);
            let original = f64::from(original);
            let expected = match wave {
                _ if wave < original / high => 1.0,
                _ if wave > original / low => factor,
                _ => {
                    let smooth = (original / wave - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            };
            assert!((f64::from(*divisor) - expected).abs() < 1e-6 * expected, "pair {pair}: {divisor}, not {expected}");
        }
        assert!(divisors.iter().any(|divisor| *divisor > 1.0));
        assert!(!content.metadata.contains_key("llama.rope.scaling.type"));
        let base = Base::open(&file).unwrap();
        let kind = &base.config()["rope_parameters"]["rope_type"];
        assert_eq!(kind, if is_metas { "llama3" } else { "longrope" });
        assert!(
            if is_metas { result.largest_difference == 0.0 } else { result.largest_difference < 1e-4 },
            "{result:?}"
        );
    }
}
