//! The work of one core on one line or piece of text: everything about it that doesn't depend on the others.

use super::files::{Body, Item, Role};
use super::findings::{Hit, Place, excerpt_of};
use super::labels;
use super::leakage::EvalGrams;
use super::near::Features;
use super::personal::{self, Kind};
use super::profile::Profile;
use super::quality::{self, Quality};
use super::rules;
use super::structure::{self, Format, Structure};
use super::tokens::{self, Spelled, TokenCheck, TokenFacts};
use super::words::{Grams, hash, mix, sequence_hash};

/// Completions of at most so many words are left out of the comparison for near-duplicates, so that records which differ in
/// their label alone are compared by their prompts.
const LABEL_WORDS: usize = 3;

/// What a worker is told.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) tokens: Option<(TokenCheck<'a>, &'a Spelled)>,
    pub(crate) profile: Option<&'static Profile>,
    /// 13-grams of the evaluation files, once these have been read.
    pub(crate) grams: &'a EvalGrams,
    pub(crate) near: bool,
    pub(crate) personal: bool,
}

/// What is known of a record, or of a piece of a text.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) hits: Vec<Hit>,
    pub(crate) format: Option<Format>,
    /// Whether its form is right, so that it can be compared with others.
    pub(crate) sound: bool,
    pub(crate) extra_keys: Vec<String>,
    /// First and last piece of its document; a record is both.
    pub(crate) first: bool,
    pub(crate) last: bool,
    pub(crate) chars: u64,
    pub(crate) words: u64,
    /// Hash of the prompt, or of the text where there is no prompt; and of the completion.
    pub(crate) prompt_hash: u64,
    pub(crate) completion_hash: u64,
    pub(crate) features: Features,
    /// Hash of what the features are of.
    pub(crate) features_hash: u64,
    pub(crate) label: Option<String>,
    pub(crate) is_labelled: bool,
    /// 13-grams: of an evaluation record all, of a training record those that some evaluation record has.
    pub(crate) grams: Vec<u64>,
    pub(crate) tokens: Option<TokenFacts>,
    pub(crate) language: Option<&'static str>,
    /// Of raw text only.
    pub(crate) quality: Option<Quality>,
    pub(crate) lines: Vec<(u64, u64, String)>,
    pub(crate) excerpt: String,
    /// Number of findings of each kind of personal data.
    pub(crate) personal: [u64; Kind::ALL.len()],
}

pub(crate) fn of(item: &Item, role: Role, work: Work<'_>) -> Facts {
    match &item.body {
        Body::Hit(hit) => Facts { hits: vec![hit.clone()], ..Facts::default() },
        Body::Line(line) => of_line(line, item.place, role, work),
        Body::Piece { text, first, last } => of_piece(text, item.place, (*first, *last), role, work),
    }
}

pub(crate) fn of_line(line: &[u8], place: Place, role: Role, work: Work<'_>) -> Facts {
    let mut record = structure::read(line, place, role == Role::Evaluation);
    let mut facts = Facts {
        hits: std::mem::take(&mut record.hits),
        format: record.format,
        extra_keys: std::mem::take(&mut record.extra_keys),
        first: true,
        last: true,
        ..Facts::default()
    };
    let is_sound = facts.hits.iter().all(|hit| hit.rule.level != rules::Level::Error);
    let Some(format) = record.format else { return facts };
    facts.excerpt = record
        .fields
        .iter()
        .find(|field| field.name != "system")
        .map_or_else(String::new, |field| excerpt_of(&field.text));
    facts.chars = record.fields.iter().map(|field| field.text.chars().count() as u64).sum();
    for field in &record.fields {
        facts.look_at_text(&field.text, &field.name, place, work);
    }
    if let Some(profile) = work.profile {
        let prompt = &record.fields[..record.prompt_fields];
        let prompt_chars = prompt.iter().map(|field| field.text.chars().count() as u64).sum();
        facts.hits.extend(profile.check_record(format, prompt_chars, facts.chars, place, &facts.excerpt));
    }
    // what is broken in form says nothing by its content
    if is_sound {
        facts.sound = true;
        facts.look_at_record(&record, format, place, role, work);
    }
    facts
}

fn of_piece(bytes: &[u8], place: Place, (first, last): (bool, bool), role: Role, work: Work<'_>) -> Facts {
    let mut facts = Facts { format: Some(Format::Text), first, last, ..Facts::default() };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let before = &bytes[..at];
            let line = place.line + before.iter().filter(|byte| **byte == b'\n').count() as u64;
            let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
            let message = crate::record::not_utf8(bytes, at);
            let excerpt = String::from_utf8_lossy(&bytes[at.saturating_sub(30)..bytes.len().min(at + 60)]).into_owned();
            let hit = Hit::new(&rules::NOT_UTF8, Place { line, ..place }, message, &excerpt);
            facts.hits.push(hit.at(crate::record::column(&before[start..], at - start)));
            return facts;
        }
    };
    facts.sound = true;
    facts.excerpt = excerpt_of(&text[..text.floor_char_boundary(1000)]);
    facts.chars = text.chars().count() as u64;
    if first && is_json_record(text) {
        facts.hits.push(Hit::new(&rules::NAMED_AS_TEXT, place, "", &facts.excerpt));
    }
    facts.look_at_text(text, "", place, work);
    facts.look_at_raw(text);
    facts.prompt_hash = hash(bytes);
    facts.features_hash = facts.prompt_hash;
    if work.near {
        facts.features.add(text);
    }
    if let Some((check, spelled)) = work.tokens {
        facts.tokens = Some(tokens::of_piece(check, spelled, text, (first, last), place));
    }
    facts.grams_of([text], role, work);
    facts
}

fn is_json_record(text: &str) -> bool {
    text.starts_with('{')
        && text.lines().next().is_some_and(|line| serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok())
}

impl Facts {
    /// Damage, control characters, personal data: of every text.
    fn look_at_text(&mut self, text: &str, name: &str, place: Place, work: Work<'_>) {
        let at = |index: usize| place_of(text, name, place, index);
        let around = |index: usize| &text[text.floor_char_boundary(index.saturating_sub(30))..];
        if let Some((index, what)) = quality::damage(text) {
            let (place, column) = at(index);
            let hit = Hit::new(&rules::DAMAGED, place, in_field(name, &what), around(index));
            self.hits.push(Hit { column, ..hit });
        }
        if let Some((index, what)) = quality::control(text) {
            let (place, column) = at(index);
            let hit = Hit::new(&rules::CONTROL, place, in_field(name, &what), around(index));
            self.hits.push(Hit { column, ..hit });
        }
        if work.personal {
            self.look_for_personal(text, name, place);
        }
        self.words += text.split_ascii_whitespace().count() as u64;
    }

    /// One hit for each kind in each text; all are counted.
    fn look_for_personal(&mut self, text: &str, name: &str, place: Place) {
        let found = personal::find(text);
        if found.is_empty() {
            return;
        }
        let (redacted, _) = personal::redact(text).unwrap_or_default();
        let mut told = [false; Kind::ALL.len()];
        for one in found {
            let kind = one.kind as usize;
            self.personal[kind] += 1;
            if !std::mem::replace(&mut told[kind], true) {
                let (place, column) = place_of(text, name, place, one.range.start);
                let what = format!("{} {}", one.name, personal::mask(one.kind, &text[one.range.clone()]));
                // the excerpt shows the placeholder and what is around it
                let at = redacted.find(one.kind.placeholder()).unwrap_or(0);
                let start = redacted.floor_char_boundary(at.saturating_sub(40));
                let hit = Hit::new(one.kind.rule(), place, in_field(name, &what), &redacted[start..]);
                self.hits.push(Hit { column, ..hit });
            }
        }
    }

    fn look_at_raw(&mut self, text: &str) {
        self.quality = Some(Quality::of(text));
        self.lines = quality::long_lines(text);
        self.language = quality::language(text);
    }

    fn look_at_record(&mut self, record: &Structure, format: Format, place: Place, role: Role, work: Work<'_>) {
        let prompt = record.prompt();
        let completion = record.completion();
        if format.is_raw() {
            self.look_at_raw(completion);
            (self.prompt_hash, self.features_hash) = (hash(completion.as_bytes()), hash(completion.as_bytes()));
        } else {
            let longest = record.fields.iter().map(|field| field.text.as_str()).max_by_key(|text| text.len());
            self.language = quality::language(longest.unwrap_or_default());
            self.prompt_hash = hash(prompt.trim().as_bytes());
            self.completion_hash = hash(completion.trim().as_bytes());
            if prompt.trim().is_empty() {
                // without a prompt it is compared as a text
                (self.prompt_hash, self.completion_hash) = (self.completion_hash, 0);
            }
            self.is_labelled = format != Format::Item;
            self.label = labels::candidate(completion);
            let words = sequence_hash(completion);
            if words.is_some() && words == sequence_hash(&prompt) {
                self.hits.push(Hit::new(&rules::COMPLETION_IS_PROMPT, place, "", &self.excerpt));
            }
        }
        let by_prompt = !format.is_raw() && completion.split_whitespace().take(LABEL_WORDS + 1).count() <= LABEL_WORDS;
        if !format.is_raw() {
            self.features_hash =
                if by_prompt { self.prompt_hash } else { mix(self.prompt_hash.rotate_left(9) ^ self.completion_hash) };
        }
        if work.near {
            self.features.add(&prompt);
            if !by_prompt {
                self.features.add(completion);
            }
        }
        if let Some((check, spelled)) = work.tokens {
            self.tokens = Some(tokens::of_record(check, spelled, record, place));
        }
        self.grams_of(record.fields.iter().map(|field| field.text.as_str()), role, work);
    }

    fn grams_of<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>, role: Role, work: Work<'_>) {
        if role == Role::Training && work.grams.is_empty() {
            return;
        }
        let mut grams = Grams::default();
        for text in texts {
            grams.of(text, |gram| {
                if role == Role::Evaluation || work.grams.contains(gram) {
                    self.grams.push(gram);
                }
            });
        }
        self.grams.sort_unstable();
        self.grams.dedup();
    }
}

/// Where in the file a place in a text is: of a text file line and column, of a record its line only.
fn place_of(text: &str, name: &str, place: Place, index: usize) -> (Place, Option<u64>) {
    if !name.is_empty() {
        return (place, None);
    }
    let before = &text.as_bytes()[..index];
    let line = place.line + before.iter().filter(|byte| **byte == b'\n').count() as u64;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    (Place { line, ..place }, Some(text[start..index].chars().count() as u64 + 1))
}

fn in_field(name: &str, what: &str) -> String {
    if name.is_empty() { what.to_owned() } else { format!("{what} in `{name}`") }
}
