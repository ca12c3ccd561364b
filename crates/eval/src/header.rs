//! The optional first line of a JSON Lines suite: its name, its kind, how its texts are joined or cut, when
//! its answers end. It is strict, so
//! that a misspelt setting can't be passed over. What the lines after it hold is read in `reading`.

use std::path::Path;

use serde::Deserialize;

use crate::error::EvalError;
use crate::kinds::generated::MAX_TOKENS;
use crate::lines::{Line, fault, object, record};
use crate::suite::{Limits, SuiteKind};

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
    /// Most new tokens of an answer. Kinds that generate only.
    pub(crate) max_tokens: Option<usize>,
    /// Texts that end an answer. Kinds that generate only.
    #[serde(default)]
    pub(crate) stop: Vec<String>,
}

impl Header {
    /// When a generated answer ends.
    pub(crate) fn limits(&self) -> Limits {
        Limits { max_tokens: self.max_tokens.unwrap_or(MAX_TOKENS), stop: self.stop.clone() }
    }
}

/// The header, where `line` is one: an object with `suite` and no key of an item.
/// Errors: not JSON; an unknown key or kind; a blank name; a delimiter that fits neither the kind nor the choices;
/// a window or stride that isn't a text's or leaves tokens out; limits of answers where none are generated, or that leave
/// none.
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
    let limited = header.max_tokens.is_some() || !header.stop.is_empty();
    if limited && !header.kind.generates() {
        return refuse(
            "`max_tokens` and `stop` end generated answers; only kinds `exact`, `generate` and `extraction` have them",
        );
    }
    if header.max_tokens == Some(0) {
        return refuse("`max_tokens` must be 1 or more");
    }
    if header.stop.iter().any(String::is_empty) {
        return refuse("a text of `stop` is empty, which would end every answer before it begins");
    }
    Ok(Some(header))
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
