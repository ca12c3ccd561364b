//! For tests: a tokenizer with one token a byte, and a model that is a table of costs, so that every score can be
//! computed by hand.

use outcrop_data::{Batch, SpecialTokens, TextTokenizer};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::EvalError;
use crate::score::Scorer;

pub(crate) const END: u32 = 0;
pub(crate) const BEGIN: u32 = 1;

/// One token a byte; `</s>` is 0, `<s>` is 1. `merges` makes tokens of two characters.
fn bytes(merges: &[(&str, &str)], special: SpecialTokens) -> TextTokenizer {
    let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let names = ["</s>".to_owned(), "<s>".to_owned()].into_iter().chain(letters.iter().map(char::to_string));
    let names: Vec<String> = names.chain(merges.iter().map(|(first, second)| format!("{first}{second}"))).collect();
    let rows = names.len();
    let merges = merges.iter().map(|&(first, second)| (first.to_owned(), second.to_owned())).collect();
    let model = BPE::new(names.into_iter().zip(0..).collect(), merges);
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens([AddedToken::from("</s>", true), AddedToken::from("<s>", true)]).unwrap();
    TextTokenizer::from_tokenizer(tokenizer, special, rows).unwrap()
}

pub(crate) fn tokenizer() -> TextTokenizer {
    bytes(&[], SpecialTokens { bos: None, add_bos: false, eos: END })
}

pub(crate) fn tokenizer_with_bos() -> TextTokenizer {
    bytes(&[], SpecialTokens { bos: Some(BEGIN), add_bos: true, eos: END })
}

/// A tokenizer with a token for `a` and a space together, which can straddle a boundary.
pub(crate) fn tokenizer_that_straddles() -> TextTokenizer {
    bytes(&[("a", "\u{120}")], SpecialTokens { bos: None, add_bos: false, eos: END })
}

/// A model whose NLL of a token depends on it and the one before.
pub(crate) struct Bigram<F> {
    pub(crate) cost: F,
    /// Tokens and documents of each batch it was given.
    pub(crate) seen: Vec<(usize, usize)>,
}

impl<F: Fn(u32, u32) -> f32> Bigram<F> {
    pub(crate) fn new(cost: F) -> Self {
        Self { cost, seen: Vec::new() }
    }
}

impl<F: Fn(u32, u32) -> f32> Scorer for Bigram<F> {
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
        self.seen.push((batch.tokens.len(), batch.num_documents()));
        let pair = |&at: &u32| (self.cost)(batch.tokens[at as usize], batch.tokens[at as usize + 1]);
        Ok(batch.targets.iter().map(pair).collect())
    }
}

/// A table without pattern, in steps of 1/8 from 1/8 to 17/8, so that sums in f32 are exact.
pub(crate) fn mixed(before: u32, token: u32) -> f32 {
    ((before * 7 + token * 13) % 17 + 1) as f32 / 8.0
}

/// The NLL of the tokens from `start` on, by [`mixed`].
pub(crate) fn mixed_sum(tokens: &[u32], start: usize) -> f64 {
    (start..tokens.len()).map(|at| f64::from(mixed(tokens[at - 1], tokens[at]))).sum()
}
