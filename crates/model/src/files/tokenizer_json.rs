//! Reading a `tokenizer.json`. The library that reads and runs it takes much on trust: merges of tokens that aren't in the
//! vocabulary, templates of tokens that have no ids, steps that don't work on the texts they get. What it would panic on, or run
//! without end, is an error here, by what is wrong where that is known, else by the library's own words on a first text.

use super::caught::caught;
use super::inside;
use crate::{ModelError, Result};
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::{DecoderWrapper, Model, Tokenizer};

/// The tokenizer of a file. Errors: not readable, or not one that works.
pub(crate) fn read(path: &Path) -> Result<Tokenizer> {
    let bytes = inside::bytes(path, inside::MOST_TOKENIZER)?;
    parse(&bytes).map_err(|words| ModelError::invalid(path, format!("is not a readable tokenizer: {words}")))
}

/// The tokenizer of a file's content. Errors, in words: as for [`read`].
pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Tokenizer, String> {
    let tokenizer = caught(|| Tokenizer::from_bytes(bytes)).map_err(|words| contradiction(&words))?;
    check(tokenizer.map_err(|error| one_line(&error.to_string()))?)
}

/// The tokenizer, if it works. Errors, in words: a step that can't be run, on a first text for one.
pub(super) fn check(mut tokenizer: Tokenizer) -> std::result::Result<Tokenizer, String> {
    // a model decides on lengths itself; these would cut or fill texts unseen
    tokenizer.with_truncation(None).map_err(|error| one_line(&error.to_string()))?;
    tokenizer.with_padding(None);
    let model = tokenizer.get_model();
    if matches!(model, ModelWrapper::Unigram(_)) && model.token_to_id("").is_some() {
        return Err(
            "its Unigram vocabulary has a token without text, which the search for pieces never gets past".into()
        );
    }
    if tokenizer.get_decoder().is_some_and(strips_the_end) {
        return Err(
            "its decoder `Strip` cuts off the end of tokens, which fails on short ones; set its `stop` to 0".into()
        );
    }
    let first = caught(|| -> tokenizers::Result<String> {
        let encoding = tokenizer.encode(FIRST, true)?;
        tokenizer.decode(encoding.get_ids(), false)
    });
    match first {
        // a text that it has no tokens for is an error of that text
        Ok(Ok(_) | Err(_)) => Ok(tokenizer),
        Err(words) => Err(contradiction(&words)),
    }
}

/// A text with letters, digits, spaces, marks and more than one script.
const FIRST: &str = "Hello, wörld  x12 Ж漢🙂";

fn strips_the_end(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::Strip(strip) => strip.stop > 0,
        DecoderWrapper::Sequence(steps) => steps.get_decoders().iter().any(strips_the_end),
        _ => false,
    }
}

/// What a panic of the library says about a file.
pub(super) fn contradiction(words: &str) -> String {
    format!("its parts contradict each other ({words})")
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_string()
}
