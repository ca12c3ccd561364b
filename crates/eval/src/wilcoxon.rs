//! The Wilcoxon signed-rank test for paired differences, one-sided: are they above zero? Zeros are dropped, ties get
//! their mean rank. Exact where there are at most 25 differences without a tie, else by the normal approximation with
//! the tie correction and without the continuity correction. As scipy's `wilcoxon(zero_method="wilcox",
//! correction=False, method=...)`; `tests/reference_values.py` prints the numbers that the tests quote.

use statrs::distribution::{ContinuousCDF, Normal};

/// Most differences whose exact distribution is counted.
const MOST_EXACT: usize = 25;

/// One-sided p value of "the differences lie above zero"; 1 where none differs from zero or one isn't finite.
/// Source: Wilcoxon 1945; the exact distribution by counting subsets of ranks.
#[must_use]
pub fn signed_rank_above(differences: &[f64]) -> f64 {
    let mut kept: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    if kept.is_empty() || kept.iter().any(|difference| !difference.is_finite()) {
        return 1.0;
    }
    kept.sort_by(|one, other| one.abs().total_cmp(&other.abs()));
    let (mut above, mut tie_correction) = (0f64, 0f64);
    let mut first = 0;
    while first < kept.len() {
        let same = kept[first..].iter().take_while(|other| other.abs() == kept[first].abs()).count();
        let rank = first as f64 + (same as f64 + 1.0) / 2.0; // the mean of first + 1 ..= first + same
        above += rank * kept[first..first + same].iter().filter(|difference| **difference > 0.0).count() as f64;
        let ties = same as f64;
        tie_correction += ties * ties * ties - ties;
        first += same;
    }
    let count = kept.len();
    if count <= MOST_EXACT && tie_correction == 0.0 {
        return exact(above as usize, count);
    }
    let n = count as f64;
    let mean = n * (n + 1.0) / 4.0;
    let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - tie_correction / 48.0;
    let normal = Normal::new(0.0, 1.0).expect("1 is a standard deviation");
    normal.sf((above - mean) / variance.sqrt())
}

/// Share of the 2^count signs of the ranks 1 ..= count whose positive ranks sum to `sum` or more.
fn exact(sum: usize, count: usize) -> f64 {
    let most = count * (count + 1) / 2;
    let mut subsets = vec![0f64; most + 1]; // by their sum; at most 2^25, so every count is exact
    subsets[0] = 1.0;
    for rank in 1..=count {
        for total in (rank..=most).rev() {
            subsets[total] += subsets[total - rank];
        }
    }
    subsets[sum.min(most)..].iter().sum::<f64>() / 2f64.powi(count as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-10 * expected.max(1e-3), "{actual} is not {expected}");
    }

    /// As `LONG` in `tests/reference_values.py`.
    fn long(count: usize) -> Vec<f64> {
        (1..=count).map(|index| (0.7 * index as f64).sin() + 0.3).collect()
    }

    #[test]
    fn p_values_match_scipy() {
        let distinct = vec![0.31, -0.12, 0.47, 0.05, 0.22, -0.08, 0.61, 0.19];
        let tied = vec![1.0, 2.0, -1.0, 3.0, 2.0, 0.0, -2.0, 4.0, 1.0, 5.0];
        for (values, above, below) in [
            (distinct, 0.0390625, 0.97265625),
            (tied, 0.0322068951623, 0.967793104838),
            (long(60), 0.00115298610708, 0.998847013893),
            (long(25), 0.0241312086582, 0.977438658476),
            (long(26), 0.0292355452568, 0.970764454743),
        ] {
            assert_close(signed_rank_above(&values), above);
            let negated: Vec<f64> = values.iter().map(|value| -value).collect();
            assert_close(signed_rank_above(&negated), below);
        }
    }

    #[test]
    fn nothing_that_differs_is_no_evidence() {
        assert_eq!(signed_rank_above(&[]), 1.0);
        assert_eq!(signed_rank_above(&[0.0; 9]), 1.0);
        assert_eq!(signed_rank_above(&[1.0, f64::NAN]), 1.0);
        assert_eq!(signed_rank_above(&[1.0, f64::INFINITY]), 1.0);
    }

    #[test]
    fn the_two_sides_of_the_exact_distribution_add_up() {
        // P(W >= w) + P(W >= total - w + 1) is 1 by symmetry
        for count in 1..12 {
            let most = count * (count + 1) / 2;
            for sum in 0..=most {
                assert_close(exact(sum, count) + if sum == 0 { 0.0 } else { exact(most - sum + 1, count) }, 1.0);
            }
        }
    }
}
