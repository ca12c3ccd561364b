//! The tokenizer of a GGUF file, rebuilt from its metadata: byte-level BPE (`gpt2`) whose pre-tokenizer the file names;
//! SentencePiece (`llama`) is in `gguf_sentencepiece`.
//!
//! candle's reader knows three pre-tokenizers and gives every other file GPT-2's with a prefix space, which no model
//! here has, real Llama 3 files (`llama-bpe`) included: all but `qwen2` are set here. A file that names none, or one
//! that isn't known, is refused, since its tokens would be silently wrong.
//! Source of the names: llama.cpp's src/llama-vocab.cpp.

use super::gguf::{Metadata, first_line};
use super::tokenizer_json::{self, contradiction};
use super::{caught::caught, gguf_sentencepiece};
use crate::{ModelError, Result};
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// How Llama 3 cuts text, from its tokenizer.json.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer. Errors: neither byte-level BPE nor SentencePiece's, or a pre-tokenizer that is not named or not known.
pub(crate) fn tokenizer(path: &Path, content: &Content) -> Result<Tokenizer> {
    let failed = |message: String| {
        ModelError::invalid(path, format!("its tokenizer can't be rebuilt: {message}; use the safetensors files"))
    };
    tokenizer_json::check(rebuilt(&Metadata { path, content }, &failed)?).map_err(failed)
}

fn rebuilt(metadata: &Metadata, failed: &dyn Fn(String) -> ModelError) -> Result<Tokenizer> {
    if metadata.text("tokenizer.ggml.model")?.as_deref() == Some("llama") {
        let mut tokenizer = gguf_sentencepiece::tokenizer(metadata).map_err(failed)?;
        // where the key is missing SentencePiece's models begin with it
        if metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(true) {
            add_bos(&mut tokenizer, metadata).map_err(failed)?;
        }
        return Ok(tokenizer);
    }
    let tokenizer = caught(|| Tokenizer::from_gguf(metadata.content)).map_err(|words| failed(contradiction(&words)))?;
    let mut tokenizer = tokenizer.map_err(|e| failed(first_line(&e)))?;
    let pre = metadata.text("tokenizer.ggml.pre")?;
    let pre = pre.ok_or_else(|| failed("it names no pre-tokenizer (`tokenizer.ggml.pre`)".into()))?;
    let byte_level = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, true, use_regex));
    let steps = match pre.as_str() {
        "smollm" | "starcoder" | "refact" | "command-r" => vec![Digits::new(true).into(), byte_level(true)],
        "gpt2" | "gpt-2" | "olmo" => vec![byte_level(true)],
        "llama3" | "llama-v3" | "llama-bpe" | "smaug-bpe" => {
            let split = Split::new(SplitPattern::Regex(LLAMA3.into()), SplitDelimiterBehavior::Isolated, false);
            vec![split.map_err(|e| failed(e.to_string()))?.into(), byte_level(false)]
        }
        "qwen2" => return Ok(tokenizer), // candle builds it as it is
        other => return Err(failed(format!("its pre-tokenizer `{other}` is not supported"))),
    };
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    if matches!(pre.as_str(), "llama3" | "llama-v3" | "llama-bpe") {
        ignore_merges(&mut tokenizer);
        // files made before the converter wrote the key mean true
        if metadata.flag("tokenizer.ggml.add_bos_token")?.is_none() {
            add_bos(&mut tokenizer, metadata).map_err(failed)?;
        }
    }
    Ok(tokenizer)
}

/// A word that is a token is that token, whatever the merges say: Llama 3's own setting, which no key carries.
fn ignore_merges(tokenizer: &mut Tokenizer) {
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model() {
        let mut bpe = bpe.clone();
        bpe.ignore_merges = true;
        tokenizer.with_model(bpe);
    }
}

/// Puts the file's BOS before every text.
fn add_bos(tokenizer: &mut Tokenizer, metadata: &Metadata) -> std::result::Result<(), String> {
    let id = metadata.whole("tokenizer.ggml.bos_token_id").map_err(|e| e.to_string())?;
    let id = id.and_then(|id| u32::try_from(id).ok()).ok_or("it names no `tokenizer.ggml.bos_token_id`")?;
    let bos = tokenizer.id_to_token(id).ok_or_else(|| format!("its BOS {id} is not among its tokens"))?;
    let template = TemplateProcessing::builder()
        .try_single(vec![bos.clone(), "$A".to_string()])
        .and_then(|builder| builder.try_pair(vec![bos.clone(), "$A:0".to_string(), format!("{bos}:1"), "$B:1".into()]))
        .map_err(|e| e.to_string())?
        .special_tokens(vec![(bos, id)])
        .build()
        .map_err(|e| e.to_string())?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}
