//! The measures of one suite under both models: values, paired differences with intervals, p values. Which verdict
//! follows is decided in `comparison`.

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, ItemSums, paired_bootstrap};
use crate::score::{ItemScore, Scores};
use crate::statistics::{Estimate, Interval, mcnemar, paired_difference, paired_proportions};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasureKind {
    /// Share of items whose likeliest candidate, by summed NLL, is right (lm-evaluation-harness: `acc`).
    Accuracy,
    /// The same by NLL per character of the choice (lm-evaluation-harness: `acc_norm`).
    AccuracyPerCharacter,
    /// The same by NLL per byte of the choice (lm-evaluation-harness: `acc_bytes`).
    AccuracyPerByte,
    /// Mean over the labels of the F1 of each (scikit-learn: `f1_score(average="macro")`).
    #[serde(rename = "macro_f1")]
    MacroF1,
    /// Sum of NLLs over sum of targets, in nats (R13).
    NllPerToken,
    /// `exp` of the NLL per token.
    Perplexity,
    /// NLL per byte of text in bits, which doesn't depend on the tokenizer.
    BitsPerByte,
}

impl MeasureKind {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::AccuracyPerCharacter => "accuracy per character",
            Self::AccuracyPerByte => "accuracy per byte",
            Self::MacroF1 => "macro F1",
            Self::NllPerToken => "NLL per token",
            Self::Perplexity => "perplexity",
            Self::BitsPerByte => "bits per byte",
        }
    }

    /// Whether more is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        matches!(self, Self::Accuracy | Self::AccuracyPerCharacter | Self::AccuracyPerByte | Self::MacroF1)
    }
}

/// Items whose answer changed between right and wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Wrong by the base, right by the tuned model.
    pub fixed: usize,
    /// Right by the base, wrong by the tuned model.
    pub broke: usize,
    /// Items in all.
    pub items: usize,
}

/// A quantity with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WithInterval {
    /// The value.
    pub value: f64,
    /// Its 95 % interval, where one can be given.
    pub interval: Option<Interval>,
}

/// One measure of one suite under both models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What is measured.
    pub kind: MeasureKind,
    /// Of the untouched base.
    pub base: f64,
    /// Of the tuned model.
    pub tuned: f64,
    /// Tuned minus base. The interval of an accuracy is the t interval (cluster-robust where items have groups) joined
    /// with Bonett and Price's; of macro F1, NLL per token and bits per byte it is the bootstrap's; a perplexity has none.
    pub difference: WithInterval,
    /// Mean over items of the difference of an item's mean NLL, with its t interval: every item counts the same here,
    /// every token in `difference`. NLL per token only.
    pub per_item: Option<WithInterval>,
    /// Tuned over base, with the bootstrap's interval. NLL per token only.
    pub ratio: Option<WithInterval>,
    /// Answers that changed. Accuracies only.
    pub changes: Option<Changes>,
}

/// A measure together with what a verdict needs of it. Gains are above zero where the tuned model is better.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) measure: Measure,
    /// All intervals of the gain joined: a verdict must hold for each.
    pub(crate) gain: Option<Interval>,
    /// Two-sided p value against no difference.
    pub(crate) p_value: Option<f64>,
    estimates: Vec<Estimate>,
}

impl Evidence {
    /// One-sided p value of "the loss is larger than `margin`": small where that is plain.
    pub(crate) fn p_value_of_loss(&self, margin: f64) -> Option<f64> {
        let loss = |gain: &Estimate| Estimate { mean: -gain.mean, ..*gain }.p_value_above(margin);
        self.estimates.iter().map(loss).reduce(f64::max)
    }
}

/// Pairs of scores of the same items, with their clusters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paired<'a> {
    pub(crate) base: &'a Scores,
    pub(crate) tuned: &'a Scores,
    pub(crate) clusters: &'a [usize],
}

impl Paired<'_> {
    fn items(&self) -> impl Iterator<Item = (&ItemScore, &ItemScore)> {
        self.base.items.iter().zip(&self.tuned.items)
    }

    /// The accuracy by `right`; `None` where an item has none.
    pub(crate) fn accuracy(&self, kind: MeasureKind, right: impl Fn(&ItemScore) -> Option<bool>) -> Option<Evidence> {
        let answers: Option<Vec<(bool, bool)>> =
            self.items().map(|(base, tuned)| Some((right(base)?, right(tuned)?))).collect();
        let answers = answers.filter(|answers| !answers.is_empty())?;
        let count = |wanted: (bool, bool)| answers.iter().filter(|&&pair| pair == wanted).count();
        let (both, broke, fixed) = (count((true, true)), count((true, false)), count((false, true)));
        let items = answers.len();
        let differences: Vec<f64> =
            answers.iter().map(|&(base, tuned)| f64::from(i8::from(tuned) - i8::from(base))).collect();

        let paired = paired_difference(&differences, self.clusters);
        let proportions = paired_proportions(broke, fixed, items);
        // Without a t interval there are too few clusters to say anything.
        let estimates: Vec<Estimate> =
            paired.into_iter().flat_map(|paired| [Some(paired), proportions]).flatten().collect();
        let gain = estimates.iter().map(Estimate::interval).reduce(Interval::join);
        // McNemar takes items as independent, the t test knows the clusters: both have to agree.
        let p_value = paired.map(|paired| paired.p_value().max(mcnemar(broke, fixed)));
        let (base, tuned) = ((both + broke) as f64 / items as f64, (both + fixed) as f64 / items as f64);
        let difference = WithInterval { value: (fixed as f64 - broke as f64) / items as f64, interval: gain };
        let changes = Some(Changes { fixed, broke, items });
        let measure = Measure { kind, base, tuned, difference, per_item: None, ratio: None, changes };
        Some(Evidence { measure, gain, p_value, estimates })
    }

    /// The NLL per token, and the bits per byte from the same resamples.
    pub(crate) fn nll(&self, resamples: usize, seed: u64) -> (Evidence, Measure) {
        let sums: Vec<ItemSums> = self
            .items()
            .map(|(base, tuned)| ItemSums {
                base: base.nll,
                tuned: tuned.nll,
                tokens: base.targets as f64,
                bytes: base.bytes,
            })
            .collect();
        let total = |part: fn(&ItemSums) -> f64| sums.iter().map(part).sum::<f64>();
        let (base, tuned) = (total(|sums| sums.base), total(|sums| sums.tuned));
        let (tokens, bytes) = (total(|sums| sums.tokens), total(|sums| sums.bytes));
        let bootstrap = paired_bootstrap(&sums, self.clusters, resamples, seed);

        let gains: Vec<f64> = sums.iter().map(|sums| (sums.base - sums.tuned) / sums.tokens).collect();
        let estimate = paired_difference(&gains, self.clusters);
        let per_item_gain = estimate.map(|estimate| estimate.interval());
        let weighted = bootstrap.map(|bootstrap| bootstrap.per_token);
        let gain = per_item_gain.zip(weighted).map(|(items, tokens)| items.join(tokens.negated()));
        let measure = Measure {
            kind: MeasureKind::NllPerToken,
            base: base / tokens,
            tuned: tuned / tokens,
            difference: WithInterval { value: (tuned - base) / tokens, interval: weighted },
            per_item: Some(WithInterval {
                value: -crate::statistics::mean(&gains),
                interval: per_item_gain.map(Interval::negated),
            }),
            ratio: ratio(base, tuned, bootstrap),
            changes: None,
        };
        let p_value = estimate.map(|estimate| estimate.p_value());
        let bits = std::f64::consts::LN_2.recip();
        let in_bits = |interval: Interval| Interval { low: interval.low * bits, high: interval.high * bits };
        let difference = WithInterval {
            value: (tuned - base) / bytes * bits,
            interval: bootstrap.map(|bootstrap| in_bits(bootstrap.per_byte)),
        };
        let bits_per_byte = Measure {
            kind: MeasureKind::BitsPerByte,
            base: base / bytes * bits,
            tuned: tuned / bytes * bits,
            difference,
            per_item: None,
            ratio: None,
            changes: None,
        };
        (Evidence { measure, gain, p_value, estimates: estimate.into_iter().collect() }, bits_per_byte)
    }
}

/// The perplexity that belongs to an NLL per token; `None` where it is too large for a float.
pub(crate) fn perplexity(nll: &Measure) -> Option<Measure> {
    let (base, tuned) = (nll.base.exp(), nll.tuned.exp());
    let difference = WithInterval { value: tuned - base, interval: None };
    let measure =
        Measure { kind: MeasureKind::Perplexity, base, tuned, difference, per_item: None, ratio: None, changes: None };
    (base.is_finite() && tuned.is_finite()).then_some(measure)
}

fn ratio(base: f64, tuned: f64, bootstrap: Option<Bootstrap>) -> Option<WithInterval> {
    let value = tuned / base;
    let interval = bootstrap.and_then(|bootstrap| bootstrap.ratio);
    value.is_finite().then_some(WithInterval { value, interval })
}

#[cfg(test)]
mod tests {
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
        let paired = Paired { base: &base, tuned: &tuned, clusters: &clusters };
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
        let paired = Paired { base: &base, tuned: &base, clusters: &clusters };
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
        let (evidence, bits) = Paired { base: &base, tuned: &tuned, clusters: &clusters }.nll(1000, 0);
        let measure = &evidence.measure;
        assert_eq!((measure.base, measure.tuned), (40.0 / 15.0, 25.0 / 15.0));
        assert_eq!((measure.difference.value, measure.per_item.unwrap().value), (-1.0, -1.0));
        assert_eq!(measure.ratio.unwrap().value, 25.0 / 40.0);
        assert!(evidence.gain.unwrap().low > 0.99);
        assert_eq!(evidence.p_value, Some(0.0));
        assert!(evidence.p_value_of_loss(0.02).unwrap() > 0.99);
        assert!((bits.base - 40.0 / 30.0 / std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(perplexity(measure).unwrap().tuned, (25.0_f64 / 15.0).exp());
    }

    #[test]
    fn where_items_and_tokens_disagree_the_gain_holds_zero() {
        // Many short items get better, one long item gets worse.
        let base: Vec<_> = (0..20).map(|i| if i == 0 { (1000.0, 500, None) } else { (4.0, 2, None) }).collect();
        let tuned: Vec<_> =
            (0..20).map(|i| if i == 0 { (1400.0, 500, None) } else { (2.0 + 0.01 * f64::from(i), 2, None) }).collect();
        let clusters: Vec<usize> = (0..20).collect();
        let (evidence, _) = Paired { base: &scores(base), tuned: &scores(tuned), clusters: &clusters }.nll(2000, 0);
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
        let (evidence, _) = Paired { base: &scores(base), tuned: &scores(tuned), clusters: &clusters }.nll(2000, 0);
        assert!(evidence.measure.difference.interval.unwrap().high < 0.0);
        assert!(evidence.gain.unwrap().low < 0.0);
    }

    #[test]
    fn one_cluster_gives_values_without_intervals() {
        let base = answers("+-+-");
        let clusters = [0; 4];
        let paired = Paired { base: &base, tuned: &base, clusters: &clusters };
        let evidence = paired.accuracy(MeasureKind::Accuracy, right).unwrap();
        assert_eq!((evidence.gain, evidence.p_value), (None, None));
        let (evidence, _) = paired.nll(100, 0);
        assert_eq!((evidence.gain, evidence.p_value, evidence.p_value_of_loss(0.1)), (None, None, None));
    }
}
