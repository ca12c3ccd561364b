//! The optional first line of a JSON Lines suite: its name, its kind, and how its texts are joined. It is strict, so
//! that a misspelt setting can't be passed over. What the lines after it hold is read in `suite`.

use std::path::Path;

use serde::Deserialize;

use crate::error::EvalError;
use crate::lines::{Line, fault, object, record};
use crate::suite::SuiteKind;

/// Keys of which a line of items has one; a header has none.
const ITEM_KEYS: [&str; 5] = ["prompt", "completion", "query", "choices", "input"];

/// The settings of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Name in reports.
    pub(crate) suite: String,
    /// What the suite measures; its lines must fit.
    pub(crate) kind: SuiteKind,
    /// Text between a query and each choice; it ends with white space. Multiple choice only.
    pub(crate) delimiter: Option<String>,
}

/// The header, where `line` is one: an object with `suite` and no key of an item.
/// Errors: not JSON; an unknown key or kind; a blank name; a delimiter that fits neither the kind nor the choices.
pub(crate) fn header(path: &Path, line: Line<'_>) -> Result<Option<Header>, EvalError> {
    let keys = object(path, line)?;
    if !keys.contains_key("suite") || ITEM_KEYS.iter().any(|key| keys.contains_key(*key)) {
        return Ok(None);
    }
    let header: Header = record(path, line)?;
    let refuse = |message: &str| Err(fault(path, line.number, 1, message));
    if header.suite.trim().is_empty() {
        return refuse("`suite` is blank; give the suite a name");
    }
    if let Some(delimiter) = &header.delimiter {
        if header.kind != SuiteKind::MultipleChoice {
            return refuse("`delimiter` stands between query and choice; only kind `multiple_choice` has it");
        }
        if !delimiter.ends_with(char::is_whitespace) {
            return refuse(
                "`delimiter` must end with white space, so that no token holds a part of it and of a choice",
            );
        }
    }
    Ok(Some(header))
}

/// Prompt and continuation of a choice, as lm-evaluation-harness splits them: the query, trimmed, with the delimiter,
/// but the white space that ends it goes to the continuation.
pub(crate) fn joined(query: &str, delimiter: &str, choice: &str) -> (String, String) {
    let before = format!("{}{delimiter}", query.trim());
    let prompt = before.trim_end();
    let continuation = format!("{}{choice}", &before[prompt.len()..]);
    (prompt.to_owned(), continuation)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
