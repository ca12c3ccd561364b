//! Tokenization by words: the ids of a text, equal to those of the tokenizer library on the whole text, for byte-level BPE whose
//! pre-tokenizer is known. Words repeat, so most of them come from a bounded table of single words ([`cache`]).
//!
//! What the library does with a text (tokenizers 0.23, `encode_fast`): added tokens are split off, each piece is normalised,
//! the pre-tokenizer cuts it into words and spells their bytes as characters, the model gives the ids of each word alone. Here
//! the words are found by hand ([`pattern`]), the rest is the library's own code, run once a word. A tokenizer with any other
//! part isn't taken ([`WordEncoder::new`] gives `None`), nor one that gives other ids than the library on [`PROBE`]; its user
//! then calls the library.

mod cache;
mod classes;
mod pattern;

use std::sync::Mutex;

use aho_corasick::AhoCorasick;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Model, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    SplitDelimiterBehavior, Tokenizer,
};
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use crate::tokenizer::TokenizerError;
use cache::WordCache;
use classes::Classes;
use pattern::Pattern;

/// Longest word in bytes. The library's merge loop takes over a hundred bytes of memory for each, and its regex engine gives up,
/// silently, on longer runs of white space.
pub(crate) const MAX_WORD_BYTES: usize = 512 << 10;
/// Texts are worked on in parts of about this size, so that what the library copies stays small.
const PART_BYTES: usize = 64 << 10;
/// Cuts tried before a part grows: each fails only beside an added token.
const TRIED_CUTS: usize = 64;
/// What every tokenizer is tried on when it is opened: each alternative of each pattern, ends and beginnings of runs.
const PROBE: &str = "The wall's 12 bubbles'll read 3.14159, I'D SAY 'tis 1000000 it'ſ   done!!\n\n  \t x\r\n\r\n…—“naïve” \u{a0}é\u{301} ½Ⅷ٣ ⓐ日本語 \
    don't we've they're I'm he'd  '' 'S 's\u{2028}\u{200b}x ?!\n y\t\tz\n\n\nend_of-line /* 0xff */ #1  \n 9  8 a1b2  ";

/// Most added tokens that are tried.
const PROBED_TOKENS: usize = 64;

/// Encodes texts word by word.
#[derive(Debug)]
pub(crate) struct WordEncoder {
    pattern: Pattern,
    classes: &'static Classes,
    normalizes: bool,
    /// The contents of the added tokens, where there are any, and the length of the longest.
    added: Option<AhoCorasick>,
    longest_added: usize,
    /// Tables that no thread is using. There are never more than threads that encode at once.
    idle: Mutex<Vec<WordCache>>,
}

impl WordEncoder {
    /// An encoder for `tokenizer`; `None` where its parts aren't known to work by words, or where it fails on the probe.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let normalizes = match tokenizer.get_normalizer() {
            None => false,
            Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => return None,
        };
        if tokenizer.get_encode_special_tokens() {
            return None;
        }
        let pattern = pattern_of(tokenizer.get_pre_tokenizer()?)?;
        let tokens = tokenizer.get_added_tokens_decoder();
        let mut contents: Vec<&str> = tokens.values().map(|token| token.content.as_str()).collect();
        contents.sort_unstable();
        if contents.iter().any(|content| normalizes && !is_nfc(content)) {
            return None; // it would be found in a text that doesn't spell it this way
        }
        contents.retain(|content| !content.is_empty());
        let longest_added = contents.iter().map(|content| content.len()).max().unwrap_or(0);
        let added = match contents.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(&contents).ok()?),
        };
        let classes = Classes::get()?;
        let encoder = Self { pattern, classes, normalizes, added, longest_added, idle: Mutex::default() };
        let same = |text: &str| {
            let expected = tokenizer.encode_fast(text, false).ok()?;
            let found = encoder.encode(tokenizer, u32::MAX, text).ok()?;
            (found == expected.get_ids()).then_some(())
        };
        same(PROBE)?;
        for content in contents.iter().take(PROBED_TOKENS) {
            same(&format!("a {content} b{content}c  {content}\n"))?;
        }
        Some(encoder)
    }

    /// Token ids of a text, those of `tokenizer.encode_fast(text, false)`; `tokenizer` is the one this was made for.
    /// Errors: a token with an id of `rows` or more; a word longer than [`MAX_WORD_BYTES`]; the library's own.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, rows: u32, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut cache = idle.unwrap_or_else(WordCache::new);
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        let mut rest = text;
        let result = loop {
            let cut = if rest.len() > 2 * PART_BYTES { self.find_cut(rest, PART_BYTES) } else { None };
            let (part, after) = rest.split_at(cut.unwrap_or(rest.len()));
            if let Err(error) = self.encode_part(tokenizer, rows, part, &mut cache, &mut ids) {
                break Err(error);
            }
            if after.is_empty() {
                break Ok(ids);
            }
            rest = after;
        };
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(cache);
        }
        result
    }

    /// The last place in the second half of `text[..wanted]` where both sides have their tokens whatever the other side is;
    /// `None` where there is none. `text` goes on behind `wanted` by at least [`Self::margin`] bytes, or ends.
    pub(crate) fn find_cut(&self, text: &str, wanted: usize) -> Option<usize> {
        pattern::cuts(self.classes, text, wanted).take(TRIED_CUTS).find(|index| self.no_added_token_at(text, *index))
    }

    /// How far around a cut one must see.
    pub(crate) fn margin(&self) -> usize {
        self.longest_added + 4
    }

    /// No added token lies across the cut or touches it. One that doesn't can't reach it either: white space that a token takes
    /// from its sides ends at the letter or number in front of the cut.
    fn no_added_token_at(&self, text: &str, index: usize) -> bool {
        let Some(added) = &self.added else { return true };
        let start = index.saturating_sub(self.longest_added);
        let end = text.len().min(index + self.longest_added);
        !added.is_match(&text.as_bytes()[start..end])
    }

    fn encode_part(
        &self,
        tokenizer: &Tokenizer,
        rows: u32,
        text: &str,
        cache: &mut WordCache,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let has_added = self.added.as_ref().is_some_and(|added| added.is_match(text));
        if !has_added && (!self.normalizes || is_nfc(text)) {
            return self.encode_words(tokenizer, rows, text, cache, ids);
        }
        let pieces = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
        for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match tokens {
                Some(tokens) => {
                    let found: Vec<u32> = tokens.iter().map(|token| token.id).collect();
                    check(tokenizer, rows, &found)?;
                    ids.extend(found);
                }
                None => self.encode_words(tokenizer, rows, piece, cache, ids)?,
            }
        }
        Ok(())
    }

    /// Ids of a piece in which there is no added token.
    fn encode_words(
        &self,
        tokenizer: &Tokenizer,
        rows: u32,
        text: &str,
        cache: &mut WordCache,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut start = 0;
        while start < text.len() {
            let end = self.pattern.word_end(self.classes, text, start);
            cache.extend(&text[start..end], ids, |word| encode_word(tokenizer, rows, word))?;
            start = end;
        }
        Ok(())
    }
}

fn is_nfc(text: &str) -> bool {
    text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// The pattern of a pre-tokenizer, recognised by all that shapes its words.
fn pattern_of(pre_tokenizer: &PreTokenizerWrapper) -> Option<Pattern> {
    let is_byte_level = |step: &PreTokenizerWrapper, regex: bool| matches!(step, PreTokenizerWrapper::ByteLevel(ByteLevel { add_prefix_space: false, use_regex, .. }) if *use_regex == regex);
    let steps = match pre_tokenizer {
        PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref(),
        other => std::slice::from_ref(other),
    };
    match steps {
        [only] if is_byte_level(only, true) => Some(Pattern::Gpt2 { digits: false }),
        [PreTokenizerWrapper::Digits(digits), last] if digits.individual_digits && is_byte_level(last, true) => {
            Some(Pattern::Gpt2 { digits: true })
        }
        [
            PreTokenizerWrapper::Split(Split {
                pattern: SplitPattern::Regex(regex),
                behavior: SplitDelimiterBehavior::Isolated,
                invert: false,
                ..
            }),
            last,
        ] if is_byte_level(last, false) => match regex.as_str() {
            pattern::LLAMA_3 => Some(Pattern::Cl100k { max_digits: 3 }),
            pattern::QWEN_2 => Some(Pattern::Cl100k { max_digits: 1 }),
            _ => None,
        },
        _ => None,
    }
}

/// Ids of one word, by the library: its bytes spelled as characters, then the model.
fn encode_word(tokenizer: &Tokenizer, rows: u32, word: &str) -> Result<Vec<u32>, TokenizerError> {
    if word.len() > MAX_WORD_BYTES {
        return Err(TokenizerError::LongWord { bytes: word.len() });
    }
    let failed = |error: tokenizers::Error| TokenizerError::Failed(error.to_string());
    let mut spelled = PreTokenizedString::from(word);
    ByteLevel::new(false, false, false).pre_tokenize(&mut spelled).map_err(failed)?;
    let mut ids = Vec::new();
    for (spelled, _, _) in spelled.get_splits(OffsetReferential::Normalized, OffsetType::None) {
        ids.extend(tokenizer.get_model().tokenize(spelled).map_err(failed)?.iter().map(|token| token.id));
    }
    check(tokenizer, rows, &ids)?;
    Ok(ids)
}

/// Every id is below the number of the model's embedding rows (R29).
pub(crate) fn check(tokenizer: &Tokenizer, rows: u32, ids: &[u32]) -> Result<(), TokenizerError> {
    match ids.iter().find(|id| **id >= rows) {
        None => Ok(()),
        Some(&id) => {
            let token = tokenizer.id_to_token(id).unwrap_or_else(|| format!("<{id}>"));
            Err(TokenizerError::OutsideVocabulary { token, id, rows })
        }
    }
}

#[cfg(test)]
mod tests;
