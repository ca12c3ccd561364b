//! Classifications: pairs whose completions are labels. Which completions are labels, and the macro F1.
//!
//! Its definition is scikit-learn's `f1_score(average="macro")`: the mean of the F1 of every label that is right or
//! answered in some item, each label counting the same. Verdicts stay with the accuracy, which is taken in `measures`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::bootstrap::Tally;
use crate::error::EvalError;
use crate::lines::fault;
use crate::measures::{Measure, MeasureKind, Paired};
use crate::metrics::f1::{COUNTS, macro_f1};
use crate::score::ItemScore;
use crate::suite::{Items, PairItem, Suite};

/// Most labels that a set of completions may have and still be scored as a classification.
const MOST_LABELS: usize = 20;
/// Fewest items a label, on average over the suite, for a classification.
const ITEMS_PER_LABEL: usize = 3;
/// Fewest items of every single label for a classification.
const ITEMS_OF_EACH_LABEL: usize = 2;

/// How many items have each completion.
pub(crate) fn completion_counts(items: &[PairItem]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item.completion.as_str()).or_insert(0) += 1;
    }
    counts
}

/// The labels in sorted order where completions are a small set: 2 to [`MOST_LABELS`] of them, each in
/// [`ITEMS_OF_EACH_LABEL`] items or more, [`ITEMS_PER_LABEL`] times as many items as labels, and no blank prompt (a
/// label alone loses its first token and could not be compared).
pub(crate) fn label_set(items: &[PairItem]) -> Option<Vec<String>> {
    let counts = completion_counts(items);
    let small = (2..=MOST_LABELS).contains(&counts.len());
    let repeated = counts.values().all(|&count| count >= ITEMS_OF_EACH_LABEL);
    let enough = items.len() >= ITEMS_PER_LABEL * counts.len();
    let asked = items.iter().all(|item| !item.prompt.trim().is_empty());
    let labels = || counts.keys().map(|label| (*label).to_owned()).collect();
    (small && repeated && enough && asked).then(labels)
}

/// The labels of a suite that its header calls a classification. Errors: fewer than two; a blank prompt, after which a
/// label would lose its first token.
pub(crate) fn named_labels(path: &Path, items: &[PairItem]) -> Result<Vec<String>, EvalError> {
    if let Some(blank) = items.iter().find(|item| item.prompt.trim().is_empty()) {
        return Err(fault(path, blank.line, 1, "`prompt` is blank; a label is scored as what follows the prompt"));
    }
    let counts = completion_counts(items);
    if counts.len() < 2 {
        let message = "all completions are the same label; a classification needs two or more".into();
        return Err(EvalError::Suite { path: path.into(), message });
    }
    Ok(counts.into_keys().map(str::to_owned).collect())
}

/// The label that is right for an item and those that the models answer, as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answered {
    gold: usize,
    base: usize,
    tuned: usize,
}

impl Answered {
    /// What the item adds to the counts of the base, then of the tuned model.
    fn counts(self, labels: usize) -> impl Iterator<Item = (usize, f64)> {
        let of = move |first: usize, answer: usize| {
            let right = (answer == self.gold).then_some((COUNTS * self.gold, 1.0));
            let counts = [(COUNTS * answer + 1, 1.0), (COUNTS * self.gold + 2, 1.0)];
            right.into_iter().chain(counts).map(move |(place, count)| (first + place, count))
        };
        of(0, self.base).chain(of(COUNTS * labels, self.tuned))
    }
}

/// The macro F1 of a classification; `None` for other suites.
pub(crate) fn measure(suite: &Suite, paired: &Paired<'_>) -> Option<Measure> {
    let Items::Pairs { items, labels: Some(labels) } = &suite.items else { return None };
    let answered = |(base, tuned): (&ItemScore, &ItemScore)| {
        let gold = labels.iter().position(|label| *label == items[base.item].completion)?;
        let inside = |choice: usize| (choice < labels.len()).then_some(choice);
        Some(Answered {
            gold,
            base: inside(base.answer.as_ref()?.choice)?,
            tuned: inside(tuned.answer.as_ref()?.choice)?,
        })
    };
    let answered: Vec<Answered> = paired.items().map(answered).collect::<Option<_>>()?;
    Some(of(&answered, labels.len(), paired))
}

fn of(answered: &[Answered], labels: usize, paired: &Paired<'_>) -> Measure {
    let counts = answered.iter().map(|item| item.counts(labels));
    let tally = Tally::new(2 * COUNTS * labels, paired.clusters, counts);
    paired.of_sums(MeasureKind::MacroF1, &tally, macro_f1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Scores;
    use crate::statistics::Interval;

    const GOLD: [usize; 20] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3];
    const BASE: [usize; 20] = [0, 1, 0, 2, 0, 0, 1, 0, 2, 1, 0, 1, 0, 2, 0, 2, 0, 1, 0, 0];
    const TUNED: [usize; 20] = [0, 0, 0, 0, 0, 0, 1, 0, 2, 1, 1, 1, 0, 1, 1, 2, 2, 1, 2, 0];

    fn answered() -> Vec<Answered> {
        (0..20).map(|i| Answered { gold: GOLD[i], base: BASE[i], tuned: TUNED[i] }).collect()
    }

    fn with(answered: &[Answered], labels: usize, clusters: &[usize], resamples: usize, seed: u64) -> Measure {
        let none = Scores::default();
        of(answered, labels, &Paired { base: &none, tuned: &none, clusters, resamples, seed })
    }

    fn interval(
        answered: &[Answered],
        labels: usize,
        clusters: &[usize],
        resamples: usize,
        seed: u64,
    ) -> Option<Interval> {
        with(answered, labels, clusters, resamples, seed).difference.interval
    }

    #[test]
    fn r32_values_are_those_of_scikit_learn() {
        let clusters: Vec<usize> = (0..20).collect();
        let Measure { base, tuned, .. } = with(&answered(), 4, &clusters, 100, 0);
        assert!((base - 0.278409090909091).abs() < 1e-12, "{base}");
        assert!((tuned - 0.574252136752137).abs() < 1e-12, "{tuned}");
        // a label that is nowhere isn't counted, one that is only answered is
        let one = with(&[Answered { gold: 0, base: 0, tuned: 1 }], 3, &[0], 100, 0);
        assert_eq!([one.base, one.tuned], [1.0, 0.0]);
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
