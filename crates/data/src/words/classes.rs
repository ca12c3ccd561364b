//! Which class of the pre-tokenizers' regular expressions a character is in, from the tables that the library's regex engine uses.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// `\p{L}`.
pub(super) const LETTER: u8 = 1;
/// `\p{N}`.
pub(super) const NUMBER: u8 = 2;
/// `\s`.
pub(super) const SPACE: u8 = 4;
/// What the library's `Digits` splits off: `char::is_numeric`, whose Unicode version may be another than that of `\p{N}`.
pub(super) const DIGIT: u8 = 8;

/// Flags of every character, one byte each (1.1 MB, made once).
pub(super) struct Classes(Box<[u8]>);

impl std::fmt::Debug for Classes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Classes")
    }
}

impl Classes {
    /// The table; `None` where the regex engine has no such classes, which its build features decide.
    pub(super) fn get() -> Option<&'static Self> {
        static ONCE: OnceLock<Option<Classes>> = OnceLock::new();
        ONCE.get_or_init(Self::build).as_ref()
    }

    fn build() -> Option<Self> {
        let mut flags = vec![0u8; char::MAX as usize + 1].into_boxed_slice();
        for (pattern, flag) in [(r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)] {
            let hir = regex_syntax::parse(pattern).ok()?;
            let HirKind::Class(Class::Unicode(class)) = hir.kind() else { return None };
            for range in class.ranges() {
                flags[range.start() as usize..=range.end() as usize].iter_mut().for_each(|flags| *flags |= flag);
            }
        }
        ('\0'..=char::MAX).filter(|c| c.is_numeric()).for_each(|c| flags[c as usize] |= DIGIT);
        Some(Self(flags))
    }

    pub(super) fn of(&self, character: char) -> u8 {
        self.0[character as usize]
    }

    /// Flags of the character at `index` and its length in bytes; no flags and length 0 at the end of the text.
    #[inline]
    pub(super) fn at(&self, text: &str, index: usize) -> (u8, usize) {
        match text.as_bytes().get(index) {
            None => (0, 0),
            Some(byte) if *byte < 0x80 => (self.0[*byte as usize], 1),
            Some(_) => {
                text[index..].chars().next().map_or((0, 0), |character| (self.of(character), character.len_utf8()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_regex_engines_own() {
        let classes = Classes::get().unwrap();
        for (character, flags) in [
            ('a', LETTER),
            ('é', LETTER),
            ('ˮ', LETTER),
            ('7', NUMBER | DIGIT),
            ('½', NUMBER | DIGIT),
            ('Ⅷ', NUMBER | DIGIT),
            ('ⓐ', 0), // alphabetic for Rust, a symbol for \p{L}
            (' ', SPACE),
            ('\u{a0}', SPACE),
            ('\u{2028}', SPACE),
            ('\u{200b}', 0),
            ('\u{301}', 0),
            ('\'', 0),
        ] {
            assert_eq!(classes.of(character), flags, "{character:?}");
        }
        assert_eq!(classes.at("é1", 2), (NUMBER | DIGIT, 1));
        assert_eq!(classes.at("é1", 3), (0, 0));
    }
}
