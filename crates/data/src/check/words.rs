//! Texts as normalised words: lower case, letters and digits only. What near-duplicates and shared 13-grams are counted on.

/// Words in a row that two texts don't share by chance (Brown et al. 2020, appendix C).
pub(crate) const GRAM_WORDS: usize = 13;

/// A 64-bit hash with a fixed definition: FNV-1a, then murmur's finalizer, so that all bits depend on all input.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = FNV_START;
    bytes.iter().for_each(|byte| state = step(state, *byte));
    mix(state)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn step(state: u64, byte: u8) -> u64 {
    (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Murmur3's finalizer, a permutation of 64-bit numbers.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// Calls `each` with the hash of every normalised word, in order. Nothing is allocated, however long the text.
pub(crate) fn for_each_word(text: &str, mut each: impl FnMut(u64)) {
    let mut state = FNV_START;
    let mut inside = false;
    let mut buffer = [0u8; 4];
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            state = step(state, character.to_ascii_lowercase() as u8);
            inside = true;
        } else if !character.is_ascii() && character.is_alphanumeric() {
            for lower in character.to_lowercase() {
                lower.encode_utf8(&mut buffer).bytes().for_each(|byte| state = step(state, byte));
            }
            inside = true;
            // scripts without spaces: every character is a word
            if is_unspaced(character) {
                each(mix(state));
                (state, inside) = (FNV_START, false);
            }
        } else if matches!(character, '\'' | '’' | '\u{301}') && inside {
            // don't, l’eau: one word
        } else if inside {
            each(mix(state));
            (state, inside) = (FNV_START, false);
        }
    }
    if inside {
        each(mix(state));
    }
}

/// Chinese, Japanese, Thai and the like, which put no spaces between words.
fn is_unspaced(character: char) -> bool {
    matches!(character, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Hash of a text by its words in their order: equal where texts differ only in case, space and punctuation.
/// `None` where there is no word.
pub(crate) fn sequence_hash(text: &str) -> Option<u64> {
    let (mut state, mut count) = (0u64, 0u64);
    for_each_word(text, |word| {
        state = mix(state.rotate_left(5) ^ word);
        count += 1;
    });
    (count > 0).then_some(state)
}

/// Hashes of every run of [`GRAM_WORDS`] words of texts that are read one after another.
#[derive(Debug, Default)]
pub(crate) struct Grams {
    window: std::collections::VecDeque<u64>,
}

impl Grams {
    pub(crate) fn of(&mut self, text: &str, mut each: impl FnMut(u64)) {
        for_each_word(text, |word| {
            if self.window.len() == GRAM_WORDS {
                self.window.pop_front();
            }
            self.window.push_back(word);
            if self.window.len() == GRAM_WORDS {
                each(self.window.iter().fold(0u64, |state, word| mix(state.rotate_left(5) ^ word)));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<u64> {
        let mut all = Vec::new();
        for_each_word(text, |word| all.push(word));
        all
    }

    #[test]
    fn words_are_normalised() {
        assert_eq!(words("Don't STOP, Élan!"), words("dont stop élan"));
        assert_eq!(words("a b"), [hash(b"a"), hash(b"b")]);
        assert_eq!(words("日本").len(), 2);
        assert_eq!(words(" -- ").len(), 0);
        assert_eq!(sequence_hash("A  b."), sequence_hash("a b"));
        assert_ne!(sequence_hash("b a"), sequence_hash("a b"));
        assert_eq!(sequence_hash("…"), None);
    }

    #[test]
    fn thirteen_words_are_one_gram() {
        let grams = |text: &str| {
            let mut all = Vec::new();
            Grams::default().of(text, |gram| all.push(gram));
            all
        };
        let text: Vec<_> = (0..20).map(|index| format!("w{index}")).collect();
        assert_eq!(grams(&text[..12].join(" ")).len(), 0);
        assert_eq!(grams(&text.join(" ")).len(), 8);
        assert_eq!(grams(&text.join(" "))[3], grams(&text[3..16].join(", "))[0]);
    }
}
