//! Reading a suite's files: UTF-8 with the place of the first bad byte, and JSON Lines whose faults carry file, line
//! and column. What the fields mean is left to `suite`.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::EvalError;

/// One line of a JSON Lines file and its number, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
}

/// The text of a file's content, without a byte order mark. Errors: the place of the first byte that is not UTF-8; a
/// file without text.
pub(crate) fn utf8<'a>(path: &Path, content: &'a [u8]) -> Result<&'a str, EvalError> {
    let text = std::str::from_utf8(content).map_err(|error| {
        let before = &content[..error.valid_up_to()];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        EvalError::Line {
            path: path.to_owned(),
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
            message: "not UTF-8; save the file as UTF-8".into(),
        }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.is_empty() {
        let message = "the file is empty; give a file with items or leave it out".into();
        return Err(EvalError::Suite { path: path.to_owned(), message });
    }
    Ok(text)
}

/// The lines of a JSON Lines text; both `\n` and `\r\n` end a line. Errors: a blank line.
pub(crate) fn lines<'a>(path: &Path, text: &'a str) -> Result<Vec<Line<'a>>, EvalError> {
    let lines: Vec<Line<'_>> = text.lines().enumerate().map(|(i, text)| Line { number: i + 1, text }).collect();
    match lines.iter().find(|line| line.text.trim().is_empty()) {
        Some(blank) => Err(fault(path, blank.number, 1, "blank line; remove it")),
        None => Ok(lines),
    }
}

/// The JSON object of a line. Errors: not JSON, or another JSON value.
pub(crate) fn object(path: &Path, line: Line<'_>) -> Result<Map<String, Value>, EvalError> {
    match serde_json::from_str(line.text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(fault(path, line.number, 1, "not a JSON object; write one object a line")),
        Err(error) => Err(json_fault(path, line, &error, None)),
    }
}

/// A record of a line, whose keys are named where one is missing.
pub(crate) fn record<T: DeserializeOwned>(path: &Path, line: Line<'_>) -> Result<T, EvalError> {
    let object = object(path, line)?;
    serde_json::from_str(line.text).map_err(|error| json_fault(path, line, &error, Some(&object)))
}

/// A fault at a place of a file.
pub(crate) fn fault(path: &Path, line: usize, column: usize, message: impl Into<String>) -> EvalError {
    EvalError::Line { path: path.to_owned(), line, column, message: message.into() }
}

/// Keys as they are listed in messages: `` `a`, `b` ``.
pub(crate) fn key_list<'a>(keys: impl IntoIterator<Item = &'a String>) -> String {
    keys.into_iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

fn json_fault(
    path: &Path,
    line: Line<'_>,
    error: &serde_json::Error,
    object: Option<&Map<String, Value>>,
) -> EvalError {
    let full = error.to_string();
    // serde_json ends its message with the place inside this one line, which is said in front here.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let mut message = full.strip_suffix(&place).unwrap_or(&full).to_owned();
    if let Some(object) = object
        && message.starts_with("missing field")
    {
        message = format!("{message}; found keys {}", key_list(object.keys()));
    }
    if object.is_none() {
        message = format!("not JSON: {message}");
    }
    // serde_json counts bytes; people and editors count characters.
    let column = error.column().max(1);
    let column = line.text.char_indices().take_while(|(at, _)| at + 1 < column).count() + 1;
    fault(path, line.number, column, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_not_utf8_is_placed() {
        let error = utf8(Path::new("a.txt"), b"one\nt\xffo").unwrap_err();
        assert_eq!(error.to_string(), "a.txt:2:2: not UTF-8; save the file as UTF-8");
        let error = utf8(Path::new("a.txt"), b"\xc3\xa9\xff").unwrap_err();
        assert_eq!(error.to_string(), "a.txt:1:2: not UTF-8; save the file as UTF-8");
        let error = utf8(Path::new("a.txt"), b"\xef\xbb\xbf").unwrap_err();
        assert!(error.to_string().contains("suite `a.txt`: the file is empty"), "{error}");
        assert_eq!(utf8(Path::new("a.txt"), b"\xef\xbb\xbfhi").unwrap(), "hi");
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return_and_are_never_blank() {
        let path = Path::new("a.jsonl");
        let texts: Vec<&str> = lines(path, "{}\r\n[]\n").unwrap().iter().map(|l| l.text).collect();
        assert_eq!(texts, ["{}", "[]"]);
        let error = lines(path, "{}\n \n{}").unwrap_err();
        assert_eq!(error.to_string(), "a.jsonl:2:1: blank line; remove it");
    }

    #[test]
    fn json_faults_carry_the_column() {
        let path = Path::new("a.jsonl");
        let error = object(path, Line { number: 7, text: r#"{"a": 1,, }"# }).unwrap_err();
        assert_eq!(error.to_string(), "a.jsonl:7:9: not JSON: key must be a string");
        let error = object(path, Line { number: 7, text: "{\"éé\": ,}" }).unwrap_err();
        assert_eq!(error.to_string(), "a.jsonl:7:8: not JSON: expected value");
        let error = object(path, Line { number: 7, text: "3" }).unwrap_err();
        assert!(error.to_string().starts_with("a.jsonl:7:1: not a JSON object"), "{error}");
    }
}
