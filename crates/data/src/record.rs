//! One line of a JSONL file: what it must hold and what is said when it doesn't.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::conversation::{self, Conversation};
use crate::source::SourceKind;

/// Keys whose values are read. All others are passed over, so that they take no memory whatever they hold.
const READ_KEYS: [&str; 6] = ["prompt", "completion", "input", "messages", "system", "schemaVersion"];
/// Most keys that a message names, and most characters of one.
const SHOWN_KEYS: usize = 10;
const SHOWN_KEY_CHARACTERS: usize = 60;

/// The texts of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Pair { prompt: String, completion: String },
    Input(String),
    Conversation(Conversation),
}

/// A record and the keys it has beyond those that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) record: Record,
    pub(crate) extra_keys: Vec<String>,
}

/// Why a line is no record; the column is in characters, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordError {
    pub(crate) column: Option<u64>,
    pub(crate) message: String,
}

impl RecordError {
    fn new(message: impl Into<String>) -> Self {
        Self { column: None, message: message.into() }
    }
}

/// Reads one line without its line end. `kind` is [`SourceKind::Pairs`] or [`SourceKind::Inputs`].
pub(crate) fn parse(line: &[u8], kind: SourceKind) -> Result<Parsed, RecordError> {
    let line = std::str::from_utf8(line).map_err(|error| RecordError {
        column: Some(column(line, error.valid_up_to())),
        message: not_utf8(line, error.valid_up_to()),
    })?;
    if line.trim().is_empty() {
        return Err(RecordError::new("the line is blank; remove it"));
    }
    let Entries(mut entries) = serde_json::from_str(line).map_err(|error| not_json(line, &error))?;
    let mut seen = HashSet::with_capacity(entries.len());
    if let Some((key, _)) = entries.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        return Err(RecordError::new(format!("key `{}` appears twice; keep one", shown_key(key))));
    }
    if kind == SourceKind::Pairs && entries.iter().any(|(key, _)| key == "messages") {
        if let Some((key, _)) = entries.iter().find(|(key, _)| ["prompt", "completion"].contains(&key.as_str())) {
            return Err(RecordError::new(format!("the record has both `{key}` and `messages`; keep one form")));
        }
        let (conversation, extra_keys) =
            conversation::parse(line, &entries.into_iter().collect()).map_err(|error| RecordError {
                column: Some(column(line.as_bytes(), error.offset)),
                message: error.message,
            })?;
        return Ok(Parsed { record: Record::Conversation(conversation), extra_keys });
    }
    let needed: &[&str] = if kind == SourceKind::Pairs { &["prompt", "completion"] } else { &["input"] };
    if !needed.iter().all(|needed| entries.iter().any(|(key, _)| key == needed)) {
        return Err(RecordError::new(missing_keys(&entries, kind)));
    }
    let mut take = |needed: &str| {
        let index = entries.iter().position(|(key, _)| key == needed).expect("all needed keys were just found");
        match entries.remove(index).1 {
            Value::String(text) => Ok(text),
            other => Err(RecordError::new(format!("`{needed}` is {}; it must be a string", type_name(&other)))),
        }
    };
    let record = match kind {
        SourceKind::Pairs => Record::Pair { prompt: take("prompt")?, completion: take("completion")? },
        SourceKind::Inputs | SourceKind::Text => Record::Input(take("input")?),
    };
    Ok(Parsed { record, extra_keys: entries.iter().map(|(key, _)| shown_key(key)).collect() })
}

/// Column of a byte index, in characters from 1; bytes that aren't UTF-8 count one each.
pub(crate) fn column(line: &[u8], index: usize) -> u64 {
    String::from_utf8_lossy(&line[..index.min(line.len())]).chars().count() as u64 + 1
}

/// What is said of the first byte that isn't UTF-8.
pub(crate) fn not_utf8(bytes: &[u8], index: usize) -> String {
    let hint = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        "; it looks like UTF-16"
    } else {
        ""
    };
    let byte = bytes.get(index).copied().unwrap_or_default();
    format!("byte 0x{byte:02x} is not UTF-8{hint}; save the file as UTF-8")
}

fn not_json(line: &str, error: &serde_json::Error) -> RecordError {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    // serde_json counts bytes from 1 and stands on the byte it stumbled over.
    let column = Some(column(line.as_bytes(), error.column().saturating_sub(1)));
    RecordError { column, message: format!("not a JSON record: {reason}; each line must be one whole JSON object") }
}

fn missing_keys(entries: &[(String, Value)], kind: SourceKind) -> String {
    let has = |key: &str| entries.iter().any(|(found, _)| found == key);
    if has("messages") {
        return "conversation records (`messages`) are for FINE_TUNING; a continued pre-training record needs `input`"
            .into();
    }
    let found = match entries {
        [] => "found no keys".to_owned(),
        [(key, _)] => format!("found key `{}`", shown_key(key)),
        many => {
            let keys: Vec<_> = many.iter().take(SHOWN_KEYS).map(|(key, _)| format!("`{}`", shown_key(key))).collect();
            let more =
                if many.len() > SHOWN_KEYS { format!(" and {} more", many.len() - SHOWN_KEYS) } else { String::new() };
            format!("found keys {}{more}", keys.join(", "))
        }
    };
    match kind {
        SourceKind::Pairs if has("input") && entries.len() == 1 => {
            format!(
                "{found}; a fine-tuning record needs `prompt` and `completion` (`input` records are for CONTINUED_PRE_TRAINING)"
            )
        }
        SourceKind::Pairs => format!("{found}; a fine-tuning record needs `prompt` and `completion`"),
        SourceKind::Inputs | SourceKind::Text if has("prompt") && has("completion") => {
            format!("{found}; a continued pre-training record needs `input` (pairs are for FINE_TUNING)")
        }
        SourceKind::Inputs | SourceKind::Text => format!("{found}; a continued pre-training record needs `input`"),
    }
}

/// A key in a message: the whole of it, or its beginning, on one line whatever it holds.
pub(crate) fn shown_key(key: &str) -> String {
    let mut shown = String::new();
    for (index, character) in key.chars().enumerate() {
        match character {
            _ if index == SHOWN_KEY_CHARACTERS => {
                shown.push('…');
                break;
            }
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The entries of an object in their order; unlike a map it keeps a key that appears twice. Values of keys that aren't read are
/// null.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = if READ_KEYS.contains(&key.as_str()) {
                        map.next_value()?
                    } else {
                        map.next_value::<IgnoredAny>().map(|_| Value::Null)?
                    };
                    entries.push((key, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str, kind: SourceKind) -> String {
        let RecordError { column, message } = parse(line.as_bytes(), kind).unwrap_err();
        column.map_or(message.clone(), |column| format!("{column}: {message}"))
    }

    #[test]
    fn a_record_gives_its_texts_and_names_its_extra_keys() {
        let parsed =
            parse(br#" {"id": 7, "completion": "b\n", "prompt": "a", "tag": [{}]} "#, SourceKind::Pairs).unwrap();
        assert_eq!(parsed.record, Record::Pair { prompt: "a".into(), completion: "b\n".into() });
        assert_eq!(parsed.extra_keys, ["id", "tag"]);
        let parsed = parse(br#"{"input": "\u00e9"}"#, SourceKind::Inputs).unwrap();
        assert_eq!(parsed, Parsed { record: Record::Input("é".into()), extra_keys: vec![] });
    }

    #[test]
    fn keys_that_are_missing_are_told_with_those_found() {
        let cases = [
            (
                r#"{"input": "a", "output": "b"}"#,
                "found keys `input`, `output`; a fine-tuning record needs `prompt` and `completion`",
            ),
            (r#"{"text": "a"}"#, "found key `text`; a fine-tuning record needs `prompt` and `completion`"),
            (
                r#"{"prompt": "a", "Completion": "b"}"#,
                "found keys `prompt`, `Completion`; a fine-tuning record needs `prompt` and `completion`",
            ),
            ("{}", "found no keys; a fine-tuning record needs `prompt` and `completion`"),
            (
                r#"{"input": "a"}"#,
                "found key `input`; a fine-tuning record needs `prompt` and `completion` (`input` records are for CONTINUED_PRE_TRAINING)",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(error(line, SourceKind::Pairs), expected);
        }
        assert_eq!(
            error(r#"{"prompt": "a", "completion": "b"}"#, SourceKind::Inputs),
            "found keys `prompt`, `completion`; a continued pre-training record needs `input` (pairs are for FINE_TUNING)"
        );
        assert_eq!(
            error(r#"{"messages": []}"#, SourceKind::Inputs),
            "conversation records (`messages`) are for FINE_TUNING; a continued pre-training record needs `input`"
        );
        assert_eq!(
            error(r#"{"text": "b"}"#, SourceKind::Inputs),
            "found key `text`; a continued pre-training record needs `input`"
        );
    }

    /// Found by the fuzz target `record`.
    #[test]
    fn a_key_stays_on_one_line() {
        let line = format!("{{\"pro\\nmpt\\u001b[31m{}\": 1}}", "é".repeat(100));
        let message = error(&line, SourceKind::Inputs);
        let start = format!("found key `pro\\nmpt\\u{{1b}}[31m{}…`; ", "é".repeat(48));
        assert!(message.starts_with(&start), "{message}");
    }

    #[test]
    fn wrong_types_doubled_keys_and_blank_lines_are_told() {
        assert_eq!(
            error(r#"{"prompt": "a", "completion": 3}"#, SourceKind::Pairs),
            "`completion` is a number; it must be a string"
        );
        assert_eq!(
            error(r#"{"prompt": null, "completion": "b"}"#, SourceKind::Pairs),
            "`prompt` is null; it must be a string"
        );
        assert_eq!(error(r#"{"input": ["a"]}"#, SourceKind::Inputs), "`input` is an array; it must be a string");
        assert_eq!(error(r#"{"input": "a", "input": "b"}"#, SourceKind::Inputs), "key `input` appears twice; keep one");
        assert_eq!(error(" \t", SourceKind::Pairs), "the line is blank; remove it");
    }

    #[test]
    fn what_isnt_json_is_told_with_its_column_in_characters() {
        let hint = "; each line must be one whole JSON object";
        assert_eq!(
            error(r#"{"input": "é" x}"#, SourceKind::Inputs),
            format!("15: not a JSON record: expected `,` or `}}`{hint}")
        );
        assert_eq!(
            error(r#"{"input": "a"} {}"#, SourceKind::Inputs),
            format!("16: not a JSON record: trailing characters{hint}")
        );
        assert_eq!(
            error(r#"{"input": "a"#, SourceKind::Inputs),
            format!("12: not a JSON record: EOF while parsing a string{hint}")
        );
        assert_eq!(
            error(r#"["input"]"#, SourceKind::Inputs),
            format!("1: not a JSON record: invalid type: sequence, expected a JSON object{hint}")
        );
        let deep = format!("{{\"input\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(error(&deep, SourceKind::Inputs).contains("recursion limit exceeded"));
    }

    #[test]
    fn a_byte_that_isnt_utf8_is_told_with_its_column() {
        let line = [b"{\"input\": \"\xc3\xa9".as_slice(), &[0xff], b"\"}"].concat();
        let error = parse(&line, SourceKind::Inputs).unwrap_err();
        assert_eq!(
            error,
            RecordError { column: Some(13), message: "byte 0xff is not UTF-8; save the file as UTF-8".into() }
        );
        let error = parse(&[0xff, 0xfe, b'{', 0], SourceKind::Inputs).unwrap_err();
        assert_eq!(error.message, "byte 0xff is not UTF-8; it looks like UTF-16; save the file as UTF-8");
    }
}
