//! A small Llama as a GGUF file, written as llama.cpp's converter does, beside the same model as a Hugging Face folder.

use super::{Tensors, bits, config, load, numbers, random_tensors, write_json, write_tensors};
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use outcrop_model::{Base, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const END: &str = "<|endoftext|>";
pub(crate) const TEMPLATE: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";

/// Byte-level tokens: the end token, the 256 bytes, then what the merges make, and a word that no merge makes.
pub(crate) fn tokens_and_merges() -> (Vec<String>, Vec<String>) {
    let mut bytes: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    let merges = ["H e", "l l", "He ll", "Hell o", "Ġ Hello", "1 2", "12 3", "123 4"].map(String::from);
    let mut tokens = vec![END.to_string()];
    tokens.extend(bytes.iter().map(char::to_string));
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    tokens.push("xyz".into());
    (tokens, merges.into())
}

pub(crate) fn vocabulary() -> usize {
    tokens_and_merges().0.len()
}

pub(crate) fn metadata() -> BTreeMap<&'static str, Value> {
    let (tokens, merges) = tokens_and_merges();
    let types = (0..tokens.len()).map(|id| Value::I32(if id == 0 { 3 } else { 1 })).collect();
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let text = |text: &str| Value::String(text.into());
    BTreeMap::from([
        ("general.architecture", text("llama")),
        ("general.name", text("tiny")),
        ("llama.block_count", Value::U32(2)),
        ("llama.context_length", Value::U32(512)),
        ("llama.embedding_length", Value::U32(64)),
        ("llama.feed_forward_length", Value::U32(96)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.rope.dimension_count", Value::U32(16)),
        ("llama.attention.key_length", Value::U32(16)),
        // of no effect, or switched off
        ("llama.vocab_size", Value::U32(1)),
        ("llama.expert_count", Value::U32(0)),
        ("llama.attention.causal", Value::Bool(true)),
        ("split.count", Value::U16(0)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", texts(merges)),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ])
}

/// llama.cpp's `permute`: `w.reshape(heads, 2, rows / heads / 2, columns).swapaxes(1, 2)`.
pub(crate) fn permute(w: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = w.dims2().unwrap();
    let split = w.reshape((heads, 2, rows / heads / 2, columns)).unwrap().transpose(1, 2).unwrap();
    split.contiguous().unwrap().reshape((rows, columns)).unwrap()
}

pub(crate) fn gguf_name(name: &str) -> String {
    let name = name.replace("model.layers.", "blk.").replace("model.embed_tokens", "token_embd");
    let parts = [
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    parts.iter().fold(name, |name, (from, to)| name.replace(from, to))
}

/// A GGUF file of these tensors: matrices as `dtype`, norms as F32.
pub(crate) fn write(path: &Path, metadata: &BTreeMap<&'static str, Value>, tensors: &Tensors, dtype: GgmlDType) {
    let converted: Vec<(String, QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let tensor = match name {
                name if name.ends_with("q_proj.weight") => permute(tensor, 4),
                name if name.ends_with("k_proj.weight") => permute(tensor, 2),
                _ => tensor.clone(),
            };
            let dtype = if tensor.rank() == 2 { dtype } else { GgmlDType::F32 };
            (gguf_name(name), QTensor::quantize(&tensor, dtype).unwrap())
        })
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let converted: Vec<(&str, &QTensor)> = converted.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut fs_err::File::create(path).unwrap(), &metadata, &converted).unwrap();
}

pub(crate) struct Pair {
    pub(crate) folder: TempDir,
    pub(crate) tensors: Tensors,
}

impl Pair {
    pub(crate) fn new(tied: bool, dtype: GgmlDType) -> Self {
        let (folder, config) = (tempfile::tempdir().unwrap(), config(vocabulary(), 64, 96, 2, tied));
        let tensors = random_tensors(&config, 5);
        let pair = Self { folder, tensors };
        write(&pair.gguf(), &metadata(), &pair.tensors, dtype);
        fs_err::create_dir_all(pair.hugging_face()).unwrap();
        write_json(&pair.hugging_face().join("config.json"), &config);
        // blocks lie along a row, so that a permutation of rows and quantization don't meet
        let rounded = pair.tensors.iter().map(|(name, tensor)| {
            let dtype = if tensor.rank() == 2 { dtype } else { GgmlDType::F32 };
            (name.clone(), QTensor::quantize(tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap())
        });
        write_tensors(&pair.hugging_face().join("model.safetensors"), &rounded.collect());
        pair
    }

    pub(crate) fn gguf(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    pub(crate) fn hugging_face(&self) -> PathBuf {
        self.folder.path().join("hf")
    }

    /// Opens and loads the file after a change to its metadata and tensors.
    pub(crate) fn changed(
        &self,
        change: impl FnOnce(&mut BTreeMap<&'static str, Value>, &mut Tensors),
    ) -> Result<Base, outcrop_model::ModelError> {
        let (mut metadata, mut tensors) = (metadata(), self.tensors.clone());
        change(&mut metadata, &mut tensors);
        let path = self.folder.path().join("changed.gguf");
        write(&path, &metadata, &tensors, GgmlDType::F32);
        let base = Base::open(&path)?;
        base.load(DType::F32, &Device::Cpu)?;
        Ok(base)
    }
}

pub(crate) fn logits(path: &Path) -> Vec<u32> {
    let row = Row::single(numbers(100, vocabulary() as u32, 9)).unwrap();
    bits(&load(path).unwrap().logits(&row).unwrap())
}
