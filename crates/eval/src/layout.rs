//! From an item of a suite to the rows a model scores: one for a pair, one for each label or choice, as many as it
//! takes for a text. Tokens come from `outcrop-data`'s functions, the ones training uses (R5).

use outcrop_data::{Example, Pair, TextTokenizer, completion_text, encode_pair};

use crate::error::EvalError;
use crate::kinds::multiple_choice::joined;
use crate::kinds::text::text_rows;
use crate::suite::{ChoiceItem, Items, PairItem, Suite};

/// A row to be scored alone or packed with others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) example: Example,
    /// Bytes of text that its targets stand for.
    pub(crate) bytes: f64,
}

/// The rows of one item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    pub(crate) rows: Vec<Row>,
    /// Targets of a text that begin a row and so have no prediction.
    pub(crate) lost_targets: u64,
}

/// Lays out item `item` of the suite. Errors: a pair or question longer than `context`; one that can't be split into
/// prompt and completion (R6); a choice without a token; the tokenizer's own. All name file and line.
pub(crate) fn layout(
    suite: &Suite,
    item: usize,
    tokenizer: &TextTokenizer,
    context: usize,
) -> Result<Layout, EvalError> {
    let refuse = |message: String| EvalError::Item { place: suite.place(item), message };
    let one_row = |prompt: &str, completion: &str, end: bool| {
        let row = pair_row(tokenizer, prompt, completion, end).map_err(refuse)?;
        let length = row.example.tokens.len();
        if length > context {
            return Err(refuse(format!(
                "the item is {length} tokens long, the context holds {context}; shorten it or use a longer context"
            )));
        }
        Ok(row)
    };
    let rows: Result<Vec<Row>, EvalError> = match &suite.items {
        Items::Pairs { items, labels: None } | Items::Generated { items, .. } => {
            let pair = &items[item];
            one_row(&pair.prompt, &pair.completion, true).map(|row| vec![row])
        }
        Items::Cloze(items) => {
            let pair = &items[item];
            one_row(&pair.prompt, &pair.completion, false).map(|row| vec![row])
        }
        Items::Pairs { items, labels: Some(labels) } => {
            let PairItem { prompt, completion, .. } = &items[item];
            if !labels.contains(completion) {
                return Err(refuse(format!("completion `{completion}` is none of the labels; name it among them")));
            }
            labels.iter().map(|label| one_row(prompt, label, true)).collect()
        }
        Items::MultipleChoice { items, delimiter } => {
            let ChoiceItem { query, choices, gold, .. } = &items[item];
            if *gold >= choices.len() {
                return Err(refuse(format!("`gold` is {gold}, but there are {} choices", choices.len())));
            }
            let row = |choice: &String| match delimiter {
                Some(delimiter) => {
                    let (prompt, continuation) = joined(query, delimiter, choice);
                    one_row(&prompt, &continuation, false)
                }
                None => one_row(query, choice, false),
            };
            choices.iter().map(row).collect()
        }
        Items::Text(items) => {
            return text_rows(tokenizer, &items[item].text, context, suite.windows.stride).map_err(refuse);
        }
    };
    Ok(Layout { rows: rows?, lost_targets: 0 })
}

/// The row of a prompt and what follows it, with the end token or without.
fn pair_row(tokenizer: &TextTokenizer, prompt: &str, completion: &str, end: bool) -> Result<Row, String> {
    let Pair { mut example, prompt_length } =
        encode_pair(tokenizer, prompt, completion).map_err(|error| error.to_string())?;
    if !end {
        example.tokens.pop();
        let length = example.tokens.len() as u32;
        example.targets.iter_mut().for_each(|span| span.1 = span.1.min(length));
        example.targets.retain(|(start, end)| start < end);
    }
    let targets = example.target_tokens();
    if targets == 0 {
        return Err(format!("`{completion}` has no token that can be predicted; give a longer one"));
    }
    let text_bytes = completion_text(prompt, completion).len() as f64;
    let text_tokens = example.tokens.len().saturating_sub(prompt_length).max(1) as f64;
    Ok(Row { bytes: text_bytes * targets as f64 / text_tokens, example })
}
