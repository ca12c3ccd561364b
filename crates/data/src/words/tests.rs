//! The words found by hand against the library, on hard texts and on random ones, for every tokenizer that is taken.

use super::*;
use crate::fixtures;
use proptest::prelude::*;
use tokenizers::AddedToken;
use tokenizers::normalizers::{NFC, NFKC};
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::Metaspace;
use tokenizers::pre_tokenizers::sequence::Sequence;

fn byte_level(regex: bool) -> PreTokenizerWrapper {
    ByteLevel::new(false, true, regex).into()
}

fn split(pattern: &str) -> PreTokenizerWrapper {
    Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false).unwrap().into()
}

fn with(steps: Vec<PreTokenizerWrapper>) -> Tokenizer {
    let mut tokenizer = fixtures::byte_level();
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer
}

/// One tokenizer for each pattern, then one with every kind of added token, then one that normalises.
fn taken() -> Vec<Tokenizer> {
    let mut added = fixtures::byte_level();
    let token = |content: &str| AddedToken::from(content, false);
    added
        .add_tokens([
            token("<t>"),
            token("<tt>").normalized(false),
            token("<l>").lstrip(true),
            token("<r>").rstrip(true).normalized(false),
            token("wall").single_word(true),
            token("a b"),
        ])
        .unwrap();
    let mut normalized = with(vec![split(pattern::QWEN_2), byte_level(false)]);
    normalized.with_normalizer(Some(NFC)).unwrap();
    normalized.add_tokens([token("<t>"), token("é!")]).unwrap();
    vec![
        fixtures::byte_level(),
        with(vec![Digits::new(true).into(), byte_level(true)]),
        with(vec![split(pattern::LLAMA_3), byte_level(false)]),
        with(vec![split(pattern::QWEN_2), byte_level(false)]),
        added,
        normalized,
    ]
}

fn assert_same(tokenizer: &Tokenizer, encoder: &WordEncoder, text: &str) {
    let expected = tokenizer.encode_fast(text, false).unwrap();
    let found = encoder.encode(tokenizer, u32::MAX, text).unwrap();
    assert!(found == expected.get_ids(), "{:?}: {text:?}", encoder.pattern);
}

const HARD: &[&str] = &[
    "",
    " ",
    "  ",
    "\n",
    "a",
    " a",
    "  a",
    "\n a",
    "a ",
    "a  ",
    "'s",
    "''s",
    " 's",
    "x's't're've'm'll'd'",
    "X'S'T'RE'VE'M'LL'D'ſ",
    "'r 'v 'l 're",
    "1234567",
    " 12 345  6789",
    "½½½½ Ⅷ ٣٤٥",
    "a1b2 c3",
    "...\n\n...\r\n\r\n",
    " \r\n \n\t\r x",
    "\u{a0}\u{a0}x \u{2028}y\u{3000}",
    "e\u{301}\u{301} é ﬁ Å ọ\u{302}",
    "日本語のテキスト。混ぜる text",
    "😀😃 😄x",
    "\0\u{1}\u{7f}\u{80}",
    "ⓐⓑ ʼn ˮ x",
    "the wall<t><tt> <l>  <l> <r>  x<r>\n\nx wall walls a b a  b <t",
    "</s><s> <unk>the",
    "----------------------------------------------------------------",
    "if (x) {\n\t\treturn [1, 2];\n}\n\n\n",
];

#[test]
fn every_pattern_gives_the_librarys_ids_on_hard_texts() {
    for tokenizer in taken() {
        let encoder = WordEncoder::new(&tokenizer).unwrap();
        for text in HARD {
            assert_same(&tokenizer, &encoder, text);
        }
        assert_same(&tokenizer, &encoder, &HARD.concat());
        let long = [HARD.join("\n"), fixtures::PROSE.repeat(3)].concat().repeat(400);
        assert!(long.len() > 4 * PART_BYTES, "several parts");
        assert_same(&tokenizer, &encoder, &long);
    }
}

#[test]
fn a_cut_changes_nothing_on_either_side_and_never_touches_an_added_token() {
    for tokenizer in taken() {
        let encoder = WordEncoder::new(&tokenizer).unwrap();
        let text = [HARD.join("\n").as_str(), fixtures::PROSE].concat();
        let ids = |text: &str| encoder.encode(&tokenizer, u32::MAX, text).unwrap();
        let (whole, mut cuts) = (ids(&text), 0);
        for wanted in 1..text.len() {
            let Some(index) = encoder.find_cut(&text, wanted) else { continue };
            assert!((wanted / 2..wanted).contains(&index));
            assert!([ids(&text[..index]), ids(&text[index..])].concat() == whole, "{index} {:?}", encoder.pattern);
            cuts += 1;
        }
        assert!(cuts > 500, "{cuts}");
    }
}

#[test]
fn tokenizers_that_arent_known_to_work_by_words_are_left_to_the_library() {
    let mut metaspace = fixtures::byte_level();
    metaspace.with_pre_tokenizer(Some(Metaspace::default()));
    let mut prefix = fixtures::byte_level();
    prefix.with_pre_tokenizer(Some(ByteLevel::new(true, true, true)));
    let mut none = fixtures::byte_level();
    none.with_pre_tokenizer(None::<PreTokenizerWrapper>);
    let mut normalized = fixtures::byte_level();
    normalized.with_normalizer(Some(NFKC)).unwrap();
    let mut special = fixtures::byte_level();
    special.set_encode_special_tokens(true);
    let inverted =
        Split::new(SplitPattern::Regex(pattern::LLAMA_3.into()), SplitDelimiterBehavior::Isolated, true).unwrap();
    let other = [
        metaspace,
        prefix,
        none,
        normalized,
        special,
        with(vec![split(r"\s+"), byte_level(false)]),
        with(vec![inverted.into(), byte_level(false)]),
        with(vec![Digits::new(false).into(), byte_level(true)]),
        with(vec![byte_level(true), byte_level(true)]),
    ];
    for (index, tokenizer) in other.iter().enumerate() {
        assert!(WordEncoder::new(tokenizer).is_none(), "{index}");
    }
}

#[test]
fn r29_an_id_outside_the_model_is_an_error_each_time() {
    let tokenizer = fixtures::byte_level();
    let encoder = WordEncoder::new(&tokenizer).unwrap();
    let rows = tokenizer.token_to_id("Ġthe").unwrap();
    for _ in 0..2 {
        let error = encoder.encode(&tokenizer, rows, "see the").unwrap_err().to_string();
        assert!(error.starts_with(&format!("token `Ġthe` has id {rows}")), "{error}");
    }
    let error = encoder.encode(&tokenizer, u32::MAX, &"x".repeat(MAX_WORD_BYTES + 1)).unwrap_err().to_string();
    assert_eq!(error, "a word of 524289 bytes without a break is no text; take it out or break it up");
}

#[test]
fn many_threads_share_few_tables() {
    let tokenizer = fixtures::byte_level();
    let encoder = WordEncoder::new(&tokenizer).unwrap();
    let expected = encoder.encode(&tokenizer, u32::MAX, fixtures::PROSE).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(encoder.encode(&tokenizer, u32::MAX, fixtures::PROSE).unwrap(), expected);
                }
            });
        }
    });
    assert!(encoder.idle.lock().unwrap().len() <= 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_text_has_the_librarys_ids(
        text in r"(([a-zA-Z' \n]|[\r\n\t ]{1,3}|'[strvmldSTRVMLDſ]e?l?|[0-9½Ⅷ]|\PC|\p{M}|<t>|<tt>| <l>|<r> |wall|a b|é!|</s>){0,3}){0,12}",
        which in 0usize..6,
    ) {
        thread_local! { static ALL: Vec<(Tokenizer, WordEncoder)> = taken().into_iter().map(|tokenizer| {
            let encoder = WordEncoder::new(&tokenizer).unwrap();
            (tokenizer, encoder)
        }).collect(); }
        ALL.with(|all| {
            let (tokenizer, encoder) = &all[which];
            let expected = tokenizer.encode_fast(text.as_str(), false).unwrap();
            let found = encoder.encode(tokenizer, u32::MAX, &text).unwrap();
            prop_assert_eq!(found, expected.get_ids());
            Ok(())
        })?;
    }
}
