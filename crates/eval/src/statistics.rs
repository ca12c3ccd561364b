//! Paired statistics of two models on the same items: mean differences with t intervals (cluster-robust), the exact
//! McNemar test, an interval for paired proportions, and Holm's correction. The bootstrap is in `bootstrap`, the
//! verdicts are in `verdict`. Every value here is checked against scipy; `tests/reference_values.py` prints the numbers
//! that the tests quote.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

/// Share of intervals that hold the true value, for every interval of this crate.
pub const CONFIDENCE: f64 = 0.95;

/// A two-sided 95 % interval, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The smallest interval that holds both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// The interval of the negated quantity.
    #[must_use]
    pub fn negated(self) -> Self {
        Self { low: -self.high, high: -self.low }
    }
}

/// An estimate with its standard error and the distribution it is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimated value.
    pub mean: f64,
    /// Its standard error, zero or more.
    pub standard_error: f64,
    /// Degrees of freedom of Student's t, 1 or more; `None` for the normal distribution.
    pub freedom: Option<f64>,
}

impl Estimate {
    /// 95 % interval `mean +- quantile * standard_error`.
    #[must_use]
    pub fn interval(&self) -> Interval {
        let quantile = match self.freedom {
            Some(freedom) => students_t(freedom).inverse_cdf(0.5 + CONFIDENCE / 2.0),
            None => normal_quantile(0.5 + CONFIDENCE / 2.0),
        };
        let half = quantile * self.standard_error;
        Interval { low: self.mean - half, high: self.mean + half }
    }

    /// One-sided p value of the claim "the true value is above `threshold`": small when the estimate lies well above.
    #[must_use]
    pub fn p_value_above(&self, threshold: f64) -> f64 {
        let distance = self.mean - threshold;
        if self.standard_error == 0.0 {
            // No spread at all: the value is known, and only lying beyond the threshold counts.
            return if distance > 0.0 { 0.0 } else { 1.0 };
        }
        let statistic = distance / self.standard_error;
        match self.freedom {
            Some(freedom) => students_t(freedom).sf(statistic),
            None => standard_normal().sf(statistic),
        }
    }

    /// Two-sided p value of a difference from zero.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        let beyond = Self { mean: self.mean.abs(), ..*self };
        (2.0 * beyond.p_value_above(0.0)).min(1.0)
    }
}

/// Numbers the clusters of items: items of one label share a number, an item without a label is a cluster of its own.
#[must_use]
pub fn clusters<'a>(labels: impl Iterator<Item = Option<&'a str>>) -> Vec<usize> {
    let mut known = HashMap::new();
    let mut count = 0;
    let mut numbers = Vec::new();
    for label in labels {
        let number = label.map_or(count, |name| *known.entry(name).or_insert(count));
        count = count.max(number + 1);
        numbers.push(number);
    }
    numbers
}

/// Number of distinct clusters among the numbers that [`clusters`] gave.
#[must_use]
pub fn cluster_count(clusters: &[usize]) -> usize {
    clusters.iter().max().map_or(0, |last| last + 1)
}

/// Mean of paired differences with its cluster-robust standard error (CR1; with one item a cluster it is the plain `sd
/// / sqrt(n)`), on `clusters - 1` degrees of freedom. `None` below two clusters, where no spread can be estimated.
/// `clusters` holds one number an item, as from [`clusters`]. Source: Liang and Zeger 1986; Miller 2024,
/// arXiv:2411.00640.
#[must_use]
pub fn paired_difference(differences: &[f64], clusters: &[usize]) -> Option<Estimate> {
    let count = cluster_count(clusters);
    if count < 2 || differences.len() != clusters.len() {
        return None;
    }
    let mean = mean(differences);
    let mut sums = vec![0.0; count];
    for (difference, &cluster) in differences.iter().zip(clusters) {
        sums[cluster] += difference - mean;
    }
    let squares: f64 = sums.iter().map(|sum| sum * sum).sum();
    let correction = count as f64 / (count - 1) as f64;
    let standard_error = (correction * squares).sqrt() / differences.len() as f64;
    Some(Estimate { mean, standard_error, freedom: Some((count - 1) as f64) })
}

/// Arithmetic mean; 0 for no values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Two-sided p value of the exact McNemar test: `broke` items went from right to wrong, `fixed` from wrong to right.
/// Items are taken as independent. 1 where nothing changed. Source: McNemar 1947, binomial form.
#[must_use]
pub fn mcnemar(broke: usize, fixed: usize) -> f64 {
    let changed = (broke + fixed) as u64;
    if changed == 0 {
        return 1.0;
    }
    let binomial = Binomial::new(0.5, changed).expect("0.5 is a probability");
    (2.0 * binomial.cdf(broke.min(fixed) as u64)).min(1.0)
}

/// Difference `(fixed - broke) / items` of paired proportions by the adjusted Wald method, which adds one to both
/// counts: unlike the t interval it keeps a width where no item changed. `None` without items. Source: Bonett and Price
/// 2012, doi:10.3102/1076998611411915.
#[must_use]
pub fn paired_proportions(broke: usize, fixed: usize, items: usize) -> Option<Estimate> {
    if items == 0 {
        return None;
    }
    let total = items as f64 + 2.0;
    let (gained, lost) = ((fixed as f64 + 1.0) / total, (broke as f64 + 1.0) / total);
    let mean = gained - lost;
    let variance = (gained + lost - mean * mean) / total;
    Some(Estimate { mean, standard_error: variance.max(0.0).sqrt(), freedom: None })
}

/// Holm's step-down adjusted p values, in the order given. Source: Holm 1979.
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut running: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        running = running.max(((p_values.len() - rank) as f64 * p_values[index]).min(1.0));
        adjusted[index] = running;
    }
    adjusted
}

/// Quantile of the standard normal distribution.
pub(crate) fn normal_quantile(share: f64) -> f64 {
    standard_normal().inverse_cdf(share)
}

fn standard_normal() -> Normal {
    Normal::new(0.0, 1.0).expect("the standard normal is valid")
}

fn students_t(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom.max(1.0)).expect("one or more degrees of freedom are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFFERENCES: [f64; 12] = [0.12, -0.05, 0.30, 0.08, -0.11, 0.22, 0.04, 0.19, -0.02, 0.15, 0.07, 0.26];

    fn assert_close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-8 * expected.abs().max(1e-6), "{actual} is not {expected}");
    }

    fn assert_estimate(estimate: Estimate, expected: [f64; 4]) {
        let interval = estimate.interval();
        for (actual, expected) in
            [estimate.mean, estimate.standard_error, interval.low, interval.high].into_iter().zip(expected)
        {
            assert_close(actual, expected);
        }
    }

    #[test]
    fn r32_paired_t_interval_matches_scipy() {
        let own: Vec<usize> = (0..12).collect();
        let estimate = paired_difference(&DIFFERENCES, &own).unwrap();
        assert_estimate(estimate, [0.104166666667, 0.0365865170838, 0.0236402855058, 0.184693047828]);
        assert_close(estimate.p_value(), 0.0158779694739);
    }

    #[test]
    fn r32_cluster_robust_interval_matches_statsmodels() {
        let labels = ["a", "a", "a", "b", "b", "c", "c", "c", "c", "d", "d", "e"];
        let groups = clusters(labels.into_iter().map(Some));
        let estimate = paired_difference(&DIFFERENCES, &groups).unwrap();
        assert_estimate(estimate, [0.104166666667, 0.0271164772268, 0.0288792562001, 0.179454077133]);
        assert_close(estimate.p_value(), 0.0184366410709);
    }

    #[test]
    fn items_without_a_group_are_clusters_of_their_own() {
        let numbers = clusters([Some("a"), None, Some("b"), Some("a"), None].into_iter());
        assert_eq!(numbers, [0, 1, 2, 0, 3]);
        assert_eq!(cluster_count(&numbers), 4);
        assert_eq!(cluster_count(&[]), 0);
    }

    #[test]
    fn one_cluster_gives_no_interval() {
        assert_eq!(paired_difference(&DIFFERENCES, &[0; 12]), None);
        assert_eq!(paired_difference(&[], &[]), None);
    }

    #[test]
    fn t_quantiles_match_scipy() {
        let cases = [
            (1.0, 12.7062047362),
            (2.0, 4.30265272975),
            (4.0, 2.7764451052),
            (11.0, 2.20098516009),
            (29.0, 2.04522964213),
            (167.0, 1.97427095703),
            (5000.0, 1.96043855171),
        ];
        for (freedom, quantile) in cases {
            let unit = Estimate { mean: 0.0, standard_error: 1.0, freedom: Some(freedom) };
            assert_close(unit.interval().high, quantile);
            assert_close(unit.interval().low, -quantile);
        }
        assert_close(normal_quantile(0.8), 0.841621233573);
    }

    #[test]
    fn r32_exact_mcnemar_matches_scipy() {
        let cases = [(0, 5, 0.0625), (14, 31, 0.0160943600313), (3, 3, 1.0), (120, 161, 0.0168692963401)];
        for (broke, fixed, p_value) in cases {
            assert_close(mcnemar(broke, fixed), p_value);
            assert_close(mcnemar(fixed, broke), p_value);
        }
        assert!((mcnemar(5, 68) / 3.42490614794e-15 - 1.0).abs() < 1e-6);
        assert_eq!(mcnemar(0, 0), 1.0);
    }

    #[test]
    fn paired_proportions_match_bonett_and_price() {
        let expected = [0.414473684211, 0.0460000441739, 0.324315254342, 0.504632114079];
        assert_estimate(paired_proportions(5, 68, 150).unwrap(), expected);
        let expected = [0.0, 0.00831890330808, -0.0163047508747, 0.0163047508747];
        assert_estimate(paired_proportions(0, 0, 168).unwrap(), expected);
        assert_eq!(paired_proportions(0, 0, 0), None);
    }

    #[test]
    fn r32_holm_matches_the_reference() {
        for (given, expected) in [
            (vec![0.01, 0.04, 0.03, 0.005], vec![0.03, 0.06, 0.06, 0.02]),
            (vec![0.6, 0.6, 0.02], vec![1.0, 1.0, 0.06]),
        ] {
            for (actual, expected) in holm(&given).into_iter().zip(expected) {
                assert_close(actual, expected);
            }
        }
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn one_sided_p_values_match_scipy() {
        let estimate = Estimate { mean: 0.05, standard_error: 0.01, freedom: Some(11.0) };
        assert_close(estimate.p_value_above(0.02), 0.00603991973596);
        let estimate = Estimate { mean: -0.01, ..estimate };
        assert_close(estimate.p_value_above(0.02), 0.993960080264);
    }

    #[test]
    fn a_difference_without_spread_is_certain_and_none_is_no_evidence() {
        let equal = paired_difference(&[0.5, 0.5, 0.5], &[0, 1, 2]).unwrap();
        assert_eq!((equal.p_value(), equal.interval()), (0.0, Interval { low: 0.5, high: 0.5 }));
        let none = paired_difference(&[0.0, 0.0, 0.0], &[0, 1, 2]).unwrap();
        assert_eq!(none.p_value(), 1.0);
    }
}
