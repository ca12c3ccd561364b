//! The items of a JSON Lines suite. The kind stands in the header (see `header`) or follows from the keys of the first
//! line: `prompt` and `completion`, `query`, `choices` and `gold`, or `input`. The lines of a kind are read in `kinds`.
//! Left out: text files (`suite`).

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::EvalError;
use crate::header::{Header, header};
use crate::kinds::classification::{label_set, named_labels};
use crate::kinds::extraction::spans;
use crate::kinds::multiple_choice::questions;
use crate::kinds::pairs::{self, pairs};
use crate::kinds::text::inputs;
use crate::lines::{Line, fault, key_list, lines, object};
use crate::suite::{Items, JudgedBy, PairItem, SuiteKind, Windows};

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
    let Some(header) = header(path, first)? else {
        let kind = kind_of(path, first)?;
        let (items, notes) = items(path, &lines, kind, None)?;
        return Ok(Parsed::plain(items, notes));
    };
    let lines = &lines[1..];
    if lines.is_empty() {
        return refuse("there is a header and no item; add the items, one a line");
    }
    let (items, notes) = items(path, lines, header.kind, Some(&header))?;
    let Header { suite, window, stride, .. } = header;
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

/// The items of lines of one kind. Without a header, pairs have the labels of the label rule.
fn items(
    path: &Path,
    lines: &[Line<'_>],
    kind: SuiteKind,
    header: Option<&Header>,
) -> Result<(Items, Vec<String>), EvalError> {
    match kind {
        SuiteKind::MultipleChoice => {
            let (items, notes) = questions(path, lines)?;
            return Ok((Items::MultipleChoice { items, delimiter: header.and_then(|h| h.delimiter.clone()) }, notes));
        }
        SuiteKind::Text => {
            return Ok((Items::Text(inputs(path, lines)?), extra_keys(path, lines, &["input", "group"])?));
        }
        _ => {}
    }
    let (items, notes) = (pairs(path, lines, kind)?, extra_keys(path, lines, pairs::keys(kind))?);
    let generated = |items: Vec<PairItem>, judged: JudgedBy| match header {
        Some(header) => Items::Generated { items, judged, limits: header.limits() },
        None => Items::Pairs { items, labels: None }, // such a kind is only ever a header's
    };
    let items = match kind {
        SuiteKind::Exact => generated(items, JudgedBy::Exact),
        SuiteKind::Generate => generated(items, JudgedBy::Text),
        SuiteKind::Extraction => {
            for item in &items {
                spans(&item.completion).map_err(|reason| not_spans(path, item.line, &reason))?;
            }
            generated(items, JudgedBy::Extraction)
        }
        SuiteKind::Cloze => Items::Cloze(items),
        SuiteKind::Classification => Items::Pairs { labels: Some(named_labels(path, &items)?), items },
        _ if header.is_none() => Items::Pairs { labels: label_set(&items), items },
        _ => Items::Pairs { items, labels: None },
    };
    Ok((items, notes))
}

fn not_spans(path: &Path, line: usize, reason: &str) -> EvalError {
    let message = format!(
        "`completion` has no typed spans: {reason}; write `type: value` lines, or JSON such as {{\"type\": [\"value\"]}}"
    );
    fault(path, line, 1, message)
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
