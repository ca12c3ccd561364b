//! The paired bootstrap: items (or whole clusters) are drawn with replacement, both models' sums together, for
//! quantities that are functions of sums and so have no plain standard error: NLL per token, bits per byte, the ratio
//! of two NLLs, macro and micro F1, the chrF of a corpus. Percentile intervals.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::statistics::{CONFIDENCE, Interval, cluster_count};

/// What items add up to, cluster by cluster: counts or sums of both models, `width` of them. Kept sparse, since an item
/// of a classification touches few of its labels' counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tally {
    width: usize,
    clusters: Vec<Vec<(usize, f64)>>,
}

impl Tally {
    /// `items` give what each adds, by place below `width`; `clusters` holds one number an item, as from
    /// `statistics::clusters`.
    pub(crate) fn new<I>(width: usize, clusters: &[usize], items: impl IntoIterator<Item = I>) -> Self
    where
        I: IntoIterator<Item = (usize, f64)>,
    {
        let mut sums = vec![BTreeMap::new(); cluster_count(clusters)];
        for (item, &cluster) in items.into_iter().zip(clusters) {
            for (place, value) in item {
                *sums[cluster].entry(place).or_insert(0.0) += value;
            }
        }
        Self { width, clusters: sums.into_iter().map(|sums| sums.into_iter().collect()).collect() }
    }

    /// The sums over all items.
    pub(crate) fn total(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        self.clusters.iter().for_each(|cluster| add(&mut sums, cluster));
        sums
    }

    /// 95 % percentile intervals of `statistics` of the sums over `resamples` draws of whole clusters with replacement, by
    /// a ChaCha stream of `seed`: the same on every platform. One is `None` where a resample has no finite value of it;
    /// all are below two clusters or without resamples. Time: `resamples` x clusters. Source: Efron 1979; Koehn 2004 for
    /// pairing.
    pub(crate) fn intervals<const N: usize>(
        &self,
        resamples: usize,
        seed: u64,
        statistics: impl Fn(&[f64]) -> [f64; N],
    ) -> [Option<Interval>; N] {
        let count = u32::try_from(self.clusters.len()).unwrap_or(0);
        if count < 2 || resamples == 0 {
            return [None; N];
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut values: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(resamples));
        let mut sums = vec![0.0; self.width];
        for _ in 0..resamples {
            sums.fill(0.0);
            for _ in 0..count {
                // A u32 range draws the same numbers on 32- and 64-bit machines; a usize range does not.
                add(&mut sums, &self.clusters[random.random_range(0..count) as usize]);
            }
            values.iter_mut().zip(statistics(&sums)).for_each(|(values, value)| values.push(value));
        }
        values.map(|values| values.iter().all(|value| value.is_finite()).then(|| percentile_interval(values)))
    }
}

fn add(sums: &mut [f64], cluster: &[(usize, f64)]) {
    cluster.iter().for_each(|&(place, value)| sums[place] += value);
}

/// What one item adds to the sums of NLLs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ItemSums {
    /// NLL of the base, nats.
    pub base: f64,
    /// NLL of the tuned model, nats.
    pub tuned: f64,
    /// Counted targets of the base; the same for both models where they have one tokenizer.
    pub tokens: f64,
    /// Bytes of text that the base's targets stand for.
    pub base_bytes: f64,
    /// Bytes of text that the tuned model's targets stand for.
    pub tuned_bytes: f64,
}

/// 95 % percentile intervals over the resamples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Of `(sum tuned - sum base) / sum tokens`, nats per token.
    pub per_token: Interval,
    /// Of `sum tuned / its bytes - sum base / its bytes`, nats per byte.
    pub per_byte: Interval,
    /// Of `sum tuned / sum base`; `None` where a resample's base sum is zero.
    pub ratio: Option<Interval>,
}

/// The bootstrap of sums of NLLs. `clusters` holds one number an item, as from `statistics::clusters`. `None` below two
/// clusters, without resamples, or where an item has no tokens or bytes.
#[must_use]
pub fn paired_bootstrap(items: &[ItemSums], clusters: &[usize], resamples: usize, seed: u64) -> Option<Bootstrap> {
    let countable = |item: &ItemSums| item.tokens > 0.0 && item.base_bytes > 0.0 && item.tuned_bytes > 0.0;
    if items.len() != clusters.len() || !items.iter().all(countable) {
        return None;
    }
    let sums = |item: &ItemSums| [item.base, item.tuned, item.tokens, item.base_bytes, item.tuned_bytes];
    let tally = Tally::new(5, clusters, items.iter().map(|item| sums(item).into_iter().enumerate()));
    let [per_token, per_byte, ratio] = tally.intervals(resamples, seed, |sums| {
        let &[base, tuned, tokens, base_bytes, tuned_bytes] = sums else { return [f64::NAN; 3] };
        [(tuned - base) / tokens, tuned / tuned_bytes - base / base_bytes, tuned / base]
    });
    Some(Bootstrap { per_token: per_token?, per_byte: per_byte?, ratio })
}

pub(crate) fn percentile_interval(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Interval { low: percentile(&values, tail), high: percentile(&values, 1.0 - tail) }
}

/// Linear interpolation between order statistics, numpy's default.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: [f64; 10] = [12.0, 7.5, 30.2, 4.4, 18.1, 9.9, 22.3, 5.0, 14.7, 11.2];
    const TUNED: [f64; 10] = [10.9, 7.9, 26.0, 4.1, 17.0, 9.1, 20.8, 5.3, 12.9, 10.0];
    const TOKENS: [f64; 10] = [6.0, 4.0, 15.0, 2.0, 9.0, 5.0, 11.0, 3.0, 7.0, 6.0];

    fn sums(base: f64, tuned: f64, tokens: f64, bytes: f64) -> ItemSums {
        ItemSums { base, tuned, tokens, base_bytes: bytes, tuned_bytes: bytes }
    }

    fn items() -> Vec<ItemSums> {
        (0..10).map(|i| sums(BASE[i], TUNED[i], TOKENS[i], 4.0 * TOKENS[i])).collect()
    }

    fn own() -> Vec<usize> {
        (0..10).collect()
    }

    #[test]
    fn r32_intervals_match_numpy() {
        let result = paired_bootstrap(&items(), &own(), 100_000, 1).unwrap();
        let ratio = result.ratio.unwrap();
        // numpy with 2,000,000 resamples, tests/reference_values.py; the tolerance is about 4 Monte Carlo errors.
        for (actual, expected) in [
            (result.per_token.low, -0.223943661972),
            (result.per_token.high, -0.0876712328767),
            (ratio.low, 0.888448471121),
            (ratio.high, 0.955161626694),
        ] {
            assert!((actual - expected).abs() < 0.0025, "{actual} is not {expected}");
        }
        assert!((result.per_byte.low * 4.0 - result.per_token.low).abs() < 1e-12);
    }

    #[test]
    fn a_seed_fixes_the_result_and_another_changes_it() {
        let run = |seed| paired_bootstrap(&items(), &own(), 500, seed).unwrap();
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn clusters_are_drawn_whole() {
        // Two clusters that cancel inside: every resample of whole clusters has the difference zero.
        let items = [1.0, -1.0, 2.0, -2.0].map(|change| sums(5.0, 5.0 + change, 1.0, 1.0));
        let whole = paired_bootstrap(&items, &[0, 0, 1, 1], 200, 0).unwrap();
        assert_eq!(whole.per_token, Interval { low: 0.0, high: 0.0 });
        let apart = paired_bootstrap(&items, &[0, 1, 2, 3], 200, 0).unwrap();
        assert!(apart.per_token.low < -0.5 && apart.per_token.high > 0.5);
    }

    #[test]
    fn what_cannot_be_resampled_gives_nothing() {
        assert_eq!(paired_bootstrap(&items(), &[0; 10], 100, 0), None);
        assert_eq!(paired_bootstrap(&items(), &own(), 0, 0), None);
        let empty = sums(1.0, 1.0, 0.0, 0.0);
        assert_eq!(paired_bootstrap(&[empty, empty], &[0, 1], 100, 0), None);
        let free = sums(0.0, 1.0, 1.0, 1.0);
        assert_eq!(paired_bootstrap(&[free, free], &[0, 1], 100, 0).unwrap().ratio, None);
    }

    #[test]
    fn percentiles_interpolate_as_numpy_does() {
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.9), 3.7);
        assert_eq!(percentile(&[7.0], 0.975), 7.0);
    }
}
