//! F1 from counts. Counts come as triples, one a label or type: given and right, given, right.
//!
//! Macro F1 is the mean over the labels that are right or given somewhere (scikit-learn's `f1_score(average="macro")`,
//! seqeval's alike); micro F1 is the F1 of the sums. Where there is nothing to give and nothing given, both are 1.

/// Counts of a label: given and right, given, right.
pub(crate) const COUNTS: usize = 3;

/// The mean over the labels, each counting the same.
pub(crate) fn macro_f1(counts: &[f64]) -> f64 {
    let values = counts.chunks_exact(COUNTS).filter_map(of);
    let (sum, labels) = values.fold((0.0, 0), |(sum, labels), value| (sum + value, labels + 1));
    if labels == 0 { 1.0 } else { sum / f64::from(labels) }
}

/// The F1 of all counts together.
pub(crate) fn micro_f1(counts: &[f64]) -> f64 {
    let mut sums = [0.0; COUNTS];
    for triple in counts.chunks_exact(COUNTS) {
        sums.iter_mut().zip(triple).for_each(|(sum, count)| *sum += count);
    }
    of(&sums).unwrap_or(1.0)
}

/// `2 both / (given + right)`; `None` where the label occurs nowhere.
fn of(triple: &[f64]) -> Option<f64> {
    let &[both, given, right] = triple else { return None };
    (given + right > 0.0).then(|| 2.0 * both / (given + right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_occur_nowhere_are_left_out_and_those_that_are_only_given_count() {
        let counts = [1.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        assert_eq!(macro_f1(&counts), (2.0 / 3.0) / 2.0);
        assert_eq!(micro_f1(&counts), 2.0 / 4.0);
        assert_eq!((macro_f1(&[0.0; 3]), micro_f1(&[])), (1.0, 1.0), "nothing to give and nothing given");
    }
}
