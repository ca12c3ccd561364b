//! The optional first line of a JSON Lines suite: its name, its kind, how its texts are joined or cut. It is strict, so
//! that a misspelt setting can't be passed over. What the lines after it hold is read in `reading`.

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
    /// Most tokens of a row. Text only.
    pub(crate) window: Option<usize>,
    /// Tokens that the next row begins further on. Text only.
    pub(crate) stride: Option<usize>,
}

/// The header, where `line` is one: an object with `suite` and no key of an item.
/// Errors: not JSON; an unknown key or kind; a blank name; a delimiter that fits neither the kind nor the choices;
/// a window or stride that isn't a text's or leaves tokens out.
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
    match (header.window, header.stride) {
        (None, None) => {}
        _ if header.kind != SuiteKind::Text => {
            return refuse("`window` and `stride` cut running text; only kind `text` has them");
        }
        (Some(window), _) if window < 2 => return refuse("`window` must be 2 or more tokens"),
        (_, Some(0)) => return refuse("`stride` must be 1 or more tokens"),
        (Some(window), Some(stride)) if stride > window => {
            return refuse(&format!(
                "`stride` is {stride}, beyond `window`, {window}: tokens between would be left out"
            ));
        }
        _ => {}
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
