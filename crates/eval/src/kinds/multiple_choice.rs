//! Questions with written choices: how their lines are read and how a choice follows its question, as
//! lm-evaluation-harness joins them. Which choice counts is in `score`.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::EvalError;
use crate::lines::{Line, fault, record};
use crate::suite::ChoiceItem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoiceRecord {
    query: String,
    choices: Vec<String>,
    gold: usize,
    answer: Option<String>,
    id: Option<String>,
    group: Option<String>,
}

/// The questions, and a note on each that has a choice twice, which is scored as it stands.
pub(crate) fn questions(path: &Path, lines: &[Line<'_>]) -> Result<(Vec<ChoiceItem>, Vec<String>), EvalError> {
    let mut notes = Vec::new();
    let mut seen = HashMap::new();
    let mut items = Vec::with_capacity(lines.len());
    for &line in lines {
        let record: ChoiceRecord = record(path, line)?;
        let mut message = question_fault(&record);
        if let Some(id) = &record.id
            && let Some(earlier) = seen.insert(id.clone(), line.number)
        {
            message = Some(format!("`id` is `{id}`, which line {earlier} has already"));
        }
        if let Some(message) = message {
            return Err(fault(path, line.number, 1, message));
        }
        let ChoiceRecord { query, choices, gold, group, .. } = record;
        let twice = choices.iter().enumerate().find(|&(i, choice)| choices[..i].contains(choice));
        notes.extend(twice.map(|(_, choice)| format!("line {}: choice `{choice}` is given twice", line.number)));
        items.push(ChoiceItem { line: line.number, query, choices, gold, group });
    }
    Ok((items, notes))
}

/// What is wrong with a question, if anything.
fn question_fault(record: &ChoiceRecord) -> Option<String> {
    let ChoiceRecord { query, choices, gold, answer, .. } = record;
    if query.trim().is_empty() {
        // The first token of a row has no prediction, so a choice alone could not be scored.
        return Some("`query` is blank; a choice is scored as what follows the query".into());
    }
    if choices.len() < 2 {
        return Some(format!("{} in `choices`; give two or more", choices.len()));
    }
    let Some(right) = choices.get(*gold) else {
        let last = choices.len() - 1;
        return Some(format!("`gold` is {gold}; it counts from 0, so at most {last} here"));
    };
    if let Some(answer) = answer
        && answer != right
    {
        return Some(format!("`answer` is `{answer}`, but `gold` points to `{right}`"));
    }
    choices.iter().position(|choice| choice.trim().is_empty()).map(|i| format!("choice {i} is blank"))
}

/// Prompt and continuation of a choice, as lm-evaluation-harness splits them: the query, trimmed, with the delimiter,
/// but the white space that ends it goes to the continuation.
pub(crate) fn joined(query: &str, delimiter: &str, choice: &str) -> (String, String) {
    let before = format!("{}{delimiter}", query.trim());
    let prompt = before.trim_end();
    let continuation = format!("{}{choice}", &before[prompt.len()..]);
    (prompt.to_owned(), continuation)
}
