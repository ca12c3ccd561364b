//! Generation: the prompt in one pass, then a token at a time over cached keys and values.

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
    let (mut sampler, mut seen) = (Sampler::new(options)?, prompt.to_vec());
    let (mut cache, mut logits) = Cache::prefill(decoder, prompt)?;
    for made in 0..options.max_tokens {
        let token = sampler.choose(&logits, &seen)?;
        if options.stop.contains(&token) {
            return Ok(Finish::Stop);
        }
        if !on_token(token) {
            return Ok(Finish::Cancelled);
        }
        seen.push(token);
        if seen.len() >= context {
            return Ok(Finish::Context);
        }
        if made + 1 < options.max_tokens {
            logits = cache.append(decoder, token)?; // behind the last token nobody reads logits
        }
    }
    Ok(Finish::Length)
}

/// Keys and values of every block, of the tokens so far.
struct Cache {
    blocks: Vec<(Tensor, Tensor)>,
    tokens: Vec<u32>,
}

impl Cache {
    /// Runs the prompt; returns the logits behind its last token.
    fn prefill(decoder: &Decoder, prompt: &[u32]) -> Result<(Self, Tensor)> {
        let row = Row::single(prompt.to_vec())?;
        let (mut x, context) = (decoder.embed(&row)?, decoder.context(&row)?);
        let mut blocks = Vec::with_capacity(decoder.blocks.len());
        for block in &decoder.blocks {
            let (y, saved) = block.forward(&x, &context)?;
            blocks.push(saved.keys_values());
            x = y;
        }
        let last = x.narrow(0, prompt.len() - 1, 1)?;
        Ok((Self { blocks, tokens: prompt.to_vec() }, decoder.logits_of(&last)?.i(0)?))
    }

    /// Runs one more token; returns the logits behind it. Where the rotation depends on the length, all run again.
    fn append(&mut self, decoder: &Decoder, token: u32) -> Result<Tensor> {
        let position = self.tokens.len() as u32;
        self.tokens.push(token);
        if decoder.rotation_changes_at(self.tokens.len()) {
            let (cache, logits) = Self::prefill(decoder, &self.tokens)?;
            *self = cache;
            return Ok(logits);
        }
        let mut row = Row::single(vec![token])?;
        row.positions = vec![position];
        let (mut x, context) = (decoder.embed(&row)?, decoder.context(&row)?);
        for (block, (keys, values)) in decoder.blocks.iter().zip(&mut self.blocks) {
            x = block.append(&x, keys, values, &context)?;
        }
        Ok(decoder.logits_of(&x)?.i(0)?)
    }
}
