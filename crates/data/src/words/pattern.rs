//! The words that byte-level BPE is run on, found by hand instead of by the library's backtracking regex engine, and the places
//! where a text may be cut without changing any word.
//!
//! Three patterns are known, each recognised by the exact parts of a tokenizer (see `mod`). In all of them a letter is matched
//! only by a run of letters or by a contraction, both of which end with it, a number only by a run of numbers, and nothing looks
//! behind itself. So a word ends wherever a letter stands in front of what is no letter, or a number in front of what is no
//! number; what stands right of such a place has the same words with and without what stands left of it, and the other way round.

use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use super::classes::{Classes, DIGIT, LETTER, NUMBER, SPACE};

/// The pattern of Llama 3, with numbers of up to three digits.
pub(super) const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The pattern of Qwen 2 to 3, with numbers of one digit.
pub(super) const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a text is cut into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// GPT-2's, which the library's `ByteLevel` has built in:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`; `digits` where each digit is split off first (SmolLM, StarCoder).
    Gpt2 { digits: bool },
    /// [`LLAMA_3`] or [`QWEN_2`].
    Cl100k { max_digits: usize },
}

impl Pattern {
    /// End of the word that begins at `start`, which is inside `text`.
    #[inline]
    pub(super) fn word_end(self, classes: &Classes, text: &str, start: usize) -> usize {
        match self {
            Self::Gpt2 { digits } => {
                let scan = Scan { classes, text, stop: if digits { DIGIT } else { 0 } };
                let (flags, length) = classes.at(text, start);
                if flags & scan.stop != 0 { start + length } else { scan.gpt2(start) }
            }
            Self::Cl100k { max_digits } => Scan { classes, text, stop: 0 }.cl100k(start, max_digits),
        }
    }
}

/// A text being cut; a character with a flag of `stop` is like the end of the text.
struct Scan<'a> {
    classes: &'a Classes,
    text: &'a str,
    stop: u8,
}

impl Scan<'_> {
    /// Flags and length of the character at `index`; length 0 at an end.
    #[inline]
    fn at(&self, index: usize) -> (u8, usize) {
        let (flags, length) = self.classes.at(self.text, index);
        if flags & self.stop != 0 { (0, 0) } else { (flags, length) }
    }

    /// End of the run of characters from `index` on of which exactly `wanted` of letter, number and space are true.
    #[inline]
    fn run(&self, mut index: usize, wanted: u8) -> usize {
        loop {
            let (flags, length) = self.at(index);
            if length == 0 || flags & (LETTER | NUMBER | SPACE) != wanted {
                return index;
            }
            index += length;
        }
    }

    #[inline]
    fn gpt2(&self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        if bytes[start] == b'\''
            && let Some(length) = contraction(&bytes[start..])
        {
            return start + length;
        }
        // ` ?` and then a run of letters, of numbers, or of what is neither nor white space.
        let first = start + usize::from(bytes[start] == b' ');
        let (flags, length) = self.at(first);
        if length > 0 && flags & SPACE == 0 {
            return self.run(first + length, flags & (LETTER | NUMBER));
        }
        self.white_space(start)
    }

    #[inline]
    fn cl100k(&self, start: usize, max_digits: usize) -> usize {
        let bytes = self.text.as_bytes();
        if bytes[start] == b'\''
            && let Some(length) = contraction_of_any_case(&bytes[start..])
        {
            return start + length;
        }
        let (flags, length) = self.at(start);
        let (next_flags, next_length) = self.at(start + length);
        if flags & LETTER != 0 {
            return self.run(start + length, LETTER);
        }
        if flags & NUMBER == 0 && !matches!(bytes[start], b'\r' | b'\n') && next_flags & LETTER != 0 {
            return self.run(start + length + next_length, LETTER);
        }
        if flags & NUMBER != 0 {
            let mut end = start + length;
            for _ in 1..max_digits {
                let (flags, length) = self.at(end);
                if flags & NUMBER == 0 {
                    break;
                }
                end += length;
            }
            return end;
        }
        let is_other = |(flags, length): (u8, usize)| length > 0 && flags & (LETTER | NUMBER | SPACE) == 0;
        if is_other((flags, length)) || (bytes[start] == b' ' && is_other((next_flags, next_length))) {
            let end = self.run(start + length, 0);
            return end + bytes[end..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        }
        let end = self.run(start, SPACE);
        if let Some(newline) = bytes[start..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
            return start + newline + 1;
        }
        self.white_space(start)
    }

    /// `\s+(?!\S)|\s+`: all white space that ends the text; else all but its last character, which goes with what follows.
    fn white_space(&self, start: usize) -> usize {
        let end = self.run(start, SPACE);
        if self.at(end).1 == 0 {
            return end;
        }
        let last = self.text[start..end].chars().next_back().map_or(0, char::len_utf8);
        if end - last > start { end - last } else { end }
    }
}

/// Length of a contraction at the start of `bytes`, which is an apostrophe.
fn contraction(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b's' | b't' | b'm' | b'd' => Some(2),
        b'r' | b'v' if bytes.get(2) == Some(&b'e') => Some(3),
        b'l' if bytes.get(2) == Some(&b'l') => Some(3),
        _ => None,
    }
}

/// The same in any case. Case folding takes the long s (U+017F) for an s; none of the other letters has a third form.
fn contraction_of_any_case(bytes: &[u8]) -> Option<usize> {
    if bytes[1..].starts_with("ſ".as_bytes()) {
        return Some(3);
    }
    let lower = |index: usize| bytes.get(index).map_or(0, u8::to_ascii_lowercase);
    contraction(&[b'\'', lower(1), lower(2)])
}

/// The places in the second half of `text[..wanted]`, last first, where a word surely ends: behind a letter and in front of what is
/// no letter, or the same with numbers. What stands behind is a character that nothing in front of it composes with, so that
/// normalisation (NFC) is the same on either side too.
pub(super) fn cuts<'a>(classes: &'a Classes, text: &'a str, wanted: usize) -> impl Iterator<Item = usize> + 'a {
    let start = text.ceil_char_boundary(wanted / 2);
    let end = text.floor_char_boundary(wanted.min(text.len())).max(start);
    let places = text[start..end].char_indices().rev().map(move |(offset, next)| (start + offset, next));
    places.filter_map(move |(index, next)| {
        let before = classes.of(text[..index].chars().next_back()?) & (LETTER | NUMBER);
        (before != 0 && classes.of(next) & before == 0 && is_starter(next)).then_some(index)
    })
}

/// Normalisation never joins the character to what stands in front of it.
fn is_starter(character: char) -> bool {
    character.is_ascii()
        || (canonical_combining_class(character) == 0 && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes)
}
