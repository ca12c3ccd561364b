//! For tests: a tokenizer with one token a byte, and a model that is a table of costs, so that every score can be
//! computed by hand.

use outcrop_data::{Batch, SpecialTokens, TextTokenizer};
use outcrop_model::generate::{Finish, Options};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::EvalError;
use crate::score::Scorer;

pub(crate) const END: u32 = 0;
pub(crate) const BEGIN: u32 = 1;
/// The two, and a token a byte.
const VOCABULARY: u32 = 258;

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
    /// Tokens and documents, or prompts, of each batch it was given.
    pub(crate) seen: Vec<(usize, usize)>,
}

impl<F: Fn(u32, u32) -> f32> Bigram<F> {
    pub(crate) fn new(cost: F) -> Self {
        Self { cost, seen: Vec::new() }
    }

    /// The tokens that are likelier than `token` behind `before`, or as likely and first.
    fn ahead(&self, before: u32, token: u32) -> impl Iterator<Item = u32> {
        let own = (self.cost)(before, token);
        (0..VOCABULARY).filter(move |&other| {
            let cost = (self.cost)(before, other);
            cost < own || (cost == own && other < token)
        })
    }
}

impl<F: Fn(u32, u32) -> f32> Scorer for Bigram<F> {
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
        self.seen.push((batch.tokens.len(), batch.num_documents()));
        let pair = |&at: &u32| (self.cost)(batch.tokens[at as usize], batch.tokens[at as usize + 1]);
        Ok(batch.targets.iter().map(pair).collect())
    }

    fn ranks(&mut self, batch: &Batch) -> Result<Vec<(f32, u32)>, EvalError> {
        let rank = |at: &u32| {
            let (before, token) = (batch.tokens[*at as usize], batch.tokens[*at as usize + 1]);
            1 + self.ahead(before, token).count() as u32
        };
        let ranks: Vec<u32> = batch.targets.iter().map(rank).collect();
        Ok(self.nll(batch)?.into_iter().zip(ranks).collect())
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Options,
        on_token: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<Vec<Finish>, EvalError> {
        self.seen.push((prompts.iter().map(Vec::len).sum(), prompts.len()));
        let text = |(index, prompt): (usize, &Vec<u32>)| {
            let mut last = prompt[prompt.len() - 1];
            for _ in 0..options.max_tokens {
                last = (0..VOCABULARY).find(|&token| self.ahead(last, token).next().is_none()).unwrap();
                if options.stop.contains(&last) {
                    return Finish::Stop;
                }
                if !on_token(index, last) {
                    return Finish::Cancelled;
                }
            }
            Finish::Length
        };
        Ok(prompts.iter().enumerate().map(text).collect())
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

/// A model that answers by a script: what to say behind a prompt that ends so, one letter a token, then the end token.
pub(crate) fn script<'a>(lines: &'a [(&'a str, &'a str)]) -> Script<'a> {
    Script { lines, tokenizer: tokenizer(), batches: Vec::new() }
}

pub(crate) struct Script<'a> {
    lines: &'a [(&'a str, &'a str)],
    tokenizer: TextTokenizer,
    /// Prompts of each batch it was given.
    pub(crate) batches: Vec<usize>,
}

impl Scorer for Script<'_> {
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
        Ok(vec![1.0; batch.targets.len()])
    }

    fn ranks(&mut self, batch: &Batch) -> Result<Vec<(f32, u32)>, EvalError> {
        Ok(vec![(1.0, 1); batch.targets.len()])
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Options,
        on_token: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<Vec<Finish>, EvalError> {
        self.batches.push(prompts.len());
        let text = |(index, prompt): (usize, &Vec<u32>)| {
            let prompt = self.tokenizer.decode(prompt).unwrap();
            let (_, line) = self.lines.iter().find(|(end, _)| prompt.ends_with(end)).unwrap();
            let mut tokens = self.tokenizer.encode(line).unwrap();
            tokens.push(END);
            for token in tokens.into_iter().take(options.max_tokens) {
                if options.stop.contains(&token) {
                    return Finish::Stop;
                }
                if !on_token(index, token) {
                    return Finish::Cancelled;
                }
            }
            Finish::Length
        };
        Ok(prompts.iter().enumerate().map(text).collect())
    }
}
