//! What the fuzz targets of `fuzz/` and the property tests of the ordinary suite run: each loader on any bytes. Nothing may panic
//! or run without end, every error is one line, and what is accepted works.
#![allow(missing_docs, clippy::unwrap_used)] // entry points of tests

use crate::files::{safetensors, tokenizer_json};
use crate::{Base, ModelError, Row, families};
use candle_core::{DType, Device};
use std::path::PathBuf;
use tokenizers::Tokenizer;

/// Texts that every accepted tokenizer is asked for: nothing, spaces, a word, a long one, marks, other scripts, special tokens.
const TEXTS: [&str; 7] =
    ["", " \n\t ", "a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "é\u{301}\u{200d}🙂 x", "漢字 Ж9", "<s>a</s>"];

/// A GGUF file: header, config, tokenizer, template, tensors; a model that loads also answers.
pub fn gguf(content: &[u8]) {
    let (_folder, path) = file("a.gguf", content);
    let base = match Base::open(&path) {
        Ok(base) => base,
        Err(error) => return told(&error),
    };
    if let Some(tokenizer) = ok(base.tokenizer()) {
        works(&tokenizer);
        ok(base.end_token(&tokenizer));
        ok(base.stop_tokens(&tokenizer));
        ok(base.special_tokens(&tokenizer));
    }
    ok(base.chat_template());
    if let Some(decoder) = ok(base.load(DType::F32, &Device::Cpu)) {
        let last = (base.spec().vocab_size - 1) as u32;
        let logits = decoder.logits(&Row::single(vec![0, last, 0]).unwrap()).unwrap();
        assert_eq!(logits.dims(), [3, base.spec().vocab_size]);
    }
}

/// A `config.json`.
pub fn config(content: &[u8]) {
    let Ok(json) = serde_json::from_slice(content) else { return };
    let Some(spec) = ok(families::spec(&json)) else { return };
    assert_eq!(spec.layers.len(), spec.num_hidden_layers);
    assert!(spec.layers.iter().all(|layer| layer.rope.is_none_or(|rope| rope < spec.ropes.len())));
    assert!(spec.layers.iter().all(|layer| layer.window != Some(0)));
    let numbers = [spec.attention_scale, spec.embedding_scale.unwrap_or(1.0), spec.initializer_range];
    assert!(numbers.iter().all(|number| number.is_finite()), "{numbers:?}");
    let elements = spec.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum::<u64>();
    assert!(elements > 0);
}

/// A `tokenizer.json`.
pub fn tokenizer(content: &[u8]) {
    match tokenizer_json::parse(content) {
        Ok(tokenizer) => works(&tokenizer),
        Err(words) => assert!(!words.contains('\n'), "{words}"),
    }
}

/// A safetensors file of weights.
pub fn weights(content: &[u8]) {
    let (_folder, path) = file("model.safetensors", content);
    for dtype in [Some(DType::F32), None] {
        if let Some(weights) = ok(safetensors::read(std::slice::from_ref(&path), dtype, &Device::Cpu)) {
            let bytes: usize = weights.iter().map(|(_, tensor)| tensor.elem_count()).sum();
            assert!(bytes <= content.len());
        }
    }
    ok(safetensors::metadata(&path));
    ok(crate::MappedRows::open(&path));
}

fn works(tokenizer: &Tokenizer) {
    for text in TEXTS {
        for special in [true, false] {
            if let Ok(encoding) = tokenizer.encode(text, special) {
                let _ = tokenizer.decode(encoding.get_ids(), special);
            }
        }
    }
}

fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, content).unwrap();
    (folder, path)
}

fn ok<T>(result: Result<T, ModelError>) -> Option<T> {
    result.inspect_err(told).ok()
}

fn told(error: &ModelError) {
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    type Target = (&'static str, fn(&[u8]));
    const TARGETS: [Target; 4] = [("config", config), ("gguf", gguf), ("tokenizer", tokenizer), ("weights", weights)];

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        let mut paths: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| fs_err::read(path).unwrap()).collect()
    }

    /// What the fuzz targets begin with, and what they found, stays good.
    #[test]
    fn every_seed_passes() {
        for (target, run) in TARGETS {
            let seeds = seeds(target);
            assert!(seeds.len() > 5, "{target}: {}", seeds.len());
            seeds.iter().for_each(|seed| run(seed));
        }
    }

    /// Bytes changed, taken out, put in, cut off, or made a large number.
    fn mutated(mut bytes: Vec<u8>, changes: Vec<(prop::sample::Index, u8, u8)>) -> Vec<u8> {
        for (index, kind, value) in changes {
            if bytes.is_empty() {
                break;
            }
            let index = index.index(bytes.len());
            match kind % 5 {
                0 => bytes[index] = value,
                1 => drop(bytes.remove(index)),
                2 => bytes.insert(index, value),
                3 => bytes[index..].iter_mut().take(usize::from(value % 9)).for_each(|byte| *byte = 0xff),
                _ if value < 16 => bytes.truncate(index),
                _ => bytes[index] ^= 1 << (value % 8),
            }
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_bytes_harm_a_loader(
            target in prop::sample::select(TARGETS.to_vec()),
            seed in any::<prop::sample::Index>(),
            changes in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..6),
        ) {
            let seeds = seeds(target.0);
            (target.1)(&mutated(seeds[seed.index(seeds.len())].clone(), changes));
        }
    }
}
