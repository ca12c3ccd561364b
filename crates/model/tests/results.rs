//! What a job leaves and what begins one: deltas, exports, and models with random weights.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::{DType, Device, Tensor};
use common::{
    bits, config, copy, fixture, largest, load, message, numbers, read_json, read_tensors, write_json, write_tensors,
    write_tokenizer,
};
use outcrop_model::{Base, Decoder, ModelError, Row, delta, export, init};
use serde_json::{Value, json};
use std::path::Path;

const HEAD: &str = "lm_head.weight";

fn cpu(base: &Base, file: &Path) -> Result<Decoder, ModelError> {
    delta::load(base, file, DType::F32, &Device::Cpu)
}

fn logits(decoder: &Decoder) -> Vec<u32> {
    bits(&decoder.logits(&Row::single(numbers(40, 131, 1)).unwrap()).unwrap())
}

/// A delta of changed tensors on the fixture `llama`, which is tied.
fn changed(names: &[&str]) -> Vec<(String, Tensor)> {
    let original = read_tensors(&fixture("llama").join("model.safetensors"));
    let names = names.iter().enumerate().map(|(index, name)| {
        let tensor = original.get(*name).unwrap_or(&original["model.embed_tokens.weight"]);
        let noise = common::random(tensor.dims(), 0.0, 0.05, index as u64 + 1);
        (name.to_string(), (tensor + noise).unwrap())
    });
    names.collect()
}

#[test]
fn a_delta_comes_back_bit_for_bit_and_leaves_the_rest_of_the_base_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("delta.safetensors");
    let names = ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"];
    let tensors = changed(&names);
    delta::write(&file, &tensors, "0123abcd").unwrap();
    assert_eq!(delta::base_hash(&file).unwrap(), "0123abcd");
    let read = delta::read(&file, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(read.len(), 3);
    for (name, tensor) in &tensors {
        let (_, back) = read.iter().find(|(other, _)| other == name).unwrap();
        assert_eq!((back.dims(), bits(back)), (tensor.dims(), bits(tensor)), "{name}");
    }
    let base = Base::open(&fixture("llama")).unwrap();
    let before = base.hash().unwrap();
    let (decoder, original) = (cpu(&base, &file).unwrap(), load(&fixture("llama")).unwrap());
    assert!(decoder.spec().tie_word_embeddings);
    for ((name, tensor), (_, untouched)) in decoder.weights().into_iter().zip(original.weights()) {
        let expected = tensors.iter().find(|(other, _)| other == name).map_or(untouched, |(_, tensor)| tensor);
        assert_eq!(bits(tensor), bits(expected), "{name}");
    }
    assert_ne!(logits(&decoder), logits(&original));
    assert_eq!(base.hash().unwrap(), before, "a base is never written to");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_delta_is_stored_as_f32_whatever_the_weights_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("delta.safetensors");
    let narrow = common::random(&[4, 6], 0.0, 1.0, 1).to_dtype(DType::BF16).unwrap().t().unwrap();
    delta::write(&file, &[("x".into(), narrow.clone())], "").unwrap();
    let stored = &read_tensors(&file)["x"];
    assert_eq!((stored.dtype(), bits(stored)), (DType::F32, bits(&narrow.contiguous().unwrap())));
}

#[test]
fn a_delta_that_does_not_fit_is_refused_by_its_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("delta.safetensors");
    let base = Base::open(&fixture("llama")).unwrap();
    let zeros =
        |name: &str, shape: &[usize]| vec![(name.to_string(), Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap())];
    delta::write(&file, &zeros("model.layers.3.mlp.up_proj.weight", &[80, 32]), "").unwrap();
    let unknown = message(cpu(&base, &file));
    assert!(
        unknown.ends_with("delta.safetensors: has a tensor `model.layers.3.mlp.up_proj.weight` that the base has not"),
        "{unknown}"
    );
    delta::write(&file, &zeros("model.norm.weight", &[31]), "").unwrap();
    assert!(message(cpu(&base, &file)).ends_with("`model.norm.weight` has shape [31], config.json needs [32]"));
    delta::write(&file, &zeros(HEAD, &[130, 32]), "").unwrap();
    assert!(message(cpu(&base, &file)).ends_with("`lm_head.weight` has shape [130, 32], config.json needs [131, 32]"));
    fs_err::write(&file, "not safetensors").unwrap();
    assert!(message(cpu(&base, &file)).contains("delta.safetensors: is not a whole safetensors file"));
    assert!(message(delta::base_hash(&file)).contains("is not a whole safetensors file"));
    assert!(
        message(delta::base_hash(&fixture("llama").join("model.safetensors")))
            .contains("names no base in its metadata")
    );
    assert!(message(cpu(&base, &folder.path().join("absent"))).contains("absent"));
    assert!(message(delta::write(&folder.path().join("no/folder"), &[], "")).contains("no/folder: can't be written"));
}

#[test]
fn r28_a_head_on_a_tied_base_unties_it_and_is_the_model_with_a_head_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("delta.safetensors");
    let tensors = changed(&[HEAD]);
    delta::write(&file, &tensors, "").unwrap();
    let decoder = cpu(&Base::open(&fixture("llama")).unwrap(), &file).unwrap();
    assert!(!decoder.spec().tie_word_embeddings);

    let untied = copy("llama");
    let mut config = read_json(&untied.path().join("config.json"));
    config["tie_word_embeddings"] = json!(false);
    write_json(&untied.path().join("config.json"), &config);
    let mut all = read_tensors(&untied.path().join("model.safetensors"));
    all.extend(tensors);
    write_tensors(&untied.path().join("model.safetensors"), &all);
    assert_eq!(logits(&decoder), logits(&load(untied.path()).unwrap()));
    assert_ne!(logits(&decoder), logits(&load(&fixture("llama")).unwrap()));
}

#[test]
fn r28_a_delta_of_the_embedding_moves_the_tied_head_with_it_even_where_the_base_wrote_it_twice() {
    let folder = copy("llama");
    let weights = folder.path().join("model.safetensors");
    let mut tensors = read_tensors(&weights);
    tensors.insert(HEAD.into(), tensors["model.embed_tokens.weight"].clone());
    write_tensors(&weights, &tensors);
    let file = folder.path().join("delta.safetensors");
    delta::write(&file, &changed(&["model.embed_tokens.weight"]), "").unwrap();
    let twice = cpu(&Base::open(folder.path()).unwrap(), &file).unwrap();
    let once = cpu(&Base::open(&fixture("llama")).unwrap(), &file).unwrap();
    assert!(twice.spec().tie_word_embeddings);
    assert_eq!(logits(&twice), logits(&once));
}

fn prompts() -> Vec<Vec<u32>> {
    vec![numbers(12, 131, 3), numbers(1, 131, 4), numbers(30, 131, 5)]
}

#[test]
fn r30_an_f32_export_is_the_model_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let (base, target) = (Base::open(&fixture("llama")).unwrap(), folder.path().join("sub/export"));
    let decoder = load(&fixture("llama")).unwrap();
    let result = export::write(&decoder, &base, &target, DType::F32, &prompts()).unwrap();
    assert_eq!((result.largest_difference, result.prompts, result.same_choice), (0.0, 3, 3));
    assert_eq!(result.rounded, 0.0);
    assert_eq!(logits(&load(&target).unwrap()), logits(&decoder));
    let config = read_json(&target.join("config.json"));
    assert_eq!((&config["dtype"], &config["tie_word_embeddings"]), (&json!("float32"), &json!(true)));
    assert!(!read_tensors(&target.join("model.safetensors")).contains_key(HEAD));
    let left: Vec<_> = fs_err::read_dir(folder.path().join("sub")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["export"], "no temporary folder is left");
}

#[test]
fn r30_every_family_exports_and_takes_a_delta_of_every_tensor_under_its_own_names() {
    for name in common::fixtures() {
        let folder = tempfile::tempdir().unwrap();
        let (base, decoder) = (Base::open(&fixture(&name)).unwrap(), load(&fixture(&name)).unwrap());
        let prompts = vec![numbers(9, 131, 3), numbers(1, 131, 4)];
        let target = folder.path().join("export");
        let result = export::write(&decoder, &base, &target, DType::F32, &prompts).unwrap();
        assert_eq!((result.largest_difference, result.same_choice), (0.0, 2), "{name}");
        let (ours, theirs) =
            (read_tensors(&target.join("model.safetensors")), read_tensors(&fixture(&name).join("model.safetensors")));
        assert_eq!(ours.len(), theirs.len(), "{name}");
        ours.iter().for_each(|(tensor, values)| assert_eq!(bits(values), bits(&theirs[tensor]), "{name}: {tensor}"));

        let double: Vec<(String, Tensor)> =
            decoder.weights().into_iter().map(|(name, tensor)| (name.to_string(), (tensor * 2.0).unwrap())).collect();
        let file = folder.path().join("delta.safetensors");
        delta::write(&file, &double, "").unwrap();
        let changed = cpu(&base, &file).unwrap();
        for ((tensor, before), (_, after)) in decoder.weights().into_iter().zip(changed.weights()) {
            assert_eq!(bits(&(before * 2.0).unwrap()), bits(after), "{name}: {tensor}");
        }
    }
}

#[test]
fn every_family_starts_at_the_loss_of_a_guess_and_with_neutral_norms() {
    for name in common::fixtures() {
        let folder = tempfile::tempdir().unwrap();
        let (tokenizer, target) = (folder.path().join("tokenizer.json"), folder.path().join("model"));
        write_tokenizer(&tokenizer, 131);
        init::write(&target, &read_json(&fixture(&name).join("config.json")), &tokenizer, 11).unwrap();
        let decoder = load(&target).unwrap();
        let (row, targets) = common::row(&[10, 40, 24], 131, 3);
        let nll = decoder.nll(&row, &targets).unwrap();
        let mean = nll.iter().sum::<f32>() / nll.len() as f32;
        assert!((mean / 131f32.ln() - 1.0).abs() < 0.05, "{name}: mean {mean}, ln(V) {}", 131f32.ln());
    }
}

#[test]
fn r30_a_sixteen_bit_export_states_what_it_lost_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let base = Base::open(&fixture("llama3-scaled")).unwrap();
    let decoder = load(&fixture("llama3-scaled")).unwrap();
    for (dtype, name) in [(DType::BF16, "bfloat16"), (DType::F16, "float16")] {
        let target = folder.path().join(name);
        let result = export::write(&decoder, &base, &target, dtype, &prompts()).unwrap();
        println!("{name}: {result:?}");
        assert!(result.largest_difference > 0.0 && result.largest_difference < 0.1, "{result:?}");
        assert!(result.rounded > 0.5 && result.rounded < 1.0, "random f32 values seldom fit 16 bits: {result:?}");
        assert_eq!(read_json(&target.join("config.json"))["dtype"], name);
        let weights = Base::open(&target).unwrap().load(dtype, &Device::Cpu).unwrap();
        for ((tensor_name, stored), (_, tensor)) in weights.weights().into_iter().zip(decoder.weights()) {
            assert_eq!(bits(stored), bits(&tensor.to_dtype(dtype).unwrap()), "{tensor_name}");
        }
    }
}

#[test]
fn r28_r31_an_export_of_a_head_on_a_tied_base_has_the_head_and_differs_from_the_base() {
    let folder = tempfile::tempdir().unwrap();
    let (file, target) = (folder.path().join("delta.safetensors"), folder.path().join("export"));
    delta::write(&file, &changed(&[HEAD]), "").unwrap();
    let base = Base::open(&fixture("llama")).unwrap();
    let decoder = cpu(&base, &file).unwrap();
    let result = export::write(&decoder, &base, &target, DType::F32, &prompts()).unwrap();
    assert_eq!(result.largest_difference, 0.0);
    assert_eq!(read_json(&target.join("config.json"))["tie_word_embeddings"], false);
    let tensors = read_tensors(&target.join("model.safetensors"));
    assert_ne!(bits(&tensors[HEAD]), bits(&tensors["model.embed_tokens.weight"]));
    let (exported, untouched) = (load(&target).unwrap(), load(&fixture("llama")).unwrap());
    assert_eq!(logits(&exported), logits(&decoder));
    assert_ne!(logits(&exported), logits(&untouched), "the export must not be the base");
    assert_eq!(bits(&tensors["model.embed_tokens.weight"]), bits(untouched.weights()[0].1));
}

#[test]
fn r29_tokenizer_files_are_copied_byte_for_byte() {
    let source = copy("llama");
    for (name, content) in [
        ("tokenizer_config.json", "{\"eos_token\":   \"w2\"}\r\n"),
        ("special_tokens_map.json", "{ }"),
        ("generation_config.json", "{\"eos_token_id\": 2}"),
        ("chat_template.jinja", "{{ messages }}\n\n"),
        ("README.md", "not the model's"),
    ] {
        fs_err::write(source.path().join(name), content).unwrap();
    }
    let target = source.path().join("export");
    let base = Base::open(source.path()).unwrap();
    export::write(&load(source.path()).unwrap(), &base, &target, DType::BF16, &prompts()).unwrap();
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.jinja",
    ] {
        assert_eq!(fs_err::read(target.join(name)).unwrap(), fs_err::read(source.path().join(name)).unwrap(), "{name}");
    }
    assert!(!target.join("README.md").exists());
}

#[test]
fn r30_an_export_that_is_not_the_model_or_cannot_be_checked_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (base, target) = (Base::open(&fixture("llama")).unwrap(), folder.path().join("export"));
    let decoder = load(&fixture("llama")).unwrap();
    let write = |decoder: &Decoder, prompts: &[Vec<u32>]| export::write(decoder, &base, &target, DType::F32, prompts);
    assert!(message(write(&decoder, &[])).contains("can't be checked without a prompt"));
    assert!(write(&decoder, &[vec![]]).is_err(), "an empty prompt");

    // a NaN is no agreement
    let tensors = read_tensors(&fixture("llama").join("model.safetensors"));
    let mut weights: outcrop_model::Weights = tensors.into_iter().collect();
    weights.insert("model.norm.weight", Tensor::full(f32::NAN, 32, &Device::Cpu).unwrap());
    let broken = Decoder::new(base.spec().clone(), &weights, &Device::Cpu).unwrap();
    assert!(message(write(&broken, &prompts())).contains("`model.norm.weight` has 32 of 32 weights that are NaN"));

    // f16 ends at 65504: what was a large weight is infinite in the files
    let mut weights: outcrop_model::Weights =
        decoder.weights().into_iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
    weights.insert("model.norm.weight", Tensor::full(1e6f32, 32, &Device::Cpu).unwrap());
    let large = Decoder::new(base.spec().clone(), &weights, &Device::Cpu).unwrap();
    let result = export::write(&large, &base, &target, DType::F16, &prompts());
    let told = message(result);
    assert!(told.contains("`model.norm.weight` has 32 of 32 weights that are NaN or infinite"), "{told}");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of it");

    fs_err::create_dir_all(&target).unwrap();
    assert!(message(write(&decoder, &prompts())).ends_with("export: exists already; choose another folder"));
}

fn small() -> Value {
    let mut config = config(512, 64, 160, 3, true);
    config["initializer_range"] = json!(0.02);
    config
}

#[test]
fn a_seed_makes_the_same_bytes_again_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = folder.path().join("tokenizer.json");
    write_tokenizer(&tokenizer, 512);
    let write = |name: &str, seed: u64| {
        let target = folder.path().join(name);
        init::write(&target, &small(), &tokenizer, seed).unwrap();
        fs_err::read(target.join("model.safetensors")).unwrap()
    };
    let first = write("a", 7);
    assert_eq!(write("b", 7), first);
    assert_ne!(write("c", 8), first);
    let hash = |name: &str| Base::open(&folder.path().join(name)).unwrap().hash().unwrap();
    assert_eq!(hash("a"), hash("b"));
    assert_ne!(hash("a"), hash("c"));
    assert_eq!(fs_err::read(folder.path().join("a/tokenizer.json")).unwrap(), fs_err::read(&tokenizer).unwrap());
    assert_eq!(read_json(&folder.path().join("a/config.json")), small());
}

#[test]
fn random_weights_have_the_deviation_that_the_config_says() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = folder.path().join("tokenizer.json");
    write_tokenizer(&tokenizer, 512);
    let target = folder.path().join("model");
    init::write(&target, &small(), &tokenizer, 3).unwrap();
    for (name, tensor) in read_tensors(&target.join("model.safetensors")) {
        if tensor.rank() == 1 {
            assert!(bits(&tensor).iter().all(|&bits| bits == 1f32.to_bits()), "{name} is not 1");
            continue;
        }
        let ends_branch = name.contains("o_proj") || name.contains("down_proj");
        let expected = if ends_branch { 0.02 / 6f32.sqrt() } else { 0.02 };
        let root_mean_square = tensor.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        assert!((root_mean_square / expected - 1.0).abs() < 0.05, "{name}: {root_mean_square} but {expected} expected");
        assert!(largest(&tensor) < 6.0 * expected, "{name} has an outlier");
    }
}

#[test]
fn a_random_model_starts_at_the_loss_of_a_guess() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = folder.path().join("tokenizer.json");
    write_tokenizer(&tokenizer, 512);
    for (index, dtype) in ["float32", "bfloat16", "float16"].into_iter().enumerate() {
        let target = folder.path().join(dtype);
        let mut config = small();
        config["dtype"] = json!(dtype);
        config["tie_word_embeddings"] = json!(index == 0);
        init::write(&target, &config, &tokenizer, 11).unwrap();
        let stored = read_tensors(&target.join("model.safetensors"))["model.norm.weight"].dtype();
        assert_eq!(stored, [DType::F32, DType::BF16, DType::F16][index]);
        let (row, targets) = common::row(&[200, 56], 512, 3);
        let nll = load(&target).unwrap().nll(&row, &targets).unwrap();
        let mean = nll.iter().sum::<f32>() / nll.len() as f32;
        assert!((mean / 512f32.ln() - 1.0).abs() < 0.05, "mean {mean}, ln(V) {}", 512f32.ln());
    }
}

#[test]
fn a_beginning_that_cannot_work_is_refused_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (tokenizer, target) = (folder.path().join("tokenizer.json"), folder.path().join("model"));
    write_tokenizer(&tokenizer, 513);
    let write = |config: &Value| message(init::write(&target, config, &tokenizer, 1));
    assert!(write(&small()).ends_with("tokenizer.json: has ids up to 512, but config.json's vocab_size is 512"), "R29");
    write_tokenizer(&tokenizer, 512);
    let mut config = small();
    config["dtype"] = json!("float8");
    assert_eq!(write(&config), "config.json: `dtype` is `float8`, expected `float32`, `bfloat16` or `float16`");
    config["hidden_act"] = json!("gelu");
    assert!(write(&config).contains("`hidden_act` is `\"gelu\"`"));
    fs_err::write(&tokenizer, "{").unwrap();
    assert!(write(&small()).contains("tokenizer.json: "));
    assert!(!target.exists());
    fs_err::create_dir_all(&target).unwrap();
    assert!(write(&small()).ends_with("model: exists already; choose another folder"));
}
