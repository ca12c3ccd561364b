//! The measures of one suite under both models: values, paired differences with intervals, p values. Which verdict
//! follows is decided in `comparison`.

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, ItemSums, Tally, paired_bootstrap};
use crate::score::{ItemScore, Scores};
use crate::statistics::{Estimate, Interval, mcnemar, mean, paired_difference, paired_proportions};

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
    /// Share of generated answers that are a right answer.
    ExactMatch,
    /// The same after SQuAD's normalisation.
    NormalisedMatch,
    /// chrF of all generated answers together, from 0 to 1 (sacrebleu's divided by 100).
    #[serde(rename = "chrf")]
    ChrF,
    /// Mean over items of ROUGE-L's F1 (`rouge_score`, no stemming).
    #[serde(rename = "rouge_l")]
    RougeL,
    /// Share of generated answers that end at an end token or a stop text.
    StopRate,
    /// Share of generated answers that are blank.
    EmptyRate,
    /// F1 of all typed spans together.
    #[serde(rename = "micro_f1")]
    MicroF1,
    /// Share of answers with all typed spans right and no other.
    AllSpans,
    /// Share of answers that can't be read as typed spans.
    MalformedRate,
    /// Share of continuations of rank 1, those that greedy generation would give.
    RankedFirst,
    /// Mean over items of 1 over the continuation's rank.
    MeanReciprocalRank,
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
            Self::ExactMatch => "exact match",
            Self::NormalisedMatch => "normalised match",
            Self::ChrF => "chrF",
            Self::RougeL => "ROUGE-L",
            Self::StopRate => "stop rate",
            Self::EmptyRate => "empty rate",
            Self::MicroF1 => "micro F1",
            Self::AllSpans => "all spans right",
            Self::MalformedRate => "malformed rate",
            Self::RankedFirst => "ranked first",
            Self::MeanReciprocalRank => "mean reciprocal rank",
        }
    }

    /// Whether more is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        match self {
            Self::NllPerToken | Self::Perplexity | Self::BitsPerByte | Self::EmptyRate | Self::MalformedRate => false,
            Self::Accuracy | Self::AccuracyPerCharacter | Self::AccuracyPerByte | Self::MacroF1 => true,
            Self::ExactMatch | Self::NormalisedMatch | Self::ChrF | Self::RougeL | Self::StopRate => true,
            Self::MicroF1 | Self::AllSpans | Self::RankedFirst | Self::MeanReciprocalRank => true,
        }
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
    /// Tuned minus base. The interval of a share of items is the t interval (cluster-robust where items have groups)
    /// joined with Bonett and Price's; of a mean over items it is the t interval; of F1, chrF, NLL per token and bits per
    /// byte it is the bootstrap's; a perplexity has none.
    pub difference: WithInterval,
    /// Mean over items of the difference of an item's own value, with its t interval: every item counts the same here,
    /// every token, byte or span in `difference`. Of NLL per token, bits per byte, chrF and micro F1 where it decides.
    pub per_item: Option<WithInterval>,
    /// Tuned over base, with the bootstrap's interval. NLL per token only.
    pub ratio: Option<WithInterval>,
    /// Answers that changed. Shares of right answers only.
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

/// Pairs of scores of the same items, with their clusters, and how intervals are bootstrapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paired<'a> {
    pub(crate) base: &'a Scores,
    pub(crate) tuned: &'a Scores,
    pub(crate) clusters: &'a [usize],
    pub(crate) resamples: usize,
    pub(crate) seed: u64,
}

impl Paired<'_> {
    pub(crate) fn items(&self) -> impl Iterator<Item = (&ItemScore, &ItemScore)> {
        self.base.items.iter().zip(&self.tuned.items)
    }

    /// The accuracy by `right`; `None` where an item has none.
    pub(crate) fn accuracy(&self, kind: MeasureKind, right: impl Fn(&ItemScore) -> Option<bool>) -> Option<Evidence> {
        let answers: Option<Vec<(bool, bool)>> =
            self.items().map(|(base, tuned)| Some((right(base)?, right(tuned)?))).collect();
        self.shares(kind, &answers?)
    }

    /// The share of items that something holds of, base and tuned; `None` without items.
    pub(crate) fn shares(&self, kind: MeasureKind, answers: &[(bool, bool)]) -> Option<Evidence> {
        let count = |wanted: (bool, bool)| answers.iter().filter(|&&pair| pair == wanted).count();
        let (both, broke, fixed) = (count((true, true)), count((true, false)), count((false, true)));
        let items = answers.len();
        if items == 0 {
            return None;
        }
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
        Some(Evidence {
            measure: Measure { changes, ..plain(kind, [base, tuned], difference) },
            gain,
            p_value,
            estimates,
        })
    }

    /// A share of items that is neither right nor wrong, such as those that end by themselves.
    pub(crate) fn rate(&self, kind: MeasureKind, holds: &[(bool, bool)]) -> Measure {
        let share = self.shares(kind, holds).map(|evidence| evidence.measure);
        let none = || plain(kind, [0.0; 2], WithInterval { value: 0.0, interval: None });
        Measure { changes: None, ..share.unwrap_or_else(none) }
    }

    /// The mean of a value of each item, base and tuned, of which more is better.
    pub(crate) fn mean(&self, kind: MeasureKind, values: &[(f64, f64)]) -> Evidence {
        let [base, tuned] = [|pair: &(f64, f64)| pair.0, |pair: &(f64, f64)| pair.1]
            .map(|side| mean(&values.iter().map(side).collect::<Vec<f64>>()));
        let estimate = self.gain(values);
        let gain = estimate.map(|estimate| estimate.interval());
        let measure = plain(kind, [base, tuned], WithInterval { value: tuned - base, interval: gain });
        let p_value = estimate.map(|estimate| estimate.p_value());
        Evidence { measure, gain, p_value, estimates: estimate.into_iter().collect() }
    }

    fn gain(&self, values: &[(f64, f64)]) -> Option<Estimate> {
        let gains: Vec<f64> = values.iter().map(|(base, tuned)| tuned - base).collect();
        paired_difference(&gains, self.clusters)
    }

    /// A measure that is a function of sums over the items: those of the base, then as many of the tuned model.
    pub(crate) fn of_sums(&self, kind: MeasureKind, tally: &Tally, value: fn(&[f64]) -> f64) -> Measure {
        let both = |sums: &[f64]| {
            let (base, tuned) = sums.split_at(sums.len() / 2);
            [value(base), value(tuned)]
        };
        let [base, tuned] = both(&tally.total());
        let [interval] = tally.intervals(self.resamples, self.seed, |sums| {
            let [base, tuned] = both(sums);
            [tuned - base]
        });
        plain(kind, [base, tuned], WithInterval { value: tuned - base, interval })
    }

    /// The same where each item has a value of its own: a claim must hold for the sums and for the mean over items, whose
    /// t test gives the p value.
    pub(crate) fn of_sums_and_items(
        &self,
        kind: MeasureKind,
        tally: &Tally,
        value: fn(&[f64]) -> f64,
        own: &[(f64, f64)],
    ) -> Evidence {
        let measure = self.of_sums(kind, tally, value);
        let items = self.mean(kind, own);
        let per_item = Some(items.measure.difference);
        let gain = items.gain.zip(measure.difference.interval).map(|(items, sums)| items.join(sums));
        Evidence { measure: Measure { per_item, ..measure }, gain, ..items }
    }

    /// The NLL per token and the bits per byte, from the same resamples. The first means something only where both models
    /// have one tokenizer.
    pub(crate) fn nll(&self) -> (Evidence, Evidence) {
        let sums: Vec<ItemSums> = self
            .items()
            .map(|(base, tuned)| ItemSums {
                base: base.nll,
                tuned: tuned.nll,
                tokens: base.targets as f64,
                base_bytes: base.bytes,
                tuned_bytes: tuned.bytes,
            })
            .collect();
        let bootstrap = paired_bootstrap(&sums, self.clusters, self.resamples, self.seed);
        let total = |part: fn(&ItemSums) -> f64| sums.iter().map(part).sum::<f64>();
        let (base, tuned) = (total(|sums| sums.base), total(|sums| sums.tuned));
        let tokens = total(|sums| sums.tokens);
        let gains = sums.iter().map(|sums| (sums.base - sums.tuned) / sums.tokens).collect();
        let difference =
            WithInterval { value: (tuned - base) / tokens, interval: bootstrap.map(|found| found.per_token) };
        let mut per_token =
            self.of_losses(plain(MeasureKind::NllPerToken, [base / tokens, tuned / tokens], difference), gains);
        per_token.measure.ratio = ratio(base, tuned, bootstrap);

        let bits = std::f64::consts::LN_2.recip();
        let (base, tuned) =
            (base / total(|sums| sums.base_bytes) * bits, tuned / total(|sums| sums.tuned_bytes) * bits);
        let in_bits = |interval: Interval| Interval { low: interval.low * bits, high: interval.high * bits };
        let gain = |sums: &ItemSums| (sums.base / sums.base_bytes - sums.tuned / sums.tuned_bytes) * bits;
        let difference =
            WithInterval { value: tuned - base, interval: bootstrap.map(|bootstrap| in_bits(bootstrap.per_byte)) };
        let measure = plain(MeasureKind::BitsPerByte, [base, tuned], difference);
        (per_token, self.of_losses(measure, sums.iter().map(gain).collect()))
    }

    /// A weighted measure of which less is better, with the gain of each item.
    fn of_losses(&self, measure: Measure, gains: Vec<f64>) -> Evidence {
        let estimate = paired_difference(&gains, self.clusters);
        let per_item = estimate.map(|estimate| estimate.interval());
        let gain = per_item.zip(measure.difference.interval).map(|(items, sums)| items.join(sums.negated()));
        let per_item = WithInterval { value: -mean(&gains), interval: per_item.map(Interval::negated) };
        Evidence {
            measure: Measure { per_item: Some(per_item), ..measure },
            gain,
            p_value: estimate.map(|estimate| estimate.p_value()),
            estimates: estimate.into_iter().collect(),
        }
    }
}

fn plain(kind: MeasureKind, [base, tuned]: [f64; 2], difference: WithInterval) -> Measure {
    Measure { kind, base, tuned, difference, per_item: None, ratio: None, changes: None }
}

/// The perplexity that belongs to an NLL per token; `None` where it is too large for a float.
pub(crate) fn perplexity(nll: &Measure) -> Option<Measure> {
    let (base, tuned) = (nll.base.exp(), nll.tuned.exp());
    let difference = WithInterval { value: tuned - base, interval: None };
    let measure = plain(MeasureKind::Perplexity, [base, tuned], difference);
    (base.is_finite() && tuned.is_finite()).then_some(measure)
}

fn ratio(base: f64, tuned: f64, bootstrap: Option<Bootstrap>) -> Option<WithInterval> {
    let value = tuned / base;
    let interval = bootstrap.and_then(|bootstrap| bootstrap.ratio);
    value.is_finite().then_some(WithInterval { value, interval })
}

#[cfg(test)]
#[path = "measures_tests.rs"]
mod tests;
