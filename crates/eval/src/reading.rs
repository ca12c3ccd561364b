//! The items of a JSON Lines suite. The kind stands in the header (see `header`) or follows from the keys of the first
//! line: `prompt` and `completion`, `query`, `choices` and `gold`, or `input`. Left out: text files (`suite`).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;

use crate::error::EvalError;
use crate::header::{Header, header};
use crate::lines::{Line, fault, key_list, lines, object, record};
use crate::suite::{ChoiceItem, Items, PairItem, SuiteKind, TextItem, Windows, completion_counts};

/// Most labels that a set of completions may have and still be scored as a classification.
const MOST_LABELS: usize = 20;
/// Fewest items a label, on average over the suite, for a classification.
const ITEMS_PER_LABEL: usize = 3;
/// Fewest items of every single label for a classification.
const ITEMS_OF_EACH_LABEL: usize = 2;

/// Keys of a pair; Bedrock's prompt datasets call the completion `referenceResponse`. Further keys are counted in a note,
/// since training files may carry some.
#[derive(Deserialize)]
struct PairRecord {
    prompt: String,
    #[serde(alias = "referenceResponse")]
    completion: String,
    group: Option<String>,
}

const PAIR_KEYS: &[&str] = &["prompt", "completion", "referenceResponse", "group"];

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

#[derive(Deserialize)]
struct InputRecord {
    input: String,
    group: Option<String>,
}

/// What a file says of its suite.
pub(crate) struct Parsed {
    /// The header's.
    pub(crate) name: Option<String>,
    pub(crate) items: Items,
    pub(crate) windows: Windows,
    pub(crate) notes: Vec<String>,
}

impl Parsed {
    /// Without a header.
    pub(crate) fn plain(items: Items, notes: Vec<String>) -> Self {
        Self { name: None, items, windows: Windows::default(), notes }
    }
}

/// The content of a JSON Lines text; the header decides the kind, else the first line.
pub(crate) fn json_lines(path: &Path, text: &str) -> Result<Parsed, EvalError> {
    let lines = lines(path, text)?;
    let refuse = |message: &str| Err(EvalError::Suite { path: path.into(), message: message.into() });
    let Some(&first) = lines.first() else { return refuse("the file has no lines") };
    let Some(Header { suite, kind, delimiter, window, stride }) = header(path, first)? else {
        let kind = kind_of(path, first)?;
        let (items, notes) = items(path, &lines, kind, None)?;
        return Ok(Parsed::plain(items, notes));
    };
    let lines = &lines[1..];
    if lines.is_empty() {
        return refuse("there is a header and no item; add the items, one a line");
    }
    let (mut items, notes) = items(path, lines, kind, delimiter)?;
    if let Items::Pairs { items, labels } = &mut items {
        *labels = match kind {
            SuiteKind::Classification => Some(named_labels(path, items)?),
            _ => None,
        };
    }
    Ok(Parsed { name: Some(suite), items, windows: Windows { window, stride }, notes })
}

/// The kind of a suite without a header, by the keys of its first line.
fn kind_of(path: &Path, first: Line<'_>) -> Result<SuiteKind, EvalError> {
    let keys = object(path, first)?;
    let has = |key: &str| keys.contains_key(key);
    if has("prompt") || has("completion") {
        Ok(SuiteKind::Pairs)
    } else if has("query") || has("choices") {
        Ok(SuiteKind::MultipleChoice)
    } else if has("input") && !has("output") {
        Ok(SuiteKind::Text)
    } else {
        let found = if keys.is_empty() { "no keys".into() } else { key_list(keys.keys()) };
        let message = format!(
            "found {found}; a suite needs `prompt` and `completion`, or `query`, `choices` and \
             `gold`, or `input`"
        );
        Err(fault(path, first.number, 1, message))
    }
}

/// The items of lines of one kind; pairs with the labels of the label rule.
fn items(
    path: &Path,
    lines: &[Line<'_>],
    kind: SuiteKind,
    delimiter: Option<String>,
) -> Result<(Items, Vec<String>), EvalError> {
    match kind {
        SuiteKind::Pairs | SuiteKind::Classification => {
            let items = pairs(path, lines)?;
            let labels = label_set(&items);
            Ok((Items::Pairs { items, labels }, extra_keys(path, lines, PAIR_KEYS)?))
        }
        SuiteKind::MultipleChoice => {
            let (items, notes) = questions(path, lines)?;
            Ok((Items::MultipleChoice { items, delimiter }, notes))
        }
        SuiteKind::Text => Ok((Items::Text(inputs(path, lines)?), extra_keys(path, lines, &["input", "group"])?)),
    }
}

fn pairs(path: &Path, lines: &[Line<'_>]) -> Result<Vec<PairItem>, EvalError> {
    let item = |line: &Line<'_>| {
        let PairRecord { prompt, completion, group } = record(path, *line)?;
        if completion.is_empty() {
            let message = "`completion` is empty; there is nothing to score, remove the line";
            return Err(fault(path, line.number, 1, message));
        }
        Ok(PairItem { line: line.number, prompt, completion, group })
    };
    lines.iter().map(item).collect()
}

/// The questions, and a note on each that has a choice twice, which is scored as it stands.
fn questions(path: &Path, lines: &[Line<'_>]) -> Result<(Vec<ChoiceItem>, Vec<String>), EvalError> {
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

fn inputs(path: &Path, lines: &[Line<'_>]) -> Result<Vec<TextItem>, EvalError> {
    let item = |line: &Line<'_>| {
        let InputRecord { input, group } = record(path, *line)?;
        if input.is_empty() {
            return Err(fault(path, line.number, 1, "`input` is empty; remove the line"));
        }
        Ok(TextItem { path: path.into(), line: Some(line.number), text: input, group })
    };
    lines.iter().map(item).collect()
}

/// A note for each key that is not read, with the number of lines that have it.
fn extra_keys(path: &Path, lines: &[Line<'_>], read: &[&str]) -> Result<Vec<String>, EvalError> {
    let mut counts = BTreeMap::new();
    for &line in lines {
        for key in object(path, line)?.into_iter().map(|(key, _)| key) {
            if !read.contains(&key.as_str()) {
                *counts.entry(key).or_insert(0_usize) += 1;
            }
        }
    }
    let note = |(key, count)| format!("key `{key}` is not read; it stands in {count} lines");
    Ok(counts.into_iter().map(note).collect())
}

/// The labels in sorted order where completions are a small set: 2 to [`MOST_LABELS`] of them, each in
/// [`ITEMS_OF_EACH_LABEL`] items or more, [`ITEMS_PER_LABEL`] times as many items as labels, and no blank prompt (a
/// label alone loses its first token and could not be compared).
fn label_set(items: &[PairItem]) -> Option<Vec<String>> {
    let counts = completion_counts(items);
    let small = (2..=MOST_LABELS).contains(&counts.len());
    let repeated = counts.values().all(|&count| count >= ITEMS_OF_EACH_LABEL);
    let enough = items.len() >= ITEMS_PER_LABEL * counts.len();
    let asked = items.iter().all(|item| !item.prompt.trim().is_empty());
    let labels = || counts.keys().map(|label| (*label).to_owned()).collect();
    (small && repeated && enough && asked).then(labels)
}

/// The labels of a suite that its header calls a classification. Errors: fewer than two; a blank prompt, after which a
/// label would lose its first token.
fn named_labels(path: &Path, items: &[PairItem]) -> Result<Vec<String>, EvalError> {
    if let Some(blank) = items.iter().find(|item| item.prompt.trim().is_empty()) {
        return Err(fault(path, blank.line, 1, "`prompt` is blank; a label is scored as what follows the prompt"));
    }
    let counts = completion_counts(items);
    if counts.len() < 2 {
        let message = "all completions are the same label; a classification needs two or more".into();
        return Err(EvalError::Suite { path: path.into(), message });
    }
    Ok(counts.into_keys().map(str::to_owned).collect())
}
