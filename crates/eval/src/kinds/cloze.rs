//! Cloze: how likely the right continuation is, and its rank. The rank of a continuation is the largest of its tokens',
//! each among the whole vocabulary behind the tokens before it: rank 1 is where greedy generation would give it, as
//! LAMBADA's accuracy counts (Paperno et al. 2016). The NLL is taken as in every kind, without an end token.

use crate::measures::{Measure, MeasureKind, Paired};

/// The measures of ranks; `None` where an item has none.
pub(crate) fn measures(paired: &Paired<'_>) -> Option<Vec<Measure>> {
    let ranks: Option<Vec<(u32, u32)>> = paired.items().map(|(base, tuned)| base.rank.zip(tuned.rank)).collect();
    let ranks = ranks?;
    let first: Vec<(bool, bool)> = ranks.iter().map(|&(base, tuned)| (base == 1, tuned == 1)).collect();
    let reciprocal = |rank: u32| 1.0 / f64::from(rank);
    let reciprocals: Vec<(f64, f64)> =
        ranks.iter().map(|&(base, tuned)| (reciprocal(base), reciprocal(tuned))).collect();
    let first = paired.shares(MeasureKind::RankedFirst, &first)?.measure;
    Some(vec![first, paired.mean(MeasureKind::MeanReciprocalRank, &reciprocals).measure])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::Changes;
    use crate::score::{ItemScore, Scores};

    fn scores(ranks: &[u32]) -> Scores {
        let item = |(item, &rank)| ItemScore {
            item,
            nll: 1.0,
            targets: 1,
            bytes: 2.0,
            rank: Some(rank),
            ..ItemScore::default()
        };
        Scores { items: ranks.iter().enumerate().map(item).collect(), ..Scores::default() }
    }

    #[test]
    fn ranks_are_counted_where_they_are_first_and_by_their_reciprocals() {
        let (base, tuned) = (scores(&[1, 4, 2, 1]), scores(&[1, 1, 4, 2]));
        let paired = Paired { base: &base, tuned: &tuned, clusters: &[0, 1, 2, 3], resamples: 100, seed: 0 };
        let measures = measures(&paired).unwrap();
        assert_eq!((measures[0].base, measures[0].tuned), (0.5, 0.5));
        assert_eq!(measures[0].changes, Some(Changes { fixed: 1, broke: 1, items: 4 }));
        assert_eq!((measures[1].base, measures[1].tuned), (2.75 / 4.0, 2.75 / 4.0));
        let without = Scores { items: vec![ItemScore { rank: None, ..base.items[0].clone() }], ..base.clone() };
        assert!(
            super::measures(&Paired { tuned: &without, base: &without, clusters: &[0], resamples: 100, seed: 0 })
                .is_none()
        );
    }
}
