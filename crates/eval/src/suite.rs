//! Suites: what a model is evaluated on, and how a file or folder becomes one. The kind stands in the header (see
//! `header`) or follows from the content: `{"prompt","completion"}` lines, `{"query","choices","gold"}` lines,
//! `{"input"}` lines, or plain text. Scoring is in `score`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::header::{Header, header};
use crate::lines::{Line, fault, key_list, lines, object, record, utf8};

/// Most labels that a set of completions may have and still be scored as a classification.
pub const MOST_LABELS: usize = 20;
/// Fewest items a label, on average over the suite, for a classification.
pub const ITEMS_PER_LABEL: usize = 3;
/// Fewest items of every single label for a classification.
pub const ITEMS_OF_EACH_LABEL: usize = 2;

/// What a suite measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuiteKind {
    /// Prompts with their completions: held-out NLL of the completion and its end token.
    Pairs,
    /// [`SuiteKind::Pairs`] whose completions are a small set of labels: accuracy of the likeliest label, and the NLL.
    Classification,
    /// Questions with written choices: accuracy of the likeliest choice.
    MultipleChoice,
    /// Running text: NLL per token, perplexity, bits per byte.
    Text,
}

impl SuiteKind {
    /// What its scores are counted in.
    #[must_use]
    pub fn unit(self) -> &'static str {
        if self == Self::Text { "rows" } else { "items" }
    }
}

/// A prompt and the completion that should follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairItem {
    /// Line in the file, from 1.
    pub line: usize,
    /// Text before the completion.
    pub prompt: String,
    /// The completion.
    pub completion: String,
    /// Items of one group are not independent: they share a passage, an author, a topic.
    pub group: Option<String>,
}

/// A question and its choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceItem {
    /// Line in the file, from 1.
    pub line: usize,
    /// Text before the choice; not blank.
    pub query: String,
    /// Two or more choices, none blank.
    pub choices: Vec<String>,
    /// Index of the right choice.
    pub gold: usize,
    /// See [`PairItem::group`].
    pub group: Option<String>,
}

/// A document of running text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextItem {
    /// The file it is in.
    pub path: PathBuf,
    /// Line in the file, from 1; `None` where the file is the document.
    pub line: Option<usize>,
    /// The text; not empty.
    pub text: String,
    /// See [`PairItem::group`].
    pub group: Option<String>,
}

/// The items of a suite, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Items {
    /// Prompts and completions.
    Pairs {
        /// The items.
        items: Vec<PairItem>,
        /// The labels in sorted order, where the suite is a classification.
        labels: Option<Vec<String>>,
    },
    /// Questions with choices.
    MultipleChoice {
        /// The items.
        items: Vec<ChoiceItem>,
        /// Text between the trimmed query and a choice, ending with white space; `None` joins them as a training pair.
        delimiter: Option<String>,
    },
    /// Documents.
    Text(Vec<TextItem>),
}

/// A set of items with what identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// Name in reports: the header's, else the folder and the file's stem, `general/items`. Free to change.
    pub name: String,
    /// The file or folder it was loaded from.
    pub path: PathBuf,
    /// BLAKE3 of the kind of file and its content, in hexadecimal; names of files don't enter it.
    pub hash: String,
    /// The items.
    pub items: Items,
    /// What a reader of the report should know about how the suite was read.
    pub notes: Vec<String>,
}

impl Suite {
    /// Loads a suite from a `.jsonl` file, a text file, or a folder of text files (searched through, sorted by path,
    /// names that begin with a dot left out).
    /// Errors: unreadable or empty; not UTF-8; a line that isn't a record of the kind of the first one, with file, line
    /// and column.
    pub fn load(path: &Path) -> Result<Self, EvalError> {
        if fs_err::metadata(path)?.is_dir() {
            return folder(path);
        }
        Self::from_bytes(path, &fs_err::read(path)?)
    }

    /// A suite from a file's content. `path` gives the name and the kind (`.jsonl` or text) and stands in error
    /// messages; it need not exist. Errors: as [`Suite::load`].
    pub fn from_bytes(path: &Path, content: &[u8]) -> Result<Self, EvalError> {
        let extension = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let text = utf8(path, content)?;
        let (name, items, notes) = match extension {
            "jsonl" => json_lines(path, text)?,
            "json" => {
                let message = "a suite is JSON Lines: one object a line, in a `.jsonl` file";
                return Err(EvalError::Suite { path: path.into(), message: message.into() });
            }
            _ => (None, Items::Text(vec![document(path, text)]), Vec::new()),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(if extension == "jsonl" { b"jsonl\0" } else { b"text\0\0" });
        hash_part(&mut hasher, content);
        let hash = hasher.finalize().to_hex().to_string();
        Ok(Self { name: name.unwrap_or_else(|| name_of(path)), path: path.into(), hash, items, notes })
    }

    /// What the suite measures.
    #[must_use]
    pub fn kind(&self) -> SuiteKind {
        match &self.items {
            Items::Pairs { labels: Some(_), .. } => SuiteKind::Classification,
            Items::Pairs { labels: None, .. } => SuiteKind::Pairs,
            Items::MultipleChoice { .. } => SuiteKind::MultipleChoice,
            Items::Text(_) => SuiteKind::Text,
        }
    }

    /// Number of items: pairs, questions or documents.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Pairs { items, .. } => items.len(),
            Items::MultipleChoice { items, .. } => items.len(),
            Items::Text(items) => items.len(),
        }
    }

    /// Whether there are no items; never so for a loaded suite.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where an item stands: `file:line`, or the file alone for a text file. Past the end: the suite's path.
    #[must_use]
    pub fn place(&self, item: usize) -> String {
        let at_line = |path: &Path, line: usize| format!("{}:{line}", path.display());
        let place = match &self.items {
            Items::Pairs { items, .. } => items.get(item).map(|i| at_line(&self.path, i.line)),
            Items::MultipleChoice { items, .. } => items.get(item).map(|i| at_line(&self.path, i.line)),
            Items::Text(items) => items.get(item).map(|i| match i.line {
                Some(line) => at_line(&i.path, line),
                None => i.path.display().to_string(),
            }),
        };
        place.unwrap_or_else(|| self.path.display().to_string())
    }

    /// The group of an item, where it has one.
    #[must_use]
    pub fn group(&self, item: usize) -> Option<&str> {
        match &self.items {
            Items::Pairs { items, .. } => items.get(item)?.group.as_deref(),
            Items::MultipleChoice { items, .. } => items.get(item)?.group.as_deref(),
            Items::Text(items) => items.get(item)?.group.as_deref(),
        }
    }

    /// Accuracy of answering without reading: the mean of `1 / choices`, or for a classification the share of the
    /// commonest label. `None` where nothing is right or wrong.
    #[must_use]
    pub fn chance(&self) -> Option<f64> {
        match &self.items {
            Items::Pairs { items, labels: Some(_) } => {
                let counts = completion_counts(items);
                Some(counts.into_values().max()? as f64 / items.len() as f64)
            }
            Items::MultipleChoice { items, .. } if !items.is_empty() => {
                let sum: f64 = items.iter().map(|item| 1.0 / item.choices.len() as f64).sum();
                Some(sum / items.len() as f64)
            }
            _ => None,
        }
    }
}

/// Keys of a pair; Bedrock's prompt datasets call the completion `referenceResponse`. Further keys are counted in a note,
/// since training files may carry some.
#[derive(Deserialize)]
struct PairRecord {
    prompt: String,
    #[serde(alias = "referenceResponse")]
    completion: String,
    group: Option<String>,
}

const PAIR_KEYS: &[&str] = &["prompt", "completion", "referenceResponse", "group"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoiceRecord {
    query: String,
    choices: Vec<String>,
    gold: usize,
    answer: Option<String>,
    id: Option<String>,
    group: Option<String>,
}

#[derive(Deserialize)]
struct InputRecord {
    input: String,
    group: Option<String>,
}

/// Name (the header's), items and notes of a suite.
type Parsed = (Option<String>, Items, Vec<String>);

/// The content of a JSON Lines text; the header decides the kind, else the first line.
fn json_lines(path: &Path, text: &str) -> Result<Parsed, EvalError> {
    let lines = lines(path, text)?;
    let refuse = |message: &str| Err(EvalError::Suite { path: path.into(), message: message.into() });
    let Some(&first) = lines.first() else { return refuse("the file has no lines") };
    let Some(Header { suite, kind, delimiter }) = header(path, first)? else {
        let kind = kind_of(path, first)?;
        let (items, notes) = items(path, &lines, kind, None)?;
        return Ok((None, items, notes));
    };
    let lines = &lines[1..];
    if lines.is_empty() {
        return refuse("there is a header and no item; add the items, one a line");
    }
    let (mut items, notes) = items(path, lines, kind, delimiter)?;
    if let Items::Pairs { items, labels } = &mut items {
        *labels = match kind {
            SuiteKind::Classification => Some(named_labels(path, items)?),
            _ => None,
        };
    }
    Ok((Some(suite), items, notes))
}

/// The kind of a suite without a header, by the keys of its first line.
fn kind_of(path: &Path, first: Line<'_>) -> Result<SuiteKind, EvalError> {
    let keys = object(path, first)?;
    let has = |key: &str| keys.contains_key(key);
    if has("prompt") || has("completion") {
        Ok(SuiteKind::Pairs)
    } else if has("query") || has("choices") {
        Ok(SuiteKind::MultipleChoice)
    } else if has("input") && !has("output") {
        Ok(SuiteKind::Text)
    } else {
        let found = if keys.is_empty() { "no keys".into() } else { key_list(keys.keys()) };
        let message = format!(
            "found {found}; a suite needs `prompt` and `completion`, or `query`, `choices` and \
             `gold`, or `input`"
        );
        Err(fault(path, first.number, 1, message))
    }
}

/// The items of lines of one kind; pairs with the labels of the label rule.
fn items(
    path: &Path,
    lines: &[Line<'_>],
    kind: SuiteKind,
    delimiter: Option<String>,
) -> Result<(Items, Vec<String>), EvalError> {
    match kind {
        SuiteKind::Pairs | SuiteKind::Classification => {
            let items = pairs(path, lines)?;
            let labels = label_set(&items);
            Ok((Items::Pairs { items, labels }, extra_keys(path, lines, PAIR_KEYS)?))
        }
        SuiteKind::MultipleChoice => {
            let (items, notes) = questions(path, lines)?;
            Ok((Items::MultipleChoice { items, delimiter }, notes))
        }
        SuiteKind::Text => Ok((Items::Text(inputs(path, lines)?), extra_keys(path, lines, &["input", "group"])?)),
    }
}

fn pairs(path: &Path, lines: &[Line<'_>]) -> Result<Vec<PairItem>, EvalError> {
    let item = |line: &Line<'_>| {
        let PairRecord { prompt, completion, group } = record(path, *line)?;
        if completion.is_empty() {
            let message = "`completion` is empty; there is nothing to score, remove the line";
            return Err(fault(path, line.number, 1, message));
        }
        Ok(PairItem { line: line.number, prompt, completion, group })
    };
    lines.iter().map(item).collect()
}

/// The questions, and a note on each that has a choice twice, which is scored as it stands.
fn questions(path: &Path, lines: &[Line<'_>]) -> Result<(Vec<ChoiceItem>, Vec<String>), EvalError> {
    let mut notes = Vec::new();
    let mut seen = HashMap::new();
    let mut items = Vec::with_capacity(lines.len());
    for &line in lines {
        let record: ChoiceRecord = record(path, line)?;
        let mut message = question_fault(&record);
        if let Some(id) = &record.id
            && let Some(earlier) = seen.insert(id.clone(), line.number)
        {
            message = Some(format!("`id` is `{id}`, which line {earlier} has already"));
        }
        if let Some(message) = message {
            return Err(fault(path, line.number, 1, message));
        }
        let ChoiceRecord { query, choices, gold, group, .. } = record;
        let twice = choices.iter().enumerate().find(|&(i, choice)| choices[..i].contains(choice));
        notes.extend(twice.map(|(_, choice)| format!("line {}: choice `{choice}` is given twice", line.number)));
        items.push(ChoiceItem { line: line.number, query, choices, gold, group });
    }
    Ok((items, notes))
}

/// What is wrong with a question, if anything.
fn question_fault(record: &ChoiceRecord) -> Option<String> {
    let ChoiceRecord { query, choices, gold, answer, .. } = record;
    if query.trim().is_empty() {
        // The first token of a row has no prediction, so a choice alone could not be scored.
        return Some("`query` is blank; a choice is scored as what follows the query".into());
    }
    if choices.len() < 2 {
        return Some(format!("{} in `choices`; give two or more", choices.len()));
    }
    let Some(right) = choices.get(*gold) else {
        let last = choices.len() - 1;
        return Some(format!("`gold` is {gold}; it counts from 0, so at most {last} here"));
    };
    if let Some(answer) = answer
        && answer != right
    {
        return Some(format!("`answer` is `{answer}`, but `gold` points to `{right}`"));
    }
    choices.iter().position(|choice| choice.trim().is_empty()).map(|i| format!("choice {i} is blank"))
}

fn inputs(path: &Path, lines: &[Line<'_>]) -> Result<Vec<TextItem>, EvalError> {
    let item = |line: &Line<'_>| {
        let InputRecord { input, group } = record(path, *line)?;
        if input.is_empty() {
            return Err(fault(path, line.number, 1, "`input` is empty; remove the line"));
        }
        Ok(TextItem { path: path.into(), line: Some(line.number), text: input, group })
    };
    lines.iter().map(item).collect()
}

/// A note for each key that is not read, with the number of lines that have it.
fn extra_keys(path: &Path, lines: &[Line<'_>], read: &[&str]) -> Result<Vec<String>, EvalError> {
    let mut counts = BTreeMap::new();
    for &line in lines {
        for key in object(path, line)?.into_iter().map(|(key, _)| key) {
            if !read.contains(&key.as_str()) {
                *counts.entry(key).or_insert(0_usize) += 1;
            }
        }
    }
    let note = |(key, count)| format!("key `{key}` is not read; it stands in {count} lines");
    Ok(counts.into_iter().map(note).collect())
}

fn completion_counts(items: &[PairItem]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item.completion.as_str()).or_insert(0) += 1;
    }
    counts
}

/// The labels in sorted order where completions are a small set: 2 to [`MOST_LABELS`] of them, each in
/// [`ITEMS_OF_EACH_LABEL`] items or more, [`ITEMS_PER_LABEL`] times as many items as labels, and no blank prompt (a
/// label alone loses its first token and could not be compared).
fn label_set(items: &[PairItem]) -> Option<Vec<String>> {
    let counts = completion_counts(items);
    let small = (2..=MOST_LABELS).contains(&counts.len());
    let repeated = counts.values().all(|&count| count >= ITEMS_OF_EACH_LABEL);
    let enough = items.len() >= ITEMS_PER_LABEL * counts.len();
    let asked = items.iter().all(|item| !item.prompt.trim().is_empty());
    let labels = || counts.keys().map(|label| (*label).to_owned()).collect();
    (small && repeated && enough && asked).then(labels)
}

/// The labels of a suite that its header calls a classification. Errors: fewer than two; a blank prompt, after which a
/// label would lose its first token.
fn named_labels(path: &Path, items: &[PairItem]) -> Result<Vec<String>, EvalError> {
    if let Some(blank) = items.iter().find(|item| item.prompt.trim().is_empty()) {
        return Err(fault(path, blank.line, 1, "`prompt` is blank; a label is scored as what follows the prompt"));
    }
    let counts = completion_counts(items);
    if counts.len() < 2 {
        let message = "all completions are the same label; a classification needs two or more".into();
        return Err(EvalError::Suite { path: path.into(), message });
    }
    Ok(counts.into_keys().map(str::to_owned).collect())
}

fn document(path: &Path, text: &str) -> TextItem {
    TextItem { path: path.into(), line: None, text: text.into(), group: None }
}

fn folder(path: &Path) -> Result<Suite, EvalError> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    files.sort();
    if files.is_empty() {
        let message = "the folder has no files; give a folder of text files".into();
        return Err(EvalError::Suite { path: path.into(), message });
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"text\0\0");
    let mut items = Vec::with_capacity(files.len());
    for file in &files {
        if file.extension().is_some_and(|ending| ending == "jsonl" || ending == "json") {
            let message = "a folder is a suite of text files; name a JSON Lines file itself".into();
            return Err(EvalError::Suite { path: file.clone(), message });
        }
        let content = fs_err::read(file)?;
        items.push(document(file, utf8(file, &content)?));
        hash_part(&mut hasher, &content);
    }
    let hash = hasher.finalize().to_hex().to_string();
    let (name, notes) = (name_of(path), Vec::new());
    Ok(Suite { name, path: path.into(), hash, items: Items::Text(items), notes })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), EvalError> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        // A link to a folder is not followed: it may lead in a circle.
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The length first, so that moving text from one file to the next changes the hash.
fn hash_part(hasher: &mut blake3::Hasher, content: &[u8]) {
    hasher.update(&(content.len() as u64).to_le_bytes());
    hasher.update(content);
}

fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    match path.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{stem}", folder.to_string_lossy()),
        None => stem.into_owned(),
    }
}

#[cfg(test)]
#[path = "suite_tests.rs"]
mod tests;
