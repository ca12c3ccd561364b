//! Puts the facts of single records together, in the order of the input, and makes the report of them.

use std::collections::BTreeMap;

use super::CheckOptions;
use super::boilerplate::Boilerplate;
use super::facts::Facts;
use super::files::{CheckedFile, Role, lines_at};
use super::findings::{Findings, Hit, MAX_SHOWN, Place, excerpt_of};
use super::labels::Labels;
use super::leakage::EvalGrams;
use super::near::{Features, Near, RecordInfo};
use super::personal::Kind;
use super::quality::DocumentQuality;
use super::relations::{self, Files, Repetition};
use super::report::{FileReport, Report, TokenReport};
use super::rules;
use super::spill::Spill;
use super::structure::{self, Format};
use super::tokens::{FEW_TARGETS, Lengths, TokenFacts};
use super::words::mix;
use crate::error::DataError;

/// Version of the report's layout.
const VERSION: u32 = 1;

/// A record, or a text that is read in pieces.
struct Document {
    place: Place,
    /// Not all of it could be read: nothing is said of the whole.
    broken: bool,
    pieces: u64,
    hash: u64,
    features_hash: u64,
    completion_hash: u64,
    features: Features,
    sound: bool,
    label: Option<Option<String>>,
    tokens: Option<TokenFacts>,
    quality: Option<DocumentQuality>,
    excerpt: String,
}

/// Sums over the training records.
#[derive(Default)]
struct Sums {
    records: u64,
    evaluation_records: u64,
    characters: u64,
    words: u64,
    tokens: u64,
    targets: u64,
    with_tokens: u64,
    over_length: u64,
    ended: u64,
    has_prompts: bool,
    begins_spelled: u64,
    /// The first records that don't begin with a spelled begin token.
    unspelled: Vec<Place>,
}

pub(crate) struct Gather<'a> {
    files: &'a [CheckedFile],
    names: Vec<String>,
    training: usize,
    options: &'a CheckOptions<'a>,
    findings: Findings,
    document: Option<Document>,
    near: Near,
    exact: Spill,
    matches: Spill,
    labels: Labels,
    boilerplate: Boilerplate,
    lengths: Lengths,
    sums: Sums,
    records: Vec<u64>,
    /// By file and format: how many records, and the first.
    formats: BTreeMap<(u32, Format), (u64, Place)>,
    languages: BTreeMap<&'static str, (u64, Vec<Hit>)>,
    extra_keys: BTreeMap<String, u64>,
    personal: [u64; Kind::ALL.len()],
}

impl<'a> Gather<'a> {
    pub(crate) fn new(files: &'a [CheckedFile], training: usize, options: &'a CheckOptions<'a>) -> Self {
        Self {
            files,
            names: files.iter().map(|file| file.name.clone()).collect(),
            training,
            options,
            findings: Findings::default(),
            document: None,
            near: Near::new(options.near_bytes),
            exact: Spill::new(),
            matches: Spill::new(),
            labels: Labels::default(),
            boilerplate: Boilerplate::default(),
            lengths: Lengths::default(),
            sums: Sums::default(),
            records: vec![0; files.len()],
            formats: BTreeMap::new(),
            languages: BTreeMap::new(),
            extra_keys: BTreeMap::new(),
            personal: [0; Kind::ALL.len()],
        }
    }

    fn is_training(&self, place: Place) -> bool {
        (place.file as usize) < self.training
    }

    /// Takes the 13-grams of an evaluation record; what there is no room for is told, since nothing is known of its leaks.
    pub(crate) fn eval_grams(&mut self, place: Place, facts: &Facts, grams: &mut EvalGrams) {
        if !grams.add(&facts.grams, place) {
            self.findings.add(Hit::new(&rules::LEAK_LIMIT, place, "", &facts.excerpt));
        }
    }

    /// Takes in a record or a piece.
    pub(crate) fn add(&mut self, place: Place, mut facts: Facts) -> Result<(), DataError> {
        if facts.first {
            self.end_document()?;
            self.begin(place, &facts);
        }
        let training = self.is_training(place);
        for key in facts.extra_keys.drain(..) {
            let is_new = !self.extra_keys.contains_key(&key);
            if is_new && self.extra_keys.len() >= 100 {
                continue; // a file with keys for values; a hundred show that
            }
            if is_new && training {
                self.findings.add(Hit::new(
                    &rules::EXTRA_KEYS,
                    place,
                    format!("`{}`", excerpt_of(&key)),
                    &facts.excerpt,
                ));
            }
            *self.extra_keys.entry(key).or_default() += 1;
        }
        let was_broken = self.document.as_ref().is_some_and(|document| document.broken);
        for hit in facts.hits.drain(..) {
            let broken = hit.rule == &rules::NOT_UTF8;
            if let Some(document) = self.document.as_mut().filter(|_| broken) {
                document.broken = true;
            }
            // a binary file is said to be one once
            if !(broken && was_broken && facts.format == Some(Format::Text)) {
                self.findings.add(hit);
            }
        }
        (0..Kind::ALL.len()).for_each(|kind| self.personal[kind] += facts.personal[kind]);
        if training {
            self.sums.characters += facts.chars;
            self.sums.words += facts.words;
            let place = self.document.as_ref().map_or(place, |document| document.place);
            for gram in facts.grams.drain(..) {
                self.matches.push([gram, place.pack(), 0])?;
            }
        }
        if let Some(language) = facts.language.filter(|_| training) {
            let (count, hits) = self.languages.entry(language).or_default();
            *count += 1;
            if hits.len() < MAX_SHOWN {
                hits.push(Hit::new(&rules::LANGUAGE, place, language, &facts.excerpt));
            }
        }
        let last = facts.last;
        self.continue_document(place, facts);
        if last { self.end_document() } else { Ok(()) }
    }

    fn begin(&mut self, place: Place, facts: &Facts) {
        self.records[place.file as usize] += 1;
        let training = self.is_training(place);
        self.sums.records += u64::from(training);
        self.sums.evaluation_records += u64::from(!training);
        if let Some(format) = facts.format {
            self.formats.entry((place.file, format)).or_insert((0, place)).0 += 1;
            self.sums.has_prompts |= training && !format.is_raw();
        }
        self.document = Some(Document {
            place,
            broken: false,
            pieces: 0,
            hash: 0,
            features_hash: 0,
            completion_hash: 0,
            features: Features::default(),
            sound: false,
            label: None,
            tokens: None,
            quality: None,
            excerpt: String::new(),
        });
    }

    fn continue_document(&mut self, place: Place, mut facts: Facts) {
        let training = self.is_training(place);
        let Some(document) = &mut self.document else { return };
        document.pieces += 1;
        if facts.sound {
            document.sound = true;
            let join = |sum: u64, piece: u64| mix(sum.rotate_left(11) ^ piece);
            let single = document.pieces == 1;
            document.hash = if single { facts.prompt_hash } else { join(document.hash, facts.prompt_hash) };
            document.features_hash =
                if single { facts.features_hash } else { join(document.features_hash, facts.features_hash) };
            document.completion_hash = facts.completion_hash;
            if single {
                document.features = facts.features
            } else {
                document.features.merge(facts.features)
            }
            if facts.is_labelled {
                document.label = Some(facts.label.take());
            }
        }
        match (&mut document.tokens, facts.tokens) {
            (Some(sum), Some(piece)) => {
                sum.tokens += piece.tokens;
                sum.targets += piece.targets;
                sum.ends = piece.ends;
                piece.hits.into_iter().for_each(|hit| self.findings.add(hit));
            }
            (sum @ None, Some(mut piece)) => {
                piece.hits.drain(..).for_each(|hit| self.findings.add(hit));
                *sum = Some(piece);
            }
            (_, None) => {}
        }
        if let Some(piece) = facts.quality.filter(|_| training) {
            let quality = document.quality.get_or_insert_default();
            for (line, number, excerpt) in facts.lines {
                if !quality.has_seen(line) {
                    // in a record the line is the record's, in a text file its own
                    let line_place = if facts.format == Some(Format::Text) {
                        Place { line: place.line + number, ..place }
                    } else {
                        place
                    };
                    self.boilerplate.add(line, line_place, excerpt);
                }
            }
            quality.add(&piece, &facts.excerpt);
        }
        if document.excerpt.is_empty() {
            document.excerpt = facts.excerpt;
        }
    }

    /// The files of one role are read.
    pub(crate) fn end_files(&mut self) -> Result<(), DataError> {
        self.end_document()
    }

    fn end_document(&mut self) -> Result<(), DataError> {
        let Some(document) = self.document.take() else { return Ok(()) };
        let place = document.place;
        let training = self.is_training(place);
        if document.quality.is_some() {
            self.boilerplate.end_document();
        }
        if document.broken {
            return Ok(());
        }
        if let Some(tokens) = document.tokens.filter(|_| training) {
            self.add_tokens(&tokens, place, &document.excerpt);
        }
        if let Some(quality) = document.quality {
            quality.finish(place).into_iter().for_each(|hit| self.findings.add(hit));
        }
        if !document.sound {
            return Ok(());
        }
        let label = match document.label.filter(|_| training) {
            Some(label) => self.labels.add(label, place),
            None => super::near::NONE,
        };
        self.exact.push([document.hash, place.pack(), document.completion_hash])?;
        if self.options.near_bytes > 0 {
            let info = RecordInfo { place: place.pack(), exact: document.features_hash, label };
            self.near.push(&document.features, info);
        }
        Ok(())
    }

    fn add_tokens(&mut self, tokens: &TokenFacts, place: Place, excerpt: &str) {
        let Some(check) = self.options.tokens.filter(|_| tokens.tokens > 0) else { return };
        self.lengths.add(tokens.tokens);
        let sums = &mut self.sums;
        sums.with_tokens += 1;
        sums.tokens += tokens.tokens;
        sums.targets += tokens.targets;
        sums.ended += u64::from(tokens.ends);
        let over = tokens.tokens > check.max_length as u64;
        sums.over_length += u64::from(over);
        if over && !tokens.whole {
            let message = format!("{} tokens in rows of {}", tokens.tokens, check.max_length);
            self.findings.add(Hit::new(&rules::CUT_TEXT, place, message, excerpt));
        }
        sums.begins_spelled += u64::from(tokens.begins_spelled);
        if !tokens.begins_spelled && sums.unspelled.len() < MAX_SHOWN {
            sums.unspelled.push(place);
        }
    }

    /// Everything that is only known at the end.
    pub(crate) fn finish(mut self, grams: EvalGrams) -> Result<Report, DataError> {
        self.check_formats();
        self.check_tokens();
        self.check_languages();
        self.labels.check(&mut self.findings);
        std::mem::take(&mut self.boilerplate).check(&mut self.findings);
        if let Some(profile) = self.options.profile {
            let records = (self.sums.records, self.sums.evaluation_records);
            profile.check_whole(self.files, records, &self.options.settings, &mut self.findings);
        }
        let names = std::mem::take(&mut self.names);
        let files = Files { names: &names, training: self.training as u32 };
        let exact = std::mem::replace(&mut self.exact, Spill::new());
        let duplicates = relations::check_exact(exact, files, &mut self.findings)?;
        let matches = std::mem::replace(&mut self.matches, Spill::new());
        grams.check(matches, &names, &mut self.findings)?;
        let near = std::mem::replace(&mut self.near, Near::new(0));
        let mut repetition = match self.options.near_bytes {
            0 => Repetition::default(),
            _ => relations::check_near(&near.search(), &self.labels, files, &mut self.findings),
        };
        repetition.exact = duplicates;
        let excerpts = self.excerpts()?;
        let tokens = self.token_report();
        let findings = std::mem::take(&mut self.findings).finish(&names, &excerpts);
        let personal =
            Kind::ALL.into_iter().map(|kind| (kind, self.personal[kind as usize])).filter(|(_, count)| *count > 0);
        let report = Report {
            version: VERSION,
            errors: 0,
            warnings: 0,
            notes: 0,
            files: self.file_reports(&names),
            profile: self.options.profile,
            findings,
            records: self.sums.records,
            evaluation_records: self.sums.evaluation_records,
            characters: self.sums.characters,
            words: self.sums.words,
            tokens,
            labels: self.labels.table(),
            languages: self.languages.iter().map(|(name, (count, _))| (*name, *count)).collect(),
            repetition,
            personal: personal.collect(),
            extra_keys: self.extra_keys,
        };
        Ok(report.counted())
    }

    fn file_reports(&self, names: &[String]) -> Vec<FileReport> {
        let report = |(index, file): (usize, &CheckedFile)| FileReport {
            file: names[index].clone(),
            role: file.role,
            bytes: file.source.bytes,
            records: self.records[index],
            formats: self
                .formats
                .range((index as u32, Format::Pair)..=(index as u32, Format::Item))
                .map(|((_, format), (count, _))| (*format, *count))
                .collect(),
        };
        self.files.iter().enumerate().map(report).collect()
    }

    /// Training data are of one format, and every evaluation file is.
    fn check_formats(&mut self) {
        let mut groups: BTreeMap<u32, Vec<(u32, Format, u64, Place)>> = BTreeMap::new();
        for ((file, format), (count, place)) in &self.formats {
            let group = if (*file as usize) < self.training { 0 } else { *file + 1 };
            groups.entry(group).or_default().push((*file, *format, *count, *place));
        }
        for group in groups.into_values() {
            let mut totals: BTreeMap<Format, u64> = BTreeMap::new();
            group.iter().for_each(|(_, format, count, _)| *totals.entry(*format).or_default() += count);
            let most = totals.values().max().copied().unwrap_or(0);
            let Some((main, _)) = totals.iter().find(|(_, count)| **count == most) else { continue };
            for (_, format, count, place) in group.iter().filter(|(_, format, ..)| format != main) {
                let message = format!("{count} of {}, where most are of {}", format.name(), main.name());
                self.findings.add(Hit::new(&rules::MIXED_FORMATS, *place, message, ""));
                self.findings.count_more(&rules::MIXED_FORMATS, count - 1);
            }
        }
    }

    fn check_tokens(&mut self) {
        let Some(check) = self.options.tokens else { return };
        let sums = &self.sums;
        let share = sums.targets as f64 / sums.tokens.max(1) as f64;
        if sums.has_prompts && sums.tokens > 0 && share < FEW_TARGETS {
            let message = format!("{:.1} % of {} tokens", 100.0 * share, sums.tokens);
            self.findings.add(Hit::new(&rules::FEW_TARGETS, Place { file: 0, line: 0 }, message, "-"));
        }
        // some texts bring a begin token along that the tokenizer doesn't add, others don't
        let without = sums.with_tokens - sums.begins_spelled;
        if sums.begins_spelled > 0 && without > 0 && !check.tokenizer.adds_bos() {
            let places = std::mem::take(&mut self.sums.unspelled);
            let shown = places.len() as u64;
            for place in places {
                self.findings.add(Hit::new(&rules::MISSING_BOS, place, "others spell it out", ""));
            }
            self.findings.count_more(&rules::MISSING_BOS, without - shown);
        }
    }

    fn token_report(&self) -> Option<TokenReport> {
        let check = self.options.tokens?;
        let sums = &self.sums;
        Some(TokenReport {
            max_length: check.max_length as u64,
            tokens: sums.tokens,
            target_tokens: sums.targets,
            longest: self.lengths.longest(),
            lengths: self.lengths.percentiles(),
            histogram: self.lengths.bins(),
            over_length: sums.over_length,
            stop_token: check.tokenizer.token(check.tokenizer.eos()),
            stop_id: check.tokenizer.eos(),
            stop_share: sums.ended as f64 / sums.with_tokens.max(1) as f64,
        })
    }

    /// Every language but the most frequent one.
    fn check_languages(&mut self) {
        let most = self.languages.values().map(|(count, _)| *count).max().unwrap_or(0);
        let main = self.languages.iter().find(|(_, (count, _))| *count == most).map(|(name, _)| *name);
        let Some(main) = main else { return };
        for (name, (count, hits)) in &mut self.languages {
            if *name != main {
                let shown = hits.len() as u64;
                for hit in hits.drain(..) {
                    let message = format!("{name}, where most is {main}");
                    self.findings.add(Hit { message, ..hit });
                }
                self.findings.count_more(&rules::LANGUAGE, *count - shown);
            }
        }
    }

    /// Excerpts of the rows that were found by comparison, read again.
    fn excerpts(&self) -> Result<BTreeMap<Place, String>, DataError> {
        let places: Vec<_> = self.findings.unseen().into_iter().filter(|place| place.line > 0).collect();
        let mut excerpts = BTreeMap::new();
        for (place, bytes) in lines_at(self.files, &places)? {
            let is_eval = self.files[place.file as usize].role == Role::Evaluation;
            let is_jsonl = self.files[place.file as usize].is_jsonl;
            let record = is_jsonl.then(|| structure::read(&bytes, place, is_eval));
            let field = record.and_then(|record| record.fields.into_iter().find(|field| field.name != "system"));
            let text = field.map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), |field| field.text);
            excerpts.insert(place, excerpt_of(&text));
        }
        Ok(excerpts)
    }
}
