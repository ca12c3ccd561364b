//! A real model, where there is one: `OUTCROP_REAL_MODEL` names a folder with a `.gguf` file and, in `hf/`, the
//! Hugging Face folder that `transformers` made of it (`from_pretrained(gguf_file=...)`, then `save_pretrained`).
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::{DType, Device};
use outcrop_model::{Base, Row};
use std::path::{Path, PathBuf};

/// Largest absolute difference of a logit: both dequantize the same blocks to f32.
const LOGITS: f32 = 1e-3;
const LINES: usize = 1000;

const PROMPTS: [&str; 4] = [
    "The capital of France is",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "In 1984, 27 of the 365 days",
];

#[test]
fn real_model_gguf_equals_safetensors() {
    let Some(folder) = std::env::var_os("OUTCROP_REAL_MODEL").map(PathBuf::from) else {
        println!("skipped: OUTCROP_REAL_MODEL is not set");
        return;
    };
    let mut files = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|e| e == "gguf")).expect("no .gguf file in the folder");
    let (gguf, hf) = (Base::open(&file).unwrap(), Base::open(&folder.join("hf")).unwrap());
    let tokenizers = (gguf.tokenizer().unwrap(), hf.tokenizer().unwrap());
    assert_eq!(gguf.end_token(&tokenizers.0).unwrap(), hf.end_token(&tokenizers.1).unwrap());
    assert_eq!(gguf.spec(), hf.spec());

    let lines = lines(&folder);
    let (mut tokens, mut different) = (0, Vec::new());
    for line in &lines {
        let ids = |tokenizer: &tokenizers::Tokenizer| tokenizer.encode(line.as_str(), true).unwrap().get_ids().to_vec();
        let (ours, theirs) = (ids(&tokenizers.0), ids(&tokenizers.1));
        tokens += theirs.len();
        if ours != theirs {
            different.push(format!("{line:?}: {ours:?} but {theirs:?}"));
        }
    }
    println!("tokenizer: {} lines, {tokens} tokens, {} lines differ", lines.len(), different.len());
    assert!(different.is_empty(), "{}", different[..different.len().min(5)].join("\n"));

    let load = |base: &Base| base.load(DType::F32, &Device::Cpu).unwrap();
    let (ours, theirs) = (load(&gguf), load(&hf));
    for ((name, a), (other, b)) in ours.weights().into_iter().zip(theirs.weights()) {
        assert_eq!((name, a.dims()), (other, b.dims()));
        let difference = common::largest(&(a - b).unwrap());
        assert!(difference <= 1e-6, "`{name}` differs by {difference:e}");
    }
    for prompt in PROMPTS {
        let ids = tokenizers.1.encode(prompt, true).unwrap().get_ids().to_vec();
        let row = Row::single(ids).unwrap();
        let (a, b) = (ours.logits(&row).unwrap(), theirs.logits(&row).unwrap());
        let difference = common::largest(&(&a - &b).unwrap());
        let next = |logits: &candle_core::Tensor| {
            let token = logits.get(row.len() - 1).unwrap().argmax(0).unwrap().to_scalar::<u32>().unwrap();
            tokenizers.1.decode(&[token], false).unwrap()
        };
        println!("{prompt:?} -> {:?}: logits differ by {difference:.1e}, largest {:.1}", next(&a), common::largest(&b));
        assert!(difference <= LOGITS, "{prompt:?}: logits differ by {difference:e}, allowed are {LOGITS:e}");
        assert_eq!(next(&a), next(&b));
    }
}

/// Lines of `lines.txt` in the folder where there is one, else of this repository's own texts, and some hard ones.
fn lines(folder: &Path) -> Vec<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/general/prose.txt");
    let file = folder.join("lines.txt");
    let text = fs_err::read_to_string(if file.is_file() { file } else { own }).unwrap();
    let hard = [
        "",
        " ",
        "  two  spaces ",
        "\ttab\n\n",
        "3.14159, 1,000 and 12345",
        "don't WE'LL x'd",
        "naïve café — “quoted”",
        "日本語 \u{1F600}",
        "<|im_start|>user\nHi<|im_end|>",
    ];
    let lines = text.lines().filter(|line| !line.is_empty()).take(LINES);
    lines.chain(hard).map(str::to_string).collect()
}
