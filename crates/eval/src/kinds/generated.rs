//! Kinds whose answers are generated: the limits of an answer, how answers come from a model, and the measures of answers
//! as texts (`exact` and `generate`). Answers with typed spans are measured in `extraction`.
//!
//! Generation is greedy. An answer ends at the end token, at a stop text, which isn't part of it, after `max_tokens`, or
//! where the context is full. Every answer is compared without the white space around it.

use outcrop_data::{TextTokenizer, encode_prompt};
use outcrop_model::generate::{Finish, Options};
use serde::{Deserialize, Serialize};

use crate::bootstrap::Tally;
use crate::error::EvalError;
use crate::measures::{Evidence, Measure, MeasureKind, Paired};
use crate::metrics::{chrf, rouge, squad};
use crate::score::{ItemScore, Scorer, Scores};
use crate::suite::{PairItem, Suite, SuiteKind};

/// Most new tokens of an answer where the header doesn't say.
pub(crate) const MAX_TOKENS: usize = 128;

/// When an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most new tokens.
    pub max_tokens: usize,
    /// Texts that end an answer and aren't part of it.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyEnd {
    /// The end token or a stop text came.
    Stop,
    /// It has as many tokens as it may.
    Length,
    /// The context is full.
    Context,
}

/// A generated answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The text up to where it ended.
    pub text: String,
    /// Why it ended.
    pub end: ReplyEnd,
    /// Tokens that were made.
    pub tokens: usize,
}

/// An answer to be generated.
struct Asked {
    item: usize,
    prompt: Vec<u32>,
    /// Most new tokens, by the limits and the room in the context.
    most: usize,
}

/// The answers of a model to every item, in order. Prompts are answered some at a time, as many as have `max_batch_tokens`
/// tokens with their answers, those with like lengths together; `done` hears of each.
/// Errors: a prompt that fills the context, by file and line; the model's and the tokenizer's own.
pub(crate) fn replies(
    suite: &Suite,
    (items, limits): (&[PairItem], &Limits),
    (tokenizer, context): (&TextTokenizer, usize),
    scorer: &mut dyn Scorer,
    max_batch_tokens: usize,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Reply>, EvalError> {
    let mut asked = Vec::with_capacity(items.len());
    for (item, pair) in items.iter().enumerate() {
        let refuse = |message: String| EvalError::Item { place: suite.place(item), message };
        let prompt = encode_prompt(tokenizer, &pair.prompt).map_err(|error| refuse(error.to_string()))?;
        let room = context.saturating_sub(prompt.len());
        if room == 0 {
            let length = prompt.len();
            return Err(refuse(format!(
                "the prompt is {length} tokens long, the context holds {context}; shorten it or use a longer context"
            )));
        }
        asked.push(Asked { item, most: limits.max_tokens.min(room), prompt });
    }
    asked.sort_by_key(|asked| std::cmp::Reverse(asked.prompt.len())); // stable: the same runs each time
    let mut replies: Vec<Option<Reply>> = vec![None; items.len()];
    let mut rest = asked.as_slice();
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |asked: &&Asked| {
            tokens += asked.prompt.len() + asked.most;
            tokens <= max_batch_tokens
        };
        let (batch, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = others;
        for (asked, reply) in batch.iter().zip(answers(batch, limits, tokenizer, scorer)?) {
            replies[asked.item] = Some(reply);
            done(asked.item);
        }
    }
    Ok(replies.into_iter().flatten().collect())
}

/// The answers to a batch.
fn answers(
    batch: &[Asked],
    limits: &Limits,
    tokenizer: &TextTokenizer,
    scorer: &mut dyn Scorer,
) -> Result<Vec<Reply>, EvalError> {
    let prompts: Vec<Vec<u32>> = batch.iter().map(|asked| asked.prompt.clone()).collect();
    let options = Options { max_tokens: limits.max_tokens, stop: vec![tokenizer.eos()], ..Options::default() };
    let mut made: Vec<Vec<u32>> = vec![Vec::new(); batch.len()];
    let mut stopped: Vec<Option<String>> = vec![None; batch.len()];
    let mut failure = None;
    let finishes = scorer.generate(&prompts, &options, &mut |index, token| {
        made[index].push(token);
        match stop_at(&made[index], limits, tokenizer) {
            Ok(text) => stopped[index] = text,
            Err(error) => failure = Some(error),
        }
        failure.is_none() && stopped[index].is_none() && made[index].len() < batch[index].most
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    if finishes.len() != batch.len() {
        return Err(EvalError::scorer(format!("it gave {} answers to {} prompts", finishes.len(), batch.len())));
    }
    let reply = |(index, finish): (usize, Finish)| {
        let tokens = made[index].len();
        let end = match finish {
            Finish::Stop => ReplyEnd::Stop,
            _ if stopped[index].is_some() => ReplyEnd::Stop,
            _ if tokens >= limits.max_tokens => ReplyEnd::Length,
            _ => ReplyEnd::Context,
        };
        let text = match stopped[index].take() {
            Some(text) => text,
            None => tokenizer.decode(&made[index]).map_err(outcrop_data::DataError::from)?,
        };
        Ok(Reply { text, end, tokens })
    };
    finishes.into_iter().enumerate().map(reply).collect()
}

/// The text before the first stop text, once there is one.
fn stop_at(made: &[u32], limits: &Limits, tokenizer: &TextTokenizer) -> Result<Option<String>, EvalError> {
    if limits.stop.is_empty() {
        return Ok(None);
    }
    let text = tokenizer.decode(made).map_err(outcrop_data::DataError::from)?;
    let first = limits.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
    Ok(first.map(|at| text[..at].to_owned()))
}

/// An answer against the right ones.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TextMatch {
    /// Whether it is one of them.
    pub(crate) exact: bool,
    /// Whether it is by SQuAD's normalisation.
    pub(crate) normalised: bool,
    /// What it adds to a corpus's chrF.
    statistics: [f64; chrf::STATISTICS],
    rouge_l: f64,
}

impl TextMatch {
    pub(crate) fn of(item: &PairItem, reply: &Reply) -> Self {
        let answer = reply.text.trim();
        let right = || item.answers().map(str::trim);
        let normalised = squad::normalised(answer);
        Self {
            exact: right().any(|right| right == answer),
            normalised: right().any(|right| squad::normalised(right) == normalised),
            statistics: chrf::statistics(answer, right()),
            rouge_l: rouge::rouge_l(answer, right()),
        }
    }

    /// The answer's own chrF.
    pub(crate) fn chrf(&self) -> f64 {
        chrf::score(&self.statistics)
    }
}

/// The measures of `exact` and `generate`, the one that decides first; `None` where an item has no answer.
pub(crate) fn measures(kind: SuiteKind, items: &[PairItem], paired: &Paired<'_>) -> Option<(Evidence, Vec<Measure>)> {
    let matches = paired.items().map(|(base, tuned)| {
        let of = |score: &ItemScore| Some(TextMatch::of(items.get(score.item)?, score.reply.as_ref()?));
        Some([of(base)?, of(tuned)?])
    });
    let matches: Vec<[TextMatch; 2]> = matches.collect::<Option<_>>()?;
    let share = |kind, of: fn(&TextMatch) -> bool| {
        let pairs: Vec<(bool, bool)> = matches.iter().map(|[base, tuned]| (of(base), of(tuned))).collect();
        paired.shares(kind, &pairs)
    };
    let exact = share(MeasureKind::ExactMatch, |found| found.exact)?;
    let normalised = share(MeasureKind::NormalisedMatch, |found| found.normalised)?;
    let sums = matches.iter().map(|[base, tuned]| base.statistics.into_iter().chain(tuned.statistics).enumerate());
    let tally = Tally::new(2 * chrf::STATISTICS, paired.clusters, sums);
    let own: Vec<(f64, f64)> = matches.iter().map(|[base, tuned]| (base.chrf(), tuned.chrf())).collect();
    let chrf = paired.of_sums_and_items(MeasureKind::ChrF, &tally, chrf::score, &own);
    let own: Vec<(f64, f64)> = matches.iter().map(|[base, tuned]| (base.rouge_l, tuned.rouge_l)).collect();
    let rouge = paired.mean(MeasureKind::RougeL, &own);
    let mut rest = vec![exact.measure.clone(), normalised.measure, chrf.measure.clone(), rouge.measure];
    let decides = if kind == SuiteKind::Generate { chrf } else { exact };
    rest.retain(|measure| measure.kind != decides.measure.kind);
    rest.extend(rates(paired)?);
    Some((decides, rest))
}

/// How many answers ended by themselves, and how many say nothing.
pub(crate) fn rates(paired: &Paired<'_>) -> Option<Vec<Measure>> {
    let rate = |kind, of: fn(&Reply) -> bool| {
        let pairs: Option<Vec<(bool, bool)>> =
            paired.items().map(|(base, tuned)| Some((of(base.reply.as_ref()?), of(tuned.reply.as_ref()?)))).collect();
        Some(paired.rate(kind, &pairs?))
    };
    Some(vec![
        rate(MeasureKind::StopRate, |reply| reply.end == ReplyEnd::Stop)?,
        rate(MeasureKind::EmptyRate, |reply| reply.text.trim().is_empty())?,
    ])
}

/// What a reader should know of how answers ended.
pub(crate) fn notes(limits: &Limits, paired: &Paired<'_>) -> Vec<String> {
    let mut notes = vec![match limits.stop.as_slice() {
        [] => format!("greedy answers of at most {} tokens", limits.max_tokens),
        stop => {
            let stop: Vec<String> = stop.iter().map(|text| format!("{text:?}")).collect();
            format!("greedy answers of at most {} tokens, ended by {}", limits.max_tokens, stop.join(" or "))
        }
    }];
    let full = |reply: &Option<Reply>| reply.as_ref().is_some_and(|reply| reply.end == ReplyEnd::Context);
    let count = |scores: &Scores| scores.items.iter().filter(|item| full(&item.reply)).count();
    let (base, tuned) = (count(paired.base), count(paired.tuned));
    if base + tuned > 0 {
        notes.push(format!(
            "the context was full before the answer ended in {base} items by the base, {tuned} by the tuned model"
        ));
    }
    notes
}

#[cfg(test)]
#[path = "generated_tests.rs"]
mod tests;
