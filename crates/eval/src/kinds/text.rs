//! Running text: `input` records, and the rows that a document is cut into. What is measured on them is in `comparison`.

use std::path::Path;

use outcrop_data::{Example, TextTokenizer, cut, encode_document};
use serde::Deserialize;

use crate::error::EvalError;
use crate::layout::{Layout, Row};
use crate::lines::{Line, fault, record};
use crate::suite::TextItem;

#[derive(Deserialize)]
struct InputRecord {
    input: String,
    group: Option<String>,
}

pub(crate) fn inputs(path: &Path, lines: &[Line<'_>]) -> Result<Vec<TextItem>, EvalError> {
    let item = |line: &Line<'_>| {
        let InputRecord { input, group } = record(path, *line)?;
        if input.is_empty() {
            return Err(fault(path, line.number, 1, "`input` is empty; remove the line"));
        }
        Ok(TextItem { path: path.into(), line: Some(line.number), text: input, group })
    };
    lines.iter().map(item).collect()
}

/// The rows of a text that have a target.
pub(crate) fn text_rows(
    tokenizer: &TextTokenizer,
    text: &str,
    context: usize,
    stride: Option<usize>,
) -> Result<Layout, String> {
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
