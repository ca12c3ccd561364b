//! From an item of a suite to the rows a model scores: one for a pair, one for each label or choice, as many as it
//! takes for a text. Tokens come from `outcrop-data`'s functions, the ones training uses (R5).

use outcrop_data::{Example, Pair, TextTokenizer, completion_text, cut, encode_document, encode_pair};

use crate::error::EvalError;
use crate::header::joined;
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
        Items::Pairs { items, labels: None } => {
            let pair = &items[item];
            one_row(&pair.prompt, &pair.completion, true).map(|row| vec![row])
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

/// The rows of a text that have a target.
fn text_rows(tokenizer: &TextTokenizer, text: &str, context: usize, stride: Option<usize>) -> Result<Layout, String> {
    let document = encode_document(tokenizer, text).map_err(|error| error.to_string())?;
    let bos = usize::from(tokenizer.bos().is_some());
    let text_tokens = document.tokens.len().saturating_sub(bos).max(1) as f64;
    let cut = match stride {
        Some(stride) => strided(&document, context, stride),
        None => cut(&document, context).rows,
    };
    let rows: Vec<Row> = cut
        .into_iter()
        .filter(|row| row.target_tokens() > 0)
        .map(|example| {
            let bytes = text.len() as f64 * example.target_tokens() as f64 / text_tokens;
            Row { example, bytes }
        })
        .collect();
    let seen: u64 = rows.iter().map(|row| row.example.target_tokens()).sum();
    Ok(Layout { rows, lost_targets: document.tokens.len() as u64 - bos as u64 - seen })
}

/// Rows of `window` tokens, each `stride` further on; a token is a target of the first row that has it behind another.
/// Source: "Perplexity of fixed-length models", Hugging Face's documentation.
fn strided(document: &Example, window: usize, stride: usize) -> Vec<Example> {
    let length = document.tokens.len();
    let (mut rows, mut first, mut unseen) = (Vec::new(), 0, 0);
    while first < length {
        let end = (first + window).min(length);
        let inside = |&(from, to): &(u32, u32)| {
            let (from, to) = ((from as usize).max(unseen).max(first + 1), (to as usize).min(end));
            (from < to).then(|| ((from - first) as u32, (to - first) as u32))
        };
        let targets = document.targets.iter().filter_map(inside).collect();
        rows.push(Example { tokens: document.tokens[first..end].to_vec(), targets });
        (unseen, first) = (end, if end == length { length } else { first + stride });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(length: u32) -> Example {
        Example { tokens: (100..100 + length).collect(), targets: vec![(1, length)] }
    }

    /// Token and number of tokens before it in its row, of every target.
    fn targets(rows: &[Example]) -> Vec<(u32, u32)> {
        let of_row = |row: &Example| {
            let places: Vec<u32> = row.targets.iter().flat_map(|&(from, to)| from..to).collect();
            places.into_iter().map(|place| (row.tokens[place as usize], place)).collect::<Vec<_>>()
        };
        rows.iter().flat_map(of_row).collect()
    }

    #[test]
    fn strided_rows_predict_every_token_once_behind_what_the_window_leaves() {
        for (length, window, stride) in [(10, 4, 2), (11, 4, 1), (9, 5, 3), (3, 8, 2), (8, 4, 2), (1, 4, 2)] {
            let rows = strided(&document(length), window, stride);
            assert!(rows.iter().all(|row| row.tokens.len() <= window));
            let found = targets(&rows);
            let tokens: Vec<u32> = found.iter().map(|&(token, _)| token).collect();
            assert_eq!(tokens, (101..100 + length).collect::<Vec<_>>(), "{length} {window} {stride}");
            let later = found.iter().filter(|&&(token, _)| token >= 100 + window as u32);
            assert!(later.clone().all(|&(_, before)| before >= (window - stride) as u32), "{found:?}");
        }
        // as Hugging Face's loop cuts ten tokens with max_length 4 and stride 2
        let begins: Vec<u32> = strided(&document(10), 4, 2).iter().map(|row| row.tokens[0]).collect();
        assert_eq!(begins, [100, 102, 104, 106]);
    }

    #[test]
    fn rows_that_do_not_overlap_lose_their_first_tokens() {
        let found = targets(&strided(&document(9), 4, 4));
        assert_eq!(found.iter().map(|&(token, _)| token).collect::<Vec<_>>(), [101, 102, 103, 105, 106, 107]);
    }
}
