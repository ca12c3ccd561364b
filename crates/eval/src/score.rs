//! Scores: the negative log-likelihood of every item of a suite under one model, by the same tokens as training (R5), with
//! ranks and generated answers where its kind asks for them. Batches are made in `packing`, answers in
//! `kinds::generated`; what the scores mean is left to `comparison`.

use serde::{Deserialize, Serialize};

use outcrop_data::{Batch, Fullness, TextTokenizer};
use outcrop_model::generate::{Finish, Options};

use crate::error::EvalError;
use crate::exact;
use crate::kinds::generated::replies;
pub use crate::kinds::generated::{Reply, ReplyEnd};
use crate::layout::layout;
use crate::packing::{Packer, RowScore};
use crate::suite::{Items, Suite};

/// What is asked of a model. Errors: whatever stops it, by [`EvalError::scorer`].
pub trait Scorer {
    /// The negative log-likelihood (nats) of each of `batch.targets`, in their order.
    fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError>;

    /// The same with the rank of the token that follows each target, among the whole vocabulary: 1 where greedy
    /// generation would give it.
    fn ranks(&mut self, batch: &Batch) -> Result<Vec<(f32, u32)>, EvalError>;

    /// Texts after the prompts: `on_token` hears of the prompt's index and each new token, and ends its text by false. The
    /// model's own stop tokens end a text beside those of `options`. A prompt's text doesn't depend on the others.
    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Options,
        on_token: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<Vec<Finish>, EvalError>;
}

/// The scores of one model on one suite.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// [`Suite::hash`] of the suite.
    pub suite_hash: String,
    /// Hash of the tokenizer that made the tokens.
    pub tokenizer_hash: String,
    /// Most tokens in a row.
    pub context: usize,
    /// In file order. For pairs and questions one an item; for text one a row of at most `context` tokens, so that a
    /// document can have several.
    pub items: Vec<ItemScore>,
    /// Tokens of texts that begin a row and so have no prediction. They enter no sum.
    pub lost_targets: u64,
    /// How full the batches were.
    #[serde(default)]
    pub packing: Fullness,
}

impl Scores {
    /// Sum of the NLLs over the sum of the targets, nats per token (R13): the same for every batching.
    #[must_use]
    pub fn nll_per_token(&self) -> f64 {
        let nll: f64 = self.items.iter().map(|item| item.nll).sum();
        nll / self.items.iter().map(|item| item.targets as f64).sum::<f64>()
    }
}

/// The score of an item, or of a row of a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemScore {
    /// Index of the item in the suite, which knows its place and its group.
    pub item: usize,
    /// Sum of the NLLs of the targets, nats: of the completion and its end token, of the right choice, or of the row.
    #[serde(with = "exact")]
    pub nll: f64,
    /// Number of targets in `nll`; one or more.
    pub targets: usize,
    /// Bytes of text that the targets stand for: the text's, times the share of its tokens that are targets.
    #[serde(with = "exact")]
    pub bytes: f64,
    /// What the model would answer, where an item has candidates.
    pub answer: Option<Answer>,
    /// What the model answers, where answers are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Rank of the continuation: the largest of its tokens', where they are ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
}

/// The likeliest candidate of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Summed NLL of each label (with the end token) or choice (without).
    #[serde(with = "exact::list")]
    pub candidates: Vec<f64>,
    /// Index of the smallest; of equals the first.
    pub choice: usize,
    /// Whether it is the right one.
    pub right: bool,
    /// Whether the candidate with the smallest NLL per character is the right one; `None` for labels.
    pub right_per_character: Option<bool>,
    /// The same per byte of UTF-8 of the candidate.
    pub right_per_byte: Option<bool>,
}

/// Scores a suite. `context` is the most tokens a row may have; `max_batch_tokens` bounds a packed batch, and a longer
/// row goes alone; `progress` hears how many of how many items are done.
///
/// Pairs are laid out as in training. Labels are scored as completions, with the end token. Choices follow the query by
/// the same rule or with the header's delimiter, without the end token, and count per choice, per character and per
/// byte. Continuations of a cloze have no end token, and their tokens are ranked. Texts are cut into rows that don't
/// overlap; the first token of a row has no prediction. Answers are generated after the NLLs are taken.
/// Errors: an item that is longer than `context` or can't be split (R6), by file and line; a model that fails or gives
/// something that is no NLL.
pub fn score(
    suite: &Suite,
    tokenizer: &TextTokenizer,
    context: usize,
    scorer: &mut dyn Scorer,
    max_batch_tokens: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Scores, EvalError> {
    if context < 2 {
        let message = format!("a context of {context} tokens predicts nothing; use 2 or more");
        return Err(EvalError::Suite { path: suite.path.clone(), message });
    }
    let mut packer = Packer::new(suite, max_batch_tokens);
    let mut shapes = Vec::new();
    let generated = match &suite.items {
        Items::Generated { items, limits, .. } => Some((items.as_slice(), limits)),
        _ => None,
    };
    let (mut lost_targets, mut scored) = (0, 0);
    let total = suite.len();
    let mut open = vec![0usize; total]; // rows of each item that are still to be scored
    let mut done = |open: &mut Vec<usize>, item: usize| {
        open[item] -= 1; // an answer to generate is one more
        if open[item] == 0 {
            scored += 1;
            progress(scored, total);
        }
    };
    for item in 0..total {
        let layout = layout(suite, item, tokenizer, context)?;
        lost_targets += layout.lost_targets;
        // one more, so that an item isn't done before all its rows are here
        open[item] = layout.rows.len() + 1 + usize::from(generated.is_some());
        for row in layout.rows {
            shapes.push(RowShape { item, targets: row.example.target_tokens() as usize, bytes: row.bytes });
            packer.push(item, row.example, scorer, &mut |item| done(&mut open, item))?;
        }
        done(&mut open, item);
    }
    let (rows, packing) = packer.finish(scorer, &mut |item| done(&mut open, item))?;
    let mut items = assemble(suite, &shapes, &rows);
    if let Some(asked) = generated {
        let done = &mut |item| done(&mut open, item);
        let replies = replies(suite, asked, (tokenizer, context), scorer, max_batch_tokens, done)?;
        items.iter_mut().zip(replies).for_each(|(item, reply)| item.reply = Some(reply));
    }
    if items.is_empty() {
        let message = "no token has a prediction; give longer texts".into();
        return Err(EvalError::Suite { path: suite.path.clone(), message });
    }
    let (suite_hash, tokenizer_hash) = (suite.hash.clone(), tokenizer.hash().to_owned());
    Ok(Scores { suite_hash, tokenizer_hash, context, items, lost_targets, packing })
}

/// What remains of a row once its tokens are gone.
#[derive(Debug, Clone, Copy)]
struct RowShape {
    item: usize,
    targets: usize,
    bytes: f64,
}

/// One score an item with candidates, else one a row.
fn assemble(suite: &Suite, shapes: &[RowShape], rows: &[RowScore]) -> Vec<ItemScore> {
    let nll: Vec<f64> = rows.iter().map(|row| row.nll).collect();
    let mut scores = Vec::new();
    let mut at = 0;
    while at < shapes.len() {
        let item = shapes[at].item;
        let candidates = match &suite.items {
            Items::Pairs { items, labels: Some(labels) } => {
                let gold = labels.iter().position(|label| *label == items[item].completion);
                let gold = gold.expect("`layout` refuses a completion that is no label");
                Some((labels.len(), gold, None))
            }
            Items::MultipleChoice { items, .. } => {
                Some((items[item].choices.len(), items[item].gold, Some(&items[item].choices)))
            }
            _ => None,
        };
        let (count, gold, choices) = candidates.unwrap_or((1, 0, None));
        let sums = &nll[at..at + count];
        let answer = candidates.map(|_| {
            let choice = smallest(sums.iter().copied());
            let right_per = |length: fn(&String) -> usize| {
                choices.map(|choices| {
                    let lengths = choices.iter().map(|choice| length(choice) as f64);
                    smallest(sums.iter().zip(lengths).map(|(sum, length)| sum / length)) == gold
                })
            };
            Answer {
                candidates: sums.to_vec(),
                choice,
                right: choice == gold,
                right_per_character: right_per(|choice| choice.chars().count()),
                right_per_byte: right_per(String::len),
            }
        });
        let RowShape { targets, bytes, .. } = shapes[at + gold];
        let rank = rows[at + gold].rank;
        scores.push(ItemScore { item, nll: sums[gold], targets, bytes, answer, reply: None, rank });
        at += count;
    }
    scores
}

/// Index of the smallest value; of equals the first.
fn smallest(values: impl Iterator<Item = f64>) -> usize {
    let pairs = values.enumerate();
    pairs.reduce(|best, next| if next.1 < best.1 { next } else { best }).map_or(0, |(index, _)| index)
}

#[cfg(test)]
#[path = "score_tests.rs"]
mod tests;
