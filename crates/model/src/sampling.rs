//! Which token comes next: penalties on the logits, then temperature, then the sets of tokens to draw from, in transformers' order.

use crate::generate::Options;
use crate::{ModelError, Result};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws tokens by a seed; the same stream on every platform.
pub(crate) struct Sampler {
    options: Options,
    random: ChaCha8Rng,
}

impl Sampler {
    /// Errors: an option out of its range.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let Options { temperature, top_p, min_p, repetition_penalty: penalty, .. } = *options;
        let wrong = |message: String| Err(ModelError::Unsupported(format!("generate: {message}")));
        if !(temperature.is_finite() && temperature >= 0.0) {
            return wrong(format!("the temperature is `{temperature}`, expected 0 or a positive number"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong(format!("top_p is `{top_p}`, expected more than 0 and at most 1"));
        }
        if !(0.0..=1.0).contains(&min_p) {
            return wrong(format!("min_p is `{min_p}`, expected a number from 0 to 1"));
        }
        if options.top_k == Some(0) {
            return wrong("top_k is `0`, expected at least 1".into());
        }
        if !(penalty.is_finite() && penalty > 0.0) {
            return wrong(format!("the repetition penalty is `{penalty}`, expected a positive number"));
        }
        Ok(Self { options: options.clone(), random: ChaCha8Rng::seed_from_u64(options.seed) })
    }

    /// The next token after `seen`, the prompt and what was made. Shapes: logits (V). Errors: logits that aren't finite.
    pub(crate) fn choose(&mut self, logits: &Tensor, seen: &[u32]) -> Result<u32> {
        let mut logits: Vec<f32> = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1()?;
        penalize(&mut logits, seen, self.options.repetition_penalty as f32);
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(ModelError::Unsupported("generate: a logit is not a number; the weights are damaged".into()));
        }
        if self.options.temperature == 0.0 {
            return Ok(likeliest(&logits));
        }
        let chosen = self.candidates(&logits);
        let total: f64 = chosen.iter().map(|(_, probability)| probability).sum();
        let mut left = self.random.random::<f64>() * total;
        for (token, probability) in &chosen {
            left -= probability;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        Ok(chosen.last().map_or(0, |(token, _)| *token)) // rounding ate the last draw
    }

    /// Tokens to draw from, likeliest first, with their probabilities of all.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let Options { temperature, top_p, min_p, top_k, .. } = self.options;
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let weight = |logit: f32| ((f64::from(logit) - largest) / temperature).exp();
        let mut all: Vec<(u32, f64)> = (0..).zip(logits).map(|(token, logit)| (token, weight(*logit))).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        all.truncate(top_k.unwrap_or(usize::MAX));
        let total: f64 = all.iter().map(|(_, weight)| weight).sum();
        all.iter_mut().for_each(|(_, weight)| *weight /= total);
        // the smallest set that holds top_p: a token stays while those before it hold less
        let mut before = 0.0;
        let kept = all.iter().take_while(|(_, probability)| {
            let keeps = before < top_p;
            before += probability;
            keeps
        });
        let kept = kept.count().max(1);
        all.truncate(kept);
        let least = min_p * all[0].1;
        all.retain(|(_, probability)| *probability >= least);
        all
    }
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// transformers' repetition penalty: logits of tokens seen are divided by it where positive, multiplied where negative, once each.
fn penalize(logits: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut tokens = seen.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    for token in tokens {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(change: impl FnOnce(&mut Options)) -> Sampler {
        let mut options = Options { temperature: 1.0, ..Options::default() };
        change(&mut options);
        Sampler::new(&options).unwrap()
    }

    fn tokens(change: impl FnOnce(&mut Options), probabilities: &[f32]) -> Vec<u32> {
        let logits: Vec<f32> = probabilities.iter().map(|probability| probability.ln()).collect();
        sampler(change).candidates(&logits).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn r34_each_option_narrows_what_is_drawn_from() {
        let probabilities = [0.1, 0.5, 0.25, 0.15];
        assert_eq!(tokens(|_| (), &probabilities), [1, 2, 3, 0]);
        assert_eq!(tokens(|o| o.top_k = Some(2), &probabilities), [1, 2]);
        assert_eq!(tokens(|o| o.top_p = 0.7, &probabilities), [1, 2]);
        assert_eq!(tokens(|o| o.top_p = 0.8, &probabilities), [1, 2, 3]);
        assert_eq!(tokens(|o| o.min_p = 0.4, &probabilities), [1, 2]);
        // after top_k what is left counts as all
        assert_eq!(tokens(|o| (o.top_k, o.top_p) = (Some(2), 0.6), &probabilities), [1]);
        let flat = sampler(|o| o.temperature = 10.0).candidates(&probabilities.map(f32::ln));
        assert!(flat[0].1 < 0.31 && flat[3].1 > 0.2, "{flat:?}");
    }

    #[test]
    fn r34_the_repetition_penalty_is_transformers() {
        let mut logits = [2.0, -2.0, 1.0];
        penalize(&mut logits, &[0, 1, 0, 9], 2.0);
        assert_eq!(logits, [1.0, -4.0, 1.0]);
        let choose = |penalty: f64| {
            let logits = Tensor::new(&[2.0f32, 1.5], &Device::Cpu).unwrap();
            sampler(|o| (o.temperature, o.repetition_penalty) = (0.0, penalty)).choose(&logits, &[0]).unwrap()
        };
        assert_eq!((choose(1.0), choose(1.5)), (0, 1));
    }

    #[test]
    fn draws_follow_the_probabilities_and_damaged_logits_are_told() {
        let logits = Tensor::new(&[0.75f32.ln(), 0.25f32.ln()], &Device::Cpu).unwrap();
        let mut sampler = sampler(|o| o.seed = 5);
        let drawn: u32 = (0..4000).map(|_| sampler.choose(&logits, &[]).unwrap()).sum();
        assert!((850..1150).contains(&drawn), "{drawn} of 4000, expected 1000");
        let damaged = Tensor::new(&[0f32, f32::NAN], &Device::Cpu).unwrap();
        assert!(sampler.choose(&damaged, &[]).unwrap_err().to_string().contains("is not a number"));
    }
}
