//! Generation: the prompt in one pass, then a token at a time over cached keys and values; of several prompts a token of each at a
//! time. Left out: which token is chosen (`sampling`), texts (the caller's).

use crate::cache::Cache;
use crate::decoder::Decoder;
use crate::row::Row;
use crate::sampling::Sampler;
use crate::{ModelError, Result};
use candle_core::{IndexOp, Tensor};

/// How tokens are chosen and when to stop.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most new tokens.
    pub max_tokens: usize,
    /// 0 takes the likeliest token; else softmax temperature.
    pub temperature: f64,
    /// Nucleus: the smallest set of tokens that holds this much probability. 1 takes all.
    pub top_p: f64,
    /// Only so many of the likeliest tokens; None takes all.
    pub top_k: Option<usize>,
    /// Only tokens with at least this share of the likeliest one's probability. 0 takes all.
    pub min_p: f64,
    /// Above 1 makes tokens of the prompt and of the text less likely; 1 is none.
    pub repetition_penalty: f64,
    /// Seed of the choices.
    pub seed: u64,
    /// Tokens that end the text.
    pub stop: Vec<u32>,
}

impl Default for Options {
    /// The likeliest token each time, without an end.
    fn default() -> Self {
        Self {
            max_tokens: usize::MAX,
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token came.
    Stop,
    /// `max_tokens` were made.
    Length,
    /// The context is full.
    Context,
    /// The callback said so.
    Cancelled,
}

/// Generates after `prompt`, calling `on_token` with each new token (a stop token isn't passed on); false cancels.
/// Errors: an empty prompt, one that fills the context, an option out of its range.
pub fn generate(
    decoder: &Decoder,
    prompt: &[u32],
    options: &Options,
    mut on_token: impl FnMut(u32) -> bool,
) -> Result<Finish> {
    let mut finish = Finish::Length;
    generate_batch(decoder, &[prompt], options, 1, |_, token| on_token(token), |_, end| finish = end)?;
    Ok(finish)
}

/// Errors: an empty prompt, or one that fills the context.
pub fn check_prompt(decoder: &Decoder, prompt: &[u32]) -> Result<()> {
    let context = decoder.spec().max_position_embeddings;
    if prompt.is_empty() {
        return Err(ModelError::Unsupported("generate: the prompt is empty; one token at least is needed".into()));
    }
    if prompt.len() >= context {
        return Err(ModelError::Unsupported(format!(
            "generate: the prompt has {} tokens, which leaves no room in the context of {context}; shorten it",
            prompt.len()
        )));
    }
    Ok(())
}

/// As [`generate()`] after each of `prompts`, `at_once` of them in one pass over the weights for each token; where one ends the next
/// begins. Nothing is padded, so every text has the bits that it has alone. `on_token` and `on_end` have the prompt's index.
/// Memory: the keys and values of `at_once` texts.
pub fn generate_batch(
    decoder: &Decoder,
    prompts: &[impl AsRef<[u32]>],
    options: &Options,
    at_once: usize,
    mut on_token: impl FnMut(usize, u32) -> bool,
    mut on_end: impl FnMut(usize, Finish),
) -> Result<()> {
    for prompt in prompts {
        check_prompt(decoder, prompt.as_ref())?;
    }
    let mut waiting = prompts.iter().enumerate();
    let mut running: Vec<Sequence> = Vec::new();
    loop {
        while running.len() < at_once.max(1) {
            let Some((index, prompt)) = waiting.next() else { break };
            running.push(Sequence::begin(decoder, index, prompt.as_ref(), options)?);
        }
        if running.is_empty() {
            return Ok(());
        }
        let mut going = Vec::with_capacity(running.len());
        for mut sequence in running {
            match sequence.choose(decoder, options, &mut on_token)? {
                Some(finish) => on_end(sequence.index, finish),
                None => going.push(sequence),
            }
        }
        running = going;
        append(decoder, &mut running)?;
    }
}

/// [`generate_batch`] of all prompts at once; how each ended, in their order.
pub fn generate_each(
    decoder: &Decoder,
    prompts: &[&[u32]],
    options: &Options,
    on_token: impl FnMut(usize, u32) -> bool,
) -> Result<Vec<Finish>> {
    let mut finishes = vec![Finish::Length; prompts.len()];
    let on_end = |index: usize, finish| finishes[index] = finish;
    generate_batch(decoder, prompts, options, prompts.len(), on_token, on_end)?;
    Ok(finishes)
}

/// A text in the making: its tokens, the keys and values of every block for them, the logits behind the last.
struct Sequence {
    index: usize,
    sampler: Sampler,
    tokens: Vec<u32>,
    made: usize,
    caches: Vec<Cache>,
    logits: Tensor,
}

impl Sequence {
    /// Runs the prompt.
    fn begin(decoder: &Decoder, index: usize, prompt: &[u32], options: &Options) -> Result<Self> {
        let sampler = Sampler::new(options)?;
        let (caches, logits) = prefill(decoder, prompt)?;
        Ok(Self { index, sampler, tokens: prompt.to_vec(), made: 0, caches, logits })
    }

    /// Chooses the next token and gives it on. None where logits behind it are wanted.
    fn choose(
        &mut self,
        decoder: &Decoder,
        options: &Options,
        on_token: &mut impl FnMut(usize, u32) -> bool,
    ) -> Result<Option<Finish>> {
        if self.made == options.max_tokens {
            return Ok(Some(Finish::Length));
        }
        let token = self.sampler.choose(&self.logits, &self.tokens)?;
        if options.stop.contains(&token) {
            return Ok(Some(Finish::Stop));
        }
        if !on_token(self.index, token) {
            return Ok(Some(Finish::Cancelled));
        }
        self.tokens.push(token);
        self.made += 1;
        Ok(if self.tokens.len() >= decoder.spec().max_position_embeddings {
            Some(Finish::Context)
        } else if self.made == options.max_tokens {
            Some(Finish::Length) // behind the last token nobody reads logits
        } else {
            None
        })
    }
}

/// Runs a text from its beginning; keys and values of every block, and the logits behind its last token.
fn prefill(decoder: &Decoder, tokens: &[u32]) -> Result<(Vec<Cache>, Tensor)> {
    let row = Row::single(tokens.to_vec())?;
    let (mut x, context) = (decoder.embed(&row)?, decoder.context(&row)?);
    let mut caches = Vec::with_capacity(decoder.blocks.len());
    for block in &decoder.blocks {
        let (y, saved) = block.forward(&x, &context)?;
        caches.push(saved.cache()?);
        x = y;
    }
    let last = x.narrow(0, tokens.len() - 1, 1)?;
    Ok((caches, decoder.logits_of(&last)?.i(0)?))
}

/// Runs the last token of each text, all in one pass; where the rotation depends on the length, all of the text runs again.
fn append(decoder: &Decoder, sequences: &mut [Sequence]) -> Result<()> {
    let mut together: Vec<&mut Sequence> = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        if decoder.rotation_changes_at(sequence.tokens.len()) {
            (sequence.caches, sequence.logits) = prefill(decoder, &sequence.tokens)?;
        } else {
            together.push(sequence);
        }
    }
    if together.is_empty() {
        return Ok(());
    }
    let last = together.iter().filter_map(|sequence| sequence.tokens.last().copied()).collect();
    let mut row = Row::new(last, &(0..=together.len() as u32).collect::<Vec<_>>())?;
    row.positions = together.iter().map(|sequence| sequence.tokens.len() as u32 - 1).collect();
    let (mut x, context) = (decoder.embed(&row)?, decoder.context(&row)?);
    for (index, block) in decoder.blocks.iter().enumerate() {
        let mut caches: Vec<_> = together.iter_mut().map(|sequence| &mut sequence.caches[index]).collect();
        x = block.append(&x, &mut caches, &context)?;
    }
    let logits = decoder.logits_of(&x)?;
    for (index, sequence) in together.into_iter().enumerate() {
        sequence.logits = logits.i(index)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Base;
    use candle_core::{DType, Device};
    use std::path::Path;

    #[test]
    fn r34_logits_of_a_text_in_a_batch_are_those_it_has_alone_bit_for_bit() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/base/pebble");
        let decoder = Base::open(&folder).unwrap().load(DType::F32, &Device::Cpu).unwrap();
        let options = Options { temperature: 1.0, ..Options::default() };
        let prompts: Vec<Vec<u32>> =
            [1, 2, 7, 40, 3].iter().map(|length| (0..*length).map(|i| 5 + i * 7 % 300).collect()).collect();
        let begin = |index: usize| Sequence::begin(&decoder, index, &prompts[index], &options).unwrap();
        let step = |sequences: &mut [Sequence]| {
            for sequence in sequences.iter_mut() {
                assert_eq!(sequence.choose(&decoder, &options, &mut |_, _| true).unwrap(), None);
            }
            append(&decoder, sequences).unwrap();
        };
        let bits = |sequence: &Sequence| {
            let logits: Vec<f32> = sequence.logits.to_vec1().unwrap();
            logits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let mut together: Vec<Sequence> = (0..prompts.len()).map(begin).collect();
        let mut alone: Vec<Sequence> = (0..prompts.len()).map(begin).collect();
        for round in 0..12 {
            step(&mut together);
            alone.iter_mut().for_each(|sequence| step(std::slice::from_mut(sequence)));
            for (one, same) in alone.iter().zip(&together) {
                assert!(bits(one) == bits(same), "text {} in round {round}", one.index);
            }
            if round == 5 {
                let end = |all: &mut Vec<Sequence>| drop(all.remove(2)); // a batch that shrinks
                end(&mut together);
                end(&mut alone);
            }
        }
    }
}
