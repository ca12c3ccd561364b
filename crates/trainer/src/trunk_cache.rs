//! What a frozen trunk gives for batches that are scored again and again: validation sets and suites under every trial
//! of a sweep. Kept in memory, at the target positions alone; training's own positions are left to the feature store.

use candle_core::Tensor;
use outcrop_data::Batch;
use outcrop_eval::{EvalError, Scorer};
use outcrop_model::{Decoder, Row};
use std::collections::HashMap;

/// Most bytes that are kept; what is beyond is computed each time.
const MOST_BYTES: usize = 512 << 20;

/// Hidden states behind the final norm, by the hash of their batch.
#[derive(Default)]
pub(crate) struct TrunkCache {
    kept: HashMap<blake3::Hash, Tensor>,
    bytes: usize,
}

/// Scores with a decoder whose head alone trains.
pub(crate) struct TrunkScorer<'a> {
    decoder: &'a Decoder,
    cache: &'a mut TrunkCache,
}

impl TrunkCache {
    pub(crate) fn scorer<'a>(&'a mut self, decoder: &'a Decoder) -> TrunkScorer<'a> {
        TrunkScorer { decoder, cache: self }
    }

    /// The trunk's output (N, C) at a batch's N targets.
    fn trunk(&mut self, decoder: &Decoder, row: &Row, batch: &Batch) -> Result<Tensor, EvalError> {
        let key = key(batch);
        if let Some(found) = self.kept.get(&key) {
            return Ok(found.clone());
        }
        let output = decoder.trunk(row, &batch.targets).map_err(EvalError::scorer)?;
        let bytes = output.elem_count() * output.dtype().size_in_bytes();
        if self.bytes + bytes <= MOST_BYTES {
            self.bytes += bytes;
            self.kept.insert(key, output.clone());
        }
        Ok(output)
    }
}

impl Scorer for TrunkScorer<'_> {
    /// As `Decoder::nll`, bit for bit: the same two calls.
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
        let row = Row::new(batch.tokens.clone(), &batch.offsets).map_err(EvalError::scorer)?;
        row.check_targets(&batch.targets).map_err(EvalError::scorer)?;
        let hidden = self.cache.trunk(self.decoder, &row, batch)?;
        self.decoder.head_nll(&hidden, &row.next_tokens(&batch.targets)).map_err(EvalError::scorer)
    }
}

fn key(batch: &Batch) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in [&batch.tokens, &batch.offsets, &batch.targets] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        part.iter().for_each(|value| {
            hasher.update(&value.to_le_bytes());
        });
    }
    hasher.finalize()
}
