//! Suites: what a model is evaluated on, and how a file or folder becomes one. How the lines of a file are read is in
//! `reading`, scoring in `score`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::kinds::classification::completion_counts;
pub use crate::kinds::generated::Limits;
use crate::lines::utf8;
use crate::reading::{Parsed, json_lines};

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
    /// Prompts with a short right answer: the share of generated answers that are it.
    Exact,
    /// Prompts with a text as the answer: chrF of the generated answers.
    Generate,
    /// Prompts whose answers are typed spans, such as named entities: F1 of those that are generated.
    Extraction,
    /// Prompts with their continuation: its NLL and its rank.
    Cloze,
}

impl SuiteKind {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Classification => "classification",
            Self::MultipleChoice => "multiple choice",
            Self::Text => "text",
            Self::Exact => "exact",
            Self::Generate => "generate",
            Self::Extraction => "extraction",
            Self::Cloze => "cloze",
        }
    }

    /// Whether answers are generated.
    #[must_use]
    pub fn generates(self) -> bool {
        matches!(self, Self::Exact | Self::Generate | Self::Extraction)
    }

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
    /// Further right answers, where answers are generated and compared as texts.
    pub alternatives: Vec<String>,
    /// Items of one group are not independent: they share a passage, an author, a topic.
    pub group: Option<String>,
}

impl PairItem {
    /// Every right answer, the completion first.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.completion).chain(&self.alternatives).map(String::as_str)
    }
}

/// How generated answers are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgedBy {
    /// By whether they are right.
    Exact,
    /// By how much they have in common with the right ones.
    Text,
    /// By the typed spans that they give.
    Extraction,
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
    /// Prompts whose answers are generated.
    Generated {
        /// The items.
        items: Vec<PairItem>,
        /// How answers are judged.
        judged: JudgedBy,
        /// When an answer ends.
        limits: Limits,
    },
    /// Prompts with their continuations.
    Cloze(Vec<PairItem>),
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

/// How running text is cut into rows. Rows that overlap give every token some context and count it once: the strided
/// perplexity of Hugging Face's documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Windows {
    /// Most tokens of a row; None for the model's context, at most [`TEXT_ROW`].
    pub window: Option<usize>,
    /// Tokens that the next row begins further on; None where rows don't overlap.
    pub stride: Option<usize>,
}

/// Most tokens of a row of text where the header names no window.
pub const TEXT_ROW: usize = 2048;

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
    /// How texts are cut into rows.
    pub windows: Windows,
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
        let Parsed { name, items, windows, notes } = match extension {
            "jsonl" => json_lines(path, text)?,
            "json" => {
                let message = "a suite is JSON Lines: one object a line, in a `.jsonl` file";
                return Err(EvalError::Suite { path: path.into(), message: message.into() });
            }
            _ => Parsed::plain(Items::Text(vec![document(path, text)]), Vec::new()),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(if extension == "jsonl" { b"jsonl\0" } else { b"text\0\0" });
        hash_part(&mut hasher, content);
        let hash = hasher.finalize().to_hex().to_string();
        Ok(Self { name: name.unwrap_or_else(|| name_of(path)), path: path.into(), hash, items, windows, notes })
    }

    /// What the suite measures.
    #[must_use]
    pub fn kind(&self) -> SuiteKind {
        match &self.items {
            Items::Pairs { labels: Some(_), .. } => SuiteKind::Classification,
            Items::Pairs { labels: None, .. } => SuiteKind::Pairs,
            Items::MultipleChoice { .. } => SuiteKind::MultipleChoice,
            Items::Text(_) => SuiteKind::Text,
            Items::Generated { judged: JudgedBy::Exact, .. } => SuiteKind::Exact,
            Items::Generated { judged: JudgedBy::Text, .. } => SuiteKind::Generate,
            Items::Generated { judged: JudgedBy::Extraction, .. } => SuiteKind::Extraction,
            Items::Cloze(_) => SuiteKind::Cloze,
        }
    }

    /// Number of items: pairs, questions or documents.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Pairs { items, .. } | Items::Generated { items, .. } | Items::Cloze(items) => items.len(),
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
            Items::Pairs { items, .. } | Items::Generated { items, .. } | Items::Cloze(items) => {
                items.get(item).map(|i| at_line(&self.path, i.line))
            }
            Items::MultipleChoice { items, .. } => items.get(item).map(|i| at_line(&self.path, i.line)),
            Items::Text(items) => items.get(item).map(|i| match i.line {
                Some(line) => at_line(&i.path, line),
                None => i.path.display().to_string(),
            }),
        };
        place.unwrap_or_else(|| self.path.display().to_string())
    }

    /// Most tokens of a row under a model whose context has that many. Errors: a window that is longer.
    pub fn row_tokens(&self, context: usize) -> Result<usize, EvalError> {
        match (self.kind(), self.windows.window) {
            (SuiteKind::Text, None) => Ok(context.min(TEXT_ROW)),
            (SuiteKind::Text, Some(window)) if window > context => {
                let message =
                    format!("`window` is {window}, the model's context has {context} tokens; use that or less");
                Err(EvalError::Suite { path: self.path.clone(), message })
            }
            (SuiteKind::Text, Some(window)) => Ok(window),
            _ => Ok(context),
        }
    }

    /// The group of an item, where it has one.
    #[must_use]
    pub fn group(&self, item: usize) -> Option<&str> {
        match &self.items {
            Items::Pairs { items, .. } | Items::Generated { items, .. } | Items::Cloze(items) => {
                items.get(item)?.group.as_deref()
            }
            Items::MultipleChoice { items, .. } => items.get(item)?.group.as_deref(),
            Items::Text(items) => items.get(item)?.group.as_deref(),
        }
    }

    /// Accuracy of answering without reading: the mean of `1 / choices`, or for a classification the share of the
    /// commonest label. An exact answer is not to be had by chance: 0. `None` where nothing is right or wrong.
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
            Items::Generated { judged: JudgedBy::Exact, .. } => Some(0.0),
            _ => None,
        }
    }
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
    Ok(Suite { name, path: path.into(), hash, items: Items::Text(items), windows: Windows::default(), notes })
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
