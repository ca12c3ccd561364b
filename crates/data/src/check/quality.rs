//! Quality of raw text: what a document looks like by numbers, and what in a text is damaged.
//!
//! Thresholds are those of MassiveText's filters (Rae et al. 2021, "Gopher", table A1 and appendix A.1.1): 50 to 100,000 words, mean
//! word of 3 to 10 characters, under 0.1 `#` or ellipses a word, under 90 % of the lines bullets, under 30 % ending in an ellipsis,
//! 80 % of the words with a letter, under 30 % of the lines repeated. A document of under 50 words is only said to be short.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::findings::{Hit, Place, excerpt_of};
use super::rules;
use super::words::hash;

const LEAST_WORDS: u64 = 50;
const MOST_WORDS: u64 = 100_000;
/// Different lines of one document that are remembered; beyond these a repetition isn't seen.
const REMEMBERED_LINES: usize = 1 << 20;
/// Characters from which a line can be boilerplate.
const BOILERPLATE_CHARS: usize = 20;
/// Characters of a text that its language is told from.
const LANGUAGE_CHARS: usize = 800;
/// Letters below which no language is told.
const LANGUAGE_LETTERS: usize = 100;

/// Sums over a document; those of its pieces add up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Quality {
    pub(crate) words: u64,
    word_chars: u64,
    words_with_letter: u64,
    symbols: u64,
    lines: u64,
    bullet_lines: u64,
    ellipsis_lines: u64,
    /// Lines that are not blank, hashed, in their order.
    pub(crate) line_hashes: Vec<u64>,
}

impl Quality {
    pub(crate) fn of(text: &str) -> Self {
        let mut sums = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            sums.lines += 1;
            sums.bullet_lines += u64::from(line.starts_with(['•', '‣', '▪', '*', '-']) && !line.starts_with("---"));
            sums.ellipsis_lines += u64::from(line.ends_with("...") || line.ends_with('…'));
            sums.symbols += line.bytes().filter(|byte| *byte == b'#').count() as u64;
            sums.symbols += (line.matches("...").count() + line.matches('…').count()) as u64;
            for word in line.split_whitespace() {
                sums.words += 1;
                let (mut chars, mut letter) = (0, false);
                for character in word.chars() {
                    chars += 1;
                    letter |= character.is_alphabetic();
                }
                sums.word_chars += chars;
                sums.words_with_letter += u64::from(letter);
            }
            sums.line_hashes.push(hash(line.as_bytes()));
        }
        sums
    }

    /// What is said of the document at `place` with these sums. `repeated` is the number of lines that stood in it before.
    fn hits(&self, place: Place, repeated: u64, excerpt: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut hit = |rule, message: String| hits.push(Hit::new(rule, place, message, excerpt));
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        if self.words < LEAST_WORDS {
            hit(&rules::TOO_SHORT, format!("{} words", self.words));
            return hits;
        }
        if self.words > MOST_WORDS {
            hit(&rules::VERY_LONG, format!("{} words", self.words));
        }
        let mean = share(self.word_chars, self.words);
        if !(3.0..=10.0).contains(&mean) {
            hit(&rules::WORD_LENGTH, format!("{mean:.1} characters a word"));
        }
        let symbols = share(self.symbols, self.words);
        if symbols > 0.1 {
            hit(&rules::SYMBOLS, format!("{symbols:.2} a word"));
        }
        let (bullets, ellipses) = (share(self.bullet_lines, self.lines), share(self.ellipsis_lines, self.lines));
        if bullets > 0.9 {
            hit(&rules::BULLETS, percent(bullets));
        }
        if ellipses > 0.3 {
            hit(&rules::ELLIPSES, percent(ellipses));
        }
        let letters = share(self.words_with_letter, self.words);
        if letters < 0.8 {
            hit(&rules::FEW_LETTERS, percent(letters));
        }
        let repeats = share(repeated, self.lines);
        if repeats > 0.3 {
            hit(&rules::REPEATS, percent(repeats));
        }
        hits
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// A document that is read in pieces.
#[derive(Debug, Default)]
pub(crate) struct DocumentQuality {
    sums: Quality,
    seen: HashSet<u64>,
    repeated: u64,
    excerpt: String,
}

impl DocumentQuality {
    /// Adds a piece.
    pub(crate) fn add(&mut self, piece: &Quality, excerpt: &str) {
        let sums = &mut self.sums;
        sums.words += piece.words;
        sums.word_chars += piece.word_chars;
        sums.words_with_letter += piece.words_with_letter;
        sums.symbols += piece.symbols;
        sums.lines += piece.lines;
        sums.bullet_lines += piece.bullet_lines;
        sums.ellipsis_lines += piece.ellipsis_lines;
        for line in &piece.line_hashes {
            if self.seen.contains(line) {
                self.repeated += 1;
            } else if self.seen.len() < REMEMBERED_LINES {
                self.seen.insert(*line);
            }
        }
        if self.excerpt.is_empty() {
            self.excerpt = excerpt.to_owned();
        }
    }

    /// Whether the line was in the document before; asked before its piece is added.
    pub(crate) fn has_seen(&self, line: u64) -> bool {
        self.seen.contains(&line)
    }

    /// What is said of the whole.
    pub(crate) fn finish(self, place: Place) -> Vec<Hit> {
        self.sums.hits(place, self.repeated, &self.excerpt)
    }
}

/// Lines of a text that may be boilerplate: hash, number of the line in the text from 0, excerpt; each once.
pub(crate) fn long_lines(text: &str) -> Vec<(u64, u64, String)> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.len() >= BOILERPLATE_CHARS && line.chars().take(BOILERPLATE_CHARS * 4).any(char::is_alphabetic) {
            let hash = hash(line.as_bytes());
            if seen.insert(hash) {
                found.push((hash, number as u64, excerpt_of(&line[..line.floor_char_boundary(400)])));
            }
        }
    }
    found
}

/// UTF-8 that was read as Windows-1252 (`Ã©` for `é`, `â€™` for `’`), and the character that stands for a lost one.
static DAMAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("\u{fffd}|ï»¿|[ÃÐÑ][\u{80}-\u{9f}]|Ã[\u{a0}-\u{bf}]|Â[\u{80}-\u{bf}]|â(?:€[\u{80}-\u{bf}™œ“”˜¦¢“”š›žŸ]|„¢|†’|œ[“”])")
        .expect("the pattern is a constant that the tests compile")
});

/// The first damaged place of a text and what it looks like; how many there are.
pub(crate) fn damage(text: &str) -> Option<(usize, String)> {
    // most texts are ASCII, or have no candidate
    if text.is_ascii() {
        return None;
    }
    let first = DAMAGE.find(text)?;
    let what = if first.as_str() == "\u{fffd}" {
        "a lost character (U+FFFD)".into()
    } else {
        format!("`{}`", first.as_str().escape_debug())
    };
    Some((first.start(), what))
}

/// The first control character of a text that is no white space, and its name.
pub(crate) fn control(text: &str) -> Option<(usize, String)> {
    let is_control = |character: char| {
        (character.is_control() && !matches!(character, '\n' | '\r' | '\t'))
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    // bytes below 32 are quick to see, the others have to be decoded
    let quick = text.bytes().any(|byte| {
        (byte < 32 && !matches!(byte, b'\n' | b'\r' | b'\t')) || byte == 127 || byte == 0xc2 || byte == 0xe2
    });
    if !quick {
        return None;
    }
    let (index, character) = text.char_indices().find(|(_, character)| is_control(*character))?;
    Some((index, format!("U+{:04X}", u32::from(character))))
}

/// The language of a text, by its name, where it is long enough and clear.
pub(crate) fn language(text: &str) -> Option<&'static str> {
    let start = &text[..text.char_indices().nth(LANGUAGE_CHARS).map_or(text.len(), |(index, _)| index)];
    if start.chars().filter(|character| character.is_alphabetic()).count() < LANGUAGE_LETTERS {
        return None;
    }
    let info = whatlang::detect(start)?;
    info.is_reliable().then(|| info.lang().eng_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_seen_and_whole_text_is_not() {
        for text in
            ["caf\u{c3}\u{a9}", "don\u{e2}\u{20ac}\u{2122}t", "lost \u{fffd}", "5\u{c2}\u{a0}km", "\u{ef}\u{bb}\u{bf}x"]
        {
            assert!(damage(text).is_some(), "{text}");
        }
        for text in ["café", "don’t", "SÃO PAULO", "naïve Ärger œuvre €5 Â", "«Âge»", "Ñandú", "日本"]
        {
            assert!(damage(text).is_none(), "{text}");
        }
    }

    #[test]
    fn control_characters_are_named() {
        assert_eq!(control("a\u{1b}[0m"), Some((1, "U+001B".into())));
        assert_eq!(control("é\u{85}"), Some((2, "U+0085".into())));
        assert_eq!(control("‘quote’ \u{202e}abc"), Some(("‘quote’ ".len(), "U+202E".into())));
        assert_eq!(control("tab\tline\r\n—“é”"), None);
    }

    #[test]
    fn languages_of_clear_texts_only() {
        let english = "The level is set on the wall and the bubble is read twice. A wall that leans is read from below, and the reading is written down.";
        let german = "Die Wasserwaage wird an die Wand gehalten, und die Blase wird zweimal abgelesen. Eine schiefe Wand liest man von unten ab und schreibt es auf.";
        assert_eq!((language(english), language(german), language("Wall.")), (Some("English"), Some("German"), None));
    }

    #[test]
    fn pieces_of_a_document_add_up() {
        let text = "one two three four five\n".repeat(40);
        let place = Place { file: 0, line: 1 };
        let finish = |pieces: &[&str]| {
            let mut document = DocumentQuality::default();
            pieces.iter().for_each(|piece| document.add(&Quality::of(piece), "x"));
            document.finish(place)
        };
        let (one, two) = text.split_at(24 * 7);
        assert_eq!(finish(&[&text]), finish(&[one, two]));
        assert_eq!(finish(&[&text])[0].rule.id, "text-repeats");
    }
}
