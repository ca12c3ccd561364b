//! Writes a copy of a file with its personal data replaced by typed placeholders, and a list of what was changed.
//!
//! The input is never touched. Lines without personal data are copied byte for byte; in the others only the strings that hold some
//! are written anew. The list names place, kind and a masked form, so that it can be handed on; the original stays where it was.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::files::{Body, CheckedFile, Pieces, Role, discover};
use super::personal::{self, Found, Kind};
use crate::error::DataError;
use crate::reader::MAX_LINE_BYTES;

/// One replacement, a line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Line in the file, from 1.
    pub line: u64,
    /// Column in the line, in characters, from 1.
    pub column: u64,
    /// What it was.
    pub kind: Kind,
    /// Which of its kind.
    pub name: &'static str,
    /// What stood there, mostly hidden.
    pub masked: String,
    /// What stands there now.
    pub placeholder: &'static str,
}

/// What a scrub did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Scrubbed {
    /// Lines (of JSONL) or pieces of text read.
    pub lines: u64,
    /// Those that were changed.
    pub changed_lines: u64,
    /// Replacements.
    pub changes: u64,
}

/// Scrubs `file` into `out`, each change as a line of JSON into `changes`. A compressed file comes out uncompressed.
///
/// Errors: it can't be read, isn't UTF-8, or can't be written.
pub fn scrub(file: &Path, out: &mut dyn Write, changes: &mut dyn Write) -> Result<Scrubbed, DataError> {
    let mut files: Vec<CheckedFile> = Vec::new();
    discover(&[file.to_owned()], Role::Training, &mut files)?;
    let [_] = files.as_slice() else {
        return Err(DataError::Source(format!("`{}` is a folder; scrub one file at a time", file.display())));
    };
    let mut done = Scrubbed::default();
    let mut pieces = Pieces::new(&files, 0..1, MAX_LINE_BYTES);
    loop {
        let items = pieces.next_chunk()?;
        if items.is_empty() {
            return Ok(done);
        }
        for item in items {
            let (bytes, end, is_line) = match &item.body {
                Body::Line(line) => (line, "\n", true),
                Body::Piece { text, .. } => (text, "", false),
                Body::Hit(hit) if hit.rule.level == super::rules::Level::Error => {
                    let message = if hit.message.is_empty() { hit.rule.title } else { &hit.message };
                    return Err(DataError::Source(format!("{}:{}: {message}", file.display(), item.place.line)));
                }
                Body::Hit(_) => continue,
            };
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let message = crate::record::not_utf8(bytes, error.valid_up_to());
                DataError::Source(format!("{}:{}: {message}", file.display(), item.place.line))
            })?;
            done.lines += 1;
            let scrubbed = if is_line { json_line(text) } else { personal::redact(text) };
            let Some((new, found)) = scrubbed else {
                out.write_all(bytes)?;
                out.write_all(end.as_bytes())?;
                continue;
            };
            done.changed_lines += 1;
            done.changes += found.len() as u64;
            out.write_all(new.as_bytes())?;
            out.write_all(end.as_bytes())?;
            for one in found {
                let change = change(text, item.place.line, &one);
                serde_json::to_writer(&mut *changes, &change).map_err(std::io::Error::from)?;
                changes.write_all(b"\n")?;
            }
        }
    }
}

fn change(text: &str, first_line: u64, found: &Found) -> Change {
    let before = &text[..found.range.start];
    let start = before.rfind('\n').map_or(0, |index| index + 1);
    Change {
        line: first_line + before.bytes().filter(|byte| *byte == b'\n').count() as u64,
        column: before[start..].chars().count() as u64 + 1,
        kind: found.kind,
        name: found.name,
        masked: personal::mask(found.kind, &text[found.range.clone()]),
        placeholder: found.kind.placeholder(),
    }
}

/// The line with the values of its strings redacted; keys stay. Ranges are those of the strings in the line, where an escape
/// hides the place within. A line that is no JSON is taken as text.
fn json_line(line: &str) -> Option<(String, Vec<Found>)> {
    if serde_json::from_str::<serde::de::IgnoredAny>(line).is_err() {
        return personal::redact(line);
    }
    let (mut out, mut all, mut end) = (String::new(), Vec::new(), 0);
    for range in strings(line) {
        let is_key = line[range.end..].trim_start().starts_with(':');
        let raw = &line[range.clone()];
        let Ok(text) = serde_json::from_str::<String>(raw) else { continue };
        let Some((redacted, found)) = (if is_key { None } else { personal::redact(&text) }) else { continue };
        let escaped = raw.len() != text.len() + 2;
        out.push_str(&line[end..range.start]);
        out.push_str(&serde_json::to_string(&redacted).unwrap_or_default());
        end = range.end;
        for one in found {
            let at = range.start + 1;
            let found_range = if escaped {
                raw.find(&text[one.range.clone()])
                    .map(|index| range.start + index..range.start + index + one.range.len())
            } else {
                Some(at + one.range.start..at + one.range.end)
            };
            all.push(Found { range: found_range.unwrap_or(range.clone()), ..one });
        }
    }
    out.push_str(&line[end..]);
    (!all.is_empty()).then_some((out, all))
}

/// Where the strings of a line of valid JSON are, quotes included.
fn strings(line: &str) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut start, mut escaped) = (Vec::new(), None, false);
    for (index, byte) in line.bytes().enumerate() {
        match (start, byte) {
            (None, b'"') => start = Some(index),
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(begin), b'"') => {
                found.push(begin..index + 1);
                start = None;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::write;

    #[test]
    fn only_strings_with_personal_data_change_and_every_change_is_listed() {
        let root = tempfile::tempdir().unwrap();
        let lines = "{\"prompt\": \"ask \\\"ann@mail.org\\\" now\",  \"n\": 1.50, \"ann@mail.org\": \"x\"}\n{ \"a\" : 1 }\nno json, bob@mail.org\n";
        let path = write(root.path(), "a.jsonl", lines);
        let (mut out, mut changes) = (Vec::new(), Vec::new());
        let done = scrub(&path, &mut out, &mut changes).unwrap();
        assert_eq!(done, Scrubbed { lines: 3, changed_lines: 2, changes: 2 });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"prompt\": \"ask \\\"[EMAIL]\\\" now\",  \"n\": 1.50, \"ann@mail.org\": \"x\"}\n{ \"a\" : 1 }\nno json, [EMAIL]\n"
        );
        let changes = String::from_utf8(changes).unwrap();
        let first = "{\"line\":1,\"column\":19,\"kind\":\"email\",\"name\":\"e-mail address\",\"masked\":\"a…@mail.org\",\"placeholder\":\"[EMAIL]\"}";
        assert_eq!(changes.lines().next(), Some(first));
        assert_eq!(changes.lines().count(), 2);
        assert_eq!(fs_err::read_to_string(&path).unwrap(), lines);
    }

    #[test]
    fn texts_keep_all_but_what_is_personal() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.txt", "one\ncall +44 20 7946 0018\nthree");
        let (mut out, mut changes) = (Vec::new(), Vec::new());
        scrub(&path, &mut out, &mut changes).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "one\ncall [PHONE]\nthree");
        assert!(String::from_utf8(changes).unwrap().starts_with("{\"line\":2,\"column\":6,"));
        let path = write(root.path(), "b.txt", b"\xff\xfeab");
        let error = scrub(&path, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
        assert!(
            error.ends_with("b.txt:1: byte 0xff is not UTF-8; it looks like UTF-16; save the file as UTF-8"),
            "{error}"
        );
    }
}
