//! What a prepared input amounts to: counts, lengths, and everything that was lost or is worth a look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Lengths of the records in tokens, as they are before any is dropped, truncated or cut (R11): nearest-rank percentiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthPercentiles {
    /// Half of the records are at most this long.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// 95 of a hundred.
    pub p95: u64,
    /// 99 of a hundred.
    pub p99: u64,
}

/// Counts over a prepared input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Records read: JSONL lines, or text files.
    pub records: u64,
    /// Documents in the shard: pairs, or the rows that raw text was cut into.
    pub documents: u64,
    /// What an optimizer step counts: pairs, or rows filled up to the maximum length.
    pub units: u64,
    /// Tokens in the shard.
    pub tokens: u64,
    /// Tokens of the shard that count in the loss.
    pub target_tokens: u64,
    /// Tokens of the longest document in the shard.
    pub longest: u64,
    /// Lengths of the records.
    pub lengths: LengthPercentiles,
    /// Keys that records have beyond those that are used, with the number of records.
    pub extra_keys: BTreeMap<String, u64>,
    /// Records kept whose end token is a target, out of all kept (R8). 0 to 1.
    pub end_token_share: f64,
    /// Tokens that would be targets but open a document that has nothing in front of it, not even BOS (R2).
    pub untargeted_first_tokens: u64,
    /// Targets that became the first token of a row where a text was cut.
    pub cut_targets: u64,
    /// Tokens by which the rows of raw text, filled from short documents, fall short of the maximum length.
    pub unfilled_tokens: u64,
    /// Over-long records left out (R11).
    pub dropped_records: u64,
    /// Targets of the records left out.
    pub dropped_target_tokens: u64,
    /// Over-long records whose prompt was shortened from the left (R11). None of their targets is lost.
    pub truncated_records: u64,
    /// Prompt tokens lost that way.
    pub truncated_tokens: u64,
    /// Records with an empty completion, which were allowed (R7).
    pub empty_completions: u64,
    /// Files that begin with a byte order mark, which was skipped.
    pub byte_order_marks: u64,
}

/// How often each length occurs; memory is bounded by the number of different lengths.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LengthHistogram(BTreeMap<u64, u64>);

impl LengthHistogram {
    pub(crate) fn add(&mut self, length: u64) {
        *self.0.entry(length).or_default() += 1;
    }

    pub(crate) fn add_many(&mut self, length: u64, count: u64) {
        *self.0.entry(length).or_default() += count;
    }

    pub(crate) fn percentiles(&self) -> LengthPercentiles {
        let count: u64 = self.0.values().sum();
        let rank = |percent: u64| (u128::from(count) * u128::from(percent)).div_ceil(100).max(1) as u64;
        let at = |percent: u64| {
            let mut seen = 0;
            self.0
                .iter()
                .find_map(|(length, count)| {
                    seen += count;
                    (seen >= rank(percent)).then_some(*length)
                })
                .unwrap_or(0)
        };
        LengthPercentiles { p50: at(50), p90: at(90), p95: at(95), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut histogram = LengthHistogram::default();
        assert_eq!(histogram.percentiles(), LengthPercentiles::default());
        (1..=200).for_each(|length| histogram.add(length));
        assert_eq!(histogram.percentiles(), LengthPercentiles { p50: 100, p90: 180, p95: 190, p99: 198 });
        let mut few = LengthHistogram::default();
        [7, 3, 3].into_iter().for_each(|length| few.add(length));
        assert_eq!(few.percentiles(), LengthPercentiles { p50: 3, p90: 7, p95: 7, p99: 7 });
    }
}
