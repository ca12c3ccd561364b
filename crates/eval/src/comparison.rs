//! The comparison of a tuned model with its untouched base over task and general suites: measures, verdicts, warnings,
//! and the headline every report begins with (R32). Text layout is in `report`.

use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::headline::headline;
use crate::kinds::{classification, cloze, extraction, generated};
use crate::measures::{Evidence, Measure, MeasureKind, Paired, perplexity};
use crate::pairing::{Pairs, pairs};
use crate::score::Scores;
use crate::statistics::{cluster_count, clusters, holm};
use crate::suite::{Items, JudgedBy, Suite, SuiteKind};
use crate::verdict::{GeneralVerdict, TaskVerdict, at_ceiling, at_chance, general_verdict, items_needed, task_verdict};

/// A suite with the scores of both models.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The suite.
    pub suite: Suite,
    /// Scores of the untouched base.
    pub base: Scores,
    /// Scores of the tuned model.
    pub tuned: Scores,
}

/// How models are compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CompareOptions {
    /// Resamples of the paired bootstrap.
    pub resamples: usize,
    /// Its seed.
    pub seed: u64,
    /// Loss of accuracy that counts as forgetting, as a share of the items.
    pub accuracy_margin: f64,
    /// Rise of the NLL that counts as forgetting, nats per token.
    pub nll_margin: f64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { resamples: 10_000, seed: 0, accuracy_margin: 0.01, nll_margin: 0.02 }
    }
}

/// What all task suites together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOutcome {
    /// Better on one or more, worse on none.
    Better,
    /// Worse on one or more, better on none.
    Worse,
    /// Better on one or more, worse on one or more.
    Mixed,
    /// Neither on any.
    NoDifferenceShown,
}

/// What all general suites together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneralOutcome {
    /// Ruled out on every suite that can tell.
    NoForgettingShown,
    /// On one suite or more.
    Forgot,
    /// Not shown, and not ruled out on every suite.
    CannotTell,
}

/// The verdict on one suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Of a task suite.
    Task(TaskVerdict),
    /// Of a general suite.
    General(GeneralVerdict),
}

/// One suite under both models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteComparison {
    /// Name of the suite.
    pub name: String,
    /// Where it was loaded from.
    pub path: String,
    /// Hash of its content.
    pub hash: String,
    /// What it measures.
    pub kind: SuiteKind,
    /// The verdict, by the first of `measures`.
    pub verdict: Verdict,
    /// Whether the suite can tell; a base at chance has nothing to forget.
    pub informative: bool,
    /// The measures; the first decides.
    pub measures: Vec<Measure>,
    /// Task suites: two-sided p value against no difference. General suites: one-sided p value of a loss beyond the
    /// margin. `None` where no spread could be estimated.
    pub p_value: Option<f64>,
    /// `p_value` after Holm's correction over the suites of the same list.
    pub adjusted_p_value: Option<f64>,
    /// Loss that counts as forgetting, in units of the first measure; general suites only.
    pub margin: Option<f64>,
    /// Paired scores: items, or rows of texts.
    pub items: usize,
    /// Independent clusters of them: groups, or documents.
    pub clusters: usize,
    /// Accuracy without reading the question.
    pub chance: Option<f64>,
    /// Whether both models give exactly the same scores.
    pub identical: bool,
    /// Whether each model has a tokenizer of its own, so that measures per token are left out.
    #[serde(default)]
    pub tokenizers_differ: bool,
    /// What a reader should know before trusting the numbers.
    pub warnings: Vec<String>,
}

impl SuiteComparison {
    /// What `items` counts: items, or rows of texts, or whole documents where rows of the models aren't the same.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.kind == SuiteKind::Text && self.tokenizers_differ { "documents" } else { self.kind.unit() }
    }
}

/// A tuned model against its untouched base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The verdict in one line: the first line of every report (R32).
    pub headline: String,
    /// What the task suites say; `None` where there are none.
    pub task_outcome: Option<TaskOutcome>,
    /// What the general suites say; `None` where there are none.
    pub general_outcome: Option<GeneralOutcome>,
    /// The task suites.
    pub task: Vec<SuiteComparison>,
    /// The general suites.
    pub general: Vec<SuiteComparison>,
    /// How the models were compared.
    pub options: CompareOptions,
}

/// Compares the models on every suite. Holm's correction runs over the task suites and over the general suites apart.
/// Errors: scores of another suite, of two context lengths or sets of items; options that make no sense.
pub fn compare(task: &[Scored], general: &[Scored], options: &CompareOptions) -> Result<Comparison, EvalError> {
    check_options(options)?;
    let task = task_suites(measure_all(task, options)?);
    let general = general_suites(measure_all(general, options)?, options);
    let (task_outcome, general_outcome) = (task_outcome(&task), general_outcome(&general));
    let headline = headline(task_outcome, &task, general_outcome, &general);
    Ok(Comparison { headline, task_outcome, general_outcome, task, general, options: *options })
}

/// A suite's measures before any verdict.
struct Measured<'a> {
    scored: &'a Scored,
    pairs: Pairs,
    measures: Vec<Measure>,
    primary: Evidence,
    clusters: usize,
    warnings: Vec<String>,
}

/// What follows from the measures of a suite and the p values of its list.
struct Judged {
    verdict: Verdict,
    informative: bool,
    p_value: Option<f64>,
    adjusted_p_value: Option<f64>,
    margin: Option<f64>,
}

impl Measured<'_> {
    fn identical(&self) -> bool {
        self.scored.base == self.scored.tuned
    }

    /// Chance level and number of answers, where there is right and wrong.
    fn chance(&self) -> Option<(f64, usize)> {
        self.scored.suite.chance().zip(self.primary.measure.changes.map(|changes| changes.items))
    }

    fn finish(self, judged: Judged) -> SuiteComparison {
        let identical = self.identical();
        let Self { scored: Scored { suite, .. }, pairs, measures, clusters, warnings, .. } = self;
        let Judged { verdict, informative, p_value, adjusted_p_value, margin } = judged;
        SuiteComparison {
            name: suite.name.clone(),
            path: suite.path.display().to_string(),
            hash: suite.hash.clone(),
            kind: suite.kind(),
            verdict,
            informative,
            measures,
            p_value,
            adjusted_p_value,
            margin,
            items: pairs.base.items.len(),
            clusters,
            chance: suite.chance(),
            identical,
            tokenizers_differ: pairs.tokenizers_differ,
            warnings,
        }
    }
}

fn check_options(options: &CompareOptions) -> Result<(), EvalError> {
    let refuse = |message: &str| Err(EvalError::Comparison(message.into()));
    for margin in [options.accuracy_margin, options.nll_margin] {
        if !(margin > 0.0 && margin.is_finite()) {
            return refuse(&format!("a margin is {margin}; give one above 0"));
        }
    }
    if options.resamples < 100 {
        return refuse(&format!("{} resamples are too few for an interval; use 100 or more", options.resamples));
    }
    Ok(())
}

fn measure_all<'a>(suites: &'a [Scored], options: &CompareOptions) -> Result<Vec<Measured<'a>>, EvalError> {
    suites.iter().map(|scored| measure(scored, options)).collect()
}

fn measure<'a>(scored: &'a Scored, options: &CompareOptions) -> Result<Measured<'a>, EvalError> {
    let pairs = pairs(scored)?;
    let (suite, Pairs { base, tuned, tokenizers_differ, notes }) = (&scored.suite, &pairs);
    let mut warnings = [&suite.notes[..], notes].concat();
    let clusters = item_clusters(suite, base, &mut warnings);
    let paired = Paired { base, tuned, clusters: &clusters, resamples: options.resamples, seed: options.seed };
    let (per_token, per_byte) = paired.nll();
    let nll = if *tokenizers_differ { &per_byte } else { &per_token };
    let (decides, own) = of_kind(suite, &paired, &mut warnings).unzip();
    let mut measures = own.unwrap_or_default();
    measures.push(nll.measure.clone());
    if suite.kind() == SuiteKind::Cloze {
        measures.extend(cloze::measures(&paired).unwrap_or_default());
    }
    measures.extend(classification::measure(suite, &paired));
    if suite.kind() == SuiteKind::Text && !tokenizers_differ {
        measures.extend(perplexity(&per_token.measure));
        measures.push(per_byte.measure.clone());
    }
    if suite.kind() == SuiteKind::Text {
        warnings.extend(row_notes(suite, &pairs));
    }
    let primary = decides.unwrap_or_else(|| nll.clone());
    // what counts items apart stands with the measure that decides, and with the NLL
    for measure in measures.iter_mut().filter(|measure| measure.kind != nll.measure.kind) {
        measure.per_item = None;
    }
    if primary.measure.kind != nll.measure.kind {
        measures.insert(0, primary.measure.clone());
    }
    if primary.gain.is_none() {
        warnings.push("all items are in one group or there is only one: no interval can be given".into());
    }
    let clusters = cluster_count(&clusters);
    Ok(Measured { scored, measures, primary, clusters, warnings, pairs })
}

/// The measure that decides and others that a kind has beside the NLL; `None` where the NLL decides.
fn of_kind(suite: &Suite, paired: &Paired<'_>, warnings: &mut Vec<String>) -> Option<(Evidence, Vec<Measure>)> {
    if let Items::Generated { items, judged, limits } = &suite.items {
        warnings.extend(generated::notes(limits, paired));
        if *judged == JudgedBy::Extraction {
            warnings.extend(extraction::malformed_note(items, paired));
            return extraction::measures(items, paired);
        }
        return generated::measures(suite.kind(), items, paired);
    }
    let accuracy = paired.accuracy(MeasureKind::Accuracy, |item| item.answer.as_ref().map(|answer| answer.right))?;
    let per_character = paired
        .accuracy(MeasureKind::AccuracyPerCharacter, |item| item.answer.as_ref().and_then(|a| a.right_per_character));
    let per_byte =
        paired.accuracy(MeasureKind::AccuracyPerByte, |item| item.answer.as_ref().and_then(|a| a.right_per_byte));
    let others = [per_character, per_byte].into_iter().flatten().map(|evidence| evidence.measure);
    Some((accuracy, others.collect()))
}

/// How a text was cut, in words.
fn row_notes(suite: &Suite, Pairs { base, tuned, tokenizers_differ, .. }: &Pairs) -> Vec<String> {
    let (mut notes, context) = (Vec::new(), base.context);
    if let Some(stride) = suite.windows.stride {
        notes.push(format!("rows of {context} tokens, each {stride} further on: every token is counted once"));
    }
    let lost = match tokenizers_differ {
        true => format!("{} tokens of the base and {} of the tuned model", base.lost_targets, tuned.lost_targets),
        false => format!("{} tokens", base.lost_targets),
    };
    if base.lost_targets + tuned.lost_targets > 0 {
        notes.push(format!("{lost} begin a row of {context} tokens or a document and are not predicted"));
    }
    notes
}

/// Items of a group, or rows of a document, are one cluster. A text of a single document has nothing but its rows,
/// which then stand for themselves; the warning says so.
fn item_clusters(suite: &Suite, scores: &Scores, warnings: &mut Vec<String>) -> Vec<usize> {
    let documents = matches!(suite.items, Items::Text(_)) && suite.len() > 1;
    if matches!(suite.items, Items::Text(_)) && !documents && scores.items.len() > 1 {
        warnings.push("one document: its rows are taken as independent, so the interval may be too narrow".into());
    }
    let labels: Vec<Option<String>> = scores
        .items
        .iter()
        .map(|score| match suite.group(score.item) {
            Some(group) if suite.len() > 1 => Some(format!("group {group}")),
            _ if documents => Some(format!("document {}", score.item)),
            _ => None,
        })
        .collect();
    clusters(labels.iter().map(Option::as_deref))
}

/// Holm's correction over the suites that have a p value.
fn adjust(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known: Vec<f64> = p_values.iter().flatten().copied().collect();
    let mut adjusted = holm(&known).into_iter();
    p_values.iter().map(|p_value| p_value.and_then(|_| adjusted.next())).collect()
}

fn task_suites(measured: Vec<Measured<'_>>) -> Vec<SuiteComparison> {
    let p_values: Vec<Option<f64>> = measured.iter().map(|suite| suite.primary.p_value).collect();
    let adjusted = adjust(&p_values);
    let mut suites = Vec::with_capacity(measured.len());
    for (mut suite, (p_value, adjusted_p_value)) in measured.into_iter().zip(p_values.into_iter().zip(adjusted)) {
        let verdict = Verdict::Task(task_verdict(suite.primary.gain, adjusted_p_value));
        let Measure { base, tuned, .. } = suite.primary.measure;
        if let Some((chance, items)) = suite.chance() {
            if at_chance(tuned, chance, items) {
                suite.warnings.push(match chance > 0.0 {
                    true => format!("the tuned model answers no better than chance ({chance:.3})"),
                    false => "the tuned model answers nothing right".into(),
                });
            }
            if at_ceiling(base, items) {
                suite.warnings.push(format!("the base already has {base:.3} right: hardly room for a gain"));
            }
        }
        suites.push(suite.finish(Judged { verdict, informative: true, p_value, adjusted_p_value, margin: None }));
    }
    suites
}

fn general_suites(measured: Vec<Measured<'_>>, options: &CompareOptions) -> Vec<SuiteComparison> {
    let margin = |suite: &Measured<'_>| match suite.primary.measure.kind {
        MeasureKind::BitsPerByte => options.nll_margin * bits_of_a_nat(&suite.pairs.base),
        kind if kind.higher_is_better() => options.accuracy_margin,
        _ => options.nll_margin,
    };
    let p_value = |suite: &Measured<'_>| suite.primary.p_value_of_loss(margin(suite));
    let p_values: Vec<Option<f64>> = measured.iter().map(p_value).collect();
    let adjusted = adjust(&p_values);
    let mut suites = Vec::with_capacity(measured.len());
    for (mut suite, (p_value, adjusted_p_value)) in measured.into_iter().zip(p_values.into_iter().zip(adjusted)) {
        let margin = margin(&suite);
        let gain = suite.primary.gain;
        let needed = gain.and_then(|gain| items_needed(suite.pairs.base.items.len(), gain, margin));
        let mut verdict = general_verdict(gain, adjusted_p_value, margin, needed);
        if suite.identical() {
            // The same score on every item, bit for bit: nothing was lost, however few items there are.
            verdict = GeneralVerdict::NoForgettingShown;
            suite.warnings.push("both models give exactly the same scores".into());
        }
        let guessing = nothing_to_forget(&suite);
        if let Some(why) = &guessing {
            suite.warnings.push(format!("{why}: the suite says nothing about forgetting"));
            if verdict != GeneralVerdict::Forgot {
                verdict = GeneralVerdict::CannotTell { needed: None };
            }
        }
        let (verdict, informative) = (Verdict::General(verdict), guessing.is_none());
        let margin = Some(margin);
        suites.push(suite.finish(Judged { verdict, informative, p_value, adjusted_p_value, margin }));
    }
    suites
}

/// Why a base has nothing to lose on a suite, where that is so.
fn nothing_to_forget(suite: &Measured<'_>) -> Option<String> {
    let base = suite.primary.measure.base;
    if suite.primary.measure.kind.higher_is_better() && base == 0.0 {
        return Some(format!("the base's {} is 0", suite.primary.measure.kind.name()));
    }
    let (chance, _) = suite.chance().filter(|&(chance, items)| at_chance(base, chance, items))?;
    Some(format!("the base answers no better than chance ({chance:.3})"))
}

/// Bits per byte that a nat per token comes to, by the base's own tokens: margins are given per token.
fn bits_of_a_nat(base: &Scores) -> f64 {
    let tokens: f64 = base.items.iter().map(|item| item.targets as f64).sum();
    let bytes: f64 = base.items.iter().map(|item| item.bytes).sum();
    tokens / bytes / std::f64::consts::LN_2
}

fn task_outcome(suites: &[SuiteComparison]) -> Option<TaskOutcome> {
    let any = |verdict| suites.iter().any(|suite| suite.verdict == Verdict::Task(verdict));
    let outcome = match (any(TaskVerdict::Better), any(TaskVerdict::Worse)) {
        (true, true) => TaskOutcome::Mixed,
        (true, false) => TaskOutcome::Better,
        (false, true) => TaskOutcome::Worse,
        (false, false) => TaskOutcome::NoDifferenceShown,
    };
    (!suites.is_empty()).then_some(outcome)
}

/// Forgetting on any suite counts; its absence has to be shown on each suite that can tell.
fn general_outcome(suites: &[SuiteComparison]) -> Option<GeneralOutcome> {
    let is = |suite: &SuiteComparison, verdict| suite.verdict == Verdict::General(verdict);
    let forgot = suites.iter().any(|suite| is(suite, GeneralVerdict::Forgot));
    let mut informative = suites.iter().filter(|suite| suite.informative).peekable();
    let outcome = if forgot {
        GeneralOutcome::Forgot
    } else if informative.peek().is_some() && informative.all(|suite| is(suite, GeneralVerdict::NoForgettingShown)) {
        GeneralOutcome::NoForgettingShown
    } else {
        GeneralOutcome::CannotTell
    };
    (!suites.is_empty()).then_some(outcome)
}

#[cfg(test)]
#[path = "comparison_tests.rs"]
mod tests;
