//! Where a long text may be cut so that its tokens are those of the whole.
//!
//! A tokenizer that works by words shows it ([`crate::words`]). Any other is tried: on a window around the place, whole and in two.

use crate::tokenizer::{TextTokenizer, TokenizerError};

/// Bytes on either side of a cut on which the tokenizer is tried.
const WINDOW_BYTES: usize = 512;
/// Bytes in front of the right side that it is tokenised after.
const CONTEXT_BYTES: usize = 64;
/// Cuts tried.
const TRIED_CUTS: usize = 32;

/// How far behind `wanted` [`find_cut`] looks.
pub(crate) fn margin(tokenizer: &TextTokenizer) -> usize {
    tokenizer.words().map_or(WINDOW_BYTES, |words| words.margin().max(WINDOW_BYTES))
}

/// The last place in the second half of `text[..wanted]` where a cut changes no token; `None` where none is found. `text` goes on
/// behind `wanted` by [`margin`], or ends.
pub(crate) fn find_cut(tokenizer: &TextTokenizer, text: &str, wanted: usize) -> Result<Option<usize>, TokenizerError> {
    if let Some(words) = tokenizer.words() {
        return Ok(words.find_cut(text, wanted));
    }
    // In front of the white space between two words, or, in scripts without it, behind what is no letter.
    let between_words = |index: &usize| {
        matches!(text.as_bytes()[*index], b' ' | b'\n')
            && text[..*index].chars().next_back().is_some_and(char::is_alphabetic)
            && text[*index + 1..].chars().next().is_some_and(char::is_alphabetic)
    };
    let behind_a_sign = |index: &usize| {
        text.is_char_boundary(*index)
            && text[..*index]
                .chars()
                .next_back()
                .is_some_and(|before| !before.is_alphanumeric() && !before.is_whitespace())
    };
    let places = || (wanted / 2..wanted.min(text.len())).rev();
    let words = places().filter(between_words).take(TRIED_CUTS);
    let signs = places().filter(behind_a_sign).take(TRIED_CUTS);
    for index in words.chain(signs) {
        if agrees(tokenizer, text, index)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn agrees(tokenizer: &TextTokenizer, text: &str, index: usize) -> Result<bool, TokenizerError> {
    let left = tail(&text[..index], WINDOW_BYTES);
    let right = &text[index..text.floor_char_boundary(index.saturating_add(WINDOW_BYTES))];
    let joint = tokenizer.encode(&format!("{left}{right}"))?;
    let mut apart = tokenizer.encode(left)?;
    let Some(right) = tokenizer.encode_after(tail(left, CONTEXT_BYTES), right)? else { return Ok(false) };
    apart.extend(right);
    Ok(apart == joint)
}

/// At most the last `bytes` bytes of a text.
pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}
