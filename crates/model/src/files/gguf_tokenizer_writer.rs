//! A tokenizer as GGUF's metadata: byte-level BPE (`gpt2`) with its merges and the name of its pre-tokenizer, or SentencePiece's BPE
//! with byte fallback (`llama`) with a score for each piece. What neither form can say is an error, never a default.
//!
//! Names of pre-tokenizers are given by what they do, not by whose they are. Source: llama.cpp's src/llama-vocab.cpp.

use super::gguf_sentencepiece::{CONTROL, SPACE, UNKNOWN, USER_DEFINED};
use super::gguf_tokenizer::LLAMA3;
use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};
use tokenizers::Tokenizer;

const NORMAL: i64 = 1;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// Llama 3's way to cut text as candle writes it, and Qwen's as its tokenizer.json and as candle write it.
const LLAMA3_OTHER: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_OTHER: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

type Failure<T> = Result<T, String>;

/// Keys and values but for the special tokens' ids. `rows` is the embedding's number of rows; ids without a token are filled.
/// Errors, in words: a tokenizer of another kind, an id beyond the rows (R29), a step that GGUF can't say.
pub(super) fn metadata(tokenizer: &Tokenizer, bos: Option<u32>, rows: usize) -> Failure<Vec<(&'static str, Value)>> {
    let json = serde_json::to_value(tokenizer).map_err(|e| e.to_string())?;
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(format!("its model is {}, only BPE is supported", model["type"]));
    }
    for field in ["continuing_subword_prefix", "end_of_word_suffix", "dropout"] {
        if !(model[field].is_null() || model[field] == "") {
            return Err(format!("its `{field}` is {}, which no key holds", model[field]));
        }
    }
    let mut pieces = pieces(tokenizer, &json, rows)?;
    let mut values = match model["byte_fallback"] == true {
        true => sentencepiece(&json, &mut pieces)?,
        false => byte_level(&json)?,
    };
    let types = pieces.iter().map(|(_, kind)| Value::I32(*kind as i32)).collect();
    values.push(("tokenizer.ggml.token_type", Value::Array(types)));
    let texts = pieces.into_iter().map(|(text, _)| Value::String(text)).collect();
    values.push(("tokenizer.ggml.tokens", Value::Array(texts)));
    values.push(("tokenizer.ggml.add_bos_token", Value::Bool(adds_bos(tokenizer, bos)?)));
    values.push(("tokenizer.ggml.add_eos_token", Value::Bool(false)));
    Ok(values)
}

/// What stands for an id without a token, as llama.cpp's converter has it.
fn filler(id: usize) -> String {
    format!("[PAD{id}]")
}

/// Every id's text and type.
fn pieces(tokenizer: &Tokenizer, json: &Json, rows: usize) -> Failure<Vec<(String, i64)>> {
    let mut pieces: Vec<(String, i64)> = (0..rows).map(|id| (filler(id), UNUSED)).collect();
    for (text, id) in tokenizer.get_vocab(true) {
        let Some(piece) = pieces.get_mut(id as usize) else {
            return Err(format!("`{text}` has the id {id}, but the embedding has {rows} rows"));
        };
        *piece = (text, NORMAL);
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().unwrap_or_default();
        if let Some(field) = ["single_word", "lstrip", "rstrip"].into_iter().find(|field| token[field] == true) {
            return Err(format!("its token `{text}` has `{field}`, which no key holds"));
        }
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        if let Some(piece) = token["id"].as_u64().and_then(|id| pieces.get_mut(id as usize)) {
            piece.1 = kind;
        }
    }
    // candle reads what fills a row as a token
    pieces
        .iter_mut()
        .enumerate()
        .filter(|(id, (text, _))| *text == filler(*id))
        .for_each(|(_, piece)| piece.1 = UNUSED);
    Ok(pieces)
}

/// The merges, each as its two parts.
fn merges(json: &Json) -> Failure<Vec<(&str, &str)>> {
    let merges = json["model"]["merges"].as_array().into_iter().flatten();
    let parts = merges.map(|merge| match merge {
        Json::String(text) => text.split_once(' '),
        other => Some((other[0].as_str()?, other[1].as_str()?)),
    });
    parts.collect::<Option<_>>().ok_or_else(|| "a merge isn't of two parts".into())
}

/// The steps of a normalizer or a pre-tokenizer, one after another; none where it is null.
fn steps<'a>(json: &'a Json, inner: &str) -> Vec<&'a Json> {
    match json {
        Json::Null => Vec::new(),
        sequence if sequence["type"] == "Sequence" => {
            sequence[inner].as_array().into_iter().flatten().flat_map(|step| steps(step, inner)).collect()
        }
        step => vec![step],
    }
}

fn byte_level(json: &Json) -> Failure<Vec<(&'static str, Value)>> {
    let pre = pre_tokenizer(json)?;
    let merges = merges(json)?;
    if let Some((left, right)) = merges.iter().find(|(left, right)| left.contains(' ') || right.contains(' ')) {
        return Err(format!("its merge of `{left}` and `{right}` has a space in a part"));
    }
    let merges = merges.into_iter().map(|(left, right)| Value::String(format!("{left} {right}"))).collect();
    let text = |text: &str| Value::String(text.into());
    Ok(vec![
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(pre)),
        ("tokenizer.ggml.merges", Value::Array(merges)),
    ])
}

/// The name of what cuts the text before merging. Errors: none that is known does the same.
fn pre_tokenizer(json: &Json) -> Failure<&'static str> {
    let bytes = |regex: bool| {
        move |step: &Json| {
            step["type"] == "ByteLevel"
                && step["add_prefix_space"] == false
                && step["use_regex"].as_bool() == Some(regex)
        }
    };
    let digits = |step: &Json| step["type"] == "Digits" && step["individual_digits"] == true;
    let split = |regexes: [&'static str; 2]| {
        move |step: &Json| {
            let isolated = step["type"] == "Split" && step["behavior"] == "Isolated" && step["invert"] == false;
            isolated && step["pattern"]["Regex"].as_str().is_some_and(|regex| regexes.contains(&regex))
        }
    };
    let cuts = steps(&json["pre_tokenizer"], "pretokenizers");
    let normalizer = steps(&json["normalizer"], "normalizers");
    let ignores_merges = json["model"]["ignore_merges"] == true;
    let name = match cuts[..] {
        [one] if bytes(true)(one) => Some("gpt-2"),
        [one, two] if digits(one) && bytes(true)(two) => Some("smollm"),
        [one, two] if split([LLAMA3, LLAMA3_OTHER])(one) && bytes(false)(two) => Some("llama-bpe"),
        [one, two] if split([QWEN2, QWEN2_OTHER])(one) && bytes(false)(two) => Some("qwen2"),
        _ => None,
    };
    let name = name.filter(|name| ignores_merges == (*name == "llama-bpe"));
    let name = name.filter(|name| match normalizer[..] {
        [] => *name != "qwen2",
        [one] => *name == "qwen2" && one["type"] == "NFC",
        _ => false,
    });
    name.ok_or_else(|| {
        let kinds = |steps: &[&Json]| steps.iter().map(|s| s["type"].to_string()).collect::<Vec<_>>().join(", ");
        format!(
            "no name is known for its pre-tokenizer (normalizer [{}], steps [{}], ignore_merges {ignores_merges}); known are \
             those of `gpt-2`, `smollm`, `llama-bpe`, `qwen2`",
            kinds(&normalizer),
            kinds(&cuts)
        )
    })
}

/// Pieces with scores: the piece that is merged first has the best. Changes pieces to the types and texts of this kind.
fn sentencepiece(json: &Json, pieces: &mut [(String, i64)]) -> Failure<Vec<(&'static str, Value)>> {
    let prefix = adds_space(json)?;
    let unknown = json["model"]["unk_token"].as_str();
    let mut bytes = 0;
    for (text, kind) in pieces.iter_mut() {
        let is_byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>') && *kind == NORMAL;
        bytes += usize::from(is_byte);
        match *kind {
            _ if Some(text.as_str()) == unknown => *kind = UNKNOWN,
            NORMAL if is_byte => *kind = BYTE,
            USER_DEFINED => *text = text.replace(SPACE, " "), // matched in the text as it stands
            _ => {}
        }
    }
    if bytes != 256 {
        return Err(format!("it falls back to bytes, but has {bytes} of 256"));
    }
    let mut ranks = HashMap::new();
    let merges = merges(json)?;
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let known: HashSet<&str> = pieces.iter().map(|(text, _)| text.as_str()).collect();
    let whole = |text: &str| {
        text.char_indices().skip(1).any(|(at, _)| known.contains(&text[..at]) && known.contains(&text[at..]))
    };
    let lost = pieces.iter().find(|(text, kind)| *kind == NORMAL && !ranks.contains_key(text) && whole(text));
    if let Some((text, _)) = lost {
        return Err(format!("its piece `{text}` is two other pieces, but no merge makes it; scores would"));
    }
    let score = |text: &str| Value::F32(-(ranks.get(text).map_or(merges.len(), |rank| *rank) as f32));
    let scores = pieces.iter().map(|(text, _)| score(text)).collect();
    Ok(vec![
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.pre", Value::String("default".into())), // what llama.cpp's converter writes for this kind
        ("tokenizer.ggml.scores", Value::Array(scores)),
        ("tokenizer.ggml.add_space_prefix", Value::Bool(prefix)),
    ])
}

/// Whether a space is put before each text. Errors: the text is changed or cut in another way than SentencePiece's.
fn adds_space(json: &Json) -> Failure<bool> {
    let replaces =
        |step: &Json| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE;
    let prepends = |step: &Json| step["type"] == "Prepend" && step["prepend"] == SPACE;
    // behind the replacement there are no spaces left to cut at
    let idle = |step: &&Json| step["type"] == "Split" && step["pattern"]["String"] == " ";
    let cuts = steps(&json["pre_tokenizer"], "pretokenizers");
    match steps(&json["normalizer"], "normalizers")[..] {
        [one, two] if cuts.iter().all(idle) && prepends(one) && replaces(two) => Ok(true),
        [one] if cuts.iter().all(idle) && replaces(one) => Ok(false),
        _ => Err(
            "its normalizer or pre-tokenizer isn't that of SentencePiece (spaces replaced, one put in front or not)"
                .into(),
        ),
    }
}

/// Whether a text begins with the BOS. Errors: something else is put around it.
fn adds_bos(tokenizer: &Tokenizer, bos: Option<u32>) -> Failure<bool> {
    let ids = |special| tokenizer.encode("a", special).map(|e| e.get_ids().to_vec()).map_err(|e| e.to_string());
    let (bare, whole) = (ids(false)?, ids(true)?);
    match whole.strip_suffix(bare.as_slice()) {
        Some([]) => Ok(false),
        Some([one]) if Some(*one) == bos => Ok(true),
        _ => Err(format!("it puts other tokens around a text than a BOS before it ({bare:?} becomes {whole:?})")),
    }
}
