//! The paired bootstrap: items (or whole clusters) are drawn with replacement, both models' sums together, for
//! quantities that are ratios of sums and so have no plain standard error: NLL per token, bits per byte, the ratio of
//! two NLLs. Percentile intervals.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::statistics::{CONFIDENCE, Interval, cluster_count};

/// What one item adds to the sums.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ItemSums {
    /// NLL of the base, nats.
    pub base: f64,
    /// NLL of the tuned model, nats.
    pub tuned: f64,
    /// Counted targets; the same for both models.
    pub tokens: f64,
    /// Bytes of text the targets stand for; the same for both models.
    pub bytes: f64,
}

impl ItemSums {
    fn add(&mut self, other: &Self) {
        self.base += other.base;
        self.tuned += other.tuned;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
    }
}

/// 95 % percentile intervals over the resamples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Of `(sum tuned - sum base) / sum tokens`, nats per token.
    pub per_token: Interval,
    /// Of `(sum tuned - sum base) / sum bytes`, nats per byte.
    pub per_byte: Interval,
    /// Of `sum tuned / sum base`; `None` where a resample's base sum is zero.
    pub ratio: Option<Interval>,
}

/// Draws clusters with replacement, `resamples` times, by a ChaCha stream of `seed`: the same on every platform.
/// `clusters` holds one number an item, as from `statistics::clusters`. `None` below two clusters, without resamples,
/// or where an item has no tokens or bytes. Time: `resamples` x clusters. Source: Efron 1979; Koehn 2004 for pairing.
#[must_use]
pub fn paired_bootstrap(items: &[ItemSums], clusters: &[usize], resamples: usize, seed: u64) -> Option<Bootstrap> {
    let count = u32::try_from(cluster_count(clusters)).ok()?;
    let countable = items.iter().all(|item| item.tokens > 0.0 && item.bytes > 0.0);
    if count < 2 || resamples == 0 || items.len() != clusters.len() || !countable {
        return None;
    }
    let mut totals = vec![ItemSums::default(); count as usize];
    for (item, &cluster) in items.iter().zip(clusters) {
        totals[cluster].add(item);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut per_token, mut per_byte, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..resamples {
        let mut sums = ItemSums::default();
        for _ in 0..count {
            // A u32 range draws the same numbers on 32- and 64-bit machines; a usize range does not.
            sums.add(&totals[random.random_range(0..count) as usize]);
        }
        per_token.push((sums.tuned - sums.base) / sums.tokens);
        per_byte.push((sums.tuned - sums.base) / sums.bytes);
        ratio.push(sums.tuned / sums.base);
    }
    let finite = ratio.iter().all(|value| value.is_finite());
    Some(Bootstrap {
        per_token: percentile_interval(per_token),
        per_byte: percentile_interval(per_byte),
        ratio: finite.then(|| percentile_interval(ratio)),
    })
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

    fn items() -> Vec<ItemSums> {
        (0..10)
            .map(|i| ItemSums { base: BASE[i], tuned: TUNED[i], tokens: TOKENS[i], bytes: 4.0 * TOKENS[i] })
            .collect()
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
        let items =
            [1.0, -1.0, 2.0, -2.0].map(|change| ItemSums { base: 5.0, tuned: 5.0 + change, tokens: 1.0, bytes: 1.0 });
        let whole = paired_bootstrap(&items, &[0, 0, 1, 1], 200, 0).unwrap();
        assert_eq!(whole.per_token, Interval { low: 0.0, high: 0.0 });
        let apart = paired_bootstrap(&items, &[0, 1, 2, 3], 200, 0).unwrap();
        assert!(apart.per_token.low < -0.5 && apart.per_token.high > 0.5);
    }

    #[test]
    fn what_cannot_be_resampled_gives_nothing() {
        assert_eq!(paired_bootstrap(&items(), &[0; 10], 100, 0), None);
        assert_eq!(paired_bootstrap(&items(), &own(), 0, 0), None);
        let empty = ItemSums { base: 1.0, tuned: 1.0, tokens: 0.0, bytes: 0.0 };
        assert_eq!(paired_bootstrap(&[empty, empty], &[0, 1], 100, 0), None);
        let free = ItemSums { base: 0.0, tuned: 1.0, tokens: 1.0, bytes: 1.0 };
        assert_eq!(paired_bootstrap(&[free, free], &[0, 1], 100, 0).unwrap().ratio, None);
    }

    #[test]
    fn percentiles_interpolate_as_numpy_does() {
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.9), 3.7);
        assert_eq!(percentile(&[7.0], 0.975), 7.0);
    }
}
