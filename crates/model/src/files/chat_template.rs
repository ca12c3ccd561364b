//! The chat template of a base and the special tokens that it may name, as `transformers` finds them: a folder's
//! `chat_template.jinja`, else `chat_template` in tokenizer_config.json (a text, or a list whose `default` counts); a
//! GGUF file's `tokenizer.chat_template`. Left out: what a template means, which `outcrop-data` knows.

use super::gguf::Metadata;
use super::inside;
use crate::{ModelError, Result};
use candle_core::quantized::gguf_file::Content;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::Tokenizer;

/// Variables of templates that hold special tokens, and the keys of a GGUF file that name their ids.
pub(super) const SPECIAL_TOKENS: [(&str, &str); 7] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("sep_token", "tokenizer.ggml.seperator_token_id"), // spelled so in the format
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("cls_token", "tokenizer.ggml.cls_token_id"),
    ("mask_token", "tokenizer.ggml.mask_token_id"),
];

/// The template of a folder. Errors: a file that can't be read; several templates, none of which is the default.
pub(crate) fn of_folder(folder: &Path) -> Result<Option<String>> {
    let file = folder.join("chat_template.jinja");
    if file.is_file() {
        return inside::text(&file).map(Some);
    }
    let file = folder.join("tokenizer_config.json");
    let wrong = |message: &str| ModelError::invalid(&file, message);
    match config(folder, "tokenizer_config.json")?.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(templates)) => {
            let named = |template: &&Value| template.get("name").and_then(Value::as_str) == Some("default");
            let text = templates.iter().find(named).and_then(|template| template.get("template")?.as_str());
            text.map(|text| Some(text.to_string())).ok_or_else(|| {
                wrong("has a list of chat templates without one that is named `default`; name a template file")
            })
        }
        Some(_) => Err(wrong("has a `chat_template` that is neither a text nor a list of them")),
    }
}

/// The template of a GGUF file. Errors: it isn't a text.
pub(crate) fn of_gguf(path: &Path, content: &Content) -> Result<Option<String>> {
    Metadata { path, content }.text("tokenizer.chat_template")
}

/// Special tokens by their variable's name, from tokenizer_config.json, else special_tokens_map.json; `None` where the file says that
/// there is none.
pub(crate) fn special_tokens_of_folder(folder: &Path) -> Result<BTreeMap<String, Option<String>>> {
    let (own, older) = (config(folder, "tokenizer_config.json")?, config(folder, "special_tokens_map.json")?);
    let named = SPECIAL_TOKENS.iter().filter_map(|(name, _)| {
        let token = own.get(*name).or_else(|| older.get(*name))?;
        let text = token.as_str().or_else(|| token.get("content")?.as_str());
        Some(((*name).to_string(), text.map(str::to_string)))
    });
    Ok(named.collect())
}

/// Special tokens by their variable's name, from a GGUF file's ids.
pub(crate) fn special_tokens_of_gguf(
    path: &Path,
    content: &Content,
    tokenizer: &Tokenizer,
) -> Result<BTreeMap<String, String>> {
    let metadata = Metadata { path, content };
    let mut tokens = BTreeMap::new();
    for (name, key) in SPECIAL_TOKENS {
        let id = metadata.whole(key)?.and_then(|id| u32::try_from(id).ok());
        if let Some(token) = id.and_then(|id| tokenizer.id_to_token(id)) {
            tokens.insert(name.to_string(), token);
        }
    }
    Ok(tokens)
}

/// A JSON file of the folder, null where there is none.
fn config(folder: &Path, name: &str) -> Result<Value> {
    let file = folder.join(name);
    if !file.is_file() {
        return Ok(Value::Null);
    }
    inside::json(&file)
}
