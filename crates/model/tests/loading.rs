//! Opening and loading a base: what is read, what is refused and in which words, and what its hash stands for.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::{DType, Device, IndexOp, Tensor};
use common::{bits, copy, fixture, load, message, read_json, read_tensors, write_json, write_tensors};
use outcrop_model::{Base, Row};
use serde_json::json;
use std::path::Path;

fn logits(folder: &Path) -> Vec<u32> {
    let tokens = common::numbers(24, 131, 1);
    bits(&load(folder).unwrap().logits(&Row::single(tokens).unwrap()).unwrap())
}

/// Two shards with their index, in place of the single file.
fn split(folder: &Path) {
    let tensors = read_tensors(&folder.join("model.safetensors"));
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort();
    let mut map = serde_json::Map::new();
    for (index, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", index + 1);
        let part = names.iter().map(|name| ((*name).clone(), tensors[*name].clone())).collect();
        write_tensors(&folder.join(&file), &part);
        map.extend(names.iter().map(|name| ((*name).clone(), json!(file))));
    }
    assert_eq!(map.len(), tensors.len());
    write_json(&folder.join("model.safetensors.index.json"), &json!({"metadata": {}, "weight_map": map}));
    fs_err::remove_file(folder.join("model.safetensors")).unwrap();
}

/// Rewrites the weights of a copy of the fixture.
fn with_tensors(change: impl FnOnce(&mut common::Tensors)) -> tempfile::TempDir {
    let folder = copy("llama");
    let file = folder.path().join("model.safetensors");
    let mut tensors = read_tensors(&file);
    change(&mut tensors);
    write_tensors(&file, &tensors);
    folder
}

#[test]
fn two_shards_give_the_same_bits_as_one_file() {
    let folder = copy("llama");
    let single = logits(folder.path());
    split(folder.path());
    assert_eq!(logits(folder.path()), single);
}

#[test]
fn sixteen_bit_files_load_as_their_own_values() {
    for dtype in [DType::BF16, DType::F16] {
        let folder = with_tensors(|tensors| {
            tensors.values_mut().for_each(|tensor| *tensor = tensor.to_dtype(dtype).unwrap());
        });
        let original = read_tensors(&fixture("llama").join("model.safetensors"));
        let decoder = load(folder.path()).unwrap();
        for (name, tensor) in decoder.weights() {
            assert_eq!(tensor.dtype(), DType::F32);
            let rounded = original[name].to_dtype(dtype).unwrap();
            assert_eq!(bits(tensor), bits(&rounded), "{name} from {dtype:?}");
        }
        let narrow = Base::open(folder.path()).unwrap().load(DType::BF16, &Device::Cpu).unwrap();
        assert!(narrow.weights().iter().all(|(_, tensor)| tensor.dtype() == DType::BF16));
    }
}

#[test]
fn missing_and_extra_tensors_are_named_five_first() {
    let folder = with_tensors(|tensors| {
        tensors.retain(|name, _| !name.starts_with("model.layers.1."));
        tensors.insert(
            "model.layers.0.self_attn.q_proj.bias".into(),
            Tensor::zeros(32, DType::F32, &Device::Cpu).unwrap(),
        );
    });
    let message = message(load(folder.path()));
    assert!(
        message.contains("tensors don't fit config.json: `model.layers.1.input_layernorm.weight` is missing; "),
        "{message}"
    );
    assert_eq!(message.matches("is missing").count(), 5);
    assert!(message.ends_with("; and 5 more"), "{message}");
    assert!(message.starts_with(&folder.path().display().to_string()), "{message}");
}

#[test]
fn a_misshapen_and_an_extra_tensor_are_named_with_both_shapes() {
    let folder = with_tensors(|tensors| {
        let name = "model.layers.2.mlp.up_proj.weight";
        tensors.insert(name.into(), tensors[name].t().unwrap().contiguous().unwrap());
        tensors.insert("lora_A".into(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap());
    });
    let message = message(load(folder.path()));
    let expected = "`model.layers.2.mlp.up_proj.weight` has shape [32, 80], config.json needs [80, 32]; \
                    `lora_A` is not a tensor of this llama model";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn a_dtype_that_is_no_float_is_named() {
    let folder = with_tensors(|tensors| {
        tensors.insert("model.norm.weight".into(), Tensor::zeros(32, DType::I64, &Device::Cpu).unwrap());
    });
    assert!(message(load(folder.path())).ends_with("`model.norm.weight` has dtype I64, which is not supported"));
}

#[test]
fn r28_a_tied_head_written_twice_must_be_the_embedding() {
    let same = with_tensors(|tensors| {
        tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].clone());
    });
    assert_eq!(logits(same.path()), logits(&fixture("llama")));
    let other = with_tensors(|tensors| {
        let head = (&tensors["model.embed_tokens.weight"] * 1.5).unwrap();
        tensors.insert("lm_head.weight".into(), head);
    });
    let message = message(load(other.path()));
    assert!(
        message.ends_with("`lm_head.weight` differs from `model.embed_tokens.weight`, though config.json ties them"),
        "{message}"
    );
}

#[test]
fn a_wrong_index_is_refused_by_what_is_wrong() {
    let folder = copy("llama");
    split(folder.path());
    let index = folder.path().join("model.safetensors.index.json");
    let good = read_json(&index);
    for (shard, expected) in [
        (json!("absent.safetensors"), "names shard `absent.safetensors`, which is not in the folder"),
        (json!("../model.safetensors"), "names shard `../model.safetensors`, which is not in the folder"),
        (json!(7), "gives `model.norm.weight` the shard `7`, expected a file name"),
    ] {
        let mut changed = good.clone();
        changed["weight_map"]["model.norm.weight"] = shard;
        write_json(&index, &changed);
        let message = message(load(folder.path()));
        assert!(message.ends_with(expected) && message.contains("index.json: "), "{message}");
    }
    write_json(&index, &json!({"metadata": {}}));
    assert!(message(load(folder.path())).ends_with("has no `weight_map`"));
    fs_err::write(&index, "{").unwrap();
    assert!(message(load(folder.path())).contains("is not valid JSON"));
}

#[test]
fn a_separator_in_a_shards_name_is_refused_though_the_file_is_there() {
    let folder = copy("llama");
    split(folder.path());
    let shard = "model-00001-of-00002.safetensors";
    fs_err::create_dir_all(folder.path().join("sub")).unwrap();
    fs_err::copy(folder.path().join(shard), folder.path().join("sub").join(shard)).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let text = fs_err::read_to_string(&index).unwrap().replace(shard, &format!("sub/{shard}"));
    fs_err::write(&index, text).unwrap();
    assert!(message(load(folder.path())).contains(&format!("names shard `sub/{shard}`")));
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let folder = copy("llama");
    split(folder.path());
    let file = |index: u32| folder.path().join(format!("model-0000{index}-of-00002.safetensors"));
    let mut tensors = read_tensors(&file(2));
    tensors.insert("model.embed_tokens.weight".into(), read_tensors(&file(1))["model.embed_tokens.weight"].clone());
    write_tensors(&file(2), &tensors);
    assert!(message(load(folder.path())).ends_with("has `model.embed_tokens.weight`, which another shard has too"));
}

#[test]
fn files_that_are_not_there_or_not_readable_are_said_to_be_so() {
    let folder = copy("llama");
    let path = |name: &str| folder.path().join(name);
    let expect = |expected: &str| {
        let message = message(load(folder.path()));
        assert!(message.contains(expected), "{expected}: {message}");
    };
    let whole = fs_err::read(path("model.safetensors")).unwrap();
    for length in [whole.len() - 1, whole.len() / 2, 100, 7, 0] {
        fs_err::write(path("model.safetensors"), &whole[..length]).unwrap();
        expect("model.safetensors: is not a whole safetensors file");
    }
    fs_err::remove_file(path("model.safetensors")).unwrap();
    expect("has neither `model.safetensors` nor `model.safetensors.index.json`");
    fs_err::write(path("pytorch_model.bin"), "pickle").unwrap();
    expect("pickle files (`pytorch_model.bin`) are not read, convert them to safetensors");
    fs_err::write(path("config.json"), "{\"model_type\": ").unwrap();
    expect("config.json: is not valid JSON");
    fs_err::write(path("config.json"), [0xff, 0xfe]).unwrap();
    expect("config.json");
    fs_err::remove_file(path("config.json")).unwrap();
    expect("has no `config.json`; a base is a Hugging Face folder or a .gguf file");
    assert!(
        message(Base::open(&path("absent")))
            .ends_with("doesn't exist; a base is a Hugging Face folder or a .gguf file")
    );
}

#[test]
fn a_file_that_is_not_gguf_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    for content in [
        b"".as_slice(),
        b"GGU",
        b"GGUF",
        b"garbage that is long enough to be read",
        b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        fs_err::write(&file, content).unwrap();
        assert!(message(Base::open(&file)).contains("model.gguf: is not a readable GGUF file"));
    }
}

#[test]
fn a_tokenizer_that_is_missing_or_broken_is_said_to_be_so() {
    let folder = copy("llama");
    let base = Base::open(folder.path()).unwrap();
    assert_eq!(base.tokenizer().unwrap().token_to_id("w7"), Some(7));
    let file = folder.path().join("tokenizer.json");
    fs_err::write(&file, "{}").unwrap();
    assert!(message(base.tokenizer()).contains("tokenizer.json: is not a readable tokenizer"));
    fs_err::remove_file(&file).unwrap();
    assert!(
        message(base.tokenizer()).ends_with("has no `tokenizer.json`; convert the tokenizer to the fast format first")
    );
}

#[test]
fn r8_the_end_token_is_the_tokenizers_else_the_configs_and_stop_tokens_are_all_of_them() {
    let folder = copy("llama");
    let path = |name: &str| folder.path().join(name);
    let end = || {
        let base = Base::open(folder.path()).unwrap();
        base.end_token(&base.tokenizer().unwrap())
    };
    assert_eq!(end().unwrap(), 2);
    write_json(&path("generation_config.json"), &json!({"eos_token_id": [5, 2]}));
    write_json(&path("tokenizer_config.json"), &json!({"eos_token": {"content": "w9"}}));
    assert_eq!(end().unwrap(), 9);
    let base = Base::open(folder.path()).unwrap();
    assert_eq!(base.stop_tokens(&base.tokenizer().unwrap()).unwrap(), [2, 5, 9]);
    write_json(&path("tokenizer_config.json"), &json!({"eos_token": "</s>"}));
    assert!(message(end()).ends_with("`eos_token` is `</s>`, which is not in tokenizer.json"));
    write_json(&path("tokenizer_config.json"), &json!({"eos_token": null}));
    let mut config = read_json(&path("config.json"));
    config["eos_token_id"] = json!(131);
    write_json(&path("config.json"), &config);
    assert!(message(end()).ends_with("its end token has the id 131, but the embedding has 131 rows"));
    config["eos_token_id"] = json!(null);
    write_json(&path("config.json"), &config);
    assert!(message(end()).contains("names no end token"));
    config["eos_token_id"] = json!("</s>");
    write_json(&path("config.json"), &config);
    assert!(message(Base::open(folder.path())).contains("`eos_token_id` is `\"</s>\"`, expected a token id"));
}

#[test]
fn the_hash_is_of_the_content_not_of_the_place() {
    let hash = |folder: &Path| Base::open(folder).unwrap().hash().unwrap();
    let (one, other) = (copy("llama"), copy("llama"));
    let expected = hash(one.path());
    assert_eq!(expected.len(), 64);
    assert_eq!(hash(other.path()), expected);
    fs_err::write(other.path().join("README.md"), "not part of the model").unwrap();
    assert_eq!(hash(other.path()), expected);
    let mut hashes = vec![expected];
    for (file, from, to) in [("config.json", b'6', b'7'), ("tokenizer.json", b'7', b'8'), ("model.safetensors", 0, 0)] {
        let changed = copy("llama");
        let path = changed.path().join(file);
        let mut bytes = fs_err::read(&path).unwrap();
        if from == to {
            *bytes.last_mut().unwrap() ^= 1;
        } else {
            *bytes.iter_mut().find(|byte| **byte == from).unwrap() = to;
        }
        fs_err::write(&path, bytes).unwrap();
        hashes.push(hash(changed.path()));
    }
    fs_err::write(other.path().join("chat_template.jinja"), "").unwrap();
    hashes.push(hash(other.path()));
    for (index, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..index].contains(hash), "hash {index} is that of another content");
    }
}

#[test]
fn the_older_form_of_the_rope_fields_gives_the_same_logits() {
    let folder = copy("llama3-scaled");
    let row = Row::single(common::numbers(200, 131, 3)).unwrap();
    let logits = || load(folder.path()).unwrap().logits(&row).unwrap();
    let newer = logits();
    let file = folder.path().join("config.json");
    let mut config = read_json(&file);
    let mut parameters = config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
    let parameters = parameters.as_object_mut().unwrap();
    config["rope_theta"] = parameters.remove("rope_theta").unwrap();
    let kind = parameters.remove("rope_type").unwrap();
    parameters.insert("type".into(), kind);
    config["rope_scaling"] = json!(parameters);
    write_json(&file, &config);
    assert_eq!(bits(&logits()), bits(&newer));
    config["rope_scaling"] = json!(null);
    write_json(&file, &config);
    let plain = logits();
    assert_eq!(bits(&plain.i(0).unwrap()), bits(&newer.i(0).unwrap()), "position 0 is not rotated");
    assert_ne!(bits(&plain), bits(&newer), "the scaling must matter");
}

#[test]
fn names_without_the_models_prefix_and_old_buffers_load_as_the_same_model() {
    for (name, prefix, buffer) in [
        ("gpt2", "transformer.", "h.0.attn.bias"),
        ("gpt-neox", "gpt_neox.", "layers.0.attention.rotary_emb.inv_freq"),
        ("qwen2", "model.", "layers.1.self_attn.rotary_emb.inv_freq"),
    ] {
        let folder = copy(name);
        let file = folder.path().join("model.safetensors");
        let plain = |tensor: String| tensor.strip_prefix(prefix).map_or(tensor.clone(), str::to_string);
        let mut tensors: common::Tensors = read_tensors(&file).into_iter().map(|(n, t)| (plain(n), t)).collect();
        tensors.insert(buffer.into(), Tensor::ones((1, 1, 4, 4), DType::F32, &Device::Cpu).unwrap());
        write_tensors(&file, &tensors);
        assert_eq!(logits(folder.path()), logits(&fixture(name)), "{name}");
    }
}
