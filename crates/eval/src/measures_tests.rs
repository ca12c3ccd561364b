//! Tests of `measures`: each measure on scores whose values can be computed by hand.

use super::*;
use crate::score::Answer;

fn scores(items: Vec<(f64, usize, Option<bool>)>) -> Scores {
    let answer = |right| Answer {
        candidates: vec![],
        choice: 0,
        right,
        right_per_character: Some(!right),
        right_per_byte: None,
    };
    let items = items.into_iter().enumerate().map(|(item, (nll, targets, right))| ItemScore {
        item,
        nll,
        targets,
        bytes: 2.0 * targets as f64,
        answer: right.map(answer),
        ..ItemScore::default()
    });
    let (suite_hash, tokenizer_hash) = (String::new(), String::new());
    let packing = Default::default();
    Scores { suite_hash, tokenizer_hash, context: 8, items: items.collect(), lost_targets: 0, packing }
}

fn right(item: &ItemScore) -> Option<bool> {
    item.answer.as_ref().map(|answer| answer.right)
}

fn answers(pattern: &str) -> Scores {
    scores(pattern.chars().map(|mark| (1.0, 1, Some(mark == '+'))).collect())
}

#[test]
fn r32_an_accuracy_counts_what_was_fixed_and_broken() {
    let (base, tuned) = (answers("++---++---"), answers("+-+++++---"));
    let clusters: Vec<usize> = (0..10).collect();
    let paired = Paired { base: &base, tuned: &tuned, clusters: &clusters, resamples: 1000, seed: 0 };
    let evidence = paired.accuracy(MeasureKind::Accuracy, right).unwrap();
    let measure = &evidence.measure;
    assert_eq!(measure.changes, Some(Changes { fixed: 3, broke: 1, items: 10 }));
    assert_eq!((measure.base, measure.tuned, measure.difference.value), (0.4, 0.6, 0.2));
    assert!((evidence.p_value.unwrap() - 0.625).abs() < 1e-12, "exact McNemar of 1 against 3");
    assert_eq!(paired.accuracy(MeasureKind::Accuracy, |_| None), None);
}

#[test]
fn an_accuracy_without_any_change_keeps_an_interval() {
    let base = answers(&"+-".repeat(84));
    let clusters: Vec<usize> = (0..168).collect();
    let paired = Paired { base: &base, tuned: &base, clusters: &clusters, resamples: 1000, seed: 0 };
    let evidence = paired.accuracy(MeasureKind::Accuracy, right).unwrap();
    let gain = evidence.gain.unwrap();
    assert!((gain.low + 0.0163047508747).abs() < 1e-9 && (gain.high - 0.0163047508747).abs() < 1e-9, "{gain:?}");
    assert_eq!(evidence.p_value, Some(1.0));
}

#[test]
fn r13_nll_is_weighted_by_tokens_and_the_gain_has_the_other_sign() {
    let base = scores(vec![(2.0, 1, None), (30.0, 10, None), (8.0, 4, None)]);
    let tuned = scores(vec![(1.0, 1, None), (20.0, 10, None), (4.0, 4, None)]);
    let clusters = [0, 1, 2];
    let (evidence, bits) = Paired { base: &base, tuned: &tuned, clusters: &clusters, resamples: 1000, seed: 0 }.nll();
    let measure = &evidence.measure;
    assert_eq!((measure.base, measure.tuned), (40.0 / 15.0, 25.0 / 15.0));
    assert_eq!((measure.difference.value, measure.per_item.unwrap().value), (-1.0, -1.0));
    assert_eq!(measure.ratio.unwrap().value, 25.0 / 40.0);
    assert!(evidence.gain.unwrap().low > 0.99);
    assert_eq!(evidence.p_value, Some(0.0));
    assert!(evidence.p_value_of_loss(0.02).unwrap() > 0.99);
    assert!((bits.measure.base - 40.0 / 30.0 / std::f64::consts::LN_2).abs() < 1e-12);
    assert_eq!(perplexity(measure).unwrap().tuned, (25.0_f64 / 15.0).exp());
}

#[test]
fn where_items_and_tokens_disagree_the_gain_holds_zero() {
    // Many short items get better, one long item gets worse.
    let base: Vec<_> = (0..20).map(|i| if i == 0 { (1000.0, 500, None) } else { (4.0, 2, None) }).collect();
    let tuned: Vec<_> =
        (0..20).map(|i| if i == 0 { (1400.0, 500, None) } else { (2.0 + 0.01 * f64::from(i), 2, None) }).collect();
    let clusters: Vec<usize> = (0..20).collect();
    let (evidence, _) =
        Paired { base: &scores(base), tuned: &scores(tuned), clusters: &clusters, resamples: 2000, seed: 0 }.nll();
    assert!(evidence.measure.per_item.unwrap().interval.unwrap().high < 0.0);
    let gain = evidence.gain.unwrap();
    assert!(gain.low < 0.0 && gain.high > 0.0, "{gain:?}");
}

#[test]
fn a_gain_of_the_tokens_alone_is_not_a_gain_of_the_items() {
    // Long items get surely better, short ones scatter: the bootstrap by tokens is clear of zero, the items aren't.
    let long = |i: usize| i.is_multiple_of(2);
    let base: Vec<_> = (0..20).map(|i| if long(i) { (1500.0, 500, None) } else { (6.0, 2, None) }).collect();
    let short = |i: usize| if i % 4 == 1 { 4.0 } else { 8.0 };
    let tuned: Vec<_> = (0..20).map(|i| if long(i) { (1450.0, 500, None) } else { (short(i), 2, None) }).collect();
    let clusters: Vec<usize> = (0..20).collect();
    let (evidence, _) =
        Paired { base: &scores(base), tuned: &scores(tuned), clusters: &clusters, resamples: 2000, seed: 0 }.nll();
    assert!(evidence.measure.difference.interval.unwrap().high < 0.0);
    assert!(evidence.gain.unwrap().low < 0.0);
}

#[test]
fn one_cluster_gives_values_without_intervals() {
    let base = answers("+-+-");
    let clusters = [0; 4];
    let paired = Paired { base: &base, tuned: &base, clusters: &clusters, resamples: 1000, seed: 0 };
    let evidence = paired.accuracy(MeasureKind::Accuracy, right).unwrap();
    assert_eq!((evidence.gain, evidence.p_value), (None, None));
    let (evidence, _) = paired.nll();
    assert_eq!((evidence.gain, evidence.p_value, evidence.p_value_of_loss(0.1)), (None, None, None));
}
