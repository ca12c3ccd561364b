//! Macro-averaged F1 of a classification under both models, with the paired bootstrap's interval of the difference.
//!
//! The definition is scikit-learn's `f1_score(average="macro")`: the mean of the F1 of every label that is right or
//! answered in some item, each label counting the same. Verdicts stay with the accuracy.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::bootstrap::percentile_interval;
use crate::measures::{Measure, MeasureKind, WithInterval};
use crate::score::Scores;
use crate::statistics::{Interval, cluster_count};
use crate::suite::{Items, Suite};

/// The label that is right for an item and those that the models answer, as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    gold: usize,
    base: usize,
    tuned: usize,
}

/// Per label: items answered and right, items answered, items where it is right.
#[derive(Debug, Clone)]
struct Counts(Vec<[u32; 3]>);

impl Counts {
    fn none(labels: usize) -> Self {
        Self(vec![[0; 3]; labels])
    }

    fn add(&mut self, gold: usize, answer: usize) {
        self.0[gold][0] += u32::from(gold == answer);
        self.0[answer][1] += 1;
        self.0[gold][2] += 1;
    }

    /// F1 is `2 tp / (answered + right)`, which is 0 for a label that is never both; labels that occur nowhere are left out.
    fn macro_f1(&self) -> f64 {
        let occurring = self.0.iter().filter(|[_, answered, right]| answered + right > 0);
        let f1 = occurring.map(|&[both, answered, right]| 2.0 * f64::from(both) / f64::from(answered + right));
        let (sum, labels) = f1.fold((0.0, 0), |(sum, labels), f1| (sum + f1, labels + 1));
        sum / f64::from(labels.max(1))
    }
}

/// The measure of a classification; `None` for other suites. `clusters` as in `measures`.
pub(crate) fn macro_f1(
    suite: &Suite,
    base: &Scores,
    tuned: &Scores,
    clusters: &[usize],
    resamples: usize,
    seed: u64,
) -> Option<Measure> {
    let Items::Pairs { items, labels: Some(labels) } = &suite.items else { return None };
    let answered = base.items.iter().zip(&tuned.items).map(|(base, tuned)| {
        let gold = labels.iter().position(|label| *label == items[base.item].completion)?;
        let inside = |choice: usize| (choice < labels.len()).then_some(choice);
        Some(Answered {
            gold,
            base: inside(base.answer.as_ref()?.choice)?,
            tuned: inside(tuned.answer.as_ref()?.choice)?,
        })
    });
    let answered: Vec<Answered> = answered.collect::<Option<_>>()?;
    let [base, tuned] = both(answered.iter(), labels.len());
    let interval = interval(&answered, labels.len(), clusters, resamples, seed);
    let difference = WithInterval { value: tuned - base, interval };
    let kind = MeasureKind::MacroF1;
    Some(Measure { kind, base, tuned, difference, per_item: None, ratio: None, changes: None })
}

fn both<'a>(answered: impl Iterator<Item = &'a Answered>, labels: usize) -> [f64; 2] {
    let (mut base, mut tuned) = (Counts::none(labels), Counts::none(labels));
    for item in answered {
        base.add(item.gold, item.base);
        tuned.add(item.gold, item.tuned);
    }
    [base.macro_f1(), tuned.macro_f1()]
}

/// The 95 % percentile interval of tuned minus base; whole clusters are drawn, as in `bootstrap`. `None` below two
/// clusters. Time: `resamples` x items.
fn interval(answered: &[Answered], labels: usize, clusters: &[usize], resamples: usize, seed: u64) -> Option<Interval> {
    let count = u32::try_from(cluster_count(clusters)).ok()?;
    if count < 2 || resamples == 0 || answered.len() != clusters.len() {
        return None;
    }
    let mut members = vec![Vec::new(); count as usize];
    for (item, &cluster) in answered.iter().zip(clusters) {
        members[cluster].push(*item);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let differences = (0..resamples).map(|_| {
        let drawn: Vec<&Answered> = (0..count).flat_map(|_| &members[random.random_range(0..count) as usize]).collect();
        let [base, tuned] = both(drawn.into_iter(), labels);
        tuned - base
    });
    Some(percentile_interval(differences.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLD: [usize; 20] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3];
    const BASE: [usize; 20] = [0, 1, 0, 2, 0, 0, 1, 0, 2, 1, 0, 1, 0, 2, 0, 2, 0, 1, 0, 0];
    const TUNED: [usize; 20] = [0, 0, 0, 0, 0, 0, 1, 0, 2, 1, 1, 1, 0, 1, 1, 2, 2, 1, 2, 0];

    fn answered() -> Vec<Answered> {
        (0..20).map(|i| Answered { gold: GOLD[i], base: BASE[i], tuned: TUNED[i] }).collect()
    }

    #[test]
    fn r32_values_are_those_of_scikit_learn() {
        let [base, tuned] = both(answered().iter(), 4);
        assert!((base - 0.278409090909091).abs() < 1e-12, "{base}");
        assert!((tuned - 0.574252136752137).abs() < 1e-12, "{tuned}");
        // a label that is nowhere isn't counted, one that is only answered is
        assert_eq!(both([Answered { gold: 0, base: 0, tuned: 1 }].iter(), 3), [1.0, 0.0]);
    }

    #[test]
    fn r32_the_interval_is_that_of_numpy() {
        let clusters: Vec<usize> = (0..20).collect();
        let found = interval(&answered(), 4, &clusters, 100_000, 1).unwrap();
        // 200,000 resamples of scikit-learn's values, tests/reference_values.py; a few Monte Carlo errors
        assert!((found.low - 0.1245).abs() < 0.004, "{found:?}");
        assert!((found.high - 0.5823).abs() < 0.004, "{found:?}");
    }

    #[test]
    fn clusters_are_drawn_whole_and_a_seed_fixes_the_result() {
        let clusters: Vec<usize> = (0..20).collect();
        let run = |seed| interval(&answered(), 4, &clusters, 500, seed);
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        assert_eq!(interval(&answered(), 4, &[0; 20], 500, 0), None);
        // what one item gains its cluster loses: no resample has a difference
        let pair = |base, tuned| Answered { gold: 0, base, tuned };
        let items = [pair(0, 1), pair(1, 0), pair(0, 1), pair(1, 0)];
        let whole = interval(&items, 2, &[0, 0, 1, 1], 200, 0).unwrap();
        assert_eq!((whole.low, whole.high), (0.0, 0.0));
        assert!(interval(&items, 2, &[0, 1, 2, 3], 200, 0).unwrap().low < 0.0);
    }
}
