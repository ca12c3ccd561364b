//! Findings as they gather: how often each rule was met, and the first rows that show it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rules::{Level, RULES, Rule};

/// Rows that a finding shows at most.
pub const MAX_SHOWN: usize = 10;
/// Characters of an excerpt.
pub(crate) const EXCERPT_CHARS: usize = 120;

/// Where a record stands: a file by its number, and a line from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) line: u64,
}

/// Bits of a packed place that hold the line.
const LINE_BITS: u32 = 44;

impl Place {
    /// Both in one number, in their order. Files beyond 2^20 and lines beyond 2^44 don't occur.
    pub(crate) fn pack(self) -> u64 {
        (u64::from(self.file) << LINE_BITS) | (self.line & ((1 << LINE_BITS) - 1))
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self { file: (packed >> LINE_BITS) as u32, line: packed & ((1 << LINE_BITS) - 1) }
    }
}

/// One row that shows a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) rule: &'static Rule,
    pub(crate) place: Place,
    /// Column in the line, in characters, from 1.
    pub(crate) column: Option<u64>,
    /// What is the matter here; empty where the title says it all.
    pub(crate) message: String,
    /// A piece of the record; empty to have it looked up when the report is made, `-` for none.
    pub(crate) excerpt: String,
}

impl Hit {
    pub(crate) fn new(rule: &'static Rule, place: Place, message: impl Into<String>, excerpt: &str) -> Self {
        Self { rule, place, column: None, message: message.into(), excerpt: excerpt_of(excerpt) }
    }

    pub(crate) fn at(mut self, column: u64) -> Self {
        self.column = Some(column);
        self
    }
}

/// A row of a finding in the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The file.
    pub file: String,
    /// Line, from 1; the first line of a text file's piece.
    pub line: u64,
    /// Column, in characters, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// What is the matter with this row.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// A piece of it, on one line, with personal data masked.
    pub excerpt: String,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The engine's rule (`R7`), or the id.
    pub rule: &'static str,
    /// The finding's own name.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub title: String,
    /// What to do about it.
    pub advice: &'static str,
    /// How many records show it.
    pub count: u64,
    /// The first of them.
    pub rows: Vec<Shown>,
}

/// Counts and first rows by rule.
#[derive(Debug, Default)]
pub(crate) struct Findings(BTreeMap<&'static str, (u64, Vec<Hit>)>);

impl Findings {
    pub(crate) fn add(&mut self, hit: Hit) {
        let (count, hits) = self.0.entry(hit.rule.id).or_default();
        *count += 1;
        // the first rows of the input, in whatever order they are told
        let index = hits.partition_point(|other| other.place <= hit.place);
        if index < MAX_SHOWN {
            hits.insert(index, hit);
            hits.truncate(MAX_SHOWN);
        }
    }

    /// Counts rows that aren't shown.
    pub(crate) fn count_more(&mut self, rule: &'static Rule, more: u64) {
        if more > 0 {
            self.0.entry(rule.id).or_default().0 += more;
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self, rule: &Rule) -> u64 {
        self.0.get(rule.id).map_or(0, |(count, _)| *count)
    }

    /// The places whose excerpts have to be looked up, in order.
    pub(crate) fn unseen(&self) -> Vec<Place> {
        let mut places: Vec<_> = self
            .0
            .values()
            .flat_map(|(_, hits)| hits)
            .filter(|hit| hit.excerpt.is_empty())
            .map(|hit| hit.place)
            .collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The findings in the order of the table: errors, warnings, notes.
    pub(crate) fn finish(mut self, files: &[String], excerpts: &BTreeMap<Place, String>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for rule in RULES {
            let Some((count, hits)) = self.0.remove(rule.id) else { continue };
            let shown = |hit: Hit| Shown {
                file: files.get(hit.place.file as usize).cloned().unwrap_or_default(),
                line: hit.place.line,
                column: hit.column,
                message: hit.message,
                excerpt: match hit.excerpt.as_str() {
                    "" => without_personal(excerpts.get(&hit.place).cloned().unwrap_or_default()),
                    "-" => String::new(),
                    _ => without_personal(hit.excerpt),
                },
            };
            findings.push(Finding {
                rule: rule.rule,
                id: rule.id,
                level: rule.level,
                title: rule.title.to_owned(),
                advice: rule.advice,
                count,
                rows: hits.into_iter().map(shown).collect(),
            });
        }
        findings.sort_by_key(|finding| finding.level);
        findings
    }
}

/// Reports travel: what is personal stays where it was found.
fn without_personal(text: String) -> String {
    super::personal::redact(&text).map_or(text, |(redacted, _)| redacted)
}

/// The beginning of a text on one line, without control characters.
pub(crate) fn excerpt_of(text: &str) -> String {
    let mut out = String::new();
    let mut space = false;
    for (count, character) in text.trim_start().chars().enumerate() {
        if count == EXCERPT_CHARS {
            out.push('…');
            break;
        }
        match character {
            '\n' | '\r' | '\t' | ' ' => space = !out.is_empty(),
            _ => {
                if std::mem::take(&mut space) {
                    out.push(' ');
                }
                let is_odd =
                    character.is_control() || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
                out.push(if is_odd { '·' } else { character });
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::rules;

    #[test]
    fn an_excerpt_is_one_short_line_without_control_characters() {
        assert_eq!(excerpt_of("  one\n\n two\u{1b}[31m\tthree "), "one two·[31m three");
        assert_eq!(excerpt_of(&"ä".repeat(500)).chars().count(), EXCERPT_CHARS + 1);
    }

    #[test]
    fn rows_are_counted_and_the_first_are_shown() {
        let mut findings = Findings::default();
        for line in 1..=30 {
            findings.add(Hit::new(&rules::DUPLICATE, Place { file: 0, line }, "", "x"));
        }
        findings.add(Hit::new(&rules::NOT_JSON, Place { file: 0, line: 2 }, "m", "").at(4));
        let excerpts = [(Place { file: 0, line: 2 }, "looked up".to_owned())].into();
        let found = findings.finish(&["a.jsonl".to_owned()], &excerpts);
        assert_eq!(
            (found[0].id, found[0].rows[0].column, found[0].rows[0].excerpt.as_str()),
            ("not-json", Some(4), "looked up")
        );
        assert_eq!((found[1].count, found[1].rows.len(), found[1].rows[9].line), (30, MAX_SHOWN, 10));
    }

    #[test]
    fn a_place_packs_in_order() {
        let places =
            [Place { file: 0, line: 9 }, Place { file: 1, line: 1 }, Place { file: 1048575, line: (1 << 44) - 1 }];
        assert!(places.windows(2).all(|pair| pair[0].pack() < pair[1].pack()));
        places.iter().for_each(|place| assert_eq!(Place::unpack(place.pack()), *place));
    }
}
