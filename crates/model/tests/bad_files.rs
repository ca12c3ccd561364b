//! Files of a model that are damaged, or made to do harm: every one is an error that says what and where, and none a crash.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::{DType, Device, Tensor};
use common::{copy, load, message, read_json, read_tensors, write_json, write_tensors};
use outcrop_model::{Base, delta};
use serde_json::{Value, json};
use std::path::Path;

/// A safetensors file with this header, and these bytes behind it.
fn safetensors(path: &Path, header: &str, data: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    fs_err::write(path, [&length[..], header.as_bytes(), data].concat()).unwrap();
}

#[test]
fn a_header_that_lies_about_lengths_offsets_types_or_shapes_is_refused() {
    let folder = copy("llama");
    let path = folder.path().join("model.safetensors");
    let refused = |expected: &str| {
        let message = message(load(folder.path()));
        assert!(message.contains("model.safetensors: ") && message.contains(expected), "{expected}: {message}");
    };
    for length in [u64::MAX, 1 << 62, 100_000_001, 3] {
        fs_err::write(&path, [&length.to_le_bytes()[..], b"{}      "].concat()).unwrap();
        refused("is not a whole safetensors file");
    }
    let one = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
    };
    for (header, expected) in [
        (one("F32", "[2]", 0, 16), "is not a whole safetensors file"), // beyond the file
        (one("F32", "[2]", 4, 12), "is not a whole safetensors file"), // a hole
        (one("F32", "[2]", 8, 0), "is not a whole safetensors file"),
        (one("F32", "[3]", 0, 8), "is not a whole safetensors file"), // more than the offsets give it
        (one("F32", "[18446744073709551615, 2]", 0, 8), "is not a whole safetensors file"),
        (one("F33", "[2]", 0, 8), "is not a whole safetensors file"),
        (one("F32", "[-2]", 0, 8), "is not a whole safetensors file"),
        (one("I64", "[1]", 0, 8), "`a` has dtype I64, which is not supported"),
        (one("F8_E4M3", "[8]", 0, 8), "`a` has dtype F8_E4M3, which is not supported"),
        ("[]".into(), "is not a whole safetensors file"),
        ("\u{0}".into(), "is not a whole safetensors file"),
        (format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "is not a whole safetensors file"),
    ] {
        safetensors(&path, &header, &[0; 8]);
        refused(expected);
    }
    // two tensors on the same bytes
    let twice = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    safetensors(&path, twice, &[0; 8]);
    refused("is not a whole safetensors file");
}

#[test]
fn a_weight_that_is_no_number_is_named_with_its_place_and_number() {
    for (value, dtype) in [(f32::NAN, DType::F32), (f32::INFINITY, DType::BF16), (f32::NEG_INFINITY, DType::F16)] {
        let folder = copy("llama");
        let file = folder.path().join("model.safetensors");
        let mut tensors = read_tensors(&file);
        let name = "model.layers.1.mlp.up_proj.weight";
        let mut values: Vec<f32> = tensors[name].flatten_all().unwrap().to_vec1().unwrap();
        (values[5 * 32 + 7], values[70 * 32]) = (value, value);
        let broken = Tensor::from_vec(values, tensors[name].shape(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        tensors.insert(name.into(), broken);
        write_tensors(&file, &tensors);
        let message = message(load(folder.path()));
        let expected = format!(
            "model.safetensors: `{name}` has 2 of 2560 weights that are NaN or infinite as F32, the first at [5, 7]; use \
             another copy, or a checkpoint from before they were"
        );
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn a_delta_with_a_weight_that_is_no_number_is_refused() {
    let folder = copy("llama");
    let file = folder.path().join("delta.safetensors");
    let norm = Tensor::full(f32::NAN, 32, &Device::Cpu).unwrap();
    delta::write(&file, &[("model.norm.weight".into(), norm)], "hash").unwrap();
    let base = Base::open(folder.path()).unwrap();
    let message = message(delta::load(&base, &file, DType::F32, &Device::Cpu));
    assert!(message.contains("delta.safetensors: `model.norm.weight` has 32 of 32 weights"), "{message}");
}

#[test]
fn buffers_of_any_type_and_infinite_masks_are_no_weights() {
    // Pythia's files have causal masks as bytes and their value in f16, which is infinite
    let folder = copy("gpt-neox");
    let file = folder.path().join("model.safetensors");
    let before = load(folder.path()).unwrap().weights().len();
    let mut tensors = read_tensors(&file);
    let at = |name: &str| format!("gpt_neox.layers.0.attention.{name}");
    tensors.insert(at("bias"), Tensor::ones((1, 1, 4, 4), DType::U8, &Device::Cpu).unwrap());
    let mask = Tensor::new(-1e9f32, &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
    tensors.insert(at("masked_bias"), mask);
    tensors.insert(at("rotary_emb.inv_freq"), Tensor::new(&[f32::NAN], &Device::Cpu).unwrap());
    write_tensors(&file, &tensors);
    assert_eq!(load(folder.path()).unwrap().weights().len(), before);
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_for_every_file_that_is_read() {
    let other = copy("llama");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "tokenizer_config.json"] {
        let folder = copy("llama");
        let (target, link) = (other.path().join(file), folder.path().join(file));
        if !target.exists() {
            fs_err::write(&target, "{}").unwrap();
        }
        if link.exists() {
            fs_err::remove_file(&link).unwrap();
        }
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let message = message(load(folder.path()));
        let expected = format!("{}: is a link to `", link.display());
        assert!(message.starts_with(&expected) && message.contains("put the file itself there"), "{message}");
        // within the folder a link is a file
        fs_err::remove_file(&link).unwrap();
        fs_err::rename(&target, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &link).unwrap();
        load(folder.path()).unwrap();
        fs_err::copy(&link, &target).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn the_hubs_cache_whose_files_are_links_loads_and_is_the_same_model() {
    let (plain, cache) = (copy("llama"), tempfile::tempdir().unwrap());
    let repository = cache.path().join("models--owner--name");
    let snapshot = repository.join("snapshots/5f0b");
    fs_err::create_dir_all(&snapshot).unwrap();
    fs_err::create_dir_all(repository.join("blobs")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let blob = format!("{}00", file.len());
        fs_err::copy(plain.path().join(file), repository.join("blobs").join(&blob)).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(file)).unwrap();
    }
    let base = Base::open(&snapshot).unwrap();
    assert_eq!(base.hash().unwrap(), Base::open(plain.path()).unwrap().hash().unwrap());
    base.load(DType::F32, &Device::Cpu).unwrap();
    base.tokenizer().unwrap();
}

#[test]
fn a_config_of_another_form_or_without_an_end_is_refused() {
    let folder = copy("llama");
    let path = folder.path().join("config.json");
    for (text, expected) in [
        ("[]".to_string(), "`model_type` is missing"),
        ("null".into(), "`model_type` is missing"),
        (format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "config.json: is not valid JSON"),
        (format!(r#"{{"model_type": "{}"}}"#, "x".repeat(65 << 20)), "config.json: has more than 64 MiB"),
    ] {
        fs_err::write(&path, text).unwrap();
        let message = message(Base::open(folder.path()));
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

/// tokenizer.json of a small byte-level BPE.
fn tokenizer() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    })
}

#[test]
fn a_tokenizer_that_the_library_would_panic_on_is_an_error() {
    let folder = copy("llama");
    let path = folder.path().join("tokenizer.json");
    let base = Base::open(folder.path()).unwrap();
    write_json(&path, &tokenizer());
    assert_eq!(base.tokenizer().unwrap().encode("ab", false).unwrap().get_ids(), [2]);
    let template = |special: Value| {
        json!({"type": "TemplateProcessing", "special_tokens": special,
               "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]})
    };
    let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["", -1.0]]});
    for (pointer, value, expected) in [
        // longer than every token of the vocabulary
        ("/model/merges", json!([["ab", "ab"]]), "its parts contradict each other (range end index"),
        ("/model/merges", json!([["a", "c"]]), "Token `c` out of vocabulary"),
        ("/model/continuing_subword_prefix", json!("##"), "its parts contradict each other ("),
        ("/post_processor", template(json!({})), "its parts contradict each other ("),
        ("/pre_tokenizer", json!({"type": "FixedLength", "length": 0}), "its parts contradict each other (chunk size"),
        (
            "/normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "its parts contradict each other (",
        ),
        (
            "/decoder",
            json!({"type": "Strip", "content": " ", "start": 0, "stop": 1}),
            "its decoder `Strip` cuts off the end",
        ),
        (
            "/decoder",
            json!({"type": "Sequence", "decoders": [{"type": "Strip", "content": " ", "start": 0, "stop": 1}]}),
            "its decoder `Strip` cuts off the end",
        ),
        ("/model", unigram, "its Unigram vocabulary has a token without text"),
        ("/decoder", json!({"type": "Spiral"}), ""),
        ("/model", json!({"type": "BPE"}), ""),
    ] {
        let mut changed = tokenizer();
        match changed.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => changed["model"]["continuing_subword_prefix"] = value,
        }
        write_json(&path, &changed);
        let message = message(base.tokenizer());
        let expected = format!("tokenizer.json: is not a readable tokenizer: {expected}");
        assert!(message.contains(&expected), "{pointer}: {message}");
    }
    for text in ["", "{", "[]", "null", "\u{feff}{}"] {
        fs_err::write(&path, text).unwrap();
        assert!(message(base.tokenizer()).contains("tokenizer.json: is not a readable tokenizer: "));
    }
}

#[test]
fn what_would_cut_or_fill_texts_unseen_is_off() {
    let folder = copy("llama");
    let path = folder.path().join("tokenizer.json");
    let mut changed = tokenizer();
    changed["truncation"] = json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 1});
    changed["padding"] = json!({"strategy": {"Fixed": u64::MAX}, "direction": "Right", "pad_to_multiple_of": 8, "pad_id": 0,
                                "pad_type_id": 0, "pad_token": "a"});
    write_json(&path, &changed);
    let tokenizer = Base::open(folder.path()).unwrap().tokenizer().unwrap();
    assert_eq!(tokenizer.encode("ababa", false).unwrap().get_ids(), [2, 2, 0]);
    assert_eq!(read_json(&path), changed, "the file stays as it is");
}
