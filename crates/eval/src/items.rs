//! What became of every item under both models: the answers side by side, and which the tuned model fixed or broke.
//! Reports read this; verdicts don't.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::comparison::Scored;
use crate::error::EvalError;
use crate::kinds::extraction::SpanMatch;
use crate::kinds::generated::{ReplyEnd, TextMatch};
use crate::pairing::{pairs, tokenizers_differ};
use crate::score::{Answer, ItemScore};
use crate::suite::{Items, JudgedBy, PairItem, Suite};

/// How an item's answer changed from the base to the tuned model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Wrong by the base, right by the tuned model.
    Fixed,
    /// Right by the base, wrong by the tuned model.
    Broke,
    /// Right by both.
    BothRight,
    /// Wrong by both.
    BothWrong,
}

/// One model on one item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelResult {
    /// Summed NLL of the targets, nats.
    pub nll: f64,
    /// Targets in `nll`.
    pub targets: usize,
    /// Bytes of text that these stand for.
    pub bytes: f64,
    /// What the model would answer, where an item has candidates, or what it answers, where answers are generated.
    pub answer: Option<String>,
    /// Why a generated answer ended.
    pub end: Option<ReplyEnd>,
    /// The item's own value of the measure that decides, where that is one of generated answers: 1 or 0, chrF, F1.
    pub score: Option<f64>,
    /// Rank of the continuation of a cloze.
    pub rank: Option<u32>,
    /// Whether that is right.
    pub right: Option<bool>,
    /// Summed NLL of each candidate, in the order of the suite's labels or of the item's choices.
    pub candidates: Option<Vec<f64>>,
}

impl ModelResult {
    /// NLL per target, nats.
    #[must_use]
    pub fn nll_per_token(&self) -> f64 {
        self.nll / self.targets as f64
    }

    /// NLL per byte of text, bits.
    #[must_use]
    pub fn bits_per_byte(&self) -> f64 {
        self.nll / self.bytes / std::f64::consts::LN_2
    }
}

/// One item, or one row of a text, under both models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemResult {
    /// Index in the suite, from 0; the rows of a text share it.
    pub item: usize,
    /// `file:line`, or the file where it is the text.
    pub place: String,
    /// What it shares with items that aren't independent of it.
    pub group: Option<String>,
    /// Text before the answer; `None` for running text.
    pub prompt: Option<String>,
    /// The right answer; `None` for running text.
    pub expected: Option<String>,
    /// Of the untouched base.
    pub base: ModelResult,
    /// Of the tuned model.
    pub tuned: ModelResult,
    /// How the answer changed, where there is right and wrong.
    pub change: Option<Change>,
    /// Whether tokens of one model are none of the other.
    #[serde(skip)]
    pub tokenizers_differ: bool,
}

impl ItemResult {
    /// Rise of the answer's own score from base to tuned, else fall of the NLL per target, nats, or where the models have
    /// different tokenizers of the bits per byte: above zero where the tuned model is better.
    #[must_use]
    pub fn gain(&self) -> f64 {
        match self.base.score.zip(self.tuned.score) {
            Some((base, tuned)) => tuned - base,
            None if self.tokenizers_differ => self.base.bits_per_byte() - self.tuned.bits_per_byte(),
            None => self.base.nll_per_token() - self.tuned.nll_per_token(),
        }
    }
}

/// Every item of a suite, in file order. Where the models have different tokenizers, the rows of a document are one.
/// Errors: scores that don't belong together.
pub fn item_results(scored: &Scored) -> Result<Vec<ItemResult>, EvalError> {
    let (suite, paired) = (&scored.suite, pairs(scored)?);
    let pair = |(base, tuned): (&ItemScore, &ItemScore)| {
        let (prompt, expected) = texts(suite, base.item).unzip();
        let (base_result, tuned_result) = (model_result(suite, base), model_result(suite, tuned));
        ItemResult {
            item: base.item,
            place: suite.place(base.item),
            group: suite.group(base.item).map(str::to_owned),
            prompt,
            expected,
            change: base_result.right.zip(tuned_result.right).map(change),
            base: base_result,
            tuned: tuned_result,
            tokenizers_differ: tokenizers_differ(scored),
        }
    };
    Ok(paired.base.items.iter().zip(&paired.tuned.items).map(pair).collect())
}

/// Counts of the right label (rows) by the answered label (columns), labels in the suite's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The labels, as the suite writes them.
    pub labels: Vec<String>,
    /// Of the untouched base.
    pub base: Vec<Vec<usize>>,
    /// Of the tuned model.
    pub tuned: Vec<Vec<usize>>,
}

/// The confusion matrices of a classification; `None` for other suites.
#[must_use]
pub fn confusion(scored: &Scored) -> Option<Confusion> {
    let Items::Pairs { items, labels: Some(labels) } = &scored.suite.items else { return None };
    let index: BTreeMap<&str, usize> =
        labels.iter().enumerate().map(|(index, label)| (label.as_str(), index)).collect();
    let count = |scores: &[ItemScore]| {
        let mut counts = vec![vec![0; labels.len()]; labels.len()];
        for (score, answer) in scores.iter().filter_map(|score| Some((score, score.answer.as_ref()?))) {
            if let Some(&gold) = items.get(score.item).and_then(|item| index.get(item.completion.as_str())) {
                counts[gold][answer.choice] += 1;
            }
        }
        counts
    };
    let (base, tuned) = (count(&scored.base.items), count(&scored.tuned.items));
    Some(Confusion { labels: labels.clone(), base, tuned })
}

fn change(right: (bool, bool)) -> Change {
    match right {
        (false, true) => Change::Fixed,
        (true, false) => Change::Broke,
        (true, true) => Change::BothRight,
        (false, false) => Change::BothWrong,
    }
}

fn model_result(suite: &Suite, score: &ItemScore) -> ModelResult {
    let answer = score.answer.as_ref();
    let reply = score.reply.as_ref();
    let (right, own) = judged(suite, score);
    ModelResult {
        nll: score.nll,
        targets: score.targets,
        bytes: score.bytes,
        answer: answer.map(|answer| answer_text(suite, score.item, answer)).or_else(|| Some(reply?.text.clone())),
        end: reply.map(|reply| reply.end),
        score: own,
        rank: score.rank,
        right: answer.map(|answer| answer.right).or(right).or_else(|| Some(score.rank? == 1)),
        candidates: answer.map(|answer| answer.candidates.clone()),
    }
}

/// Whether a generated answer is right, where that is asked, and its own score.
fn judged(suite: &Suite, score: &ItemScore) -> (Option<bool>, Option<f64>) {
    let Items::Generated { items, judged, .. } = &suite.items else { return (None, None) };
    let Some((item, reply)) = items.get(score.item).zip(score.reply.as_ref()) else { return (None, None) };
    match judged {
        JudgedBy::Exact => {
            let right = TextMatch::of(item, reply).exact;
            (Some(right), Some(f64::from(u8::from(right))))
        }
        JudgedBy::Text => (None, Some(TextMatch::of(item, reply).chrf())),
        JudgedBy::Extraction => {
            let found = SpanMatch::of(item, reply);
            (Some(found.whole()), Some(found.f1()))
        }
    }
}

/// Prompt and right answer of an item; further right answers follow, one a line.
fn texts(suite: &Suite, item: usize) -> Option<(String, String)> {
    match &suite.items {
        Items::Pairs { items, .. } | Items::Generated { items, .. } | Items::Cloze(items) => {
            let answers = |item: &PairItem| item.answers().collect::<Vec<_>>().join("\n");
            items.get(item).map(|item| (item.prompt.clone(), answers(item)))
        }
        Items::MultipleChoice { items, .. } => {
            items.get(item).map(|item| (item.query.clone(), item.choices[item.gold].clone()))
        }
        Items::Text(_) => None,
    }
}

fn answer_text(suite: &Suite, item: usize, answer: &Answer) -> String {
    let candidates = match &suite.items {
        Items::Pairs { labels, .. } => labels.as_ref(),
        Items::MultipleChoice { items, .. } => items.get(item).map(|item| &item.choices),
        Items::Generated { .. } | Items::Cloze(_) | Items::Text(_) => None,
    };
    candidates.and_then(|candidates| candidates.get(answer.choice)).cloned().unwrap_or_default()
}

#[cfg(test)]
#[path = "items_tests.rs"]
mod tests;
