//! A SentencePiece tokenizer (`tokenizer.ggml.model` = `llama`) rebuilt from a GGUF file's pieces and scores: BPE with byte fallback.
//!
//! The file has no merges. As transformers does, every way to split a piece into two other pieces is a merge, ranked by the
//! piece's score, since SentencePiece joins what gives the best-scored piece. Types of pieces: llama.cpp's `llama_token_type`.
//! Left out: Unigram models (`t5`); an end token behind every text, which training and generation set themselves.

use super::gguf::Metadata;
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Sequence as Normalizers};
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer};

/// What stands for a space in pieces.
pub(super) const SPACE: &str = "▁";
/// Longest piece, since every split of each is tried; ten times those of any model.
const LONGEST_PIECE: usize = 1024;
pub(super) const UNKNOWN: i64 = 2;
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;

/// The tokenizer, without its BOS. Errors, in words: pieces, scores or types that are missing, of another type or number, or
/// that give no tokenizer.
pub(super) fn tokenizer(metadata: &Metadata) -> Result<Tokenizer, String> {
    let pieces: Vec<&str> =
        list(metadata, "tokenizer.ggml.tokens", |value| value.to_string().ok().map(String::as_str))?;
    let scores: Vec<f32> = list(metadata, "tokenizer.ggml.scores", |value| value.to_f32().ok())?;
    let types: Vec<i64> = list(metadata, "tokenizer.ggml.token_type", |value| match value {
        Value::I32(kind) => Some(i64::from(*kind)),
        Value::U32(kind) => Some(i64::from(*kind)),
        _ => None,
    })?;
    if scores.len() != pieces.len() || types.len() != pieces.len() {
        let (pieces, scores, types) = (pieces.len(), scores.len(), types.len());
        return Err(format!("it has {pieces} tokens but {scores} scores and {types} types"));
    }
    if let Some(long) = pieces.iter().find(|piece| piece.len() > LONGEST_PIECE) {
        return Err(format!("it has a token of {} bytes, at most {LONGEST_PIECE} are read", long.len()));
    }
    let unknown = types.iter().position(|kind| *kind == UNKNOWN).map(|id| pieces[id].to_string());
    let ids: HashMap<&str, usize> = pieces.iter().copied().zip(0..).collect();
    let merges = merges(&ids, &scores);
    let mut builder = BPE::builder()
        .vocab_and_merges(ids.iter().map(|(piece, id)| ((*piece).to_string(), *id as u32)).collect::<Vocab>(), merges)
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    let mut tokenizer = Tokenizer::new(builder.build().map_err(|e| e.to_string())?);
    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix").map_err(|e| e.to_string())?.unwrap_or(true);
    let replace = |from: &str, to: &str| Replace::new(from, to).map_err(|e| e.to_string());
    let mut normalizers: Vec<NormalizerWrapper> = vec![replace(" ", SPACE)?.into()];
    let mut decoders: Vec<DecoderWrapper> =
        vec![replace(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        normalizers.insert(0, Prepend::new(SPACE.into()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(|e| e.to_string())?;
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    let of = |kind: i64| pieces.iter().zip(&types).filter(move |(_, other)| **other == kind).map(|(piece, _)| *piece);
    tokenizer
        .add_special_tokens(of(CONTROL).chain(of(UNKNOWN)).map(|piece| AddedToken::from(piece, true)))
        .map_err(|e| e.to_string())?;
    // Matched before anything is merged: in text whose spaces are replaced, as they are in the piece. Where a space is put in front,
    // the library would put it into the piece, too; there they are matched in the text as it stands.
    tokenizer
        .add_tokens(of(USER_DEFINED).map(|piece| AddedToken::from(piece, false).normalized(!prefix)))
        .map_err(|e| e.to_string())?;
    Ok(tokenizer)
}

/// Every split of a piece into two pieces: the best-scored piece first, then the best-scored halves.
fn merges(ids: &HashMap<&str, usize>, scores: &[f32]) -> Vec<(String, String)> {
    let mut merges: Vec<(usize, usize, usize, &str, usize)> = Vec::new();
    for (piece, id) in ids {
        for (at, _) in piece.char_indices().skip(1) {
            if let (Some(left), Some(right)) = (ids.get(&piece[..at]), ids.get(&piece[at..])) {
                merges.push((*id, *left, *right, piece, at));
            }
        }
    }
    merges.sort_by(|one, other| {
        let descending = |one: usize, other: usize| scores[other].total_cmp(&scores[one]);
        descending(one.0, other.0)
            .then(one.0.cmp(&other.0))
            .then_with(|| descending(one.1, other.1))
            .then_with(|| descending(one.2, other.2))
            .then(one.4.cmp(&other.4))
    });
    merges.into_iter().map(|(_, _, _, piece, at)| (piece[..at].to_string(), piece[at..].to_string())).collect()
}

fn list<'m, T>(metadata: &Metadata<'m>, key: &str, read: impl Fn(&'m Value) -> Option<T>) -> Result<Vec<T>, String> {
    let value = metadata.content.metadata.get(key).ok_or_else(|| format!("it has no `{key}`"))?;
    let wrong = || format!("its `{key}` is not a list of what it should be");
    value.to_vec().map_err(|_| wrong())?.iter().map(|value| read(value).ok_or_else(wrong)).collect()
}
