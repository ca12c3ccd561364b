//! A batch: several documents packed into one flat row without padding.
//!
//! Attention stays inside a document and positions restart with it (R10); both follow from `offsets`. What goes into a batch is
//! decided by `steps`.

use crate::error::DataError;
use crate::example::Example;
use crate::shard::Document;

/// Documents laid end to end, T tokens in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids (T).
    pub tokens: Vec<u32>,
    /// Document `i` is `tokens[offsets[i]..offsets[i + 1]]` (documents + 1); begins with 0 and ends with T.
    pub offsets: Vec<u32>,
    /// Flat positions `p`, rising, such that the prediction of `tokens[p + 1]` counts; `p` and `p + 1` lie in one document.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Packs examples in their order. Errors: their tokens don't fit 32-bit offsets, or a target lies outside its document or at
    /// its first token.
    pub fn from_examples<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Result<Self, DataError> {
        let mut batch = Self::empty();
        for example in examples {
            batch.push(example.tokens.iter().copied(), example.targets.iter().copied())?;
        }
        Ok(batch)
    }

    /// Sums by document of values by target, in order.
    pub fn sums(&self, values: &[f32]) -> Vec<f64> {
        let mut sums = vec![0f64; self.offsets.len().saturating_sub(1)];
        for (target, value) in self.targets.iter().zip(values) {
            let document = self.offsets.partition_point(|offset| offset <= target) - 1;
            sums[document] += f64::from(*value);
        }
        sums
    }

    pub(crate) fn empty() -> Self {
        Self { tokens: Vec::new(), offsets: vec![0], targets: Vec::new() }
    }

    pub(crate) fn push_document(&mut self, document: &Document<'_>) -> Result<(), DataError> {
        self.push(document.tokens(), document.targets())
    }

    fn push(
        &mut self,
        tokens: impl Iterator<Item = u32>,
        targets: impl Iterator<Item = (u32, u32)>,
    ) -> Result<(), DataError> {
        let first = self.tokens.len();
        self.tokens.extend(tokens);
        let Ok(end) = u32::try_from(self.tokens.len()) else {
            return Err(DataError::Option(format!(
                "a batch of {} tokens is too large; make micro-batches smaller",
                self.tokens.len()
            )));
        };
        let (first, length) = (first as u32, end - first as u32);
        for (span_start, span_end) in targets {
            if span_start == 0 || span_end > length {
                return Err(DataError::Option(format!(
                    "targets {span_start}..{span_end} are not inside a document of {length} tokens, after its first"
                )));
            }
            self.targets.extend((span_start..span_end).map(|target| first + target - 1));
        }
        self.offsets.push(end);
        Ok(())
    }

    /// How many predictions count.
    pub fn target_tokens(&self) -> u64 {
        self.targets.len() as u64
    }

    /// How many documents it holds.
    pub fn num_documents(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_become_the_positions_that_predict_them() {
        let examples = [
            Example { tokens: vec![5, 6, 7], targets: vec![(1, 3)] },
            Example { tokens: vec![8], targets: vec![] },
            Example { tokens: vec![9, 1, 2, 3], targets: vec![(1, 2), (3, 4)] },
        ];
        let batch = Batch::from_examples(&examples).unwrap();
        assert_eq!(batch.tokens, [5, 6, 7, 8, 9, 1, 2, 3]);
        assert_eq!(batch.offsets, [0, 3, 4, 8]);
        assert_eq!(batch.targets, [0, 1, 4, 6]);
        assert_eq!((batch.target_tokens(), batch.num_documents()), (4, 3));
        assert_eq!(Batch::from_examples(&[]).unwrap(), Batch::empty());
    }

    #[test]
    fn r2_a_target_nobody_predicts_is_refused() {
        for targets in [vec![(0, 1)], vec![(1, 4)]] {
            let error = Batch::from_examples(&[Example { tokens: vec![1, 2, 3], targets: targets.clone() }])
                .unwrap_err()
                .to_string();
            let (start, end) = targets[0];
            assert_eq!(error, format!("targets {start}..{end} are not inside a document of 3 tokens, after its first"));
        }
    }

    proptest! {
        /// R3, R10: what a document contributes doesn't depend on its batch-mates, and no target crosses into another document.
        #[test]
        fn a_document_contributes_the_same_in_any_company(lengths in prop::collection::vec((1usize..9, 1usize..9), 1..9)) {
            let examples: Vec<_> = lengths.iter().map(|(length, start)| {
                Example::with_targets_from((0..*length as u32).collect(), *start)
            }).collect();
            let batch = Batch::from_examples(&examples).unwrap();
            prop_assert_eq!(batch.target_tokens(), examples.iter().map(Example::target_tokens).sum::<u64>());
            for (index, example) in examples.iter().enumerate() {
                let (start, end) = (batch.offsets[index], batch.offsets[index + 1]);
                let alone = Batch::from_examples([example]).unwrap();
                prop_assert_eq!(&batch.tokens[start as usize..end as usize], &alone.tokens[..]);
                let inside: Vec<_> = batch.targets.iter().filter(|p| (start..end).contains(*p)).map(|p| p - start).collect();
                prop_assert!(inside.iter().all(|p| p + 1 < end - start));
                prop_assert_eq!(inside, alone.targets);
            }
        }
    }
}
