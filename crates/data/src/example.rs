//! The one place where text becomes tokens and targets, for training, evaluation, features and generation alike (R5).
//!
//! A pair is prompt + one space + completion + end token. No space is added where the prompt is empty or ends with white space,
//! or the completion starts with it (or is empty); spaces that end the prompt move to the completion, so that a prompt's tokens
//! are the same in training and in generation. Which positions count is decided by position, never by token id (R8).

use std::borrow::Cow;

use crate::tokenizer::{TextTokenizer, TokenizerError};

/// How many tokens on either side a message about a boundary shows.
const SHOWN_TOKENS: usize = 3;

/// A document's tokens and which of them are predicted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids, special tokens included.
    pub tokens: Vec<u32>,
    /// Spans `[start, end)` of token indices whose prediction counts in the loss, in order, not empty, never touching index 0:
    /// nobody predicts a document's first token (R2).
    pub targets: Vec<(u32, u32)>,
}

impl Example {
    /// Tokens of which `start` and all later ones are targets, except index 0.
    pub(crate) fn with_targets_from(tokens: Vec<u32>, start: usize) -> Self {
        // Lengths beyond u32 are refused where documents enter a shard or a batch.
        let (start, end) = (start.max(1) as u32, tokens.len() as u32);
        let targets = if start < end { vec![(start, end)] } else { Vec::new() };
        Self { tokens, targets }
    }

    /// How many predictions count.
    pub fn target_tokens(&self) -> u64 {
        self.targets.iter().map(|(start, end)| u64::from(end - start)).sum()
    }
}

/// A prompt with its completion, as [`encode_pair`] lays them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Tokens and targets; the targets are the completion's tokens and the end token.
    pub example: Example,
    /// How many leading tokens are the prompt's, BOS included. Zero means that the completion's first token can't be a target.
    pub prompt_length: usize,
}

/// Why a pair has no tokens that training and generation would agree on.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The tokenizer refused a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A token would straddle the boundary (R6).
    #[error(
        "prompt and completion share a token: the prompt alone ends with {alone}, together they have {joint}; {hint}"
    )]
    Boundary {
        /// The prompt's last tokens from where the two differ.
        alone: String,
        /// The tokens of the joined text at the same place.
        joint: String,
        /// What to do.
        hint: &'static str,
    },
}

/// The part of a prompt that is tokenized as such: all of it but the spaces that end it.
pub fn prompt_text(prompt: &str) -> &str {
    prompt.trim_end_matches(' ')
}

/// What follows [`prompt_text`]: the completion, with the spaces that ended the prompt or the one space that belongs between them.
/// An empty completion stays empty.
pub fn completion_text<'a>(prompt: &str, completion: &'a str) -> Cow<'a, str> {
    let moved = &prompt[prompt_text(prompt).len()..];
    let spaced =
        prompt.is_empty() || prompt.ends_with(char::is_whitespace) || completion.starts_with(char::is_whitespace);
    match (completion.is_empty(), moved.is_empty(), spaced) {
        (true, _, _) | (false, true, true) => Cow::Borrowed(completion),
        (false, false, _) => Cow::Owned(format!("{moved}{completion}")),
        (false, true, false) => Cow::Owned(format!(" {completion}")),
    }
}

/// The tokens that generation starts from: exactly the prefix that [`encode_pair`] gives the same prompt.
/// Empty where the prompt is empty and the tokenizer adds no BOS.
pub fn encode_prompt(tokenizer: &TextTokenizer, prompt: &str) -> Result<Vec<u32>, TokenizerError> {
    Ok(with_bos(tokenizer, tokenizer.encode(prompt_text(prompt))?))
}

/// Tokens and targets of a prompt and its completion.
///
/// The prompt is tokenized alone, as generation sees it, and must be a prefix of the joint tokens; the rest is the completion's.
/// Errors: the two share a token (R6); a token outside the model's vocabulary (R29).
pub fn encode_pair(tokenizer: &TextTokenizer, prompt: &str, completion: &str) -> Result<Pair, PairError> {
    let prompt_part = prompt_text(prompt);
    let alone = tokenizer.encode(prompt_part)?;
    let joint = tokenizer.encode(&format!("{prompt_part}{}", completion_text(prompt, completion)))?;
    if !joint.starts_with(&alone) {
        return Err(boundary_error(tokenizer, prompt_part, &alone, &joint));
    }
    let prompt_length = with_bos(tokenizer, alone).len();
    let mut tokens = with_bos(tokenizer, joint);
    tokens.push(tokenizer.eos());
    Ok(Pair { example: Example::with_targets_from(tokens, prompt_length), prompt_length })
}

/// A document and its end token; all tokens but the first are targets.
pub fn encode_document(tokenizer: &TextTokenizer, text: &str) -> Result<Example, TokenizerError> {
    let mut tokens = with_bos(tokenizer, tokenizer.encode(text)?);
    tokens.push(tokenizer.eos());
    Ok(Example::with_targets_from(tokens, 1))
}

/// R9: BOS in front where the tokenizer adds it, and never twice when the text spells it out.
pub(crate) fn with_bos(tokenizer: &TextTokenizer, mut tokens: Vec<u32>) -> Vec<u32> {
    if let Some(bos) = tokenizer.bos()
        && tokens.first() != Some(&bos)
    {
        tokens.insert(0, bos);
    }
    tokens
}

fn boundary_error(tokenizer: &TextTokenizer, prompt_part: &str, alone: &[u32], joint: &[u32]) -> PairError {
    let (alone, joint) = differing_tokens(tokenizer, alone, joint);
    let hint = if prompt_part.ends_with(char::is_whitespace) {
        "move the white space that ends the prompt to the start of the completion"
    } else {
        "change the text so that the two meet between words"
    };
    PairError::Boundary { alone, joint, hint }
}

/// A few tokens of each from where the two differ, for messages.
pub(crate) fn differing_tokens(tokenizer: &TextTokenizer, alone: &[u32], joint: &[u32]) -> (String, String) {
    let same = alone.iter().zip(joint).take_while(|(one, other)| one == other).count();
    let show = |tokens: &[u32]| {
        let tokens: Vec<_> =
            tokens.iter().skip(same).take(SHOWN_TOKENS).map(|id| format!("`{}`", tokenizer.token(*id))).collect();
        if tokens.is_empty() { "nothing".to_owned() } else { tokens.join(" ") }
    };
    (show(alone), show(joint))
}

/// A document cut into rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The rows, in order; together they hold every token once.
    pub rows: Vec<Example>,
    /// Targets of the document that became the first token of a row, which nobody predicts.
    pub lost_targets: u64,
}

/// Cuts a document into rows of at most `length` tokens that don't overlap. A `length` of zero counts as one.
pub fn cut(document: &Example, length: usize) -> Cut {
    let length = length.max(1);
    let mut rows = Vec::with_capacity(document.tokens.len().div_ceil(length));
    let mut spans = document.targets.iter().copied().peekable();
    let mut kept = 0;
    for (row, tokens) in document.tokens.chunks(length).enumerate() {
        let (first, end) = ((row * length) as u32, (row * length + tokens.len()) as u32);
        let mut targets = Vec::new();
        while let Some(&(span_start, span_end)) = spans.peek() {
            let (start, stop) = (span_start.max(first + 1), span_end.min(end));
            if start < stop {
                targets.push((start - first, stop - first));
                kept += u64::from(stop - start);
            }
            if span_end > end {
                break; // its rest belongs to the next row
            }
            spans.next();
        }
        rows.push(Example { tokens: tokens.to_vec(), targets });
    }
    Cut { rows, lost_targets: document.target_tokens() - kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::tokenizer::SpecialTokens;
    use proptest::prelude::*;

    #[test]
    fn spaces_stand_between_prompt_and_completion_once() {
        let cases = [
            ("Q:", "Paris", "Q:", " Paris"),
            ("Q: ", "Paris", "Q:", " Paris"),
            ("Q:  ", "Paris", "Q:", "  Paris"),
            ("Q: ", " Paris", "Q:", "  Paris"),
            ("Q:\n", "Paris", "Q:\n", "Paris"),
            ("Q:\n ", "Paris", "Q:\n", " Paris"),
            ("Q:", "\nParis", "Q:", "\nParis"),
            ("Q:\u{a0}", "Paris", "Q:\u{a0}", "Paris"),
            ("", "Paris", "", "Paris"),
            ("  ", "Paris", "", "  Paris"),
            ("Q: ", "", "Q:", ""),
        ];
        for (prompt, completion, prompt_part, completion_part) in cases {
            assert_eq!(prompt_text(prompt), prompt_part, "{prompt:?}");
            assert_eq!(completion_text(prompt, completion), completion_part, "{prompt:?} {completion:?}");
        }
    }

    #[test]
    fn a_pair_counts_the_completion_and_the_end_token() {
        for tokenizer in [fixtures::tokenizer(), fixtures::tokenizer_with_bos()] {
            let pair = encode_pair(&tokenizer, "the wall is ", "read twice").unwrap();
            let prompt = encode_prompt(&tokenizer, "the wall is ").unwrap();
            let completion = tokenizer.encode(" read twice").unwrap();
            assert_eq!(pair.example.tokens, [prompt.clone(), completion, vec![0]].concat());
            assert_eq!(pair.prompt_length, prompt.len());
            assert_eq!(pair.example.targets, [(prompt.len() as u32, pair.example.tokens.len() as u32)]);
            assert_eq!(prompt.first() == Some(&1), tokenizer.adds_bos());
        }
    }

    #[test]
    fn r2_the_first_token_of_a_document_is_never_a_target() {
        let plain = encode_pair(&fixtures::tokenizer(), "", "the wall").unwrap();
        assert_eq!(plain.prompt_length, 0);
        assert_eq!(plain.example.targets, [(1, plain.example.tokens.len() as u32)]);
        let bos = encode_pair(&fixtures::tokenizer_with_bos(), "", "the wall").unwrap();
        assert_eq!(bos.prompt_length, 1);
        assert_eq!(bos.example.target_tokens(), plain.example.target_tokens() + 1);
        let nothing = encode_pair(&fixtures::tokenizer(), "", "").unwrap();
        assert_eq!(nothing.example, Example { tokens: vec![0], targets: vec![] });
    }

    #[test]
    fn r8_an_end_token_inside_the_text_changes_no_target() {
        let tokenizer = fixtures::tokenizer();
        let pair = encode_pair(&tokenizer, "a</s>b", "c</s>").unwrap();
        assert_eq!(pair.example.tokens.iter().filter(|id| **id == 0).count(), 3);
        assert_eq!(pair.example.targets, [(pair.prompt_length as u32, pair.example.tokens.len() as u32)]);
    }

    #[test]
    fn r9_bos_spelled_out_in_the_text_is_not_doubled() {
        let tokenizer = fixtures::tokenizer_with_bos();
        assert_eq!(encode_prompt(&tokenizer, "<s>the wall").unwrap(), encode_prompt(&tokenizer, "the wall").unwrap());
        let spelled = encode_pair(&tokenizer, "", "<s>the wall").unwrap();
        assert_eq!(spelled, encode_pair(&tokenizer, "", "the wall").unwrap());
        assert_eq!(encode_document(&tokenizer, "<s>a").unwrap(), encode_document(&tokenizer, "a").unwrap());
    }

    #[test]
    fn r6_a_token_that_straddles_the_boundary_is_refused_with_its_tokens() {
        let tokenizer = fixtures::byte_level();
        let mut vocabulary: Vec<_> = tokenizer.get_vocab(false).into_iter().collect();
        vocabulary.sort_by_key(|(_, id)| *id);
        let next = vocabulary.len() as u32;
        vocabulary.push(("ĊĊ".to_owned(), next));
        let model = tokenizers::models::bpe::BPE::new(vocabulary.into_iter().collect(), vec![("Ċ".into(), "Ċ".into())]);
        let mut tokenizer = tokenizer;
        tokenizer.with_model(model);
        let tokenizer =
            TextTokenizer::from_tokenizer(tokenizer, SpecialTokens { bos: None, add_bos: false, eos: 0 }, 1000)
                .unwrap();
        let error = encode_pair(&tokenizer, "a\n", "\n\nb").unwrap_err().to_string();
        assert_eq!(
            error,
            "prompt and completion share a token: the prompt alone ends with `Ċ`, together they have `ĊĊ` `Ċ` `b`; \
             move the white space that ends the prompt to the start of the completion"
        );
        assert!(encode_pair(&tokenizer, "a", "\n\n\nb").is_ok(), "what the message advises helps");
    }

    #[test]
    fn r6_a_tokenizer_that_joins_words_is_refused_too() {
        let vocabulary = ["</s>", "a", "b", " ", "a "].into_iter().map(str::to_owned).zip(0..).collect();
        let model = tokenizers::models::bpe::BPE::new(vocabulary, vec![("a".into(), " ".into())]);
        let special = SpecialTokens { bos: None, add_bos: false, eos: 0 };
        let tokenizer = TextTokenizer::from_tokenizer(tokenizers::Tokenizer::new(model), special, 5).unwrap();
        assert_eq!(
            encode_pair(&tokenizer, "ba", "b").unwrap_err().to_string(),
            "prompt and completion share a token: the prompt alone ends with `a`, together they have `a ` `b`; \
             change the text so that the two meet between words"
        );
    }

    #[test]
    fn a_tokenizer_that_marks_the_start_of_a_text_marks_no_completion() {
        let tokenizer = fixtures::prefix_space();
        let pair = encode_pair(&tokenizer, "the wall is", "read").unwrap();
        let whole = tokenizer.encode("the wall is read").unwrap();
        assert_eq!(pair.example.tokens, [whole, vec![0]].concat());
        let newline = encode_pair(&tokenizer, "the wall is read\n", "read").unwrap();
        assert_eq!(newline.example.tokens[..newline.prompt_length], tokenizer.encode("the wall is read\n").unwrap());
    }

    #[test]
    fn a_document_is_all_targets_but_the_first() {
        let tokenizer = fixtures::tokenizer_with_bos();
        let document = encode_document(&tokenizer, "the wall").unwrap();
        assert_eq!((document.tokens[0], *document.tokens.last().unwrap()), (1, 0));
        assert_eq!(document.target_tokens(), document.tokens.len() as u64 - 1);
    }

    #[test]
    fn cutting_by_hand() {
        let document = Example::with_targets_from((0..7).collect(), 1);
        let cut = cut(&document, 3);
        let row =
            |tokens: &[u32], targets: &[(u32, u32)]| Example { tokens: tokens.to_vec(), targets: targets.to_vec() };
        assert_eq!(cut.rows, [row(&[0, 1, 2], &[(1, 3)]), row(&[3, 4, 5], &[(1, 3)]), row(&[6], &[])]);
        assert_eq!(cut.lost_targets, 2);
    }

    proptest! {
        #[test]
        fn cut_keeps_every_token_once_and_loses_only_first_targets(
            tokens in prop::collection::vec(0u32..9, 0..80),
            marks in prop::collection::vec(any::<bool>(), 80),
            length in 1usize..20,
        ) {
            let mut targets: Vec<(u32, u32)> = Vec::new();
            for index in (1..tokens.len()).filter(|index| marks[*index]) {
                match targets.last_mut() {
                    Some(last) if last.1 == index as u32 => last.1 += 1,
                    _ => targets.push((index as u32, index as u32 + 1)),
                }
            }
            let document = Example { tokens: tokens.clone(), targets };
            let cut = cut(&document, length);
            let joined: Vec<u32> = cut.rows.iter().flat_map(|row| row.tokens.clone()).collect();
            prop_assert_eq!(joined, tokens.clone());
            let mut kept = Vec::new();
            for (row, example) in cut.rows.iter().enumerate() {
                prop_assert!(example.tokens.len() <= length);
                for (start, end) in &example.targets {
                    prop_assert!(1 <= *start && start < end && *end as usize <= example.tokens.len());
                    kept.extend((*start..*end).map(|index| row * length + index as usize));
                }
            }
            let expected: Vec<usize> = (1..tokens.len()).filter(|index| marks[*index] && index % length != 0).collect();
            prop_assert_eq!(&kept, &expected);
            prop_assert_eq!(cut.lost_targets, document.target_tokens() - kept.len() as u64);
        }

        #[test]
        fn r6_a_pair_is_its_prompt_and_then_its_completion(prompt in "[a-c \n.1\u{e9}]{0,12}", completion in "[a-c \n.1\u{e9}]{0,12}", bos in any::<bool>()) {
            let tokenizer = if bos { fixtures::tokenizer_with_bos() } else { fixtures::tokenizer() };
            if let Ok(pair) = encode_pair(&tokenizer, &prompt, &completion) {
                let prefix = encode_prompt(&tokenizer, &prompt).unwrap();
                let rest = tokenizer.encode(&completion_text(&prompt, &completion)).unwrap();
                prop_assert_eq!(pair.prompt_length, prefix.len());
                prop_assert_eq!(&pair.example.tokens, &[prefix, rest, vec![0]].concat());
                let counted = pair.example.tokens.len() - pair.prompt_length.max(1);
                prop_assert_eq!(pair.example.target_tokens(), counted as u64);
            }
        }
    }
}
