//! What a frozen trunk gives for batches that are scored again and again: validation sets and suites under every trial
//! of a sweep. Kept in memory, at the target positions alone, for all threads that run trials; training's own positions
//! are left to the feature store.

use candle_core::Tensor;
use outcrop_data::Batch;
use outcrop_eval::{DecoderScorer, EvalError, Scorer};
use outcrop_model::generate::{Finish, Options};
use outcrop_model::{Decoder, Row};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes that are kept; what is beyond is computed each time.
const MOST_BYTES: usize = 512 << 20;

/// Hidden states behind the final norm, by the hash of their batch. Its clones are the same cache.
#[derive(Clone, Default)]
pub(crate) struct TrunkCache {
    /// Held while a trunk runs, which takes all cores: whoever needs the same batch meanwhile waits and finds it.
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    outputs: HashMap<blake3::Hash, Tensor>,
    bytes: usize,
}

/// Scores with a decoder whose head alone trains; ranks and generated answers without the cache.
pub(crate) struct TrunkScorer<'a> {
    plain: DecoderScorer<'a>,
    cache: TrunkCache,
}

impl TrunkCache {
    pub(crate) fn scorer(self, plain: DecoderScorer<'_>) -> TrunkScorer<'_> {
        TrunkScorer { plain, cache: self }
    }

    /// The trunk's output (N, C) at a batch's N targets.
    fn trunk(&self, decoder: &Decoder, row: &Row, batch: &Batch) -> Result<Tensor, EvalError> {
        let key = key(batch);
        // entries are whole or not there
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.outputs.get(&key) {
            return Ok(found.clone());
        }
        let output = decoder.trunk(row, &batch.targets).map_err(EvalError::scorer)?;
        let bytes = output.elem_count() * output.dtype().size_in_bytes();
        if kept.bytes + bytes <= MOST_BYTES {
            kept.bytes += bytes;
            kept.outputs.insert(key, output.clone());
        }
        Ok(output)
    }
}

impl Scorer for TrunkScorer<'_> {
    /// As `Decoder::nll`, bit for bit: the same two calls.
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
        let row = Row::new(batch.tokens.clone(), &batch.offsets).map_err(EvalError::scorer)?;
        row.check_targets(&batch.targets).map_err(EvalError::scorer)?;
        let decoder = self.plain.decoder;
        let hidden = self.cache.trunk(decoder, &row, batch)?;
        decoder.head_nll(&hidden, &row.next_tokens(&batch.targets)).map_err(EvalError::scorer)
    }

    fn ranks(&mut self, batch: &Batch) -> Result<Vec<(f32, u32)>, EvalError> {
        self.plain.ranks(batch)
    }

    /// The head decides each token, so that nothing but the prompt's keys and values would be the same.
    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Options,
        on_token: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<Vec<Finish>, EvalError> {
        self.plain.generate(prompts, options, on_token)
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
