//! Which units an optimizer step holds, and how they are laid out in micro-batches.
//!
//! A unit is a pair, or a row of text filled up to the maximum length; the layout of rows is fixed in the shard, and the order
//! permutes them. Splitting a step into micro-batches never moves a document to another step and never splits one.

use crate::batch::Batch;
use crate::error::DataError;
use crate::order::Order;
use crate::shard::Shard;

/// The steps of every epoch over a set of units.
#[derive(Debug, Clone)]
pub struct Steps {
    units: Vec<usize>,
    batch_size: usize,
    order: Order,
}

impl Steps {
    /// Steps of `batch_size` units each over `units` (all of a shard's, or the training part of a split).
    /// Errors: no units, or a batch size of zero.
    pub fn new(units: Vec<usize>, batch_size: usize, seed: u64, shuffle: bool) -> Result<Self, DataError> {
        if units.is_empty() {
            return Err(DataError::Option("there is nothing to train on: the data hold no unit".into()));
        }
        if batch_size == 0 {
            return Err(DataError::Option("a batch size of 0 makes no steps; use 1 or more".into()));
        }
        let order = Order::new(units.len(), seed, shuffle);
        Ok(Self { units, batch_size, order })
    }

    /// Steps over the same units in another order or of another size. Errors: a batch size of zero.
    pub fn reordered(&self, batch_size: usize, seed: u64, shuffle: bool) -> Result<Self, DataError> {
        Self::new(self.units.clone(), batch_size, seed, shuffle)
    }

    /// How many steps an epoch has; the last one may be short (R4).
    pub fn steps_per_epoch(&self) -> usize {
        self.units.len().div_ceil(self.batch_size)
    }

    /// A bound that no step of any epoch exceeds: the sum over the `batch_size` units that have most.
    pub fn most(&self, of: impl Fn(usize) -> u64) -> u64 {
        let mut values: Vec<u64> = self.units.iter().map(|&unit| of(unit)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.iter().take(self.batch_size).sum()
    }

    /// The units of a step, in order; a pure function of its arguments (R25). The short last window of an epoch is a step of its
    /// own (R4). Panics where the epoch has no such step.
    pub fn step(&self, epoch: u64, step: usize) -> Vec<usize> {
        assert!(step < self.steps_per_epoch(), "step {step} is outside an epoch of {}", self.steps_per_epoch());
        let first = step * self.batch_size;
        let end = first.saturating_add(self.batch_size).min(self.units.len());
        (first..end).map(|position| self.units[self.order.index(epoch, position)]).collect()
    }
}

/// A step laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepBatches {
    /// The micro-batches, in order; together they hold the step's documents once each.
    pub batches: Vec<Batch>,
    /// Targets of the whole step: the one divisor of its loss, known before the first backward (R1).
    /// Zero means that the step must be skipped and reported, never divided (R7).
    pub target_tokens: u64,
}

/// How many targets the documents of `units` have, without reading their tokens (R1).
pub fn step_targets(shard: &Shard, units: &[usize]) -> u64 {
    units.iter().flat_map(|unit| shard.unit(*unit)).map(|document| shard.document(document).target_tokens()).sum()
}

/// Splits a step into batches of at most `max_tokens` tokens, documents in order; a longer document is a batch alone.
/// Errors: a batch is too large for 32-bit offsets.
pub fn micro_batches(shard: &Shard, units: &[usize], max_tokens: usize) -> Result<StepBatches, DataError> {
    let mut batches: Vec<Batch> = Vec::new();
    for document in units.iter().flat_map(|unit| shard.unit(*unit)) {
        let document = shard.document(document);
        let fits = |batch: &&mut Batch| batch.tokens.len().saturating_add(document.num_tokens()) <= max_tokens;
        match batches.last_mut().filter(fits) {
            Some(batch) => batch.push_document(&document)?,
            None => {
                let mut batch = Batch::empty();
                batch.push_document(&document)?;
                batches.push(batch);
            }
        }
    }
    let target_tokens = batches.iter().map(Batch::target_tokens).sum();
    Ok(StepBatches { batches, target_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Example;
    use crate::source::SourceKind;
    use crate::summary::Summary;
    use crate::writer::{ShardWriter, Spool};
    use proptest::prelude::*;

    /// A shard of units, each given by its documents' lengths and first targets.
    fn shard(units: &[Vec<(usize, usize)>]) -> (Shard, Vec<Vec<Example>>) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::new(folder.path(), Spool::Unnamed(folder.path()), false).unwrap();
        let mut examples = Vec::new();
        let mut next = 0;
        for unit in units {
            let make = |&(length, start): &(usize, usize)| {
                next += length as u32;
                Example::with_targets_from((next - length as u32..next).collect(), start)
            };
            let documents: Vec<_> = unit.iter().map(make).collect();
            documents.iter().for_each(|document| writer.push(document, 0, 1).unwrap());
            writer.end_unit().unwrap();
            examples.push(documents);
        }
        let path = folder.path().join("shard");
        writer.finish("key", SourceKind::Text, &Summary::default(), &path).unwrap();
        (Shard::open(&path).unwrap(), examples)
    }

    #[test]
    fn r4_the_short_last_window_is_its_own_step_and_never_crosses_an_epoch() {
        let steps = Steps::new((0..10).collect(), 4, 1, true).unwrap();
        assert_eq!(steps.steps_per_epoch(), 3);
        for epoch in 0..3 {
            let sizes: Vec<_> = (0..3).map(|step| steps.step(epoch, step).len()).collect();
            assert_eq!(sizes, [4, 4, 2]);
            let mut units: Vec<_> = (0..3).flat_map(|step| steps.step(epoch, step)).collect();
            units.sort_unstable();
            assert_eq!(units, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(steps.step(0, 0), steps.step(1, 0));
    }

    #[test]
    fn steps_stay_inside_the_units_they_were_given() {
        let steps = Steps::new(vec![3, 5, 8], 2, 1, false).unwrap();
        assert_eq!((steps.step(0, 0), steps.step(7, 1)), (vec![3, 5], vec![8]));
        assert_eq!(
            Steps::new(vec![], 2, 1, false).unwrap_err().to_string(),
            "there is nothing to train on: the data hold no unit"
        );
        assert_eq!(
            Steps::new(vec![0], 0, 1, false).unwrap_err().to_string(),
            "a batch size of 0 makes no steps; use 1 or more"
        );
        assert_eq!(Steps::new(vec![0], usize::MAX, 1, false).unwrap().step(0, 0), [0]);
    }

    #[test]
    fn no_step_of_any_epoch_has_more_than_the_bound() {
        let sizes = [5, 1, 9, 2, 9, 4, 7];
        let steps = Steps::new((0..7).collect(), 3, 1, true).unwrap();
        assert_eq!(steps.most(|unit| sizes[unit]), 25);
        let sum = |units: Vec<usize>| units.iter().map(|&unit| sizes[unit]).sum::<u64>();
        assert!((0..50).all(|epoch| (0..3).all(|step| sum(steps.step(epoch, step)) <= 25)));
        assert_eq!(Steps::new(vec![2, 4], 3, 1, true).unwrap().most(|unit| sizes[unit]), 18);
    }

    #[test]
    fn r7_a_step_without_targets_says_so() {
        let (shard, _) = shard(&[vec![(1, 1)], vec![(3, 1)]]);
        assert_eq!((step_targets(&shard, &[0]), micro_batches(&shard, &[0], 8).unwrap().target_tokens), (0, 0));
        assert_eq!((step_targets(&shard, &[0, 1]), micro_batches(&shard, &[0, 1], 8).unwrap().target_tokens), (2, 2));
    }

    #[test]
    fn a_document_longer_than_a_micro_batch_is_one_alone() {
        let (shard, _) = shard(&[vec![(2, 1), (9, 1)], vec![(3, 1)]]);
        let lengths = |max| {
            micro_batches(&shard, &[0, 1], max).unwrap().batches.iter().map(|b| b.tokens.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(5), [2, 9, 3]);
        assert_eq!(lengths(0), [2, 9, 3]);
        assert_eq!(lengths(12), [11, 3]);
        assert_eq!(lengths(usize::MAX), [14]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// R1: however a step is split, the documents, their targets and the count are the same.
        #[test]
        fn splitting_never_changes_documents_or_targets(
            units in prop::collection::vec(prop::collection::vec((1usize..12, 1usize..12), 1..4), 1..8),
            max_tokens in 1usize..40,
        ) {
            let (shard, examples) = shard(&units);
            let ids: Vec<_> = (0..units.len()).rev().collect();
            let step = micro_batches(&shard, &ids, max_tokens).unwrap();
            let mut unpacked = Vec::new();
            for batch in &step.batches {
                prop_assert!(batch.tokens.len() <= max_tokens || batch.num_documents() == 1);
                for bounds in batch.offsets.windows(2) {
                    let tokens = batch.tokens[bounds[0] as usize..bounds[1] as usize].to_vec();
                    let targets: Vec<_> = batch.targets.iter().filter(|p| (bounds[0]..bounds[1]).contains(*p)).map(|p| p + 1 - bounds[0]).collect();
                    unpacked.push((tokens, targets));
                }
            }
            let expected: Vec<_> = ids.iter().flat_map(|id| &examples[*id]).map(|example| {
                (example.tokens.clone(), example.targets.iter().flat_map(|(start, end)| *start..*end).collect::<Vec<_>>())
            }).collect();
            prop_assert_eq!(unpacked, expected);
            prop_assert_eq!(step.target_tokens, step_targets(&shard, &ids));
        }
    }
}
