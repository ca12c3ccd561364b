//! A decoder as a [`Scorer`]: packed rows in, NLLs out, no logits kept (R17).

use crate::{EvalError, Scorer};
use outcrop_data::Batch;
use outcrop_model::{Decoder, Row};

/// Scores with a decoder as it stands.
pub struct DecoderScorer<'a>(pub &'a Decoder);

impl Scorer for DecoderScorer<'_> {
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
        let row = Row::new(batch.tokens.clone(), &batch.offsets).map_err(EvalError::scorer)?;
        self.0.nll(&row, &batch.targets).map_err(EvalError::scorer)
    }
}
