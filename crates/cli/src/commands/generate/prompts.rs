//! `outcrop generate --prompts`: a file of prompts, and their texts as lines of JSON in the file's order.

use super::super::Loaded;
use super::super::text::{End, Prompt, Stops, batch};
use anyhow::{Context, bail, ensure};
use outcrop_model::generate::{Finish, Options};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// A prompt of the file.
pub(super) struct Line {
    /// `file:line`.
    pub(super) place: String,
    pub(super) text: String,
}

/// The prompts of a file: of each object in a `.jsonl` file its `prompt`, else each line. Empty lines are passed over.
/// Errors: not there, not UTF-8; a line that is no such object; no prompt at all.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let content = fs_err::read_to_string(path)?;
    let content = content.strip_prefix('\u{feff}').unwrap_or(&content);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    let mut lines = Vec::new();
    for (number, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}:{}", path.display(), number + 1);
        let text = if is_json { prompt(line).context(place.clone())? } else { line.to_string() };
        lines.push(Line { place, text });
    }
    ensure!(!lines.is_empty(), "`{}` has no prompt; give a line of text for each", path.display());
    Ok(lines)
}

fn prompt(line: &str) -> anyhow::Result<String> {
    let object: Value = serde_json::from_str(line).context("is no JSON object")?;
    match &object["prompt"] {
        Value::String(text) => Ok(text.clone()),
        _ => bail!("has no text `prompt`; a line is `{{\"prompt\": \"...\"}}`"),
    }
}

/// Generates and prints: `prompt`, `text`, the number of new `tokens`, and why it ended. A text waits for those before it.
/// Errors: generation's; standard output.
pub(super) fn write(
    loaded: &Loaded,
    lines: &[Line],
    prompts: &[Prompt],
    options: &Options,
    stops: &Stops,
    at_once: usize,
) -> anyhow::Result<()> {
    let (mut ready, mut next) = (BTreeMap::new(), 0);
    batch(loaded, prompts, options, stops, at_once, &mut |index, text, end: End| {
        let finish = match (end.finish, &end.stop_text) {
            (_, Some(_)) => "stop_text",
            (Finish::Stop, _) => "stop",
            (Finish::Length, _) => "length",
            (Finish::Context, _) => "context",
            (Finish::Cancelled, _) => "cancelled",
        };
        ready.insert(index, json!({"prompt": lines[index].text, "text": text, "tokens": end.tokens, "finish": finish}));
        let mut out = std::io::stdout().lock();
        while let Some(line) = ready.remove(&next) {
            writeln!(out, "{line}")?;
            next += 1;
        }
        Ok(out.flush()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_lines_or_the_prompts_of_objects() {
        let folder = tempfile::tempdir().unwrap();
        let texts = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, content).unwrap();
            read(&path).map(|lines| lines.into_iter().map(|line| line.text).collect::<Vec<_>>())
        };
        assert_eq!(texts("a.txt", "\u{feff}one\r\n\n two \n").unwrap(), ["one", " two "]);
        assert_eq!(texts("a.jsonl", "{\"prompt\": \"a\\nb\", \"x\": 1}\n").unwrap(), ["a\nb"]);
        for (content, part) in
            [("{}", "a.jsonl:1: has no text `prompt`"), ("[", "a.jsonl:1: is no JSON"), ("\n", "has no prompt")]
        {
            let message = format!("{:#}", texts("a.jsonl", content).unwrap_err());
            assert!(message.contains(part), "{message}");
        }
    }
}
