//! What the integration tests share: the parity fixtures, copies of them to break, seeded random models.
#![allow(dead_code)] // each test binary uses its part

pub(crate) mod gguf;

use candle_core::{DType, Device, Tensor};
use outcrop_kernels::Gradients;
use outcrop_model::{Base, Decoder, ModelError, Recompute, Row, Weights, families};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Name to tensor, as a test changes them before it writes them.
pub(crate) type Tensors = HashMap<String, Tensor>;

/// A fixture of tests/parity.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity").join(name)
}

/// The names of all fixtures: every family, and the options that have one of their own.
pub(crate) fn fixtures() -> Vec<String> {
    let entries = fs_err::read_dir(fixture(".")).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let families: std::collections::BTreeSet<String> =
        names.iter().map(|name| read_json(&fixture(name).join("config.json"))["model_type"].to_string()).collect();
    assert_eq!(families.len(), 11, "families with a fixture: {families:?}");
    names
}

/// The decoder of every fixture, by name.
pub(crate) fn fixture_decoders() -> Vec<(String, Decoder)> {
    let decoders = fixtures().into_iter().map(|name| {
        let decoder = load(&fixture(&name)).unwrap();
        (name, decoder)
    });
    decoders.collect()
}

/// A copy of a fixture's model with a tokenizer, to break.
pub(crate) fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs_err::copy(fixture(name).join(file), folder.path().join(file)).unwrap();
    }
    write_tokenizer(&folder.path().join("tokenizer.json"), 20);
    folder
}

/// A word-level tokenizer with ids 0 to `words - 1`, `w2` being the end token.
pub(crate) fn write_tokenizer(path: &Path, words: usize) {
    let vocabulary: serde_json::Map<String, Value> = (0..words).map(|id| (format!("w{id}"), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    });
    fs_err::write(path, serde_json::to_string(&tokenizer).unwrap()).unwrap();
}

pub(crate) fn read_tensors(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

pub(crate) fn write_tensors(path: &Path, tensors: &Tensors) {
    candle_core::safetensors::save(tensors, path).unwrap();
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn write_json(path: &Path, value: &Value) {
    fs_err::write(path, serde_json::to_string_pretty(value).unwrap()).unwrap();
}

/// Opens and loads as f32 on the CPU.
pub(crate) fn load(path: &Path) -> Result<Decoder, ModelError> {
    Base::open(path)?.load(DType::F32, &Device::Cpu)
}

/// The message of an error; a success fails the test.
pub(crate) fn message<T>(result: Result<T, ModelError>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n') && !message.ends_with('.'), "not one line without a period: {message}");
            message
        }
    }
}

/// Whole numbers below `below`, the same for the same seed.
pub(crate) fn numbers(count: usize, below: u32, seed: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 33) % u64::from(below)) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// Values in -`range`..`range` around `middle`.
pub(crate) fn random(shape: &[usize], middle: f32, range: f32, seed: u64) -> Tensor {
    let values = numbers(shape.iter().product(), 1 << 20, seed);
    let values: Vec<f32> = values.iter().map(|&v| middle + (v as f32 / (1 << 19) as f32 - 1.0) * range).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A llama config of these sizes: 4 query heads and 2 key/value heads of a quarter of the channels each.
pub(crate) fn config(vocabulary: usize, hidden: usize, intermediate: usize, layers: usize, tied: bool) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": hidden / 4, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
        "hidden_act": "silu", "tie_word_embeddings": tied, "eos_token_id": 2,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    })
}

/// Random weights for a config, large enough that every token matters.
pub(crate) fn random_tensors(config: &Value, seed: u64) -> Tensors {
    let tensors = families::spec(config).unwrap().tensors();
    let tensors = tensors.into_iter().enumerate().map(|(index, (name, shape))| {
        let (middle, range) = if shape.len() == 1 { (1.0, 0.3) } else { (0.0, 0.2) };
        (name, random(&shape, middle, range, seed * 1000 + index as u64))
    });
    tensors.collect()
}

/// A decoder with random weights.
pub(crate) fn random_decoder(config: &Value, seed: u64) -> Decoder {
    let weights: Weights = random_tensors(config, seed).into_iter().collect();
    Decoder::new(families::spec(config).unwrap(), &weights, &Device::Cpu).unwrap()
}

/// The bits of a tensor's values.
pub(crate) fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

pub(crate) fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// Losses of a row and the gradients of the weights that `trains` names.
pub(crate) fn gradients(
    decoder: &Decoder,
    rows: &[(Row, Vec<u32>)],
    recompute: Recompute,
    trains: impl Fn(&str) -> bool,
) -> (Vec<f32>, BTreeMap<String, Tensor>) {
    let weights = decoder.weights().into_iter().filter(|(name, _)| trains(name));
    let mut gradients = Gradients::for_weights(weights).unwrap();
    let count: usize = rows.iter().map(|(_, targets)| targets.len()).sum();
    let mut losses = Vec::new();
    for (row, targets) in rows {
        let scale = 1.0 / count as f32;
        losses.extend(decoder.loss_backward(row, targets, scale, recompute, &mut gradients).unwrap());
    }
    let tensors = gradients.iter().map(|(name, gradient)| {
        assert!(gradient.is_filled(), "`{name}` got no gradient");
        (name.to_string(), gradient.tensor().clone())
    });
    (losses, tensors.collect())
}

/// A packed row of random documents of these lengths, every second position that has a next token a target.
pub(crate) fn row(lengths: &[u32], vocabulary: u32, seed: u64) -> (Row, Vec<u32>) {
    let mut offsets = vec![0];
    offsets.extend(lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    }));
    let tokens = numbers(lengths.iter().sum::<u32>() as usize, vocabulary, seed);
    let targets = (0..tokens.len() as u32).filter(|p| p % 2 == 0 && !offsets.contains(&(p + 1))).collect();
    (Row::new(tokens, &offsets).unwrap(), targets)
}
