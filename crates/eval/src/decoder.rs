//! A decoder as a [`Scorer`]: packed rows in, NLLs out, no logits kept (R17); ranks from the logits of a few targets at a
//! time; texts by greedy generation.

use crate::{EvalError, Scorer};
use outcrop_data::Batch;
use outcrop_model::generate::{Finish, Options, generate_each};
use outcrop_model::{Decoder, Row};

/// Most logits that exist at a time: 64 MB of them.
const HELD_LOGITS: usize = 1 << 24;

/// Scores with a decoder as it stands.
pub struct DecoderScorer<'a> {
    /// The decoder.
    pub decoder: &'a Decoder,
    /// Tokens that end a text of it, beside the tokenizer's end token.
    pub stop_tokens: &'a [u32],
}

impl Scorer for DecoderScorer<'_> {
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
        let row = row(batch)?;
        self.decoder.nll(&row, &batch.targets).map_err(EvalError::scorer)
    }

    fn ranks(&mut self, batch: &Batch) -> Result<Vec<(f32, u32)>, EvalError> {
        let row = row(batch)?;
        row.check_targets(&batch.targets).map_err(EvalError::scorer)?;
        ranks(self.decoder, &row, &batch.targets).map_err(EvalError::scorer)
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Options,
        on_token: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<Vec<Finish>, EvalError> {
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let stop = [&options.stop, self.stop_tokens].concat();
        let options = Options { stop, ..options.clone() };
        generate_each(self.decoder, &prompts, &options, on_token).map_err(EvalError::scorer)
    }
}

fn row(batch: &Batch) -> Result<Row, EvalError> {
    Row::new(batch.tokens.clone(), &batch.offsets).map_err(EvalError::scorer)
}

/// NLL and rank of the token behind each target: those that greedy generation would take before it, and one. Of equal
/// logits it takes the first.
fn ranks(decoder: &Decoder, row: &Row, targets: &[u32]) -> outcrop_model::Result<Vec<(f32, u32)>> {
    let (hidden, next) = (decoder.trunk(row, targets)?, row.next_tokens(targets));
    let nll = decoder.head_nll(&hidden, &next)?;
    let mut found = Vec::with_capacity(targets.len());
    let at_a_time = (HELD_LOGITS / decoder.spec().vocab_size.max(1)).max(1);
    for first in (0..targets.len()).step_by(at_a_time) {
        let count = at_a_time.min(targets.len() - first);
        let logits: Vec<Vec<f32>> = decoder.head_logits(&hidden.narrow(0, first, count)?)?.to_vec2()?;
        for (at, logits) in (first..).zip(logits) {
            let token = next[at] as usize;
            let own = logits.get(token).copied().unwrap_or(f32::NEG_INFINITY);
            let (before, behind) = logits.split_at(token.min(logits.len()));
            let ahead = before.iter().filter(|logit| **logit >= own).count()
                + behind.iter().filter(|logit| **logit > own).count();
            found.push((nll[at], ahead as u32 + 1));
        }
    }
    Ok(found)
}
