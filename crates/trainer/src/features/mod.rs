//! The frozen path: what a trunk gives at the boundary is computed once and read back by every epoch and trial.
//!
//! For the head alone these are the hidden states behind the final norm at the targets; for the last blocks the input
//! of the first of them at every position. `store` keeps them on disk. Without a store they are computed again in
//! every step, with the same bits (R3). Left out: what trains above (`step`).

mod store;

use crate::Result;
use crate::job::boundary;
use crate::recorder::Recorder;
use candle_core::{DType, Tensor};
use outcrop_data::{Batch, Shard};
use outcrop_job::content_hash;
use outcrop_job::hyperparameters::Trainable;
use outcrop_kernels::pool;
use outcrop_model::{Decoder, Row};
use std::path::Path;
use store::Store;

/// Raised whenever a trunk gives other bits than before.
const CODE_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// Where the trunk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boundary {
    /// Behind the final norm.
    Head,
    /// Before this block.
    Block(usize),
}

impl Boundary {
    /// That of a job; None where nothing is frozen.
    pub(crate) fn new(decoder: &Decoder, trainable: Trainable) -> Option<Self> {
        match trainable {
            Trainable::All => None,
            Trainable::Head => Some(Self::Head),
            Trainable::Last(_) => Some(Self::Block(boundary(decoder.spec(), trainable))),
        }
    }

    /// Rows that a document needs.
    fn rows(self, shard: &Shard, document: usize) -> usize {
        let document = shard.document(document);
        match self {
            Self::Head => document.target_tokens() as usize,
            Self::Block(_) => document.num_tokens(),
        }
    }

    /// The features of a batch. Shapes: (targets, C) or (T, C).
    pub(crate) fn compute(self, decoder: &Decoder, batch: &Batch) -> Result<Tensor> {
        let row = Row::new(batch.tokens.clone(), &batch.offsets)?;
        Ok(pool::run(|| match self {
            Self::Head => decoder.trunk(&row, &batch.targets),
            Self::Block(block) => decoder.below(&row, block),
        })?)
    }
}

/// The features of one shard: read from a store, or computed.
#[derive(Debug)]
pub(crate) struct Features {
    pub(crate) boundary: Boundary,
    store: Option<Store>,
}

impl Features {
    /// Computed in every step.
    pub(crate) fn computed(boundary: Boundary) -> Self {
        Self { boundary, store: None }
    }

    /// Bytes that a store of this shard takes.
    pub(crate) fn bytes(boundary: Boundary, shard: &Shard, decoder: &Decoder) -> u64 {
        let rows: usize = (0..shard.len()).map(|document| boundary.rows(shard, document)).sum();
        (rows * decoder.spec().hidden_size * decoder.head_weight().dtype().size_in_bytes()) as u64
    }

    /// Kept under `cache`; what is missing or damaged there is computed now. A full disk pauses the run.
    pub(crate) fn stored(
        boundary: Boundary,
        shard: &Shard,
        decoder: &Decoder,
        base_hash: &str,
        cache: &Path,
        recorder: &mut Recorder,
    ) -> Result<Self> {
        let dtype: DType = decoder.head_weight().dtype();
        let (place, device) = (format!("{boundary:?}"), format!("{:?}", decoder.device().location()));
        let key = content_hash::of_texts(&[base_hash, shard.key(), &place, dtype.as_str(), &device, CODE_VERSION]);
        let store = Store::complete(&cache.join(&key), &key, boundary, shard, decoder, recorder)?;
        Ok(Self { boundary, store: Some(store) })
    }

    /// The features of a batch that holds these documents of the shard, in order.
    pub(crate) fn of(&self, decoder: &Decoder, batch: &Batch, documents: &[usize]) -> Result<Tensor> {
        match &self.store {
            None => self.boundary.compute(decoder, batch),
            Some(store) => store.read(documents, decoder.device()),
        }
    }
}
